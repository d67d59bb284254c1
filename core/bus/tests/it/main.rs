//! The embedded bus keeps what every bus promises, and the relay what it promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod journal;
mod local;
mod machine;
mod origin;
mod reconcile;
mod relay;
