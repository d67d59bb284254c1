//! `signalbox stop`: an orderly end of the running edge.

use super::Out;
use crate::args::{Cli, StopArgs};
use crate::client;
use crate::errors::Failure;
use signalbox_edge::admin::protocol::Request;

/// Asks for it and waits for the end.
pub fn run(cli: &Cli, args: &StopArgs) -> Result<(), Failure> {
    let deadline_ms = u64::try_from(args.within.0.as_millis()).unwrap_or(u64::MAX);
    let answer = client::ask(cli, &Request::Stop { deadline_ms })?;
    let out = Out::new(cli);
    if out.json {
        return out.object(&answer);
    }
    let number = |key: &str| answer.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let calls = match number("calls_left") {
        0 => "every call had ended".to_owned(),
        left => format!("{left} call(s) go on without the edge and are recovered by the next start"),
    };
    out.line(&format!("stopped: {calls}; events up to {} are on disk", number("last_sequence")))
}
