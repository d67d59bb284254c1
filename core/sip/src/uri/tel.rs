//! tel URIs (RFC 3966).

use super::UriError;
use crate::header::Params;

/// A telephone number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelUri<'a> {
    /// The number as it came, visual separators included.
    pub number: &'a [u8],
    /// `phone-context`, `ext` among others.
    pub params: Params<'a>,
}

impl<'a> TelUri<'a> {
    /// Reads a URI without angle brackets.
    ///
    /// # Errors
    /// When the scheme is another, or the number has no digit or something that is neither digit nor separator.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UriError> {
        let rest = match bytes {
            _ if bytes.len() > 4 && bytes[..4].eq_ignore_ascii_case(b"tel:") => &bytes[4..],
            _ => return Err(UriError::new("not a tel URI")),
        };
        let (number, params) = rest.split_at(memchr::memchr(b';', rest).unwrap_or(rest.len()));
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        let legal = |b: &u8| b.is_ascii_hexdigit() || is_separator(*b) || matches!(b, b'*' | b'#');
        if !digits.iter().all(legal) || digits.iter().all(|&b| is_separator(b)) {
            return Err(UriError::new("bad telephone number"));
        }
        Ok(Self { number, params: Params::new(params) })
    }

    /// Whether the number is global: starts with `+` (RFC 3966 §5.1.4).
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.number.starts_with(b"+")
    }

    /// Where a local number is valid (RFC 3966 §5.1.5).
    #[must_use]
    pub fn phone_context(&self) -> Option<&'a [u8]> {
        self.params.value(b"phone-context")
    }

    /// Writes the number without visual separators.
    pub fn write_digits(&self, out: &mut Vec<u8>) {
        out.extend(self.number.iter().filter(|&&b| !is_separator(b)));
    }
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_global_and_local_numbers() {
        let tel = TelUri::parse(b"tel:+1-201-555.0123;ext=7").expect("good");
        assert!(tel.is_global());
        let mut digits = Vec::new();
        tel.write_digits(&mut digits);
        assert_eq!(digits, b"+12015550123");
        let tel = TelUri::parse(b"TEL:7042;phone-context=example.com").expect("good");
        assert!(!tel.is_global());
        assert_eq!(tel.phone_context(), Some(b"example.com".as_slice()));
    }

    #[test]
    fn refuses_what_is_no_number() {
        for uri in ["tel:", "tel:+", "tel:--", "tel:hello", "sip:1", "tel:1@2"] {
            assert!(TelUri::parse(uri.as_bytes()).is_err(), "{uri}");
        }
    }
}
