//! Computing and verifying responses (RFC 7616 §3.4.1).

use super::challenge::{Algorithm, Credentials, Qop};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// `H(username:realm:password)`: what a server keeps instead of the password. It is as good as the password in its realm.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    hex: Hex,
    sha256: bool,
}

/// What a response is computed over.
#[derive(Clone, Copy, Debug)]
pub struct ResponseInput<'a> {
    /// The hash.
    pub algorithm: Algorithm,
    /// The protection; `None` computes as RFC 2069.
    pub qop: Option<Qop>,
    /// The request's method.
    pub method: &'a [u8],
    /// The digest-uri.
    pub uri: &'a [u8],
    /// The server's nonce.
    pub nonce: &'a [u8],
    /// The client's nonce; unused without `qop` and session algorithm.
    pub cnonce: &'a [u8],
    /// How often the nonce was used, from 1; unused without `qop`.
    pub nonce_count: u32,
    /// The body; used by `auth-int` alone.
    pub body: &'a [u8],
}

/// Lower-case hexadecimal, 32 or 64 digits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Hex {
    digits: [u8; 64],
    len: usize,
}

impl Ha1 {
    /// From the password.
    #[must_use]
    pub fn from_password(algorithm: Algorithm, username: &[u8], realm: &[u8], password: &[u8]) -> Self {
        let sha256 = is_sha256(algorithm);
        Self { hex: hash(sha256, &[username, b":", realm, b":", password]), sha256 }
    }

    /// From 32 (MD5) or 64 (SHA-256) hexadecimal digits, as databases keep them.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let bytes = hex.as_bytes();
        if !matches!(bytes.len(), 32 | 64) || !bytes.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut digits = [0; 64];
        digits[..bytes.len()].copy_from_slice(bytes);
        digits.make_ascii_lowercase();
        Some(Self { hex: Hex { digits, len: bytes.len() }, sha256: bytes.len() == 64 })
    }

    /// Whether it fits this algorithm's hash.
    #[must_use]
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.sha256 == is_sha256(algorithm)
    }

    /// The response in lower-case hexadecimal; `None` when this HA1 is of another hash than the input's algorithm.
    #[must_use]
    pub fn respond(&self, input: &ResponseInput<'_>) -> Option<String> {
        self.response(input).map(|hex| String::from_utf8_lossy(hex.as_bytes()).into_owned())
    }

    fn response(&self, input: &ResponseInput<'_>) -> Option<Hex> {
        if !self.fits(input.algorithm) {
            return None;
        }
        let hash = |parts: &[&[u8]]| hash(self.sha256, parts);
        let session = input.algorithm.is_session();
        let ha1 = match session {
            true => hash(&[self.hex.as_bytes(), b":", input.nonce, b":", input.cnonce]),
            false => self.hex,
        };
        let ha2 = match input.qop {
            Some(Qop::AuthInt) => {
                hash(&[input.method, b":", input.uri, b":", hash(&[input.body]).as_bytes()])
            }
            Some(Qop::Auth) | None => hash(&[input.method, b":", input.uri]),
        };
        let (ha1, ha2) = (ha1.as_bytes(), ha2.as_bytes());
        Some(match input.qop {
            Some(qop) => {
                let count = format!("{:08x}", input.nonce_count);
                let qop = qop.as_str().as_bytes();
                hash(&[
                    ha1,
                    b":",
                    input.nonce,
                    b":",
                    count.as_bytes(),
                    b":",
                    input.cnonce,
                    b":",
                    qop,
                    b":",
                    ha2,
                ])
            }
            None => hash(&[ha1, b":", input.nonce, b":", ha2]),
        })
    }
}

/// HA1 never shows itself.
impl std::fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ha1(…)")
    }
}

/// Whether the credentials' response is the one that `ha1` gives for this request. The comparison takes the same time
/// wherever they differ. The nonce's age, its count and the digest-uri are the caller's to judge.
#[must_use]
pub fn verify(credentials: &Credentials<'_>, ha1: &Ha1, method: &[u8], body: &[u8]) -> bool {
    let input = ResponseInput {
        algorithm: credentials.algorithm,
        qop: credentials.qop,
        method,
        uri: &credentials.uri,
        nonce: &credentials.nonce,
        cnonce: &credentials.cnonce,
        nonce_count: credentials.nonce_count,
        body,
    };
    let Some(wanted) = ha1.response(&input) else { return false };
    credentials.response.to_ascii_lowercase().ct_eq(wanted.as_bytes()).into()
}

