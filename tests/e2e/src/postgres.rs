//! A private PostgreSQL server, started once per test process at first need; every story has a database of its own. A
//! story that stops the server has that for itself, too.

use crate::edge::said;
use crate::janitor::{self, Undo};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
struct Server {
    port: u16,
    /// Shell commands that stop it as a crash would, and start it.
    stop: String,
    start: String,
    /// And those that freeze it with all its connections, and let it go on.
    freeze: String,
    thaw: String,
    /// Stops the server with the test process: this is never dropped.
    _stop: Undo,
}

/// An empty database.
#[derive(Debug)]
pub struct Database {
    port: u16,
    name: String,
    /// None: the one of all stories.
    own: Option<Server>,
}

impl Database {
    /// A new one.
    ///
    /// # Panics
    /// PostgreSQL is not installed or does not start.
    #[must_use]
    pub fn create() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let port = SERVER.get_or_init(start).port;
        let name = format!("story_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let _ = psql(port, "postgres", &format!("CREATE DATABASE {name}"));
        Self { port, name, own: None }
    }

    /// One on a server that is there for this story only: it may be stopped.
    ///
    /// # Panics
    /// As [`Database::create`].
    #[must_use]
    pub fn on_its_own() -> Self {
        let own = start();
        Self { port: own.port, name: "postgres".to_owned(), own: Some(own) }
    }

    /// Ends its own server at once.
    ///
    /// # Panics
    /// It has none, or that does not end.
    pub fn stop_server(&self) {
        self.own_server(|server| &server.stop);
    }

    /// Starts its own server again.
    ///
    /// # Panics
    /// It has none, or that does not start.
    pub fn start_server(&self) {
        self.own_server(|server| &server.start);
    }

    /// Makes its own server stand still: it is reached, and answers nothing.
    ///
    /// # Panics
    /// It has none.
    pub fn freeze_server(&self) {
        self.own_server(|server| &server.freeze);
    }

    /// Lets its own server go on.
    ///
    /// # Panics
    /// It has none.
    pub fn thaw_server(&self) {
        self.own_server(|server| &server.thaw);
    }

    fn own_server(&self, script: impl Fn(&Server) -> &String) {
        let server = self.own.as_ref().expect("only a server of one's own is stopped and started");
        let done = said(Command::new("sh").args(["-c", script(server)]));
        assert_eq!(done.code, 0, "{done:?}");
    }

    /// As `store.url` wants it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}?sslmode=disable", self.port, self.name)
    }

    /// The rows of a query, columns separated by `|`.
    #[must_use]
    pub fn query(&self, sql: &str) -> Vec<String> {
        psql(self.port, &self.name, sql).lines().map(str::to_owned).collect()
    }

    /// Runs what has no rows.
    pub fn run(&self, sql: &str) {
        psql(self.port, &self.name, sql);
    }
}

fn psql(port: u16, database: &str, sql: &str) -> String {
    let url = format!("postgres://postgres@127.0.0.1:{port}/{database}");
    said(Command::new("psql").args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(url))
        .good()
}

fn start() -> Server {
    let bin = programs().expect("PostgreSQL's initdb is in PATH or in /usr/lib/postgresql/*/bin");
    let dir =
        tempfile::Builder::new().prefix("signalbox-e2e-pg-").tempdir().expect("a temporary directory").keep();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("loopback has free ports")
        .port();
    let (data, log) = (dir.join("data"), dir.join("server.log"));
    let become_other = other_user().map(|user| {
        let chown = said(Command::new("chown").arg(user).arg(&dir));
        assert_eq!(chown.code, 0, "{chown:?}");
        format!("setpriv --reuid={user} --clear-groups -- ")
    });
    let become_other = become_other.unwrap_or_default();
    let (bin, data, log) = (bin.display(), data.display(), log.display());
    // Durability of the database itself is not what these stories are about: the machine stays up.
    let options =
        format!("-p {port} -h 127.0.0.1 -k '' -c fsync=off -c synchronous_commit=off -c max_connections=200");
    let stop = format!("cd /; {become_other}{bin}/pg_ctl -D {data} -m immediate stop");
    let at_end = janitor::at_end(&format!("{stop}; rm -rf {}", dir.display()));
    // Its processes are each in a session of their own.
    let signal =
        |name: &str| format!("p=$(head -1 {data}/postmaster.pid) && kill -{name} $p $(ps -o pid= --ppid $p)");
    let (freeze, thaw) = (signal("STOP"), signal("CONT"));
    let run = format!(
        "cd / && {become_other}{bin}/pg_ctl -D {data} -w -t 60 -l {log} -o \"{options}\" start >{log}.start 2>&1 </dev/null"
    );
    let script = format!(
        "cd / && {become_other}{bin}/initdb -D {data} -U postgres -A trust -E UTF8 --no-locale --no-sync >{log}.init 2>&1 && {run}"
    );
    let started = said(Command::new("sh").args(["-c", &script]));
    assert_eq!(started.code, 0, "PostgreSQL does not start; its logs are {log}*");
    Server { port, stop, start: run, freeze, thaw, _stop: at_end }
}

fn programs() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&in_path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let has = |folder: &Path, program: &str| folder.join(program).exists();
    folders.into_iter().find(|folder| has(folder, "initdb") && has(folder, "pg_ctl"))
}

/// initdb refuses root: whom to become instead.
fn other_user() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let exists = |user: &&str| nix::unistd::User::from_name(user).is_ok_and(|found| found.is_some());
    ["postgres", "nobody"].into_iter().find(exists)
}
