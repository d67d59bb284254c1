//! Domains and addresses of tenants, indexed. Made anew at each reload.

use crate::contract::ResolvedTarget;
use crate::media::fixup::is_private;
use crate::registration::{Nonces, TokenKey};
use crate::routing::Owners;
use crate::settings::{
    BackendSettings, Challenged, DomainPolicy, ListenerSettings, Settings, TenantSettings, TrunkSettings,
};
use crate::state::NOBODYS;
use foldhash::HashMap;
use signalbox_base::{Cidr, TenantId, Text, Transport, canonical, canonical_ip};
use signalbox_sip::uri::{SipUri, host_address};
use smallvec::SmallVec;
use std::net::{IpAddr, SocketAddr};

/// A backend or trunk by its place in the settings; good until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerRef {
    /// Index into [`Settings::tenants`]; of a trunk [`PeerRef::TRUNKS`].
    pub tenant: u16,
    /// Index into [`TenantSettings::backends`], of a trunk into [`Settings::trunks`].
    pub backend: u16,
}

impl PeerRef {
    /// No backend at all.
    pub(crate) const NOBODY: Self = Self { tenant: u16::MAX, backend: u16::MAX };

    /// In the place of a tenant: this is a trunk.
    pub const TRUNKS: u16 = u16::MAX - 1;

    /// Whether it is a trunk.
    #[must_use]
    pub const fn is_trunk(self) -> bool {
        self.tenant == Self::TRUNKS
    }
}

/// A backend or trunk with its tenant.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// The tenant; none of a shared trunk.
    pub tenant: Option<&'a TenantSettings>,
    /// The peer itself.
    pub backend: &'a BackendSettings,
    /// The trunk that it is, if it is one.
    pub trunk: Option<&'a TrunkSettings>,
}

impl<'a> Peer<'a> {
    /// Whose it is: the tenant's name, or `_` for nobody's.
    #[must_use]
    pub fn owner(&self) -> &'a str {
        self.tenant.map_or(NOBODYS, |tenant| tenant.name.as_str())
    }
}

/// Indexes over the settings.
#[derive(Debug, Default)]
pub struct Directory {
    domains: HashMap<Text, Domain>,
    backends: Sources,
    trunks: Sources,
    /// Whose numbers are.
    owners: Owners,
    /// Places that names resolved to.
    resolved: HashMap<PeerRef, Vec<Site>>,
    tenants: HashMap<Text, u16>,
    /// Peers by the Contact that the edge has registered there.
    accounts: HashMap<Text, PeerRef>,
    /// Names the listeners advertise.
    own: Vec<Text>,
    own_addresses: Vec<IpAddr>,
    /// Where listeners are reached: what each advertises and is bound to.
    own_places: Vec<Place>,
    tokens: TokenKey,
    nonces: Nonces,
    /// Some domain asks phones for credentials.
    challenges: bool,
}

type Refs = SmallVec<[PeerRef; 1]>;

/// Who sends from where, by network.
#[derive(Debug, Default)]
struct Sources {
    by_socket: HashMap<(u16, SocketAddr), Refs>,
    by_prefix: Vec<(u16, Cidr, PeerRef)>,
}

impl Sources {
    fn is_any(&self, network: u16, source: SocketAddr) -> bool {
        self.by_socket.contains_key(&(network, source))
            || self.by_prefix.iter().any(|(at, cidr, _)| *at == network && cidr.contains(source.ip()))
    }
}

/// A place that a backend's name resolved to.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) target: ResolvedTarget,
    /// The last request there failed, and nothing was answered since.
    pub(crate) failed: bool,
}

/// Host and port of a listener.
#[derive(Clone, Debug)]
struct Place {
    network: u16,
    host: Text,
    ip: Option<IpAddr>,
    port: u16,
}

#[derive(Clone, Debug)]
struct Domain {
    tenant: u16,
    place: u16,
    name: Text,
}

