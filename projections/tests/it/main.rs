//! The projections end to end: events on a bus, rows in SQLite and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../../core/bus/tests/it/journal.rs"]
mod journal;
#[path = "../../../core/store/tests/it/postgres.rs"]
mod postgres;
#[path = "../../../core/store/tests/it/support.rs"]
mod support;

mod bookkeeping;
mod durability;
mod faults;
mod group;
mod interleaving;
mod keyed;
mod live;
mod places;
mod rebuild;
mod runner;
mod scripted;
mod stories;
mod tables;
