//! Who lives: judged by who is heard, by the listener's own clock, and only while it would hear.
//!
//! Whoever listens also speaks, and hears itself: its canary. While that comes back, an edge that is silent for as long as
//! the listener's patience is lost. While it does not, the line is at fault and nobody is judged; when it is back, everybody
//! has as long again to be heard.

use crate::heartbeat::Beat;
use signalbox_base::{Mono, Now, Text, Wall};
use std::collections::BTreeMap;
use std::time::Duration;

/// How an edge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Heard, or not judged.
    #[default]
    Alive,
    /// Silent for as long as the patience lasts, though it would have been heard.
    Lost,
    /// It said that it stops.
    Stopped,
}

/// An edge as it was heard last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How it is.
    pub state: State,
    /// What it said last.
    pub beat: Beat,
    /// When it was heard, by the listener's clock; `None` for one that is only known from before.
    pub heard_at: Option<Wall>,
    /// The same by the monotonic clock.
    pub heard: Option<Mono>,
}

impl Seen {
    /// Since when it is silent, for a listener that has heard without a pause since `since`.
    fn silent_since(&self, since: Mono) -> Mono {
        self.heard.map_or(since, |heard| heard.max(since))
    }
}

/// What a heartbeat changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The edge's state or place.
    Changed(Text),
    /// Its process is another than before: what that one had under way is gone.
    Restarted(Text),
    /// Another process speaks under the listener's own name.
    Twin,
}

/// Somebody who speaks under the listener's own name.
#[derive(Clone, Debug)]
struct Twin {
    beat: Beat,
    heard: Mono,
    /// Once may be the last word of the process before this one.
    again: bool,
}

/// Everybody of the cluster but the listener.
#[derive(Clone, Debug)]
pub struct Presence {
    own: Text,
    process: Text,
    twin: Option<Twin>,
    patience: Duration,
    canary: Option<Mono>,
    /// Since when the canary has come back without a pause.
    since: Option<Mono>,
    edges: BTreeMap<Text, Seen>,
}

impl Presence {
    /// For a `process` that speaks under the name `own`. An edge that is silent for `patience` is lost.
    #[must_use]
    pub fn new(own: Text, process: Text, patience: Duration) -> Self {
        Self { own, process, twin: None, patience, canary: None, since: None, edges: BTreeMap::new() }
    }

    /// The listener's process.
    #[must_use]
    pub fn process(&self) -> &Text {
        &self.process
    }

    /// What another process says under the listener's own name: two edges must not share one.
    #[must_use]
    pub fn twin(&self, now: Mono) -> Option<&Beat> {
        let twin = self.twin.as_ref().filter(|twin| twin.again && now.since(twin.heard) < self.patience);
        twin.map(|twin| &twin.beat)
    }

    /// An edge is known from before, and expected to be heard.
    pub fn expect(&mut self, edge: Text, heard_at: Option<Wall>) {
        self.edges.entry(edge).or_insert(Seen { heard_at, ..Seen::default() });
    }

    /// Somebody was heard.
    pub fn heard(&mut self, beat: Beat, now: Now) -> Option<News> {
        if beat.edge == self.own && !beat.process.is_empty() && beat.process != self.process {
            return self.heard_twin(beat, now.mono);
        }
        if beat.edge == self.own {
            if !self.hears(now.mono) {
                self.since = Some(now.mono);
            }
            self.canary = Some(now.mono);
            return None;
        }
        if beat.observer {
            return None;
        }
        let state = if beat.stopping { State::Stopped } else { State::Alive };
        let name = beat.edge.clone();
        let known = self.edges.get(&name);
        let changed = known.is_none_or(|seen| {
            seen.heard.is_none() || seen.state != state || seen.beat.takes_at != beat.takes_at
        });
        // A process counts its heartbeats from its beginning, and they keep their order.
        let restarted =
            known.is_some_and(|seen| seen.state == State::Alive && beat.number < seen.beat.number);
        let seen = Seen { state, beat, heard_at: Some(now.wall), heard: Some(now.mono) };
        self.edges.insert(name.clone(), seen);
        if restarted { Some(News::Restarted(name)) } else { changed.then_some(News::Changed(name)) }
    }

