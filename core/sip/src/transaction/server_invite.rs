//! The server transaction of an INVITE (RFC 3261 §17.2.1, RFC 6026 §7.1).

use super::timing::{Repeat, Rules, earliest, passed};
use super::{Action, End};
use signalbox_base::Mono;
use std::time::Duration;

/// An INVITE received, up to the end of its answer's repetitions.
///
/// ```text
///  Proceeding ──────────────────────── 2xx released ──┐
///   │ ▲ │ INVITE: last released 1xx again             │
///   │ └─┘ nothing answered in time ► TU sends 100     │
///   │ 300–699 released                                ▼
///   ▼                                             Accepted   INVITE: absorbed; ACK ► TU
///  Completed   INVITE: answer again                │ ▲ │ if asked: 2xx again, T1 doubling to T2,
///   │ ▲ │ G: answer again, T1 doubling to T2       │ └─┘         until the TU has its ACK
///   │ └─┘ (unreliable only)                        │ L 64·T1
///   │ ACK            H 64·T1 ─► Terminated (NoAck) ▼
///   ▼                                             Terminated (Done; NoAck if still repeating)
///  Confirmed   absorbs ACK and INVITE
///   │ I T4, or 0 when reliable ─► Terminated (Done)
/// ```
///
/// A response that the gate holds is not known here; a transport error is told to the user and changes nothing
/// (RFC 6026 §7.1), since the client repeats or a timer ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerInvite {
    /// No final response released.
    Proceeding {
        /// Whether a provisional response was released.
        answered: bool,
        /// When the user must have answered, else it is asked to send 100.
        trying: Option<Mono>,
    },
    /// A 300–699 was released.
    Completed {
        /// Timer G.
        repeat: Option<Repeat>,
        /// Timer H.
        timeout: Mono,
    },
    /// It was acknowledged.
    Confirmed {
        /// Timer I.
        end: Mono,
    },
    /// A 2xx was released.
    Accepted {
        /// The repetition of the 2xx (RFC 3261 §13.3.1.4), while it lacks its ACK and is ours to repeat.
        repeat: Option<Repeat>,
        /// Timer L.
        end: Mono,
    },
    /// Over.
    Terminated(End),
}

impl ServerInvite {
    /// An INVITE came. With `trying_after`, [`Action::TryingDue`] follows unless a response is released within it
    /// ([`super::TRYING_WITHIN`]).
    #[must_use]
    pub fn new(trying_after: Option<Duration>, now: Mono) -> Self {
        Self::Proceeding { answered: false, trying: trying_after.map(|after| now.plus(after)) }
    }

    /// Whether a response of `status` may still be sent: anything before a final one, 2xx after a 2xx (RFC 6026 §7.1).
    #[must_use]
    pub fn may_respond(&self, status: u16) -> bool {
        match self {
            Self::Proceeding { .. } => true,
            Self::Accepted { .. } => matches!(status, 200..=299),
            _ => false,
        }
    }

    /// A response of `status` is on the wire. With `repeat_2xx`, the transaction repeats a 2xx for its user until
    /// [`ServerInvite::acked`], over every transport (RFC 3261 §13.3.1.4).
    #[must_use]
    pub fn released(self, status: u16, repeat_2xx: bool, rules: &Rules, now: Mono) -> Self {
        let give_up = now.plus(rules.timing.give_up());
        match self {
            Self::Proceeding { .. } => match status {
                ..=199 => Self::Proceeding { answered: true, trying: None },
                // RFC 6026 §7.1: timer L.
                200..=299 => Self::Accepted {
                    repeat: repeat_2xx.then(|| Repeat::start(now, rules.timing.t1)),
                    end: give_up,
                },
                // RFC 3261 §17.2.1: timers G and H.
                _ => Self::Completed { repeat: rules.first_repeat(now), timeout: give_up },
            },
            other => other,
        }
    }

    /// The INVITE came again (RFC 3261 §17.2.1; absorbed in Accepted, RFC 6026 §7.1).
    #[must_use]
    pub fn on_repeated_request(&self) -> Action {
        match self {
            Self::Proceeding { answered: true, .. } | Self::Completed { .. } => Action::Resend,
            _ => Action::None,
        }
    }

    /// An ACK matched this transaction (RFC 3261 §17.2.1, RFC 6026 §7.1).
    #[must_use]
    pub fn on_ack(self, rules: &Rules, now: Mono) -> (Self, Action) {
        match self {
            Self::Completed { .. } => {
                (Self::Confirmed { end: now.plus(rules.linger(rules.timing.t4)) }, Action::None)
            }
            Self::Accepted { .. } => (self, Action::Deliver),
            other => (other, Action::None),
        }
    }

    /// The user has the ACK of its 2xx: repetition ends.
    #[must_use]
    pub fn acked(self) -> Self {
        match self {
            Self::Accepted { end, .. } => Self::Accepted { repeat: None, end },
            other => other,
        }
    }

    /// A timer fired, or none: then nothing happens.
    #[must_use]
    pub fn on_due(self, rules: &Rules, now: Mono) -> (Self, Action) {
        let t2 = rules.timing.t2;
        match self {
            Self::Proceeding { answered, trying } if passed(trying, now) => {
                (Self::Proceeding { answered, trying: None }, Action::TryingDue)
            }
            // Timer H, RFC 3261 §17.2.1.
            Self::Completed { timeout, .. } if timeout <= now => (Self::Terminated(End::NoAck), Action::None),
            // Timer G: MIN(2·G, T2), RFC 3261 §17.2.1.
            Self::Completed { repeat: Some(repeat), timeout } if repeat.at <= now => {
                (Self::Completed { repeat: Some(repeat.doubled(now, t2)), timeout }, Action::Resend)
            }
            // Timer I, RFC 3261 §17.2.1.
            Self::Confirmed { end } if end <= now => (Self::Terminated(End::Done), Action::None),
            // Timer L, RFC 6026 §7.1; an answer never acknowledged ends the call, RFC 3261 §13.3.1.4.
            Self::Accepted { repeat, end } if end <= now => {
                (Self::Terminated(if repeat.is_some() { End::NoAck } else { End::Done }), Action::None)
            }
            Self::Accepted { repeat: Some(repeat), end } if repeat.at <= now => {
                (Self::Accepted { repeat: Some(repeat.doubled(now, t2)), end }, Action::Resend)
            }
            other => (other, Action::None),
        }
    }

