//! What ends a call though nobody hangs up: its session expires (RFC 4028), it is as long as it may be, or an end is gone.
//!
//! The peers agree on the session timer and refresh the session through the edge, which only watches (RFC 4028 §8). Whether
//! an end is still there is asked by OPTIONS in its dialog (RFC 3261 §11): after a restart, and every `keepalive`.

use super::call::Core;
use super::cdr::{Moment, Outcome, Reason};
use crate::turn::Turn;
use signalbox_base::Mono;
use signalbox_schemas::words::ReleasedBy;
use signalbox_sip::Message;
use signalbox_sip::header::{HeaderName, SessionExpires};
use std::time::Duration;

/// Q.850: recovery on timer expiry.
const TIMER_EXPIRY: u8 = 102;
/// Q.850: destination out of order.
const OUT_OF_ORDER: u8 = 27;

/// A deadline that does not come. Every call has three: an option would take twice the room.
const NEVER: Mono = Mono(u64::MAX);

/// A session interval in seconds; 0 when there is no session timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval(u32);

impl Interval {
    /// The shortest there is (RFC 4028 §4).
    const MIN_SECS: u32 = 90;

    /// What a 2xx to an INVITE or UPDATE says: without Session-Expires there is no timer, and one that ran is off
    /// (RFC 4028 §7.2).
    pub(crate) fn of<B: AsRef<[u8]>>(response: &Message<B>) -> Self {
        let header = response.value(HeaderName::SessionExpires).and_then(|v| SessionExpires::parse(v).ok());
        Self(header.map_or(0, |header| header.seconds.max(Self::MIN_SECS)))
    }

    /// As the fold has it, in seconds.
    pub(crate) fn recalled(secs: u32) -> Self {
        Self(secs)
    }

    /// As events tell it.
    pub(crate) fn millis(self) -> Option<u64> {
        (self.0 > 0).then(|| u64::from(self.0) * 1_000)
    }

    fn ends(self, now: Mono) -> Mono {
        if self.0 > 0 { now.plus(Duration::from_secs(u64::from(self.0))) } else { NEVER }
    }
}

/// Of an answered call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    interval: Interval,
    session_ends: Mono,
    /// The call may not be longer.
    until: Mono,
    /// When the ends are asked.
    ask_at: Mono,
    asked: Option<Asked>,
    /// When both ends were last known to be there.
    known: Moment,
    /// One of them was gone when they were last asked.
    failed: bool,
    /// Nothing is known of them since a restart.
    recalled: bool,
}

/// Both ends were asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// What is known of each end, caller first.
    alive: [Option<bool>; 2],
    /// One of them could not be sent to.
    unsent: bool,
}

/// What came of asking an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It has the dialog.
    Alive,
    /// It has none, or said nothing.
    Gone,
    /// There is no way to it.
    Unsent,
}

/// What is to be done.
pub(crate) enum Due {
    /// Ask both ends.
    Ask,
    /// End the call: BYE to these ends; and its last moment, if that is not now.
    End(Outcome, [bool; 2], Option<Moment>),
}

impl Watch {
    /// From the answer on.
    pub(crate) fn new(core: &Core, turn: &Turn<'_>, interval: Interval) -> Self {
        let now = turn.now.mono;
        let lasted = core.clock.answered.map_or(0, |at| at.millis_to(Moment::seen(turn.now)));
        let left = |longest: Duration| now.plus(longest.saturating_sub(Duration::from_millis(lasted)));
        Self {
            interval,
            session_ends: interval.ends(now),
            until: longest(core, turn).map_or(NEVER, left),
            ask_at: next_ask(turn),
            asked: None,
            known: Moment::seen(turn.now),
            failed: false,
            recalled: false,
        }
    }

    /// After a restart: the ends are asked at `ask_at`; `known` is when the call was last known to be.
    pub(crate) fn recalled(
        core: &Core,
        turn: &Turn<'_>,
        interval: Interval,
        (ask_at, known): (Mono, Moment),
    ) -> Self {
        Self { ask_at, known, recalled: true, ..Self::new(core, turn, interval) }
    }

