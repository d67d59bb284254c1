//! What an actor sends.

use std::net::SocketAddr;

/// A datagram on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The actor's own address; an attacker may write another's here.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}
