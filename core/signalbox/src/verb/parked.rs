//! `signalbox parked`: events that a projection could not apply, and what is to be done about them.

use super::{Out, load_config, now, open_store, runtime};
use crate::args::{Cli, ParkedAction, ParkedArgs, ParkedWhich};
use crate::errors::{Failure, NOTHING_FOUND, REFUSED, USAGE};
use crate::render::{Align, Table, since};
use serde_json::json;
use signalbox_base::Wall;
use signalbox_projections::parked::{self, Decision, ParkedRow};
use signalbox_store::{Store, lease};
use std::time::Duration;

/// How often it is looked whether it is done, and how many times.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOKS: u32 = 40;

/// Lists them, or has them tried again or forgotten.
pub fn run(cli: &Cli, args: &ParkedArgs) -> Result<(), Failure> {
    let (out, loaded) = (Out::new(cli), load_config(cli)?);
    runtime()?.block_on(async {
        let store = open_store(&loaded).await?;
        let rows = parked::list(&store).await?;
        match &args.action {
            None | Some(ParkedAction::List) => list(&out, &rows),
            Some(ParkedAction::Retry { which }) => {
                decide(&out, &store, &aggregate(&rows, which)?, Decision::Retry).await
            }
            Some(ParkedAction::Skip { which }) => {
                decide(&out, &store, &aggregate(&rows, which)?, Decision::Skip).await
            }
        }
    })
}

/// What is parked and decided together.
#[derive(PartialEq)]
struct Aggregate<'a> {
    projection: &'a str,
    tenant: &'a str,
    subject: &'a str,
}

impl<'a> Aggregate<'a> {
    fn of(row: &'a ParkedRow) -> Self {
        Self { projection: &row.projection, tenant: &row.tenant, subject: &row.subject }
    }
}

/// A line for each aggregate; for programs one for each event.
fn list(out: &Out, rows: &[ParkedRow]) -> Result<(), Failure> {
    if out.json {
        return rows.iter().try_for_each(|row| out.object(row));
    }
    if rows.is_empty() {
        return out.line("nothing is parked");
    }
    let left = ["PROJECTION", "TENANT", "SUBJECT", "SINCE", "EVENT"].map(|name| (name, Align::Left));
    let columns = [&left[..], &[("EVENTS", Align::Right), ("REASON", Align::Left)]].concat();
    let mut table = Table::new(&columns);
    // The first event of each aggregate is the one that was refused.
    let firsts = rows.iter().filter(|row| row.error_class != "order");
    for row in firsts {
        let together = rows.iter().filter(|other| Aggregate::of(other) == Aggregate::of(row)).count();
        table.row(vec![
            row.projection.clone(),
            row.tenant.clone(),
            row.subject.clone(),
            since(Wall(row.parked_at), now()),
            row.kind.clone(),
            together.to_string(),
            row.reason.clone(),
        ]);
    }
    out.table(&table)?;
    out.line("\nmend what the reason says, then: signalbox parked retry PROJECTION SUBJECT")
}

fn aggregate<'a>(rows: &'a [ParkedRow], which: &ParkedWhich) -> Result<Aggregate<'a>, Failure> {
    let wanted = |row: &&ParkedRow| {
        row.projection == which.projection
            && row.subject == which.subject
            && which.tenant.as_ref().is_none_or(|tenant| *tenant == row.tenant)
    };
    let mut found = rows.iter().filter(wanted).map(Aggregate::of);
    let nothing = || {
        let message = format!("nothing of {} is parked by {}", which.subject, which.projection);
        Failure::new(NOTHING_FOUND, message).fix("`signalbox parked` lists what is")
    };
    let first = found.next().ok_or_else(nothing)?;
    match found.find(|other| *other != first) {
        None => Ok(first),
        Some(other) => {
            let message =
                format!("tenants {} and {} both have {}", first.tenant, other.tenant, first.subject);
            Err(Failure::new(USAGE, message).fix("name one with --tenant"))
        }
    }
}

/// Whoever folds the tables does it, within a second or two.
async fn decide(out: &Out, store: &Store, of: &Aggregate<'_>, decision: Decision) -> Result<(), Failure> {
    let Aggregate { projection, tenant, subject } = of;
    let events = parked::decide(store, projection, tenant, subject, decision).await?;
    let held = lease::see(store, "projections").await?;
    if !held.is_some_and(|held| held.holds) {
        return told(
            out,
            of,
            events,
            "asked for",
            "nobody folds the tables now: the next `signalbox run` does it",
        );
    }
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK_EVERY).await;
        let rows = parked::list(store).await?;
        let mut left = rows.iter().filter(|row| Aggregate::of(row) == *of).peekable();
        let Some(first) = left.peek() else {
            let done = match decision {
                Decision::Retry => "applied",
                Decision::Skip => "skipped",
            };
            return told(out, of, events, done, "");
        };
        if first.wanted.is_empty() {
            let message = format!("{subject} stays parked: {}", first.reason);
            return Err(Failure::new(REFUSED, message).fix(
                "mend what the message says and try again, or let its events go with `signalbox parked skip`",
            ));
        }
    }
    let message = format!("{subject} is asked for, and still parked");
    Err(Failure::new(REFUSED, message)
        .fix("whoever folds the tables does not do so now; see `signalbox projections` and its log"))
}

fn told(out: &Out, of: &Aggregate<'_>, events: u64, done: &str, note: &str) -> Result<(), Failure> {
    let Aggregate { projection, tenant, subject } = of;
    if out.json {
        return out.object(&json!({
            "projection": projection, "tenant": tenant, "subject": subject, "events": events, "done": done,
        }));
    }
    let note = if note.is_empty() { String::new() } else { format!("; {note}") };
    out.line(&format!("{events} event(s) of {subject} {done} by {projection}{note}"))
}
