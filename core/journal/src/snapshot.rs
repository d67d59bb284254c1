//! Snapshots of the engine's state, so that a restart does not depend on the length of history.
//!
//! A snapshot is taken a few aggregates a turn while the engine lives on, so every entry carries the sequence its
//! aggregate was at. To start from one: take every entry, then fold the journal from `begin + 1`, passing over
//! records that an aggregate's entry already holds.
//!
//! # File `snapshots/<begin>.snap`
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `SBXSNAP1` |
//! | 8 | 4 | fold version: another one means "fold again from the journal" |
//! | 12 | 4 | zeros |
//! | 16 | 16 | journal id |
//! | 32 | 8 | begin: sequence that had been applied when the snapshot was begun |
//! | 40 | … | entries: key length (4), value length (4), sequence (8), key, value |
//! | end−28 | 28 | end mark: `u32::MAX` (4), zeros (4), highest sequence (8), entries (8), CRC of all before (4) |

use crate::config::{Layout, sequence_of};
use crate::error::{Error, Result};
use crate::format::{put, u32_at, u64_at, u128_at};
use crate::storage::{OpenMode, SharedStorage, Storage, StoredFile, list_or_empty, read_small, write_full};
use crate::watermark::Mark;
use signalbox_base::{EventSeq, JournalId};
use std::path::PathBuf;

/// Snapshots kept.
const KEPT: usize = 2;
/// Entries are written when this many bytes have gathered.
const FLUSH_BYTES: usize = 256 * 1024;
/// Largest key or value in bytes.
pub(crate) const ENTRY_BYTES_MAX: usize = 16 << 20;

const MAGIC: [u8; 8] = *b"SBXSNAP1";
const HEADER: usize = 40;
const ENTRY_HEADER: usize = 16;
const FOOTER: usize = 28;

/// Writes one snapshot. Dropped before `finish`, it leaves nothing that counts.
pub struct SnapshotWriter {
    storage: SharedStorage,
    layout: Layout,
    mark: Mark,
    file: Box<dyn StoredFile>,
    temporary: PathBuf,
    begin: EventSeq,
    highest: EventSeq,
    entries: u64,
    buf: Vec<u8>,
    written: u64,
    crc: u32,
    over: bool,
}

impl SnapshotWriter {
    /// Begins a snapshot of state as of `begin`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(
        storage: SharedStorage,
        layout: Layout,
        mark: Mark,
        journal: JournalId,
        fold_version: u32,
        begin: EventSeq,
    ) -> Result<Self> {
        let dir = layout.snapshots();
        storage.create_dir(&dir).map_err(Error::io("create", &dir))?;
        for stale in list_or_empty(&*storage, &dir)?.iter().filter(|e| e.name.ends_with(".tmp")) {
            let stale = dir.join(&stale.name);
            storage.remove(&stale).map_err(Error::io("remove", &stale))?;
        }
        let temporary = dir.join(format!("{:020}.tmp", begin.0));
        let file = storage.open(&temporary, OpenMode::Create).map_err(Error::io("create", &temporary))?;
        let mut buf = vec![0; HEADER];
        buf[..8].copy_from_slice(&MAGIC);
        put(&mut buf, 8, &fold_version.to_le_bytes());
        put(&mut buf, 16, &journal.0.to_le_bytes());
        put(&mut buf, 32, &begin.0.to_le_bytes());
        let (highest, entries, written, crc, over) = (begin, 0, 0, 0, false);
        Ok(Self { storage, layout, mark, file, temporary, begin, highest, entries, buf, written, crc, over })
    }

    /// Adds one aggregate as of `seq`.
    ///
    /// # Errors
    /// [`Error::BadRecord`] for an entry over 16 MiB, [`Error::Io`].
    pub fn put(&mut self, key: &[u8], seq: EventSeq, value: &[u8]) -> Result<()> {
        self.check_open()?;
        if key.len().max(value.len()) > ENTRY_BYTES_MAX {
            return Err(Error::BadRecord("a snapshot's entry has at most 16 MiB"));
        }
        let narrow = |len| u32::try_from(len).expect("checked above");
        self.buf.extend_from_slice(&narrow(key.len()).to_le_bytes());
        self.buf.extend_from_slice(&narrow(value.len()).to_le_bytes());
        self.buf.extend_from_slice(&seq.0.to_le_bytes());
        self.buf.extend_from_slice(key);
        self.buf.extend_from_slice(value);
        self.highest = self.highest.max(seq);
        self.entries += 1;
        if self.buf.len() < FLUSH_BYTES {
            return Ok(());
        }
        let flushed = self.flush();
        self.over = flushed.is_err();
        flushed
    }

    /// Makes the snapshot count and removes older ones than the last two.
    ///
    /// # Errors
    /// [`Error::SnapshotAhead`] while an entry's sequence is not durable yet, since a state must not outlive the
    /// events it came from: try again after the next commit. Any other error ends this snapshot.
    pub fn finish(&mut self) -> Result<()> {
        self.check_open()?;
        let durable = self.mark.durable()?;
        if durable < self.highest {
            return Err(Error::SnapshotAhead { stamp: self.highest, durable });
        }
        self.over = true;
        self.complete()
    }

    fn check_open(&self) -> Result<()> {
        if self.over { Err(Error::BadRecord("the snapshot is finished, or failed")) } else { Ok(()) }
    }

    fn complete(&mut self) -> Result<()> {
        self.buf.extend_from_slice(&u32::MAX.to_le_bytes());
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&self.highest.0.to_le_bytes());
        self.buf.extend_from_slice(&self.entries.to_le_bytes());
        self.flush()?;
        let crc = self.crc.to_le_bytes();
        let write = write_full(&*self.file, &crc, self.written);
        write.map_err(Error::io("write", &self.temporary))?;
        self.file.sync_data().map_err(Error::io("sync", &self.temporary))?;
        let dir = self.layout.snapshots();
        let path = dir.join(format!("{:020}.snap", self.begin.0));
        self.storage.rename(&self.temporary, &path).map_err(Error::io("rename", &path))?;
        self.storage.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        let begins = list(&*self.storage, &self.layout)?;
        for begin in begins.iter().rev().skip(KEPT) {
            let old = dir.join(format!("{:020}.snap", begin.0));
            self.storage.remove(&old).map_err(Error::io("remove", &old))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.buf);
        write_full(&*self.file, &self.buf, self.written).map_err(Error::io("write", &self.temporary))?;
        self.written += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}

