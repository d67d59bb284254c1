//! The seam between the relay and a broker.
//!
//! A connection is one value: it is made, compared with the journal, published through, and dropped when anything about
//! it breaks. It is never healed: a client that reconnects by itself sends what it had queued, later events before the
//! ones that were lost, and a broker that came back from an old copy takes that without a word.

use crate::event::{Delivered, Source};
use crate::subscription::BoxFuture;
use crate::wire::digest;
use bytes::Bytes;
use signalbox_base::{EventSeq, JournalId, Text};

/// Most events a relay has read and not seen acknowledged.
pub const WINDOW_MAX: usize = 8192;

/// How many own events of a lane say which of the last ones it has. Later keys overtake a waiting one, but never by more
/// than a window: what lies two windows below the highest number in a lane is there if anything is.
pub const TAIL: usize = 2 * WINDOW_MAX;

/// One event under way on one connection; numbers rise and are never used twice by a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// An event's identity wherever it is: the journal's (or store's) id and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The journal or store.
    pub journal: JournalId,
    /// Its number there.
    pub seq: EventSeq,
}

/// A lane of a broker, in which what was acknowledged first lies first: a JetStream stream, a Kafka partition. The number
/// is an index into [`Broker::lanes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// An event as the broker gets it, encoded once and kept until it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Who it is.
    pub id: Identity,
    /// Where it goes.
    pub lane: LaneId,
    /// The partition key: tenant and aggregate. At most one event of a key is under way.
    pub key: Text,
    /// NATS: the subject. Kafka: the topic.
    pub address: Text,
    /// Names and values, in order: NATS headers, Kafka headers.
    pub headers: Vec<(&'static str, Text)>,
    /// NATS: the structured event. Kafka: the event's data.
    pub body: Bytes,
    /// What goes along and is acknowledged with it: records of compacted topics (latest state).
    pub also: Vec<Latest>,
}

impl Outgoing {
    /// Bytes that it takes on its way, about: body, names, headers, and what goes along.
    #[must_use]
    pub fn weight(&self) -> usize {
        let headers = |headers: &[(&str, Text)]| -> usize {
            headers.iter().map(|(name, value)| name.len() + value.len()).sum()
        };
        let also = |latest: &Latest| {
            latest.key.len() + headers(&latest.headers) + latest.body.as_ref().map_or(0, Bytes::len)
        };
        let own = self.body.len() + self.address.len() + self.key.len() + headers(&self.headers);
        own + self.also.iter().map(also).sum::<usize>()
    }
}

/// The latest state of something, for a compacted topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The topic.
    pub address: Text,
    /// What it is the state of.
    pub key: Text,
    /// Names and values, in order.
    pub headers: Vec<(&'static str, Text)>,
    /// The state as JSON; `None` is a tombstone.
    pub body: Option<Bytes>,
}

/// What a lane of a broker is called, and what tells that it was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneName {
    /// Stream, or `<topic>/<partition>`.
    pub name: Text,
    /// JetStream: when the stream was created. Kafka: the cluster's id.
    pub incarnation: Text,
}

/// What the relay remembers of a lane beside its cursor, durably.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LaneSaved {
    /// [`LaneName::name`].
    pub name: String,
    /// [`LaneName::incarnation`] then.
    pub incarnation: String,
    /// Place (stream sequence, offset) of the last acknowledged event.
    pub place: u64,
    /// That event's journal.
    pub journal: String,
    /// That event's number.
    pub seq: u64,
}

/// A broker as the relay sees it.
pub trait Broker: Send + Sync {
    /// `nats` or `kafka`: part of cursors' and metrics' names.
    fn name(&self) -> &'static str;

    /// How events become what this broker carries.
    fn encoder(&self) -> Box<dyn Encoder>;

    /// Connects, makes or checks streams and topics, and learns the lanes. What is made here runs on the caller's
    /// runtime only: dropping that runtime ends the connection at once.
    fn connect(&self) -> BoxFuture<'_, Result<Connection, Failure>>;

    /// Connects and looks, and changes nothing: whether the relay of `edge` could publish, and what it would change.
    ///
    /// # Errors
    /// The broker is not reached, or refuses us.
    fn inspect<'a>(&'a self, edge: &'a str) -> BoxFuture<'a, Result<Inspection, Failure>>;
}

/// What was found at a broker, and what to do: one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// With this nothing is published.
    pub wrong: Vec<String>,
    /// What the relay will make or change when it connects, and what people should know.
    pub notes: Vec<String>,
}

/// Turns journal records into [`Outgoing`]; pure, so it can be tested and measured alone. One is made for each connection
/// and always gets that connection's lanes.
pub trait Encoder: Send {
    /// One event, on one of the lanes of the connection.
    ///
    /// # Errors
    /// None of `lanes` is for it.
    fn encode(&mut self, event: &Delivered, lanes: &[LaneName]) -> Result<Outgoing, Refusal>;
}

