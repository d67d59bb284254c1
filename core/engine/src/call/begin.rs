//! How a call begins: admission, routing, the first attempts.

use super::Calls;
use super::attempt::Target;
use super::call::{Call, Core, State, owner};
use super::cdr::{Clock, Outcome, Reason};
use super::early::Dialogs;
use super::identity;
use super::leg::{Leg, Peer};
use super::message;
use super::offer::{self, Description};
use super::raw::Raw;
use super::reference::{Translated, Way, names_one};
use super::relay;
use super::setup::{Setup, record_attempt};
use super::state::Challenged;
use crate::backend::{Candidate, candidates};
use crate::facts::call as facts;
use crate::registration;
use crate::remote;
use crate::routing::{Nobody, Query, Route, explain, path_of, select};
use crate::settings::{EarlyDialogs, Hide};
use crate::state::BindingKey;
use crate::tenancy::{Origin, OriginKind};
use crate::turn::{About, Turn};
use signalbox_base::{CallUid, Mono, Text};
use signalbox_schemas::call::{RouteTarget, RouteWhy};
use signalbox_schemas::values::TransportAddress;
use signalbox_schemas::words::{ReleasedBy, RequestRule, RouteBasis, TargetKind};
use signalbox_sip::sdp::Session;
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::uri::without_headers;
use signalbox_sip::{HeaderName, Limits, Message, Method, Uri};
use std::borrow::Cow;
use std::collections::VecDeque;

/// Seconds a caller is asked to wait when its tenant has as many calls as it may.
const RETRY_AFTER_LIMIT_SECS: u32 = 5;

/// Numbers that reach emergency services in most of the world, beside `urn:service:sos` (RFC 5031).
const EMERGENCY_NUMBERS: [&[u8]; 3] = [b"112", b"911", b"999"];

/// A tenant's new calls a second: a token bucket of one second's depth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    credit_ns: u64,
    at: Mono,
}

impl Rate {
    const SECOND_NS: u64 = 1_000_000_000;

    pub(crate) fn full(now: Mono) -> Self {
        Self { credit_ns: Self::SECOND_NS, at: now }
    }

    /// Takes one call's worth, if there is that much.
    pub(crate) fn take(&mut self, per_second: u32, now: Mono) -> bool {
        let elapsed = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.credit_ns = self.credit_ns.saturating_add(elapsed).min(Self::SECOND_NS);
        self.at = now;
        let Some(cost) = Self::SECOND_NS.checked_div(u64::from(per_second)) else { return false };
        let fits = self.credit_ns >= cost;
        self.credit_ns -= if fits { cost } else { 0 };
        fits
    }
}

/// A new INVITE outside any dialog.
pub(crate) fn on_invite(
    calls: &mut Calls,
    turn: &mut Turn<'_>,
    origin: &Origin,
    tx: ServerTx,
    request: &Message<&[u8]>,
) {
    let refuse = |turn: &mut Turn<'_>, status, retry_after| {
        relay::refuse(turn, tx, Method::Invite, &origin.flow, request, status, retry_after);
    };
    if identity::is_loop(turn.settings, origin, request) {
        return refuse(turn, 482, None);
    }
    if let Some(uid) = calls.repeated(origin, request) {
        return answer_again(calls, turn, uid, tx);
    }
    if let Some(uid) = calls.challenged(origin, request) {
        return retry(calls, turn, uid, origin, tx, request);
    }
    if calls.is_merged(turn.settings, origin, request) {
        return refuse(turn, 482, None);
    }
    if !is_emergency(request) {
        if let Some(seconds) = turn.closed_for_new() {
            turn.net.shed += 1;
            return refuse(turn, 503, Some(seconds));
        }
        if is_over_limit(calls, turn, origin) {
            turn.reject_request(origin.flow.remote.ip(), RequestRule::Limit, None, request);
            return refuse(turn, 503, Some(RETRY_AFTER_LIMIT_SECS));
        }
    }
    let plan = plan(turn, origin, request, None);
    let translated = translated(calls, turn, origin, &plan, request);
    let message = translated.as_ref().and_then(|translated| translated.message());
    let request = message.as_ref().unwrap_or(request);
    let session = offer::session(request);
    let mut core = new_core(turn, origin, tx, request, plan.hide, session.as_ref());
    let targets = (plan.targets, plan.fork, plan.single);
    let setup = new_setup(&core, request, targets, session.as_ref());
    if origin.is_known() {
        record_attempt(&mut core, turn, &setup.invite);
    }
    let uid = core.uid;
    let caller = (core.caller.token, 0, core.caller.call_id.clone());
    core.new_legs.push(caller);
    own(turn, &core, tx);
    let state = run(setup, &mut core, turn, plan.nobody, request);
    calls.insert(turn, uid, Call { core, state });
}

