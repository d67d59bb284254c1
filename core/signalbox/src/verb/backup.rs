//! `signalbox backup` and `restore`: journal, configuration and embedded store as one verified archive.

use super::{Out, load_config, now, open_store, runtime};
use crate::args::{BackupArgs, Cli, RestoreArgs};
use crate::config::Loaded;
use crate::errors::{FILE_EXISTS, Failure, TARGET_NOT_EMPTY};
use crate::history::{JOURNAL_DIR, layout};
use indicatif::ProgressBar;
use signalbox_base::{EdgeIdentity, JournalId, Text};
use signalbox_journal::backup::{Extra, Manifest};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Journal, Layout, backup, doctor, restore as restoring};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Writes the archive; the edge may go on running.
pub fn run(cli: &Cli, args: &BackupArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let loaded = load_config(cli)?;
    if args.file.exists() {
        return Err(Failure::new(
            FILE_EXISTS,
            format!("{} exists; a backup is never written over", args.file.display()),
        )
        .fix("choose another name"));
    }
    let bar = spinner("reading journal and store");
    let scratch = Scratch::new(&args.file)?;
    let extras = extras(&loaded, &scratch.0)?;
    let storage: SharedStorage = Arc::new(FileStorage);
    let manifest = backup::backup(&storage, &layout(&loaded.file), &extras, &args.file, now())?;
    bar.finish_and_clear();
    report(&out, &format!("{} written and read back", args.file.display()), &manifest)
}

/// Restores into an empty directory and gives the journal a new id, since sequences are never used twice.
pub fn restore(cli: &Cli, args: &RestoreArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    if args.to.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(TARGET_NOT_EMPTY, format!("{} is not empty", args.to.display())));
    }
    let bar = spinner("verifying and restoring");
    let storage: SharedStorage = Arc::new(FileStorage);
    let manifest = restoring::restore(&storage, &args.file, &args.to)?;
    let id = renew(&storage, &args.to)?;
    bar.finish_and_clear();
    report(&out, &format!("restored into {}", args.to.display()), &manifest)?;
    if let (false, Some(id)) = (out.json, id) {
        out.line(&format!("The journal goes on as {id}, a new id that names the one it continues: what was recorded after the backup keeps its own."))?;
        out.line(&format!("The configuration is in {}.", args.to.join("config").display()))?;
    }
    Ok(())
}

/// A restored journal lacks what was recorded after the backup; under its old id it would use those numbers again.
fn renew(storage: &SharedStorage, target: &Path) -> Result<Option<JournalId>, Failure> {
    let dir = target.join(JOURNAL_DIR);
    let report = doctor::verify(storage, &Layout::new(&dir))?;
    let Some((cluster, edge)) = report.segments.last().and_then(|s| s.edge.split_once('/')) else {
        return Ok(None);
    };
    let identity = EdgeIdentity { cluster: Text::new(cluster), edge: Text::new(edge) };
    let random = super::random()?;
    Ok(Some(Journal::fork_identity(Arc::clone(storage), Config::new(dir), &identity, now(), random)?))
}

fn report(out: &Out, what: &str, manifest: &Manifest) -> Result<(), Failure> {
    if out.json {
        return out.object(manifest);
    }
    let bytes: u64 = manifest.files.values().map(|f| f.bytes).sum();
    out.line(&format!(
        "{what}: {} files, {bytes} bytes, events up to {}, every file verified by SHA-256.",
        manifest.files.len(),
        manifest.last
    ))
}

/// A progress sign on standard error; silent when that is no terminal.
fn spinner(text: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(text);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// A directory beside the archive for the database's copy, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(beside: &Path) -> Result<Self, Failure> {
        let dir = PathBuf::from(format!("{}.parts", beside.display()));
        let failed =
            |e: std::io::Error| Failure { message: format!("{}: {e}", beside.display()), ..e.into() };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Configuration files, the embedded database, and what the data directory remembers.
fn extras(loaded: &Loaded, scratch: &Path) -> Result<Vec<Extra>, Failure> {
    let mut extras = Vec::new();
    for (index, (file, _)) in loaded.sources.files.iter().enumerate() {
        let path = PathBuf::from(file);
        let base = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if index == 0 { format!("config/{base}") } else { format!("config/conf.d/{base}") };
        extras.push(Extra { name, path });
    }
    let dir = &loaded.file.edge.data_dir;
    for remembered in ["edge-name", "cluster.key"] {
        let path = dir.join(remembered);
        if path.is_file() {
            extras.push(Extra { name: remembered.into(), path });
        }
    }
    if let Some(database) =
        loaded.file.store.url.strip_prefix("sqlite:").map(|f| dir.join(f)).filter(|p| p.is_file())
    {
        let copy = scratch.join("database");
        let _ = std::fs::remove_file(&copy);
        runtime()?.block_on(async { Ok::<_, Failure>(open_store(loaded).await?.copy_to(&copy).await?) })?;
        let name = database.strip_prefix(dir).unwrap_or(&database).to_string_lossy().into_owned();
        extras.push(Extra { name, path: copy });
    }
    debug_assert!(
        extras.iter().all(|e| !e.name.starts_with(JOURNAL_DIR)),
        "the journal is packed by its own crate"
    );
    Ok(extras)
}
