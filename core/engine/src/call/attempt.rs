//! One INVITE towards the called side: sending it, cancelling it, and undoing an answer that nobody wants any more.

use super::call::{Core, owner};
use super::dismissal;
use super::identity;
use super::leg::{Leg, LegEvent, Peer};
use super::limits::counted_peer;
use super::message::{self, Relayed};
use super::names::Names;
use super::raw::{Raw, RawList};
use crate::backend;
use crate::classes::Sent;
use crate::facts::call as facts;
use crate::net::User;
use crate::settings::Group;
use crate::state::calls::{Branch, PendingRequest};
use crate::turn::{Outgoing, Turn};
use signalbox_base::{EventSeq, Flow, Mono};
use signalbox_schemas::call::{RouteTarget, RouteWhy};
use signalbox_sip::header::HeaderName;
use signalbox_sip::transaction::{ClientKey, ClientTx, Gate, MethodTag, NewClient, OnResponse};
use signalbox_sip::{Message, Method};
use std::sync::Arc;
use std::time::Duration;

/// Where an attempt goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) peer: Peer,
    pub(crate) flow: Flow,
    pub(crate) uri: Raw,
    pub(crate) routes: RawList,
    pub(crate) event: RouteTarget,
    pub(crate) why: RouteWhy,
    /// Targets of one stage ring at once, for so long.
    pub(crate) stage: Option<(u16, Duration)>,
    /// The group that it was chosen from.
    pub(crate) group: Option<Arc<Group>>,
    /// How it is called, where templates say.
    pub(crate) names: Option<Box<Names>>,
}

/// An INVITE on its way.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) branch: Branch,
    /// Its transaction, until that is over.
    pub(crate) tx: Option<ClientTx>,
    pub(crate) progress: Progress,
    /// 101 to 199 was heard: whatever it says later, it is there.
    pub(crate) rang: bool,
    /// Nobody wants its answer any more: it is cancelled as soon as it may be.
    pub(crate) unwanted: bool,
    /// Another target is tried when nothing is heard by then.
    pub(crate) silent_until: Option<Mono>,
    /// The group that it was chosen from.
    group: Option<Arc<Group>>,
    /// Its event, while the call is not recorded yet.
    route: Option<Box<(RouteTarget, RouteWhy)>>,
    /// Dialogs that were made against our will, and ended.
    dismissed: Vec<Leg>,
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was heard.
    Calling,
    /// A provisional response was heard.
    Proceeding,
    /// A final one was, or none will be.
    Done,
}

/// What is sent: the caller's INVITE and what identifies it.
pub(crate) struct Invite<'a> {
    pub(crate) request: &'a Message<&'a [u8]>,
    pub(crate) pending: &'a PendingRequest,
    pub(crate) cookie: u64,
    /// Its share of Max-Breadth, where it is one of several.
    pub(crate) breadth: Option<u32>,
    /// Whether its provisional responses shall not be reliable.
    pub(crate) unreliable: bool,
}

impl Attempt {
    /// Sends the INVITE to a target. `None` when it cannot be sent: there are too many transactions, or it cannot be written.
    pub(crate) fn launch(
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        invite: &Invite<'_>,
        target: Target,
    ) -> Option<Self> {
        let Target { peer, flow, uri, routes, event, why, group, names, .. } = target;
        let mut leg = core.caller.mirrored(identity::new_token(turn.entropy), peer);
        (leg.flow, leg.target, leg.routes) = (flow, uri.clone(), routes);
        if let Some(names) = &names {
            names.put(&mut leg);
        }
        if core.hide {
            leg.call_id = identity::new_identifier(turn.entropy);
            leg.local_tag = identity::new_identifier(turn.entropy);
            // A PBX says in To what it knows the phone by, which is the edge's name for it on that side.
            if leg.peer.is_endpoint() && leg.peer.name().contains('@') {
                leg.remote = Raw::from(format!("<sip:{}>", leg.peer.name()).as_bytes());
            }
        }
        let cseq = leg.relayed_cseq(invite.pending.cseq);
        let id = turn.branch(Method::Invite);
        let via = identity::via(turn.settings, &flow, id, Some(invite.cookie));
        let Invite { breadth, unreliable, .. } = *invite;
        let names = names.as_deref();
        let relayed = Relayed::new(&core.tenant, &uri, &via, &core.caller);
        let relayed = Relayed { cseq, breadth, unreliable, names, ..relayed };
        let mut bytes = turn.net.scratch();
        message::relay_request(&mut bytes, turn.settings, invite.request, &leg, &relayed).ok()?;
        core.new_legs.push((leg.token, number, leg.call_id.clone()));
        let branch = Branch { attempt: number, leg, via: Raw::from(&*via), uri, cseq };
        let mut it = Self {
            branch,
            tx: None,
            progress: Progress::Calling,
            rang: false,
            unwanted: false,
            silent_until: None,
            group,
            route: None,
            dismissed: Vec::new(),
        };
        let record = if core.last.is_some() {
            let fact = facts::routed(turn, &core.about(), event, why, &it.branch, invite.pending);
            let seq = core.record(turn, fact);
            it.debug_assert_folded(core, turn);
            Some(seq)
        } else {
            it.route = Some(Box::new((event, why)));
            None
        };
        let user = core.user(owner::ATTEMPT, number);
        let new = Outgoing { method: Method::Invite, sent: Sent::Request, flow, branch: id, user, record };
        match turn.request(new, |out| out.extend_from_slice(&bytes)) {
            Ok(tx) => it.tx = Some(tx),
            Err(_) => it.progress = Progress::Done,
        }
        turn.net.give_back(bytes);
        Some(it)
    }

