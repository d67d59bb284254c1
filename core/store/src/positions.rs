//! Positions in the database, written in the transaction of the rows they stand for, by one holder at a time.
//!
//! Claiming raises the epoch of a projection's row. Every transaction begins with [`Claim::guard`], which touches that
//! row only while the epoch is still ours; it also locks it, so two transactions of one projection never run beside
//! each other. A process that was stopped and goes on after another has claimed writes nothing: it is fenced.
//!
//! A guard also raises the row's turn, and touches it only while that is where we left it. A database may go back to an
//! earlier commit while we live: its server crashed before a commit was on disk, or a standby took over that had not
//! heard of it. What a holder remembers is then ahead of the tables, and what it would write next would stand on rows that
//! are gone. [`renew`] tells that from having been taken over; after it, positions are loaded again.

use crate::error::{Class, Error};
use crate::lease::Lease;
use crate::position::Position;
use crate::statement::Statement;
use crate::store::Store;
use crate::value::Row;
use signalbox_base::{Text, Wall};

/// The right to write one version of one projection, until somebody else claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    projection: Text,
    version: u32,
    epoch: i64,
    /// As our last transaction left it.
    turn: i64,
}

/// A stored position with the place to read on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The event source's URN.
    pub source: String,
    /// The domain, or [`RESUME`] for the whole source.
    pub domain: String,
    /// What is applied.
    pub position: Position,
    /// The highest `sequence` of the source that needs no reading again; only a hint, duplicates are recognised.
    pub sequence: u64,
}

/// The `domain` under which the place to read on from is kept for a source as a whole.
pub const RESUME: &str = "*";

/// Only under the lease: who was asleep while another took that claims nothing.
const CLAIM_LEASED: &str = "INSERT INTO projection_holder (projection, version, epoch, holder, claimed_at, saved_at) \
    SELECT $1, CAST($2 AS INTEGER), 1, $3, CAST($4 AS BIGINT), CAST($4 AS BIGINT) FROM lease WHERE name = $5 AND epoch = $6 \
    ON CONFLICT (projection, version) DO UPDATE SET epoch = projection_holder.epoch + 1, \
    turn = projection_holder.turn + 1, holder = excluded.holder, claimed_at = excluded.claimed_at \
    RETURNING epoch, turn";

const CLAIM: &str = "INSERT INTO projection_holder (projection, version, epoch, holder, claimed_at, saved_at) \
    VALUES ($1, $2, 1, $3, $4, $4) \
    ON CONFLICT (projection, version) DO UPDATE SET epoch = projection_holder.epoch + 1, \
    turn = projection_holder.turn + 1, holder = excluded.holder, claimed_at = excluded.claimed_at \
    RETURNING epoch, turn";

const GUARD: &str = "UPDATE projection_holder SET saved_at = $1, turn = turn + 1 \
    WHERE projection = $2 AND version = $3 AND epoch = $4 AND turn = $5";

const RENEW: &str = "UPDATE projection_holder SET saved_at = $1, turn = turn + 1 \
    WHERE projection = $2 AND version = $3 AND epoch = $4 RETURNING turn";

const SAVE: &str = "INSERT INTO projection_position \
    (projection, version, source, domain, low, ranges, retained_from, sequence, saved_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (projection, version, source, domain) DO UPDATE SET low = excluded.low, ranges = excluded.ranges, \
    retained_from = excluded.retained_from, sequence = excluded.sequence, saved_at = excluded.saved_at";

const LOAD: &str = "SELECT source, domain, low, ranges, retained_from, sequence FROM projection_position \
    WHERE projection = $1 AND version = $2 ORDER BY source, domain";

const SAVE_HINT: &str = "INSERT INTO projection_hint (projection, version, bus, hint, saved_at) \
    VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (projection, version, bus) DO UPDATE SET hint = excluded.hint, saved_at = excluded.saved_at";

const LOAD_HINT: &str =
    "SELECT hint FROM projection_hint WHERE projection = $1 AND version = $2 AND bus = $3";

