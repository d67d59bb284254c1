//! The client's side of digest authentication (RFC 7616, RFC 8760).

use crate::random::Random;
use signalbox_sip::digest::{Challenge, Ha1, Qop, ResponseInput};
use signalbox_sip::{HeaderName, Message, Method};

/// How often a request is sent with credentials, when only their nonce was not good any more.
const ANSWERS_MAX: u8 = 3;

/// Whether a challenge is to be answered, after so many answers: the first is, and those that say that only the nonce was too
/// old (RFC 7616 §3.3).
pub(crate) fn is_worth_an_answer<B: AsRef<[u8]>>(response: &Message<B>, answers: u8) -> bool {
    let asked = [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate];
    let stale = asked
        .into_iter()
        .flat_map(|name| response.all(name))
        .any(|header| Challenge::parse(header.value).is_ok_and(|challenge| challenge.stale));
    answers == 0 || stale && answers < ANSWERS_MAX
}

/// A user's name and password.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// A header that answers a challenge.
pub(crate) struct Authorization {
    pub(crate) name: HeaderName,
    pub(crate) value: String,
}

impl Login {
    /// Answers the challenge of a 401 or 407; of several, the first we can compute (RFC 8760 §2.4). `None` when there is
    /// none.
    pub(crate) fn answer<B: AsRef<[u8]>>(
        &self,
        response: &Message<B>,
        method: Method,
        uri: &str,
        random: &mut Random,
    ) -> Option<Authorization> {
        let (asked, name) = match response.status()? {
            401 => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            407 => (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
            _ => return None,
        };
        let challenge = response.all(asked).find_map(|header| Challenge::parse(header.value).ok())?;
        let cnonce = format!("{:016x}", random.bits());
        Some(Authorization { name, value: self.credentials(&challenge, method, uri, &cnonce)? })
    }

    fn credentials(
        &self,
        challenge: &Challenge<'_>,
        method: Method,
        uri: &str,
        cnonce: &str,
    ) -> Option<String> {
        let algorithm = challenge.algorithm;
        let ha1 =
            Ha1::from_password(algorithm, self.user.as_bytes(), &challenge.realm, self.password.as_bytes());
        let qop = challenge.auth.then_some(Qop::Auth);
        let response = ha1.respond(&ResponseInput {
            algorithm,
            qop,
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nonce: &challenge.nonce,
            cnonce: cnonce.as_bytes(),
            nonce_count: 1,
            body: b"",
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", response=\"{response}\", algorithm={}",
            self.user,
            text(&challenge.realm),
            text(&challenge.nonce),
            algorithm.as_str(),
        );
        if qop.is_some() {
            value += &format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = &challenge.opaque {
            value += &format!(", opaque=\"{}\"", text(opaque));
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_sip::Limits;

    #[test]
    fn a_second_challenge_is_answered_only_when_the_nonce_was_all_that_was_wrong() {
        let challenged = |more: &str| {
            format!(
                "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n\
                 WWW-Authenticate: Digest realm=\"b\", nonce=\"1\", algorithm=MD5, qop=\"auth\"{more}\r\n\r\n"
            )
        };
        let worth = |more: &str, answers| {
            let text = challenged(more);
            is_worth_an_answer(&Message::parse(text.as_bytes(), &Limits::DATAGRAM).unwrap(), answers)
        };
        assert!(worth("", 0) && !worth("", 1));
        assert!(worth(", stale=true", 1) && !worth(", stale=true", ANSWERS_MAX));
    }
}
