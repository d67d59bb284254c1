//! Listeners, tenants, domains and backends.

use super::limits::ProbeSettings;
use super::outbound::OutboundSettings;
use super::registrar::DomainPolicy;
use super::routes::Numbering;
use signalbox_base::{Cidr, TenantId, Text, Transport};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A socket the edge listens on.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Index into [`super::Settings::networks`].
    pub network: u16,
    /// Transport.
    pub transport: Transport,
    /// Bound address.
    pub address: SocketAddr,
    /// `host:port` told to peers in Via, Contact and Record-Route; the bound address where the config says nothing.
    pub advertise: Text,
    /// Who is recognised here.
    pub serves: Serves,
    /// The domain of requests that name none of ours (for example by address), if the listener has one.
    pub domain: Option<Text>,
}

/// Which kinds of peers a listener recognises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serves {
    /// Phones.
    pub endpoints: bool,
    /// PBXs, known by address.
    pub backends: bool,
    /// Carriers, known by address.
    pub trunks: bool,
    /// Other edges of the cluster.
    pub edges: bool,
}

impl Serves {
    /// Everyone: the default with a single network.
    pub const ALL: Self = Self { endpoints: true, backends: true, trunks: true, edges: true };
}

/// A customer.
#[derive(Clone, Debug)]
pub struct TenantSettings {
    /// Name.
    pub name: TenantId,
    /// SIP domains, at least one.
    pub domains: Vec<DomainSettings>,
    /// Whose calls from outside are forwarded.
    pub calls_from: CallsFrom,
    /// PBX nodes; none only where the edge is the registrar of every domain.
    pub backends: Vec<BackendSettings>,
    /// Limits; `None` is unlimited.
    pub limits: TenantLimits,
    /// Its numbers, and what they mean.
    pub numbering: Numbering,
}

/// A SIP domain of a tenant.
#[derive(Clone, Debug, Default)]
pub struct DomainSettings {
    /// Canonical name, lower case.
    pub name: Text,
    /// Other names for it, lower case.
    pub aliases: Vec<Text>,
    /// What the edge does itself for its phones.
    pub policy: DomainPolicy,
}

/// Whose requests outside a dialog are forwarded to backends (no open relay, DESIGN.md §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallsFrom {
    /// Only over the flow of a live binding with a matching identity.
    #[default]
    Registered,
    /// Anyone's: the backend authenticates.
    Any,
}

/// Per-tenant limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Bindings at a time.
    pub registrations: Option<u32>,
    /// Calls at a time.
    pub calls: Option<u32>,
    /// New calls a second, as a token bucket of one second's depth.
    pub calls_per_second: Option<u32>,
    /// Calls at a time that one user makes and takes.
    pub calls_per_user: Option<u32>,
    /// Calls at a time to one number.
    pub calls_per_number: Option<u32>,
    /// The longest an answered call may last; where it says nothing, [`super::TimerSettings::call_max`].
    pub call_duration: Option<Duration>,
}

/// A PBX node.
#[derive(Clone, Debug)]
pub struct BackendSettings {
    /// Name, unique in the tenant.
    pub name: Text,
    /// Where requests go.
    pub address: PeerAddress,
    /// Further sources it may send from; its own address is always one.
    pub source: Vec<Cidr>,
    /// Lower is tried first.
    pub priority: u16,
    /// Share of new AoRs and calls among equals of a priority; 0 takes none while another is up.
    pub weight: u16,
    /// The domain it speaks for when its request's own names none of the tenant's.
    pub domain: Option<Text>,
    /// Index into [`super::Settings::networks`]: the listener of that network and transport carries its traffic.
    pub network: u16,
    /// How a registration towards it names the phone.
    pub contact: ContactMode,
    /// Topology hiding towards it beyond what every leg has.
    pub hide: Hide,
    /// What it sees when its call rings at several phones.
    pub early_dialogs: EarlyDialogs,
    /// What becomes of a 3xx in calls from and to it.
    pub redirects: Redirects,
    /// Probing.
    pub probe: ProbeSettings,
    /// Whether it takes a phone out when the edge says so, without that one's credentials.
    pub trusts_edge: bool,
    /// What the edge itself registers there, where it must before it is sent calls.
    pub register: Option<Arc<OutboundSettings>>,
}

/// An address or a host name with transport and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// Transport.
    pub transport: Transport,
    /// IP address or host name, without brackets.
    pub host: Text,
    /// Port, where the config says one; without one DNS says where a name's service is (RFC 3263 §4.2).
    pub port: Option<u16>,
    /// The address, when `host` is one; else it is asked for with [`crate::Ask::Resolve`].
    pub literal: Option<SocketAddr>,
    /// DNS chooses the transport too (RFC 3263 §4.1); among secure ones only, where `transport` is TLS.
    pub any_transport: bool,
}

impl PeerAddress {
    /// Whether requests may go there over a transport.
    #[must_use]
    pub fn may_use(&self, transport: Transport) -> bool {
        transport == self.transport
            || self.any_transport && self.transport != Transport::Tls && transport == Transport::Tcp
            || self.any_transport && transport == Transport::Tls
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.literal, self.port) {
            (Some(address), _) => write!(f, "{address}"),
            (None, Some(port)) => write!(f, "{}:{port}", self.host),
            (None, None) => f.write_str(&self.host),
        }
    }
}

/// How the Contact of a proxied REGISTER is formed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContactMode {
    /// Contact is the edge's address with an opaque token as user.
    #[default]
    Token,
    /// The phone's Contact stays and a Path with the token is added (RFC 3327).
    Path,
}

/// Hiding of dialog identifiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hide {
    /// Call-ID and tags pass through.
    #[default]
    Off,
    /// New Call-ID and tags on this peer's leg, and nothing else of the other side but where media goes.
    Full,
}

/// What a caller sees of a fork before the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EarlyDialogs {
    /// One early dialog, whose tag stays until the end.
    #[default]
    Single,
    /// One of each phone (RFC 3261 §12.1.2).
    Multiple,
}

/// What becomes of a 3xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirects {
    /// Registered users of the tenant that it names are called.
    #[default]
    Follow,
    /// It goes to the caller.
    Pass,
}
