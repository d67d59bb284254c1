//! Event (RFC 6665 §8.2.1).

use super::{HeaderError, Params};
use crate::text::{take_token, trim, trim_start};

/// An event package with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The package with its templates: `presence.winfo`. Case matters.
    pub package: &'a [u8],
    /// `id` among others.
    pub params: Params<'a>,
}

impl<'a> Event<'a> {
    /// Reads a value.
    ///
    /// # Errors
    /// When it does not start with a token.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let (package, rest) = take_token(trim(value));
        let rest = trim_start(rest);
        if package.is_empty() || !(rest.is_empty() || rest[0] == b';') {
            return Err(HeaderError::new("no event package", 0));
        }
        Ok(Self { package, params: Params::new(rest) })
    }

    /// The subscription's id within its dialog.
    #[must_use]
    pub fn id(&self) -> Option<&'a [u8]> {
        self.params.value(b"id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_package_and_id() {
        let event = Event::parse(b"dialog ; id=7").expect("good");
        assert_eq!((event.package, event.id()), (&b"dialog"[..], Some(&b"7"[..])));
        assert!(Event::parse(b";id=1").is_err());
    }
}
