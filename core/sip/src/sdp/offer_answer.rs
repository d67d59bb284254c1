//! What an offer and its answer change: hold, resume, codecs (RFC 3264).

use super::read::{Direction, Session};

/// The two sides of a call, as they were when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who called.
    Caller,
    /// Who was called.
    Callee,
}

/// What one description says, in a few words that outlive the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Names of the first used stream's codecs in order, without telephone-event and comfort noise; at most eight.
    pub codecs: Vec<Box<str>>,
    /// Whether the writer takes no media.
    pub holds: bool,
    /// Whether the writer sends media on some stream.
    pub sends: bool,
}

/// One thing that an answer changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first agreement of the call.
    Established,
    /// This party put the other on hold.
    Held(Party),
    /// This party took the other back.
    Resumed(Party),
    /// The codec that leads the answer is another.
    Codec {
        /// What it was.
        from: Box<str>,
        /// What it is.
        to: Box<str>,
    },
}

/// Follows one call's offers and answers.
///
/// ```text
///          offer                 answer
///  Stable ───────► Offered ──────────────► Stable (+ changes)
///                    │   rejected (no answer, 4xx–6xx)
///                    └──────────────────► Stable (as before)
/// ```
#[derive(Clone, Debug, Default)]
pub struct Tracker {
    offered: Option<(Party, Summary)>,
    codec: Option<Box<str>>,
    established: bool,
    caller_holds: bool,
    callee_holds: bool,
}

impl Summary {
    /// Codec names kept.
    pub const CODECS_MAX: usize = 8;

    /// Sums a description up.
    #[must_use]
    pub fn of(session: &Session<'_>) -> Self {
        let codecs = Self::codec_names(session).map(|name| String::from_utf8_lossy(name).into());
        Self { codecs: codecs.collect(), holds: session.is_hold(), sends: Self::sends(session) }
    }

    /// What [`Summary::codecs`] is made of, without copying.
    pub fn codec_names<'m>(session: &Session<'m>) -> impl Iterator<Item = &'m [u8]> {
        let is_codec =
            |name: &[u8]| !name.eq_ignore_ascii_case(b"telephone-event") && !name.eq_ignore_ascii_case(b"CN");
        let first = session.media.iter().find(|media| media.port != 0);
        let names = first.into_iter().flat_map(|media| media.codecs()).map(|codec| codec.name);
        names.filter(move |name| is_codec(name)).take(Self::CODECS_MAX)
    }

    /// What [`Summary::sends`] says.
    #[must_use]
    pub fn sends(session: &Session<'_>) -> bool {
        session.media.iter().any(|media| media.port != 0 && session.direction_of(media).sends())
    }
}

impl Tracker {
    /// A party offered. An earlier offer without answer is forgotten.
    pub fn offer(&mut self, by: Party, session: &Session<'_>) {
        self.offered = Some((by, Summary::of(session)));
    }

    /// The offer got no answer: everything stays as it was (RFC 3261 §14.1).
    pub fn reject(&mut self) {
        self.offered = None;
    }

    /// Whether an offer waits for its answer.
    #[must_use]
    pub const fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// Whether this party holds the other.
    #[must_use]
    pub const fn holds(&self, party: Party) -> bool {
        match party {
            Party::Caller => self.caller_holds,
            Party::Callee => self.callee_holds,
        }
    }

    /// The codec that led the last answer.
    #[must_use]
    pub fn codec(&self) -> Option<&str> {
        self.codec.as_deref()
    }

    /// The offer was answered; gives what that changed. An answer without offer (a repeated one) changes nothing.
    pub fn answer(&mut self, session: &Session<'_>) -> Vec<Change> {
        let Some((offerer, offer)) = self.offered.take() else { return Vec::new() };
        let answer = Summary::of(session);
        let mut changes = Vec::new();
        if !std::mem::replace(&mut self.established, true) {
            changes.push(Change::Established);
        }
        self.note_hold(offerer, offer.holds, &mut changes);
        // To an offer that sends nothing, "I take nothing" is the only possible answer: it says nothing new.
        if offer.sends {
            self.note_hold(offerer.other(), answer.holds, &mut changes);
        }
        let codec = answer.codecs.into_iter().next();
        match (self.codec.take(), codec) {
            (Some(from), Some(to)) if from != to => {
                changes.push(Change::Codec { from, to: to.clone() });
                self.codec = Some(to);
            }
            (before, now) => self.codec = now.or(before),
        }
        changes
    }

