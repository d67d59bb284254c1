//! A fork: how many may ring at once (RFC 5393 §5), and choosing the response when nobody answered (RFC 3261 §16.7 step 6),
//! with all challenges in it (step 7).

use super::call::{Core, State};
use super::raw::Raw;
use super::setup::Setup;
use crate::turn::Turn;
use signalbox_sip::header::number;
use signalbox_sip::{HeaderName, Limits, Message};

/// Branches that one INVITE may have at once, here and further on (RFC 5393 §5.3.3).
pub(crate) const BREADTH_MAX: usize = 60;

/// How many branches this INVITE may have at once: what its Max-Breadth says, at most [`BREADTH_MAX`], at least one.
pub(crate) fn breadth<B: AsRef<[u8]>>(invite: &Message<B>) -> usize {
    let said = invite.value(HeaderName::MaxBreadth).and_then(|value| number(value).ok());
    said.and_then(|said| usize::try_from(said).ok()).map_or(BREADTH_MAX, |said| said.clamp(1, BREADTH_MAX))
}

/// What the branch at place `at` of `branches` may fork into in its turn: all shares together are `breadth`.
pub(crate) fn share(breadth: usize, branches: usize, at: usize) -> u32 {
    let share = breadth / branches.max(1) + usize::from(at < breadth % branches.max(1));
    u32::try_from(share).unwrap_or(u32::MAX)
}

impl Setup {
    /// What rings has rung for long enough.
    pub(super) fn next_stage(mut self: Box<Self>, core: &mut Core, turn: &mut Turn<'_>) -> State {
        self.stage_until = None;
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.is_open()) {
            attempt.cancel(core, turn, None);
        }
        self.best.offer_silence(408);
        self.failed(core, turn, true)
    }
}

/// The best final failure so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Best {
    chosen: Option<Chosen>,
    /// Challenges of all 401 and 407 responses, merged into whichever of them is chosen.
    challenges: Vec<(HeaderName, Raw)>,
}

/// What the caller is told.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) status: u16,
    /// `None` when no branch said anything.
    pub(crate) message: Option<Message<Raw>>,
    /// Challenges of other branches that the message lacks.
    pub(crate) challenges: Vec<(HeaderName, Raw)>,
}

#[derive(Clone, Debug)]
struct Chosen {
    status: u16,
    /// `None` for a branch that failed without a message: a timeout or a transport error.
    bytes: Option<Raw>,
}

impl Best {
    /// A branch ended with this response.
    pub(crate) fn offer<B: AsRef<[u8]>>(&mut self, message: &Message<B>) {
        let status = message.status().unwrap_or(500);
        if matches!(status, 401 | 407) {
            for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
                self.challenges.extend(message.all(name).map(|header| (name, Raw::from(header.value))));
            }
        }
        if self.is_better(status) {
            self.chosen = Some(Chosen { status, bytes: Some(Raw::from(message.as_bytes())) });
        }
    }

    /// A branch ended without a response: 408 when it timed out, 503 when it could not be sent to.
    pub(crate) fn offer_silence(&mut self, status: u16) {
        if self.is_better(status) {
            self.chosen = Some(Chosen { status, bytes: None });
        }
    }

    /// Whether a 6xx came: then no further branch is waited for (RFC 3261 §16.7 step 5).
    pub(crate) fn is_global(&self) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| chosen.status >= 600)
    }

    /// Its status; `None` while no branch has ended.
    pub(crate) fn status(&self) -> Option<u16> {
        self.chosen.as_ref().map(|chosen| chosen.status)
    }

    /// The message behind it, and the challenges it lacks.
    pub(crate) fn take(self) -> Option<Verdict> {
        let Chosen { status, bytes } = self.chosen?;
        let message = bytes.and_then(|bytes| Message::parse(bytes, &Limits::DATAGRAM).ok());
        let mut missing = self.challenges;
        if !matches!(status, 401 | 407) {
            missing.clear();
        } else if let Some(message) = &message {
            missing.retain(|(name, value)| !message.all(*name).any(|header| *header.value == **value));
        }
        missing.dedup();
        Some(Verdict { status, message, challenges: missing })
    }

    fn is_better(&self, status: u16) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| rank(status) < rank(chosen.status))
    }
}

/// Lower is better: 6xx first, then the lowest class; within 4xx what lets the caller do better (RFC 3261 §16.7 step 6), and
/// a peer's word before our own 408.
fn rank(status: u16) -> (u16, u16) {
    let within = match status {
        401 | 407 => 0,
        415 | 420 | 484 => 1,
        408 | 487 => 3,
        503 => 3,
        _ => 2,
    };
    let class = if status >= 600 { 0 } else { status / 100 };
    (class, within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, extra: &str) -> Message<Vec<u8>> {
        let text = format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\n{extra}Content-Length: 0\r\n\r\n"
        );
        Message::parse(text.into_bytes(), &Limits::DATAGRAM).unwrap()
    }

    fn best_of(statuses: &[u16]) -> Option<u16> {
        let mut best = Best::default();
        statuses.iter().for_each(|status| best.offer(&response(*status, "")));
        best.status()
    }

    #[test]
    fn given_a_breadth_when_branches_share_it_then_none_has_nothing_and_all_have_what_there_is_rfc5393_5_3() {
        for (said, breadth_is) in [("", 60), ("Max-Breadth: 7\r\n", 7), ("Max-Breadth: 0\r\n", 1)] {
            assert_eq!(breadth(&response(200, said)), breadth_is);
        }
        assert_eq!(breadth(&response(200, "Max-Breadth: 4294967296\r\n")), BREADTH_MAX);
        assert_eq!([0, 1, 2].map(|at| share(7, 3, at)), [3, 2, 2]);
        assert_eq!([0, 59].map(|at| share(60, 60, at)), [1, 1]);
    }

    #[test]
    fn given_several_failures_then_6xx_wins_then_the_lowest_class_rfc3261_16_7_6() {
        assert_eq!(best_of(&[486, 603, 302]), Some(603));
        assert_eq!(best_of(&[503, 486]), Some(486));
        assert_eq!(best_of(&[404, 302]), Some(302));
        assert_eq!(best_of(&[408, 486]), Some(486));
        assert_eq!(best_of(&[486, 407]), Some(407));
        assert_eq!(best_of(&[486, 480]), Some(486), "the first among equals");
        assert_eq!(best_of(&[]), None);
    }

    #[test]
    fn given_silence_and_a_word_then_the_word_wins() {
        let mut best = Best::default();
        best.offer_silence(408);
        best.offer(&response(480, ""));
        assert_eq!(best.status(), Some(480));
    }

    #[test]
    fn given_two_challenges_then_one_response_carries_both_rfc3261_16_7_7() {
        let mut best = Best::default();
        best.offer(&response(401, "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\r\n"));
        best.offer(&response(407, "Proxy-Authenticate: Digest realm=\"b\", nonce=\"2\"\r\n"));
        best.offer(&response(404, ""));
        let verdict = best.take().unwrap();
        assert_eq!(verdict.status, 401);
        assert_eq!(verdict.message.unwrap().status(), Some(401));
        assert_eq!(
            verdict.challenges,
            [(HeaderName::ProxyAuthenticate, Raw::from("Digest realm=\"b\", nonce=\"2\""))]
        );
    }
}
