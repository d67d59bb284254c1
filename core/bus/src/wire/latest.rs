//! Kafka's compacted topics: the latest state of every binding and every backend, with a tombstone for what is gone.
//!
//! A refresh names only what changed, so the state of each binding is kept here (some hundred bytes for each) and told in
//! full. A relay that starts anew reads the topics once and primes this with what they hold.

use crate::event::Delivered;
use crate::publisher::Latest;
use bytes::Bytes;
use serde_json::{Map, Value};
use signalbox_base::Text;
use std::collections::HashMap;

/// Latest state of bindings; key `<tenant>/<user>@<domain>/<binding>/<edge>`.
pub const LOCATION_TOPIC: &str = "signalbox.location.v1";
/// Latest state of backends; key `<edge>/<backend>`. (`signalbox.backend.v1` is the topic of the domain's events.)
pub const BACKEND_STATE_TOPIC: &str = "signalbox.backend-state.v1";

/// Told of a moment, not of the state.
const PASSING: [&str; 4] = ["flow", "received_before", "call_id_before", "cause"];

/// What the compacted topics hold of this edge.
#[derive(Debug, Default)]
pub struct State {
    bindings: HashMap<Text, Box<str>>,
    /// Backends by key, with their tenants.
    backends: HashMap<Text, Text>,
}

impl State {
    /// Takes over a record of one of the topics, as it was read back; records of other edges do no harm but take room.
    pub fn prime(&mut self, topic: &str, key: &str, value: Option<&[u8]>) {
        let value = value.and_then(|bytes| std::str::from_utf8(bytes).ok());
        match (topic, value) {
            (LOCATION_TOPIC, Some(value)) => {
                self.bindings.insert(key.into(), value.into());
            }
            (LOCATION_TOPIC, None) => {
                self.bindings.remove(key);
            }
            (BACKEND_STATE_TOPIC, Some(value)) => {
                let read: Map<String, Value> = serde_json::from_str(value).unwrap_or_default();
                let tenant = read.get("tenant").and_then(Value::as_str).unwrap_or_default();
                self.backends.insert(key.into(), tenant.into());
            }
            (BACKEND_STATE_TOPIC, None) => {
                self.backends.remove(key);
            }
            _ => {}
        }
    }

    /// How many bindings and backends are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len() + self.backends.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records that an event makes.
    pub(super) fn latest(&mut self, event: &Delivered) -> Vec<Latest> {
        let name = event.kind.rsplit_once(".v").map_or("", |(name, _)| name);
        let made = match name {
            "registration.added" | "registration.refreshed" => self.bound(event, name.ends_with("added")),
            "registration.removed" | "registration.expired" => self.unbound(event),
            "backend.state_changed" => self.backend(event),
            "config.applied" => return self.configured(event),
            _ => None,
        };
        made.into_iter().collect()
    }

    fn bound(&mut self, event: &Delivered, anew: bool) -> Option<Latest> {
        let data: Map<String, Value> = serde_json::from_slice(&event.data).ok()?;
        let key = binding_key(event, &data)?;
        let known = self.bindings.get(&key).filter(|_| !anew);
        let mut state: Map<String, Value> =
            known.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        state.extend(data);
        if anew {
            state.insert("registered_at".into(), event.time.to_string().into());
        }
        let body = finished(event, state);
        self.bindings.insert(key.clone(), body.as_str().into());
        Some(record(LOCATION_TOPIC, key, Some(body)))
    }

    fn unbound(&mut self, event: &Delivered) -> Option<Latest> {
        let data: Map<String, Value> = serde_json::from_slice(&event.data).ok()?;
        let key = binding_key(event, &data)?;
        self.bindings.remove(&key);
        Some(record(LOCATION_TOPIC, key, None))
    }

    fn backend(&mut self, event: &Delivered) -> Option<Latest> {
        let data: Map<String, Value> = serde_json::from_slice(&event.data).ok()?;
        let name = data.get("backend").and_then(Value::as_str)?;
        let key = Text::from(format!("{}/{name}", event.source.edge));
        self.backends.insert(key.clone(), event.tenant.clone());
        Some(record(BACKEND_STATE_TOPIC, key, Some(finished(event, data))))
    }

    /// Tombstones for backends that a new configuration no longer names.
    fn configured(&mut self, event: &Delivered) -> Vec<Latest> {
        let data: Map<String, Value> = serde_json::from_slice(&event.data).unwrap_or_default();
        let Some(tenants) = data.get("config").and_then(|config| config.get("tenant")) else {
            return Vec::new();
        };
        let own = format!("{}/", event.source.edge);
        let gone = |(key, tenant): &(&Text, &Text)| {
            let name = key.strip_prefix(own.as_str());
            let backends = tenants.get(&***tenant).and_then(|tenant| tenant.get("backends"));
            name.is_some_and(|name| !backends.is_some_and(|backends| names(backends, name)))
        };
        let mut gone: Vec<Text> = self.backends.iter().filter(gone).map(|(key, _)| key.clone()).collect();
        gone.sort_unstable();
        for key in &gone {
            self.backends.remove(key);
        }
        gone.into_iter().map(|key| record(BACKEND_STATE_TOPIC, key, None)).collect()
    }
}

