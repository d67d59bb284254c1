//! Calls: a call is a back-to-back pair of legs (DESIGN.md §5).
//!
//! [`Calls`] finds the call that something is for, lends it the turn and the call's state consumes itself into the next. Each
//! leg is a dialog of its own: what it is called, where it goes and how it counts is its own, and only the call maps between
//! the two. The journal's view of a call is in [`crate::state::calls`]; what is here is volatile and made anew by
//! [`Calls::resume`].

mod ack;
mod attempt;
mod begin;
#[expect(clippy::module_inception, reason = "the room's central struct has the room's name (DESIGN.md §3)")]
mod call;
mod caller;
pub(crate) mod cdr;
mod claims;
mod dismissal;
mod early;
mod find;
mod fork;
mod glare;
mod identity;
pub mod leg;
pub(crate) mod limits;
mod lost;
mod message;
mod names;
pub(crate) mod offer;
mod overtaken;
mod plan;
pub mod raw;
mod recover;
mod redirect;
pub(crate) mod reference;
mod reinvite;
mod relay;
mod secure;
mod setup;
mod state;
mod stray;
mod timers;
pub(crate) mod transfer;
pub(crate) mod watch;
mod words;
pub(crate) mod written;

pub(crate) use attempt::Target;
pub(crate) use claims::{CLAIMS, UNTRUSTED, wants_privacy};
pub(crate) use identity::via;
pub(crate) use limits::is_emergency;
pub(crate) use message::{is_request_uri, own_response, pending};
pub(crate) use names::Names;
pub(crate) use offer::reads_session;
pub use timers::CallTimer;
pub(crate) use words::Words;

use crate::net::User;
use crate::tenancy::Origin;
use crate::tidy::{is_sparse, shrink};
use crate::turn::{About, Turn};
use call::{Call, Core, State, owner};
pub(crate) use find::LegRef;
use foldhash::HashMap;
use leg::End;
use raw::Raw;
use signalbox_base::{CallUid, Flow, ShortToken, Wall};
use signalbox_schemas::words::RequestRule;
use signalbox_sip::Message;
use signalbox_sip::transaction::{ClientTx, End as Over, OnResponse, ServerTx, Tell, Tx};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use watch::Sign;

/// Calls in progress, live.
#[derive(Debug, Default)]
pub struct Calls {
    calls: HashMap<CallUid, Box<Call>>,
    /// Legs by the token in their Contact; attempt 0 is the caller's.
    tokens: HashMap<ShortToken, (CallUid, u32)>,
    /// Calls by the Call-IDs of their legs, for peers that lose our Contact. Ordered, so that no choice of Call-IDs is slow.
    call_ids: BTreeMap<Raw, SmallVec<[CallUid; 1]>>,
    /// Calls by the peers that have not responded to their INVITE, so that a peer's ICMP errors cost what they end.
    silent: BTreeSet<(SocketAddr, CallUid)>,
}

impl Calls {
    /// A new INVITE outside any dialog, from an origin that may place calls (no open relay is settled), in a transaction
    /// just opened with [`User::Nobody`].
    pub fn on_invite(&mut self, turn: &mut Turn<'_>, origin: Origin, tx: ServerTx, request: &Message<&[u8]>) {
        begin::on_invite(self, turn, &origin, tx, request);
    }

    /// The leg of a call that a request inside a dialog is for: by the token in its Request-URI, else by Call-ID, tags and
    /// peer.
    #[must_use]
    pub(crate) fn owner(&self, turn: &Turn<'_>, flow: &Flow, request: &Message<&[u8]>) -> Option<LegRef> {
        request.to_tag()?;
        self.find(turn, flow, request)
    }

