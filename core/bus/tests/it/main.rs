//! What every bus promises, run for every provider.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod conformance;
mod local;
