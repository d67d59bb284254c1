//! Durable positions of sinks: one small file each, replaced atomically, fenced by the holder's epoch.
//!
//! A cursor file has 40 bytes: magic `SBXCURS1` (8), epoch (8), sequence (8), wall time of the write (8), zeros
//! (4), CRC-32C of bytes 0 to 35 (4). It is written to a temporary name, synced and renamed.

use crate::config::{Layout, legal_sink};
use crate::error::{Error, Result};
use crate::format::{put, u32_at, u64_at, wall_at};
use crate::reader::{Reader, Start};
use crate::storage::{Lock, SharedStorage, Storage, Wait, list_or_empty, read_small, replace};
use crate::watermark::Mark;
use signalbox_base::{EventSeq, Wall};
use std::path::PathBuf;

const MAGIC: [u8; 8] = *b"SBXCURS1";
const CURSOR_BYTES: usize = 40;

/// A sink's position.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cursor {
    /// The sink.
    pub sink: String,
    /// Everything up to here has been taken over by the sink; 0 for nothing.
    pub seq: EventSeq,
    /// How often the cursor has changed hands.
    pub epoch: u64,
    /// When it was written.
    pub written: Wall,
}

/// The right to advance one cursor, until another process acquires it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    sink: String,
    epoch: u64,
}

impl Holder {
    /// The sink.
    #[must_use]
    pub fn sink(&self) -> &str {
        &self.sink
    }
}

/// How far a sink is behind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lag {
    /// The sink.
    pub sink: String,
    /// Its position.
    pub seq: EventSeq,
    /// Durable events it has not taken over.
    pub events: u64,
    /// When the oldest of them was journalled: the lag in time is now minus this.
    pub since: Option<Wall>,
}

/// All cursors of one journal.
#[derive(Clone)]
pub struct Cursors {
    storage: SharedStorage,
    layout: Layout,
    mark: Mark,
}

impl Cursors {
    /// The cursors of the journal that `layout` names; `mark` limits them to what is durable.
    #[must_use]
    pub fn new(storage: SharedStorage, layout: Layout, mark: Mark) -> Self {
        Self { storage, layout, mark }
    }

    /// Takes over a cursor: raises its epoch, which fences whoever held it. A new cursor starts at `start`
    /// (0: from the oldest event).
    ///
    /// # Errors
    /// [`Error::BadCursor`] when the file is not one, [`Error::Io`].
    pub fn acquire(&self, sink: &str, start: EventSeq, now: Wall) -> Result<(Holder, Cursor)> {
        if !legal_sink(sink) {
            let reason = "a sink's name is 1 to 63 of a-z, 0-9, - and _".to_owned();
            return Err(Error::BadConfig { key: "sinks", reason });
        }
        let dir = self.layout.cursors();
        self.storage.create_dir(&dir).map_err(Error::io("create", &dir))?;
        let _lock = self.lock(sink)?;
        let found = read(&*self.storage, &self.layout, sink)?;
        let (epoch, seq) = found.map_or((0, start), |c| (c.epoch, c.seq));
        self.check_durable(seq)?;
        let cursor = Cursor { sink: sink.to_owned(), seq, epoch: epoch + 1, written: now };
        self.write(&cursor)?;
        Ok((Holder { sink: sink.to_owned(), epoch: cursor.epoch }, cursor))
    }

    /// The sink has taken over everything up to `seq`, durably on its side. An earlier position changes nothing.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another holder acquired the cursor, [`Error::BeyondEnd`] for a position that is
    /// not durable, [`Error::Io`] (the old position stays).
    pub fn advance(&self, holder: &Holder, seq: EventSeq, now: Wall) -> Result<()> {
        let _lock = self.lock(&holder.sink)?;
        let found = read(&*self.storage, &self.layout, &holder.sink)?;
        let (current, at) = found.map_or((0, EventSeq(0)), |c| (c.epoch, c.seq));
        if current != holder.epoch {
            return Err(Error::Fenced { sink: holder.sink.clone(), held: holder.epoch, current });
        }
        if seq <= at {
            return Ok(());
        }
        self.check_durable(seq)?;
        self.write(&Cursor { sink: holder.sink.clone(), seq, epoch: holder.epoch, written: now })
    }

    /// A sink's cursor, if it has one.
    ///
    /// # Errors
    /// [`Error::BadCursor`], [`Error::Io`].
    pub fn get(&self, sink: &str) -> Result<Option<Cursor>> {
        read(&*self.storage, &self.layout, sink)
    }

