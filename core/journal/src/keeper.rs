//! Housekeeping beside the writer: the reserve, digests of sealed segments, retention, archive, pressure.
//!
//! A keeper runs on a thread of its own, so that hashing and compressing 64 MiB never delays a commit. It is
//! driven by `turn(now)` (a few times a second is plenty) and returns facts for its caller to record as events.

use crate::archive;
use crate::config::{Config, Layout, sequence_of};
use crate::cursors::Cursors;
use crate::error::{Damage, Error, Result};
use crate::retention::{self, Limits, Overrun, Position, Pressure, Room, plan, pressure};
use crate::segment::{self, Found, Segment};
use crate::snapshot;
use crate::storage::{OpenMode, SharedStorage, StoredFile, list_or_empty, read_small, replace};
use sha2::{Digest, Sha256};
use signalbox_base::{EventSeq, Wall};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something the keeper did or saw that others must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A segment is complete and has a digest: `journal.sealed`. Told again after a restart until
    /// [`Keeper::confirm_sealed`].
    Sealed(Sealed),
    /// A remote sink lost events: `journal.overrun`.
    Overrun(Overrun),
    /// The pressure changed.
    Pressure(Pressure),
    /// A complete segment is damaged; told once a run. It is not sealed, and it and later ones are kept.
    Damaged(Damage),
}

/// A complete segment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sealed {
    /// Its file name.
    pub segment: String,
    /// First sequence.
    pub first: EventSeq,
    /// Last sequence.
    pub last: EventSeq,
    /// Lower-case hexadecimal SHA-256 of the file.
    pub sha256: String,
}

/// The housekeeper of one journal.
pub struct Keeper {
    storage: SharedStorage,
    config: Config,
    layout: Layout,
    spares: std::sync::Arc<Spares>,
    cursors: Cursors,
    /// Digests computed but not confirmed yet.
    unconfirmed: Vec<Sealed>,
    /// Segments known to be damaged.
    damaged: Vec<EventSeq>,
    /// Facts not handed out yet: a turn that fails halfway loses none.
    facts: Vec<Fact>,
    pressure: Pressure,
}

impl Keeper {
    pub(crate) fn new(
        storage: SharedStorage,
        config: Config,
        spares: std::sync::Arc<Spares>,
        cursors: Cursors,
    ) -> Self {
        let layout = config.layout();
        Self {
            storage,
            config,
            layout,
            spares,
            cursors,
            unconfirmed: Vec::new(),
            damaged: Vec::new(),
            facts: Vec::new(),
            pressure: Pressure::Normal,
        }
    }

    /// One round: seal, retire, refill the reserve, judge the pressure.
    ///
    /// # Errors
    /// [`Error::Io`]; the next turn tries again and also returns the facts of this one. A full disk is no error but
    /// pressure, a damaged segment a fact.
    pub fn turn(&mut self, now: Wall) -> Result<Vec<Fact>> {
        let space =
            self.storage.space(&self.layout.dir).map_err(Error::io("ask for room on", &self.layout.dir))?;
        let max_size = self.config.size_most(space.total);
        let firsts = segment::list(&*self.storage, &self.layout.dir)?;
        self.seal(&firsts)?;
        let used = self.retire(now, &firsts, max_size)?;
        self.spares.refill(&self.storage, &self.config)?;
        let room = Room {
            spares: self.spares.count(),
            spares_wanted: self.config.reserve_segments,
            used,
            max_size,
            segment_size: self.config.segment_size,
        };
        let pressure = pressure(&room);
        if pressure != self.pressure {
            self.pressure = pressure;
            self.facts.push(Fact::Pressure(pressure));
        }
        Ok(std::mem::take(&mut self.facts))
    }

