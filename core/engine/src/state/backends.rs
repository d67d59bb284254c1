//! What is known of each backend for good: its last recorded state and what the operator wants.

use serde::{Deserialize, Serialize};
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_schemas::words::BackendState;
use std::collections::BTreeMap;

/// A backend's recorded state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendRecord {
    /// The state of the last `backend.state_changed`.
    pub state: BackendState,
    /// The operator's wish that is in force.
    pub wish: Wish,
    /// When it was last known to be up.
    pub last_up_at: Option<Wall>,
    /// When it last changed.
    pub changed_at: Wall,
    /// The last record about it.
    pub seq: EventSeq,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Traffic, by its probes.
    #[default]
    Serve,
    /// No new traffic.
    Drain,
    /// No traffic and no probes.
    Disable,
}

/// Backends by `tenant/name`.
pub type BackendRecords = BTreeMap<Text, BackendRecord>;

/// Stands for the tenant where a trunk is shared.
pub const NOBODYS: &str = "_";

/// `tenant/name`.
#[must_use]
pub fn backend_key(tenant: &str, name: &str) -> Text {
    let mut key = String::with_capacity(tenant.len() + name.len() + 1);
    key.push_str(tenant);
    key.push('/');
    key.push_str(name);
    Text::from(key)
}
