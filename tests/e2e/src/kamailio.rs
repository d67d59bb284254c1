//! A real Kamailio as PBX: registrar with digest, location, calls to whoever registered; it trusts one edge's address.
//!
//! The password of every user is `pw-<user>`; the user `forbidden` is refused with 403.

use crate::phone::answers;
use crate::process::Process;
use crate::wait;
use crate::world::World;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

/// A running Kamailio.
#[derive(Debug)]
pub struct Kamailio {
    name: String,
    address: SocketAddr,
    config: std::path::PathBuf,
    process: Option<Process>,
    dir: std::path::PathBuf,
}

impl Kamailio {
    /// Starts one and waits until it answers. `edge` is the only address that it takes requests from.
    #[must_use]
    pub fn start(world: &World, name: &str, address: SocketAddr, edge: IpAddr) -> Self {
        Self::with(world, name, address, edge, &[])
    }

    /// The same; calls to the user `service` go to an address of its own (a voicemail, say), past this Kamailio once
    /// they are answered.
    #[must_use]
    pub fn with_service(
        world: &World,
        name: &str,
        address: SocketAddr,
        edge: IpAddr,
        service: SocketAddr,
    ) -> Self {
        Self::with(world, name, address, edge, &[("@SERVICE@", service.to_string())])
    }

    /// The same; it takes requests from another address too, as a provider does from its other customers.
    #[must_use]
    pub fn with_neighbour(
        world: &World,
        name: &str,
        address: SocketAddr,
        edge: IpAddr,
        neighbour: IpAddr,
    ) -> Self {
        Self::with(world, name, address, edge, &[("@NEIGHBOUR@", neighbour.to_string())])
    }

    fn with(world: &World, name: &str, address: SocketAddr, edge: IpAddr, words: &[(&str, String)]) -> Self {
        let text = configuration(world, name, address, edge, words);
        let config = world.file(&format!("{name}.cfg"), &text);
        let mut pbx = Self { name: name.into(), address, config, process: None, dir: world.dir().to_owned() };
        pbx.start_again();
        pbx
    }

    /// Starts it after it was killed; it has forgotten who was registered.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self) {
        let run = self.dir.join(format!("{}.run", self.name));
        std::fs::create_dir_all(&run).expect("the story's directory is writable");
        let mut command = Command::new("kamailio");
        command.args(["-DD", "-E", "-m", "64", "-M", "8", "-f"]).arg(&self.config).arg("-Y").arg(&run);
        command.arg("-P").arg(run.join("pid"));
        let mut process = Process::start(&self.dir, &self.name, &mut command);
        let (address, name) = (self.address, &self.name);
        wait::until(&format!("Kamailio {name} to answer"), || {
            assert!(process.ended().is_none(), "Kamailio {name} ended:\n{}", process.stderr());
            answers(address).then_some(())
        });
        self.process = Some(process);
    }

    /// kill -9 of all its processes.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it wrote with `xlog`: one line for each request outside a dialog that reached it.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// How many INVITEs for a user reached it.
    #[must_use]
    pub fn invites_for(&self, user: &str) -> usize {
        let line = format!("seen INVITE to {user}@");
        self.log().lines().filter(|l| l.contains(&line)).count()
    }
}

fn configuration(
    world: &World,
    name: &str,
    address: SocketAddr,
    edge: IpAddr,
    words: &[(&str, String)],
) -> String {
    let fifo = world.path(&format!("{name}.run"));
    let text = include_str!("kamailio.cfg").to_owned();
    let text = words.iter().fold(text, |text, (word, value)| text.replace(word, value));
    // What nobody named is the edge's, and its own.
    text.replace("@NEIGHBOUR@", &edge.to_string())
        .replace("@SERVICE@", &address.to_string())
        .replace("@ADDRESS@", &address.to_string())
        .replace("@EDGE@", &edge.to_string())
        .replace("@RUN@", &fifo.display().to_string())
}
