//! What people and programs read from the tables: one SQL text for both databases, rows as the tables have them.

use crate::fold::{BackendRow, CallRow, CdrRow, LocationHistoryRow, LocationRow};
use crate::row::select;
use signalbox_base::Wall;
use signalbox_store::{Error, Store, Value};

/// Rows returned when a filter sets no limit.
pub const ROWS_DEFAULT: u32 = 100;

/// Which rows, and how many. Times are compared with the table's main one: a record's end, a change's moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this tenant.
    pub tenant: Option<String>,
    /// Not before this moment.
    pub from: Option<Wall>,
    /// Before this moment.
    pub to: Option<Wall>,
    /// At most so many, the newest; [`ROWS_DEFAULT`] when not given. Lists of what *is* have no limit.
    pub last: Option<u32>,
}

/// Conditions joined with `AND`, and what is bound to them.
#[derive(Default)]
struct Conditions {
    parts: Vec<String>,
    params: Vec<Value>,
}

impl Conditions {
    /// Adds `text` with `?` standing for the next parameter, if there is a value.
    fn and(&mut self, text: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.params.push(value.into());
            self.parts.push(text.replace('?', &format!("${}", self.params.len())));
        }
    }

    fn sql(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("WHERE {}", self.parts.join(" AND ")) }
    }

    fn limit(&mut self, last: Option<u32>) -> String {
        self.params.push(last.unwrap_or(ROWS_DEFAULT).into());
        format!("LIMIT ${}", self.params.len())
    }
}

/// Bindings that are registered now, by tenant and AoR. `aor` is `user@domain`, or a user in any domain.
///
/// # Errors
/// As [`Error::class`] says; so do the others.
pub async fn locations(
    store: &Store,
    tenant: Option<&str>,
    aor: Option<&str>,
) -> Result<Vec<LocationRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("tenant = ?", tenant);
    conditions.and(if is_address(aor) { "aor = ?" } else { "username = ?" }, aor);
    let tail = format!("{} ORDER BY tenant, aor, edge, binding", conditions.sql());
    let sql = select(LocationRow::TABLE, LocationRow::COLUMNS, &tail);
    store.query(sql, conditions.params).await?.iter().map(LocationRow::read).collect()
}

/// Where bindings were at a moment: the places that have ended since, and those that are open, whose lease is that of the
/// binding.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn locations_at(
    store: &Store,
    tenant: Option<&str>,
    aor: Option<&str>,
    at: Wall,
) -> Result<Vec<LocationHistoryRow>, Error> {
    let mut conditions = Conditions::default();
    // A binding whose end nobody recorded (its edge was down) ended with its lease all the same.
    conditions.and("expires_at > ?", Some(at));
    conditions.and("tenant = ?", tenant);
    conditions.and(if is_address(aor) { "aor = ?" } else { "username = ?" }, aor);
    let ended = format!("{} AND valid_from <= $1 AND valid_to > $1", conditions.sql());
    let open = format!("{} AND place_from <= $1", conditions.sql());
    let in_the_row = |name: &&str| match *name {
        "valid_from" => "place_from AS valid_from".to_owned(),
        "valid_to" | "ended" => format!("NULL AS {name}"),
        "journal" | "sequence" | "user_agent" | "callid" => format!("place_{name} AS {name}"),
        name => name.to_owned(),
    };
    let open_columns: Vec<String> = LocationHistoryRow::COLUMNS.iter().map(in_the_row).collect();
    // The order is asked of both together: of each, SQLite would read the whole history in that order.
    let places = format!(
        "({} UNION ALL SELECT {} FROM {} {open}) places",
        select(LocationHistoryRow::TABLE, LocationHistoryRow::COLUMNS, &ended),
        open_columns.join(", "),
        LocationRow::TABLE,
    );
    let sql = select(&places, LocationHistoryRow::COLUMNS, "ORDER BY tenant, aor, edge, binding");
    store.query(sql, conditions.params).await?.iter().map(LocationHistoryRow::read).collect()
}

