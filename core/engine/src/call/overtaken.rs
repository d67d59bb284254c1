//! INVITEs inside a dialog that its end has overtaken (RFC 3261 §15.1.2).

use super::attempt::ack_failure;
use super::call::Core;
use super::identity;
use super::leg::LegEvent;
use super::message;
use super::raw::Raw;
use super::relay::own_bytes;
use crate::classes::Sent;
use crate::turn::Turn;
use signalbox_sip::transaction::OnResponse;
use signalbox_sip::{Message, Method};

/// The dialog has ended: an INVITE that is under way in it gets 487, and its receiver a CANCEL (RFC 3261 §15.1.2).
pub(crate) fn terminate(core: &mut Core, turn: &mut Turn<'_>) {
    for relay in &mut core.relays {
        if relay.method != Method::Invite || relay.accepted || relay.terminated {
            continue;
        }
        (relay.terminated, relay.cancelled) = (true, true);
        let bytes = own_bytes(relay, 487);
        // Too late means that its sender has given up by its own timers.
        let _ =
            turn.respond(relay.server, Method::Invite, 487, core.last, |out| out.extend_from_slice(&bytes));
        relay.cancel_if_wanted(core.uid, &mut core.own, turn);
    }
}

/// A response to an INVITE whose sender has its 487: it is acknowledged, and goes no further.
pub(super) fn on_response(
    core: &mut Core,
    turn: &mut Turn<'_>,
    at: usize,
    how: &OnResponse,
    response: &Message<&[u8]>,
) {
    let relay = &mut core.relays[at];
    match LegEvent::of(response.status().unwrap_or(100)) {
        LegEvent::Trying | LegEvent::Progress => relay.cancel_if_wanted(core.uid, &mut core.own, turn),
        LegEvent::Answered => {
            relay.accepted = true;
            let (leg, cseq) = (&relay.branch.leg, relay.branch.cseq);
            let id = turn.branch(Method::Ack);
            let via = identity::via(turn.settings, &leg.flow, id, None);
            let mut ack = Vec::with_capacity(512);
            message::own_ack(&mut ack, leg, cseq, &via);
            turn.send(leg.flow, Method::Ack, Sent::InDialog, None, |out| out.extend_from_slice(&ack));
            relay.ack = Some(Raw::from(ack));
        }
        LegEvent::Challenged | LegEvent::Failed(_) => {
            if matches!(how, OnResponse::Final { needs_ack: true, .. }) {
                ack_failure(turn, &relay.branch, relay.client, response);
            }
            core.relays.swap_remove(at);
        }
    }
}
