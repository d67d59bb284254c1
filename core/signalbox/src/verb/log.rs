//! `signalbox log level`: for everything, or for one phone, source or call.

use crate::args::{Cli, LogAction, LogArgs};
use crate::client;
use crate::errors::{Failure, USAGE};
use signalbox_edge::admin::protocol::Request;

/// Changes it in the running edge.
pub fn run(cli: &Cli, args: &LogArgs) -> Result<(), Failure> {
    let LogAction::Level { level, aor, source, call } = &args.action;
    let one_thing = aor.is_some() || source.is_some() || call.is_some();
    let request = match (one_thing, level.as_str()) {
        (false, _) => Request::LogLevel { level: level.clone() },
        (true, "debug" | "trace") => Request::Watch {
            all: false,
            aors: aor.iter().cloned().collect(),
            sources: source.iter().copied().collect(),
            calls: call.iter().cloned().collect(),
        },
        (true, "info") => {
            Request::Watch { all: false, aors: Vec::new(), sources: Vec::new(), calls: Vec::new() }
        }
        (true, other) => {
            let message = format!("\"{other}\" cannot be set for one thing");
            return Err(Failure::new(USAGE, message).fix("write debug to follow it, info to stop"));
        }
    };
    client::tell(cli, &request)
}
