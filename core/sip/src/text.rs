//! Byte classes and small scanners shared by every parser in this crate.
//!
//! Header values are seen raw: a folded value still holds its line ends, so CR and LF count as blanks here.

const TOKEN: u8 = 1;
const BLANK: u8 = 2;
const HOST: u8 = 4;

const CLASS: [u8; 256] = {
    let mut table = [0_u8; 256];
    let token = b"-.!%*_+`'~";
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        if byte.is_ascii_alphanumeric() {
            table[i] |= TOKEN | HOST;
        }
        if matches!(byte, b'-' | b'.' | b'_') {
            table[i] |= HOST;
        }
        i += 1;
    }
    let mut i = 0;
    while i < token.len() {
        table[token[i] as usize] |= TOKEN;
        i += 1;
    }
    table[b' ' as usize] |= BLANK;
    table[b'\t' as usize] |= BLANK;
    table[b'\r' as usize] |= BLANK;
    table[b'\n' as usize] |= BLANK;
    table
};

/// A `token` character (RFC 3261 §25.1).
#[inline]
pub(crate) const fn is_token(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// A character of a host name or IPv4 address; the underscore, which is in no host name, is met in many.
#[inline]
pub(crate) const fn is_host(byte: u8) -> bool {
    CLASS[byte as usize] & HOST != 0
}

/// Space, tab, or part of a fold.
#[inline]
pub(crate) const fn is_blank(byte: u8) -> bool {
    CLASS[byte as usize] & BLANK != 0
}

/// Whether all of `bytes` are token characters, and there is at least one.
pub(crate) fn is_all_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| is_token(b))
}

/// Without blanks at either end.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_start(trim_end(bytes))
}

pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_blank(*first) {
            break;
        }
        bytes = rest;
    }
    bytes
}

pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes {
        if !is_blank(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Splits off the leading token.
pub(crate) fn take_token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&b| !is_token(b)).unwrap_or(bytes.len());
    bytes.split_at(end)
}

/// Position just behind the quoted string that starts at `bytes[0] == b'"'`; `None` when it never closes.
pub(crate) fn quoted_end(bytes: &[u8]) -> Option<usize> {
    let end = end_of_quotes(bytes);
    #[cfg(test)]
    steps::add(end.unwrap_or(bytes.len()));
    end
}

fn end_of_quotes(bytes: &[u8]) -> Option<usize> {
    let mut i = 1;
    while let Some(&byte) = bytes.get(i) {
        match byte {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
    None
}

/// Finds `wanted` outside quoted strings and angle brackets; an unclosed quote or bracket runs to the end.
pub(crate) fn find_outside(bytes: &[u8], wanted: u8) -> Option<usize> {
    let found = outside(bytes, wanted);
    #[cfg(test)]
    steps::add(found.map_or(bytes.len(), |n| n + 1));
    found
}

fn outside(bytes: &[u8], wanted: u8) -> Option<usize> {
    let mut i = 0;
    loop {
        i += memchr::memchr3(wanted, b'"', b'<', bytes.get(i..)?)?;
        match bytes[i] {
            byte if byte == wanted => return Some(i),
            b'"' => i += quoted_end(&bytes[i..])?,
            _ => i += memchr::memchr(b'>', &bytes[i..])? + 1,
        }
    }
}

/// Whether every quote and angle bracket that opens also closes, so that what is written behind it stands outside.
pub(crate) fn is_balanced(mut bytes: &[u8]) -> bool {
    #[cfg(test)]
    steps::add(bytes.len());
    while let Some(n) = memchr::memchr2(b'"', b'<', bytes) {
        let open = &bytes[n..];
        let end = if open[0] == b'"' { quoted_end(open) } else { memchr::memchr(b'>', open).map(|n| n + 1) };
        match end.and_then(|end| open.get(end..)) {
            Some(rest) => bytes = rest,
            None => return false,
        }
    }
    true
}

/// A decimal number that fits `u64`; no sign, no blanks, at most 40 digits.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 40 {
        return None;
    }
    bytes.iter().try_fold(0_u64, |n, &b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 { None } else { n.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// A decimal number that fits `u32`.
pub(crate) fn decimal_u32(bytes: &[u8]) -> Option<u32> {
    decimal(bytes).and_then(|n| u32::try_from(n).ok())
}

/// Like [`decimal_u32`], but a number too large becomes `u32::MAX` (delta-seconds, RFC 3261 §20.19).
pub(crate) fn decimal_saturating(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(decimal_u32(bytes).unwrap_or(u32::MAX))
}

/// Without quotes and escapes, when `bytes` is a quoted string; else as it is.
pub(crate) fn unquote(bytes: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let inner = match bytes {
        [b'"', inner @ .., b'"'] => inner,
        _ => return std::borrow::Cow::Borrowed(bytes),
    };
    if memchr::memchr(b'\\', inner).is_none() {
        return std::borrow::Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&byte) = rest.next() {
        match byte {
            b'\\' => out.extend(rest.next()),
            _ => out.push(byte),
        }
    }
    std::borrow::Cow::Owned(out)
}

/// Counts the bytes that the scanners look at, so that a test can see that work grows with the message and no faster.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });

    pub(crate) fn add(bytes: usize) {
        STEPS.with(|steps| steps.set(steps.get() + bytes));
    }

    /// Steps since the last call, on this thread.
    pub(crate) fn take() -> usize {
        STEPS.with(|steps| steps.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_sign_and_do_not_wrap() {
        assert_eq!(decimal(b"0068"), Some(68));
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(decimal(b"+1"), None);
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"18446744073709551616"), None);
        assert_eq!(decimal_u32(b"4294967296"), None);
        assert_eq!(decimal_saturating(b"1000000000000000000000000"), Some(u32::MAX));
    }

    #[test]
    fn a_comma_inside_quotes_or_brackets_is_not_found() {
        assert_eq!(find_outside(br#""a,b" <sip:a,b>, c"#, b','), Some(15));
        assert_eq!(find_outside(br#""a\",b" c"#, b','), None);
        assert_eq!(find_outside(br#""never closed, x"#, b','), None);
    }

    #[test]
    fn what_opens_must_close() {
        assert!(is_balanced(br#";a="<";b=<x">;c"#) && is_balanced(b""));
        assert!(!is_balanced(br#";a="x"#) && !is_balanced(b";a=<x") && !is_balanced(br#";a="x\""#));
    }

    #[test]
    fn unquoting_removes_escapes_once() {
        assert_eq!(&*unquote(br#""a\\b\"c""#), br#"a\b"c"#);
        assert_eq!(&*unquote(b"plain"), b"plain");
        assert_eq!(&*unquote(br#"""#), br#"""#);
    }
}
