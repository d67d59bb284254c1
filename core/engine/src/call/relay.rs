//! Requests inside a dialog, of any method, from one leg to the other and their responses back.

use super::attempt::{ack_failure, branch_id};
use super::call::{Core, next_hop, owner};
use super::glare::{Verdict, judge};
use super::identity;
use super::leg::{End, Leg, LegEvent, Order};
use super::message::{self, Answering, Relayed};
use super::offer::Description;
use super::overtaken;
use super::raw::Raw;
use super::reinvite::{self, Recalled};
use super::transfer::Transfer;
use super::watch::Interval;
use crate::classes::Sent;
use crate::contract::Release;
use crate::net::User;
use crate::state::calls::{Branch, PendingRequest};
use crate::turn::{Outgoing, Turn};
use signalbox_base::{CallUid, EventSeq, Flow, Mono};
use signalbox_sip::header::{HeaderName, RAck};
use signalbox_sip::transaction::{Branch as BranchId, ClientTx, End as Over, OnResponse, ServerTx};
use signalbox_sip::{Message, Method};

/// A relayed request that is under way, or an INVITE of one that was accepted.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) number: u32,
    pub(crate) from: End,
    pub(crate) method: Method,
    pub(crate) server: ServerTx,
    pub(super) client: Option<ClientTx>,
    pub(super) pending: PendingRequest,
    /// The leg it came over, as it was: the response goes there.
    pub(super) back: Leg,
    /// The request as it went out, for its ACK and CANCEL.
    pub(super) branch: Branch,
    pub(crate) offer: Option<Description>,
    /// The offer of a 2xx to an INVITE that had none: its answer is in the ACK.
    pub(super) late_offer: Option<Description>,
    /// Whether the request moved its sender's target.
    pub(crate) moved: bool,
    pub(super) accepted: bool,
    pub(super) cancelled: bool,
    /// Its sender has its 487, because the dialog ended meanwhile: what its receiver says is for nobody.
    pub(super) terminated: bool,
    /// What a REFER asks for.
    pub(super) transfer: Option<Box<Transfer>>,
    /// It is of a process that is gone.
    pub(super) recalled: Option<Recalled>,
    pub(super) ack: Option<Raw>,
}

/// A final response, ready to be sent back once what it changed is recorded.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) from: End,
    pub(crate) method: Method,
    pub(crate) status: u16,
    server: ServerTx,
    bytes: Vec<u8>,
    /// The new target of the leg it came from.
    pub(crate) target: Option<Raw>,
    pub(crate) moved: bool,
    /// The session timer from now on, where the request refreshed the session.
    pub(crate) interval: Option<Interval>,
    /// The transfer that was asked for.
    pub(crate) transfer: Option<Box<Transfer>>,
    /// Offer and answer, when the response completes them, and whose offer it was.
    pub(crate) agreed: Option<(End, Description, Description)>,
}

impl Done {
    /// One of our own: its receiver has said nothing that its sender could be told.
    pub(super) fn own(relay: &Relay, status: u16) -> Self {
        Self {
            from: relay.from,
            method: relay.method,
            status,
            server: relay.server,
            bytes: own_bytes(relay, status),
            target: None,
            moved: false,
            interval: None,
            transfer: relay.transfer.clone(),
            agreed: None,
        }
    }

    /// Sends it; `record` is what it waits for.
    pub(crate) fn send(self, turn: &mut Turn<'_>, record: Option<EventSeq>) {
        let bytes = self.bytes;
        // Too late means that the sender has given up by its own timers.
        let _ =
            turn.respond(self.server, self.method, self.status, record, |out| out.extend_from_slice(&bytes));
        turn.net.give_back(bytes);
    }
}

/// How far the dialog between two legs has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialog {
    /// Before the answer: a restart ends it whole. The CSeq of its INVITE on the caller's leg and on the other.
    Early(u32, u32),
    /// After it: a restart goes on with it, and with an INVITE that is open in it.
    Confirmed,
}

