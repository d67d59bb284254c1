//! The server transaction of any request but INVITE and ACK (RFC 3261 §17.2.2, RFC 4320).

use super::timing::{Rules, earliest, passed};
use super::{Action, End};
use signalbox_base::Mono;
use std::time::Duration;

/// A request received, up to 64·T1 after its answer.
///
/// ```text
///  Trying ─────────────── 200–699 released ──┐   request again: absorbed
///   │ 1xx released                           │
///   ▼                                        ▼
///  Proceeding ─────────── 200–699 ──► Completed   request again: answer again
///   ▲ │ request again: 1xx again             │ J 64·T1, or 0 when reliable
///   └─┘                                      ▼
///  both: 64·T1 without an answer ─► Terminated (Unanswered), else Terminated (Done)
/// ```
///
/// A response that the gate holds is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Nothing released.
    Trying {
        /// When the client has given up (its timer F), so that no answer may be sent (RFC 4320 §4.2).
        unanswered: Mono,
        /// When the user is asked for 100.
        trying: Option<Mono>,
    },
    /// A provisional response was released.
    Proceeding {
        /// As in `Trying`.
        unanswered: Mono,
    },
    /// A final response was released.
    Completed {
        /// Timer J.
        end: Mono,
    },
    /// Over.
    Terminated(End),
}

impl Server {
    /// A request came. With `trying_after`, [`Action::TryingDue`] follows unless a response is released within it; it
    /// must be [`super::Timing::non_invite_trying`] or more (RFC 4320 §4.1).
    #[must_use]
    pub fn new(trying_after: Option<Duration>, rules: &Rules, now: Mono) -> Self {
        Self::Trying {
            unanswered: now.plus(rules.timing.give_up()),
            trying: trying_after.map(|after| now.plus(after)),
        }
    }

    /// Whether a response may still be sent: anything before a final one.
    #[must_use]
    pub fn may_respond(&self) -> bool {
        matches!(self, Self::Trying { .. } | Self::Proceeding { .. })
    }

    /// A response of `status` is on the wire (RFC 3261 §17.2.2).
    #[must_use]
    pub fn released(self, status: u16, rules: &Rules, now: Mono) -> Self {
        match self {
            Self::Trying { unanswered, .. } | Self::Proceeding { unanswered } => match status {
                ..=199 => Self::Proceeding { unanswered },
                _ => Self::Completed { end: now.plus(rules.linger(rules.timing.give_up())) },
            },
            other => other,
        }
    }

    /// The request came again (RFC 3261 §17.2.2).
    #[must_use]
    pub fn on_repeated_request(&self) -> Action {
        match self {
            Self::Proceeding { .. } | Self::Completed { .. } => Action::Resend,
            _ => Action::None,
        }
    }

    /// A timer fired, or none: then nothing happens.
    #[must_use]
    pub fn on_due(self, now: Mono) -> (Self, Action) {
        match self {
            // RFC 4320 §4.2: later than 64·T1 nothing is sent, not even 408.
            Self::Trying { unanswered, .. } | Self::Proceeding { unanswered } if unanswered <= now => {
                (Self::Terminated(End::Unanswered), Action::None)
            }
            Self::Trying { unanswered, trying } if passed(trying, now) => {
                (Self::Trying { unanswered, trying: None }, Action::TryingDue)
            }
            // Timer J, RFC 3261 §17.2.2.
            Self::Completed { end } if end <= now => (Self::Terminated(End::Done), Action::None),
            other => (other, Action::None),
        }
    }

    /// A response could not be sent (RFC 3261 §17.2.4).
    #[must_use]
    pub fn on_transport_error(self) -> Self {
        match self {
            Self::Terminated(_) => self,
            _ => Self::Terminated(End::Transport),
        }
    }

    /// When to call [`Server::on_due`].
    #[must_use]
    pub fn wake(&self) -> Option<Mono> {
        match self {
            Self::Trying { unanswered, trying } => earliest(Some(*unanswered), *trying),
            Self::Proceeding { unanswered: at } | Self::Completed { end: at } => Some(*at),
            Self::Terminated(_) => None,
        }
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        if let Self::Terminated(end) = self { Some(*end) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transaction::Timing;

    const UDP: Rules = Rules { timing: Timing::RFC, reliable: false };
    const TCP: Rules = Rules { timing: Timing::RFC, reliable: true };

    fn ms(at: u64) -> Mono {
        Mono(at * 1_000_000)
    }

    fn fresh() -> Server {
        Server::new(None, &UDP, ms(0))
    }

    #[test]
    fn a_repeated_request_is_absorbed_until_something_was_released_rfc3261_17_2_2() {
        assert_eq!(fresh().on_repeated_request(), Action::None);
        assert_eq!(fresh().released(100, &UDP, ms(3_500)).on_repeated_request(), Action::Resend);
        assert_eq!(fresh().released(200, &UDP, ms(10)).on_repeated_request(), Action::Resend);
    }

    #[test]
    fn timer_j_keeps_the_answer_for_64_t1_or_not_at_all_rfc3261_17_2_2() {
        let done = fresh().released(200, &UDP, ms(10));
        assert_eq!(done.wake(), Some(ms(32_010)));
        assert_eq!(done.on_due(ms(32_009)), (done, Action::None));
        assert_eq!(done.on_due(ms(32_010)).0.end(), Some(End::Done));
        let done = fresh().released(200, &TCP, ms(10));
        assert_eq!(done.wake(), Some(ms(10)));
        assert_eq!(done.on_due(ms(10)).0.end(), Some(End::Done));
    }

    #[test]
    fn nothing_is_sent_after_64_t1_without_an_answer_rfc4320_4_2() {
        for machine in [fresh(), fresh().released(100, &UDP, ms(3_500))] {
            assert!(machine.may_respond());
            let (machine, action) = machine.on_due(ms(32_000));
            assert_eq!((machine.end(), action), (Some(End::Unanswered), Action::None));
            assert!(!machine.may_respond());
        }
    }

    #[test]
    fn one_hundred_trying_waits_for_the_clients_timer_e_to_reach_t2_rfc4320_4_1() {
        let after = Timing::RFC.non_invite_trying();
        assert_eq!(after, Duration::from_millis(3_500));
        let machine = Server::new(Some(after), &UDP, ms(0));
        let (machine, action) = machine.on_due(ms(3_500));
        assert_eq!(action, Action::TryingDue);
        assert_eq!(machine.wake(), Some(ms(32_000)), "asked once");
    }

    #[test]
    fn a_second_final_changes_nothing_rfc3261_17_2_2() {
        let done = fresh().released(200, &UDP, ms(10));
        assert!(!done.may_respond());
        assert_eq!(done.released(500, &UDP, ms(20)), done);
    }

    #[test]
    fn a_transport_error_ends_it_rfc3261_17_2_4() {
        assert_eq!(fresh().on_transport_error().end(), Some(End::Transport));
        let done = fresh().released(200, &UDP, ms(10));
        assert_eq!(done.on_transport_error().end(), Some(End::Transport));
    }
}
