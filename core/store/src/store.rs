//! The one handle that everything above uses, whichever database is behind it.

use crate::config::{Config, Target};
use crate::error::{Class, Error};
use crate::migrations;
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::statement::Statement;
use crate::value::{Row, Value};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long tables may take to be switched.
const LONG: Duration = Duration::from_secs(3_600);

/// An open store; cheap to clone, usable from any task.
#[derive(Clone)]
pub struct Store {
    backend: Arc<Backend>,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// For the disk.
    Now,
    /// For nothing: a later commit that waits for the disk covers it.
    Later,
}

pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Store {
    /// Opens the database. For PostgreSQL no connection is made yet: a server that is down delays nobody's start.
    /// The tables are as they are; [`Store::migrate`] brings them to this version.
    ///
    /// # Errors
    /// [`crate::Class::Config`] when the SQLite file cannot be opened or a root certificate cannot be used.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let backend = match &config.target {
            Target::Sqlite(path) => Backend::Sqlite(Sqlite::open(path).await?),
            Target::Postgres(options) => Backend::Postgres(Postgres::open(options)?),
        };
        Ok(Self { backend: Arc::new(backend) })
    }

    /// Applies the migrations that are missing and returns their names in order. Two processes may do so at once.
    ///
    /// # Errors
    /// [`crate::Class::Newer`] when a later program has been here; [`crate::Class::Config`] when an applied migration
    /// differs from this program's; connection and permission faults as they come.
    pub async fn migrate(&self) -> Result<Vec<String>, Error> {
        migrations::run(self).await
    }

    /// Rows of a `SELECT`. `$n` stand for `params`, `$1` first.
    ///
    /// # Errors
    /// As [`Error::class`] says.
    pub async fn query(
        &self,
        sql: impl Into<Cow<'static, str>>,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let statement = Statement::new(sql, params);
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.query(statement).await,
            Backend::Postgres(postgres) => postgres.query(&statement).await,
        }
    }

    /// Runs one `INSERT`, `UPDATE` or `DELETE` with `RETURNING` and gives its rows, durable when this returns.
    ///
    /// # Errors
    /// As [`Error::class`] says.
    pub async fn write_returning(
        &self,
        sql: impl Into<Cow<'static, str>>,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let statement = Statement::new(sql, params);
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.write_returning(statement).await,
            Backend::Postgres(postgres) => postgres.write_returning(&statement).await,
        }
    }

    /// Runs one statement in a transaction of its own and returns the number of rows it touched.
    ///
    /// # Errors
    /// As [`Error::class`] says.
    pub async fn execute(&self, sql: impl Into<Cow<'static, str>>, params: Vec<Value>) -> Result<u64, Error> {
        let touched = self.transaction(vec![Statement::new(sql, params)]).await?;
        Ok(touched.first().copied().unwrap_or(0))
    }

    /// Runs `statements` in order in one transaction: all of them or none. Returns the rows each touched.
    ///
    /// They are durable when this returns. After a retryable fault of the commit itself the outcome is unknown: what is written must bear being written
    /// again, or be guarded by a position.
    ///
    /// # Errors
    /// The first fault with the number of its statement; [`crate::Class::Fenced`] when a guard did not hold.
    pub async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>, Error> {
        self.commit(statements, Durability::Now, None).await
    }

    /// As [`Store::transaction`], for work that takes its time.
    pub(crate) async fn long_transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>, Error> {
        self.commit(statements, Durability::Now, Some(LONG)).await
    }

    /// As [`Store::transaction`], without waiting for the disk: a power cut, or a crash of the server, may take it back
    /// whole, and with it what was committed after it. A later [`Store::transaction`] makes it durable. For what can be
    /// written again from elsewhere until then.
    ///
    /// # Errors
    /// As [`Store::transaction`].
    pub async fn transaction_soon_durable(&self, statements: Vec<Statement>) -> Result<Vec<u64>, Error> {
        self.commit(statements, Durability::Later, None).await
    }

    async fn commit(
        &self,
        statements: Vec<Statement>,
        durability: Durability,
        limit: Option<Duration>,
    ) -> Result<Vec<u64>, Error> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.transaction(statements, durability).await,
            Backend::Postgres(postgres) => postgres.transaction(statements, durability, limit).await,
        }
    }

    /// Writes a consistent copy of an embedded database to `path`, which must not exist, while it is in use.
    ///
    /// # Errors
    /// [`Class::Config`] for a PostgreSQL server, which has its own tools; otherwise what SQLite says.
    pub async fn copy_to(&self, path: &Path) -> Result<(), Error> {
        match &*self.backend {
            Backend::Sqlite(sqlite) => sqlite.copy_to(path.to_owned()).await,
            Backend::Postgres(_) => {
                Err(Error::new(Class::Config, "a PostgreSQL server is copied with pg_dump"))
            }
        }
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &*self.backend {
            Backend::Sqlite(_) => "sqlite",
            Backend::Postgres(_) => "postgres",
        }
    }

    /// Asks the database for an answer, for readiness and `check --live`.
    ///
    /// # Errors
    /// Whatever keeps it from answering.
    pub async fn ping(&self) -> Result<(), Error> {
        self.query("SELECT 1 AS one", Vec::new()).await.map(|_| ())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.kind()).finish()
    }
}
