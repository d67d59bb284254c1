//! One live call: what both legs share, and the state it is in.

use super::attempt::Progress;
use super::cdr::{Clock, Moment};
use super::find::LegRef;
use super::identity;
use super::leg::{End, Leg, Peer};
use super::message;
use super::offer::Agreement;
use super::raw::Raw;
use super::relay::Relay;
use super::setup::Setup;
use super::state::{Answered, Challenged, Ending};
use super::timers::{CallTimer, Resend};
use crate::classes::Sent;
use crate::facts::Fact;
use crate::facts::call as facts;
use crate::net::{Timer, User};
use crate::state::calls::CallState;
use crate::turn::{Outgoing, Turn};
use signalbox_base::{CallUid, EventSeq, Flow, Mono, ShortToken, TenantId, Text};
use signalbox_schemas::call::{CallAttempted, Cdr};
use signalbox_sip::transaction::{ClientTx, ServerTx, TimerId};
use signalbox_sip::{HeaderName, Method};
use smallvec::SmallVec;
use std::net::SocketAddr;

/// What [`User::CallLeg::leg`] means.
pub(crate) mod owner {
    /// The caller's INVITE.
    pub(crate) const CALLER: u8 = 0;
    /// The INVITE of an attempt, by its number.
    pub(crate) const ATTEMPT: u8 = 1;
    /// A request relayed inside a dialog, by its number.
    pub(crate) const RELAY: u8 = 2;
    /// A CANCEL or BYE of our own: only its end matters.
    pub(crate) const OWN: u8 = 3;
    /// An OPTIONS that asks whether an end still has the dialog: 0 the caller, 1 the callee.
    pub(crate) const PROBE: u8 = 4;
    /// The CANCEL of a request that was relayed before a restart, by the relay's number.
    pub(crate) const RECALLED: u8 = 5;
    /// The BYE of a dialog that nobody wants.
    pub(crate) const DISMISSAL: u8 = 6;
}

/// A call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) core: Core,
    pub(crate) state: State,
}

/// What a call is doing. Each state is a struct of its own that consumes itself.
///
/// ```text
///                      401, 407          INVITE with credentials
///             ┌───────────────► Challenged ───────────┐
///  INVITE ─► Inviting ◄───────────────────────────────┘
///             │  │                            │ nobody tries again
///             │  └────── 3xx–6xx, CANCEL ─► Ending ─► Gone
///             │ 2xx                           ▲
///             └─► Answered ──── BYE, no ACK ──┘
/// ```
#[derive(Debug)]
pub(crate) enum State {
    /// Nobody has answered yet. Until a 18x has reached the caller another target may be tried.
    Inviting(Box<Setup>),
    /// The caller was asked for credentials.
    Challenged(Challenged),
    /// There is a dialog from end to end.
    Answered(Answered),
    /// Its record is written; last messages are under way.
    Ending(Ending),
    /// Nothing is left to do.
    Gone,
}

/// What every state of a call needs.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) uid: CallUid,
    /// The uid as text: subject and correlation of its events.
    pub(crate) name: Text,
    pub(crate) tenant: TenantId,
    /// Whether one of the legs has identifiers of its own.
    pub(crate) hide: bool,
    pub(crate) caller: Leg,
    /// The caller's INVITE, while its transaction lives.
    pub(crate) caller_tx: Option<ServerTx>,
    /// What its INVITE is known by when it comes again, from ourselves or by another way.
    pub(crate) cookie: u64,
    pub(crate) clock: Clock,
    /// The call's last record; `None` while nothing is recorded of it.
    pub(crate) last: Option<EventSeq>,
    /// What will be recorded first, if anything is (noise rule, DESIGN.md §6).
    pub(crate) unrecorded: Option<Box<CallAttempted>>,
    pub(crate) agreement: Agreement,
    pub(crate) relays: Vec<Relay>,
    /// Numbers relays.
    pub(crate) number: u32,
    /// CANCELs, BYEs and probes of our own that are under way.
    pub(crate) own: u32,
    pub(crate) timer: Option<(TimerId, Mono)>,
    /// New legs since the room last looked: their tokens and Call-IDs are to be indexed.
    pub(crate) new_legs: Vec<(ShortToken, u32, Raw)>,
    /// What is indexed of this call.
    pub(crate) tokens: SmallVec<[ShortToken; 2]>,
    /// The same, of Call-IDs.
    pub(crate) call_ids: SmallVec<[Raw; 1]>,
    /// The same, of peers that have not responded.
    pub(crate) silent: SmallVec<[SocketAddr; 1]>,
}

impl Call {
    /// Every leg that may have a dialog.
    pub(crate) fn dialogs(&self, uid: CallUid) -> SmallVec<[LegRef; 2]> {
        let callees: SmallVec<[u32; 2]> = match &self.state {
            State::Inviting(setup) => setup.dialogs.iter().map(|early| early.attempt).collect(),
            State::Answered(state) => [state.winner()].into_iter().collect(),
            State::Ending(state) => state.dialog.iter().map(|dialog| dialog.winner).collect(),
            State::Challenged(_) | State::Gone => SmallVec::new(),
        };
        let caller = LegRef { uid, end: End::Caller, attempt: 0, named: false };
        let callees =
            callees.into_iter().map(|attempt| LegRef { uid, end: End::Callee, attempt, named: false });
        std::iter::once(caller).chain(callees).collect()
    }

