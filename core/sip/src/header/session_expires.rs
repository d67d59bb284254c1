//! Session-Expires (RFC 4028 §4).

use super::{HeaderError, Params};
use crate::text::{decimal_saturating, trim, trim_start};

/// Who refreshes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// The side that sent the request.
    Uac,
    /// The side that answered it.
    Uas,
}

/// Session-Expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExpires<'a> {
    /// The session interval in seconds.
    pub seconds: u32,
    /// `refresher` among others.
    pub params: Params<'a>,
}

impl<'a> SessionExpires<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// When it does not start with a number.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let seconds = decimal_saturating(&value[..digits]).ok_or(HeaderError::new("not a number", 0))?;
        Ok(Self { seconds, params: Params::new(trim_start(&value[digits..])) })
    }

    /// Who refreshes; `None` when not said.
    #[must_use]
    pub fn refresher(&self) -> Option<Refresher> {
        match self.params.value(b"refresher")? {
            v if v.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            v if v.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_interval_and_the_refresher() {
        let session = SessionExpires::parse(b"1800;refresher=UAS").expect("good");
        assert_eq!((session.seconds, session.refresher()), (1800, Some(Refresher::Uas)));
        assert_eq!(SessionExpires::parse(b"90").expect("good").refresher(), None);
        assert!(SessionExpires::parse(b";refresher=uac").is_err());
    }
}
