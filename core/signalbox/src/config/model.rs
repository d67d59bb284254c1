//! The file's shape: every key, its meaning and its default. The JSON Schema of the configuration is made from it.

pub use super::backend::{Backend, ContactMode, EarlyDialogs, Hide, Redirects};
pub use super::bus::{Bus, BusKind};
pub use super::calls::Calls;
pub use super::cluster::Cluster;
pub use super::connections::Connections;
pub use super::dns::Dns;
pub use super::headers::Phones;
pub use super::limits::Limits;
pub use super::outbound::Register;
pub use super::registrar::{Auth, Mode};
pub use super::route::{Pattern, PeerGroup, Route};
pub use super::template::Template;
pub use super::tls::{ClientCertificate, TlsTable};
pub use super::trunk::Trunk;
use super::value::{Address, Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Who this edge is and where it keeps its state.
    pub edge: Edge,
    /// Sockets to listen on. Default: one, `udp:0.0.0.0:5060`, that serves everyone.
    pub listener: Vec<Listener>,
    /// The customers. At least one.
    pub tenant: Vec<Tenant>,
    /// Carriers.
    pub trunk: Vec<Trunk>,
    /// Trunks and backends that take each other's calls.
    pub group: Vec<PeerGroup>,
    /// How numbers are written for whoever gets a call, and header fields of what peers send and get.
    pub template: Vec<Template>,
    /// Where calls go. The first that matches decides.
    pub route: Vec<Route>,
    /// OPTIONS probes to every backend and trunk; each may override.
    pub probe: Probe,
    /// SIP timers.
    pub sip: Sip,
    /// How long calls live.
    pub calls: Calls,
    /// Limits of TCP, TLS and WebSocket connections.
    pub connections: Connections,
    /// TLS of listeners and towards backends.
    pub tls: TlsTable,
    /// Who is asked for peers' names.
    pub dns: Dns,
    /// The event journal.
    pub journal: Journal,
    /// How events reach projections and subscribers.
    pub bus: Bus,
    /// The other edges.
    pub cluster: Cluster,
    /// Where the tables are.
    pub store: Store,
    /// The read-only HTTP port.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
}

/// `[edge]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// Cluster name: with `name` the identity in every event. Letters, digits and `-`, at most 63.
    pub cluster: String,
    /// Edge name. Default: the one kept in `data_dir`, else the host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Journal, cursors, snapshots, admin.sock and embedded database.
    pub data_dir: PathBuf,
    /// Key of contact tokens, the same on all edges of a cluster. Default: made once in `data_dir/cluster.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_key_file: Option<PathBuf>,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            cluster: "signalbox".into(),
            name: None,
            data_dir: "/var/lib/signalbox".into(),
            cluster_key_file: None,
        }
    }
}

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The side it belongs to; peers live on a network.
    #[serde(default = "outside")]
    pub network: String,
    /// `transport:host:port`; the transport is udp, tcp, tls, ws or wss.
    pub address: Address,
    /// `host[:port]` that peers are told in Via, Contact and Record-Route. Default: the local address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Who is recognised here. Default with a single network: everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serves: Option<Vec<Served>>,
    /// Domain of requests that name none of ours, for example by address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Over tls and wss: whether who connects must show a certificate.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
    /// Whom those certificates must be issued by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Over ws and wss: pages that may connect, as browsers name them. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
}

fn outside() -> String {
    "outside".into()
}

/// A kind of peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Served {
    /// Phones.
    Endpoints,
    /// PBXs.
    Backends,
    /// Carriers.
    Trunks,
    /// Other edges.
    Edges,
}

/// `[[tenant]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// `[a-z0-9-]{1,63}`
    pub name: String,
    /// SIP domains: names, or tables with aliases.
    pub domains: Vec<Domain>,
    /// Whose calls from outside are forwarded to the backends.
    #[serde(default)]
    pub calls_from: CallsFrom,
    /// PBX nodes. None only where the edge is the registrar of every domain.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Limits; what is not named is unlimited.
    #[serde(default)]
    pub limits: Limits,
    /// Numbers that shared trunks bring: `+442079460000`, or `+442079460000/4` where the last four digits are free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// Country code, for example `44`: national numbers then have an E.164 form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Numbers that pass all limits, as `urn:service:sos` does. Default: 112, 911 and 999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency_numbers: Option<Vec<String>>,
    /// Whose calls over trunks are refused (603).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_callers: Vec<Pattern>,
    /// What is said of its phones' messages.
    #[serde(default, skip_serializing_if = "Phones::is_default")]
    pub phones: Phones,
}

