//! Each bus against its real broker.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "kafka")]
mod examples;
mod starters;
