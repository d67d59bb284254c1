//! What `sips:` asks for (RFC 3261 §19.1, §26.2.2, RFC 5630): each hop over TLS, and the same scheme at each.
//!
//! The edge has no part in a hop that is not: it answers 480 with a Warning, and neither takes the scheme away nor adds it.
//! Each side of it is judged by itself, so that a phone over TLS which wants no more than that writes `sip:`.

use crate::backend::Candidates;
use crate::dispatch::reject_with;
use crate::turn::Turn;
use signalbox_base::{Flow, Transport};
use signalbox_sip::{HeaderName, Message};
use std::borrow::Cow;

/// What a request is answered that cannot go on as it asks.
pub(crate) const STATUS: u16 = 480;
pub(crate) const REASON: &str = "Temporarily Unavailable";

/// Whether a URI is of that scheme.
pub(crate) fn is_sips(uri: &[u8]) -> bool {
    uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"))
}

/// Whether what this transport carries is encrypted.
pub(crate) fn is_secure(transport: Transport) -> bool {
    matches!(transport, Transport::Tls | Transport::Wss)
}

/// Whether a request may leave over a flow.
pub(crate) fn may_go(uri: &[u8], flow: &Flow) -> bool {
    !is_sips(uri) || is_secure(flow.transport)
}

/// The same URI with `sip:`, by which a phone that has registered `sips:` is reached as well (RFC 5630).
pub(crate) fn plain(uri: &[u8]) -> Cow<'_, [u8]> {
    if is_sips(uri) { Cow::Owned([b"sip:", &uri[5..]].concat()) } else { Cow::Borrowed(uri) }
}

/// How a target is written for what was asked for: by `sips:` only those are reached that are `sips:` and whose flow is
/// encrypted, by `sip:` all of them, written so. `None` where it is not to be reached.
pub(crate) fn as_asked<'u>(asked: &[u8], uri: &'u [u8], flow: &Flow) -> Option<Cow<'u, [u8]>> {
    if is_sips(asked) {
        return (is_sips(uri) && may_go(asked, flow)).then_some(Cow::Borrowed(uri));
    }
    Some(plain(uri))
}

/// What our own URI begins with where a request has this one, or goes to it: the same scheme (RFC 3261 §8.1.1.8, §12.1.1),
/// over TLS.
pub(crate) fn scheme_towards(uri: &[u8], flow: &Flow) -> &'static str {
    if is_sips(uri) && is_secure(flow.transport) { "sips:" } else { "sip:" }
}

/// What says why (RFC 5630, warn-code 380).
pub(crate) fn warning(turn: &Turn<'_>, flow: &Flow) -> String {
    format!("380 {} \"SIPS Not Allowed\"", turn.advertised(flow))
}

/// Answers a request that cannot go on as it asks, and has no transaction.
pub(crate) fn refuse(turn: &mut Turn<'_>, flow: Flow, request: &Message<&[u8]>) {
    let warning = warning(turn, &flow);
    reject_with(turn, flow, request, (STATUS, REASON), &[(HeaderName::Warning, warning.as_bytes())]);
}

/// Leaves out backends that the request must not go to; whether that leaves none of those that there were.
pub(crate) fn keep_secure(request: &Message<impl AsRef<[u8]>>, candidates: &mut Candidates) -> bool {
    let uri = request.request_uri().unwrap_or_default();
    let before = candidates.len();
    candidates.retain(|candidate| may_go(uri, &candidate.flow));
    before > 0 && candidates.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_uri_of_either_scheme_then_it_is_told_and_written_plainly() {
        for (uri, wanted) in [("sips:a@b", "sip:a@b"), ("SIPS:a@b", "sip:a@b"), ("sip:s@b", "sip:s@b")] {
            assert_eq!(*plain(uri.as_bytes()), *wanted.as_bytes());
            assert_eq!(is_sips(uri.as_bytes()), uri != wanted, "{uri}");
        }
        assert!(!is_sips(b"sips"));
    }
}