    fn note_hold(&mut self, party: Party, holds: bool, changes: &mut Vec<Change>) {
        let state = match party {
            Party::Caller => &mut self.caller_holds,
            Party::Callee => &mut self.callee_holds,
        };
        if std::mem::replace(state, holds) != holds {
            changes.push(if holds { Change::Held(party) } else { Change::Resumed(party) });
        }
    }
}

impl Party {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

impl Direction {
    /// The direction an answer gives to an offer it fully accepts (RFC 3264 §6.1).
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            same => same,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdp(direction: &str, formats: &str) -> String {
        format!(
            "v=0\no=- 1 1 IN IP4 192.0.2.1\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP {formats}\na={direction}\n"
        )
    }

    fn exchange(tracker: &mut Tracker, by: Party, offer: &str, answer: &str) -> Vec<Change> {
        let (offer, answer) = (sdp(offer, "0 8"), sdp(answer, "0"));
        tracker.offer(by, &Session::parse(offer.as_bytes()).expect("good"));
        tracker.answer(&Session::parse(answer.as_bytes()).expect("good"))
    }

    #[test]
    fn hold_and_resume_name_who_did_it() {
        let mut call = Tracker::default();
        assert_eq!(exchange(&mut call, Party::Caller, "sendrecv", "sendrecv"), [Change::Established]);
        assert_eq!(exchange(&mut call, Party::Callee, "sendonly", "recvonly"), [Change::Held(Party::Callee)]);
        assert!(call.holds(Party::Callee) && !call.holds(Party::Caller));
        assert_eq!(exchange(&mut call, Party::Callee, "sendonly", "recvonly"), []);
        assert_eq!(
            exchange(&mut call, Party::Callee, "sendrecv", "sendrecv"),
            [Change::Resumed(Party::Callee)]
        );
    }

    #[test]
    fn a_refresh_by_the_held_side_keeps_the_hold() {
        let mut call = Tracker::default();
        exchange(&mut call, Party::Caller, "sendrecv", "sendrecv");
        exchange(&mut call, Party::Caller, "sendonly", "recvonly");
        assert_eq!(exchange(&mut call, Party::Callee, "sendrecv", "sendonly"), []);
        assert_eq!(exchange(&mut call, Party::Callee, "inactive", "inactive"), [Change::Held(Party::Callee)]);
        assert!(call.holds(Party::Caller), "an inactive answer to an inactive offer says nothing new");
    }

    #[test]
    fn a_rejected_offer_changes_nothing() {
        let mut call = Tracker::default();
        exchange(&mut call, Party::Caller, "sendrecv", "sendrecv");
        call.offer(Party::Caller, &Session::parse(sdp("sendonly", "0").as_bytes()).expect("good"));
        assert!(call.is_offered());
        call.reject();
        assert!(!call.is_offered() && !call.holds(Party::Caller));
        assert_eq!(call.answer(&Session::parse(sdp("recvonly", "0").as_bytes()).expect("good")), []);
    }

    #[test]
    fn another_leading_codec_is_a_change() {
        let mut call = Tracker::default();
        exchange(&mut call, Party::Caller, "sendrecv", "sendrecv");
        assert_eq!(call.codec(), Some("PCMU"));
        call.offer(Party::Caller, &Session::parse(sdp("sendrecv", "8 0").as_bytes()).expect("good"));
        let changes = call.answer(&Session::parse(sdp("sendrecv", "8").as_bytes()).expect("good"));
        assert_eq!(changes, [Change::Codec { from: "PCMU".into(), to: "PCMA".into() }]);
    }

    #[test]
    fn the_answer_to_a_direction_is_its_mirror() {
        assert_eq!(Direction::SendOnly.mirrored(), Direction::RecvOnly);
        assert_eq!(Direction::RecvOnly.mirrored(), Direction::SendOnly);
        assert_eq!(Direction::Inactive.mirrored(), Direction::Inactive);
        assert_eq!(Direction::SendRecv.mirrored(), Direction::SendRecv);
    }
}
