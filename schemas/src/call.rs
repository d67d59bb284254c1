//! Events of calls, from the first INVITE to the call record.
//!
//! The aggregate is the call: one traversal of one edge, named by its uid (`c_…`, also the correlation id).
//! A call phone → PBX → phone is two calls with different `side`. Durations are monotonic time; only across a restart wall time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{CallUid, EventSeq, Text};

use crate::values::{EventId, FlowData, Timestamp, TransportAddress};
use crate::words::{
    Category, Completeness, Direction, FailureStage, IdentityVerdict, MediaDirection, MediaKind,
    ModificationKind, Party, PeerKind, RecoveryCause, ReleasedBy, RouteBasis, Side, TargetKind, TransferKind,
    TransferOutcome,
};

/// Somebody tried to call: an INVITE outside a dialog from a registered or trusted source, or one that a backend answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallAttempted {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// Which traversal of the edge this is.
    pub side: Side,
    /// The direction as the tenant's users see it.
    pub direction: Direction,
    /// The Session-ID (RFC 7989), which links the traversals of one conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    /// The Call-ID of the caller's leg.
    pub call_id: Text,
    /// The URI of the From header field.
    #[schemars(extend("x-personal-data" = true))]
    pub from_uri: Text,
    /// The URI of the To header field.
    #[schemars(extend("x-personal-data" = true))]
    pub to_uri: Text,
    /// The Request-URI as it came in.
    #[schemars(extend("x-personal-data" = true))]
    pub ruri: Text,
    /// The CSeq number of the INVITE.
    pub cseq: u32,
    /// The calling number or user, as it was written.
    #[schemars(extend("x-personal-data" = true))]
    pub caller: Text,
    /// The calling number in E.164 (`+` and digits), where it is one.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_e164: Option<Text>,
    /// The called number or user, as it was written.
    #[schemars(extend("x-personal-data" = true))]
    pub callee: Text,
    /// The called number in E.164 (`+` and digits), where it is one.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callee_e164: Option<Text>,
    /// Who diverted the call, latest first (RFC 5806, History-Info).
    #[schemars(extend("x-personal-data" = true))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diversion: Vec<Text>,
    /// What kind of peer the call came from.
    pub ingress_kind: PeerKind,
    /// The peer the call came from: name of the backend or trunk, or the caller's address of record.
    #[schemars(extend("x-personal-data" = true))]
    pub ingress_peer: Text,
    /// The User-Agent header field.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text>,
    /// What the INVITE offered; none when it carried no description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdp: Option<SdpSummary>,
    /// What is known of the Identity header field (RFC 8224).
    pub identity: IdentityVerdict,
}

/// What a session description says, without its secrets and addresses of media.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SdpSummary {
    /// The media streams, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<MediaSummary>,
    /// Whether the media address is a private one (RFC 1918, RFC 6598, RFC 4193).
    pub private_address: bool,
    /// Whether it offers ICE candidates (RFC 8839).
    pub ice: bool,
}

/// One media stream of a session description.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MediaSummary {
    /// Its kind.
    pub kind: MediaKind,
    /// Its direction, as the sender of the description sees it.
    pub direction: MediaDirection,
    /// Whether it is SRTP (by SDES or DTLS).
    pub encrypted: bool,
    /// The codecs' encoding names, in the order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<Text>,
}

/// A target was chosen and the INVITE goes to it. Each attempt of a fork or failover has its own event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRouted {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The number of this attempt; the first is 1.
    pub attempt: u32,
    /// What the call is sent to.
    pub target: RouteTarget,
    /// Why this target.
    pub why: RouteWhy,
}

/// What a call is sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteTarget {
    /// The kind of target.
    pub kind: TargetKind,
    /// Name of the backend or trunk, or the address of record of a contact.
    #[schemars(extend("x-personal-data" = true))]
    pub name: Text,
    /// The contact's URI as its phone wrote it.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Text>,
    /// The binding's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Text>,
    /// Where the request is sent.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<TransportAddress>,
    /// The edge that the contact registered with, when it is another one: the request is handed to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Text>,
}

/// Why a target was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteWhy {
    /// What decided.
    pub basis: RouteBasis,
    /// The rule of the configuration, by its name or place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Text>,
    /// The target's priority; the lowest goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The target's weight among those of its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The sum of the weights of its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_total: Option<u32>,
    /// The target that failed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_from: Option<Text>,
    /// The SIP status it failed with; none when it did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover_status: Option<u16>,
}

/// The called side is ringing or sends early media (a response 101 to 199).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallProgressed {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The attempt that made progress.
    pub attempt: u32,
    /// The SIP status.
    pub status: u16,
    /// Post-dial delay: from the INVITE to this first progress, in milliseconds.
    pub pdd_ms: u64,
    /// Whether the response carried a session description.
    pub early_media: bool,
}

/// The call was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallAnswered {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The attempt that was answered: the leg that won.
    pub attempt: u32,
    /// The SIP status.
    pub status: u16,
    /// Who answered: name of the backend or trunk, or the address of record.
    #[schemars(extend("x-personal-data" = true))]
    pub peer: Text,
    /// From the INVITE to the answer, in milliseconds.
    pub setup_ms: u64,
    /// Post-dial delay: from the INVITE to the first progress, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdd_ms: Option<u64>,
    /// The codecs agreed on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<Text>,
    /// The caller's tag on its leg.
    pub from_tag: Text,
    /// The called side's tag on the caller's leg.
    pub to_tag: Text,
    /// The Call-ID of the answered leg, where it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_call_id: Option<Text>,
    /// The session interval (RFC 4028), in milliseconds: refreshed within it, or the call ends. None without a session timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_interval_ms: Option<u64>,
}

