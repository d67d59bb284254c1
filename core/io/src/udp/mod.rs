//! UDP sockets, received from and sent on in batches.
//!
//! Addresses have no IPv6 scope here, as nowhere in Signalbox; link-local peers are not reachable.

mod receive;
mod send;
mod socket;

pub use receive::{BATCH as RECEIVE_BATCH, Datagram, Receiver};
pub use send::{BATCH as SEND_BATCH, Outgoing, SendFailure, Sender};
pub use socket::{UdpSocket, Unreachable};

use nix::sys::socket::SockaddrStorage;
use std::net::SocketAddr;

/// The address as the standard library has it, canonical; `None` for another family.
fn to_std(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::new(signalbox_base::canonical_ip(v6.ip().into()), v6.port()))
}
