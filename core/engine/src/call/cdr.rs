//! How a call came out, in the words of the call record (EVENTS.md "The CDR").

use signalbox_base::{Mono, Now, Text, Wall};
use signalbox_schemas::words::{Category, FailureStage, ReleasedBy};
use std::time::Duration;

/// A moment of a call: wall time for people and, while the process that saw it lives, monotonic time for durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    wall: Wall,
    mono: Option<Mono>,
}

impl Moment {
    /// Seen by this process.
    pub(crate) fn seen(now: Now) -> Self {
        Self { wall: now.wall, mono: Some(now.mono) }
    }

    /// Known from the journal: seen by a process that is gone.
    pub(crate) fn recalled(wall: Wall) -> Self {
        Self { wall, mono: None }
    }

    /// Wall time.
    pub(crate) fn wall(self) -> Wall {
        self.wall
    }

    /// Whole milliseconds from this moment to `later`: by the monotonic clock, or by wall time when either end was seen by
    /// another process. Never negative.
    pub(crate) fn millis_to(self, later: Self) -> u64 {
        let span = match (self.mono, later.mono) {
            (Some(from), Some(to)) => to.since(from),
            _ => later.wall.since(self.wall),
        };
        millis(span)
    }
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Moments of a call as they pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) invited: Moment,
    pub(crate) progressed: Option<Moment>,
    pub(crate) answered: Option<Moment>,
}

impl Clock {
    pub(crate) fn start(now: Now) -> Self {
        Self { invited: Moment::seen(now), progressed: None, answered: None }
    }
}

/// What ended a call, as its record says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) released_by: ReleasedBy,
    /// Final status of the INVITE.
    pub(crate) status: u16,
    pub(crate) q850: Option<u8>,
    pub(crate) reason: Option<Text>,
    pub(crate) category: Category,
}

impl Outcome {
    /// The end of an answered call.
    pub(crate) fn answered(released_by: ReleasedBy, reason: Reason) -> Self {
        let hung_up = matches!(released_by, ReleasedBy::Caller | ReleasedBy::Callee);
        Self {
            released_by,
            status: 200,
            q850: reason.q850.or(hung_up.then_some(NORMAL_CLEARING)),
            reason: reason.text,
            category: Category::Answered,
        }
    }

    /// A Reason value that says the same to the peers (RFC 3326), where the edge had one.
    pub(crate) fn header(&self) -> Option<String> {
        let text = self.reason.as_deref().unwrap_or_default();
        self.q850.map(|cause| format!("Q.850;cause={cause};text=\"{text}\""))
    }

    /// The caller gave up before an answer.
    pub(crate) fn cancelled(reason: Reason) -> Self {
        let status = 487;
        Self {
            released_by: ReleasedBy::Caller,
            status,
            q850: reason.q850.or(Some(NORMAL_CLEARING)),
            reason: reason.text,
            category: Category::Cancelled,
        }
    }

    /// A final failure passed on from the called side, or of the edge's own making.
    pub(crate) fn failed(released_by: ReleasedBy, status: u16, ringing: bool, reason: Reason) -> Self {
        Self {
            released_by,
            status,
            q850: reason.q850.or(cause_of(status)),
            reason: reason.text,
            category: category(status, ringing),
        }
    }
}

/// Category of a failed call by its final status (RFC 3261 §21; words of EVENTS.md).
pub(crate) fn category(status: u16, ringing: bool) -> Category {
    match status {
        200..=299 => Category::Answered,
        486 | 600 => Category::Busy,
        487 => Category::Cancelled,
        408 if ringing => Category::NoAnswer,
        408 => Category::Network,
        480 if ringing => Category::NoAnswer,
        404 | 410 | 480 | 484 | 604 => Category::NotFound,
        482 | 483 | 500..=599 => Category::Network,
        _ => Category::Rejected,
    }
}

/// Q.850: normal call clearing.
const NORMAL_CLEARING: u8 = 16;

/// The Q.850 cause that a gateway makes of a final status, where the peer names none (RFC 3398 §8.2.6.1).
pub(crate) fn cause_of(status: u16) -> Option<u8> {
    Some(match status {
        401 | 402 | 403 | 407 | 603 => 21,
        404 | 485 | 604 => 1,
        405 => 63,
        406 | 415 | 501 => 79,
        408 | 504 => 102,
        410 => 22,
        400 | 481 | 500 | 503 => 41,
        480 => 18,
        482 | 483 => 25,
        484 => 28,
        486 | 600 => 17,
        502 => 38,
        488 | 606 => 31,
        487 => NORMAL_CLEARING,
        413 | 414 | 416 | 420 | 421 | 423 | 505 | 513 => 127,
        _ => return None,
    })
}

