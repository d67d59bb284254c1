//! Settings of an edge, and the usual cast.

use signalbox_base::{Cidr, EdgeIdentity, JournalId, Secret, Text, Transport};
use signalbox_engine::settings::{
    BackendSettings, CallsFrom, ContactMode, DomainSettings, EarlyDialogs, Hide, ListenerSettings,
    NoiseBudget, Numbering, PeerAddress, ProbeSettings, Redirects, Rules, Serves, Settings, TenantLimits,
    TenantSettings, TimerSettings,
};
use std::net::SocketAddr;

/// A tenant to configure.
#[derive(Clone, Debug)]
pub struct TenantPlan {
    /// Name.
    pub name: &'static str,
    /// Domains.
    pub domains: Vec<&'static str>,
    /// PBXs.
    pub backends: Vec<BackendPlan>,
    /// Whose calls are forwarded.
    pub calls_from: CallsFrom,
}

/// A backend to configure.
#[derive(Clone, Debug)]
pub struct BackendPlan {
    /// Name.
    pub name: &'static str,
    /// Address.
    pub address: SocketAddr,
    /// The domain it speaks for.
    pub domain: Option<&'static str>,
    /// Priority.
    pub priority: u16,
    /// How contacts are written towards it.
    pub contact: ContactMode,
    /// Whether Call-ID and tags are hidden from it.
    pub hide: Hide,
}

impl BackendPlan {
    /// A first-choice backend with contact tokens.
    #[must_use]
    pub fn new(name: &'static str, address: &str) -> Self {
        let address = hosted(address);
        Self { name, address, domain: None, priority: 1, contact: ContactMode::Token, hide: Hide::Off }
    }
}

/// Reads an address, with port 5060 where none is written.
///
/// # Panics
/// When it is none: a mistake of the story.
#[must_use]
pub fn hosted(text: &str) -> SocketAddr {
    let whole = if text.contains(':') { text.to_owned() } else { format!("{text}:5060") };
    whole.parse().expect("stories write good addresses")
}

/// Settings of an edge with one listener for phones and one for PBXs (or one for both when the addresses are equal).
#[must_use]
pub fn edge_settings(
    name: &str,
    outside: SocketAddr,
    inside: SocketAddr,
    tenants: &[TenantPlan],
) -> Settings {
    let one = outside == inside;
    let phones = Serves { endpoints: true, backends: one, trunks: true, edges: one };
    let mut listeners = vec![listener(0, outside, phones)];
    let mut networks = vec![Text::new("outside")];
    if !one {
        let pbxs = Serves { endpoints: false, backends: true, trunks: false, edges: true };
        listeners.push(listener(1, inside, pbxs));
        networks.push(Text::new("inside"));
    }
    Settings {
        identity: EdgeIdentity { cluster: Text::new("world"), edge: Text::new(name) },
        // The host puts the journal's own id here.
        journal: JournalId(0),
        version: Text::new("0.1.0"),
        networks,
        listeners,
        tenants: tenants.iter().map(|t| tenant(t, u16::from(!one))).collect(),
        probe: ProbeSettings::default(),
        timers: TimerSettings::default(),
        trunks: Vec::new(),
        rules: Rules::default(),
        noise: NoiseBudget::default(),
        edges: Vec::new(),
        cluster_key: Secret::new(b"the simulated cluster's key, 32b".to_vec()),
    }
}

fn listener(network: u16, address: SocketAddr, serves: Serves) -> ListenerSettings {
    let advertise = Text::from(address.to_string());
    ListenerSettings { network, transport: Transport::Udp, address, advertise, serves, domain: None }
}

fn tenant(plan: &TenantPlan, network: u16) -> TenantSettings {
    let domain = |name: &&str| DomainSettings { name: Text::new(name), ..DomainSettings::default() };
    TenantSettings {
        name: plan.name.parse().expect("stories write good names"),
        domains: plan.domains.iter().map(domain).collect(),
        calls_from: plan.calls_from,
        backends: plan.backends.iter().map(|b| backend(b, network)).collect(),
        limits: TenantLimits::default(),
        numbering: Numbering::default(),
    }
}

fn backend(plan: &BackendPlan, network: u16) -> BackendSettings {
    let address = PeerAddress {
        transport: Transport::Udp,
        host: Text::from(plan.address.ip().to_string()),
        port: Some(plan.address.port()),
        literal: Some(plan.address),
        any_transport: false,
    };
    BackendSettings {
        name: Text::new(plan.name),
        address,
        source: Vec::<Cidr>::new(),
        priority: plan.priority,
        weight: 1,
        domain: plan.domain.map(Text::new),
        network,
        contact: plan.contact,
        hide: plan.hide,
        trusts_edge: false,
        register: None,
        early_dialogs: EarlyDialogs::Single,
        redirects: Redirects::Follow,
        probe: ProbeSettings::default(),
    }
}
