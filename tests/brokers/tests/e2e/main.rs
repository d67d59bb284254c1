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
mod starters;
