//! A call before its answer: its attempts, what they said, and what the caller is told.

use super::attempt::{Attempt, Invite, Progress, Target};
use super::call::{Core, State};
use super::cdr::{Moment, Outcome, Reason};
use super::early::{Dialogs, Early, Passes};
use super::fork::{self, Best, Verdict};
use super::leg::{End, LegEvent};
use super::message::{self, Answering};
use super::offer::Description;
use super::plan::takes_over;
use super::raw::Raw;
use super::state::{Answered, Challenged, Ending};
use super::timers::{earliest, passed};
use super::watch::{Interval, Watch};
use crate::facts::call as facts;
use crate::remote;
use crate::state::calls::{Answer, PendingRequest};
use crate::turn::Turn;
use signalbox_base::Mono;
use signalbox_schemas::words::{Category, ReleasedBy, RouteBasis};
use signalbox_sip::header::HeaderName;
use signalbox_sip::sdp::Session;
use signalbox_sip::transaction::{ClientTx, End as Over, OnResponse};
use signalbox_sip::{Limits, Message, Method};
use std::collections::VecDeque;

/// The caller's INVITE and what becomes of it.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) invite: PendingRequest,
    /// What was called, by [`super::identity::called`].
    pub(super) called: u64,
    /// The INVITE itself, while there are targets that it has not been sent to.
    pub(crate) request: Raw,
    pub(crate) offer: Option<Description>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) dialogs: Dialogs,
    pub(crate) best: Best,
    /// Targets to be tried when those before them have failed: one after the other, or as many of a fork as may ring at once.
    pub(crate) rest: VecDeque<Target>,
    /// Whether attempts ring at once; a fork has no failover.
    pub(crate) fork: bool,
    /// Timer C has fired.
    pub(crate) timed_out: bool,
    /// A 18x has reached the caller: what rings now is what it hears, and no other target takes its place.
    pub(crate) ringing: bool,
    /// What rings has rung long enough then: the next stage does.
    pub(super) stage_until: Option<Mono>,
    /// Redirections followed.
    pub(super) followed: u8,
}

impl Setup {
    /// Sends the INVITE to the next target, or to as many of a fork as may ring at once. `false` when none could be sent to.
    /// `fresh` is the INVITE in the turn that it came in.
    pub(crate) fn advance(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        fresh: Option<&Message<&[u8]>>,
    ) -> bool {
        let kept = std::mem::take(&mut self.request);
        let again = if fresh.is_none() { Message::parse(&*kept, &Limits::DATAGRAM).ok() } else { None };
        let Some(request) = fresh.or(again.as_ref()) else { return false };
        let breadth = fork::breadth(request);
        let mut sent = false;
        while !sent && !self.rest.is_empty() {
            let stage = self.rest.front().and_then(|target| target.stage);
            let of_stage = self.rest.iter().take_while(|target| target.stage == stage).count();
            let branches = if self.fork { of_stage.min(breadth) } else { 1 };
            for at in 0..branches {
                let share = (branches > 1).then(|| fork::share(breadth, branches, at));
                sent |= self.launch(core, turn, request, share);
            }
            let follows = stage.filter(|_| !self.rest.is_empty());
            self.stage_until = follows.map(|(_, ring_for)| turn.now.mono.plus(ring_for));
        }
        if !self.rest.is_empty() {
            self.request = if fresh.is_some() { Raw::from(request.as_bytes()) } else { kept };
        }
        sent
    }