/// The INVITE as whoever it goes to would have written it.
fn translated(
    calls: &Calls,
    turn: &Turn<'_>,
    origin: &Origin,
    plan: &Plan,
    request: &Message<&[u8]>,
) -> Option<Translated> {
    if !names_one(request) {
        return None;
    }
    let to = &plan.targets.front()?.peer;
    let from = peer_of(turn, origin);
    calls.translated(turn, Way { tenant: &origin.tenant, from: &from, to }, request)
}

/// The INVITE of a call from before a restart, once more: the answer goes into its new transaction, which repeats it from now
/// on.
fn answer_again(calls: &mut Calls, turn: &mut Turn<'_>, uid: CallUid, tx: ServerTx) {
    calls.step(turn, uid, |mut state, core, turn| {
        let Some(bytes) = state.resend().map(|resend| resend.bytes.clone()) else { return state };
        let status =
            Message::parse(&*bytes, &Limits::DATAGRAM).ok().and_then(|answer| answer.status()).unwrap_or(503);
        core.caller_tx = Some(tx);
        own(turn, core, tx);
        // Nothing can have answered a transaction that was opened in this turn.
        let _ = turn.respond(tx, Method::Invite, status, core.last, |out| out.extend_from_slice(&bytes));
        state.drop_resend();
        state
    });
}

/// The caller came back with credentials: the same call goes on.
fn retry(
    calls: &mut Calls,
    turn: &mut Turn<'_>,
    uid: CallUid,
    origin: &Origin,
    tx: ServerTx,
    request: &Message<&[u8]>,
) {
    let challenger = match calls.calls.get(&uid).map(|call| &call.state) {
        Some(State::Challenged(challenged)) => challenged.challenger(),
        _ => None,
    };
    let plan = plan(turn, origin, request, challenger.as_ref());
    let translated = translated(calls, turn, origin, &plan, request);
    let message = translated.as_ref().and_then(|translated| translated.message());
    let request = message.as_ref().unwrap_or(request);
    calls.step(turn, uid, |state, core, turn| {
        let State::Challenged(challenged) = state else { return state };
        core.caller.seen = request.cseq().number;
        core.caller.flow = origin.flow;
        core.caller.local_tag = Raw::default();
        core.caller_tx = Some(tx);
        core.cookie = identity::loop_cookie(turn.settings, origin, request);
        own(turn, core, tx);
        let session = offer::session(request);
        let targets = (plan.targets, plan.fork, plan.single);
        let mut setup = new_setup(core, request, targets, session.as_ref());
        let Challenged { attempts, .. } = challenged;
        setup.attempts = attempts;
        run(setup, core, turn, plan.nobody, request)
    });
}

/// 100 at once, then the first attempts.
fn run(
    mut setup: Box<Setup>,
    core: &mut Core,
    turn: &mut Turn<'_>,
    nobody: Option<Nobody>,
    request: &Message<&[u8]>,
) -> State {
    if let Some(tx) = core.caller_tx {
        let (call_id, invite) = (&core.caller.call_id, &setup.invite);
        // Nothing can have answered a transaction that was opened in this turn.
        let _ = turn.respond(tx, Method::Invite, 100, None, |out| {
            message::own_response(out, Method::Invite, call_id, invite, b"", 100);
        });
    }
    if let Some(nobody) = nobody {
        let reason = Reason::own(message::phrase(nobody.status()));
        let outcome = Outcome::failed(ReleasedBy::Edge, nobody.status(), false, reason);
        return setup.fail(core, turn, outcome, nobody.status(), None);
    }
    if setup.advance(core, turn, Some(request)) { State::Inviting(setup) } else { setup.conclude(core, turn) }
}

/// Where a call may go.
struct Plan {
    targets: VecDeque<Target>,
    fork: bool,
    hide: bool,
    /// The caller shall see one early dialog.
    single: bool,
    nobody: Option<Nobody>,
}

fn plan(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>, first: Option<&Text>) -> Plan {
    let ruri = request.request_uri().unwrap_or_default();
    let (known, line) = chosen(turn, origin, ruri, path_of(request));
    if let Some(line) = line {
        let about = About { source: Some(origin.flow.remote), ..About::default() };
        turn.note(about, || line);
    }
    known.unwrap_or_else(|| to_backends(turn, origin, request, first))
}

