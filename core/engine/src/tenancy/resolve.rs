//! From a request and its flow to an [`Origin`], or the reason why there is none.

use super::directory::{Directory, PeerRef};
use crate::facts::call::user_or_whole;
use crate::remote::Cache;
use crate::routing::{Asked, Source, path_of, tenant_of};
use crate::settings::{ListenerSettings, Settings, TenantSettings};
use crate::state::{AorName, BindingKey, NameParts, Registrations};
use signalbox_base::{Flow, TenantId, Text, Wall, canonical_ip};
use signalbox_sip::uri::{SipUri, host_address};
use signalbox_sip::{Message, Method, Uri};

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What kind of peer.
    pub kind: OriginKind,
    /// Its tenant.
    pub tenant: TenantId,
    /// The tenant's domain that the request is in; never an alias. Look-ups are always `(tenant, user, domain)`.
    pub domain: Text,
    /// Index of the network it came over.
    pub network: u16,
    /// The flow it came over.
    pub flow: Flow,
    /// The address of record whose credentials were right, without its tenant.
    pub proven: Option<Text>,
}

/// Kinds of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// A phone.
    Endpoint {
        /// The live binding over this flow whose identity the request bears; none for a stranger.
        binding: Option<BindingKey>,
    },
    /// A PBX node.
    Backend {
        /// Its name.
        name: Text,
        /// Its place in the settings.
        peer: PeerRef,
    },
    /// A carrier.
    Trunk {
        /// Its name.
        name: Text,
        /// Its place in the settings.
        peer: PeerRef,
    },
}

impl Origin {
    /// Whether it comes from a phone, or from somebody who is no peer.
    #[must_use]
    pub fn is_endpoint(&self) -> bool {
        matches!(self.kind, OriginKind::Endpoint { .. })
    }

    /// Its place in the settings, where it is a backend or trunk.
    #[must_use]
    pub fn peer(&self) -> Option<PeerRef> {
        match self.kind {
            OriginKind::Backend { peer, .. } | OriginKind::Trunk { peer, .. } => Some(peer),
            OriginKind::Endpoint { .. } => None,
        }
    }

    /// Whether it comes from a backend.
    #[must_use]
    pub fn is_backend(&self) -> bool {
        matches!(self.kind, OriginKind::Backend { .. })
    }

    /// Whether it is somebody: a backend, a registered phone, or who gave right credentials.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.proven.is_some() || !matches!(self.kind, OriginKind::Endpoint { binding: None })
    }
}

/// Why a request has no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No domain of ours: dropped silently, or 404 to whom the edge knows.
    UnknownDomain,
    /// An address of no tenant on a listener for peers: 403.
    UnknownPeer,
    /// A backend of several domains that named none: 403.
    NoDomain,
    /// A shared trunk calls a number that is no tenant's, and no route takes it: 404.
    NobodysNumber,
    /// A trunk calls and sends messages, and nothing else outside calls: 403.
    Method,
}

/// What else is known when a request comes.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Who is registered here.
    pub registrations: &'a Registrations,
    /// Who is at other edges.
    pub remote: Option<&'a Cache>,
    /// When it is.
    pub wall: Wall,
    /// The peer on whose registration it came.
    pub account: Option<PeerRef>,
}

/// Finds whose a request is, on an edge that is alone.
///
/// # Errors
/// The [`Refusal`] that says why nobody's.
pub fn resolve<B: AsRef<[u8]>>(
    settings: &Settings,
    directory: &Directory,
    registrations: &Registrations,
    flow: &Flow,
    request: &Message<B>,
) -> Result<Origin, Refusal> {
    let known = Known { registrations, remote: None, wall: Wall(0), account: None };
    resolve_among(settings, directory, known, flow, request)
}