/// A request inside the dialog between these legs: refused, or sent on.
pub(crate) fn start(
    core: &mut Core,
    turn: &mut Turn<'_>,
    (dialog, caller, callee): (Dialog, &mut Leg, &mut Leg),
    from: End,
    (tx, flow): (ServerTx, Flow),
    request: &Message<&[u8]>,
) {
    let (back, onward) = match from {
        End::Caller => (caller, callee),
        End::Callee => (callee, caller),
    };
    let method = request.method();
    if let Err((status, wait)) = admit(core, turn, back, from, request) {
        return refuse(turn, tx, method, &flow, request, status, wait);
    }
    let moved = learn(back, method, &flow, request);
    let (branch, id) = branch_on(turn, onward, method, request.cseq().number);
    let mut bytes = turn.net.scratch();
    let rack = rack_of(core, dialog, from, request);
    let relayed =
        Relayed { cseq: branch.cseq, rack, ..Relayed::new(&core.tenant, &branch.uri, &branch.via, back) };
    if message::relay_request(&mut bytes, turn.settings, request, &branch.leg, &relayed).is_err() {
        return refuse(turn, tx, method, &flow, request, 400, None);
    }
    core.number += 1;
    let user = core.user(owner::RELAY, core.number);
    let mut relay = Relay {
        number: core.number,
        from,
        method,
        server: tx,
        client: None,
        pending: message::pending(request, &flow),
        back: back.clone(),
        branch,
        offer: Description::of(request),
        late_offer: None,
        moved,
        accepted: false,
        cancelled: false,
        terminated: false,
        transfer: Transfer::asked(from, request),
        recalled: None,
        ack: None,
    };
    if method == Method::Invite && dialog == Dialog::Confirmed {
        let legs = if from == End::Caller { (&*back, &*onward) } else { (&*onward, &*back) };
        reinvite::record(core, turn, legs, &relay, flow);
    }
    // Messages of one call leave in the order they were decided in: a 2xx may wait for this record (DESIGN.md §5).
    let record = core.last.filter(|last| method == Method::Bye || !turn.net.is_durable(*last));
    let hop = relay.branch.leg.flow;
    let new = Outgoing { method, sent: Sent::InDialog, flow: hop, branch: id, user, record };
    let Ok(client) = turn.request(new, |out| out.extend_from_slice(&bytes)) else {
        return refuse(turn, tx, method, &flow, request, 503, None);
    };
    relay.client = Some(client);
    turn.net.give_back(bytes);
    if let Some(owner) = turn.net.transactions_mut().user_mut(tx) {
        *owner = user;
    }
    if method == Method::Invite {
        trying(turn, &relay, flow, record);
    }
    core.relays.reserve_exact(1);
    core.relays.push(relay);
}

/// Whether a request may go on: not overtaken by a later one, and no second INVITE or UPDATE beside an open one. Else the status, and
/// after how many seconds it may be tried again.
fn admit(
    core: &mut Core,
    turn: &mut Turn<'_>,
    back: &mut Leg,
    from: End,
    request: &Message<&[u8]>,
) -> Result<(), (u16, Option<u32>)> {
    let method = request.method();
    if back.note_cseq(request.cseq().number) == Order::Late {
        return Err((500, None));
    }
    if method == Method::Invite {
        reinvite::supersede(core, turn, from);
    }
    let open = core.relays.iter().filter(|relay| !relay.accepted).map(|relay| (relay.method, relay.from));
    if judge(method, from, open) == Verdict::Overlap {
        return Err((500, Some(moment(turn))));
    }
    Ok(())
}

/// After how many seconds something may be tried again (RFC 3261 §14.2).
pub(crate) fn moment(turn: &mut Turn<'_>) -> u32 {
    u32::try_from(turn.entropy.next_u64() % 10).unwrap_or(0)
}

