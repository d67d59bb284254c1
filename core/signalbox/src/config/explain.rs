//! Every effective value with where it came from, and the difference between two configurations.

use super::load::Loaded;
use super::settings::effective_json;
use serde_json::Value;
use signalbox_base::Text;
use signalbox_schemas::config::ConfigChange;
use std::collections::{BTreeMap, BTreeSet};

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
    let leaves = leaves(&effective_json(&loaded.file), Called::ByPlace);
    let origin = |key: &str| match loaded.sources.origins.get(key) {
        Some(origin) => loaded.sources.place(origin),
        None => "default".to_owned(),
    };
    let line =
        |(key, value): (String, Value)| Explained { origin: origin(&key), key, value: value.to_string() };
    leaves.into_iter().map(line).collect()
}

/// What changed, by key. Things in a list that have names are called by them: `tenant.acme.backends.pbx-1.weight`.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Vec<ConfigChange> {
    let (mut old, mut new) = (leaves(old, Called::ByName), leaves(new, Called::ByName));
    let keys: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
    let changed = keys.into_iter().filter_map(|key| {
        let (from, to) = (old.remove(&key), new.remove(&key));
        (from != to).then(|| ConfigChange { key: Text::from(key), from, to })
    });
    changed.collect()
}

/// A change for people: `journal.retain: "30d" → "7d"`.
#[must_use]
pub fn show(change: &ConfigChange) -> String {
    let side = |value: &Option<Value>| value.as_ref().map_or("–".to_owned(), ToString::to_string);
    format!("{}: {} → {}", change.key, side(&change.from), side(&change.to))
}

/// How the parts of a list are called: by their places, or by their names where each has one of its own.
#[derive(Clone, Copy, PartialEq)]
enum Called {
    ByPlace,
    ByName,
}

impl Called {
    fn parts(self, list: &[Value]) -> Vec<String> {
        let by_place = || (0..list.len()).map(|at| format!("[{at}]")).collect();
        let names: Option<Vec<&str>> = list.iter().map(|part| part.get("name")?.as_str()).collect();
        let apart = |names: &Vec<&str>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
        match names.filter(|names| self == Self::ByName && apart(names)) {
            Some(names) => names.into_iter().map(|name| format!(".{name}")).collect(),
            None => by_place(),
        }
    }
}

fn leaves(value: &Value, called: Called) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    collect(value, String::new(), called, &mut out);
    out
}

fn collect(value: &Value, path: String, called: Called, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(value, path, called, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (part, value) in called.parts(list).into_iter().zip(list) {
                collect(value, format!("{path}{part}"), called, out);
            }
        }
        leaf => {
            out.insert(path, leaf.clone());
        }
    }
}
