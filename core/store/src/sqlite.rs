//! The embedded database: one thread writes, one reads, both off the async threads.
//!
//! WAL lets the reader (and other processes, the command line's) see the last commit while a write is under way.
//!
//! The journal drops what a position has passed, so a position must have survived a power cut before the journal is told
//! of it: [`Durability::Now`] syncs the WAL (`synchronous=FULL`), and with it everything that was committed before. A
//! transaction whose positions the journal is told of later ([`Durability::Later`]) is not synced (`NORMAL`): rows and
//! positions are in the same frames of the WAL, so a power cut takes both back to an earlier commit, and what it took is
//! read from the journal again. The end of the process alone loses neither.

use crate::error::{Class, Error};
use crate::statement::Statement;
use crate::store::Durability;
use crate::value::{Row, Value, timestamp_text};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, TransactionBehavior};
use signalbox_base::Text;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a statement waits for another process's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements kept for each connection.
const STATEMENTS_KEPT: usize = 256;
/// Page cache of each connection: below zero in KiB. The indexes of some ten thousand bindings fit in.
const CACHE_SIZE: i64 = -16_384;
/// Pages in the WAL before they are copied into the database: at 4 KiB each 16 MiB. A page that many transactions
/// write is copied once for all of them.
const CHECKPOINT_PAGES: i64 = 4_096;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

pub(crate) struct Sqlite {
    path: PathBuf,
    writer: Worker,
    reader: Worker,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let writer = Worker::start(path, "store-writer").await?;
        let reader = Worker::start(path, "store-reader").await?;
        Ok(Self { path: path.to_owned(), writer, reader })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) async fn query(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        self.reader.run(move |connection| rows(connection, &statement)).await
    }

    pub(crate) async fn write_returning(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        self.writer.run(move |connection| rows(connection, &statement)).await
    }

    pub(crate) async fn transaction(
        &self,
        statements: Vec<Statement>,
        durability: Durability,
    ) -> Result<Vec<u64>, Error> {
        self.writer.run(move |connection| transaction(connection, statements, durability)).await
    }

    /// A consistent copy in a new file, while others read and write.
    pub(crate) async fn copy_to(&self, path: PathBuf) -> Result<(), Error> {
        let text = path.to_string_lossy().into_owned();
        self.reader.run(move |connection| Ok(connection.execute("VACUUM INTO ?1", [text]).map(|_| ())?)).await
    }

    /// Runs `job` on the writing connection.
    pub(crate) async fn with_writer<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    {
        self.writer.run(job).await
    }
}

/// A thread that owns a connection; it ends when its handle is dropped.
struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    async fn start(path: &Path, name: &str) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (opened, answer) = oneshot::channel();
        let path = path.to_owned();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || match open(&path) {
                Ok(mut connection) => {
                    let _ = opened.send(Ok(()));
                    while let Ok(job) = queue.recv() {
                        job(&mut connection);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(|error| Error::new(Class::Database, format!("sqlite: no thread: {error}")))?;
        answer.await.map_err(|_| stopped())??;
        Ok(Self { jobs })
    }

    async fn run<T, F>(&self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, Error> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody waits any more when the caller was cancelled; the work is done all the same.
            let _ = done.send(job(connection));
        });
        self.jobs.send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::new(Class::Database, "sqlite: the database thread has ended")
}

fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path).map_err(|error| {
        let class = Error::from(error);
        Error::new(class.class(), format!("{class}: {}", path.display()))
    })?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A table that takes another's name leaves the views of whoever reads it as they are.
    connection.pragma_update(None, "legacy_alter_table", true)?;
    connection.pragma_update(None, "cache_size", CACHE_SIZE)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

fn transaction(
    connection: &mut Connection,
    statements: Vec<Statement>,
    durability: Durability,
) -> Result<Vec<u64>, Error> {
    match durability {
        Durability::Now => all_or_none(connection, statements),
        Durability::Later => {
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let touched = all_or_none(connection, statements);
            connection.pragma_update(None, "synchronous", "FULL")?;
            touched
        }
    }
}

