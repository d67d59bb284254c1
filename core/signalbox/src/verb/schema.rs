//! `signalbox schema`: the contract in machine-readable form.

use super::Out;
use crate::args::{Cli, SchemaArgs, SchemaPart};
use crate::errors::{Failure, NOTHING_FOUND};
use crate::render::{Align, Table};
use serde_json::json;
use signalbox_schemas::{Kind, schema};

/// Prints the wanted part.
pub fn run(cli: &Cli, args: &SchemaArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    match &args.part {
        SchemaPart::List => list(&out),
        SchemaPart::Show { kind } => {
            let text = schema::show(kind).ok_or_else(|| {
                Failure::new(NOTHING_FOUND, format!("there is no event type {kind}"))
                    .fix("`signalbox schema list` shows all")
            })?;
            out.line(text.trim_end())
        }
        SchemaPart::Asyncapi => out.line(schema::asyncapi().trim_end()),
        SchemaPart::Config => {
            let text = serde_json::to_string_pretty(&crate::config::json_schema()).expect("a schema is JSON");
            out.line(&text)
        }
    }
}

fn list(out: &Out) -> Result<(), Failure> {
    if out.json {
        return Kind::ALL.iter().try_for_each(|kind| {
            out.object(&json!({
                "type": kind.type_name(), "aggregate": kind.aggregate().as_str(), "description": kind.description(),
            }))
        });
    }
    let mut table = Table::new(&[("EVENT", Align::Left), ("ABOUT", Align::Left), ("MEANING", Align::Left)]);
    for kind in Kind::ALL {
        table.row(vec![kind.short().into(), kind.aggregate().as_str().into(), kind.description().into()]);
    }
    out.table(&table)
}
