//! The journal, read back as events.

use signalbox_base::{EventSeq, Text, Wall};
use signalbox_engine::state::{self, State, StoredRecord};
use signalbox_journal::{Record, Start, Writer};
use signalbox_schemas::Event;

/// A record of the journal.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Sequence.
    pub seq: EventSeq,
    /// When it happened.
    pub wall: Wall,
    /// Type with version.
    pub kind: String,
    /// Tenant; empty for none.
    pub tenant: String,
    /// The aggregate.
    pub subject: String,
    /// Correlation; empty for none.
    pub correlation: String,
    /// The public part.
    pub event: Event,
}

/// Every durable record, in order.
///
/// # Panics
/// When the journal cannot be read: a finding.
#[must_use]
pub fn read_events(writer: &Writer) -> Vec<Recorded> {
    let mut events = Vec::new();
    each(writer, EventSeq(1), |record| {
        events.push(Recorded {
            seq: record.seq,
            wall: record.wall,
            kind: record.kind.to_owned(),
            tenant: record.tenant.to_owned(),
            subject: record.subject.to_owned(),
            correlation: record.correlation.to_owned(),
            event: Event::read(record.kind, record.data).expect("the engine writes what its schemas read"),
        });
    });
    events
}

/// The state that the durable records make, folded from the first.
///
/// # Panics
/// When a record cannot be folded: a finding.
#[must_use]
pub(crate) fn fold_all(writer: &Writer) -> State {
    fold_onto(State::new(writer.journal()), writer)
}

/// Folds the records behind a state onto it.
///
/// # Panics
/// When a record cannot be folded: a finding.
#[must_use]
pub(crate) fn fold_onto(mut state: State, writer: &Writer) -> State {
    each(writer, state.next_seq(), |record| {
        state::apply(&mut state, &stored(record)).expect("the engine folds what it wrote");
    });
    state
}

/// The entries that a state consists of, in order: two equal states give equal entries.
#[must_use]
pub(crate) fn dump(state: &State) -> Vec<(Text, EventSeq, Vec<u8>)> {
    let (mut cursor, mut entries) = (state::snapshot::Cursor::default(), Vec::new());
    while !state::snapshot::write(state, &mut cursor, 1024, &mut entries) {}
    let mut dump: Vec<_> = entries.into_iter().map(|e| (e.key, e.seq, e.bytes)).collect();
    dump.sort();
    dump
}

fn each(writer: &Writer, from: EventSeq, mut take: impl FnMut(&Record<'_>)) {
    let mut reader = writer.reader(Start::Seq(from)).expect("a journal that is open can be read");
    while let Some(record) = reader.next().expect("an undamaged journal reads to its end") {
        take(&record);
    }
}

fn stored<'a>(record: &Record<'a>) -> StoredRecord<'a> {
    StoredRecord {
        seq: record.seq,
        wall: record.wall,
        kind: record.kind,
        tenant: record.tenant,
        subject: record.subject,
        correlation: record.correlation,
        causation: record.causation,
        data: record.data,
        private: record.private,
    }
}
