//! The client transaction of any request but INVITE and ACK (RFC 3261 §17.1.2).

use super::timing::{Repeat, Rules, earliest};
use super::{Action, End};
use signalbox_base::Mono;

/// A request sent, up to T4 after its answer.
///
/// ```text
///   [Held]  waits for its record; no timer runs
///     │ released: timer F 64·T1, and E T1 when unreliable
///     ▼
///  Trying ───────── 200–699 ► TU ──────────┐
///   │ ▲ │ E: again, E doubles up to T2     │
///   │ └─┘       F, transport error ────────┼─► Terminated (Timeout, Transport)
///   │ 1xx ► TU                             │
///   ▼                                      ▼
///  Proceeding ───── 200–699 ► TU ─────► Completed  (absorbs)
///     ▲ │ 1xx ► TU                         │ K T4, or 0 when reliable
///     └─┘ E: again, then every T2          ▼
///         F ─► Terminated (Timeout)    Terminated (Done)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Not sent yet.
    Held,
    /// Sent, nothing heard.
    Trying {
        /// Timer E.
        repeat: Option<Repeat>,
        /// Timer F.
        timeout: Mono,
    },
    /// A provisional response came.
    Proceeding {
        /// Timer E.
        repeat: Option<Repeat>,
        /// Timer F.
        timeout: Mono,
    },
    /// A final response came.
    Completed {
        /// Timer K.
        end: Mono,
    },
    /// Over.
    Terminated(End),
}

impl Client {
    /// The request is on the wire (RFC 3261 §17.1.2.2). Without effect when it already was.
    #[must_use]
    pub fn released(self, rules: &Rules, now: Mono) -> Self {
        match self {
            Self::Held => {
                Self::Trying { repeat: rules.first_repeat(now), timeout: now.plus(rules.timing.give_up()) }
            }
            other => other,
        }
    }

    /// A response of `status` 100–699. One to a held request proves that the gate has sent it, and releases it.
    #[must_use]
    pub fn on_response(self, status: u16, rules: &Rules, now: Mono) -> (Self, Action) {
        match self.released(rules, now) {
            // RFC 3261 §17.1.2.2: a provisional response stops nothing; timer F still bounds the whole.
            Self::Trying { repeat, timeout } | Self::Proceeding { repeat, timeout } if status < 200 => {
                (Self::Proceeding { repeat, timeout }, Action::Deliver)
            }
            // RFC 3261 §17.1.2.2: timer K buffers retransmissions of the final response.
            Self::Trying { .. } | Self::Proceeding { .. } => {
                (Self::Completed { end: now.plus(rules.linger(rules.timing.t4)) }, Action::Deliver)
            }
            other => (other, Action::None),
        }
    }

    /// A timer fired, or none: then nothing happens.
    #[must_use]
    pub fn on_due(self, rules: &Rules, now: Mono) -> (Self, Action) {
        let t2 = rules.timing.t2;
        match self {
            // Timer F, RFC 3261 §17.1.2.2.
            Self::Trying { timeout, .. } | Self::Proceeding { timeout, .. } if timeout <= now => {
                (Self::Terminated(End::Timeout), Action::None)
            }
            // Timer E: MIN(2·E, T2) in Trying, T2 in Proceeding, RFC 3261 §17.1.2.2.
            Self::Trying { repeat: Some(repeat), timeout } if repeat.at <= now => {
                (Self::Trying { repeat: Some(repeat.doubled(now, t2)), timeout }, Action::Resend)
            }
            Self::Proceeding { repeat: Some(repeat), timeout } if repeat.at <= now => {
                (Self::Proceeding { repeat: Some(Repeat::start(now, t2)), timeout }, Action::Resend)
            }
            // Timer K, RFC 3261 §17.1.2.2.
            Self::Completed { end } if end <= now => (Self::Terminated(End::Done), Action::None),
            other => (other, Action::None),
        }
    }

    /// The request could not be sent (RFC 3261 §17.1.4).
    #[must_use]
    pub fn on_transport_error(self) -> Self {
        match self {
            Self::Completed { .. } | Self::Terminated(_) => self,
            _ => Self::Terminated(End::Transport),
        }
    }

    /// When to call [`Client::on_due`].
    #[must_use]
    pub fn wake(&self) -> Option<Mono> {
        match self {
            Self::Trying { repeat, timeout } | Self::Proceeding { repeat, timeout } => {
                earliest(repeat.map(|r| r.at), Some(*timeout))
            }
            Self::Completed { end } => Some(*end),
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

    fn trying(rules: &Rules) -> Client {
        Client::Held.released(rules, ms(0))
    }

    fn run(mut machine: Client, rules: &Rules) -> (Vec<u64>, u64, Option<End>) {
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
    fn timer_e_doubles_up_to_t2_and_timer_f_fires_after_64_t1_rfc3261_17_1_2_2() {
        let schedule = vec![500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        assert_eq!(run(trying(&UDP), &UDP), (schedule, 32_000, Some(End::Timeout)));
    }

    #[test]
    fn a_reliable_transport_sends_once_rfc3261_17_1_2_2() {
        assert_eq!(run(trying(&TCP), &TCP), (vec![], 32_000, Some(End::Timeout)));
    }

    #[test]
    fn after_a_provisional_the_request_repeats_every_t2_rfc3261_17_1_2_2() {
        let (machine, action) = trying(&UDP).on_response(100, &UDP, ms(100));
        assert_eq!(action, Action::Deliver);
        let schedule = vec![500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500];
        assert_eq!(run(machine, &UDP), (schedule, 32_000, Some(End::Timeout)));
    }

    #[test]
    fn timer_k_absorbs_repeated_finals_for_t4_rfc3261_17_1_2_2() {
        let (machine, action) = trying(&UDP).on_response(200, &UDP, ms(300));
        assert_eq!(action, Action::Deliver);
        assert_eq!(machine.on_response(200, &UDP, ms(800)), (machine, Action::None));
        assert_eq!(run(machine, &UDP), (vec![], 5_300, Some(End::Done)));
        let (machine, _) = trying(&TCP).on_response(200, &TCP, ms(300));
        assert_eq!(run(machine, &TCP), (vec![], 300, Some(End::Done)));
    }

    #[test]
    fn a_held_request_runs_no_timer_and_a_response_to_it_proves_its_release() {
        assert_eq!(Client::Held.wake(), None);
        assert_eq!(Client::Held.on_due(&UDP, ms(99_000)), (Client::Held, Action::None));
        let (machine, action) = Client::Held.on_response(200, &UDP, ms(50));
        assert_eq!((action, machine.wake()), (Action::Deliver, Some(ms(5_050))));
    }

    #[test]
    fn a_transport_error_ends_it_before_the_answer_only_rfc3261_17_1_4() {
        assert_eq!(trying(&UDP).on_transport_error().end(), Some(End::Transport));
        let (done, _) = trying(&UDP).on_response(200, &UDP, ms(1));
        assert_eq!(done.on_transport_error(), done);
    }

    #[test]
    fn a_stalled_process_sends_one_repetition_and_no_burst() {
        let (machine, action) = trying(&UDP).on_due(&UDP, ms(20_000));
        assert_eq!(action, Action::Resend);
        assert_eq!(machine.on_due(&UDP, ms(20_001)), (machine, Action::None));
    }
}
