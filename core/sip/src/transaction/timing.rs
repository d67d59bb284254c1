//! Timer values (RFC 3261 table 4).

use signalbox_base::Mono;
use std::time::Duration;

/// A server INVITE transaction answers 100 within this time unless its user answers first (RFC 3261 §17.2.1).
pub const TRYING_WITHIN: Duration = Duration::from_millis(200);

/// The three base values and timer C. Everything else follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round-trip estimate: first retransmission, and 1/64 of every time-out.
    pub t1: Duration,
    /// Longest interval between retransmissions of non-INVITE requests and of INVITE responses.
    pub t2: Duration,
    /// How long a message stays in the network.
    pub t4: Duration,
    /// How long an INVITE may ring without a provisional response; more than 3 minutes for a proxy
    /// (RFC 3261 §16.6 step 11). `None`: for ever.
    pub timer_c: Option<Duration>,
}

impl Timing {
    /// The RFC's defaults: 500 ms, 4 s, 5 s, and timer C at 3 minutes and 1 second.
    pub const RFC: Self = Self {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        timer_c: Some(Duration::from_secs(181)),
    };

    /// 64·T1: timers B, F, H, J, L and M.
    #[must_use]
    pub const fn give_up(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// Timer D over an unreliable transport: at least 32 s (RFC 3261 §17.1.1.2).
    #[must_use]
    pub fn timer_d(&self) -> Duration {
        self.give_up().max(Duration::from_secs(32))
    }

    /// When a non-INVITE server transaction over UDP may first send 100 Trying: once the client's timer E has reached T2,
    /// which is 3.5 s after the request by default (RFC 4320 §4.1).
    #[must_use]
    pub fn non_invite_trying(&self) -> Duration {
        let (mut interval, mut after) = (self.t1, Duration::ZERO);
        while interval < self.t2 && !interval.is_zero() {
            after += interval;
            interval *= 2;
        }
        after
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::RFC
    }
}

/// What a machine must know of its surroundings at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Timer values.
    pub timing: Timing,
    /// Whether the transport delivers or fails (RFC 3261 §17), so that nothing is repeated.
    pub reliable: bool,
}

impl Rules {
    /// `base` over an unreliable transport, zero over a reliable one: timers D, I, J and K.
    #[must_use]
    pub(super) fn linger(&self, base: Duration) -> Duration {
        if self.reliable { Duration::ZERO } else { base }
    }

    /// The first repetition, over an unreliable transport only: timers A, E and G start at T1.
    pub(super) fn first_repeat(&self, now: Mono) -> Option<Repeat> {
        (!self.reliable).then(|| Repeat::start(now, self.timing.t1))
    }
}

/// The next repetition of a message and the interval that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    pub(super) at: Mono,
    interval: Duration,
}

impl Repeat {
    pub(super) fn start(now: Mono, interval: Duration) -> Self {
        Self { at: now.plus(interval), interval }
    }

    /// After it fired: twice the interval, at most `cap`, counted from now so that a stalled process sends no burst.
    pub(super) fn doubled(self, now: Mono, cap: Duration) -> Self {
        Self::start(now, self.interval.saturating_mul(2).min(cap))
    }
}

/// The earlier of two moments that may not be.
pub(super) fn earliest(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a moment has come.
pub(super) fn passed(at: Option<Mono>, now: Mono) -> bool {
    at.is_some_and(|at| at <= now)
}
