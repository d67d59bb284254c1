//! `signalbox reload`: the configuration file, applied to the running edge.

use crate::args::Cli;
use crate::client;
use crate::errors::Failure;
use signalbox_edge::admin::protocol::Request;

/// Asks for it; errors are printed as `check` prints them, and the edge goes on as it was.
pub fn run(cli: &Cli) -> Result<(), Failure> {
    client::tell(cli, &Request::Reload {})
}
