//! Each bus against its real broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "kafka")]
mod examples;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod kafka_hand;
#[cfg(feature = "kafka")]
mod kafka_stories;
mod nats;
mod nats_hand;
mod nats_stories;
mod starters;
