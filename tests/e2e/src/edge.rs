//! The binary under test: its configuration, its life and its verbs, as a user has them.

use crate::http;
use crate::process::Process;
use crate::wait;
use crate::world::World;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The host of a story's network that its edge listens on.
pub const HOST: u8 = 1;

/// An edge of a story: configured, and running unless the story says otherwise.
#[derive(Debug)]
pub struct Edge {
    name: String,
    dir: PathBuf,
    config: PathBuf,
    data_dir: PathBuf,
    sip: SocketAddr,
    admin: SocketAddr,
    store: String,
    process: Option<Process>,
    /// None: all.
    roles: &'static [&'static str],
    /// The key that all edges of a cluster have.
    key: Option<PathBuf>,
}

/// What a verb said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output of a verb that succeeded.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// One JSON object a line, of a verb that succeeded.
    ///
    /// # Panics
    /// It did not, or a line is something else.
    #[must_use]
    pub fn rows(self) -> Vec<Value> {
        let text = self.good();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

impl Edge {
    /// An edge on the story's first host, with SQLite. `more` is the rest of its configuration: the tenants, and
    /// whatever tables the story needs.
    #[must_use]
    pub fn configured(world: &World, more: &str) -> Self {
        Self::with_store(world, "sqlite:signalbox.db", more)
    }

    /// The same with a store of the story's choice.
    #[must_use]
    pub fn with_store(world: &World, store: &str, more: &str) -> Self {
        let name = "edge-1";
        let mut edge = Self {
            name: name.to_owned(),
            dir: world.dir().to_owned(),
            config: world.path("signalbox.toml"),
            data_dir: world.path("data"),
            sip: world.at(HOST, 5060),
            admin: world.free(HOST),
            store: store.to_owned(),
            process: None,
            roles: &[],
            key: None,
        };
        edge.write_config(more);
        edge
    }

    /// One of several edges of a cluster, on a host of its own. They share a key.
    #[must_use]
    pub fn in_cluster(world: &World, name: &str, host: u8, more: &str) -> Self {
        let mut edge = Self {
            name: name.to_owned(),
            dir: world.dir().to_owned(),
            config: world.path(&format!("{name}.toml")),
            data_dir: world.path(name),
            sip: world.at(host, 5060),
            admin: world.free(host),
            store: "sqlite:signalbox.db".to_owned(),
            process: None,
            roles: &[],
            key: Some(world.file("cluster.key", "the key that the edges of the story's cluster share")),
        };
        edge.write_config(more);
        edge
    }

    /// Makes the edge listen somewhere else; its configuration is written anew after that.
    pub fn listen_on(&mut self, address: SocketAddr) {
        self.sip = address;
    }

    /// Makes the edge keep its state somewhere else; its configuration is written anew after that.
    pub fn keep_in(&mut self, data_dir: PathBuf) {
        self.data_dir = data_dir;
    }

    /// Runs it where it should not get far: what it said by its end.
    ///
    /// # Panics
    /// It goes on running.
    pub fn start_in_vain(&mut self) -> Said {
        self.launch();
        self.wait_end()
    }

    /// Writes the configuration: the edge's own part and the story's.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_config(&mut self, more: &str) {
        let Self { name, sip, admin, store, .. } = self;
        let data_dir = self.data_dir.display();
        let probe =
            if more.contains("[probe]") { "" } else { "[probe]\ninterval = \"1s\"\ntimeout = \"500ms\"\n" };
        let listener = if more.contains("[[listener]]") {
            String::new()
        } else {
            format!("[[listener]]\naddress = \"udp:{sip}\"\n")
        };
        let key = self
            .key
            .as_ref()
            .map_or_else(String::new, |key| format!("cluster_key_file = \"{}\"\n", key.display()));
        let text = format!(
            "[edge]\ncluster = \"e2e\"\nname = \"{name}\"\ndata_dir = \"{data_dir}\"\n{key}\n\
             [journal]\nsegment_size = \"4MiB\"\nmax_size = \"256MiB\"\n\n\
             [store]\nurl = \"{store}\"\n\n[admin]\nlisten = \"{admin}\"\n\n{probe}\n{listener}\n{more}"
        );
        fs::write(&self.config, text).expect("the story's directory is writable");
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// It does not get ready; what it said is shown.
    pub fn start(&mut self) {
        self.launch();
        let admin = self.admin;
        let process = self.process.as_mut().expect("it was launched");
        wait::until("the edge to be ready", || {
            if let Some(status) = process.ended() {
                panic!("the edge ended ({status}) before it was ready:\n{}", process.stderr());
            }
            http::get(admin, "/ready").filter(|(status, _)| *status == 200)
        });
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) {
        let mut command = self.command();
        self.process = Some(Process::start(&self.dir, &self.name, &mut command));
    }

    /// Starts it with a fail point armed, and waits until it has killed itself there.
    ///
    /// # Panics
    /// It never gets there, or ends in another way.
    pub fn live_until(&mut self, fail_point: &str) {
        let mut command = self.command();
        command.env("SIGNALBOX_FAIL_POINT", fail_point);
        self.process = Some(Process::start(&self.dir, &self.name, &mut command));
        let said = self.wait_end();
        assert_eq!(said.code, 128 + Signal::SIGKILL as i32, "{fail_point}: {}", said.stderr);
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(&self.config).args(["--drain", "10s"]).current_dir(&self.dir);
        if !self.roles.is_empty() {
            command.args(["--roles", &self.roles.join(",")]);
        }
        command
    }

    /// Leaves the other roles to processes of their own; takes effect with its next start.
    pub fn only(&mut self, roles: &'static [&'static str]) {
        self.roles = roles;
    }

    /// Starts another process with roles of this edge, whose other values come from the environment.
    #[must_use]
    pub fn start_role(&self, role: &str, name: &str, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(binary());
        command.args(["run", "--roles", role, "--config"]).arg(&self.config).current_dir(&self.dir);
        Process::start(&self.dir, name, command.envs(environment.iter().copied()))
    }

    /// The running process.
    ///
    /// # Panics
    /// It was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the story started it")
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// SIGTERM, and what it had said by its end.
    ///
    /// # Panics
    /// It does not end.
    pub fn terminate(&mut self) -> Said {
        self.process().signal(Signal::SIGTERM);
        self.wait_end()
    }

    /// Waits for an end that something else brings about.
    ///
    /// # Panics
    /// It does not end.
    pub fn wait_end(&mut self) -> Said {
        let mut process = self.process.take().expect("the story started it");
        let status = process.wait("the edge to end");
        Said { code: code(status), stdout: process.stdout(), stderr: process.stderr() }
    }

    /// Where phones and PBXs reach it.
    #[must_use]
    pub fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// Its read-only HTTP port.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Runs a verb against this edge.
    #[must_use]
    pub fn verb(&self, words: &[&str]) -> Said {
        let mut command = Command::new(binary());
        command.args(words).arg("--config").arg(&self.config).current_dir(&self.dir);
        said(&mut command)
    }

    /// What a verb prints for people.
    ///
    /// # Panics
    /// The verb fails.
    #[must_use]
    pub fn text(&self, words: &[&str]) -> String {
        self.verb(words).good()
    }

    /// What a verb prints for programs.
    ///
    /// # Panics
    /// The verb fails.
    #[must_use]
    pub fn rows(&self, words: &[&str]) -> Vec<Value> {
        self.verb(&[words, &["--json"]].concat()).rows()
    }

    /// Everything recorded so far, or what a pattern names, as CloudEvents.
    ///
    /// # Panics
    /// The verb fails.
    #[must_use]
    pub fn events(&self, pattern: &str) -> Vec<Value> {
        let words: &[&str] =
            if pattern.is_empty() { &["tail", "--no-follow"] } else { &["tail", pattern, "--no-follow"] };
        self.rows(words)
    }

    /// Waits until at least so many events of a pattern are recorded, and returns them.
    ///
    /// # Panics
    /// They never come.
    pub fn await_events(&self, pattern: &str, at_least: usize) -> Vec<Value> {
        wait::until(&format!("{at_least} of {pattern}"), || {
            Some(self.events(pattern)).filter(|e| e.len() >= at_least)
        })
    }

    /// Waits until the rows of a verb are so many, and returns them.
    ///
    /// # Panics
    /// They never are.
    pub fn await_rows(&self, words: &[&str], count: usize) -> Vec<Value> {
        wait::until(&format!("{count} rows of {words:?}"), || {
            Some(self.rows(words)).filter(|r| r.len() == count)
        })
    }

    /// Waits until a backend is in a state.
    ///
    /// # Panics
    /// It never is.
    pub fn await_backend(&self, name: &str, state: &str) {
        wait::until_true(&format!("{name} to be {state}"), || {
            self.rows(&["backends"]).iter().any(|row| row["backend"] == name && row["state"] == state)
        });
    }
}

/// Runs a command to its end.
///
/// # Panics
/// There is no such command.
pub fn said(command: &mut Command) -> Said {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: code(output.status), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs the binary in a directory.
#[must_use]
pub fn signalbox(dir: &Path, words: &[&str]) -> Said {
    said(Command::new(binary()).args(words).current_dir(dir).env_remove("SIGNALBOX_CONFIG"))
}

/// The built binary: beside the test's own (`target/debug/deps/it-…`), or what `SIGNALBOX_BIN` names.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("SIGNALBOX_BIN") {
        return named.into();
    }
    let own = std::env::current_exe().expect("a test knows its own program");
    let profile = own.ancestors().nth(2).expect("it lies in target/<profile>/deps");
    let binary = profile.join("signalbox");
    assert!(
        binary.is_file(),
        "{} is not there: build it first, with `cargo build -p signalbox` or `make build`",
        binary.display()
    );
    binary
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
