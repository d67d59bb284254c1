//! `signalbox check`: the configuration, without touching anything.

use super::{Out, load_config};
use crate::args::{CheckArgs, Cli};
use crate::config::{Effective, Keys, explain};
use crate::errors::Failure;
use crate::render::{Align, Table};
use serde_json::json;
use signalbox_base::{JournalId, Secret};

/// Checks, and prints what was found.
pub fn run(cli: &Cli, args: &CheckArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let loaded = load_config(cli)?;
    let keys = Keys { edge_name: "edge".into(), journal: JournalId(0), cluster_key: Secret::default() };
    let settings = Effective::new(&loaded.file).settings(&keys)?;
    if args.explain {
        print_explained(&out, &loaded)?;
    }
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    if args.live {
        super::live::check(&out, &loaded, &settings)?;
    }
    if args.explain {
        return Ok(());
    }
    let backends: usize = settings.tenants.iter().map(|t| t.backends.len()).sum();
    let (listeners, tenants) = (settings.listeners.len(), settings.tenants.len());
    let (trunks, routes) = (settings.trunks.len(), settings.rules.routes.len());
    let path = loaded.path.display();
    if out.json {
        let file = path.to_string();
        return out.object(
            &json!({ "file": file, "listeners": listeners, "tenants": tenants, "backends": backends, "trunks": trunks, "routes": routes }),
        );
    }
    let carriers =
        if trunks + routes > 0 { format!(", {trunks} trunk(s), {routes} route(s)") } else { String::new() };
    out.line(&format!(
        "{path}: good. {listeners} listener(s), {tenants} tenant(s), {backends} backend(s){carriers}."
    ))
}

fn print_explained(out: &Out, loaded: &crate::config::Loaded) -> Result<(), Failure> {
    let lines = explain(loaded);
    if out.json {
        return lines.iter().try_for_each(|line| out.object(line));
    }
    let mut table = Table::new(&[("KEY", Align::Left), ("VALUE", Align::Left), ("FROM", Align::Left)]);
    for line in lines {
        table.row(vec![line.key, line.value, line.origin]);
    }
    out.table(&table)
}
