//! INVITEs inside the dialog across a restart.
//!
//! Each is recorded before it goes on and before its sender hears of it (`call.reinvited`), so another process knows both of
//! its transactions. It takes them up again: what the receiver still says reaches the sender, and a 2xx its ACK. The
//! INVITE itself is nobody's any more, so its receiver gets CANCEL; when nothing comes of it the sender gets 491, after which it
//! tries once more (RFC 3261 §14.1): 408 and 481 would end the dialog (§12.2.1.2), 487 is for who has cancelled.

use super::attempt::{branch_id, reopen};
use super::call::{Core, next_hop, owner};
use super::leg::{End, Leg};
use super::relay::{Done, Relay};
use crate::facts::call as facts;
use crate::fields::fields_of_pending;
use crate::state::calls::Branch;
use crate::state::underway::{Open, Reinvite};
use crate::turn::Turn;
use signalbox_base::{EventSeq, Flow, Mono};
use signalbox_sip::Method;
use signalbox_sip::transaction::NewServer;

/// What the sender of an INVITE hears that a restart has lost.
const LOST: u16 = 491;

/// What is peculiar to an INVITE of a process that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recalled {
    /// Its receiver knows no such INVITE to cancel: it never had it, or has answered, and repeats a 2xx within T2. Its
    /// sender waits until then.
    pub(crate) lost_at: Option<Mono>,
    /// Its sender has cancelled it too.
    pub(crate) given_up: bool,
}

/// Records an INVITE that goes on, before it does.
pub(crate) fn record(
    core: &mut Core,
    turn: &mut Turn<'_>,
    (caller, callee): (&Leg, &Leg),
    relay: &Relay,
    flow: Flow,
) -> EventSeq {
    let Branch { via, uri, cseq, .. } = &relay.branch;
    let reinvite = Reinvite {
        from: relay.from,
        flow,
        invite: relay.pending.clone(),
        via: via.clone(),
        uri: uri.clone(),
        cseq: *cseq,
        moved: relay.moved,
        offer: relay.offer.clone(),
    };
    let fact = facts::reinvited(turn, &core.about(), reinvite, caller, callee);
    core.record(turn, fact)
}

/// Takes up the INVITEs that may be open. Those that a record says were accepted are left: [`redo`] takes one up when its 2xx
/// is repeated.
pub(crate) fn recall_all(core: &mut Core, turn: &mut Turn<'_>, callee: &Leg, open: &[Open]) {
    for open in open.iter().filter(|open| !open.settled) {
        let Some(number) = recall(core, turn, callee, &open.reinvite) else { continue };
        let uid = core.uid;
        let Some(relay) = core.relays.iter_mut().find(|relay| relay.number == number) else { continue };
        relay.cancelled = true;
        relay.cancel_if_wanted(uid, &mut core.own, turn);
    }
}

/// Takes up the INVITE whose 2xx bears this Via, so that it reaches the sender once more, whose ACK nobody has. Gives its
/// number.
pub(crate) fn redo(core: &mut Core, turn: &mut Turn<'_>, callee: &Leg, via: &[u8]) -> Option<u32> {
    let known = turn.state.calls().get(core.uid)?;
    let own = |open: &&Open| open.settled && branch_id(&open.reinvite.via) == branch_id(via);
    let known = known.open(turn.now.wall).find(own)?;
    // The record that says so has its move.
    let reinvite = Reinvite { moved: false, ..known.reinvite.clone() };
    recall(core, turn, callee, &reinvite)
}

fn recall(core: &mut Core, turn: &mut Turn<'_>, callee: &Leg, reinvite: &Reinvite) -> Option<u32> {
    let Reinvite { from, flow, invite, via, uri, cseq, moved, offer } = reinvite.clone();
    let (back, onward) = match from {
        End::Caller => (&core.caller, callee),
        End::Callee => (callee, &core.caller),
    };
    let mut branch = Branch { attempt: 0, leg: onward.clone(), via, uri, cseq };
    branch.leg.flow = next_hop(onward);
    let back = back.clone();
    let number = core.number + 1;
    let user = core.user(owner::RELAY, number);
    let key = turn.net.hasher.key(&fields_of_pending(&invite, &back.call_id, &flow)?);
    let new = NewServer { key, invite: true, flow, trying_after: None, repeat_2xx: true };
    let now = turn.now.mono;
    let server = turn.net.transactions_mut().open(new, user, now).ok()?;
    let client = reopen(turn, &branch, user);
    core.number = number;
    core.relays.push(Relay {
        number,
        from,
        method: Method::Invite,
        server,
        client,
        pending: invite,
        back,
        branch,
        offer,
        late_offer: None,
        moved,
        accepted: false,
        cancelled: false,
        terminated: false,
        transfer: None,
        recalled: Some(Recalled::default()),
        ack: None,
    });
    Some(number)
}

/// One end sends another INVITE: the one it had open before the restart had its answer, or it would have waited (RFC 3261
/// §14.1).
pub(crate) fn supersede(core: &mut Core, turn: &mut Turn<'_>, from: End) {
    let old = |relay: &Relay| relay.from == from && relay.recalled.is_some() && !relay.accepted;
    while let Some(at) = core.relays.iter().position(old) {
        let relay = core.relays.swap_remove(at);
        withdraw(turn, &relay);
        turn.net.table.abandon(relay.server, &mut turn.net.outputs);
    }
}

fn withdraw(turn: &mut Turn<'_>, relay: &Relay) {
    let Some(client) = relay.client else { return };
    turn.net.table.withdraw(client, &mut turn.net.outputs);
}

/// The CANCEL of such an INVITE was refused. Its receiver may have answered just before.
pub(crate) fn on_uncancelled(core: &mut Core, turn: &Turn<'_>, number: u32) {
    let timers = &turn.settings.timers;
    let until = turn.now.mono.plus(timers.t2.saturating_add(timers.t1));
    let relay = core.relays.iter_mut().find(|relay| relay.number == number);
    if let Some(recalled) = relay.and_then(|relay| relay.recalled.as_mut()) {
        recalled.lost_at = Some(until);
    }
}

/// When something is to be done.
pub(crate) fn due(core: &Core) -> Option<Mono> {
    core.relays.iter().filter_map(Relay::lost_at).min()
}

/// An INVITE of which nothing is heard any more. `Some` when its sender must be told; asked until it is none.
pub(crate) fn on_due(core: &mut Core, turn: &mut Turn<'_>) -> Option<Done> {
    while let Some(at) =
        core.relays.iter().position(|relay| relay.lost_at().is_some_and(|lost| lost <= turn.now.mono))
    {
        let relay = core.relays.swap_remove(at);
        withdraw(turn, &relay);
        if !relay.terminated {
            return Some(lost(&relay));
        }
    }
    None
}

/// The answer to its sender.
pub(crate) fn lost(relay: &Relay) -> Done {
    Done::own(relay, status_for(relay, 487))
}

/// The status that its sender gets for what its receiver said.
pub(crate) fn status_for(relay: &Relay, status: u16) -> u16 {
    // The CANCEL was ours, its sender knows of none.
    let ours = relay.recalled.is_some_and(|recalled| !recalled.given_up);
    if ours && status == 487 { LOST } else { status }
}
