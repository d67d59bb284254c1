//! `signalbox explain`: more about an error code.

use super::Out;
use crate::args::{Cli, ExplainArgs};
use crate::errors::{CATALOGUE, Entry, Failure, NOTHING_FOUND, find};
use crate::render::{Align, Table};
use serde_json::json;

/// Prints one code's page, or the list.
pub fn run(cli: &Cli, args: &ExplainArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let Some(code) = &args.code else { return list(&out) };
    let Some(entry) = find(code) else {
        return Err(Failure::new(NOTHING_FOUND, format!("there is no code {code}"))
            .fix("`signalbox explain` lists all codes"));
    };
    if out.json {
        return out.object(&object(entry));
    }
    out.line(&format!("{}  {}\n\n{}\n\nWhat to do: {}", entry.code, entry.title, entry.meaning, entry.action))
}

fn list(out: &Out) -> Result<(), Failure> {
    if out.json {
        return CATALOGUE.iter().try_for_each(|e| out.object(&object(e)));
    }
    let mut table = Table::new(&[("CODE", Align::Left), ("MEANING", Align::Left)]);
    for entry in CATALOGUE {
        table.row(vec![entry.code.to_string(), entry.title.to_owned()]);
    }
    out.table(&table)
}

fn object(entry: &Entry) -> serde_json::Value {
    json!({ "code": entry.code.to_string(), "title": entry.title, "meaning": entry.meaning, "action": entry.action })
}
