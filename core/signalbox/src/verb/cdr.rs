//! `signalbox cdr`: call records, newest first; with `-f` as calls end.

use super::{Out, load_config, now, reading, runtime};
use crate::args::{Cli, ListArgs};
use crate::errors::Failure;
use crate::history::{History, Range, moment};
use crate::render::{Align, Screen, Table, span_ms};
use signalbox_base::Wall;
use signalbox_bus::{Filter, Start};
use signalbox_projections::{CdrRow, queries};
use signalbox_schemas::Event;

/// Records shown when no number is given.
const LAST_DEFAULT: u32 = 20;

/// Prints the records, then follows if asked.
pub fn run(cli: &Cli, args: &ListArgs) -> Result<(), Failure> {
    let out = Out::new(cli);
    let range = Range::of(&args.window, now())?;
    let last = args.window.last.map_or(LAST_DEFAULT, |n| u32::try_from(n).unwrap_or(u32::MAX));
    let filter = queries::Filter {
        tenant: args.window.tenant.clone(),
        from: range.from,
        to: range.to.or(moment(args.at.as_deref(), "--at")?),
        last: Some(last),
    };
    reading(cli, async |reader| {
        let mut rows = queries::cdrs(&reader.store, &filter).await?;
        if args.follow {
            rows.reverse();
        }
        if out.json {
            return rows.iter().try_for_each(|row| out.object(row));
        }
        let mut table = table();
        let none = rows.is_empty();
        rows.iter().for_each(|row| table.row(cells(&out, row)));
        if none && !args.follow {
            out.line("no call has ended")?
        } else {
            out.table(&table)?
        }
        if args.follow { Ok(()) } else { reader.footnote(&out) }
    })?;
    if args.follow { follow(cli, args, &out) } else { Ok(()) }
}

fn table() -> Table {
    let columns = ["ENDED", "TENANT", "FROM", "TO", "SETUP", "TALK", "RESULT", "BY", "VIA", "CALL"];
    Table::new(&columns.map(|name| (name, Align::Left)))
}

fn cells(out: &Out, r: &CdrRow) -> Vec<String> {
    let talk = r.answered_at.map(|_| r.billable_ms);
    let result = result(&r.category, &r.completeness);
    let via = r.egress_peer.clone().or_else(|| r.route.clone()).unwrap_or_default();
    vec![
        out.clock.time(Wall(r.ended_at), now()),
        r.tenant.clone(),
        r.caller.clone(),
        r.callee.clone(),
        span_ms(r.setup_ms),
        span_ms(talk),
        result,
        r.released_by.clone(),
        via,
        r.call_uid.clone(),
    ]
}

/// How it ended; a record that is not the edge's own observation says so.
fn result(category: &str, completeness: &str) -> String {
    if completeness == "normal" { category.to_owned() } else { format!("{category} ({completeness})") }
}

/// Follows the journal: a record is printed as its call ends, whatever the tables' lag.
fn follow(cli: &Cli, args: &ListArgs, out: &Out) -> Result<(), Failure> {
    let file = load_config(cli)?.file;
    runtime()?.block_on(async {
        let filter = Filter {
            kinds: vec!["call.ended".into(), "call.failed".into()],
            tenants: args.window.tenant.iter().cloned().collect(),
        };
        let mut source = History::open(&file, filter, Start::End).await?;
        loop {
            for event in source.next().await?.events {
                let cdr = match Event::read(&event.kind, &event.data) {
                    Ok(Event::CallEnded(cdr)) => *cdr,
                    Ok(Event::CallFailed(failed)) => failed.cdr,
                    _ => continue,
                };
                if out.json {
                    out.object(&cdr)?;
                    continue;
                }
                let mut table = table();
                let ms = |v: Option<u64>| span_ms(v.and_then(|v| i64::try_from(v).ok()));
                table.row(vec![
                    out.clock.time(cdr.ended_at.0, now()),
                    cdr.tenant.to_string(),
                    cdr.caller.to_string(),
                    cdr.callee.to_string(),
                    ms(cdr.setup_ms),
                    ms(cdr.answered_at.map(|_| cdr.billable_ms)),
                    result(cdr.category.as_str(), cdr.completeness.as_str()),
                    cdr.released_by.to_string(),
                    cdr.egress_peer.map(|p| p.to_string()).unwrap_or_default(),
                    cdr.call_uid.to_string(),
                ]);
                let text = table.render(&Screen { colour: false, ..out.screen });
                out.line(text.lines().nth(1).unwrap_or_default())?;
            }
        }
    })
}
