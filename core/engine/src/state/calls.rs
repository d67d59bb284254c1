//! Calls as the journal knows them: enough to finish every one of them after a crash, and to write its record.
//!
//! Only `state::apply` changes what is here. A call stays for [`REDO_WINDOW`] after its end, so that its last words can be
//! said again; it is pruned by the wall time of later records, so that a replay prunes at the same record.

use crate::call::leg::{Leg, LegChange, Peer};
use crate::call::raw::{Raw, RawList};
use crate::state::underway::{Dismissed, OPEN_MAX, Open, Reinvite, Underway};
use serde::{Deserialize, Serialize};
use signalbox_base::{CallUid, EventSeq, ShortToken, TenantId, Text, Wall};
use signalbox_schemas::call::Cdr;
use signalbox_schemas::words::PeerKind;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

/// How long the 2xx of an answered and the BYE of an ended call may have to be sent again: 2 · 64·T1 (DESIGN.md §6).
pub const REDO_WINDOW: Duration = Duration::from_secs(64);

/// Every call that is known durably. A snapshot takes it call by call: all but `by_uid` follows from the calls.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// Boxed: the map moves its values about as it grows.
    by_uid: BTreeMap<CallUid, Box<CallState>>,
    /// Answers and ends inside the redo window, in the order of their records.
    recent: VecDeque<Recent>,
    /// Calls that have not ended, per tenant.
    active: BTreeMap<TenantKey, u32>,
    /// The same, per peer, user and number.
    counted: BTreeMap<Counted, u32>,
}

/// What calls at a time are counted of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// A user of a tenant, who calls or is called.
    User(TenantKey, Text),
    /// A backend of a tenant.
    Backend(TenantKey, Text),
    /// A trunk.
    Trunk(Text),
    /// A number that a tenant's calls are to.
    Number(TenantKey, Text),
}

/// A tenant's name as a key that serialises.
pub type TenantKey = Text;

/// An answer or end inside the redo window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recent {
    seq: EventSeq,
    wall: Wall,
    uid: CallUid,
}

/// One call as the journal knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallState {
    /// The tenant it belongs to.
    pub(crate) tenant: TenantKey,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// The record so far; none once it is written.
    #[serde(with = "as_json")]
    pub(crate) cdr: Option<Box<Cdr>>,
    /// Position of the last event.
    pub(crate) last: EventSeq,
    /// The caller's leg.
    pub(crate) caller: Leg,
    /// The INVITE that waits for an answer, to answer 503 after a crash.
    pub(crate) invite: Option<PendingRequest>,
    /// Legs towards the called side: all that were tried, until the redo window behind the answer has passed.
    pub(crate) branches: Vec<Branch>,
    /// The attempt that was answered.
    pub(crate) winner: Option<u32>,
    /// Which ends hold the other, caller first.
    pub(crate) holding: [bool; 2],
    /// What may have to be sent again.
    pub(crate) redo: Redo,
    /// Wall time of the last record.
    pub(crate) touched: Wall,
    /// Checkpoints written.
    pub(crate) checkpoints: u32,
    /// The record by which it was answered, later the one by which it ended, and that record's wall time; none once the
    /// redo window behind it has passed.
    pub(crate) marked: Option<(EventSeq, Wall)>,
    /// What goes on beside its own INVITE. In a snapshot it stands behind the rest, where there is anything.
    #[serde(skip)]
    pub(crate) underway: Option<Box<Underway>>,
    /// Its session timer in seconds, 0 for none (RFC 4028). In a snapshot it stands last, where there is one.
    #[serde(skip)]
    pub(crate) session_secs: u32,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// No final answer yet.
    Inviting,
    /// Answered, going on.
    Answered,
    /// Its record is written.
    Ended,
}

/// What must be kept of a request to answer it later, from another process if need be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRequest {
    /// CSeq number.
    pub(crate) cseq: u32,
    /// How many of the parts are Via values.
    pub(crate) vias: u32,
    /// The From and the To value as they came, the Via values as they are to be copied into responses (received and rport
    /// filled in), the Record-Route values for responses that make a dialog.
    pub(crate) parts: RawList,
}

impl PendingRequest {
    /// The From value.
    pub(crate) fn from(&self) -> &[u8] {
        self.parts.iter().next().unwrap_or_default()
    }

