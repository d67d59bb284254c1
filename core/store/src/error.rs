//! What can go wrong between a projection and its database, by what the caller should do about it.

use std::fmt;

/// What a fault is, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The database was not reached or asked to come again (connection lost, restart, deadlock, locked, full disk): retry with backoff.
    Retryable,
    /// The database refuses this row (SQLSTATE classes 22 and 23): the same row fails again, another may pass.
    Row,
    /// A table, column or type is not what this program expects: migrate, or stop.
    Schema,
    /// Login or privileges are missing: an operator must act.
    Permission,
    /// Somebody else holds this position now: this process must stop writing.
    Fenced,
    /// The address, a file it names or a migration is wrong.
    Config,
    /// A later version of this program has migrated the tables.
    Newer,
    /// Any other fault of the database.
    Database,
}

impl Class {
    /// Lower-case name, as in tables, events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::Row => "row",
            Self::Schema => "schema",
            Self::Permission => "permission",
            Self::Fenced => "fenced",
            Self::Config => "config",
            Self::Newer => "newer",
            Self::Database => "database",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fault with its class. It never holds a password, a parameter's value or a row's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    class: Class,
    message: String,
    statement: Option<usize>,
}

impl Error {
    /// A fault of `class`; `message` must not quote values.
    #[must_use]
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), statement: None }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// Which statement of a transaction failed, counted from 0; `None` when it was the whole (begin, commit, connection).
    #[must_use]
    pub fn statement(&self) -> Option<usize> {
        self.statement
    }

    /// Whether the same transaction may pass later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.class == Class::Retryable
    }

    pub(crate) fn at(mut self, statement: usize) -> Self {
        self.statement = Some(statement);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.class)
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let Some(code) = error.sqlite_error_code() else {
            // Wrong parameter counts, unreadable columns: the program and the tables disagree.
            return Self::new(Class::Schema, format!("sqlite: {error}"));
        };
        let class = match code {
            Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::SystemIoFailure
            | Code::DiskFull
            | Code::OutOfMemory
            | Code::OperationInterrupted
            | Code::FileLockingProtocolFailed => Class::Retryable,
            Code::ConstraintViolation | Code::TypeMismatch | Code::TooBig => Class::Row,
            Code::PermissionDenied | Code::ReadOnly | Code::AuthorizationForStatementDenied => {
                Class::Permission
            }
            Code::CannotOpen | Code::NotADatabase => Class::Config,
            // SQLite has no code of its own for a missing table or column; every other SQL error is one of ours too.
            Code::Unknown | Code::SchemaChanged => Class::Schema,
            _ => Class::Database,
        };
        Self::new(class, format!("sqlite: {error}"))
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // Without an answer from the server it is either the line or our own conversion of a value.
            let class = if is_conversion(&error) { Class::Schema } else { Class::Retryable };
            return Self::new(class, format!("postgres: {}", chain(&error)));
        };
        // Only the primary message: DETAIL quotes the row, which may hold personal data.
        Self::new(class_of(db.code().code()), format!("postgres: {} [{}]", db.message(), db.code().code()))
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => error.into(),
            other => Self::new(Class::Retryable, format!("postgres pool: {other}")),
        }
    }
}

impl From<refinery::Error> for Error {
    fn from(error: refinery::Error) -> Self {
        Self::new(Class::Config, format!("migration: {}", chain(&error)))
    }
}

/// The class of an SQLSTATE (PostgreSQL manual, appendix A).
fn class_of(code: &str) -> Class {
    match code {
        // read only after a failover; serialisation; deadlock; lock timeout; cancelled; shutdown, crash, starting up
        "25006" | "40001" | "40P01" | "55P03" | "57014" | "57P01" | "57P02" | "57P03" => Class::Retryable,
        "42501" => Class::Permission,
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "53" | "58" => Class::Retryable,
            "22" | "23" => Class::Row,
            "28" => Class::Permission,
            "0A" | "3D" | "3F" | "42" => Class::Schema,
            _ => Class::Database,
        },
    }
}

fn is_conversion(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("error serializing parameter")
        || text.starts_with("error deserializing column")
        || text.starts_with("expected ")
}

/// An error with its causes; the causes of a connection error say what was wrong with it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sqlstate_says_what_to_do() {
        for (code, class) in [
            ("08006", Class::Retryable),
            ("53100", Class::Retryable),
            ("57P01", Class::Retryable),
            ("40P01", Class::Retryable),
            ("22003", Class::Row),
            ("23505", Class::Row),
            ("42P01", Class::Schema),
            ("42703", Class::Schema),
            ("42501", Class::Permission),
            ("28P01", Class::Permission),
            ("XX000", Class::Database),
        ] {
            assert_eq!(class_of(code), class, "{code}");
        }
    }
}
