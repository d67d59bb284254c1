//! From the journal to the engine's state: the newest snapshot, then the tail.

use crate::error::StartError;
use signalbox_base::{EventSeq, Text};
use signalbox_engine::state::{self, FOLD_VERSION, State, StoredRecord, snapshot};
use signalbox_journal::storage::SharedStorage;
use signalbox_journal::{Error, Layout, Record, SnapshotReader, Start, Writer};

/// The state that the journal's records make.
///
/// # Errors
/// When the journal cannot be read, or a record is one that this release cannot fold.
pub(crate) fn recover(
    storage: &SharedStorage,
    layout: &Layout,
    writer: &Writer,
    last: EventSeq,
) -> Result<State, StartError> {
    let mut state = from_snapshot(storage, layout, writer, last)?;
    let mut folded = 0u64;
    let mut reader = writer.reader(Start::Seq(state.next_seq()))?;
    loop {
        match reader.next() {
            Ok(Some(record)) => {
                fold(&mut state, &record)?;
                folded += 1;
            }
            Ok(None) => break,
            Err(Error::Gap(gap)) => {
                tracing::error!(
                    from = gap.from.0,
                    to = gap.to.0,
                    "events are missing; what they said is unknown"
                );
                state.start_after(gap.to);
            }
            Err(error) => return Err(error.into()),
        }
    }
    state.start_after(last);
    tracing::info!(
        last = last.0,
        folded,
        bindings = state.registrations().len(),
        calls = state.calls().active(),
        "recovered from the journal"
    );
    Ok(state)
}

/// A snapshot that cannot be used is passed over: the journal is folded from its start instead.
fn from_snapshot(
    storage: &SharedStorage,
    layout: &Layout,
    writer: &Writer,
    last: EventSeq,
) -> Result<State, StartError> {
    let fresh = || State::new(writer.journal());
    let Some(reader) = SnapshotReader::newest(storage, layout, FOLD_VERSION, last)? else {
        return Ok(fresh());
    };
    let entries = reader.entries().map(|entry| snapshot::Entry {
        key: Text::lossy(entry.key),
        seq: entry.seq,
        bytes: entry.value.to_vec(),
    });
    match snapshot::read(writer.journal(), FOLD_VERSION, reader.begin_seq(), entries) {
        Ok(state) => Ok(state),
        Err(error) => {
            tracing::warn!(%error, "the snapshot is not used; the journal is folded from its start");
            Ok(fresh())
        }
    }
}

fn fold(state: &mut State, record: &Record<'_>) -> Result<(), StartError> {
    let stored = StoredRecord {
        seq: record.seq,
        wall: record.wall,
        kind: record.kind,
        tenant: record.tenant,
        subject: record.subject,
        correlation: record.correlation,
        causation: record.causation,
        data: record.data,
        private: record.private,
    };
    let failed = |error: state::FoldError| StartError::Fold { seq: record.seq.0, reason: error.to_string() };
    state::apply(state, &stored).map_err(failed)
}
