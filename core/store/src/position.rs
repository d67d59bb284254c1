//! How far a projection has come in one domain of one source: what is applied, and what is still missing.
//!
//! ```text
//!   1 ───────────── low │ hole │ ─ range ─ │ hole │ ─ range ─ │ not seen yet
//!     applied (or lost       waited for, never stepped over;
//!     to retention)          below `retained_from` lost, and taken if it comes all the same
//! ```

use std::fmt::Write as _;

/// Separate ranges above the low-water mark before a projection refuses to run further ahead of a hole.
pub const RANGES_MAX: usize = 1_000;

/// The numbers of one domain that are applied: everything up to a low-water mark, and ranges above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    low: u64,
    /// Inclusive, ascending, never touching each other or the low-water mark.
    above: Vec<(u64, u64)>,
    retained_from: Option<u64>,
}

/// What a number means to a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The next in line.
    Next,
    /// Not seen yet, but numbers before it are missing.
    Ahead,
    /// Applied already: skip it.
    Duplicate,
    /// Not seen yet, and too many ranges are open: do not apply it, wait for the hole.
    TooFarAhead,
}

impl Position {
    /// A position from its parts, as stored.
    ///
    /// `None` when the text is not what [`Position::ranges`] writes.
    #[must_use]
    pub fn restore(low: u64, ranges: &str, retained_from: Option<u64>) -> Option<Self> {
        let mut position = Self { low, above: Vec::new(), retained_from };
        for part in ranges.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-')?;
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            let floor = position.above.last().map_or(low, |range| range.1);
            if first > last || first <= floor.saturating_add(1) {
                return None;
            }
            position.above.push((first, last));
        }
        Some(position)
    }

    /// Everything up to this number is applied; 0 at the beginning.
    #[must_use]
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The highest number applied.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.above.last().map_or(self.low, |range| range.1)
    }

    /// The ranges above, as text: `7-9,12-12`.
    #[must_use]
    pub fn ranges(&self) -> String {
        let mut text = String::new();
        for (first, last) in &self.above {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{first}-{last}");
        }
        text
    }

    /// The first number that the bus still had when it last said that it has lost what was before, if it did.
    #[must_use]
    pub fn retained_from(&self) -> Option<u64> {
        self.retained_from
    }

    /// The first missing numbers (inclusive) below one that is applied, which may still come.
    #[must_use]
    pub fn hole(&self) -> Option<(u64, u64)> {
        let retained = self.retained_from.unwrap_or(0);
        let open = |(from, to): (u64, u64)| (from.max(retained), to);
        self.missing().map(open).find(|(from, to)| from <= to)
    }

    /// The first missing numbers (inclusive) that the bus has lost.
    #[must_use]
    pub fn lost(&self) -> Option<(u64, u64)> {
        let last = self.retained_from?.saturating_sub(1);
        let beyond = (self.high() < last).then_some((self.high() + 1, last));
        let gone = |(from, to): (u64, u64)| (from, to.min(last));
        self.missing().map(gone).chain(beyond).find(|(from, to)| from <= to)
    }

    /// Everything that is missing below a number that is applied.
    fn missing(&self) -> impl Iterator<Item = (u64, u64)> {
        let befores = std::iter::once(self.low).chain(self.above.iter().map(|range| range.1));
        befores.zip(&self.above).map(|(before, range)| (before + 1, range.0 - 1))
    }

    /// What `number` is to this position. Numbers start at 1; 0 is a duplicate.
    #[must_use]
    pub fn offer(&self, number: u64) -> Offer {
        if number <= self.low {
            return Offer::Duplicate;
        }
        if number == self.low + 1 {
            return Offer::Next;
        }
        match self.above.binary_search_by(|range| range_order(*range, number)) {
            Ok(_) => Offer::Duplicate,
            Err(at) => {
                let extends = at > 0 && self.above[at - 1].1 + 1 == number
                    || self.above.get(at).is_some_and(|next| number + 1 == next.0);
                if extends || self.above.len() < RANGES_MAX { Offer::Ahead } else { Offer::TooFarAhead }
            }
        }
    }

    /// Counts `number` as applied. Doing so twice changes nothing.
    pub fn apply(&mut self, number: u64) {
        if number <= self.low {
            return;
        }
        if let Err(at) = self.above.binary_search_by(|range| range_order(*range, number)) {
            let joins_left = at > 0 && self.above[at - 1].1 + 1 == number;
            let joins_right = self.above.get(at).is_some_and(|next| number + 1 == next.0);
            match (joins_left, joins_right) {
                (true, true) => {
                    self.above[at - 1].1 = self.above[at].1;
                    self.above.remove(at);
                }
                (true, false) => self.above[at - 1].1 = number,
                (false, true) => self.above[at].0 = number,
                (false, false) => self.above.insert(at, (number, number)),
            }
        }
        if self.above.first().is_some_and(|first| first.0 == self.low + 1) {
            self.low = self.above.remove(0).1;
        }
    }

    /// Says that nothing before `first` exists any more. Only a position at its beginning takes it: retention before a
    /// projection ever ran is recorded, loss later is a hole.
    pub fn begin_at(&mut self, first: u64) {
        if self.low == 0 && self.above.is_empty() && first > 1 {
            self.low = first - 1;
            self.retained_from = Some(first);
        }
    }

    /// Says that the bus has lost everything before `first`: what is missing there is not waited for. It stays missing, and
    /// is taken if it comes. Returns what has become lost by that (inclusive, from the first to the last), if anything has.
    pub fn lose(&mut self, first: u64) -> Option<(u64, u64)> {
        let known = self.retained_from.unwrap_or(0);
        if first <= known {
            return None;
        }
        let beyond = (self.high() + 1, first - 1);
        let news = |(from, to): (u64, u64)| (from.max(known), to.min(first - 1));
        let mut lost = self.missing().chain([beyond]).map(news).filter(|(from, to)| from <= to);
        let (from, to) = lost.next()?;
        let last = lost.last().map_or(to, |(_, to)| to);
        self.retained_from = Some(first);
        Some((from, last))
    }

    /// Says that a bus which keeps no order between keys was read from its beginning and has nothing missing before `first`
    /// any more: what is missing below is retention. Only for a position that began with that reading, or that nothing
    /// from the domain's beginning was ever applied to; to any other a missing number is a loss. True when it moved.
    pub fn settle_floor(&mut self, first: u64) -> bool {
        let (floor, before) = (first.saturating_sub(1), self.low);
        if floor <= self.low {
            return false;
        }
        self.low = floor;
        self.above.retain(|(_, last)| *last > floor);
        if let Some((_, last)) = self.above.first().copied().filter(|(from, _)| *from <= floor + 1) {
            self.low = last;
            self.above.remove(0);
        }
        self.retained_from = Some(first);
        self.low > before
    }
}