/// An open connection.
pub struct Connection {
    /// Its lanes; [`LaneId`] is an index here.
    pub lanes: Vec<LaneName>,
    /// To publish through.
    pub publisher: Box<dyn Publisher>,
    /// To read our own source back.
    pub own: Box<dyn Own>,
}

/// Publishes on one connection.
pub trait Publisher: Send {
    /// Queues an event; never waits. The relay's window bounds what is queued.
    ///
    /// # Errors
    /// The connection is broken, or the client's queue is full: drop the connection.
    fn publish(&mut self, ticket: Ticket, event: &Outgoing) -> Result<(), Failure>;

    /// The next thing the broker tells, in order of arrival. Dropping the future loses nothing.
    fn told(&mut self) -> BoxFuture<'_, Told>;
}

/// What a broker tells of what was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The broker has it.
    Acked {
        /// Which.
        ticket: Ticket,
        /// Where in its lane: stream sequence, offset.
        place: u64,
        /// It had it before, by the broker's own window.
        duplicate: bool,
    },
    /// The broker does not take it.
    Refused {
        /// Which.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// The connection is broken; nothing of what is under way will be told.
    Lost(Text),
}

/// Why a broker does not take an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The stream is full; the journal spools.
    #[error("the stream is full")]
    Full,
    /// There is no such stream or topic.
    #[error("there is no stream for it")]
    NoStream,
    /// Larger than the broker takes; heals by the broker's settings, nothing is skipped.
    #[error("{bytes} bytes, the broker takes {max}")]
    TooLarge {
        /// The event's size.
        bytes: usize,
        /// The broker's limit.
        max: usize,
    },
    /// No right.
    #[error("not allowed: {0}")]
    NotAllowed(Text),
    /// In the broker's words.
    #[error("{0}")]
    Other(Text),
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not reached or broken off; tried again with growing pauses.
    #[error("not reached: {0}")]
    Unreachable(Text),
    /// The credentials are refused; tried again, a person must act.
    #[error("refused: {0}")]
    Denied(Text),
    /// Streams, topics or the server are not as they must be: what is wrong and what to do, one line each.
    #[error("{}", .0.join("; "))]
    Misfit(Vec<String>),
}

/// Reads back what the broker holds of our own.
pub trait Own: Send {
    /// For reconciliation: of each lane of the connection, in their order, the last event of `source`'s edge (every
    /// journal of its), and own events in [`LaneFound::above`]: where the known place holds, every one above it; where
    /// nothing is known of the lane or what is known no longer holds, the last [`TAIL`] own ones at least (more, up to
    /// all of them, do no harm), so that nobody must read years back to learn what a rolled back lane has lost.
    /// `known` names lanes by [`LaneSaved::name`], in any order.
    fn ends<'a>(
        &'a mut self,
        source: &'a Source,
        known: &'a [LaneSaved],
    ) -> BoxFuture<'a, Result<Vec<LaneFound>, Failure>>;

    /// For the auditor: own events of a lane from `place` on, at most `max`, in order, with their places.
    fn read_back<'a>(
        &'a mut self,
        source: &'a Source,
        lane: LaneId,
        place: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Found>, Failure>>;
}

/// What a lane holds of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneFound {
    /// The last own event, of whatever journal of this edge.
    pub last: Option<Found>,
    /// The last own event of the journal that was asked for.
    pub last_of_journal: Option<Found>,
    /// Own events above the known place, or the tail ([`Own::ends`]), the last included, in order of their places.
    pub above: Vec<Found>,
    /// The known place held: the event with the known identity lies there.
    pub known_holds: bool,
}

impl LaneFound {
    /// From what was read: `held` is the known place, where it still counts, and `known` the event that lies there;
    /// `read` are own events in order of their places, and may begin below it.
    pub(crate) fn new(source: &Source, held: Option<u64>, known: Option<Found>, read: Vec<Found>) -> Self {
        let all = || read.iter().rev().chain(&known);
        let last = all().next().cloned();
        let last_of_journal = all().find(|found| found.id.journal == source.journal).cloned();
        let above = read.into_iter().filter(|found| held.is_none_or(|held| found.place > held)).collect();
        Self { last, last_of_journal, above, known_holds: held.is_some() }
    }
}

/// An own event on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub id: Identity,
    /// Its number in its domain.
    pub domain_seq: u64,
    /// Its domain.
    pub domain: Text,
    /// Where it lies.
    pub place: u64,
    /// What it says ([`crate::wire::digest`]): a clone of this journal may have used the number for another event.
    /// `None` where only headers were read.
    pub digest: Option<u64>,
}

impl Found {
    /// An event that lies at a place.
    pub(crate) fn of(event: &Delivered, place: u64) -> Self {
        Self {
            id: Identity { journal: event.source.journal, seq: event.seq },
            domain_seq: event.domain_seq,
            domain: event.domain().into(),
            place,
            digest: Some(digest(event)),
        }
    }
}
