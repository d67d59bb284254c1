//! Facts of calls: what the calls' room decided, as events.

use super::Fact;
use super::uri::{public, public_text};
use crate::call::cdr::{self, Clock, Moment, stage};
use crate::call::leg::{End, Leg, LegChange};
use crate::call::offer;
use crate::call::transfer::Transfer;
use crate::call::watch::Interval;
use crate::routing::{e164_of, path_of};
use crate::state::calls::{Answer, Attempted, Branch, CallPrivate, CallState, PendingRequest};
use crate::state::underway::Reinvite;
use crate::state::{BindingKey, Private};
use crate::tenancy::{Origin, OriginKind};
use crate::turn::Turn;
use signalbox_base::{CallUid, EventSeq, Flow, TenantId, Text, Wall};
use signalbox_schemas::Event;
use signalbox_schemas::call::{
    CallAnswered, CallAttempted, CallCheckpointed, CallDismissed, CallFailed, CallModified, CallProgressed,
    CallRecovered, CallReinvited, CallRouted, CallTransferred, Cdr, RouteTarget, RouteWhy,
};
use signalbox_schemas::words::{
    Completeness, Direction, FailureStage, IdentityVerdict, ModificationKind, PeerKind, RecoveryCause, Side,
    TransferOutcome,
};
use signalbox_sip::header::{HeaderName, NameAddr};
use signalbox_sip::sdp::Session;
use signalbox_sip::{Message, Uri};
use std::borrow::Cow;

/// Whose record it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) uid: CallUid,
    /// The uid as text.
    pub(crate) name: &'a Text,
    pub(crate) tenant: &'a TenantId,
    /// The call's record before this one; 0 for its first.
    pub(crate) last: EventSeq,
}

impl About<'_> {
    fn fact(&self, event: impl Into<Event>, private: Option<CallPrivate>, wall: Wall) -> Fact {
        let private = private.map_or(Private::None, Private::Call);
        Fact::new(event, self.name.clone(), wall)
            .tenant(self.tenant)
            .call(self.uid)
            .because(self.last)
            .private(private)
    }
}

/// What an INVITE outside a dialog says of itself; recorded when the noise rule lets it.
/// `name` is the peer it came from, `session` what it offers.
pub(crate) fn attempt_of<B: AsRef<[u8]>>(
    turn: &Turn<'_>,
    origin: &Origin,
    invite: &Message<B>,
    name: Text,
    session: Option<&Session<'_>>,
) -> CallAttempted {
    let (from, to) = (uri_of(invite.from().ok()), uri_of(invite.to().ok()));
    let ruri = invite.request_uri().map(public).unwrap_or_default();
    let (caller, callee) = (caller_of(turn, origin, invite), user_of(&ruri));
    let callee = if callee.is_empty() { user_of(&to) } else { callee };
    // A call to a contact token is a call to whom the token stands for: subscribers and records get the extension.
    let callee = called_by_token(turn, origin, &callee, path_of(invite)).unwrap_or(callee);
    let numbering = turn.settings.tenant(&origin.tenant).map(|tenant| &tenant.numbering);
    let (side, direction, ingress_kind) = match origin.kind {
        OriginKind::Endpoint { .. } => (Side::AccessIn, Direction::Outbound, PeerKind::Endpoint),
        OriginKind::Backend { .. } => (Side::AccessOut, Direction::Inbound, PeerKind::Backend),
        OriginKind::Trunk { .. } => (Side::TrunkIn, Direction::Inbound, PeerKind::Trunk),
    };
    CallAttempted {
        edge: turn.edge(),
        flow: Some((&origin.flow).into()),
        side,
        direction,
        session_id: invite.value(HeaderName::SessionId).map(session_id),
        call_id: Text::lossy(invite.call_id()),
        from_uri: from,
        to_uri: to,
        ruri,
        cseq: invite.cseq().number,
        caller_e164: e164_of(&caller, numbering),
        callee_e164: e164_of(&callee, numbering),
        caller,
        callee,
        diversion: diversion(origin, invite),
        ingress_kind,
        ingress_peer: name,
        user_agent: invite.value(HeaderName::UserAgent).map(|agent| turn.state.registrations().shared(agent)),
        sdp: session.map(offer::summary),
        identity: match invite.value(HeaderName::Identity) {
            Some(_) => IdentityVerdict::Unchecked,
            None => IdentityVerdict::Absent,
        },
    }
}

