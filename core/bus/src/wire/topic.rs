//! Kafka: topics by domain, shared or a tenant's own.

use super::subject::token;
use std::fmt::Write;

/// Where edges say that they live.
pub const HEARTBEAT_TOPIC: &str = "signalbox.heartbeat.v1";

/// The topic of a domain's events: `signalbox.<domain>.v1`, or `signalbox.tenant.<tenant>.<domain>.v1` for a tenant that
/// has its own (so that a right on a prefix never reaches a shared topic, whatever the tenant is called).
#[must_use]
pub fn topic(domain: &str, tenant: Option<&str>) -> String {
    match tenant.filter(|tenant| !tenant.is_empty()) {
        Some(tenant) => format!("signalbox.tenant.{}.{}.v1", legal(tenant), legal(domain)),
        None => format!("signalbox.{}.v1", legal(domain)),
    }
}

/// Where the events of a replay go.
#[must_use]
pub fn replay_topic(id: &str) -> String {
    format!("signalbox.replay.{}", legal(id))
}

/// A lane's name: `<topic>/<partition>`.
#[must_use]
pub fn lane_name(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

/// Topic and partition of a lane's name.
#[must_use]
pub fn split_lane(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('/')?;
    Some((topic, partition.parse().ok()?))
}

/// Domains and tenants have letters, digits, `-` and `_` only; anything else that may not stand in a topic's name is told
/// apart from that by its code.
fn legal(name: &str) -> String {
    let name = token(name);
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            out.push(char::from(byte));
        } else {
            write!(out, "_x{byte:02X}").expect("memory takes every byte");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_those_of_the_contract() {
        assert_eq!(topic("call", None), "signalbox.call.v1");
        assert_eq!(topic("call", Some("")), "signalbox.call.v1");
        assert_eq!(topic("call", Some("acme")), "signalbox.tenant.acme.call.v1");
        assert_eq!(replay_topic("01J"), "signalbox.replay.01J");
        assert_eq!(topic("a/b", None), "signalbox.a_x2Fb.v1");
    }

    #[test]
    fn a_lane_is_topic_and_partition() {
        assert_eq!(lane_name("signalbox.call.v1", 3), "signalbox.call.v1/3");
        assert_eq!(split_lane("signalbox.call.v1/3"), Some(("signalbox.call.v1", 3)));
        assert_eq!(split_lane("SIGNALBOX_CALL"), None);
    }
}
