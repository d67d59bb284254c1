//! What the stream thread is started with: listeners and limits.

use signalbox_base::{ListenerId, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A socket to accept connections on.
#[derive(Clone, Debug)]
pub struct StreamListener {
    /// Its number in flows.
    pub id: ListenerId,
    /// Its transport: any but UDP.
    pub transport: Transport,
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
    /// Over WebSocket: the pages that may connect, as browsers name them; empty for all.
    pub origins: Arc<[String]>,
}

/// How much connections may take. Each limit that a connection passes closes it, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections at a time; more are not accepted.
    pub connections_max: usize,
    /// Connections at a time of one address (IPv6: one /64), which may be the NAT of a whole office.
    pub per_source_max: usize,
    /// From the first packet until TLS and WebSocket are negotiated, and for a connection of ours to be accepted.
    pub handshake: Duration,
    /// After that, until the first whole message.
    pub first_message: Duration,
    /// From a message's first byte to its last.
    pub message: Duration,
    /// Nothing received and nothing sent.
    pub idle: Duration,
    /// Bytes that wait for a peer who does not read; beyond it the connection is closed.
    pub unread_bytes_max: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            connections_max: 30_000,
            per_source_max: 1_000,
            handshake: Duration::from_secs(10),
            first_message: Duration::from_secs(30),
            message: Duration::from_secs(20),
            idle: Duration::from_secs(2 * 3600),
            unread_bytes_max: 512 * 1024,
        }
    }
}
