//! A snapshot taken while life goes on, and held against it.

use crate::events::{dump, fold_onto};
use crate::world::{EdgeId, World};
use signalbox_base::{EventSeq, JournalId};
use signalbox_engine::state::snapshot::{Cursor, Entry, read, write};
use signalbox_engine::state::{FOLD_VERSION, State};

/// A snapshot of one edge, growing.
pub struct Snapshot {
    begun_after: EventSeq,
    life: u32,
    cursor: Cursor,
    entries: Vec<Entry>,
}

impl Snapshot {
    /// Begins one. The edge must live.
    #[must_use]
    pub fn begin(world: &World, edge: EdgeId) -> Self {
        let begun_after = state(world, edge).last();
        Self { begun_after, life: world.edge(edge).lives(), cursor: Cursor::default(), entries: Vec::new() }
    }

    /// Takes at most so many entries more.
    pub fn take(&mut self, world: &World, edge: EdgeId, entries: usize) {
        write(state(world, edge), &mut self.cursor, entries, &mut self.entries);
    }

    /// Takes the rest; the snapshot and the journal behind its beginning must give the state that lives. Everything must be
    /// durable ([`World::run_until_durable`]).
    ///
    /// # Panics
    /// When they do not.
    pub fn finish(mut self, world: &World, edge: EdgeId) {
        assert_eq!(self.life, world.edge(edge).lives(), "a snapshot is taken within one life");
        while !write(state(world, edge), &mut self.cursor, 64, &mut self.entries) {}
        let writer = world.edge(edge).writer().expect("the edge lives");
        let journal: JournalId = writer.journal();
        let begun = read(journal, FOLD_VERSION, self.begun_after, self.entries).expect("it was just written");
        let folded = fold_onto(begun, writer);
        let (live, folded) = (dump(state(world, edge)), dump(&folded));
        let differing: Vec<_> = live.iter().filter(|e| !folded.contains(e)).map(|(key, ..)| key).collect();
        assert!(
            differing.is_empty() && live.len() == folded.len(),
            "snapshot and tail differ in {differing:?}"
        );
    }
}

fn state(world: &World, edge: EdgeId) -> &State {
    world.edge(edge).engine().expect("the edge lives").state()
}
