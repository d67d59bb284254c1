//! The AsyncAPI 3.0 document: what subscribers find on NATS, on Kafka, and on an edge's own port.
//!
//! On NATS and over HTTP an event is one JSON text (structured mode); on Kafka its attributes are headers and the value is
//! its data (binary mode). So each event is two messages, of the same schemas.

use crate::catalogue::Kind;
use crate::envelope::CONTENT_TYPE;
use crate::schema::{ENVELOPE_PATH, envelope_schema, path, sorted};
use crate::yaml;
use serde_json::{Map, Value, json};

const SCHEMA_FORMAT: &str = "application/schema+json;version=draft-2020-12";

/// The document as YAML. Its references are relative to its place, `schemas/json/`.
#[must_use]
pub fn asyncapi() -> String {
    yaml::write(&sorted(document()))
}

fn document() -> Value {
    let mut domains: Vec<&str> = Kind::ALL.iter().map(|kind| kind.domain()).collect();
    domains.dedup();
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut add = |name: String, channel: Value, summary: String| {
        let channel_of = json!({ "$ref": format!("#/channels/{name}") });
        let operation = json!({ "action": "send", "summary": summary, "channel": channel_of });
        operations.insert(format!("send_{name}"), operation);
        channels.insert(name, channel);
    };
    for domain in &domains {
        let told = format!("Signalbox publishes {domain} events");
        add((*domain).to_owned(), on_nats(domain), format!("{told} to NATS JetStream."));
        add(format!("{domain}_kafka"), on_kafka(domain), format!("{told} to Kafka."));
        add(
            format!("{domain}_kafka_tenant"),
            of_tenant(domain),
            format!("{told} to each tenant's own topic."),
        );
    }
    let streams = "An edge streams its events to a client without a broker.".to_owned();
    add("http".to_owned(), on_http(), streams);
    operations["send_http"]["bindings"] = http_binding();
    let structured = Kind::ALL.iter().map(|kind| (kind.short().to_owned(), structured(*kind)));
    let binary = Kind::ALL.iter().map(|kind| (binary_name(*kind), binary(*kind)));
    let messages: Map<String, Value> = structured.chain(binary).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Signalbox events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Everything a Signalbox edge decides, as CloudEvents 1.0.2. \
                Deduplicate by source and sequence; read what you know and ignore the rest.",
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": servers(),
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "messageTraits": { "binary": binary_trait() } },
    })
}

fn servers() -> Value {
    let host = |port: &str| json!({ "host": { "description": "Where the server is.", "default": format!("127.0.0.1:{port}") } });
    json!({
        "nats": {
            "host": "{host}", "protocol": "nats", "variables": host("4222"),
            "description": "NATS 2.10 or later with JetStream: streams SIGNALBOX_CALL, SIGNALBOX_REGISTRATION, \
                SIGNALBOX_SECURITY and SIGNALBOX_OPERATIONS hold the subjects. An event that is read again has the same \
                Nats-Msg-Id.",
        },
        "kafka": {
            "host": "{host}", "protocol": "kafka", "variables": host("9092"),
            "description": "Apache Kafka. Events of one key are in one partition, in order.",
        },
        "edge": {
            "host": "{host}", "protocol": "http", "variables": host("8060"),
            "description": "The edge's read-only admin port: on its own machine, or with a token.",
        },
    })
}

fn of_domain(domain: &str) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(move |kind| kind.domain() == domain)
}

/// The part after the domain, `ended`.
fn past_tense(kind: Kind) -> &'static str {
    kind.short().split_once('.').map_or(kind.short(), |(_, name)| name)
}

fn on_nats(domain: &str) -> Value {
    json!({
        "address": format!("signalbox.v1.{domain}.{{event}}.{{tenant}}.{{edge}}"),
        "title": format!("{domain} events on NATS"),
        "servers": [{ "$ref": "#/servers/nats" }],
        "parameters": {
            "event": {
                "description": "The event in the past tense, without its domain.",
                "enum": of_domain(domain).map(past_tense).collect::<Vec<_>>(),
            },
            "tenant": { "description": "The tenant's name; _ for none." },
            "edge": { "description": "The name of the edge that the event comes from." },
        },
        "messages": messages(of_domain(domain), |kind| kind.short().to_owned()),
    })
}

