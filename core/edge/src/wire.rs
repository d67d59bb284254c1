//! From the engine's transmits to datagrams on sockets.

use signalbox_base::Transport;
use signalbox_engine::{Outbox, SendError, Ticket, Transmit};
use signalbox_io::{Outgoing, SendFailure};
use std::net::SocketAddr;

/// A message that the network did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub(crate) ticket: Option<Ticket>,
    pub(crate) remote: SocketAddr,
    pub(crate) cause: SendError,
}

/// The datagram of a transmit. A flow of another transport has no socket here and counts as not sent.
pub(crate) fn outgoing<'a>(outbox: &'a Outbox, transmit: &Transmit) -> Outgoing<'a> {
    let udp = transmit.flow.transport == Transport::Udp;
    Outgoing {
        socket: if udp { usize::from(transmit.flow.listener.0) } else { usize::MAX },
        source: transmit.flow.local.ip(),
        remote: transmit.flow.remote,
        bytes: outbox.bytes(&transmit.bytes),
        ticket: transmit.ticket.map(|ticket| ticket.0),
    }
}

/// What to tell the engine of a failed datagram.
pub(crate) fn unsent(failed: &Outgoing<'_>, why: SendFailure) -> Unsent {
    Unsent { ticket: failed.ticket.map(Ticket), remote: failed.remote, cause: cause(why) }
}

fn cause(why: SendFailure) -> SendError {
    match why {
        SendFailure::Refused => SendError::Refused,
        SendFailure::Unreachable => SendError::Unreachable,
        SendFailure::TooLarge => SendError::TooLarge,
        SendFailure::Busy => SendError::Busy,
        SendFailure::Other => SendError::Other,
    }
}
