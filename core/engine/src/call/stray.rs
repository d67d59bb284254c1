//! A 2xx of an INVITE that no transaction has: it is repeated until its ACK comes, so somebody must give it one (RFC 3261
//! §13.2.2.4, RFC 6026 §8.9). After a restart that is all that is heard of an INVITE whose 2xx was on its way.

use super::Calls;
use super::call::{Call, Core, State, may_speak};
use super::dismissal;
use super::find::LegRef;
use super::leg::{End, Leg};
use super::message;
use super::raw::Raw;
use super::state::{Answered, Ending};
use super::{reinvite, relay, relayed};
use crate::turn::Turn;
use signalbox_base::{CallUid, Flow};
use signalbox_sip::Message;
use signalbox_sip::transaction::{ClientKey, OnResponse};

impl Calls {
    /// Of a dialog that goes on, its leg acknowledges it; any other dialog is ended.
    pub fn on_stray(&mut self, turn: &mut Turn<'_>, flow: Flow, response: &Message<&[u8]>) {
        let at = self
            .with_call_id(response.call_id())
            .find_map(|(uid, call)| leg_of(turn, uid, call, &flow, response));
        let Some(at) = at else { return };
        self.step(turn, at.uid, |state, core, turn| match state {
            State::Answered(state) => on_answered(state, core, turn, at.end, response),
            State::Ending(state) => on_ending(state, core, turn, at.end, response),
            other => other,
        });
    }
}

/// The leg that sent the INVITE.
fn leg_of(
    turn: &Turn<'_>,
    uid: CallUid,
    call: &Call,
    flow: &Flow,
    response: &Message<&[u8]>,
) -> Option<LegRef> {
    if !matches!(call.state, State::Answered(_) | State::Ending(_)) {
        return None;
    }
    let from = response.from_tag().unwrap_or_default();
    call.dialogs(uid).into_iter().find(|at| {
        call.leg(at.end, at.attempt).is_some_and(|leg| {
            *leg.call_id == *response.call_id()
                && *leg.local_tag == *from
                && may_speak(turn, &call.core.tenant, leg, flow, false)
        })
    })
}

fn on_answered(
    state: Answered,
    core: &mut Core,
    turn: &mut Turn<'_>,
    end: End,
    response: &Message<&[u8]>,
) -> State {
    let (cseq, callee) = (response.cseq().number, state.callee().clone());
    let leg = if end == End::Caller { core.caller.clone() } else { callee.clone() };
    if response.to_tag() != Some(&*leg.remote_tag) {
        if end == End::Callee {
            dismiss(core, turn, state.winner(), &callee, response);
        }
        return State::Answered(state);
    }
    if end == End::Callee && cseq == state.cseq_out() {
        state.repeat_ack(turn);
        return State::Answered(state);
    }
    let via = response.top_via().map(|via| via.raw).unwrap_or_default();
    let redone = state.may_redo(turn.now.mono).then(|| reinvite::redo(core, turn, &callee, via)).flatten();
    let Some(number) = redone else {
        dismissal::acknowledge(core, turn, &leg, cseq);
        return State::Answered(state);
    };
    let key = ClientKey::of_message(response);
    let (status, now) = (response.status().unwrap_or(200), turn.now.mono);
    let how = key
        .map_or(OnResponse::Stray, |key| turn.net.table.on_response(key, status, now, &mut turn.net.outputs));
    match relay::on_response(core, turn, number, &how, response) {
        Some(done) => relayed(State::Answered(state), core, turn, done),
        None => State::Answered(state),
    }
}

fn on_ending(
    state: Ending,
    core: &mut Core,
    turn: &mut Turn<'_>,
    end: End,
    response: &Message<&[u8]>,
) -> State {
    let Some(dialog) = &state.dialog else { return State::Ending(state) };
    let leg = if end == End::Caller { core.caller.clone() } else { dialog.callee.clone() };
    if response.to_tag() == Some(&*leg.remote_tag) {
        // Its BYE has been sent.
        dismissal::acknowledge(core, turn, &leg, response.cseq().number);
    } else if end == End::Callee {
        dismiss(core, turn, dialog.winner, &leg, response);
    }
    State::Ending(state)
}

/// Another dialog of an attempt that has one.
fn dismiss(core: &mut Core, turn: &mut Turn<'_>, attempt: u32, known: &Leg, response: &Message<&[u8]>) {
    let (tag, cseq) = (response.to_tag().unwrap_or_default(), response.cseq().number);
    let before = turn.state.calls().get(core.uid).map_or(&[][..], |call| call.dismissed());
    if let Some(leg) =
        before.iter().find(|known| *known.leg.remote_tag == *tag).map(|known| known.leg.clone())
    {
        return dismissal::acknowledge(core, turn, &leg, cseq);
    }
    let mut leg = known.clone();
    leg.remote_tag = Raw::from(tag);
    leg.routes = message::route_set(response, true);
    leg.target = message::contact_uri(response).unwrap_or(leg.target);
    dismissal::dismiss(core, turn, attempt, &mut leg, cseq, response.status().unwrap_or(200));
}
