//! What the broker holds against what the journal says: before the first publish of every connection; pure.
//!
//! A broker may have come back from an old copy and lack what it acknowledged (behind); a journal may have, and the broker
//! then knows events that the journal never wrote (ahead) or wrote otherwise (differs). The first is mended by sending
//! again, exactly what is missing; the others by nobody here: the journal needs a new identity, at its next start.

use super::origin::Link;
use super::saved::{LaneState, Saved, Top};
use crate::publisher::{Found, LaneFound, LaneName, WINDOW_MAX};
use signalbox_base::{EventSeq, JournalId, Text};
use std::collections::BTreeMap;

/// The journal as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Which journal its events belong to, from which number on; the current one last.
    pub chain: Vec<Link>,
    /// Its last durable event.
    pub end: EventSeq,
}

impl Own {
    /// The journal that event `seq` belongs to, in this chain.
    #[must_use]
    pub fn journal_of(&self, seq: EventSeq) -> Option<JournalId> {
        let at = self.chain.partition_point(|link| link.first <= seq);
        Some(self.chain.get(at.checked_sub(1)?)?.source.journal)
    }

    fn current(&self) -> Option<JournalId> {
        self.chain.last().map(|link| link.source.journal)
    }

    /// Whether the event was written by this chain: an older journal's later events are a future that was lost.
    fn wrote(&self, found: &Found) -> bool {
        found.id.seq <= self.end && self.journal_of(found.id.seq) == Some(found.id.journal)
    }
}

/// How the broker compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has everything that it acknowledged; go on like this.
    Equal(Saved),
    /// Lanes have lost their ends; go on like this, which sends them again.
    Behind(Saved, Vec<Lost>),
    /// It knows events that the journal does not have.
    Ahead(Divergence),
    /// It knows another event under a number of the journal's.
    Differs(Divergence),
}

/// A lane that is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The lane.
    pub lane: String,
    /// From here on its events are looked through and sent again where they are missing.
    pub from: EventSeq,
}

/// The journal's history and the broker's have parted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{lane} holds event {bus} of journal {journal}, whose end is {end}{}: the journal was restored from a copy, or \
     another edge runs on a clone of it; stop one of the two, the next start takes a new identity",
    if *.bus <= *.end { " and which says otherwise" } else { "" }
)]
pub struct Divergence {
    /// The lane where it shows.
    pub lane: Text,
    /// The journal.
    pub journal: JournalId,
    /// The event on the broker.
    pub bus: EventSeq,
    /// The journal's end.
    pub end: EventSeq,
}

/// Numbers whose digests [`verdict`] wants to know, ascending: the last event of the current journal in each lane, where
/// it is not the one that was acknowledged there.
#[must_use]
pub fn questions(saved: &Saved, lanes: &[LaneName], found: &[LaneFound], own: &Own) -> Vec<EventSeq> {
    let mut asked: Vec<EventSeq> = lanes
        .iter()
        .zip(found)
        .filter(|(_, found)| found.last_of_journal.as_ref().is_some_and(|last| last.id.seq <= own.end))
        .filter_map(|(lane, found)| {
            let last = found.last_of_journal.as_ref()?;
            let top = known(saved, lane).and_then(|known| known.top);
            let seen = found.known_holds && top.is_some_and(|top| top.place == last.place);
            (!seen && last.digest.is_some()).then_some(last.id.seq)
        })
        .collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

/// Compares. `lanes` are those of the connection and `found` what was found in each; `digests` are the journal's own of
/// the [`questions`], without those that it no longer has.
#[must_use]
pub fn verdict(
    saved: &Saved,
    lanes: &[LaneName],
    found: &[LaneFound],
    own: &Own,
    digests: &BTreeMap<EventSeq, u64>,
) -> Verdict {
    for (lane, found) in lanes.iter().zip(found) {
        if let Some(parted) = parted(lane, found, own, digests) {
            return parted;
        }
    }
    let (mut lost, mut states) = (Vec::new(), Vec::with_capacity(lanes.len()));
    let mut cursor = saved.cursor;
    for (lane, found) in lanes.iter().zip(found) {
        let (state, from) = resume(known(saved, lane), lane, found, saved.cursor, own);
        if let Some(from) = from {
            lost.push(Lost { lane: state.name.clone(), from });
            cursor = cursor.min(EventSeq(from.0 - 1));
        }
        states.push((state, from.is_some()));
    }
    // What the connection does not have keeps its place: the lane may come back.
    let absent = saved.lanes.iter().filter(|known| lanes.iter().all(|lane| *lane.name != *known.name));
    states.extend(absent.map(|known| (known.clone(), false)));
    let finish = |(mut state, lost): (LaneState, bool)| {
        if !lost {
            state.have.insert(cursor.0 + 1, saved.cursor.0);
        }
        state.have.trim(cursor.0);
        state
    };
    let resumed = Saved { cursor, lanes: states.into_iter().map(finish).collect() };
    if lost.is_empty() { Verdict::Equal(resumed) } else { Verdict::Behind(resumed, lost) }
}

fn known<'a>(saved: &'a Saved, lane: &LaneName) -> Option<&'a LaneState> {
    saved.lanes.iter().find(|known| *known.name == *lane.name)
}

