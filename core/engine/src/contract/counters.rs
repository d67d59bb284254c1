//! Counts the engine keeps for metrics; plain integers, read by the edge between turns.

/// Methods counted by name; others count as the last.
pub const METHODS: [&str; 15] = [
    "REGISTER",
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "NOTIFY",
    "SUBSCRIBE",
    "MESSAGE",
    "INFO",
    "UPDATE",
    "PRACK",
    "REFER",
    "PUBLISH",
    "other",
];

/// Monotonic counts since start, and gauges of the moment.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Requests received, by network (index as in the settings) and method (index into [`METHODS`]).
    pub requests: Vec<[u64; METHODS.len()]>,
    /// Responses sent by class, 1xx to 6xx.
    pub responses_sent: [u64; 6],
    /// Responses received by class, 1xx to 6xx.
    pub responses_received: [u64; 6],
    /// Packets dropped, by rule (index into [`RULES`]).
    pub rejected: [u64; RULES.len()],
    /// Responses that no transaction had.
    pub strays: u64,
    /// Requests retransmitted by us.
    pub retransmissions: u64,
    /// Server and client transactions alive.
    pub transactions: u64,
    /// Bindings per tenant, in the settings' order.
    pub registrations: Vec<u64>,
    /// Active calls per tenant, in the settings' order.
    pub calls: Vec<u64>,
    /// Calls attempted, answered, failed since start.
    pub calls_attempted: u64,
    /// Answered since start.
    pub calls_answered: u64,
    /// Failed since start.
    pub calls_failed: u64,
}

/// Rules of `security.request_rejected`, in the order of [`Counters::rejected`].
pub const RULES: [&str; 7] =
    ["malformed", "unknown_domain", "unknown_peer", "acl", "method", "oversize", "limit"];
