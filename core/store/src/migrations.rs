//! The tables' history: numbered files, applied in order, never changed once released.
//!
//! A file in `migrations/common` is the same for both databases; where DDL must differ, `migrations/postgres` and
//! `migrations/sqlite` each have one of the same number and name. The checksum of every applied file is kept in
//! `refinery_schema_history`; a difference stops the migration before it changes anything.

use crate::error::{Class, Error};
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::store::{Backend, Store};
use refinery::{Migration, Runner};
use std::ops::DerefMut;
use std::path::Path;

const COMMON: &[(&str, &str)] = &[
    ("V1__store", include_str!("../../../migrations/common/V1__store.sql")),
    ("V3__location", include_str!("../../../migrations/common/V3__location.sql")),
    ("V4__calls_and_cdr", include_str!("../../../migrations/common/V4__calls_and_cdr.sql")),
    ("V5__backend", include_str!("../../../migrations/common/V5__backend.sql")),
    ("V6__open_place", include_str!("../../../migrations/common/V6__open_place.sql")),
    ("V7__resume_hint", include_str!("../../../migrations/common/V7__resume_hint.sql")),
    ("V8__place_in_the_row", include_str!("../../../migrations/common/V8__place_in_the_row.sql")),
    ("V9__turn", include_str!("../../../migrations/common/V9__turn.sql")),
    ("V10__lease_and_rebuild", include_str!("../../../migrations/common/V10__lease_and_rebuild.sql")),
];
const POSTGRES: &[(&str, &str)] =
    &[("V2__store_id", include_str!("../../../migrations/postgres/V2__store_id.sql"))];
const SQLITE: &[(&str, &str)] =
    &[("V2__store_id", include_str!("../../../migrations/sqlite/V2__store_id.sql"))];

/// Key of the advisory lock that one migrating process holds: the letters `signalbx`.
const LOCK: i64 = 0x7369_676E_616C_6278;

/// Whether there is a history, in each database's own words.
const HISTORY_SQLITE: &str =
    "SELECT name FROM sqlite_master WHERE name IN ('refinery_schema_history', 'store_meta')";
const HISTORY_POSTGRES: &str = "SELECT CAST(tablename AS TEXT) AS name FROM pg_catalog.pg_tables \
    WHERE tablename IN ('refinery_schema_history', 'store_meta') AND schemaname = ANY (current_schemas(false))";

pub(crate) async fn run(store: &Store) -> Result<Vec<String>, Error> {
    let applied = match store.backend() {
        Backend::Sqlite(sqlite) => run_sqlite(store, sqlite).await?,
        Backend::Postgres(postgres) => run_postgres(store, postgres).await?,
    };
    if !applied.is_empty() {
        // Whoever meets tables that it does not know says whose they are.
        const SAY: &str = "INSERT INTO store_meta (name, value) VALUES ('migrated_by', $1) \
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        store.execute(SAY, vec![env!("CARGO_PKG_VERSION").into()]).await?;
    }
    Ok(applied)
}

/// Tables of a later version, or of nobody knows which, are left alone, and it is said why.
async fn refuse_unknown(history: &'static str, store: &Store) -> Result<(), Error> {
    let tables = store.query(history, Vec::new()).await?;
    let there = |wanted: &str| tables.iter().any(|row| row.text("name") == Ok(Some(wanted)));
    match (there("refinery_schema_history"), there("store_meta")) {
        (true, _) => {}
        (false, false) => return Ok(()),
        (false, true) => {
            const GONE: &str = "the table refinery_schema_history is gone, which says at what version the others are: \
                restore it from a backup, or give Signalbox an empty database, whose tables it makes from history";
            return Err(Error::new(Class::Config, GONE));
        }
    }
    let rows = store.query("SELECT MAX(version) AS version FROM refinery_schema_history", Vec::new()).await?;
    let applied = rows.first().map(|row| row.int("version")).transpose()?.flatten().unwrap_or(0);
    let known = COMMON.iter().chain(SQLITE).map(|(name, _)| number(name)).max().unwrap_or(0);
    if applied <= i64::from(known) {
        return Ok(());
    }
    let by = match there("store_meta") {
        true => store.query("SELECT value FROM store_meta WHERE name = 'migrated_by'", Vec::new()).await?,
        false => Vec::new(),
    };
    let by = by.first().map(|row| row.text("value")).transpose()?.flatten().unwrap_or("a later version");
    let own = env!("CARGO_PKG_VERSION");
    Err(Error::new(
        Class::Newer,
        format!(
            "the tables are at migration {applied}, made by Signalbox {by}; this is Signalbox {own}, which knows \
             {known}: run {by} or a later one, or give this one another database"
        ),
    ))
}

