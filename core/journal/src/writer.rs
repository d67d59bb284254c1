//! The one writer of a journal: numbers records, groups them into batches, makes batches durable.

use crate::config::{Config, Layout, file_name};
use crate::cursors::Cursors;
use crate::error::{Error, Result};
use crate::format::{BATCH_HEADER, BatchHeader, DOMAINS_MAX, SECTOR, SEGMENT_HEADER, SegmentHeader};
use crate::keeper::{Keeper, Spares};
use crate::reader::{Reader, Start};
use crate::record::{NewRecord, Record};
use crate::recovery::Tail;
use crate::storage::{Lock, OpenMode, SharedStorage, StoredFile, write_full};
use crate::watermark::{Mark, MarkWriter, Watermark};
use signalbox_base::{EventSeq, JournalId, Text, Wall};
use std::path::PathBuf;
use std::sync::Arc;

/// Appends and commits. Dropping it frees the journal's lock; what was not committed is gone.
pub struct Writer {
    storage: SharedStorage,
    config: Config,
    layout: Layout,
    watermark: Arc<Watermark>,
    mark: MarkWriter,
    spares: Arc<Spares>,
    current: Current,
    next: EventSeq,
    domains: Vec<(Text, u64)>,
    queue: Queued,
    poisoned: bool,
    seed: u64,
    _lock: Box<dyn Lock>,
}

/// The segment that batches go to.
struct Current {
    header: SegmentHeader,
    file: Box<dyn StoredFile>,
    path: PathBuf,
    end: u64,
}

/// Batches not yet written, back to back in one reused buffer.
#[derive(Default)]
struct Queued {
    bytes: Vec<u8>,
    batches: Vec<Batch>,
}

#[derive(Clone, Copy)]
struct Batch {
    start: usize,
    header: BatchHeader,
}

impl Writer {
    /// Numbers `record` and puts it into the current batch. Nothing is written before [`Writer::commit`].
    ///
    /// # Errors
    /// [`Error::SequenceMismatch`] and [`Error::BadRecord`] are the caller's fault; the queue is unchanged.
    /// [`Error::Poisoned`] after a failed write or fsync.
    pub fn append(&mut self, record: &NewRecord<'_>) -> Result<EventSeq> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let seq = self.next;
        if let Some(expected) = record.expect_seq
            && expected != seq
        {
            return Err(Error::SequenceMismatch { expected, next: seq });
        }
        let len = record.encoded_len();
        let domain = record.check()?;
        if BATCH_HEADER + len > self.config.batch_bytes_max() {
            return Err(Error::BadRecord("the record does not fit a segment"));
        }
        let domain_seq = self.next_in_domain(domain)?;
        let batch = self.queue.batch_for(len, self.config.batch_bytes_max(), seq);
        batch.count += 1;
        batch.payload += u32::try_from(len).expect("a batch is smaller than 4 GiB");
        batch.oldest = batch.oldest.min(record.recorded);
        batch.newest = batch.newest.max(record.recorded);
        record.encode(seq, domain_seq, &mut self.queue.bytes);
        self.next = seq.next();
        Ok(seq)
    }

    /// Writes what is queued, syncs it, then moves the durable watermark. Returns the watermark.
    ///
    /// # Errors
    /// [`Error::Full`] when there is no room for another segment: what was not written stays queued, and another
    /// commit may succeed. Any other error poisons the writer for ever: what is on disk is then known only to
    /// recovery.
    pub fn commit(&mut self, now: Wall) -> Result<EventSeq> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let mut done = 0;
        let outcome = loop {
            let Some(batch) = self.queue.batches.get(done).copied() else { break Ok(()) };
            if let Err(error) = self.write_batch(batch, done, now) {
                break Err(error);
            }
            done += 1;
        };
        self.queue.drop_first(done);
        match outcome {
            Ok(()) => Ok(self.watermark.get()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Gives the journal a new id that names the one it continues. Sequences go on; those of domains begin again at 1, for
    /// the new id is a new source and its readers would take a hole at its start for a loss. For a journal restored
    /// from an old copy, or cloned: its next sequences may already have been used under the old id.
    ///
    /// # Errors
    /// As [`Writer::commit`], which runs first.
    pub fn fork_identity(&mut self, now: Wall, random: [u8; 10]) -> Result<JournalId> {
        self.commit(now)?;
        let unix_ms = u64::try_from(now.0 / 1000).unwrap_or(0);
        let id = JournalId::new(unix_ms, random);
        let old = &self.current.header;
        // An id under which nothing was ever written is not worth continuing.
        let continues = if self.current_is_empty() { old.continues } else { Some(old.journal) };
        let counted = std::mem::take(&mut self.domains);
        match self.roll_over(id, continues, 0, now) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.domains = counted;
                Err(self.failed(error))
            }
        }
    }

