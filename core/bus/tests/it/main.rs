//! The embedded bus keeps what every bus promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod local;
