//! Where a projection goes on reading a bus that keeps order by key only. Pure.
//!
//! A missing number may still come from another lane, so what comes after it is applied; but a hint is taken only once
//! everything that was missing when its batch was read has come. Until then a restart, or a look again at a hole that has
//! been open for long, begins before the hole.

use super::plan::{Held, Stream};
use signalbox_base::Wall;
use signalbox_bus::Hint;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where to go on, and what stands against going further.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Nothing is missing before here.
    pub(crate) hint: Option<Hint>,
    /// It is not in the table yet.
    pub(crate) unsaved: bool,
    /// The next one: it holds once these streams have everything up to these numbers.
    pub(crate) waiting: Option<(Hint, Vec<(Stream, u64)>)>,
    /// An event was left out.
    pub(crate) left: bool,
    /// The bus is being read from its beginning for the first time and its end of then was not seen yet: a restart must
    /// begin there again, for only that finds the floors.
    pub(crate) first_reading: bool,
    /// The first missing number of each hole and since when it is missed.
    open: BTreeMap<Stream, (u64, Wall)>,
}

impl Place {
    pub(crate) fn new(hint: Option<Hint>) -> Self {
        Self { first_reading: hint.is_none(), hint, ..Self::default() }
    }

    pub(crate) fn set(&mut self, hint: Hint) {
        if self.hint.as_ref() != Some(&hint) {
            self.hint = Some(hint);
            self.unsaved = true;
        }
    }

    /// Notes since when each hole is there.
    pub(crate) fn watch(&mut self, held: &BTreeMap<Stream, Held>, now: Wall) {
        let same = |stream: &Stream, missed: u64| match held.get(stream) {
            Some(Held::Hole { from, .. }) => *from == missed,
            _ => false,
        };
        self.open.retain(|stream, (missed, _)| same(stream, *missed));
        for (stream, held) in held {
            if let Held::Hole { from, .. } = held {
                self.open.entry(stream.clone()).or_insert((*from, now));
            }
        }
    }

    /// Whether a number is missed for so long that the bus should be read again.
    pub(crate) fn is_overdue(&self, patience: Duration, now: Wall) -> bool {
        self.open.values().any(|(_, since)| now.since(*since) >= patience)
    }
}
