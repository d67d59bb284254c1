//! Session timers (RFC 4028): who refreshes a session, how often, and when it is given up. Pure arithmetic over what the
//! headers said; intervals are whole seconds.

use crate::header::{Refresher, SessionExpires};
use serde::{Deserialize, Serialize};
use signalbox_base::Mono;
use std::time::Duration;

/// The least Min-SE and Session-Expires that may be asked for, in seconds (RFC 4028 §4, §5).
pub const MIN_SE_FLOOR_S: u32 = 90;

/// What a Session-Expires header says (RFC 4028 §4). The refresher is named by its role in the transaction at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInterval {
    /// The interval in seconds.
    pub interval_s: u32,
    /// The `refresher` parameter.
    pub refresher: Option<Refresher>,
}

impl From<SessionExpires<'_>> for SessionInterval {
    fn from(header: SessionExpires<'_>) -> Self {
        Self { interval_s: header.seconds, refresher: header.refresher() }
    }
}

/// What an INVITE or UPDATE says about its session's timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Whether Supported (or Require) lists `timer`.
    pub supported: bool,
    /// Session-Expires.
    pub session_expires: Option<SessionInterval>,
    /// Min-SE in seconds.
    pub min_se_s: Option<u32>,
}

/// What we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The longest interval we let stand, in seconds, and what we ask for when nobody did. `None`: we only follow.
    pub interval_s: Option<u32>,
    /// The shortest we accept, in seconds; at least [`MIN_SE_FLOOR_S`] counts.
    pub min_se_s: u32,
    /// Who refreshes when the offer leaves it to us.
    pub prefer: Refresher,
}

/// The interval offered is too short: answer 422 with this Min-SE (RFC 4028 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalTooSmall {
    /// In seconds.
    pub min_se_s: u32,
}

/// What goes into a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Interval of Session-Expires in seconds.
    pub interval_s: u32,
    /// Its `refresher` parameter, always present (RFC 4028 §9).
    pub refresher: Refresher,
    /// Whether Require lists `timer`: when the peer is to refresh (RFC 4028 §9).
    pub require_timer: bool,
}

/// What goes into a request: the values of Session-Expires and Min-SE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Interval of Session-Expires in seconds.
    pub interval_s: u32,
    /// Min-SE in seconds, where it has to be said.
    pub min_se_s: Option<u32>,
}

/// A running timer, as one side of the session sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTimer {
    /// Seconds from one refresh to the end of the session.
    pub interval_s: u32,
    /// Whether refreshing is ours to do.
    pub we_refresh: bool,
}

/// What a session timer asks for when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Send UPDATE or re-INVITE.
    Refresh,
    /// Send BYE: the peer did not refresh.
    HangUp,
}

impl Policy {
    fn min_se_s(&self) -> u32 {
        self.min_se_s.max(MIN_SE_FLOOR_S)
    }

    /// The interval that stands when `offered` is asked for with the given Min-SE: not longer than we want, nor shorter
    /// than any minimum (RFC 4028 §8.1, §9).
    fn reduce(&self, offered: u32, min_se_s: Option<u32>) -> u32 {
        let least = min_se_s.unwrap_or(0).max(self.min_se_s());
        offered.min(self.interval_s.unwrap_or(u32::MAX).max(least))
    }
}

/// The server's part, when it accepts a session (RFC 4028 §9, table 2). `Ok(None)`: no timer.
///
/// # Errors
/// When the interval is too short and the client knows what a 422 is.
pub fn answer_request(offer: &Offer, policy: &Policy) -> Result<Option<Answer>, IntervalTooSmall> {
    let (interval_s, asked) = match (offer.session_expires, policy.interval_s) {
        (None, None) => return Ok(None),
        (None, Some(wanted)) => (wanted.max(offer.min_se_s.unwrap_or(0)).max(policy.min_se_s()), None),
        (Some(asked), _) => {
            if asked.interval_s < policy.min_se_s() && offer.supported {
                return Err(IntervalTooSmall { min_se_s: policy.min_se_s() });
            }
            (policy.reduce(asked.interval_s, offer.min_se_s).max(MIN_SE_FLOOR_S), asked.refresher)
        }
    };
    let refresher = if offer.supported { asked.unwrap_or(policy.prefer) } else { Refresher::Uas };
    Ok(Some(Answer { interval_s, refresher, require_timer: refresher == Refresher::Uac }))
}

