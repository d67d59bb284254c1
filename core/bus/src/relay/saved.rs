//! What a relay remembers durably: its cursor, and what each lane has above it.

use crate::publisher::LaneSaved;
use serde::{Deserialize, Serialize};
use signalbox_base::{EventSeq, JournalId};

/// Where a relay is. Every event up to the cursor is acknowledged; of those above it, `have` says which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Everything up to here is on the broker.
    pub cursor: EventSeq,
    /// The lanes, in the order of the connection they were learned from.
    pub lanes: Vec<LaneState>,
}

impl Saved {
    /// The lanes in which something was acknowledged, as a broker is asked for them.
    #[must_use]
    pub fn known(&self) -> Vec<LaneSaved> {
        let known = |lane: &LaneState| {
            let top = lane.top?;
            Some(LaneSaved {
                name: lane.name.clone(),
                incarnation: lane.incarnation.clone(),
                place: top.place,
                journal: top.journal.to_string(),
                seq: top.seq.0,
            })
        };
        self.lanes.iter().filter_map(known).collect()
    }
}

/// One lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneState {
    /// Stream, or `<topic>/<partition>`.
    pub name: String,
    /// What tells that it was made anew.
    pub incarnation: String,
    /// The last event that was acknowledged in it; all acknowledged ones lie below.
    pub top: Option<Top>,
    /// Where the first event of this process came to lie in a lane that had none: the auditor begins there.
    #[serde(skip)]
    pub first: Option<u64>,
    /// Numbers above the cursor that need not be sent, if their events belong to this lane. Numbers of other lanes' events
    /// may be in it, where that makes for fewer ranges.
    pub have: Ranges,
}

/// The last acknowledged event of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// Stream sequence, offset.
    pub place: u64,
    /// Its journal.
    pub journal: JournalId,
    /// Its number.
    pub seq: EventSeq,
}

/// A set of numbers, as ranges with both ends in them: ascending, apart from each other by at least one number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `from..=to`; nothing when `from` is above `to`.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from > to {
            return;
        }
        // Those that overlap or touch become one.
        let first = self.0.partition_point(|(_, end)| end.saturating_add(1) < from);
        let last = self.0.partition_point(|(begin, _)| *begin <= to.saturating_add(1));
        let touched = &self.0[first..last.max(first)];
        let from = touched.first().map_or(from, |(begin, _)| from.min(*begin));
        let to = touched.last().map_or(to, |(_, end)| to.max(*end));
        self.0.splice(first..last.max(first), [(from, to)]);
    }

    /// Takes one number out.
    pub fn remove(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, end)| *end < number);
        let Some((begin, end)) = self.0.get(at).copied().filter(|(begin, _)| *begin <= number) else {
            return;
        };
        let parts = [(begin, number.wrapping_sub(1)), (number.saturating_add(1), end)];
        let left = begin < number;
        let right = number < end;
        self.0.splice(
            at..=at,
            parts.into_iter().zip([left, right]).filter_map(|(part, keep)| keep.then_some(part)),
        );
    }

    /// Whether the number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < number);
        self.0.get(at).is_some_and(|(begin, _)| *begin <= number)
    }

    /// The first number from `number` on that is not in it.
    #[must_use]
    pub fn next_missing(&self, number: u64) -> u64 {
        let at = self.0.partition_point(|(_, end)| *end < number);
        match self.0.get(at) {
            Some((begin, end)) if *begin <= number => end.saturating_add(1),
            _ => number,
        }
    }

    /// Forgets everything up to `through`.
    pub fn trim(&mut self, through: u64) {
        let gone = self.0.partition_point(|(_, end)| *end <= through);
        self.0.drain(..gone);
        if let Some((begin, _)) = self.0.first_mut() {
            *begin = (*begin).max(through.saturating_add(1));
        }
    }

    /// Forgets everything above `through`.
    pub fn cut(&mut self, through: u64) {
        let kept = self.0.partition_point(|(begin, _)| *begin <= through);
        self.0.truncate(kept);
        if let Some((_, end)) = self.0.last_mut() {
            *end = (*end).min(through);
        }
    }

    /// The highest number in it.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.0.last().map(|(_, end)| *end)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(steps in proptest::collection::vec((0u8..5, 0u64..40, 0u64..10), 0..40)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (step, at, len) in steps {
                match step {
                    0 | 1 => {
                        ranges.insert(at, at + len);
                        model.extend(at..=at + len);
                    }
                    2 => {
                        ranges.remove(at);
                        model.remove(&at);
                    }
                    3 => {
                        ranges.cut(at + 20);
                        model.retain(|number| *number <= at + 20);
                    }
                    _ => {
                        ranges.trim(len);
                        model.retain(|number| *number > len);
                    }
                }
            }
            for number in 0..60 {
                prop_assert_eq!(ranges.contains(number), model.contains(&number), "{} in {:?}", number, ranges);
                let missing = (number..).find(|number| !model.contains(number)).unwrap();
                prop_assert_eq!(ranges.next_missing(number), missing);
            }
            prop_assert_eq!(ranges.highest(), model.last().copied());
            let apart = ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
            prop_assert!(apart && ranges.0.iter().all(|(begin, end)| begin <= end), "{:?}", ranges);
        }
    }

    #[test]
    fn what_is_saved_reads_back() {
        let mut have = Ranges::default();
        have.insert(9, 12);
        let top = Some(Top { place: 7, journal: JournalId(5), seq: EventSeq(12) });
        let lane = LaneState { name: "S".to_owned(), incarnation: "then".to_owned(), top, first: None, have };
        let idle = LaneState { name: "T".to_owned(), ..LaneState::default() };
        let saved = Saved { cursor: EventSeq(7), lanes: vec![lane, idle] };
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(serde_json::from_str::<Saved>(&text).unwrap(), saved);
        let known = saved.known();
        assert_eq!((known.len(), known[0].place, known[0].seq), (1, 7, 12));
        assert_eq!(known[0].journal.parse(), Ok(JournalId(5)));
    }
}