    /// The journal's id.
    #[must_use]
    pub fn journal(&self) -> JournalId {
        self.current.header.journal
    }

    /// The sequence the next appended record gets.
    #[must_use]
    pub fn next_seq(&self) -> EventSeq {
        self.next
    }

    /// First sequence of the segment that is written.
    #[must_use]
    pub fn segment(&self) -> EventSeq {
        self.current.header.first
    }

    /// Records and bytes that wait for a commit.
    #[must_use]
    pub fn queued(&self) -> (u64, usize) {
        (self.queue.batches.iter().map(|b| u64::from(b.header.count)).sum(), self.queue.bytes.len())
    }

    /// Whether a write or fsync failed, so that only a restart helps.
    #[must_use]
    pub fn poisoned(&self) -> bool {
        self.poisoned
    }

    /// The durable watermark, to be shared with readers and waiters of this process.
    #[must_use]
    pub fn watermark(&self) -> Arc<Watermark> {
        Arc::clone(&self.watermark)
    }

    /// The same as a reader's mark.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::Local(self.watermark())
    }

    /// A reader in this process.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn reader(&self, start: Start) -> Result<Reader> {
        Reader::open(Arc::clone(&self.storage), self.layout.clone(), self.mark(), start)
    }

    /// The cursors of this journal's sinks.
    #[must_use]
    pub fn cursors(&self) -> Cursors {
        Cursors::new(Arc::clone(&self.storage), self.layout.clone(), self.mark())
    }

    /// Housekeeping, for a thread of its own: one keeper per journal.
    #[must_use]
    pub fn keeper(&self) -> Keeper {
        let (storage, spares) = (Arc::clone(&self.storage), Arc::clone(&self.spares));
        Keeper::new(storage, self.config.clone(), spares, self.cursors())
    }

    pub(crate) fn begin(
        storage: SharedStorage,
        config: Config,
        lock: Box<dyn Lock>,
        tail: Tail,
        spares: Spares,
        seed: u64,
    ) -> Result<Self> {
        let layout = config.layout();
        let file = storage.open(&tail.path, OpenMode::Write).map_err(Error::io("open", &tail.path))?;
        let mark = MarkWriter::open(&storage, layout.watermark())?;
        let watermark = Arc::new(Watermark::default());
        let last = EventSeq(tail.next.0 - 1);
        watermark.advance(last);
        mark.publish(tail.header.journal, last)?;
        Ok(Self {
            storage,
            config,
            layout,
            watermark,
            mark,
            spares: Arc::new(spares),
            current: Current { header: tail.header, file, path: tail.path, end: tail.end },
            next: tail.next,
            domains: tail.domains,
            queue: Queued::default(),
            poisoned: false,
            seed,
            _lock: lock,
        })
    }

    /// Everything but a full disk ends this writer.
    fn failed(&mut self, error: Error) -> Error {
        if !matches!(error, Error::Full { .. }) {
            self.poisoned = true;
            self.watermark.stop();
        }
        error
    }

    fn next_in_domain(&mut self, domain: &str) -> Result<u64> {
        if let Some((_, seq)) = self.domains.iter_mut().find(|(name, _)| *name == domain) {
            *seq += 1;
            return Ok(*seq);
        }
        if self.domains.len() == DOMAINS_MAX {
            return Err(Error::BadRecord("a journal has at most 64 domains"));
        }
        self.domains.push((Text::new(domain), 1));
        Ok(1)
    }

    /// Writes and syncs the queued batch number `index`.
    fn write_batch(&mut self, batch: Batch, index: usize, now: Wall) -> Result<()> {
        let header = BatchHeader { committed: now, ..batch.header };
        let padded = header.padded();
        if self.current.end + padded as u64 > self.config.segment_size {
            let (id, continues) = (self.current.header.journal, self.current.header.continues);
            self.roll_over(id, continues, index, now)?;
        }
        let bytes = self.queue.padded(batch.start, header.bytes(), padded);
        header.seal(&self.current.header, bytes);
        let current = &mut self.current;
        write_full(&*current.file, bytes, current.end).map_err(Error::io("write", &current.path))?;
        current.file.sync_data().map_err(Error::io("sync", &current.path))?;
        current.end += padded as u64;
        // The mark only lags when this fails; the next commit writes it again. The batch is durable all the same.
        let _ = self.mark.publish(self.current.header.journal, header.last());
        self.watermark.advance(header.last());
        Ok(())
    }

    /// Begins the next segment with the queued batch number `index`. Only [`Error::Full`] leaves all as it was.
    fn roll_over(
        &mut self,
        journal: JournalId,
        continues: Option<JournalId>,
        index: usize,
        now: Wall,
    ) -> Result<()> {
        let first = self.queue.batches.get(index).map_or(self.next, |b| b.header.first);
        let header = SegmentHeader {
            journal,
            continues,
            first,
            created: now,
            size: self.config.segment_size,
            salt: salt(self.seed, first),
            identity: self.current.header.identity.clone(),
            domains: self.domains_before(index),
        };
        self.current = begin_segment(&self.storage, &self.config, &self.spares, header)?;
        Ok(())
    }

    /// The domain sequences as they were before the queued batch number `index`.
    fn domains_before(&self, index: usize) -> Vec<(Text, u64)> {
        let mut domains = self.domains.clone();
        // Walked backwards in effect: the first occurrence in the queue decides, so later ones are undone first.
        for batch in self.queue.batches[index.min(self.queue.batches.len())..].iter().rev() {
            let from = batch.start + BATCH_HEADER;
            let mut rest = &self.queue.bytes[from..from + batch.header.payload as usize];
            let mut seen: Vec<(&str, u64)> = Vec::new();
            while let Ok(record) = Record::decode(self.current.header.journal, rest) {
                let len = crate::format::u32_at(rest, 0) as usize;
                if !seen.iter().any(|(name, _)| *name == record.domain()) {
                    seen.push((record.domain(), record.domain_seq - 1));
                }
                rest = &rest[len..];
            }
            for (name, seq) in seen {
                if let Some(entry) = domains.iter_mut().find(|(n, _)| *n == name) {
                    entry.1 = seq;
                }
            }
        }
        domains.retain(|(_, seq)| *seq > 0);
        domains
    }

    fn current_is_empty(&self) -> bool {
        self.current.end == SEGMENT_HEADER as u64
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.watermark.stop();
    }
}

