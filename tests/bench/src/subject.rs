//! The programs under load: Signalbox as built for release, Kamailio from Debian.

use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Signalbox,
    Kamailio,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signalbox => "signalbox",
            Self::Kamailio => "kamailio",
        }
    }
}

/// A running one, stopped and its files removed when dropped.
pub(crate) struct Subject {
    pub kind: Kind,
    /// Where it takes SIP.
    pub address: SocketAddr,
    /// Where Signalbox answers HTTP.
    #[cfg_attr(not(feature = "bus"), expect(dead_code, reason = "only the bus's figures are read there"))]
    pub admin: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Subject {
    /// Starts it in front of `backend` and waits until it answers.
    pub(crate) fn start(kind: Kind, backend: SocketAddr) -> Result<Self> {
        Self::with(kind, backend, "")
    }

    /// The same with more of Signalbox's configuration.
    pub(crate) fn with(kind: Kind, backend: SocketAddr, more: &str) -> Result<Self> {
        // On the disk of the working directory: a memory file system would make the journal look fast.
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(std::env::current_dir()?)?;
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = match kind {
            Kind::Signalbox => signalbox(dir.path(), address, admin, backend, more),
            Kind::Kamailio => kamailio(dir.path(), address, backend),
        }?;
        let subject = Self { kind, address, admin, child, _dir: dir };
        subject.wait_ready()?;
        Ok(subject)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn wait_ready(&self) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let local = socket.local_addr()?;
        // Signalbox answers those who name a domain of its; Kamailio here answers for its own address.
        let host = match self.kind {
            Kind::Signalbox => "bench.test".to_owned(),
            Kind::Kamailio => self.address.to_string(),
        };
        let options = format!(
            "OPTIONS sip:{0} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKready;rport\r\nMax-Forwards: 70\r\nFrom: <sip:ready@{local}>;tag=1\r\n\
             To: <sip:{0}>\r\nCall-ID: ready@{local}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            host
        );
        let begun = Instant::now();
        let mut buffer = [0u8; 2048];
        while begun.elapsed() < Duration::from_secs(20) {
            socket.send_to(options.as_bytes(), self.address)?;
            if socket.recv(&mut buffer).is_ok() {
                return Ok(());
            }
        }
        bail!("{} does not answer at {}", self.kind.name(), self.address)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn signalbox(
    dir: &Path,
    address: SocketAddr,
    admin: SocketAddr,
    backend: SocketAddr,
    more: &str,
) -> Result<Child> {
    let binary: PathBuf = std::env::current_exe()?.with_file_name("signalbox");
    let config = dir.join("signalbox.toml");
    let text = format!(
        "[edge]\ncluster = \"bench\"\nname = \"edge-1\"\ndata_dir = \"{}\"\n[[listener]]\naddress = \"udp:{address}\"\n\
         [[tenant]]\nname = \"bench\"\ndomains = [\"bench.test\"]\nbackends = [{{ name = \"pbx\", address = \"udp:{backend}\" }}]\n\
         [admin]\nlisten = \"{admin}\"\n[log]\nlevel = \"error\"\n{more}",
        dir.join("data").display()
    );
    std::fs::write(&config, text)?;
    let log = std::fs::File::create(dir.join("log"))?;
    Command::new(&binary)
        .args(["run", "--drain", "0s", "--config"])
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .with_context(|| format!("{}: build it first, `make bench` does", binary.display()))
}

fn kamailio(dir: &Path, address: SocketAddr, backend: SocketAddr) -> Result<Child> {
    let config = dir.join("kamailio.cfg");
    let text = include_str!("../kamailio.cfg")
        .replace("@LISTEN@", &address.to_string())
        .replace("@BACKEND@", &backend.to_string())
        .replace("@DIR@", &dir.display().to_string());
    std::fs::write(&config, text)?;
    let log = std::fs::File::create(dir.join("log"))?;
    Command::new("kamailio")
        .args(["-DD", "-E", "-m", "2048", "-M", "16", "-x", "fm", "-X", "fm"])
        .arg("-Y")
        .arg(dir)
        .arg("-f")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("kamailio is missing: `make setup-peers`")
}