/// What an element that passes a request on puts into it (RFC 4028 §8.1). `Ok(None)`: it stays as it came.
///
/// # Errors
/// When the interval is too short and the client knows what a 422 is; one that does not gets the interval raised.
pub fn relay_request(offer: &Offer, policy: &Policy) -> Result<Option<Ask>, IntervalTooSmall> {
    let Some(asked) = offer.session_expires else {
        let ask = |wanted: u32| {
            let interval_s = wanted.max(offer.min_se_s.unwrap_or(0)).max(policy.min_se_s());
            Ask { interval_s, min_se_s: offer.min_se_s }
        };
        return Ok(policy.interval_s.map(ask));
    };
    if asked.interval_s < policy.min_se_s() {
        let min_se_s = policy.min_se_s();
        return if offer.supported {
            Err(IntervalTooSmall { min_se_s })
        } else {
            let least = min_se_s.max(offer.min_se_s.unwrap_or(0));
            Ok(Some(Ask { interval_s: least, min_se_s: Some(least) }))
        };
    }
    let interval_s = policy.reduce(asked.interval_s, offer.min_se_s);
    Ok((interval_s != asked.interval_s).then_some(Ask { interval_s, min_se_s: offer.min_se_s }))
}

/// What an element that passed a request on with `sent` as its interval adds to a 2xx without Session-Expires: the client
/// refreshes, if it can, on behalf of a server that cannot (RFC 4028 §8.2).
#[must_use]
pub fn relay_response(sent: Option<u32>, client_supports: bool) -> Option<Answer> {
    let interval_s = sent.filter(|_| client_supports)?;
    Some(Answer { interval_s, refresher: Refresher::Uac, require_timer: true })
}

/// What to ask for after a 422 with this Min-SE (RFC 4028 §7.3). `None` when the peer wants no more than was asked:
/// asking again would not end.
#[must_use]
pub fn retry_after_422(asked: Ask, min_se_s: Option<u32>) -> Option<Ask> {
    let least = min_se_s.filter(|least| *least > asked.interval_s)?;
    Some(Ask { interval_s: least, min_se_s: Some(asked.min_se_s.map_or(least, |own| own.max(least))) })
}

impl SessionTimer {
    /// After a 2xx that we sent.
    #[must_use]
    pub fn of_answer_sent(answer: &Answer) -> Self {
        Self { interval_s: answer.interval_s, we_refresh: answer.refresher == Refresher::Uas }
    }

    /// After a 2xx that we received (RFC 4028 §7.2). Without Session-Expires there is no timer, and one that ran is off. A
    /// peer that does not say who refreshes leaves it to us, so that the session does not die of it.
    #[must_use]
    pub fn of_answer_received(header: Option<SessionInterval>) -> Option<Self> {
        let header = header?;
        Some(Self {
            interval_s: header.interval_s.max(MIN_SE_FLOOR_S),
            we_refresh: header.refresher != Some(Refresher::Uas),
        })
    }

    /// Session-Expires of our next refresh (RFC 4028 §7.4): the same interval, and the same side, which is the client now
    /// if it is us.
    #[must_use]
    pub fn refresh(&self) -> SessionInterval {
        let refresher = if self.we_refresh { Refresher::Uac } else { Refresher::Uas };
        SessionInterval { interval_s: self.interval_s, refresher: Some(refresher) }
    }

    /// What to do next and when, after a refresh at `last`: refresh at half the interval (RFC 4028 §7.2, §9), or, waiting
    /// for the peer, hang up the lesser of 32 s and a third before its end (§10).
    #[must_use]
    pub fn due(&self, last: Mono) -> (Mono, Duty) {
        if self.we_refresh {
            let half = Duration::from_millis(u64::from(self.interval_s) * 500);
            return (last.plus(half), Duty::Refresh);
        }
        (self.ends(last), Duty::HangUp)
    }