/// The same where tokens may be of bindings at other edges.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_among<B: AsRef<[u8]>>(
    settings: &Settings,
    directory: &Directory,
    known: Known<'_>,
    flow: &Flow,
    request: &Message<B>,
) -> Result<Origin, Refusal> {
    let listener = settings.listener(flow.listener).ok_or(Refusal::UnknownPeer)?;
    let look = Look { settings, directory, known, listener, flow };
    let ruri = request.request_uri().and_then(sip_uri);
    if let Some(peer) = known.account {
        return if peer.is_trunk() {
            look.trunk(peer, request, ruri.as_ref())
        } else {
            look.of_backend(peer, ruri.as_ref(), None)
        };
    }
    // Most sources on a listener for all are phones: the token is looked for only in what a backend sends.
    if listener.serves.backends && directory.is_backend(listener.network, flow.remote) {
        let token =
            ruri.as_ref().and_then(|uri| BindingKey::from_user(uri.user?)).or_else(|| path_of(request));
        if let Some(found) = look.backend(ruri.as_ref(), token) {
            return found;
        }
    }
    if listener.serves.trunks {
        let trunks = directory.trunks_at(listener.network, flow.remote);
        if let Some(first) = trunks.first() {
            let trunk = if trunks.len() == 1 { *first } else { look.whose(&trunks, request)? };
            return look.trunk(trunk, request, ruri.as_ref());
        }
    }
    if listener.serves.endpoints {
        return look.endpoint(request, ruri.as_ref());
    }
    Err(Refusal::UnknownPeer)
}

struct Look<'a> {
    settings: &'a Settings,
    directory: &'a Directory,
    known: Known<'a>,
    listener: &'a ListenerSettings,
    flow: &'a Flow,
}

