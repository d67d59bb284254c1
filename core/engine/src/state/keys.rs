//! Keys of aggregates.

use serde::{Deserialize, Serialize};
use signalbox_base::Text;
use smallvec::SmallVec;
use std::fmt;
use std::str::FromStr;

/// A binding's key: 128 bits of a keyed function of tenant, AoR and instance (or contact). Printed as `b` and 26 characters
/// of lower-case base 32, so that it survives a peer that folds the case of a URI's user.
// Aligned like a u64: indexes and timers hold it by the hundred thousand, and would be padded to 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(C, packed(8))]
pub struct BindingKey(pub u128);

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const CHARS: usize = 26;

/// What each byte counts as a digit, in either case; `u8::MAX` for none.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut at = 0;
    while at < DIGITS.len() {
        values[DIGITS[at] as usize] = at as u8;
        values[DIGITS[at].to_ascii_uppercase() as usize] = at as u8;
        at += 1;
    }
    values
};

impl BindingKey {
    /// Length of the printed form.
    pub const LEN: usize = CHARS + 1;

    /// Reads a URI's user part; `None` when it is no token.
    #[must_use]
    pub fn from_user(user: &[u8]) -> Option<Self> {
        let (first, rest) = user.split_first()?;
        if !first.eq_ignore_ascii_case(&b'b') || rest.len() != CHARS {
            return None;
        }
        // 26 characters carry 130 bits: the first may only hold 3 of its 5.
        let mut value = 0u128;
        for (at, byte) in rest.iter().enumerate() {
            let digit = VALUES[usize::from(*byte)];
            if digit > 31 || at == 0 && digit > 7 {
                return None;
            }
            value = value << 5 | u128::from(digit);
        }
        Some(Self(value))
    }
}

impl BindingKey {
    /// The printed form, for where no allocation is wanted.
    #[must_use]
    pub fn digits(self) -> [u8; Self::LEN] {
        let mut out = [b'b'; Self::LEN];
        let mut rest = self.0;
        for slot in out[1..].iter_mut().rev() {
            *slot = DIGITS[(rest & 31) as usize];
            rest >>= 5;
        }
        out
    }

    /// The printed form as text: one allocation.
    #[must_use]
    pub fn text(self) -> Text {
        Text::lossy(&self.digits())
    }
}

impl fmt::Display for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl fmt::Debug for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BindingKey {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::from_user(text.as_bytes()).ok_or(())
    }
}

/// `tenant/user@domain` without an allocation for usual lengths: the name of an AoR's aggregate. Tenants contain no `/` and
/// domains no `@`, so no two AoRs share a name.
#[derive(Clone, Debug)]
pub struct AorName(SmallVec<[u8; 96]>);

impl AorName {
    /// Of a tenant, a user as compared (unescaped) and a canonical domain. What no line of text or URI in brackets can hold
    /// stays escaped (`null-%00-null`, RFC 4475 §3.1.1.4), and so does the percent sign: no two users become one.
    #[must_use]
    pub fn new(tenant: &str, user: &str, domain: &str) -> Self {
        let mut name = SmallVec::new();
        name.extend_from_slice(tenant.as_bytes());
        name.push(b'/');
        let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'<' | b'>' | b'"');
        if user.as_bytes().iter().all(plain) {
            name.extend_from_slice(user.as_bytes());
        } else {
            user.chars().for_each(|c| push_readable(&mut name, c));
        }
        name.push(b'@');
        name.extend_from_slice(domain.as_bytes());
        Self(name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was made of text")
    }

    /// Its parts.
    #[must_use]
    pub(crate) fn parts(&self) -> NameParts<'_> {
        NameParts(self.as_str())
    }
}

/// The parts of a name `tenant/user@domain`.
#[derive(Clone, Copy)]
pub(crate) struct NameParts<'n>(pub(crate) &'n str);

impl<'n> NameParts<'n> {
    pub(crate) fn tenant(self) -> &'n str {
        self.0.split_once('/').map_or("", |(tenant, _)| tenant)
    }

    /// `user@domain`.
    pub(crate) fn address(self) -> &'n str {
        self.0.split_once('/').map_or(self.0, |(_, address)| address)
    }

    pub(crate) fn user(self) -> &'n str {
        self.address().rsplit_once('@').map_or("", |(user, _)| user)
    }

    pub(crate) fn domain(self) -> &'n str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

fn push_readable(name: &mut SmallVec<[u8; 96]>, c: char) {
    let (mut utf8, hex) = ([0; 4], b"0123456789ABCDEF");
    let escaped = c.is_control() || matches!(c, ' ' | '%' | '<' | '>' | '"');
    for byte in c.encode_utf8(&mut utf8).bytes() {
        match escaped {
            true => name.extend([b'%', hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]),
            false => name.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_reads_as_printed_whatever_its_case(value: u128) {
            let key = BindingKey(value);
            let text = key.to_string();
            prop_assert_eq!(text.len(), BindingKey::LEN);
            prop_assert_eq!(BindingKey::from_user(text.as_bytes()), Some(key));
            prop_assert_eq!(BindingKey::from_user(text.to_uppercase().as_bytes()), Some(key));
        }

        #[test]
        fn no_two_users_share_a_name_and_every_name_is_one_line(a in "[%0-2<a\\x00-\\x20é]{0,5}", b in "[%0-2<a\\x00-\\x20é]{0,5}") {
            let (one, other) = (AorName::new("t", &a, "d"), AorName::new("t", &b, "d"));
            prop_assert_eq!(one.as_str() == other.as_str(), a == b);
            prop_assert!(!one.as_str().contains(char::is_control) && !one.as_str().contains(' '));
        }

        #[test]
        fn nothing_else_is_a_token(user in "[a-z0-9]{0,30}") {
            if let Some(key) = BindingKey::from_user(user.as_bytes()) {
                prop_assert_eq!(key.to_string(), user);
            }
        }
    }

    #[test]
    fn extensions_are_no_tokens() {
        for user in ["401", "b", "bob", "b0000000000000000000000000i", "bz0000000000000000000000000"] {
            assert_eq!(BindingKey::from_user(user.as_bytes()), None, "{user}");
        }
    }
}
