//! `[connections]`: how much TCP, TLS and WebSocket connections may take.

use super::check::Check;
use super::model::File;
use super::value::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_io::StreamLimits;

/// `[connections]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Connections {
    /// Connections of peers at a time; more are not accepted.
    pub max: u32,
    /// Connections at a time of one address (IPv6: one /64), which may be the NAT of a whole office.
    pub max_per_source: u32,
    /// Until TLS and WebSocket are negotiated, and for a backend to take a connection.
    pub handshake_timeout: Span,
    /// After that, until the first whole message.
    pub first_message_timeout: Span,
    /// From a message's first byte to its last.
    pub message_timeout: Span,
    /// Nothing received and nothing sent.
    pub idle_timeout: Span,
    /// What waits for a peer who does not read; beyond it the connection is closed.
    pub unread_max: Size,
}

impl Default for Connections {
    fn default() -> Self {
        let d = StreamLimits::default();
        Self {
            max: u32::try_from(d.connections_max).unwrap_or(u32::MAX),
            max_per_source: u32::try_from(d.per_source_max).unwrap_or(u32::MAX),
            handshake_timeout: Span(d.handshake),
            first_message_timeout: Span(d.first_message),
            message_timeout: Span(d.message),
            idle_timeout: Span(d.idle),
            unread_max: Size::Bytes(d.unread_bytes_max as u64),
        }
    }
}

impl Connections {
    /// What the stream thread is told.
    #[must_use]
    pub fn limits(&self) -> StreamLimits {
        StreamLimits {
            connections_max: self.max as usize,
            per_source_max: self.max_per_source as usize,
            handshake: self.handshake_timeout.0,
            first_message: self.first_message_timeout.0,
            message: self.message_timeout.0,
            idle: self.idle_timeout.0,
            unread_bytes_max: match self.unread_max {
                Size::Bytes(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
                Size::Percent(_) => StreamLimits::default().unread_bytes_max,
            },
        }
    }
}

/// What cannot work.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    let of = &file.connections;
    for (key, value) in [("max", of.max), ("max_per_source", of.max_per_source)] {
        if value == 0 {
            let fix = "write 1 or more, or leave it out; no tcp:, tls:, ws: or wss: listener takes none";
            check.wrong(&format!("connections.{key}"), "0 takes no connection", fix);
        }
    }
    for (key, value) in [
        ("handshake_timeout", of.handshake_timeout),
        ("first_message_timeout", of.first_message_timeout),
        ("message_timeout", of.message_timeout),
        ("idle_timeout", of.idle_timeout),
    ] {
        if value.0.as_secs() == 0 {
            let fix = "write 1s or more: it is looked at once a second";
            check.wrong(&format!("connections.{key}"), "is too short", fix);
        }
    }
    // A message must fit, and leave room for the next.
    if !matches!(of.unread_max, Size::Bytes(131_072..)) {
        let fix = "write for example \"512KiB\", and no less than \"128KiB\"";
        check.wrong("connections.unread_max", "is too little for a message", fix);
    }
}
