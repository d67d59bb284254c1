//! What a projection is: a pure function from an event to writes.

use signalbox_bus::Delivered;
use signalbox_schemas::{Event, Kind};
use signalbox_store::Statement;

/// A fold of events into tables. It reads no clock, draws no randomness and does no I/O, so that every run over the
/// same events gives the same rows.
///
/// Each row has one writer, and a fold touches only rows of its event's aggregate at its edge: so any order of sources
/// and domains that keeps each aggregate's order gives the same tables. Writes bear being done twice in a row.
pub trait Projection: Send + Sync + 'static {
    /// Its name in positions, parked events and commands, `[a-z0-9_-]+`.
    fn name(&self) -> &'static str;

    /// Raised when the same events would give other rows.
    fn version(&self) -> u32;

    /// The kinds of events it folds; all others pass.
    fn kinds(&self) -> &'static [Kind];

    /// The writes of one event, in order.
    fn fold(&self, event: &Delivered, data: &Event) -> Vec<Statement>;

    /// The tables that it writes and nobody else does, by which they can be made anew.
    fn tables(&self) -> Option<&'static Tables> {
        None
    }

    /// The writes of a batch, in order, each with the number ([`Folded::at`]) of an event that it is for. The tables must be
    /// the same as after [`Projection::fold`] of one event after the other; several writes of one row may become one.
    fn fold_batch(&self, events: &[Folded<'_>]) -> Vec<(usize, Statement)> {
        let writes = |folded: &Folded<'_>| {
            let at = folded.at;
            self.fold(folded.event, folded.data).into_iter().map(move |write| (at, write))
        };
        events.iter().flat_map(writes).collect()
    }
}

/// The tables of a projection.
#[derive(Debug)]
pub struct Tables {
    /// What its rebuild is called in positions.
    pub rebuild: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
    /// Rows whose events may be gone when the tables are made anew, in this order.
    pub carried: &'static [Carried],
}

/// Rows that are taken over from the old table when their events are gone. `o` is the old row, `n` the new one.
#[derive(Debug)]
pub struct Carried {
    /// The table.
    pub table: &'static str,
    /// What the row began with: journal of the event.
    pub journal: &'static str,
    /// What the row began with: number or time of the event.
    pub began: Began,
    /// `n.key = o.key …`: the same row.
    pub same: &'static str,
    /// Columns that say in the new table that the row was taken over, and what they say.
    pub marks: &'static [(&'static str, &'static str)],
    /// Which new row has the end of the old one but not its beginning, and gives way to it.
    pub gives_way: Option<&'static str>,
}

/// By what it is known that a row's events are gone: it is older than the first event that there is.
#[derive(Clone, Copy, Debug)]
pub enum Began {
    /// A number in the row's journal.
    Sequence(&'static str),
    /// Microseconds since 1970.
    At(&'static str),
}

/// An event of a batch that is to be folded.
#[derive(Clone, Copy, Debug)]
pub struct Folded<'a> {
    /// Its number in the batch.
    pub at: usize,
    /// The event.
    pub event: &'a Delivered,
    /// Its data, read once for all projections.
    pub data: &'a Event,
}

/// The projections of this release.
#[must_use]
pub fn all() -> Vec<Box<dyn Projection>> {
    use crate::fold::{Backends, Calls, Cdrs, Locations};
    vec![Box::new(Locations), Box::new(Calls), Box::new(Cdrs), Box::new(Backends)]
}
