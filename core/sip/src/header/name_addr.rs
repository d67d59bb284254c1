//! Addresses: From, To, Contact, Route, Record-Route, Path, Refer-To, P-Asserted-Identity … (RFC 3261 §20.10).

use super::{HeaderError, Params};
use crate::text::{find_outside, is_balanced, quoted_end, trim, trim_end, trim_start, unquote};
use crate::uri::Uri;
use std::borrow::Cow;

/// One `name-addr` or `addr-spec` with header parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as it came, quotes included; `None` when there is none.
    pub display: Option<&'a [u8]>,
    /// The URI without angle brackets.
    pub uri: &'a [u8],
    /// Whether the URI came in angle brackets. Without them it can have no parameters of its own.
    pub bracketed: bool,
    /// The header's parameters, not the URI's.
    pub params: Params<'a>,
    /// The whole value.
    pub raw: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// Reads one value (not a comma-separated list). The URI itself is not looked into.
    ///
    /// # Errors
    /// On an unclosed quote or bracket, an empty URI, or something other than parameters behind it.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let raw = trim(value);
        if raw.first() == Some(&b'"') {
            let end = quoted_end(raw).ok_or(HeaderError::new("quote never closes", 0))?;
            if trim_start(&raw[end..]).first() != Some(&b'<') {
                return Err(HeaderError::new("no address behind the display name", end));
            }
        }
        let Some(open) = find_outside(raw, b'<') else {
            return Self::bare(raw);
        };
        let close =
            memchr::memchr(b'>', &raw[open..]).ok_or(HeaderError::new("bracket never closes", open))? + open;
        let uri = trim(&raw[open + 1..close]);
        let params = trim_start(&raw[close + 1..]);
        if uri.is_empty() {
            return Err(HeaderError::new("empty address", open));
        }
        if !(params.is_empty() || params[0] == b';') || !is_balanced(params) {
            return Err(HeaderError::new("not a parameter", close + 1));
        }
        let display = Some(trim_end(&raw[..open])).filter(|display| !display.is_empty());
        Ok(Self { display, uri, bracketed: true, params: Params::new(params), raw })
    }

    /// The tag; `None` when missing or empty.
    #[must_use]
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.params.value(b"tag").filter(|tag| !tag.is_empty())
    }

    /// The display name without quotes and escapes.
    #[must_use]
    pub fn display_text(&self) -> Option<Cow<'a, [u8]>> {
        self.display.map(unquote)
    }

    /// A Contact's own expiry in seconds (RFC 3261 §10.2.1.1); `None` when missing or no number.
    #[must_use]
    pub fn expires(&self) -> Option<u32> {
        self.params.number(b"expires")
    }

    /// A Contact's preference in thousandths, 0 to 1000 (RFC 3261 §20.10 `qvalue`); `None` when missing or not legal.
    #[must_use]
    pub fn q(&self) -> Option<u16> {
        qvalue(self.params.value(b"q")?)
    }

    /// The device (RFC 5626 §4.1), without quotes and angle brackets: `urn:uuid:…`.
    #[must_use]
    pub fn sip_instance(&self) -> Option<&'a [u8]> {
        let value = self.params.value(b"+sip.instance")?;
        let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        let value = value.strip_prefix(b"<").and_then(|v| v.strip_suffix(b">")).unwrap_or(value);
        Some(value).filter(|v| !v.is_empty())
    }

    /// The flow's number at the device (RFC 5626 §4.2).
    #[must_use]
    pub fn reg_id(&self) -> Option<u32> {
        self.params.number(b"reg-id")
    }

    /// The URI, read.
    ///
    /// # Errors
    /// When it is none, or a SIP URI that is broken.
    pub fn parsed_uri(&self) -> Result<Uri<'a>, crate::uri::UriError> {
        Uri::parse(self.uri)
    }

    /// Whether the URI can be read, and needs no brackets that it does not have (RFC 3261 §20.10, `regbadct` of RFC 4475).
    #[must_use]
    pub fn uri_is_readable(&self) -> bool {
        let needs_brackets = memchr::memchr2(b'?', b',', self.uri).is_some();
        self.parsed_uri().is_ok() && (self.bracketed || !needs_brackets)
    }

    fn bare(raw: &'a [u8]) -> Result<Self, HeaderError> {
        let (uri, params) = raw.split_at(memchr::memchr(b';', raw).unwrap_or(raw.len()));
        let uri = trim_end(uri);
        match uri.iter().position(|&b| crate::text::is_blank(b) || b == b'"' || b == b'>') {
            _ if uri.is_empty() => Err(HeaderError::new("empty address", 0)),
            _ if !is_balanced(params) => Err(HeaderError::new("not a parameter", uri.len())),
            Some(offset) => Err(HeaderError::new("not a URI", offset)),
            None => Ok(Self { display: None, uri, bracketed: false, params: Params::new(params), raw }),
        }
    }
}

