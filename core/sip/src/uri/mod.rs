//! URIs: SIP and SIPS, tel, and any other scheme as it is.

mod compare;
mod escape;
mod sip;
mod tel;

pub use crate::header::address as host_address;
pub use compare::equivalent;
pub use escape::{decode, write_escaped_header, write_escaped_user};
pub use sip::{SipUri, UriHost};
pub use tel::TelUri;

/// A URI that cannot be read: the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct UriError {
    /// What is wrong, for people.
    pub what: &'static str,
}

impl UriError {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

/// A URI of any scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uri<'a> {
    /// `sip:` or `sips:`.
    Sip(SipUri<'a>),
    /// `tel:`.
    Tel(TelUri<'a>),
    /// Any other scheme (`urn:service:sos`, `http:` …), carried as it is.
    Other {
        /// Before the colon; compared without case.
        scheme: &'a [u8],
        /// Behind the colon.
        opaque: &'a [u8],
    },
}

impl<'a> Uri<'a> {
    /// Reads a URI without angle brackets.
    ///
    /// # Errors
    /// When there is no scheme, or the scheme is one we read and the rest is broken.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UriError> {
        // Nearly all are these two, and are told by their first bytes.
        if SipUri::scheme(bytes).is_some_and(|(_, rest)| !rest.is_empty()) {
            return SipUri::parse(bytes).map(Self::Sip);
        }
        let colon = memchr::memchr(b':', bytes).ok_or(UriError::new("no scheme"))?;
        let (scheme, opaque) = (&bytes[..colon], &bytes[colon + 1..]);
        let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if !scheme.first().is_some_and(u8::is_ascii_alphabetic)
            || !scheme.iter().all(legal)
            || opaque.is_empty()
        {
            return Err(UriError::new("no scheme"));
        }
        if scheme.eq_ignore_ascii_case(b"tel") {
            return TelUri::parse(bytes).map(Self::Tel);
        }
        Ok(Self::Other { scheme, opaque })
    }

    /// The SIP URI, if it is one.
    #[must_use]
    pub const fn as_sip(&self) -> Option<&SipUri<'a>> {
        match self {
            Self::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// Whether it asks for an emergency service (`urn:service:sos` and below, RFC 5031).
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        let Self::Other { scheme, opaque } = self else { return false };
        let service = b"service:sos";
        scheme.eq_ignore_ascii_case(b"urn")
            && opaque.len() >= service.len()
            && opaque[..service.len()].eq_ignore_ascii_case(service)
            && matches!(opaque.get(service.len()), None | Some(b'.'))
    }
}

/// A URI without the headers behind its question mark: those must not stand in a Request-URI (RFC 3261 §19.1.1), and are
/// cut where a Contact becomes one.
#[must_use]
pub fn without_headers(uri: &[u8]) -> &[u8] {
    // Hardly any has some.
    if memchr::memchr(b'?', uri).is_none() {
        return uri;
    }
    match Uri::parse(uri) {
        Ok(Uri::Sip(sip)) if !sip.headers.is_empty() => &uri[..uri.len() - sip.headers.len() - 1],
        _ => uri,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_scheme_is_carried() {
        assert!(matches!(Uri::parse(b"SIPS:a@example.com"), Ok(Uri::Sip(uri)) if uri.secure));
        assert!(matches!(Uri::parse(b"tel:+1-201"), Ok(Uri::Tel(_))));
        assert!(matches!(
            Uri::parse(b"nobodyKnowsThisScheme:totallyopaque"),
            Ok(Uri::Other { opaque: b"totallyopaque", .. })
        ));
        assert!(Uri::parse(b"soap.beep://192.0.2.103:3002").is_ok());
        for bad in ["", "sip", ":a", "1a:b", "sip:", "a b:c"] {
            assert!(Uri::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_are_cut_and_a_question_mark_in_the_user_is_none() {
        for (uri, wanted) in [
            ("sip:a@h;p=1?Route=%3Csip:x%3E", "sip:a@h;p=1"),
            ("sip:a?b@h", "sip:a?b@h"),
            ("sip:a@h", "sip:a@h"),
            ("tel:+1?x", "tel:+1?x"),
        ] {
            assert_eq!(without_headers(uri.as_bytes()), wanted.as_bytes());
        }
    }

    #[test]
    fn emergency_services_are_known_by_their_urn() {
        for (uri, wanted) in [
            ("urn:service:sos", true),
            ("URN:Service:SOS.fire", true),
            ("urn:service:sosx", false),
            ("urn:service:counseling", false),
            ("sip:sos@example.com", false),
        ] {
            assert_eq!(Uri::parse(uri.as_bytes()).expect("readable").is_emergency(), wanted, "{uri}");
        }
    }
}
