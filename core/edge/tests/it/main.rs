//! Stories of a whole edge on the loopback interface: real sockets, a real journal on disk, hand-written peers.

#![expect(clippy::unwrap_used, reason = "a story fails by panicking")]

mod admin;
mod commit;
mod events;
mod gated;
mod life;
mod name_server;
mod names;
mod world;