/// `0`, `0.5`, `1`, `1.000`: thousandths.
fn qvalue(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match memchr::memchr(b'.', value) {
        Some(n) => (&value[..n], &value[n + 1..]),
        None => (value, &b""[..]),
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut thousandths = match whole {
        b"0" | b"" => 0,
        b"1" => 1000,
        _ => return None,
    };
    let mut weight = 100;
    for digit in fraction {
        thousandths += u16::from(digit - b'0') * weight;
        weight /= 10;
    }
    (thousandths <= 1000 && !value.is_empty()).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> NameAddr<'_> {
        NameAddr::parse(value.as_bytes()).expect("readable")
    }

    #[test]
    fn reads_display_names_quoted_and_bare() {
        let address = read(r#""J Rosenberg \\\""       <sip:jdrosen@example.com>;tag=98asjd8"#);
        assert_eq!(address.display_text().as_deref(), Some(br#"J Rosenberg \""#.as_slice()));
        assert_eq!(address.uri, b"sip:jdrosen@example.com");
        assert_eq!(address.tag(), Some(b"98asjd8".as_slice()));
        assert_eq!(
            read("token1~` token2'+_ token3*%!.- <sip:m@example.com>").display,
            Some(b"token1~` token2'+_ token3*%!.-".as_slice())
        );
        assert_eq!(read("caller<sip:caller@example.com>;tag=323").display, Some(b"caller".as_slice()));
        assert_eq!(read("<sip:a@example.com>").display, None);
    }

    #[test]
    fn parameters_of_a_bare_address_belong_to_the_header() {
        let address = read("sip:caller@example.net;tag=3ghsd41");
        assert_eq!(address.uri, b"sip:caller@example.net");
        assert!(!address.bracketed);
        assert_eq!(address.tag(), Some(b"3ghsd41".as_slice()));
        let address = read("<sip:caller@example.net;tag=no>;tag=yes");
        assert_eq!(address.tag(), Some(b"yes".as_slice()));
    }

    #[test]
    fn reads_contact_parameters() {
        let contact = read(r#"<sip:a@192.0.2.1>;expires=60;q=0.33;reg-id=1;+sip.instance="<urn:uuid:0-1>""#);
        assert_eq!((contact.expires(), contact.q(), contact.reg_id()), (Some(60), Some(330), Some(1)));
        assert_eq!(contact.sip_instance(), Some(b"urn:uuid:0-1".as_slice()));
        for (q, wanted) in [
            ("1", Some(1000)),
            ("1.0", Some(1000)),
            ("1.1", None),
            ("0", Some(0)),
            (".5", Some(500)),
            ("2", None),
            ("x", None),
            ("0.1234", None),
        ] {
            assert_eq!(qvalue(q.as_bytes()), wanted, "{q}");
        }
    }

    #[test]
    fn refuses_what_is_unclosed_empty_or_followed_by_junk() {
        for value in [
            "",
            "<>",
            "< >",
            "<sip:a@b",
            r#""Mr. J. User <sip:j.user@example.com>"#,
            r#""a" sip:a@b"#,
            "<sip:a@b> x",
            "a b",
            ";tag=1",
            "<sip:a@b>;x=\"",
            "sip:a@b;x=<",
        ] {
            assert!(NameAddr::parse(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn a_question_mark_needs_brackets() {
        assert!(!read("sip:user@example.com?Route=%3Csip:sip.example.com%3E").uri_is_readable());
        assert!(read("<sip:user@example.com?Route=%3Csip:sip.example.com%3E>").uri_is_readable());
    }
}