    /// The session timer.
    pub(crate) fn interval(&self) -> Interval {
        self.interval
    }

    /// A refresh of the session was accepted. `true` when that changed the interval.
    pub(crate) fn refreshed(&mut self, turn: &Turn<'_>, interval: Interval) -> bool {
        self.session_ends = interval.ends(turn.now.mono);
        std::mem::replace(&mut self.interval, interval) != interval
    }

    /// A request of one end was answered by the other.
    pub(crate) fn both_heard(&mut self, turn: &Turn<'_>) {
        if self.recalled {
            return;
        }
        (self.known, self.failed) = (Moment::seen(turn.now), false);
        if self.asked.is_none() {
            self.ask_at = next_ask(turn);
        }
    }

    /// Whether nothing is known of the ends since a restart.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        Some(self.session_ends.min(self.until).min(self.ask_at)).filter(|at| *at != NEVER)
    }

    /// A deadline has come.
    pub(crate) fn on_due(&mut self, turn: &Turn<'_>) -> Option<Due> {
        let now = turn.now.mono;
        if self.session_ends <= now {
            return Some(end(ReleasedBy::Timeout, TIMER_EXPIRY, "session_expired"));
        }
        if self.until <= now {
            return Some(end(ReleasedBy::Edge, TIMER_EXPIRY, "max_duration"));
        }
        if self.ask_at <= now {
            self.ask_at = NEVER;
            self.asked = Some(Asked { alive: [None; 2], unsent: false });
            return Some(Due::Ask);
        }
        None
    }

    /// An end answered, or did not. Once both are known, a call that lost an end is over, and its last moment is the last at
    /// which both were there: after a restart at once, else when it is gone the next time too. A lost connection alone says
    /// little: its phone has the whole time until then to come back.
    pub(crate) fn on_asked(&mut self, turn: &Turn<'_>, end: usize, sign: Sign) -> Option<Due> {
        let asked = self.asked.as_mut()?;
        asked.unsent |= sign == Sign::Unsent;
        asked.alive.get_mut(end)?.get_or_insert(sign == Sign::Alive);
        let [Some(caller), Some(callee)] = asked.alive else { return None };
        let unsent = asked.unsent;
        self.asked = None;
        if caller && callee {
            (self.failed, self.recalled, self.known) = (false, false, Moment::seen(turn.now));
            self.ask_at = next_ask(turn);
            return None;
        }
        if self.recalled {
            let outcome = Outcome::answered(ReleasedBy::Edge, Reason::own("lost in a restart"));
            return Some(Due::End(outcome, [caller, callee], Some(self.known)));
        }
        if !std::mem::replace(&mut self.failed, true) {
            let soon = turn.now.mono.plus(turn.settings.timers.t1.saturating_mul(64));
            self.ask_at = if unsent { next_ask(turn) } else { soon };
            return None;
        }
        let reason = Reason { q850: Some(OUT_OF_ORDER), ..Reason::own("dead_peer") };
        // Who does not answer OPTIONS may hear a BYE.
        Some(Due::End(Outcome::answered(ReleasedBy::Timeout, reason), [true; 2], Some(self.known)))
    }
}

fn next_ask(turn: &Turn<'_>) -> Mono {
    turn.settings.timers.keepalive.map_or(NEVER, |keepalive| turn.now.mono.plus(keepalive))
}

fn end(by: ReleasedBy, q850: u8, word: &str) -> Due {
    let reason = Reason { q850: Some(q850), ..Reason::own(word) };
    Due::End(Outcome::answered(by, reason), [true; 2], None)
}

/// How long a call may be: as its tenant says, else as all.
fn longest(core: &Core, turn: &Turn<'_>) -> Option<Duration> {
    let place = turn.directory.tenant_place(core.tenant.as_str());
    let tenant = place.and_then(|at| turn.settings.tenants.get(usize::from(at)));
    tenant.and_then(|tenant| tenant.limits.call_duration).or(turn.settings.timers.call_max)
}
