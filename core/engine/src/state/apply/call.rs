//! Folds events of calls. The only writer of [`crate::state::calls`].

use crate::call::leg::LegChange;
use crate::state::calls::{Attempted, Branch, CallPrivate, CallState, Calls, Redo, Stage};
use crate::state::underway::{Dismissed, OPEN_MAX, Open};
use signalbox_base::{CallUid, Text, Wall};
use signalbox_schemas::Event;
use signalbox_schemas::call::{CallAnswered, CallAttempted, CallModified, CallProgressed, CallRouted, Cdr};
use signalbox_schemas::values::EventId;
use signalbox_schemas::words::{Completeness, ModificationKind, Party, PeerKind, TargetKind};

/// Where and when a record stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) id: EventId,
    pub(crate) wall: Wall,
    pub(crate) uid: CallUid,
}

/// Folds one event of the call domain. `tenant` is the record's. An event of a call that is not known changes nothing: its
/// beginning was pruned with an older journal.
pub(crate) fn apply(calls: &mut Calls, at: At, tenant: Text, event: Event, private: Option<CallPrivate>) {
    calls.prune(at.id.seq, at.wall);
    let event = match event {
        Event::CallAttempted(data) => return attempted(calls, at, tenant, *data, private),
        other => other,
    };
    let Some(call) = calls.get_mut(at.uid) else { return };
    call.last = at.id.seq;
    // What came too late says nothing new of the call.
    if !matches!(event, Event::CallDismissed(_)) {
        call.touched = at.wall;
    }
    if let Some(cdr) = &mut call.cdr {
        cdr.last_sequence = at.id.seq;
    }
    match event {
        Event::CallRouted(data) => calls.change(at.uid, |call| routed(call, *data, private)),
        Event::CallProgressed(data) => progressed(call, at.wall, &data),
        Event::CallAnswered(data) => {
            calls.change(at.uid, |call| answered(call, at.wall, *data, private));
            calls.mark(at.uid, Stage::Answered, at.id.seq, at.wall);
        }
        Event::CallModified(data) => modified(call, *data, private),
        Event::CallReinvited(_) => reinvited(call, at.wall, private),
        Event::CallDismissed(data) => dismissed(call, data.attempt, private),
        Event::CallCheckpointed(data) => {
            call.checkpoints = data.checkpoint;
            call.forget_underway(|underway| {
                underway.reinvites.retain(|open| at.wall.since(open.at) < OPEN_MAX);
            });
            legs(call, private);
        }
        Event::CallRecovered(_) => {
            if let Some(cdr) = &mut call.cdr {
                cdr.completeness = Completeness::Recovered;
            }
            legs(call, private);
        }
        Event::CallTransferred(_) => legs(call, private),
        Event::CallEnded(_) | Event::CallFailed(_) => ended(calls, at, private),
        _ => {}
    }
}

fn attempted(calls: &mut Calls, at: At, tenant: Text, data: CallAttempted, private: Option<CallPrivate>) {
    let Some(CallPrivate::Attempted { leg, invite }) = private else { return };
    let call = CallState {
        tenant: tenant.clone(),
        stage: Stage::Inviting,
        cdr: Some(Box::new(begun(at, tenant, data))),
        last: at.id.seq,
        caller: leg,
        invite: Some(invite),
        branches: Vec::new(),
        winner: None,
        holding: [false; 2],
        redo: Redo::Nothing,
        touched: at.wall,
        checkpoints: 0,
        marked: None,
        underway: None,
        session_secs: 0,
    };
    calls.insert(at.uid, call);
}

fn begun(at: At, tenant: Text, data: CallAttempted) -> Cdr {
    Cdr {
        edge: data.edge,
        flow: data.flow,
        cdr_id: at.id,
        tenant,
        call_uid: at.uid,
        side: data.side,
        direction: data.direction,
        session_id: data.session_id,
        ingress_call_id: data.call_id,
        caller: data.caller,
        caller_e164: data.caller_e164,
        callee: data.callee,
        callee_e164: data.callee_e164,
        diversion: data.diversion,
        ingress_kind: data.ingress_kind,
        ingress_peer: data.ingress_peer,
        invited_at: at.wall.into(),
        completeness: Completeness::Normal,
        first_sequence: at.id.seq,
        last_sequence: at.id.seq,
        ..Cdr::default()
    }
}

fn routed(call: &mut CallState, data: CallRouted, private: Option<CallPrivate>) {
    let told = match private {
        Some(CallPrivate::Routed { attempt, leg, invite }) => Some((attempt, leg, invite, None)),
        Some(CallPrivate::RoutedAs { attempt, leg, invite, local }) => {
            Some((attempt, leg, invite, Some(local)))
        }
        _ => None,
    };
    if let Some((Attempted { token, peer, via, uri, cseq }, change, invite, local)) = told {
        let mut leg = call.caller.mirrored(token, peer);
        leg.local = local.unwrap_or(leg.local);
        if let Some(change) = change {
            change.apply(&mut leg);
        }
        let uri = uri.unwrap_or_else(|| leg.target.clone());
        // Most calls are tried once.
        call.branches.reserve_exact(1);
        call.branches.push(Branch { attempt: data.attempt, leg, via, uri, cseq });
        call.invite = invite.or(call.invite.take());
    }
    let same_id = call.branches.last().filter(|last| last.leg.call_id == call.caller.call_id).is_some();
    let Some(cdr) = &mut call.cdr else { return };
    cdr.attempts = cdr.attempts.max(data.attempt);
    cdr.egress_call_id = if same_id {
        Some(cdr.ingress_call_id.clone())
    } else {
        call.branches.last().map(|last| last.leg.call_id.text())
    };
    egress(cdr, data);
}

