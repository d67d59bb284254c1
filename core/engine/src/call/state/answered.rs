//! There is a dialog from end to end. The edge holds no message of it, only its two legs.

use super::Ending;
use super::ending::{Ended, say_again};
use crate::call::ack;
use crate::call::attempt::Attempt;
use crate::call::call::{Core, State, owner};
use crate::call::cdr::{Moment, Outcome, Reason};
use crate::call::leg::{End, Leg, Order};
use crate::call::offer::Description;
use crate::call::overtaken;
use crate::call::raw::Raw;
use crate::call::relay::{self, Dialog, Done};
use crate::call::timers::{Resend, earliest};
use crate::call::transfer::{self, Transfer};
use crate::call::watch::{Due, Sign, Watch};
use crate::classes::Sent;
use crate::facts::call as facts;
use crate::turn::Turn;
use signalbox_base::Mono;
use signalbox_schemas::words::{ModificationKind, ReleasedBy, TransferOutcome};
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
    watch: Watch,
    /// Until then a 2xx may come of an INVITE that was accepted before a restart.
    redo_until: Mono,
    /// One that was taken and whose end is not known.
    transfer: Option<Box<Transfer>>,
}

impl Answered {
    /// From the answer on.
    pub(crate) fn new(
        callee: Leg,
        winner: u32,
        cseqs: (u32, u32),
        attempts: Vec<Attempt>,
        turn: &Turn<'_>,
        watch: Watch,
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
            watch,
            redo_until: Mono(0),
            transfer: None,
        }
    }

    /// After a restart.
    pub(crate) fn recalled(self, turn: &Turn<'_>, resend: Option<Resend>) -> Self {
        let redo_until = turn.now.mono.plus(turn.settings.timers.t1.saturating_mul(64));
        Self { resend, redo_until, ..self }
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
            let sent = ack::forward(turn, &core.tenant, &core.caller, &self.callee, self.cseqs.1, request);
            if !std::mem::replace(&mut self.acked, true)
                && core.agreement.codecs.is_empty()
                && let Some(answer) = Description::of(request)
            {
                core.agreement.codecs = answer.codecs().to_vec();
            }
            // While the transaction lives its 2xx may come again; the ACK is kept no longer than that.
            let repeated = self.attempts.iter().any(|attempt| attempt.branch.attempt == self.winner);
            self.ack = sent.filter(|_| repeated || self.watch.is_recalled());
            return State::Answered(self);
        }
        let onward = if from == End::Caller { self.callee.clone() } else { core.caller.clone() };
        if let Some(agreed) = ack::on_ack(core, turn, from, &onward, request) {
            self.note_changes(core, turn, from, None, agreed);
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
        if request.method() == Method::Notify {
            self.note_end_of_transfer(core, turn, from, request);
        }
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
        let reason = outcome.header();
        let reason = reason.as_deref().map(|reason| (HeaderName::Reason, reason));
        self.record_end(core, turn, outcome, tell, ended);
        if tell[1] {
            let seen = core.caller.seen;
            core.send_own(turn, Method::Bye, &mut self.callee, seen, reason, (owner::OWN, 0));
        }
        if tell[0] {
            let mut caller = core.caller.clone();
            core.send_own(turn, Method::Bye, &mut caller, self.callee.seen, reason, (owner::OWN, 0));
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
        overtaken::terminate(core, turn);
        let mut ending = Ending::of_dialog(self.attempts, turn, byes);
        ending.dialog =
            Some(Ended { callee: self.callee, winner: self.winner, cseqs: self.cseqs, ack: self.ack });
        ending.settle(core, turn)
    }

    /// A final response to a relayed request: what it changed is recorded before it leaves.
    pub(crate) fn on_relayed(mut self, core: &mut Core, turn: &mut Turn<'_>, mut done: Done) -> State {
        let mut other = done.moved.then_some(ModificationKind::Target);
        if done.status < 300 {
            self.watch.both_heard(turn);
        }
        if let Some(interval) = done.interval
            && self.watch.refreshed(turn, interval)
        {
            other = other.or(Some(ModificationKind::Other));
        }
        if let Some(target) = done.target.take() {
            let leg = if done.from == End::Caller { &mut self.callee } else { &mut core.caller };
            if leg.target != target {
                other = Some(ModificationKind::Target);
            }
            leg.target = target;
        }
        let agreed = done.agreed.take();
        let mut record = self.note_changes(core, turn, done.from, other, agreed);
        if let Some(transfer) = done.transfer.take()
            && let Some(outcome) = transfer::answered(done.status)
        {
            record = Some(self.transferred(core, turn, &transfer, (outcome, done.status)));
            self.transfer = Some(transfer).filter(|_| outcome == TransferOutcome::Accepted);
        }
        done.send(turn, record);
        State::Answered(self)
    }

    /// Whoever was asked for the transfer tells what became of it.
    fn note_end_of_transfer(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        notify: &Message<&[u8]>,
    ) {
        let Some(transfer) = self.transfer.take_if(|transfer| transfer.by == from.other()) else { return };
        match transfer::ended(notify) {
            Some(end) => {
                self.transferred(core, turn, &transfer, end);
            }
            None => self.transfer = Some(transfer),
        }
    }

    fn transferred(
        &self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        transfer: &Transfer,
        outcome: (TransferOutcome, u16),
    ) -> signalbox_base::EventSeq {
        let fact = facts::transferred(turn, &core.about(), transfer, outcome, &core.caller, &self.callee);
        core.record(turn, fact)
    }

    /// Records what an offer and answer, or else something `other`, changed; gives the last record of it.
    fn note_changes(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        by: End,
        other: Option<ModificationKind>,
        agreed: Option<(End, Description, Description)>,
    ) -> Option<signalbox_base::EventSeq> {
        let mut changes = agreed
            .map(|(offerer, offer, answer)| core.agreement.agree(offerer, &offer, &answer))
            .unwrap_or_default();
        if changes.is_empty() {
            changes.extend(other.map(|kind| (by, kind)));
        }
        let mut last = None;
        for (end, kind) in changes {
            let (codecs, interval) = (core.agreement.codecs.clone(), self.watch.interval());
            let what = facts::Modified { by: end, kind, codecs, interval };
            let fact = facts::modified(turn, &core.about(), what, &core.caller, &self.callee);
            last = Some(core.record(turn, fact));
            core.debug_assert_folded(turn, &self.callee);
        }
        last
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        let resend = self.resend.as_ref().map(Resend::due);
        earliest(earliest(Some(self.checkpoint_at), self.watch.due()), resend)
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
        let due = self.watch.on_due(turn);
        self.follow(core, turn, due)
    }

    /// Does what the watch wants.
    fn follow(mut self, core: &mut Core, turn: &mut Turn<'_>, due: Option<Due>) -> State {
        match due {
            Some(Due::End(outcome, tell, known)) => self.hang_up(core, turn, outcome, tell, known),
            Some(Due::Ask) => {
                self.ask(core, turn);
                State::Answered(self)
            }
            None => State::Answered(self),
        }
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

    /// An end was asked, and answered or did not.
    pub(crate) fn on_probed(mut self, core: &mut Core, turn: &mut Turn<'_>, end: usize, sign: Sign) -> State {
        let due = self.watch.on_asked(turn, end, sign);
        self.follow(core, turn, due)
    }
}
