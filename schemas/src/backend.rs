//! Events of backends: their health as an edge sees it.
//!
//! The aggregate is the backend (subject: its name); of `backend.pool_degraded` the tenant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

use crate::values::{FlowData, Timestamp, TransportAddress};
use crate::words::{BackendCause, BackendState};

/// A backend changed its state. The events of one backend are its history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendStateChanged {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// Its name.
    pub backend: Text,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<TransportAddress>,
    /// The state before.
    pub from: BackendState,
    /// The state now.
    pub to: BackendState,
    /// What made it change.
    pub cause: BackendCause,
    /// Who asked for it, when it was a command.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Text>,
    /// The SIP status of the last probe; none when it was not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_status: Option<u16>,
    /// The time the last probe took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// How many answers (or absences) in a row led to the change.
    pub consecutive: u32,
    /// When it was last known to be up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_up_at: Option<Timestamp>,
    /// How long it was not up, in milliseconds, when it came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_ms: Option<u64>,
}

/// A tenant has fewer healthy backends than it should.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendPoolDegraded {
    /// Name of the edge.
    pub edge: Text,
    /// Backends that take calls.
    pub healthy: u32,
    /// Backends that are configured.
    pub total: u32,
}
