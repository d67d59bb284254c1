//! Configurations that came into force or did not.

use super::Fact;
use crate::turn::Turn;
use serde_json::{Map, Value};
use signalbox_base::Text;
use signalbox_schemas::config::{ConfigApplied, ConfigChange, ConfigError, ConfigRejected};

/// A configuration as a command brings it.
#[derive(Clone, Debug)]
pub struct Applied<'a> {
    /// Number, rising.
    pub revision: u64,
    /// SHA-256, hexadecimal.
    pub sha256: &'a Text,
    /// Effective configuration as JSON.
    pub effective: &'a str,
    /// One line a change: `key: before → after`.
    pub diff: &'a [Text],
    /// Who asked.
    pub actor: &'a Text,
}

/// A configuration came into force.
#[must_use]
pub fn applied(turn: &Turn<'_>, applied: &Applied<'_>) -> Fact {
    let config = match serde_json::from_str(applied.effective) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let event = ConfigApplied {
        edge: turn.edge(),
        revision: applied.revision,
        sha256: applied.sha256.clone(),
        config,
        diff: applied.diff.iter().map(|line| change(line)).collect(),
        actor: Some(applied.actor.clone()),
    };
    Fact::new(event, Text::new("config"), turn.now.wall)
}

/// A configuration was refused.
#[must_use]
pub fn rejected(turn: &Turn<'_>, errors: &[Text], actor: &Text) -> Fact {
    let event = ConfigRejected {
        edge: turn.edge(),
        revision: turn.state.config().revision,
        sha256: None,
        errors: errors
            .iter()
            .map(|line| ConfigError { message: line.clone(), ..ConfigError::default() })
            .collect(),
        actor: Some(actor.clone()),
    };
    Fact::new(event, Text::new("config"), turn.now.wall)
}

/// `key: before → after`; a side that is absent or `-` did not exist.
fn change(line: &str) -> ConfigChange {
    let Some((key, values)) = line.split_once(": ") else {
        return ConfigChange { key: Text::new(line), ..ConfigChange::default() };
    };
    let (from, to) = values.split_once(" → ").unwrap_or(("-", values));
    let value = |text: &str| {
        (text != "-").then(|| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
    };
    ConfigChange { key: Text::new(key), from: value(from), to: value(to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_diff_becomes_key_before_and_after() {
        let told = change("tenant.acme.backends[0].weight: 1 → 2");
        assert_eq!(&*told.key, "tenant.acme.backends[0].weight");
        assert_eq!((told.from, told.to), (Some(Value::from(1)), Some(Value::from(2))));
        let new = change("listener[1].address: - → udp:0.0.0.0:5070");
        assert_eq!((new.from, new.to), (None, Some(Value::from("udp:0.0.0.0:5070"))));
    }
}
