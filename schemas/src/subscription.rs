//! Events of subscriptions (RFC 6665): who watches whom, as the messages that pass the edge say it. The edge keeps nothing of
//! a subscription; one that ends in silence ends at `expires_at`.
//!
//! The aggregate is the subscription: an opaque id, the same in all of its events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

use crate::values::{FlowData, Timestamp};
use crate::words::{RejectedBy, SubscriptionEnd};

/// A subscription was granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionStarted {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The subscription's id.
    pub subscription: Text,
    /// The event package: `dialog`, `message-summary`, `presence`; `refer` for the progress of a REFER.
    pub package: Text,
    /// Who subscribes, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub subscriber: Text,
    /// Who notifies, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub notifier: Text,
    /// The address of record of the registered phone that is one of the two.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aor: Option<Text>,
    /// The backend that is one of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text>,
    /// When it ends unless it is refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The User-Agent header field of the request.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// The Call-ID of its dialog.
    pub call_id: Text,
}

/// A subscription was extended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionRefreshed {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The subscription's id.
    pub subscription: Text,
    /// The event package.
    pub package: Text,
    /// Who subscribes, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub subscriber: Text,
    /// Who notifies, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub notifier: Text,
    /// When it ends unless it is refreshed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A subscription ended before its time was up, or the notifier said that it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionEnded {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The subscription's id.
    pub subscription: Text,
    /// The event package.
    pub package: Text,
    /// Who subscribed, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub subscriber: Text,
    /// Who notified, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub notifier: Text,
    /// Why.
    pub reason: SubscriptionEnd,
    /// The status of the response that ended it, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// A SUBSCRIBE was refused. A challenge is no refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionRejected {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The subscription's id, as it would have been.
    pub subscription: Text,
    /// The event package.
    pub package: Text,
    /// Who wanted to subscribe, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub subscriber: Text,
    /// Who was to notify, as a URI.
    #[schemars(extend("x-personal-data" = true))]
    pub notifier: Text,
    /// The backend that is one of the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<Text>,
    /// The final status.
    pub status: u16,
    /// Its reason phrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// Who refused it.
    pub by: RejectedBy,
    /// The Call-ID of the request.
    pub call_id: Text,
}
