//! Reason (RFC 3326) with Q.850 causes.

use super::{HeaderError, Params};
use crate::text::{decimal, take_token, trim, trim_start};
use std::borrow::Cow;

/// One Reason value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850` …; compared without case.
    pub protocol: &'a [u8],
    /// `cause` and `text` among others.
    pub params: Params<'a>,
}

impl<'a> Reason<'a> {
    /// Reads one value (not a comma-separated list).
    ///
    /// # Errors
    /// When it does not start with a token.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let (protocol, rest) = take_token(trim(value));
        let rest = trim_start(rest);
        if protocol.is_empty() || !(rest.is_empty() || rest[0] == b';') {
            return Err(HeaderError::new("no protocol", 0));
        }
        Ok(Self { protocol, params: Params::new(rest) })
    }

    /// The cause in the protocol's own numbers.
    #[must_use]
    pub fn cause(&self) -> Option<u16> {
        self.params.value(b"cause").and_then(decimal).and_then(|n| u16::try_from(n).ok())
    }

    /// The cause as a Q.850 number (0 to 127), when that is the protocol.
    #[must_use]
    pub fn q850(&self) -> Option<u8> {
        let q850 = self.protocol.eq_ignore_ascii_case(b"Q.850");
        self.cause().filter(|&n| q850 && n <= 127).and_then(|n| u8::try_from(n).ok())
    }

    /// The text for people.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, [u8]>> {
        self.params.get(b"text").map(|param| param.unquoted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_q850_cause() {
        let reason = Reason::parse(b"Q.850 ;cause=16 ;text=\"Terminated\"").expect("good");
        assert_eq!((reason.q850(), reason.text().as_deref()), (Some(16), Some(b"Terminated".as_slice())));
        let reason = Reason::parse(b"SIP;cause=200;text=\"Call completed elsewhere\"").expect("good");
        assert_eq!((reason.q850(), reason.cause()), (None, Some(200)));
    }

    #[test]
    fn refuses_a_value_without_protocol() {
        assert!(Reason::parse(b";cause=16").is_err());
        assert!(Reason::parse(b"SIP cause=16").is_err());
    }
}