    /// Sends the INVITE to the next target. `false` when it could not be.
    pub(super) fn launch(
        &mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        request: &Message<&[u8]>,
        breadth: Option<u32>,
    ) -> bool {
        let Some(target) = self.rest.pop_front() else { return false };
        if !self.attempts.is_empty() && !takes_over(turn, &core.tenant, &target, request) {
            self.best.offer_silence(503);
            return false;
        }
        let number = self.attempts.last().map_or(0, |last| last.branch.attempt) + 1;
        // What a fork offers reliably would want an answer that only the caller has.
        let unreliable = self.dialogs.forks() && self.offer.is_none();
        let invite = Invite { request, pending: &self.invite, cookie: core.cookie, breadth, unreliable };
        let Some(mut attempt) = Attempt::launch(core, turn, number, &invite, target) else {
            self.best.offer_silence(500);
            return false;
        };
        let sent = attempt.tx.is_some();
        self.attempts.reserve_exact(1 + self.rest.len());
        if !sent {
            self.best.offer_silence(503);
        } else if remote::is_peer(turn.settings, &attempt.branch.leg.flow) {
            attempt.silent_until = Some(turn.now.mono.plus(remote::HOP_SILENCE));
        } else if !self.fork && !self.rest.is_empty() {
            attempt.silent_until = Some(turn.now.mono.plus(turn.settings.timers.failover_after));
        }
        self.attempts.push(attempt);
        sent
    }

    /// A response to an attempt.
    pub(crate) fn on_response(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        how: &OnResponse,
        response: &Message<&[u8]>,
    ) -> State {
        let Some(at) = self.place(number) else { return State::Inviting(self) };
        if !self.attempts[at].is_open() {
            self.attempts[at].on_unwanted(core, turn, how, response);
            return State::Inviting(self);
        }
        let attempt = &mut self.attempts[at];
        attempt.silent_until = None;
        match LegEvent::of(response.status().unwrap_or(100)) {
            LegEvent::Trying => {
                attempt.progress = Progress::Proceeding;
                State::Inviting(self)
            }
            LegEvent::Progress => {
                attempt.progress = Progress::Proceeding;
                if !std::mem::replace(&mut attempt.rang, true) {
                    attempt.judge(core, turn, true);
                }
                self.progressed(core, turn, at, response);
                self.ringing = true;
                State::Inviting(self)
            }
            LegEvent::Answered => {
                attempt.judge(core, turn, true);
                self.answered(core, turn, at, response)
            }
            LegEvent::Challenged | LegEvent::Failed(_) => {
                attempt.progress = Progress::Done;
                match response.status() {
                    // It may be the callee's silence, or the end of a long ringing: nothing is said of the backend.
                    Some(408) => {}
                    Some(503) if attempt.rang => {}
                    status => attempt.judge(core, turn, status != Some(503)),
                }
                if matches!(how, OnResponse::Final { needs_ack: true, .. }) {
                    attempt.ack_failure(turn, response);
                }
                if let (Some(300..=399), OnResponse::Final { request: Some(request), .. }) =
                    (response.status(), how)
                    && self.follow(core, turn, (at, request), response)
                {
                    return State::Inviting(self);
                }
                self.best.offer(response);
                let may_fail_over = self.attempts[at].fails_over(core, turn, response.status());
                self.failed(core, turn, may_fail_over)
            }
        }
    }

    /// An attempt's transaction is over without a final response, or over at last.
    pub(crate) fn on_ended(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        tx: ClientTx,
        why: Over,
    ) -> State {
        let Some(at) = self.place(number).filter(|at| self.attempts[*at].tx == Some(tx)) else {
            return State::Inviting(self);
        };
        let attempt = &mut self.attempts[at];
        attempt.tx = None;
        let was_open = attempt.is_open();
        attempt.progress = Progress::Done;
        if !was_open {
            return State::Inviting(self);
        }
        attempt.judge(core, turn, false);
        attempt.fails_over(core, turn, None);
        let leg = &self.attempts[at].branch.leg;
        let away = remote::is_peer(turn.settings, &leg.flow);
        let connection_lost = leg.peer.is_endpoint() && leg.flow.transport.reliable();
        self.best.offer_silence(match why {
            _ if away => remote::PEER_GONE,
            Over::Timeout => 408,
            // As of a phone that is known to have none.
            _ if connection_lost => 480,
            _ => 503,
        });
        self.failed(core, turn, true)
    }

