//! Comma-separated lists, split where a comma is outside quotes and angle brackets (RFC 3261 §7.3.1).

use super::HeaderName;
use crate::text::{find_outside, trim};

/// Iterates over a list's values, without blanks at their ends; empty values are skipped.
#[derive(Clone, Debug)]
pub struct ListValues<'a> {
    rest: &'a [u8],
    whole: bool,
}

impl<'a> ListValues<'a> {
    /// Splits at commas.
    #[must_use]
    pub const fn new(value: &'a [u8]) -> Self {
        Self { rest: value, whole: false }
    }

    /// Splits at commas when headers of this name are lists; otherwise gives the whole value once.
    #[must_use]
    pub const fn of(name: HeaderName, value: &'a [u8]) -> Self {
        Self { rest: value, whole: !name.is_list() }
    }
}

impl<'a> Iterator for ListValues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let comma = if self.whole { None } else { find_outside(self.rest, b',') };
            let end = comma.unwrap_or(self.rest.len());
            let value = trim(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !value.is_empty() {
                return Some(value);
            }
        }
        None
    }
}

/// Whether a list of tokens (Allow, Supported, Require, Content-Encoding …) holds `token`, in any case.
/// Methods in Allow differ by case in theory (RFC 3261 §7.1); no peer that meant that has been seen.
#[must_use]
pub fn lists_token(value: &[u8], token: &[u8]) -> bool {
    ListValues::new(value).any(|item| item.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        let value = br#""Bell, A" <sip:a,b@example.com>;x="1,2" , <sip:c@example.com> ,, sip:d@example.com"#;
        let values: Vec<_> = ListValues::new(value).collect();
        let wanted: [&[u8]; 3] =
            [br#""Bell, A" <sip:a,b@example.com>;x="1,2""#, b"<sip:c@example.com>", b"sip:d@example.com"];
        assert_eq!(values, wanted);
    }

    #[test]
    fn a_name_that_is_no_list_keeps_its_commas() {
        assert_eq!(ListValues::of(HeaderName::Date, b"Sat, 21 Nov").count(), 1);
        assert_eq!(ListValues::of(HeaderName::Allow, b"INVITE, ACK").count(), 2);
        assert_eq!(ListValues::of(HeaderName::Allow, b"").count(), 0);
    }

    #[test]
    fn tokens_are_found_whole() {
        assert!(lists_token(b"100rel, Timer", b"timer"));
        assert!(!lists_token(b"100rel, timers", b"timer"));
    }
}
