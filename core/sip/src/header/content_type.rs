//! Content-Type (RFC 3261 §20.15).

use super::{HeaderError, Params};
use crate::text::{take_token, trim, trim_start};

/// A media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    /// `application` …; compared without case.
    pub kind: &'a [u8],
    /// `sdp` …; compared without case.
    pub subtype: &'a [u8],
    /// `boundary`, `charset` among others.
    pub params: Params<'a>,
}

impl<'a> ContentType<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// When it is not `token/token` with parameters.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let bad = HeaderError::new("not a media type", 0);
        let (kind, rest) = take_token(trim(value));
        let (subtype, rest) = take_token(trim_start(trim_start(rest).strip_prefix(b"/").ok_or(bad)?));
        let rest = trim_start(rest);
        if kind.is_empty() || subtype.is_empty() || !(rest.is_empty() || rest[0] == b';') {
            return Err(bad);
        }
        Ok(Self { kind, subtype, params: Params::new(rest) })
    }

    /// Whether it is `kind/subtype`.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
            && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// Whether it is a session description.
    #[must_use]
    pub fn is_sdp(&self) -> bool {
        self.is("application", "sdp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_type_and_parameters() {
        let content = ContentType::parse(b"Multipart / mixed ; boundary=\"a;b\"").expect("good");
        assert!(content.is("multipart", "MIXED"));
        assert_eq!(content.params.value(b"boundary"), Some(br#""a;b""#.as_slice()));
        assert!(ContentType::parse(b"application/SDP").expect("good").is_sdp());
        assert!(ContentType::parse(b"sdp").is_err());
    }
}
