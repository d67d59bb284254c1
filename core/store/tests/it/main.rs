//! The store against real databases: SQLite files, and a PostgreSQL server that the tests start themselves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod crash;
mod durability;
mod lease;
mod migrations;
mod outbox;
mod positions;
mod postgres;
mod statements;
mod support;
mod tls;
