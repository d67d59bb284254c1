//! What an actor means to do later, in order of time; of one moment, in order of planning.

use signalbox_base::Mono;
use std::collections::BTreeMap;

/// Planned things.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    planned: BTreeMap<(Mono, u64), T>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self { planned: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn plan(&mut self, at: Mono, what: T) {
        self.planned.insert((at, self.next), what);
        self.next += 1;
    }

    /// The next thing whose time has come.
    pub(crate) fn pop_due(&mut self, now: Mono) -> Option<T> {
        let first = self.planned.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.planned.first_key_value().map(|((at, _), _)| *at)
    }

    /// Forgets what `unwanted` says.
    pub(crate) fn forget(&mut self, mut unwanted: impl FnMut(&T) -> bool) {
        self.planned.retain(|_, what| !unwanted(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_up_in_order_of_time_and_planning() {
        let mut agenda = Agenda::new();
        for (at, what) in [(5, 'c'), (3, 'a'), (3, 'b'), (9, 'd')] {
            agenda.plan(Mono(at), what);
        }
        agenda.forget(|what| *what == 'c');
        assert_eq!(agenda.pop_due(Mono(2)), None);
        assert_eq!((agenda.pop_due(Mono(8)), agenda.pop_due(Mono(8))), (Some('a'), Some('b')));
        assert_eq!((agenda.pop_due(Mono(8)), agenda.next_due()), (None, Some(Mono(9))));
    }
}
