//! Reads our own events back and finds what the broker has lost in the middle: a hole in a domain's numbers between what
//! was verified and what is acknowledged; pure.
//!
//! An audit goes up to a number, not a place: each lane is read until nothing below that number can follow.

use super::saved::{Saved, Top};
use crate::publisher::{Found, LaneId, WINDOW_MAX};
use signalbox_base::{EventSeq, JournalId, Text};
use std::collections::{BTreeMap, HashMap};

/// Events verified by one audit at most.
const STEP: u64 = 200_000;

/// What has been verified so far.
#[derive(Debug, Default)]
pub struct Audit {
    /// Events up to here were acknowledged before the audits began, and are not looked at.
    floor: EventSeq,
    /// Everything up to here is verified.
    verified: EventSeq,
    /// Up to where each lane was read.
    places: HashMap<String, u64>,
    domains: BTreeMap<(JournalId, Text), Domain>,
    /// Missing ones that were told and have not been seen since.
    owed: BTreeMap<(JournalId, Text, u64), Hole>,
}

#[derive(Debug, Default)]
struct Domain {
    /// The last number that was verified, and its event.
    through: Option<(u64, EventSeq)>,
    /// Seen and not verified.
    above: BTreeMap<u64, EventSeq>,
}

/// What is to be read of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The lane.
    pub lane: LaneId,
    /// From this place on.
    pub from: u64,
    /// To this one, where this event must lie.
    pub top: Top,
    /// Or until an event above this number is met.
    pub until: EventSeq,
}

/// Numbers of a domain that are not on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The journal.
    pub journal: JournalId,
    /// The domain.
    pub domain: Text,
    /// First missing number in the domain.
    pub from: u64,
    /// Last one.
    pub to: u64,
    /// The events are after this one,
    pub after: EventSeq,
    /// and before this one.
    pub before: EventSeq,
}

impl Audit {
    /// Begins with what is acknowledged from now on.
    #[must_use]
    pub fn new(saved: &Saved) -> Self {
        let ahead = saved.lanes.iter().filter_map(|lane| lane.have.highest()).max().unwrap_or(0);
        let floor = saved.cursor.max(EventSeq(ahead));
        let place = |lane: &super::saved::LaneState| Some((lane.name.clone(), lane.top?.place));
        let places = saved.lanes.iter().filter_map(place).collect();
        Self { floor, verified: floor, places, ..Self::default() }
    }

    /// Up to which event the next audit goes, and what must be read for it.
    #[must_use]
    pub fn plan(&self, saved: &Saved) -> (EventSeq, Vec<Job>) {
        let upto = saved.cursor.min(EventSeq(self.verified.0 + STEP));
        let until = EventSeq(upto.0 + WINDOW_MAX as u64);
        let job = |(lane, state): (u16, &super::saved::LaneState)| {
            let top = state.top?;
            let begin = state.first.unwrap_or(top.place);
            let from = self.places.get(&state.name).map_or(begin, |place| place + 1);
            (from <= top.place).then_some(Job { lane: LaneId(lane), from, top, until })
        };
        (upto, (0..).zip(&saved.lanes).filter_map(job).collect())
    }

    /// An own event that was read back.
    pub fn seen(&mut self, found: &Found) {
        self.owed.remove(&(found.id.journal, found.domain.clone(), found.domain_seq));
        if found.id.seq <= self.floor {
            return;
        }
        let domain = self.domains.entry((found.id.journal, found.domain.clone())).or_default();
        if domain.through.is_none_or(|(through, _)| found.domain_seq > through) {
            domain.above.insert(found.domain_seq, found.id.seq);
        }
    }

    /// A lane was read up to `place`.
    pub fn read(&mut self, lane: &str, place: u64) {
        self.places.insert(lane.to_owned(), place);
    }

    /// All lanes were read for an audit up to this event: what is missing, and what still is since it was told.
    pub fn finish(&mut self, upto: EventSeq) -> Vec<Hole> {
        let mut holes: Vec<Hole> = self.owed.values().cloned().collect();
        for ((journal, name), domain) in &mut self.domains {
            while let Some((number, seq)) =
                domain.above.first_key_value().map(|(number, seq)| (*number, *seq))
            {
                if seq > upto {
                    break;
                }
                domain.above.pop_first();
                if let Some((through, after)) = domain.through.filter(|(through, _)| number > through + 1) {
                    let (from, to) = (through + 1, number - 1);
                    let (journal, domain) = (*journal, name.clone());
                    holes.push(Hole { journal, domain, from, to, after, before: seq });
                }
                domain.through = Some((number, seq));
            }
        }
        for hole in &holes {
            for number in hole.from..=hole.to {
                let one = Hole { from: number, to: number, ..hole.clone() };
                self.owed.insert((hole.journal, hole.domain.clone(), number), one);
            }
        }
        self.verified = self.verified.max(upto);
        holes
    }

