//! Events of projections: tables that were made anew, and events put aside.
//!
//! The aggregate is the projection (subject: its name). Their source is the store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

/// The tables of a projection were made anew from history, and took the place of the old ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectionRebuilt {
    /// Name of the edge in whose process the projections run.
    pub edge: Text,
    /// The projection.
    pub projection: Text,
    /// Its version.
    pub version: u32,
    /// Why: `asked`, or what was wrong with the old tables.
    pub reason: Text,
    /// Events that were folded.
    pub events: u64,
    /// Rows that were taken over from the old tables, for their events are gone.
    pub carried_rows: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// An event cannot be applied: it and later ones of its aggregate wait for an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectionParked {
    /// Name of the edge in whose process the projections run.
    pub edge: Text,
    /// The projection.
    pub projection: Text,
    /// Its version.
    pub version: u32,
    /// Subject of the event.
    #[schemars(extend("x-personal-data" = true))]
    pub aggregate: Text,
    /// Type of the event.
    pub kind: Text,
    /// `invalid` (it cannot be read) or `row` (the database refuses it).
    pub error_class: Text,
}

/// A parked aggregate goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectionResumed {
    /// Name of the edge in whose process the projections run.
    pub edge: Text,
    /// The projection.
    pub projection: Text,
    /// Its version.
    pub version: u32,
    /// The aggregate.
    #[schemars(extend("x-personal-data" = true))]
    pub aggregate: Text,
    /// How: `retry` (its events are applied) or `skip` (they are forgotten).
    pub decision: Text,
    /// Events that had waited.
    pub events: u64,
}
