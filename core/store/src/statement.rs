//! One SQL statement with its parameters, as it is put into a transaction.

use crate::value::Value;
use std::borrow::Cow;

/// SQL with `$n` parameters, the same text for both databases, and what is bound to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text; constant texts are prepared once for each connection.
    pub sql: Cow<'static, str>,
    /// `$1` first.
    pub params: Vec<Value>,
    /// When set: the number of rows that it must touch, else the transaction is rolled back as fenced.
    pub(crate) must_touch: Option<u64>,
}

impl Statement {
    /// A statement that may touch any number of rows.
    #[must_use]
    pub fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Value>) -> Self {
        Self { sql: sql.into(), params, must_touch: None }
    }

    /// A statement that must touch exactly `rows`; otherwise nothing of its transaction is kept and the
    /// error's class is [`crate::Class::Fenced`].
    #[must_use]
    pub fn guard(sql: impl Into<Cow<'static, str>>, params: Vec<Value>, rows: u64) -> Self {
        Self { must_touch: Some(rows), ..Self::new(sql, params) }
    }
}