    /// When to call [`ServerInvite::on_due`].
    #[must_use]
    pub fn wake(&self) -> Option<Mono> {
        match self {
            Self::Proceeding { trying, .. } => *trying,
            Self::Completed { repeat, timeout: end } | Self::Accepted { repeat, end } => {
                earliest(repeat.map(|r| r.at), Some(*end))
            }
            Self::Confirmed { end } => Some(*end),
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
    use crate::transaction::{TRYING_WITHIN, Timing};

    const UDP: Rules = Rules { timing: Timing::RFC, reliable: false };
    const TCP: Rules = Rules { timing: Timing::RFC, reliable: true };
    const REPEATS: [u64; 10] = [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];

    fn ms(at: u64) -> Mono {
        Mono(at * 1_000_000)
    }

    fn answered(status: u16, repeat: bool, rules: &Rules) -> ServerInvite {
        ServerInvite::new(None, ms(0)).released(status, repeat, rules, ms(0))
    }

    fn run(mut machine: ServerInvite, rules: &Rules) -> (Vec<u64>, u64, Option<End>) {
        let (mut resent, mut last) = (Vec::new(), 0);
        while let Some(at) = machine.wake() {
            let (next, action) = machine.on_due(rules, at);
            last = at.0 / 1_000_000;
            if action == Action::Resend {
                resent.push(last);
            }
            machine = next;
        }
        (resent, last, machine.end())
    }

    #[test]
    fn timer_g_doubles_up_to_t2_and_timer_h_fires_after_64_t1_rfc3261_17_2_1() {
        assert_eq!(run(answered(486, false, &UDP), &UDP), (REPEATS.to_vec(), 32_000, Some(End::NoAck)));
    }

    #[test]
    fn a_reliable_transport_sends_once_but_timer_h_runs_rfc3261_17_2_1() {
        assert_eq!(run(answered(486, false, &TCP), &TCP), (vec![], 32_000, Some(End::NoAck)));
    }

    #[test]
    fn an_ack_stops_repetition_and_timer_i_absorbs_for_t4_rfc3261_17_2_1() {
        let (machine, action) = answered(486, false, &UDP).on_ack(&UDP, ms(700));
        assert_eq!(action, Action::None);
        assert_eq!(machine.on_ack(&UDP, ms(900)), (machine, Action::None));
        assert_eq!(machine.on_repeated_request(), Action::None);
        assert_eq!(run(machine, &UDP), (vec![], 5_700, Some(End::Done)));
        let (machine, _) = answered(486, false, &TCP).on_ack(&TCP, ms(700));
        assert_eq!(run(machine, &TCP), (vec![], 700, Some(End::Done)));
    }

    #[test]
    fn a_repeated_invite_gets_the_last_response_rfc3261_17_2_1() {
        let fresh = ServerInvite::new(None, ms(0));
        assert_eq!(fresh.on_repeated_request(), Action::None, "nothing was released yet");
        assert_eq!(fresh.released(180, false, &UDP, ms(1)).on_repeated_request(), Action::Resend);
        assert_eq!(answered(486, false, &UDP).on_repeated_request(), Action::Resend);
    }

    #[test]
    fn accepted_absorbs_the_invite_and_passes_the_ack_until_timer_l_rfc6026_7_1() {
        let machine = answered(200, false, &UDP);
        assert_eq!(machine.on_repeated_request(), Action::None);
        assert_eq!(machine.on_ack(&UDP, ms(10)), (machine, Action::Deliver));
        assert!(machine.may_respond(200) && !machine.may_respond(486));
        assert_eq!(run(machine, &UDP), (vec![], 32_000, Some(End::Done)));
    }

    #[test]
    fn an_unacknowledged_2xx_is_repeated_over_any_transport_rfc3261_13_3_1_4() {
        for rules in [UDP, TCP] {
            let machine = answered(200, true, &rules);
            assert_eq!(run(machine, &rules), (REPEATS.to_vec(), 32_000, Some(End::NoAck)));
            assert_eq!(run(machine.acked(), &rules), (vec![], 32_000, Some(End::Done)));
        }
    }

    #[test]
    fn a_user_silent_for_200_ms_is_asked_for_100_once_rfc3261_17_2_1() {
        let machine = ServerInvite::new(Some(TRYING_WITHIN), ms(0));
        assert_eq!(machine.wake(), Some(ms(200)));
        let (machine, action) = machine.on_due(&UDP, ms(200));
        assert_eq!((action, machine.wake()), (Action::TryingDue, None));
        let quick = ServerInvite::new(Some(TRYING_WITHIN), ms(0)).released(180, false, &UDP, ms(50));
        assert_eq!(quick.wake(), None);
    }

    #[test]
    fn nothing_follows_a_final_failure_rfc3261_17_2_1() {
        let machine = answered(486, false, &UDP);
        assert!(!machine.may_respond(200) && !machine.may_respond(180));
        assert_eq!(machine.released(200, true, &UDP, ms(5)), machine);
    }
}
