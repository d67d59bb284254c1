//! Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538): a dialog named from outside it.

use super::{HeaderError, Params};
use crate::text::{trim, trim_end};

/// A dialog named by its identifiers. Their roles differ: in Replaces and Join the tags are seen from the receiver, in
/// Target-Dialog `local-tag` and `remote-tag` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialogReference<'a> {
    /// Call-ID.
    pub call_id: &'a [u8],
    /// `to-tag`, or `local-tag` of a Target-Dialog: the receiver's own.
    pub local_tag: &'a [u8],
    /// `from-tag`, or `remote-tag` of a Target-Dialog: the other side's.
    pub remote_tag: &'a [u8],
    /// `early-only` among others.
    pub params: Params<'a>,
}

impl<'a> DialogReference<'a> {
    /// Reads Replaces or Join.
    ///
    /// # Errors
    /// When Call-ID or a tag is missing.
    pub fn parse(value: &'a [u8]) -> Result<Self, HeaderError> {
        Self::with_tags(value, b"to-tag", b"from-tag")
    }

    /// Reads Target-Dialog.
    ///
    /// # Errors
    /// When Call-ID or a tag is missing.
    pub fn parse_target_dialog(value: &'a [u8]) -> Result<Self, HeaderError> {
        Self::with_tags(value, b"local-tag", b"remote-tag")
    }

    /// Whether only an early dialog may be replaced (RFC 3891 §3).
    #[must_use]
    pub fn early_only(&self) -> bool {
        self.params.has(b"early-only")
    }

    fn with_tags(value: &'a [u8], local: &[u8], remote: &[u8]) -> Result<Self, HeaderError> {
        let value = trim(value);
        let (call_id, rest) = value.split_at(memchr::memchr(b';', value).unwrap_or(value.len()));
        let (call_id, params) = (trim_end(call_id), Params::new(rest));
        match (params.value(local), params.value(remote)) {
            (Some(local_tag), Some(remote_tag)) if !call_id.is_empty() => {
                Ok(Self { call_id, local_tag, remote_tag, params })
            }
            _ => Err(HeaderError::new("Call-ID or a tag is missing", 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_replaces_and_target_dialog() {
        let reference =
            DialogReference::parse(b"12345@example.com;to-tag=12345;from-tag=5FFE-3994;early-only");
        let reference = reference.expect("good");
        assert_eq!((reference.call_id, reference.local_tag), (&b"12345@example.com"[..], &b"12345"[..]));
        assert_eq!(reference.remote_tag, b"5FFE-3994");
        assert!(reference.early_only());
        let target = DialogReference::parse_target_dialog(b"fa77as7d;local-tag=kkaz-;remote-tag=6544");
        assert_eq!(target.expect("good").remote_tag, b"6544");
    }

    #[test]
    fn refuses_a_missing_tag() {
        assert!(DialogReference::parse(b"12345;to-tag=1").is_err());
        assert!(DialogReference::parse(b";to-tag=1;from-tag=2").is_err());
    }
}
