//! PostgreSQL: a pool of connections; a transaction's statements are sent without waiting for each other's answers.

use crate::config::{Postgres as Options, Tls};
use crate::error::{Class, Error};
use crate::statement::Statement;
use crate::store::Durability;
use crate::tls;
use crate::value::{Row, Value, timestamp_text};
use deadpool_postgres::{
    GenericClient, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use futures_util::future::try_join_all;
use postgres_types::private::BytesMut;
use postgres_types::{FromSql, IsNull, ToSql, Type};
use signalbox_base::Wall;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::NoTls;

/// How long a caller waits for a free or new connection before the fault counts as retryable.
const CONNECTION_WAIT: Duration = Duration::from_secs(10);
/// How long a server that is reached may take to answer. One that is frozen, or waits for a lock of somebody who is, would
/// else be waited for without a word.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// A line on which nothing comes back is given up after about this, instead of the system's two hours.
const SILENCE: Duration = Duration::from_secs(15);
/// The server ends a transaction of ours that says nothing for so long: a process that was stopped in one must not keep its
/// locks from whoever takes over.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '5s'";
/// 2000-01-01T00:00:00Z, PostgreSQL's epoch, in microseconds after 1970.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

pub(crate) struct Postgres {
    pool: Pool,
}

impl Postgres {
    /// Prepares the pool; no connection is made before one is needed.
    pub(crate) fn open(options: &Options) -> Result<Self, Error> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let mut settings = options.options.clone();
        settings
            .keepalives(true)
            .keepalives_idle(SILENCE / 3)
            .keepalives_interval(SILENCE / 3)
            .keepalives_retries(2);
        settings.tcp_user_timeout(SILENCE);
        let manager = match &options.tls {
            Tls::Disable => Manager::from_config(settings, NoTls, recycling),
            tls => Manager::from_config(settings, tls::connector(tls)?, recycling),
        };
        let pool = Pool::builder(manager)
            .max_size(options.connections)
            .wait_timeout(Some(CONNECTION_WAIT))
            .create_timeout(Some(CONNECTION_WAIT))
            .recycle_timeout(Some(CONNECTION_WAIT))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) })
            }))
            .build()
            .map_err(|error| Error::new(Class::Config, format!("postgres pool: {error}")))?;
        Ok(Self { pool })
    }

    pub(crate) async fn connection(&self) -> Result<Object, Error> {
        Ok(self.pool.get().await?)
    }

    pub(crate) async fn query(&self, statement: &Statement) -> Result<Vec<Row>, Error> {
        let connection = self.connection().await?;
        let found = answered(ANSWER_WAIT, rows(&connection, statement)).await;
        unless_lost(connection, found)
    }

    /// Rows of one statement that writes, durable when they are returned.
    pub(crate) async fn write_returning(&self, statement: &Statement) -> Result<Vec<Row>, Error> {
        let mut connection = self.connection().await?;
        let written = answered(ANSWER_WAIT, write_returning(&mut connection, statement)).await;
        unless_lost(connection, written)
    }

    pub(crate) async fn transaction(
        &self,
        statements: Vec<Statement>,
        durability: Durability,
        limit: Option<Duration>,
    ) -> Result<Vec<u64>, Error> {
        let mut connection = self.connection().await?;
        let work = commit(&mut connection, statements, durability);
        let touched = answered(limit.unwrap_or(ANSWER_WAIT), work).await;
        unless_lost(connection, touched)
    }
}

async fn answered<T>(within: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || {
        let seconds = within.as_secs();
        Error::new(Class::Retryable, format!("postgres: no answer within {seconds} s"))
    };
    tokio::time::timeout(within, work).await.unwrap_or_else(|_| Err(late()))
}

/// Keeps a connection that may be lost out of the pool: it would fail the next one too.
fn unless_lost<T>(connection: Object, result: Result<T, Error>) -> Result<T, Error> {
    if result.as_ref().is_err_and(Error::is_retryable) {
        drop(Object::take(connection));
    }
    result
}

async fn rows(connection: &impl GenericClient, statement: &Statement) -> Result<Vec<Row>, Error> {
    let prepared = connection.prepare_cached(&statement.sql).await?;
    let columns: Arc<[String]> = prepared.columns().iter().map(|column| column.name().to_owned()).collect();
    let rows = connection.query(&prepared, &parameters(&statement.params)).await?;
    rows.iter().map(|row| row_of(row, &columns)).collect()
}

async fn write_returning(connection: &mut Object, statement: &Statement) -> Result<Vec<Row>, Error> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute(waiting(Durability::Now)).await?;
    let rows = rows(&transaction, statement).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// Makes a transaction's commit wait as it should, whatever server, database or role have as their default.
fn waiting(durability: Durability) -> &'static str {
    match durability {
        Durability::Now => "SET LOCAL synchronous_commit = on",
        // The server writes the WAL out behind the commit, in order: a later commit that waits for it covers this one.
        Durability::Later => "SET LOCAL synchronous_commit = off",
    }
}

