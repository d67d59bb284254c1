//! `[calls]`: how long calls live, and what ends those that nobody hangs up.

use super::value::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[calls]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// Both ends of an answered call are asked this often whether they are still there, when nothing passes between them;
    /// one that is not, asked twice, ends the call. `"0s"`: never.
    pub keepalive: Span,
    /// The longest an answered call may last, where its tenant's `limits` do not say. `"0s"`: unlimited.
    pub max_duration: Span,
}

impl Default for Calls {
    fn default() -> Self {
        Self { keepalive: Span(Duration::from_secs(900)), max_duration: Span(Duration::ZERO) }
    }
}

/// A span of zero switches off.
pub(super) fn some(span: Span) -> Option<Duration> {
    Some(span.0).filter(|span| !span.is_zero())
}