impl Queued {
    /// The batch that a record of `len` bytes and number `seq` goes to; a new one when the last is full.
    fn batch_for(&mut self, len: usize, batch_bytes_max: usize, seq: EventSeq) -> &mut BatchHeader {
        let fits = self.batches.last().is_some_and(|b| b.header.bytes() + len <= batch_bytes_max);
        if !fits {
            let start = self.bytes.len().next_multiple_of(SECTOR);
            self.bytes.resize(start + BATCH_HEADER, 0);
            let header = BatchHeader {
                first: seq,
                count: 0,
                payload: 0,
                committed: Wall(0),
                oldest: Wall(i64::MAX),
                newest: Wall(i64::MIN),
            };
            self.batches.push(Batch { start, header });
        }
        &mut self.batches.last_mut().expect("one was just pushed").header
    }

    /// The bytes of a batch with zeros behind it. Only the last batch can lack them.
    fn padded(&mut self, start: usize, len: usize, padded: usize) -> &mut [u8] {
        if self.bytes.len() < start + padded {
            self.bytes.resize(start + padded, 0);
        }
        self.bytes[start + len..start + padded].fill(0);
        &mut self.bytes[start..start + padded]
    }

    fn drop_first(&mut self, done: usize) {
        let Some(left) = self.batches.get(done).map(|b| b.start) else {
            self.bytes.clear();
            self.batches.clear();
            return;
        };
        self.bytes.drain(..left);
        self.batches.drain(..done);
        for batch in &mut self.batches {
            batch.start -= left;
        }
    }
}

/// Makes a segment with `header`: from a spare when there is one, else from free space.
fn begin_segment(
    storage: &SharedStorage,
    config: &Config,
    spares: &Spares,
    header: SegmentHeader,
) -> Result<Current> {
    let layout = config.layout();
    let spare = match spares.take() {
        Some(path) => path,
        None => spares.create(storage, config)?,
    };
    let path = layout.segment(header.first);
    let file = storage.open(&spare, OpenMode::Write).map_err(Error::io("open", &spare))?;
    write_full(&*file, &header.encode(), 0).map_err(Error::io("write", &spare))?;
    file.sync_data().map_err(Error::io("sync", &spare))?;
    storage.rename(&spare, &path).map_err(Error::io("rename", &path))?;
    storage.sync_dir(&layout.dir).map_err(Error::io("sync", &layout.dir))?;
    debug_assert!(file_name(&path).ends_with(".seg"));
    Ok(Current { header, file, path, end: SEGMENT_HEADER as u64 })
}

/// Makes the first segment of a new journal.
pub(crate) fn create_first(
    storage: &SharedStorage,
    config: &Config,
    spares: &Spares,
    mut header: SegmentHeader,
    seed: u64,
) -> Result<Tail> {
    header.salt = salt(seed, header.first);
    spares.stock(storage, config)?;
    let current = begin_segment(storage, config, spares, header)?;
    Ok(Tail {
        next: current.header.first,
        header: current.header,
        path: current.path,
        end: current.end,
        domains: Vec::new(),
        newest: None,
        last_batch: None,
        torn_to: None,
    })
}

/// A salt for the segment that starts at `first` (SplitMix64 over the seed of this run).
fn salt(seed: u64, first: EventSeq) -> u64 {
    let mut z = seed.wrapping_add(first.0.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