    /// Timer C: it rang for too long (RFC 3261 §16.8).
    pub(crate) fn on_timer_c(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
    ) -> State {
        self.timed_out = true;
        if let Some(at) = self.place(number).filter(|at| self.attempts[*at].is_open()) {
            self.attempts[at].cancel(core, turn, None);
            self.best.offer_silence(408);
            return self.failed(core, turn, false);
        }
        State::Inviting(self)
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.attempts.iter().map(|attempt| attempt.silent_until).fold(self.stage_until, earliest)
    }

    /// Silence for too long: the next target.
    pub(crate) fn on_due(mut self: Box<Self>, core: &mut Core, turn: &mut Turn<'_>) -> State {
        let now = turn.now.mono;
        if passed(self.stage_until, now) {
            return self.next_stage(core, turn);
        }
        let silent = self.attempts.iter().position(|attempt| passed(attempt.silent_until, now));
        match silent {
            Some(at) if remote::is_peer(turn.settings, &self.attempts[at].branch.leg.flow) => {
                self.on_hop_failed(core, turn, |attempt| passed(attempt.silent_until, now))
            }
            Some(at) if !self.ringing => {
                self.attempts[at].judge(core, turn, false);
                self.attempts[at].fails_over(core, turn, None);
                self.attempts[at].cancel(core, turn, None);
                self.best.offer_silence(408);
                self.failed(core, turn, true)
            }
            _ => State::Inviting(self),
        }
    }

    /// The caller gave up (RFC 3261 §9.2). `reason` is the CANCEL's.
    pub(crate) fn on_cancel(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        cancel: &Message<&[u8]>,
    ) -> State {
        let reasons: Vec<&[u8]> = cancel.all(HeaderName::Reason).map(|header| header.value).collect();
        let outcome = Outcome::cancelled(Reason::read(reasons.iter().copied(), None));
        let forwarded = reasons.join(b", ".as_slice());
        for attempt in &mut self.attempts {
            attempt.cancel(core, turn, Some(&*forwarded).filter(|reasons| !reasons.is_empty()));
        }
        self.fail(core, turn, outcome, 487, None)
    }

    /// An attempt failed: the next target, or the end, or the others go on.
    pub(super) fn failed(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        may_fail_over: bool,
    ) -> State {
        if self.best.is_global() {
            for attempt in self.attempts.iter_mut().filter(|attempt| attempt.is_open()) {
                attempt.cancel(core, turn, None);
            }
        }
        if self.attempts.iter().any(Attempt::is_open) {
            return State::Inviting(self);
        }
        // What a fork had no breadth for rings now, after the others (RFC 5393 §5.3.3).
        let goes_on = if self.fork { !self.best.is_global() } else { !self.ringing && may_fail_over };
        if goes_on && !self.rest.is_empty() {
            if !self.fork {
                self.note_failover();
            }
            if self.advance(core, turn, None) {
                return State::Inviting(self);
            }
        }
        self.conclude(core, turn)
    }

    /// The next target's event names the one before it.
    fn note_failover(&mut self) {
        let Some(last) = self.attempts.last() else { return };
        let from = last.branch.leg.peer.name().clone();
        let status = self.best.status().filter(|status| *status == 503);
        if let Some(next) = self.rest.front_mut() {
            next.why.basis = RouteBasis::Failover;
            next.why.failover_from = Some(from);
            next.why.failover_status = status;
        }
    }