    /// A request for a leg that [`Calls::owner`] found; never ACK or CANCEL.
    pub(crate) fn on_request(
        &mut self,
        turn: &mut Turn<'_>,
        at: LegRef,
        flow: Flow,
        tx: ServerTx,
        request: &Message<&[u8]>,
    ) {
        let method = request.method();
        if !self.is_dialog(at, request) {
            return relay::refuse(turn, tx, method, &flow, request, 481, None);
        }
        if !self.admits(turn, at, &flow) {
            // A token in foreign hands: the peer is told no more than that there is nothing for it (promise 6).
            turn.reject_request(flow.remote.ip(), RequestRule::UnknownPeer, None, request);
            return relay::refuse(turn, tx, method, &flow, request, 481, None);
        }
        note(turn, at.uid, || format!("{method} from {}", flow.remote));
        let translated = self.translated_within(turn, at, request);
        let message = translated.as_ref().and_then(|translated| translated.message());
        let request = message.as_ref().unwrap_or(request);
        self.step(turn, at.uid, |state, core, turn| match state {
            State::Answered(state) => state.on_request(core, turn, at.end, (tx, flow), request),
            State::Ending(state) => state.on_request(core, turn, at.end, (tx, flow), request),
            State::Inviting(mut setup) => {
                let invite = setup.invite.cseq;
                setup.dialogs.on_request(core, turn, (at.end, invite), (tx, flow), request);
                State::Inviting(setup)
            }
            other @ (State::Challenged(_) | State::Gone) => {
                relay::refuse(turn, tx, method, &flow, request, 481, None);
                other
            }
        });
        let named = translated.as_ref().and_then(|translated| translated.named);
        if let (Some(named), Some(call)) = (named, self.calls.get_mut(&at.uid)) {
            relay::note_named(&mut call.core, tx, named);
        }
    }

    /// An ACK to a 2xx: by its own branch (`tx` is none) or by the INVITE's.
    pub fn on_ack(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        tx: Option<ServerTx>,
        request: &Message<&[u8]>,
    ) {
        let by_user = tx.and_then(|tx| turn.net.transactions().user(tx).copied());
        let found = match by_user {
            Some(User::CallLeg { call, leg: owner::CALLER, .. }) => {
                Some(LegRef { uid: call, end: End::Caller, attempt: 0, named: false })
            }
            _ => self.find(turn, &flow, request).or_else(|| self.find_refused(turn, &flow, request)),
        };
        let Some(at) = found.filter(|at| self.admits(turn, *at, &flow)) else { return };
        self.step(turn, at.uid, |state, core, turn| match state {
            State::Answered(state) => state.on_ack(core, turn, at.end, request),
            State::Ending(state) => state.on_ack(core, turn, at.end, request),
            other => other,
        });
    }

    /// A CANCEL of an INVITE whose transaction has this user; the CANCEL itself is answered 200 already.
    pub fn on_cancel(
        &mut self,
        turn: &mut Turn<'_>,
        user: User,
        _invite: ServerTx,
        request: &Message<&[u8]>,
    ) {
        let User::CallLeg { call, leg, attempt } = user else { return };
        self.step(turn, call, |state, core, turn| {
            if leg == owner::RELAY {
                relay::on_cancel(core, turn, attempt);
                return state;
            }
            match state {
                State::Inviting(state) => state.on_cancel(core, turn, request),
                // It crossed a final response: that stands (RFC 3261 §9.2).
                other => other,
            }
        });
    }

