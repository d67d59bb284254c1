//! An entry of `backends`: a PBX, and what it sees of the other side.

use super::model::{Probe, Register};
use super::template::Templates;
use super::value::Address;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entry of `backends`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Unique in the tenant.
    pub name: String,
    /// `transport:host[:port]`; the transport is udp, tcp or tls.
    pub address: Address,
    /// Over tls: the name that its certificate must be good for. Default: the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Further sources it may send from, addresses or prefixes. Its own address always is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<String>,
    /// Lower is tried first.
    #[serde(default = "one")]
    pub priority: u16,
    /// Share of new phones and calls among equals of a priority.
    #[serde(default = "one")]
    pub weight: u16,
    /// The domain it speaks for when its request's own names none of the tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The network it is on. Default: the one whose listeners serve backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// How registrations towards it name the phone.
    #[serde(default)]
    pub contact: ContactMode,
    /// Hiding of dialog identifiers towards it.
    #[serde(default)]
    pub hide: Hide,
    /// What it sees of a call of its that rings at several phones.
    #[serde(default)]
    pub early_dialogs: EarlyDialogs,
    /// What becomes of a 3xx in calls from and to it.
    #[serde(default)]
    pub redirects: Redirects,
    /// Probing, where it differs from `[probe]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Whether it takes REGISTERs from the edge's address without credentials: a phone whose flow has failed is then taken
    /// out there, else calls for it get 480 until it is heard again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trusts_edge: bool,
    /// The edge registers there, as a phone would: where calls are sent only to who has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    /// Templates whose `headers` are for messages from and to it.
    #[serde(default, skip_serializing_if = "Templates::is_default")]
    pub template: Templates,
}

fn one() -> u16 {
    1
}

/// How a registration towards a backend names the phone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ContactMode {
    /// Contact is the edge with an opaque token.
    #[default]
    Token,
    /// The phone's Contact, and a Path through the edge (RFC 3327).
    Path,
}

/// What peers see of the other side beside Via and Contact, which are always ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hide {
    /// Call-ID and tags pass through, and other headers as they are.
    #[default]
    Off,
    /// Nothing: new Call-ID and tags, no other's address, software or SDP origin. Media addresses stay.
    Full,
}

/// What a caller sees of a fork before the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EarlyDialogs {
    /// One early dialog, whose tag stays until the end.
    #[default]
    Single,
    /// One of each phone.
    Multiple,
}

/// What becomes of a 3xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Redirects {
    /// Registered users of the tenant that it names are called.
    #[default]
    Follow,
    /// It goes to the caller.
    Pass,
}