    /// The To value.
    pub(crate) fn to(&self) -> &[u8] {
        self.parts.iter().nth(1).unwrap_or_default()
    }

    /// Via values in order.
    pub(crate) fn vias(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().skip(2).take(self.vias as usize)
    }

    /// Record-Route values in order.
    pub(crate) fn record_routes(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().skip(2 + self.vias as usize)
    }
}

/// One attempt towards the called side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The attempt's number, from 1.
    pub(crate) attempt: u32,
    /// Its leg; the remote tag is empty until it is answered.
    pub(crate) leg: Leg,
    /// The topmost Via of its INVITE, for the CANCEL (RFC 3261 §9.1).
    pub(crate) via: Raw,
    /// Its Request-URI.
    pub(crate) uri: Raw,
    /// CSeq number of its INVITE.
    pub(crate) cseq: u32,
}

/// What may have to be sent again after a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redo {
    /// Nothing.
    #[default]
    Nothing,
    /// The 2xx to the caller.
    Answer(Answer),
    /// BYE to the ends that have not hung up themselves.
    Bye {
        /// To the caller.
        caller: bool,
        /// To the called side.
        callee: bool,
    },
    /// The final failure to the caller, and CANCEL to what still rings.
    Failure {
        /// The failure as it was sent.
        bytes: Raw,
    },
}

/// A 2xx to the caller's INVITE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// CSeq of the INVITE on the caller's leg, which its ACK repeats.
    pub(crate) cseq_in: u32,
    /// CSeq of the INVITE on the called leg, which the ACK there repeats.
    pub(crate) cseq_out: u32,
    /// The 2xx as it was sent.
    pub(crate) bytes: Raw,
}

/// What a call's events carry beside their public part: never leaves the edge. Of a leg that is known only what changed;
/// none of one that is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallPrivate {
    /// With `call.attempted`.
    Attempted {
        /// The caller's leg.
        leg: Leg,
        /// Its INVITE.
        invite: PendingRequest,
    },
    /// With `call.routed`.
    Routed {
        /// The attempt.
        attempt: Attempted,
        /// Its leg, as it differs from the caller's seen from the other side ([`Leg::mirrored`]).
        leg: Option<LegChange>,
        /// The INVITE as it is now, where it is another one: a caller that was challenged sends it again.
        invite: Option<PendingRequest>,
    },
    /// With `call.answered`.
    Answered {
        /// What became of the caller's leg: its dialog's tags.
        caller: Option<LegChange>,
        /// What became of the leg of the attempt that was answered.
        callee: Option<LegChange>,
        /// The 2xx to the caller.
        answer: Answer,
    },
    /// With `call.modified`, `call.recovered` and `call.checkpointed`: what became of both legs.
    Legs {
        /// The caller's.
        caller: Option<LegChange>,
        /// The called one.
        callee: Option<LegChange>,
    },
    /// With `call.ended`: who must still hear of it.
    Ended {
        /// BYE goes to the caller.
        bye_caller: bool,
        /// BYE goes to the called side.
        bye_callee: bool,
    },
    /// With `call.failed`: the failure as it goes to the caller; empty when the caller knows already.
    Failed {
        /// The message.
        bytes: Raw,
    },
    /// With `call.reinvited`: what became of both legs, and the INVITE.
    Reinvited {
        /// The caller's.
        caller: Option<LegChange>,
        /// The called one.
        callee: Option<LegChange>,
        /// The INVITE.
        reinvite: Reinvite,
    },
    /// With `call.dismissed`: the dialog that gets ACK and BYE, as it differs from the leg of its attempt.
    Dismissed {
        /// What the unwanted answer made of the leg.
        leg: LegChange,
    },
    /// As `Routed`, where the leg calls the caller by another name than it came with.
    RoutedAs {
        /// The attempt.
        attempt: Attempted,
        /// Its leg, as it differs from the caller's seen from the other side, but for that name.
        leg: Option<LegChange>,
        /// The INVITE as it is now, where it is another one.
        invite: Option<PendingRequest>,
        /// The name: our From, without its tag.
        local: Raw,
    },
}

/// What is new of an attempt beside its leg. See [`Branch`] for the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempted {
    pub(crate) token: ShortToken,
    pub(crate) peer: Peer,
    pub(crate) via: Raw,
    /// Where it is not the leg's target.
    pub(crate) uri: Option<Raw>,
    pub(crate) cseq: u32,
}