/// Calls that are up now, newest first.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn calls(store: &Store, tenant: Option<&str>) -> Result<Vec<CallRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("tenant = ?", tenant);
    let tail = format!("{} ORDER BY invited_at DESC, call_uid", conditions.sql());
    let sql = select(CallRow::TABLE, CallRow::COLUMNS, &tail);
    store.query(sql, conditions.params).await?.iter().map(CallRow::read).collect()
}

/// The records of calls that were up at a moment and have ended since, newest first. With those of [`calls`] that
/// began before it they are all calls of that moment.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn calls_ended_since(store: &Store, tenant: Option<&str>, at: Wall) -> Result<Vec<CdrRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("invited_at <= ?", Some(at));
    conditions.and("ended_at > ?", Some(at));
    conditions.and("tenant = ?", tenant);
    let tail = format!("{} ORDER BY invited_at DESC, cdr_id", conditions.sql());
    let sql = select(CdrRow::TABLE, CdrRow::COLUMNS, &tail);
    store.query(sql, conditions.params).await?.iter().map(CdrRow::read).collect()
}

/// Call records by their end, newest first.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn cdrs(store: &Store, filter: &Filter) -> Result<Vec<CdrRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("tenant = ?", filter.tenant.as_deref());
    conditions.and("ended_at >= ?", filter.from);
    conditions.and("ended_at < ?", filter.to);
    let tail =
        format!("{} ORDER BY ended_at DESC, cdr_id DESC {}", conditions.sql(), conditions.limit(filter.last));
    let sql = select(CdrRow::TABLE, CdrRow::COLUMNS, &tail);
    store.query(sql, conditions.params).await?.iter().map(CdrRow::read).collect()
}

/// The record of a call, by its uid.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn cdr(store: &Store, call_uid: &str) -> Result<Option<CdrRow>, Error> {
    let sql = select(CdrRow::TABLE, CdrRow::COLUMNS, "WHERE call_uid = $1 ORDER BY ended_at DESC");
    store.query(sql, vec![call_uid.into()]).await?.first().map(CdrRow::read).transpose()
}

/// The latest state of each backend at each edge, by tenant and name.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn backends(store: &Store, tenant: Option<&str>) -> Result<Vec<BackendRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("tenant = ?", tenant);
    let tail = format!("{} ORDER BY tenant, backend, edge", conditions.sql());
    let sql = select(BackendRow::TABLE, BackendRow::COLUMNS, &tail);
    store.query(sql, conditions.params).await?.iter().map(BackendRow::read).collect()
}

/// The state each backend was in at a moment, at each edge.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn backends_at(store: &Store, tenant: Option<&str>, at: Wall) -> Result<Vec<BackendRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("changed_at <= ?", Some(at));
    conditions.and("tenant = ?", tenant);
    let ranked = format!(
        "(SELECT backend_history.*, ROW_NUMBER() OVER (PARTITION BY edge, tenant, backend \
         ORDER BY changed_at DESC, journal DESC, sequence DESC) AS latest FROM backend_history {}) ranked",
        conditions.sql()
    );
    let sql = select(&ranked, BackendRow::COLUMNS, "WHERE latest = 1 ORDER BY tenant, backend, edge");
    store.query(sql, conditions.params).await?.iter().map(BackendRow::read).collect()
}

/// Changes of backends' states, newest first; of one backend when it is named.
///
/// # Errors
/// As [`Error::class`] says.
pub async fn backend_history(
    store: &Store,
    backend: Option<&str>,
    filter: &Filter,
) -> Result<Vec<BackendRow>, Error> {
    let mut conditions = Conditions::default();
    conditions.and("tenant = ?", filter.tenant.as_deref());
    conditions.and("backend = ?", backend);
    conditions.and("changed_at >= ?", filter.from);
    conditions.and("changed_at < ?", filter.to);
    let tail = format!(
        "{} ORDER BY changed_at DESC, journal DESC, sequence DESC {}",
        conditions.sql(),
        conditions.limit(filter.last)
    );
    let sql = select("backend_history", BackendRow::COLUMNS, &tail);
    store.query(sql, conditions.params).await?.iter().map(BackendRow::read).collect()
}

fn is_address(aor: Option<&str>) -> bool {
    aor.is_some_and(|aor| aor.contains('@'))
}