/// The call goes to a carrier.
pub(crate) fn towards_trunk(data: &mut CallAttempted) {
    if data.ingress_kind != PeerKind::Trunk {
        (data.side, data.direction) = (Side::TrunkOut, Direction::Outbound);
    }
}

/// Who diverted the call, as a backend says; a phone's word for it tells nothing that counts.
fn diversion<B: AsRef<[u8]>>(origin: &Origin, invite: &Message<B>) -> Vec<Text> {
    if origin.is_endpoint() {
        return Vec::new();
    }
    invite.values(HeaderName::Diversion).map(|value| uri_of(NameAddr::parse(value).ok())).collect()
}

fn called_by_token(turn: &Turn<'_>, origin: &Origin, user: &str, path: Option<BindingKey>) -> Option<Text> {
    let key = BindingKey::from_user(user.as_bytes()).or(path.filter(|_| origin.is_backend()))?;
    let aor = turn.state.registrations().aor_of(key)?;
    (aor.tenant() == origin.tenant.as_str()).then(|| Text::new(aor.user()))
}

/// `call.attempted`.
pub(crate) fn attempted(
    about: &About<'_>,
    data: Box<CallAttempted>,
    leg: &Leg,
    invite: &PendingRequest,
    wall: Wall,
) -> Fact {
    let private = CallPrivate::Attempted { leg: leg.clone(), invite: invite.clone() };
    about.fact(Event::CallAttempted(data), Some(private), wall)
}

/// `call.routed`.
pub(crate) fn routed(
    turn: &Turn<'_>,
    about: &About<'_>,
    mut target: RouteTarget,
    why: RouteWhy,
    branch: &Branch,
    invite: &PendingRequest,
) -> Fact {
    target.contact = target.contact.as_ref().map(public_text);
    let leg = &branch.leg;
    let data = CallRouted {
        edge: turn.edge(),
        flow: Some((&leg.flow).into()),
        attempt: branch.attempt,
        target,
        why,
    };
    let known = turn.state.calls().get(about.uid);
    let attempt = Attempted {
        token: leg.token,
        peer: leg.peer.clone(),
        via: branch.via.clone(),
        uri: Some(&branch.uri).filter(|uri| **uri != leg.target).cloned(),
        cseq: branch.cseq,
    };
    let invite = Some(invite).filter(|invite| !known.is_some_and(|call| call.invites(invite))).cloned();
    let mirrored = known.map(|call| call.caller().mirrored(leg.token, leg.peer.clone()));
    let private = match mirrored {
        Some(mut mirrored) if mirrored.local != leg.local => {
            mirrored.local = leg.local.clone();
            let change = change(Some(&mirrored), leg);
            CallPrivate::RoutedAs { attempt, leg: change, invite, local: leg.local.clone() }
        }
        mirrored => CallPrivate::Routed { attempt, leg: change(mirrored.as_ref(), leg), invite },
    };
    about.fact(data, Some(private), turn.now.wall)
}

/// `call.progressed`.
pub(crate) fn progressed(
    turn: &Turn<'_>,
    about: &About<'_>,
    clock: &Clock,
    attempt: u32,
    flow: &Flow,
    status: u16,
    early_media: bool,
) -> Fact {
    let pdd_ms = clock.invited.millis_to(Moment::seen(turn.now));
    let data =
        CallProgressed { edge: turn.edge(), flow: Some(flow.into()), attempt, status, pdd_ms, early_media };
    about.fact(data, None, turn.now.wall)
}

/// What `call.answered` needs beside the legs.
pub(crate) struct Answered<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) attempt: u32,
    pub(crate) status: u16,
    pub(crate) codecs: Vec<Text>,
    pub(crate) caller: &'a Leg,
    pub(crate) callee: &'a Leg,
    pub(crate) interval: Interval,
    pub(crate) answer: Answer,
}