    /// A leg, where it is known.
    pub(crate) fn leg(&self, end: End, attempt: u32) -> Option<&Leg> {
        if end == End::Caller {
            return Some(&self.core.caller);
        }
        match &self.state {
            State::Inviting(setup) => setup.place(attempt).map(|at| &setup.attempts[at].branch.leg),
            State::Answered(state) => Some(state.callee()).filter(|_| state.winner() == attempt),
            State::Ending(state) => {
                state.dialog.as_ref().filter(|dialog| dialog.winner == attempt).map(|dialog| &dialog.callee)
            }
            State::Challenged(_) | State::Gone => None,
        }
    }

    /// Whether these identifiers are a dialog of this call, seen from the peer on the named leg.
    pub(crate) fn is_dialog(&self, end: End, attempt: u32, call_id: &[u8], from: &[u8], to: &[u8]) -> bool {
        if let State::Inviting(setup) = &self.state {
            let caller = &self.core.caller;
            return match end {
                End::Caller => {
                    *caller.call_id == *call_id
                        && *caller.remote_tag == *from
                        && setup.dialogs.iter().any(|early| *early.caller_tag == *to)
                }
                End::Callee => setup
                    .dialogs
                    .iter()
                    .any(|early| early.attempt == attempt && early.callee.is_dialog(call_id, from, to)),
            };
        }
        self.leg(end, attempt).is_some_and(|leg| leg.is_dialog(call_id, from, to))
    }
}

impl State {
    /// The final response of before a restart that is being said again.
    pub(crate) fn resend(&self) -> Option<&Resend> {
        match self {
            Self::Answered(state) => state.resend(),
            Self::Ending(state) => state.resend.as_ref(),
            _ => None,
        }
    }

    /// A transaction has taken that response over.
    pub(crate) fn drop_resend(&mut self) {
        match self {
            Self::Answered(state) => state.drop_resend(),
            Self::Ending(state) => state.resend = None,
            _ => {}
        }
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        match self {
            Self::Inviting(setup) => setup.due(),
            Self::Challenged(state) => state.due(),
            Self::Answered(state) => state.due(),
            Self::Ending(state) => state.due(),
            Self::Gone => None,
        }
    }

    /// Gone, if it was ending and nothing is awaited any more.
    pub(crate) fn settled(self, core: &Core, turn: &Turn<'_>) -> Self {
        match self {
            Self::Ending(state) => state.settle(core, turn),
            other => other,
        }
    }

    /// INVITEs that have had no response, and to whom.
    pub(crate) fn silent(&self) -> impl Iterator<Item = (SocketAddr, ClientTx)> {
        let attempts = match self {
            Self::Inviting(setup) => &*setup.attempts,
            _ => &[],
        };
        attempts
            .iter()
            .filter(|attempt| attempt.progress == Progress::Calling)
            .filter_map(|attempt| Some((attempt.branch.leg.flow.remote, attempt.tx?)))
    }
}

