//! Every effective value with where it came from, and the difference between two configurations.

use super::load::Loaded;
use super::settings::effective_json;
use serde_json::Value;
use std::collections::BTreeMap;

/// A line of `check --explain`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Explained {
    /// `tenant[0].backends[1].address`
    pub key: String,
    /// The value as JSON.
    pub value: String,
    /// `file:line:column`, a variable, or `default`.
    pub origin: String,
}

/// Each effective value and its origin, in order of key.
#[must_use]
pub fn explain(loaded: &Loaded) -> Vec<Explained> {
    let leaves = leaves(&effective_json(&loaded.file));
    let origin = |key: &str| match loaded.sources.origins.get(key) {
        Some(origin) => loaded.sources.place(origin),
        None => "default".to_owned(),
    };
    leaves.into_iter().map(|(key, value)| Explained { origin: origin(&key), key, value }).collect()
}

/// One line a changed key: `journal.retain: "30d" → "7d"`.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Vec<String> {
    let (old, new) = (leaves(old), leaves(new));
    let mut keys: Vec<_> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let line = |key: &&String| match (old.get(*key), new.get(*key)) {
        (Some(a), Some(b)) if a == b => None,
        (a, b) => {
            let show = |v: Option<&String>| v.map_or("–".to_owned(), String::clone);
            Some(format!("{key}: {} → {}", show(a), show(b)))
        }
    };
    keys.iter().filter_map(line).collect()
}

fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    collect(value, String::new(), &mut out);
    out
}

fn collect(value: &Value, path: String, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(value, path, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (i, value) in list.iter().enumerate() {
                collect(value, format!("{path}[{i}]"), out);
            }
        }
        leaf => {
            out.insert(path, leaf.to_string());
        }
    }
}
