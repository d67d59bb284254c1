//! `calls`: the calls that are up now, by uid.

use super::{integer, journal_of, json, maybe, tenant_of};
use crate::projection::{Began, Carried, Folded, Projection, Tables};
use crate::row::{insert, table_row};
use signalbox_bus::Delivered;
use signalbox_schemas::call::{
    CallAnswered, CallAttempted, CallModified, CallProgressed, CallRecovered, CallRouted,
};
use signalbox_schemas::words::{ModificationKind, TargetKind};
use signalbox_schemas::{Event, Kind};
use signalbox_store::{Statement, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Folds the `call` domain. A call's row begins with its attempt and ends with its record. What a batch tells of one call
/// is folded in memory first: a call that began in it is written as one row, one that ended in it is only deleted.
pub struct Calls;

table_row! {
    /// A call that is up.
    CallRow / CallValues = "calls" {
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

/// The row of a call as several events in one batch have made it: it stands for all of them.
static INSERT_FOLDED: LazyLock<String> = LazyLock::new(|| {
    let set: Vec<String> = CallRow::COLUMNS.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let tail = format!(
        "ON CONFLICT (call_uid) DO UPDATE SET {} \
         WHERE calls.journal <> excluded.journal OR calls.sequence < excluded.sequence",
        set.join(", ")
    );
    insert(CallRow::TABLE, CallRow::COLUMNS, &tail)
});

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

    fn tables(&self) -> Option<&'static Tables> {
        const CALLS: Carried = Carried {
            table: "calls",
            journal: "o.journal",
            began: Began::At("o.invited_at"),
            same: "n.call_uid = o.call_uid",
            marks: &[],
            gives_way: None,
        };
        const TABLES: Tables = Tables { rebuild: "calls-rebuild", names: &["calls"], carried: &[CALLS] };
        Some(&TABLES)
    }

    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement> {
        match data {
            Event::CallAttempted(attempt) => {
                vec![Statement::new(INSERT.as_str(), attempted(event, attempt).params())]
            }
            Event::CallRouted(route) => vec![change(event, ROUTED, way(route))],
            Event::CallProgressed(progress) => vec![progressed(event, progress)],
            Event::CallAnswered(answer) => vec![change(event, ANSWERED, answer_of(event, answer))],
            Event::CallModified(change) => modified(event, change),
            Event::CallCheckpointed(_) => vec![change(event, CHECKPOINTED, [event.time.into()])],
            Event::CallRecovered(recovery) => vec![recovered(event, recovery)],
            Event::CallEnded(_) | Event::CallFailed(_) => {
                vec![Statement::new(ENDED, vec![(&event.subject).into()])]
            }
            _ => Vec::new(),
        }
    }

    fn fold_batch(&self, events: &[Folded<'_>]) -> Vec<(usize, Statement)> {
        let mut batch = InBatch::default();
        for folded in events {
            batch.take(self, folded);
        }
        batch.writes.into_iter().filter_map(|(at, write)| Some((at, write.statement()?))).collect()
    }
}

/// The calls of one batch.
#[derive(Default)]
struct InBatch<'e> {
    writes: Vec<(usize, Write)>,
    calls: HashMap<&'e str, Told>,
}

/// What a batch has told of a call so far.
#[derive(Default)]
struct Told {
    /// Where its row is in the writes, when it began in this batch.
    row: Option<usize>,
    /// All its writes.
    all: Vec<usize>,
}

enum Write {
    Row {
        values: Box<CallValues>,
        folded: bool,
    },
    One(Statement),
    /// What a later write of the batch has made void.
    Void,
}

impl Write {
    fn statement(self) -> Option<Statement> {
        match self {
            Self::Row { values, folded: true } => {
                Some(Statement::new(INSERT_FOLDED.as_str(), values.params()))
            }
            Self::Row { values, folded: false } => Some(Statement::new(INSERT.as_str(), values.params())),
            Self::One(statement) => Some(statement),
            Self::Void => None,
        }
    }
}

impl<'e> InBatch<'e> {
    fn take(&mut self, calls: &Calls, folded: &Folded<'e>) {
        let Folded { at, event, data } = *folded;
        let told = self.calls.entry(event.subject.as_str()).or_default();
        match data {
            Event::CallAttempted(attempt) if told.all.is_empty() => {
                let values = Box::new(attempted(event, attempt));
                (told.row, told.all) = (Some(self.writes.len()), vec![self.writes.len()]);
                self.writes.push((at, Write::Row { values, folded: false }));
                return;
            }
            Event::CallEnded(_) | Event::CallFailed(_) => {
                for made in told.all.drain(..) {
                    self.writes[made].1 = Write::Void;
                }
                told.row = None;
            }
            _ => {}
        }
        if let Some(row) = told.row
            && let Write::Row { values, folded } = &mut self.writes[row].1
        {
            *folded |= tell(values, event, data);
            return;
        }
        for statement in calls.fold(event, data) {
            told.all.push(self.writes.len());
            self.writes.push((at, Write::One(statement)));
        }
    }
}

/// Does to a row in memory what the event's statement does to one in the table; false when that is nothing.
fn tell(row: &mut CallValues, event: &Delivered, data: &Event) -> bool {
    match data {
        Event::CallRouted(route) => {
            [row.attempts, row.egress_kind, row.egress_peer, row.route] = way(route);
        }
        Event::CallProgressed(progress) => {
            if row.state != Value::Word(ANSWERED_STATE) {
                row.state = Value::Word("ringing");
            }
            keep(&mut row.progressed_at, event.time.into());
            keep(&mut row.pdd_ms, progress.pdd_ms.into());
        }
        Event::CallAnswered(answer) => {
            let pdd;
            [row.answered_at, row.setup_ms, pdd, row.egress_peer, row.codecs, row.egress_call_id] =
                answer_of(event, answer);
            keep(&mut row.pdd_ms, pdd);
            row.state = Value::Word(ANSWERED_STATE);
        }
        Event::CallModified(change) => match change.kind {
            ModificationKind::Hold => row.held_by = Value::Word(change.by.as_str()),
            ModificationKind::Resume => row.held_by = Value::Null,
            _ if change.codecs.is_empty() => return false,
            _ => row.codecs = json(&change.codecs),
        },
        Event::CallCheckpointed(_) => row.checkpointed_at = event.time.into(),
        Event::CallRecovered(recovery) => {
            row.edge = (&recovery.to_edge).into();
            row.recovered_at = event.time.into();
        }
        _ => return false,
    }
    (row.journal, row.sequence) = (journal_of(event), event.seq.0.into());
    true
}

const ANSWERED_STATE: &str = "answered";

/// `COALESCE(place, value)`.
fn keep(place: &mut Value, value: Value) {
    if *place == Value::Null {
        *place = value;
    }
}

fn change<const N: usize>(event: &Delivered, sql: &'static str, set: [Value; N]) -> Statement {
    let head: [Value; 3] = [(&event.subject).into(), journal_of(event), event.seq.0.into()];
    Statement::new(sql, head.into_iter().chain(set).collect())
}

fn attempted(event: &Delivered, attempt: &CallAttempted) -> CallValues {
    CallValues {
        call_uid: (&event.subject).into(),
        cdr_id: event.id().into(),
        tenant: tenant_of(event),
        edge: (&attempt.edge).into(),
        journal: journal_of(event),
        sequence: event.seq.0.into(),
        state: Value::Word("inviting"),
        side: Value::Word(attempt.side.as_str()),
        direction: Value::Word(attempt.direction.as_str()),
        session_id: maybe(&attempt.session_id),
        call_id: (&attempt.call_id).into(),
        egress_call_id: Value::Null,
        from_uri: (&attempt.from_uri).into(),
        to_uri: (&attempt.to_uri).into(),
        ruri: (&attempt.ruri).into(),
        caller: (&attempt.caller).into(),
        caller_e164: maybe(&attempt.caller_e164),
        callee: (&attempt.callee).into(),
        callee_e164: maybe(&attempt.callee_e164),
        ingress_kind: Value::Word(attempt.ingress_kind.as_str()),
        ingress_peer: (&attempt.ingress_peer).into(),
        user_agent: maybe(&attempt.user_agent),
        attempts: Value::Int(0),
        egress_kind: Value::Null,
        egress_peer: Value::Null,
        route: Value::Null,
        codecs: json(&[]),
        held_by: Value::Null,
        invited_at: event.time.into(),
        progressed_at: Value::Null,
        answered_at: Value::Null,
        pdd_ms: Value::Null,
        setup_ms: Value::Null,
        checkpointed_at: Value::Null,
        recovered_at: Value::Null,
    }
}

/// `attempts`, `egress_kind`, `egress_peer`, `route`.
fn way(route: &CallRouted) -> [Value; 4] {
    // The words of `cdr.egress_kind`: a contact is an endpoint.
    let kind = match route.target.kind {
        TargetKind::Contact => "endpoint",
        other => other.as_str(),
    };
    [integer(route.attempt), Value::Word(kind), (&route.target.name).into(), maybe(&route.why.rule)]
}

fn progressed(event: &Delivered, progress: &CallProgressed) -> Statement {
    change(event, PROGRESSED, [event.time.into(), progress.pdd_ms.into()])
}

/// `answered_at`, `setup_ms`, `pdd_ms`, `egress_peer`, `codecs`, `egress_call_id`.
fn answer_of(event: &Delivered, answer: &CallAnswered) -> [Value; 6] {
    [
        event.time.into(),
        answer.setup_ms.into(),
        answer.pdd_ms.into(),
        (&answer.peer).into(),
        json(&answer.codecs),
        maybe(&answer.egress_call_id),
    ]
}

/// A change without codecs leaves those that were agreed on.
fn modified(event: &Delivered, modification: &CallModified) -> Vec<Statement> {
    match modification.kind {
        ModificationKind::Hold => vec![change(event, HELD, [Value::Word(modification.by.as_str())])],
        ModificationKind::Resume => vec![change(event, HELD, [Value::Null])],
        _ if modification.codecs.is_empty() => Vec::new(),
        _ => vec![change(event, RECODED, [json(&modification.codecs)])],
    }
}

fn recovered(event: &Delivered, recovery: &CallRecovered) -> Statement {
    change(event, RECOVERED, [(&recovery.to_edge).into(), event.time.into()])
}
