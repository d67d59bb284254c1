//! Where a call may go: what rules, bindings and the pool of backends say, made into targets.

use super::attempt::Target;
use super::leg::Peer;
use super::limits;
use super::names::Names;
use super::raw::Raw;
use super::reference::names_one;
use super::words::Words;
use crate::backend::{Candidate, Candidates, Wanted, candidates, in_group};
use crate::facts::call as facts;
use crate::registration;
use crate::remote;
use crate::routing::{
    Ask, Asked, Choice, Chosen, Nobody, Query, Route, Source, choose, is_user, path_of, select,
};
use crate::settings::{
    Affinity, EarlyDialogs, Group, Hide, Member, MemberName, PeerLimits, Ring, Rule, Template, To,
};
use crate::sips;
use crate::state::BindingKey;
use crate::tenancy::{Origin, OriginKind, PeerRef};
use crate::turn::{About, Turn};
use signalbox_base::{TenantId, Text};
use signalbox_schemas::call::{RouteTarget, RouteWhy};
use signalbox_schemas::values::TransportAddress;
use signalbox_schemas::words::{RouteBasis, TargetKind};
use signalbox_sip::uri::write_escaped_user;
use signalbox_sip::{Message, Uri};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a call may go.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) targets: VecDeque<Target>,
    /// Targets ring at once, as far as they are of one stage.
    pub(super) fork: bool,
    pub(super) hide: bool,
    /// The caller shall see one early dialog.
    pub(super) single: bool,
    /// It goes nowhere.
    pub(super) end: Option<Final>,
}

/// What the caller is told at once.
pub(super) enum Final {
    /// Nobody is there.
    Nobody(Nobody),
    /// What a rule says.
    Said(Words),
}

impl Plan {
    fn nobody(nobody: Nobody) -> Self {
        Self { end: Some(Final::Nobody(nobody)), ..Self::default() }
    }

    fn said(words: Words) -> Self {
        Self { end: Some(Final::Said(words)), ..Self::default() }
    }

    /// Keeps the targets that fit; when that leaves none of those that there were, `or` is how it ends.
    pub(super) fn keep(&mut self, fits: impl FnMut(&mut Target) -> bool, or: impl FnOnce() -> Final) {
        if self.targets.is_empty() {
            return;
        }
        self.targets.retain_mut(fits);
        if self.targets.is_empty() {
            self.end = Some(or());
        }
    }
}

/// Plans. `first` is the peer that asked for credentials.
pub(super) fn plan(
    turn: &mut Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
    first: Option<&Text>,
) -> Plan {
    let (settings, ruri) = (turn.settings, request.request_uri().unwrap_or_default());
    let tenant = settings.tenant(&origin.tenant);
    let from_trunk = matches!(origin.kind, OriginKind::Trunk { .. });
    let caller = origin.peer().and_then(|at| turn.directory.peer(settings, at));
    let template = caller.and_then(|found| found.trunk?.template_in.as_deref());
    if from_trunk && tenant.is_some_and(|tenant| limits::is_blocked(&tenant.numbering, template, request)) {
        return Plan::said(Words::blocked());
    }
    let user = Uri::parse(ruri).ok().as_ref().and_then(user_of);
    let source = registration::source(turn, origin, user.as_deref());
    let named = match source {
        Source::Backend | Source::Neighbour => {
            let path = path_of(request);
            let user = user.as_deref();
            let (tenant, domain) = (origin.tenant.as_str(), &*origin.domain);
            Some(named(turn, origin, &Query { tenant, domain, user, uri: ruri, path, source }))
        }
        Source::Endpoint | Source::Trunk => None,
    };
    let bound = named.as_ref().is_some_and(|(_, nobody)| *nobody != Some(Nobody::NotFound))
        || is_user(turn.directory.policy(settings, &origin.domain), user.as_deref());
    let rules = &settings.rules;
    let choice = if rules.routes.is_empty() {
        let has_backends = tenant.is_some_and(|tenant| !tenant.backends.is_empty());
        Choice::unruled(source, bound, has_backends)
    } else {
        let name = caller.map(|found| found.backend.name.as_str());
        let who = facts::caller_of(turn, origin, request);
        let asked = Asked::of(rules, tenant, name, template, who, request);
        let peer = facts::ingress_name(turn, origin);
        let stranger = !origin.is_known();
        let ask = asked.ask(source, &peer, turn.now.wall);
        choose(rules, &Ask { domain: &origin.domain, bound, stranger, ..ask })
    };
    turn.note(About { source: Some(origin.flow.remote), ..About::default() }, || choice.describe());
    let rule = choice.rule;
    let mut plan = match choice.to {
        Chosen::Contacts => {
            let (targets, nobody) = named.unwrap_or_default();
            let fork = !targets.is_empty();
            Plan { targets, fork, end: nobody.map(Final::Nobody), ..Plan::default() }
        }
        Chosen::Backends => to_backends(turn, origin, request),
        Chosen::Nobody => Plan::nobody(Nobody::NotFound),
        Chosen::Rule(to) => by_rule(turn, origin, request, to),
    };
    if let Some(Rule { name, .. }) = rule {
        for target in &mut plan.targets {
            target.why.basis = RouteBasis::Rule;
            target.why.rule = Some(name.clone());
        }
    }
    leave_out_busy(turn, origin, request, &mut plan);
    let by_rule = rule.and_then(|rule| rule.template.as_deref());
    name_anew(turn, origin, request, &mut plan.targets, [template, by_rule]);
    // A number of which nothing is left is none that could be called.
    let is_named = |target: &mut Target| target.names.as_ref().is_none_or(|names| names.calls_somebody());
    plan.keep(is_named, || Final::Nobody(Nobody::NotFound));
    if let Some(place) = first.and_then(|name| plan.targets.iter().position(|t| t.peer.name() == name))
        && !plan.fork
    {
        plan.targets.make_contiguous()[..=place].rotate_right(1);
    }
    let caller = caller.map(|found| found.backend);
    plan.single = caller.is_some_and(|caller| caller.early_dialogs == EarlyDialogs::Single);
    plan.hide |= caller.is_some_and(|caller| caller.hide == Hide::Full);
    plan.by_scheme(turn, origin, ruri)
}