async fn run_postgres(store: &Store, postgres: &Postgres) -> Result<Vec<String>, Error> {
    refuse_unknown(HISTORY_POSTGRES, store).await?;
    let runner = runner(POSTGRES)?;
    // The lock belongs to the session. Out of the pool, the connection ends with this function, and the lock with it.
    let mut connection = deadpool_postgres::Object::take(postgres.connection().await?);
    connection.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await?;
    let client: &mut tokio_postgres::Client = connection.deref_mut();
    let report = runner.run_async(client).await?;
    client.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    Ok(names(&report))
}

async fn run_sqlite(store: &Store, sqlite: &Sqlite) -> Result<Vec<String>, Error> {
    refuse_unknown(HISTORY_SQLITE, store).await?;
    let runner = runner(SQLITE)?;
    let lock_path = lock_path(sqlite.path());
    sqlite
        .with_writer(move |connection| {
            let locked = std::fs::File::create(&lock_path).and_then(|file| file.lock().map(|()| file));
            let _lock = locked
                .map_err(|error| Error::new(Class::Config, format!("{}: {error}", lock_path.display())))?;
            Ok(names(&runner.run(connection)?))
        })
        .await
}

/// The statement that gives a store its id.
pub(crate) fn store_id(store: &Store) -> &'static str {
    match store.backend() {
        Backend::Sqlite(_) => SQLITE[0].1,
        Backend::Postgres(_) => POSTGRES[0].1,
    }
}

/// Makes the tables of this program in an empty embedded database.
pub(crate) fn run_on(connection: &mut rusqlite::Connection) -> Result<(), Error> {
    runner(SQLITE)?.run(connection)?;
    Ok(())
}

/// `signalbox.db` is migrated under a lock on `signalbox.db-migrate`.
fn lock_path(database: &Path) -> std::path::PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push("-migrate");
    database.with_file_name(name)
}

fn runner(own: &[(&str, &str)]) -> Result<Runner, Error> {
    let mut files: Vec<_> = COMMON.iter().chain(own).collect();
    files.sort_by_key(|(name, _)| number(name));
    let migrations: Result<Vec<_>, _> =
        files.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    // In one transaction: one by one, a crash between a migration and its line in the history would make it run twice.
    Ok(Runner::new(&migrations?).set_abort_divergent(true).set_abort_missing(true).set_grouped(true))
}

fn number(name: &str) -> u32 {
    name.strip_prefix('V').and_then(|rest| rest.split("__").next()?.parse().ok()).unwrap_or(u32::MAX)
}

fn names(report: &refinery::Report) -> Vec<String> {
    report.applied_migrations().iter().map(|migration| migration.name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn on_disk(folder: &str) -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(folder);
        let files =
            std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        files.map(|name| name.strip_suffix(".sql").expect("only .sql files").to_owned()).collect()
    }

    #[test]
    fn every_file_is_embedded() {
        for (folder, list) in [("common", COMMON), ("postgres", POSTGRES), ("sqlite", SQLITE)] {
            let embedded: BTreeSet<String> = list.iter().map(|(name, _)| (*name).to_owned()).collect();
            assert_eq!(embedded, on_disk(folder), "{folder}");
        }
    }

    #[test]
    fn each_database_sees_every_number_once_and_without_gaps() {
        for own in [POSTGRES, SQLITE] {
            let mut numbers: Vec<u32> = COMMON.iter().chain(own).map(|(name, _)| number(name)).collect();
            numbers.sort_unstable();
            let expected: Vec<u32> = (1..).take(numbers.len()).collect();
            assert_eq!(numbers, expected);
        }
    }
}
