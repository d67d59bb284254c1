//! Who runs a role that only one process may have at a time.
//!
//! A lease is a row with an end that its holder moves on; times are the database's, so that no two machines' clocks are
//! compared. Whoever finds it run out, or given back, takes it. That alone stops nobody who was asleep meanwhile: what is
//! written is fenced by epochs ([`crate::positions`]), and an epoch is only claimed under the lease.

use crate::error::Error;
use crate::store::{Backend, Store};
use crate::value::{Row, Value};
use signalbox_base::Wall;
use std::time::Duration;

/// Who wants a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the lease.
    pub name: &'static str,
    /// For people: `prod/edge-1 pid 4711 on sbc1`.
    pub holder: String,
    /// Id of the candidate's data directory.
    pub place: String,
    /// Whether the candidate alone lives in that place: another holder of the same place is dead then.
    pub alone: bool,
    /// Which bus it folds.
    pub folds: String,
    /// How long the lease holds without being renewed.
    pub term: Duration,
}

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub(crate) name: &'static str,
    pub(crate) epoch: i64,
    term: Duration,
}

/// What the row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who has it, or had it last.
    pub holder: String,
    /// Which bus the tables were folded from.
    pub folds: String,
    /// Since when.
    pub since: Wall,
    /// When it was renewed last.
    pub renewed_at: Wall,
    /// Whether it holds now.
    pub holds: bool,
}

const TAKE: &str = "INSERT INTO lease (name, epoch, holder, place, folds, since, renewed_at, expires_at) \
    VALUES ($1, 1, $2, $3, $4, {now}, {now}, {now} + $5) \
    ON CONFLICT (name) DO UPDATE SET epoch = lease.epoch + 1, holder = excluded.holder, place = excluded.place, \
    folds = excluded.folds, since = excluded.since, renewed_at = excluded.renewed_at, expires_at = excluded.expires_at \
    WHERE lease.expires_at <= {now} OR ($6 = 1 AND lease.place = excluded.place) \
    RETURNING epoch";

const RENEW: &str =
    "UPDATE lease SET renewed_at = {now}, expires_at = {now} + $3 WHERE name = $1 AND epoch = $2";

const GIVE_BACK: &str = "UPDATE lease SET expires_at = 0 WHERE name = $1 AND epoch = $2";

const SEE: &str = "SELECT holder, folds, since, renewed_at, CASE WHEN expires_at > {now} THEN 1 ELSE 0 END AS holds \
    FROM lease WHERE name = $1";

/// Takes the lease if it is free; `None` when another holds it.
///
/// # Errors
/// As [`Error::class`] says; so do the others.
pub async fn take(store: &Store, candidate: &Candidate) -> Result<Option<Lease>, Error> {
    let params: Vec<Value> = vec![
        candidate.name.into(),
        candidate.holder.as_str().into(),
        candidate.place.as_str().into(),
        candidate.folds.as_str().into(),
        micros(candidate.term),
        Value::Int(candidate.alone.into()),
    ];
    let rows = store.write_returning(timed(store, TAKE), params).await?;
    let epoch = rows.first().map(|row| row.int("epoch")).transpose()?.flatten();
    Ok(epoch.map(|epoch| Lease { name: candidate.name, epoch, term: candidate.term }))
}

/// Moves the end of the lease on; false when another has taken it.
pub async fn renew(store: &Store, lease: &Lease) -> Result<bool, Error> {
    let params = vec![lease.name.into(), lease.epoch.into(), micros(lease.term)];
    let statement = crate::Statement::new(timed(store, RENEW), params);
    // A lease that a power cut takes back an earlier end of has run out all the same.
    let touched = store.transaction_soon_durable(vec![statement]).await?;
    Ok(touched == [1])
}

impl Lease {
    /// A statement that keeps its transaction from being committed once another has the lease.
    #[must_use]
    pub fn guard(&self) -> crate::Statement {
        const HOLDS: &str = "UPDATE lease SET renewed_at = renewed_at WHERE name = $1 AND epoch = $2";
        crate::Statement::guard(HOLDS, vec![self.name.into(), self.epoch.into()], 1)
    }
}

/// Lets the next one take it at once.
pub async fn give_back(store: &Store, lease: &Lease) -> Result<(), Error> {
    store.execute(GIVE_BACK, vec![lease.name.into(), lease.epoch.into()]).await.map(drop)
}

/// What is known about a lease; `None` before anybody took it.
pub async fn see(store: &Store, name: &str) -> Result<Option<Held>, Error> {
    let rows = store.query(timed(store, SEE), vec![name.into()]).await?;
    rows.first().map(held).transpose()
}

fn held(row: &Row) -> Result<Held, Error> {
    let text = |column| Ok::<_, Error>(row.text(column)?.unwrap_or_default().to_owned());
    let time = |column| Ok::<_, Error>(Wall(row.int(column)?.unwrap_or(0)));
    Ok(Held {
        holder: text("holder")?,
        folds: text("folds")?,
        since: time("since")?,
        renewed_at: time("renewed_at")?,
        holds: row.int("holds")? == Some(1),
    })
}

fn micros(span: Duration) -> Value {
    Value::Int(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// With the database's own clock in the place of `{now}`.
fn timed(store: &Store, sql: &str) -> String {
    let now = match store.backend() {
        Backend::Sqlite(_) => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
        Backend::Postgres(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
    };
    sql.replace("{now}", now)
}
