//! Asking the running edge by its admin socket.

use crate::args::Cli;
use crate::config::{self, model};
use crate::errors::{Failure, INTERNAL, NO_RIGHT, NOT_RUNNING, REFUSED};
use crate::verb::{Out, load_config};
use serde_json::Value;
use signalbox_edge::admin::protocol::{Request, Wish};
use signalbox_edge::admin::{AskError, ask as ask_socket};
use std::path::PathBuf;
use std::time::Duration;

/// The socket's name in the data directory.
const SOCKET: &str = "admin.sock";
/// How long a list waits for the tables to hold what the edge had recorded when it was asked for.
const SETTLE_TRIES: u32 = 40;
const SETTLE_PAUSE: Duration = Duration::from_millis(25);

/// Where the socket of a configuration is.
pub fn socket(file: &model::File) -> PathBuf {
    file.edge.data_dir.join(SOCKET)
}

/// Asks the edge that the command line's configuration names.
///
/// # Errors
/// Nobody answers, no right, or the edge's own refusal.
pub fn ask(cli: &Cli, request: &Request) -> Result<Value, Failure> {
    let path = match load_config(cli) {
        Ok(loaded) => socket(&loaded.file),
        // A file with errors still says where the running edge is: that one goes on, and a reload tells it (and the
        // journal) what is wrong with the file.
        Err(failure) => match config::data_dir_of_broken(cli.config.as_deref()) {
            Some(dir) if dir.join(SOCKET).exists() => dir.join(SOCKET),
            _ => return Err(failure),
        },
    };
    Ok(ask_socket(&path, request)?)
}

/// Asks, and prints what the edge says: its line, or with `--json` the answer itself.
///
/// # Errors
/// As [`ask`].
pub fn tell(cli: &Cli, request: &Request) -> Result<(), Failure> {
    let answer = ask(cli, request)?;
    let out = Out::new(cli);
    match answer.get("message").and_then(Value::as_str) {
        Some(line) if !out.json => out.line(line),
        _ => out.object(&answer),
    }
}

/// An operator's wish for a backend.
pub fn backend(name: &str, wish: Wish) -> Request {
    Request::Backend { name: name.to_owned(), wish }
}

/// How the tables are to what the running edge has recorded.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// They hold it.
    Level,
    /// Events behind when patience ended.
    Behind(u64),
    /// Nobody knows: why.
    Unknown(String),
}

/// Waits until the tables hold what the running edge has recorded by now; `None` when no edge runs.
pub async fn settled(file: &model::File) -> Option<Settled> {
    let path = socket(file);
    let status = || ask_socket(&path, &Request::Status {}).ok();
    let wanted = status()?.get("sequence").and_then(Value::as_u64)?;
    let mut behind = 0;
    for _ in 0..SETTLE_TRIES {
        let components = status()?;
        if let Some(why) = unknown(&components) {
            return Some(Settled::Unknown(why));
        }
        let positions = components.get("components")?.as_array()?.iter().filter(|c| {
            c.get("name").and_then(Value::as_str).is_some_and(|n| n.starts_with(crate::roles::PROJECTION))
        });
        let lowest = positions.map(|c| c.get("position").and_then(Value::as_u64).unwrap_or(0)).min();
        behind = wanted.saturating_sub(lowest.unwrap_or(wanted));
        if behind == 0 {
            return Some(Settled::Level);
        }
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
    Some(Settled::Behind(behind))
}

/// Why the edge does not know how far the tables are.
fn unknown(status: &Value) -> Option<String> {
    let components = status.get("components")?.as_array()?;
    let text = |component: &Value, key: &str| component.get(key).and_then(Value::as_str).map(str::to_owned);
    let store = components.iter().find(|one| text(one, "name").as_deref() == Some("store"))?;
    if store.get("standby") == Some(&Value::Bool(true)) {
        return text(store, "detail");
    }
    let since = components.iter().filter_map(|one| text(one, "away_since")).min()?;
    Some(format!("stale since {since}: what they are folded from, or they themselves, are away"))
}

impl From<AskError> for Failure {
    fn from(e: AskError) -> Self {
        let code = match &e {
            AskError::NotRunning(_) => NOT_RUNNING,
            AskError::Forbidden(_) => NO_RIGHT,
            AskError::Refused(_) => REFUSED,
            AskError::Broken(_) => INTERNAL,
        };
        Self::new(code, e.to_string())
    }
}
