//! The call's record is written. What is left: answers that nobody wants any more, and the last requests of the dialog.

use crate::call::ack;
use crate::call::attempt::Attempt;
use crate::call::call::{Core, State, next_hop};
use crate::call::leg::{End, Leg};
use crate::call::raw::Raw;
use crate::call::relay;
use crate::call::timers::{Resend, Said};
use crate::classes::Sent;
use crate::contract::{ClassB, Release};
use crate::turn::Turn;
use signalbox_base::{Flow, Mono};
use signalbox_sip::transaction::{ClientTx, OnResponse, ServerTx, Timing};
use signalbox_sip::{Message, Method};

/// Until the last transaction is over.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) attempts: Vec<Attempt>,
    /// The dialog that ended, if there was one.
    pub(crate) dialog: Option<Ended>,
    /// CSeq number of the BYE that ended each end's dialog, caller first: it may come again, another comes too late.
    pub(crate) byes: [Option<u32>; 2],
    /// A final response of before a restart, said again until it is acknowledged.
    pub(crate) resend: Option<Resend>,
    /// The end of all waiting.
    until: Mono,
}

/// There is no dialog that a BYE could end: CSeq numbers of BYEs are above that of the INVITE (RFC 3261 §12.2.1.1).
const NO_BYE: Option<u32> = Some(0);

/// A dialog that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) callee: Leg,
    pub(crate) winner: u32,
    /// CSeq of the INVITE on the caller's leg and on the other.
    pub(crate) cseqs: (u32, u32),
    pub(crate) ack: Option<Raw>,
}

impl Ending {
    /// After a failure, from now on.
    pub(crate) fn of(attempts: Vec<Attempt>, turn: &Turn<'_>) -> Self {
        // Twice 64·T1: a CANCEL sent at the last moment has its own time for the answer.
        let until = turn.now.mono.plus(turn.settings.timers.t1.saturating_mul(128));
        Self { attempts, dialog: None, byes: [NO_BYE; 2], resend: None, until }
    }

    /// After a call that was answered: one end has hung up, or the edge has.
    pub(crate) fn of_dialog(attempts: Vec<Attempt>, turn: &Turn<'_>, byes: [Option<u32>; 2]) -> Self {
        Self { byes, ..Self::of(attempts, turn) }
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
        if let Some(dialog) = &self.dialog
            && dialog.winner == number
            && response.to_tag() == Some(&*dialog.callee.remote_tag)
        {
            // The 2xx of the dialog that has just ended, again: the ACK stops it, and else the BYE that is on its way.
            if let Some(ack) = dialog.ack.clone() {
                let flow = next_hop(&dialog.callee);
                turn.send(flow, Method::Ack, Sent::InDialog, None, |out| out.extend_from_slice(&ack));
            }
        } else if let Some(attempt) = self.attempts.iter_mut().find(|a| a.branch.attempt == number) {
            attempt.on_unwanted(core, turn, how, response);
        }
        self.settle(core, turn)
    }

    /// The transaction of an attempt is over.
    pub(crate) fn on_ended(mut self, core: &mut Core, turn: &mut Turn<'_>, tx: ClientTx) -> State {
        self.attempts.retain(|attempt| attempt.tx != Some(tx));
        self.settle(core, turn)
    }

    /// A request inside the dialog that ended: the BYE that ended it is met with 200 again, and one that crosses ours with 200
    /// too (RFC 3261 §15.1.2); anything else comes too late.
    pub(crate) fn on_request(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        end: End,
        (tx, flow): (ServerTx, Flow),
        request: &Message<&[u8]>,
    ) -> State {
        match request.method() {
            Method::Bye
                if *self.bye_of(end).get_or_insert(request.cseq().number) == request.cseq().number =>
            {
                relay::accept_bye(core, turn, tx, &flow, request);
            }
            method => relay::refuse(turn, tx, method, &flow, request, 481, None),
        }
        self.settle(core, turn)
    }

    /// A final response to a relayed request.
    pub(crate) fn on_relayed(mut self, core: &mut Core, turn: &mut Turn<'_>, done: relay::Done) -> State {
        if done.method == Method::Bye {
            self.bye_of(done.from.other()).get_or_insert_default();
        }
        done.send(turn, core.last);
        self.settle(core, turn)
    }

    /// An ACK that came after the end: of the INVITE that made the dialog, or of a final response said again.
    pub(crate) fn on_ack(
        mut self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        from: End,
        request: &Message<&[u8]>,
    ) -> State {
        self.resend = None;
        let cseq = request.cseq().number;
        match &mut self.dialog {
            // The BYE overtook the ACK of an INVITE inside the dialog, whose 2xx need not be said again.
            Some(dialog) if from == End::Callee || dialog.cseqs.0 != cseq => {
                let onward = if from == End::Caller { dialog.callee.clone() } else { core.caller.clone() };
                ack::on_ack(core, turn, from, &onward, request);
            }
            dialog => {
                if let Some(tx) = core.caller_tx {
                    let now = turn.now.mono;
                    turn.net.transactions_mut().acked(tx, now);
                }
                if let Some(dialog) = dialog.as_mut().filter(|dialog| dialog.ack.is_none()) {
                    dialog.ack = ack::forward(
                        turn,
                        &core.tenant,
                        &core.caller,
                        &dialog.callee,
                        dialog.cseqs.1,
                        request,
                    );
                }
            }
        }
        self.settle(core, turn)
    }

    fn bye_of(&mut self, end: End) -> &mut Option<u32> {
        &mut self.byes[usize::from(end == End::Callee)]
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        let resend = self.resend.as_ref().map_or(self.until, Resend::due);
        Some(self.until.min(resend))
    }

    /// A deadline has come.
    pub(crate) fn on_due(mut self, core: &mut Core, turn: &mut Turn<'_>) -> State {
        self.resend = self.resend.take().and_then(|resend| say_again(turn, resend));
        if turn.now.mono >= self.until {
            for tx in self.attempts.iter().filter_map(|attempt| attempt.tx) {
                turn.net.table.withdraw(tx, &mut turn.net.outputs);
            }
            return State::Gone;
        }
        self.settle(core, turn)
    }

    /// Gone once nothing is awaited.
    pub(crate) fn settle(mut self, core: &Core, turn: &Turn<'_>) -> State {
        self.attempts.retain(|attempt| attempt.tx.is_some());
        let over = |relay: &relay::Relay| {
            !relay.is_awaited() && turn.net.transactions().user(relay.server).is_none()
        };
        let quiet = core.relays.iter().all(over);
        if self.attempts.is_empty()
            && quiet
            && core.own == 0
            && self.resend.is_none()
            && core.caller_tx.is_none()
        {
            return State::Gone;
        }
        State::Ending(self)
    }
}

/// Says a final response again when it is time; `None` once nobody listens.
pub(crate) fn say_again(turn: &mut Turn<'_>, resend: Resend) -> Option<Resend> {
    let timers = &turn.settings.timers;
    let timing = Timing { t1: timers.t1, t2: timers.t2, t4: timers.t4, timer_c: None };
    match resend.on_due(&timing, turn.now.mono) {
        Said::Later(resend) => Some(resend),
        Said::Again(resend) => {
            let bytes = resend.bytes.clone();
            turn.send_as(resend.flow, Release::Now(ClassB::Retransmission), |out| {
                out.extend_from_slice(&bytes)
            });
            Some(resend)
        }
        Said::Unheard => None,
    }
}