/// What was answered and has ended since is no longer looked at, whether it still stands in the row or not.
impl PartialEq for Calls {
    fn eq(&self, other: &Self) -> bool {
        self.by_uid == other.by_uid
            && self.active == other.active
            && self.counted == other.counted
            && self.awaited().eq(other.awaited())
    }
}

impl Calls {
    /// A call by its uid.
    #[must_use]
    pub fn get(&self, uid: CallUid) -> Option<&CallState> {
        self.by_uid.get(&uid).map(|call| &**call)
    }

    /// Calls that have not ended, of one tenant.
    #[must_use]
    pub fn active_of(&self, tenant: &TenantId) -> u32 {
        self.active.get(tenant.as_str()).copied().unwrap_or(0)
    }

    /// Calls that have not ended.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active.values().sum()
    }

    /// Calls that have not ended, of a peer, user or number.
    #[must_use]
    pub fn active_at(&self, who: &Counted) -> u32 {
        self.counted.get(who).copied().unwrap_or(0)
    }

    /// Everything, ended ones inside the redo window included, in order of uid.
    pub fn iter(&self) -> impl Iterator<Item = (CallUid, &CallState)> {
        self.by_uid.iter().map(|(uid, call)| (*uid, &**call))
    }

    /// The first call behind `after` in order of uid, for snapshots.
    pub(crate) fn behind(&self, after: Option<CallUid>) -> Option<(CallUid, &CallState)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_uid.range((from, Bound::Unbounded)).next().map(|(uid, call)| (*uid, &**call))
    }

    /// The call that a record tells something of.
    pub(crate) fn get_mut(&mut self, uid: CallUid) -> Option<&mut CallState> {
        self.by_uid.get_mut(&uid).map(|call| &mut **call)
    }

    /// Changes a call, and counts whom it is with now.
    pub(crate) fn change(&mut self, uid: CallUid, change: impl FnOnce(&mut CallState)) {
        let Some(call) = self.by_uid.get_mut(&uid) else { return };
        let before = call.counted();
        change(call);
        let after = call.counted();
        if before != after {
            self.count(&before, -1);
            self.count(&after, 1);
        }
    }

    fn count(&mut self, who: &[Counted], by: i32) {
        for who in who {
            let count = self.counted.entry(who.clone()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.counted.remove(who);
            }
        }
    }

    /// Stores a call: one that begins, or one as a snapshot has it.
    pub(crate) fn insert(&mut self, uid: CallUid, call: CallState) {
        self.count(&call.counted(), 1);
        if call.stage != Stage::Ended {
            match self.active.get_mut(&call.tenant) {
                Some(count) => *count += 1,
                None => {
                    self.active.insert(call.tenant.clone(), 1);
                }
            }
        }
        if let Some((seq, wall)) = call.marked {
            self.remember(Recent { seq, wall, uid });
        }
        self.by_uid.insert(uid, Box::new(call));
    }

    /// A call was answered, or has ended, by this record.
    pub(crate) fn mark(&mut self, uid: CallUid, stage: Stage, seq: EventSeq, wall: Wall) {
        let Some(call) = self.by_uid.get_mut(&uid) else { return };
        call.marked = Some((seq, wall));
        let tenant = (stage == Stage::Ended && call.stage != Stage::Ended).then(|| call.tenant.clone());
        call.stage = stage;
        self.remember(Recent { seq, wall, uid });
        let Some(tenant) = tenant else { return };
        if let Some(count) = self.active.get_mut(&tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.active.remove(&tenant);
            }
        }
    }

    /// What will be forgotten, in order.
    fn awaited(&self) -> impl Iterator<Item = &Recent> {
        let counts =
            |call: &CallState, recent: &Recent| call.marked.is_some_and(|(seq, _)| seq == recent.seq);
        self.recent.iter().filter(move |recent| self.get(recent.uid).is_some_and(|call| counts(call, recent)))
    }

    /// Records come in order but where a snapshot had a call ahead of the others: then it is near the end.
    fn remember(&mut self, recent: Recent) {
        let behind = self.recent.iter().rev().take_while(|other| other.seq > recent.seq).count();
        self.recent.insert(self.recent.len() - behind, recent);
    }

    /// Forgets what lies behind the redo window, seen from the record `seq` and its wall time. Looks only at what was before
    /// that record: a snapshot may bring more.
    pub(crate) fn prune(&mut self, seq: EventSeq, wall: Wall) {
        while let Some(first) = self.recent.front().copied() {
            if first.seq >= seq || wall.since(first.wall) < REDO_WINDOW {
                break;
            }
            self.recent.pop_front();
            let Some(call) = self.by_uid.get_mut(&first.uid) else { continue };
            match call.stage {
                // It was answered then, and has ended since: its end has its own time.
                _ if call.marked.is_none_or(|(seq, _)| seq != first.seq) => {}
                Stage::Ended => {
                    self.by_uid.remove(&first.uid);
                }
                Stage::Inviting | Stage::Answered => {
                    call.marked = None;
                    call.redo = Redo::Nothing;
                    let winner = call.winner;
                    call.branches.retain(|branch| Some(branch.attempt) == winner);
                    call.branches.shrink_to_fit();
                    call.forget_underway(|underway| underway.dismissed.clear());
                }
            }
        }
    }
}