/// CSeq on the other leg of the INVITE that a PRACK is about (RFC 3262 §7.2).
fn rack_of(core: &Core, dialog: Dialog, from: End, request: &Message<&[u8]>) -> Option<u32> {
    if request.method() != Method::Prack {
        return None;
    }
    let named = RAck::parse(request.value(HeaderName::RAck)?).ok()?.cseq.number;
    match dialog {
        Dialog::Early(incoming, outgoing) if from == End::Caller && incoming == named => Some(outgoing),
        _ => {
            let own = |relay: &&Relay| {
                (relay.method, relay.from, relay.pending.cseq) == (Method::Invite, from, named)
            };
            core.relays.iter().find(own).map(|relay| relay.branch.cseq)
        }
    }
}

/// A request as it goes out on a leg, and the id of its branch.
fn branch_on(turn: &mut Turn<'_>, onward: &mut Leg, method: Method, incoming: u32) -> (Branch, BranchId) {
    let hop = next_hop(onward);
    let id = turn.branch(method);
    let via = identity::via(turn.settings, &hop, id, None);
    let cseq = onward.relayed_cseq(incoming);
    let mut branch =
        Branch { attempt: 0, leg: onward.clone(), via: Raw::from(&*via), uri: onward.target.clone(), cseq };
    branch.leg.flow = hop;
    (branch, id)
}

/// A response to a relayed request. `Some` when it is final: the caller of this records what changed and sends it.
pub(crate) fn on_response(
    core: &mut Core,
    turn: &mut Turn<'_>,
    number: u32,
    how: &OnResponse,
    response: &Message<&[u8]>,
) -> Option<Done> {
    let at = core.relays.iter().position(|relay| relay.number == number)?;
    let relay = &mut core.relays[at];
    if let OnResponse::Again { .. } | OnResponse::Late { .. } = how {
        if let Some(ack) = &relay.ack {
            let (flow, bytes) = (relay.branch.leg.flow, ack.clone());
            turn.send(flow, Method::Ack, Sent::InDialog, None, |out| out.extend_from_slice(&bytes));
        }
        return None;
    }
    let status = response.status().unwrap_or(100);
    let event = LegEvent::of(status);
    if event == LegEvent::Trying {
        relay.cancel_if_wanted(core.uid, &mut core.own, turn);
        return None;
    }
    if relay.terminated {
        overtaken::on_response(core, turn, at, how, response);
        return None;
    }
    let mut bytes = turn.net.scratch();
    let tag = &relay.back.local_tag;
    let answering = Answering::new(&core.tenant, &relay.pending, tag, &relay.branch.leg);
    message::relay_response(&mut bytes, turn.settings, response, &relay.back, &answering);
    if event == LegEvent::Progress {
        let (server, method) = (relay.server, relay.method);
        relay.cancel_if_wanted(core.uid, &mut core.own, turn);
        let _ = turn.respond(server, method, status, None, |out| out.extend_from_slice(&bytes));
        turn.net.give_back(bytes);
        return None;
    }
    if matches!(how, OnResponse::Final { needs_ack: true, .. }) {
        ack_failure(turn, &relay.branch, relay.client, response);
    }
    Some(finish(core, at, status, bytes, response))
}

