//! The disk as a trait: real files, and a faulty disk in memory that crashes by seed.
//!
//! Everything the journal does to a disk goes through [`Storage`] and [`StoredFile`]. The rules both
//! implementations keep, and that the journal relies on:
//!
//! - Bytes written are readable at once, and durable only after `sync_data` of that file returned `Ok`.
//! - After a **failed** `sync_data` the bytes stay readable, but a later successful sync does not make them
//!   durable: only writing them again does (Linux marks the pages clean after reporting the error once).
//! - A created, renamed or removed name is durable only after `sync_dir` of its directory returned `Ok`.
//! - A rename replaces its target atomically.

pub mod faulty;
mod files;

pub use files::FileStorage;

use crate::error::{Error, Result};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must exist; only read.
    Read,
    /// It must exist; read and written.
    Write,
    /// Created, or emptied when it exists; read and written.
    Create,
    /// Created when missing, kept as it is when not; read and written.
    Ensure,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File name without its directory.
    pub name: String,
    /// Length in bytes (0 for directories).
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Room on the file system that holds a path, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What an unprivileged process may still use.
    pub free: u64,
}

/// Whether [`Storage::lock`] waits for another holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `Ok(None)` when someone else holds the lock.
    No,
    /// Block until it is free.
    Yes,
}

/// Holds an exclusive lock until dropped; the system frees it when the process dies.
pub trait Lock: Send {}

/// One open file. Positions are absolute; handles are independent of each other.
pub trait StoredFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes a prefix of `bytes` and says how long it was; extends the file when needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes data and length durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Extends the file with written zeros to `len`, so that later writes need no space and little metadata.
    fn reserve(&self, len: u64) -> io::Result<()>;
    /// Extends the file with zeros to `len` at once: room is taken, the zeros need not be written.
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.reserve(len)
    }
    /// Cuts or extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A disk.
pub trait Storage: Send + Sync {
    /// Names in `dir`, sorted. `NotFound` when there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Creates `dir` and its parents, and makes them durable; `Ok` when it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StoredFile>>;
    /// Renames a file or directory, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Room on the file system of `dir`.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// Takes an exclusive lock on `path` (created when missing).
    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<Box<dyn Lock>>>;
}

/// A disk shared by writer, readers and keepers.
pub type SharedStorage = Arc<dyn Storage>;

/// Reads until `buf` is full or the file ends; says how much.
pub(crate) fn read_full(file: &dyn StoredFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Writes all of `bytes`, going on after short writes.
pub(crate) fn write_full(file: &dyn StoredFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The whole of a small file; `None` when it does not exist.
pub(crate) fn read_small(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let len = file.len().map_err(Error::io("read", path))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let got = read_full(&*file, &mut bytes, 0).map_err(Error::io("read", path))?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// Replaces `path` by `bytes` so that a crash leaves the old file or the new one, never a mixture.
pub(crate) fn replace(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().expect("journal files lie in a directory");
    let temporary = path.with_extension("tmp");
    let file = storage.open(&temporary, OpenMode::Create).map_err(Error::io("create", &temporary))?;
    write_full(&*file, bytes, 0).map_err(Error::io("write", &temporary))?;
    file.sync_data().map_err(Error::io("sync", &temporary))?;
    storage.rename(&temporary, path).map_err(Error::io("rename", path))?;
    storage.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// Names in `dir`, none when it does not exist.
pub(crate) fn list_or_empty(storage: &dyn Storage, dir: &Path) -> Result<Vec<Entry>> {
    match storage.list(dir) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("list", dir)(e)),
    }
}