/// `call.answered`.
pub(crate) fn answered(turn: &Turn<'_>, about: &About<'_>, of: Answered<'_>) -> Fact {
    let Answered { clock, attempt, status, codecs, caller, callee, interval, answer } = of;
    let data = CallAnswered {
        edge: turn.edge(),
        flow: Some((&callee.flow).into()),
        attempt,
        status,
        peer: callee.peer.name().clone(),
        setup_ms: clock.invited.millis_to(Moment::seen(turn.now)),
        pdd_ms: clock.progressed.map(|progressed| clock.invited.millis_to(progressed)),
        codecs,
        from_tag: caller.remote_tag.text(),
        to_tag: caller.local_tag.text(),
        egress_call_id: (callee.call_id != caller.call_id).then(|| callee.call_id.text()),
        session_interval_ms: interval.millis(),
    };
    let known = turn.state.calls().get(about.uid);
    let branch = known.and_then(|call| call.branch(attempt));
    let private = CallPrivate::Answered {
        caller: change(known.map(CallState::caller), caller),
        callee: change(branch.map(|branch| &branch.leg), callee),
        answer,
    };
    about.fact(data, Some(private), turn.now.wall)
}

/// What `call.modified` needs beside the legs.
pub(crate) struct Modified {
    pub(crate) by: End,
    pub(crate) kind: ModificationKind,
    pub(crate) codecs: Vec<Text>,
    pub(crate) interval: Interval,
}

/// `call.modified`.
pub(crate) fn modified(
    turn: &Turn<'_>,
    about: &About<'_>,
    what: Modified,
    caller: &Leg,
    callee: &Leg,
) -> Fact {
    let Modified { by, kind, codecs, interval } = what;
    let flow = if by == End::Caller { &caller.flow } else { &callee.flow };
    let data = CallModified {
        edge: turn.edge(),
        flow: Some(flow.into()),
        by: by.party(),
        kind,
        codecs,
        session_interval_ms: interval.millis(),
    };
    about.fact(data, Some(both(turn, about, caller, callee)), turn.now.wall)
}

/// `call.reinvited`: what a restart needs to answer both sides, before either has heard anything.
pub(crate) fn reinvited(
    turn: &Turn<'_>,
    about: &About<'_>,
    reinvite: Reinvite,
    caller: &Leg,
    callee: &Leg,
) -> Fact {
    let data = CallReinvited {
        edge: turn.edge(),
        flow: Some((&reinvite.flow).into()),
        by: reinvite.from.party(),
        cseq: reinvite.invite.cseq,
    };
    let known = turn.state.calls().get(about.uid);
    let private = CallPrivate::Reinvited {
        caller: change(known.map(CallState::caller), caller),
        callee: change(known.and_then(CallState::callee), callee),
        reinvite,
    };
    about.fact(data, Some(private), turn.now.wall)
}

/// `call.dismissed`; none of an attempt that the fold does not know.
pub(crate) fn dismissed(
    turn: &Turn<'_>,
    about: &About<'_>,
    attempt: u32,
    status: u16,
    leg: &Leg,
) -> Option<Fact> {
    let branch = turn.state.calls().get(about.uid)?.branch(attempt)?;
    let data = CallDismissed {
        edge: turn.edge(),
        flow: Some((&leg.flow).into()),
        attempt,
        status,
        peer: leg.peer.name().clone(),
    };
    let private = CallPrivate::Dismissed { leg: LegChange::between(&branch.leg, leg) };
    Some(about.fact(data, Some(private), turn.now.wall))
}

/// `call.transferred`: what became of it, and the status that said so.
pub(crate) fn transferred(
    turn: &Turn<'_>,
    about: &About<'_>,
    transfer: &Transfer,
    (outcome, status): (TransferOutcome, u16),
    caller: &Leg,
    callee: &Leg,
) -> Fact {
    let Transfer { by, kind, target, replaces } = transfer.clone();
    let flow = if by == End::Caller { &caller.flow } else { &callee.flow };
    let data = CallTransferred {
        edge: turn.edge(),
        flow: Some(flow.into()),
        by: by.party(),
        kind,
        target,
        outcome,
        status: Some(status),
        replaces,
    };
    about.fact(data, Some(both(turn, about, caller, callee)), turn.now.wall)
}

