//! From the engine's transmits to datagrams on sockets and messages on connections.

use signalbox_base::{ListenerId, Transport};
use signalbox_engine::{FlowEnd, Outbox, SendError, Ticket, Transmit};
use signalbox_io::{Outgoing, SendFailure, Sender, StreamEnd, StreamOutgoing, Streams, UdpSocket};
use std::net::SocketAddr;

/// A message that the network did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) ticket: Option<Ticket>,
    pub(crate) remote: SocketAddr,
    pub(crate) cause: SendError,
}

/// The sockets of all listeners: UDP ones are read and written by the edge's threads, the others by the stream thread.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    pub(crate) sockets: Vec<UdpSocket>,
    /// The listener of each socket.
    listeners: Vec<ListenerId>,
    /// The socket of each listener; `usize::MAX` for those of connections.
    places: Vec<usize>,
    /// Where a listener serves connections.
    pub(crate) streams: Option<Streams>,
}

impl Wires {
    /// Without any listener.
    pub(crate) fn new(streams: Option<Streams>) -> Self {
        Self { streams, ..Self::default() }
    }

    /// Adds the next listener: its socket, or none where it serves connections.
    pub(crate) fn push(&mut self, socket: Option<UdpSocket>) {
        let listener = ListenerId(u16::try_from(self.places.len()).unwrap_or(u16::MAX));
        self.places.push(if socket.is_some() { self.sockets.len() } else { usize::MAX });
        if let Some(socket) = socket {
            self.listeners.push(listener);
            self.sockets.push(socket);
        }
    }

    /// The listener of a socket.
    pub(crate) fn listener(&self, socket: usize) -> ListenerId {
        self.listeners[socket]
    }

    /// Sends transmits of one or more outboxes: datagrams by `sender`, the others by the stream thread. What a socket does
    /// not take is told at once; what a connection does not take is told by the stream thread. How many were datagrams.
    pub(crate) fn send<'a>(
        &self,
        sender: &mut Sender,
        transmits: impl Iterator<Item = (&'a Outbox, &'a Transmit)> + Clone,
        mut failed: impl FnMut(Unsent),
    ) -> usize {
        let count = transmits.clone().count();
        let datagrams = transmits.clone().map(|(outbox, transmit)| self.outgoing(outbox, transmit));
        let Some(streams) = &self.streams else {
            sender.send(&self.sockets, datagrams, |message, why| failed(unsent(&message, why)));
            return count;
        };
        let datagrams = datagrams.filter(|message| message.socket != usize::MAX);
        sender.send(&self.sockets, datagrams, |message, why| failed(unsent(&message, why)));
        let over_streams = |(_, transmit): &(_, &Transmit)| transmit.flow.transport != Transport::Udp;
        count
            - streams.send(transmits.filter(over_streams).map(|(outbox, transmit)| StreamOutgoing {
                flow: transmit.flow,
                bytes: outbox.bytes(&transmit.bytes),
                ticket: transmit.ticket.map(|ticket| ticket.0),
            }))
    }

    /// The datagram of a transmit. A flow of another transport has no socket.
    fn outgoing<'a>(&self, outbox: &'a Outbox, transmit: &Transmit) -> Outgoing<'a> {
        let udp = transmit.flow.transport == Transport::Udp;
        let place = self.places.get(usize::from(transmit.flow.listener.0)).filter(|_| udp);
        Outgoing {
            socket: place.copied().unwrap_or(usize::MAX),
            source: transmit.flow.local.ip(),
            remote: transmit.flow.remote,
            bytes: outbox.bytes(&transmit.bytes),
            ticket: transmit.ticket.map(|ticket| ticket.0),
        }
    }
}

/// What to tell the engine of a failed datagram.
fn unsent(failed: &Outgoing<'_>, why: SendFailure) -> Unsent {
    Unsent { ticket: failed.ticket.map(Ticket), remote: failed.remote, cause: cause(why) }
}

/// Why a message did not leave, in the engine's words.
pub(crate) fn cause(why: SendFailure) -> SendError {
    match why {
        SendFailure::Refused => SendError::Refused,
        SendFailure::Unreachable => SendError::Unreachable,
        SendFailure::TooLarge => SendError::TooLarge,
        SendFailure::Busy => SendError::Busy,
        SendFailure::Gone | SendFailure::Other => SendError::Other,
    }
}

/// Why a connection ended, in the engine's words.
pub(crate) fn flow_end(end: StreamEnd) -> FlowEnd {
    match end {
        StreamEnd::Closed => FlowEnd::Closed,
        StreamEnd::Idle | StreamEnd::Slow => FlowEnd::Idle,
        StreamEnd::Unread | StreamEnd::Junk | StreamEnd::Untrusted | StreamEnd::Failed => FlowEnd::Failed,
    }
}
