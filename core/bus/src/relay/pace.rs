//! How fast a backlog drains: many times as fast as events arrive, and no faster than that when a machine has calls to
//! carry as well.

use signalbox_base::{EventSeq, Mono};
use std::time::Duration;

/// A backlog drains at least so many times as fast as events arrive.
const OF_ARRIVAL: f64 = 16.0;
/// Arrival is measured over so long.
const MEASURED: Duration = Duration::from_secs(1);
/// What may go at once is what may go in so long: events of a running system never wait.
const BURST: f64 = 0.1;

/// A bucket of events that may be read.
#[derive(Debug)]
pub(super) struct Pace {
    /// Events a second that may always go; 0: no pace is kept.
    least: f64,
    /// Events a second that arrive, of late; it falls by half a second at most.
    arrival: f64,
    measured: (Mono, EventSeq),
    room: f64,
    filled: Mono,
}

impl Pace {
    /// For an origin that ends at `end` now.
    pub(super) fn new(least: u32, end: EventSeq) -> Self {
        let least = f64::from(least);
        Self { least, arrival: 0.0, measured: (Mono(0), end), room: least * BURST, filled: Mono(0) }
    }

    /// The origin ends at `end`.
    pub(super) fn arrived(&mut self, now: Mono, end: EventSeq) {
        let (at, before) = self.measured;
        let passed = now.since(at);
        if passed >= MEASURED {
            let rate = end.0.saturating_sub(before.0) as f64 / passed.as_secs_f64();
            self.arrival = rate.max(self.arrival / 2.0);
            self.measured = (now, end);
        }
    }

    /// When `events` may be read; `None`: now.
    pub(super) fn waits(&mut self, now: Mono, events: usize) -> Option<Mono> {
        if self.least == 0.0 {
            return None;
        }
        let rate = self.least.max(self.arrival * OF_ARRIVAL);
        let wanted = events as f64;
        self.room += now.since(self.filled).as_secs_f64() * rate;
        self.room = self.room.min((rate * BURST).max(wanted));
        self.filled = now;
        let missing = wanted - self.room;
        // Rounded up: what waits for the moment finds the room.
        (missing > 0.0).then(|| now.plus(Duration::from_secs_f64(missing / rate) + Duration::from_nanos(1)))
    }

    /// An event was read.
    pub(super) fn spend(&mut self) {
        self.room -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events that go in `seconds`, read by the hundred.
    fn drained(pace: &mut Pace, from: Mono, seconds: u64) -> u64 {
        let (mut now, mut events) = (from, 0);
        let end = from.plus(Duration::from_secs(seconds));
        loop {
            while let Some(due) = pace.waits(now, 100) {
                assert!(due > now, "time goes on");
                now = due;
            }
            if now >= end {
                return events;
            }
            (0..100).for_each(|_| pace.spend());
            events += 100;
        }
    }

    #[test]
    fn a_backlog_drains_at_its_least_pace_and_a_burst_goes_at_once() {
        let mut pace = Pace::new(1000, EventSeq(0));
        let begun = Mono(0).plus(Duration::from_secs(60));
        assert_eq!(pace.waits(begun, 100), None);
        let events = drained(&mut pace, begun, 10);
        assert!((10_000..=10_200).contains(&events), "{events}");
    }

    #[test]
    fn a_backlog_drains_sixteen_times_as_fast_as_events_arrive() {
        let mut pace = Pace::new(1000, EventSeq(0));
        let second = |n| Mono(0).plus(Duration::from_secs(n));
        for n in 1..=10 {
            pace.arrived(second(n), EventSeq(n * 500));
        }
        let events = drained(&mut pace, second(10), 10);
        assert!((80_000..=80_900).contains(&events), "{events}");
    }

    #[test]
    fn without_a_pace_nothing_waits() {
        let mut pace = Pace::new(0, EventSeq(0));
        assert_eq!(pace.waits(Mono(1), usize::MAX), None);
    }
}
