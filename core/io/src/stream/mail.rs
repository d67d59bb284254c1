//! Between the stream thread and the edge's threads: what arrived in batches one way, what is to be sent the other way.
//!
//! Both ways a batch is copied under a lock that nobody holds over a system call, and memory is kept from batch to batch.

use super::SendFailure;
use signalbox_base::{Flow, Text};
use signalbox_sip::Malformed;
use std::ops::Range;

/// Memory of an emptied batch above this is given back.
const KEPT_BYTES: usize = 1 << 20;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer closed it, or the edge asked for that.
    Closed,
    /// Nothing came or went for too long.
    Idle,
    /// A handshake, a first message or a whole message took too long.
    Slow,
    /// The peer does not read what it is sent.
    Unread,
    /// Bytes that are no SIP over this transport.
    Junk,
    /// It showed no certificate, or none that counts.
    Untrusted,
    /// An error of the network, or of TLS.
    Failed,
}

/// Something that a connection brought.
#[derive(Clone, Copy, Debug)]
pub enum Arrival<'a> {
    /// A whole message, or a keep-alive: two line ends for a ping, one for a pong.
    Message {
        /// Where it came from.
        flow: Flow,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// What cannot be framed; the connection is closed behind it.
    Unframed {
        /// Where it came from.
        flow: Flow,
        /// What was buffered, from the start of the message.
        bytes: &'a [u8],
        /// What is wrong.
        fault: Malformed,
    },
    /// Who connected has shown a certificate: before anything else that came over the connection.
    Shown {
        /// The connection.
        flow: Flow,
        /// The domains that the certificate is good for, in small letters.
        names: &'a [Text],
    },
    /// TLS with a peer has failed; the connection is closed behind it.
    TlsFailed {
        /// The connection. One of our own making has no `conn`.
        flow: Flow,
        /// The alert, or what is wrong with the certificate.
        reason: &'a Text,
    },
    /// A connection is gone.
    Closed {
        /// Which. One of our own making has no `conn`: the next message to its address opens another.
        flow: Flow,
        /// Why.
        end: StreamEnd,
    },
    /// A message could not be sent, or its connection broke before all of it was.
    Unsent {
        /// Where it should have gone.
        flow: Flow,
        /// The caller's mark.
        ticket: Option<u64>,
        /// Why.
        why: SendFailure,
    },
}

#[derive(Debug)]
enum Item {
    Message(Flow, Range<usize>),
    Unframed(Flow, Range<usize>, Malformed),
    Shown(Flow, Vec<Text>),
    TlsFailed(Flow, Text),
    Closed(Flow, StreamEnd),
    Unsent(Flow, Option<u64>, SendFailure),
}

/// A batch of arrivals.
#[derive(Debug, Default)]
pub struct Arrivals {
    arena: Vec<u8>,
    items: Vec<Item>,
}

impl Arrivals {
    /// In order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = Arrival<'_>> {
        self.items.iter().map(|item| match item {
            Item::Message(flow, range) => Arrival::Message { flow: *flow, bytes: &self.arena[range.clone()] },
            Item::Unframed(flow, range, fault) => {
                Arrival::Unframed { flow: *flow, bytes: &self.arena[range.clone()], fault: *fault }
            }
            Item::Shown(flow, names) => Arrival::Shown { flow: *flow, names },
            Item::TlsFailed(flow, reason) => Arrival::TlsFailed { flow: *flow, reason },
            Item::Closed(flow, end) => Arrival::Closed { flow: *flow, end: *end },
            Item::Unsent(flow, ticket, why) => Arrival::Unsent { flow: *flow, ticket: *ticket, why: *why },
        })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Empties it and keeps its memory, unless that has grown large.
    pub fn clear(&mut self) {
        self.items.clear();
        self.arena.clear();
        self.items.shrink_to(KEPT_BYTES / size_of::<Item>());
        self.arena.shrink_to(KEPT_BYTES);
    }

    pub(super) fn bytes(&self) -> usize {
        self.arena.len() + self.items.len() * size_of::<Item>()
    }

    pub(super) fn message(&mut self, flow: Flow, bytes: &[u8]) {
        let range = self.keep(bytes);
        self.items.push(Item::Message(flow, range));
    }

    pub(super) fn unframed(&mut self, flow: Flow, bytes: &[u8], fault: Malformed) {
        let range = self.keep(bytes);
        self.items.push(Item::Unframed(flow, range, fault));
    }

    pub(super) fn shown(&mut self, flow: Flow, names: Vec<Text>) {
        self.items.push(Item::Shown(flow, names));
    }

    pub(super) fn tls_failed(&mut self, flow: Flow, reason: Text) {
        self.items.push(Item::TlsFailed(flow, reason));
    }

    pub(super) fn closed(&mut self, flow: Flow, end: StreamEnd) {
        self.items.push(Item::Closed(flow, end));
    }

    pub(super) fn unsent(&mut self, flow: Flow, ticket: Option<u64>, why: SendFailure) {
        self.items.push(Item::Unsent(flow, ticket, why));
    }

    /// Moves all of `other` behind what is here.
    pub(super) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
            return;
        }
        let shift = self.arena.len();
        self.arena.extend_from_slice(&other.arena);
        let moved = |range: Range<usize>| range.start + shift..range.end + shift;
        self.items.extend(other.items.drain(..).map(|item| match item {
            Item::Message(flow, range) => Item::Message(flow, moved(range)),
            Item::Unframed(flow, range, fault) => Item::Unframed(flow, moved(range), fault),
            other => other,
        }));
        other.clear();
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }
}

/// A message for a connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamOutgoing<'a> {
    /// Over which flow. Without `conn`: over the connection to `remote` that is there, else over a new one.
    pub flow: Flow,
    /// The message.
    pub bytes: &'a [u8],
    /// The caller's mark, told with a failure.
    pub ticket: Option<u64>,
}

/// What the stream thread is asked to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) arena: Vec<u8>,
    pub(super) sends: Vec<Send>,
    pub(super) closes: Vec<Flow>,
    /// Connections, and as what each is to be found.
    pub(super) reuses: Vec<(Flow, Flow)>,
    pub(super) stop: bool,
}

#[derive(Debug)]
pub(super) struct Send {
    pub(super) flow: Flow,
    pub(super) bytes: Range<usize>,
    pub(super) ticket: Option<u64>,
}

impl Orders {
    pub(super) fn push(&mut self, message: StreamOutgoing<'_>) {
        let start = self.arena.len();
        self.arena.extend_from_slice(message.bytes);
        let bytes = start..self.arena.len();
        self.sends.push(Send { flow: message.flow, bytes, ticket: message.ticket });
    }

    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.sends.clear();
        self.closes.clear();
        self.reuses.clear();
        self.arena.shrink_to(KEPT_BYTES);
        self.sends.shrink_to(KEPT_BYTES / size_of::<Send>());
    }
}
