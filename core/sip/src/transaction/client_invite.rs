//! The client transaction of an INVITE (RFC 3261 §17.1.1, RFC 6026 §7.2).

use super::timing::{Repeat, Rules, earliest, passed};
use super::{Action, End};
use signalbox_base::Mono;
use std::time::Duration;

/// An INVITE sent, up to 64·T1 after its answer.
///
/// ```text
///   [Held]  waits for its record; no timer runs
///     │ released: timer B 64·T1, timer C, and A T1 when unreliable
///     ▼
///  Calling ──────────────── 2xx ───────────────┐
///   │ ▲ │ A: INVITE again, A doubles           │
///   │ └─┘                                      │
///   │ 1xx ► TU             B, transport error ─┼─► Terminated (Timeout, Transport)
///   ▼                                          │
///  Proceeding ───────────── 2xx ───────────────┤
///   │ ▲ │ 1xx ► TU; 101–199 restarts C         │
///   │ └─┘ C ► TU, who cancels;                 │
///   │     64·T1 after CANCEL ► Terminated      ▼
///   │ 300–699 ► TU, ACK                    Accepted   2xx ► TU
///   ▼ (from Calling too)                       │ M 64·T1
///  Completed   300–699: ACK again              ▼
///   │ D 32 s, or 0 when reliable ────────► Terminated (Done)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientInvite {
    /// Not sent yet.
    Held,
    /// Sent, nothing heard.
    Calling {
        /// Timer A.
        repeat: Option<Repeat>,
        /// Timer B.
        timeout: Mono,
        /// Timer C, which runs from the sending on.
        timer_c: Option<Mono>,
    },
    /// A provisional response came.
    Proceeding {
        /// Timer C.
        timer_c: Option<Mono>,
        /// 64·T1 after CANCEL (RFC 3261 §9.1).
        give_up: Option<Mono>,
    },
    /// A 300–699 came.
    Completed {
        /// Timer D.
        end: Mono,
    },
    /// A 2xx came.
    Accepted {
        /// Timer M.
        end: Mono,
    },
    /// Over.
    Terminated(End),
}

impl ClientInvite {
    /// The INVITE is on the wire (RFC 3261 §17.1.1.2). Without effect when it already was.
    #[must_use]
    pub fn released(self, rules: &Rules, now: Mono) -> Self {
        match self {
            Self::Held => Self::Calling {
                repeat: rules.first_repeat(now),
                timeout: now.plus(rules.timing.give_up()),
                timer_c: rules.timing.timer_c.map(|c| now.plus(c)),
            },
            other => other,
        }
    }

    /// A response of `status` 100–699. One to a held INVITE proves that the gate has sent it, and releases it.
    #[must_use]
    pub fn on_response(self, status: u16, rules: &Rules, now: Mono) -> (Self, Action) {
        match self.released(rules, now) {
            // RFC 3261 §17.1.1.2: the first provisional response stops timers A and B.
            Self::Calling { timer_c, .. } => Self::answered(status, timer_c, None, rules, now),
            Self::Proceeding { timer_c, give_up } => Self::answered(status, timer_c, give_up, rules, now),
            // RFC 3261 §17.1.1.2: the ACK is repeated, the TU hears nothing.
            done @ Self::Completed { .. } => match status {
                300.. => (done, Action::ResendAck),
                200..=299 => (done, Action::DeliverLate),
                _ => (done, Action::None),
            },
            // RFC 6026 §7.2: every 2xx is passed up; anything else is dropped.
            done @ Self::Accepted { .. } if matches!(status, 200..=299) => (done, Action::Deliver),
            other => (other, Action::None),
        }
    }

    fn answered(
        status: u16,
        timer_c: Option<Mono>,
        give_up: Option<Mono>,
        rules: &Rules,
        now: Mono,
    ) -> (Self, Action) {
        match status {
            // RFC 3261 §16.7 step 2: 100 does not refresh timer C.
            ..=100 => (Self::Proceeding { timer_c, give_up }, Action::Deliver),
            101..=199 => {
                let timer_c = timer_c.and(rules.timing.timer_c).map(|c| now.plus(c));
                (Self::Proceeding { timer_c, give_up }, Action::Deliver)
            }
            200..=299 => (Self::Accepted { end: now.plus(rules.timing.give_up()) }, Action::Deliver),
            _ => {
                let end = now.plus(rules.linger(rules.timing.timer_d()));
                (Self::Completed { end }, Action::DeliverAndAck)
            }
        }
    }