fn finish(core: &mut Core, at: usize, status: u16, bytes: Vec<u8>, response: &Message<&[u8]>) -> Done {
    let relay = &mut core.relays[at];
    let success = (200..300).contains(&status);
    let answer = Description::of(response).filter(|_| success);
    let (from, method) = (relay.from, relay.method);
    let agreed = match (relay.offer.take(), answer) {
        (Some(offer), Some(answer)) => Some((from, offer, answer)),
        (None, late) => {
            relay.late_offer = late;
            None
        }
        _ => None,
    };
    let done = Done {
        from,
        method,
        // A BYE ends its sender's early dialog whatever the other side makes of it (RFC 3261 §15.1.1); only a challenge is
        // for it. In a call that was answered it has its answer long before.
        status: match method {
            Method::Bye if !matches!(status, 401 | 407) => 200,
            _ => reinvite::status_for(relay, status),
        },
        server: relay.server,
        bytes,
        target: (success && method.refreshes_target()).then(|| message::contact_uri(response)).flatten(),
        moved: relay.moved && success,
        transfer: relay.transfer.take(),
        // RFC 4028 §7.4: these two refresh it.
        interval: (success && matches!(method, Method::Invite | Method::Update))
            .then(|| Interval::of(response)),
        agreed,
    };
    let done =
        if done.status == status { done } else { Done { bytes: own_bytes(relay, done.status), ..done } };
    if method == Method::Invite && success {
        relay.accepted = true;
    } else {
        core.relays.swap_remove(at);
    }
    done
}

/// The client transaction of a relayed request is over. `Some` when its sender must be told what its peer did not.
pub(crate) fn on_ended(core: &mut Core, number: u32, why: Over) -> Option<Done> {
    let at = core.relays.iter().position(|relay| relay.number == number)?;
    let relay = core.relays.swap_remove(at);
    if relay.accepted || relay.terminated || matches!(why, Over::Done | Over::Withdrawn) {
        return None;
    }
    let status = match relay.method {
        Method::Bye => 200,
        _ if relay.recalled.is_some() => return Some(reinvite::lost(&relay)),
        _ if why == Over::Timeout => 408,
        _ => 503,
    };
    Some(Done::own(&relay, status))
}

/// Whether this relayed INVITE was accepted and nobody acknowledged it. One of before a restart may have been: its sender has
/// forgotten it then, and the probes say whether the dialog lives.
pub(crate) fn is_unacknowledged(core: &Core, number: u32) -> bool {
    let unheard = |relay: &Relay| relay.accepted && relay.ack.is_none() && relay.recalled.is_none();
    core.relays.iter().any(|relay| relay.number == number && unheard(relay))
}

/// A REFER names the dialog of another call.
pub(crate) fn note_named(core: &mut Core, tx: ServerTx, named: CallUid) {
    let relay = core.relays.iter_mut().find(|relay| relay.server == tx);
    if let Some(transfer) = relay.and_then(|relay| relay.transfer.as_mut()) {
        transfer.replaces = Some(named);
    }
}

/// Nothing was said to the sender of an INVITE for as long as it may be left without a word.
pub(crate) fn on_trying_due(core: &Core, turn: &mut Turn<'_>, number: u32) {
    let Some(relay) = core.relays.iter().find(|relay| relay.number == number) else { return };
    // Before its record is on disk the sender must go on repeating it: nobody else knows of it.
    if core.last.is_none_or(|last| turn.net.is_durable(last)) {
        let _ = turn.respond(relay.server, Method::Invite, 100, None, |out| write_trying(out, relay));
    }
}

/// The CANCEL of a relayed INVITE goes on to whoever has it.
pub(crate) fn on_cancel(core: &mut Core, turn: &mut Turn<'_>, number: u32) {
    let relay = core.relays.iter_mut().find(|relay| relay.number == number);
    if let Some(recalled) = relay.and_then(|relay| relay.recalled.as_mut()) {
        recalled.given_up = true;
    }
    on_timer_c(core, turn, number);
}

/// It has been open for too long (RFC 3261 §16.8).
pub(crate) fn on_timer_c(core: &mut Core, turn: &mut Turn<'_>, number: u32) {
    let Some(relay) = core.relays.iter_mut().find(|relay| relay.number == number) else { return };
    if !relay.accepted {
        relay.cancelled = true;
        relay.cancel_if_wanted(core.uid, &mut core.own, turn);
    }
}

