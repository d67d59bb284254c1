//! Stories of sockets on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a story fails by panicking")]

mod streams;
mod tls;
mod udp;
mod websocket;