    /// The user's CANCEL is on the wire: unless a final response comes within 64·T1, the transaction times out
    /// (RFC 3261 §9.1). CANCEL may only follow a provisional response: see [`ClientInvite::may_cancel`].
    #[must_use]
    pub fn cancelled(self, rules: &Rules, now: Mono) -> Self {
        match self {
            Self::Proceeding { give_up: None, .. } => {
                Self::Proceeding { timer_c: None, give_up: Some(now.plus(rules.timing.give_up())) }
            }
            other => other,
        }
    }

    /// Whether a CANCEL may be sent now (RFC 3261 §9.1).
    #[must_use]
    pub fn may_cancel(&self) -> bool {
        matches!(self, Self::Proceeding { give_up: None, .. })
    }

    /// A timer fired, or none: then nothing happens.
    #[must_use]
    pub fn on_due(self, now: Mono) -> (Self, Action) {
        match self {
            // Timer B, RFC 3261 §17.1.1.2.
            Self::Calling { timeout, .. } if timeout <= now => (Self::Terminated(End::Timeout), Action::None),
            // Timer A doubles without a cap, RFC 3261 §17.1.1.2.
            Self::Calling { repeat: Some(repeat), timeout, timer_c } if repeat.at <= now => {
                let repeat = Some(repeat.doubled(now, Duration::MAX));
                (Self::Calling { repeat, timeout, timer_c }, Action::Resend)
            }
            Self::Proceeding { give_up, .. } if passed(give_up, now) => {
                (Self::Terminated(End::Timeout), Action::None)
            }
            // Timer C, RFC 3261 §16.8: the user sends CANCEL; it fires once.
            Self::Proceeding { timer_c, give_up } if passed(timer_c, now) => {
                (Self::Proceeding { timer_c: None, give_up }, Action::TimerC)
            }
            // Timer D (RFC 3261 §17.1.1.2) and timer M (RFC 6026 §7.2).
            Self::Completed { end } | Self::Accepted { end } if end <= now => {
                (Self::Terminated(End::Done), Action::None)
            }
            other => (other, Action::None),
        }
    }

    /// The request or its ACK could not be sent (RFC 3261 §17.1.4; RFC 6026 §7.2 keeps Accepted).
    #[must_use]
    pub fn on_transport_error(self) -> Self {
        match self {
            Self::Held | Self::Calling { .. } | Self::Completed { .. } => Self::Terminated(End::Transport),
            other => other,
        }
    }