/// Users who have as many calls as they may are not rung; a call that takes another's place is none more.
fn leave_out_busy(turn: &Turn<'_>, origin: &Origin, request: &Message<&[u8]>, plan: &mut Plan) {
    let max = turn.settings.tenant(&origin.tenant).and_then(|tenant| tenant.limits.calls_per_user);
    if max.is_none() || names_one(request) {
        return;
    }
    let takes_one_more = |target: &mut Target| {
        let who = limits::counted_peer(origin.tenant.text(), &target.peer);
        !target.peer.is_endpoint() || !limits::is_full(turn, max, &who)
    };
    plan.keep(takes_one_more, || Final::Said(Words::busy()));
}

/// Numbers are written as the templates of where the call comes from, of its rule and of where it goes say.
fn name_anew(
    turn: &Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
    targets: &mut VecDeque<Target>,
    before: [Option<&Template>; 2],
) {
    let numbering = turn.settings.tenant(&origin.tenant).map(|tenant| &tenant.numbering);
    for target in targets.iter_mut().filter(|target| !target.peer.is_endpoint()) {
        let place = target.peer.place(turn, origin.tenant.as_str());
        let found = place.and_then(|at| turn.directory.peer(turn.settings, at));
        let out = found.and_then(|found| found.trunk?.template_out.as_deref());
        let all: SmallVec<[&Template; 3]> = before.into_iter().chain([out]).flatten().collect();
        if !all.is_empty() {
            let known = facts::caller_of(turn, origin, request);
            target.renamed(Names::written(&all, numbering, &known, request));
        }
    }
}

/// Bindings of this and of other edges; what nobody is where there are none.
fn named(turn: &mut Turn<'_>, origin: &Origin, query: &Query<'_>) -> (VecDeque<Target>, Option<Nobody>) {
    let (mut targets, nobody) = here(turn, query);
    let (basis, found) = remote::elsewhere(turn, query);
    targets.extend(found.away.iter().filter_map(|away| remote::target(turn, origin, away, basis)));
    let nobody = targets.is_empty().then_some(match found.away.is_empty() {
        true => remote::beyond(nobody, &found),
        false => Nobody::Unreachable,
    });
    // What looks like a token, and is none, is nobody's number.
    let token = query.user.and_then(BindingKey::from_user).is_some();
    let nobody =
        nobody.map(|nobody| if token && nobody == Nobody::NotFound { Nobody::NoToken } else { nobody });
    (targets, nobody)
}

