//! Limits of tenants, trunks and groups.

use super::check::Check;
use super::value::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_engine::settings as engine;

/// `limits` of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bindings at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registrations: Option<u32>,
    /// Calls at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// New calls a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
    /// Calls at a time that one user makes and takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_user: Option<u32>,
    /// Calls at a time to one number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_number: Option<u32>,
    /// The longest that an answered call may last. Default: `max_duration` of `[calls]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_duration: Option<Span>,
}

/// `limits` of a trunk or group; what is not named is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PeerLimits {
    /// Calls at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// New calls a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_second: Option<u32>,
}

impl PeerLimits {
    pub(super) fn settings(self) -> engine::PeerLimits {
        engine::PeerLimits { calls: self.calls, calls_per_second: self.calls_per_second }
    }

    pub(super) fn check(self, check: &mut Check<'_>, path: &str) {
        check.above_zero(path, &[("calls", self.calls), ("calls_per_second", self.calls_per_second)]);
    }
}