    /// An attempt of a process that is gone, that nobody wants any more: it is cancelled, unless it was answered and ended
    /// (`dismissed`).
    pub(crate) fn recalled(
        core: &mut Core,
        turn: &mut Turn<'_>,
        branch: &Branch,
        dismissed: Vec<Leg>,
    ) -> Self {
        let user = core.user(owner::ATTEMPT, branch.attempt);
        let tx = reopen(turn, branch, user);
        let answered = !dismissed.is_empty();
        let mut it = Self {
            branch: branch.clone(),
            tx,
            progress: Progress::Proceeding,
            rang: false,
            unwanted: true,
            silent_until: None,
            group: None,
            route: None,
            dismissed,
        };
        if !answered {
            it.send_cancel(core, turn, None);
        }
        if let Some(tx) = tx {
            // Whatever it still says, it says within 64·T1.
            let now = turn.now.mono;
            turn.net.transactions_mut().cancelled(tx, now);
        }
        it
    }

    /// Records `call.routed`, once.
    pub(crate) fn record(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        pending: &PendingRequest,
    ) -> Option<EventSeq> {
        let (target, why) = *self.route.take()?;
        let fact = facts::routed(turn, &core.about(), target, why, &self.branch, pending);
        let seq = core.record(turn, fact);
        self.debug_assert_folded(core, turn);
        Some(seq)
    }

    /// As [`Core::debug_assert_folded`], behind the record of the attempt.
    fn debug_assert_folded(&self, core: &Core, turn: &Turn<'_>) {
        let known = || turn.state.calls().get(core.uid)?.branch(self.branch.attempt);
        debug_assert_eq!(known(), Some(&self.branch), "attempt {} of {}", self.branch.attempt, core.uid);
    }

    /// Whether its answer is still awaited.
    pub(crate) fn is_open(&self) -> bool {
        self.progress != Progress::Done && !self.unwanted
    }

    /// What it showed of its backend: that it answers, or that it does not (DESIGN.md §5, passive failures count).
    pub(crate) fn judge(&self, core: &Core, turn: &mut Turn<'_>, answered: bool) {
        if let Some(peer) = self.branch.leg.peer.place(turn, core.tenant.as_str()) {
            backend::on_traffic(turn, peer, self.branch.leg.flow.remote, answered);
        }
    }

    /// Whether another target is tried after this final status. Where its group says so, others come first for a while.
    pub(crate) fn fails_over(&self, core: &Core, turn: &mut Turn<'_>, status: Option<u16>) -> bool {
        let Some(group) = &self.group else { return status == Some(503) };
        let fails = status.is_none_or(|status| group.failover_on.contains(&status));
        if fails {
            let who = counted_peer(core.tenant.text(), &self.branch.leg.peer);
            turn.net.pace.cool(who, group.cool_down, turn.now.mono);
        }
        fails
    }

    /// Nobody wants its answer: CANCEL now, or once a provisional response came (RFC 3261 §9.1).
    pub(crate) fn cancel(&mut self, core: &mut Core, turn: &mut Turn<'_>, reason: Option<&[u8]>) {
        self.unwanted = true;
        self.silent_until = None;
        if self.progress == Progress::Done {
            return;
        }
        let Some(tx) = self.tx.filter(|tx| turn.net.transactions().may_cancel(*tx)) else { return };
        self.send_cancel(core, turn, reason);
        let now = turn.now.mono;
        turn.net.transactions_mut().cancelled(tx, now);
    }

