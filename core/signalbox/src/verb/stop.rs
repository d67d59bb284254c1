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
    let said =
        answer.get("message").and_then(|m| m.as_str()).map_or_else(|| answer.to_string(), str::to_owned);
    out.line(&said)
}
