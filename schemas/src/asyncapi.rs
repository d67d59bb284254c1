//! The AsyncAPI 3.0 document: a channel per domain, a message per event.

use crate::catalogue::Kind;
use crate::envelope::CONTENT_TYPE;
use crate::schema::{ENVELOPE_PATH, path, sorted};
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
    let channels: Map<String, Value> = domains.iter().map(|d| ((*d).to_owned(), channel(d))).collect();
    let operations: Map<String, Value> =
        domains.iter().map(|d| (format!("send_{d}"), operation(d))).collect();
    let messages: Map<String, Value> =
        Kind::ALL.iter().map(|kind| (kind.short().to_owned(), message(*kind))).collect();
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
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages },
    })
}

fn of_domain(domain: &str) -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(move |kind| kind.domain() == domain)
}

/// The part after the domain, `ended`.
fn past_tense(kind: Kind) -> &'static str {
    kind.short().split_once('.').map_or(kind.short(), |(_, name)| name)
}

fn channel(domain: &str) -> Value {
    let messages: Map<String, Value> = of_domain(domain)
        .map(|kind| {
            let reference = json!({ "$ref": format!("#/components/messages/{}", kind.short()) });
            (past_tense(kind).to_owned(), reference)
        })
        .collect();
    json!({
        "address": format!("signalbox.v1.{domain}.{{event}}.{{tenant}}.{{edge}}"),
        "title": format!("{domain} events"),
        "parameters": {
            "event": {
                "description": "The event in the past tense, without its domain.",
                "enum": of_domain(domain).map(past_tense).collect::<Vec<_>>(),
            },
            "tenant": { "description": "The tenant's name; _ for none." },
            "edge": { "description": "The name of the edge that the event comes from." },
        },
        "messages": messages,
    })
}

fn operation(domain: &str) -> Value {
    json!({
        "action": "send",
        "summary": format!("Signalbox publishes {domain} events."),
        "channel": { "$ref": format!("#/channels/{domain}") },
    })
}

fn message(kind: Kind) -> Value {
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