impl Hex {
    fn new(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 64];
        for (i, byte) in bytes.iter().enumerate() {
            digits[2 * i] = DIGITS[usize::from(byte >> 4)];
            digits[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        Self { digits, len: 2 * bytes.len() }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.len]
    }
}

const fn is_sha256(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Sha256 | Algorithm::Sha256Sess)
}

fn hash(sha256: bool, parts: &[&[u8]]) -> Hex {
    if sha256 {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        Hex::new(&hasher.finalize())
    } else {
        let mut hasher = Md5::new();
        parts.iter().for_each(|part| hasher.update(part));
        Hex::new(&hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1.
    fn rfc_7616(algorithm: Algorithm, password: &[u8]) -> String {
        let ha1 = Ha1::from_password(algorithm, b"Mufasa", b"http-auth@example.org", password);
        let input = ResponseInput {
            algorithm,
            qop: Some(Qop::Auth),
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            nonce_count: 1,
            body: b"",
        };
        ha1.respond(&input).expect("one hash")
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        assert_eq!(rfc_7616(Algorithm::Md5, b"Circle of Life"), "8ca523f5e9506fed4657c9700eebdbec");
        let sha = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert_eq!(rfc_7616(Algorithm::Sha256, b"Circle of Life"), sha);
        assert_ne!(rfc_7616(Algorithm::Sha256Sess, b"Circle of Life"), sha);
    }

    #[test]
    fn the_example_of_rfc_2069_comes_out_without_qop() {
        // RFC 2617 §3.5's data with the computation of RFC 2069 (no qop).
        let ha1 = Ha1::from_password(Algorithm::Md5, b"Mufasa", b"testrealm@host.com", b"Circle Of Life");
        assert_eq!(Ha1::from_hex("939E7578ED9E3C518A452ACEE763BCE9"), Some(ha1.clone()));
        let input = ResponseInput {
            algorithm: Algorithm::Md5,
            qop: None,
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            cnonce: b"",
            nonce_count: 0,
            body: b"",
        };
        assert_eq!(ha1.respond(&input).as_deref(), Some("670fd8c2df070c60b045671b8b24ff02"));
    }

    #[test]
    fn verification_wants_password_method_body_and_count_unchanged() {
        let ha1 = Ha1::from_password(Algorithm::Sha256Sess, b"bob", b"r", b"secret");
        let input = ResponseInput {
            algorithm: Algorithm::Sha256Sess,
            qop: Some(Qop::AuthInt),
            method: b"REGISTER",
            uri: b"sip:r",
            nonce: b"n",
            cnonce: b"c",
            nonce_count: 2,
            body: b"body",
        };
        let response = ha1.respond(&input).expect("one hash").to_uppercase();
        let header = |count: &str| {
            format!(
                "Digest username=\"bob\",realm=\"r\",nonce=\"n\",uri=\"sip:r\",algorithm=SHA-256-sess,qop=auth-int,nc={count},\
                 cnonce=\"c\",response=\"{response}\""
            )
        };
        let (good, replayed) = (header("00000002"), header("00000003"));
        let good = Credentials::parse(good.as_bytes()).expect("readable");
        assert!(verify(&good, &ha1, b"REGISTER", b"body"));
        assert!(!verify(&good, &ha1, b"INVITE", b"body"));
        assert!(!verify(&good, &ha1, b"REGISTER", b"other"));
        let wrong = Ha1::from_password(Algorithm::Sha256Sess, b"bob", b"r", b"Secret");
        assert!(!verify(&good, &wrong, b"REGISTER", b"body"));
        assert!(!verify(
            &good,
            &Ha1::from_password(Algorithm::Md5, b"bob", b"r", b"secret"),
            b"REGISTER",
            b"body"
        ));
        assert!(!verify(
            &Credentials::parse(replayed.as_bytes()).expect("readable"),
            &ha1,
            b"REGISTER",
            b"body"
        ));
    }
}
