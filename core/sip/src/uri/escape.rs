//! Percent escapes (RFC 3261 §19.1.2).

use std::borrow::Cow;

/// Decodes `%41`; what is no escape stays as it is.
#[must_use]
pub fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(decoded(bytes).collect())
}

/// The decoded bytes, one by one.
pub(crate) fn decoded(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (byte, next) = match rest {
            [b'%', high, low, next @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, next),
                _ => (b'%', &rest[1..]),
            },
            [byte, next @ ..] => (*byte, next),
            [] => return None,
        };
        rest = next;
        Some(byte)
    })
}

/// Writes a decoded user part so that it reads back as itself: what the grammar of `user` does not hold is escaped.
pub fn write_escaped_user(user: &[u8], out: &mut Vec<u8>) {
    for &byte in user {
        // unreserved and user-unreserved, without `;` and `?`, which peers have been seen to split at.
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,/".contains(&byte) {
            out.push(byte);
        } else {
            write_escape(byte, out);
        }
    }
}

/// Writes the value of a URI's header so that it reads back as itself (RFC 3261 §25.1 `hvalue`).
pub fn write_escaped_header(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(byte);
        } else {
            write_escape(byte, out);
        }
    }
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes_once_and_leaves_broken_ones() {
        assert_eq!(&*decode(b"sips%3Auser%40example.com"), b"sips:user@example.com");
        assert_eq!(&*decode(b"%25%34%31"), b"%41");
        assert_eq!(&*decode(b"null-%00-null"), b"null-\0-null");
        assert_eq!(&*decode(b"%Z%4"), b"%Z%4");
    }

    #[test]
    fn any_header_value_reads_back_after_writing() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        write_escaped_header(&all, &mut out);
        assert!(out.iter().all(|b| b.is_ascii_graphic() && !b";?@:<>\"&=,+".contains(b)));
        assert_eq!(&*decode(&out), all.as_slice());
    }

    #[test]
    fn any_user_reads_back_after_writing() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        write_escaped_user(&all, &mut out);
        assert!(out.iter().all(|b| b.is_ascii_graphic() && !b";?@:<>\"".contains(b)));
        assert_eq!(&*decode(&out), all.as_slice());
    }
}
