//! Events of bindings: who is registered, where from, and who was refused.
//!
//! The aggregate is the address of record (`acme/401@acme.example`). The events of one AoR are in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

use crate::values::{FlowData, QValue, Timestamp, TransportAddress};
use crate::words::{OutboundState, RejectedBy, RemovalReason};

/// A binding was stored: the backend (or the edge's own registrar) accepted a REGISTER with a new contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationAdded {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The address of record, `user@domain`.
    #[schemars(extend("x-personal-data" = true))]
    pub aor: Text,
    /// The binding's id: opaque, stable across refresh, restart and edges.
    pub binding: Text,
    /// The tenant's SIP domain (never an alias).
    pub domain: Text,
    /// The backend that accepted it; none when the edge is the registrar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text>,
    /// The Contact URI as the phone wrote it.
    #[schemars(extend("x-personal-data" = true))]
    pub contact: Text,
    /// Where the request really came from (RFC 3581), with its transport.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<TransportAddress>,
    /// Path header field values, joined with commas (RFC 3327).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Text>,
    /// The device's `+sip.instance` (RFC 5626 §4.1), without quotes and angle brackets.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Text>,
    /// The flow's `reg-id` (RFC 5626 §4.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reg_id: Option<u32>,
    /// Preference among the contacts, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<QValue>,
    /// Methods the phone allows, upper case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Text>,
    /// When the binding ends unless it is refreshed: the expiry the backend granted.
    pub expires_at: Timestamp,
    /// The User-Agent header field.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// The Call-ID of the registration.
    pub call_id: Text,
    /// The CSeq number of the request.
    pub cseq: u32,
    /// The edge's socket that took the request.
    pub socket: TransportAddress,
}

/// A binding was extended. Fields that did not change since the event before are left out where they are optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationRefreshed {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The address of record, `user@domain`.
    #[schemars(extend("x-personal-data" = true))]
    pub aor: Text,
    /// The binding's id: opaque, stable across refresh, restart and edges.
    pub binding: Text,
    /// The Contact URI as the phone wrote it.
    #[schemars(extend("x-personal-data" = true))]
    pub contact: Text,
    /// When the binding now ends unless it is refreshed again.
    pub expires_at: Timestamp,
    /// The CSeq number of the request.
    pub cseq: u32,
    /// Where the request now comes from, if it moved.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<TransportAddress>,
    /// Where the request before came from, if it moved.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_before: Option<TransportAddress>,
    /// The backend that accepted it, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text>,
    /// Path header field values, joined with commas, if they changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Text>,
    /// Preference among the contacts, 0 to 1, if it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<QValue>,
    /// Methods the phone allows, upper case, if they changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Text>,
    /// The User-Agent header field, if it changed.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// The Call-ID of the registration, if it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Text>,
    /// The edge's socket that took the request, if it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<TransportAddress>,
}

/// A binding was removed before its time was up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationRemoved {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The address of record, `user@domain`.
    #[schemars(extend("x-personal-data" = true))]
    pub aor: Text,
    /// The binding's id: opaque, stable across refresh, restart and edges.
    pub binding: Text,
    /// The Contact URI as the phone wrote it.
    #[schemars(extend("x-personal-data" = true))]
    pub contact: Text,
    /// Why it was removed.
    pub reason: RemovalReason,
    /// The Call-ID of the request that removed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Text>,
    /// The CSeq number of that request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cseq: Option<u32>,
}

/// A binding's time was up and the phone had not refreshed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationExpired {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The address of record, `user@domain`.
    #[schemars(extend("x-personal-data" = true))]
    pub aor: Text,
    /// The binding's id: opaque, stable across refresh, restart and edges.
    pub binding: Text,
    /// The Contact URI as the phone wrote it.
    #[schemars(extend("x-personal-data" = true))]
    pub contact: Text,
    /// When it ended.
    pub expired_at: Timestamp,
    /// When the phone was last heard.
    pub last_seen_at: Timestamp,
}

/// A REGISTER was refused. The first 401 or 407 is a challenge and no rejection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationRejected {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The address of record, `user@domain`.
    #[schemars(extend("x-personal-data" = true))]
    pub aor: Text,
    /// The Contact URI as the phone wrote it.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Text>,
    /// The SIP status that the phone got.
    pub status: u16,
    /// The reason phrase, or the edge's own reason.
    pub reason: Text,
    /// Who refused it.
    pub by: RejectedBy,
    /// The backend that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text>,
    /// The User-Agent header field.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// The Call-ID of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<Text>,
    /// The CSeq number of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cseq: Option<u32>,
}

/// A registration that the edge itself has at a trunk or backend changed its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistrationOutboundChanged {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of its REGISTER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The address of record at the registrar, `user@domain`.
    #[schemars(extend("x-personal-data" = true))]
    pub aor: Text,
    /// The trunk or backend where it is.
    pub registrar: Text,
    /// The state before.
    pub from: OutboundState,
    /// The state now.
    pub to: OutboundState,
    /// The status of the registrar's answer; none when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Its reason phrase, where it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// When the registration ends unless it is refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}