    fn heard_twin(&mut self, beat: Beat, now: Mono) -> Option<News> {
        let known = self.twin(now).is_some();
        let before = self.twin.take().filter(|_| !beat.stopping);
        let again = before.is_some_and(|twin| twin.beat.process == beat.process);
        self.twin = (!beat.stopping).then_some(Twin { beat, heard: now, again });
        (again && !known).then_some(News::Twin)
    }

    /// Whether the listener would hear others now: its own heartbeat came back within half its patience.
    #[must_use]
    pub fn hears(&self, now: Mono) -> bool {
        self.canary.is_some_and(|at| now.since(at) <= self.patience / 2)
    }

    /// Whether that has been so for all its patience: who lives was heard.
    #[must_use]
    pub fn is_settled(&self, now: Mono) -> bool {
        self.hears(now) && self.since.is_some_and(|since| now.since(since) > self.patience)
    }

    /// When the next edge is lost unless it is heard before. None while nobody is judged.
    #[must_use]
    pub fn due(&self) -> Option<Mono> {
        let since = self.since?;
        let alive = self.edges.values().filter(|seen| seen.state == State::Alive);
        alive.map(|seen| seen.silent_since(since).plus(self.patience)).min()
    }

    /// Who is found lost now.
    pub fn judge(&mut self, now: Mono) -> Vec<Text> {
        if !self.hears(now) {
            self.since = None;
            return Vec::new();
        }
        let Some(since) = self.since else { return Vec::new() };
        let patience = self.patience;
        let silent = |seen: &Seen| now.since(seen.silent_since(since)) >= patience;
        let lost = self.edges.iter_mut().filter(|(_, seen)| seen.state == State::Alive && silent(seen));
        lost.map(|(name, seen)| {
            seen.state = State::Lost;
            name.clone()
        })
        .collect()
    }

    /// An edge.
    #[must_use]
    pub fn get(&self, edge: &str) -> Option<&Seen> {
        self.edges.get(edge)
    }

    /// All edges, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Text, &Seen)> {
        self.edges.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Now {
        let by = Duration::from_millis(ms);
        Now { mono: Mono(0).plus(by), wall: Wall(0).plus(by) }
    }

    fn beat(edge: &str) -> Beat {
        Beat { edge: edge.into(), ..Beat::default() }
    }

    fn presence() -> Presence {
        Presence::new("own".into(), "p1".into(), Duration::from_secs(5))
    }

    /// Hears itself each second, and others too, from one moment to another.
    fn live(it: &mut Presence, from: u64, to: u64, others: &[&str]) -> Vec<Text> {
        let mut lost = Vec::new();
        for ms in (from..to).step_by(1000) {
            it.heard(beat("own"), at(ms));
            for other in others {
                it.heard(beat(other), at(ms));
            }
            lost.extend(it.judge(at(ms + 500).mono));
        }
        lost
    }

    #[test]
    fn given_an_edge_that_falls_silent_when_patience_ends_then_it_is_lost_once_and_back_when_heard() {
        let mut it = presence();
        assert!(live(&mut it, 0, 10_000, &["a", "b"]).is_empty());
        assert!(live(&mut it, 10_000, 14_000, &["b"]).is_empty(), "there is time left");
        assert_eq!(it.due(), Some(at(14_000).mono), "five seconds after it was heard last");
        assert_eq!(live(&mut it, 14_000, 40_000, &["b"]), ["a"], "once");
        assert_eq!(
            it.get("a").map(|seen| (seen.state, seen.heard_at)),
            Some((State::Lost, Some(at(9_000).wall)))
        );
        assert_eq!(it.heard(beat("a"), at(40_000)), Some(News::Changed("a".into())));
        assert_eq!(it.heard(beat("a"), at(41_000)), None, "no news");
    }

