//! Counts the engine keeps for metrics; plain integers, read by the edge between turns.

use std::time::Duration;

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
    /// How long REGISTERs took, from the request to its final answer.
    pub registration: Spans,
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

/// Upper bounds of the buckets of [`Spans`], milliseconds; one more holds what is longer.
pub const SPAN_BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 4000, 32_000];

/// Durations counted in buckets.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// How many fell into each bucket and no lower one.
    pub buckets: [u64; SPAN_BOUNDS_MS.len() + 1],
    /// How many in all.
    pub count: u64,
    /// Their sum, microseconds.
    pub sum_us: u64,
}

impl Spans {
    /// Counts one.
    pub fn note(&mut self, span: Duration) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let bucket =
            SPAN_BOUNDS_MS.iter().position(|bound| us <= bound * 1000).unwrap_or(SPAN_BOUNDS_MS.len());
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_falls_into_the_lowest_bucket_that_holds_it() {
        let mut spans = Spans::default();
        for ms in [0, 1, 3, 40_000] {
            spans.note(Duration::from_millis(ms));
        }
        assert_eq!((spans.buckets[0], spans.buckets[2], spans.buckets[12]), (2, 1, 1));
        assert_eq!((spans.count, spans.sum_us), (4, 40_004_000));
    }
}