    /// When to call [`ClientInvite::on_due`].
    #[must_use]
    pub fn wake(&self) -> Option<Mono> {
        match self {
            Self::Calling { repeat, timeout, .. } => earliest(repeat.map(|r| r.at), Some(*timeout)),
            Self::Proceeding { timer_c, give_up } => earliest(*timer_c, *give_up),
            Self::Completed { end } | Self::Accepted { end } => Some(*end),
            Self::Held | Self::Terminated(_) => None,
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

    fn calling(rules: &Rules) -> ClientInvite {
        ClientInvite::Held.released(rules, ms(0))
    }

    /// Runs to the end and says when, in ms, what was done, and how it ended.
    fn run(mut machine: ClientInvite) -> (Vec<(u64, Action)>, u64, Option<End>) {
        let (mut log, mut last) = (Vec::new(), 0);
        while let Some(at) = machine.wake() {
            let (next, action) = machine.on_due(at);
            last = at.0 / 1_000_000;
            if action != Action::None {
                log.push((last, action));
            }
            machine = next;
        }
        (log, last, machine.end())
    }

    #[test]
    fn timer_a_doubles_and_timer_b_fires_after_64_t1_rfc3261_17_1_1_2() {
        let (log, last, end) = run(calling(&UDP));
        let times: Vec<_> = log.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [500, 1_500, 3_500, 7_500, 15_500, 31_500]);
        assert!(log.iter().all(|(_, action)| *action == Action::Resend));
        assert_eq!((last, end), (32_000, Some(End::Timeout)));
    }

    #[test]
    fn a_reliable_transport_sends_once_rfc3261_17_1_1_2() {
        assert_eq!(run(calling(&TCP)), (vec![], 32_000, Some(End::Timeout)));
    }

    #[test]
    fn a_held_invite_runs_no_timer_and_a_response_to_it_proves_its_release() {
        assert_eq!(ClientInvite::Held.wake(), None);
        let (machine, action) = ClientInvite::Held.on_response(100, &UDP, ms(7));
        assert_eq!(action, Action::Deliver);
        assert_eq!(machine.wake(), Some(ms(181_007)), "timer C runs, A and B are over");
        assert_eq!(machine.released(&UDP, ms(9)), machine, "the release that comes later changes nothing");
    }

    #[test]
    fn a_provisional_stops_timers_a_and_b_rfc3261_17_1_1_2() {
        let (machine, action) = calling(&UDP).on_response(100, &UDP, ms(100));
        assert_eq!(action, Action::Deliver);
        assert_eq!(machine.on_due(ms(32_000)), (machine, Action::None));
    }

    #[test]
    fn timer_c_is_refreshed_by_18x_but_not_by_100_rfc3261_16_7_2() {
        let (machine, _) = calling(&UDP).on_response(100, &UDP, ms(1_000));
        assert_eq!(machine.wake(), Some(ms(181_000)));
        let (machine, _) = machine.on_response(180, &UDP, ms(60_000));
        assert_eq!(machine.wake(), Some(ms(241_000)));
        let (machine, action) = machine.on_due(ms(241_000));
        assert_eq!((action, machine.wake()), (Action::TimerC, None));
    }

    #[test]
    fn a_cancelled_invite_without_a_final_response_ends_after_64_t1_rfc3261_9_1() {
        assert!(!calling(&UDP).may_cancel());
        let (ringing, _) = calling(&UDP).on_response(180, &UDP, ms(1_000));
        assert!(ringing.may_cancel());
        let cancelled = ringing.cancelled(&UDP, ms(5_000));
        assert!(!cancelled.may_cancel());
        assert_eq!(run(cancelled), (vec![], 37_000, Some(End::Timeout)));
        let (machine, action) = cancelled.on_response(487, &UDP, ms(5_100));
        assert_eq!(action, Action::DeliverAndAck);
        assert_eq!(run(machine).2, Some(End::Done));
    }

    #[test]
    fn the_ack_is_sent_again_for_each_repeated_final_until_timer_d_rfc3261_17_1_1_2() {
        let (machine, action) = calling(&UDP).on_response(486, &UDP, ms(200));
        assert_eq!(action, Action::DeliverAndAck);
        for at in [700, 1_700, 3_700] {
            assert_eq!(machine.on_response(486, &UDP, ms(at)), (machine, Action::ResendAck));
        }
        assert_eq!(machine.on_response(180, &UDP, ms(4_000)), (machine, Action::None));
        assert_eq!(run(machine), (vec![], 32_200, Some(End::Done)));
    }

    #[test]
    fn timer_d_is_zero_when_reliable_rfc3261_17_1_1_2() {
        let (machine, _) = calling(&TCP).on_response(404, &TCP, ms(200));
        assert_eq!(run(machine), (vec![], 200, Some(End::Done)));
    }

    #[test]
    fn repeated_2xx_reach_the_user_until_timer_m_rfc6026_7_2() {
        for rules in [UDP, TCP] {
            let (machine, action) = calling(&rules).on_response(200, &rules, ms(1_000));
            assert_eq!(action, Action::Deliver);
            assert_eq!(machine.on_response(200, &rules, ms(1_500)), (machine, Action::Deliver));
            assert_eq!(machine.on_response(486, &rules, ms(1_600)), (machine, Action::None));
            assert_eq!(machine.on_transport_error(), machine);
            assert_eq!(run(machine), (vec![], 33_000, Some(End::Done)));
        }
    }

    #[test]
    fn a_2xx_after_a_failure_is_not_lost_rfc3261_16_7_5() {
        let (machine, _) = calling(&UDP).on_response(486, &UDP, ms(1));
        assert_eq!(machine.on_response(200, &UDP, ms(2)), (machine, Action::DeliverLate));
    }

    #[test]
    fn a_transport_error_ends_calling_and_completed_rfc3261_17_1_4() {
        assert_eq!(calling(&UDP).on_transport_error().end(), Some(End::Transport));
        let (ringing, _) = calling(&UDP).on_response(180, &UDP, ms(1));
        assert_eq!(ringing.on_transport_error().end(), None, "the answer may still come");
        let (failed, _) = ringing.on_response(486, &UDP, ms(2));
        assert_eq!(failed.on_transport_error().end(), Some(End::Transport));
    }
}
