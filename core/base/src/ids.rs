//! Identifiers, valid by construction.

use crate::small::SmallText;
use crate::text::Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why text is not the identifier it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError(pub &'static str);

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for IdError {}

/// A tenant's name, `[a-z0-9-]{1,63}`. `_` (no tenant) is not one: use `Option<TenantId>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Text);

impl TenantId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as text that is cheap to clone.
    #[must_use]
    pub fn text(&self) -> &Text {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=63).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(Text::new(text)))
        } else {
            Err(IdError("a tenant's name is 1 to 63 of a-z, 0-9 and -"))
        }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `cluster/edge`: who an event's edge is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdgeIdentity {
    /// Cluster name, `[A-Za-z0-9-]{1,63}` (checked by the configuration).
    pub cluster: Text,
    /// Edge name, same letters.
    pub edge: Text,
}

impl fmt::Display for EdgeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.edge)
    }
}

/// Position of an event in its journal; the first is 1, 0 means "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventSeq(pub u64);

impl EventSeq {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for EventSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A journal's identity: a ULID (48 bits of milliseconds, 80 random), printed as 26 Crockford characters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId(pub u128);

impl JournalId {
    /// From the wall clock in milliseconds and 10 random bytes.
    #[must_use]
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        let tail = random.iter().fold(0u128, |acc, b| acc << 8 | u128::from(*b));
        Self(u128::from(unix_ms & 0xFFFF_FFFF_FFFF) << 80 | tail)
    }
}

impl JournalId {
    /// 26 characters of Crockford base 32.
    #[must_use]
    pub fn text(self) -> SmallText<26> {
        let mut text = SmallText::default();
        for place in (0..26).rev() {
            text.byte(CROCKFORD[(self.0 >> (5 * place) & 31) as usize]);
        }
        text
    }
}

/// [`JournalId::text`].
impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JournalId({self})")
    }
}

impl FromStr for JournalId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        const WRONG: IdError = IdError("a journal id is 26 characters of Crockford base 32");
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(WRONG);
        }
        text.bytes()
            .try_fold(0u128, |acc, b| CROCKFORD.iter().position(|c| *c == b).map(|v| acc << 5 | v as u128))
            .map(Self)
            .ok_or(WRONG)
    }
}

impl Serialize for JournalId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JournalId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! token64 {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                ShortToken(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let rest = text.strip_prefix($prefix).ok_or(IdError(concat!("it starts with ", $prefix)))?;
                rest.parse::<ShortToken>().map(|t| Self(t.0))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// 64 bits printed as 11 base-62 characters, always full width: sorts as it counts, safe in SIP tokens and shells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShortToken(pub u64);

impl ShortToken {
    /// The characters it is printed as.
    #[must_use]
    pub fn digits(self) -> [u8; 11] {
        let mut out = [b'0'; 11];
        let mut rest = self.0;
        for slot in out.iter_mut().rev() {
            *slot = BASE62[(rest % 62) as usize];
            rest /= 62;
        }
        out
    }
}

impl fmt::Display for ShortToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl FromStr for ShortToken {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        const WRONG: IdError = IdError("11 characters of 0-9, A-Z and a-z");
        if text.len() != 11 {
            return Err(WRONG);
        }
        text.bytes()
            .try_fold(0u64, |acc, b| {
                let digit = match b {
                    b'0'..=b'9' => b - b'0',
                    b'A'..=b'Z' => b - b'A' + 10,
                    b'a'..=b'z' => b - b'a' + 36,
                    _ => return None,
                };
                acc.checked_mul(62)?.checked_add(u64::from(digit))
            })
            .map(Self)
            .ok_or(WRONG)
    }
}

token64!(
    /// A call through one edge: unique in the cluster by 64 random bits, printed `c_` and 11 characters.
    CallUid, "c_"
);
token64!(
    /// A block of an address: printed `b_` and 11 characters.
    BlockId, "b_"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tenant_names() {
        assert!("acme-1".parse::<TenantId>().is_ok());
        for bad in ["", "_", "Acme", "a.b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn ids_print_and_read(j: u128, c: u64) {
            prop_assert_eq!(JournalId(j).to_string().parse::<JournalId>(), Ok(JournalId(j)));
            prop_assert_eq!(CallUid(c).to_string().parse::<CallUid>(), Ok(CallUid(c)));
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,30}") {
            let _ = (text.parse::<JournalId>(), text.parse::<CallUid>(), text.parse::<TenantId>());
        }
    }
}
