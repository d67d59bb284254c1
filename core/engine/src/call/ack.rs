//! ACKs of INVITEs that were accepted, from one leg to the other (RFC 3261 §13.2.2.4).

use super::call::{Core, next_hop};
use super::identity;
use super::leg::{End, Leg};
use super::message::{self, Relayed};
use super::offer::Description;
use super::raw::Raw;
use crate::classes::Sent;
use crate::turn::Turn;
use signalbox_base::TenantId;
use signalbox_sip::{Message, Method};

/// The ACK of an accepted INVITE. Gives the offer and answer that it completes; the outer `None` means no such INVITE.
pub(crate) fn on_ack(
    core: &mut Core,
    turn: &mut Turn<'_>,
    from: End,
    onward: &Leg,
    request: &Message<&[u8]>,
) -> Option<Option<(End, Description, Description)>> {
    let cseq = request.cseq().number;
    let relay = core
        .relays
        .iter_mut()
        .find(|relay| relay.accepted && relay.from == from && relay.pending.cseq == cseq)?;
    let now = turn.now.mono;
    turn.net.transactions_mut().acked(relay.server, now);
    let first = relay.ack.is_none();
    relay.ack = forward(turn, &core.tenant, &relay.back, onward, relay.branch.cseq, request);
    let agreed = match (relay.late_offer.take(), Description::of(request)) {
        (Some(offer), Some(answer)) if first => Some((from.other(), offer, answer)),
        _ => None,
    };
    Some(agreed)
}

/// Writes an ACK of `by` onto a leg and sends it; gives its bytes, to be repeated with each repetition of the 2xx.
pub(crate) fn forward(
    turn: &mut Turn<'_>,
    tenant: &TenantId,
    by: &Leg,
    onward: &Leg,
    cseq: u32,
    request: &Message<&[u8]>,
) -> Option<Raw> {
    let hop = next_hop(onward);
    let id = turn.branch(Method::Ack);
    let via = identity::via(turn.settings, &hop, id, None);
    let mut bytes = turn.net.scratch();
    let relayed = Relayed { cseq, ..Relayed::new(tenant, &onward.target, &via, by) };
    message::relay_request(&mut bytes, turn.settings, request, onward, &relayed).ok()?;
    turn.send(hop, Method::Ack, Sent::InDialog, None, |out| out.extend_from_slice(&bytes));
    let sent = Raw::from(bytes.as_slice());
    turn.net.give_back(bytes);
    Some(sent)
}