    /// When to hang up if no refresh succeeds, for either side (RFC 4028 §10).
    #[must_use]
    pub fn ends(&self, last: Mono) -> Mono {
        let early = (self.interval_s / 3).min(32);
        last.plus(Duration::from_secs(u64::from(self.interval_s - early)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy { interval_s: Some(1800), min_se_s: 90, prefer: Refresher::Uac };

    fn offer(supported: bool, interval_s: u32, refresher: Option<Refresher>) -> Offer {
        Offer { supported, session_expires: Some(SessionInterval { interval_s, refresher }), min_se_s: None }
    }

    #[test]
    fn who_refreshes_rfc4028_9_table_2() {
        use Refresher::{Uac, Uas};
        for (supported, asked, expected) in [
            (false, None, Uas),
            (false, Some(Uac), Uas),
            (true, None, Uac),
            (true, Some(Uac), Uac),
            (true, Some(Uas), Uas),
        ] {
            let answer = answer_request(&offer(supported, 600, asked), &POLICY).unwrap().unwrap();
            assert_eq!(
                (answer.refresher, answer.require_timer),
                (expected, expected == Uac),
                "{supported} {asked:?}"
            );
            assert_eq!(SessionTimer::of_answer_sent(&answer).we_refresh, expected == Uas);
        }
    }

    #[test]
    fn a_short_interval_is_422_only_to_who_knows_it_rfc4028_9() {
        let strict = Policy { min_se_s: 300, ..POLICY };
        assert_eq!(answer_request(&offer(true, 200, None), &strict), Err(IntervalTooSmall { min_se_s: 300 }));
        let answer = answer_request(&offer(false, 200, None), &strict).unwrap().unwrap();
        assert_eq!(answer.interval_s, 200, "the server must not raise it");
    }

    #[test]
    fn the_server_may_shorten_but_not_below_min_se_rfc4028_9() {
        let answer = |offer: &Offer| answer_request(offer, &POLICY).unwrap().unwrap().interval_s;
        assert_eq!(answer(&offer(true, 7200, None)), 1800);
        assert_eq!(answer(&Offer { min_se_s: Some(3600), ..offer(true, 7200, None) }), 3600);
        assert_eq!(answer(&offer(true, 600, None)), 600);
        assert_eq!(answer(&Offer { supported: true, ..Offer::default() }), 1800, "nobody asked, we do");
        let follow = Policy { interval_s: None, ..POLICY };
        assert_eq!(answer_request(&Offer::default(), &follow), Ok(None));
        assert_eq!(answer_request(&offer(true, 7200, None), &follow).unwrap().unwrap().interval_s, 7200);
    }

    #[test]
    fn passing_on_raises_for_who_does_not_know_422_rfc4028_8_1() {
        let strict = Policy { min_se_s: 300, ..POLICY };
        assert_eq!(relay_request(&offer(true, 200, None), &strict), Err(IntervalTooSmall { min_se_s: 300 }));
        let raised = Ask { interval_s: 300, min_se_s: Some(300) };
        assert_eq!(relay_request(&offer(false, 200, None), &strict), Ok(Some(raised)));
        assert_eq!(relay_request(&offer(true, 1800, None), &strict), Ok(None));
        let inserted = Ask { interval_s: 1800, min_se_s: None };
        assert_eq!(relay_request(&Offer::default(), &strict), Ok(Some(inserted)));
        assert_eq!(relay_request(&offer(true, 7200, None), &strict), Ok(Some(inserted)));
    }

    #[test]
    fn the_client_refreshes_for_a_server_that_cannot_rfc4028_8_2() {
        let answer = relay_response(Some(1800), true).unwrap();
        assert_eq!((answer.refresher, answer.require_timer), (Refresher::Uac, true));
        assert_eq!(relay_response(Some(1800), false), None);
        assert_eq!(relay_response(None, true), None);
    }

    #[test]
    fn a_422_is_followed_upwards_only_rfc4028_7_3() {
        let asked = Ask { interval_s: 100, min_se_s: None };
        let again = retry_after_422(asked, Some(400)).unwrap();
        assert_eq!(again, Ask { interval_s: 400, min_se_s: Some(400) });
        assert_eq!(retry_after_422(again, Some(500)).unwrap().min_se_s, Some(500));
        assert_eq!(retry_after_422(again, Some(400)), None);
        assert_eq!(retry_after_422(asked, None), None);
    }

    #[test]
    fn a_2xx_without_the_header_turns_the_timer_off_rfc4028_7_2() {
        assert_eq!(SessionTimer::of_answer_received(None), None);
        let silent =
            SessionTimer::of_answer_received(Some(SessionInterval { interval_s: 600, refresher: None }));
        assert!(silent.unwrap().we_refresh);
    }

    #[test]
    fn refresh_at_half_and_hang_up_before_the_end_rfc4028_10() {
        let s = |secs: u64| Mono(secs * 1_000_000_000);
        let ours = SessionTimer { interval_s: 1800, we_refresh: true };
        assert_eq!(ours.due(s(10)), (s(910), Duty::Refresh));
        assert_eq!(ours.refresh().refresher, Some(Refresher::Uac));
        let theirs = SessionTimer { interval_s: 1800, we_refresh: false };
        assert_eq!(theirs.due(s(10)), (s(10 + 1800 - 32), Duty::HangUp));
        assert_eq!(theirs.refresh().refresher, Some(Refresher::Uas));
        assert_eq!(SessionTimer { interval_s: 90, we_refresh: false }.due(s(0)).0, s(60));
    }

    proptest! {
        #[test]
        fn an_agreed_interval_respects_every_bound(
            supported: bool, asked in 0u32..10_000, min_se in prop::option::of(90u32..5_000), own in 0u32..5_000, want in 90u32..5_000
        ) {
            let policy = Policy { interval_s: Some(want), min_se_s: own, prefer: Refresher::Uas };
            let offer = Offer { min_se_s: min_se, ..offer(supported, asked, None) };
            match answer_request(&offer, &policy) {
                Err(small) => prop_assert!(supported && asked < small.min_se_s),
                Ok(answer) => {
                    let interval = answer.expect("asked for").interval_s;
                    prop_assert!(interval >= MIN_SE_FLOOR_S && interval <= asked.max(MIN_SE_FLOOR_S));
                    prop_assert!(interval >= min_se.unwrap_or(0).min(asked));
                }
            }
        }
    }
}