/// The choice: contacts or nobody; none when the pool of backends has the word. Beside it, the choice in words, for whoever
/// watches.
fn chosen(
    turn: &mut Turn<'_>,
    origin: &Origin,
    ruri: &[u8],
    path: Option<BindingKey>,
) -> (Option<Plan>, Option<String>) {
    let user = Uri::parse(ruri).ok().as_ref().and_then(user_of);
    let query = Query {
        tenant: origin.tenant.as_str(),
        domain: &origin.domain,
        user: user.as_deref(),
        uri: ruri,
        path,
        source: registration::source(turn, origin, user.as_deref()),
    };
    let (hide, single) = match &origin.kind {
        OriginKind::Backend { peer, .. } => {
            turn.directory.peer(turn.settings, *peer).map_or((false, false), |found| {
                let backend = found.backend;
                (backend.hide == Hide::Full, backend.early_dialogs == EarlyDialogs::Single)
            })
        }
        OriginKind::Endpoint { .. } => (false, false),
    };
    let (here, line) = here(turn, &query);
    let Some((mut targets, nobody)) = here else { return (None, line) };
    let (basis, found) = remote::elsewhere(turn, &query);
    targets.extend(found.away.iter().filter_map(|away| remote::target(turn, origin, away, basis)));
    let nobody = targets.is_empty().then_some(match found.away.is_empty() {
        true => remote::beyond(nobody, &found),
        false => Nobody::Unreachable,
    });
    let fork = !targets.is_empty();
    (Some(Plan { targets, fork, hide, single, nobody }), line)
}

/// Bindings of this edge; what nobody is where there are none. None when the pool of backends has the word.
fn here(turn: &Turn<'_>, query: &Query<'_>) -> (Option<(VecDeque<Target>, Nobody)>, Option<String>) {
    let route = select(turn.state.registrations(), query, |binding| turn.is_here(binding));
    let line = (!turn.watch.is_idle()).then(|| explain(query, &route));
    let found = match route {
        Route::Nobody(nobody) => (VecDeque::new(), nobody),
        Route::Contacts { basis, contacts } => {
            let here = contacts.iter().map(|(aor, binding)| to_contact(aor.address(), binding, basis));
            (here.collect(), Nobody::Unreachable)
        }
        Route::Backends => return (None, line),
    };
    (Some(found), line)
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
    }
}

/// The tenant's backends in the order of the pool. `first` is the one that asked for credentials.
fn to_backends(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>, first: Option<&Text>) -> Plan {
    let binding = match origin.kind {
        OriginKind::Endpoint { binding } => binding,
        OriginKind::Backend { .. } => None,
    };
    let aor = binding.and_then(|key| turn.state.registrations().aor_of(key)).map(|aor| aor.name.clone());
    let mut list = candidates(turn, &origin.tenant, aor.as_deref());
    if let Some(place) = first.and_then(|name| list.iter().position(|c| c.name == *name)) {
        list[..=place].rotate_right(1);
    }
    let uri = dialled(turn, origin, request.request_uri().unwrap_or_default());
    let weights = |of: &Candidate| -> u32 {
        list.iter().filter(|c| c.priority == of.priority).map(|c| u32::from(c.weight)).sum()
    };
    let targets = list
        .iter()
        .map(|candidate| Target {
            peer: Peer::Backend { name: candidate.name.clone() },
            flow: candidate.flow,
            uri: uri.clone(),
            routes: registration::service_routes(turn, origin, request, &candidate.name)
                .iter()
                .map(|route| route.as_bytes())
                .collect(),
            event: RouteTarget {
                kind: TargetKind::Backend,
                name: candidate.name.clone(),
                address: Some(TransportAddress::remote(&candidate.flow)),
                ..RouteTarget::default()
            },
            why: RouteWhy {
                basis: if candidate.sticky { RouteBasis::Sticky } else { RouteBasis::Backends },
                priority: Some(u32::from(candidate.priority)),
                weight: Some(u32::from(candidate.weight)),
                weight_total: Some(weights(candidate)),
                ..RouteWhy::default()
            },
        })
        .collect();
    let hide = list.iter().any(|candidate| candidate.hide == Hide::Full);
    Plan { targets, fork: false, hide, single: false, nobody: None }
}

/// The Request-URI towards a backend: as dialled when it names a domain of the tenant, else with the tenant's domain.
fn dialled(turn: &Turn<'_>, origin: &Origin, ruri: &[u8]) -> Raw {
    let Ok(Uri::Sip(uri)) = Uri::parse(ruri) else { return Raw::from(ruri) };
    let named = turn.directory.domain(turn.settings, uri.host);
    if named.is_some_and(|(tenant, _)| tenant.name == origin.tenant) || !turn.directory.is_own_host(uri.host)
    {
        return Raw::from(ruri);
    }
    let start = uri.host_port.as_ptr() as usize - ruri.as_ptr() as usize;
    let behind = &ruri[start + uri.host_port.len()..];
    Raw::from([&ruri[..start], origin.domain.as_bytes(), behind].concat())
}

