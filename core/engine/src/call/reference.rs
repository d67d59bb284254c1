//! Dialogs that are named from outside them: Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538), and Replaces
//! inside Refer-To (RFC 3515, RFC 5589).
//!
//! Whoever names a dialog does it as its own leg knows it; who reads it knows the leg at the other end of that call. So the
//! identifiers are exchanged on the way, within one tenant, when the two are the ends of the dialog that is named. Any other
//! name passes as it is: it is somebody else's.

use super::Calls;
use super::call::{Call, State};
use super::find::LegRef;
use super::leg::{Leg, Peer, token_of_user};
use super::raw::Raw;
use crate::hiding;
use crate::turn::Turn;
use signalbox_base::{CallUid, TenantId};
use signalbox_sip::header::{DialogReference, NameAddr};
use signalbox_sip::uri::{SipUri, decode, without_headers, write_escaped_header};
use signalbox_sip::{Forward, HeaderName, Limits, Message, Method, Uri};
use smallvec::SmallVec;

/// Headers that name a dialog.
const NAMES: [HeaderName; 4] =
    [HeaderName::Replaces, HeaderName::Join, HeaderName::TargetDialog, HeaderName::ReferTo];

/// Whether a request has one of them.
pub(super) fn names_one(request: &Message<&[u8]>) -> bool {
    NAMES.iter().any(|name| request.value(*name).is_some())
}

/// A request in the words of its receiver.
pub(super) struct Translated {
    bytes: Vec<u8>,
    /// The call whose dialog it names.
    pub(super) named: Option<CallUid>,
}

impl Translated {
    /// As a message again.
    pub(super) fn message(&self) -> Option<Message<&[u8]>> {
        Message::parse(self.bytes.as_slice(), &Limits::DATAGRAM).ok()
    }
}

/// A dialog's leg as its peer sees it.
#[derive(Clone, Copy)]
struct Ids<'a> {
    peer: &'a Peer,
    call_id: &'a [u8],
    ours: &'a [u8],
    theirs: &'a [u8],
}

impl<'a> Ids<'a> {
    fn of(leg: &'a Leg) -> Self {
        Self { peer: &leg.peer, call_id: &leg.call_id, ours: &leg.local_tag, theirs: &leg.remote_tag }
    }

    fn is(&self, call_id: &[u8], tags: [&[u8]; 2]) -> bool {
        self.call_id == call_id && (tags == [self.ours, self.theirs] || tags == [self.theirs, self.ours])
    }
}

/// Whose words are put into whose.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) from: &'a Peer,
    pub(super) to: &'a Peer,
    /// Whether the two hide from each other.
    pub(super) hide: bool,
}

impl Way<'_> {
    /// A dialog that only somebody behind a backend knows, by names that open when they come back.
    fn unknown(self, turn: &Turn<'_>, reference: &DialogReference<'_>) -> Named {
        let DialogReference { call_id, local_tag, remote_tag, .. } = *reference;
        let (key, tenant) = (&turn.settings.cluster_key, self.tenant.as_str());
        let [call_id, local_tag, remote_tag] =
            [call_id, local_tag, remote_tag].map(|part| Raw::from(&*hiding::other_name(key, tenant, part)));
        Named { uid: CallUid(0), call_id, local_tag, remote_tag }
    }
}

/// What a reference becomes.
struct Named {
    uid: CallUid,
    call_id: Raw,
    local_tag: Raw,
    remote_tag: Raw,
}

impl Calls {
    /// A REFER or SUBSCRIBE inside a dialog; `None` when it names nothing.
    pub(super) fn translated_within(
        &self,
        turn: &Turn<'_>,
        at: LegRef,
        request: &Message<&[u8]>,
    ) -> Option<Translated> {
        if !matches!(request.method(), Method::Refer | Method::Subscribe) || !names_one(request) {
            return None;
        }
        let call = self.calls.get(&at.uid)?;
        let State::Answered(state) = &call.state else { return None };
        let (caller, callee) = (&call.core.caller.peer, &state.callee().peer);
        let (from, to) = if at.attempt == 0 { (caller, callee) } else { (callee, caller) };
        self.translated(turn, Way { tenant: &call.core.tenant, from, to, hide: call.core.hide }, request)
    }

    /// The same of any request.
    pub(super) fn translated(
        &self,
        turn: &Turn<'_>,
        way: Way<'_>,
        request: &Message<&[u8]>,
    ) -> Option<Translated> {
        let mut named = None;
        let mut forward = Forward::new(request);
        for name in NAMES {
            let Some(value) = request.value(name) else { continue };
            let found = match name {
                HeaderName::ReferTo => self.refer_to(turn, way, &mut forward, value),
                HeaderName::TargetDialog => DialogReference::parse_target_dialog(value)
                    .ok()
                    .and_then(|reference| self.rename(turn, way, &mut forward, &reference)),
                _ => DialogReference::parse(value)
                    .ok()
                    .and_then(|reference| self.rename(turn, way, &mut forward, &reference)),
            };
            named = named.or(found);
        }
        let mut bytes = Vec::new();
        forward.write_into(&mut bytes);
        (named.is_some() || bytes != request.as_bytes()).then_some(Translated { bytes, named })
    }

