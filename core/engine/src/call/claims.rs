//! Who somebody is, and whom a call came past: by trust (RFC 3325, RFC 5806, RFC 7044).

use super::leg::Peer;
use super::message::Relayed;
use signalbox_sip::header::HeaderName;
use signalbox_sip::{Forward, Message, Method};

/// Who somebody says they are, in headers that whoever reads them believes. A phone's word for it does not count, so it goes
/// no further (RFC 3325 §5). What it would like to be called, P-Preferred-Identity, is for the backend to judge.
pub(crate) const CLAIMS: [HeaderName; 2] = [HeaderName::PAssertedIdentity, HeaderName::RemotePartyId];

/// What of a phone's requests counts for nothing: these, and whom a call came past, which tells who pays for it (RFC 5806 §7,
/// RFC 7044 §9).
pub(crate) const UNTRUSTED: [HeaderName; 4] =
    [CLAIMS[0], CLAIMS[1], HeaderName::Diversion, HeaderName::HistoryInfo];

/// Claims of a phone go no further, and those of a backend not to a phone when their subject wants privacy (RFC 3325 §7,
/// RFC 3323 §4.2).
pub(super) fn guard_identity<B: AsRef<[u8]>>(
    forward: &mut Forward<'_>,
    message: &Message<B>,
    by: &Peer,
    to: &Peer,
) {
    if by.is_endpoint() || to.is_endpoint() && wants_privacy(message) {
        CLAIMS.into_iter().for_each(|name| forward.remove(name));
    }
}

/// Whether its sender would not be known to phones (RFC 3323 §4.2).
pub(crate) fn wants_privacy<B: AsRef<[u8]>>(message: &Message<B>) -> bool {
    let values = message.all(HeaderName::Privacy).flat_map(|header| header.value.split(|byte| *byte == b';'));
    let hides = |value: &[u8]| {
        [b"id".as_slice(), b"user", b"header"].iter().any(|word| value.eq_ignore_ascii_case(word))
    };
    values.map(<[u8]>::trim_ascii).any(hides)
}

/// Whoever calls over its registration is that AoR, which the edge says to the backend (RFC 3325 §5).
pub(super) fn assert_identity<B: AsRef<[u8]>>(
    forward: &mut Forward<'_>,
    message: &Message<B>,
    relayed: &Relayed<'_>,
    to: &Peer,
) {
    let begins = message.method() == Method::Invite && message.to_tag().is_none();
    // A stranger is named by its address.
    let aor = relayed.by.peer.name().split_once('@').filter(|_| begins && !to.is_endpoint());
    if let Some((user, domain)) = aor {
        let user = relayed.names.map_or(user, |names| &*names.known);
        forward.append(HeaderName::PAssertedIdentity, ("<sip:", (user, ("@", (domain, ">")))));
    }
}
