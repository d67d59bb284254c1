//! Two offers at once (RFC 3261 §14.2).
//!
//! The edge is in nobody's way: an INVITE that meets one from the other side passes, and the peers answer each other's with
//! 491. Only a second INVITE or UPDATE from the same side, while the first is unanswered, is refused here: its peer would see
//! the two in no certain order (§14.2, RFC 3311 §5.2).

use super::leg::End;
use signalbox_sip::Method;

/// What to do with a request inside the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Relay it.
    Pass,
    /// Answer 500 with Retry-After.
    Overlap,
}

/// Judges a request of `method` from `from`, given what is under way, and whose it is.
pub(crate) fn judge(method: Method, from: End, mut pending: impl Iterator<Item = (Method, End)>) -> Verdict {
    if matches!(method, Method::Invite | Method::Update) && pending.any(|other| other == (method, from)) {
        return Verdict::Overlap;
    }
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_crossing_requests_when_judged_then_both_pass_and_only_an_overlap_is_refused() {
        let pending = [(Method::Invite, End::Callee), (Method::Update, End::Caller)];
        let judge = |method, from| judge(method, from, pending.into_iter());
        assert_eq!(judge(Method::Invite, End::Caller), Verdict::Pass);
        assert_eq!(judge(Method::Invite, End::Callee), Verdict::Overlap);
        assert_eq!(judge(Method::Update, End::Caller), Verdict::Overlap);
        assert_eq!(judge(Method::Update, End::Callee), Verdict::Pass);
        assert_eq!(judge(Method::Info, End::Callee), Verdict::Pass);
    }
}
