//! `signalbox projections`: how far the tables are, and to make them anew.

use super::{Out, load_config, now, open_store, runtime};
use crate::args::{Cli, ProjectionAction, ProjectionsArgs};
use crate::client;
use crate::errors::{Failure, NO_PROJECTION, REFUSED, STORE_FAILED, USAGE};
use crate::render::{Align, Table};
use crate::roles::PROJECTION;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use signalbox_edge::admin::protocol::Request;
use signalbox_projections::{RebuildRow, all, ask_for_rebuild, rebuilds};
use signalbox_store::{Store, lease};
use std::io::IsTerminal;
use std::time::Duration;

/// How often a rebuild is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a rebuild may not have begun before it is said that nobody is there to do it.
const BEGINS_WITHIN: u32 = 20;

/// Lists them, or makes some anew.
pub fn run(cli: &Cli, args: &ProjectionsArgs) -> Result<(), Failure> {
    match &args.action {
        None | Some(ProjectionAction::List) => list(cli),
        Some(ProjectionAction::Rebuild { names, all }) => rebuild(cli, names, *all),
    }
}

fn list(cli: &Cli) -> Result<(), Failure> {
    let out = Out::new(cli);
    let loaded = load_config(cli)?;
    let components = client::ask(cli, &Request::Status {}).ok();
    let (held, last) = runtime()?.block_on(async {
        let store = open_store(&loaded).await?;
        Ok::<_, Failure>((lease::see(&store, "projections").await?, rebuilds(&store).await?))
    })?;
    let holder = held.filter(|held| held.holds).map(|held| held.holder);
    let columns = [
        ("PROJECTION", Align::Left),
        ("VERSION", Align::Right),
        ("STATE", Align::Left),
        ("LAG", Align::Right),
        ("EVENTS", Align::Right),
        ("LAST REBUILD", Align::Left),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for projection in all() {
        let name = projection.name();
        let told = components.as_ref().and_then(|status| component(status, name));
        let rebuilt = last.iter().find(|row| row.projection == name);
        if out.json {
            out.object(&json!({
                "projection": name, "version": projection.version(), "holder": holder,
                "component": told, "rebuild": rebuilt,
            }))?;
            continue;
        }
        let text =
            |key: &str| told.and_then(|one| one.get(key)).and_then(Value::as_str).unwrap_or("–").to_owned();
        let lag = told.and_then(|one| one.get("lag_seconds")).and_then(Value::as_f64);
        let events = told.and_then(|one| one.get("lag_events")).and_then(Value::as_u64);
        table.row(vec![
            name.to_owned(),
            projection.version().to_string(),
            text("state"),
            lag.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1} s")),
            events.map_or_else(|| "–".to_owned(), |events| events.to_string()),
            rebuilt.map_or_else(|| "–".to_owned(), |row| words(row, &out)),
            told.and_then(|one| one.get("detail")).and_then(Value::as_str).unwrap_or(" ").to_owned(),
        ]);
    }
    if out.json {
        return Ok(());
    }
    out.table(&table)?;
    match holder {
        Some(holder) => out.line(&format!("\nfolded by {holder}")),
        None => out.line("\nnobody folds them now; start it with `signalbox run`"),
    }
}

fn component<'a>(status: &'a Value, projection: &str) -> Option<&'a Value> {
    let name = format!("{PROJECTION}{projection}");
    status
        .get("components")?
        .as_array()?
        .iter()
        .find(|one| one.get("name").and_then(Value::as_str) == Some(&*name))
}

fn words(row: &RebuildRow, out: &Out) -> String {
    let when = signalbox_base::Wall(row.ended_at.unwrap_or(row.asked_at));
    let carried =
        if row.carried > 0 { format!(", {} row(s) carried over", row.carried) } else { String::new() };
    let left =
        if row.state == "done" && !row.note.is_empty() { format!("; {}", row.note) } else { String::new() };
    format!("{} {}{carried}{left}", row.state, out.clock.time(when, now()))
}

pub(super) fn rebuild(cli: &Cli, names: &[String], every: bool) -> Result<(), Failure> {
    let known: Vec<&str> = all().iter().map(|projection| projection.name()).collect();
    let wanted: Vec<String> = match (every, names.is_empty()) {
        (true, true) => known.iter().map(|name| (*name).to_owned()).collect(),
        (false, false) => names.to_vec(),
        _ => return Err(Failure::new(USAGE, "name the projections to rebuild, or say --all")),
    };
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        let there = known.join(", ");
        return Err(Failure::new(NO_PROJECTION, format!("there is no projection {unknown}"))
            .fix(format!("there are {there}")));
    }
    let (out, loaded) = (Out::new(cli), load_config(cli)?);
    runtime()?.block_on(async {
        let store = open_store(&loaded).await?;
        for name in &wanted {
            ask_for_rebuild(&store, name, now()).await?;
        }
        let held = lease::see(&store, "projections").await?;
        if !held.is_some_and(|held| held.holds) {
            let line = "nobody folds the tables now: the next `signalbox run` makes them anew";
            return if out.json {
                out.object(&json!({ "asked": wanted, "note": line }))
            } else {
                out.line(line)
            };
        }
        for name in &wanted {
            let row = watch(&store, name).await?;
            told(&out, &row)?;
        }
        Ok(())
    })
}

/// Waits for the end of a rebuild, with a bar on a terminal.
async fn watch(store: &Store, name: &str) -> Result<RebuildRow, Failure> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    if let Ok(style) =
        ProgressStyle::with_template("{msg:<10} {wide_bar} {percent:>3} %  {pos}/{len} events  {eta}")
    {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    let mut looks = 0;
    loop {
        let found = rebuilds(store).await?.into_iter().find(|row| row.projection == name);
        let row = found
            .ok_or_else(|| Failure::new(STORE_FAILED, format!("the rebuild of {name} was forgotten")))?;
        bar.set_length(row.total.max(1).unsigned_abs());
        bar.set_position(row.done.unsigned_abs());
        match row.state.as_str() {
            "done" | "failed" => {
                bar.finish_and_clear();
                return Ok(row);
            }
            "wanted" if looks > BEGINS_WITHIN => {
                bar.finish_and_clear();
                let message = format!("the rebuild of {name} is asked for, and has not begun");
                return Err(Failure::new(REFUSED, message)
                    .fix("whoever folds the tables does not read them now; see `signalbox projections` and its log"));
            }
            _ => {}
        }
        looks += 1;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn told(out: &Out, row: &RebuildRow) -> Result<(), Failure> {
    if row.state == "failed" {
        let message =
            format!("{} was not rebuilt, its tables are as they were: {}", row.projection, row.note);
        return Err(
            Failure::new(STORE_FAILED, message).fix("mend what the message says, and give the command again")
        );
    }
    if out.json {
        return out.object(row);
    }
    let carried = match row.carried {
        0 => String::new(),
        rows => format!("; {rows} row(s) whose events are gone were carried over"),
    };
    out.line(&format!("{} rebuilt: {} event(s) read{carried}", row.projection, row.total))?;
    if row.note.is_empty() { Ok(()) } else { out.line(&row.note) }
}
