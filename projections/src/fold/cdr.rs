//! `cdr`: one row for each call, from the event that ended it.

use super::{integer, json, maybe};
use crate::projection::{Began, Carried, Projection, Tables};
use crate::row::{insert, table_row};
use signalbox_bus::Delivered;
use signalbox_schemas::call::Cdr;
use signalbox_schemas::words::FailureStage;
use signalbox_schemas::{Event, Kind};
use signalbox_store::{Statement, Value};
use std::sync::LazyLock;

/// Folds `call.ended` and `call.failed` into `cdr`.
pub struct Cdrs;

table_row! {
    /// A call record; the fields are EVENTS.md's. Times in microseconds since 1970, lists in JSON.
    CdrRow / CdrValues = "cdr" {
        /// Id of the `call.attempted` event.
        cdr_id: String,
        /// The tenant, `_` for none.
        tenant: String,
        /// The call.
        call_uid: String,
        /// The edge it crossed.
        edge: String,
        /// Which traversal of the edge.
        side: String,
        /// As the tenant's users see it.
        direction: String,
        /// Session-ID (RFC 7989).
        session_id: Option<String>,
        /// Call-ID of the caller's leg.
        ingress_call_id: String,
        /// Call-ID of the called leg.
        egress_call_id: Option<String>,
        /// Calling number or user, raw.
        caller: String,
        /// Calling number in E.164.
        caller_e164: Option<String>,
        /// Called number or user, raw.
        callee: String,
        /// Called number in E.164.
        callee_e164: Option<String>,
        /// Who diverted it, latest first; JSON.
        diversion: String,
        /// Kind of peer it came from.
        ingress_kind: String,
        /// Peer it came from.
        ingress_peer: String,
        /// Kind of peer it went to.
        egress_kind: Option<String>,
        /// Peer it went to.
        egress_peer: Option<String>,
        /// Rule that chose the target.
        route: Option<String>,
        /// Targets tried.
        attempts: i64,
        /// INVITE came in.
        invited_at: i64,
        /// First progress.
        first_progress_at: Option<i64>,
        /// Answer.
        answered_at: Option<i64>,
        /// End.
        ended_at: i64,
        /// INVITE to first progress.
        pdd_ms: Option<i64>,
        /// First progress to answer or end.
        ring_ms: Option<i64>,
        /// INVITE to answer.
        setup_ms: Option<i64>,
        /// INVITE to end.
        duration_ms: i64,
        /// Answer to end.
        billable_ms: i64,
        /// What ended it.
        released_by: String,
        /// Final SIP status.
        status: i64,
        /// Q.850 cause.
        q850_cause: Option<i64>,
        /// Reason text.
        reason: Option<String>,
        /// How it came out.
        category: String,
        /// How far a failed call had come.
        stage: Option<String>,
        /// Codecs last agreed on; JSON.
        codecs: String,
        /// How complete the record is.
        completeness: String,
        /// First event of the call in its journal.
        first_sequence: i64,
        /// Last event before the record.
        last_sequence: i64,
    }
}

/// The first record of a call stands: a bill does not change by itself.
static INSERT: LazyLock<String> =
    LazyLock::new(|| insert(CdrRow::TABLE, CdrRow::COLUMNS, "ON CONFLICT (cdr_id) DO NOTHING"));

impl Projection for Cdrs {
    fn name(&self) -> &'static str {
        "cdr"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::CallEnded, Kind::CallFailed]
    }

    fn tables(&self) -> Option<&'static Tables> {
        // The id is `<journal>.<sequence>`. A record that was estimated stays known as that.
        const CDR: Carried = Carried {
            table: "cdr",
            journal: "substr(o.cdr_id, 1, 26)",
            began: Began::Sequence("o.last_sequence"),
            same: "n.cdr_id = o.cdr_id",
            marks: &[(
                "completeness",
                "CASE WHEN o.completeness = 'estimated' THEN o.completeness ELSE 'imported' END",
            )],
            gives_way: None,
        };
        const TABLES: Tables = Tables { rebuild: "cdr-rebuild", names: &["cdr"], carried: &[CDR] };
        Some(&TABLES)
    }

    fn fold(&self, _event: &Delivered, data: &Event) -> Vec<Statement> {
        let row = match data {
            Event::CallEnded(cdr) => row(cdr, None),
            Event::CallFailed(failed) => row(&failed.cdr, Some(failed.stage)),
            _ => return Vec::new(),
        };
        vec![Statement::new(INSERT.as_str(), row.params())]
    }
}

fn row(cdr: &Cdr, stage: Option<FailureStage>) -> CdrValues {
    CdrValues {
        cdr_id: cdr.cdr_id.to_string().into(),
        tenant: (&cdr.tenant).into(),
        call_uid: cdr.call_uid.to_string().into(),
        edge: (&cdr.edge).into(),
        side: Value::Word(cdr.side.as_str()),
        direction: Value::Word(cdr.direction.as_str()),
        session_id: maybe(&cdr.session_id),
        ingress_call_id: (&cdr.ingress_call_id).into(),
        egress_call_id: maybe(&cdr.egress_call_id),
        caller: (&cdr.caller).into(),
        caller_e164: maybe(&cdr.caller_e164),
        callee: (&cdr.callee).into(),
        callee_e164: maybe(&cdr.callee_e164),
        diversion: json(&cdr.diversion),
        ingress_kind: Value::Word(cdr.ingress_kind.as_str()),
        ingress_peer: (&cdr.ingress_peer).into(),
        egress_kind: cdr.egress_kind.map(|kind| Value::Word(kind.as_str())).into(),
        egress_peer: maybe(&cdr.egress_peer),
        route: maybe(&cdr.route),
        attempts: integer(cdr.attempts),
        invited_at: cdr.invited_at.0.into(),
        first_progress_at: cdr.first_progress_at.map(|at| at.0).into(),
        answered_at: cdr.answered_at.map(|at| at.0).into(),
        ended_at: cdr.ended_at.0.into(),
        pdd_ms: cdr.pdd_ms.into(),
        ring_ms: cdr.ring_ms.into(),
        setup_ms: cdr.setup_ms.into(),
        duration_ms: cdr.duration_ms.into(),
        billable_ms: cdr.billable_ms.into(),
        released_by: Value::Word(cdr.released_by.as_str()),
        status: cdr.status.into(),
        q850_cause: cdr.q850_cause.map(i64::from).into(),
        reason: maybe(&cdr.reason),
        category: Value::Word(cdr.category.as_str()),
        stage: stage.map(|stage| Value::Word(stage.as_str())).into(),
        codecs: json(&cdr.codecs),
        completeness: Value::Word(cdr.completeness.as_str()),
        first_sequence: cdr.first_sequence.0.into(),
        last_sequence: cdr.last_sequence.0.into(),
    }
}
