//! Writing the header values: a server's challenge, a client's credentials.

use super::challenge::{Algorithm, Challenge, Qop};
use super::response::{Ha1, ResponseInput};

/// What a client answers a challenge with.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The user.
    pub username: &'a [u8],
    /// `H(username:realm:password)` of the challenge's realm and hash.
    pub ha1: &'a Ha1,
    /// The request's method.
    pub method: &'a [u8],
    /// The digest-uri: the Request-URI.
    pub uri: &'a [u8],
    /// The client's nonce: random, letters and digits.
    pub cnonce: &'a str,
    /// How often this client used the nonce, from 1.
    pub nonce_count: u32,
    /// The body, for a challenge that only offers `auth-int`.
    pub body: &'a [u8],
}

/// The value of WWW-Authenticate or Proxy-Authenticate, offering qop `auth`. Write one header per algorithm, the strongest
/// first (RFC 8760 §2.4).
#[must_use]
pub fn write_challenge(realm: &[u8], nonce: &str, algorithm: Algorithm, stale: bool) -> Vec<u8> {
    let mut out = b"Digest realm=".to_vec();
    quote(realm, &mut out);
    out.extend_from_slice(b", nonce=");
    quote(nonce.as_bytes(), &mut out);
    let stale = if stale { ", stale=true" } else { "" };
    out.extend_from_slice(format!(", algorithm={}, qop=\"auth\"{stale}", algorithm.as_str()).as_bytes());
    out
}

impl Answer<'_> {
    /// The value of Authorization or Proxy-Authorization; `None` when `ha1` is of another hash than the challenge wants.
    /// Takes qop `auth` when offered, else `auth-int`, else none.
    #[must_use]
    pub fn write(&self, challenge: &Challenge<'_>) -> Option<Vec<u8>> {
        let qop = match (challenge.auth, challenge.auth_int) {
            (true, _) => Some(Qop::Auth),
            (false, true) => Some(Qop::AuthInt),
            (false, false) => None,
        };
        let response = self.ha1.respond(&ResponseInput {
            algorithm: challenge.algorithm,
            qop,
            method: self.method,
            uri: self.uri,
            nonce: &challenge.nonce,
            cnonce: self.cnonce.as_bytes(),
            nonce_count: self.nonce_count,
            body: self.body,
        })?;
        let mut out = b"Digest username=".to_vec();
        quote(self.username, &mut out);
        for (name, value) in [("realm", &*challenge.realm), ("nonce", &*challenge.nonce), ("uri", self.uri)] {
            out.extend_from_slice(format!(", {name}=").as_bytes());
            quote(value, &mut out);
        }
        out.extend_from_slice(
            format!(", response=\"{response}\", algorithm={}", challenge.algorithm.as_str()).as_bytes(),
        );
        if let Some(qop) = qop {
            out.extend_from_slice(format!(", qop={}, nc={:08x}", qop.as_str(), self.nonce_count).as_bytes());
        }
        if qop.is_some() || challenge.algorithm.is_session() {
            out.extend_from_slice(format!(", cnonce=\"{}\"", self.cnonce).as_bytes());
        }
        if let Some(opaque) = &challenge.opaque {
            out.extend_from_slice(b", opaque=");
            quote(opaque, &mut out);
        }
        Some(out)
    }
}

fn quote(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in value {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{Credentials, verify};

    #[test]
    fn a_server_accepts_what_a_client_answers_to_its_challenge() {
        for algorithm in [Algorithm::Md5, Algorithm::Md5Sess, Algorithm::Sha256, Algorithm::Sha256Sess] {
            let value = write_challenge(br#"a "realm" \"#, "n0nce", algorithm, true);
            let challenge = Challenge::parse(&value).expect("ours");
            assert!(challenge.stale && challenge.auth && !challenge.auth_int);
            assert_eq!(&*challenge.realm, br#"a "realm" \"#);

            let ha1 = Ha1::from_password(algorithm, b"bob", &challenge.realm, b"secret");
            let answer = Answer {
                username: b"bob",
                ha1: &ha1,
                method: b"REGISTER",
                uri: b"sip:r",
                cnonce: "c",
                nonce_count: 3,
                body: b"",
            };
            let value = answer.write(&challenge).expect("one hash");
            let credentials = Credentials::parse(&value).expect("ours");
            assert_eq!((&*credentials.username, credentials.nonce_count), (&b"bob"[..], 3));
            assert!(verify(&credentials, &ha1, b"REGISTER", b""));
            assert!(!verify(&credentials, &ha1, b"INVITE", b""));
        }
    }

    #[test]
    fn an_old_server_gets_an_answer_without_qop_and_its_opaque_back() {
        let challenge = Challenge::parse(br#"Digest realm="r", nonce="n", opaque="o\"p""#).expect("good");
        let ha1 = Ha1::from_password(Algorithm::Md5, b"bob", b"r", b"secret");
        let (method, uri) = (b"INVITE", b"sip:r");
        let answer =
            Answer { username: b"bob", ha1: &ha1, method, uri, cnonce: "c", nonce_count: 1, body: b"" };
        let value = answer.write(&challenge).expect("one hash");
        let credentials = Credentials::parse(&value).expect("ours");
        assert_eq!((credentials.qop, credentials.opaque.as_deref()), (None, Some(&br#"o"p"#[..])));
        assert!(verify(&credentials, &ha1, b"INVITE", b""));
    }
}
