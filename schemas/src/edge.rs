//! Events of edges: start, drain, stop, loss, load.
//!
//! The aggregate is the edge (subject: its name).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{JournalId, Text};

use crate::values::{Timestamp, TransportAddress};
use crate::words::{OverloadLevel, OverloadResource};

/// An edge began to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeStarted {
    /// Name of the edge.
    pub edge: Text,
    /// Signalbox's version.
    pub version: Text,
    /// The revision of the configuration in force.
    pub config_revision: u64,
    /// The sockets it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<TransportAddress>,
    /// The journal that this one continues, when it is a new one (lost disk, clone, restored copy).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<JournalId>,
    /// Whether the run before was stopped in order (true for a first run).
    pub clean: bool,
    /// Calls in progress taken over from the run before.
    pub calls_recovered: u64,
    /// Bindings taken over from the run before.
    pub bindings_recovered: u64,
}

/// An edge takes no new calls or registrations any more and lets its calls end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeDraining {
    /// Name of the edge.
    pub edge: Text,
    /// Calls in progress.
    pub calls_left: u64,
    /// When it stops even if calls are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
}

/// An edge stopped in order. A crash leaves no such event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeStopped {
    /// Name of the edge.
    pub edge: Text,
    /// Whether every call had ended and everything was written.
    pub clean: bool,
    /// Calls still in progress, to be recovered by the next run.
    pub calls_left: u64,
}

/// An edge was not heard for too long. It ends nothing: the edge may still carry its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeLost {
    /// Name of the edge.
    pub edge: Text,
    /// When it was last heard, by the observer's clock.
    pub last_heard_at: Timestamp,
    /// Who noticed it.
    pub detected_by: Text,
    /// Calls it had when it was last heard.
    pub calls: u64,
}

/// A lost edge was heard again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeReturned {
    /// Name of the edge.
    pub edge: Text,
    /// When it was last heard before it was lost.
    pub last_heard_at: Timestamp,
    /// Who noticed it.
    pub detected_by: Text,
    /// Calls it has now.
    pub calls: u64,
}

/// The wall clock of the edge was moved by more than it can slew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeClockStepped {
    /// Name of the edge.
    pub edge: Text,
    /// How far it was moved, in milliseconds; negative is back.
    pub step_ms: i64,
}

/// The edge's load passed into another level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeOverloaded {
    /// Name of the edge.
    pub edge: Text,
    /// The level now.
    pub level: OverloadLevel,
    /// What is short.
    pub resource: OverloadResource,
    /// Requests refused for it since the event before.
    pub shed: u64,
}

/// A certificate ends soon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeCertificateExpiring {
    /// Name of the edge.
    pub edge: Text,
    /// The certificate's subject.
    pub subject: Text,
    /// When it ends.
    pub not_after: Timestamp,
    /// The socket that serves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<TransportAddress>,
}