/// Takes the projection over; whoever held it is fenced from this moment. `holder` says who (for people).
///
/// # Errors
/// [`Class::Fenced`] when the lease is another's by now; otherwise as [`Error::class`] says.
pub async fn claim(
    store: &Store,
    projection: &str,
    version: u32,
    holder: &str,
    lease: Option<&Lease>,
    now: Wall,
) -> Result<Claim, Error> {
    let mut params = vec![projection.into(), version.into(), holder.into(), now.into()];
    let rows = match lease {
        None => store.write_returning(CLAIM, params).await?,
        Some(lease) => {
            params.extend([lease.name.into(), lease.epoch.into()]);
            store.write_returning(CLAIM_LEASED, params).await?
        }
    };
    if rows.is_empty() {
        return Err(Error::new(Class::Fenced, "another process holds the lease"));
    }
    let number = |column| rows.first().map(|row| row.int(column)).transpose().map(Option::flatten);
    let nothing = || Error::new(Class::Database, "a claim returned no epoch");
    let (epoch, turn) = (number("epoch")?.ok_or_else(nothing)?, number("turn")?.ok_or_else(nothing)?);
    Ok(Claim { projection: projection.into(), version, epoch, turn })
}

/// Goes on with a claim after a guard did not hold, or a commit whose outcome is unknown. What the holder remembers may not
/// be what the tables say: it loads its positions after this.
///
/// # Errors
/// [`Class::Fenced`] when another has claimed meanwhile; otherwise as [`Error::class`] says.
pub async fn renew(store: &Store, claim: &mut Claim, now: Wall) -> Result<(), Error> {
    let params = vec![now.into(), (&*claim.projection).into(), claim.version.into(), claim.epoch.into()];
    let rows = store.write_returning(RENEW, params).await?;
    let turn = rows.first().map(|row| row.int("turn")).transpose()?.flatten();
    claim.turn = turn.ok_or_else(|| Error::new(Class::Fenced, "another holder has taken over"))?;
    Ok(())
}

/// The positions of a projection, read after it was claimed.
///
/// # Errors
/// As [`Error::class`] says; [`Class::Schema`] for a stored position that is not one.
pub async fn load(store: &Store, projection: &str, version: u32) -> Result<Vec<Saved>, Error> {
    let rows = store.query(LOAD, vec![projection.into(), version.into()]).await?;
    rows.iter().map(saved).collect()
}

/// Where a projection goes on reading the broker called `bus`, as [`Claim::save_hint`] stored it.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn load_hint(
    store: &Store,
    projection: &str,
    version: u32,
    bus: &str,
) -> Result<Option<String>, Error> {
    let rows = store.query(LOAD_HINT, vec![projection.into(), version.into(), bus.into()]).await?;
    Ok(rows.first().map(|row| row.text("hint")).transpose()?.flatten().map(str::to_owned))
}

/// A rebuild takes the place of its projection: what is sent before its tables are switched. It makes the holder of the
/// projection load its positions again, and holds only while the rebuild has all that the projection has, of the sources
/// that it has found.
#[must_use]
pub fn before_switch(rebuild: &str, projection: &str, version: u32) -> Vec<Statement> {
    const TURN: &str = "UPDATE projection_holder SET turn = turn + 1 WHERE projection = $1";
    const LEVEL: &str = "UPDATE projection_holder SET saved_at = saved_at WHERE projection = $1 AND version = $2 \
        AND NOT EXISTS (SELECT 1 FROM projection_position o JOIN projection_position n ON n.projection = $1 \
        AND n.version = $2 AND n.source = o.source AND n.domain = o.domain \
        WHERE o.projection = $3 AND o.version = $2 AND o.domain <> '*' AND o.low > n.low)";
    let level = vec![rebuild.into(), version.into(), projection.into()];
    vec![Statement::new(TURN, vec![projection.into()]), Statement::guard(LEVEL, level, 1)]
}

