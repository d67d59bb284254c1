//! Folds events of calls. The only writer of [`crate::state::calls`].

use crate::call::leg::End;
use crate::state::calls::{CallPrivate, CallState, Calls, Recent, Redo, Stage};
use signalbox_base::{CallUid, Wall};
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
pub(crate) fn apply(calls: &mut Calls, at: At, tenant: &str, event: &Event, private: Option<&CallPrivate>) {
    calls.prune(at.wall);
    if let Event::CallAttempted(data) = event {
        attempted(calls, at, tenant, data, private);
        return;
    }
    let Some(call) = calls.by_uid.get_mut(&at.uid) else { return };
    call.cdr.last_sequence = at.id.seq;
    call.touched = at.wall;
    match event {
        Event::CallRouted(data) => routed(call, data, private),
        Event::CallProgressed(data) => progressed(call, at.wall, data),
        Event::CallAnswered(data) => {
            answered(call, at.wall, data, private);
            calls.recent.push_back(Recent { wall: at.wall, uid: at.uid, ended: false });
        }
        Event::CallModified(data) => {
            if !data.codecs.is_empty() {
                call.cdr.codecs.clone_from(&data.codecs);
            }
            hold(call, data);
            legs(call, private);
        }
        Event::CallCheckpointed(data) => {
            call.checkpoints = data.checkpoint;
            legs(call, private);
        }
        Event::CallRecovered(_) => {
            call.cdr.completeness = Completeness::Recovered;
            legs(call, private);
        }
        Event::CallEnded(_) | Event::CallFailed(_) => ended(calls, at, private),
        _ => {}
    }
}

fn attempted(calls: &mut Calls, at: At, tenant: &str, data: &CallAttempted, private: Option<&CallPrivate>) {
    let Some(CallPrivate::Attempted { leg, invite }) = private else { return };
    let tenant = signalbox_base::Text::new(tenant);
    *calls.active.entry(tenant.clone()).or_insert(0) += 1;
    let call = CallState {
        tenant,
        stage: Stage::Inviting,
        cdr: Box::new(begun(at, data)),
        caller: (**leg).clone(),
        invite: Some((**invite).clone()),
        branches: Vec::new(),
        winner: None,
        holding: [false; 2],
        redo: Redo::Nothing,
        touched: at.wall,
        checkpoints: 0,
    };
    calls.by_uid.insert(at.uid, call);
}

fn begun(at: At, data: &CallAttempted) -> Cdr {
    Cdr {
        edge: data.edge.clone(),
        flow: data.flow,
        cdr_id: at.id,
        call_uid: at.uid,
        side: data.side,
        direction: data.direction,
        session_id: data.session_id.clone(),
        ingress_call_id: data.call_id.clone(),
        caller: data.caller.clone(),
        caller_e164: data.caller_e164.clone(),
        callee: data.callee.clone(),
        callee_e164: data.callee_e164.clone(),
        diversion: data.diversion.clone(),
        ingress_kind: data.ingress_kind,
        ingress_peer: data.ingress_peer.clone(),
        invited_at: at.wall.into(),
        completeness: Completeness::Normal,
        first_sequence: at.id.seq,
        last_sequence: at.id.seq,
        ..Cdr::default()
    }
}

fn routed(call: &mut CallState, data: &CallRouted, private: Option<&CallPrivate>) {
    call.cdr.attempts = call.cdr.attempts.max(data.attempt);
    egress(&mut call.cdr, data);
    if let Some(CallPrivate::Routed { branch, invite }) = private {
        call.cdr.egress_call_id = Some(branch.leg.call_id.text());
        call.branches.push((**branch).clone());
        call.invite = Some((**invite).clone());
    }
}

fn egress(cdr: &mut Cdr, data: &CallRouted) {
    cdr.egress_kind = Some(match data.target.kind {
        TargetKind::Contact => PeerKind::Endpoint,
        TargetKind::Backend => PeerKind::Backend,
        TargetKind::Trunk => PeerKind::Trunk,
        TargetKind::Unknown => PeerKind::Unknown,
    });
    cdr.egress_peer = Some(data.target.name.clone());
    cdr.route.clone_from(&data.why.rule);
}

fn progressed(call: &mut CallState, wall: Wall, data: &CallProgressed) {
    if call.cdr.first_progress_at.is_none() {
        call.cdr.first_progress_at = Some(wall.into());
        call.cdr.pdd_ms = Some(data.pdd_ms);
    }
}

fn answered(call: &mut CallState, wall: Wall, data: &CallAnswered, private: Option<&CallPrivate>) {
    call.stage = Stage::Answered;
    call.invite = None;
    call.cdr.answered_at = Some(wall.into());
    call.cdr.setup_ms = Some(data.setup_ms);
    call.cdr.status = data.status;
    call.cdr.codecs.clone_from(&data.codecs);
    call.cdr.egress_peer = Some(data.peer.clone());
    call.winner = Some(data.attempt);
    if let Some(CallPrivate::Answered { caller, callee, answer }) = private {
        call.caller = (**caller).clone();
        call.cdr.egress_call_id = Some(callee.call_id.text());
        if let Some(leg) = call.leg_mut(End::Callee) {
            *leg = (**callee).clone();
        }
        call.redo = Redo::Answer((**answer).clone());
    }
}

fn hold(call: &mut CallState, data: &CallModified) {
    let end = usize::from(data.by == Party::Callee);
    match data.kind {
        ModificationKind::Hold => call.holding[end] = true,
        ModificationKind::Resume => call.holding[end] = false,
        _ => {}
    }
}

fn legs(call: &mut CallState, private: Option<&CallPrivate>) {
    if let Some(CallPrivate::Legs { caller, callee }) = private {
        call.caller = (**caller).clone();
        if let Some(leg) = call.leg_mut(End::Callee) {
            *leg = (**callee).clone();
        }
    }
}

fn ended(calls: &mut Calls, at: At, private: Option<&CallPrivate>) {
    let Some(call) = calls.by_uid.get_mut(&at.uid) else { return };
    if call.stage == Stage::Ended {
        return;
    }
    call.stage = Stage::Ended;
    call.redo = match private {
        Some(CallPrivate::Ended { bye_caller, bye_callee }) => {
            Redo::Bye { caller: *bye_caller, callee: *bye_callee }
        }
        Some(CallPrivate::Failed { bytes }) => Redo::Failure { bytes: bytes.clone() },
        _ => Redo::Nothing,
    };
    let tenant = call.tenant.clone();
    if let Some(count) = calls.active.get_mut(&tenant) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            calls.active.remove(&tenant);
        }
    }
    calls.recent.push_back(Recent { wall: at.wall, uid: at.uid, ended: true });
}
