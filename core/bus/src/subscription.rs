//! The trait and its words.

use crate::event::{Delivered, Source};
use crate::hints::Hint;
use crate::publisher::Failure;
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_journal::Filter;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that carries events.
pub trait Bus: Send + Sync {
    /// Starts to read. Subscriptions do not disturb each other; only one at a time may hold a name, a later one takes
    /// it over.
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>>;

    /// What is kept in order.
    fn order(&self) -> Order;
}

/// A running subscription.
pub trait Subscription: Send {
    /// Waits for news and returns at most `max` events (at least 1 may be asked for), as many as are there. A batch
    /// without events says that others were passed over by the filter, or that some are gone.
    ///
    /// Dropping the future before it is ready loses nothing.
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>>;

    /// Says durably that everything up to `progress` (of a batch of this subscription) is done with: a later
    /// subscription of the same name with [`Start::Cursor`] begins after it, and the bus may forget it.
    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>>;
}

/// What a bus keeps in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All events of a source: a missing number is a loss.
    Source,
    /// Only the events of one key: a missing number may still come from another partition.
    Key,
}

/// What to read, from where, under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name of the durable cursor, `[a-z0-9_-]{1,63}`; `None` for a reader that leaves no trace (`tail`).
    pub name: Option<String>,
    /// Domains, types and tenants; the default is everything.
    pub filter: Filter,
    /// Where to begin.
    pub start: Start,
    /// How long news may wait for more, to be handed over together; zero: not at all. What is behind is never waited for.
    pub linger: Duration,
}

/// Where a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event there is.
    Beginning,
    /// With the first event recorded at or after this moment.
    Time(Wall),
    /// After these positions; sources that are not named from their beginning.
    After(Vec<(Source, EventSeq)>),
    /// After what was last acknowledged under the name; from the beginning when nothing was.
    Cursor,
    /// Where this hint of the same bus says, if what it names still lies there; else from somewhat before its time, else
    /// from the beginning, never from the end.
    Hint(Hint),
    /// With what is recorded from now on.
    End,
}

/// Events, and how far they bring the reader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order that [`Bus::order`] promises.
    pub events: Vec<Delivered>,
    /// Numbers that the bus no longer has, found before these events.
    pub gaps: Vec<Gap>,
    /// How far each source that moved has been read, events that the filter passes over included.
    pub progress: Vec<Progress>,
    /// Where the bus may be read on from after this batch; `None` where positions say it already.
    pub hint: Option<Hint>,
    /// Told once, when a bus that keeps order by key only was read from its beginning, or from behind what retention took
    /// unread, to the end it had then.
    pub floors: Vec<Floor>,
    /// Events known to wait behind this batch, where the bus knows.
    pub behind: Option<u64>,
}

/// The first number of a domain that a bus still has: what is missing before it is retention and no loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The source.
    pub source: Arc<Source>,
    /// The domain.
    pub domain: Text,
    /// First number in the domain.
    pub first: u64,
}

/// How far a source has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The source.
    pub source: Arc<Source>,
    /// Every event up to here was delivered or passed over.
    pub through: EventSeq,
    /// The last event that the bus was known to have when the batch was made.
    pub end: EventSeq,
}

/// Events that a source wrote and the bus no longer has: retention, or an overrun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First missing number.
    pub from: EventSeq,
    /// Last missing number.
    pub to: EventSeq,
}

/// Why a bus cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not reached, broken off, or not as it must be, which a person may mend: subscribe again after a while.
    #[error("the bus cannot be read: {0}")]
    Unavailable(String),
    /// Another holder has taken the name: this one must stop.
    #[error("subscription {0} was taken over by another process")]
    Fenced(String),
    /// What the bus holds is damaged, or not ours: a person must act.
    #[error("{0}")]
    Broken(String),
    /// The writer has ended and everything was delivered.
    #[error("the bus has ended")]
    Ended,
}

impl From<Failure> for Error {
    /// Whatever is wrong with a connection may be mended while a reader waits: a server is updated, a right is given.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(why) => Self::Unavailable(why.to_string()),
            denied_or_misfit => Self::Unavailable(denied_or_misfit.to_string()),
        }
    }
}
