//! Real brokers that a story starts, kills, copies and rolls back, and the suite that every bus passes.
//!
//! A broker listens on loopback only, on ports that stay its own over restarts, and is gone when the test process is,
//! however that ends.

#![allow(
    clippy::missing_panics_doc,
    reason = "a broker that does not start fails the story, with what the broker said"
)]

pub mod conformance;
#[cfg(feature = "kafka")]
pub mod kafka;
mod login;
pub mod nats;
mod place;
mod server;
mod tls;

#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaOptions};
pub use nats::{Nats, NatsLogin, NatsOptions, NatsUser};
pub use place::{Copied, cache};
pub use server::{Hull, Server};
pub use tls::Tls;
