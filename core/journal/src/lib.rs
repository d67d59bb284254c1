//! An edge's journal: an append-only log of events on local disk, the truth that everything else is folded from.
//!
//! ```text
//! engine ─records─► Writer::append ─► Writer::commit ─fsync─► Watermark ─► whoever waits (release, readers)
//!                                          │
//!                          segments ───────┴──► Reader (this process or another) ─► relay, projections, tail
//!                              ▲
//!                           Keeper: reserve, digests, retention, archive, pressure (a thread of its own)
//! ```
//!
//! - [`format`](mod@format) describes the files byte by byte, with the invariants.
//! - [`Journal::open`] recovers: it makes durable what it accepts, cuts a torn last batch, refuses other damage.
//! - [`Writer`] is the only one who writes; [`GroupCommit`] says when it commits.
//! - [`Reader`] never passes the durable watermark, in any process.
//! - [`Cursors`] hold the sinks' positions; [`Keeper`] retires what all of them have passed.
//! - [`doctor`] shows where a journal is damaged; [`backup`] makes and restores verified copies.
//! - All input and output goes through [`storage::Storage`]; [`storage::faulty`] is a disk that crashes by seed.
//!
//! Time and randomness are arguments. One process may write: an exclusive lock keeps a second one out.

mod archive;
pub mod backup;
mod config;
mod cursors;
pub mod doctor;
mod error;
pub mod format;
mod group;
mod keeper;
mod reader;
mod record;
mod recovery;
pub mod restore;
pub mod retention;
mod segment;
mod snapshot;
pub mod storage;
mod watermark;
mod writer;

pub use config::{Config, Layout, MaxSize, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, Sink, SinkKind};
pub use cursors::{Cursor, Cursors, Holder, Lag};
pub use error::{Damage, Error, Gap, Result};
pub use group::{Class, CommitAt, GroupCommit, Queue};
pub use keeper::{Fact, Keeper, Sealed};
pub use reader::{Reader, Start};
pub use record::{Filter, NewRecord, Record};
pub use recovery::{Cut, Recovered};
pub use retention::{Overrun, Pressure};
pub use snapshot::{Entry, SnapshotReader, SnapshotWriter};
pub use watermark::{Mark, MarkFile, Subscription, Watermark};
pub use writer::Writer;

use format::SegmentHeader;
use keeper::Spares;

use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Wall};

use storage::{Lock, SharedStorage, Wait};

/// Opens journals.
pub struct Journal;

impl Journal {
    /// Locks, recovers and opens the journal in `config.dir`, or creates it there. `random` makes the id of a new
    /// journal and the salts of this run's segments; it must differ at every start.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Foreign`], [`Error::FutureFormat`], [`Error::Damaged`], [`Error::CutBelow`],
    /// [`Error::Full`], [`Error::BadConfig`], [`Error::Io`]. Nothing is changed on disk then, except that a new journal
    /// may have been begun, and a damaged cursor put aside.
    pub fn open(
        storage: SharedStorage,
        config: Config,
        identity: &EdgeIdentity,
        now: Wall,
        random: [u8; 32],
    ) -> Result<(Writer, Recovered)> {
        check_identity(identity)?;
        config.check()?;
        let layout = config.layout();
        storage.create_dir(&layout.dir).map_err(Error::io("create", &layout.dir))?;
        let lock = lock(&storage, &layout)?;
        let tail = recovery::examine(&*storage, &layout, Some(identity))?;
        let cursors_aside = cursors::put_aside_damaged(&*storage, &layout)?;
        recovery::check_nothing_lost(&storage, &layout, tail.as_ref())?;
        let spares = Spares::find(&storage, &config)?;
        let seed = format::u64_at(&random, 16);
        let created = tail.is_none();
        let (tail, cut) = match tail {
            Some(tail) => {
                let cut = recovery::settle(&*storage, &layout, &tail)?;
                (tail, cut)
            }
            None => {
                let header = first_header(&config, identity, now, &random);
                (writer::create_first(&storage, &config, &spares, header, seed)?, None)
            }
        };
        let recovered = Recovered {
            journal: tail.header.journal,
            continues: tail.header.continues,
            created,
            last: EventSeq(tail.next.0 - 1),
            oldest: segment::list(&*storage, &layout.dir)?.first().copied().unwrap_or(tail.next),
            domains: tail.domains.clone(),
            newest: tail.newest,
            cut,
            cursors_aside,
        };
        Ok((Writer::begin(storage, config, lock, tail, spares, seed)?, recovered))
    }

    /// Gives a closed journal (restored or cloned) a new id that names the one it continues.
    ///
    /// # Errors
    /// As [`Journal::open`] and [`Writer::fork_identity`].
    pub fn fork_identity(
        storage: SharedStorage,
        config: Config,
        identity: &EdgeIdentity,
        now: Wall,
        random: [u8; 32],
    ) -> Result<JournalId> {
        let (mut writer, _) = Self::open(storage, config, identity, now, random)?;
        writer.fork_identity(now, ten(&random))
    }
}

/// Holds the journal's lock, or says who does not get it.
pub(crate) fn lock(storage: &SharedStorage, layout: &Layout) -> Result<Box<dyn Lock>> {
    let path = layout.lock();
    let taken = storage.lock(&path, Wait::No).map_err(Error::io("lock", &path))?;
    taken.ok_or_else(|| Error::Locked { dir: layout.dir.clone() })
}

fn check_identity(identity: &EdgeIdentity) -> Result<()> {
    let legal = |name: &str| (1..=format::NAME_BYTES_MAX).contains(&name.len());
    if legal(&identity.cluster) && legal(&identity.edge) {
        return Ok(());
    }
    let reason = "cluster and edge are names of 1 to 63 bytes".to_owned();
    Err(Error::BadConfig { key: "identity", reason })
}

fn first_header(config: &Config, identity: &EdgeIdentity, now: Wall, random: &[u8; 32]) -> SegmentHeader {
    SegmentHeader {
        journal: JournalId::new(u64::try_from(now.0 / 1000).unwrap_or(0), ten(random)),
        continues: None,
        first: EventSeq(1),
        created: now,
        size: config.segment_size,
        salt: 0,
        identity: identity.clone(),
        domains: Vec::new(),
    }
}

fn ten(random: &[u8; 32]) -> [u8; 10] {
    random[..10].try_into().expect("32 bytes hold 10")
}
