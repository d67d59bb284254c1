//! Events put aside: one that cannot be applied, and later ones of its aggregate, until an operator decides.
//!
//! Commands only write what they want ([`decide`]); the runner, which alone writes the projection's tables, does it.

use super::plan::{Aggregate, aggregate_of};
use crate::projection::Projection;
use crate::row::{Column, insert, select, table_row};
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_bus::{Delivered, Source};
use signalbox_schemas::Event;
use signalbox_store::{Class, Error, Statement, Store, Value};
use std::sync::{Arc, LazyLock};

table_row! {
    /// An event that is put aside.
    ParkedRow / ParkedValues = "parked" {
        /// The projection that could not apply it.
        projection: String,
        /// The projection's version.
        version: i64,
        /// The event's source.
        source: String,
        /// The event's number.
        sequence: i64,
        /// Its domain.
        domain: String,
        /// Its number in the domain.
        domainsequence: i64,
        /// Its type.
        kind: String,
        /// Its tenant, empty for none.
        tenant: String,
        /// Its aggregate.
        subject: String,
        /// When it happened, microseconds since 1970.
        time: i64,
        /// When it was journalled.
        recordedtime: i64,
        /// What it belongs to.
        correlation: String,
        /// The event that led to it, 0 for none.
        causation: i64,
        /// Its data.
        data: String,
        /// `invalid`, `row`, or `order` for one that only waits behind another.
        error_class: String,
        /// What was wrong.
        reason: String,
        /// Since when, microseconds since 1970.
        parked_at: i64,
        /// What an operator asked for: empty, `retry` or `skip`.
        wanted: String,
    }
}

/// What to do with a parked aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Apply its events again, in order; it stays parked when one fails again.
    Retry,
    /// Forget its events.
    Skip,
}

static INSERT: LazyLock<String> = LazyLock::new(|| {
    insert(
        ParkedRow::TABLE,
        ParkedRow::COLUMNS,
        "ON CONFLICT (projection, version, source, sequence) DO NOTHING",
    )
});
static LIST: LazyLock<String> =
    LazyLock::new(|| select(ParkedRow::TABLE, ParkedRow::COLUMNS, "ORDER BY projection, source, sequence"));
static OF_AGGREGATE: LazyLock<String> = LazyLock::new(|| {
    let tail =
        "WHERE projection = $1 AND version = $2 AND tenant = $3 AND subject = $4 ORDER BY source, sequence";
    select(ParkedRow::TABLE, ParkedRow::COLUMNS, tail)
});
const AGGREGATES: &str =
    "SELECT DISTINCT tenant, subject, wanted FROM parked WHERE projection = $1 AND version = $2";
const DECIDE: &str = "UPDATE parked SET wanted = $1 WHERE projection = $2 AND tenant = $3 AND subject = $4";
const FORGET: &str =
    "DELETE FROM parked WHERE projection = $1 AND version = $2 AND tenant = $3 AND subject = $4";
const FAILED_AGAIN: &str = "UPDATE parked SET wanted = '', reason = $1 \
    WHERE projection = $2 AND version = $3 AND tenant = $4 AND subject = $5";

/// Everything that is parked, by projection and number.
///
/// # Errors
/// As [`Error::class`] says; so do the others.
pub async fn list(store: &Store) -> Result<Vec<ParkedRow>, Error> {
    store.query(LIST.as_str(), Vec::new()).await?.iter().map(ParkedRow::read).collect()
}

/// Asks the runner to retry or skip an aggregate; it does so within a second. Returns how many events that concerns.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn decide(
    store: &Store,
    projection: &str,
    tenant: &str,
    subject: &str,
    decision: Decision,
) -> Result<u64, Error> {
    let wanted = match decision {
        Decision::Retry => "retry",
        Decision::Skip => "skip",
    };
    store.execute(DECIDE, vec![wanted.into(), projection.into(), tenant.into(), subject.into()]).await
}