    /// Everything up to here is verified.
    #[must_use]
    pub fn verified(&self) -> EventSeq {
        self.verified
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::Identity;
    use crate::relay::saved::LaneState;
    use proptest::prelude::*;

    const DOMAINS: [&str; 2] = ["call", "edge"];

    fn saved(cursor: u64, tops: [u64; 2]) -> Saved {
        let lane = |(name, place): (&str, u64)| LaneState {
            name: name.to_owned(),
            top: Some(Top { place, journal: JournalId(1), seq: EventSeq(cursor) }),
            ..LaneState::default()
        };
        Saved { cursor: EventSeq(cursor), lanes: [("a", tops[0]), ("b", tops[1])].map(lane).into() }
    }

    proptest! {
        /// Both lanes carry both domains, as partitions of a tenant's topics may; any events are lost in the middle.
        #[test]
        fn exactly_what_is_lost_between_two_that_are_there_is_found(
            events in proptest::collection::vec((0usize..2, 0usize..2, prop::bool::weighted(0.1)), 1..80),
            cut in 0usize..80,
        ) {
            let mut audit = Audit::new(&saved(0, [0, 0]));
            let (mut numbers, mut expected) = ([0; 2], Vec::new());
            let mut found = Vec::new();
            for (seq, (domain, lane, lost)) in (1..).zip(&events) {
                numbers[*domain] += 1;
                let id = Identity { journal: JournalId(1), seq: EventSeq(seq) };
                let one = Found { id, domain_seq: numbers[*domain], domain: DOMAINS[*domain].into(), place: seq, digest: None };
                found.push((*lane, *lost, one));
            }
            for domain in DOMAINS {
                let here: Vec<_> = found.iter().filter(|(_, _, one)| *one.domain == *domain).collect();
                let first = here.iter().position(|(_, lost, _)| !lost).unwrap_or(here.len());
                let last = here.iter().rposition(|(_, lost, _)| !lost).unwrap_or(0);
                let inside = here.iter().take(last).skip(first).filter(|(_, lost, _)| *lost);
                expected.extend(inside.map(|(_, _, one)| (domain, one.domain_seq)));
            }
            let (mut missing, told) = (Vec::new(), |holes: Vec<Hole>| {
                let each = |hole: Hole| (hole.from..=hole.to).map(move |number| (hole.domain.clone(), number));
                holes.into_iter().flat_map(each).collect::<Vec<_>>()
            });
            // In two audits: what was told in the first is told again in the second, as nobody has mended it.
            let cut = cut.min(events.len()) as u64;
            for upto in [cut, events.len() as u64] {
                let from = audit.verified().0;
                for (_, lost, one) in found.iter().filter(|(_, _, one)| one.id.seq.0 > from && one.id.seq.0 <= upto) {
                    if !lost { audit.seen(one); }
                }
                missing = told(audit.finish(EventSeq(upto)));
            }
            missing.sort();
            let mut expected: Vec<(Text, u64)> = expected.into_iter().map(|(domain, n)| (domain.into(), n)).collect();
            expected.sort();
            prop_assert_eq!(missing, expected);
        }
    }

    #[test]
    fn what_was_sent_again_is_owed_no_more() {
        let mut audit = Audit::new(&saved(0, [0, 0]));
        let event = |number: u64, place| Found {
            id: Identity { journal: JournalId(1), seq: EventSeq(number) },
            domain_seq: number,
            domain: "call".into(),
            place,
            digest: None,
        };
        [1, 4].into_iter().for_each(|number| audit.seen(&event(number, number)));
        let hole = audit.finish(EventSeq(4));
        assert_eq!(
            (hole[0].from, hole[0].to, hole[0].after, hole[0].before),
            (2, 3, EventSeq(1), EventSeq(4))
        );
        [(2, 5), (3, 6)].into_iter().for_each(|(number, place)| audit.seen(&event(number, place)));
        assert_eq!(audit.finish(EventSeq(4)), []);
    }

    #[test]
    fn an_audit_reads_each_lane_from_where_the_last_one_ended() {
        let mut audit = Audit::new(&saved(10, [5, 7]));
        assert_eq!(audit.plan(&saved(10, [5, 7])), (EventSeq(10), vec![]));
        let (upto, jobs) = audit.plan(&saved(12, [6, 9]));
        let places: Vec<(u64, u64)> = jobs.iter().map(|job| (job.from, job.top.place)).collect();
        assert_eq!((upto, places), (EventSeq(12), vec![(6, 6), (8, 9)]));
        audit.read("b", 9);
        assert_eq!(audit.plan(&saved(12, [6, 9])).1.len(), 1);
    }
}