fn names(backends: &Value, name: &str) -> bool {
    match backends {
        Value::Object(by_name) => by_name.contains_key(name),
        Value::Array(all) => all.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(name)),
        _ => false,
    }
}

fn binding_key(event: &Delivered, data: &Map<String, Value>) -> Option<Text> {
    let text = |name| data.get(name).and_then(Value::as_str);
    let tenant = if event.tenant.is_empty() { "_" } else { &*event.tenant };
    let (aor, binding) = (text("aor")?, text("binding")?);
    Some(format!("{tenant}/{aor}/{binding}/{}", event.source.edge).into())
}

/// The state with what it is as of.
fn finished(event: &Delivered, mut state: Map<String, Value>) -> String {
    state.retain(|name, _| !PASSING.contains(&name.as_str()));
    let tenant = if event.tenant.is_empty() { "_" } else { &*event.tenant };
    state.insert("tenant".into(), tenant.into());
    state.insert("updated_at".into(), event.time.to_string().into());
    state.insert("source".into(), event.source.to_string().into());
    state.insert("sequence".into(), format!("{:020}", event.seq.0).into());
    Value::Object(state).to_string()
}

fn record(topic: &str, key: Text, body: Option<String>) -> Latest {
    let headers = match body {
        Some(_) => vec![("content-type", Text::new("application/json"))],
        None => Vec::new(),
    };
    Latest { address: topic.into(), key, headers, body: body.map(Bytes::from) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample;
    use serde_json::json;

    fn registration(name: &str, data: &Value) -> Delivered {
        let kind = format!("registration.{name}.v1").into();
        let subject = "acme/401@acme.example".into();
        Delivered { kind, subject, data: data.to_string().into_bytes().into(), ..sample() }
    }

    fn added() -> Delivered {
        registration(
            "added",
            &json!({
                "edge": "edge-1", "aor": "401@acme.example", "binding": "b1", "user_agent": "Phone/1",
                "contact": "sip:401@192.0.2.1", "expires_at": "2026-11-21T16:00:00Z", "flow": {"transport": "udp"},
            }),
        )
    }

    fn refreshed() -> Delivered {
        registration(
            "refreshed",
            &json!({
                "edge": "edge-1", "aor": "401@acme.example", "binding": "b1", "contact": "sip:401@192.0.2.1",
                "expires_at": "2026-11-21T17:00:00Z",
            }),
        )
    }

    fn body(latest: &[Latest]) -> Value {
        serde_json::from_slice(latest[0].body.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_refresh_tells_the_whole_state_of_the_binding() {
        let mut state = State::default();
        let first = state.latest(&added());
        assert_eq!(&*first[0].key, "acme/401@acme.example/b1/edge-1");
        assert_eq!(body(&first)["flow"], Value::Null);
        let now = body(&state.latest(&refreshed()));
        assert_eq!(
            (&now["user_agent"], &now["expires_at"]),
            (&json!("Phone/1"), &json!("2026-11-21T17:00:00Z"))
        );
        assert_eq!((&now["tenant"], &now["sequence"]), (&json!("acme"), &json!("00000000000000000042")));
    }

    #[test]
    fn a_relay_that_starts_anew_goes_on_with_what_the_topic_holds() {
        let before = State::default().latest(&added());
        let mut state = State::default();
        state.prime(LOCATION_TOPIC, &before[0].key, before[0].body.as_deref());
        assert_eq!(body(&state.latest(&refreshed()))["user_agent"], "Phone/1");
    }

    #[test]
    fn what_is_gone_leaves_a_tombstone() {
        let mut state = State::default();
        state.latest(&added());
        for name in ["removed", "expired"] {
            let gone =
                state.latest(&registration(name, &json!({"aor": "401@acme.example", "binding": "b1"})));
            assert_eq!((&*gone[0].key, &gone[0].body), ("acme/401@acme.example/b1/edge-1", &None));
        }
        assert!(state.is_empty());
        assert_eq!(state.latest(&registration("rejected", &json!({"aor": "401@acme.example"}))), []);
    }

    #[test]
    fn a_backend_that_a_new_configuration_no_longer_names_leaves_a_tombstone() {
        let mut state = State::default();
        let up = state.latest(&sample());
        assert_eq!((&*up[0].address, &*up[0].key), (BACKEND_STATE_TOPIC, "edge-1/pbx-1"));
        assert_eq!(body(&up)["to"], "down");
        let config = |backends: Value| Delivered {
            kind: "config.applied.v1".into(),
            tenant: "".into(),
            data: json!({"config": {"tenant": {"acme": {"backends": backends}}}})
                .to_string()
                .into_bytes()
                .into(),
            ..sample()
        };
        assert_eq!(state.latest(&config(json!({"pbx-1": {}}))), []);
        let gone = state.latest(&config(json!({"pbx-2": {}})));
        assert_eq!((&*gone[0].key, &gone[0].body), ("edge-1/pbx-1", &None));
    }
}
