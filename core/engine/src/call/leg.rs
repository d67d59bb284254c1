//! One leg of a call: one dialog with one peer. It knows nothing of the other leg; the call maps between them.
//!
//! Everything here is what a restart needs to go on with the dialog, so the same struct lives in the live call and in the
//! private part of records.

use super::raw::{Raw, RawList};
use crate::tenancy::PeerRef;
use crate::turn::Turn;
use serde::{Deserialize, Serialize};
use signalbox_base::{Flow, ShortToken, Text};
use signalbox_schemas::words::Party;
use signalbox_sip::dialog::CSEQ_MAX;

/// The ends of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// Who sent the first INVITE.
    Caller,
    /// Who was called.
    Callee,
}

impl End {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    /// The word of events.
    #[must_use]
    pub const fn party(self) -> Party {
        match self {
            Self::Caller => Party::Caller,
            Self::Callee => Party::Callee,
        }
    }
}

/// Who is on a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// A phone; its AoR (or the source address of an unregistered one).
    Endpoint {
        /// `user@domain`.
        name: Text,
    },
    /// A PBX node of the call's tenant.
    Backend {
        /// Its name.
        name: Text,
    },
    /// A carrier.
    Trunk {
        /// Its name.
        name: Text,
    },
}

impl Peer {
    /// The name, for events.
    #[must_use]
    pub fn name(&self) -> &Text {
        match self {
            Self::Endpoint { name } | Self::Backend { name } | Self::Trunk { name } => name,
        }
    }

    /// The name that the configuration has for it; a phone has none.
    pub(crate) fn configured(&self) -> Option<&str> {
        match self {
            Self::Endpoint { .. } => None,
            Self::Backend { name } | Self::Trunk { name } => Some(name),
        }
    }

    /// Its place in the settings, where it is a backend or trunk.
    pub(crate) fn place(&self, turn: &Turn<'_>, tenant: &str) -> Option<PeerRef> {
        match self {
            Self::Endpoint { .. } => None,
            Self::Backend { name } => turn.directory.find(turn.settings, tenant, name),
            Self::Trunk { name } => turn.directory.find_trunk(turn.settings, name),
        }
    }

    /// Whether it is a phone: its messages go over the flow they came from, whatever its Contact says.
    #[must_use]
    pub const fn is_endpoint(&self) -> bool {
        matches!(self, Self::Endpoint { .. })
    }
}

/// One dialog (RFC 3261 §12) as the edge, being a user agent in it, sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// User part of our Contact on this leg: random, unique, how requests find the leg.
    pub token: ShortToken,
    /// Who is on the other side.
    pub peer: Peer,
    /// Where its messages come from and ours go to.
    pub flow: Flow,
    /// Call-ID on this leg.
    pub call_id: Raw,
    /// Our side's From or To value, without its tag.
    pub local: Raw,
    /// Our tag; empty before the first response that makes a dialog.
    pub local_tag: Raw,
    /// The peer's From or To value, without its tag.
    pub remote: Raw,
    /// The peer's tag; empty while unknown.
    pub remote_tag: Raw,
    /// Remote target: the URI of the peer's Contact.
    pub target: Raw,
    /// Route values in the order they are sent (RFC 3261 §12.1).
    pub routes: RawList,
    /// Highest CSeq we have sent on this leg.
    pub sent: u32,
    /// Highest CSeq the peer has sent on this leg.
    pub seen: u32,
    /// Added to the CSeq of a request from the other leg to get the one it has on this leg.
    pub offset: u32,
}

/// What a response of the peer means for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegEvent {
    /// 100: it works on it.
    Trying,
    /// 101 to 199.
    Progress,
    /// 2xx.
    Answered,
    /// 401 or 407: it wants credentials, which only the caller has.
    Challenged,
    /// Any other final response.
    Failed(u16),
}

impl LegEvent {
    /// Of a status from 100 to 699.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            ..=100 => Self::Trying,
            101..=199 => Self::Progress,
            200..=299 => Self::Answered,
            401 | 407 => Self::Challenged,
            other => Self::Failed(other),
        }
    }
}

/// Added to CSeq after a restart: more than anybody sends between two records of a call (DESIGN.md §6).
pub const CSEQ_JUMP: u32 = 10_000;

