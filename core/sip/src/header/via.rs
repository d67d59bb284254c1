//! Via (RFC 3261 §20.42, rport: RFC 3581).

use super::{HeaderError, Params};
use crate::text::{decimal, is_balanced, is_blank, is_host, take_token, trim, trim_start};
use signalbox_base::Transport;
use std::net::IpAddr;

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP` … as it came; compared without case.
    pub transport: &'a [u8],
    /// The sent-by host; an IPv6 reference keeps its brackets.
    pub host: &'a [u8],
    /// The sent-by port, if one is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'a>,
    /// Host and port as they came, for edits.
    pub sent_by: &'a [u8],
    /// The whole value.
    pub raw: &'a [u8],
}

impl<'a> Via<'a> {
    /// What a branch of RFC 3261 starts with (§8.1.1.7).
    pub const MAGIC_COOKIE: &'static [u8] = b"z9hG4bK";

    /// Reads one value (not a comma-separated list).
    ///
    /// # Errors
    /// When protocol, version, transport or sent-by are not readable.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        let at = |rest: &[u8]| value.len() - rest.len();
        let (protocol, rest) = take_token(value);
        let (version, rest) =
            after_slash(rest).map(take_token).ok_or(HeaderError::new("no slash", at(rest)))?;
        let (transport, rest) =
            after_slash(rest).map(take_token).ok_or(HeaderError::new("no slash", at(rest)))?;
        // Any version: a 505 must be able to find its way back (`badvers` of RFC 4475 §3.1.2.16).
        if !protocol.eq_ignore_ascii_case(b"SIP") || version.is_empty() {
            return Err(HeaderError::new("not SIP", 0));
        }
        if transport.is_empty() || !rest.first().copied().is_some_and(is_blank) {
            return Err(HeaderError::new("no transport", at(rest)));
        }
        let rest = trim_start(rest);
        let (sent_by, params) = rest.split_at(memchr::memchr(b';', rest).unwrap_or(rest.len()));
        if !is_balanced(params) {
            return Err(HeaderError::new("quote never closes", at(params)));
        }
        let sent_by = trim(sent_by);
        let (host, port) = host_port(sent_by).ok_or(HeaderError::new("bad sent-by", at(rest)))?;
        Ok(Self { transport, host, port, params: Params::new(params), sent_by, raw: value })
    }

    /// The branch; `None` when missing or empty.
    #[must_use]
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.params.value(b"branch").filter(|b| !b.is_empty())
    }

    /// Whether the branch was made by an element of RFC 3261, and so is unique.
    #[must_use]
    pub fn has_magic_cookie(&self) -> bool {
        self.branch().is_some_and(Self::is_unique)
    }

    /// The same of a branch that is at hand.
    pub(crate) fn is_unique(branch: &[u8]) -> bool {
        let cookie = Self::MAGIC_COOKIE;
        branch.len() > cookie.len() && branch[..cookie.len()].eq_ignore_ascii_case(cookie)
    }

    /// The address that an earlier hop saw (RFC 3261 §18.2.1); with or without brackets (RFC 5118 §4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        address(self.params.value(b"received")?)
    }

    /// `None`: no rport. `Some(None)`: asked for. `Some(Some(port))`: filled in (RFC 3581 §3).
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        let param = self.params.get(b"rport")?;
        Some(param.value.and_then(decimal).and_then(|n| u16::try_from(n).ok()))
    }

    /// The host as an address, when it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        address(self.host)
    }

    /// The transport, when it is one we speak.
    #[must_use]
    pub fn known_transport(&self) -> Option<Transport> {
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss]
            .into_iter()
            .find(|t| t.via().as_bytes().eq_ignore_ascii_case(self.transport))
    }
}

/// A host as an address, with or without IPv6 brackets; three colons before an IPv4 tail are read as two (RFC 5118 §4.10).
#[must_use]
pub fn address(host: &[u8]) -> Option<IpAddr> {
    let inner = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
    IpAddr::parse_ascii_lenient(inner)
}

trait ParseLenient: Sized {
    fn parse_ascii_lenient(bytes: &[u8]) -> Option<Self>;
}

impl ParseLenient for IpAddr {
    /// Three colons before an IPv4 tail were legal by an ABNF bug and are read as two (RFC 5118 §4.10).
    fn parse_ascii_lenient(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= 64)?;
        text.parse()
            .ok()
            .or_else(|| text.contains(":::").then(|| text.replacen(":::", "::", 1).parse().ok())?)
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, blanks around the colon allowed.
pub(crate) fn host_port(bytes: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = match bytes.first()? {
        b'[' => memchr::memchr(b']', bytes)? + 1,
        _ => bytes.iter().position(|&b| !is_host(b)).unwrap_or(bytes.len()),
    };
    let (host, rest) = bytes.split_at(host_end);
    let bad = match host {
        [b'[', inner @ .., b']'] => {
            inner.is_empty() || !inner.iter().all(|&b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
        }
        host => host.is_empty(),
    };
    if bad {
        return None;
    }
    match trim_start(rest) {
        [] => Some((host, None)),
        [b':', port @ ..] => Some((host, Some(u16::try_from(decimal(trim(port))?).ok()?))),
        _ => None,
    }
}

/// A name of letters, digits, `-`, `.`, `_`, or an IPv6 reference.
fn after_slash(rest: &[u8]) -> Option<&[u8]> {
    trim_start(rest).strip_prefix(b"/").map(trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_usual_value() {
        let via = Via::parse(b"SIP/2.0/UDP 192.0.2.1:5070;rport;branch=z9hG4bKabc;received=192.0.2.9")
            .expect("good");
        assert_eq!((via.transport, via.host, via.port), (&b"UDP"[..], &b"192.0.2.1"[..], Some(5070)));
        assert_eq!(via.branch(), Some(b"z9hG4bKabc".as_slice()));
        assert!(via.has_magic_cookie());
        assert_eq!(via.rport(), Some(None));
        assert_eq!(via.received(), "192.0.2.9".parse().ok());
        assert_eq!(via.sent_by, b"192.0.2.1:5070");
        assert_eq!(via.known_transport(), Some(Transport::Udp));
    }

    #[test]
    fn blanks_and_folds_are_allowed_wherever_the_grammar_has_them() {
        let via = Via::parse(
            b"SIP  / 2.0\r\n / TCP     spindle.example.com : 5061  ;\r\n  branch  =   z9hG4bK9ikj8",
        );
        let via = via.expect("good");
        assert_eq!((via.host, via.port), (&b"spindle.example.com"[..], Some(5061)));
        assert_eq!(via.branch(), Some(b"z9hG4bK9ikj8".as_slice()));
    }

    #[test]
    fn received_may_come_with_or_without_brackets() {
        for value in [
            &b"SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255"[..],
            b"SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255]",
        ] {
            let via = Via::parse(value).expect("good");
            assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
            assert_eq!(via.address(), "2001:db8::9:1".parse().ok());
        }
    }

    #[test]
    fn refuses_what_has_no_transport_version_or_host() {
        for value in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "HTTP/2.0/UDP a",
            "SIP/2.0 a",
            "SIP/2.0/UDP a:b",
            "SIP/2.0/UDP a:70000",
            "SIP/2.0/UDP ;branch=1",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP a b",
        ] {
            assert!(Via::parse(value.as_bytes()).is_err(), "{value}");
        }
    }
}