impl CallState {
    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The record as far as it is known, while it is not written.
    #[must_use]
    pub fn cdr(&self) -> Option<&Cdr> {
        self.cdr.as_deref()
    }

    /// Position of the call's last event.
    #[must_use]
    pub fn last(&self) -> EventSeq {
        self.last
    }

    /// The caller's leg.
    pub(crate) fn caller(&self) -> &Leg {
        &self.caller
    }

    /// Whom and what it counts for, while its record is not written.
    fn counted(&self) -> SmallVec<[Counted; 3]> {
        let Some(cdr) = self.cdr() else { return SmallVec::new() };
        let peer = |kind, name: &Text| match kind {
            PeerKind::Endpoint => Some(Counted::User(self.tenant.clone(), name.clone())),
            PeerKind::Backend => Some(Counted::Backend(self.tenant.clone(), name.clone())),
            PeerKind::Trunk => Some(Counted::Trunk(name.clone())),
            PeerKind::Edge | PeerKind::Unknown => None,
        };
        let ingress = peer(cdr.ingress_kind, &cdr.ingress_peer);
        let egress = cdr.egress_kind.zip(cdr.egress_peer.as_ref()).and_then(|(kind, name)| peer(kind, name));
        let number =
            Counted::Number(self.tenant.clone(), cdr.callee_e164.as_ref().unwrap_or(&cdr.callee).clone());
        ingress.into_iter().chain(egress).chain([number]).collect()
    }

    /// Whether this is the INVITE that it waits with.
    pub(crate) fn invites(&self, invite: &PendingRequest) -> bool {
        self.invite.as_ref() == Some(invite)
    }

    /// The attempt with this number.
    pub(crate) fn branch(&self, attempt: u32) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.attempt == attempt)
    }

    /// The leg that was answered.
    pub(crate) fn callee(&self) -> Option<&Leg> {
        Some(&self.branch(self.winner?)?.leg)
    }

    /// INVITEs inside the dialog that may be open at `now`.
    pub(crate) fn open(&self, now: Wall) -> impl Iterator<Item = &Open> {
        let all = self.underway.iter().flat_map(|underway| &underway.reinvites);
        all.filter(move |open| now.since(open.at) < OPEN_MAX)
    }

    /// Dialogs that nobody wanted.
    pub(crate) fn dismissed(&self) -> &[Dismissed] {
        self.underway.as_ref().map_or(&[], |underway| &underway.dismissed)
    }

    /// Takes something out of what is under way.
    pub(crate) fn forget_underway(&mut self, forget: impl FnOnce(&mut Underway)) {
        let Some(mut underway) = self.underway.take() else { return };
        forget(&mut underway);
        self.underway = Some(underway).filter(|underway| !underway.is_empty());
    }
}

/// The record in a snapshot is JSON: it leaves out fields, which a format without names cannot.
mod as_json {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};
    use signalbox_schemas::call::Cdr;

    pub(super) fn serialize<S: Serializer>(cdr: &Option<Box<Cdr>>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&serde_json::to_string(cdr).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Box<Cdr>>, D::Error> {
        serde_json::from_str(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}