    /// Every attempt has failed: the best of what they said goes to the caller.
    pub(crate) fn conclude(mut self: Box<Self>, core: &mut Core, turn: &mut Turn<'_>) -> State {
        let best = std::mem::take(&mut self.best);
        let nothing = Verdict { status: 503, message: None, challenges: Vec::new() };
        let Verdict { mut status, mut message, challenges } = best.take().unwrap_or(nothing);
        // Too short a session is asked for once more, with the interval that the 422 names (RFC 4028 §7.3).
        if matches!(status, 401 | 407 | 422)
            && let Some(message) = &message
        {
            return self.challenge(core, turn, status, message, &challenges);
        }
        let mut by = ReleasedBy::Callee;
        if self.timed_out && matches!(status, 408 | 487) {
            (status, message, by) = (408, None, ReleasedBy::Timeout);
        } else if status == 503 && self.fork {
            // One phone's trouble is not the edge's own: whoever called may try again at once (RFC 3261 §16.7 step 6).
            (status, message) = (500, None);
        } else if message.is_none() {
            by = if status == 408 { ReleasedBy::Timeout } else { ReleasedBy::BackendFailure };
        }
        let phrase = message.as_ref().and_then(Message::reason).map(<[u8]>::to_vec);
        let reason = message.as_ref().map_or_else(
            || Reason::own(message::phrase(status)),
            |message| Reason::read(message.all(HeaderName::Reason).map(|h| h.value), phrase.as_deref()),
        );
        let outcome = Outcome::failed(by, status, core.clock.progressed.is_some(), reason);
        self.fail(core, turn, outcome, status, message.as_ref())
    }

    /// Records the failure and tells the caller: the message that came, or one of our own.
    pub(crate) fn fail(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        outcome: Outcome,
        status: u16,
        message: Option<&Message<Raw>>,
    ) -> State {
        let tag = Self::failure_tag(core, turn, message);
        let mut bytes = Vec::with_capacity(512);
        match message {
            Some(message) => {
                let answering = self.answering(core, &tag, message);
                message::relay_response(&mut bytes, turn.settings, message, &core.caller, &answering);
            }
            None => message::own_response(
                &mut bytes,
                Method::Invite,
                &core.caller.call_id,
                &self.invite,
                &tag,
                status,
            ),
        }
        // Noise that no backend took seriously leaves no record.
        if outcome.category != Category::Cancelled && message.is_some() {
            self.ensure_recorded(core, turn);
        }
        if core.last.is_some() {
            let ended = Moment::seen(turn.now);
            let outcome = facts::Outcome { clock: &core.clock, ended, estimated: false, how: outcome };
            let fact = facts::failed(&core.about(), core.base(turn), outcome, &bytes, turn.now.wall);
            core.record(turn, fact);
            turn.counters.calls_failed += 1;
        }
        self.respond(core, turn, status, &bytes);
        State::Ending(Ending::of(self.attempts, turn))
    }

    /// A challenge is no failure: the caller gets it and may come back with credentials, or after 422 with a longer session.
    fn challenge(
        self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        status: u16,
        message: &Message<Raw>,
        more: &[(HeaderName, Raw)],
    ) -> State {
        let tag = Self::failure_tag(core, turn, Some(message));
        let mut bytes = Vec::with_capacity(512);
        let answering = Answering { more, ..self.answering(core, &tag, message) };
        message::relay_response(&mut bytes, turn.settings, message, &core.caller, &answering);
        self.respond(core, turn, status, &bytes);
        State::Challenged(Challenged::new(self.attempts, self.called, status, turn))
    }

    /// 101 to 199 of an attempt goes to the caller, in its own early dialog.
    fn progressed(&mut self, core: &mut Core, turn: &mut Turn<'_>, at: usize, response: &Message<&[u8]>) {
        self.ensure_recorded(core, turn);
        let status = response.status().unwrap_or(183);
        if core.note_progress(turn) {
            let branch = &self.attempts[at].branch;
            let early_media = Description::of(response).is_some();
            let (number, flow) = (branch.attempt, branch.leg.flow);
            let fact =
                facts::progressed(turn, &core.about(), &core.clock, number, &flow, status, early_media);
            core.record(turn, fact);
        }
        let (tag, unreliable) = match self.dialogs.progressed(core, turn, &self.attempts[at], response) {
            Passes::AsItIs(tag) => (tag, false),
            Passes::Unreliable(tag) => (tag, true),
            Passes::Not => return,
        };
        let mut bytes = turn.net.scratch();
        let answering = Answering { unreliable, ..self.answering(core, &tag, response) };
        message::relay_response(&mut bytes, turn.settings, response, &core.caller, &answering);
        self.respond(core, turn, status, &bytes);
        turn.net.give_back(bytes);
    }

