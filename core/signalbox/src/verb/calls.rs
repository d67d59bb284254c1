//! `signalbox calls`: calls in progress, now or at a moment.

use super::{Out, now, reading};
use crate::args::{CallsArgs, Cli};
use crate::errors::Failure;
use crate::history::{moment, pick};
use crate::render::{Align, Table, duration};
use signalbox_base::Wall;
use signalbox_projections::queries;

/// Prints the calls.
pub fn run(cli: &Cli, args: &CallsArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let at = moment(args.at.as_deref(), "--at")?;
    let tenant = args.window.tenant.as_deref();
    reading(cli, async |reader| {
        let up = queries::calls(&reader.store, tenant).await?;
        let up = up.into_iter().filter(|c| at.is_none_or(|at| c.invited_at <= at.0)).collect();
        let up = pick(&args.window, now(), up, |call| call.invited_at)?;
        let ended = match at {
            Some(at) => queries::calls_ended_since(&reader.store, tenant, at).await?,
            None => Vec::new(),
        };
        let ended = pick(&args.window, now(), ended, |call| call.invited_at)?;
        if out.json {
            up.iter().try_for_each(|row| out.object(row))?;
            return ended.iter().try_for_each(|row| out.object(row));
        }
        let columns = ["CALL", "TENANT", "FROM", "TO", "STATE", "FOR", "SIDE", "VIA", "CODECS"];
        let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
        let moment = at.unwrap_or_else(now);
        // One row of either table, as of the moment asked about.
        macro_rules! show {
            ($call:expr, $state:expr) => {{
                let call = $call;
                let since = Wall(call.answered_at.filter(|a| *a <= moment.0).unwrap_or(call.invited_at));
                let (via, codecs) = (call.egress_peer.unwrap_or_default(), listed(&call.codecs));
                let lasted = duration(moment.since(since));
                table.row(vec![
                    call.call_uid,
                    call.tenant,
                    call.caller,
                    call.callee,
                    $state,
                    lasted,
                    call.side,
                    via,
                    codecs,
                ]);
            }};
        }
        for c in up {
            let state = if c.held_by.is_some() { format!("{}, held", c.state) } else { c.state.clone() };
            show!(c, state);
        }
        for c in ended {
            let state = if c.answered_at.is_some_and(|a| a <= moment.0) { "answered" } else { "inviting" };
            show!(c, state.to_owned());
        }
        if table.is_empty() {
            out.line("no call is up")?
        } else {
            out.table(&table)?
        }
        reader.footnote(&out)
    })
}

/// A list kept as JSON in a column, as people read it.
fn listed(json: &str) -> String {
    serde_json::from_str::<Vec<String>>(json).map_or_else(|_| json.to_owned(), |list| list.join(" "))
}
