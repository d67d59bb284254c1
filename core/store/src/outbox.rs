//! Events that projections and consumers write themselves, in the transaction of the state they describe.
//!
//! The store is their source (`urn:signalbox:<cluster>:store:<store-id>`); a relay sends them on like a journal's.
//! The counters' rows are locked by the first statement, so sequences are gapless whoever writes and whatever rolls back.

use crate::error::{Class, Error};
use crate::statement::Statement;
use crate::store::Store;
use crate::value::{Row, Value};
use signalbox_base::Wall;
use signalbox_schemas::Event;

/// An event before it has its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Short type with version: `projection.parked.v1`.
    pub kind: String,
    /// The tenant, or empty for none.
    pub tenant: String,
    /// The aggregate.
    pub subject: String,
    /// When it happened.
    pub at: Wall,
    /// `id` of the event it belongs to, or empty.
    pub correlation: String,
    /// `id` of the event that led to it, or empty.
    pub causation: String,
    /// The event's data as JSON.
    pub data: String,
}

const COUNT: &str = "INSERT INTO outbox_counter (domain, value) VALUES ($1, 1) \
    ON CONFLICT (domain) DO UPDATE SET value = outbox_counter.value + 1";

const APPEND: &str = "INSERT INTO outbox \
    (sequence, domainsequence, domain, type, tenant, subject, time, recordedtime, correlation, causation, data) \
    SELECT whole.value, part.value, $1, $2, $3, $4, $5, $6, $7, $8, $9 \
    FROM outbox_counter whole, outbox_counter part WHERE whole.domain = '*' AND part.domain = $10";

impl Draft {
    /// An event about an aggregate of no tenant. `cause` is the `id` of the event that led to it, or empty.
    #[must_use]
    pub fn of(event: &Event, subject: &str, cause: &str, at: Wall) -> Self {
        let mut data = Vec::new();
        event.write_data(&mut data);
        Self {
            kind: event.kind().versioned().to_owned(),
            tenant: String::new(),
            subject: subject.to_owned(),
            at,
            correlation: String::new(),
            causation: cause.to_owned(),
            data: String::from_utf8_lossy(&data).into_owned(),
        }
    }

    /// The domain of the type: the part before its first dot.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.kind.split('.').next().unwrap_or_default()
    }

    /// The statements that append it; they belong into the transaction of what the event tells.
    #[must_use]
    pub fn append(&self, now: Wall) -> Vec<Statement> {
        let params: Vec<Value> = vec![
            self.domain().into(),
            self.kind.as_str().into(),
            self.tenant.as_str().into(),
            self.subject.as_str().into(),
            self.at.into(),
            now.into(),
            self.correlation.as_str().into(),
            self.causation.as_str().into(),
            self.data.as_str().into(),
            self.domain().into(),
        ];
        vec![
            Statement::new(COUNT, vec!["*".into()]),
            Statement::new(COUNT, vec![self.domain().into()]),
            Statement::new(APPEND, params),
        ]
    }
}

/// An event as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its number.
    pub sequence: u64,
    /// Its number in its domain.
    pub domain_sequence: u64,
    /// When it was appended.
    pub recorded: Wall,
    /// What it says.
    pub draft: Draft,
}

const READ: &str = "SELECT sequence, domainsequence, type, tenant, subject, time, recordedtime, correlation, causation, \
    data FROM outbox WHERE sequence >= $1 ORDER BY sequence LIMIT $2";

const SAVE_PLACE: &str = "INSERT INTO outbox_relay (relay, place, saved_at) VALUES ($1, $2, $3) \
    ON CONFLICT (relay) DO UPDATE SET place = excluded.place, saved_at = excluded.saved_at";

/// At most `max` events from number `from` on, in order.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn read(store: &Store, from: u64, max: usize) -> Result<Vec<Appended>, Error> {
    let max = u64::try_from(max).unwrap_or(u64::MAX).min(10_000);
    let rows = store.query(READ, vec![from.into(), max.into()]).await?;
    rows.iter().map(appended).collect()
}

/// Number of the last event; 0 before the first.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn end(store: &Store) -> Result<u64, Error> {
    number(store, "SELECT value AS number FROM outbox_counter WHERE domain = '*'").await
}

/// Number of the oldest event that is still there; 0 when none is.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn oldest(store: &Store) -> Result<u64, Error> {
    number(store, "SELECT MIN(sequence) AS number FROM outbox").await
}

/// What [`save_place`] stored under the relay's name.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn load_place(store: &Store, relay: &str) -> Result<Option<String>, Error> {
    let rows = store.query("SELECT place FROM outbox_relay WHERE relay = $1", vec![relay.into()]).await?;
    Ok(rows.first().map(|row| row.text("place")).transpose()?.flatten().map(str::to_owned))
}

/// Stores how far a relay is; after the guard of its claim.
#[must_use]
pub fn save_place(relay: &str, place: &str, now: Wall) -> Statement {
    Statement::new(SAVE_PLACE, vec![relay.into(), place.into(), now.into()])
}

/// Deletes events up to number `through` that were appended before `before`; after the guard of the relay's claim.
#[must_use]
pub fn forget(through: u64, before: Wall) -> Statement {
    const FORGET: &str = "DELETE FROM outbox WHERE sequence <= $1 AND recordedtime < $2";
    Statement::new(FORGET, vec![through.into(), before.into()])
}

async fn number(store: &Store, query: &'static str) -> Result<u64, Error> {
    let rows = store.query(query, Vec::new()).await?;
    let found = rows.first().map(|row| row.int("number")).transpose()?.flatten();
    Ok(found.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

fn appended(row: &Row) -> Result<Appended, Error> {
    let broken = || Error::new(Class::Schema, "an event of the outbox cannot be read");
    let text = |column| row.text(column)?.map(str::to_owned).ok_or_else(broken);
    let int = |column| row.int(column)?.ok_or_else(broken);
    let number = |column| int(column).and_then(|value| u64::try_from(value).map_err(|_| broken()));
    let draft = Draft {
        kind: text("type")?,
        tenant: text("tenant")?,
        subject: text("subject")?,
        at: Wall(int("time")?),
        correlation: text("correlation")?,
        causation: text("causation")?,
        data: text("data")?,
    };
    Ok(Appended {
        sequence: number("sequence")?,
        domain_sequence: number("domainsequence")?,
        recorded: Wall(int("recordedtime")?),
        draft,
    })
}

/// This store's id, made when its tables were: the last part of its events' source, written like a journal's id.
///
/// # Errors
/// As [`Error::class`] says; [`Class::Schema`] before the tables exist.
pub async fn store_id(store: &Store) -> Result<String, Error> {
    let rows = store.query("SELECT value FROM store_meta WHERE name = 'store_id'", Vec::new()).await?;
    let id = rows.first().map(|row| row.text("value")).transpose()?.flatten();
    id.map(str::to_owned).ok_or_else(|| Error::new(Class::Schema, "the store has no id"))
}
