//! What a turn produced. Reused from turn to turn: clearing keeps the memory.

use super::input::{CommandReply, QueryId, Ticket};
use super::release::Release;
use signalbox_base::{CallUid, EventSeq, Flow, Text, Transport, Wall};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::ops::Range;

/// What one or more turns produced, to be performed in order: records appended, transmits sent, asks asked.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Bytes that transmits and records point into.
    pub arena: Vec<u8>,
    /// Messages to send, in decision order.
    pub transmits: Vec<Transmit>,
    /// Records to append, in order of sequence.
    pub records: Vec<RecordOut>,
    /// Things to find out or do.
    pub asks: Vec<Ask>,
    /// Answers to commands, in order.
    pub replies: Vec<CommandReply>,
    /// Log lines for what is being watched (see [`super::Watch`]).
    pub notes: Vec<Note>,
}

impl Outbox {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.transmits.clear();
        self.records.clear();
        self.asks.clear();
        self.replies.clear();
        self.notes.clear();
    }

    /// The bytes of a transmit or record.
    #[must_use]
    pub fn bytes(&self, range: &Range<u32>) -> &[u8] {
        &self.arena[range.start as usize..range.end as usize]
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transmits.is_empty()
            && self.records.is_empty()
            && self.asks.is_empty()
            && self.replies.is_empty()
    }
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// When it may leave.
    pub release: Release,
    /// Over which flow.
    pub flow: Flow,
    /// Its bytes in the arena.
    pub bytes: Range<u32>,
    /// Set when a failure to send must be told by [`super::Input::Unsent`].
    pub ticket: Option<Ticket>,
}

/// A record for the journal.
#[derive(Clone, Debug)]
pub struct RecordOut {
    /// Its sequence, numbered by the engine.
    pub seq: EventSeq,
    /// When it happened.
    pub wall: Wall,
    /// Type with version: `call.ended.v1`.
    pub kind: &'static str,
    /// Tenant, empty for none.
    pub tenant: Text,
    /// The aggregate (EVENTS.md `subject`).
    pub subject: Text,
    /// Correlation (a call uid), empty for none.
    pub correlation: Text,
    /// W3C trace context of the message that led to it, in the arena; may be empty.
    pub traceparent: Range<u32>,
    /// The record that led to this one; 0 for none.
    pub causation: EventSeq,
    /// Public part: the event's `data` as JSON, in the arena.
    pub data: Range<u32>,
    /// Private part, in the arena; may be empty.
    pub private: Range<u32>,
    /// Whether something waits for it: class A commits soon, class B within 100 ms.
    pub urgent: bool,
}

/// Something the driver finds out or does for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Find where a name's service is; answered by [`super::Input::Resolved`].
    Resolve {
        /// To be repeated in the answer.
        query: QueryId,
        /// What is asked.
        question: Question,
    },
    /// Close a connection.
    Close {
        /// Which.
        flow: Flow,
    },
    /// Send what is for an address over a connection that came from there, if it did (RFC 5923): over TLS its certificate
    /// must be good for the peer at that address.
    Reuse {
        /// The connection.
        flow: Flow,
        /// As the address is dialled.
        stands_for: Flow,
    },
}

/// What is asked of DNS (RFC 3263 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Host name.
    pub host: Text,
    /// A port that is given: then only addresses are asked for.
    pub port: Option<u16>,
    /// Transports that may be used, the preferred one first; of an empty list nothing is to be found.
    pub transports: SmallVec<[Transport; 3]>,
    /// Whether NAPTR records choose among them.
    pub by_naptr: bool,
}

/// How loud a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What an operator wants to see.
    Info,
    /// What one reads when looking for the cause.
    Debug,
}

/// A log line by the engine, with what it belongs to; never contains credentials.
#[derive(Clone, Debug)]
pub struct Note {
    /// How loud.
    pub level: Level,
    /// The call it belongs to.
    pub call: Option<CallUid>,
    /// The AoR it belongs to.
    pub aor: Option<Text>,
    /// The peer it belongs to.
    pub source: Option<SocketAddr>,
    /// The line.
    pub text: String,
}