/// Bindings of this edge; what nobody is where there are none.
fn here(turn: &Turn<'_>, query: &Query<'_>) -> (VecDeque<Target>, Nobody) {
    match select(turn.state.registrations(), query, |binding| turn.is_here(binding)) {
        Route::Nobody(nobody) => (VecDeque::new(), nobody),
        Route::Contacts { basis, contacts } => {
            let here = contacts.iter().map(|(aor, binding)| to_contact(aor.address(), binding, basis));
            (here.collect(), Nobody::Unreachable)
        }
        Route::Backends => (VecDeque::new(), Nobody::NotFound),
    }
}

pub(super) fn to_contact(name: &str, binding: &crate::state::Binding, basis: RouteBasis) -> Target {
    let name = Text::new(name);
    Target {
        peer: Peer::Endpoint { name: name.clone() },
        flow: binding.flow.get(),
        uri: Raw::from(&*binding.request_uri()),
        routes: binding.path.iter().map(|path| path.as_bytes()).collect(),
        event: RouteTarget {
            kind: TargetKind::Contact,
            name,
            contact: Some(binding.contact.clone()),
            binding: Some(Text::from(binding.key.to_string())),
            address: Some(TransportAddress::remote(&binding.flow.get())),
            edge: None,
        },
        why: RouteWhy { basis, ..RouteWhy::default() },
        stage: None,
        group: None,
        names: None,
    }
}

/// The tenant's backends in the order of the pool.
fn to_backends(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>) -> Plan {
    let binding = match origin.kind {
        OriginKind::Endpoint { binding } => binding,
        OriginKind::Backend { .. } | OriginKind::Trunk { .. } => None,
    };
    let aor = binding.and_then(|key| turn.state.registrations().aor_of(key)).map(|aor| aor.name.clone());
    let list = candidates(turn, &origin.tenant, aor.as_deref());
    let own = matches!(origin.kind, OriginKind::Trunk { .. }).then_some(RouteBasis::Number);
    let basis =
        |c: &Candidate| if c.sticky { RouteBasis::Sticky } else { own.unwrap_or(RouteBasis::Backends) };
    let targets = list.iter().map(|c| to_peer(turn, origin, request, c, why(&list, c, basis(c)))).collect();
    let hide = list.iter().any(|candidate| candidate.hide == Hide::Full);
    Plan { targets, hide, ..Plan::default() }
}

fn why(list: &[Candidate], of: &Candidate, basis: RouteBasis) -> RouteWhy {
    let equals = list.iter().filter(|c| c.priority == of.priority && !c.again);
    RouteWhy {
        basis,
        priority: Some(u32::from(of.priority)),
        weight: Some(u32::from(of.weight)),
        weight_total: Some(equals.map(|c| u32::from(c.weight)).sum()),
        ..RouteWhy::default()
    }
}

/// A backend or trunk as a target.
fn to_peer(
    turn: &Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
    candidate: &Candidate,
    why: RouteWhy,
) -> Target {
    let (name, ruri) = (candidate.name.clone(), request.request_uri().unwrap_or_default());
    let trunk = candidate.peer.is_trunk();
    let (peer, kind, uri) = if trunk {
        (Peer::Trunk { name: name.clone() }, TargetKind::Trunk, at_trunk(turn, candidate, ruri))
    } else {
        (Peer::Backend { name: name.clone() }, TargetKind::Backend, dialled(turn, origin, ruri))
    };
    let routes = match turn.backends.registered(candidate.peer) {
        Some(registered) => registered.routes.clone(),
        None if trunk => Vec::new(),
        None => registration::service_routes(turn, origin, request, &name),
    };
    Target {
        peer,
        flow: candidate.flow,
        uri,
        routes: routes.iter().map(|route| route.as_bytes()).collect(),
        event: RouteTarget {
            kind,
            name,
            address: Some(TransportAddress::remote(&candidate.flow)),
            ..RouteTarget::default()
        },
        why,
        stage: None,
        group: None,
        names: None,
    }
}

/// The Request-URI towards a backend: as dialled when it names a domain of the tenant, else with the tenant's domain.
fn dialled(turn: &Turn<'_>, origin: &Origin, ruri: &[u8]) -> Raw {
    let Ok(Uri::Sip(uri)) = Uri::parse(ruri) else { return Raw::from(ruri) };
    let named = turn.directory.domain(turn.settings, uri.host);
    let is_own = named.is_some_and(|(tenant, _)| tenant.name == origin.tenant);
    // A carrier writes whatever address it knows us by.
    let stands = turn.directory.is_own_host(uri.host) || matches!(origin.kind, OriginKind::Trunk { .. });
    if is_own || !stands {
        return Raw::from(ruri);
    }
    let start = uri.host_port.as_ptr() as usize - ruri.as_ptr() as usize;
    let behind = &ruri[start + uri.host_port.len()..];
    Raw::from([&ruri[..start], origin.domain.as_bytes(), behind].concat())
}

