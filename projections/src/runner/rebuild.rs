//! Making a projection's tables anew: what is asked for, what is written beside, what is taken over.
//!
//! ```text
//!   asked for ─┐                                      has all that the projection has
//!   missing ───┼─► tables beside, from the bus's start ──────────────► one transaction: rows carried over,
//!   damaged ───┘   (the old ones are read, and written                 the new tables take the names of the old,
//!                   on if they can be)                                 positions with them, `projection.rebuilt`
//! ```
//!
//! A rebuild is the same fold under another name, whose statements go to other tables. It begins anew when its process
//! ends before the switch.

use super::Config;
use crate::projection::{Began, Carried, Folded, Projection, Tables};
use signalbox_base::Wall;
use signalbox_bus::Delivered;
use signalbox_schemas::projection::ProjectionRebuilt;
use signalbox_schemas::{Event, Kind};
use signalbox_store::outbox::Draft;
use signalbox_store::{Carry, Error, Statement, Store, Switch, TableFault, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A rebuild as people see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RebuildRow {
    /// The projection.
    pub projection: String,
    /// `wanted`, `running`, `done` or `failed`.
    pub state: String,
    /// `asked`, or what was wrong with the tables.
    pub reason: String,
    /// Events read.
    pub done: i64,
    /// Events to be read.
    pub total: i64,
    /// Rows taken over from the old tables.
    pub carried: i64,
    /// Why it failed, or what is left to do by hand.
    pub note: String,
    /// When it was asked for, microseconds since 1970.
    pub asked_at: i64,
    /// When it ended.
    pub ended_at: Option<i64>,
}

const LIST: &str = "SELECT projection, state, reason, done, total, carried, note, asked_at, ended_at \
    FROM projection_rebuild ORDER BY projection";

const SET: &str = "INSERT INTO projection_rebuild \
    (projection, state, reason, done, total, carried, note, asked_at, started_at, ended_at) \
    VALUES ($1, $2, $3, 0, 0, 0, '', $4, NULL, NULL) \
    ON CONFLICT (projection) DO UPDATE SET state = excluded.state, reason = excluded.reason, done = 0, total = 0, \
    carried = 0, note = '', asked_at = excluded.asked_at, started_at = NULL, ended_at = NULL";

const PROGRESS: &str =
    "UPDATE projection_rebuild SET done = $2, total = $3 WHERE projection = $1 AND state = 'running'";

const ENDED: &str = "UPDATE projection_rebuild SET state = $2, note = $3, ended_at = $4, carried = $5, \
    done = CAST($6 AS BIGINT), total = CAST($6 AS BIGINT) WHERE projection = $1";

/// The last rebuild of each projection, and those that are asked for or under way.
///
/// # Errors
/// As [`Error::class`] says; so do the others.
pub async fn rebuilds(store: &Store) -> Result<Vec<RebuildRow>, Error> {
    let rows = store.query(LIST, Vec::new()).await?;
    rows.iter()
        .map(|row| {
            let text = |column| Ok::<_, Error>(row.text(column)?.unwrap_or_default().to_owned());
            let int = |column| Ok::<_, Error>(row.int(column)?.unwrap_or(0));
            Ok(RebuildRow {
                projection: text("projection")?,
                state: text("state")?,
                reason: text("reason")?,
                done: int("done")?,
                total: int("total")?,
                carried: int("carried")?,
                note: text("note")?,
                asked_at: int("asked_at")?,
                ended_at: row.int("ended_at")?,
            })
        })
        .collect()
}

/// Asks whoever runs the projections to make the tables of one anew; within a second it begins.
pub async fn ask_for_rebuild(store: &Store, projection: &str, now: Wall) -> Result<(), Error> {
    store.transaction(vec![set(projection, "wanted", "asked", now)]).await.map(drop)
}

/// Makes tables again, empty, that the others are kept by and that are gone; says which these were.
///
/// # Errors
/// As [`Store::restore_bookkeeping`].
pub async fn restore_bookkeeping(store: &Store) -> Result<Option<String>, Error> {
    let restored = store.restore_bookkeeping().await?;
    if restored.is_empty() {
        return Ok(None);
    }
    let said = format!("{} was missing and is made anew, empty", restored.join(", "));
    tracing::error!("{said}");
    Ok(Some(said))
}

fn set(projection: &str, state: &'static str, reason: &str, now: Wall) -> Statement {
    Statement::new(SET, vec![projection.into(), Value::Word(state), reason.into(), now.into()])
}

/// Those that are asked for. At the start of a process also those that another one had begun.
pub(crate) async fn wanted(store: &Store, begun_too: bool) -> Result<Vec<(String, String)>, Error> {
    let rows = rebuilds(store).await?.into_iter();
    let is = |row: &RebuildRow| row.state == "wanted" || (begun_too && row.state == "running");
    Ok(rows.filter(is).map(|row| (row.projection, row.reason)).collect())
}

/// Why the tables are not this program's: they were folded by another version of the projection only.
pub(crate) async fn is_of_another_version(
    store: &Store,
    projection: &dyn Projection,
) -> Result<Option<String>, Error> {
    const PLACE: &str = "SELECT version FROM projection_position WHERE projection = $1 ORDER BY version";
    if projection.tables().is_none() {
        return Ok(None);
    }
    let places = store.query(PLACE, vec![projection.name().into()]).await?;
    let version = i64::from(projection.version());
    if places.iter().any(|row| row.int("version") == Ok(Some(version))) {
        return Ok(None);
    }
    let other = places.last().map(|row| row.int("version")).transpose()?.flatten();
    Ok(other.map(|other| format!("the tables are of version {other}, this program folds version {version}")))
}

/// What a rebuild has come to.
pub(crate) struct Switched {
    /// Rows that were carried over.
    pub(crate) carried: u64,
    /// What an operator must do by hand; else empty.
    pub(crate) left_to_do: String,
}

/// What a rebuild knows of itself.
pub(crate) struct Rebuild {
    of: Arc<dyn Projection>,
    switch: Switch,
    tables: &'static Tables,
    pub(crate) reason: String,
    /// Damaged tables, which are put aside and not carried over from.
    damaged: Vec<&'static str>,
    /// Tables that are not there.
    missing: Vec<&'static str>,
    /// The first event that there is of each journal: its number and time.
    first: BTreeMap<String, (u64, Wall)>,
    begun: Wall,
    /// The tables are there.
    pub(crate) made: bool,
    /// How often it was looked whether there is anything to read.
    pub(crate) looks: u32,
}

impl Rebuild {
    pub(crate) fn new(
        of: Arc<dyn Projection>,
        tables: &'static Tables,
        reason: String,
        faults: &[TableFault],
        now: Wall,
    ) -> Self {
        let which =
            |damaged| faults.iter().filter(move |fault| fault.damaged == damaged).map(|fault| fault.table);
        let switch = Switch::new(tables.names);
        let (damaged, missing) = (which(true).collect(), which(false).collect());
        let (first, made, looks) = (BTreeMap::new(), false, 0);
        Self { of, switch, tables, reason, damaged, missing, first, begun: now, made, looks }
    }

    /// What the runner runs.
    pub(crate) fn projection(&self) -> Arc<dyn Projection> {
        Arc::new(Beside { of: Arc::clone(&self.of), tables: self.tables, switch: self.switch.clone() })
    }

    /// The projection whose tables it makes.
    pub(crate) fn of(&self) -> &'static str {
        self.of.name()
    }

    /// Begins from nothing.
    pub(crate) async fn make(&mut self, store: &Store, config: &Config, now: Wall) -> Result<(), Error> {
        let mut with: Vec<Statement> =
            config.lease.iter().map(signalbox_store::lease::Lease::guard).collect();
        with.extend(signalbox_store::positions::forget(self.tables.rebuild));
        with.push(set(self.of.name(), "running", &self.reason, now));
        self.switch.make(store, with).await?;
        self.made = true;
        Ok(())
    }

    /// Notes the first events of journals.
    pub(crate) fn see(&mut self, events: &[Delivered]) {
        for event in events {
            if !self.folds(event) {
                continue;
            }
            let journal = event.source.journal.to_string();
            let first = self.first.entry(journal).or_insert((event.seq.0, event.time));
            if event.seq.0 < first.0 {
                *first = (event.seq.0, event.time);
            }
        }
    }

    fn folds(&self, event: &Delivered) -> bool {
        self.of.kinds().iter().any(|kind| kind.domain() == event.domain())
    }

    pub(crate) async fn progress(&self, store: &Store, done: u64, total: u64) -> Result<(), Error> {
        let params = vec![self.of.name().into(), done.into(), total.into()];
        store.transaction_soon_durable(vec![Statement::new(PROGRESS, params)]).await.map(drop)
    }

    /// It is given up: what was made goes.
    pub(crate) async fn fail(&self, store: &Store, why: &str, now: Wall) -> Result<(), Error> {
        self.switch.discard(store).await?;
        let mut statements = signalbox_store::positions::forget(self.tables.rebuild);
        statements.push(self.ended("failed", why, (0, 0), now));
        store.transaction(statements).await.map(drop)
    }

    fn ended(&self, state: &'static str, note: &str, (events, carried): (u64, u64), now: Wall) -> Statement {
        let name = self.of.name().into();
        let params = vec![name, Value::Word(state), note.into(), now.into(), carried.into(), events.into()];
        Statement::new(ENDED, params)
    }

    /// Takes the projection's place under `guard`, the rebuild's own. `None` while it has not all that the projection has, or
    /// others hold the old tables.
    pub(crate) async fn switch(
        &self,
        store: &Store,
        guard: Statement,
        config: &Config,
        (events, now): (u64, Wall),
    ) -> Result<Option<Switched>, Error> {
        let (name, version) = (self.of.name(), self.of.version());
        let mut before: Vec<Statement> = Switch::patience(store).into_iter().chain([guard]).collect();
        before.extend(signalbox_store::positions::before_switch(self.tables.rebuild, name, version));
        let level = before.len() - 1;
        let carried = self.count(store).await?;
        before.extend(self.carry()?);
        let left_to_do = self.switch.left_to_do(store, &self.damaged).await?;
        let mut after = signalbox_store::positions::after_switch(self.tables.rebuild, name, version);
        after.push(self.ended("done", &left_to_do, (events, carried), now));
        after.extend(self.told(events, carried, config, now));
        match self.switch.switch(store, before, after, &self.damaged).await {
            Ok(()) => Ok(Some(Switched { carried, left_to_do })),
            Err(error) if error.statement() == Some(level) && !error.is_retryable() => Ok(None),
            Err(error) if error.is_retryable() && error.statement().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Rows whose events are gone, from old tables that are whole.
    fn carry(&self) -> Result<Vec<Statement>, Error> {
        let mut statements = Vec::new();
        for (carry, gone, params) in self.carried() {
            statements.extend(self.switch.carry(&carry, &gone, &params)?);
        }
        Ok(statements)
    }

    async fn count(&self, store: &Store) -> Result<u64, Error> {
        let mut rows = 0;
        for (carry, gone, params) in self.carried() {
            rows += self.switch.count(store, &carry, &gone, &params).await?;
        }
        Ok(rows)
    }

    fn carried(&self) -> Vec<(Carry<'static>, String, Vec<Value>)> {
        let whole = |carried: &&Carried| {
            !self.damaged.contains(&carried.table) && !self.missing.contains(&carried.table)
        };
        let each = |carried: &Carried| {
            let (gone, params) = self.gone(carried.journal, carried.began);
            let Carried { table, same, marks, gives_way, .. } = *carried;
            (Carry { table, same, marks, gives_way }, gone, params)
        };
        self.tables.carried.iter().filter(whole).map(each).collect()
    }

    /// The condition that an old row's events are gone: they are of a journal that was not found, or from before its first
    /// event.
    fn gone(&self, journal: &str, began: Began) -> (String, Vec<Value>) {
        if self.first.is_empty() {
            return ("1 = 1".to_owned(), Vec::new());
        }
        let (mut params, mut parts, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for (name, (sequence, at)) in &self.first {
            let (column, first): (&str, Value) = match began {
                Began::Sequence(column) => (column, (*sequence).into()),
                Began::At(column) => (column, (*at).into()),
            };
            params.extend([name.as_str().into(), first]);
            let n = params.len();
            parts.push(format!("({journal} = ${} AND {column} < ${n})", n - 1));
            found.push(format!("${}", n - 1));
        }
        parts.push(format!("{journal} NOT IN ({})", found.join(", ")));
        (parts.join(" OR "), params)
    }

    fn told(&self, events: u64, carried_rows: u64, config: &Config, now: Wall) -> Vec<Statement> {
        let took = u64::try_from(now.since(self.begun).as_millis()).unwrap_or(u64::MAX);
        let data = Event::from(ProjectionRebuilt {
            edge: config.edge.clone(),
            projection: self.of.name().into(),
            version: self.of.version(),
            reason: self.reason.as_str().into(),
            events,
            carried_rows,
            duration_ms: took,
        });
        Draft::of(&data, self.of.name(), "", now).append(now)
    }

    /// How long it has run.
    pub(crate) fn age(&self, now: Wall) -> Duration {
        now.since(self.begun)
    }
}

/// A projection whose statements go to the tables beside.
struct Beside {
    of: Arc<dyn Projection>,
    tables: &'static Tables,
    switch: Switch,
}

impl Projection for Beside {
    fn name(&self) -> &'static str {
        self.tables.rebuild
    }

    fn version(&self) -> u32 {
        self.of.version()
    }

    fn kinds(&self) -> &'static [Kind] {
        self.of.kinds()
    }

    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement> {
        let renames = self.switch.renames();
        self.of.fold(event, data).into_iter().map(|statement| statement.renamed(renames)).collect()
    }

    fn fold_batch(&self, events: &[Folded<'_>]) -> Vec<(usize, Statement)> {
        let renames = self.switch.renames();
        let writes = self.of.fold_batch(events).into_iter();
        writes.map(|(at, statement)| (at, statement.renamed(renames))).collect()
    }
}
