//! Digest credentials (RFC 2617, MD5), for the PBXs' challenges.

use super::{Account, unique};
use crate::message::Message;
use md5::{Digest, Md5};

/// The header line that answers a challenge; `None` when there is none to answer.
pub(super) fn answer(challenge: &Message, account: &Account, method: &str, uri: &str) -> Option<String> {
    let (header, asked) = match challenge.header("WWW-Authenticate") {
        Some(value) => ("Authorization", value),
        None => ("Proxy-Authorization", challenge.header("Proxy-Authenticate")?),
    };
    let (realm, nonce) = (value(asked, "realm")?, value(asked, "nonce")?);
    let Account { user, password, .. } = account;
    let (ha1, ha2) = (hex(&format!("{user}:{realm}:{password}")), hex(&format!("{method}:{uri}")));
    let line = |response: &str, more: &str| {
        format!(
            "{header}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm=MD5{more}\r\n"
        )
    };
    let opaque = value(asked, "opaque").map(|o| format!(", opaque=\"{o}\"")).unwrap_or_default();
    if value(asked, "qop").is_none() {
        return Some(line(&hex(&format!("{ha1}:{nonce}:{ha2}")), &opaque));
    }
    let cnonce = unique("cn");
    let response = hex(&format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}"));
    Some(line(&response, &format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\"{opaque}")))
}

/// A parameter of a challenge, without its quotes.
fn value<'c>(challenge: &'c str, name: &str) -> Option<&'c str> {
    let list = challenge.trim_start_matches("Digest ").split(',');
    list.map(str::trim)
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        .map(|v| v.trim_matches('"'))
}

fn hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_known_one() {
        assert_eq!(hex("Mufasa:testrealm@host.com:Circle Of Life"), "939e7578ed9e3c518a452acee763bce9");
    }
}
