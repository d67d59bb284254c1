//! After a restart: every call that the journal knows is taken up again or brought to its end (DESIGN.md §6 "Redo after a
//! crash"). Whatever was under way when the process died, no leg stays alive on either side, and nothing is said twice that
//! the other side would not take as a repetition.

use super::attempt::Attempt;
use super::call::{Call, Core, State, owner};
use super::cdr::{Clock, Moment, Outcome, Reason};
use super::dismissal;
use super::identity;
use super::leg::Leg;
use super::message;
use super::offer::Agreement;
use super::raw::Raw;
use super::state::{Answered, Ending};
use super::timers::Resend;
use super::watch::{Interval, Watch};
use super::{overtaken, reinvite};
use crate::contract::Release;
use crate::facts::call as facts;
use crate::state::calls::{CallState, REDO_WINDOW, Redo, Stage};
use crate::state::underway::Open;
use crate::turn::Turn;
use signalbox_base::{CallUid, EventSeq, Mono, TenantId, Wall};
use signalbox_schemas::words::{Completeness, ReleasedBy};
use signalbox_sip::Method;
use signalbox_sip::transaction::Timing;

/// Failures of before a restart that are repeated until they are acknowledged, at most: most of them were, and nobody recorded
/// it. The others are said once.
pub(crate) const FAILURES_REPEATED_MAX: u32 = 512;

/// Takes up one call. `died` is the wall time of the last record before the restart; `probe_at` is when this call's ends are
/// asked; `repeats` is how many failures may still be repeated. `None` for one that is over and done with.
pub(crate) fn recall(
    turn: &mut Turn<'_>,
    uid: CallUid,
    known: &CallState,
    died: Wall,
    probe_at: Mono,
    repeats: &mut u32,
) -> Option<Call> {
    let tenant: TenantId = known.tenant.parse().ok()?;
    let mut core = core_of(uid, tenant, known);
    let state = match known.stage {
        Stage::Inviting => unanswered(&mut core, turn, known),
        Stage::Answered => answered(&mut core, turn, known, died, probe_at)?,
        Stage::Ended if died.since(known.touched) < REDO_WINDOW => ended(&mut core, turn, known, repeats)?,
        Stage::Ended => return None,
    };
    Some(Call { core, state })
}

fn core_of(uid: CallUid, tenant: TenantId, known: &CallState) -> Core {
    let cdr = known.cdr().cloned().unwrap_or_default();
    let recalled = |at: Option<signalbox_schemas::values::Timestamp>| at.map(|at| Moment::recalled(at.0));
    Core {
        uid,
        name: identity::name_of(uid),
        tenant,
        hide: known.branches.iter().any(|branch| branch.leg.call_id != known.caller.call_id),
        caller: known.caller.clone(),
        caller_tx: None,
        cookie: 0,
        clock: Clock {
            invited: Moment::recalled(cdr.invited_at.0),
            progressed: recalled(cdr.first_progress_at),
            answered: recalled(cdr.answered_at),
        },
        last: Some(known.last()),
        unrecorded: None,
        agreement: Agreement { holding: known.holding, codecs: cdr.codecs, ..Agreement::default() },
        relays: Vec::new(),
        number: 0,
        own: 0,
        timer: None,
        new_legs: Vec::new(),
        tokens: Default::default(),
        call_ids: Default::default(),
        silent: Default::default(),
    }
}

/// CANCEL to whatever rings, 503 to the caller.
fn unanswered(core: &mut Core, turn: &mut Turn<'_>, known: &CallState) -> State {
    let mut bytes = Vec::with_capacity(512);
    let tag = core.own_tag(turn);
    if let Some(invite) = &known.invite {
        message::own_response(&mut bytes, Method::Invite, &core.caller.call_id, invite, &tag, 503);
    }
    let mut base = core.base(turn);
    base.completeness = Completeness::Recovered;
    let ringing = core.clock.progressed.is_some();
    let how = Outcome::failed(ReleasedBy::Edge, 503, ringing, Reason::own("the edge restarted"));
    let ended = Moment::seen(turn.now);
    let outcome = facts::Outcome { clock: &core.clock, ended, estimated: false, how };
    let fact = facts::failed(&core.about(), base, outcome, &bytes, turn.now.wall);
    let seq = core.record(turn, fact);
    turn.counters.calls_failed += 1;
    let resend = say(turn, core, &bytes, seq);
    let attempts = cancel_all(core, turn, known, None);
    over(attempts, turn, resend)
}

