//! A call's timer: one entry in the wheel, at the earliest of its deadlines.

use signalbox_base::{CallUid, Flow, Mono};
use signalbox_sip::transaction::Timing;

use super::raw::Raw;

/// The timer of a call; what is due is the call's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallTimer(pub CallUid);

/// The earlier of two moments that may not be.
pub(crate) fn earliest(a: Option<Mono>, b: Option<Mono>) -> Option<Mono> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a moment has come.
pub(crate) fn passed(at: Option<Mono>, now: Mono) -> bool {
    at.is_some_and(|at| at <= now)
}

/// A final response said again after a restart, when its transaction is gone: T1 doubling to T2 for 64·T1, until its ACK
/// (RFC 3261 §13.3.1.4 and §17.2.1).
#[derive(Clone, Debug)]
pub(crate) struct Resend {
    pub(crate) bytes: Raw,
    pub(crate) flow: Flow,
    next: Mono,
    interval: std::time::Duration,
    until: Mono,
}

impl Resend {
    /// Said now; the first repetition follows in T1.
    pub(crate) fn new(bytes: Raw, flow: Flow, timing: &Timing, now: Mono) -> Self {
        Self {
            bytes,
            flow,
            next: now.plus(timing.t1),
            interval: timing.t1,
            until: now.plus(timing.give_up()),
        }
    }

    /// It was said first so long ago: its time is over that much sooner.
    pub(crate) fn aged(mut self, age: std::time::Duration) -> Self {
        self.until = Mono(self.until.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)));
        self
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Mono {
        self.next.min(self.until)
    }

    /// Works off a deadline.
    pub(crate) fn on_due(mut self, timing: &Timing, now: Mono) -> Said {
        if now >= self.until {
            return Said::Unheard;
        }
        if now < self.next {
            return Said::Later(self);
        }
        self.interval = self.interval.saturating_mul(2).min(timing.t2);
        self.next = now.plus(self.interval);
        Said::Again(self)
    }
}

/// What a [`Resend`] wants.
#[derive(Debug)]
pub(crate) enum Said {
    /// Nothing yet.
    Later(Resend),
    /// Send it again.
    Again(Resend),
    /// Nobody acknowledged it.
    Unheard,
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::ListenerId;

    #[test]
    fn given_no_ack_when_said_again_then_the_interval_doubles_up_to_t2_and_ends_after_64_t1() {
        let addr = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow::udp(ListenerId(0), addr, addr);
        let mut times = Vec::new();
        let mut resend = Resend::new(Raw::from("x"), flow, &Timing::RFC, Mono(0));
        let end = loop {
            let now = resend.due();
            match resend.on_due(&Timing::RFC, now) {
                Said::Later(next) => resend = next,
                Said::Again(next) => {
                    times.push(now.0 / 1_000_000);
                    resend = next;
                }
                Said::Unheard => break now.0 / 1_000_000,
            }
        };
        assert_eq!(times, [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]);
        assert_eq!(end, 32_000);
    }
}