    /// Sends the CANCEL itself.
    fn send_cancel(&mut self, core: &mut Core, turn: &mut Turn<'_>, reason: Option<&[u8]>) {
        let Some(id) = branch_id(&self.branch.via) else { return };
        let user = core.user(owner::OWN, 0);
        let flow = self.branch.leg.flow;
        let new =
            Outgoing { method: Method::Cancel, sent: Sent::Request, flow, branch: id, user, record: None };
        let branch = &self.branch;
        if turn.request(new, |out| message::cancel(out, branch, reason)).is_ok() {
            core.own += 1;
        }
    }

    /// Acknowledges a 300–699 within its transaction (RFC 3261 §17.1.1.3).
    pub(crate) fn ack_failure(&self, turn: &mut Turn<'_>, response: &Message<&[u8]>) {
        ack_failure(turn, &self.branch, self.tx, response);
    }

    /// A response to an attempt whose answer nobody wants, or that lost: a provisional is cancelled, a 2xx is
    /// ended (RFC 3261 §13.2.2.4).
    pub(crate) fn on_unwanted(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        how: &OnResponse,
        response: &Message<&[u8]>,
    ) {
        match LegEvent::of(response.status().unwrap_or(100)) {
            LegEvent::Trying | LegEvent::Progress => {
                self.progress = Progress::Proceeding;
                self.cancel(core, turn, None);
            }
            LegEvent::Answered => {
                self.progress = Progress::Done;
                self.dismiss(core, turn, response);
            }
            LegEvent::Challenged | LegEvent::Failed(_) => {
                self.progress = Progress::Done;
                if matches!(how, OnResponse::Final { needs_ack: true, .. }) {
                    self.ack_failure(turn, response);
                }
            }
        }
    }

    /// Ends the dialog that a 2xx made; a repetition of the 2xx gets its ACK again.
    fn dismiss(&mut self, core: &mut Core, turn: &mut Turn<'_>, response: &Message<&[u8]>) {
        let tag = response.to_tag().unwrap_or_default();
        let cseq = self.branch.cseq;
        if let Some(leg) = self.dismissed.iter().find(|leg| *leg.remote_tag == *tag) {
            return dismissal::acknowledge(core, turn, leg, cseq);
        }
        let mut leg = self.answered_leg(response, &self.branch.leg);
        let status = response.status().unwrap_or(200);
        dismissal::dismiss(core, turn, self.branch.attempt, &mut leg, cseq, status);
        self.dismissed.push(leg);
    }

    /// The leg as a response makes it (RFC 3261 §12.1.2). What is the same in a leg that is known is shared with it.
    pub(crate) fn answered_leg<B: AsRef<[u8]>>(&self, response: &Message<B>, known: &Leg) -> Leg {
        let mut leg = self.branch.leg.clone();
        leg.remote_tag = known.remote_tag.or_new(response.to_tag().unwrap_or_default());
        if let Some(to) = response.value(HeaderName::To) {
            leg.remote = known.remote.or_new(&identity::without_tag(to));
        }
        if let Some(target) = message::contact_of(response) {
            leg.target = known.target.or_new(target);
        }
        leg.routes = message::route_set(response, true);
        leg
    }
}

/// Acknowledges a 300–699 and leaves the ACK with the transaction, to be repeated.
pub(crate) fn ack_failure(
    turn: &mut Turn<'_>,
    branch: &Branch,
    tx: Option<ClientTx>,
    response: &Message<&[u8]>,
) {
    let range = turn.send(branch.leg.flow, Method::Ack, Sent::InDialog, None, |out| {
        message::ack_failure(out, branch, response);
    });
    if let Some(tx) = tx {
        turn.net.transactions_mut().ack(tx, turn.out.bytes(&range));
    }
}

/// The transaction of an INVITE of a process that is gone, as if a provisional response had come. It waits for what the peer
/// still says, and sends nothing.
pub(crate) fn reopen(turn: &mut Turn<'_>, branch: &Branch, user: User) -> Option<ClientTx> {
    let id = branch_id(&branch.via)?;
    let (flow, method, now) = (branch.leg.flow, MethodTag::INVITE, turn.now.mono);
    let new = NewClient { branch: id, method, flow, bytes: b"", gate: Gate::Held };
    let table = turn.net.transactions_mut();
    let tx = table.start(new, user, now).ok()?;
    // Nothing comes out of a provisional response.
    table.on_response(ClientKey { branch: id, method }, 100, now, &mut Vec::new());
    Some(tx)
}

/// The branch that a Via of ours bears.
pub(crate) fn branch_id(via: &[u8]) -> Option<signalbox_sip::transaction::Branch> {
    let via = signalbox_sip::header::Via::parse(via).ok()?;
    signalbox_sip::transaction::Branch::parse(via.branch()?)
}
