//! Snapshots: the state in entries, taken a few aggregates at a time, each stamped with the last record it contains.
//!
//! A snapshot begins after some record. Reading it gives a state at that record whose entries may already be ahead; folding
//! the journal from there on leaves each alone until the fold has passed its stamp. Records about aggregates that the
//! snapshot does not have (they came or went meanwhile) are folded as usual.

use super::{Aor, BackendRecords, ConfigState, EdgeState, FOLD_VERSION, State};
use crate::facts::Fact;
use crate::state::calls::CallState;
use crate::state::underway::Underway;
use serde::{Deserialize, Serialize};
use signalbox_base::{CallUid, EventSeq, JournalId, Text};
use signalbox_schemas::Event;

/// One aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which; unique in a snapshot.
    pub key: Text,
    /// The last record in it.
    pub seq: EventSeq,
    /// Postcard.
    pub bytes: Vec<u8>,
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    step: Step,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Meta,
    /// Calls behind this one, in order of uid: a call that begins meanwhile is in the tail, wherever it stands.
    Calls(Option<CallUid>),
    /// The place of an AoR.
    Places(usize),
}

/// Why a snapshot cannot be used; the journal is folded from its start then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Made by another fold.
    #[error("snapshot of fold version {found}, this release folds version {FOLD_VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// An entry does not read.
    #[error("entry {key}: {detail}")]
    Entry {
        /// Which.
        key: Text,
        /// Why.
        detail: String,
    },
}

const META: &str = "meta";
/// Begins the key of a call; no name of an AoR begins so, as a tenant's has no colon.
const CALL: &str = "call:";
/// Empty places of AoRs that are passed for one entry's room.
const PLACES_AN_ENTRY: usize = 64;

#[derive(Serialize, Deserialize)]
struct Meta {
    backends: BackendRecords,
    config: ConfigState,
    edge: EdgeState,
}

/// Writes up to `max` more entries. `true` when the snapshot is complete. Its beginning is `state.last()` before the first
/// call.
pub fn write(state: &State, cursor: &mut Cursor, max: usize, out: &mut Vec<Entry>) -> bool {
    let mut room = max.saturating_mul(PLACES_AN_ENTRY);
    while room > 0 {
        let mut cost = PLACES_AN_ENTRY;
        cursor.step = match cursor.step {
            Step::Meta => {
                let meta = Meta {
                    backends: state.backends.clone(),
                    config: state.config.clone(),
                    edge: state.edge.clone(),
                };
                out.push(entry(Text::new(META), state.last, &meta));
                Step::Calls(None)
            }
            Step::Calls(after) => match state.calls.behind(after) {
                Some((uid, call)) => {
                    out.push(call_entry(uid, call));
                    Step::Calls(Some(uid))
                }
                None => Step::Places(0),
            },
            Step::Places(at) => {
                match state.registrations.place(at) {
                    Some(Some(aor)) => out.push(entry(aor.name.clone(), aor.seq, aor)),
                    Some(None) => cost = 1,
                    None => return true,
                }
                Step::Places(at + 1)
            }
        };
        room = room.saturating_sub(cost);
    }
    false
}

/// Makes a state of a snapshot that began after record `begun_after`.
///
/// # Errors
/// When it was made by another fold, or does not read.
pub fn read(
    journal: JournalId,
    fold_version: u32,
    begun_after: EventSeq,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<State, SnapshotError> {
    if fold_version != FOLD_VERSION {
        return Err(SnapshotError::Version { found: fold_version });
    }
    let mut state = State::new(journal);
    state.last = begun_after;
    for entry in entries {
        let error =
            |e: postcard::Error| SnapshotError::Entry { key: entry.key.clone(), detail: e.to_string() };
        if *entry.key == *META {
            let meta: Meta = postcard::from_bytes(&entry.bytes).map_err(error)?;
            (state.backends, state.config, state.edge) = (meta.backends, meta.config, meta.edge);
        } else if let Some(uid) = entry.key.strip_prefix(CALL) {
            let detail = "its key names no call".to_owned();
            let wrong = |_| SnapshotError::Entry { key: entry.key.clone(), detail };
            let uid = uid.parse::<CallUid>().map_err(wrong)?;
            state.calls.insert(uid, read_call(&entry.bytes).map_err(error)?);
        } else {
            state.registrations.restore(postcard::from_bytes::<Aor>(&entry.bytes).map_err(error)?);
        }
        state.stamps.insert(entry.key, entry.seq);
    }
    Ok(state)
}

/// The aggregate that a fact changes, as a snapshot names it.
pub(super) fn key_of(fact: &Fact) -> Text {
    match &fact.event {
        Event::RegistrationAdded(_)
        | Event::RegistrationRefreshed(_)
        | Event::RegistrationRemoved(_)
        | Event::RegistrationExpired(_)
        | Event::RegistrationRejected(_) => fact.subject.clone(),
        Event::CallAttempted(_)
        | Event::CallRouted(_)
        | Event::CallProgressed(_)
        | Event::CallAnswered(_)
        | Event::CallModified(_)
        | Event::CallReinvited(_)
        | Event::CallDismissed(_)
        | Event::CallTransferred(_)
        | Event::CallCheckpointed(_)
        | Event::CallRecovered(_)
        | Event::CallEnded(_)
        | Event::CallFailed(_) => fact.correlation.map_or_else(|| Text::new(META), call_key),
        _ => Text::new(META),
    }
}

/// Whether it names a call.
pub(super) fn is_call(key: &str) -> bool {
    key.starts_with(CALL)
}

fn call_key(uid: CallUid) -> Text {
    Text::from(format!("{CALL}{uid}"))
}

/// A call, behind it what is under way in it, and its session timer: a release that does not know of one of them reads what
/// stands before it.
fn call_entry(uid: CallUid, call: &CallState) -> Entry {
    let mut entry = entry(call_key(uid), call.last, call);
    let nothing = (call.session_secs > 0).then(Default::default);
    if let Some(underway) = call.underway.as_ref().or(nothing.as_ref()) {
        entry.bytes = postcard::to_extend(underway, entry.bytes).expect(MEMORY);
    }
    if call.session_secs > 0 {
        entry.bytes = postcard::to_extend(&call.session_secs, entry.bytes).expect(MEMORY);
    }
    entry
}

fn read_call(bytes: &[u8]) -> Result<CallState, postcard::Error> {
    let (mut call, rest) = postcard::take_from_bytes::<CallState>(bytes)?;
    if !rest.is_empty() {
        let (underway, rest) = postcard::take_from_bytes::<Box<Underway>>(rest)?;
        call.underway = Some(underway).filter(|underway| !underway.is_empty());
        if !rest.is_empty() {
            call.session_secs = postcard::from_bytes(rest)?;
        }
    }
    Ok(call)
}

/// Why writing cannot fail.
const MEMORY: &str = "memory takes every byte, and nothing here has an unknown length";

fn entry(key: Text, seq: EventSeq, value: &impl Serialize) -> Entry {
    let bytes = postcard::to_stdvec(value).expect(MEMORY);
    Entry { key, seq, bytes }
}
