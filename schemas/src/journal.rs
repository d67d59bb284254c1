//! Events of an edge's journal: what was sealed, and what a slow sink lost.
//!
//! The aggregate is the edge (subject: its name).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{EventSeq, Text};

/// A segment was closed for ever. Its hash is published, so that history cannot be edited unseen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalSealed {
    /// Name of the edge.
    pub edge: Text,
    /// The segment's name: the position of its first event.
    pub segment: EventSeq,
    /// Position of its last event.
    pub last_sequence: EventSeq,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits.
    pub sha256: Text,
}

/// The journal was full, and a sink that was too far behind lost events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JournalOverrun {
    /// Name of the edge.
    pub edge: Text,
    /// The sink that lost them.
    pub sink: Text,
    /// Position of the first event lost.
    pub first_sequence: EventSeq,
    /// Position of the last event lost.
    pub last_sequence: EventSeq,
}