impl Look<'_> {
    /// The AoR of a token, by its name.
    fn named(&self, key: BindingKey) -> Option<NameParts<'_>> {
        let here = self.known.registrations.aor_of(key).map(|aor| &*aor.name);
        here.or_else(|| self.known.remote?.name_of(key).map(|name| &**name)).map(NameParts)
    }

    /// `None` when the source is no backend at all.
    fn backend(
        &self,
        ruri: Option<&SipUri<'_>>,
        token: Option<BindingKey>,
    ) -> Option<Result<Origin, Refusal>> {
        let token = token.and_then(|key| self.named(key));
        let peer = self.peer(ruri, token)?;
        let Ok(peer) = peer else { return Some(Err(Refusal::UnknownPeer)) };
        Some(self.of_backend(peer, ruri, token))
    }

    fn of_backend(
        &self,
        peer: PeerRef,
        ruri: Option<&SipUri<'_>>,
        token: Option<NameParts<'_>>,
    ) -> Result<Origin, Refusal> {
        let found = self.directory.peer(self.settings, peer).ok_or(Refusal::UnknownPeer)?;
        let tenant = found.tenant.ok_or(Refusal::UnknownPeer)?;
        let domain = self.domain_of(tenant, found.backend.domain.as_ref(), ruri, token);
        domain.map(|domain| Origin {
            kind: OriginKind::Backend { name: found.backend.name.clone(), peer },
            tenant: tenant.name.clone(),
            domain,
            network: self.listener.network,
            flow: *self.flow,
            proven: None,
        })
    }

    /// The backend: of the token's tenant (in the Request-URI, or in our Path), else by address and port, else by address.
    /// An address that backends of several tenants share says nothing without one of these.
    fn peer(&self, ruri: Option<&SipUri<'_>>, token: Option<NameParts<'_>>) -> Option<Result<PeerRef, ()>> {
        let network = self.listener.network;
        let mut refs = self.directory.peers_at(network, self.flow.remote);
        if refs.is_empty() {
            return None;
        }
        if let Some(tenant) = token.map(NameParts::tenant) {
            let of_tenant = |peer: &&PeerRef| self.tenant_name(**peer) == Some(tenant);
            let all = self.directory.peers_of_address(network, self.flow.remote.ip());
            // A token of a tenant that has nothing at this address is none of its backends' business.
            return Some(refs.iter().chain(&all).find(of_tenant).copied().ok_or(()));
        }
        if let Some((tenant, _)) = ruri.and_then(|uri| self.directory.domain(self.settings, uri.host)) {
            let mut of_tenant = refs.clone();
            of_tenant.retain(|peer| self.tenant_name(*peer) == Some(tenant.name.as_str()));
            if !of_tenant.is_empty() {
                refs = of_tenant;
            }
        }
        let first = refs[0];
        let one_tenant = refs.iter().all(|peer| peer.tenant == first.tenant);
        Some(if one_tenant { Ok(first) } else { Err(()) })
    }

    fn tenant_name(&self, peer: PeerRef) -> Option<&str> {
        self.directory.peer(self.settings, peer).map(|p| p.owner())
    }

    /// The token's, else the Request-URI's when it is the tenant's, else the backend's, else the tenant's only one.
    fn domain_of(
        &self,
        tenant: &TenantSettings,
        of_backend: Option<&Text>,
        ruri: Option<&SipUri<'_>>,
        token: Option<NameParts<'_>>,
    ) -> Result<Text, Refusal> {
        if let Some(aor) = token.filter(|aor| aor.tenant() == tenant.name.as_str()) {
            return Ok(Text::new(aor.domain()));
        }
        if let Some(uri) = ruri
            && let Some((owner, domain)) = self.directory.domain(self.settings, uri.host)
            && owner.name == tenant.name
        {
            return Ok(domain.clone());
        }
        match (of_backend, &*tenant.domains) {
            (Some(domain), _) => Ok(domain.clone()),
            (None, [only]) => Ok(only.name.clone()),
            _ => Err(Refusal::NoDomain),
        }
    }

    /// A trunk's call: of its own tenant, else of whose number it calls, else of the tenant of the first route that takes it.
    fn trunk<B: AsRef<[u8]>>(
        &self,
        peer: PeerRef,
        request: &Message<B>,
        ruri: Option<&SipUri<'_>>,
    ) -> Result<Origin, Refusal> {
        let found = self.directory.peer(self.settings, peer).ok_or(Refusal::UnknownPeer)?;
        if !matches!(request.method(), Method::Invite | Method::Message) {
            return Err(Refusal::Method);
        }
        if !found.trunk.is_some_and(|trunk| trunk.direction.is_in()) {
            return Err(Refusal::UnknownPeer);
        }
        let tenant = found.tenant.or_else(|| {
            let template = found.trunk.and_then(|trunk| trunk.template_in.as_deref());
            let caller = request.from().ok().map(|from| user_or_whole(from.uri)).unwrap_or_default();
            let name = Some(found.backend.name.as_str());
            let asked = Asked::of(&self.settings.rules, None, name, template, caller, request);
            self.directory.owner_of(self.settings, &asked.number).or_else(|| {
                let ask = asked.ask(Source::Trunk, &found.backend.name, self.known.wall);
                self.settings.tenant(tenant_of(&self.settings.rules, &ask)?)
            })
        });
        let tenant = tenant.ok_or(Refusal::NobodysNumber)?;
        let named = ruri.and_then(|uri| self.directory.domain(self.settings, uri.host));
        let named = named.filter(|(owner, _)| owner.name == tenant.name).map(|(_, domain)| domain);
        let domain = named.or(tenant.domains.first().map(|domain| &domain.name)).ok_or(Refusal::NoDomain)?;
        Ok(Origin {
            kind: OriginKind::Trunk { name: found.backend.name.clone(), peer },
            tenant: tenant.name.clone(),
            domain: domain.clone(),
            network: self.listener.network,
            flow: *self.flow,
            proven: None,
        })
    }

    /// Of several trunks at one place, the one that is of whom the call is for; one of a tenant never takes another's.
    fn whose<B: AsRef<[u8]>>(&self, trunks: &[PeerRef], request: &Message<B>) -> Result<PeerRef, Refusal> {
        let found = trunks.iter().copied().find(|peer| {
            let Some(found) = self.directory.peer(self.settings, *peer) else { return false };
            let template = found.trunk.and_then(|trunk| trunk.template_in.as_deref());
            let dialled = request.request_uri().map(user_or_whole).unwrap_or_default();
            let asked = Asked::by_numbers(None, template, dialled, Text::default());
            let owner = self.directory.owner_of(self.settings, &asked.number);
            found.tenant.is_none()
                || owner.is_some() && found.tenant.map(|t| &t.name) == owner.map(|t| &t.name)
        });
        found.ok_or(Refusal::NobodysNumber)
    }

    fn endpoint<B: AsRef<[u8]>>(
        &self,
        request: &Message<B>,
        ruri: Option<&SipUri<'_>>,
    ) -> Result<Origin, Refusal> {
        let (from, to) = (request.from().ok(), request.to().ok());
        let from = from.and_then(|a| sip_uri(a.uri));
        let to = to.and_then(|a| sip_uri(a.uri));
        // The domain addressed; then, for what names none (the edge's own address, a telephone number), who it is to; then
        // who it says it is; then the listener's.
        let known = |uri: Option<&SipUri<'_>>| uri.and_then(|u| self.directory.domain(self.settings, u.host));
        let (tenant, domain) = known(ruri)
            .or_else(|| known(to.as_ref()))
            .or_else(|| known(from.as_ref()))
            .or_else(|| self.directory.domain(self.settings, self.listener.domain.as_ref()?.as_bytes()))
            .or_else(|| self.by_flow())
            .ok_or(Refusal::UnknownDomain)?;
        let (tenant, domain) = (tenant.name.clone(), domain.clone());
        let binding = self.identity(&tenant, from.as_ref());
        // A backend trusts the edge, and might pass on what is for somebody else's domain. Its own address is as good as a
        // domain of its tenant: transfers name it.
        if let Some(uri) = ruri
            && self.is_foreign(uri.host)
            && !(binding.is_some() && self.is_backend_of(&tenant, uri))
        {
            return Err(Refusal::UnknownDomain);
        }
        let kind = OriginKind::Endpoint { binding };
        let network = self.listener.network;
        Ok(Origin { kind, tenant, domain, network, flow: *self.flow, proven: None })
    }

    /// Whether a host is neither a domain of ours nor the edge itself.
    fn is_foreign(&self, host: &[u8]) -> bool {
        self.directory.domain(self.settings, host).is_none()
            && !self.directory.is_own_host(host)
            && !self.is_here(host)
    }

    /// Whether a host is the address that the request came to: a listener on all addresses has no other to know it by.
    fn is_here(&self, host: &[u8]) -> bool {
        host_address(host).is_some_and(|ip| canonical_ip(ip) == canonical_ip(self.flow.local.ip()))
    }

    /// Whether a URI's host is where one of the tenant's backends is.
    fn is_backend_of(&self, tenant: &TenantId, uri: &SipUri<'_>) -> bool {
        let address = uri.address().map(canonical_ip);
        // A trunk's address would take a call past the rules, by way of a backend that trusts the edge.
        let of_tenant = |at: PeerRef, owner: &str| !at.is_trunk() && owner == tenant.as_str();
        Directory::peers(self.settings).filter(|(at, found)| of_tenant(*at, found.owner())).any(
            |(at, found)| {
                let here = self.directory.address(self.settings, at).map(|(_, found)| found.ip());
                uri.host.eq_ignore_ascii_case(found.backend.address.host.as_bytes())
                    || address.is_some() && here == address
            },
        )
    }

    /// The domain of whoever is registered over this flow, when that is one.
    fn by_flow(&self) -> Option<(&TenantSettings, &Text)> {
        let mut over = self.known.registrations.over_flow(self.flow).map(|(aor, _)| aor);
        let first = over.next()?;
        if over.any(|aor| aor.tenant() != first.tenant() || aor.domain() != first.domain()) {
            return None;
        }
        let found = self.directory.domain(self.settings, first.domain().as_bytes())?;
        (found.0.name.as_str() == first.tenant()).then_some(found)
    }

    /// The live binding over this flow, of this tenant, whose AoR From names. A From with the edge's own address as host
    /// names it by its user alone, when only one such is registered over the flow.
    fn identity(&self, tenant: &TenantId, from: Option<&SipUri<'_>>) -> Option<BindingKey> {
        let from = from?;
        let user = from.decoded_user()?;
        let domain = self.directory.domain(self.settings, from.host);
        // RFC 3323 §4.1.1.3: who asks for privacy names nobody; the flow says who it is.
        let anonymous = from.host_is(b"anonymous.invalid");
        if domain.is_none() && !anonymous && !self.directory.is_own_host(from.host) {
            return None;
        }
        if anonymous {
            return self.only_one_over_flow(tenant);
        }
        let user = std::str::from_utf8(&user).ok()?;
        let registered = |domain: &Text| {
            let name = AorName::new(tenant.as_str(), user, domain);
            self.known.registrations.of_aor_over_flow(name.as_str(), self.flow).map(|binding| binding.key)
        };
        match domain {
            Some((owner, domain)) => (owner.name == *tenant).then(|| registered(domain)).flatten(),
            None => {
                let mut found =
                    self.settings.tenant(tenant)?.domains.iter().filter_map(|d| registered(&d.name));
                let first = found.next()?;
                found.next().is_none().then_some(first)
            }
        }
    }

    /// The binding over this flow, when all that are there belong to one AoR of the tenant.
    fn only_one_over_flow(&self, tenant: &TenantId) -> Option<BindingKey> {
        let mut own =
            self.known.registrations.over_flow(self.flow).filter(|(aor, _)| aor.tenant() == tenant.as_str());
        let (aor, binding) = own.next()?;
        own.all(|(other, _)| other.name == aor.name).then_some(binding.key)
    }
}

fn sip_uri(bytes: &[u8]) -> Option<SipUri<'_>> {
    match Uri::parse(bytes).ok()? {
        Uri::Sip(uri) => Some(uri),
        _ => None,
    }
}