impl Core {
    /// Whose record it is.
    pub(crate) fn about(&self) -> facts::About<'_> {
        let last = self.last.unwrap_or_default();
        facts::About { uid: self.uid, name: &self.name, tenant: &self.tenant, last }
    }

    /// Records a fact of this call.
    pub(crate) fn record(&mut self, turn: &mut Turn<'_>, fact: Fact) -> EventSeq {
        let seq = turn.record(fact);
        self.last = Some(seq);
        seq
    }

    /// Asked behind a record that tells of both legs: the fold must have them as they are here, or a restart goes on with
    /// other dialogs than the peers have. Costs nothing in a release.
    pub(crate) fn debug_assert_folded(&self, turn: &Turn<'_>, callee: &Leg) {
        let known = || turn.state.calls().get(self.uid);
        debug_assert_eq!(
            known().map(CallState::caller),
            Some(&self.caller),
            "the caller's leg of {}",
            self.uid
        );
        debug_assert_eq!(known().and_then(CallState::callee), Some(callee), "the called leg of {}", self.uid);
    }

    /// The call record as far as the fold knows it.
    pub(crate) fn base(&self, turn: &Turn<'_>) -> Box<Cdr> {
        let known = turn.state.calls().get(self.uid).and_then(|call| call.cdr());
        Box::new(known.cloned().unwrap_or_default())
    }

    /// Our tag on the caller's leg for responses that come from the edge itself.
    pub(crate) fn own_tag(&mut self, turn: &mut Turn<'_>) -> Raw {
        if self.caller.local_tag.is_empty() {
            self.caller.local_tag = identity::new_identifier(turn.entropy);
        }
        self.caller.local_tag.clone()
    }

    /// Who hears of a transaction of this call.
    pub(crate) fn user(&self, leg: u8, attempt: u32) -> User {
        User::CallLeg { call: self.uid, leg, attempt }
    }

    /// Sets the call's timer.
    pub(crate) fn arm(&mut self, turn: &mut Turn<'_>, at: Option<Mono>) {
        if self.timer.map(|(_, at)| at) == at {
            return;
        }
        if let Some((timer, _)) = self.timer.take() {
            turn.cancel_timer(timer);
        }
        self.timer = at.map(|at| (turn.start_timer(at, Timer::Call(CallTimer(self.uid))), at));
    }

    /// Sends a request of our own inside a leg's dialog, with one header `more`; its response says nothing but that it is
    /// over.
    pub(crate) fn send_own(
        &mut self,
        turn: &mut Turn<'_>,
        method: Method,
        leg: &mut Leg,
        other_seen: u32,
        more: Option<(HeaderName, &str)>,
        user: (u8, u32),
    ) {
        let cseq = leg.own_cseq(other_seen);
        let branch = turn.branch(method);
        let flow = next_hop(leg);
        let via = identity::via(turn.settings, &flow, branch, None);
        let settings = turn.settings;
        let new = Outgoing {
            method,
            sent: Sent::InDialog,
            flow,
            branch,
            user: self.user(user.0, user.1),
            // It does not overtake a request with a lower CSeq that waits for its record.
            record: self.last.filter(|last| method == Method::Bye || !turn.net.is_durable(*last)),
        };
        let leg = &*leg;
        let sent =
            turn.request(new, |out| message::own_request(out, settings, method, leg, cseq, &via, more));
        if sent.is_ok() {
            self.own += 1;
        }
    }

    /// Notes that the caller's side was first heard of progress; `true` the first time.
    pub(crate) fn note_progress(&mut self, turn: &Turn<'_>) -> bool {
        let first = self.clock.progressed.is_none();
        self.clock.progressed.get_or_insert(Moment::seen(turn.now));
        first
    }
}

/// Where requests on a leg go: to a phone over the flow it is seen on; to a backend at its route or target, when that names
/// an address (RFC 3261 §12.2.1.1), else where the dialog began.
pub(crate) fn next_hop(leg: &Leg) -> Flow {
    let mut flow = leg.flow;
    if leg.peer.is_endpoint() {
        return flow;
    }
    let first = leg.routes.iter().next();
    let route = first.and_then(|route| signalbox_sip::header::NameAddr::parse(route).ok());
    let uri = route.map_or(&*leg.target, |address| address.uri);
    let Ok(signalbox_sip::Uri::Sip(uri)) = signalbox_sip::Uri::parse(uri) else { return flow };
    if let Some(ip) = uri.address() {
        let port = uri.port.unwrap_or(flow.transport.default_port());
        flow.remote = signalbox_base::canonical((ip, port).into());
        // The connection that a request came over is its sender's; ours goes to where it listens (RFC 5923 §3).
        flow.conn = None;
    }
    flow
}

/// Whether a message over `flow` may belong to this leg. `named` says that it bears the leg's token, which only its peer knows.
///
/// A backend's leg takes messages of any backend of its tenant, a trunk's those of the trunk. A phone's takes them from its own address, or over a flow
/// that its AoR is registered over; who bears the token may have moved to an address that nobody is registered from
/// yet. Call-ID and tags alone open nothing: too many on the way have seen them (DESIGN.md §5: Call-ID, tags *and* peer).
pub(crate) fn may_speak(turn: &Turn<'_>, tenant: &TenantId, leg: &Leg, flow: &Flow, named: bool) -> bool {
    let network = |flow: &Flow| turn.settings.listener(flow.listener).map(|listener| listener.network);
    let Some(here) = network(flow) else { return false };
    // The same address in another network is somebody else.
    let home = network(&leg.flow) == Some(here);
    if home && flow.remote == leg.flow.remote {
        return true;
    }
    let mut peers = turn.directory.peers_at(here, flow.remote);
    peers.extend(turn.directory.peers_of_address(here, flow.remote.ip()));
    let trunks = turn.directory.trunks_at(here, flow.remote);
    let name = match &leg.peer {
        Peer::Endpoint { name } => name,
        Peer::Backend { .. } => {
            return peers.iter().any(|peer| {
                turn.directory
                    .peer(turn.settings, *peer)
                    .is_some_and(|found| found.owner() == tenant.as_str())
            });
        }
        Peer::Trunk { name } => {
            return trunks.iter().any(|trunk| {
                turn.directory.peer(turn.settings, *trunk).is_some_and(|found| found.backend.name == *name)
            });
        }
    };
    let over = turn.state.registrations().over_flow(flow);
    let mut registered =
        over.filter(|(_, binding)| network(&binding.flow.get()) == Some(here)).map(|(aor, _)| aor).peekable();
    if registered.peek().is_some() {
        return registered.any(|aor| aor.tenant() == tenant.as_str() && *aor.address() == **name);
    }
    let moved = named && peers.is_empty() && trunks.is_empty();
    moved || home && flow.remote.ip() == leg.flow.remote.ip()
}
