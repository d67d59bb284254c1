//! An edge with one tenant and one backend, and hand-written peers on real sockets.

use signalbox_base::{EdgeIdentity, JournalId, Secret, Text, Transport};
use signalbox_edge::{Edge, EdgeConfig, EdgeHandle, Hooks, InForce, StartError};
use signalbox_engine::Settings;
use signalbox_engine::settings::{
    BackendSettings, CallsFrom, ContactMode, DomainSettings, EarlyDialogs, Hide, ListenerSettings,
    NoiseBudget, Numbering, PeerAddress, ProbeSettings, Redirects, Rules, Serves, TenantLimits,
    TenantSettings, TimerSettings,
};
use signalbox_journal::storage::SharedStorage;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_secs(20);

/// Where everything of one test lives.
pub(crate) struct World {
    pub(crate) pbx: Peer,
    dir: TempDir,
    runtime: Runtime,
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { pbx: Peer::at(Ipv4Addr::LOCALHOST), dir: TempDir::new().unwrap(), runtime }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.data_dir().join(signalbox_edge::admin::SOCKET)
    }

    pub(crate) fn config(&self) -> EdgeConfig {
        let settings = Arc::new(settings(self.pbx.address(), localhost(0)));
        let in_force = InForce { sha256: Text::from("0".repeat(64)), effective: Text::new("{}") };
        let mut config = EdgeConfig::new(settings, self.data_dir(), in_force);
        config.journal.segment_size = 1 << 20;
        config.admin_listen = Some(localhost(0));
        config
    }

    pub(crate) fn start(&self) -> EdgeHandle {
        self.start_with(self.config(), Hooks::default()).unwrap()
    }

    pub(crate) fn start_on(&self, storage: SharedStorage) -> EdgeHandle {
        let config = EdgeConfig { storage, ..self.config() };
        let edge = self.start_with(config, Hooks::default()).unwrap();
        self.until("the start's records", || edge.durable().0 >= 2);
        edge
    }

    pub(crate) fn start_with(&self, config: EdgeConfig, hooks: Hooks) -> Result<EdgeHandle, StartError> {
        Edge::start(config, hooks, self.runtime.handle())
    }

    /// Runs a future, and gives up on it after a while.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it did not happen") })
    }

    /// Asks until `condition` holds.
    pub(crate) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let poll = async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while !condition() {
                tick.tick().await;
            }
        };
        let happened = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, poll).await });
        assert!(happened.is_ok(), "{what} did not happen");
    }

    pub(crate) fn stop(&self, edge: &EdgeHandle) -> signalbox_edge::StopReport {
        self.wait(edge.stop(Duration::from_secs(5), Text::new("test"))).unwrap()
    }

    /// One registration from the phone's request to the backend's 2xx, which is sent but not waited for at the phone.
    pub(crate) fn register_up_to_the_answer(&self, edge: &EdgeHandle, phone: &Peer, user: &str) {
        phone.send(edge.listeners()[0], &register(phone, user, 1));
        let (request, from) = self.pbx.receive("REGISTER ");
        self.pbx.send(from, &answer(&request, "200 OK", true));
    }
}

/// One UDP socket that speaks SIP by hand.
pub(crate) struct Peer(UdpSocket);

impl Peer {
    /// A phone: it has another address than the backend, by which that one is known.
    pub(crate) fn phone() -> Self {
        Self::at(Ipv4Addr::new(127, 0, 0, 2))
    }

    pub(crate) fn at(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn send(&self, to: SocketAddr, message: &str) {
        self.0.send_to(message.as_bytes(), to).unwrap();
    }

    /// The next message; it must start with `start`.
    pub(crate) fn receive(&self, start: &str) -> (String, SocketAddr) {
        let mut buffer = [0; 65_535];
        let (len, from) = self.0.recv_from(&mut buffer).unwrap_or_else(|e| panic!("no {start:?} came: {e}"));
        let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
        assert!(message.starts_with(start), "{start:?} was expected, this came:\n{message}");
        (message, from)
    }

    /// The next message, if one comes in time.
    pub(crate) fn next_within(&self, time: Duration) -> Option<(String, SocketAddr)> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 65_535];
        let came = self.0.recv_from(&mut buffer);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        came.ok().map(|(len, from)| (String::from_utf8_lossy(&buffer[..len]).into_owned(), from))
    }

    /// Nothing has come.
    pub(crate) fn has_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        let mut buffer = [0; 65_535];
        let came = self.0.recv_from(&mut buffer);
        self.0.set_nonblocking(false).unwrap();
        match came {
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            Ok((len, _)) => panic!("nothing should have come:\n{}", String::from_utf8_lossy(&buffer[..len])),
        }
    }
}

