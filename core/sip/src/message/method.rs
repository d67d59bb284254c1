//! Request methods, the unknown ones included.

use crate::text::is_all_token;
use std::fmt;

/// A method. Case matters (RFC 3261 §7.1): `invite` is another method than `INVITE`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 3261.
    Invite,
    /// RFC 3261.
    Ack,
    /// RFC 3261.
    Bye,
    /// RFC 3261.
    Cancel,
    /// RFC 3261.
    Options,
    /// RFC 3261.
    Register,
    /// RFC 3262.
    Prack,
    /// RFC 3311.
    Update,
    /// RFC 6086.
    Info,
    /// RFC 6665.
    Subscribe,
    /// RFC 6665.
    Notify,
    /// RFC 3515.
    Refer,
    /// RFC 3428.
    Message,
    /// RFC 3903.
    Publish,
    /// Any other token.
    Other(MethodToken),
}

/// The name of a method this crate does not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MethodToken {
    len: u8,
    bytes: [u8; Method::BYTES_MAX],
}

impl Method {
    /// Longest method name accepted, in bytes.
    pub const BYTES_MAX: usize = 47;

    /// Reads a method; `None` when it is no token or longer than [`Method::BYTES_MAX`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            b"INVITE" => Self::Invite,
            b"ACK" => Self::Ack,
            b"BYE" => Self::Bye,
            b"CANCEL" => Self::Cancel,
            b"OPTIONS" => Self::Options,
            b"REGISTER" => Self::Register,
            b"PRACK" => Self::Prack,
            b"UPDATE" => Self::Update,
            b"INFO" => Self::Info,
            b"SUBSCRIBE" => Self::Subscribe,
            b"NOTIFY" => Self::Notify,
            b"REFER" => Self::Refer,
            b"MESSAGE" => Self::Message,
            b"PUBLISH" => Self::Publish,
            _ if bytes.len() <= Self::BYTES_MAX && is_all_token(bytes) => {
                let mut token = MethodToken { len: bytes.len() as u8, bytes: [0; Self::BYTES_MAX] };
                token.bytes[..bytes.len()].copy_from_slice(bytes);
                Self::Other(token)
            }
            _ => return None,
        })
    }

    /// The name as on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Publish => "PUBLISH",
            Self::Other(token) => {
                std::str::from_utf8(&token.bytes[..usize::from(token.len)]).expect("tokens are ASCII")
            }
        }
    }

    /// The name as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.as_str().as_bytes()
    }

    /// Whether a 2xx to it can create a dialog (RFC 3261 §12.1, RFC 6665 §4.1, RFC 3515 §2).
    #[must_use]
    pub const fn creates_dialog(&self) -> bool {
        matches!(self, Self::Invite | Self::Subscribe | Self::Refer | Self::Notify)
    }

    /// Whether its Contact replaces the remote target inside a dialog (RFC 3261 §12.2, 3311 §5.1, 6665 §3.1).
    #[must_use]
    pub const fn refreshes_target(&self) -> bool {
        matches!(self, Self::Invite | Self::Update | Self::Subscribe | Self::Notify | Self::Refer)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_reads_back() {
        for name in [
            "INVITE",
            "ACK",
            "BYE",
            "CANCEL",
            "OPTIONS",
            "REGISTER",
            "PRACK",
            "UPDATE",
            "INFO",
            "SUBSCRIBE",
            "NOTIFY",
            "REFER",
            "MESSAGE",
            "PUBLISH",
        ] {
            let method = Method::from_bytes(name.as_bytes()).expect("known");
            assert!(!matches!(method, Method::Other(_)), "{name}");
            assert_eq!(method.as_str(), name);
        }
    }

    #[test]
    fn case_matters_and_unknown_tokens_are_carried() {
        let other = Method::from_bytes(b"invite").expect("a token");
        assert_ne!(other, Method::Invite);
        assert_eq!(other.as_str(), "invite");
        assert_eq!(Method::from_bytes(b"BAD METHOD"), None);
        assert_eq!(Method::from_bytes(b""), None);
        assert_eq!(Method::from_bytes(&[b'A'; Method::BYTES_MAX + 1]), None);
    }
}
