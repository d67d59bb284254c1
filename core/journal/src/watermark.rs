//! The durable watermark: how far the journal is on disk, for readers in this process and in others.

use crate::error::{Error, Result};
use crate::format::{put, u32_at, u64_at, u128_at};
use crate::storage::{OpenMode, SharedStorage, StoredFile, read_full};
use signalbox_base::{EventSeq, JournalId};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of the watermark file: magic `SBXMARK1`, journal id (16), durable sequence (8), CRC of those (4).
const MARK_BYTES: usize = 36;
const MARK_MAGIC: [u8; 8] = *b"SBXMARK1";
/// A reader that meets a half-written mark reads it again this often before it keeps what it knew.
const MARK_READS_MAX: usize = 16;

type Callback = Box<dyn Fn(EventSeq) + Send + Sync>;

/// The durable end inside one process. Only the writer moves it, after an fsync returned.
#[derive(Default)]
pub struct Watermark {
    durable: AtomicU64,
    stopped: AtomicBool,
    listeners: Mutex<Listeners>,
    changed: Condvar,
}

#[derive(Default)]
struct Listeners {
    next_id: u64,
    /// Threads in [`Watermark::wait_beyond`]: waking nobody is a system call, too.
    waiting: u32,
    callbacks: Vec<(u64, Callback)>,
}

impl Watermark {
    /// Last durable sequence; 0 when there is none.
    #[must_use]
    pub fn get(&self) -> EventSeq {
        EventSeq(self.durable.load(Ordering::Acquire))
    }

    /// Whether the writer has gone or failed, so that the watermark will not move again.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Blocks until the watermark is beyond `seen`, the writer stopped, or `timeout` passed; returns it.
    #[must_use]
    pub fn wait_beyond(&self, seen: EventSeq, timeout: Duration) -> EventSeq {
        let mut listeners = self.lock();
        listeners.waiting += 1;
        let waiting = |_: &mut Listeners| self.get() <= seen && !self.stopped();
        let waited = self.changed.wait_timeout_while(listeners, timeout, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
        self.get()
    }

    /// Calls `callback` on the writer's thread after every commit. It must return at once and may not call back
    /// into the journal (send on a channel, wake a task).
    pub fn subscribe(self: &Arc<Self>, callback: impl Fn(EventSeq) + Send + Sync + 'static) -> Subscription {
        let mut listeners = self.lock();
        let id = listeners.next_id;
        listeners.next_id += 1;
        listeners.callbacks.push((id, Box::new(callback)));
        Subscription { watermark: Arc::clone(self), id }
    }

    pub(crate) fn advance(&self, to: EventSeq) {
        self.durable.store(to.0, Ordering::Release);
        self.tell(to);
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.tell(self.get());
    }

    fn tell(&self, durable: EventSeq) {
        let listeners = self.lock();
        if listeners.waiting > 0 {
            self.changed.notify_all();
        }
        for (_, callback) in &listeners.callbacks {
            callback(durable);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a [`Watermark::subscribe`] when dropped.
#[must_use = "dropping the subscription ends it"]
pub struct Subscription {
    watermark: Arc<Watermark>,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.watermark.lock().callbacks.retain(|(id, _)| *id != self.id);
    }
}

/// Where a reader learns the durable end: from the writer in its own process, or from the watermark file.
#[derive(Clone)]
pub enum Mark {
    /// The writer is in this process.
    Local(Arc<Watermark>),
    /// The writer is, or was, in another process.
    File(Arc<MarkFile>),
}

impl Mark {
    /// The mark of a journal that another process writes.
    #[must_use]
    pub fn file(storage: SharedStorage, path: PathBuf) -> Self {
        Self::File(Arc::new(MarkFile { storage, path, last: AtomicU64::new(0) }))
    }

    /// Last durable sequence.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read.
    pub fn durable(&self) -> Result<EventSeq> {
        match self {
            Self::Local(watermark) => Ok(watermark.get()),
            Self::File(file) => file.durable(),
        }
    }
}

/// The watermark file as another process reads it.
pub struct MarkFile {
    storage: SharedStorage,
    path: PathBuf,
    last: AtomicU64,
}

impl MarkFile {
    fn durable(&self) -> Result<EventSeq> {
        for _ in 0..MARK_READS_MAX {
            match read_mark(&self.storage, &self.path)? {
                Stored::Missing => break,
                Stored::Mark(_, seq) => {
                    self.last.fetch_max(seq.0, Ordering::AcqRel);
                    break;
                }
                Stored::Broken => {}
            }
        }
        Ok(EventSeq(self.last.load(Ordering::Acquire)))
    }
}

/// What the watermark file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// There is no file.
    Missing,
    /// Half written, or torn by a power cut: it says nothing.
    Broken,
    /// The journal and its durable end.
    Mark(JournalId, EventSeq),
}

pub(crate) fn read_mark(storage: &SharedStorage, path: &Path) -> Result<Stored> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let mut bytes = [0; MARK_BYTES];
    let got = read_full(&*file, &mut bytes, 0).map_err(Error::io("read", path))?;
    let whole = got == MARK_BYTES && bytes[..8] == MARK_MAGIC;
    if !whole || u32_at(&bytes, 32) != crc32c::crc32c(&bytes[..32]) {
        return Ok(Stored::Broken);
    }
    Ok(Stored::Mark(JournalId(u128_at(&bytes, 8)), EventSeq(u64_at(&bytes, 24))))
}

/// The writer's side of the watermark file: one small write in place after each fsync, never synced itself.
pub(crate) struct MarkWriter {
    file: Box<dyn StoredFile>,
    path: PathBuf,
}

impl MarkWriter {
    pub(crate) fn open(storage: &SharedStorage, path: PathBuf) -> Result<Self> {
        let file = storage.open(&path, OpenMode::Ensure).map_err(Error::io("open", &path))?;
        Ok(Self { file, path })
    }

    pub(crate) fn publish(&self, journal: JournalId, durable: EventSeq) -> Result<()> {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&MARK_MAGIC);
        put(&mut bytes, 8, &journal.0.to_le_bytes());
        put(&mut bytes, 24, &durable.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        put(&mut bytes, 32, &crc.to_le_bytes());
        crate::storage::write_full(&*self.file, &bytes, 0).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_subscriber_hears_every_advance_until_it_is_dropped() {
        let watermark = Arc::new(Watermark::default());
        let (tell, told) = mpsc::channel();
        let subscription = watermark.subscribe(move |seq| tell.send(seq).unwrap_or_default());
        watermark.advance(EventSeq(3));
        drop(subscription);
        watermark.advance(EventSeq(4));
        assert_eq!(told.iter().collect::<Vec<_>>(), [EventSeq(3)]);
        assert_eq!(watermark.wait_beyond(EventSeq(3), Duration::from_secs(60)), EventSeq(4));
    }

    #[test]
    fn a_waiter_is_woken_when_the_writer_stops() {
        let watermark = Arc::new(Watermark::default());
        let waiter = Arc::clone(&watermark);
        let thread = std::thread::spawn(move || waiter.wait_beyond(EventSeq(0), Duration::from_secs(600)));
        watermark.stop();
        assert_eq!(thread.join().unwrap(), EventSeq(0));
    }
}