fn all_or_none(connection: &mut Connection, statements: Vec<Statement>) -> Result<Vec<u64>, Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let touched = all(&transaction, statements)?;
    transaction.commit()?;
    Ok(touched)
}

fn all(connection: &Connection, statements: Vec<Statement>) -> Result<Vec<u64>, Error> {
    // A transaction has few texts and many statements: each text is looked up once.
    let mut texts: Vec<Prepared<'_>> = Vec::new();
    let mut touched = Vec::with_capacity(statements.len());
    for (at, statement) in statements.into_iter().enumerate() {
        let mut count = execute(connection, &mut texts, &statement).map_err(|error| error.at(at))?;
        if statement.must_touch.is_some_and(|wanted| wanted != count) {
            return Err(Error::new(Class::Fenced, "another holder has taken over").at(at));
        }
        if let (0, Some(otherwise)) = (count, statement.otherwise) {
            for statement in otherwise() {
                count += execute(connection, &mut texts, &statement).map_err(|error| error.at(at))?;
            }
        }
        touched.push(count);
    }
    Ok(touched)
}

fn execute<'c>(
    connection: &'c Connection,
    texts: &mut Vec<Prepared<'c>>,
    statement: &Statement,
) -> Result<u64, Error> {
    let known = texts.iter().position(|text| text.sql == statement.sql);
    let at = match known {
        Some(at) => at,
        None => {
            texts.push(Prepared::new(connection, statement.sql.clone())?);
            texts.len() - 1
        }
    };
    let prepared = &mut texts[at];
    prepared.bind(&statement.params)?;
    Ok(prepared.handle.raw_execute()? as u64)
}

fn rows(connection: &Connection, statement: &Statement) -> Result<Vec<Row>, Error> {
    let mut prepared = Prepared::new(connection, statement.sql.clone())?;
    prepared.bind(&statement.params)?;
    let columns: Arc<[String]> = prepared.handle.column_names().map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut cursor = prepared.handle.raw_query();
    while let Some(row) = cursor.next()? {
        let values =
            (0..columns.len()).map(|at| Ok(value_of(row.get_ref(at)?))).collect::<Result<_, Error>>()?;
        found.push(Row::new(Arc::clone(&columns), values));
    }
    Ok(found)
}

/// A statement that is ready to be bound and run, as often as wanted.
struct Prepared<'c> {
    sql: Cow<'static, str>,
    handle: CachedStatement<'c>,
    /// SQLite's number of `$1`, `$2` …: to it they are names, numbered by where each first appears.
    places: Vec<usize>,
}

impl<'c> Prepared<'c> {
    fn new(connection: &'c Connection, sql: Cow<'static, str>) -> Result<Self, Error> {
        let handle = connection.prepare_cached(&sql)?;
        let place = |n: usize| {
            let name = format!("${n}");
            let missing = || Error::new(Class::Schema, format!("a statement has no parameter {name}"));
            handle.parameter_index(&name)?.ok_or_else(missing)
        };
        let places = (1..=handle.parameter_count()).map(place).collect::<Result<_, Error>>()?;
        Ok(Self { sql, handle, places })
    }

    fn bind(&mut self, params: &[Value]) -> Result<(), Error> {
        if self.places.len() != params.len() {
            let message = format!("{} parameters for a statement of {}", params.len(), self.places.len());
            return Err(Error::new(Class::Schema, message));
        }
        for (place, value) in self.places.iter().zip(params) {
            self.handle.raw_bind_parameter(*place, sql_of(value))?;
        }
        Ok(())
    }
}

fn sql_of(value: &Value) -> ToSqlOutput<'_> {
    match value {
        Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        Value::Int(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
        Value::Real(value) => ToSqlOutput::Borrowed(ValueRef::Real(*value)),
        Value::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
        Value::Word(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
        Value::Bytes(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
        Value::Timestamp(at) => ToSqlOutput::Owned(rusqlite::types::Value::Text(timestamp_text(*at))),
    }
}

fn value_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(value) => Value::Text(Text::lossy(value)),
        ValueRef::Blob(value) => Value::Bytes(value.to_vec()),
    }
}
