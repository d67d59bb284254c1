//! A released schema never changes: its bytes are frozen, and a later minor of it only adds what is optional.

use crate::{here, json};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signalbox_schemas::{Kind, schema};
use std::fmt::Write;

/// Schemas of 0.1.0.
const FIRST_RELEASE: usize = 33;

/// The lock's lines as hash and path.
fn lock_lines(lock: &str) -> Vec<(&str, &str)> {
    let lines = lock.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once("  ").unwrap_or_else(|| panic!("released.lock: {line}"))).collect()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What in `new` breaks a reader or writer of `old`, by place. Optional fields, words and descriptions may be added.
fn breaks(old: &Value, new: &Value, place: &str, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            // Below these two, keys are names of fields and types and not words of JSON Schema.
            let names = ["properties", "$defs"].iter().any(|name| place.ends_with(&format!("/{name}")));
            for (key, was) in old {
                let place = format!("{place}/{key}");
                match (if names { "" } else { key.as_str() }, new.get(key)) {
                    ("description" | "title" | "$id" | "x-personal-data", _) => {}
                    (_, None) => found.push(format!("{place} is gone")),
                    ("required", Some(is)) if was != is => found.push(format!("{place} changed")),
                    ("enum", Some(is)) => {
                        let is = is.as_array().cloned().unwrap_or_default();
                        let gone = was.as_array().into_iter().flatten().filter(|word| !is.contains(word));
                        found.extend(gone.map(|word| format!("{place} lost {word}")));
                    }
                    (_, Some(is)) => breaks(was, is, &place, found),
                }
            }
            let harmless = |key: &str| ["description", "title", "x-personal-data"].contains(&key);
            let added = new.keys().filter(|key| !old.contains_key(*key) && !names && !harmless(key));
            found.extend(added.map(|key| format!("{place}/{key} is new")));
        }
        _ if old != new => found.push(format!("{place} changed")),
        _ => {}
    }
}

fn faults(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    breaks(old, new, "", &mut found);
    found
}

#[test]
fn promise_9_released_schemas_are_as_they_were_released() {
    let lock = std::fs::read_to_string(here("released.lock")).unwrap();
    for (hash, path) in lock_lines(&lock) {
        let text = std::fs::read_to_string(here("json").join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(
            sha256(&text),
            hash,
            "{path} is released and must not change: raise the kind's minor instead"
        );
        let kind = path.split_once('/').and_then(|(name, _)| Kind::from_type_name(name));
        if let Some(kind) = kind {
            let faults = faults(&json(&text), &json(&schema::of(kind)));
            assert!(faults.is_empty(), "{path}: this needs v{}: {faults:#?}", kind.version() + 1);
        }
    }
}

#[test]
fn the_lock_is_read_line_by_line() {
    assert_eq!(lock_lines("# why\n\nab12  t/1.0.json\n"), [("ab12", "t/1.0.json")]);
    assert_eq!(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

fn synthetic() -> Value {
    json!({ "$id": "x/1.0.json", "required": ["a"], "properties": {
        "a": { "type": "string", "description": "A" },
        "b": { "$ref": "#/$defs/Word" },
        "title": { "type": "string" },
    }, "$defs": { "Word": { "type": "string", "enum": ["x", "unknown"] } } })
}

#[test]
fn given_a_release_when_optional_fields_words_or_descriptions_are_added_then_it_holds() {
    let mut new = synthetic();
    new["$id"] = json!("x/1.1.json");
    new["properties"]["c"] = json!({ "$ref": "#/$defs/Other" });
    new["$defs"]["Other"] = json!({ "type": "integer" });
    new["$defs"]["Word"]["enum"] = json!(["x", "z", "unknown"]);
    new["properties"]["a"]["description"] = json!("A, said better");
    assert_eq!(faults(&synthetic(), &new), [""; 0]);
}

#[test]
fn given_a_release_when_anything_else_changes_then_it_is_named() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("/properties/a is gone", |s| drop(s["properties"].as_object_mut().unwrap().remove("a"))),
        ("/properties/title is gone", |s| drop(s["properties"].as_object_mut().unwrap().remove("title"))),
        ("/properties/a/type changed", |s| s["properties"]["a"]["type"] = json!("integer")),
        ("/properties/a/pattern is new", |s| s["properties"]["a"]["pattern"] = json!("^x$")),
        ("/required changed", |s| s["required"] = json!(["a", "b"])),
        ("/required changed", |s| s["required"] = json!([])),
        ("/$defs/Word/enum lost \"x\"", |s| s["$defs"]["Word"]["enum"] = json!(["unknown"])),
        ("/additionalProperties is new", |s| s["additionalProperties"] = json!(false)),
    ];
    for (fault, change) in changes {
        let mut new = synthetic();
        change(&mut new);
        assert_eq!(faults(&synthetic(), &new), [*fault]);
    }
}

#[test]
fn promise_9_given_any_released_schema_when_a_field_is_removed_retyped_or_required_then_the_gate_fails() {
    let lock = std::fs::read_to_string(here("released.lock")).unwrap();
    let released = lock_lines(&lock);
    // What later releases add is locked when they are released.
    assert!(released.len() >= FIRST_RELEASE, "every event of 0.1.0 and the envelope");
    for (_, path) in released {
        let schema = json(&std::fs::read_to_string(here("json").join(path)).unwrap());
        assert_eq!(faults(&schema, &schema), [""; 0], "{path}");
        for field in schema["properties"].as_object().unwrap().keys() {
            let (mut removed, mut retyped, mut required) = (schema.clone(), schema.clone(), schema.clone());
            removed["properties"].as_object_mut().unwrap().remove(field);
            retyped["properties"][field] = json!({ "type": "null" });
            let needed = required["required"].as_array_mut().unwrap();
            if needed.contains(&json!(field)) {
                needed.retain(|name| name != field);
            } else {
                needed.push(json!(field));
            }
            for (what, changed) in [("removed", removed), ("retyped", retyped), ("required or not", required)]
            {
                assert!(!faults(&schema, &changed).is_empty(), "{path}: {field} {what}");
            }
        }
        let mut added = schema.clone();
        added["properties"]["added_later"] = json!({ "type": "string", "description": "New." });
        assert_eq!(faults(&schema, &added), [""; 0], "{path}: an optional field may be added");
    }
}
