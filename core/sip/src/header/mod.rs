//! Typed header views: each borrows one header's value and reads it when asked.
//!
//! A value is raw: folded ones still hold their line ends, which every view treats as blanks (RFC 3261 §7.3.1).

mod content_type;
mod cseq;
mod dialog_reference;
mod event;
mod list;
mod name;
mod name_addr;
mod params;
mod rack;
mod reason;
mod retry_after;
mod session_expires;
mod subscription_state;
mod via;

pub use content_type::ContentType;
pub use cseq::CSeq;
pub use dialog_reference::DialogReference;
pub use event::Event;
pub use list::{ListValues, lists_token};
pub use name::HeaderName;
pub use name_addr::NameAddr;
pub use params::{Param, Params};
pub use rack::RAck;
pub use reason::Reason;
pub use retry_after::RetryAfter;
pub use session_expires::{Refresher, SessionExpires};
pub use subscription_state::SubscriptionState;
pub(crate) use via::host_port;
pub use via::{Via, address};

use crate::text::{decimal_saturating, trim};

/// A header value that its view cannot read: the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset} of the value")]
pub struct HeaderError {
    /// What is wrong, for people.
    pub what: &'static str,
    /// Where, in bytes from the start of the value.
    pub offset: usize,
}

impl HeaderError {
    pub(crate) const fn new(what: &'static str, offset: usize) -> Self {
        Self { what, offset }
    }
}

/// A whole value that is one number: Max-Forwards, Expires, Min-Expires, RSeq (RFC 3261 §20.19, §20.22).
/// What is larger than `u32` becomes `u32::MAX`.
///
/// # Errors
/// When it is empty or holds anything but digits.
pub fn number(value: &[u8]) -> Result<u32, HeaderError> {
    decimal_saturating(trim(value)).ok_or(HeaderError::new("not a number", 0))
}

/// Delta-seconds followed by optional parameters, which are ignored (Expires, Min-Expires of lenient peers, Min-SE).
///
/// # Errors
/// When it does not start with digits.
pub fn delta_seconds(value: &[u8]) -> Result<u32, HeaderError> {
    number(value.split(|&b| b == b';').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_saturate_and_refuse_signs() {
        assert_eq!(number(b" 0068 "), Ok(68));
        assert_eq!(number(b"949302838503028349304023988"), Ok(u32::MAX));
        assert!(number(b"-1").is_err());
        assert!(number(b"").is_err());
        assert_eq!(delta_seconds(b"90;refresher=uac"), Ok(90));
    }
}
