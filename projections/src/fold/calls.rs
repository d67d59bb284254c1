//! `calls`: the calls that are up now, by uid.

use super::{big, integer, json, maybe, owned, tenant_of};
use crate::projection::Projection;
use crate::row::{insert, table_row};
use signalbox_bus::Delivered;
use signalbox_schemas::call::{
    CallAnswered, CallAttempted, CallModified, CallProgressed, CallRecovered, CallRouted,
};
use signalbox_schemas::words::{ModificationKind, TargetKind};
use signalbox_schemas::{Event, Kind};
use signalbox_store::{Statement, Value};
use std::sync::LazyLock;

/// Folds the `call` domain. A call's row begins with its attempt and ends with its record.
pub struct Calls;

table_row! {
    /// A call that is up.
    CallRow = "calls" {
        /// The call.
        call_uid: String,
        /// Id that its record will have.
        cdr_id: String,
        /// The tenant, `_` for none.
        tenant: String,
        /// The edge it crosses.
        edge: String,
        /// Journal of its last event.
        journal: String,
        /// Number of its last event.
        sequence: i64,
        /// `inviting`, `ringing` or `answered`.
        state: String,
        /// Which traversal of the edge.
        side: String,
        /// As the tenant's users see it.
        direction: String,
        /// Session-ID (RFC 7989).
        session_id: Option<String>,
        /// Call-ID of the caller's leg.
        call_id: String,
        /// Call-ID of the answered leg, where it is another.
        egress_call_id: Option<String>,
        /// From URI.
        from_uri: String,
        /// To URI.
        to_uri: String,
        /// Request-URI.
        ruri: String,
        /// Calling number or user, raw.
        caller: String,
        /// Calling number in E.164.
        caller_e164: Option<String>,
        /// Called number or user, raw.
        callee: String,
        /// Called number in E.164.
        callee_e164: Option<String>,
        /// Kind of peer it came from.
        ingress_kind: String,
        /// Peer it came from.
        ingress_peer: String,
        /// User-Agent of the caller.
        user_agent: Option<String>,
        /// Targets tried.
        attempts: i64,
        /// Kind of peer it went to last.
        egress_kind: Option<String>,
        /// Peer it went to last.
        egress_peer: Option<String>,
        /// Rule that chose the target.
        route: Option<String>,
        /// Codecs last agreed on; JSON.
        codecs: String,
        /// Who put it on hold, while it is.
        held_by: Option<String>,
        /// INVITE came in, microseconds since 1970.
        invited_at: i64,
        /// First progress.
        progressed_at: Option<i64>,
        /// Answer.
        answered_at: Option<i64>,
        /// INVITE to first progress.
        pdd_ms: Option<i64>,
        /// INVITE to answer.
        setup_ms: Option<i64>,
        /// Last checkpoint of a long call.
        checkpointed_at: Option<i64>,
        /// When it last came back under control.
        recovered_at: Option<i64>,
    }
}

static INSERT: LazyLock<String> =
    LazyLock::new(|| insert(CallRow::TABLE, CallRow::COLUMNS, "ON CONFLICT (call_uid) DO NOTHING"));

/// An `UPDATE` of the call named by `$1`, unless its event (`$2` journal, `$3` number) has been seen; `set` uses `$4` on.
macro_rules! update {
    ($set:literal) => {
        concat!(
            "UPDATE calls SET journal = $2, sequence = $3, ",
            $set,
            " WHERE call_uid = $1 AND (journal <> $2 OR sequence < $3)"
        )
    };
}

const ROUTED: &str = update!("attempts = $4, egress_kind = $5, egress_peer = $6, route = $7");
const PROGRESSED: &str = update!(
    "state = CASE WHEN state = 'answered' THEN state ELSE 'ringing' END, \
     progressed_at = COALESCE(progressed_at, $4), pdd_ms = COALESCE(pdd_ms, $5)"
);
const ANSWERED: &str = update!(
    "state = 'answered', answered_at = $4, setup_ms = $5, pdd_ms = COALESCE(pdd_ms, $6), egress_peer = $7, \
     codecs = $8, egress_call_id = $9"
);
const HELD: &str = update!("held_by = $4");
const RECODED: &str = update!("codecs = $4");
const CHECKPOINTED: &str = update!("checkpointed_at = $4");
const RECOVERED: &str = update!("edge = $4, recovered_at = $5");
const ENDED: &str = "DELETE FROM calls WHERE call_uid = $1";

