//! SIP and SIPS URIs (RFC 3261 §19.1).

use super::escape::{decode, decoded, write_escaped_user};
use super::{Uri, UriError};
use crate::header::{Param, Params};
use std::borrow::Cow;
use std::net::IpAddr;

/// A SIP or SIPS URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipUri<'a> {
    /// Whether the scheme is `sips`.
    pub secure: bool,
    /// The user part, escapes and parameters included; `None` when there is no `@`.
    pub user: Option<&'a [u8]>,
    /// The password, escapes included.
    pub password: Option<&'a [u8]>,
    /// The host; an IPv6 reference keeps its brackets.
    pub host: &'a [u8],
    /// The port, if one is written.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params<'a>,
    /// Headers behind the question mark; empty when there are none.
    pub headers: &'a [u8],
    /// Host and port as they came, for edits.
    pub host_port: &'a [u8],
    /// The whole URI.
    pub raw: &'a [u8],
}

/// A host, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriHost<'a> {
    /// An address.
    Address(IpAddr),
    /// A name; compared without case.
    Name(&'a [u8]),
}

impl<'a> SipUri<'a> {
    /// Reads a URI without angle brackets.
    ///
    /// # Errors
    /// When the scheme is another, there are two `@`, or host or port are not readable.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, UriError> {
        let (secure, rest) = Self::scheme(bytes).ok_or(UriError::new("not a SIP URI"))?;
        let marks = Marks::of(rest).ok_or(UriError::new("two @"))?;
        let host_start = marks.at.map_or(0, |at| at + 1);
        let headers_start = marks.question.unwrap_or(rest.len());
        let params_start = marks.semicolon.unwrap_or(headers_start);
        let (host_port, params) = (&rest[host_start..params_start], &rest[params_start..headers_start]);
        let headers = rest.get(headers_start + 1..).unwrap_or_default();
        let params = params.get(1..).unwrap_or_default();
        let (host, port) = crate::header::host_port(host_port).ok_or(UriError::new("bad host or port"))?;
        let (user, password) = match (marks.at, marks.colon) {
            (Some(at), Some(colon)) => (Some(&rest[..colon]), Some(&rest[colon + 1..at])),
            (Some(at), None) => (Some(&rest[..at]), None),
            (None, _) => (None, None),
        };
        if user.is_some_and(<[u8]>::is_empty) {
            return Err(UriError::new("empty user"));
        }
        Ok(Self {
            secure,
            user,
            password,
            host,
            port,
            params: Params::new(params),
            headers,
            host_port,
            raw: bytes,
        })
    }

    /// Whether it is `sips`, and what is behind the colon; `None` for another scheme.
    pub(super) fn scheme(bytes: &'a [u8]) -> Option<(bool, &'a [u8])> {
        match bytes {
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', rest @ ..] => Some((false, rest)),
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', rest @ ..] => Some((true, rest)),
            _ => None,
        }
    }

    /// The host, read.
    #[must_use]
    pub fn typed_host(&self) -> UriHost<'a> {
        self.address().map_or(UriHost::Name(self.host), UriHost::Address)
    }

    /// The host as an address, when it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        crate::header::address(self.host)
    }

    /// The user with its escapes decoded; the form to look it up by.
    #[must_use]
    pub fn decoded_user(&self) -> Option<Cow<'a, [u8]>> {
        self.user.map(decode)
    }

    /// Whether the host is `host`, without case; addresses by value.
    #[must_use]
    pub fn host_is(&self, host: &[u8]) -> bool {
        let same_address = || self.address().is_some_and(|ours| crate::header::address(host) == Some(ours));
        self.host.eq_ignore_ascii_case(host) || same_address()
    }

    /// A parameter, whose name may be escaped: `%6C%72` is `lr` (RFC 3261 §25.1 `pname`, RFC 4475 §3.1.1.3).
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Param<'a>> {
        self.params.get(name).or_else(|| {
            memchr::memchr(b'%', self.raw)?;
            self.params.into_iter().find(|param| decode(param.name).eq_ignore_ascii_case(name))
        })
    }

    /// The `transport` parameter, as it came.
    #[must_use]
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.param(b"transport")?.value
    }

    /// Whether it is a loose router's (RFC 3261 §19.1.1 `lr`).
    #[must_use]
    pub fn is_loose(&self) -> bool {
        self.param(b"lr").is_some()
    }

    /// Writes the canonical address of record: `user@host`, user decoded and escaped anew, host in lower case, without
    /// scheme, port, password, parameters and headers. Two URIs of one AoR give the same bytes.
    pub fn write_aor(&self, out: &mut Vec<u8>) {
        if let Some(user) = self.user {
            let mut plain = [0_u8; 128];
            let mut len = 0;
            for byte in decoded(user) {
                if len == plain.len() {
                    write_escaped_user(&plain, out);
                    len = 0;
                }
                plain[len] = byte;
                len += 1;
            }
            write_escaped_user(&plain[..len], out);
            out.push(b'@');
        }
        out.extend(self.host.iter().map(u8::to_ascii_lowercase));
    }

    /// Writes `sip:user@host:port` with `user` decoded (it is escaped here) and no parameters.
    pub fn write(secure: bool, user: Option<&[u8]>, host: &[u8], port: Option<u16>, out: &mut Vec<u8>) {
        out.extend_from_slice(if secure { b"sips:" } else { b"sip:" });
        if let Some(user) = user {
            write_escaped_user(user, out);
            out.push(b'@');
        }
        out.extend_from_slice(host);
        if let Some(port) = port {
            out.extend_from_slice(format!(":{port}").as_bytes());
        }
    }
}

