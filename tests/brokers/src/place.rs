//! Where a broker lives: a directory and ports of its own, kept while it is down.

use signalbox_e2e::janitor::{self, Undo};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A port of loopback that stays ours while the broker behind it is dead.
///
/// It lies below the range from which the kernel takes ports for clients, and a lock keeps other test processes off.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

const PORTS: std::ops::Range<u16> = 20_000..32_000;

impl Port {
    pub(crate) fn take() -> Self {
        let locks = std::env::temp_dir().join("signalbox-ports");
        fs::create_dir_all(&locks).expect("a temporary directory");
        let first = u16::try_from(std::process::id() % 12_000).expect("below 12,000");
        (0..PORTS.end - PORTS.start)
            .map(|n| PORTS.start + (first + n) % (PORTS.end - PORTS.start))
            .find_map(|number| Self::try_take(&locks, number))
            .expect("there are free ports below 32,000")
    }

    fn try_take(locks: &Path, number: u16) -> Option<Self> {
        let lock = File::create(locks.join(number.to_string())).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self { number, _lock: lock })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// A directory that is removed with the broker, or with the test process.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    _remove: Undo,
}

impl Place {
    pub(crate) fn new(broker: &str) -> Self {
        let made = tempfile::Builder::new().prefix(&format!("signalbox-{broker}-")).tempdir();
        let dir = made.expect("a temporary directory").keep();
        let remove = janitor::at_end(&format!("rm -rf '{}'", dir.display()));
        Self { dir, _remove: remove }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, text).expect("the broker's directory is writable");
        path
    }

    /// Where the broker keeps what it stores.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A copy of the data, while the broker is down.
    pub(crate) fn copy(&self) -> Copied {
        let made = tempfile::Builder::new().prefix("copy-").tempdir_in(&self.dir);
        let dir = made.expect("the broker's directory is writable").keep();
        copy(&self.data(), &dir.join("data"));
        Copied { dir }
    }

    /// Puts a copy back, while the broker is down: nothing of what is there stays.
    pub(crate) fn put_back(&self, copied: &Copied) {
        fs::remove_dir_all(self.data()).expect("the broker's data can be removed");
        copy(&copied.dir.join("data"), &self.data());
    }
}

/// A copy of what a broker stored; goes with the broker.
#[derive(Clone, Debug)]
pub struct Copied {
    dir: PathBuf,
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status();
    assert!(done.is_ok_and(|status| status.success()), "cannot copy {} to {}", from.display(), to.display());
}

/// Where `make setup-peers` puts what has no package: the jars of Kafka, a Python environment with nats-server.
#[must_use]
pub fn cache() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let users = || from("XDG_CACHE_HOME").or_else(|| Some(from("HOME")?.join(".cache")));
    from("SIGNALBOX_CACHE").or_else(|| Some(users()?.join("signalbox"))).expect("HOME is set")
}
