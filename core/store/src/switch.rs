//! Tables beside those that people read, and the moment when they take their place.

use crate::error::{Class, Error};
use crate::rename::Renames;
use crate::schema::{self, Table};
use crate::statement::Statement;
use crate::store::{Backend, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What tables beside are called behind the name of those they are for.
const SUFFIX: &str = "_rebuild";

/// How long a switch waits for those who read the old tables, before it lets them pass and is tried again.
const PATIENCE: &str = "SET LOCAL lock_timeout = '3s'";

/// The tables of one projection that are made anew.
#[derive(Clone, Debug)]
pub struct Switch {
    tables: &'static [&'static str],
    renames: Arc<Renames>,
}

impl Switch {
    /// For these tables of this program.
    #[must_use]
    pub fn new(tables: &'static [&'static str]) -> Self {
        Self { tables, renames: Renames::new(tables, SUFFIX) }
    }

    /// By which a projection's statements go to the tables beside.
    #[must_use]
    pub fn renames(&self) -> &Arc<Renames> {
        &self.renames
    }

    /// Makes them, empty; what an earlier rebuild left is dropped.
    ///
    /// # Errors
    /// As [`Error::class`] says; so do the others.
    pub async fn make(&self, store: &Store) -> Result<(), Error> {
        let mut statements = self.drop_all();
        for (name, table) in self.each()? {
            statements.push(format!("CREATE TABLE {name}{SUFFIX} {}", table.body));
            if matches!(store.backend(), Backend::Postgres(_)) {
                let make = |index: &schema::Index| {
                    index.create(&format!("{}{SUFFIX}", index.name), &format!("{name}{SUFFIX}"))
                };
                statements.extend(table.indexes.iter().map(make));
            }
        }
        store.transaction(statements.into_iter().map(ddl).collect()).await.map(drop)
    }

    /// Drops them.
    pub async fn discard(&self, store: &Store) -> Result<(), Error> {
        store.transaction(self.drop_all().into_iter().map(ddl).collect()).await.map(drop)
    }

    /// In one transaction: `before` (guards, rows that are carried over), the old tables go and these take their names,
    /// `after`. Whoever may read or write the old ones may so the new ones. Returns the rows each statement of `before`
    /// touched.
    pub async fn switch(
        &self,
        store: &Store,
        before: Vec<Statement>,
        after: Vec<Statement>,
    ) -> Result<Vec<u64>, Error> {
        let wanted = before.len();
        let mut statements = before;
        match store.backend() {
            Backend::Sqlite(_) => statements.extend(self.sqlite()?.into_iter().map(ddl)),
            Backend::Postgres(_) => {
                let all = self.postgres(store).await?;
                statements.extend(all.into_iter().map(ddl));
            }
        }
        statements.extend(after);
        let mut touched = store.transaction(statements).await.map_err(|error| told(error, wanted))?;
        touched.truncate(wanted);
        Ok(touched)
    }

    /// What must be sent before everything else of a switch.
    #[must_use]
    pub fn patience(store: &Store) -> Option<Statement> {
        matches!(store.backend(), Backend::Postgres(_)).then(|| ddl(PATIENCE.to_owned()))
    }

    fn each(&self) -> Result<Vec<(&'static str, &'static Table)>, Error> {
        self.tables.iter().map(|name| Ok((*name, schema::table(name)?))).collect()
    }

    fn drop_all(&self) -> Vec<String> {
        self.tables.iter().map(|name| format!("DROP TABLE IF EXISTS {name}{SUFFIX}")).collect()
    }

    /// An index of SQLite keeps its name for ever, so the new ones are made with the switch.
    fn sqlite(&self) -> Result<Vec<String>, Error> {
        let mut statements = Vec::new();
        for (name, table) in self.each()? {
            statements.push(format!("DROP TABLE IF EXISTS {name}"));
            statements.push(format!("ALTER TABLE {name}{SUFFIX} RENAME TO {name}"));
            for index in &table.indexes {
                statements.push(format!("DROP INDEX IF EXISTS {}", index.name));
                statements.push(index.create(&index.name, name));
            }
        }
        Ok(statements)
    }

    async fn postgres(&self, store: &Store) -> Result<Vec<String>, Error> {
        let mut statements = Vec::new();
        for (name, table) in self.each()? {
            let grants = grants(store, name).await?;
            let elsewhere = indexes_elsewhere(store, name).await?;
            statements.push(format!("DROP TABLE IF EXISTS {name}"));
            statements.push(format!("ALTER TABLE {name}{SUFFIX} RENAME TO {name}"));
            let key = (format!("{name}{SUFFIX}_pkey"), format!("{name}_pkey"));
            let others =
                table.indexes.iter().map(|index| (format!("{}{SUFFIX}", index.name), index.name.clone()));
            for (from, to) in std::iter::once(key).chain(others) {
                // Somebody may have put the old table aside under another name: its indexes keep theirs.
                if !elsewhere.contains(&to) {
                    statements.push(format!("ALTER INDEX {from} RENAME TO {to}"));
                }
            }
            statements.extend(grants);
        }
        Ok(statements)
    }
}

fn ddl(sql: String) -> Statement {
    Statement::new(sql, Vec::new())
}

/// A table that something else of the operator's stands on (a view, a foreign key) is not dropped over their head.
fn told(error: Error, before: usize) -> Error {
    let of_ours = error.statement().is_some_and(|at| at >= before);
    match error.class() {
        Class::Schema | Class::Database if of_ours => {
            let message = format!("the old tables cannot be replaced by the new ones: {error}");
            Error::new(Class::Database, message)
        }
        _ => error,
    }
}

/// Who may do what with a table besides its owner, as statements that say so of the one that takes its name.
async fn grants(store: &Store, table: &str) -> Result<Vec<String>, Error> {
    const GRANTS: &str = "SELECT CAST(g.privilege_type AS TEXT) AS privilege, \
        CASE WHEN g.grantee = 'PUBLIC' THEN 'PUBLIC' ELSE quote_ident(CAST(g.grantee AS TEXT)) END AS grantee, \
        CAST(g.is_grantable AS TEXT) AS grantable FROM information_schema.role_table_grants g \
        JOIN pg_catalog.pg_tables t ON t.schemaname = g.table_schema AND t.tablename = g.table_name \
        WHERE g.table_name = $1 AND g.table_schema = ANY (current_schemas(false)) AND g.grantee <> t.tableowner";
    let rows = store.query(GRANTS, vec![table.into()]).await?;
    rows.iter()
        .map(|row| {
            let text = |column| Ok::<_, Error>(row.text(column)?.unwrap_or_default());
            let option = if text("grantable")? == "YES" { " WITH GRANT OPTION" } else { "" };
            Ok(format!("GRANT {} ON {table} TO {}{option}", text("privilege")?, text("grantee")?))
        })
        .collect()
}

/// Names of indexes that belong to other tables than this one.
async fn indexes_elsewhere(store: &Store, table: &str) -> Result<BTreeSet<String>, Error> {
    const INDEXES: &str = "SELECT CAST(indexname AS TEXT) AS name FROM pg_catalog.pg_indexes \
        WHERE schemaname = ANY (current_schemas(false)) AND tablename <> $1";
    let rows = store.query(INDEXES, vec![table.into()]).await?;
    rows.iter().map(|row| Ok(row.text("name")?.unwrap_or_default().to_owned())).collect()
}
