//! Where named subscriptions on brokers resume, kept outside the broker.
//!
//! Brokers' own cursors (durable consumers, committed offsets) may be ahead of the data after a power loss or a restored
//! copy. A hint says where reading probably goes on and which event lies there; whoever resumes reads that event and
//! compares its identity before relying on the place. Rows and their positions stay the truth: a hint may be old.

use crate::subscription::Error;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a bus may be read on from; only the provider that wrote it reads it. At most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(pub Text);

/// Raised by each holder of a name; a lower one can no longer save.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Keeps hints durably, one holder a name.
pub trait Hints: Send + Sync {
    /// Takes the name, fencing whoever held it, and returns what was saved last.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when it cannot be read or written.
    fn acquire(&self, name: &str) -> Result<(Epoch, Option<Hint>), Error>;

    /// Saves durably.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a later holder has the name; [`Error::Unavailable`] when it cannot be written.
    fn save(&self, name: &str, epoch: Epoch, hint: &Hint) -> Result<(), Error>;
}

/// Hints in a directory, a small JSON file a name, replaced so that a crash leaves the old one or the new one, under a lock
/// that other processes see too.
#[derive(Clone, Debug)]
pub struct FileHints {
    dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl FileHints {
    /// In `dir`, which is made when the first name is taken.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Reads and rewrites what is kept under a name while nobody else does.
    fn change<T>(
        &self,
        name: &str,
        change: impl FnOnce(Option<Kept>) -> Result<(Kept, T), Error>,
    ) -> Result<T, Error> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !(1..=63).contains(&name.len()) || !name.bytes().all(legal) {
            return Err(Error::Broken(format!("\"{name}\" is no name: 1 to 63 of a-z, 0-9, - and _")));
        }
        let path = self.dir.join(format!("{name}.hint"));
        let failed = |error: std::io::Error| Error::Unavailable(format!("{}: {error}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        let lock = File::create(self.dir.join(format!("{name}.lock"))).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let kept = match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes).map_err(|error| {
                Error::Broken(format!("{}: {error}; remove it to begin from the beginning", path.display()))
            })?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let (kept, outcome) = change(kept)?;
        let bytes = serde_json::to_vec(&kept).map_err(|error| Error::Broken(error.to_string()))?;
        replace(&path, &bytes).map_err(failed)?;
        Ok(outcome)
    }
}

impl Hints for FileHints {
    fn acquire(&self, name: &str) -> Result<(Epoch, Option<Hint>), Error> {
        self.change(name, |kept| {
            let Kept { epoch, hint } = kept.unwrap_or(Kept { epoch: 0, hint: None });
            let told = hint.as_deref().map(|hint| Hint(hint.into()));
            Ok((Kept { epoch: epoch + 1, hint }, (Epoch(epoch + 1), told)))
        })
    }

    fn save(&self, name: &str, epoch: Epoch, hint: &Hint) -> Result<(), Error> {
        self.change(name, |kept| match kept {
            Some(kept) if kept.epoch == epoch.0 => {
                Ok((Kept { epoch: epoch.0, hint: Some(hint.0.as_str().to_owned()) }, ()))
            }
            _ => Err(Error::Fenced(name.to_owned())),
        })
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("hint-new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_holder_goes_on_from_what_was_saved_and_fences_the_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let hints = FileHints::new(dir.path().join("hints"));
        let (first, nothing) = hints.acquire("tables").unwrap();
        assert_eq!(nothing, None);
        hints.save("tables", first, &Hint("nats1;a".into())).unwrap();
        let other_process = FileHints::new(dir.path().join("hints"));
        let (second, found) = other_process.acquire("tables").unwrap();
        assert!(second > first);
        assert_eq!(found, Some(Hint("nats1;a".into())));
        let late = hints.save("tables", first, &Hint("nats1;b".into()));
        assert_eq!(late, Err(Error::Fenced("tables".to_owned())));
        other_process.save("tables", second, &Hint("nats1;c".into())).unwrap();
        assert_eq!(hints.acquire("tables").unwrap().1, Some(Hint("nats1;c".into())));
        assert_eq!(hints.acquire("others").unwrap().1, None, "names do not share");
    }

    #[test]
    fn what_is_no_name_or_no_hint_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let hints = FileHints::new(dir.path());
        for bad in ["", "../x", "A", "a.b"] {
            assert!(matches!(hints.acquire(bad), Err(Error::Broken(_))), "{bad}");
        }
        std::fs::write(dir.path().join("tables.hint"), b"{").unwrap();
        let told = hints.acquire("tables").unwrap_err().to_string();
        assert!(told.contains("tables.hint") && told.contains("remove it"), "{told}");
    }
}
