//! Which sealed segments go, who is overrun, and how tight it is: pure decisions over numbers.

use crate::config::{Sink, SinkKind};
use signalbox_base::{EventSeq, Wall};
use std::time::Duration;

/// A sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// First sequence.
    pub first: EventSeq,
    /// Last sequence.
    pub last: EventSeq,
    /// Bytes on disk.
    pub bytes: u64,
    /// When its last record had been written.
    pub ended: Wall,
}

/// A sink and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The sink.
    pub sink: Sink,
    /// Its cursor; 0 when it has taken nothing.
    pub seq: EventSeq,
}

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long segments stay behind all cursors.
    pub retain: Duration,
    /// Largest journal in bytes, the current segment and the reserve included.
    pub max_size: u64,
    /// Events after this are needed to start again from a snapshot; none when there is no snapshot.
    pub snapshot_floor: Option<EventSeq>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Segments to remove or archive, oldest first.
    pub remove: Vec<EventSeq>,
    /// Remote sinks that lose events by it.
    pub overruns: Vec<Overrun>,
    /// Bytes after the removal.
    pub used: u64,
}

/// A remote sink was overrun: these events were deleted before it took them over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Overrun {
    /// The sink.
    pub sink: String,
    /// First lost sequence.
    pub from: EventSeq,
    /// Last lost sequence.
    pub to: EventSeq,
}

/// Decides over `sealed` (oldest first); `used` is everything the journal takes now.
#[must_use]
pub fn plan(now: Wall, sealed: &[Sealed], positions: &[Position], limits: &Limits, used: u64) -> Plan {
    let mut plan = Plan { used, ..Plan::default() };
    for segment in sealed {
        let over = plan.used > limits.max_size;
        let old = now.since(segment.ended) >= limits.retain;
        let holders: Vec<_> = positions.iter().filter(|p| p.seq < segment.last).collect();
        let needed = limits.snapshot_floor.is_some_and(|floor| segment.last > floor)
            || holders.iter().any(|p| p.sink.kind == SinkKind::Local);
        // Oldest first, without a hole: what must stay keeps everything after it.
        if needed || !(over || old && holders.is_empty()) {
            break;
        }
        for holder in holders {
            plan.overrun(holder, segment);
        }
        plan.remove.push(segment.first);
        plan.used = plan.used.saturating_sub(segment.bytes);
    }
    plan
}

impl Plan {
    fn overrun(&mut self, holder: &Position, segment: &Sealed) {
        match self.overruns.iter_mut().find(|o| o.sink == holder.sink.name) {
            Some(overrun) => overrun.to = segment.last,
            None => self.overruns.push(Overrun {
                sink: holder.sink.name.clone(),
                from: segment.first.max(holder.seq.next()),
                to: segment.last,
            }),
        }
    }
}

/// How tight the disk is; what the engine sheds by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    /// The reserve is whole.
    #[default]
    Normal,
    /// Living on the reserve, or over `max_size` because a sink that may not be overrun is behind: new calls and
    /// registrations are refused.
    Reserve,
    /// The reserve is nearly gone: the journal stops at the end of its segment.
    Full,
}

/// What [`pressure`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Preallocated segments there are.
    pub spares: u32,
    /// Preallocated segments there should be.
    pub spares_wanted: u32,
    /// Bytes the journal takes.
    pub used: u64,
    /// Bytes it may take.
    pub max_size: u64,
    /// Bytes of one segment.
    pub segment_size: u64,
}

/// How tight it is.
#[must_use]
pub fn pressure(room: &Room) -> Pressure {
    let far_over = room.max_size.saturating_add(room.segment_size * u64::from(room.spares_wanted));
    if room.spares == 0 || room.used > far_over {
        Pressure::Full
    } else if room.spares < room.spares_wanted || room.used > room.max_size {
        Pressure::Reserve
    } else {
        Pressure::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn segments() -> Vec<Sealed> {
        let sealed = |i: u64| Sealed {
            first: EventSeq(i * 10 + 1),
            last: EventSeq(i * 10 + 10),
            bytes: 100,
            ended: Wall::from_secs(DAY * i as i64),
        };
        (0..5).map(sealed).collect()
    }

    fn at(sink: Sink, seq: u64) -> Position {
        Position { sink, seq: EventSeq(seq) }
    }

    fn limits(retain_days: u64, max_size: u64) -> Limits {
        Limits { retain: Duration::from_secs(retain_days * 86_400), max_size, snapshot_floor: None }
    }

    #[test]
    fn old_segments_go_once_every_cursor_is_past_them() {
        let positions = [at(Sink::local("store"), 50), at(Sink::remote("nats"), 25)];
        let plan = plan(Wall::from_secs(DAY * 40), &segments(), &positions, &limits(30, 10_000), 500);
        assert_eq!(plan.remove, [EventSeq(1), EventSeq(11)]);
        assert_eq!((plan.overruns, plan.used), (vec![], 300));
    }

    #[test]
    fn young_segments_stay_even_when_nobody_needs_them() {
        let plan = plan(Wall::from_secs(DAY * 4), &segments(), &[], &limits(30, 10_000), 500);
        assert_eq!(plan.remove, []);
    }

    #[test]
    fn at_max_size_the_slowest_remote_sink_is_overrun_and_its_loss_named() {
        let positions =
            [at(Sink::local("store"), 50), at(Sink::remote("nats"), 5), at(Sink::remote("kafka"), 50)];
        let plan = plan(Wall::from_secs(0), &segments(), &positions, &limits(30, 300), 500);
        assert_eq!(plan.remove, [EventSeq(1), EventSeq(11)]);
        assert_eq!(plan.overruns, [Overrun { sink: "nats".into(), from: EventSeq(6), to: EventSeq(20) }]);
    }

    #[test]
    fn the_local_store_is_never_overrun() {
        let positions = [at(Sink::local("store"), 12), at(Sink::remote("nats"), 0)];
        let plan = plan(Wall::from_secs(0), &segments(), &positions, &limits(30, 0), 500);
        assert_eq!(plan.remove, [EventSeq(1)]);
    }

    #[test]
    fn what_a_snapshot_needs_stays() {
        let limits = Limits { snapshot_floor: Some(EventSeq(15)), ..limits(0, 0) };
        let plan = plan(Wall::from_secs(DAY * 400), &segments(), &[], &limits, 500);
        assert_eq!(plan.remove, [EventSeq(1)]);
    }

    #[test]
    fn pressure_follows_the_reserve() {
        let room = Room { spares: 2, spares_wanted: 2, used: 10, max_size: 100, segment_size: 10 };
        assert_eq!(pressure(&room), Pressure::Normal);
        assert_eq!(pressure(&Room { spares: 1, ..room }), Pressure::Reserve);
        assert_eq!(pressure(&Room { spares: 0, ..room }), Pressure::Full);
        assert_eq!(pressure(&Room { used: 101, ..room }), Pressure::Reserve);
        assert_eq!(pressure(&Room { used: 121, ..room }), Pressure::Full);
    }
}
