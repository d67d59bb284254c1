//! Files with secrets that the configuration names: read only where nobody else can read or write them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What is wrong with a file, and what to do.
pub(super) type Told = (String, String);

/// A file with secrets.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    /// A larger one is something else.
    pub(super) bytes_max: u64,
    /// What so many bytes are then.
    pub(super) larger: &'a str,
    /// Why its rights matter, before what to do about them.
    pub(super) open: &'a str,
}

impl File<'_> {
    /// Its text.
    ///
    /// # Errors
    /// It is not there, not readable, too large, or open to everybody on this machine.
    pub(super) fn read(&self) -> Result<String, Told> {
        let name = self.path.display();
        let metadata = std::fs::metadata(self.path).map_err(|e| self.told(&e.to_string()))?;
        if metadata.permissions().mode() & 0o007 != 0 {
            let fix = format!("{}chmod 640 {name}", self.open);
            return Err((format!("{name}: everybody on this machine may read or write it"), fix));
        }
        if metadata.len() > self.bytes_max {
            return Err(self.told(&format!("{} bytes {}", metadata.len(), self.larger)));
        }
        std::fs::read_to_string(self.path).map_err(|e| self.told(&e.to_string()))
    }

    /// What is wrong, for people.
    pub(super) fn told(&self, what: &str) -> Told {
        let fix = "name a file that the user running signalbox can read, and others cannot";
        (format!("{}: {what}", self.path.display()), fix.to_owned())
    }
}
