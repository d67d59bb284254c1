//! Configurations that came into force or did not.
//!
//! One event has to fit into a journal record and a broker's message, whatever the size of the configuration: what would
//! not fit is counted or named in it, and its SHA-256 is that of the whole.

use super::Fact;
use crate::turn::Turn;
use serde::Serialize;
use serde_json::{Map, Value};
use signalbox_base::Text;
use signalbox_schemas::config::{ConfigApplied, ConfigChange, ConfigError, ConfigRejected};

/// Changes or errors that one event lists.
const LISTED_MAX: usize = 200;
/// Bytes of JSON that they have together.
const LISTED_BYTES_MAX: usize = 128 << 10;
/// Bytes of JSON of a configuration that is told whole: brokers take messages of 1 MiB as they come.
const CONFIG_BYTES_MAX: usize = 512 << 10;

/// A configuration as a command brings it.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Number, rising.
    pub revision: u64,
    /// SHA-256, hexadecimal.
    pub sha256: Text,
    /// Effective configuration as JSON.
    pub effective: Text,
    /// What changed.
    pub diff: Vec<ConfigChange>,
    /// Who asked.
    pub actor: Text,
}

/// A configuration came into force.
#[must_use]
pub fn applied(turn: &Turn<'_>, applied: Applied) -> Fact {
    let (config, omitted) = told(&applied.effective);
    let (diff, more) = listed(applied.diff);
    let event = ConfigApplied {
        edge: turn.edge(),
        revision: applied.revision,
        sha256: applied.sha256,
        config,
        omitted,
        diff,
        more,
        actor: Some(applied.actor),
    };
    Fact::new(event, Text::new("config"), turn.now.wall)
}

/// A configuration was refused.
#[must_use]
pub fn rejected(turn: &Turn<'_>, errors: Vec<ConfigError>, actor: Text) -> Fact {
    let (errors, more) = listed(errors);
    let event = ConfigRejected {
        edge: turn.edge(),
        revision: turn.state.config().revision,
        sha256: None,
        errors,
        more,
        actor: Some(actor),
    };
    Fact::new(event, Text::new("config"), turn.now.wall)
}

/// The first of a list, and how many more there are.
fn listed<T: Serialize>(mut all: Vec<T>) -> (Vec<T>, Option<u64>) {
    let mut bytes = 0;
    let mut fits = |item: &T| {
        bytes += size(item);
        bytes <= LISTED_BYTES_MAX
    };
    let fitting = all.iter().take(LISTED_MAX).take_while(|item| fits(item)).count();
    let more = all.len() - fitting;
    all.truncate(fitting);
    (all, (more > 0).then_some(more as u64))
}

/// A configuration without its largest parts, if it is too large, and the names of those.
fn told(effective: &str) -> (Map<String, Value>, Vec<Text>) {
    let mut config = match serde_json::from_str(effective) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut omitted = Vec::new();
    let mut left = effective.len();
    while left > CONFIG_BYTES_MAX {
        let largest = config.iter().map(|(key, part)| (size(part), key.clone())).max();
        let Some((bytes, key)) = largest else { break };
        config.remove(&key);
        omitted.push(Text::from(key));
        left = left.saturating_sub(bytes);
    }
    (config, omitted)
}

/// Bytes as JSON.
fn size(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_configuration_of_any_size_then_what_is_told_of_it_is_bounded_and_what_is_left_out_is_named() {
        let tenants: Vec<Value> =
            (0..20_000).map(|i| format!("tenant {i}, of which there are many").into()).collect();
        let whole = serde_json::json!({ "edge": { "name": "a" }, "tenant": tenants }).to_string();
        assert!(whole.len() > CONFIG_BYTES_MAX);
        let (config, omitted) = told(&whole);
        assert_eq!((config.len(), omitted), (1, vec![Text::new("tenant")]));
        assert_eq!(told(r#"{"edge":{},"tenant":[]}"#).1, Vec::<Text>::new());
    }

    #[test]
    fn given_many_changes_or_long_ones_then_the_first_are_listed_and_the_rest_counted() {
        let change = |key: &str| ConfigChange { key: Text::new(key), ..ConfigChange::default() };
        let (few, more) = listed(vec![change("a"), change("b")]);
        assert_eq!((few.len(), more), (2, None));
        let (many, more) = listed(vec![change("a"); 6_000]);
        assert_eq!((many.len(), more), (LISTED_MAX, Some(5_800)));
        let (long, more) = listed(vec![change(&"x".repeat(100 << 10)); 3]);
        assert_eq!((long.len(), more), (1, Some(2)));
    }
}