/// The Request-URI towards a trunk: the number, at the trunk's own address.
fn at_trunk(turn: &Turn<'_>, candidate: &Candidate, ruri: &[u8]) -> Raw {
    let Some(found) = turn.directory.peer(turn.settings, candidate.peer) else { return Raw::from(ruri) };
    let address = &found.backend.address;
    let mut uri = Vec::with_capacity(64);
    let (user, phone) = match Uri::parse(ruri) {
        // A phone's parameters of a number would have the carrier call another one (RFC 4694 §4).
        Ok(Uri::Sip(uri)) => (
            uri.decoded_user().map(|user| facts::number_of(&user).into_owned()),
            uri.param(b"user").is_some(),
        ),
        Ok(Uri::Tel(tel)) => (Some(facts::number_of(tel.number).into_owned()), true),
        _ => return Raw::from(ruri),
    };
    uri.extend_from_slice(sips::scheme_towards(ruri, &candidate.flow).as_bytes());
    if let Some(user) = user {
        write_escaped_user(&user, &mut uri);
        uri.push(b'@');
    }
    let host =
        if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.to_string() };
    uri.extend_from_slice(host.as_bytes());
    if let Some(port) = address.port {
        uri.extend_from_slice(format!(":{port}").as_bytes());
    }
    if phone {
        uri.extend_from_slice(b";user=phone");
    }
    Raw::from(uri.as_slice())
}

fn by_rule(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>, to: &To) -> Plan {
    match to {
        To::Backends => to_backends(turn, origin, request),
        To::Group(group) => to_group(turn, origin, request, group),
        To::Ring(ring) => to_users(turn, origin, ring),
        To::Reject(rejection) => Plan::said(Words::rejection(rejection)),
        To::Redirect(contacts) => Plan::said(Words::redirection(contacts)),
    }
}

/// The members of a group in the order to try them; those that take no more calls are left out.
fn to_group(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>, group: &Arc<Group>) -> Plan {
    let everyone = group.members.iter().map(|member| &member.peer);
    let numbering = turn.settings.tenant(&origin.tenant).map(|tenant| &tenant.numbering);
    let for_help = limits::is_emergency(numbering, request);
    let name = || Text::from(format!("group/{}", group.name));
    if !for_help && !limits::admits(turn, name, group.limits, everyone) {
        return Plan::said(Words::full());
    }
    let key = affinity(group.affinity, request);
    let now = turn.now.mono;
    let wanted: Vec<Wanted> = group
        .members
        .iter()
        .filter_map(|member| {
            let peer = place_of(turn, origin, &member.peer)?;
            let cooling = turn.net.pace.is_cooling(&limits::counted(&member.peer), now);
            Some(Wanted { peer, priority: member.priority, weight: member.weight, last: cooling })
        })
        .collect();
    let mut list: Candidates = in_group(turn, &wanted, key.as_deref());
    let before = list.len();
    if !for_help {
        leave_out_full(turn, group, &mut list);
    }
    if list.is_empty() && before > 0 {
        return Plan::said(Words::full());
    }
    let target = |c: &Candidate| Target {
        group: Some(Arc::clone(group)),
        ..to_peer(turn, origin, request, c, why(&list, c, RouteBasis::Rule))
    };
    let targets = list.iter().map(target).collect();
    let hide = list.iter().any(|candidate| candidate.hide == Hide::Full);
    Plan { targets, hide, ..Plan::default() }
}

/// Takes out who takes no more calls; who is first then has one more.
fn leave_out_full(turn: &mut Turn<'_>, group: &Group, list: &mut Candidates) {
    list.retain(|candidate| {
        member_of(group, candidate).is_none_or(|member| !is_full(turn, member, candidate.peer))
    });
    while let Some(next) = list.first().cloned()
        && !paces(turn, group, member_of(group, &next), next.peer)
    {
        list.retain(|candidate| candidate.peer != next.peer);
    }
}

fn member_of<'g>(group: &'g Group, candidate: &Candidate) -> Option<&'g Member> {
    group.members.iter().find(|member| match &member.peer {
        MemberName::Backend(_, name) => !candidate.peer.is_trunk() && *name == candidate.name,
        MemberName::Trunk(name) => candidate.peer.is_trunk() && *name == candidate.name,
    })
}

