//! Tokens of stateless dialogs: where a message inside goes, encrypted into the user part of our Contact.
//!
//! The edge keeps nothing of a SUBSCRIBE's dialog. Each side sees a Contact whose user is the other side's target, sealed
//! with a key of the cluster: it passes through a restart, and through any edge of the cluster. The nonce is a keyed function
//! of the content, so that the same target always has the same token and no nonce serves two contents.

use crate::state::BindingKey;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use signalbox_base::{Flow, Secret, Text};
use std::net::IpAddr;

/// What tokens of one kind have in common: none opens as one of another kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// What a user part that is one starts with.
    pub(crate) prefix: &'static str,
    /// Names its key.
    pub(crate) key: &'static [u8],
    /// Names the key of its nonces.
    pub(crate) nonce: &'static [u8],
}

/// Tokens of this module.
const DIALOG: Kind = Kind { prefix: "d_", key: b"dialog token", nonce: b"dialog nonce" };
/// Shorter ones are users that happen to start alike.
const CHARS_MIN: usize = 64;
const NONCE_BYTES: usize = 12;
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// One side of a dialog, as the other side's messages reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    /// The tenant; nobody else's peers may use it.
    pub(crate) tenant: Text,
    /// Who it is.
    pub(crate) side: Side,
    /// Where it is.
    pub(crate) flow: Flow,
    /// Its remote target.
    pub(crate) uri: Text,
    /// Its route set, in the order of Route headers.
    pub(crate) routes: Vec<Text>,
    /// The address of the other side when the token was made.
    pub(crate) other: IpAddr,
}

/// Kinds of sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Side {
    /// A phone; its binding says where it is now.
    Phone(Option<BindingKey>),
    /// A backend, by name.
    Backend(Text),
}

impl Side {
    /// The name that the configuration has for it; a phone has none.
    pub(crate) fn configured(&self) -> Option<&str> {
        match self {
            Self::Phone(_) => None,
            Self::Backend(name) => Some(name),
        }
    }
}

/// Whether a user part looks like a token.
pub(crate) fn is_token(user: &[u8]) -> bool {
    DIALOG.is(user)
}

/// Seals a target into a user part.
pub(crate) fn seal(secret: &Secret, target: &Target) -> String {
    DIALOG.seal(secret, target)
}

/// Opens a user part; `None` when it was not sealed by this cluster.
pub(crate) fn open(secret: &Secret, user: &[u8]) -> Option<Target> {
    DIALOG.open(secret, user)
}

impl Kind {
    /// Whether a user part looks like one.
    pub(crate) fn is(self, user: &[u8]) -> bool {
        user.starts_with(self.prefix.as_bytes()) && user.len() >= CHARS_MIN
    }

    /// Seals what a token says into a user part.
    pub(crate) fn seal(self, secret: &Secret, content: &impl Serialize) -> String {
        let plain = postcard::to_stdvec(content)
            .expect("memory takes every byte, and nothing here has an unknown length");
        let keys = Keys::of(secret, self);
        let nonce = keys.nonce(&plain);
        let sealed = keys
            .cipher
            .encrypt(Nonce::from_slice(&nonce), plain.as_slice())
            .expect("a target is far below what AES-GCM takes");
        let mut out = self.prefix.to_owned();
        encode(nonce.iter().chain(&sealed).copied(), &mut out);
        out
    }

    /// Opens a user part; `None` when it was not sealed as such by this cluster.
    pub(crate) fn open<T: for<'a> Deserialize<'a>>(self, secret: &Secret, user: &[u8]) -> Option<T> {
        let bytes = decode(user.strip_prefix(self.prefix.as_bytes())?)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let plain = Keys::of(secret, self).cipher.decrypt(Nonce::from_slice(nonce), sealed).ok()?;
        postcard::from_bytes(&plain).ok()
    }
}

struct Keys {
    cipher: Aes256Gcm,
    nonce: [u8; 32],
}

impl Keys {
    fn of(secret: &Secret, kind: Kind) -> Self {
        let key = derive(secret.expose(), kind.key);
        let cipher = Aes256Gcm::new_from_slice(&key).expect("the key has 32 bytes");
        Self { cipher, nonce: derive(secret.expose(), kind.nonce) }
    }

    fn nonce(&self, plain: &[u8]) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&derive(&self.nonce, plain)[..NONCE_BYTES]);
        nonce
    }
}

fn derive(key: &[u8], what: &[u8]) -> [u8; 32] {
    let mut mac =
        <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(what);
    mac.finalize().into_bytes().into()
}

/// Base 64 with the alphabet of RFC 4648 §5, without padding: all of it is legal in a user part.
fn encode(bytes: impl Iterator<Item = u8>, out: &mut String) {
    let (mut bits, mut held) = (0u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(byte);
        held += 8;
        while held >= 6 {
            held -= 6;
            out.push(char::from(DIGITS[(bits >> held & 63) as usize]));
        }
    }
    if held > 0 {
        out.push(char::from(DIGITS[(bits << (6 - held) & 63) as usize]));
    }
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 255) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use signalbox_base::ListenerId;

    fn target(uri: &str) -> Target {
        let local = "10.0.0.5:5060".parse().unwrap();
        let remote = "192.0.2.7:40000".parse().unwrap();
        Target {
            tenant: Text::new("acme"),
            side: Side::Phone(Some(BindingKey(7))),
            flow: Flow::udp(ListenerId(1), local, remote),
            uri: Text::new(uri),
            routes: vec![],
            other: "10.0.0.11".parse().unwrap(),
        }
    }

    #[test]
    fn a_token_opens_with_its_cluster_s_key_only_and_is_the_same_each_time() {
        let secret = Secret::new(b"one".to_vec());
        let token = seal(&secret, &target("sip:401@10.0.0.1"));
        assert!(is_token(token.as_bytes()));
        assert_eq!(token, seal(&secret, &target("sip:401@10.0.0.1")));
        assert_ne!(token, seal(&secret, &target("sip:402@10.0.0.1")));
        assert_eq!(open(&secret, token.as_bytes()), Some(target("sip:401@10.0.0.1")));
        assert_eq!(open(&Secret::new(b"two".to_vec()), token.as_bytes()), None);
    }

    #[test]
    fn a_changed_token_does_not_open() {
        let secret = Secret::new(b"one".to_vec());
        let token = seal(&secret, &target("sip:401@10.0.0.1")).into_bytes();
        for at in 2..token.len() - 1 {
            let mut bad = token.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open(&secret, &bad), None, "changed at {at}");
        }
    }

    proptest! {
        #[test]
        fn opening_never_panics(user in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(&Secret::new(b"k".to_vec()), &user);
        }

        #[test]
        fn bytes_read_as_written(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut text = String::new();
            encode(bytes.iter().copied(), &mut text);
            prop_assert_eq!(decode(text.as_bytes()), Some(bytes));
        }
    }
}
