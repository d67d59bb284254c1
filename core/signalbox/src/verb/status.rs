//! `signalbox status`: one screen about the running edge.

use super::{Out, now};
use crate::args::Cli;
use crate::client;
use crate::errors::Failure;
use crate::render::{Align, Table, duration};
use serde_json::Value;
use signalbox_base::Wall;
use signalbox_edge::admin::protocol::Request;
use std::time::Duration;

/// Prints it; without a running edge that is the answer, with exit code 1.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    let out = Out::new(cli);
    let status = client::ask(cli, &Request::Status {})?;
    if out.json {
        return out.object(&status);
    }
    let text = |key: &str| status.get(key).map(plain).unwrap_or_default();
    let number = |key: &str| status.get(key).and_then(Value::as_u64).unwrap_or(0);
    let uptime = duration(Duration::from_secs(number("uptime_seconds")));
    out.line(&format!(
        "{}  {}  version {}  up {uptime}  configuration revision {}",
        text("edge"),
        text("phase"),
        text("version"),
        number("config_revision")
    ))?;
    out.line(&format!(
        "registrations {}   calls {}   attempted {}  answered {}  failed {}",
        number("registrations"),
        number("calls"),
        number("calls_attempted"),
        number("calls_answered"),
        number("calls_failed")
    ))?;
    out.line(&format!(
        "journal {}  event {}  admission {}\n",
        text("journal"),
        number("sequence"),
        text("pressure")
    ))?;
    components(&out, &status)?;
    backends(&out, &status)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn components(out: &Out, status: &Value) -> Result<(), Failure> {
    let mut table = Table::new(&[
        ("COMPONENT", Align::Left),
        ("STATE", Align::Left),
        ("LAG", Align::Right),
        ("EVENTS", Align::Right),
        ("", Align::Left),
    ]);
    for component in status.get("components").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| component.get(key).map(plain).unwrap_or_default();
        let seconds = component.get("lag_seconds").and_then(Value::as_f64);
        let detail = component.get("detail").map(plain);
        let away = component.get("away_since").and_then(Value::as_str).and_then(Wall::parse_rfc3339);
        let row = match away {
            // What it does not reach may have events that nobody here knows of.
            Some(since) => vec![
                text("name"),
                "away".to_owned(),
                seconds.map(|s| format!("≥ {s:.0} s")).unwrap_or_default(),
                component.get("lag_events").map_or_else(|| "?".to_owned(), plain),
                format!("since {}: {}", out.clock.time(since, now()), detail.unwrap_or_default()),
            ],
            None => vec![
                text("name"),
                text("state"),
                seconds.map(|s| format!("{s:.1} s")).unwrap_or_default(),
                component.get("lag_events").map(plain).unwrap_or_default(),
                detail.unwrap_or_else(|| " ".into()),
            ],
        };
        table.row(row);
    }
    out.table(&table)
}

fn backends(out: &Out, status: &Value) -> Result<(), Failure> {
    let columns = ["BACKEND", "TENANT", "STATE", "REGISTRATION"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for backend in status.get("backends").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| backend.get(key).map(plain).unwrap_or_default();
        table.row(vec![text("name"), text("tenant"), text("state"), text("registration")]);
    }
    out.line("")?;
    out.table(&table)
}