/// The parked aggregates of a projection and what is wanted of each.
pub(crate) async fn aggregates(
    store: &Store,
    projection: &dyn Projection,
) -> Result<Vec<(Aggregate, String)>, Error> {
    let rows = store.query(AGGREGATES, vec![projection.name().into(), projection.version().into()]).await?;
    let read = |row| {
        let aggregate = (String::column(row, "tenant")?.into(), String::column(row, "subject")?.into());
        Ok((aggregate, String::column(row, "wanted")?))
    };
    rows.iter().map(read).collect()
}

/// The statement that puts an event aside.
pub(crate) fn put(
    projection: &dyn Projection,
    event: &Delivered,
    class: &str,
    reason: &str,
    now: Wall,
) -> Statement {
    let (tenant, subject) = aggregate_of(event);
    let row = ParkedValues {
        projection: projection.name().into(),
        version: projection.version().into(),
        source: event.source.to_string().into(),
        sequence: event.seq.0.into(),
        domain: event.domain().into(),
        domainsequence: event.domain_seq.into(),
        kind: (&event.kind).into(),
        tenant: tenant.into(),
        subject: subject.into(),
        time: event.time.into(),
        recordedtime: event.recorded.into(),
        correlation: (&event.correlation).into(),
        causation: event.causation.0.into(),
        data: String::from_utf8_lossy(&event.data).into_owned().into(),
        error_class: class.into(),
        reason: reason.into(),
        parked_at: now.into(),
        wanted: Value::Word(""),
    };
    Statement::new(INSERT.as_str(), row.params())
}

/// The parked events of an aggregate, in order.
pub(crate) async fn events(
    store: &Store,
    projection: &dyn Projection,
    aggregate: &Aggregate,
) -> Result<Vec<Delivered>, Error> {
    let rows = store.query(OF_AGGREGATE.as_str(), key(projection, aggregate)).await?;
    rows.iter().map(|row| ParkedRow::read(row).and_then(event)).collect()
}

/// The writes of an aggregate's events, or why one of them still cannot be folded.
pub(crate) fn fold_again(
    projection: &dyn Projection,
    events: &[Delivered],
) -> Result<Vec<Statement>, String> {
    let mut writes = Vec::new();
    for event in events {
        let data = Event::read(&event.kind, &event.data).map_err(|error| error.to_string())?;
        writes.extend(projection.fold(event, &data));
    }
    Ok(writes)
}

/// The statement that forgets an aggregate.
pub(crate) fn forget(projection: &dyn Projection, aggregate: &Aggregate) -> Statement {
    Statement::new(FORGET, key(projection, aggregate))
}

/// The statement that leaves an aggregate parked with the reason of the last try.
pub(crate) fn failed_again(projection: &dyn Projection, aggregate: &Aggregate, reason: &str) -> Statement {
    let mut params = vec![reason.into()];
    params.extend(key(projection, aggregate));
    Statement::new(FAILED_AGAIN, params)
}

fn key(projection: &dyn Projection, aggregate: &Aggregate) -> Vec<Value> {
    let (tenant, subject) = aggregate;
    vec![
        projection.name().into(),
        projection.version().into(),
        tenant.as_str().into(),
        subject.as_str().into(),
    ]
}

fn event(row: ParkedRow) -> Result<Delivered, Error> {
    let unread = |what: &str| Error::new(Class::Schema, format!("a parked event has no {what}"));
    let source: Source = row.source.parse().map_err(|_| unread("source"))?;
    let unsigned = |value: i64| u64::try_from(value).map_err(|_| unread("number"));
    Ok(Delivered {
        source: Arc::new(source),
        seq: EventSeq(unsigned(row.sequence)?),
        domain_seq: unsigned(row.domainsequence)?,
        kind: row.kind.into(),
        tenant: row.tenant.into(),
        subject: row.subject.into(),
        time: Wall(row.time),
        recorded: Wall(row.recordedtime),
        correlation: row.correlation.into(),
        traceparent: Text::default(),
        causation: EventSeq(unsigned(row.causation)?),
        foreign_cause: Text::default(),
        data: row.data.into_bytes().into(),
    })
}
