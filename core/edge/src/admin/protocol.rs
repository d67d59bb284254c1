//! The admin socket's protocol: one JSON object a line, a request and then its answer, in order.
//!
//! ```text
//! → {"request":"locations","tenant":"acme"}
//! ← {"ok":{"rows":[{"username":"401", …}, …],"next":500}}
//! → {"request":"locations","tenant":"acme","from":500}
//! ← {"ok":{"rows":[]}}
//! → {"request":"backend","name":"acme/pbx-1","wish":"drain"}
//! ← {"ok":{"message":"acme/pbx-1 drains"}}
//! → {"request":"nonsense"}
//! ← {"error":"…"}
//! ```
//!
//! A request line is at most [`LINE_MAX`] bytes. Lists come in pages: as long as an answer has `next`, the same request with
//! it as `from` brings more. What changes something is answered once its event is durable, and the peer's user is its actor.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest request in bytes; a longer one ends the connection.
pub const LINE_MAX: usize = 64 * 1024;

/// What can be asked. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Figures: identity, phase, calls, registrations, journal, backends.
    Status {},
    /// As HTTP's `/health`.
    Health {},
    /// Metrics as text, in `text`.
    Metrics {},
    /// Bindings in force.
    Locations {
        /// Of one `user@domain`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aor: Option<String>,
        /// Of one tenant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// From an answer's `next`.
        #[serde(default)]
        from: usize,
    },
    /// Calls in progress.
    Calls {
        /// Of one tenant.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// From an answer's `next`.
        #[serde(default)]
        from: usize,
    },
    /// Backends with their state.
    Backends {},
    /// Sets a backend's operator state.
    Backend {
        /// `tenant/name`, or the name where it is unique.
        name: String,
        /// What is wanted.
        wish: Wish,
    },
    /// Loads the configuration again.
    Reload {},
    /// Stops in order.
    Stop {
        /// Calls may go on this long, milliseconds.
        deadline_ms: u64,
    },
    /// Sets the log level.
    LogLevel {
        /// `info`, `debug`, or a filter.
        level: String,
    },
    /// Whose steps are logged; replaces what was watched before, and nothing at all ends it.
    Watch {
        /// Everybody's.
        #[serde(default)]
        all: bool,
        /// Of these `user@domain`.
        #[serde(default)]
        aors: Vec<String>,
        /// Of these source addresses.
        #[serde(default)]
        sources: Vec<std::net::IpAddr>,
        /// Of these calls.
        #[serde(default)]
        calls: Vec<String>,
    },
    /// Removes all bindings of an AoR.
    RemoveBinding {
        /// `user@domain`.
        aor: String,
        /// Needed when two tenants have the AoR.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// New traffic again.
    Enable,
    /// No new traffic.
    Drain,
    /// No traffic and no probes.
    Disable,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, or what was asked for.
    Ok(Value),
    /// Refused; why, and what to do.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_documented() {
        let read = |text| serde_json::from_str::<Request>(text);
        assert_eq!(read(r#"{"request":"status"}"#).unwrap(), Request::Status {});
        let drain = Request::Backend { name: "acme/pbx-1".to_owned(), wish: Wish::Drain };
        assert_eq!(read(r#"{"request":"backend","name":"acme/pbx-1","wish":"drain"}"#).unwrap(), drain);
        let all = Request::Locations { aor: None, tenant: None, from: 0 };
        assert_eq!(read(r#"{"request":"locations"}"#).unwrap(), all);
        for bad in ["{}", r#"{"request":"nonsense"}"#, r#"{"request":"status","x":1}"#, "[]", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