/// The dialog goes on with CSeqs that nobody has used; its 2xx is said again if that was recent.
fn answered(
    core: &mut Core,
    turn: &mut Turn<'_>,
    known: &CallState,
    died: Wall,
    probe_at: Mono,
) -> Option<State> {
    let winner = known.winner?;
    let mut callee: Leg = known.callee()?.clone();
    core.caller.jump();
    callee.jump();
    let gap = super::cdr::millis(turn.now.wall.since(died));
    let fact = facts::recovered(turn, &core.about(), gap, &core.caller, &callee);
    core.record(turn, fact);
    core.debug_assert_folded(turn, &callee);
    let branch = known.branches.iter().find(|branch| branch.attempt == winner)?;
    let (mut cseqs, mut resend, mut attempts) = ((0, branch.cseq), None, Vec::new());
    if let Redo::Answer(answer) = &known.redo {
        cseqs = (answer.cseq_in, answer.cseq_out);
        let recent = known
            .cdr()
            .and_then(|cdr| cdr.answered_at)
            .is_some_and(|at| turn.now.wall.since(at.0) < REDO_WINDOW);
        if recent {
            resend = say(turn, core, &answer.bytes, known.last());
            attempts = cancel_all(core, turn, known, Some(winner));
        }
    }
    let open: Vec<Open> = known.open(turn.now.wall).cloned().collect();
    reinvite::recall_all(core, turn, &callee, &open);
    let interval = Interval::recalled(known.session_secs);
    let watch = Watch::recalled(core, turn, interval, (probe_at, Moment::recalled(died)));
    let state = Answered::new(callee, winner, cseqs, attempts, turn, watch);
    Some(State::Answered(state.recalled(turn, resend)))
}

/// The last words once more: BYE to the end that may not have heard it, or the final failure and the CANCELs.
fn ended(core: &mut Core, turn: &mut Turn<'_>, known: &CallState, repeats: &mut u32) -> Option<State> {
    match &known.redo {
        Redo::Bye { caller, callee } => {
            let (tell_caller, tell_callee) = (*caller, *callee);
            let mut leg: Leg = known.callee()?.clone();
            core.caller.jump();
            leg.jump();
            let mut own = core.caller.clone();
            if tell_callee {
                core.send_own(turn, Method::Bye, &mut leg, own.seen, None, (owner::OWN, 0));
            }
            if tell_caller {
                core.send_own(turn, Method::Bye, &mut own, leg.seen, None, (owner::OWN, 0));
            }
            core.caller = own;
            // An answer just before the end left losers that may not have heard their CANCEL.
            let attempts = cancel_all(core, turn, known, known.winner);
            // Who sent an INVITE inside the dialog may not have heard that it is over.
            let open: Vec<Open> = known.open(turn.now.wall).cloned().collect();
            reinvite::recall_all(core, turn, &leg, &open);
            overtaken::terminate(core, turn);
            // Whose BYE it was is known, its CSeq is not.
            Some(State::Ending(Ending::of_dialog(attempts, turn, [None; 2])))
        }
        Redo::Failure { bytes } => {
            // Whoever has not acknowledged it within 64·T1 has given up by its own timers (RFC 3261 §17.1.1.2).
            let age = turn.now.wall.since(known.touched);
            let mut resend = None;
            if age < timing(turn).give_up() {
                resend = say(turn, core, bytes, known.last()).map(|resend| resend.aged(age));
                match repeats.checked_sub(u32::from(resend.is_some())) {
                    Some(left) => *repeats = left,
                    None => resend = None,
                }
            } else if known.dismissed().is_empty() {
                return None;
            }
            let attempts = cancel_all(core, turn, known, None);
            Some(over(attempts, turn, resend))
        }
        Redo::Nothing | Redo::Answer(_) => None,
    }
}

/// CANCEL to every attempt but the winner. Their transactions are opened again, so that a late answer finds its ACK and BYE.
/// Answers that nobody wanted get theirs again.
fn cancel_all(core: &mut Core, turn: &mut Turn<'_>, known: &CallState, winner: Option<u32>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for branch in known.branches.iter().filter(|branch| Some(branch.attempt) != winner) {
        let of_branch = known.dismissed().iter().filter(|dismissed| dismissed.attempt == branch.attempt);
        let dismissed = of_branch.map(|dismissed| dismissed.leg.clone()).collect();
        attempts.push(Attempt::recalled(core, turn, branch, dismissed));
    }
    for dismissed in known.dismissed() {
        dismissal::again(core, turn, dismissed);
    }
    attempts
}

/// Sends a final response of before the restart, and goes on until it is acknowledged.
fn say(turn: &mut Turn<'_>, core: &Core, bytes: &[u8], seq: EventSeq) -> Option<Resend> {
    if bytes.is_empty() {
        return None;
    }
    let flow = core.caller.flow;
    turn.send_as(flow, Release::After(seq), |out| out.extend_from_slice(bytes));
    Some(Resend::new(Raw::from(bytes), flow, &timing(turn), turn.now.mono))
}

fn timing(turn: &Turn<'_>) -> Timing {
    let timers = &turn.settings.timers;
    Timing { t1: timers.t1, t2: timers.t2, t4: timers.t4, timer_c: None }
}

fn over(attempts: Vec<Attempt>, turn: &Turn<'_>, resend: Option<Resend>) -> State {
    let mut ending = Ending::of(attempts, turn);
    ending.resend = resend;
    State::Ending(ending)
}