    /// The first 2xx wins; the other attempts are cancelled.
    fn answered(
        mut self: Box<Self>,
        core: &mut Core,
        turn: &mut Turn<'_>,
        at: usize,
        response: &Message<&[u8]>,
    ) -> State {
        self.ensure_recorded(core, turn);
        let status = response.status().unwrap_or(200);
        let number = self.attempts[at].branch.attempt;
        let Early { caller_tag, callee, seen, description, .. } =
            self.dialogs.answered(core, turn, &self.attempts[at], response);
        let description = description.filter(|_| response.body().is_empty());
        core.caller.seen = seen;
        core.caller.local_tag = caller_tag.clone();
        core.clock.answered = Some(Moment::seen(turn.now));
        let answer = match &description {
            Some((_, body)) => Session::parse(body).ok().map(|session| Description::new(&session)),
            None => Description::of(response),
        };
        core.agreement.start(End::Caller, self.offer.as_ref(), answer.as_ref());
        let mut bytes = turn.net.scratch();
        let answering = self.answering(core, &caller_tag, response);
        let answering = Answering { description: description.as_ref(), ..answering };
        message::relay_response(&mut bytes, turn.settings, response, &core.caller, &answering);
        let interval = Interval::of(response);
        let cseq_out = self.attempts[at].branch.cseq;
        let answer = Answer { cseq_in: self.invite.cseq, cseq_out, bytes: Raw::from(bytes.as_slice()) };
        let of = facts::Answered {
            clock: &core.clock,
            attempt: number,
            status,
            codecs: core.agreement.codecs.clone(),
            caller: &core.caller,
            callee: &callee,
            interval,
            answer,
        };
        let fact = facts::answered(turn, &core.about(), of);
        core.record(turn, fact);
        core.debug_assert_folded(turn, &callee);
        turn.counters.calls_answered += 1;
        self.respond(core, turn, status, &bytes);
        turn.net.give_back(bytes);
        self.attempts[at].progress = Progress::Done;
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.is_open()) {
            attempt.cancel(core, turn, Some(b"SIP;cause=200;text=\"Call completed elsewhere\""));
        }
        let cseqs = (self.invite.cseq, cseq_out);
        let watch = Watch::new(core, turn, interval);
        State::Answered(Answered::new(callee, number, cseqs, self.attempts, turn, watch))
    }

    /// The noise rule is satisfied: what was held back is recorded.
    pub(crate) fn ensure_recorded(&mut self, core: &mut Core, turn: &mut Turn<'_>) {
        record_attempt(core, turn, &self.invite);
        for attempt in &mut self.attempts {
            attempt.record(core, turn, &self.invite);
        }
    }

    fn respond(&self, core: &Core, turn: &mut Turn<'_>, status: u16, bytes: &[u8]) {
        let Some(tx) = core.caller_tx else { return };
        // Too late means that the caller's transaction is over: it learns the rest by its own timers.
        let _ = turn.respond(tx, Method::Invite, status, core.last, |out| out.extend_from_slice(bytes));
    }

    pub(crate) fn place(&self, number: u32) -> Option<usize> {
        self.attempts.iter().position(|attempt| attempt.branch.attempt == number)
    }
}

/// Records `call.attempted`, once.
pub(crate) fn record_attempt(core: &mut Core, turn: &mut Turn<'_>, invite: &PendingRequest) {
    let Some(data) = core.unrecorded.take() else { return };
    let fact = facts::attempted(&core.about(), data, &core.caller, invite, turn.now.wall);
    core.record(turn, fact);
    turn.counters.calls_attempted += 1;
}
