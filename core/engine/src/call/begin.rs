//! How a call begins: admission, routing, the first attempts.

use super::Calls;
use super::attempt::Target;
use super::call::{Call, Core, State, owner};
use super::cdr::{Clock, Outcome, Reason};
use super::early::Dialogs;
use super::identity;
use super::leg::{Leg, Peer};
use super::limits::{self, Refused};
use super::message;
use super::offer::{self, Description};
use super::plan::{Final, Plan, plan};
use super::raw::Raw;
use super::reference::{Translated, Way, names_one};
use super::relay;
use super::setup::{Setup, record_attempt};
use super::state::Challenged;
use crate::facts::call as facts;
use crate::hiding::Hiding;
use crate::tenancy::{Origin, OriginKind};
use crate::turn::Turn;
use signalbox_base::CallUid;
use signalbox_schemas::words::ReleasedBy;
use signalbox_sip::sdp::Session;
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::uri::without_headers;
use signalbox_sip::{HeaderName, Limits, Message, Method};
use std::borrow::Cow;
use std::collections::VecDeque;

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
    if let Some(uid) = calls.challenged(turn.settings, origin, request) {
        return retry(calls, turn, uid, origin, tx, request);
    }
    if calls.is_merged(turn.settings, origin, request) {
        return refuse(turn, 482, None);
    }
    let numbering = turn.settings.tenant(&origin.tenant).map(|tenant| &tenant.numbering);
    if !limits::is_emergency(numbering, request) {
        if let Some(seconds) = turn.closed_for_new() {
            turn.net.shed += 1;
            return refuse(turn, 503, Some(seconds));
        }
        if let Some(Refused { status, retry_after, limit }) = limits::refused(turn, origin, request) {
            turn.reject_beyond(origin.flow.remote.ip(), limit, request);
            return refuse(turn, status, retry_after);
        }
    }
    let (called, plan) = (identity::called(turn.settings, request), plan(turn, origin, request, None));
    let translated = translated(calls, turn, origin, &plan, request);
    let message = translated.as_ref().and_then(|translated| translated.message());
    let request = message.as_ref().unwrap_or(request);
    let session = offer::session(request);
    let mut core = new_core(turn, origin, tx, request, plan.hide, session.as_ref());
    let targets = (plan.targets, plan.fork, plan.single);
    let setup = new_setup(&core, (called, request), targets, session.as_ref());
    if let Some(attempted) = &mut core.unrecorded
        && setup.rest.front().is_some_and(|target| matches!(target.peer, Peer::Trunk { .. }))
    {
        facts::towards_trunk(attempted);
    }
    if origin.is_known() {
        record_attempt(&mut core, turn, &setup.invite);
    }
    let uid = core.uid;
    let caller = (core.caller.token, 0, core.caller.call_id.clone());
    core.new_legs.push(caller);
    own(turn, &core, tx);
    let state = run(setup, &mut core, turn, plan.end, request);
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
    calls.translated(turn, Way { tenant: &origin.tenant, from: &from, to, hide: plan.hide }, request)
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
    let called = identity::called(turn.settings, request);
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
        let mut setup = new_setup(core, (called, request), targets, session.as_ref());
        let Challenged { attempts, .. } = challenged;
        setup.attempts = attempts;
        run(setup, core, turn, plan.end, request)
    });
}

/// 100 at once, then the first attempts.
fn run(
    mut setup: Box<Setup>,
    core: &mut Core,
    turn: &mut Turn<'_>,
    end: Option<Final>,
    request: &Message<&[u8]>,
) -> State {
    if let Some(tx) = core.caller_tx {
        let (call_id, invite) = (&core.caller.call_id, &setup.invite);
        // Nothing can have answered a transaction that was opened in this turn.
        let _ = turn.respond(tx, Method::Invite, 100, None, |out| {
            message::own_response(out, Method::Invite, call_id, invite, b"", 100);
        });
    }
    if let Some(Final::Said(words)) = &end {
        return setup.say(core, turn, words);
    }
    if let Some(Final::Nobody(nobody)) = end {
        let reason = Reason::own(message::phrase(nobody.status()));
        let outcome = Outcome::failed(ReleasedBy::Edge, nobody.status(), false, reason);
        return setup.fail(core, turn, outcome, nobody.status(), None);
    }
    if setup.advance(core, turn, Some(request)) { State::Inviting(setup) } else { setup.conclude(core, turn) }
}

fn peer_of(turn: &Turn<'_>, origin: &Origin) -> Peer {
    let name = facts::ingress_name(turn, origin);
    match &origin.kind {
        OriginKind::Endpoint { .. } => Peer::Endpoint { name },
        OriginKind::Backend { .. } => Peer::Backend { name },
        OriginKind::Trunk { .. } => Peer::Trunk { name },
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
    let [from, to] = [HeaderName::From, HeaderName::To].map(|name| request.value(name).unwrap_or_default());
    let hiding = hide
        .then(|| Hiding::of(turn.settings, origin.tenant.as_str(), request, &origin.flow, &origin.domain));
    // Ends are told by their tags (RFC 3261 §12): requests to the caller may name it as the other side knows it.
    let named = |end| Raw::from(&*hiding.as_ref().map_or(Cow::Borrowed(end), |hiding| hiding.renamed(end)));
    let caller = Leg {
        token: identity::new_token(turn.entropy),
        peer,
        flow: origin.flow,
        call_id: Raw::from(request.call_id()),
        local: named(to),
        local_tag: Raw::default(),
        remote: named(&identity::without_tag(from)),
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
    (called, request): (u64, &Message<&[u8]>),
    (targets, fork, single): (VecDeque<Target>, bool, bool),
    session: Option<&Session<'_>>,
) -> Box<Setup> {
    // Whoever insists on reliability has it from end to end (RFC 3262 §4).
    let insists = request.lists(HeaderName::Require, b"100rel");
    Box::new(Setup {
        invite: message::pending(request, &core.caller.flow),
        called,
        request: Raw::default(),
        offer: session.map(Description::new),
        attempts: Vec::new(),
        dialogs: Dialogs::new(single && !insists, fork && targets.len() > 1),
        best: Default::default(),
        rest: targets,
        fork,
        timed_out: false,
        ringing: false,
        stage_until: None,
        followed: 0,
    })
}

/// The call hears of its caller's transaction.
fn own(turn: &mut Turn<'_>, core: &Core, tx: ServerTx) {
    if let Some(user) = turn.net.transactions_mut().user_mut(tx) {
        *user = core.user(owner::CALLER, 0);
    }
}