/// Refuses a request of a dialog.
pub(crate) fn refuse(
    turn: &mut Turn<'_>,
    tx: ServerTx,
    method: Method,
    flow: &Flow,
    request: &Message<&[u8]>,
    status: u16,
    retry_after: Option<u32>,
) {
    let tag = identity::new_identifier(turn.entropy);
    // The transaction was opened for this request in this turn: nothing else can have answered it.
    let _ = turn.respond(tx, method, status, None, |out| {
        message::refusal(out, request, flow, status, &tag, retry_after);
    });
}

/// Answers a BYE of a call whose end is recorded.
pub(crate) fn accept_bye(
    core: &Core,
    turn: &mut Turn<'_>,
    tx: ServerTx,
    flow: &Flow,
    request: &Message<&[u8]>,
) {
    // To has our tag already; the record is on disk before anybody may forget the call.
    let _ = turn.respond(tx, Method::Bye, 200, core.last, |out| {
        message::refusal(out, request, flow, 200, b"", None);
    });
}

/// What a request teaches of its sender: where it is now, and its new target. `true` when something moved.
fn learn(leg: &mut Leg, method: Method, flow: &Flow, request: &Message<&[u8]>) -> bool {
    let mut moved = false;
    if leg.peer.is_endpoint() && leg.flow != *flow {
        leg.flow = *flow;
        moved = true;
    }
    if method.refreshes_target()
        && let Some(target) = message::contact_of(request)
        && *leg.target != *target
    {
        leg.target = Raw::from(target);
        moved = true;
    }
    moved && matches!(method, Method::Invite | Method::Update)
}

/// 100, behind the record of the INVITE: its sender repeats it until then, and another process hears of it.
fn trying(turn: &mut Turn<'_>, relay: &Relay, flow: Flow, record: Option<EventSeq>) {
    match record {
        Some(seq) => turn.send_as(flow, Release::After(seq), |out| write_trying(out, relay)),
        None => {
            let _ = turn.respond(relay.server, Method::Invite, 100, None, |out| write_trying(out, relay));
        }
    }
}

fn write_trying(out: &mut Vec<u8>, relay: &Relay) {
    message::own_response(out, Method::Invite, &relay.back.call_id, &relay.pending, b"", 100);
}

pub(super) fn own_bytes(relay: &Relay, status: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let Relay { method, back, pending, .. } = relay;
    message::own_response(&mut bytes, *method, &back.call_id, pending, &back.local_tag, status);
    bytes
}

impl Relay {
    /// Whether its receiver is waited for though its sender has its answer: a BYE, and an INVITE that the end overtook.
    pub(crate) fn is_awaited(&self) -> bool {
        self.method == Method::Bye || self.terminated
    }

    /// When it is given up, because nothing was heard of it since a restart.
    pub(super) fn lost_at(&self) -> Option<Mono> {
        self.recalled.filter(|_| !self.accepted)?.lost_at
    }

    /// Sends the CANCEL that is wanted as soon as it may be sent (RFC 3261 §9.1).
    pub(super) fn cancel_if_wanted(&mut self, uid: CallUid, own: &mut u32, turn: &mut Turn<'_>) {
        let Some(client) = self.client.filter(|tx| self.cancelled && turn.net.transactions().may_cancel(*tx))
        else {
            return;
        };
        let Some(id) = branch_id(&self.branch.via) else { return };
        let whose = if self.recalled.is_some() { owner::RECALLED } else { owner::OWN };
        let user = User::CallLeg { call: uid, leg: whose, attempt: self.number };
        let flow = self.branch.leg.flow;
        let new =
            Outgoing { method: Method::Cancel, sent: Sent::InDialog, flow, branch: id, user, record: None };
        let branch = &self.branch;
        if turn.request(new, |out| message::cancel(out, branch, None)).is_ok() {
            *own += 1;
        }
        let now = turn.now.mono;
        turn.net.transactions_mut().cancelled(client, now);
    }
}