    fn rename(
        &self,
        turn: &Turn<'_>,
        way: Way<'_>,
        forward: &mut Forward<'_>,
        reference: &DialogReference<'_>,
    ) -> Option<CallUid> {
        let named = self.named(way, reference);
        let uid = named.as_ref().map(|named| named.uid);
        let Named { call_id, local_tag, remote_tag, .. } =
            named.or_else(|| way.hide.then(|| way.unknown(turn, reference)))?;
        for (was, is) in [
            (reference.call_id, call_id),
            (reference.local_tag, local_tag),
            (reference.remote_tag, remote_tag),
        ] {
            if *was != *is {
                forward.replace_part(was, &*is);
            }
        }
        uid
    }

    /// Refer-To: its URI as the receiver can use it, and the dialog that it replaces.
    fn refer_to(
        &self,
        turn: &Turn<'_>,
        way: Way<'_>,
        forward: &mut Forward<'_>,
        value: &[u8],
    ) -> Option<CallUid> {
        let uri = SipUri::parse(NameAddr::parse(value).ok()?.uri).ok()?;
        if let Some(leg) = uri.user.and_then(token_of_user).and_then(|token| self.by_leg_token(way, token)) {
            forward.replace_part(without_headers(uri.raw), &*leg);
        } else if let Some(domain) = domain_of(way.from).filter(|_| turn.directory.is_own_host(uri.host))
            && turn.directory.domain(turn.settings, uri.host).is_none()
        {
            forward.replace_part(uri.host_port, domain);
        }
        let mut headers = uri.headers.split(|byte| *byte == b'&');
        let replaces = headers.find_map(|header| {
            let at = header.iter().position(|byte| *byte == b'=')?;
            header[..at].eq_ignore_ascii_case(b"replaces").then(|| &header[at + 1..])
        })?;
        let plain = decode(replaces);
        let reference = DialogReference::parse(&plain).ok()?;
        let named = self.named(way, &reference);
        let uid = named.as_ref().map(|named| named.uid);
        let Named { call_id, local_tag, remote_tag, .. } =
            named.or_else(|| way.hide.then(|| way.unknown(turn, &reference)))?;
        let early: &[u8] = if reference.early_only() { b";early-only" } else { b"" };
        let whole: [&[u8]; 6] = [&call_id, b";to-tag=", &local_tag, b";from-tag=", &remote_tag, early];
        let whole = whole.concat();
        if whole != *plain {
            let mut escaped = Vec::with_capacity(whole.len() * 2);
            write_escaped_header(&whole, &mut escaped);
            forward.replace_part(replaces, escaped);
        }
        uid
    }

    /// A reference as the receiver knows it. Of several dialogs with one name (a spiral) the sender's own is meant.
    fn named(&self, way: Way<'_>, reference: &DialogReference<'_>) -> Option<Named> {
        let tags = [reference.local_tag, reference.remote_tag];
        let of_tenant =
            self.with_call_id(reference.call_id).filter(|(_, call)| call.core.tenant == *way.tenant);
        let ends = of_tenant.flat_map(|(uid, call)| {
            dialogs(call).into_iter().flat_map(move |[one, other]| [(uid, one, other), (uid, other, one)])
        });
        let fits = ends.filter(|(_, near, far)| {
            near.peer.is_endpoint() == way.from.is_endpoint()
                && near.is(reference.call_id, tags)
                && reaches(far.peer, way.to)
        });
        let (uid, near, far) = fits.max_by_key(|(_, near, _)| near.peer == way.from)?;
        let exchanged = |tag: &[u8]| Raw::from(if tag == near.ours { far.theirs } else { far.ours });
        Some(Named {
            uid,
            call_id: Raw::from(far.call_id),
            local_tag: exchanged(reference.local_tag),
            remote_tag: exchanged(reference.remote_tag),
        })
    }

    /// Whom our Contact stands for: the other end's own, for that end; its address for everybody else.
    fn by_leg_token(&self, way: Way<'_>, token: signalbox_base::ShortToken) -> Option<Raw> {
        let (uid, attempt) = *self.tokens.get(&token)?;
        let call = self.calls.get(&uid).filter(|call| call.core.tenant == *way.tenant)?;
        let State::Answered(state) = &call.state else { return None };
        let (caller, callee) = (&call.core.caller, state.callee());
        let (near, far) = if attempt == 0 { (caller, callee) } else { (callee, caller) };
        if reaches(&far.peer, way.to) {
            return Some(far.target.clone());
        }
        let known = NameAddr::parse(&near.local).ok()?;
        Uri::parse(known.uri).is_ok().then(|| Raw::from(known.uri))
    }
}

/// Both legs of every dialog from end to end.
fn dialogs(call: &Call) -> SmallVec<[[Ids<'_>; 2]; 1]> {
    let caller = Ids::of(&call.core.caller);
    match &call.state {
        State::Answered(state) => [[caller, Ids::of(state.callee())]].into_iter().collect(),
        State::Inviting(setup) => setup
            .dialogs
            .iter()
            .map(|early| [Ids { ours: &early.caller_tag, ..caller }, Ids::of(&early.callee)])
            .collect(),
        State::Challenged(_) | State::Ending(_) | State::Gone => SmallVec::new(),
    }
}

/// Whether what is sent to `to` comes to this end of a dialog.
fn reaches(end: &Peer, to: &Peer) -> bool {
    match to {
        Peer::Endpoint { .. } => end == to,
        Peer::Backend { .. } => matches!(end, Peer::Backend { .. }),
        Peer::Trunk { .. } => end == to,
    }
}

/// The domain of a phone.
pub(super) fn domain_of(peer: &Peer) -> Option<&str> {
    peer.name().split_once('@').map(|(_, domain)| domain).filter(|_| peer.is_endpoint())
}
