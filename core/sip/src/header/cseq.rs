//! CSeq (RFC 3261 §20.16).

use super::HeaderError;
use crate::message::Method;
use crate::text::{decimal_u32, is_all_token, trim, trim_start};

/// CSeq: number and method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The number; below 2³¹ by RFC 3261 §8.1.1.5, and up to 2³²-1 by ours.
    pub number: u32,
    /// The method as it came.
    pub method: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// When it is not a number that fits 32 bits, blanks, and a token.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = decimal_u32(&value[..digits]).ok_or(HeaderError::new("not a number of 32 bits", 0))?;
        let method = trim_start(&value[digits..]);
        if method.len() + digits == value.len() || !is_all_token(method) {
            return Err(HeaderError::new("no method", digits));
        }
        Ok(Self { number, method })
    }

    /// The method; `None` when longer than [`Method::BYTES_MAX`].
    #[must_use]
    pub fn method(&self) -> Option<Method> {
        Method::from_bytes(self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_leading_zeros_and_folds() {
        assert_eq!(CSeq::parse(b"0009\r\n  INVITE"), Ok(CSeq { number: 9, method: b"INVITE" }));
    }

    #[test]
    fn refuses_large_numbers_and_missing_methods() {
        for value in ["36893488147419103232 REGISTER", "1", "INVITE", "1INVITE", "", "-1 INVITE"] {
            assert!(CSeq::parse(value.as_bytes()).is_err(), "{value}");
        }
    }
}
