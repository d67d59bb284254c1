//! There is a dialog from end to end. The edge holds no message of it, only its two legs.

use super::Ending;
use super::ending::{Ended, say_again};
use crate::call::attempt::Attempt;
use crate::call::call::{Core, State, owner};
use crate::call::cdr::{Moment, Outcome, Reason};
use crate::call::leg::{End, Leg, Order};
use crate::call::offer::Description;
use crate::call::raw::Raw;
use crate::call::relay::{self, Dialog, Done};
use crate::call::timers::{Resend, earliest, passed};
use crate::classes::Sent;
use crate::facts::call as facts;
use crate::turn::Turn;
use signalbox_base::Mono;
use signalbox_schemas::words::{ModificationKind, ReleasedBy};
use signalbox_sip::header::HeaderName;
use signalbox_sip::transaction::{ClientTx, OnResponse, ServerTx};
use signalbox_sip::{Message, Method};

/// A call that goes on.
#[derive(Debug)]
pub(crate) struct Answered {
    callee: Leg,
    /// The attempt that was answered.
    winner: u32,
    /// CSeq of the INVITE on the caller's leg and on the other.
    cseqs: (u32, u32),
    /// The caller's ACK has come.
    acked: bool,
    /// It as it was sent on, while the INVITE's 2xx may still be repeated.
    ack: Option<Raw>,
    /// Attempts whose transactions live.
    attempts: Vec<Attempt>,
    /// The 2xx of before a restart, said again until it is acknowledged.
    resend: Option<Resend>,
    checkpoint_at: Mono,
    probe: Option<Probe>,
    /// Until then a 2xx may come of an INVITE that was accepted before a restart.
    redo_until: Mono,
}

/// Whether both ends still have the dialog, asked after a restart.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// When to ask.
    at: Option<Mono>,
    /// What is known of each end, caller first.
    alive: [Option<bool>; 2],
    /// The last moment at which the call is known to have been.
    known: Moment,
}

impl Answered {
    /// From the answer on.
    pub(crate) fn new(
        callee: Leg,
        winner: u32,
        cseqs: (u32, u32),
        attempts: Vec<Attempt>,
        turn: &Turn<'_>,
    ) -> Self {
        let checkpoint_at = turn.now.mono.plus(turn.settings.timers.checkpoint_interval);
        Self {
            callee,
            winner,
            cseqs,
            acked: false,
            ack: None,
            attempts,
            resend: None,
            checkpoint_at,
            probe: None,
            redo_until: Mono(0),
        }
    }

    /// After a restart: the ends are asked at `probe_at`; `known` is when the call was last known to be.
    pub(crate) fn recalled(
        callee: Leg,
        winner: u32,
        cseqs: (u32, u32),
        attempts: Vec<Attempt>,
        turn: &Turn<'_>,
        (probe_at, known): (Mono, Moment),
        resend: Option<Resend>,
    ) -> Self {
        let probe = Some(Probe { at: Some(probe_at), alive: [None; 2], known });
        let redo_until = turn.now.mono.plus(turn.settings.timers.t1.saturating_mul(64));
        Self { resend, probe, redo_until, ..Self::new(callee, winner, cseqs, attempts, turn) }
    }

    /// The attempt that was answered.
    pub(crate) fn winner(&self) -> u32 {
        self.winner
    }

    /// The 2xx of before a restart, while it is being said again.
    pub(crate) fn resend(&self) -> Option<&Resend> {
        self.resend.as_ref()
    }

    /// A transaction has taken it over.
    pub(crate) fn drop_resend(&mut self) {
        self.resend = None;
    }

    /// CSeq of the INVITE that made the call, on the called leg.
    pub(crate) fn cseq_out(&self) -> u32 {
        self.cseqs.1
    }

    /// Whether the sender of an INVITE of before a restart may be waiting for its 2xx, or repeat its ACK.
    pub(crate) fn may_redo(&self, now: Mono) -> bool {
        now < self.redo_until
    }