/// `call.checkpointed`.
pub(crate) fn checkpointed(
    turn: &Turn<'_>,
    about: &About<'_>,
    elapsed_ms: u64,
    checkpoint: u32,
    caller: &Leg,
    callee: &Leg,
) -> Fact {
    let data = CallCheckpointed { edge: turn.edge(), elapsed_ms, checkpoint };
    about.fact(data, Some(both(turn, about, caller, callee)), turn.now.wall)
}

/// `call.recovered` after a restart of this edge.
pub(crate) fn recovered(turn: &Turn<'_>, about: &About<'_>, gap_ms: u64, caller: &Leg, callee: &Leg) -> Fact {
    let edge = turn.edge();
    let data = CallRecovered {
        edge: edge.clone(),
        cause: RecoveryCause::Restart,
        from_edge: edge.clone(),
        to_edge: edge,
        gap_ms,
    };
    about.fact(data, Some(both(turn, about, caller, callee)), turn.now.wall)
}

/// How a call came out.
pub(crate) struct Outcome<'a> {
    pub(crate) clock: &'a Clock,
    /// Its last moment.
    pub(crate) ended: Moment,
    /// Nobody saw that moment.
    pub(crate) estimated: bool,
    pub(crate) how: cdr::Outcome,
}

/// `call.ended`: the record of an answered call. `base` is what the fold knows of it.
pub(crate) fn ended(
    about: &About<'_>,
    base: Box<Cdr>,
    outcome: Outcome<'_>,
    bye: (bool, bool),
    wall: Wall,
) -> Fact {
    let private = CallPrivate::Ended { bye_caller: bye.0, bye_callee: bye.1 };
    about.fact(Event::CallEnded(finish(about, base, outcome)), Some(private), wall)
}

/// `call.failed`: the record of a call that nobody answered. `bytes` is the failure that the caller gets.
pub(crate) fn failed(
    about: &About<'_>,
    base: Box<Cdr>,
    outcome: Outcome<'_>,
    bytes: &[u8],
    wall: Wall,
) -> Fact {
    let stage: FailureStage = stage(base.attempts, outcome.clock.progressed.is_some());
    let cdr = *finish(about, base, outcome);
    let private = CallPrivate::Failed { bytes: bytes.into() };
    about.fact(CallFailed { cdr, stage }, Some(private), wall)
}

fn finish(about: &About<'_>, mut cdr: Box<Cdr>, outcome: Outcome<'_>) -> Box<Cdr> {
    let Outcome { clock, ended, estimated, how } = outcome;
    let rung_until = clock.answered.unwrap_or(ended);
    cdr.tenant = about.tenant.text().clone();
    cdr.ended_at = ended.wall().into();
    cdr.first_progress_at = clock.progressed.map(|at| at.wall().into());
    cdr.answered_at = clock.answered.map(|at| at.wall().into());
    cdr.pdd_ms = cdr.pdd_ms.or_else(|| clock.progressed.map(|at| clock.invited.millis_to(at)));
    cdr.ring_ms = clock.progressed.map(|at| at.millis_to(rung_until));
    cdr.setup_ms = cdr.setup_ms.or_else(|| clock.answered.map(|at| clock.invited.millis_to(at)));
    cdr.duration_ms = clock.invited.millis_to(ended);
    cdr.billable_ms = clock.answered.map_or(0, |at| at.millis_to(ended));
    cdr.released_by = how.released_by;
    if clock.answered.is_none() {
        cdr.status = how.status;
    }
    cdr.q850_cause = how.q850;
    cdr.reason = how.reason;
    cdr.category = how.category;
    cdr.last_sequence = about.last;
    if estimated {
        // The fold knows of a restart, the end of the call says whether it was seen.
        cdr.completeness = Completeness::Estimated;
    }
    cdr
}

/// What both legs of the dialog became since the last record.
fn both(turn: &Turn<'_>, about: &About<'_>, caller: &Leg, callee: &Leg) -> CallPrivate {
    let known = turn.state.calls().get(about.uid);
    CallPrivate::Legs {
        caller: change(known.map(CallState::caller), caller),
        callee: change(known.and_then(CallState::callee), callee),
    }
}

/// What became of a leg; none of one that the fold does not know: it cannot change it either.
fn change(before: Option<&Leg>, after: &Leg) -> Option<LegChange> {
    before.map(|before| LegChange::between(before, after))
}

