//! The published contract of events, held against what the edge says by software that is not ours.

use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Checks whole histories: each event by the envelope's schema and the one it names itself, numbers without gaps, ids
/// and causes that exist.
///
/// # Panics
/// Something breaks the contract; the event is shown.
pub fn check(events: &[Value]) {
    let envelope = validator("envelope/1.0.json");
    let mut schemas: BTreeMap<String, Validator> = BTreeMap::new();
    let mut numbers = Numbers::default();
    for event in events {
        assert_valid(&envelope, event, event);
        let named = text(event, "dataschema")
            .strip_prefix("urn:signalbox:schemas/")
            .expect("a schema of ours")
            .to_owned();
        let schema = schemas.entry(named.clone()).or_insert_with(|| validator(&named));
        assert_valid(schema, &event["data"], event);
        numbers.check(event);
    }
}

/// What is checked across events: each number comes after the one before it.
#[derive(Default)]
struct Numbers {
    last: BTreeMap<(String, String), u64>,
}

impl Numbers {
    fn check(&mut self, event: &Value) {
        let source = text(event, "source").to_owned();
        let domain = text(event, "type").split('.').nth(2).expect("a domain").to_owned();
        let sequence = self.follows(event, (source.clone(), String::new()), "sequence");
        self.follows(event, (source, domain), "domainsequence");
        let journal = text(event, "source").rsplit(':').next().unwrap_or_default();
        assert_eq!(text(event, "id"), format!("{journal}.{sequence}"), "{event}");
        if let Some(cause) = event["causationid"].as_str() {
            let number: u64 =
                cause.rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{event}"));
            assert!(cause.starts_with(journal) && number < sequence, "a cause comes first: {event}");
        }
    }

    fn follows(&mut self, event: &Value, key: (String, String), attribute: &str) -> u64 {
        let number: u64 = text(event, attribute).parse().unwrap_or_else(|_| panic!("{attribute}: {event}"));
        let before = self.last.insert(key, number);
        assert!(before.is_none_or(|before| number == before + 1), "{attribute} after {before:?}: {event}");
        number
    }
}

/// A text attribute of an event.
///
/// # Panics
/// It has none of that name.
#[must_use]
pub fn text<'e>(event: &'e Value, attribute: &str) -> &'e str {
    event[attribute].as_str().unwrap_or_else(|| panic!("{attribute} is missing: {event}"))
}

/// The short types of events in order: `call.ended`.
#[must_use]
pub fn types(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| short(text(event, "type")).to_owned()).collect()
}

fn short(kind: &str) -> &str {
    let kind = kind.trim_start_matches("io.signalbox.");
    kind.rsplit_once(".v").map_or(kind, |(short, _)| short)
}

fn assert_valid(validator: &Validator, value: &Value, event: &Value) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{event:#}");
}

fn validator(path: &str) -> Validator {
    let file = published().join(path);
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Where the schemas are published.
#[must_use]
pub fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/json")
}