impl Directory {
    /// Indexes the settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let tokens = TokenKey::new(&settings.cluster_key);
        let mut it = Self { nonces: Nonces::new(&tokens), tokens, ..Self::default() };
        for (tenant, t) in numbered(&settings.tenants) {
            it.tenants.insert(Text::new(t.name.as_str()), tenant);
            t.numbering.own.iter().for_each(|block| it.owners.add(block, tenant));
            for (place, domain) in numbered(&t.domains) {
                it.challenges |= domain.policy.challenged != Challenged::None;
                for name in std::iter::once(&domain.name).chain(&domain.aliases) {
                    let key = Text::from(name.to_ascii_lowercase());
                    it.domains.insert(key, Domain { tenant, place, name: domain.name.clone() });
                }
            }
        }
        for listener in &settings.listeners {
            it.own_places.extend(places(listener));
            let own = host_of(&listener.advertise);
            if !it.own.iter().any(|known| known.eq_ignore_ascii_case(own)) {
                it.own.push(Text::new(own));
            }
            it.own_addresses.push(canonical_ip(listener.address.ip()));
            if let Ok(ip) = host_of(&listener.advertise).parse() {
                it.own_addresses.push(canonical_ip(ip));
            }
        }
        for (at, found) in Self::peers(settings) {
            // A Contact that is no token could be guessed: there the source alone says who it is.
            if found.backend.register.as_ref().is_some_and(|register| register.contact.is_none()) {
                let contact = it.tokens.account(found.owner(), &found.backend.name);
                it.accounts.insert(Text::from(contact), at);
            }
        }
        it.index_peers(settings);
        it
    }

    /// Takes over what names resolved to before a reload, for backends that still have that name.
    pub(crate) fn carry_over(&mut self, before: &Self, old: &Settings, new: &Settings) {
        for (peer, found) in Self::peers(new) {
            let was = before.find(old, found.owner(), &found.backend.name);
            let same = was
                .and_then(|was| before.peer(old, was))
                .is_some_and(|p| p.backend.address == found.backend.address);
            if let Some(sites) = was.filter(|_| same).and_then(|was| before.resolved.get(&was)) {
                self.resolved.insert(peer, sites.clone());
            }
        }
        self.index_peers(new);
    }

    /// A name resolved to these places; they are its backend's from now on.
    pub fn set_resolved(&mut self, settings: &Settings, peer: PeerRef, targets: &[ResolvedTarget]) {
        let failed: SmallVec<[SocketAddr; 4]> =
            self.sites(peer).iter().filter(|site| site.failed).map(|site| site.target.address).collect();
        let site = |target: &ResolvedTarget| Site {
            target: target.clone(),
            failed: failed.contains(&target.address),
        };
        self.resolved.insert(peer, targets.iter().map(site).collect());
        self.index_peers(settings);
    }

    /// A request to one of a backend's places was answered, or failed: others come first then.
    pub(crate) fn judged(&mut self, peer: PeerRef, address: SocketAddr, failed: bool) {
        let sites = self.resolved.get_mut(&peer).into_iter().flatten();
        for site in sites.filter(|site| site.target.address == address) {
            site.failed = failed;
        }
    }

    /// The places that a backend's name resolved to, as they were found.
    #[must_use]
    pub(crate) fn sites(&self, peer: PeerRef) -> &[Site] {
        self.resolved.get(&peer).map_or(&[], |sites| sites)
    }

    /// Where a backend is reached: its literal address, else the first its name resolved to that does not fail.
    #[must_use]
    pub fn address(&self, settings: &Settings, peer: PeerRef) -> Option<(Transport, SocketAddr)> {
        let address = &self.peer(settings, peer)?.backend.address;
        let first = || self.sites(peer).iter().min_by_key(|site| (site.failed, site.target.priority));
        match address.literal {
            Some(literal) => Some((address.transport, canonical(literal))),
            None => first().map(|site| (site.target.transport, site.target.address)),
        }
    }

    /// A backend or trunk by its place.
    #[must_use]
    pub fn peer<'s>(&self, settings: &'s Settings, peer: PeerRef) -> Option<Peer<'s>> {
        let place = usize::from(peer.backend);
        if peer.is_trunk() {
            let trunk = settings.trunks.get(place)?;
            let tenant = trunk.tenant.as_ref().and_then(|name| self.tenant_place(name.as_str()));
            let tenant = tenant.and_then(|at| settings.tenants.get(usize::from(at)));
            return Some(Peer { tenant, backend: &trunk.peer, trunk: Some(trunk) });
        }
        let tenant = settings.tenants.get(usize::from(peer.tenant))?;
        Some(Peer { tenant: Some(tenant), backend: tenant.backends.get(place)?, trunk: None })
    }

    /// A trunk by its name.
    #[must_use]
    pub fn find_trunk(&self, settings: &Settings, name: &str) -> Option<PeerRef> {
        let (place, _) = numbered(&settings.trunks).find(|(_, trunk)| &*trunk.peer.name == name)?;
        Some(PeerRef { tenant: PeerRef::TRUNKS, backend: place })
    }

    /// A backend or trunk by the names of its owner and its own, which no two share.
    #[must_use]
    pub fn find(&self, settings: &Settings, tenant: &str, backend: &str) -> Option<PeerRef> {
        let trunk = || {
            let found = self.find_trunk(settings, backend)?;
            self.peer(settings, found).filter(|peer| peer.owner() == tenant).map(|_| found)
        };
        self.find_backend(settings, tenant, backend).or_else(trunk)
    }

    /// A tenant's backend, or any trunk: no two of these share a name.
    pub(crate) fn named(&self, settings: &Settings, tenant: &str, name: &str) -> Option<PeerRef> {
        self.find_backend(settings, tenant, name).or_else(|| self.find_trunk(settings, name))
    }

    fn find_backend(&self, settings: &Settings, tenant: &str, backend: &str) -> Option<PeerRef> {
        let at = self.tenant_place(tenant)?;
        let (place, _) =
            numbered(&settings.tenants[usize::from(at)].backends).find(|(_, b)| &*b.name == backend)?;
        Some(PeerRef { tenant: at, backend: place })
    }

    /// What bindings' keys are made with.
    pub(crate) fn tokens(&self) -> &TokenKey {
        &self.tokens
    }

    /// The peer where the edge has registered with this user part of Contact.
    pub(crate) fn registered_as(&self, user: &[u8]) -> Option<PeerRef> {
        self.accounts.get(std::str::from_utf8(user).ok()?).copied()
    }

    /// The place of a tenant in the settings.
    #[must_use]
    pub fn tenant_place(&self, name: &str) -> Option<u16> {
        self.tenants.get(name).copied()
    }

    /// The tenant and canonical name of a domain or alias, compared without case.
    #[must_use]
    pub fn domain<'s>(
        &'s self,
        settings: &'s Settings,
        host: &[u8],
    ) -> Option<(&'s TenantSettings, &'s Text)> {
        let mut lower: SmallVec<[u8; 64]> = SmallVec::from_slice(host.strip_suffix(b".").unwrap_or(host));
        lower.make_ascii_lowercase();
        let domain = self.domains.get(std::str::from_utf8(&lower).ok()?)?;
        Some((settings.tenants.get(usize::from(domain.tenant))?, &domain.name))
    }

    /// What the edge does itself for a domain, by name or alias.
    #[must_use]
    pub fn policy<'s>(&self, settings: &'s Settings, domain: &str) -> Option<&'s DomainPolicy> {
        let found = self.domains.get(domain)?;
        let tenant = settings.tenants.get(usize::from(found.tenant))?;
        tenant.domains.get(usize::from(found.place)).map(|domain| &domain.policy)
    }

    /// Whether any domain asks for credentials beside those of REGISTER.
    pub(crate) fn challenges(&self) -> bool {
        self.challenges
    }

    /// What nonces are made with.
    pub(crate) fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Whether a host is the edge's own: an advertised name or a bound address.
    #[must_use]
    pub fn is_own_host(&self, host: &[u8]) -> bool {
        match host_address(host) {
            Some(ip) => self.own_addresses.contains(&canonical_ip(ip)),
            // A handful of listeners: to compare is cheaper than to fold and hash.
            None => self.own.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(host)),
        }
    }

    /// Whether a contact that comes from a network is a listener of the edge. A phone's own network may have the private
    /// addresses of another of ours, so of these only what is advertised where it comes from counts.
    #[must_use]
    pub fn is_listener(&self, network: u16, contact: &SipUri<'_>) -> bool {
        let (ip, port) = (contact.address().map(canonical_ip), contact.port.unwrap_or(SIP_PORT));
        self.own_places.iter().any(|place| {
            let host = place.host.as_bytes().eq_ignore_ascii_case(contact.host);
            let same = place.port == port && if ip.is_some() { place.ip == ip } else { host };
            same && (place.network == network || !ip.is_some_and(is_private))
        })
    }

    /// Whether a host is the edge's own and no domain of this tenant: it then stands for the domain that the request is in.
    #[must_use]
    pub fn stands_for_a_domain(&self, settings: &Settings, tenant: &TenantId, host: &[u8]) -> bool {
        let named = self.domain(settings, host);
        named.is_none_or(|(owner, _)| owner.name != *tenant) && self.is_own_host(host)
    }

    /// Backends that this source may be, on a network: those of its address and port, else of its address (a prefix of
    /// `source`; the backend's own address only on a network without phones). Never one that merely looks alike.
    #[must_use]
    pub fn peers_at(&self, network: u16, source: SocketAddr) -> Refs {
        if let Some(exact) = self.backends.by_socket.get(&(network, source)) {
            return exact.clone();
        }
        let mut found = Refs::new();
        for (at, cidr, peer) in &self.backends.by_prefix {
            if *at == network && cidr.contains(source.ip()) && !found.contains(peer) {
                found.push(*peer);
            }
        }
        found
    }

    /// Backends that have this address on any port: for a token, which names its tenant itself.
    #[must_use]
    pub fn peers_of_address(&self, network: u16, ip: IpAddr) -> Refs {
        self.backends
            .by_prefix
            .iter()
            .filter(|(at, c, _)| *at == network && c.contains(ip))
            .map(|(_, _, p)| *p)
            .collect()
    }

    /// Whether the source is any backend on that network.
    #[must_use]
    pub fn is_backend(&self, network: u16, source: SocketAddr) -> bool {
        self.backends.is_any(network, source)
    }

    /// The trunks that a source may be, on a network: by address and port, else by the longest prefix of `source` (the
    /// trunk's own address only on a network without phones). Two names may turn out to be of one place.
    #[must_use]
    pub fn trunks_at(&self, network: u16, source: SocketAddr) -> Refs {
        if let Some(exact) = self.trunks.by_socket.get(&(network, source)) {
            return exact.clone();
        }
        let here = || {
            let all = self.trunks.by_prefix.iter();
            all.filter(|(at, cidr, _)| *at == network && cidr.contains(source.ip()))
        };
        let Some(longest) = here().map(|(_, cidr, _)| cidr.prefix_len()).max() else { return Refs::new() };
        let mut found = Refs::new();
        for (_, _, trunk) in here().filter(|(_, cidr, _)| cidr.prefix_len() == longest) {
            if !found.contains(trunk) {
                found.push(*trunk);
            }
        }
        found
    }

    /// Whether a source is a backend or trunk that is recognised at this listener.
    #[must_use]
    pub fn is_peer(&self, listener: &ListenerSettings, source: SocketAddr) -> bool {
        let serves = listener.serves;
        serves.backends && self.backends.is_any(listener.network, source)
            || serves.trunks && self.trunks.is_any(listener.network, source)
    }

    /// The tenant that a number is of.
    #[must_use]
    pub fn owner_of<'s>(&self, settings: &'s Settings, number: &str) -> Option<&'s TenantSettings> {
        settings.tenants.get(usize::from(self.owners.of(number)?))
    }

    /// All backends in order, and behind them all trunks.
    pub fn peers(settings: &Settings) -> impl Iterator<Item = (PeerRef, Peer<'_>)> {
        let backends = numbered(&settings.tenants).flat_map(|(at, tenant)| {
            numbered(&tenant.backends).map(move |(place, backend)| {
                (PeerRef { tenant: at, backend: place }, Peer { tenant: Some(tenant), backend, trunk: None })
            })
        });
        let trunks = numbered(&settings.trunks).map(|(place, trunk)| {
            let tenant = trunk.tenant.as_ref().and_then(|name| settings.tenant(name));
            let peer = Peer { tenant, backend: &trunk.peer, trunk: Some(trunk) };
            (PeerRef { tenant: PeerRef::TRUNKS, backend: place }, peer)
        });
        backends.chain(trunks)
    }

    fn index_peers(&mut self, settings: &Settings) {
        let (mut backends, mut trunks) = (Sources::default(), Sources::default());
        for (peer, Peer { backend, .. }) in Self::peers(settings) {
            let sources = if peer.is_trunk() { &mut trunks } else { &mut backends };
            // Where phones are served too, the bare address of a PBX says nothing: phones may sit on its machine or behind
            // the same NAT, and must not be trusted as it is. There only its address and port, or `source`, count.
            let with_phones =
                settings.listeners.iter().any(|l| l.network == backend.network && l.serves.endpoints);
            let own = backend
                .address
                .literal
                .into_iter()
                .chain(self.resolved.get(&peer).into_iter().flatten().map(|site| site.target.address));
            for address in own.map(canonical) {
                let refs = sources.by_socket.entry((backend.network, address)).or_default();
                if !refs.contains(&peer) {
                    refs.push(peer);
                }
                if !with_phones {
                    sources.by_prefix.push((backend.network, Cidr::host(address.ip()), peer));
                }
            }
            sources.by_prefix.extend(backend.source.iter().map(|cidr| (backend.network, *cidr, peer)));
        }
        (self.backends, self.trunks) = (backends, trunks);
    }
}

/// Where nothing else is said; of TLS too, where 5061 is what a listener has and says.
const SIP_PORT: u16 = 5060;

/// What a listener advertises and is bound to. A private address that it is bound to and does not tell is nobody's to know.
fn places(listener: &ListenerSettings) -> impl Iterator<Item = Place> {
    let network = listener.network;
    let host = host_of(&listener.advertise);
    let port = listener.advertise.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.unwrap_or(listener.transport.default_port());
    let ip = host_address(host.as_bytes()).map(canonical_ip);
    let told = Place { network, host: Text::new(host), ip, port };
    let bound = canonical(listener.address);
    let known = !is_private(bound.ip()) && !bound.ip().is_unspecified();
    let bound = Place { network, host: Text::default(), ip: Some(bound.ip()), port: bound.port() };
    std::iter::once(told).chain(known.then_some(bound))
}

fn numbered<T>(items: &[T]) -> impl Iterator<Item = (u16, &T)> {
    items.iter().enumerate().filter_map(|(at, item)| Some((u16::try_from(at).ok()?, item)))
}

/// The host of `host:port`, brackets taken off.
fn host_of(advertise: &str) -> &str {
    if let Some(rest) = advertise.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    match advertise.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => advertise,
    }
}
