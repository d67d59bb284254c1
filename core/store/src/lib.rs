//! The tables' home: PostgreSQL in production, SQLite embedded, one [`Store`] over both.
//!
//! What is written goes through [`Store::transaction`]: rows, positions and outbox together or not at all. Queries are
//! one SQL text for both databases, so it stays within what both understand:
//!
//! - parameters are `$1`, `$2` …; never `$1::text` (one odd name to SQLite): write `CAST($1 AS TEXT)`;
//! - times are `BIGINT` microseconds since 1970 in UTC, ids `TEXT`, JSON `TEXT`, no booleans;
//! - `INSERT … ON CONFLICT … DO UPDATE … WHERE`, `RETURNING`, `WITH`, windows and row values are fine; `now()`, `ILIKE`,
//!   arrays, `FOR UPDATE` and JSON paths are not; `SUM` of a `BIGINT` is `NUMERIC` on PostgreSQL: cast it back.
//!
//! Errors say what to do ([`Class`]); retrying with backoff is the caller's business.

mod bookkeeping;
mod config;
mod error;
pub mod lease;
mod migrations;
pub mod outbox;
mod position;
pub mod positions;
mod postgres;
mod rename;
mod schema;
mod sqlite;
mod statement;
mod store;
mod switch;
mod tls;
mod value;

pub use config::{CONNECTIONS_DEFAULT, Config};
pub use error::{Class, Error};
pub use position::{Offer, Position, RANGES_MAX};
pub use rename::Renames;
pub use schema::TableFault;
pub use statement::Statement;
pub use store::Store;
pub use switch::{Carry, Switch};
pub use value::{Row, Value};