/// A snapshot that verified: whole, of the asked fold version, of nothing that is not in the journal.
pub struct SnapshotReader {
    bytes: Vec<u8>,
    begin: EventSeq,
    journal: JournalId,
}

/// One aggregate of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The sequence it was at.
    pub seq: EventSeq,
    /// Its state.
    pub value: &'a [u8],
}

impl SnapshotReader {
    /// The newest snapshot that counts; `None` when the journal must be folded from its start.
    ///
    /// # Errors
    /// [`Error::Io`]. A damaged snapshot, or one of another fold version, is passed over, not an error.
    pub fn newest(
        storage: &SharedStorage,
        layout: &Layout,
        fold_version: u32,
        durable: EventSeq,
    ) -> Result<Option<Self>> {
        for begin in list(&**storage, layout)?.into_iter().rev() {
            let path = layout.snapshots().join(format!("{:020}.snap", begin.0));
            let Some(bytes) = read_small(&**storage, &path)? else { continue };
            if let Some(reader) = Self::check(bytes, fold_version, durable) {
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    /// The journal is folded from the sequence after this.
    #[must_use]
    pub fn begin_seq(&self) -> EventSeq {
        self.begin
    }

    /// The journal it was taken of (an older id after a fork).
    #[must_use]
    pub fn journal(&self) -> JournalId {
        self.journal
    }

    /// All entries in the order they were put.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        Entries(&self.bytes[HEADER..self.bytes.len() - FOOTER])
    }

    fn check(bytes: Vec<u8>, fold_version: u32, durable: EventSeq) -> Option<Self> {
        let body = bytes.len().checked_sub(FOOTER).filter(|len| *len >= HEADER)?;
        let whole = bytes[..8] == MAGIC
            && u32_at(&bytes, bytes.len() - 4) == crc32c::crc32c(&bytes[..bytes.len() - 4])
            && u32_at(&bytes, body) == u32::MAX;
        if !whole || u32_at(&bytes, 8) != fold_version || u64_at(&bytes, body + 8) > durable.0 {
            return None;
        }
        let count = u64_at(&bytes, body + 16);
        let (begin, journal) = (EventSeq(u64_at(&bytes, 32)), JournalId(u128_at(&bytes, 16)));
        let reader = Self { bytes, begin, journal };
        (reader.entries().count() as u64 == count).then_some(reader)
    }
}

struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if self.0.len() < ENTRY_HEADER {
            return None;
        }
        let (key, value) = (u32_at(self.0, 0) as usize, u32_at(self.0, 4) as usize);
        let seq = EventSeq(u64_at(self.0, 8));
        let end = ENTRY_HEADER.checked_add(key)?.checked_add(value)?;
        let entry = self.0.get(ENTRY_HEADER..end)?;
        self.0 = &self.0[end..];
        Some(Entry { key: &entry[..key], seq, value: &entry[key..] })
    }
}

/// Begin sequences of the snapshots there are, ascending.
fn list(storage: &dyn Storage, layout: &Layout) -> Result<Vec<EventSeq>> {
    let entries = list_or_empty(storage, &layout.snapshots())?;
    Ok(entries.iter().filter_map(|e| sequence_of(&e.name, ".snap")).collect())
}

/// The journal after this sequence is needed by the oldest snapshot kept.
pub(crate) fn floor(storage: &dyn Storage, layout: &Layout) -> Result<Option<EventSeq>> {
    Ok(list(storage, layout)?.iter().rev().take(KEPT).next_back().copied())
}
