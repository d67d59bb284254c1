//! Putting a backup in place: everything is verified before anything is.

use crate::backup::{Manifest, StoredWrite, refused, unpack};
use crate::config::Layout;
use crate::doctor;
use crate::error::{Error, Result};
use crate::storage::{OpenMode, SharedStorage, list_or_empty};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Restores the backup `from` into `target`, which must be missing or empty: the journal goes to
/// `target/journal`, every other file to the name it was backed up under.
///
/// It is unpacked beside the target, checked against its manifest and by the doctor, and then renamed into place:
/// a crash leaves the target as it was. The restored journal may lack events that the bus already has, so it must
/// not simply go on counting: give it a new id with [`crate::Journal::fork_identity`] unless the bus agrees.
///
/// # Errors
/// [`Error::BadBackup`] for a target that is not empty or a backup that does not verify, [`Error::Damaged`] for a
/// journal in it that does not, [`Error::Io`].
pub fn restore(storage: &SharedStorage, from: &Path, target: &Path) -> Result<Manifest> {
    let holds = list_or_empty(&**storage, target)?;
    if let Some(entry) = holds.first() {
        let reason = format!("it is not empty (there is {}); restore into a new directory", entry.name);
        return Err(refused(target, &reason));
    }
    let staging = PathBuf::from(format!("{}.restoring", target.display()));
    clear(storage, &staging)?;
    storage.create_dir(&staging).map_err(Error::io("create", &staging))?;
    let mut dirs = BTreeSet::from([staging.clone()]);
    let manifest = unpack(storage, from, |name, entry| {
        let path = staging.join(name.strip_prefix("files/").unwrap_or(name));
        let dir = path.parent().unwrap_or(&staging);
        storage.create_dir(dir)?;
        dirs.insert(dir.to_owned());
        write_file(storage, &path, entry)
    })?;
    for dir in &dirs {
        storage.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    let report = doctor::verify(storage, &Layout::new(staging.join("journal")))?;
    if let Some(damage) = report.damage.into_iter().next() {
        return Err(Error::Damaged(damage));
    }
    clear(storage, target)?;
    storage.rename(&staging, target).map_err(Error::io("rename", target))?;
    let parent = target.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    storage.sync_dir(parent).map_err(Error::io("sync", parent))?;
    Ok(manifest)
}

fn write_file(storage: &SharedStorage, path: &Path, from: &mut dyn Read) -> io::Result<()> {
    let file = storage.open(path, OpenMode::Create)?;
    io::copy(from, &mut StoredWrite { file: &*file, at: 0 })?;
    file.sync_data()
}

/// Removes a directory that holds nothing of value: our own leftovers, or an empty target.
fn clear(storage: &SharedStorage, dir: &Path) -> Result<()> {
    match storage.remove_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(e)),
        _ => Ok(()),
    }
}
