//! Retry-After (RFC 3261 §20.33).

use super::{HeaderError, Params};
use crate::text::{decimal_saturating, trim, trim_start};

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter<'a> {
    /// In how many seconds; `u32::MAX` for anything larger.
    pub seconds: u32,
    /// `duration` among others.
    pub params: Params<'a>,
}

impl<'a> RetryAfter<'a> {
    /// Reads a value; a comment in parentheses is skipped.
    ///
    /// # Errors
    /// When it does not start with a number.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let seconds = decimal_saturating(&value[..digits]).ok_or(HeaderError::new("not a number", 0))?;
        let mut rest = trim_start(&value[digits..]);
        if rest.first() == Some(&b'(') {
            rest = memchr::memrchr(b')', rest).map_or(&b""[..], |n| trim_start(&rest[n + 1..]));
        }
        Ok(Self { seconds, params: Params::new(rest) })
    }

    /// For how long the peer will then be reachable, in seconds.
    #[must_use]
    pub fn duration(&self) -> Option<u32> {
        self.params.number(b"duration")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_seconds_comment_and_duration() {
        let retry = RetryAfter::parse(b"18000 (in a; meeting);duration=3600").expect("good");
        assert_eq!((retry.seconds, retry.duration()), (18_000, Some(3600)));
        assert_eq!(RetryAfter::parse(b"949302838503028349304023988").expect("good").seconds, u32::MAX);
        assert!(RetryAfter::parse(b"soon").is_err());
    }
}
