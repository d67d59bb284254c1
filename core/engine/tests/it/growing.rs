//! A snapshot taken a step at a time while calls and phones go on.

use crate::support::{JOURNAL, World, dump};
use signalbox_base::EventSeq;
use signalbox_engine::state::{self, snapshot};

/// A snapshot that is taken while life goes on.
#[derive(Clone)]
pub(crate) struct Growing {
    begun: EventSeq,
    cursor: snapshot::Cursor,
    entries: Vec<snapshot::Entry>,
}

impl Growing {
    pub(crate) fn begin(world: &World) -> Self {
        let begun = world.engine.state().last();
        Self { begun, cursor: snapshot::Cursor::default(), entries: Vec::new() }
    }

    /// Entries so far.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn last_is_a_call(&self) -> bool {
        self.entries.last().is_some_and(|entry| entry.key.starts_with("call:"))
    }

    /// Takes at most so many entries more; `true` when it is whole.
    pub(crate) fn step(&mut self, world: &World, entries: usize) -> bool {
        let before = self.entries.len();
        let done = snapshot::write(world.engine.state(), &mut self.cursor, entries, &mut self.entries);
        assert!(self.entries.len() - before <= entries, "a look is bounded");
        done
    }

    /// With the tail of the journal it gives the state that lives.
    #[track_caller]
    pub(crate) fn assert_gives_what_lives(self, world: &World) {
        let read = snapshot::read(JOURNAL, state::FOLD_VERSION, self.begun, self.entries);
        let mut state = read.expect("what was written reads");
        for record in world.journal.iter().filter(|r| r.seq > self.begun) {
            state::apply(&mut state, &record.stored()).expect("the tail folds");
        }
        let lived = world.engine.state();
        assert_eq!(dump(lived), dump(&state), "a snapshot and its tail differ from what was lived");
        assert_eq!(lived.calls(), state.calls());
    }
}
