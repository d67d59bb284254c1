//! `[dns]`: who is asked for the names of peers.

use super::check::Check;
use super::model::File;
use super::value::split_host_port;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Where name servers listen unless another port is written.
const PORT: u16 = 53;

/// `[dns]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Name servers, `address[:port]`, asked by UDP and, for long answers, by TCP. Default: those of `/etc/resolv.conf`.
    pub servers: Vec<String>,
}

impl Dns {
    /// The servers; what is none was refused when the file was checked.
    #[must_use]
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.servers.iter().filter_map(|text| server(text)).collect()
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    let (host, port) = split_host_port(text)?;
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    Some(SocketAddr::new(host.parse().ok()?, port))
}

pub(super) fn check(check: &mut Check<'_>, file: &File) {
    for (at, text) in file.dns.servers.iter().enumerate().filter(|(_, text)| server(text).is_none()) {
        let message = format!("\"{text}\" is not the address of a name server");
        let fix = "write an IP address, with :port where it is not 53";
        check.wrong(&format!("dns.servers[{at}]"), message, fix);
    }
}
