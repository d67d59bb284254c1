//! A real name server: dnsmasq, that knows what the story tells it and asks nobody.

use crate::process::Process;
use crate::wait;
use crate::world::World;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

/// A running name server.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    _process: Process,
}

impl NameServer {
    /// Starts one with these records, each an option of dnsmasq's without its dashes (`srv-host=…`), and waits until it
    /// answers.
    ///
    /// # Panics
    /// It is not installed, or does not take a record.
    #[must_use]
    pub fn start(world: &World, host: u8, records: &[String]) -> Self {
        let address = world.free(host);
        let mut command = Command::new("dnsmasq");
        command.args([
            "--no-daemon",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port()));
        command.args(["--local=/test/", "--local-ttl=5"]);
        command.args(records.iter().map(|record| format!("--{record}")));
        let mut process = Process::start(world.dir(), "dnsmasq", &mut command);
        wait::until_true("dnsmasq to answer", || {
            assert!(process.ended().is_none(), "dnsmasq ended:\n{}", process.stderr());
            TcpStream::connect(address).is_ok()
        });
        Self { address, _process: process }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