impl<'a> TryFrom<Uri<'a>> for SipUri<'a> {
    type Error = UriError;

    fn try_from(uri: Uri<'a>) -> Result<Self, UriError> {
        match uri {
            Uri::Sip(uri) => Ok(uri),
            _ => Err(UriError::new("not a SIP URI")),
        }
    }
}

/// Where the parts of a URI meet, found in one pass: URIs are short, and read many times on a message's way.
#[derive(Default)]
struct Marks {
    /// Before the host.
    at: Option<usize>,
    /// Before the password.
    colon: Option<usize>,
    /// Before the parameters.
    semicolon: Option<usize>,
    /// Before the headers.
    question: Option<usize>,
}

impl Marks {
    /// `None` for a second `@`: some read it as the end of the user part. Two readers, two hosts.
    fn of(rest: &[u8]) -> Option<Self> {
        let mut marks = Self::default();
        for (place, byte) in rest.iter().enumerate() {
            match byte {
                b'@' if marks.at.is_some() => return None,
                // What looked like parameters and headers was the user's.
                b'@' => marks = Self { at: Some(place), colon: marks.colon, ..Self::default() },
                b':' if marks.at.is_none() && marks.colon.is_none() => marks.colon = Some(place),
                b'?' if marks.question.is_none() => marks.question = Some(place),
                b';' if marks.question.is_none() && marks.semicolon.is_none() => {
                    marks.semicolon = Some(place);
                }
                _ => {}
            }
        }
        Some(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> SipUri<'_> {
        SipUri::parse(uri.as_bytes()).expect("readable")
    }

    #[test]
    fn reads_all_parts() {
        let uri = read("sips:alice:secret@Example.COM:5061;transport=tcp;lr?subject=a&priority=b");
        assert!(uri.secure && uri.is_loose());
        assert_eq!((uri.user, uri.password), (Some(&b"alice"[..]), Some(&b"secret"[..])));
        assert_eq!(
            (uri.host, uri.port, uri.host_port),
            (&b"Example.COM"[..], Some(5061), &b"Example.COM:5061"[..])
        );
        assert_eq!((uri.transport(), uri.headers), (Some(&b"tcp"[..]), &b"subject=a&priority=b"[..]));
        assert!(uri.host_is(b"example.com"));
    }

    #[test]
    fn odd_users_of_rfc_4475_are_users() {
        let uri = read(
            "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
        );
        assert_eq!(uri.host, b"example.com");
        assert_eq!(uri.password, Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..]));
        let uri = read("sip:user;par=u%40example.net@example.com");
        assert_eq!(uri.decoded_user().as_deref(), Some(&b"user;par=u@example.net"[..]));
        assert_eq!(uri.params.count(), 0);
    }

    #[test]
    fn ipv6_needs_brackets() {
        let uri = read("sip:user@[2001:db8::10]:5070");
        assert_eq!((uri.port, uri.address()), (Some(5070), "2001:db8::10".parse().ok()));
        assert_eq!(read("sip:[2001:db8::10:5070]").port, None);
        assert_eq!(read("sip:user@[2001:db8:::192.0.2.1]").address(), "2001:db8::192.0.2.1".parse().ok());
        assert!(SipUri::parse(b"sip:2001:db8::10").is_err());
    }

    #[test]
    fn refuses_what_two_readers_would_read_differently() {
        for uri in [
            "sip:a@b@c",
            "sip:@a",
            "sip:a@",
            "sip:a@b:99999",
            "sip:a@b c",
            "sip:a@b:x",
            "http:a",
            "sip:a@b/c",
        ] {
            assert!(SipUri::parse(uri.as_bytes()).is_err(), "{uri}");
        }
    }

    #[test]
    fn spellings_of_one_aor_give_one_text() {
        let aor = |uri: &str| {
            let mut out = Vec::new();
            read(uri).write_aor(&mut out);
            String::from_utf8(out).expect("ASCII")
        };
        assert_eq!(aor("sip:%61lice@EXAMPLE.com:5060;transport=udp"), "alice@example.com");
        assert_eq!(aor("sips:alice:pw@example.com?x=y"), "alice@example.com");
        assert_ne!(aor("sip:Alice@example.com"), "alice@example.com");
        assert_eq!(aor("sip:a%40b@example.com"), "a%40b@example.com");
        assert_eq!(aor("sip:example.com"), "example.com");
        assert_eq!(aor(&format!("sip:{}@h", "%41".repeat(300))), format!("{}@h", "A".repeat(300)));
    }

    #[test]
    fn writing_escapes_the_user() {
        let mut out = Vec::new();
        SipUri::write(false, Some(b"a b@c"), b"example.com", Some(5070), &mut out);
        assert_eq!(out, b"sip:a%20b%40c@example.com:5070");
    }
}
