//! Two offers at once (RFC 3261 §14.2).
//!
//! The edge is in nobody's way: an INVITE that meets one from the other side passes, and the peers answer each other's with
//! 491. Only a second INVITE from the same side, while the first is unanswered, is refused here: its peer would see the two
//! in no certain order.

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

/// Judges a request of `method` from `from`, given who has INVITEs under way.
pub(crate) fn judge(method: Method, from: End, mut pending_invites: impl Iterator<Item = End>) -> Verdict {
    if method == Method::Invite && pending_invites.any(|end| end == from) {
        return Verdict::Overlap;
    }
    Verdict::Pass
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_crossing_invites_when_judged_then_both_pass_and_only_an_overlap_is_refused() {
        let pending = [End::Callee];
        assert_eq!(judge(Method::Invite, End::Caller, pending.into_iter()), Verdict::Pass);
        assert_eq!(judge(Method::Invite, End::Callee, pending.into_iter()), Verdict::Overlap);
        assert_eq!(judge(Method::Info, End::Callee, pending.into_iter()), Verdict::Pass);
    }
}
