//! From the checked file to what the engine and the edge run on.

use super::model::{self, File, Served};
use super::span::{Problem, Problems};
use super::value::{Address, split_host_port};
use sha2::{Digest, Sha256};
use signalbox_base::{EdgeIdentity, JournalId, Secret, Text, Transport, canonical};
use signalbox_engine::settings as engine;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// What the file cannot say: who this edge is, its journal and its key. Read from `data_dir` by the `run` verb.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Name kept in `data_dir`, or the host's.
    pub edge_name: String,
    /// The journal's id.
    pub journal: JournalId,
    /// Key of contact tokens.
    pub cluster_key: Secret,
}

/// The configuration with every default filled in, ready to be turned into settings.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The file's values, with default listeners.
    pub file: File,
}

impl Effective {
    /// Fills in the default listener.
    #[must_use]
    pub fn new(file: &File) -> Self {
        let mut file = file.clone();
        if file.listener.is_empty() {
            file.listener.push(model::Listener {
                network: "outside".into(),
                address: Address {
                    transport: Transport::Udp,
                    host: "0.0.0.0".into(),
                    port: Some(5060),
                    any_transport: false,
                },
                advertise: None,
                serves: None,
                domain: None,
                client_certificate: model::ClientCertificate::None,
                client_ca_file: None,
                origins: Vec::new(),
            });
        }
        Self { file }
    }

    /// The engine's settings.
    ///
    /// # Errors
    /// A wildcard listener without `advertise` on a machine without a route: there is no address to tell peers.
    pub fn settings(&self, keys: &Keys) -> Result<engine::Settings, Problems> {
        let file = &self.file;
        let mut networks: Vec<Text> = Vec::new();
        for listener in &file.listener {
            if !networks.iter().any(|n| *n == listener.network.as_str()) {
                networks.push(Text::new(&listener.network));
            }
        }
        let listeners =
            file.listener.iter().map(|l| listener(l, &networks)).collect::<Result<Vec<_>, _>>()?;
        let tenants =
            file.tenant.iter().map(|t| tenant(t, file, &networks)).collect::<Result<Vec<_>, _>>()?;
        let trunks = file.trunk.iter().map(|t| super::trunk::settings(t, file, &networks));
        let trunks = trunks.collect::<Result<_, _>>()?;
        let name = file.edge.name.as_deref().unwrap_or(&keys.edge_name);
        Ok(engine::Settings {
            identity: EdgeIdentity { cluster: Text::new(&file.edge.cluster), edge: Text::new(name) },
            journal: keys.journal,
            version: Text::new(env!("CARGO_PKG_VERSION")),
            networks,
            listeners,
            tenants,
            trunks,
            rules: super::route::settings(file),
            probe: probe(&file.probe),
            timers: engine::TimerSettings {
                failover_after: file.sip.failover_after.0,
                ping_interval: file.sip.ping_interval.0,
                timer_c: file.sip.timer_c.0,
                max_expires_secs: u32::try_from(file.sip.max_expires.0.as_secs()).unwrap_or(u32::MAX),
                checkpoint_interval: file.sip.checkpoint_interval.0,
                keepalive: super::calls::some(file.calls.keepalive),
                call_max: super::calls::some(file.calls.max_duration),
                ..engine::TimerSettings::default()
            },
            noise: engine::NoiseBudget::default(),
            edges: file.cluster.prefixes(),
            cluster_key: keys.cluster_key.clone(),
        })
    }
}

pub(super) fn index(networks: &[Text], name: &str) -> u16 {
    let found = networks.iter().position(|n| *n == name).unwrap_or(0);
    u16::try_from(found).unwrap_or(0)
}

fn listener(l: &model::Listener, networks: &[Text]) -> Result<engine::ListenerSettings, Problems> {
    let address = l.address.literal().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], l.address.port())));
    let serves = match &l.serves {
        None => engine::Serves::ALL,
        Some(list) => engine::Serves {
            endpoints: list.contains(&Served::Endpoints),
            backends: list.contains(&Served::Backends),
            trunks: list.contains(&Served::Trunks),
            edges: list.contains(&Served::Edges),
        },
    };
    let advertise = match &l.advertise {
        Some(text) => advertised(text, address.port()),
        None => local_advertise(address)?,
    };
    Ok(engine::ListenerSettings {
        network: index(networks, &l.network),
        transport: l.address.transport,
        address,
        advertise: Text::from(advertise),
        serves,
        domain: l.domain.as_ref().map(|d| Text::from(d.to_ascii_lowercase())),
    })
}

/// `host[:port]` with the listener's port where none is written and it is not the default.
fn advertised(text: &str, port: u16) -> String {
    match split_host_port(text) {
        Some((host, None)) if host.contains(':') => format!("[{host}]:{port}"),
        Some((host, None)) => format!("{host}:{port}"),
        _ => text.to_owned(),
    }
}

fn local_advertise(address: SocketAddr) -> Result<String, Problems> {
    if !address.ip().is_unspecified() {
        return Ok(address.to_string());
    }
    match outbound_ip(address.is_ipv6()) {
        Some(ip) => Ok(SocketAddr::new(ip, address.port()).to_string()),
        None => Err(Problem {
            place: "listener".into(),
            path: "listener.advertise".into(),
            message: format!(
                "{} cannot be told to peers, and this machine has no route to take an address from",
                address.ip()
            ),
            excerpt: None,
            fix: "add advertise = \"host:port\" to the listener".into(),
        }
        .into()),
    }
}

