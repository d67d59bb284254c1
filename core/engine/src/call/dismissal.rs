//! A dialog that nobody wants: the answer of an attempt that lost, or that came after the caller had given up. It gets its ACK
//! and then BYE (RFC 3261 §13.2.2.4).
//!
//! With the ACK its peer stops repeating the 2xx, and nothing would tell another process of the dialog: so both wait for the
//! record of it, by which [`again`] ends it once more after a crash.

use super::call::{Core, next_hop, owner};
use super::identity;
use super::leg::Leg;
use super::message;
use crate::contract::{ClassB, Release};
use crate::facts::call as facts;
use crate::state::underway::Dismissed;
use crate::turn::Turn;
use signalbox_sip::{Message, Method};

/// Ends it. `leg` is the dialog, `cseq` the CSeq number of its INVITE, `status` the answer's.
pub(crate) fn dismiss(
    core: &mut Core,
    turn: &mut Turn<'_>,
    attempt: u32,
    leg: &mut Leg,
    cseq: u32,
    status: u16,
) {
    leg.sent = leg.sent.max(cseq);
    // A call that left no record (noise, DESIGN.md §6) is nobody's to take up again.
    let fact = core.last.and_then(|_| facts::dismissed(turn, &core.about(), attempt, status, leg));
    if let Some(fact) = fact {
        core.record(turn, fact);
        debug_assert!(
            turn.state.calls().get(core.uid).is_some_and(|call| {
                call.dismissed().last().is_some_and(|known| known.leg == *leg && known.cseq == cseq)
            }),
            "the dismissed dialog of attempt {attempt} of {}",
            core.uid
        );
    }
    acknowledge(core, turn, leg, cseq);
    core.send_own(turn, Method::Bye, leg, 0, None, (owner::DISMISSAL, 0));
}

/// The same of a process that is gone: ACK and BYE may not have left, or not arrived.
pub(crate) fn again(core: &mut Core, turn: &mut Turn<'_>, known: &Dismissed) {
    repeat(core, turn, known, owner::DISMISSAL);
}

/// The BYE was answered. Who would not have it, because it overtook the ACK, gets another.
pub(crate) fn on_response(core: &mut Core, turn: &mut Turn<'_>, response: &Message<&[u8]>) {
    if matches!(response.status(), None | Some(..=299 | 408 | 481)) {
        return;
    }
    let tag = response.to_tag().unwrap_or_default();
    let known = turn.state.calls().get(core.uid).map_or(&[][..], |call| call.dismissed());
    let Some(known) = known.iter().find(|known| *known.leg.remote_tag == *tag).cloned() else { return };
    repeat(core, turn, &known, owner::OWN);
}

/// ACK and BYE once more, with numbers above all that were sent; `by` owns the BYE.
fn repeat(core: &mut Core, turn: &mut Turn<'_>, known: &Dismissed, by: u8) {
    let mut leg = known.leg.clone();
    leg.jump();
    acknowledge(core, turn, &leg, known.cseq);
    core.send_own(turn, Method::Bye, &mut leg, 0, None, (by, 0));
}

/// An ACK of our own to a 2xx of an INVITE with this CSeq number. It does not overtake the call's last record.
pub(crate) fn acknowledge(core: &Core, turn: &mut Turn<'_>, leg: &Leg, cseq: u32) {
    let flow = next_hop(leg);
    let branch = turn.branch(Method::Ack);
    let via = identity::via(turn.settings, &flow, branch, None);
    let record = core.last.filter(|last| !turn.net.is_durable(*last));
    let release = record.map_or(Release::Now(ClassB::Ack), Release::After);
    turn.send_as(flow, release, |out| message::own_ack(out, leg, cseq, &via));
}