impl Leg {
    /// CSeq on this leg of a request that has `incoming` on the other leg: above all that were sent, also where several
    /// early dialogs there are one here.
    pub fn relayed_cseq(&mut self, incoming: u32) -> u32 {
        if self.sent > 0 {
            self.offset = self.offset.max(self.sent.saturating_add(1).saturating_sub(incoming));
        }
        let cseq = incoming.saturating_add(self.offset).min(CSEQ_MAX);
        self.sent = self.sent.max(cseq);
        cseq
    }

    /// CSeq for a request of our own on this leg. Requests from the other leg, which has sent up to `other_seen`, go above
    /// it from now on.
    pub fn own_cseq(&mut self, other_seen: u32) -> u32 {
        self.sent = self.sent.saturating_add(1).min(CSEQ_MAX);
        self.offset = self.offset.max(self.sent.saturating_sub(other_seen));
        self.sent
    }

    /// After a restart nobody knows what was sent since the last record: jump over it.
    pub fn jump(&mut self) {
        self.sent = self.sent.saturating_add(CSEQ_JUMP).min(CSEQ_MAX);
        self.offset = self.offset.saturating_add(CSEQ_JUMP).min(CSEQ_MAX);
    }

    /// Whether a request with this CSeq is older than one that came before it (RFC 3261 §12.2.2).
    pub fn note_cseq(&mut self, cseq: u32) -> Order {
        if cseq < self.seen {
            return Order::Late;
        }
        self.seen = cseq;
        Order::Next
    }

    /// Whether a request with these identifiers belongs to this dialog.
    #[must_use]
    pub fn is_dialog(&self, call_id: &[u8], from_tag: &[u8], to_tag: &[u8]) -> bool {
        *self.call_id == *call_id && *self.remote_tag == *from_tag && *self.local_tag == *to_tag
    }
}

impl Leg {
    /// The same dialog's identifiers as a leg towards somebody else begins with: what this peer says of itself is what we say
    /// of ourselves there. Token, peer, remote tag and target are the new leg's own.
    #[must_use]
    pub fn mirrored(&self, token: ShortToken, peer: Peer) -> Self {
        Self {
            token,
            peer,
            flow: self.flow,
            call_id: self.call_id.clone(),
            local: self.remote.clone(),
            local_tag: self.remote_tag.clone(),
            remote: self.local.clone(),
            remote_tag: Raw::default(),
            target: Raw::default(),
            routes: RawList::default(),
            sent: 0,
            seen: 0,
            offset: 0,
        }
    }
}

/// How a leg differs from what was recorded of it before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegChange {
    flow: Option<Flow>,
    call_id: Option<Raw>,
    local_tag: Option<Raw>,
    remote: Option<Raw>,
    remote_tag: Option<Raw>,
    target: Option<Raw>,
    routes: Option<RawList>,
    sent: u32,
    seen: u32,
    offset: u32,
}

impl LegChange {
    /// What makes `after` of `before`. Token, peer and our own From or To never change.
    #[must_use]
    pub fn between(before: &Leg, after: &Leg) -> Self {
        debug_assert_eq!((&before.token, &before.peer), (&after.token, &after.peer), "two legs");
        debug_assert_eq!(before.local, after.local, "our own From or To changed");
        fn changed<T: Clone + PartialEq>(before: &T, after: &T) -> Option<T> {
            (before != after).then(|| after.clone())
        }
        Self {
            flow: changed(&before.flow, &after.flow),
            call_id: changed(&before.call_id, &after.call_id),
            local_tag: changed(&before.local_tag, &after.local_tag),
            remote: changed(&before.remote, &after.remote),
            remote_tag: changed(&before.remote_tag, &after.remote_tag),
            target: changed(&before.target, &after.target),
            routes: changed(&before.routes, &after.routes),
            sent: after.sent,
            seen: after.seen,
            offset: after.offset,
        }
    }

    /// Makes the change.
    pub fn apply(self, leg: &mut Leg) {
        fn set<T>(value: &mut T, new: Option<T>) {
            if let Some(new) = new {
                *value = new;
            }
        }
        set(&mut leg.flow, self.flow);
        set(&mut leg.call_id, self.call_id);
        set(&mut leg.local_tag, self.local_tag);
        set(&mut leg.remote, self.remote);
        set(&mut leg.remote_tag, self.remote_tag);
        set(&mut leg.target, self.target);
        set(&mut leg.routes, self.routes);
        (leg.sent, leg.seen, leg.offset) = (self.sent, self.seen, self.offset);
    }
}

