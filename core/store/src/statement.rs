//! One SQL statement with its parameters, as it is put into a transaction.

use crate::value::Value;
use std::borrow::Cow;
use std::fmt;

/// Makes the statements that do what another one could not.
pub(crate) type Otherwise = Box<dyn FnOnce() -> Vec<Statement> + Send + Sync>;

/// SQL with `$n` parameters, the same text for both databases, and what is bound to them.
pub struct Statement {
    /// The text; constant texts are prepared once for each connection.
    pub sql: Cow<'static, str>,
    /// `$1` first.
    pub params: Vec<Value>,
    /// When set: the number of rows that it must touch, else the transaction is rolled back as fenced.
    pub(crate) must_touch: Option<u64>,
    /// What is to be run when it touches no row.
    pub(crate) otherwise: Option<Otherwise>,
}

impl Statement {
    /// A statement that may touch any number of rows.
    #[must_use]
    pub fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Value>) -> Self {
        Self { sql: sql.into(), params, must_touch: None, otherwise: None }
    }

    /// A statement that must touch exactly `rows`; otherwise nothing of its transaction is kept and the
    /// error's class is [`crate::Class::Fenced`].
    #[must_use]
    pub fn guard(sql: impl Into<Cow<'static, str>>, params: Vec<Value>, rows: u64) -> Self {
        Self { must_touch: Some(rows), ..Self::new(sql, params) }
    }

    /// Makes it a short cut: when it touches a row it has done all that the statements of `otherwise` do, and else they
    /// are run in its place. They must bear being run alone as well, for a server over a line is sent only them: it
    /// would have to answer before it were known whether the short cut did. None of them may be a guard or a short cut.
    #[must_use]
    pub fn or_else(self, otherwise: impl FnOnce() -> Vec<Self> + Send + Sync + 'static) -> Self {
        Self { otherwise: Some(Box::new(otherwise)), ..self }
    }
}

/// Without values: they may be personal data.
impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statement").field(&self.sql).finish()
    }
}