fn egress(cdr: &mut Cdr, data: CallRouted) {
    cdr.egress_kind = Some(match data.target.kind {
        TargetKind::Contact => PeerKind::Endpoint,
        TargetKind::Backend => PeerKind::Backend,
        TargetKind::Trunk => PeerKind::Trunk,
        TargetKind::Unknown => PeerKind::Unknown,
    });
    cdr.egress_peer = Some(data.target.name);
    cdr.route = data.why.rule;
}

fn progressed(call: &mut CallState, wall: Wall, data: &CallProgressed) {
    if let Some(cdr) = call.cdr.as_mut().filter(|cdr| cdr.first_progress_at.is_none()) {
        cdr.first_progress_at = Some(wall.into());
        cdr.pdd_ms = Some(data.pdd_ms);
    }
}

fn answered(call: &mut CallState, wall: Wall, data: CallAnswered, private: Option<CallPrivate>) {
    call.invite = None;
    call.winner = Some(data.attempt);
    call.session_secs = seconds(data.session_interval_ms);
    if let Some(CallPrivate::Answered { caller, callee, answer }) = private {
        change(call, caller, callee);
        call.redo = Redo::Answer(answer);
    }
    let other_id = call.callee().filter(|leg| leg.call_id != call.caller.call_id);
    let egress_call_id = other_id.map(|leg| leg.call_id.text());
    let Some(cdr) = &mut call.cdr else { return };
    cdr.answered_at = Some(wall.into());
    cdr.setup_ms = Some(data.setup_ms);
    cdr.status = data.status;
    cdr.codecs = data.codecs;
    cdr.egress_peer = Some(data.peer);
    cdr.egress_call_id = Some(egress_call_id.unwrap_or_else(|| cdr.ingress_call_id.clone()));
}

fn modified(call: &mut CallState, data: CallModified, private: Option<CallPrivate>) {
    let end = usize::from(data.by == Party::Callee);
    call.session_secs = seconds(data.session_interval_ms);
    match data.kind {
        ModificationKind::Hold => call.holding[end] = true,
        ModificationKind::Resume => call.holding[end] = false,
        _ => {}
    }
    if let Some(cdr) = call.cdr.as_mut().filter(|_| !data.codecs.is_empty()) {
        cdr.codecs = data.codecs;
    }
    if let Some(underway) = &mut call.underway {
        // Whose INVITE it was is plain when there is one; who answers may change something too.
        let alone = underway.reinvites.len() == 1;
        let accepted = |open: &&mut Open| alone || open.reinvite.from.party() == data.by;
        underway.reinvites.iter_mut().filter(accepted).for_each(|open| open.settled = true);
    }
    legs(call, private);
}

fn seconds(interval_ms: Option<u64>) -> u32 {
    interval_ms.map_or(0, |ms| u32::try_from(ms / 1_000).unwrap_or(u32::MAX))
}

fn reinvited(call: &mut CallState, wall: Wall, private: Option<CallPrivate>) {
    let Some(CallPrivate::Reinvited { caller, callee, reinvite }) = private else { return };
    change(call, caller, callee);
    let open = &mut call.underway.get_or_insert_default().reinvites;
    // Its sender has no other that is open (RFC 3261 §14.1).
    open.retain(|other| other.reinvite.from != reinvite.from);
    open.reserve_exact(1);
    open.push(Open { reinvite, at: wall, settled: false });
}

fn dismissed(call: &mut CallState, attempt: u32, private: Option<CallPrivate>) {
    let Some(CallPrivate::Dismissed { leg: change }) = private else { return };
    let Some(branch) = call.branch(attempt) else { return };
    let (mut leg, cseq) = (branch.leg.clone(), branch.cseq);
    change.apply(&mut leg);
    call.underway.get_or_insert_default().dismissed.push(Dismissed { attempt, leg, cseq });
}

fn legs(call: &mut CallState, private: Option<CallPrivate>) {
    if let Some(CallPrivate::Legs { caller, callee }) = private {
        change(call, caller, callee);
    }
}

/// Both legs of a dialog as they are from now on.
fn change(call: &mut CallState, caller: Option<LegChange>, callee: Option<LegChange>) {
    if let Some(caller) = caller {
        caller.apply(&mut call.caller);
    }
    let winner = call.winner;
    let branch = call.branches.iter_mut().find(|branch| Some(branch.attempt) == winner);
    if let (Some(branch), Some(callee)) = (branch, callee) {
        callee.apply(&mut branch.leg);
    }
}

fn ended(calls: &mut Calls, at: At, private: Option<CallPrivate>) {
    let Some(call) = calls.get_mut(at.uid) else { return };
    if call.stage == Stage::Ended {
        return;
    }
    let redo = match private {
        Some(CallPrivate::Ended { bye_caller, bye_callee }) => {
            Redo::Bye { caller: bye_caller, callee: bye_callee }
        }
        Some(CallPrivate::Failed { bytes }) => Redo::Failure { bytes },
        _ => Redo::Nothing,
    };
    calls.change(at.uid, |call| (call.cdr, call.invite, call.redo) = (None, None, redo));
    calls.mark(at.uid, Stage::Ended, at.id.seq, at.wall);
}
