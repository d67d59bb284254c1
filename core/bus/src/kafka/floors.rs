//! What retention has taken, found out while all partitions are read from their beginning to the end of then.
//!
//! Partitions expire raggedly: a domain is whole from where the last of them begins. One that retention has emptied does
//! not say where; what it lost was older than events are kept for, so a domain is whole from the first number that is not.

use super::begin::Begin;
use super::topics::carries;
use crate::event::Source;
use crate::subscription::Floor;
use signalbox_base::Text;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Collects until every partition was read to the end of then.
pub(super) struct Floors {
    lanes: Vec<Lane>,
    /// Domains of which a partition is empty, and since when (milliseconds, the brokers' clock) their events are kept.
    emptied: HashMap<Text, i64>,
    seen: HashSet<(usize, Arc<Source>, Text)>,
    domains: HashMap<(Arc<Source>, Text), Numbers>,
}

struct Lane {
    /// Something was deleted from it.
    expired: bool,
    /// Its end of then.
    end: i64,
}

/// Numbers of one domain of a source.
#[derive(Default)]
struct Numbers {
    /// The highest first number of a partition that has lost something.
    first: u64,
    /// The highest that is older than events are kept for.
    old: u64,
    /// The lowest that is not.
    new: Option<u64>,
}

impl Floors {
    /// For partitions that are read from their beginnings; `kept_since` says for a domain since when its events are
    /// kept, milliseconds; `None`: for ever.
    pub(super) fn new(
        names: &[(Text, i32)],
        begins: &[Begin],
        kept_since: impl Fn(&str) -> Option<i64>,
    ) -> Self {
        let lanes = begins.iter().map(|begin| Lane { expired: begin.low > 0, end: begin.end }).collect();
        let empty = names.iter().zip(begins).filter(|(_, begin)| begin.low > 0 && begin.low == begin.end);
        let domains = empty.filter_map(|((topic, _), _)| Some(carries(topic)?.domain));
        let emptied = domains.filter_map(|domain| Some((domain.into(), kept_since(domain)?))).collect();
        Self { lanes, emptied, seen: HashSet::new(), domains: HashMap::new() }
    }

    /// An event lies in a partition; `time` is when it was stored there.
    pub(super) fn saw(
        &mut self,
        lane: usize,
        source: &Arc<Source>,
        domain: &str,
        number: u64,
        time: Option<i64>,
    ) {
        let expired = self.lanes.get(lane).is_some_and(|lane| lane.expired);
        let kept_since = self.emptied.get(domain).copied();
        if !expired && kept_since.is_none() {
            return;
        }
        let numbers = self.domains.entry((Arc::clone(source), domain.into())).or_default();
        if expired && self.seen.insert((lane, Arc::clone(source), domain.into())) {
            numbers.first = numbers.first.max(number);
        }
        match kept_since {
            Some(since) if time.is_some_and(|time| time < since) => numbers.old = numbers.old.max(number),
            Some(_) => numbers.new = Some(numbers.new.unwrap_or(number).min(number)),
            None => {}
        }
    }

    /// Whether all partitions are read so far, by the next offset of each.
    pub(super) fn reached(&self, next: impl Iterator<Item = i64>) -> bool {
        self.lanes.iter().zip(next).all(|(lane, next)| next >= lane.end)
    }

    /// What was found.
    pub(super) fn tell(self) -> Vec<Floor> {
        let floor = |((source, domain), numbers): ((Arc<Source>, Text), Numbers)| {
            let by_age = match numbers.new {
                Some(new) => new.max(numbers.old + 1),
                None if numbers.old > 0 => numbers.old + 1,
                None => 0,
            };
            let first = numbers.first.max(by_age);
            (first > 1).then_some(Floor { source, domain, first })
        };
        self.domains.into_iter().filter_map(floor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::hint::Spot;
    use super::*;
    use signalbox_base::JournalId;

    /// Partitions of calls by first offset and end; events are kept since 1000.
    fn floors(lanes: &[(i64, i64)]) -> Floors {
        let names: Vec<(Text, i32)> =
            (0..).map(|p| ("signalbox.call.v1".into(), p)).take(lanes.len()).collect();
        let begin = |(low, end): &(i64, i64)| Begin { spot: Spot::default(), low: *low, end: *end };
        let begins: Vec<Begin> = lanes.iter().map(begin).collect();
        Floors::new(&names, &begins, |domain| (domain == "call").then_some(1_000))
    }

    fn told(mut floors: Floors, events: &[(usize, u64, i64)]) -> Option<u64> {
        let source = Source { cluster: "prod".into(), edge: "edge-1".into(), journal: JournalId(7) };
        let source = Arc::new(source);
        for (lane, number, time) in events {
            floors.saw(*lane, &source, "call", *number, Some(*time));
        }
        floors.tell().first().map(|floor| floor.first)
    }

    #[test]
    fn nothing_was_deleted_and_a_hole_is_waited_for() {
        assert_eq!(
            told(floors(&[(0, 2), (0, 1), (0, 0)]), &[(0, 2, 900), (0, 4, 1_100), (1, 3, 1_050)]),
            None
        );
    }

    #[test]
    fn a_domain_is_whole_from_where_the_last_partition_begins() {
        let ragged = [(0, 5, 900), (0, 8, 1_100), (1, 7, 950), (1, 9, 1_200)];
        assert_eq!(told(floors(&[(3, 5), (4, 6)]), &ragged), Some(7));
    }

    #[test]
    fn a_partition_that_retention_has_emptied_leaves_holes_below_what_is_kept() {
        // Numbers 4 and 6 were in the one that is empty now.
        let events = [(0, 3, 900), (0, 5, 950), (0, 7, 1_000), (0, 8, 1_300)];
        assert_eq!(told(floors(&[(0, 4), (9, 9)]), &events), Some(7));
        // All that is left is older than events are kept for: a hole above it is not told from a loss.
        assert_eq!(told(floors(&[(0, 2), (9, 9)]), &events[..2]), Some(6));
        // What begins with 1 has lost nothing.
        assert_eq!(told(floors(&[(0, 2), (9, 9)]), &[(0, 1, 1_000), (0, 2, 1_100)]), None);
    }

    #[test]
    fn all_is_read_when_every_partition_is_at_its_end_of_then() {
        let floors = floors(&[(0, 2), (9, 9)]);
        assert!(!floors.reached([1, 9].into_iter()));
        assert!(floors.reached([2, 9].into_iter()));
    }
}