fn range_order(range: (u64, u64), number: u64) -> std::cmp::Ordering {
    if range.1 < number {
        std::cmp::Ordering::Less
    } else if range.0 > number {
        std::cmp::Ordering::Greater
    } else {
        std::cmp::Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_hole_is_waited_for_and_then_closed() {
        let mut position = Position::default();
        position.apply(1);
        position.apply(3);
        assert_eq!((position.low(), position.hole(), position.high()), (1, Some((2, 2)), 3));
        assert_eq!(position.offer(3), Offer::Duplicate);
        assert_eq!(position.offer(2), Offer::Next);
        position.apply(2);
        assert_eq!((position.low(), position.hole()), (3, None));
    }

    #[test]
    fn a_hole_at_the_start_is_retention_and_only_there() {
        let mut position = Position::default();
        position.begin_at(40);
        assert_eq!((position.low(), position.retained_from()), (39, Some(40)));
        position.apply(40);
        position.begin_at(90);
        assert_eq!((position.low(), position.retained_from()), (40, Some(40)));
    }

    #[test]
    fn a_floor_settles_what_is_missing_below_it_and_nothing_above() {
        let mut position = Position::default();
        for n in [3, 38, 40, 41, 45] {
            position.apply(n);
        }
        assert!(position.settle_floor(40));
        assert_eq!((position.low(), position.ranges().as_str()), (41, "45-45"));
        assert_eq!((position.retained_from(), position.hole()), (Some(40), Some((42, 44))));
        assert!(!position.settle_floor(20), "a floor below says nothing new");
        assert_eq!((position.low(), position.retained_from()), (41, Some(40)));
        let mut nothing = Position::default();
        assert!(nothing.settle_floor(7) && nothing.offer(7) == Offer::Next);
        assert!(!Position::default().settle_floor(1) && !Position::default().settle_floor(0));
    }

    #[test]
    fn what_the_bus_has_lost_is_not_waited_for_but_taken_if_it_comes() {
        let mut position = Position::default();
        [1, 4, 7, 9].into_iter().for_each(|n| position.apply(n));
        assert_eq!((position.hole(), position.lost()), (Some((2, 3)), None));
        assert_eq!(position.lose(6), Some((2, 5)));
        assert_eq!((position.hole(), position.lost()), (Some((6, 6)), Some((2, 3))));
        assert_eq!((position.lose(6), position.lose(3)), (None, None), "it is told once");
        assert_eq!(position.lose(12), Some((6, 11)));
        assert_eq!((position.hole(), position.low()), (None, 1));
        let text = position.ranges();
        assert_eq!(Position::restore(1, &text, Some(12)), Some(position.clone()));
        [2, 3, 5, 6, 8, 10, 11].into_iter().for_each(|n| {
            assert_ne!(position.offer(n), Offer::Duplicate);
            position.apply(n);
        });
        assert_eq!((position.low(), position.lost()), (11, None));
        position.apply(14);
        assert_eq!((position.hole(), position.lost()), (Some((12, 13)), None));
        assert_eq!(Position::default().lose(1), None);
    }

    #[test]
    fn running_ahead_of_a_hole_is_bounded_but_filling_it_never_is() {
        let mut position = Position::default();
        for n in 0..RANGES_MAX as u64 {
            position.apply(3 + 2 * n);
        }
        let beyond = 3 + 2 * RANGES_MAX as u64;
        assert_eq!(position.offer(beyond), Offer::TooFarAhead);
        assert_eq!(position.offer(beyond - 1), Offer::Ahead, "it lengthens a range");
        assert_eq!(position.offer(1), Offer::Next);
        assert_eq!(position.offer(4), Offer::Ahead, "it joins two");
    }

    #[test]
    fn what_is_not_a_position_is_not_restored() {
        for bad in ["7", "9-7", "5-6", "7-9,10-11", "7-9,8-12", "a-b", "7-9;12-12"] {
            assert_eq!(Position::restore(5, bad, None), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_holds_exactly_what_was_applied_in_any_order(numbers in prop::collection::vec(1u64..60, 0..80)) {
            let (mut position, mut model) = (Position::default(), BTreeSet::new());
            for n in numbers {
                prop_assert_eq!(position.offer(n) == Offer::Duplicate, model.contains(&n));
                position.apply(n);
                model.insert(n);
                let low = (1..).take_while(|n| model.contains(n)).count() as u64;
                prop_assert_eq!(position.low(), low);
                prop_assert_eq!(position.hole().is_some(), model.len() as u64 != low);
                let stored = Position::restore(position.low(), &position.ranges(), None);
                prop_assert_eq!(stored.as_ref(), Some(&position));
            }
            for n in 1..60 {
                prop_assert_eq!(position.offer(n) == Offer::Duplicate, model.contains(&n));
            }
        }

        #[test]
        fn a_floor_is_as_if_all_below_it_had_been_applied(
            numbers in prop::collection::vec(1u64..60, 0..40), floor in 1u64..60,
        ) {
            let (mut settled, mut applied) = (Position::default(), Position::default());
            numbers.iter().for_each(|n| { settled.apply(*n); applied.apply(*n); });
            settled.settle_floor(floor);
            (1..floor).for_each(|n| applied.apply(n));
            prop_assert_eq!((settled.low(), settled.ranges()), (applied.low(), applied.ranges()));
        }
    }
}
