//! Tables beside those that people read, and the moment when they take their place: by name, or, where something of
//! somebody else's stands on the old table (a view, a trigger, a foreign key, an index), row by row into that one.

use crate::error::{Class, Error};
use crate::rename::Renames;
use crate::schema::{self, Table};
use crate::statement::Statement;
use crate::store::{Backend, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What tables beside are called behind the name of those they are for.
const SUFFIX: &str = "_rebuild";

/// What a damaged table is called behind its name once another has taken its place.
const DAMAGED: &str = "_damaged";

/// How long a switch waits for those who read the old tables, before it lets them pass and is tried again.
const PATIENCE: &str = "SET LOCAL lock_timeout = '3s'";

/// How rows of one table are taken over.
#[derive(Clone, Copy, Debug)]
pub struct Carry<'a> {
    /// The table.
    pub table: &'a str,
    /// When a new row `n` is the old row `o`.
    pub same: &'a str,
    /// Columns that the new table has otherwise, as expressions on `o`.
    pub marks: &'a [(&'a str, &'a str)],
    /// When a new row `n` gives way to the old row `o`.
    pub gives_way: Option<&'a str>,
}

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

    /// The statements that take rows over from the old table: those of the new one that give way are deleted first. `gone`
    /// tells of an old row `o` that its events are gone; `$n` in it are `params`. What is inserted is the last statement.
    ///
    /// # Errors
    /// [`Class::Schema`] for a table that this program does not have.
    pub fn carry(
        &self,
        carry: &Carry<'_>,
        gone: &str,
        params: &[crate::Value],
    ) -> Result<Vec<Statement>, Error> {
        let Carry { table, same, marks, gives_way } = carry;
        let columns: Vec<&str> = schema::table(table)?.columns.iter().map(String::as_str).collect();
        let told = columns.iter().map(|column| {
            let mark = marks.iter().find(|(marked, _)| marked == column);
            mark.map_or_else(|| format!("o.{column}"), |(_, says)| (*says).to_owned())
        });
        let insert = format!(
            "INSERT INTO {table}{SUFFIX} ({}) SELECT {} FROM {table} o WHERE ({gone}) \
             AND NOT EXISTS (SELECT 1 FROM {table}{SUFFIX} n WHERE {same})",
            columns.join(", "),
            told.collect::<Vec<_>>().join(", ")
        );
        let way = gives_way.map(|which| {
            format!(
                "DELETE FROM {table}{SUFFIX} AS n WHERE EXISTS (SELECT 1 FROM {table} o WHERE ({gone}) AND {which})"
            )
        });
        let statement = |sql| Statement::new(sql, params.to_vec());
        Ok(way.into_iter().chain([insert]).map(statement).collect())
    }

    /// How many rows [`Switch::carry`] would take over now.
    ///
    /// # Errors
    /// As [`Error::class`] says.
    pub async fn count(
        &self,
        store: &Store,
        carry: &Carry<'_>,
        gone: &str,
        params: &[crate::Value],
    ) -> Result<u64, Error> {
        let Carry { table, same, gives_way, .. } = carry;
        let stays = gives_way.map(|which| format!(" AND NOT ({which})")).unwrap_or_default();
        let sql = format!(
            "SELECT COUNT(*) AS number FROM {table} o WHERE ({gone}) \
             AND NOT EXISTS (SELECT 1 FROM {table}{SUFFIX} n WHERE {same}{stays})"
        );
        let rows = store.query(sql, params.to_vec()).await?;
        let number = rows.first().map(|row| row.int("number")).transpose()?.flatten();
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    /// By which a projection's statements go to the tables beside.
    #[must_use]
    pub fn renames(&self) -> &Arc<Renames> {
        &self.renames
    }

    /// Makes them, empty; what an earlier rebuild left is dropped. `with` belongs into the same transaction.
    ///
    /// # Errors
    /// As [`Error::class`] says; so do the others.
    pub async fn make(&self, store: &Store, with: Vec<Statement>) -> Result<(), Error> {
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
        let all = with.into_iter().chain(statements.into_iter().map(ddl));
        store.long_transaction(all.collect()).await.map(drop)
    }

    /// Drops them.
    pub async fn discard(&self, store: &Store) -> Result<(), Error> {
        store.long_transaction(self.drop_all().into_iter().map(ddl).collect()).await.map(drop)
    }

    /// In one transaction: `before` (guards, rows that are carried over), the old tables go and these take their names, or
    /// their rows become those of the old ones, `after`. Whoever may read or write the old ones may so the new ones. Damaged
    /// tables, those in `aside`, are not dropped but named `…_damaged`.
    pub async fn switch(
        &self,
        store: &Store,
        before: Vec<Statement>,
        after: Vec<Statement>,
        aside: &[&str],
    ) -> Result<(), Error> {
        let wanted = before.len();
        let mut statements = before;
        match store.backend() {
            Backend::Sqlite(_) => statements.extend(self.sqlite(aside)?.into_iter().map(ddl)),
            Backend::Postgres(_) => {
                let all = self.postgres(store, aside).await?;
                statements.extend(all.into_iter().map(ddl));
            }
        }
        statements.extend(after);
        store.long_transaction(statements).await.map(drop).map_err(|error| told(error, wanted))
    }

    /// What an operator must do after a switch: views on a damaged table go with it when it is put aside.
    ///
    /// # Errors
    /// As [`Error::class`] says.
    pub async fn left_to_do(&self, store: &Store, aside: &[&str]) -> Result<String, Error> {
        let mut left = Vec::new();
        if matches!(store.backend(), Backend::Postgres(_)) {
            for table in aside {
                let views = views(store, table).await?;
                left.extend(views.iter().map(|view| {
                    format!("view {view} reads {table}{DAMAGED} now: drop it and create it again on {table}")
                }));
            }
        }
        Ok(left.join("; "))
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
    fn sqlite(&self, aside: &[&str]) -> Result<Vec<String>, Error> {
        let mut statements = Vec::new();
        for (name, table) in self.each()? {
            statements.extend(old_goes(name, aside));
            statements.push(format!("ALTER TABLE {name}{SUFFIX} RENAME TO {name}"));
            for index in &table.indexes {
                statements.push(format!("DROP INDEX IF EXISTS {}", index.name));
                statements.push(index.create(&index.name, name));
            }
        }
        Ok(statements)
    }

    async fn postgres(&self, store: &Store, aside: &[&str]) -> Result<Vec<String>, Error> {
        let mut statements = Vec::new();
        for (name, table) in self.each()? {
            if !aside.contains(&name) && is_stood_upon(store, name, table).await? {
                statements.extend(merged(name, table));
                continue;
            }
            let grants = grants(store, name).await?;
            let mut taken = indexes_elsewhere(store, name).await?;
            if aside.contains(&name) {
                taken.extend(indexes_of(store, name).await?);
            }
            statements.extend(old_goes(name, aside));
            statements.push(format!("ALTER TABLE {name}{SUFFIX} RENAME TO {name}"));
            let key = (format!("{name}{SUFFIX}_pkey"), format!("{name}_pkey"));
            let others =
                table.indexes.iter().map(|index| (format!("{}{SUFFIX}", index.name), index.name.clone()));
            for (from, to) in std::iter::once(key).chain(others) {
                // Indexes of a table that was put aside keep their names, and no two can have the same.
                if taken.contains(&to) {
                    statements.push(format!("ALTER INDEX {to} RENAME TO {}", free(&to, &taken)));
                }
                statements.push(format!("ALTER INDEX {from} RENAME TO {to}"));
            }
            statements.extend(grants);
        }
        Ok(statements)
    }
}

/// The table that is replaced goes, or is put aside.
fn old_goes(name: &str, aside: &[&str]) -> Vec<String> {
    if !aside.contains(&name) {
        return vec![format!("DROP TABLE IF EXISTS {name}")];
    }
    vec![
        format!("DROP TABLE IF EXISTS {name}{DAMAGED}"),
        format!("ALTER TABLE {name} RENAME TO {name}{DAMAGED}"),
    ]
}

/// The rows of the table beside become those of the old one, which stays the table that it is; equal ones are not touched.
fn merged(name: &str, table: &Table) -> [String; 3] {
    let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
    let each = |write: &dyn Fn(&str) -> String, between: &str| {
        columns.iter().map(|column| write(column)).collect::<Vec<_>>().join(between)
    };
    let same = table.key.iter().map(|column| format!("n.{column} = o.{column}")).collect::<Vec<_>>();
    let (new, all) = (format!("{name}{SUFFIX}"), columns.join(", "));
    [
        format!("DELETE FROM {name} o WHERE NOT EXISTS (SELECT 1 FROM {new} n WHERE {})", same.join(" AND ")),
        format!(
            "INSERT INTO {name} AS o ({all}) SELECT {all} FROM {new} ON CONFLICT ({}) DO UPDATE SET {} \
             WHERE ({}) IS DISTINCT FROM ({})",
            table.key.join(", "),
            each(&|column| format!("{column} = excluded.{column}"), ", "),
            each(&|column| format!("o.{column}"), ", "),
            each(&|column| format!("excluded.{column}"), ", "),
        ),
        format!("DROP TABLE {new}"),
    ]
}

/// A name for an index that no other has.
fn free(name: &str, taken: &BTreeSet<String>) -> String {
    let other = |n: u32| format!("{name}_old{n}");
    (1..).map(other).find(|other| !taken.contains(other)).unwrap_or_default()
}

fn ddl(sql: String) -> Statement {
    Statement::new(sql, Vec::new())
}

/// What somebody else made of a table keeps it from being replaced as it is.
fn told(error: Error, before: usize) -> Error {
    let of_ours = error.statement().is_some_and(|at| at >= before);
    match error.class() {
        Class::Schema | Class::Database | Class::Row if of_ours => {
            let message = format!("the old tables cannot be replaced by the new ones: {error}");
            Error::new(Class::Database, message)
        }
        _ => error,
    }
}

/// Whether something that is not ours stands on a table and would go, or keep it from going, with it: views, rules, foreign
/// keys, checks, triggers, policies, publications, heirs, uses of its row type, more columns or indexes.
async fn is_stood_upon(store: &Store, name: &str, table: &Table) -> Result<bool, Error> {
    const STANDING: &str = "SELECT COUNT(*) AS number FROM (SELECT to_regclass($1) AS id) t WHERE \
        EXISTS (SELECT 1 FROM pg_depend WHERE refobjid = t.id AND classid = 'pg_rewrite'::regclass) \
        OR EXISTS (SELECT 1 FROM pg_constraint WHERE contype IN ('c', 'f') AND t.id IN (conrelid, confrelid)) \
        OR EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = t.id AND NOT tgisinternal) \
        OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = t.id) \
        OR EXISTS (SELECT 1 FROM pg_publication_rel WHERE prrelid = t.id) \
        OR EXISTS (SELECT 1 FROM pg_inherits WHERE t.id IN (inhrelid, inhparent)) \
        OR EXISTS (SELECT 1 FROM pg_depend d JOIN pg_class c ON c.reltype = d.refobjid \
            WHERE c.oid = t.id AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'n') \
        OR EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = t.id AND attnum > 0 AND NOT attisdropped \
            AND attname NOT IN ({columns})) \
        OR EXISTS (SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
            WHERE i.indrelid = t.id AND c.relname NOT IN ({indexes}))";
    let list = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
    };
    let key = format!("{name}_pkey");
    let indexes = table.indexes.iter().map(|index| index.name.as_str());
    let sql = STANDING
        .replace("{columns}", &list(&mut table.columns.iter().map(String::as_str)))
        .replace("{indexes}", &list(&mut indexes.chain([key.as_str()])));
    let rows = store.query(sql, vec![name.into()]).await?;
    Ok(rows.first().map(|row| row.int("number")).transpose()?.flatten() != Some(0))
}

/// The views that stand on a table.
async fn views(store: &Store, table: &str) -> Result<Vec<String>, Error> {
    const VIEWS: &str = "SELECT DISTINCT CAST(v.relname AS TEXT) AS name FROM pg_depend d \
        JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class \
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = to_regclass($1) AND v.oid <> d.refobjid ORDER BY 1";
    let rows = store.query(VIEWS, vec![table.into()]).await?;
    rows.iter().map(|row| Ok(row.text("name")?.unwrap_or_default().to_owned())).collect()
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
    index_names(store, table, "tablename <> $1").await
}

async fn indexes_of(store: &Store, table: &str) -> Result<BTreeSet<String>, Error> {
    index_names(store, table, "tablename = $1").await
}

async fn index_names(store: &Store, table: &str, which: &str) -> Result<BTreeSet<String>, Error> {
    let sql = format!(
        "SELECT CAST(indexname AS TEXT) AS name FROM pg_catalog.pg_indexes \
         WHERE schemaname = ANY (current_schemas(false)) AND {which}"
    );
    let rows = store.query(sql, vec![table.into()]).await?;
    rows.iter().map(|row| Ok(row.text("name")?.unwrap_or_default().to_owned())).collect()
}