    /// The called leg.
    pub(crate) fn callee(&self) -> &Leg {
        &self.callee
    }

    /// A response to an attempt: the winner's 2xx again, or what a loser still says.
    pub(crate) fn on_response(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        how: &OnResponse,
        response: &Message<&[u8]>,
    ) -> State {
        let same = response.to_tag().unwrap_or_default() == &*self.callee.remote_tag;
        if number == self.winner && same {
            self.repeat_ack(turn);
        } else if let Some(attempt) = self.attempts.iter_mut().find(|a| a.branch.attempt == number) {
            attempt.on_unwanted(core, turn, how, response);
        }
        State::Answered(self)
    }

    /// A 2xx without a transaction: of this dialog, the leg's ACK answers it.
    pub(crate) fn repeat_ack(&self, turn: &mut Turn<'_>) {
        if let Some(ack) = self.ack.clone() {
            let flow = crate::call::call::next_hop(&self.callee);
            turn.send(flow, Method::Ack, Sent::InDialog, None, |out| out.extend_from_slice(&ack));
        }
    }

    /// The transaction of an attempt is over; with the winner's, nobody repeats the 2xx any more.
    pub(crate) fn on_ended(mut self, tx: ClientTx) -> State {
        self.attempts.retain(|attempt| {
            let over = attempt.tx == Some(tx);
            if over && attempt.branch.attempt == self.winner {
                self.ack = None;
            }
            !over
        });
        self.attempts.shrink_to_fit();
        State::Answered(self)
    }

    /// The caller never acknowledged its 2xx (RFC 3261 §13.3.1.4).
    pub(crate) fn on_unacknowledged(self, core: &mut Core, turn: &mut Turn<'_>) -> State {
        if self.acked {
            return State::Answered(self);
        }
        let outcome = Outcome::answered(ReleasedBy::Timeout, Reason::own("no ACK"));
        self.hang_up(core, turn, outcome, [true, true], None)
    }

    /// The sender of a re-INVITE never acknowledged its 2xx: the session is in no state that both know (RFC 3261 §14.2).
    pub(crate) fn on_reinvite_unacknowledged(self, core: &mut Core, turn: &mut Turn<'_>) -> State {
        let outcome = Outcome::answered(ReleasedBy::Timeout, Reason::own("no ACK"));
        self.hang_up(core, turn, outcome, [true, true], None)
    }

    /// An ACK: of the INVITE that made the call, or of one inside it.
    pub(crate) fn on_ack(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        request: &Message<&[u8]>,
    ) -> State {
        let initial = from == End::Caller && self.cseqs.0 == request.cseq().number;
        if initial {
            if let Some(tx) = core.caller_tx {
                let now = turn.now.mono;
                turn.net.transactions_mut().acked(tx, now);
            }
            self.resend = None;
            let sent = relay::forward_ack(turn, &core.caller.peer, &self.callee, self.cseqs.1, request);
            if !std::mem::replace(&mut self.acked, true)
                && core.agreement.codecs.is_empty()
                && let Some(answer) = Description::of(request)
            {
                core.agreement.codecs = answer.codecs().to_vec();
            }
            // While the transaction lives its 2xx may come again; the ACK is kept no longer than that.
            let repeated = self.attempts.iter().any(|attempt| attempt.branch.attempt == self.winner);
            self.ack = sent.filter(|_| repeated || self.probe.is_some());
            return State::Answered(self);
        }
        let onward = if from == End::Caller { self.callee.clone() } else { core.caller.clone() };
        if let Some(agreed) = relay::on_ack(core, turn, from, &onward, request) {
            self.note_changes(core, turn, from, false, agreed);
        }
        State::Answered(self)
    }