fn peer_of(turn: &Turn<'_>, origin: &Origin) -> Peer {
    let name = facts::ingress_name(turn, origin);
    match &origin.kind {
        OriginKind::Endpoint { .. } => Peer::Endpoint { name },
        OriginKind::Backend { .. } => Peer::Backend { name },
    }
}

fn new_core(
    turn: &mut Turn<'_>,
    origin: &Origin,
    tx: ServerTx,
    request: &Message<&[u8]>,
    hide: bool,
    session: Option<&Session<'_>>,
) -> Core {
    let peer = peer_of(turn, origin);
    let name = peer.name().clone();
    let from = request.value(HeaderName::From).unwrap_or_default();
    let caller = Leg {
        token: identity::new_token(turn.entropy),
        peer,
        flow: origin.flow,
        call_id: Raw::from(request.call_id()),
        local: Raw::from(request.value(HeaderName::To).unwrap_or_default()),
        local_tag: Raw::default(),
        remote: Raw::from(&*identity::without_tag(from)),
        remote_tag: Raw::from(request.from_tag().unwrap_or_default()),
        target: message::contact_uri(request)
            .or_else(|| {
                let from = request.from().ok().map(|from| without_headers(from.uri));
                from.filter(|uri| message::is_request_uri(uri)).map(Raw::from)
            })
            // Neither Contact nor From can stand in a request line: it still has to hear the end of its call.
            .unwrap_or_else(|| Raw::from(format!("sip:{}", origin.flow.remote).as_bytes())),
        routes: message::route_set(request, false),
        sent: 0,
        seen: request.cseq().number,
        offset: 0,
    };
    let uid = identity::new_uid(turn.entropy);
    Core {
        uid,
        name: identity::name_of(uid),
        tenant: origin.tenant.clone(),
        hide,
        caller,
        caller_tx: Some(tx),
        cookie: identity::loop_cookie(turn.settings, origin, request),
        clock: Clock::start(turn.now),
        last: None,
        unrecorded: Some(Box::new(facts::attempt_of(turn, origin, request, name, session))),
        agreement: Default::default(),
        relays: Vec::new(),
        number: 0,
        own: 0,
        timer: None,
        new_legs: Vec::new(),
        tokens: Default::default(),
        call_ids: Default::default(),
        silent: Default::default(),
    }
}

fn new_setup(
    core: &Core,
    request: &Message<&[u8]>,
    (targets, fork, single): (VecDeque<Target>, bool, bool),
    session: Option<&Session<'_>>,
) -> Box<Setup> {
    // Whoever insists on reliability has it from end to end (RFC 3262 §4).
    let insists = request.lists(HeaderName::Require, b"100rel");
    Box::new(Setup {
        invite: message::pending(request, &core.caller.flow),
        request: Raw::default(),
        offer: session.map(Description::new),
        attempts: Vec::new(),
        dialogs: Dialogs::new(single && !insists, fork && targets.len() > 1),
        best: Default::default(),
        rest: targets,
        fork,
        timed_out: false,
        ringing: false,
        followed: 0,
    })
}

/// The call hears of its caller's transaction.
fn own(turn: &mut Turn<'_>, core: &Core, tx: ServerTx) {
    if let Some(user) = turn.net.transactions_mut().user_mut(tx) {
        *user = core.user(owner::CALLER, 0);
    }
}

fn is_over_limit(calls: &mut Calls, turn: &Turn<'_>, origin: &Origin) -> bool {
    let Some(tenant) = turn.settings.tenant(&origin.tenant) else { return true };
    let limits = tenant.limits;
    if limits.calls.is_some_and(|max| turn.state.calls().active_of(&origin.tenant) >= max) {
        return true;
    }
    limits
        .calls_per_second
        .is_some_and(|max| !calls.rate(&origin.tenant, turn.now.mono).take(max, turn.now.mono))
}

fn is_emergency(request: &Message<&[u8]>) -> bool {
    let Some(Ok(uri)) = request.request_uri().map(Uri::parse) else { return false };
    uri.is_emergency() || user_of(&uri).is_some_and(|user| EMERGENCY_NUMBERS.contains(&&*user))
}

fn user_of<'m>(uri: &Uri<'m>) -> Option<Cow<'m, [u8]>> {
    match uri {
        Uri::Sip(sip) => sip.decoded_user(),
        Uri::Tel(tel) => Some(Cow::Borrowed(tel.number)),
        Uri::Other { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn given_ten_calls_a_second_when_more_come_at_once_then_the_eleventh_waits_for_its_turn() {
        let now = Mono(0);
        let mut rate = Rate::full(now);
        assert_eq!((0..20).filter(|_| rate.take(10, now)).count(), 10);
        assert!(!rate.take(10, now.plus(Duration::from_millis(99))));
        assert!(rate.take(10, now.plus(Duration::from_millis(101))));
        assert!(!Rate::full(now).take(0, now));
    }
}
