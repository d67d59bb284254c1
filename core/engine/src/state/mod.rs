//! Durable state: a fold of this edge's journal, and nothing else.
//!
//! [`State::apply_fact`] is the only writer. Live, [`crate::turn::Turn::record`] calls it with typed values; after a restart
//! [`apply`] decodes the journal's records and calls the same. It has no clock, configuration or randomness: a record
//! carries every value it needs.

pub mod apply;
pub mod backends;
pub mod binding;
pub mod calls;
#[cfg(test)]
mod golden;
pub mod indexes;
pub mod keys;
mod private;
pub mod snapshot;
pub mod underway;

pub use backends::{BackendRecord, BackendRecords, NOBODYS, Wish, backend_key};
pub use binding::{Aor, Binding};
pub use indexes::Registrations;
pub(crate) use keys::NameParts;
pub use keys::{AorName, BindingKey};
pub use private::{BindingPrivate, Private, PrivateError, TrueForms, WholeBinding};

use crate::facts::Fact;
use calls::Calls;
use serde::{Deserialize, Serialize};
use signalbox_base::{CallUid, EventSeq, JournalId, Text, Wall};
use signalbox_schemas::{Event, ReadError};
use std::collections::BTreeMap;

/// Version of the fold: raised when `apply` would make another state of the same records, or a snapshot's entries have
/// another layout. A snapshot of another version is not read; the journal is folded again.
pub const FOLD_VERSION: u32 = 4;

/// Everything that survives a restart.
#[derive(Debug, Default)]
pub struct State {
    /// The journal it is a fold of: ids of events are made from it.
    pub(crate) journal: JournalId,
    pub(crate) last: EventSeq,
    pub(crate) registrations: Registrations,
    pub(crate) backends: BackendRecords,
    pub(crate) config: ConfigState,
    pub(crate) edge: EdgeState,
    pub(crate) calls: Calls,
    /// Aggregates read from a snapshot, until the tail has passed the record each was taken at.
    pub(crate) stamps: BTreeMap<Text, EventSeq>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// Its revision; 0 before the first.
    pub revision: u64,
    /// SHA-256 of the effective configuration.
    pub sha256: Text,
    /// The last record about it.
    pub seq: EventSeq,
}

/// The edge's own life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeState {
    /// When it last started.
    pub started_at: Option<Wall>,
    /// Whether the last run ended in order.
    pub stopped_clean: bool,
    /// Wall time of the last record.
    pub last_wall: Wall,
    /// The last record about it.
    pub seq: EventSeq,
}

/// A record as the journal gives it back.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// Its sequence.
    pub seq: EventSeq,
    /// When it happened.
    pub wall: Wall,
    /// Type with version: `call.ended.v1`.
    pub kind: &'a str,
    /// Tenant, empty for none.
    pub tenant: &'a str,
    /// The aggregate.
    pub subject: &'a str,
    /// Correlation, empty for none.
    pub correlation: &'a str,
    /// The record that led to it; 0 for none.
    pub causation: EventSeq,
    /// Public part, JSON.
    pub data: &'a [u8],
    /// Private part; may be empty.
    pub private: &'a [u8],
}

/// Why a record cannot be folded. The journal is then of a later release, or damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Sequences are gapless.
    #[error("record {found} follows record {last}")]
    Gap {
        /// The record before.
        last: EventSeq,
        /// The one that came.
        found: EventSeq,
    },
    /// The public part does not read.
    #[error("record {seq}: {error}")]
    Event {
        /// Which.
        seq: EventSeq,
        /// Why.
        error: ReadError,
    },
    /// The private part does not read.
    #[error("record {seq}: {error}")]
    Private {
        /// Which.
        seq: EventSeq,
        /// Why.
        error: PrivateError,
    },
    /// Tenant or correlation is not what it should be.
    #[error("record {seq}: {what} is not valid")]
    Header {
        /// Which.
        seq: EventSeq,
        /// What.
        what: &'static str,
    },
}

/// Folds one record of the journal into the state. A type of a later release is stepped over.
///
/// # Errors
/// On a gap, or a record that this release cannot read.
pub fn apply(state: &mut State, record: &StoredRecord<'_>) -> Result<(), FoldError> {
    let seq = record.seq;
    if state.last != EventSeq(0) && seq != state.last.next() {
        return Err(FoldError::Gap { last: state.last, found: seq });
    }
    let event = match Event::read(record.kind, record.data) {
        Ok(event) => event,
        Err(ReadError::UnknownType(_)) => {
            state.last = seq;
            return Ok(());
        }
        Err(error) => return Err(FoldError::Event { seq, error }),
    };
    let private = Private::decode(record.private).map_err(|error| FoldError::Private { seq, error })?;
    let header = |what| FoldError::Header { seq, what };
    let tenant = match record.tenant {
        "" | "_" => None,
        name => Some(name.parse().map_err(|_| header("tenant"))?),
    };
    let correlation = match record.correlation {
        "" => None,
        uid => Some(uid.parse::<CallUid>().map_err(|_| header("correlation"))?),
    };
    let fact = Fact {
        event,
        tenant,
        subject: Text::new(record.subject),
        correlation,
        causation: record.causation,
        private,
        wall: record.wall,
    };
    state.apply_fact(seq, fact);
    Ok(())
}

impl State {
    /// Before the first record of a journal.
    #[must_use]
    pub fn new(journal: JournalId) -> Self {
        Self { journal, ..Self::default() }
    }

    /// The last record in it.
    #[must_use]
    pub fn last(&self) -> EventSeq {
        self.last
    }

    /// The sequence of the next record.
    #[must_use]
    pub fn next_seq(&self) -> EventSeq {
        self.last.next()
    }

    /// Says where the journal stands, when it has records that no snapshot or tail brought (all were retained away).
    pub fn start_after(&mut self, last: EventSeq) {
        self.last = self.last.max(last);
    }

    /// The tail is folded: from now on every record is news to every aggregate.
    pub(crate) fn end_of_replay(&mut self) {
        self.stamps.clear();
    }

    /// Who is registered.
    #[must_use]
    pub fn registrations(&self) -> &Registrations {
        &self.registrations
    }

    /// What is known of backends.
    #[must_use]
    pub fn backends(&self) -> &BackendRecords {
        &self.backends
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &ConfigState {
        &self.config
    }

    /// The edge's own life.
    #[must_use]
    pub fn edge(&self) -> &EdgeState {
        &self.edge
    }

    /// Calls.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Changes the state as a fact says. An aggregate that a snapshot brought is left alone until the tail has passed the
    /// record it was taken at.
    pub(crate) fn apply_fact(&mut self, seq: EventSeq, fact: Fact) {
        self.last = seq;
        self.edge.last_wall = fact.wall;
        if !self.stamps.is_empty() {
            let key = snapshot::key_of(&fact);
            if self.is_in_snapshot(seq, &key) {
                // What a record of one call makes of others is not in that call's entry.
                if snapshot::is_call(&key) {
                    self.calls.prune(seq, fact.wall);
                }
                return;
            }
        }
        apply::apply(self, seq, fact);
    }

    fn is_in_snapshot(&mut self, seq: EventSeq, key: &Text) -> bool {
        match self.stamps.get(key) {
            Some(stamp) if seq <= *stamp => true,
            Some(_) => {
                self.stamps.remove(key);
                false
            }
            None => false,
        }
    }
}