    /// A request inside the dialog.
    pub(crate) fn on_request(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        (tx, flow): (ServerTx, signalbox_base::Flow),
        request: &Message<&[u8]>,
    ) -> State {
        if request.method() == Method::Bye {
            return self.on_bye(core, turn, from, (tx, flow), request);
        }
        let before = core.last;
        self.relay(core, turn, from, (tx, flow), request);
        if core.last != before {
            core.debug_assert_folded(turn, &self.callee);
        }
        State::Answered(self)
    }

    /// One end hangs up: the record first, then 200 to it and the BYE to the other end, whatever that makes of it
    /// (RFC 3261 §15.1.2: who gets a BYE answers it at once).
    fn on_bye(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        (tx, flow): (ServerTx, signalbox_base::Flow),
        request: &Message<&[u8]>,
    ) -> State {
        let back = if from == End::Caller { &mut core.caller } else { &mut self.callee };
        if back.note_cseq(request.cseq().number) == Order::Late {
            relay::refuse(turn, tx, Method::Bye, &flow, request, 500, None);
            return State::Answered(self);
        }
        let by = match from {
            End::Caller => ReleasedBy::Caller,
            End::Callee => ReleasedBy::Callee,
        };
        let reason = Reason::read(request.all(HeaderName::Reason).map(|header| header.value), None);
        self.record_end(
            core,
            turn,
            Outcome::answered(by, reason),
            [from == End::Callee, from == End::Caller],
            None,
        );
        relay::accept_bye(core, turn, tx, &flow, request);
        self.relay(core, turn, from, (tx, flow), request);
        let bye = |end| (from == end).then_some(request.cseq().number);
        self.into_ending(core, turn, [bye(End::Caller), bye(End::Callee)])
    }

    fn relay(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        over: (ServerTx, signalbox_base::Flow),
        request: &Message<&[u8]>,
    ) {
        let mut caller = core.caller.clone();
        let dialog = (Dialog::Confirmed, &mut caller, &mut self.callee);
        relay::start(core, turn, dialog, from, over, request);
        core.caller = caller;
    }

    /// The edge ends the call: BYE to the ends that are to be told. `ended` is its last moment when that is not now.
    pub(crate) fn hang_up(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        outcome: Outcome,
        tell: [bool; 2],
        ended: Option<Moment>,
    ) -> State {
        self.record_end(core, turn, outcome, tell, ended);
        if tell[1] {
            let seen = core.caller.seen;
            core.send_own(turn, Method::Bye, &mut self.callee, seen, None, (owner::OWN, 0));
        }
        if tell[0] {
            let mut caller = core.caller.clone();
            core.send_own(turn, Method::Bye, &mut caller, self.callee.seen, None, (owner::OWN, 0));
            core.caller = caller;
        }
        self.into_ending(core, turn, [None; 2])
    }

    fn record_end(
        &self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        outcome: Outcome,
        tell: [bool; 2],
        estimated: Option<Moment>,
    ) {
        let ended = estimated.unwrap_or_else(|| Moment::seen(turn.now));
        let outcome =
            facts::Outcome { clock: &core.clock, ended, estimated: estimated.is_some(), how: outcome };
        let fact = facts::ended(&core.about(), core.base(turn), outcome, (tell[0], tell[1]), turn.now.wall);
        core.record(turn, fact);
    }

    fn into_ending(self, core: &mut Core, turn: &mut Turn<'_>, byes: [Option<u32>; 2]) -> State {
        relay::terminate(core, turn);
        let mut ending = Ending::of_dialog(self.attempts, turn, byes);
        ending.dialog =
            Some(Ended { callee: self.callee, winner: self.winner, cseqs: self.cseqs, ack: self.ack });
        ending.settle(core, turn)
    }

    /// A final response to a relayed request: what it changed is recorded before it leaves.
    pub(crate) fn on_relayed(mut self, core: &mut Core, turn: &mut Turn<'_>, mut done: Done) -> State {
        let mut moved = done.moved;
        if let Some(target) = done.target.take() {
            let leg = if done.from == End::Caller { &mut self.callee } else { &mut core.caller };
            moved |= leg.target != target;
            leg.target = target;
        }
        let agreed = done.agreed.take();
        let record = self.note_changes(core, turn, done.from, moved, agreed);
        done.send(turn, record);
        State::Answered(self)
    }