pub(crate) fn localhost(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// A REGISTER of `user@acme.test`.
pub(crate) fn register(phone: &Peer, user: &str, cseq: u32) -> String {
    let at = phone.address();
    format!(
        "REGISTER sip:acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{user}{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@acme.test>;tag=f{user}\r\nTo: <sip:{user}@acme.test>\r\n\
         Call-ID: reg-{user}@{at}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{at}>\r\nExpires: 600\r\n\
         User-Agent: story\r\nContent-Length: 0\r\n\r\n"
    )
}

/// An OPTIONS to the edge itself.
pub(crate) fn options(peer: &Peer, edge: SocketAddr, number: u32) -> String {
    let at = peer.address();
    format!(
        "OPTIONS sip:{edge} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKopt{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:pbx@{at}>;tag=o{number}\r\nTo: <sip:{edge}>\r\nCall-ID: opt-{number}@{at}\r\n\
         CSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// An answer to a request: what must be repeated is, and Contact too where it is asked for.
pub(crate) fn answer(request: &str, status: &str, contact: bool) -> String {
    let mut lines = vec![format!("SIP/2.0 {status}")];
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "via" | "from" | "call-id" | "cseq" => lines.push(line.to_owned()),
            "to" => lines.push(format!("{line};tag=pbx")),
            "contact" if contact => lines.push(format!("{line};expires=600")),
            _ => {}
        }
    }
    lines.push("Content-Length: 0\r\n\r\n".to_owned());
    lines.join("\r\n")
}

/// One tenant `acme` with one backend, one network that everybody is on.
pub(crate) fn settings(pbx: SocketAddr, listen: SocketAddr) -> Settings {
    let backend = BackendSettings {
        name: Text::new("pbx-1"),
        address: PeerAddress {
            transport: Transport::Udp,
            host: Text::from(pbx.ip().to_string()),
            port: Some(pbx.port()),
            literal: Some(pbx),
            any_transport: false,
        },
        source: Vec::new(),
        priority: 1,
        weight: 1,
        domain: Some(Text::new("acme.test")),
        network: 0,
        contact: ContactMode::Token,
        hide: Hide::Off,
        trusts_edge: false,
        register: None,
        early_dialogs: EarlyDialogs::Single,
        redirects: Redirects::Follow,
        probe: ProbeSettings { interval: None, ..ProbeSettings::default() },
    };
    Settings {
        identity: EdgeIdentity { cluster: Text::new("test"), edge: Text::new("edge-1") },
        journal: JournalId::default(),
        version: Text::new("0.0.0"),
        networks: vec![Text::new("all")],
        listeners: vec![ListenerSettings {
            network: 0,
            transport: Transport::Udp,
            address: listen,
            advertise: Text::from(listen.to_string()),
            serves: Serves::ALL,
            domain: None,
        }],
        tenants: vec![TenantSettings {
            name: "acme".parse().unwrap(),
            domains: vec![DomainSettings { name: Text::new("acme.test"), ..DomainSettings::default() }],
            calls_from: CallsFrom::Registered,
            backends: vec![backend],
            limits: TenantLimits::default(),
            numbering: Numbering::default(),
        }],
        probe: ProbeSettings { interval: None, ..ProbeSettings::default() },
        timers: TimerSettings::default(),
        trunks: Vec::new(),
        rules: Rules::default(),
        noise: NoiseBudget::default(),
        edges: Vec::new(),
        cluster_key: Secret::new(vec![7; 32]),
    }
}