    /// All cursors, by name.
    ///
    /// # Errors
    /// As [`Cursors::get`].
    pub fn list(&self) -> Result<Vec<Cursor>> {
        read_all(&*self.storage, &self.layout)
    }

    /// How far every sink is behind the durable end.
    ///
    /// # Errors
    /// As [`Cursors::get`].
    pub fn lag(&self) -> Result<Vec<Lag>> {
        let durable = self.mark.durable()?;
        let lag = |cursor: Cursor| {
            let events = durable.0.saturating_sub(cursor.seq.0);
            let since = if events == 0 { None } else { self.recorded_at(cursor.seq.next())? };
            Ok(Lag { sink: cursor.sink, seq: cursor.seq, events, since })
        };
        self.list()?.into_iter().map(lag).collect()
    }

    /// When the first event from `seq` on that is still there was journalled.
    fn recorded_at(&self, seq: EventSeq) -> Result<Option<Wall>> {
        let (storage, layout) = (SharedStorage::clone(&self.storage), self.layout.clone());
        let mut reader = Reader::open(storage, layout, self.mark.clone(), Start::Seq(seq))?;
        loop {
            match reader.next() {
                Ok(record) => return Ok(record.map(|r| r.recorded)),
                Err(Error::Gap(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn check_durable(&self, at: EventSeq) -> Result<()> {
        let durable = self.mark.durable()?;
        if at > durable { Err(Error::BeyondEnd { at, durable }) } else { Ok(()) }
    }

    fn lock(&self, sink: &str) -> Result<Box<dyn Lock>> {
        let path = self.layout.cursors().join(format!("{sink}.lock"));
        let taken = self.storage.lock(&path, Wait::Yes).map_err(Error::io("lock", &path))?;
        taken.ok_or(Error::Locked { dir: path })
    }

    fn write(&self, cursor: &Cursor) -> Result<()> {
        let mut bytes = [0; CURSOR_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        put(&mut bytes, 8, &cursor.epoch.to_le_bytes());
        put(&mut bytes, 16, &cursor.seq.0.to_le_bytes());
        put(&mut bytes, 24, &cursor.written.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        put(&mut bytes, 36, &crc.to_le_bytes());
        replace(&*self.storage, &path_of(&self.layout, &cursor.sink), &bytes)
    }
}

/// Puts cursors aside that do not read, as `<sink>.cur.damaged`. Their sinks begin again at the oldest event: they tell
/// what they have already (EVENTS.md: at least once), and nothing is retired before they come past it.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn put_aside_damaged(storage: &dyn Storage, layout: &Layout) -> Result<Vec<PathBuf>> {
    let dir = layout.cursors();
    let mut aside = Vec::new();
    for entry in list_or_empty(storage, &dir)? {
        let Some(sink) = entry.name.strip_suffix(".cur") else { continue };
        match read(storage, layout, sink) {
            Ok(_) => {}
            Err(Error::BadCursor { file, .. }) => {
                let to = file.with_extension("cur.damaged");
                storage.rename(&file, &to).map_err(Error::io("rename", &file))?;
                aside.push(to);
            }
            Err(error) => return Err(error),
        }
    }
    if !aside.is_empty() {
        storage.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
    }
    Ok(aside)
}

/// All cursors in the directory.
pub(crate) fn read_all(storage: &dyn Storage, layout: &Layout) -> Result<Vec<Cursor>> {
    let entries = list_or_empty(storage, &layout.cursors())?;
    let names = entries.iter().filter_map(|e| e.name.strip_suffix(".cur"));
    names.filter_map(|sink| read(storage, layout, sink).transpose()).collect()
}

fn read(storage: &dyn Storage, layout: &Layout, sink: &str) -> Result<Option<Cursor>> {
    let path = path_of(layout, sink);
    let Some(bytes) = read_small(storage, &path)? else { return Ok(None) };
    if bytes.len() != CURSOR_BYTES || bytes[..8] != MAGIC {
        return Err(Error::BadCursor { file: path, reason: "wrong length or magic" });
    }
    if u32_at(&bytes, 36) != crc32c::crc32c(&bytes[..36]) {
        return Err(Error::BadCursor { file: path, reason: "the CRC does not match" });
    }
    Ok(Some(Cursor {
        sink: sink.to_owned(),
        epoch: u64_at(&bytes, 8),
        seq: EventSeq(u64_at(&bytes, 16)),
        written: wall_at(&bytes, 24),
    }))
}

fn path_of(layout: &Layout, sink: &str) -> PathBuf {
    layout.cursors().join(format!("{sink}.cur"))
}
