//! Bytes off the wire that a call keeps: header values, URIs and tags, exactly as they came.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use signalbox_sip::Put;
use smallvec::SmallVec;
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

    /// These bytes: itself when it is the same, a copy of them when not.
    #[must_use]
    pub(crate) fn or_new(&self, bytes: &[u8]) -> Self {
        if *self.0 == *bytes { self.clone() } else { Self::from(bytes) }
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

/// Byte strings in one allocation, in their order: each behind its length, four bytes in network order.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawList(Raw);

impl RawList {
    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (len, behind) = rest.split_first_chunk()?;
            let (value, behind) = behind.split_at_checked(u32::from_be_bytes(*len) as usize)?;
            rest = behind;
            Some(value)
        })
    }
}

impl<'v> FromIterator<&'v [u8]> for RawList {
    fn from_iter<I: IntoIterator<Item = &'v [u8]>>(values: I) -> Self {
        let mut list = ListWriter::default();
        values.into_iter().for_each(|value| list.push(value));
        list.finish()
    }
}

impl fmt::Debug for RawList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

/// Builds a [`RawList`].
#[derive(Debug, Default)]
pub(crate) struct ListWriter(SmallVec<[u8; 512]>);

impl ListWriter {
    /// One more string.
    pub(crate) fn push(&mut self, value: impl Put) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        value.put(&mut self.0);
        let len =
            u32::try_from(self.0.len() - start - 4).expect("values come from messages of at most 64 KiB");
        self.0[start..start + 4].copy_from_slice(&len.to_be_bytes());
    }

    pub(crate) fn finish(self) -> RawList {
        RawList(Raw::from(&*self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_strings_when_packed_then_they_are_given_back_in_order() {
        for values in [vec![], vec!["a"], vec!["", "b", ""], vec!["<sip:p1;lr>", "<sip:p2;lr>"]] {
            let list: RawList = values.iter().map(|value| value.as_bytes()).collect();
            let back: Vec<&[u8]> = list.iter().collect();
            assert_eq!(back, values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn given_damaged_bytes_when_read_then_what_is_whole_is_given() {
        let list = RawList(Raw::from([0, 0, 0, 1, b'x', 0, 0, 0, 9, b'y'].as_slice()));
        assert_eq!(list.iter().collect::<Vec<_>>(), [b"x"]);
        assert_eq!(RawList(Raw::from("abc")).iter().count(), 0);
    }
}
