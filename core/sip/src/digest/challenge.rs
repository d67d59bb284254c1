//! WWW-/Proxy-Authenticate and Authorization/Proxy-Authorization (RFC 7616 §3.3, §3.4; RFC 3261 §20.7, §22).

use crate::text::{find_outside, take_token, trim, trim_start, unquote};
use std::borrow::Cow;

/// A value that cannot be used: the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another scheme than Digest.
    #[error("not Digest")]
    NotDigest,
    /// A parameter that must be there is not.
    #[error("{0} missing")]
    Missing(&'static str),
    /// An algorithm we do not compute.
    #[error("unknown algorithm")]
    UnknownAlgorithm,
    /// A qop we do not compute, or `nc` that is not eight hexadecimal digits.
    #[error("bad {0}")]
    Bad(&'static str),
}

/// The hash, and whether it is bound to a session (RFC 7616 §3.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Also when nothing is said.
    #[default]
    Md5,
    /// MD5-sess.
    Md5Sess,
    /// SHA-256 (RFC 8760).
    Sha256,
    /// SHA-256-sess.
    Sha256Sess,
}

/// Quality of protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Qop {
    /// The request line is protected.
    Auth,
    /// The body too.
    AuthInt,
}

/// `name=value` lists behind a scheme; values are kept with their quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthParams<'a> {
    rest: &'a [u8],
}

/// A challenge from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The protection space.
    pub realm: Cow<'a, [u8]>,
    /// The server's nonce.
    pub nonce: Cow<'a, [u8]>,
    /// To be sent back as it is.
    pub opaque: Option<Cow<'a, [u8]>>,
    /// The hash.
    pub algorithm: Algorithm,
    /// Whether qop `auth` is offered.
    pub auth: bool,
    /// Whether qop `auth-int` is offered.
    pub auth_int: bool,
    /// Whether only the nonce was too old.
    pub stale: bool,
}

/// A client's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Who it says it is; not proven before [`verify`](super::verify) says so.
    pub username: Cow<'a, [u8]>,
    /// The protection space.
    pub realm: Cow<'a, [u8]>,
    /// The nonce it answers.
    pub nonce: Cow<'a, [u8]>,
    /// The URI it computed with.
    pub uri: Cow<'a, [u8]>,
    /// The response in hexadecimal.
    pub response: Cow<'a, [u8]>,
    /// The hash.
    pub algorithm: Algorithm,
    /// The protection; `None` is RFC 2069's.
    pub qop: Option<Qop>,
    /// The client's nonce; there whenever `qop` is.
    pub cnonce: Cow<'a, [u8]>,
    /// How often the nonce was used; 0 without `qop`.
    pub nonce_count: u32,
    /// The server's opaque.
    pub opaque: Option<Cow<'a, [u8]>>,
}

impl Algorithm {
    /// The name as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }

    /// Whether nonce and cnonce are part of HA1.
    #[must_use]
    pub const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess)
    }

    fn read(params: AuthParams<'_>) -> Result<Self, DigestError> {
        let Some(name) = params.get(b"algorithm") else { return Ok(Self::Md5) };
        [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess]
            .into_iter()
            .find(|algorithm| name.eq_ignore_ascii_case(algorithm.as_str().as_bytes()))
            .ok_or(DigestError::UnknownAlgorithm)
    }
}

impl Qop {
    /// The name as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

impl<'a> AuthParams<'a> {
    /// The parameters of a value whose scheme is Digest.
    ///
    /// # Errors
    /// [`DigestError::NotDigest`] for any other scheme.
    pub fn of_digest(value: &'a [u8]) -> Result<Self, DigestError> {
        let (scheme, rest) = take_token(trim(value));
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return Err(DigestError::NotDigest);
        }
        Ok(Self { rest: trim_start(rest) })
    }

    /// A parameter without quotes and escapes; the name in any case.
    #[must_use]
    pub fn get(self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| unquote(value))
    }

    fn must(self, name: &'static str) -> Result<Cow<'a, [u8]>, DigestError> {
        self.get(name.as_bytes()).ok_or(DigestError::Missing(name))
    }
}

impl<'a> Iterator for AuthParams<'a> {
    /// Name, and value as it came.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let end = find_outside(self.rest, b',').unwrap_or(self.rest.len());
            let param = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if let Some(n) = memchr::memchr(b'=', param) {
                return Some((trim(&param[..n]), trim(&param[n + 1..])));
            }
        }
        None
    }
}

