//! Real phones without a screen: baresip, PJSIP and JsSIP, each a process that is told what to do and tells what it sees.
//!
//! All speak baresip's `ctrl_tcp`: netstrings of JSON, commands one way, answers and events the other. baresip has it as a
//! module, PJSIP by `clients/pjsua.py`, JsSIP by `clients/jssip.cjs`.

use crate::process::{self, Process};
use crate::wait::{self, Deadline};
use crate::world::World;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(50);

/// Which phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// baresip 1.0 of Debian.
    Baresip,
    /// PJSIP 2.15 with its Python binding.
    Pjsua,
    /// JsSIP, as in a browser: over WebSocket with TLS alone.
    Jssip,
}

/// Who it is, and how it gets to the edge.
#[derive(Debug)]
pub struct Account<'a> {
    /// `401`; its password is `pw-401`.
    pub user: &'a str,
    /// `acme.test`
    pub domain: &'a str,
    /// `udp`, `tcp`, `tls` or `wss`.
    pub transport: &'a str,
    /// Where the edge listens for that.
    pub edge: SocketAddr,
    /// Its own address.
    pub local: IpAddr,
    /// Who vouches for the edge.
    pub ca: &'a Path,
}

/// A running phone.
#[derive(Debug)]
pub struct Client {
    name: String,
    _process: Process,
    control: TcpStream,
    bytes: Vec<u8>,
    said: Vec<Value>,
}

impl Client {
    /// Starts one and waits until it is registered.
    ///
    /// # Panics
    /// It is not installed, or does not register.
    #[must_use]
    pub fn start(world: &World, kind: Kind, account: &Account<'_>) -> Self {
        let name = format!("{kind:?}-{}-{}", account.user, account.domain);
        let at = world.free(last_octet(account.local));
        let mut command = match kind {
            Kind::Baresip => baresip(world, &name, at, account),
            Kind::Pjsua => pjsua(at, account),
            Kind::Jssip => jssip(at, account),
        };
        let mut process = Process::start(world.dir(), &name, &mut command);
        let control = wait::until(&format!("{name} to listen"), || {
            assert!(process.ended().is_none(), "{name} ended:\n{}{}", process.stdout(), process.stderr());
            TcpStream::connect(at).ok()
        });
        control.set_read_timeout(Some(MOMENT)).expect("a span above zero is allowed");
        let mut client = Self { name, _process: process, control, bytes: Vec::new(), said: Vec::new() };
        if kind == Kind::Baresip {
            // What it said before somebody listened is lost.
            client.ask("uanew", &baresip_account(account));
        }
        client.hears("REGISTER_OK");
        client
    }

    /// Tells it what to do; waits until it has taken that.
    ///
    /// # Panics
    /// It refuses.
    pub fn ask(&mut self, command: &str, params: &str) {
        let text = json!({ "command": command, "params": params, "token": "" }).to_string();
        write!(self.control, "{}:{text},", text.len()).expect("it is there");
        let answer = self.await_said(command, |value| value["response"] == true);
        assert_eq!(answer["ok"], true, "{} {command} {params}: {answer}", self.name);
    }

    /// The next event of a type; `CALL_ESTABLISHED`, for example.
    ///
    /// # Panics
    /// None comes.
    pub fn hears(&mut self, kind: &str) -> Value {
        self.await_said(kind, |value| value["event"] == true && value["type"] == kind)
    }

    /// Events so far are of no interest any more.
    pub fn forget(&mut self) {
        self.said.clear();
    }

    fn await_said(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Deadline::within(wait::LONG);
        while deadline.left().is_some() {
            if let Some(at) = self.said.iter().position(&fits) {
                return self.said.remove(at);
            }
            self.listen();
        }
        panic!("{} waited in vain for {what}; it said {:#?}", self.name, self.said)
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        let Ok(count) = self.control.read(&mut buffer) else { return };
        assert!(count > 0, "{} is gone", self.name);
        self.bytes.extend_from_slice(&buffer[..count]);
        while let Some(colon) = self.bytes.iter().position(|byte| *byte == b':') {
            let len: usize = String::from_utf8_lossy(&self.bytes[..colon]).parse().expect("a netstring");
            if self.bytes.len() < colon + len + 2 {
                return;
            }
            let text: Vec<u8> = self.bytes.drain(..colon + len + 2).skip(colon + 1).take(len).collect();
            self.said.push(serde_json::from_slice(&text).expect("it says JSON"));
        }
    }
}

fn last_octet(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => panic!("stories have IPv4 networks"),
    }
}

fn baresip(world: &World, name: &str, at: SocketAddr, account: &Account<'_>) -> Command {
    let local = account.local;
    let sip = world.free(last_octet(local));
    let config = format!(
        "poll_method epoll\nsip_listen {sip}\nsip_cafile {}\nctrl_tcp_listen {at}\nnet_interface {local}\n\
         audio_player aubridge,null\naudio_source aubridge,null\naudio_alert aubridge,null\nrtp_ports 21000-21999\n\
         module_path {}\nmodule g711.so\nmodule aubridge.so\nmodule uuid.so\n\
         module_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\nmodule_app contact.so\n",
        account.ca.display(),
        baresip_modules().display()
    );
    let config = world.file(&format!("{name}/config"), &config);
    let _ = world.file(&format!("{name}/accounts"), "\n");
    let _ = world.file(&format!("{name}/contacts"), "\n");
    let mut command = Command::new("baresip");
    command.arg("-f").arg(config.parent().expect("it lies in a directory")).arg("-v");
    command
}

fn baresip_modules() -> PathBuf {
    let places = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"];
    places.iter().map(PathBuf::from).find(|place| place.exists()).expect("baresip-core is installed")
}

fn baresip_account(account: &Account<'_>) -> String {
    let Account { user, domain, transport, edge, .. } = account;
    format!(
        "<sip:{user}@{domain};transport={transport}>;auth_user={user};auth_pass=pw-{user};answermode=manual;\
         audio_codecs=pcmu;regint=600;outbound=\"sip:{edge};transport={transport}\""
    )
}

fn pjsua(at: SocketAddr, account: &Account<'_>) -> Command {
    let Account { user, domain, transport, edge, local, ca } = account;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/pjsua.py");
    let mut command = Command::new(process::cache().join("python/bin/python"));
    command.arg(script).arg(at.to_string()).arg(local.to_string()).arg(format!("{user}@{domain}"));
    command.arg(format!("{edge};transport={transport}")).arg(ca);
    command
}

fn jssip(at: SocketAddr, account: &Account<'_>) -> Command {
    let Account { user, domain, edge, ca, .. } = account;
    let tree = process::cache().join("jssip");
    let mut command = Command::new(tree.join("bin/node"));
    command.env("NODE_PATH", tree.join("node_modules")).env("NODE_EXTRA_CA_CERTS", ca);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/jssip.cjs"));
    command.arg(at.to_string()).arg(format!("{user}@{domain}")).arg(edge.to_string());
    command
}