/// Whether the next of a group, after others have failed, takes the call: it is counted then.
pub(super) fn takes_over(
    turn: &mut Turn<'_>,
    tenant: &TenantId,
    target: &Target,
    request: &Message<&[u8]>,
) -> bool {
    let (Some(group), Some(place)) = (&target.group, target.peer.place(turn, tenant.as_str())) else {
        return true;
    };
    let numbering = turn.settings.tenant(tenant).map(|tenant| &tenant.numbering);
    let who = limits::counted_peer(tenant.text(), &target.peer);
    let member = group.members.iter().find(|member| limits::counted(&member.peer) == who);
    limits::is_emergency(numbering, request)
        || member.is_none_or(|member| !is_full(turn, member, place)) && paces(turn, group, member, place)
}

fn limits_of(turn: &Turn<'_>, peer: PeerRef) -> PeerLimits {
    let found = turn.directory.peer(turn.settings, peer).and_then(|found| found.trunk);
    found.map(|trunk| trunk.limits).unwrap_or_default()
}

/// Whether a member has as many calls as it may, as a trunk or as a member.
fn is_full(turn: &Turn<'_>, member: &Member, peer: PeerRef) -> bool {
    let active = turn.state.calls().active_at(&limits::counted(&member.peer));
    [limits_of(turn, peer).calls, member.limits.calls].into_iter().flatten().any(|max| active >= max)
}

/// Whether a member takes one more call this second; it is counted then.
fn paces(turn: &mut Turn<'_>, group: &Group, member: Option<&Member>, peer: PeerRef) -> bool {
    let (now, of_trunk) = (turn.now.mono, limits_of(turn, peer).calls_per_second);
    let of_member = member.and_then(|member| member.limits.calls_per_second);
    let Some(found) = turn.directory.peer(turn.settings, peer) else { return false };
    let (name, pace) = (&found.backend.name, &mut turn.net.pace);
    pace.take(of_trunk, || Text::from(format!("trunk/{name}")), now)
        && pace.take(of_member, || Text::from(format!("group/{}/{name}", group.name)), now)
}

/// A member's place, where it takes calls of this tenant.
fn place_of(turn: &Turn<'_>, origin: &Origin, member: &MemberName) -> Option<PeerRef> {
    let place = match member {
        MemberName::Backend(tenant, name) => turn.directory.find(turn.settings, tenant.as_str(), name)?,
        MemberName::Trunk(name) => turn.directory.find_trunk(turn.settings, name)?,
    };
    let found = turn.directory.peer(turn.settings, place)?;
    let own = found.tenant.is_none_or(|tenant| tenant.name == origin.tenant);
    (own && found.trunk.is_none_or(|trunk| trunk.direction.is_out())).then_some(place)
}

fn affinity(affinity: Affinity, request: &Message<&[u8]>) -> Option<Text> {
    match affinity {
        Affinity::None => None,
        Affinity::Caller => Some(facts::user_or_whole(request.from().ok()?.uri)),
        Affinity::Number => Some(facts::user_or_whole(request.request_uri()?)),
        Affinity::CallId => Some(Text::lossy(request.call_id())),
    }
}

/// Registered users, stage by stage.
fn to_users(turn: &mut Turn<'_>, origin: &Origin, ring: &Ring) -> Plan {
    let (mut targets, mut end) = (VecDeque::new(), Nobody::NotFound);
    for (stage, users) in (0..).zip(&ring.stages) {
        for address in users {
            let Some((user, domain)) = address.split_once('@') else { continue };
            let query = Query {
                tenant: origin.tenant.as_str(),
                domain,
                user: Some(user.as_bytes()),
                uri: address.as_bytes(),
                path: None,
                source: Source::Neighbour,
            };
            let (mut found, nobody) = named(turn, origin, &query);
            found.iter_mut().for_each(|target| target.stage = Some((stage, ring.ring_for)));
            targets.append(&mut found);
            end = if nobody == Some(Nobody::Unreachable) { Nobody::Unreachable } else { end };
        }
    }
    if targets.is_empty() { Plan::nobody(end) } else { Plan { targets, fork: true, ..Plan::default() } }
}

fn user_of<'m>(uri: &Uri<'m>) -> Option<Cow<'m, [u8]>> {
    match uri {
        Uri::Sip(sip) => sip.decoded_user(),
        Uri::Tel(tel) => Some(Cow::Borrowed(tel.number)),
        Uri::Other { .. } => None,
    }
}
