//! Events of the security plane: what was refused.
//!
//! The aggregate is the source (subject: its address, or a prefix or `*` when many sources were merged).
//! One event counts all that one source did in a window, so that noise cannot fill the journal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

use crate::values::{FlowData, Ip};
use crate::words::RequestRule;

/// A source gave wrong credentials. It never carries digest material.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecurityAuthFailed {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The source's address; none when many were merged.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Ip>,
    /// The address of record that was tried last.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aor: Option<Text>,
    /// The method of the request.
    pub method: Text,
    /// The SIP status that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The User-Agent header field.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// How many in the window.
    pub count: u64,
    /// The length of the window, in milliseconds.
    pub window_ms: u64,
}

/// Requests of a source were refused by a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecurityRequestRejected {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The source's address; none when many were merged.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Ip>,
    /// The rule that refused them.
    pub rule: RequestRule,
    /// The rule's reason for the last one, such as the limit or the malformed part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// Where the last one is malformed, in bytes from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// The method of the last one, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Text>,
    /// The domain that the last one named, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Text>,
    /// The User-Agent header field of the last one.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// How many in the window.
    pub count: u64,
    /// The length of the window, in milliseconds.
    pub window_ms: u64,
}

/// TLS handshakes with a source failed: of its connections to the edge, or of the edge's to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecurityTlsFailed {
    /// Name of the edge.
    pub edge: Text,
    /// The source's address; none when many were merged.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Ip>,
    /// Why the last one failed: the alert that was sent or received, or what was wrong with the peer's certificate.
    pub reason: Text,
    /// Whether the edge had made the last connection: a backend's certificate is not good, or its name is another.
    pub outbound: bool,
    /// How many in the window.
    pub count: u64,
    /// The length of the window, in milliseconds.
    pub window_ms: u64,
}
