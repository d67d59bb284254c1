//! `SIGNALBOX__SECTION__KEY` overrides a value of a single table.

use super::span::{Origin, Problem, Problems, Sources};

/// Tables that the environment may override; lists have no name to address them by.
const SECTIONS: [&str; 9] = ["edge", "probe", "sip", "journal", "bus", "cluster", "store", "admin", "log"];
/// Tables in them.
const INNER: [(&str, &str); 3] = [("bus", "nats"), ("bus", "kafka"), ("bus", "max_age")];
const PREFIX: &str = "SIGNALBOX__";

/// Puts the environment's values over the files'.
///
/// # Errors
/// A variable that names no section and key.
pub fn overlay(
    into: &mut toml::Table,
    sources: &mut Sources,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for (name, value) in environment.filter(|(name, _)| name.starts_with(PREFIX)) {
        let lower = name[PREFIX.len()..].to_ascii_lowercase();
        let parts: Vec<&str> = lower.split("__").collect();
        match parts[..] {
            [section, key] if SECTIONS.contains(&section) && !key.is_empty() => {
                sources.origins.insert(format!("{section}.{key}"), Origin::Env(name));
                put(into, &[section], key, &value);
            }
            [section, inner, key] if INNER.contains(&(section, inner)) && !key.is_empty() => {
                sources.origins.insert(format!("{section}.{inner}.{key}"), Origin::Env(name));
                put(into, &[section, inner], key, &value);
            }
            _ => problems.push(Problem {
                place: format!("${name}"),
                path: String::new(),
                message: "names no section and key".into(),
                excerpt: None,
                fix: format!("write {PREFIX}SECTION__KEY with a section of: {}", SECTIONS.join(", ")),
            }),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn put(into: &mut toml::Table, tables: &[&str], key: &str, value: &str) {
    match tables {
        [] => {
            into.insert(key.to_owned(), typed(value));
        }
        [first, rest @ ..] => {
            let slot = into.entry(*first).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(table) = slot {
                put(table, rest, key, value);
            }
        }
    }
}

/// Integers and booleans as such, everything else as text.
fn typed(value: &str) -> toml::Value {
    match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(i), _) => toml::Value::Integer(i),
        (_, Ok(b)) => toml::Value::Boolean(b),
        _ => toml::Value::String(value.to_owned()),
    }
}
