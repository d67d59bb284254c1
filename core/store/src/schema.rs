//! What the tables should look like: as the migrations make them. They are run once in an embedded database in memory,
//! whose catalogue then has each table's and each index's text; those of common migrations are good for both databases.

use crate::error::{Class, Error};
use crate::migrations;
use crate::store::{Backend, Store};
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// What is wrong with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    /// The table.
    pub table: &'static str,
    /// It is there, but not as it should be; else it is missing.
    pub damaged: bool,
    /// In words.
    pub what: String,
}

/// A table as the migrations make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// `(columns …)`: what follows the name.
    pub(crate) body: String,
    pub(crate) columns: BTreeSet<String>,
    /// Columns of the primary key.
    pub(crate) key: Vec<String>,
    pub(crate) indexes: Vec<Index>,
}

/// An index of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) unique: bool,
    /// `(columns …)`: what follows the table's name.
    pub(crate) body: String,
}

impl Index {
    /// The statement that makes it under a name of the caller's on a table of the caller's.
    pub(crate) fn create(&self, name: &str, table: &str) -> String {
        let unique = if self.unique { "UNIQUE " } else { "" };
        format!("CREATE {unique}INDEX {name} ON {table} {}", self.body)
    }
}

type Tables = BTreeMap<String, Table>;

static TABLES: OnceLock<Result<Tables, Error>> = OnceLock::new();

/// The table of this program called `name`.
pub(crate) fn table(name: &str) -> Result<&'static Table, Error> {
    let unknown = || Error::new(Class::Schema, format!("this program has no table {name}"));
    tables()?.get(name).ok_or_else(unknown)
}

fn tables() -> Result<&'static Tables, Error> {
    TABLES.get_or_init(read).as_ref().map_err(Clone::clone)
}

fn read() -> Result<Tables, Error> {
    let mut connection = rusqlite::Connection::open_in_memory()?;
    migrations::run_on(&mut connection)?;
    let mut tables = Tables::new();
    let mut objects = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC",
    )?;
    let mut rows = objects.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
        let (table, sql): (String, String) = (row.get(2)?, row.get(3)?);
        let Some(open) = sql.find('(') else { continue };
        let body = sql[open..].to_owned();
        match kind.as_str() {
            "table" => {
                let columns = columns_of(&connection, &name, "pk >= 0")?.into_iter().collect();
                let key = columns_of(&connection, &name, "pk > 0 ORDER BY pk")?;
                tables.insert(name, Table { body, columns, key, indexes: Vec::new() });
            }
            "index" => {
                if let Some(table) = tables.get_mut(&table) {
                    let unique = sql.starts_with("CREATE UNIQUE");
                    table.indexes.push(Index { name, unique, body });
                }
            }
            _ => {}
        }
    }
    Ok(tables)
}

fn columns_of(connection: &rusqlite::Connection, table: &str, which: &str) -> Result<Vec<String>, Error> {
    let mut columns = connection.prepare(&format!("SELECT name FROM pragma_table_info(?1) WHERE {which}"))?;
    let names = columns.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

const COLUMNS_SQLITE: &str = "SELECT t.name AS relation, c.name AS item FROM sqlite_master t \
    JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name IN";

const COLUMNS_POSTGRES: &str = "SELECT CAST(c.relname AS TEXT) AS relation, CAST(a.attname AS TEXT) AS item \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
    WHERE pg_catalog.pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped \
    AND c.relname IN";

impl Store {
    /// What is wrong with tables of this program; empty when nothing is that can be seen from their columns.
    ///
    /// # Errors
    /// As [`Error::class`] says.
    pub async fn table_faults(&self, names: &[&'static str]) -> Result<Vec<TableFault>, Error> {
        let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let catalogue = match self.backend() {
            Backend::Sqlite(_) => COLUMNS_SQLITE,
            Backend::Postgres(_) => COLUMNS_POSTGRES,
        };
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
        let sql = format!("{catalogue} ({})", places.join(", "));
        for row in self.query(sql, names.iter().map(|name| Value::Word(name)).collect()).await? {
            if let (Some(relation), Some(item)) = (row.text("relation")?, row.text("item")?) {
                there.entry(relation.to_owned()).or_default().insert(item.to_owned());
            }
        }
        let mut faults = Vec::new();
        for name in names {
            let wanted = table(name)?;
            let Some(has) = there.get(*name) else {
                faults.push(TableFault {
                    table: name,
                    damaged: false,
                    what: format!("table {name} is missing"),
                });
                continue;
            };
            let missing: Vec<&str> = wanted.columns.difference(has).map(String::as_str).collect();
            if !missing.is_empty() {
                let what = format!("table {name} has no column {}", missing.join(", "));
                faults.push(TableFault { table: name, damaged: true, what });
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_migrations_are_known_with_columns_added_later_and_indexes_left() {
        let location = table("location").unwrap();
        assert!(location.columns.contains("aor") && location.columns.contains("place_from"));
        let indexes: Vec<&str> = location.indexes.iter().map(|index| index.name.as_str()).collect();
        assert_eq!(indexes, ["location_username"], "the others were dropped");
        assert!(table("cdr").unwrap().indexes.len() >= 4);
        assert_eq!(location.key, ["tenant", "aor", "binding", "edge"]);
        assert_eq!(table("nothing").unwrap_err().class(), Class::Schema);
    }
}
