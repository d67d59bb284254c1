//! Stock SIPp with the scenarios of `tests/e2e/scenarios`.

use crate::process::Process;
use crate::wait;
use crate::world::World;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A run about to start.
#[derive(Debug)]
pub struct Sipp {
    name: String,
    dir: PathBuf,
    command: Command,
}

/// A run that goes on.
#[derive(Debug)]
pub struct Running {
    process: Process,
    statistics: PathBuf,
    dir: PathBuf,
    name: String,
}

/// What SIPp counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Scenarios that ran to their end.
    pub good: u64,
    /// Those that did not.
    pub failed: u64,
    /// Repetitions it had to send.
    pub retransmissions: u64,
}

impl Sipp {
    /// A scenario on a local address. `name` tells this run from others of the story.
    #[must_use]
    pub fn new(world: &World, name: &str, scenario: &str, local: SocketAddr) -> Self {
        Self::within(world.dir(), name, scenario, local)
    }

    /// The same, for whoever has only the story's directory.
    #[must_use]
    pub fn within(dir: &Path, name: &str, scenario: &str, local: SocketAddr) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(format!("{scenario}.xml"));
        let mut command = Command::new("sipp");
        command
            .arg("-sf")
            .arg(file)
            .arg("-i")
            .arg(local.ip().to_string())
            .arg("-p")
            .arg(local.port().to_string());
        command
            .current_dir(dir)
            .args(["-nostdin", "-trace_err", "-error_file"])
            .arg(format!("{name}.sipp.err"));
        command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(format!("{name}.csv"));
        // A run that hangs fails by itself, and says so.
        command.args(["-timeout", "90s", "-timeout_error", "-recv_timeout", "40000"]);
        // Pings and probes are answered beside the scenario.
        command.arg("-aa");
        Self { name: name.to_owned(), dir: dir.to_owned(), command }
    }

    /// Where it sends to.
    #[must_use]
    pub fn to(mut self, remote: SocketAddr) -> Self {
        self.command.arg(remote.to_string());
        self
    }

    /// Over one TCP connection instead of datagrams.
    #[must_use]
    pub fn over_tcp(mut self) -> Self {
        self.command.args(["-t", "t1"]);
        self
    }

    /// A word that the scenario uses as `[name]`.
    #[must_use]
    pub fn word(mut self, name: &str, value: &str) -> Self {
        self.command.args(["-key", name, value]);
        self
    }

    /// Lines for its calls, fields separated by `;`, used in turn.
    #[must_use]
    pub fn lines(mut self, lines: &[String]) -> Self {
        let file = self.dir.join(format!("{}.fields", self.name));
        std::fs::write(&file, format!("SEQUENTIAL\n{}\n", lines.join("\n")))
            .expect("the story's directory is writable");
        self.command.arg("-inf").arg(file);
        self
    }

    /// How long a call is up.
    #[must_use]
    pub fn talk(mut self, milliseconds: u32) -> Self {
        self.command.args(["-d", &milliseconds.to_string()]);
        self
    }

    /// How many calls, and how many a second.
    #[must_use]
    pub fn calls(mut self, count: u32, per_second: u32) -> Self {
        self.command.args(["-m", &count.to_string(), "-r", &per_second.to_string()]);
        self
    }

    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Counted {
        self.start().finish()
    }

    /// Starts it.
    #[must_use]
    pub fn start(mut self) -> Running {
        let process = Process::start(&self.dir, &self.name, &mut self.command);
        Running {
            process,
            statistics: self.dir.join(format!("{}.csv", self.name)),
            dir: self.dir,
            name: self.name,
        }
    }
}

impl Running {
    /// Waits for its end.
    ///
    /// # Panics
    /// It wrote no statistics: it could not run at all.
    #[must_use]
    pub fn finish(self) -> Counted {
        self.finish_and_tell().0
    }

    /// The same, with what it complained about.
    ///
    /// # Panics
    /// It wrote no statistics: it could not run at all.
    #[must_use]
    pub fn finish_and_tell(mut self) -> (Counted, String) {
        let status = self.process.wait("SIPp to end");
        let Some(counted) = self.so_far() else {
            panic!("SIPp {} did not run ({status}):\n{}{}", self.name, self.process.stderr(), self.errors())
        };
        (counted, self.errors())
    }

    /// Ends it, whatever it is doing.
    pub fn stop(mut self) -> Counted {
        let counted = self.so_far().unwrap_or_default();
        self.process.kill();
        counted
    }

    /// What it has counted by now; it writes that once a second.
    #[must_use]
    pub fn so_far(&self) -> Option<Counted> {
        let text = std::fs::read_to_string(&self.statistics).ok()?;
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next()?.split(';').collect();
        let last: Vec<&str> = lines.next_back()?.split(';').collect();
        let value =
            |name: &str| -> Option<u64> { last.get(names.iter().position(|n| *n == name)?)?.parse().ok() };
        Some(Counted {
            good: value("SuccessfulCall(C)")?,
            failed: value("FailedCall(C)")?,
            retransmissions: value("Retransmissions(C)")?,
        })
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.dir.join(format!("{}.sipp.err", self.name))).unwrap_or_default()
    }
}

/// Waits until somebody listens there over UDP: nothing is sent, as SIPp would take it for a call.
///
/// # Panics
/// Nobody does.
pub fn await_bound(address: SocketAddr) {
    let IpAddr::V4(ip) = address.ip() else { panic!("stories have IPv4 networks") };
    let bound = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    wait::until_true(&format!("{address} to be bound"), || {
        std::fs::read_to_string("/proc/net/udp").is_ok_and(|sockets| sockets.contains(&bound))
    });
}

impl Counted {
    /// Asserts that all of so many calls went well.
    ///
    /// # Panics
    /// They did not.
    pub fn all_good(self, count: u64) {
        assert_eq!((self.good, self.failed), (count, 0), "{self:?}");
    }
}
