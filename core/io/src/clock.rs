//! The one reader of the machine's clocks.
//!
//! Wall time is the start's wall time plus monotonic time. [`Clock::check`], called about once a second, compares that
//! with the machine's wall clock: a small difference is slewed away so that stamps never jump, a large one is a step,
//! which is applied at once and reported so that it becomes an event (`edge.clock_stepped`).

use signalbox_base::{Mono, Now, Wall};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A difference from here on is a step; below it is slewed.
pub const STEP_MIN: Duration = Duration::from_millis(250);

/// At most this much is slewed by one [`Clock::check`].
pub const SLEW_MAX: Duration = Duration::from_millis(5);

/// Both clocks. Clones share the start and follow the machine's clock together.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    wall_start_us: Arc<AtomicI64>,
}

/// The machine's wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// By how much, milliseconds; negative when it was set back.
    pub step_ms: i64,
}

impl Clock {
    /// Starts at monotonic zero and the machine's wall time.
    #[must_use]
    pub fn start() -> Self {
        Self { start: monotonic(), wall_start_us: Arc::new(AtomicI64::new(machine_wall_us())) }
    }

    /// Both times; one clock read.
    #[must_use]
    pub fn now(&self) -> Now {
        let elapsed = monotonic().duration_since(self.start);
        let mono = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let wall = self.wall_start_us.load(Ordering::Relaxed).saturating_add(micros);
        Now { mono: Mono(mono), wall: Wall(wall) }
    }

    /// Compares with the machine's wall clock, follows it, and reports a step. For one thread only.
    pub fn check(&self) -> Option<Step> {
        let ahead_us = machine_wall_us().saturating_sub(self.now().wall.0);
        self.follow(ahead_us)
    }

    /// Follows a machine clock that is `ahead_us` microseconds ahead of ours.
    fn follow(&self, ahead_us: i64) -> Option<Step> {
        let step_min = STEP_MIN.as_micros() as i64;
        let slew_max = SLEW_MAX.as_micros() as i64;
        if ahead_us.abs() >= step_min {
            self.wall_start_us.fetch_add(ahead_us, Ordering::Relaxed);
            return Some(Step { step_ms: ahead_us / 1000 });
        }
        self.wall_start_us.fetch_add(ahead_us.clamp(-slew_max, slew_max), Ordering::Relaxed);
        None
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock is the one reader of monotonic time")]
fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the clock is the one reader of wall time")]
fn machine_wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_small_difference_when_checked_then_it_is_slewed_and_not_reported() {
        let clock = Clock::start();
        let start = || clock.wall_start_us.load(Ordering::Relaxed);
        let before = start();
        assert_eq!(clock.follow(100_000), None);
        assert_eq!(start() - before, SLEW_MAX.as_micros() as i64);
        assert_eq!(clock.follow(-1_000), None);
        assert_eq!(start() - before, SLEW_MAX.as_micros() as i64 - 1_000);
    }

    #[test]
    fn given_a_large_difference_when_checked_then_it_is_a_step_of_that_size() {
        let clock = Clock::start();
        let start = || clock.wall_start_us.load(Ordering::Relaxed);
        let before = start();
        assert_eq!(clock.follow(-3_600_000_000), Some(Step { step_ms: -3_600_000 }));
        assert_eq!(start() - before, -3_600_000_000);
    }

    #[test]
    fn wall_and_monotonic_time_advance_together() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.mono >= first.mono && second.wall >= first.wall);
    }
}
