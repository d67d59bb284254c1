//! Tables folded from events: location, calls, cdr, backends.
//!
//! A [`Projection`] is a pure function from an event to writes; a [`Group`] of them reads a bus once and commits a
//! batch's writes and positions in one transaction, so that a table is what its events say whatever crashes in between. [`queries`]
//! read the tables, one SQL text for both databases.

mod fold;
mod projection;
pub mod queries;
mod row;
mod runner;
mod usrloc;

pub use fold::{
    BackendRow, Backends, CallRow, Calls, CdrRow, Cdrs, LocationHistoryRow, LocationRow, Locations,
};
pub use projection::{Began, Carried, Folded, Projection, Tables, all};
pub use row::Stamp;
pub use runner::parked;
pub use runner::{
    Config, Group, Held, RebuildRow, Rebuilding, Runner, SINK, SourceLag, Status, StatusHandle, Stopped,
    ask_for_rebuild, rebuilds, restore_bookkeeping,
};
