//! A private PostgreSQL server: started once per test binary at first need, gone when the process is, however it ends.
//!
//! A shell of its own starts the server and then waits for its standard input to close, which the kernel does when the
//! test process ends; then it stops the server and removes its files. As root it runs the server as `postgres` or `nobody`.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// `$1` directory, `$2` folder of PostgreSQL's programs, `$3` port, `$4` more settings, `$5…` how to become another user
/// (or nothing).
const GUARD: &str = r#"
dir=$1; bin=$2; port=$3; more=$4; shift 4
cd /
finish() {
    "$@" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1
    rm -rf "$dir"
}
trap 'exit 1' INT TERM HUP
trap 'finish "$@"' EXIT
"$@" "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
ssl=off
[ -e "$dir/server.crt" ] && ssl="on -c ssl_cert_file=$dir/server.crt -c ssl_key_file=$dir/server.key"
"$@" "$bin/pg_ctl" -D "$dir/data" -w -t 60 -l "$dir/data/server.log" \
    -o "-p $port -h 127.0.0.1 -k '' -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=200 -c ssl=$ssl $more" \
    start >/dev/null 2>&1 </dev/null || { cat "$dir/data/server.log"; exit 1; }
echo ready
read -r _ || true
"#;

pub(crate) struct Server {
    pub(crate) port: u16,
    /// What crashes it and starts it again.
    crash: Vec<String>,
    /// Its standard input stays open as long as this process lives.
    _guard: Child,
}

/// The server of this test binary.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| start(None, ""))
}

/// A name for a new database; the caller creates it.
pub(crate) fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Server {
    /// The address of a database on it.
    pub(crate) fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Ends it at once, as a crash would, and starts it again: what was not written to its log by then is gone.
    #[allow(dead_code, reason = "shared with packages that crash no server")]
    pub(crate) fn crash(&self) {
        let mut command = Command::new(&self.crash[0]);
        let done = command.args(&self.crash[1..]).current_dir("/").stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "PostgreSQL does not come again");
    }
}

/// Starts one more server with `more` settings (`-c name=value …`); with a certificate and its key (PEM) it takes TLS.
/// It lives as long as what is returned.
pub(crate) fn start(tls: Option<(&str, &str)>, more: &str) -> Server {
    let bin = programs().expect("PostgreSQL's initdb is in PATH or in /usr/lib/postgresql/*/bin");
    let dir = tempfile::Builder::new().prefix("signalbox-pg-").tempdir().unwrap().keep();
    if let Some((certificate, key)) = tls {
        std::fs::write(dir.join("server.crt"), certificate).unwrap();
        std::fs::write(dir.join("server.key"), key).unwrap();
        std::fs::set_permissions(dir.join("server.key"), Permissions::from_mode(0o600)).unwrap();
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut guard = Command::new("sh");
    guard.args(["-c", GUARD, "guard"]).arg(&dir).arg(&bin).arg(port.to_string()).arg(more);
    let mut crash = Vec::new();
    if let Some(user) = other_user() {
        let status = Command::new("chown").arg("-R").arg(&user).arg(&dir).status().unwrap();
        assert!(status.success(), "chown {user}");
        let other =
            ["setpriv".to_owned(), format!("--reuid={user}"), "--clear-groups".to_owned(), "--".to_owned()];
        guard.args(&other);
        crash.extend(other);
    }
    let (pg_ctl, data) = (bin.join("pg_ctl").display().to_string(), dir.join("data").display().to_string());
    crash.extend([pg_ctl, "-D".to_owned(), data.clone(), "-l".to_owned(), format!("{data}/server.log")]);
    crash.extend(["-m", "immediate", "-w", "-t", "60", "restart"].map(str::to_owned));
    let mut child = guard.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !said.ends_with("ready\n") {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "PostgreSQL did not start: {said}");
    }
    Server { port, crash, _guard: child }
}

fn programs() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&in_path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}

/// initdb refuses root: whom to become instead.
fn other_user() -> Option<String> {
    let id = |args: &[&str]| Command::new("id").args(args).stderr(Stdio::null()).output().unwrap();
    if id(&["-u"]).stdout != b"0\n" {
        return None;
    }
    let exists = |user: &&str| id(&["-u", user]).status.success();
    ["postgres", "nobody"].into_iter().find(exists).map(str::to_owned)
}
