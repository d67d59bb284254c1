//! Subscription-State (RFC 6665 §8.2.3).

use super::{HeaderError, Params};
use crate::text::{take_token, trim, trim_start};

/// The state of a subscription as its notifier tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionState<'a> {
    /// `active`, `pending`, `terminated` or an extension; compared without case.
    pub state: &'a [u8],
    /// `expires`, `reason`, `retry-after` among others.
    pub params: Params<'a>,
}

impl<'a> SubscriptionState<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// When it does not start with a token.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let (state, rest) = take_token(trim(value));
        let rest = trim_start(rest);
        if state.is_empty() || !(rest.is_empty() || rest[0] == b';') {
            return Err(HeaderError::new("no state", 0));
        }
        Ok(Self { state, params: Params::new(rest) })
    }

    /// Whether the subscription is over.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.state.eq_ignore_ascii_case(b"terminated")
    }

    /// Seconds left.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.params.number(b"expires")
    }

    /// Why it ended.
    #[must_use]
    pub fn reason(&self) -> Option<&'a [u8]> {
        self.params.value(b"reason")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_state_expiry_and_reason() {
        let state = SubscriptionState::parse(b"Terminated;reason=timeout").expect("good");
        assert!(state.is_terminated());
        assert_eq!(state.reason(), Some(b"timeout".as_slice()));
        let state = SubscriptionState::parse(b"active;expires=60").expect("good");
        assert!(!state.is_terminated());
        assert_eq!(state.expires(), Some(60));
        assert!(SubscriptionState::parse(b"").is_err());
    }
}
