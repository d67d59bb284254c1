//! The caller was asked for credentials (401, 407) or for a longer session (422): that is no failure. It comes back with the
//! same Call-ID and tag, and the call goes on; if it does not, the challenge was its end.

use super::Ending;
use crate::call::attempt::Attempt;
use crate::call::call::{Core, State};
use crate::call::cdr::{Moment, Outcome, Reason};
use crate::facts::call as facts;
use crate::turn::Turn;
use signalbox_base::{Mono, Text};
use signalbox_schemas::words::ReleasedBy;
use signalbox_sip::Message;
use signalbox_sip::transaction::{ClientTx, OnResponse};

/// Waiting for the INVITE with credentials.
#[derive(Debug)]
pub(crate) struct Challenged {
    pub(crate) attempts: Vec<Attempt>,
    /// What was called: credentials are for that, and another number would be another call.
    pub(crate) called: u64,
    status: u16,
    until: Mono,
}

impl Challenged {
    /// From now, for 64·T1: as long as the caller could take to acknowledge the challenge.
    pub(crate) fn new(attempts: Vec<Attempt>, called: u64, status: u16, turn: &Turn<'_>) -> Self {
        let until = turn.now.mono.plus(turn.settings.timers.t1.saturating_mul(64));
        Self { attempts, called, status, until }
    }

    /// Who asked for credentials, so that they go there.
    pub(crate) fn challenger(&self) -> Option<Text> {
        self.attempts.last().map(|attempt| attempt.branch.leg.peer.name().clone())
    }

    /// A late response to an attempt.
    pub(crate) fn on_response(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        how: &OnResponse,
        response: &Message<&[u8]>,
    ) -> State {
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.branch.attempt == number) {
            attempt.on_unwanted(core, turn, how, response);
        }
        State::Challenged(self)
    }

    /// The transaction of an attempt is over.
    pub(crate) fn on_ended(mut self, tx: ClientTx) -> State {
        self.attempts
            .iter_mut()
            .filter(|attempt| attempt.tx == Some(tx))
            .for_each(|attempt| attempt.tx = None);
        State::Challenged(self)
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        Some(self.until)
    }

    /// Nobody came back.
    pub(crate) fn on_due(self, core: &mut Core, turn: &mut Turn<'_>) -> State {
        if turn.now.mono < self.until {
            return State::Challenged(self);
        }
        if core.last.is_some() {
            let reason = Reason::own(if self.status == 422 {
                "session interval too small"
            } else {
                "no credentials given"
            });
            let how = Outcome::failed(ReleasedBy::Caller, self.status, false, reason);
            let ended = Moment::seen(turn.now);
            let outcome = facts::Outcome { clock: &core.clock, ended, estimated: false, how };
            let fact = facts::failed(&core.about(), core.base(turn), outcome, b"", turn.now.wall);
            core.record(turn, fact);
            turn.counters.calls_failed += 1;
        }
        State::Ending(Ending::of(self.attempts, turn))
    }
}
