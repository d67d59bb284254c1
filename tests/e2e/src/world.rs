//! A story's place: a directory for its files and logs, and a loopback network of its own.
//!
//! Every story has a `127.x.y.0/24`, so that each of its peers has an address of its own, as on a real network, and
//! no two stories collide.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

/// Lines of each program's standard error that a failed story prints; everything is in its directory.
const LOG_LINES_SHOWN: usize = 30;

/// A story's place. Make it first, so that it goes last.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    net: [u8; 3],
}

impl World {
    /// A place with a name that its directory carries.
    ///
    /// # Panics
    /// No directory can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let prefix = format!("signalbox-e2e-{name}-");
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().expect("a temporary directory").keep();
        // Servers that run as another user must get in.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        Self { dir, net: network() }
    }

    /// Where the story's files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file or directory of the story.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file and returns its path.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies in the story's directory")).expect("a directory");
        fs::write(&path, text).expect("the story's directory is writable");
        path
    }

    /// A host of the story's network.
    #[must_use]
    pub fn ip(&self, host: u8) -> IpAddr {
        let [a, b, c] = self.net;
        IpAddr::V4(Ipv4Addr::new(a, b, c, host))
    }

    /// An address and port of a host; nobody else is on that network.
    #[must_use]
    pub fn at(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }

    /// A free port of a host, for UDP and TCP both.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn free(&self, host: u8) -> SocketAddr {
        for _ in 0..100 {
            let udp = UdpSocket::bind((self.ip(host), 0)).expect("loopback has free ports");
            let address = udp.local_addr().expect("it is bound");
            if TcpListener::bind(address).is_ok() {
                return address;
            }
        }
        panic!("no port is free for UDP and TCP both on {}", self.ip(host))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
            return;
        }
        eprintln!("the story's files are kept in {}", self.dir.display());
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        let mut logs: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| is_log(p)).collect();
        logs.sort();
        for log in logs {
            let text =
                fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            if !lines.is_empty() {
                eprintln!("── {}", log.display());
                lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..]
                    .iter()
                    .for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|x| x == "err")
}

/// A loopback network that this process has not used; the process id keeps test processes apart.
fn network() -> [u8; 3] {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = u8::try_from(std::process::id() % 200).expect("it is below 200");
    [127, 20 + process, nth]
}
