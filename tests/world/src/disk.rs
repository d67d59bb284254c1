//! The journal's faulty disk, watched: which records are on the platter is seen from what was written and synced, without
//! asking the journal.

use signalbox_base::EventSeq;
use signalbox_journal::storage::faulty::{Faults, FaultyStorage};
use signalbox_journal::storage::{Entry, Lock, OpenMode, SharedStorage, Space, Storage, StoredFile, Wait};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First bytes of a batch (format of the journal).
const BATCH_MAGIC: &[u8] = b"SBXB";
/// Batches start at multiples of this.
const SECTOR: u64 = 512;

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct Disk {
    inner: FaultyStorage,
    watched: Arc<Mutex<Watched>>,
}

#[derive(Default)]
struct Watched {
    durable: EventSeq,
    without_sync: bool,
}

impl Disk {
    /// An empty disk whose crashes are decided by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { inner: FaultyStorage::new(seed), watched: Arc::default() }
    }

    /// From now on fdatasync does nothing and says that it did: the fault that the oracle must find.
    pub fn remove_sync(&self) {
        self.watched().without_sync = true;
    }

    /// The last record on the platter.
    #[must_use]
    pub fn durable(&self) -> EventSeq {
        self.watched().durable
    }

    /// For the journal.
    #[must_use]
    pub fn storage(&self) -> SharedStorage {
        Arc::new(self.clone())
    }

    /// The disk goes away at this changing operation from now.
    pub fn die_at(&self, operation: u64) {
        self.inner.set_faults(Faults { die_at: Some(operation), ..Faults::default() });
    }

    /// The process dies, the machine lives on.
    pub fn crash_process(&self) {
        self.inner.crash_process();
    }

    /// The power goes.
    pub fn cut_power(&self) {
        self.inner.cut_power();
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Disk {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StoredFile>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Box::new(File { inner, disk: self.clone(), written: Mutex::default() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<Box<dyn Lock>>> {
        self.inner.lock(path, wait)
    }
}

struct File {
    inner: Box<dyn StoredFile>,
    disk: Disk,
    /// The last record written through this handle and not yet synced.
    written: Mutex<EventSeq>,
}

impl StoredFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.inner.write_at(bytes, offset)?;
        if let Some(last) = last_of_batch(bytes, offset) {
            *self.written.lock().unwrap_or_else(PoisonError::into_inner) = last;
        }
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.disk.watched().without_sync {
            return Ok(());
        }
        self.inner.sync_data()?;
        let last = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watched = self.disk.watched();
        watched.durable = watched.durable.max(last);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.inner.reserve(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
}

/// The last sequence of the batch that these bytes begin, if they begin one.
fn last_of_batch(bytes: &[u8], offset: u64) -> Option<EventSeq> {
    if !offset.is_multiple_of(SECTOR) || !bytes.starts_with(BATCH_MAGIC) {
        return None;
    }
    let first = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    let count = u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
    Some(EventSeq(first + u64::from(count) - 1))
}
