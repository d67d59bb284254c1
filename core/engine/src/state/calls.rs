//! Calls as the journal knows them: enough to finish every one of them after a crash, and to write its record.
//!
//! Only `state::apply` changes what is here. A call stays for [`REDO_WINDOW`] after its end, so that its last words can be
//! said again; it is pruned by the wall time of later records, so that a replay prunes at the same record.

use crate::call::leg::{Leg, LegChange, Peer};
use crate::call::raw::{Raw, RawList};
use serde::{Deserialize, Serialize};
use signalbox_base::{CallUid, EventSeq, ShortToken, TenantId, Wall};
use signalbox_schemas::call::Cdr;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long the 2xx of an answered and the BYE of an ended call may have to be sent again: 2 · 64·T1 (DESIGN.md §6).
pub const REDO_WINDOW: Duration = Duration::from_secs(64);

/// Every call that is known durably.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// Boxed: the map moves its values about as it grows.
    pub(crate) by_uid: BTreeMap<CallUid, Box<CallState>>,
    /// Answers and ends inside the redo window, oldest first.
    pub(crate) recent: VecDeque<Recent>,
    /// Calls that have not ended, per tenant.
    pub(crate) active: BTreeMap<TenantKey, u32>,
}

/// A tenant's name as a key that serialises.
pub type TenantKey = signalbox_base::Text;

/// An answer or end inside the redo window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    pub(crate) wall: Wall,
    pub(crate) uid: CallUid,
    pub(crate) ended: bool,
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

/// What a call's events carry beside their public part: never leaves the edge. Of a leg that is known only what changed.
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
        leg: LegChange,
        /// The INVITE as it is now, where it is another one: a caller that was challenged sends it again.
        invite: Option<PendingRequest>,
    },
    /// With `call.answered`.
    Answered {
        /// What became of the caller's leg: its dialog's tags.
        caller: LegChange,
        /// What became of the leg of the attempt that was answered.
        callee: LegChange,
        /// The 2xx to the caller.
        answer: Answer,
    },
    /// With `call.modified`, `call.recovered` and `call.checkpointed`: what became of both legs.
    Legs {
        /// The caller's.
        caller: LegChange,
        /// The called one.
        callee: LegChange,
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

    /// Everything, ended ones inside the redo window included, in order of uid.
    pub fn iter(&self) -> impl Iterator<Item = (CallUid, &CallState)> {
        self.by_uid.iter().map(|(uid, call)| (*uid, &**call))
    }

    /// Forgets what lies behind the redo window, seen from a record's wall time.
    pub(crate) fn prune(&mut self, wall: Wall) {
        while let Some(first) = self.recent.front().copied() {
            if wall.since(first.wall) < REDO_WINDOW {
                break;
            }
            self.recent.pop_front();
            if first.ended {
                self.by_uid.remove(&first.uid);
            } else if let Some(call) = self.by_uid.get_mut(&first.uid)
                && call.stage == Stage::Answered
            {
                call.redo = Redo::Nothing;
                let winner = call.winner;
                call.branches.retain(|branch| Some(branch.attempt) == winner);
                call.branches.shrink_to_fit();
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
