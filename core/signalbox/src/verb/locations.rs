//! `signalbox locations`: who is registered, and where from; now or at a moment.

use super::{Out, now, reading};
use crate::args::{Cli, LocationsArgs};
use crate::errors::Failure;
use crate::history::{moment, pick};
use crate::render::{Align, Table, since};
use signalbox_base::Wall;
use signalbox_projections::queries;

/// Prints the bindings.
pub fn run(cli: &Cli, args: &LocationsArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let at = moment(args.at.as_deref(), "--at")?;
    let (tenant, aor) = named(args);
    let (tenant, aor) = (tenant.as_deref(), aor.as_deref());
    reading(cli, async |reader| {
        match at {
            None => {
                let rows = queries::locations(&reader.store, tenant, aor).await?;
                let rows = pick(&args.window, now(), rows, |row| row.refreshed_at)?;
                if out.json {
                    return rows.iter().try_for_each(|row| out.object(row));
                }
                let lines = rows.into_iter().map(|r| {
                    vec![
                        r.tenant,
                        r.aor,
                        r.contact,
                        r.received.unwrap_or_default(),
                        r.backend.unwrap_or_default(),
                        since(Wall(r.expires_at), now()),
                        r.flow_state,
                        r.user_agent,
                    ]
                });
                print(&out, lines, "EXPIRES")?;
            }
            Some(at) => {
                let rows = queries::locations_at(&reader.store, tenant, aor, at).await?;
                let rows = pick(&args.window, now(), rows, |row| row.valid_from)?;
                if out.json {
                    return rows.iter().try_for_each(|row| out.object(row));
                }
                let lines = rows.into_iter().map(|r| {
                    let until = out.clock.time(Wall(r.valid_to.unwrap_or(r.expires_at)), now());
                    vec![
                        r.tenant,
                        r.aor,
                        r.contact,
                        r.received.unwrap_or_default(),
                        r.backend.unwrap_or_default(),
                        until,
                        r.ended.unwrap_or_default(),
                        r.user_agent,
                    ]
                });
                print(&out, lines, "UNTIL")?;
            }
        }
        reader.footnote(&out)
    })
}

/// `acme/401@acme.test` names the tenant too.
fn named(args: &LocationsArgs) -> (Option<String>, Option<String>) {
    let text = args.aor.as_deref().map(|a| folded(a.trim_start_matches("sip:")));
    let text = text.as_deref();
    match text.and_then(|t| t.split_once('/')) {
        Some((tenant, aor)) => (Some(tenant.to_owned()), Some(aor.to_owned())),
        None => (args.window.tenant.clone(), text.map(str::to_owned)),
    }
}

/// Domains are compared without case.
fn folded(aor: &str) -> String {
    match aor.rsplit_once('@') {
        Some((user, domain)) => format!("{user}@{}", domain.to_ascii_lowercase()),
        None => aor.to_owned(),
    }
}

fn print(out: &Out, rows: impl Iterator<Item = Vec<String>>, end: &'static str) -> Result<(), Failure> {
    let columns = ["TENANT", "AOR", "CONTACT", "RECEIVED", "BACKEND", end, "STATE", "USER AGENT"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    rows.for_each(|row| table.row(row));
    if table.is_empty() { out.line("nobody is registered") } else { out.table(&table) }
}
