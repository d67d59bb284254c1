//! The words of the relay's machine: what happens to it, what it asks for, how it goes.

use super::reconcile::Divergence;
use super::saved::Saved;
use crate::publisher::{Failure, LaneId, Refusal, Ticket, Told};
use signalbox_base::{EventSeq, JournalId, Mono, Text, Wall};
use std::time::Duration;

/// How much may be under way, and how long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events between the cursor and the last one read, at most [`crate::publisher::WINDOW_MAX`].
    pub window: usize,
    /// Their bytes; a single event may have more.
    pub window_bytes: usize,
    /// How long an acknowledgement may take.
    pub ack_within: Duration,
    /// How often the place is saved at most.
    pub save_every: Duration,
    /// Events a second that a backlog drains by, or sixteen times what arrives, whichever is more; 0: as fast as can be.
    /// Calls are carried on the same machine, and a broker that is back has work of its own.
    pub drain_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 2048,
            window_bytes: 16 << 20,
            ack_within: Duration::from_secs(5),
            save_every: Duration::from_millis(200),
            drain_per_second: 10_000,
        }
    }
}

/// What the machine must know of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its number.
    pub seq: EventSeq,
    /// The journal that it says it is of.
    pub journal: JournalId,
    /// Where it goes.
    pub lane: LaneId,
    /// Hash of its key.
    pub key: u64,
    /// What it takes on its way.
    pub bytes: usize,
    /// When it was journalled.
    pub recorded: Wall,
}

/// What happens to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The origin is durable up to here.
    End(EventSeq),
    /// An event, in answer to [`Output::Read`], in order. Those that [`super::Machine::takes`] refuses are not handed in.
    Read(Meta),
    /// The answer to [`Output::Read`] is complete.
    ReadDone,
    /// The origin no longer has the events from where was read up to here.
    Overrun(EventSeq),
    /// An event that was read cannot be encoded for this connection.
    Unsendable(EventSeq, Refusal),
    /// Connected; both sides are now compared.
    Reached,
    /// Compared: go on like this. The lanes are those of the connection.
    Resumed(Saved),
    /// Compared: histories have parted.
    Diverged(Divergence),
    /// No connection.
    Failed(Failure),
    /// The broker told something.
    Told(Told),
    /// The auditor misses these on the broker, all of them acknowledged.
    Missing(Vec<EventSeq>),
    /// It is time ([`super::Machine::next_due`]), or nobody knows.
    Due,
    /// End, by then at the latest; before that when everything is acknowledged.
    Stop(Mono),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect and compare.
    Connect,
    /// Drop the connection and all that is queued in it, at once.
    Drop,
    /// Read events from here on, at most so many.
    Read {
        /// The first.
        from: EventSeq,
        /// How many at most.
        events: usize,
    },
    /// Publish an event that was read.
    Publish {
        /// Its ticket.
        ticket: Ticket,
        /// The event.
        seq: EventSeq,
    },
    /// Events up to here are not needed any more.
    Forget(EventSeq),
    /// Save [`super::Machine::saved`] durably.
    Save,
    /// Something that people should know.
    Note(Note),
    /// Nothing more comes.
    Done,
}

/// Something that people should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// Events were lost before they could be relayed: an incident.
    #[error("events {0} to {1} were gone before the bus had them")]
    Overrun(EventSeq, EventSeq),
    /// The broker refuses an event; nothing goes past it for ever.
    #[error("the bus does not take event {0}: {1}")]
    Refused(EventSeq, Refusal),
    /// The auditor found events missing; they are sent again, late: an incident.
    #[error("the bus has lost {count} acknowledged events between {first} and {last}; they are sent again")]
    Missing {
        /// How many.
        count: usize,
        /// The first.
        first: EventSeq,
        /// The last.
        last: EventSeq,
    },
    /// An event that was never sent is known to the broker.
    #[error("the bus knows event {0}, which was not sent yet")]
    Unsent(EventSeq),
    /// Histories have parted: an incident.
    #[error("{0}")]
    Diverged(Divergence),
    /// The connection broke, or could not be made.
    #[error("{0}")]
    Away(Text),
    /// Events flow (again).
    #[error("connected; going on after event {0}")]
    Flowing(EventSeq),
}

/// Where the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection; waits for the next attempt.
    Away,
    /// Is being connected.
    Connecting,
    /// Compares both sides.
    Reconciling,
    /// Events flow.
    Flowing,
    /// Histories have parted; nothing is sent.
    Diverged,
    /// Over.
    Stopped,
}

impl State {
    /// As people and metrics see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Connecting => "connecting",
            Self::Reconciling => "reconciling",
            Self::Flowing => "flowing",
            Self::Diverged => "diverged",
            Self::Stopped => "stopped",
        }
    }
}

/// How it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub state: State,
    /// Everything up to here is acknowledged.
    pub cursor: EventSeq,
    /// The origin's end.
    pub end: EventSeq,
    /// Events sent and not acknowledged.
    pub under_way: usize,
    /// When the oldest event that is not acknowledged was journalled, where that is known here.
    pub oldest: Option<Wall>,
    /// Events sent, again ones included.
    pub published: u64,
    /// Events acknowledged.
    pub acked: u64,
    /// How often it went back to the cursor.
    pub rewinds: u64,
    /// The last thing that went wrong; `None` once an event was acknowledged after it.
    pub error: Option<Text>,
    /// The event that the broker does not take.
    pub refused: Option<EventSeq>,
    /// Name, place and number of the last acknowledged event of each lane that has one.
    pub lanes: Vec<(String, u64, EventSeq)>,
}

impl Status {
    /// Events that are not acknowledged, or behind one that is not.
    #[must_use]
    pub const fn behind(&self) -> u64 {
        self.end.0.saturating_sub(self.cursor.0)
    }
}
