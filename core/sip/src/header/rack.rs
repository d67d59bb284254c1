//! RAck (RFC 3262 §7.2).

use super::{CSeq, HeaderError};
use crate::text::{decimal_u32, trim, trim_start};

/// RAck: what a PRACK acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The RSeq of the provisional response.
    pub rseq: u32,
    /// The CSeq of the request it answered. When the CSeq was moved on the way, this number must be moved back.
    pub cseq: CSeq<'a>,
    /// The CSeq number's digits as they came, for edits.
    pub cseq_digits: &'a [u8],
}

impl<'a> RAck<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// When it is not two numbers that fit 32 bits and a token.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let rseq = decimal_u32(&value[..digits]).ok_or(HeaderError::new("not a number of 32 bits", 0))?;
        let rest = trim_start(&value[digits..]);
        if rest.len() + digits == value.len() {
            return Err(HeaderError::new("no CSeq", digits));
        }
        let cseq = CSeq::parse(rest)?;
        let cseq_digits = &rest[..rest.iter().take_while(|b| b.is_ascii_digit()).count()];
        Ok(Self { rseq, cseq, cseq_digits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_numbers_and_the_method() {
        let rack = RAck::parse(b"776656 1 INVITE").expect("good");
        assert_eq!((rack.rseq, rack.cseq.number, rack.cseq.method), (776_656, 1, &b"INVITE"[..]));
        assert_eq!(rack.cseq_digits, b"1");
    }

    #[test]
    fn refuses_a_missing_part() {
        for value in ["1 INVITE", "1", "", "1 2", "x 1 INVITE"] {
            assert!(RAck::parse(value.as_bytes()).is_err(), "{value}");
        }
    }
}