impl Projection for Calls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[
            Kind::CallAttempted,
            Kind::CallRouted,
            Kind::CallProgressed,
            Kind::CallAnswered,
            Kind::CallModified,
            Kind::CallCheckpointed,
            Kind::CallRecovered,
            Kind::CallEnded,
            Kind::CallFailed,
        ]
    }

    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement> {
        match data {
            Event::CallAttempted(attempt) => {
                vec![Statement::new(INSERT.as_str(), attempted(event, attempt).values())]
            }
            Event::CallRouted(route) => vec![routed(event, route)],
            Event::CallProgressed(progress) => vec![progressed(event, progress)],
            Event::CallAnswered(answer) => vec![answered(event, answer)],
            Event::CallModified(change) => modified(event, change),
            Event::CallCheckpointed(_) => vec![change(event, CHECKPOINTED, [event.time.into()])],
            Event::CallRecovered(recovery) => vec![recovered(event, recovery)],
            Event::CallEnded(_) | Event::CallFailed(_) => {
                vec![Statement::new(ENDED, vec![event.subject.as_str().into()])]
            }
            _ => Vec::new(),
        }
    }
}

fn change<const N: usize>(event: &Delivered, sql: &'static str, set: [Value; N]) -> Statement {
    let head: [Value; 3] =
        [event.subject.as_str().into(), event.source.journal.to_string().into(), event.seq.0.into()];
    Statement::new(sql, head.into_iter().chain(set).collect())
}

fn attempted(event: &Delivered, attempt: &CallAttempted) -> CallRow {
    CallRow {
        call_uid: owned(&event.subject),
        cdr_id: event.id(),
        tenant: tenant_of(event),
        edge: owned(&attempt.edge),
        journal: event.source.journal.to_string(),
        sequence: big(event.seq.0),
        state: "inviting".to_owned(),
        side: attempt.side.to_string(),
        direction: attempt.direction.to_string(),
        session_id: maybe(&attempt.session_id),
        call_id: owned(&attempt.call_id),
        egress_call_id: None,
        from_uri: owned(&attempt.from_uri),
        to_uri: owned(&attempt.to_uri),
        ruri: owned(&attempt.ruri),
        caller: owned(&attempt.caller),
        caller_e164: maybe(&attempt.caller_e164),
        callee: owned(&attempt.callee),
        callee_e164: maybe(&attempt.callee_e164),
        ingress_kind: attempt.ingress_kind.to_string(),
        ingress_peer: owned(&attempt.ingress_peer),
        user_agent: maybe(&attempt.user_agent),
        attempts: 0,
        egress_kind: None,
        egress_peer: None,
        route: None,
        codecs: json(&[]),
        held_by: None,
        invited_at: event.time.0,
        progressed_at: None,
        answered_at: None,
        pdd_ms: None,
        setup_ms: None,
        checkpointed_at: None,
        recovered_at: None,
    }
}

fn routed(event: &Delivered, route: &CallRouted) -> Statement {
    // The words of `cdr.egress_kind`: a contact is an endpoint.
    let kind = match route.target.kind {
        TargetKind::Contact => "endpoint",
        other => other.as_str(),
    };
    let set = [
        integer(route.attempt).into(),
        kind.into(),
        route.target.name.as_str().into(),
        maybe(&route.why.rule).into(),
    ];
    change(event, ROUTED, set)
}

fn progressed(event: &Delivered, progress: &CallProgressed) -> Statement {
    change(event, PROGRESSED, [event.time.into(), progress.pdd_ms.into()])
}

fn answered(event: &Delivered, answer: &CallAnswered) -> Statement {
    let set = [
        event.time.into(),
        answer.setup_ms.into(),
        answer.pdd_ms.into(),
        answer.peer.as_str().into(),
        json(&answer.codecs).into(),
        maybe(&answer.egress_call_id).into(),
    ];
    change(event, ANSWERED, set)
}

/// A change without codecs leaves those that were agreed on.
fn modified(event: &Delivered, modification: &CallModified) -> Vec<Statement> {
    match modification.kind {
        ModificationKind::Hold => vec![change(event, HELD, [modification.by.as_str().into()])],
        ModificationKind::Resume => vec![change(event, HELD, [Value::Null])],
        _ if modification.codecs.is_empty() => Vec::new(),
        _ => vec![change(event, RECODED, [json(&modification.codecs).into()])],
    }
}

fn recovered(event: &Delivered, recovery: &CallRecovered) -> Statement {
    change(event, RECOVERED, [recovery.to_edge.as_str().into(), event.time.into()])
}
