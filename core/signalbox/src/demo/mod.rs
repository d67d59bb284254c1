//! The demo: the program as it is, with two small PBXs, a dozen phones and an attacker around it, over real UDP.

mod cast;
mod join;

pub use cast::{Cast, Script, pbx_sockets};
pub use join::invitation;

use crate::args::DemoArgs;
use crate::errors::{DATA_DIR, Failure};
use signalbox_io::OsEntropy;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use toml_edit::{DocumentMut, value};

/// The configuration that the demo starts from.
const TEMPLATE: &str = include_str!("../../../../compose/demo.toml");
/// Name of the configuration it writes beside its state, for the other commands.
pub const CONFIG_FILE: &str = "demo.toml";
/// Extensions of each tenant; 401 exists in both.
pub const EXTENSIONS: [&str; 6] = ["401", "402", "403", "404", "405", "406"];
/// A user without a phone, for a real one to join with.
pub const GUEST: &str = "499";

/// Passwords of this run: made anew each time, since the demo may listen on an open network.
pub struct Passwords {
    seed: u64,
}

impl Passwords {
    /// Draws them.
    pub fn new(entropy: &mut OsEntropy) -> Self {
        Self { seed: entropy.next_u64() }
    }

    /// Of a user.
    pub fn of(&self, tenant: &str, user: &str) -> String {
        let text = format!("{:016x}/{tenant}/{user}", self.seed);
        crate::config::sha256_hex(text.as_bytes())[..12].to_owned()
    }
}

/// Writes the demo's configuration and returns its path.
///
/// # Errors
/// The directory cannot be written.
pub fn write_config(args: &DemoArgs, pbx_ports: [u16; 2]) -> Result<PathBuf, Failure> {
    let mut document: DocumentMut = TEMPLATE.parse().expect("the template is part of the program and tested");
    document["edge"]["data_dir"] = value(args.dir.display().to_string());
    document["admin"]["listen"] = value(format!("127.0.0.1:{}", args.admin_port));
    if let Some(listener) = document["listener"].as_array_of_tables_mut().and_then(|l| l.get_mut(0)) {
        listener["address"] = value(format!("udp:{}", std::net::SocketAddr::new(args.listen, args.port)));
    }
    if let Some(tenants) = document["tenant"].as_array_of_tables_mut() {
        for (tenant, port) in tenants.iter_mut().zip(pbx_ports) {
            if let Some(backend) = tenant["backends"]
                .as_array_mut()
                .and_then(|b| b.get_mut(0))
                .and_then(|b| b.as_inline_table_mut())
            {
                backend.insert("address", format!("udp:127.0.0.1:{port}").into());
            }
        }
    }
    let failed = |e: std::io::Error| Failure::new(DATA_DIR, format!("{}: {e}", args.dir.display()));
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let path = args.dir.join(CONFIG_FILE);
    std::fs::write(&path, document.to_string()).map_err(failed)?;
    Ok(path)
}

/// Where the built-in phones reach the edge: loopback also when it listens on every address.
pub fn reachable(listen: IpAddr) -> IpAddr {
    if listen.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { listen }
}