/// The address that packets to the internet would leave from; nothing is sent (a UDP connect only looks up the route).
fn outbound_ip(v6: bool) -> Option<IpAddr> {
    let (bind, probe) = if v6 { ("[::]:0", "[2001:db8::1]:9") } else { ("0.0.0.0:0", "192.0.2.1:9") };
    let socket = UdpSocket::bind(bind).ok()?;
    socket.connect(probe).ok()?;
    socket.local_addr().ok().map(|a| canonical(a).ip()).filter(|ip| !ip.is_unspecified())
}

pub(super) fn probe(p: &model::Probe) -> engine::ProbeSettings {
    engine::ProbeSettings {
        interval: Some(p.interval.0).filter(|d| !d.is_zero()),
        timeout: p.timeout.0,
        down_after: p.down_after,
        up_after: p.up_after,
    }
}

fn tenant(t: &model::Tenant, file: &File, networks: &[Text]) -> Result<engine::TenantSettings, Problems> {
    let domains = t.domains.iter().map(|d| {
        Ok(engine::DomainSettings {
            name: Text::from(d.name().to_ascii_lowercase()),
            aliases: d.aliases().iter().map(|a| Text::from(a.to_ascii_lowercase())).collect(),
            policy: super::registrar::policy(d)?,
        })
    });
    let domains = domains.collect::<Result<Vec<_>, Problem>>()?;
    Ok(engine::TenantSettings {
        name: t.name.parse().expect("the name was checked when the file was loaded"),
        domains,
        calls_from: match t.calls_from {
            model::CallsFrom::Registered => engine::CallsFrom::Registered,
            model::CallsFrom::Any => engine::CallsFrom::Any,
        },
        backends: t.backends.iter().map(|b| backend(b, file, networks)).collect::<Result<_, _>>()?,
        limits: engine::TenantLimits {
            registrations: t.limits.registrations,
            calls: t.limits.calls,
            calls_per_second: t.limits.calls_per_second,
            calls_per_user: t.limits.calls_per_user,
            calls_per_number: t.limits.calls_per_number,
            call_duration: t.limits.call_duration.map(|span| span.0),
        },
        numbering: super::trunk::numbering(t),
    })
}

/// An address of a peer as the engine takes it.
pub(super) fn peer_address(address: &Address) -> engine::PeerAddress {
    engine::PeerAddress {
        transport: address.transport,
        host: Text::new(&address.host),
        port: address.port,
        literal: address.literal(),
        any_transport: address.any_transport,
    }
}

fn backend(b: &model::Backend, file: &File, networks: &[Text]) -> Result<engine::BackendSettings, Problem> {
    let serving =
        file.listener.iter().find(|l| l.serves.as_ref().is_none_or(|s| s.contains(&Served::Backends)));
    let network = b.network.as_deref().or(serving.map(|l| l.network.as_str())).unwrap_or_default();
    let parts = PeerParts {
        name: &b.name,
        address: &b.address,
        source: &b.source,
        network: index(networks, network),
        hide: b.hide,
        early_dialogs: b.early_dialogs,
        redirects: b.redirects,
        probe: probe(b.probe.as_ref().unwrap_or(&file.probe)),
    };
    let register = b.register.as_ref().map(|register| super::outbound::settings(register, &b.address));
    Ok(engine::BackendSettings {
        priority: b.priority,
        weight: b.weight,
        domain: b.domain.as_ref().map(|d| Text::from(d.to_ascii_lowercase())),
        contact: match b.contact {
            model::ContactMode::Token => engine::ContactMode::Token,
            model::ContactMode::Path => engine::ContactMode::Path,
        },
        trusts_edge: b.trusts_edge,
        register: register.transpose()?,
        ..peer(&parts)
    })
}

/// What backends and trunks have in common.
pub(super) struct PeerParts<'a> {
    pub(super) name: &'a str,
    pub(super) address: &'a Address,
    pub(super) source: &'a [String],
    pub(super) network: u16,
    pub(super) hide: model::Hide,
    pub(super) early_dialogs: model::EarlyDialogs,
    pub(super) redirects: model::Redirects,
    pub(super) probe: engine::ProbeSettings,
}

pub(super) fn peer(parts: &PeerParts<'_>) -> engine::BackendSettings {
    engine::BackendSettings {
        name: Text::new(parts.name),
        address: peer_address(parts.address),
        source: parts.source.iter().filter_map(|s| s.parse().ok()).collect(),
        priority: 1,
        weight: 1,
        domain: None,
        network: parts.network,
        contact: engine::ContactMode::default(),
        hide: match parts.hide {
            model::Hide::Off => engine::Hide::Off,
            model::Hide::Full => engine::Hide::Full,
        },
        early_dialogs: match parts.early_dialogs {
            model::EarlyDialogs::Single => engine::EarlyDialogs::Single,
            model::EarlyDialogs::Multiple => engine::EarlyDialogs::Multiple,
        },
        redirects: match parts.redirects {
            model::Redirects::Follow => engine::Redirects::Follow,
            model::Redirects::Pass => engine::Redirects::Pass,
        },
        probe: parts.probe,
        trusts_edge: false,
        register: None,
    }
}

/// The effective configuration as canonical JSON (keys sorted); secrets appear by file name only, and of `[bus]` only what
/// its kind looks at.
#[must_use]
pub fn effective_json(file: &File) -> serde_json::Value {
    let mut json = serde_json::to_value(file).expect("the configuration's types all have a JSON form");
    super::bus::effective(&mut json["bus"], file);
    json
}

/// SHA-256 as lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
