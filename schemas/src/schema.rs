//! The published contract, generated from the types: JSON Schemas (2020-12) and the AsyncAPI document.
//!
//! What stands in `schemas/json/` is exactly [`files`]; a test compares them.

use crate::catalogue::Kind;
use crate::envelope::{OwnedEnvelope, SCHEMA_BASE, SchemaPath};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

pub use crate::asyncapi::asyncapi;

/// The envelope's place under [`SCHEMA_BASE`] and in `schemas/json/`.
pub const ENVELOPE_PATH: &str = "envelope/1.0.json";

/// The JSON Schema of a kind's `data`, as text.
#[must_use]
pub fn of(kind: Kind) -> String {
    text(data_schema(kind))
}

/// The JSON Schema of the envelope, as text.
#[must_use]
pub fn envelope() -> String {
    text(envelope_schema())
}

/// The schema that a person names: `call.ended`, the full type name in the version of this release, or `envelope`.
#[must_use]
pub fn show(name: &str) -> Option<String> {
    if name == "envelope" {
        return Some(envelope());
    }
    let kind = Kind::from_short(name).or_else(|| {
        let (kind, version) = Kind::parse(name)?;
        (kind.version() == version).then_some(kind)
    })?;
    Some(of(kind))
}

/// Every generated file: its path under `schemas/json/` and its text.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let events = Kind::ALL.iter().map(|kind| (path(*kind), of(*kind)));
    let rest = [(ENVELOPE_PATH.to_owned(), envelope()), ("asyncapi.yaml".to_owned(), asyncapi())];
    events.chain(rest).collect()
}

/// `io.signalbox.call.ended.v1/1.0.json`: the place of a kind's schema in `schemas/json/`.
#[must_use]
pub fn path(kind: Kind) -> String {
    SchemaPath(kind).to_string()
}

pub(crate) fn data_schema(kind: Kind) -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = kind.data_schema(generator).to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$id".to_owned(), json!(format!("{SCHEMA_BASE}/{}", SchemaPath(kind))));
        fields.insert("title".to_owned(), json!(kind.type_name()));
        fields.insert("x-aggregate".to_owned(), json!(kind.aggregate().as_str()));
    }
    without_null(schema)
}

pub(crate) fn envelope_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<OwnedEnvelope>().to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$id".to_owned(), json!(format!("{SCHEMA_BASE}/{ENVELOPE_PATH}")));
        fields.insert("title".to_owned(), json!("envelope"));
    }
    without_null(schema)
}

/// An absent value is a field left out, never `null`; a schema that allows both would say less than is true.
fn without_null(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(without_null).collect()),
        Value::Object(fields) => {
            let mut out = Map::new();
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("type", Value::Array(types)) => {
                        let mut types: Vec<Value> = types.into_iter().filter(|t| t != "null").collect();
                        let single = types.len() == 1;
                        out.insert(key, if single { types.remove(0) } else { Value::Array(types) });
                    }
                    ("anyOf", Value::Array(branches)) => {
                        let null = json!({ "type": "null" });
                        let mut branches: Vec<Value> =
                            branches.into_iter().filter(|b| *b != null).map(without_null).collect();
                        match branches.pop() {
                            Some(Value::Object(only)) if branches.is_empty() => out.extend(only),
                            last => {
                                branches.extend(last);
                                out.insert(key, Value::Array(branches));
                            }
                        }
                    }
                    (_, value) => {
                        out.insert(key, without_null(value));
                    }
                }
            }
            Value::Object(out)
        }
        other => other,
    }
}

/// Pretty JSON with sorted keys, so that it does not depend on how `serde_json` was built.
fn text(schema: Value) -> String {
    format!("{:#}\n", sorted(schema))
}

pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_finds_a_schema_by_any_of_its_names() {
        let ended = of(Kind::CallEnded);
        for name in ["call.ended", "call.ended.v1", "io.signalbox.call.ended.v1"] {
            assert_eq!(show(name).as_ref(), Some(&ended), "{name}");
        }
        assert_eq!(show("envelope"), Some(envelope()));
        for name in ["call.ended.v2", "call", "nothing.v1"] {
            assert_eq!(show(name), None, "{name}");
        }
    }

    #[test]
    fn null_is_taken_out_of_optional_values_only() {
        let schema = json!({ "properties": {
            "a": { "type": ["string", "null"] },
            "b": { "description": "B", "anyOf": [{ "$ref": "#/$defs/B" }, { "type": "null" }] },
            "c": { "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] },
        }});
        let expected = json!({ "properties": {
            "a": { "type": "string" },
            "b": { "description": "B", "$ref": "#/$defs/B" },
            "c": { "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] },
        }});
        assert_eq!(without_null(schema), expected);
    }
}