/// The statements to send, each with the index of the one that it stands for: a short cut is not sent, for what follows
/// it would have to wait until the server has answered.
fn spelled_out(statements: Vec<Statement>) -> Vec<(usize, Statement)> {
    let mut all = Vec::with_capacity(statements.len());
    for (at, mut statement) in statements.into_iter().enumerate() {
        match statement.otherwise.take() {
            Some(otherwise) => all.extend(otherwise().into_iter().map(|other| (at, other))),
            None => all.push((at, statement)),
        }
    }
    all
}

async fn commit(
    connection: &mut Object,
    statements: Vec<Statement>,
    durability: Durability,
) -> Result<Vec<u64>, Error> {
    let mut touched = vec![0; statements.len()];
    let mut statements = spelled_out(statements);
    if !touched.is_empty() {
        // It touches no row, so it may count as the last one.
        statements.push((touched.len() - 1, Statement::new(waiting(durability), Vec::new())));
    }
    let transaction = connection.transaction().await?;
    let mut texts: HashMap<&str, tokio_postgres::Statement> = HashMap::new();
    for (at, statement) in &statements {
        if !texts.contains_key(&*statement.sql) {
            let prepared =
                transaction.prepare_cached(&statement.sql).await.map_err(|e| Error::from(e).at(*at))?;
            texts.insert(&statement.sql, prepared);
        }
    }
    // Polled in order, so they are sent in order; the first fault is the one that broke the transaction, later
    // ones only say that it is broken. A guard stands before what it guards: when it fails, all is rolled back.
    for chunk in statements.chunks(PIPELINE) {
        let mut sent = Vec::with_capacity(chunk.len());
        for (at, statement) in chunk {
            sent.push(execute(&transaction, &texts[&*statement.sql], statement, *at));
        }
        for ((at, _), count) in chunk.iter().zip(try_join_all(sent).await?) {
            touched[*at] += count;
        }
    }
    transaction.commit().await?;
    Ok(touched)
}

/// Statements in flight at once: enough to hide the line's delay, small enough to poll cheaply.
const PIPELINE: usize = 64;

async fn execute(
    transaction: &deadpool_postgres::Transaction<'_>,
    prepared: &tokio_postgres::Statement,
    statement: &Statement,
    at: usize,
) -> Result<u64, Error> {
    let params = parameters(&statement.params);
    let count = transaction.execute(prepared, &params).await.map_err(|error| Error::from(error).at(at))?;
    if statement.must_touch.is_some_and(|wanted| wanted != count) {
        return Err(Error::new(Class::Fenced, "another holder has taken over").at(at));
    }
    Ok(count)
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn row_of(row: &tokio_postgres::Row, columns: &Arc<[String]>) -> Result<Row, Error> {
    let values = (0..columns.len())
        .map(|at| Ok(row.try_get::<_, Option<Value>>(at)?.unwrap_or(Value::Null)))
        .collect::<Result<_, Error>>()?;
    Ok(Row::new(Arc::clone(columns), values))
}

type Boxed = Box<dyn StdError + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => match *ty {
                Type::INT2 => i16::try_from(*value)?.to_sql(ty, out),
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
                Type::INT8 => value.to_sql(ty, out),
                _ => Err(format!("an integer for a column of type {ty}").into()),
            },
            Self::Real(value) => match *ty {
                #[expect(clippy::cast_possible_truncation, reason = "a REAL column holds what fits it")]
                Type::FLOAT4 => (*value as f32).to_sql(ty, out),
                Type::FLOAT8 => value.to_sql(ty, out),
                _ => Err(format!("a number for a column of type {ty}").into()),
            },
            Self::Text(value) if <&str as ToSql>::accepts(ty) => value.as_str().to_sql(ty, out),
            Self::Word(value) if <&str as ToSql>::accepts(ty) => value.to_sql(ty, out),
            Self::Bytes(value) if *ty == Type::BYTEA => value.to_sql(ty, out),
            Self::Timestamp(at) if *ty == Type::TIMESTAMP => {
                let whole = Wall::from_secs(at.secs());
                (whole.0.saturating_sub(POSTGRES_EPOCH)).to_sql(&Type::INT8, out)
            }
            Self::Text(_) | Self::Word(_) => Err(format!("text for a column of type {ty}").into()),
            Self::Bytes(_) => Err(format!("bytes for a column of type {ty}").into()),
            Self::Timestamp(_) => Err(format!("a timestamp for a column of type {ty}").into()),
        }
    }

    /// What does not fit is found in `to_sql`, where the value is known.
    fn accepts(_: &Type) -> bool {
        true
    }

    postgres_types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(match *ty {
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::BOOL => Self::Int(bool::from_sql(ty, raw)?.into()),
            // By its shortest decimal, so that 0.7 reads as 0.7 and not as the nearest half-size number.
            Type::FLOAT4 => Self::Real(f32::from_sql(ty, raw)?.to_string().parse()?),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            Type::TIMESTAMP => {
                let since = i64::from_sql(&Type::INT8, raw)?;
                Self::Text(timestamp_text(Wall(since.saturating_add(POSTGRES_EPOCH))).into())
            }
            _ => Self::Text(<&str>::from_sql(ty, raw)?.into()),
        })
    }

    fn accepts(ty: &Type) -> bool {
        matches!(
            *ty,
            Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::BOOL
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::BYTEA
                | Type::TIMESTAMP
        ) || <&str as FromSql>::accepts(ty)
    }
}
