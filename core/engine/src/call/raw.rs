//! Bytes off the wire that a call keeps: header values, URIs and tags, exactly as they came.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Immutable bytes, cloned by reference count: the two legs of a call and its durable state share them.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Raw(Arc<[u8]>);

impl Raw {
    /// The bytes as text for an event; what is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn text(&self) -> signalbox_base::Text {
        signalbox_base::Text::lossy(&self.0)
    }
}

impl Deref for Raw {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Raw {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Raw {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Raw {
    fn from(bytes: &[u8]) -> Self {
        if bytes.is_empty() { Self::default() } else { Self(Arc::from(bytes)) }
    }
}

impl From<Vec<u8>> for Raw {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<&str> for Raw {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Raw {
    fn from(text: String) -> Self {
        Self::from(text.as_bytes())
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
                Ok(Raw::from(bytes))
            }
        }
        d.deserialize_bytes(Bytes)
    }
}