    /// Records what an offer and answer, or a new target, changed; gives the last record of it.
    fn note_changes(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        by: End,
        moved: bool,
        agreed: Option<(End, Description, Description)>,
    ) -> Option<signalbox_base::EventSeq> {
        let mut changes = agreed
            .map(|(offerer, offer, answer)| core.agreement.agree(offerer, &offer, &answer))
            .unwrap_or_default();
        if changes.is_empty() && moved {
            changes.push((by, ModificationKind::Target));
        }
        let mut last = None;
        for (end, kind) in changes {
            let codecs = core.agreement.codecs.clone();
            let fact = facts::modified(turn, &core.about(), end, kind, codecs, &core.caller, &self.callee);
            last = Some(core.record(turn, fact));
            core.debug_assert_folded(turn, &self.callee);
        }
        last
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        let probe = self.probe.and_then(|probe| probe.at);
        let resend = self.resend.as_ref().map(Resend::due);
        earliest(earliest(Some(self.checkpoint_at), probe), resend)
    }

    /// A deadline has come.
    pub(crate) fn on_due(mut self, core: &mut Core, turn: &mut Turn<'_>) -> State {
        let now = turn.now.mono;
        if let Some(resend) = self.resend.take() {
            self.resend = say_again(turn, resend);
        }
        if now >= self.checkpoint_at {
            self.checkpoint(core, turn);
        }
        if let Some(probe) = &mut self.probe
            && passed(probe.at, now)
        {
            probe.at = None;
            self.ask(core, turn);
        }
        State::Answered(self)
    }

    fn checkpoint(&mut self, core: &mut Core, turn: &mut Turn<'_>) {
        let interval = turn.settings.timers.checkpoint_interval;
        if self.attempts.is_empty() {
            self.ack = None;
        }
        self.checkpoint_at = turn.now.mono.plus(interval.max(std::time::Duration::from_secs(1)));
        let elapsed = core.clock.answered.map_or(0, |at| at.millis_to(Moment::seen(turn.now)));
        let number = turn.state.calls().get(core.uid).map_or(0, |call| call.checkpoints) + 1;
        let fact = facts::checkpointed(turn, &core.about(), elapsed, number, &core.caller, &self.callee);
        core.record(turn, fact);
        core.debug_assert_folded(turn, &self.callee);
    }

    /// OPTIONS on both legs (RFC 3261 §11): a peer that lost the dialog says 481.
    fn ask(&mut self, core: &mut Core, turn: &mut Turn<'_>) {
        let mut caller = core.caller.clone();
        core.send_own(turn, Method::Options, &mut caller, self.callee.seen, None, (owner::PROBE, 0));
        core.send_own(turn, Method::Options, &mut self.callee, caller.seen, None, (owner::PROBE, 1));
        core.caller = caller;
    }

    /// An end answered the probe, or did not. Once both are known, a call that lost an end is closed, with the best end
    /// that is known.
    pub(crate) fn on_probed(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        end: usize,
        alive: bool,
    ) -> State {
        let Some(probe) = &mut self.probe else { return State::Answered(self) };
        if let Some(known) = probe.alive.get_mut(end) {
            known.get_or_insert(alive);
        }
        let (known, alive) = (probe.known, probe.alive);
        match alive {
            [Some(true), Some(true)] => {
                self.probe = None;
                State::Answered(self)
            }
            [Some(caller), Some(callee)] => {
                let outcome = Outcome::answered(ReleasedBy::Edge, Reason::own("lost in a restart"));
                self.hang_up(core, turn, outcome, [caller, callee], Some(known))
            }
            _ => State::Answered(self),
        }
    }
}