fn on_kafka(domain: &str) -> Value {
    let topic = format!("signalbox.{domain}.v1");
    json!({
        "address": topic,
        "title": format!("{domain} events on Kafka"),
        "servers": [{ "$ref": "#/servers/kafka" }],
        "messages": messages(of_domain(domain), binary_name),
        "bindings": { "kafka": topic_binding(&topic) },
    })
}

fn of_tenant(domain: &str) -> Value {
    let topic = format!("signalbox.tenant.{{tenant}}.{domain}.v1");
    json!({
        "address": topic,
        "title": format!("{domain} events of one tenant on Kafka, with topics = \"per_tenant\""),
        "servers": [{ "$ref": "#/servers/kafka" }],
        "parameters": { "tenant": { "description": "The tenant's name." } },
        "messages": messages(of_domain(domain), binary_name),
        "bindings": { "kafka": topic_binding(&topic) },
    })
}

fn topic_binding(topic: &str) -> Value {
    json!({
        "topic": topic,
        "topicConfiguration": { "cleanup.policy": ["delete"], "max.message.bytes": 2_097_152 },
        "bindingVersion": "0.5.0",
    })
}

fn on_http() -> Value {
    json!({
        "address": "/events",
        "title": "Events as server-sent events",
        "description": "Each has the event's id as its position: send the last one as Last-Event-ID to go on there.",
        "servers": [{ "$ref": "#/servers/edge" }],
        "messages": messages(Kind::ALL.iter().copied(), |kind| kind.short().to_owned()),
    })
}

/// How the stream is asked for.
fn http_binding() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    json!({ "http": {
        "method": "GET",
        "query": { "type": "object", "properties": {
            "domain": text("Only these domains, by comma."),
            "tenant": text("Only these tenants, by comma; _ for events without one."),
            "type": text("Only these types, by comma: call.ended."),
            "from": text("A moment (RFC 3339), beginning, now, or a position."),
        }},
        "bindingVersion": "0.3.0",
    }})
}

fn messages(kinds: impl Iterator<Item = Kind>, name: impl Fn(Kind) -> String) -> Map<String, Value> {
    kinds
        .map(|kind| {
            let reference = json!({ "$ref": format!("#/components/messages/{}", name(kind)) });
            (format!("{}_{}", kind.domain(), past_tense(kind)), reference)
        })
        .collect()
}

fn structured(kind: Kind) -> Value {
    json!({
        "name": kind.type_name(),
        "title": kind.short(),
        "summary": kind.description(),
        "contentType": CONTENT_TYPE,
        "payload": {
            "schemaFormat": SCHEMA_FORMAT,
            "schema": {
                "allOf": [
                    { "$ref": format!("./{ENVELOPE_PATH}") },
                    { "type": "object", "properties": {
                        "type": { "const": kind.type_name() },
                        "data": { "$ref": format!("./{}", path(kind)) },
                    }},
                ],
            },
        },
    })
}

fn binary_name(kind: Kind) -> String {
    format!("{}.binary", kind.short())
}

fn binary(kind: Kind) -> Value {
    json!({
        "name": format!("{} in binary mode", kind.type_name()),
        "title": kind.short(),
        "summary": kind.description(),
        "contentType": "application/json",
        "traits": [{ "$ref": "#/components/messageTraits/binary" }],
        "payload": { "schemaFormat": SCHEMA_FORMAT, "schema": { "$ref": format!("./{}", path(kind)) } },
    })
}

/// What all messages on Kafka have in common: the attributes as headers, and the key.
fn binary_trait() -> Value {
    let envelope = envelope_schema();
    let inside = |name: &str| matches!(name, "data" | "datacontenttype");
    let attributes = envelope["properties"].as_object().into_iter().flatten();
    let headers: Map<String, Value> = attributes
        .filter(|(name, _)| !inside(name))
        .map(|(name, schema)| {
            let about = schema["description"].as_str().unwrap_or_default();
            (format!("ce_{name}"), json!({ "type": "string", "description": about }))
        })
        .collect();
    let required = envelope["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let required: Vec<String> =
        required.filter(|name| !inside(name)).map(|name| format!("ce_{name}")).collect();
    json!({
        "headers": { "type": "object", "properties": headers, "required": required },
        "bindings": { "kafka": {
            "key": { "type": "string", "description": "The partitionkey: tenant and aggregate." },
            "bindingVersion": "0.5.0",
        }},
    })
}
