//! The files of `schemas/json/` are those that the types generate, and they say what a reader needs.

use crate::{here, json, tree};
use serde_json::Value;
use signalbox_schemas::{Kind, page, schema};
use std::collections::BTreeSet;
use std::fs;

const HOW: &str = "regenerate with: SIGNALBOX_BLESS=1 cargo test -p signalbox-schemas";

#[test]
fn generated_schemas_equal_the_checked_in_ones() {
    let dir = here("json");
    let generated: BTreeSet<(String, String)> = schema::files().into_iter().collect();
    if std::env::var_os("SIGNALBOX_BLESS").is_some() {
        for (path, text) in &generated {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    let checked_in: BTreeSet<(String, String)> = tree(&dir).into_iter().collect();
    let stale: Vec<&str> = generated.difference(&checked_in).map(|(path, _)| path.as_str()).collect();
    assert_eq!(stale, [""; 0], "differ from the types; {HOW}");
    // Older schemas stay for ever; anything else that nobody generates is a mistake.
    let paths: BTreeSet<&String> = generated.iter().map(|(path, _)| path).collect();
    let lock = fs::read_to_string(here("released.lock")).unwrap();
    let stray =
        checked_in.iter().map(|(p, _)| p).filter(|p| !paths.contains(p) && !lock.contains(p.as_str()));
    assert_eq!(stray.collect::<Vec<_>>(), [""; 0], "neither generated nor released: remove them");
}

/// Calls `see` for every property of the schema: where it stands, its name, its schema.
fn properties<'a>(schema: &'a Value, place: &str, see: &mut dyn FnMut(String, &'a str, &'a Value)) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                if let ("properties", Value::Object(named)) = (key.as_str(), value) {
                    for (name, property) in named {
                        see(format!("{place}.{name}"), name, property);
                    }
                }
                properties(value, &format!("{place}/{key}"), see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| properties(item, place, see)),
        _ => {}
    }
}

fn every_property(mut see: impl FnMut(String, &str, &Value)) {
    for kind in Kind::ALL {
        properties(&json(&schema::of(*kind)), kind.short(), &mut |place, name, property| {
            see(place, name, property)
        });
    }
}

#[test]
fn every_field_is_described_and_named_by_the_rules() {
    every_property(|place, name, property| {
        let description = property["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{place} has no description");
        let snake = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        assert!(snake, "{place} is not snake_case");
        if name.ends_with("_ms") {
            assert!(description.contains("milliseconds"), "{place} does not say its unit");
            assert_eq!(property["type"], "integer", "{place}");
        }
        if property["format"] == "date-time" {
            assert!(name.ends_with("_at") || name == "not_after", "{place} is a time by another name");
        }
    });
}

#[test]
fn every_list_of_words_is_lower_case_and_has_unknown() {
    let mut lists = 0;
    for kind in Kind::ALL {
        let schema = json(&schema::of(*kind));
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            let Some(words) = definition["enum"].as_array() else { continue };
            lists += 1;
            assert!(words.contains(&Value::from("unknown")), "{name}");
            let lower = |w: &str| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(words.iter().all(|w| w.as_str().is_some_and(lower)), "{name}");
        }
    }
    assert!(lists > Kind::ALL.len() / 2, "the words are no longer where this test looks: {lists}");
}

#[test]
fn every_event_names_its_edge_and_its_flow_is_optional() {
    for kind in Kind::ALL {
        let schema = json(&schema::of(*kind));
        let required = schema["required"].as_array().unwrap();
        assert!(required.contains(&Value::from("edge")), "{}", kind.short());
        assert!(!required.contains(&Value::from("flow")), "{}", kind.short());
    }
}

/// Fields that name a person, a person's device or where it is.
const PERSONAL: &[&str] = &[
    "actor",
    "aggregate",
    "aor",
    "callee",
    "callee_e164",
    "caller",
    "caller_e164",
    "contact",
    "diversion",
    "egress_peer",
    "from_uri",
    "ingress_peer",
    "instance_id",
    "notifier",
    "peer",
    "received",
    "received_before",
    "remote",
    "ruri",
    "source",
    "subscriber",
    "target",
    "to_uri",
    "user_agent",
];