/// Where a request's CSeq stands among those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In order, or the first.
    Next,
    /// Overtaken by a later one.
    Late,
}

/// User part of a leg's Contact: `c` and the token, kept apart from binding tokens (`b…`).
#[must_use]
pub fn contact_user(token: ShortToken) -> [u8; 12] {
    let mut user = [b'c'; 12];
    user[1..].copy_from_slice(&token.digits());
    user
}

/// Reads [`contact_user`].
#[must_use]
pub fn token_of_user(user: &[u8]) -> Option<ShortToken> {
    std::str::from_utf8(user.strip_prefix(b"c")?).ok()?.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use signalbox_base::ListenerId;

    pub(crate) fn leg() -> Leg {
        let addr = "192.0.2.1:5060".parse().unwrap();
        Leg {
            token: ShortToken(7),
            peer: Peer::Backend { name: Text::new("pbx") },
            flow: Flow::udp(ListenerId(0), addr, addr),
            call_id: Raw::from("call"),
            local: Raw::from("<sip:a@a.example>"),
            local_tag: Raw::from("here"),
            remote: Raw::from("<sip:b@a.example>"),
            remote_tag: Raw::from("there"),
            target: Raw::from("sip:b@192.0.2.1"),
            routes: RawList::default(),
            sent: 1,
            seen: 0,
            offset: 0,
        }
    }

    #[test]
    fn given_a_token_when_printed_as_a_user_then_it_reads_back_and_nothing_else_does() {
        let token = ShortToken(0xABCD_EF01_2345);
        assert_eq!(token_of_user(&contact_user(token)), Some(token));
        for other in ["", "c", "401", "b00000000001", "cshort", "c0000000000!"] {
            assert_eq!(token_of_user(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn given_a_dialog_when_a_request_names_other_tags_then_it_is_not_this_one() {
        assert!(leg().is_dialog(b"call", b"there", b"here"));
        for (call_id, from, to) in
            [("calls", "there", "here"), ("call", "here", "there"), ("call", "there", "")]
        {
            assert!(!leg().is_dialog(call_id.as_bytes(), from.as_bytes(), to.as_bytes()));
        }
    }

    #[test]
    fn given_two_states_of_a_leg_when_the_change_is_made_then_one_becomes_the_other() {
        let before = leg();
        let mut other = leg().mirrored(before.token, before.peer.clone());
        other.local = before.local.clone();
        other.routes = [b"<sip:p1;lr>".as_slice()].into_iter().collect();
        let addr = "192.0.2.9:5070".parse().unwrap();
        other.flow = Flow::udp(ListenerId(1), addr, addr);
        (other.call_id, other.target, other.seen) = (Raw::from("other"), Raw::from("sip:c@192.0.2.9"), 9);
        for (from, to) in [(&before, &other), (&other, &before), (&before, &before)] {
            let mut changed = from.clone();
            LegChange::between(from, to).apply(&mut changed);
            assert_eq!(changed, *to);
        }
    }

    #[test]
    #[should_panic(expected = "our own From or To changed")]
    fn given_a_leg_whose_own_side_differs_then_no_change_can_say_it() {
        let mut other = leg();
        other.local = Raw::from("<sip:z@a.example>");
        let _ = LegChange::between(&leg(), &other);
    }

    proptest! {
        #[test]
        fn cseq_on_a_leg_only_rises_whoever_sends(steps in prop::collection::vec(0u8..4, 1..60), first in 1u32..100_000) {
            let (mut leg, mut peer_cseq) = (leg(), first);
            leg.sent = leg.relayed_cseq(peer_cseq);
            let mut last = leg.sent;
            for step in steps {
                let cseq = match step {
                    0 => {
                        leg.jump();
                        continue;
                    }
                    1 => leg.own_cseq(peer_cseq),
                    _ => {
                        peer_cseq += 1;
                        leg.relayed_cseq(peer_cseq)
                    }
                };
                prop_assert!(cseq > last, "{cseq} after {last}");
                last = cseq;
            }
        }
    }
}