impl<'a> Challenge<'a> {
    /// Reads the value of WWW-Authenticate or Proxy-Authenticate.
    ///
    /// # Errors
    /// When it is no Digest challenge we can answer.
    pub fn parse(value: &'a [u8]) -> Result<Self, DigestError> {
        let params = AuthParams::of_digest(value)?;
        let qop = params.get(b"qop");
        let offers = |name: &[u8]| {
            qop.as_deref()
                .is_some_and(|list| list.split(|&b| b == b',').any(|q| trim(q).eq_ignore_ascii_case(name)))
        };
        let (auth, auth_int) = (offers(b"auth"), offers(b"auth-int"));
        if qop.is_some() && !auth && !auth_int {
            return Err(DigestError::Bad("qop"));
        }
        Ok(Self {
            realm: params.must("realm")?,
            nonce: params.must("nonce")?,
            opaque: params.get(b"opaque"),
            algorithm: Algorithm::read(params)?,
            auth,
            auth_int,
            stale: params.get(b"stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
        })
    }
}

impl<'a> Credentials<'a> {
    /// Reads the value of Authorization or Proxy-Authorization.
    ///
    /// # Errors
    /// When it is no complete Digest response of an algorithm we compute.
    pub fn parse(value: &'a [u8]) -> Result<Self, DigestError> {
        let params = AuthParams::of_digest(value)?;
        let qop = match params.get(b"qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => Some(Qop::Auth),
            Some(qop) if qop.eq_ignore_ascii_case(b"auth-int") => Some(Qop::AuthInt),
            Some(_) => return Err(DigestError::Bad("qop")),
        };
        let algorithm = Algorithm::read(params)?;
        let needs_cnonce = qop.is_some() || algorithm.is_session();
        let cnonce = if needs_cnonce { params.must("cnonce")? } else { Cow::Borrowed(&b""[..]) };
        let nonce_count = if qop.is_some() { count(&params.must("nc")?)? } else { 0 };
        Ok(Self {
            username: params.must("username")?,
            realm: params.must("realm")?,
            nonce: params.must("nonce")?,
            uri: params.must("uri")?,
            response: params.must("response")?,
            algorithm,
            qop,
            cnonce,
            nonce_count,
            opaque: params.get(b"opaque"),
        })
    }
}

/// Eight hexadecimal digits (RFC 7616 §3.4).
fn count(nc: &[u8]) -> Result<u32, DigestError> {
    let text =
        std::str::from_utf8(nc).ok().filter(|nc| nc.len() == 8 && nc.bytes().all(|b| b.is_ascii_hexdigit()));
    text.and_then(|nc| u32::from_str_radix(nc, 16).ok()).ok_or(DigestError::Bad("nc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_challenge_with_lists_and_quotes() {
        let value = b"Digest realm=\"a, \\\"b\\\"\",\r\n qop=\"auth,auth-int\", nonce=abc ,algorithm=sha-256, stale=TRUE, x";
        let challenge = Challenge::parse(value).expect("good");
        assert_eq!((&*challenge.realm, &*challenge.nonce), (&br#"a, "b""#[..], &b"abc"[..]));
        assert_eq!(challenge.algorithm, Algorithm::Sha256);
        assert!(challenge.auth && challenge.auth_int && challenge.stale);
        assert_eq!(challenge.opaque, None);
    }

    #[test]
    fn reads_credentials() {
        let value = br#"Digest username="bob", realm="r", nonce="n", uri="sip:r", qop=auth, nc=0000000a, cnonce="c", response="00""#;
        let credentials = Credentials::parse(value).expect("good");
        assert_eq!((credentials.qop, credentials.nonce_count), (Some(Qop::Auth), 10));
        assert_eq!(&*credentials.username, b"bob");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (value, wanted) in [
            ("Basic abc", DigestError::NotDigest),
            ("NoOneKnowsThisScheme opaque-data=here", DigestError::NotDigest),
            ("Digest username=a, realm=r, nonce=n, uri=u", DigestError::Missing("response")),
            (
                "Digest username=a, realm=r, nonce=n, uri=u, response=0, algorithm=AKAv1-MD5",
                DigestError::UnknownAlgorithm,
            ),
            (
                "Digest username=a, realm=r, nonce=n, uri=u, response=0, qop=auth, nc=1, cnonce=c",
                DigestError::Bad("nc"),
            ),
            (
                "Digest username=a, realm=r, nonce=n, uri=u, response=0, qop=auth, nc=00000001",
                DigestError::Missing("cnonce"),
            ),
            ("Digest username=a, realm=r, nonce=n, uri=u, response=0, qop=other", DigestError::Bad("qop")),
        ] {
            assert_eq!(Credentials::parse(value.as_bytes()).expect_err("bad"), wanted, "{value}");
        }
    }
}