/// The same names where they mean something else, or hold an object whose own fields are marked.
const NOT_PERSONAL: &[&str] = &["admin.acted.target", "call.routed.target"];

#[test]
fn personal_fields_are_marked_and_no_others_but_the_listed() {
    let mut marked = BTreeSet::new();
    every_property(|place, name, property| {
        let is = property["x-personal-data"] == true;
        let listed = PERSONAL.contains(&name) && !NOT_PERSONAL.contains(&place.as_str());
        let target_of_a_call = place.contains("RouteTarget") && ["name", "address"].contains(&name);
        assert_eq!(is, listed || target_of_a_call, "{place}: x-personal-data");
        if is {
            marked.insert(name.to_owned());
        }
    });
    let gone: Vec<_> = PERSONAL.iter().filter(|name| !marked.contains(**name)).collect();
    assert!(gone.is_empty(), "no event has these any more: {gone:?}");
}

#[test]
fn asyncapi_has_every_event_on_every_way_and_its_references_lead_somewhere() {
    let text = schema::asyncapi();
    let files: BTreeSet<String> = schema::files().into_iter().map(|(path, _)| path).collect();
    for kind in Kind::ALL {
        assert!(text.contains(&format!("name: {}\n", kind.type_name())), "{}", kind.type_name());
        // NATS and HTTP carry the one, Kafka's shared and own topics the other.
        for message in [kind.short().to_owned(), format!("{}.binary", kind.short())] {
            let told = text.matches(&format!("$ref: \"#/components/messages/{message}\"\n")).count();
            assert_eq!(told, 2, "{message}");
        }
        let topic = format!("address: signalbox.{}.v1\n", kind.domain());
        assert_eq!(text.matches(&topic).count(), 1, "{topic}");
    }
    let references: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("$ref: \"./")).map(|(_, r)| r).collect();
    assert_eq!(references.len(), 3 * Kind::ALL.len());
    for reference in references {
        assert!(files.contains(reference.trim_end_matches('"')), "{reference}");
    }
    for inside in text.lines().filter_map(|line| line.trim().strip_prefix("$ref: \"#/")) {
        let name = inside.trim_end_matches('"').rsplit('/').next().unwrap();
        let defined = text
            .lines()
            .any(|line| line.trim() == format!("{name}:") || line.trim() == format!("\"{name}\":"));
        assert!(defined, "nothing is called {name}");
    }
}

#[test]
fn the_catalogue_page_equals_the_checked_in_one_and_leaves_nothing_out() {
    let generated = page::markdown();
    let file = here("CATALOGUE.md");
    if std::env::var_os("SIGNALBOX_BLESS").is_some() {
        fs::write(&file, &generated).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), generated, "differs from the types; {HOW}");
    let html = page::html();
    every_property(|place, name, property| {
        let row = format!("| `{name}` |");
        assert!(generated.contains(&row) && html.contains(&format!("<code>{name}</code>")), "{place}");
        if property["x-personal-data"] == true {
            let marked = generated.lines().any(|line| line.starts_with(&row) && line.contains(" P |"));
            assert!(marked, "{place} is personal, and the page does not say so");
        }
    });
    for kind in Kind::ALL {
        assert!(generated.contains(&format!("\n### {}\n", kind.short())), "{}", kind.short());
        assert!(html.contains(&format!("<h3 id=\"{}\">", kind.short())), "{}", kind.short());
    }
    let ids: BTreeSet<&str> =
        html.split("id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id).collect();
    let links = html.split("href=\"#").skip(1).filter_map(|rest| rest.split_once('"')).map(|(link, _)| link);
    let broken: Vec<&str> = links.filter(|link| !ids.contains(link)).collect();
    assert_eq!(broken, [""; 0], "these lead nowhere");
}

#[test]
fn the_example_of_a_kind_is_an_event_of_it() {
    for kind in Kind::ALL {
        assert_eq!(json(kind.example())["type"], kind.type_name());
    }
}