    #[test]
    fn given_a_bus_that_is_away_then_nobody_is_lost_and_all_have_their_time_when_it_is_back() {
        let mut it = presence();
        live(&mut it, 0, 10_000, &["a"]);
        for ms in (10_000..600_000).step_by(500) {
            assert!(it.judge(at(ms).mono).is_empty());
        }
        assert_eq!(it.due(), None, "nobody is judged");
        assert!(live(&mut it, 600_000, 605_000, &[]).is_empty(), "it may be slower to come back than we");
        assert_eq!(live(&mut it, 605_000, 610_000, &[]), ["a"]);
    }

    #[test]
    fn given_an_edge_that_said_that_it_stops_then_its_silence_is_no_loss() {
        let mut it = presence();
        live(&mut it, 0, 3_000, &["a"]);
        let stopping = Beat { stopping: true, ..beat("a") };
        assert_eq!(it.heard(stopping, at(3_000)), Some(News::Changed("a".into())));
        assert!(live(&mut it, 3_000, 60_000, &[]).is_empty());
        assert_eq!(it.get("a").map(|seen| seen.state), Some(State::Stopped));
    }

    #[test]
    fn given_an_edge_known_from_before_when_it_is_never_heard_then_it_is_lost_and_observers_are_no_edges() {
        let mut it = presence();
        it.expect("a".into(), None);
        assert_eq!(live(&mut it, 0, 20_000, &[]), ["a"]);
        assert_eq!(it.heard(Beat { observer: true, ..beat("observer-1") }, at(20_000)), None);
        assert_eq!(it.iter().count(), 1);
    }

    #[test]
    fn given_a_process_that_counts_anew_then_it_is_told_as_another_one_once() {
        let mut it = presence();
        let counted = |number| Beat { number, ..beat("a") };
        live(&mut it, 0, 1_000, &[]);
        for (number, news) in [
            (7, Some(News::Changed("a".into()))),
            (8, None),
            (1, Some(News::Restarted("a".into()))),
            (2, None),
        ] {
            assert_eq!(it.heard(counted(number), at(1_000 + number)), news, "{number}");
        }
    }

    #[test]
    fn given_another_process_of_our_name_when_it_goes_on_speaking_then_it_is_told_once_and_never_taken_for_us()
     {
        let mut it = presence();
        let said = |process: &str, stopping| Beat { process: process.into(), stopping, ..beat("own") };
        assert_eq!(it.heard(said("p0", false), at(0)), None, "the last word of who was here before");
        assert!(it.twin(at(0).mono).is_none() && !it.hears(at(0).mono));
        assert_eq!(it.heard(said("p1", false), at(100)), None);
        for (ms, news) in [(1_000, None), (2_000, Some(News::Twin)), (3_000, None)] {
            assert_eq!(it.heard(said("p2", false), at(ms)), news, "{ms}");
        }
        assert_eq!(it.twin(at(7_000).mono).map(|beat| &*beat.process), Some("p2"));
        assert!(!it.hears(at(7_000).mono), "its voice is not ours");
        assert!(it.twin(at(8_000).mono).is_none(), "it is silent for as long as the patience");
        it.heard(said("p2", false), at(9_000));
        assert_eq!(it.heard(said("p2", true), at(10_000)), None);
        assert!(it.twin(at(10_000).mono).is_none(), "it said that it stops");
    }

    proptest! {
        /// Whatever is heard when: an edge is lost only after five seconds of silence during which the canary came back.
        #[test]
        fn nobody_is_lost_who_was_heard_in_time(steps in prop::collection::vec((0u64..3_000, 0u8..3), 1..200)) {
            let (mut it, mut now, mut heard, mut canaries) = (presence(), 0, None, Vec::new());
            for (pause, what) in steps {
                now += pause;
                match what {
                    0 => { it.heard(beat("own"), at(now)); canaries.push(now); }
                    1 => { it.heard(beat("a"), at(now)); heard = Some(now); }
                    _ => {}
                }
                for name in it.judge(at(now).mono) {
                    prop_assert_eq!(&*name, "a");
                    let from = heard.expect("only who was heard can be lost");
                    prop_assert!(now - from >= 5_000);
                    prop_assert!(canaries.iter().any(|c| now - c <= 2_500), "it would have been heard");
                }
            }
        }
    }
}