/// What is sent after it: positions, hints and parked events of the rebuild are those of the projection. Of sources that it
/// has not found the projection's stay.
#[must_use]
pub fn after_switch(rebuild: &str, projection: &str, version: u32) -> Vec<Statement> {
    const FOUND: [&str; 2] = [
        "DELETE FROM projection_position WHERE projection = $2 AND (version <> $3 OR source IN \
            (SELECT n.source FROM projection_position n WHERE n.projection = $1 AND n.version = $3))",
        "DELETE FROM parked WHERE projection = $2 AND (version <> $3 OR source IN \
            (SELECT n.source FROM projection_position n WHERE n.projection = $2 AND n.version = $3))",
    ];
    const MOVE: [&str; 2] = [
        "UPDATE projection_position SET projection = $2 WHERE projection = $1 AND version = $3",
        "UPDATE parked SET projection = $2 WHERE projection = $1 AND version = $3",
    ];
    const HINTS: [&str; 2] = [
        "DELETE FROM projection_hint WHERE projection = $2 AND (version <> $3 OR bus IN \
            (SELECT n.bus FROM projection_hint n WHERE n.projection = $1 AND n.version = $3))",
        "UPDATE projection_hint SET projection = $2 WHERE projection = $1 AND version = $3",
    ];
    let all = [FOUND[0], MOVE[0], FOUND[1], MOVE[1], HINTS[0], HINTS[1]];
    let params = || vec![rebuild.into(), projection.into(), version.into()];
    all.into_iter()
        .map(|sql| match sql.contains("$1") {
            true => Statement::new(sql, params()),
            false => Statement::new(
                sql.replace("$2", "$1").replace("$3", "$2"),
                vec![projection.into(), version.into()],
            ),
        })
        .chain(forget(rebuild).into_iter().take(1))
        .collect()
}

/// Everything that is known of a rebuild goes, its claim first.
#[must_use]
pub fn forget(rebuild: &str) -> Vec<Statement> {
    const FORGET: [&str; 4] = [
        "DELETE FROM projection_holder WHERE projection = $1",
        "DELETE FROM projection_position WHERE projection = $1",
        "DELETE FROM projection_hint WHERE projection = $1",
        "DELETE FROM parked WHERE projection = $1",
    ];
    FORGET.into_iter().map(|sql| Statement::new(sql, vec![rebuild.into()])).collect()
}

impl Claim {
    /// The epoch; each claim raises it by one.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The first statement of every transaction under this claim; [`Claim::passed`] says that it is committed.
    #[must_use]
    pub fn guard(&self, now: Wall) -> Statement {
        let (projection, version) = ((&*self.projection).into(), self.version.into());
        Statement::guard(GUARD, vec![now.into(), projection, version, self.epoch.into(), self.turn.into()], 1)
    }

    /// A transaction with our guard is committed. Without this the next one does not hold.
    pub fn passed(&mut self) {
        self.turn += 1;
    }

    /// Stores where to go on reading the broker called `bus`.
    #[must_use]
    pub fn save_hint(&self, bus: &str, hint: &str, now: Wall) -> Statement {
        let (projection, version) = ((&*self.projection).into(), self.version.into());
        Statement::new(SAVE_HINT, vec![projection, version, bus.into(), hint.into(), now.into()])
    }

    /// Stores a position.
    #[must_use]
    pub fn save(
        &self,
        source: &str,
        domain: &str,
        position: &Position,
        sequence: u64,
        now: Wall,
    ) -> Statement {
        let params = vec![
            (&*self.projection).into(),
            self.version.into(),
            source.into(),
            domain.into(),
            position.low().into(),
            position.ranges().into(),
            position.retained_from().into(),
            sequence.into(),
            now.into(),
        ];
        Statement::new(SAVE, params)
    }
}

fn saved(row: &Row) -> Result<Saved, Error> {
    let broken = || Error::new(Class::Schema, "a stored position cannot be read");
    let text = |column| row.text(column)?.map(str::to_owned).ok_or_else(broken);
    let number = |column| row.int(column).map(|value| value.and_then(|value| u64::try_from(value).ok()));
    let low = number("low")?.ok_or_else(broken)?;
    let position = Position::restore(low, &text("ranges")?, number("retained_from")?).ok_or_else(broken)?;
    Ok(Saved {
        source: text("source")?,
        domain: text("domain")?,
        position,
        sequence: number("sequence")?.ok_or_else(broken)?,
    })
}
