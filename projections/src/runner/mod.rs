//! Runs projections: reads the bus once for all of them, commits the rows and positions of all together, goes on after
//! every fault that passes.
//!
//! ```text
//!            claim the epochs, load positions, subscribe ◄──────────── connection or bus lost, hole to be read again,
//!                           │                                          one joins or has stopped
//!              ┌──── next batch ◄──────────────┐
//!              ▼                               │
//!        a plan each (pure) ─► one transaction ┤ ok
//!              ▲                    │          ├─► one of them has a hole or a later version: it leaves and reads alone
//!              │                    │ connection fault: wait, load positions, plan again
//!              │                    │ a row is refused: the batch in parts; an event refused alone is parked
//!              └────────────────────┤
//!                                   ▼ one is fenced, its table or right is missing: it stops, the others go on
//! ```
//!
//! A batch is what has arrived while the one before was committed and within [`Config::batch_wait`] of its first event,
//! at most [`Config::batch_events`]: under load transactions grow, at rest each event is in its table after that wait.
//!
//! Each projection keeps positions and an epoch of its own. The group reads from where the one that is least far stands;
//! what others have applied already they recognise. One that is far behind (new, rebuilt, held until now) reads by itself
//! until it is near the end, and then joins. Transactions of batches are not waited for until they are on disk: once a
//! second the places to read on from are stored durably, and with them all that was committed before; only then is the bus
//! told, so it has everything that a power cut could take back. A database server may go back to an earlier commit while
//! we live (it crashed, a standby took over): the guards of the next transaction do not hold then, and positions are
//! loaded again.
//!
//! Tables that are missing or damaged are made anew, and so are those that somebody asks for: [`rebuild`] tells how. Of those
//! that tell how far the others are (positions, the lease …) a missing one is made again empty.
//!
//! On a bus that keeps order by key only, a missing number may still come from another lane: what comes after it is
//! applied, and only the place to read on from waits ([`place`]). Projections that go on from different places of such a
//! bus each read alone. The bus keeps nothing: hints are stored with the positions.

mod crew;
mod fault;
mod member;
pub mod parked;
mod place;
mod plan;
mod rebuild;
mod status;

pub use plan::Held;
pub use rebuild::{RebuildRow, ask_for_rebuild, rebuilds, restore_bookkeeping};
pub use status::{Rebuilding, SourceLag, Status, StatusHandle};

use crate::projection::Projection;
use crew::{Context, Crew};
use member::Member;
use signalbox_base::Text;
use signalbox_bus::Bus;
use signalbox_store::Store;
use signalbox_store::lease::Lease;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The durable cursor of a group on the bus; a journal lists it among its local sinks. It stands where the projection
/// that is least far stands.
pub const SINK: &str = "projections";

/// Settings of a group or a runner.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most events in one transaction. Default 1,000.
    pub batch_events: usize,
    /// How long the first event of a batch waits for others, so that a transaction holds many: what a table may be
    /// behind its events at rest. Not waited for while there is more to catch up with. Default 50 ms.
    pub batch_wait: Duration,
    /// First pause after a fault that may pass. Default 100 ms.
    pub retry_first: Duration,
    /// Longest pause; pauses double up to it. Also how often a hole is looked at again. Default 10 s.
    pub retry_longest: Duration,
    /// Who runs it, for people: `edge-1 pid 4711`.
    pub holder: String,
    /// Name of the edge in whose process they run, as their events tell it.
    pub edge: Text,
    /// What lets this process run them; none: they are only fenced by whoever claims them next.
    pub lease: Option<Lease>,
    /// Kind of the bus, for hints of where to read on: those of one mean nothing to another. Default `journal`.
    pub bus: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_events: 1_000,
            batch_wait: Duration::from_millis(50),
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(10),
            holder: format!("pid {}", std::process::id()),
            edge: Text::default(),
            lease: None,
            bus: "journal",
        }
    }
}

/// Why a projection ended though nobody asked it to. A person must act, except when it was fenced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Another process runs this projection now.
    #[error("another process has taken over projection {projection}")]
    Fenced {
        /// Its name.
        projection: &'static str,
    },
    /// The database's tables, rights or state do not allow it to go on.
    #[error("projection {projection} stopped: {error}")]
    Store {
        /// Its name.
        projection: &'static str,
        /// The fault.
        error: signalbox_store::Error,
    },
    /// Its code broke on an event.
    #[error("projection {projection} stopped: {what}")]
    Panicked {
        /// Its name.
        projection: &'static str,
        /// What the panic said.
        what: String,
    },
    /// The bus is damaged.
    #[error("projection {projection} stopped: {error}")]
    Bus {
        /// Its name.
        projection: &'static str,
        /// The fault.
        error: signalbox_bus::Error,
    },
}

/// Projections that share a subscription and their transactions.
pub struct Group {
    members: Vec<Member>,
    bus: Arc<dyn Bus>,
    store: Store,
    config: Config,
}

impl Group {
    /// Prepares to run; nothing is read or claimed yet. The store's tables must be migrated.
    #[must_use]
    pub fn new(
        projections: Vec<Box<dyn Projection>>,
        bus: Arc<dyn Bus>,
        store: Store,
        config: Config,
    ) -> Self {
        let members = projections.into_iter().map(|projection| Member::new(projection.into())).collect();
        Self { members, bus, store, config }
    }

    /// How each projection is doing, in the order given; may be asked at any time.
    #[must_use]
    pub fn statuses(&self) -> Vec<StatusHandle> {
        self.members.iter().map(|member| member.status.clone()).collect()
    }

    /// Runs until `stop` becomes true (or its sender is gone), the bus ends, or no projection is left. The transactions
    /// under way are finished. `stopped` hears of each projection that ends before, while the others go on; faults that
    /// may pass are waited for instead.
    pub async fn run(self, stop: watch::Receiver<bool>, stopped: impl Fn(Stopped) + Send + Sync + 'static) {
        let context = Context::new(self.bus, self.store, self.config, Box::new(stopped), &self.members);
        Crew::group(Arc::new(context), self.members).run(stop).await;
    }
}

/// One projection on its way: a group of one.
pub struct Runner(Group);

impl Runner {
    /// As [`Group::new`].
    #[must_use]
    pub fn new(projection: Box<dyn Projection>, bus: Arc<dyn Bus>, store: Store, config: Config) -> Self {
        Self(Group::new(vec![projection], bus, store, config))
    }

    /// How it is doing; may be asked at any time.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.0.members[0].status.clone()
    }

    /// As [`Group::run`].
    ///
    /// # Errors
    /// [`Stopped`]; faults that may pass are waited for instead.
    pub async fn run(self, stop: watch::Receiver<bool>) -> Result<(), Stopped> {
        let slot = Arc::new(Mutex::new(None));
        let told = Arc::clone(&slot);
        let tell = move |stopped| *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
        self.0.run(stop, tell).await;
        let stopped = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        stopped.map_or(Ok(()), Err)
    }
}