    /// A response to a request sent with [`User::CallLeg`]; `what` is never `Absorbed` or `Stray`.
    pub fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        user: User,
        _tx: ClientTx,
        what: &OnResponse,
        response: &Message<&[u8]>,
    ) {
        let User::CallLeg { call, leg, attempt } = user else { return };
        note(turn, call, || {
            let method = String::from_utf8_lossy(response.cseq().method).into_owned();
            format!("{} to {method}", response.status().unwrap_or_default())
        });
        self.step(turn, call, |state, core, turn| match leg {
            owner::ATTEMPT => match state {
                State::Inviting(state) => state.on_response(core, turn, attempt, what, response),
                State::Challenged(state) => state.on_response(core, turn, attempt, what, response),
                State::Answered(state) => state.on_response(core, turn, attempt, what, response),
                State::Ending(state) => state.on_response(core, turn, attempt, what, response),
                State::Gone => State::Gone,
            },
            owner::RELAY => match relay::on_response(core, turn, attempt, what, response) {
                Some(done) => relayed(state, core, turn, done),
                None => state.settled(core, turn),
            },
            owner::DISMISSAL => {
                dismissal::on_response(core, turn, response);
                state
            }
            owner::RECALLED => {
                if response.status() >= Some(300) {
                    reinvite::on_uncancelled(core, turn, attempt);
                }
                state
            }
            owner::PROBE => match (state, response.status()) {
                (State::Answered(state), Some(status @ 200..)) => {
                    let sign = if matches!(status, 408 | 481) { Sign::Gone } else { Sign::Alive };
                    state.on_probed(core, turn, attempt as usize, sign)
                }
                (other, _) => other,
            },
            _ => state,
        });
    }

    /// A transaction with [`User::CallLeg`] is over.
    pub fn on_ended(&mut self, turn: &mut Turn<'_>, user: User, tx: Tx, why: Over) {
        let User::CallLeg { call, leg, attempt } = user else { return };
        self.step(turn, call, |state, core, turn| match (leg, tx) {
            (owner::ATTEMPT, Tx::Client(tx)) => match state {
                State::Inviting(state) => state.on_ended(core, turn, attempt, tx, why),
                State::Challenged(state) => state.on_ended(tx),
                State::Answered(state) => state.on_ended(tx),
                State::Ending(state) => state.on_ended(core, turn, tx),
                State::Gone => State::Gone,
            },
            (owner::CALLER, Tx::Server(tx)) => {
                if core.caller_tx != Some(tx) {
                    return state;
                }
                core.caller_tx = None;
                match state {
                    State::Answered(state) if why == Over::NoAck => state.on_unacknowledged(core, turn),
                    other => other.settled(core, turn),
                }
            }
            (owner::RELAY, Tx::Client(_)) => match relay::on_ended(core, attempt, why) {
                Some(done) => relayed(state, core, turn, done),
                None => state.settled(core, turn),
            },
            (owner::RELAY, Tx::Server(_))
                if why == Over::NoAck && relay::is_unacknowledged(core, attempt) =>
            {
                match state {
                    State::Answered(state) => state.on_reinvite_unacknowledged(core, turn),
                    other => other,
                }
            }
            (owner::OWN | owner::RECALLED | owner::DISMISSAL, _) => {
                core.own = core.own.saturating_sub(1);
                state.settled(core, turn)
            }
            (owner::PROBE, _) => {
                core.own = core.own.saturating_sub(1);
                match state {
                    State::Answered(state) if why != Over::Done => {
                        let sign = if why == Over::Transport { Sign::Unsent } else { Sign::Gone };
                        state.on_probed(core, turn, attempt as usize, sign)
                    }
                    other => other.settled(core, turn),
                }
            }
            _ => state,
        });
    }

    /// A timer of such a transaction asks for something. A caller's 100 was sent at once.
    pub fn on_tell(&mut self, turn: &mut Turn<'_>, user: User, _tx: Tx, what: Tell) {
        let User::CallLeg { call, leg, attempt } = user else { return };
        self.step(turn, call, |state, core, turn| match (what, leg, state) {
            (Tell::TimerC, owner::ATTEMPT, State::Inviting(state)) => state.on_timer_c(core, turn, attempt),
            (Tell::TimerC, owner::RELAY, state) => {
                relay::on_timer_c(core, turn, attempt);
                state
            }
            (Tell::TryingDue, owner::RELAY, state) => {
                relay::on_trying_due(core, turn, attempt);
                state
            }
            (_, _, other) => other,
        });
    }

    /// The timer of a call.
    pub fn on_timer(&mut self, turn: &mut Turn<'_>, timer: CallTimer) {
        if let Some(call) = self.calls.get_mut(&timer.0) {
            call.core.timer = None;
        }
        self.step(turn, timer.0, |mut state, core, turn| {
            while let Some(done) = reinvite::on_due(core, turn) {
                state = relayed(state, core, turn, done);
            }
            match state {
                State::Inviting(state) => state.on_due(core, turn),
                State::Challenged(state) => state.on_due(core, turn),
                State::Answered(state) => state.on_due(core, turn),
                State::Ending(state) => state.on_due(core, turn),
                State::Gone => State::Gone,
            }
        });
    }

    /// A peer cannot be reached: attempts to it that have no response yet have failed.
    pub fn on_unreachable(&mut self, turn: &mut Turn<'_>, remote: SocketAddr) {
        let calls = self.silent.range((remote, CallUid(0))..=(remote, CallUid(u64::MAX)));
        let silent: Vec<ClientTx> = calls
            .filter_map(|(_, uid)| self.calls.get(uid))
            .flat_map(|call| call.state.silent().filter(|(peer, _)| *peer == remote).map(|(_, tx)| tx))
            .collect();
        for tx in silent {
            turn.net.table.transport_error(tx, &mut turn.net.outputs);
        }
    }

    /// Whether much more memory is held than is needed.
    pub(crate) fn is_sparse(&self) -> bool {
        let maps = [(self.calls.len(), self.calls.capacity()), (self.tokens.len(), self.tokens.capacity())];
        maps.into_iter().any(is_sparse)
    }

    /// Gives back some of it. `false` when there is nothing to give.
    pub(crate) fn give_back(&mut self) -> bool {
        shrink(&mut self.calls) || shrink(&mut self.tokens)
    }

    /// Calls in progress: those whose record is not written yet.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.calls.values().filter(|call| !matches!(call.state, State::Ending(_) | State::Gone)).count()
            as u64
    }

    /// Calls whose record is written but whose last request (a BYE, mostly) has no answer yet.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        let waits = |call: &Call| {
            matches!(call.state, State::Ending(_)) && call.core.relays.iter().any(relay::Relay::is_awaited)
        };
        self.calls.values().filter(|call| waits(call)).count() as u64
    }

    /// After a restart: redo what was promised, probe what goes on (DESIGN.md §6 "Redo after a crash"). `died` is the wall
    /// time of the last record before it.
    pub fn resume(&mut self, turn: &mut Turn<'_>, died: Wall) {
        let known: Vec<_> = turn.state.calls().iter().map(|(uid, call)| (uid, call.clone())).collect();
        let share = u32::try_from(known.len()).unwrap_or(u32::MAX).max(1);
        let pace = turn.settings.timers.recovery_probe / share;
        let mut repeats = recover::FAILURES_REPEATED_MAX;
        for (number, (uid, call)) in (1u32..).zip(&known) {
            let probe_at = turn.now.mono.plus(pace.saturating_mul(number));
            let Some(mut recalled) = recover::recall(turn, *uid, call, died, probe_at, &mut repeats) else {
                continue;
            };
            let caller = &call.caller;
            recalled.core.new_legs.push((caller.token, 0, caller.call_id.clone()));
            for branch in &call.branches {
                let leg = &branch.leg;
                recalled.core.new_legs.push((leg.token, branch.attempt, leg.call_id.clone()));
            }
            self.insert(turn, *uid, recalled);
        }
    }

    fn insert(&mut self, turn: &mut Turn<'_>, uid: CallUid, call: Call) {
        self.calls.insert(uid, Box::new(call));
        self.follow(turn, uid);
    }

    /// One step of a call: its state consumes itself, then the room follows.
    fn step(
        &mut self,
        turn: &mut Turn<'_>,
        uid: CallUid,
        step: impl FnOnce(State, &mut Core, &mut Turn<'_>) -> State,
    ) {
        let Some(call) = self.calls.get_mut(&uid) else { return };
        let state = std::mem::replace(&mut call.state, State::Gone);
        call.state = step(state, &mut call.core, turn);
        self.follow(turn, uid);
    }

    /// Indexes new legs, sets the timer, and forgets a call that is gone.
    fn follow(&mut self, turn: &mut Turn<'_>, uid: CallUid) {
        let Some(call) = self.calls.get_mut(&uid) else { return };
        for (token, attempt, call_id) in std::mem::take(&mut call.core.new_legs) {
            self.tokens.insert(token, (uid, attempt));
            call.core.tokens.push(token);
            let calls = self.call_ids.entry(call_id.clone()).or_default();
            if !calls.contains(&uid) {
                calls.push(uid);
                call.core.call_ids.push(call_id);
            }
        }
        let silent: SmallVec<[SocketAddr; 1]> = call.state.silent().map(|(peer, _)| peer).collect();
        if silent != call.core.silent {
            for peer in std::mem::replace(&mut call.core.silent, silent) {
                self.silent.remove(&(peer, uid));
            }
            self.silent.extend(call.core.silent.iter().map(|peer| (*peer, uid)));
        }
        if !matches!(call.state, State::Gone) {
            let due = timers::earliest(call.state.due(), reinvite::due(&call.core));
            return call.core.arm(turn, due);
        }
        call.core.arm(turn, None);
        if let Some(call) = self.calls.remove(&uid) {
            self.forget(uid, &call.core);
        }
    }

    fn forget(&mut self, uid: CallUid, core: &Core) {
        for token in &core.tokens {
            self.tokens.remove(token);
        }
        for call_id in &core.call_ids {
            if let Some(calls) = self.call_ids.get_mut(call_id) {
                calls.retain(|other| *other != uid);
                if calls.is_empty() {
                    self.call_ids.remove(call_id);
                }
            }
        }
    }
}

/// A line for whoever watches this call.
fn note(turn: &mut Turn<'_>, call: CallUid, text: impl FnOnce() -> String) {
    turn.note(About { call: Some(call), ..About::default() }, text);
}

/// A relayed request has its final response.
fn relayed(state: State, core: &mut Core, turn: &mut Turn<'_>, done: relay::Done) -> State {
    match state {
        State::Answered(state) => state.on_relayed(core, turn, done),
        State::Ending(state) => state.on_relayed(core, turn, done),
        // Before an answer nothing durable hangs on a request inside an early dialog.
        other => {
            done.send(turn, None);
            other
        }
    }
}