/// How far a failed call had come.
pub(crate) fn stage(attempts: u32, ringing: bool) -> FailureStage {
    match (attempts, ringing) {
        (_, true) => FailureStage::Ringing,
        (0, false) => FailureStage::Routing,
        _ => FailureStage::Connecting,
    }
}

/// The Q.850 cause and text out of Reason header fields (RFC 3326), or the reason phrase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reason {
    pub(crate) q850: Option<u8>,
    pub(crate) text: Option<Text>,
}

impl Reason {
    /// Words of the edge's own.
    pub(crate) fn own(text: &str) -> Self {
        Self { q850: None, text: Some(Text::new(text)) }
    }

    /// Reads every Reason value; the first Q.850 cause and the first text win. `phrase` serves when no text is given.
    pub(crate) fn read<'m>(values: impl Iterator<Item = &'m [u8]>, phrase: Option<&[u8]>) -> Self {
        let mut found = Self::default();
        for value in values {
            let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let is_q850 = parts.next().is_some_and(|p| p.eq_ignore_ascii_case(b"Q.850"));
            for part in parts {
                let Some(at) = part.iter().position(|b| *b == b'=') else { continue };
                let (name, value) = (part[..at].trim_ascii(), part[at + 1..].trim_ascii());
                if is_q850 && name.eq_ignore_ascii_case(b"cause") && found.q850.is_none() {
                    let number = std::str::from_utf8(value).ok().and_then(|v| v.parse::<u8>().ok());
                    found.q850 = number.filter(|cause| (1..=127).contains(cause));
                } else if name.eq_ignore_ascii_case(b"text") && found.text.is_none() {
                    let inner =
                        value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
                    found.text = Some(Text::lossy(inner));
                }
            }
        }
        if found.text.is_none() {
            found.text = phrase.filter(|p| !p.is_empty()).map(Text::lossy);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_status_when_the_call_failed_then_the_category_says_whose_matter_it_was() {
        for (status, ringing, expected) in [
            (486, true, Category::Busy),
            (600, false, Category::Busy),
            (404, false, Category::NotFound),
            (480, false, Category::NotFound),
            (480, true, Category::NoAnswer),
            (408, true, Category::NoAnswer),
            (408, false, Category::Network),
            (503, false, Category::Network),
            (403, false, Category::Rejected),
            (603, true, Category::Rejected),
            (487, true, Category::Cancelled),
        ] {
            assert_eq!(category(status, ringing), expected, "{status} {ringing}");
        }
    }

    #[test]
    fn given_no_cause_of_the_peers_own_when_the_call_ends_then_the_status_gives_one_rfc3398_8_2_6() {
        let failed = |status, reason| Outcome::failed(ReleasedBy::Callee, status, false, reason).q850;
        assert_eq!(failed(486, Reason::default()), Some(17));
        assert_eq!(failed(486, Reason { q850: Some(34), text: None }), Some(34), "the peer's own word");
        assert_eq!(failed(302, Reason::default()), None);
        let ended = |by| Outcome::answered(by, Reason::default()).q850;
        assert_eq!((ended(ReleasedBy::Callee), ended(ReleasedBy::Timeout)), (Some(16), None));
    }

    #[test]
    fn given_two_reason_values_when_read_then_q850_and_text_are_found() {
        let values: [&[u8]; 2] = [b"SIP;cause=200;text=\"Call completed elsewhere\"", b"Q.850 ; cause=16"];
        let reason = Reason::read(values.into_iter(), Some(b"OK"));
        assert_eq!(reason.q850, Some(16));
        assert_eq!(reason.text.as_deref(), Some("Call completed elsewhere"));
    }

    #[test]
    fn given_nonsense_when_read_then_only_the_phrase_remains() {
        let values: [&[u8]; 3] = [b"Q.850;cause=900", b"Q.850;cause", b";;="];
        let reason = Reason::read(values.into_iter(), Some(b"Busy Here"));
        assert_eq!(reason, Reason { q850: None, text: Some(Text::new("Busy Here")) });
    }

    #[test]
    fn given_a_restart_between_when_measured_then_wall_time_counts() {
        let now = Now { mono: Mono(5_000_000_000), wall: Wall::from_secs(1_000) };
        let later = now.plus(Duration::from_millis(1_500));
        assert_eq!(Moment::seen(now).millis_to(Moment::seen(later)), 1_500);
        assert_eq!(Moment::recalled(now.wall).millis_to(Moment::seen(later)), 1_500);
        assert_eq!(Moment::seen(later).millis_to(Moment::recalled(now.wall)), 0);
    }
}