    /// How tight the disk was at the last turn.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// The `journal.sealed` event of this segment is recorded: its digest file is written, and it is not told
    /// again. An unconfirmed segment is never removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn confirm_sealed(&mut self, sealed: &Sealed) -> Result<()> {
        let line = format!("{}  {}\n", sealed.sha256, sealed.segment);
        replace(&*self.storage, &self.layout.digest(sealed.first), line.as_bytes())?;
        self.unconfirmed.retain(|s| s.first != sealed.first);
        Ok(())
    }

    /// Gives every segment but the last a digest.
    fn seal(&mut self, firsts: &[EventSeq]) -> Result<()> {
        for pair in firsts.windows(2) {
            let (first, next) = (pair[0], pair[1]);
            let known = self.unconfirmed.iter().any(|s| s.first == first) || self.damaged.contains(&first);
            if known || read_small(&*self.storage, &self.layout.digest(first))?.is_some() {
                continue;
            }
            match self.digest(first, next) {
                Ok(sealed) => {
                    self.unconfirmed.push(sealed.clone());
                    self.facts.push(Fact::Sealed(sealed));
                }
                Err(Error::Damaged(damage)) => {
                    self.damaged.push(first);
                    self.facts.push(Fact::Damaged(damage));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts the preallocated rest off a complete segment and hashes what is left, checking it on the way.
    fn digest(&self, first: EventSeq, next: EventSeq) -> Result<Sealed> {
        let path = self.layout.segment(first);
        let vanished = || Error::damaged(&path, 0, "the segment vanished");
        let segment = Segment::open(&*self.storage, &self.layout, first)?.ok_or_else(vanished)?;
        let mut hash = Sha256::new();
        hash.update(segment.header.encode());
        let mut scan = segment.scan();
        loop {
            match scan.next()? {
                Found::Batch(_) => hash.update(scan.batch()),
                Found::End => break,
                Found::Bad(damage) => return Err(Error::Damaged(damage)),
            }
        }
        if scan.expected() != next {
            let reason = format!("it ends before {}, the next segment starts with {next}", scan.expected());
            return Err(Error::damaged(&path, scan.at(), reason));
        }
        let file = self.storage.open(&path, OpenMode::Write).map_err(Error::io("open", &path))?;
        file.set_len(scan.at()).map_err(Error::io("shorten", &path))?;
        file.sync_data().map_err(Error::io("sync", &path))?;
        let segment = crate::config::file_name(&path);
        Ok(Sealed { segment, first, last: EventSeq(next.0 - 1), sha256: hex(&hash.finalize()) })
    }

    /// Removes or archives what retention says; returns the bytes the journal takes afterwards.
    fn retire(&mut self, now: Wall, firsts: &[EventSeq], max_size: u64) -> Result<u64> {
        let entries = list_or_empty(&*self.storage, &self.layout.dir)?;
        let used = entries.iter().map(|e| e.len).sum();
        let sealed = self.sealed_segments(firsts)?;
        let limits = Limits {
            retain: self.config.retain,
            max_size,
            snapshot_floor: snapshot::floor(&*self.storage, &self.layout)?,
        };
        let plan = plan(now, &sealed, &self.positions()?, &limits, used);
        self.facts.extend(plan.overruns.into_iter().map(Fact::Overrun));
        for first in &plan.remove {
            self.remove(*first)?;
        }
        if !plan.remove.is_empty() {
            self.storage.sync_dir(&self.layout.dir).map_err(Error::io("sync", &self.layout.dir))?;
        }
        // A digest whose segment went just before a crash.
        for orphan in entries.iter().filter_map(|e| sequence_of(&e.name, ".sha256")) {
            if !firsts.contains(&orphan) {
                let digest = self.layout.digest(orphan);
                self.storage.remove(&digest).map_err(Error::io("remove", &digest))?;
            }
        }
        Ok(plan.used)
    }

    /// Complete segments whose digest is confirmed, oldest first, up to the first that is not.
    fn sealed_segments(&self, firsts: &[EventSeq]) -> Result<Vec<retention::Sealed>> {
        let mut sealed = Vec::new();
        for pair in firsts.windows(2) {
            let (first, next) = (pair[0], pair[1]);
            if read_small(&*self.storage, &self.layout.digest(first))?.is_none() {
                break;
            }
            let path = self.layout.segment(first);
            let file = self.storage.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
            let bytes = file.len().map_err(Error::io("read", &path))?;
            let vanished = || Error::damaged(&self.layout.segment(next), 0, "the segment vanished");
            let follower = Segment::open(&*self.storage, &self.layout, next)?.ok_or_else(vanished)?;
            let ended = follower.header.created;
            sealed.push(retention::Sealed { first, last: EventSeq(next.0 - 1), bytes, ended });
        }
        Ok(sealed)
    }

    fn positions(&self) -> Result<Vec<Position>> {
        let sinks = self.config.sinks.iter();
        let position = |sink: &crate::config::Sink| {
            let seq = self.cursors.get(&sink.name)?.map_or(EventSeq(0), |c| c.seq);
            Ok(Position { sink: sink.clone(), seq })
        };
        sinks.map(position).collect()
    }

    fn remove(&self, first: EventSeq) -> Result<()> {
        let path = self.layout.segment(first);
        if let Some(archived) = self.layout.archived(first)
            && let Some(bytes) = read_small(&*self.storage, &path)?
        {
            let digest = read_small(&*self.storage, &self.layout.digest(first))?.unwrap_or_default();
            if !digest.starts_with(hex(&Sha256::digest(&bytes)).as_bytes()) {
                return Err(Error::damaged(&path, 0, "it changed since it was sealed; it is not archived"));
            }
            archive::store(&*self.storage, &archived, &bytes)?;
        }
        self.storage.remove(&path).map_err(Error::io("remove", &path))?;
        let digest = self.layout.digest(first);
        self.storage.remove(&digest).map_err(Error::io("remove", &digest))
    }
}

/// Preallocated segments: the next one, and the reserve for a full disk.
pub(crate) struct Spares {
    ready: Mutex<Ready>,
}

#[derive(Default)]
struct Ready {
    paths: Vec<PathBuf>,
    next_name: u64,
}

impl Spares {
    /// Takes over what an earlier run left, and throws away what it had not finished.
    pub(crate) fn find(storage: &SharedStorage, config: &Config) -> Result<Self> {
        let layout = config.layout();
        let mut ready = Ready::default();
        for entry in list_or_empty(&**storage, &layout.dir)? {
            let Some(number) = entry.name.strip_prefix("spare-") else { continue };
            let path = layout.dir.join(&entry.name);
            ready.next_name = ready.next_name.max(number.parse().map_or(0, |n: u64| n + 1));
            if entry.len == config.segment_size {
                ready.paths.push(path);
            } else {
                storage.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(Self { ready: Mutex::new(ready) })
    }

    pub(crate) fn take(&self) -> Option<PathBuf> {
        self.lock().paths.pop()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.lock().paths.len()).unwrap_or(u32::MAX)
    }

    /// Makes a segment that is needed now; [`Error::Full`] when there is no room. Its zeros are not written: a commit
    /// waits for it, and whoever outruns the keeper writes batches so large that one more write of metadata is little.
    pub(crate) fn create(&self, storage: &SharedStorage, config: &Config) -> Result<PathBuf> {
        self.make(storage, config, |file| file.allocate(config.segment_size))
    }

    fn make(
        &self,
        storage: &SharedStorage,
        config: &Config,
        extend: impl FnOnce(&dyn StoredFile) -> std::io::Result<()>,
    ) -> Result<PathBuf> {
        let path = {
            let mut ready = self.lock();
            ready.next_name += 1;
            config.layout().spare(ready.next_name)
        };
        let made = storage.open(&path, OpenMode::Create).and_then(|file| {
            extend(&*file)?;
            file.sync_data()
        });
        match made {
            Ok(()) => Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                // Whatever part of it was made must not take the last room.
                let _ = storage.remove(&path);
                Err(Error::Full { dir: config.dir.clone() })
            }
            Err(e) => Err(Error::io("preallocate", &path)(e)),
        }
    }

    fn refill(&self, storage: &SharedStorage, config: &Config) -> Result<()> {
        while self.count() < config.reserve_segments {
            match self.stock(storage, config) {
                Err(Error::Full { .. }) => return Ok(()),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Makes one more spare, with written zeros.
    pub(crate) fn stock(&self, storage: &SharedStorage, config: &Config) -> Result<()> {
        let path = self.make(storage, config, |file| file.reserve(config.segment_size))?;
        self.lock().paths.push(path);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        out
    })
}