/// A domain: its name, or a table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a domain name or a table { name, aliases, mode, users_file, auth, … }"
)]
pub enum Domain {
    /// Just the name.
    Name(String),
    /// Name and aliases.
    Table(DomainTable),
}

/// A domain with what is particular about it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainTable {
    /// The canonical name: the one in events and tables.
    pub name: String,
    /// Other names that phones may use for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Who answers REGISTER.
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// Users with their secrets, lines `user:realm:HA1` as `htdigest` writes them (MD5), and the same with SHA-256. The realm
    /// is the domain's name. Beside this file, unless it is an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users_file: Option<PathBuf>,
    /// When `users_file` was last written, so that a reload sees that it changed. Nothing to be configured.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub users_written_at: Option<String>,
    /// Which requests of phones outside of dialogs need credentials of `users_file`, beside REGISTER in mode `registrar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// In mode `registrar`: who asks for less is asked to come back with more. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_expires: Option<Span>,
    /// In mode `registrar`: the most that is granted. Default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_expires: Option<Span>,
    /// In mode `registrar`: phones that one user may register. Default: 10, at most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_contacts: Option<u16>,
    /// In mode `proxy`: backends are asked for registrations of this length, and phones' refreshes in between are answered
    /// here. Default: backends hear every refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_upstream: Option<Span>,
}

impl Domain {
    /// The canonical name.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Table(DomainTable { name, .. }) => name,
        }
    }

    /// The other names.
    pub fn aliases(&self) -> &[String] {
        match self {
            Self::Name(_) => &[],
            Self::Table(table) => &table.aliases,
        }
    }
}

/// Whose requests outside a dialog go to the backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallsFrom {
    /// Only registered phones'.
    #[default]
    Registered,
    /// Anyone's. Only where the backend authenticates every call.
    Any,
}

/// `[probe]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// Between probes; `"0s"` switches probing off.
    pub interval: Span,
    /// No answer for this long is a failure.
    pub timeout: Span,
    /// Failures in a row until down.
    pub down_after: u16,
    /// Successes in a row until up.
    pub up_after: u16,
}

impl Default for Probe {
    fn default() -> Self {
        let d = signalbox_engine::settings::ProbeSettings::default();
        Self {
            interval: Span(d.interval.unwrap_or_default()),
            timeout: Span(d.timeout),
            down_after: d.down_after,
            up_after: d.up_after,
        }
    }
}

/// `[sip]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sip {
    /// No response from a backend for this long: the next one is tried.
    pub failover_after: Span,
    /// Pings to phones behind NAT.
    pub ping_interval: Span,
    /// An INVITE without a final answer ends after this (RFC 3261 Timer C, more than 3 minutes).
    pub timer_c: Span,
    /// Longest registration believed.
    pub max_expires: Span,
    /// An interim `call.checkpointed` this often in long calls.
    pub checkpoint_interval: Span,
}

impl Default for Sip {
    fn default() -> Self {
        let d = signalbox_engine::settings::TimerSettings::default();
        Self {
            failover_after: Span(d.failover_after),
            ping_interval: Span(d.ping_interval),
            timer_c: Span(d.timer_c),
            max_expires: Span(Duration::from_secs(u64::from(d.max_expires_secs))),
            checkpoint_interval: Span(d.checkpoint_interval),
        }
    }
}

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Size of a segment file.
    pub segment_size: Size,
    /// Sealed segments are kept this long, and in any case until every cursor is past them.
    pub retain: Span,
    /// Most the journal may take, bytes or a share of the file system.
    pub max_size: Size,
    /// Commits under load start this far apart at least.
    pub commit_interval: Span,
    /// Sealed segments move here before they are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive: Option<PathBuf>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            segment_size: Size::Bytes(64 << 20),
            retain: Span(Duration::from_secs(30 * 86_400)),
            max_size: Size::Percent(60),
            commit_interval: Span(Duration::from_millis(3)),
            archive: None,
        }
    }
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `sqlite:FILE` (relative to `data_dir`) or `postgres://user@host/database?sslmode=verify-full&sslrootcert=FILE`.
    pub url: String,
    /// File that holds the password; never in the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "sqlite:signalbox.db".into(), password_file: None }
    }
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address of the read-only HTTP port; empty for none.
    pub listen: String,
    /// File with the token that `/events` asks for. Default: only this machine may read events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_token_file: Option<PathBuf>,
    /// Names under which the port answers, besides addresses, `localhost` and the machine's own: other names get 421,
    /// for a page in somebody's browser may have pointed them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8060".into(), events_token_file: None, hosts: Vec::new() }
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Level,
    /// Default: text on a terminal, JSON otherwise.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Auto }
    }
}

/// Log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The name, as `tracing` filters take it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}