/// The first sign in a lane that the current journal is not the only one of its id.
fn parted(
    lane: &LaneName,
    found: &LaneFound,
    own: &Own,
    digests: &BTreeMap<EventSeq, u64>,
) -> Option<Verdict> {
    let journal = own.current()?;
    let told = |bus| Divergence { lane: lane.name.clone(), journal, bus, end: own.end };
    let all = found.above.iter().chain(&found.last).chain(&found.last_of_journal);
    let highest = all.filter(|event| event.id.journal == journal).map(|event| event.id.seq).max();
    if let Some(bus) = highest.filter(|seq| *seq > own.end) {
        return Some(Verdict::Ahead(told(bus)));
    }
    let last = found.last_of_journal.as_ref().filter(|last| last.id.journal == journal)?;
    let ours = digests.get(&last.id.seq)?;
    (last.digest? != *ours).then(|| Verdict::Differs(told(last.id.seq)))
}

/// How a lane goes on, and from where it has lost events, if it has.
fn resume(
    known: Option<&LaneState>,
    lane: &LaneName,
    found: &LaneFound,
    cursor: EventSeq,
    own: &Own,
) -> (LaneState, Option<EventSeq>) {
    let mine: Vec<&Found> = found.above.iter().filter(|event| own.wrote(event)).collect();
    let top = found.above.last().or(found.last.as_ref()).map(top_of);
    let had = known.and_then(|known| known.top.map(|top| (known, top)));
    let mut state = LaneState {
        name: lane.name.as_str().to_owned(),
        incarnation: lane.incarnation.as_str().to_owned(),
        ..LaneState::default()
    };
    match had {
        Some((known, before)) if found.known_holds && known.incarnation == *lane.incarnation => {
            state.top = top.filter(|top| top.place > before.place).or(Some(before));
            state.first = known.first;
            state.have = known.have.clone();
            mine.iter().for_each(|event| state.have.insert(event.id.seq.0, event.id.seq.0));
            (state, None)
        }
        // Something was acknowledged there and is not where it was: only what is seen counts, and what lies so far below
        // that it cannot have come later.
        Some((known, _)) => {
            let through = settled(&mine);
            state.top = top;
            state.have = known.have.clone();
            state.have.cut(through);
            state.have.insert(1, through.min(cursor.0));
            mine.iter().for_each(|event| state.have.insert(event.id.seq.0, event.id.seq.0));
            (state, Some(EventSeq(through.min(cursor.0) + 1)))
        }
        None => {
            state.top = top;
            state.have = known.map(|known| known.have.clone()).unwrap_or_default();
            state.have.insert(1, settled(&mine));
            mine.iter().for_each(|event| state.have.insert(event.id.seq.0, event.id.seq.0));
            (state, None)
        }
    }
}

/// Up to here a lane has every event of its: a later key overtakes a waiting one by less than a window.
fn settled(mine: &[&Found]) -> u64 {
    let highest = mine.iter().map(|event| event.id.seq.0).max().unwrap_or(0);
    highest.saturating_sub(WINDOW_MAX as u64)
}

fn top_of(found: &Found) -> Top {
    Top { place: found.place, journal: found.id.journal, seq: found.id.seq }
}
