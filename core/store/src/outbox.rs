//! Events that projections and consumers write themselves, in the transaction of the state they describe.
//!
//! The store is their source (`urn:signalbox:<cluster>:store:<store-id>`); a relay sends them on like a journal's.
//! The counters' rows are locked by the first statement, so sequences are gapless whoever writes and whatever rolls back.

use crate::error::{Class, Error};
use crate::statement::Statement;
use crate::store::Store;
use crate::value::Value;
use signalbox_base::Wall;

/// An event before it has its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Short type with version: `projection.parked.v1`.
    pub kind: String,
    /// The tenant, or empty for none.
    pub tenant: String,
    /// The aggregate.
    pub subject: String,
    /// When it happened.
    pub at: Wall,
    /// `id` of the event it belongs to, or empty.
    pub correlation: String,
    /// `id` of the event that led to it, or empty.
    pub causation: String,
    /// The event's data as JSON.
    pub data: String,
}

const COUNT: &str = "INSERT INTO outbox_counter (domain, value) VALUES ($1, 1) \
    ON CONFLICT (domain) DO UPDATE SET value = outbox_counter.value + 1";

const APPEND: &str = "INSERT INTO outbox \
    (sequence, domainsequence, domain, type, tenant, subject, time, recordedtime, correlation, causation, data) \
    SELECT whole.value, part.value, $1, $2, $3, $4, $5, $6, $7, $8, $9 \
    FROM outbox_counter whole, outbox_counter part WHERE whole.domain = '*' AND part.domain = $10";

impl Draft {
    /// The domain of the type: the part before its first dot.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.kind.split('.').next().unwrap_or_default()
    }

    /// The statements that append it; they belong into the transaction of what the event tells.
    #[must_use]
    pub fn append(&self, now: Wall) -> Vec<Statement> {
        let params: Vec<Value> = vec![
            self.domain().into(),
            self.kind.as_str().into(),
            self.tenant.as_str().into(),
            self.subject.as_str().into(),
            self.at.into(),
            now.into(),
            self.correlation.as_str().into(),
            self.causation.as_str().into(),
            self.data.as_str().into(),
            self.domain().into(),
        ];
        vec![
            Statement::new(COUNT, vec!["*".into()]),
            Statement::new(COUNT, vec![self.domain().into()]),
            Statement::new(APPEND, params),
        ]
    }
}

/// This store's id, made when its tables were: the last part of its events' source, written like a journal's id.
///
/// # Errors
/// As [`Error::class`] says; [`Class::Schema`] before the tables exist.
pub async fn store_id(store: &Store) -> Result<String, Error> {
    let rows = store.query("SELECT value FROM store_meta WHERE name = 'store_id'", Vec::new()).await?;
    let id = rows.first().map(|row| row.text("value")).transpose()?.flatten();
    id.map(str::to_owned).ok_or_else(|| Error::new(Class::Schema, "the store has no id"))
}