/// A call in progress was changed by a re-INVITE or UPDATE that was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallModified {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// Who asked for it.
    pub by: Party,
    /// What changed.
    pub kind: ModificationKind,
    /// The codecs after the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<Text>,
    /// The session interval (RFC 4028), in milliseconds: refreshed within it, or the call ends. None without a session timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_interval_ms: Option<u64>,
}

/// One end of a call asks to change it: an INVITE inside its dialog (RFC 3261 §14). `call.modified` follows if that is accepted
/// and changes something; nothing follows if it is refused or only refreshes the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallReinvited {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// Who asks.
    pub by: Party,
    /// CSeq number of its INVITE.
    pub cseq: u32,
}

/// An answer that nobody wanted was undone: another attempt had answered first, or the caller had given up (RFC 3261
/// §13.2.2.4). Who gave it is told by ACK and BYE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallDismissed {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The attempt that was answered in vain.
    pub attempt: u32,
    /// The SIP status.
    pub status: u16,
    /// Who answered: name of the backend or trunk, or the address of record.
    #[schemars(extend("x-personal-data" = true))]
    pub peer: Text,
}

/// A call was transferred, or somebody tried to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallTransferred {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// Who asked for it.
    pub by: Party,
    /// Blind or attended.
    pub kind: TransferKind,
    /// The number or user it was transferred to.
    #[schemars(extend("x-personal-data" = true))]
    pub target: Text,
    /// What became of it.
    pub outcome: TransferOutcome,
    /// The SIP status of the transfer's end, where it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The call that takes this one's place, where it crosses this edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<CallUid>,
}

/// A long call goes on: for interim billing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallCheckpointed {
    /// Name of the edge.
    pub edge: Text,
    /// Since the answer, in milliseconds.
    pub elapsed_ms: u64,
    /// The number of this checkpoint; the first is 1.
    pub checkpoint: u32,
}

/// A call in progress came back under control after a restart or a takeover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallRecovered {
    /// Name of the edge.
    pub edge: Text,
    /// How it came back.
    pub cause: RecoveryCause,
    /// The edge that had it before.
    pub from_edge: Text,
    /// The edge that has it now; the same one after a restart.
    pub to_edge: Text,
    /// How long nobody watched it, in milliseconds of wall time.
    pub gap_ms: u64,
}

/// The call record: everything that is needed to bill, in one event. It is the whole of `call.ended`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cdr {
    /// Name of the edge.
    pub edge: Text,
    /// The flow of the message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowData>,
    /// The record's id: the id of the `call.attempted` event.
    pub cdr_id: EventId,
    /// The tenant; `_` for none.
    pub tenant: Text,
    /// The call.
    pub call_uid: CallUid,
    /// Which traversal of the edge this is. Views for billing select sides.
    pub side: Side,
    /// The direction as the tenant's users see it.
    pub direction: Direction,
    /// The Session-ID (RFC 7989), which links the traversals of one conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Text>,
    /// The Call-ID of the caller's leg.
    pub ingress_call_id: Text,
    /// The Call-ID of the called leg (the last one tried).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_call_id: Option<Text>,
    /// The calling number or user, as it was written.
    #[schemars(extend("x-personal-data" = true))]
    pub caller: Text,
    /// The calling number in E.164 (`+` and digits), where it is one.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller_e164: Option<Text>,
    /// The called number or user, as it was written.
    #[schemars(extend("x-personal-data" = true))]
    pub callee: Text,
    /// The called number in E.164 (`+` and digits), where it is one.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callee_e164: Option<Text>,
    /// Who diverted the call, latest first (RFC 5806, History-Info).
    #[schemars(extend("x-personal-data" = true))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diversion: Vec<Text>,
    /// What kind of peer the call came from.
    pub ingress_kind: PeerKind,
    /// The peer the call came from: name of the backend or trunk, or the caller's address of record.
    #[schemars(extend("x-personal-data" = true))]
    pub ingress_peer: Text,
    /// What kind of peer the call went to (the last one tried).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_kind: Option<PeerKind>,
    /// The peer the call went to: name of the backend or trunk, or the called address of record.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_peer: Option<Text>,
    /// The rule of the configuration that chose the target, by its name or place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Text>,
    /// How many targets were tried.
    pub attempts: u32,
    /// When the INVITE came in.
    pub invited_at: Timestamp,
    /// When the called side first made progress (101 to 199).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_progress_at: Option<Timestamp>,
    /// When it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Post-dial delay: from the INVITE to the first progress, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdd_ms: Option<u64>,
    /// From the first progress to the answer or the end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_ms: Option<u64>,
    /// From the INVITE to the answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_ms: Option<u64>,
    /// From the INVITE to the end, in milliseconds.
    pub duration_ms: u64,
    /// From the answer to the end, in milliseconds; 0 when it was not answered.
    pub billable_ms: u64,
    /// What ended it.
    pub released_by: ReleasedBy,
    /// The final SIP status of the INVITE.
    pub status: u16,
    /// The Q.850 cause of the end (RFC 3326), 1 to 127.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q850_cause: Option<u8>,
    /// The reason phrase or Reason text of the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
    /// How it came out.
    pub category: Category,
    /// The codecs last agreed on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codecs: Vec<Text>,
    /// How complete this record is.
    pub completeness: Completeness,
    /// Position of the call's first event in the journal.
    pub first_sequence: EventSeq,
    /// Position of the call's last event before this one.
    pub last_sequence: EventSeq,
}

/// The call was not answered. The whole call record, and how far it had come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallFailed {
    /// The call record; its fields stand beside `stage`.
    #[serde(flatten)]
    pub cdr: Cdr,
    /// How far it had come.
    pub stage: FailureStage,
}