/// The caller's AoR, its address for a stranger, the backend's name.
pub(crate) fn ingress_name(turn: &Turn<'_>, origin: &Origin) -> Text {
    match &origin.kind {
        OriginKind::Backend { name, .. } | OriginKind::Trunk { name, .. } => name.clone(),
        OriginKind::Endpoint { .. } => {
            user_at(turn, origin).unwrap_or_else(|| Text::from(origin.flow.remote.to_string()))
        }
    }
}

/// The phone's address of record, by its registration or its credentials; none of strangers and peers.
pub(crate) fn user_at(turn: &Turn<'_>, origin: &Origin) -> Option<Text> {
    let OriginKind::Endpoint { binding } = origin.kind else { return None };
    let bound = binding.and_then(|key| turn.state.registrations().aor_of(key));
    bound.map(|aor| Text::new(aor.address())).or_else(|| origin.proven.clone())
}

/// Who calls: the user of From. Who asks for privacy there is known all the same (RFC 3323 §4.1.1.3).
pub(crate) fn caller_of<B: AsRef<[u8]>>(turn: &Turn<'_>, origin: &Origin, invite: &Message<B>) -> Text {
    let Ok(from) = invite.from() else { return Text::default() };
    let anonymous = matches!(Uri::parse(from.uri), Ok(Uri::Sip(uri)) if uri.host_is(b"anonymous.invalid"));
    let known = if anonymous { user_at(turn, origin) } else { None };
    match known.as_deref().and_then(|address| address.rsplit_once('@')) {
        Some((user, _)) => Text::new(user),
        None => user_or_whole(from.uri),
    }
}

/// Whom a URI names, for an event.
pub(crate) fn user_or_whole(uri: &[u8]) -> Text {
    user_of(&public(uri))
}

fn uri_of(address: Option<NameAddr<'_>>) -> Text {
    address.map(|address| public(address.uri)).unwrap_or_default()
}

/// The number or user of a URI, unescaped; the whole URI when it has none.
fn user_of(uri: &Text) -> Text {
    match Uri::parse(uri.as_bytes()) {
        Ok(Uri::Sip(sip)) => {
            sip.decoded_user().map(|user| Text::lossy(&number_of(&user))).unwrap_or_default()
        }
        Ok(Uri::Tel(_)) => {
            let number = uri.split_once(':').map_or("", |(_, rest)| rest);
            Text::lossy(&number_of(number.as_bytes()))
        }
        _ => uri.clone(),
    }
}

/// A telephone number without its parameters (RFC 3261 §19.1.6) and visual separators, which mean nothing (RFC 3966 §5.1.1);
/// other users as they are.
pub(crate) fn number_of(user: &[u8]) -> Cow<'_, [u8]> {
    let number = user.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_separator = |byte: &u8| b"-.()".contains(byte);
    let is_number = |byte: &u8| byte.is_ascii_digit() || b"+*#".contains(byte) || is_separator(byte);
    if !number.iter().any(u8::is_ascii_digit) || !number.iter().all(is_number) {
        return Cow::Borrowed(user);
    }
    if !number.iter().any(is_separator) {
        return Cow::Borrowed(number);
    }
    Cow::Owned(number.iter().copied().filter(|byte| !is_separator(byte)).collect())
}

/// The Session-ID without its parameters (RFC 7989 §5).
fn session_id(value: &[u8]) -> Text {
    Text::lossy(value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_uri_when_its_user_is_read_then_escapes_are_gone() {
        assert_eq!(user_of(&Text::new("sip:%34%30%31@a.example;user=phone")), "401");
        assert_eq!(user_of(&Text::new("tel:+4930123;ext=1")), "+4930123");
        assert_eq!(user_of(&Text::new("urn:service:sos")), "urn:service:sos");
        assert_eq!(user_of(&Text::new("sip:a.example")), "");
    }

    #[test]
    fn given_a_session_id_when_read_then_the_remote_part_is_left_out() {
        assert_eq!(
            session_id(b"ab30317f1a784dc48ff824d0d3715d86;remote=00"),
            "ab30317f1a784dc48ff824d0d3715d86"
        );
    }
}
