//! `signalbox backends`: their health, and operators' wishes for them.

use super::{Out, now, reading};
use crate::args::{BackendAction, BackendsArgs, Cli};
use crate::client;
use crate::errors::Failure;
use crate::history::moment;
use crate::render::{Align, Table, since};
use signalbox_base::Wall;
use signalbox_edge::admin::protocol::Wish;
use signalbox_projections::queries;

/// Prints them, or asks the running edge for a change.
pub fn run(cli: &Cli, args: &BackendsArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    if let Some(action) = &args.action {
        return change(cli, action);
    }
    let at = moment(args.at.as_deref(), "--at")?;
    let tenant = args.tenant.as_deref();
    reading(cli, async |reader| {
        let rows = match at {
            Some(at) => queries::backends_at(&reader.store, tenant, at).await?,
            None => queries::backends(&reader.store, tenant).await?,
        };
        if out.json {
            return rows.iter().try_for_each(|row| out.object(row));
        }
        let columns = ["BACKEND", "TENANT", "EDGE", "STATE", "SINCE", "CAUSE", "PROBE", "RTT", "ADDRESS"];
        let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
        for r in rows {
            let rtt = r.rtt_ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
            let probe = r.probe_status.map(|s| s.to_string()).unwrap_or_default();
            table.row(vec![
                r.backend,
                r.tenant,
                r.edge,
                r.state,
                since(Wall(r.changed_at), now()),
                r.cause,
                probe,
                rtt,
                r.address.unwrap_or_default(),
            ]);
        }
        if table.is_empty() {
            out.line("no backend has been probed yet")?
        } else {
            out.table(&table)?
        }
        reader.footnote(&out)
    })
}

fn change(cli: &Cli, action: &BackendAction) -> Result<(), Failure> {
    let (name, wish) = match action {
        BackendAction::Drain { name } => (name, Wish::Drain),
        BackendAction::Disable { name } => (name, Wish::Disable),
        BackendAction::Enable { name } => (name, Wish::Enable),
    };
    client::tell(cli, &client::backend(name, wish))
}
