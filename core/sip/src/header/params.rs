//! `;name=value` lists, as they follow addresses, Vias, events and dispositions (RFC 3261 §25.1 `generic-param`).

use crate::text::{decimal_saturating, quoted_end, trim, unquote};
use std::borrow::Cow;

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name, to be compared without case.
    pub name: &'a [u8],
    /// Its value with quotes, if it came with any; `None` for a flag such as `lr`.
    pub value: Option<&'a [u8]>,
    /// Name, `=` and value as they came, for edits.
    pub raw: &'a [u8],
}

/// Iterates over parameters; empty ones (`;;`) are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Params<'a> {
    /// Over `;a=b;c` with or without the first semicolon.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The parameters as they came.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// The first parameter of this name, in any case.
    #[must_use]
    pub fn get(self, name: &[u8]) -> Option<Param<'a>> {
        self.into_iter().find(|param| param.name.eq_ignore_ascii_case(name))
    }

    /// The first value of this name: `None` when it is missing or a flag.
    #[must_use]
    pub fn value(self, name: &[u8]) -> Option<&'a [u8]> {
        self.get(name)?.value
    }

    /// Whether a parameter of this name is there, with or without value.
    #[must_use]
    pub fn has(self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    /// Whether this name is there twice, so that two readers could pick different values.
    #[must_use]
    pub fn repeats(self, name: &[u8]) -> bool {
        self.into_iter().filter(|param| param.name.eq_ignore_ascii_case(name)).nth(1).is_some()
    }

    /// A number; what is larger than `u32` becomes `u32::MAX`. `None` when missing or no number.
    #[must_use]
    pub fn number(self, name: &[u8]) -> Option<u32> {
        decimal_saturating(self.value(name)?)
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    /// One pass: a parameter is short, and setting a search up costs more than to look at its bytes.
    fn next(&mut self) -> Option<Param<'a>> {
        while !self.rest.is_empty() {
            let bytes = self.rest;
            let (mut end, mut equals) = (0, None);
            while let Some(&byte) = bytes.get(end) {
                let next = match byte {
                    b';' => break,
                    b'=' => {
                        equals = equals.or(Some(end));
                        end += 1;
                        continue;
                    }
                    b'"' => quoted_end(&bytes[end..]).map_or(bytes.len(), |len| end + len),
                    b'<' => memchr::memchr(b'>', &bytes[end..]).map_or(bytes.len(), |n| end + n + 1),
                    _ => {
                        end += 1;
                        continue;
                    }
                };
                let next = next.min(bytes.len());
                if equals.is_none() {
                    // One inside quotes that stand where a name should.
                    equals = bytes[end..next].iter().position(|&b| b == b'=').map(|n| end + n);
                }
                end = next;
            }
            self.rest = bytes.get(end + 1..).unwrap_or_default();
            let raw = trim(&bytes[..end]);
            if raw.is_empty() {
                continue;
            }
            return Some(match equals {
                Some(n) => Param { name: trim(&bytes[..n]), value: Some(trim(&bytes[n + 1..end])), raw },
                None => Param { name: raw, value: None, raw },
            });
        }
        None
    }
}

impl<'a> Param<'a> {
    /// The value without quotes and escapes; empty for a flag.
    #[must_use]
    pub fn unquoted(&self) -> Cow<'a, [u8]> {
        unquote(self.value.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_flags_quoted_values_and_blanks_of_any_kind() {
        let params = Params::new(b" ; lr ;; tag \r\n  = 98asjd8;x=\"a;b=\\\"c\";;expires=99999999999");
        assert!(params.has(b"LR"));
        assert_eq!(params.value(b"lr"), None);
        assert_eq!(params.value(b"TAG"), Some(b"98asjd8".as_slice()));
        assert_eq!(params.value(b"x"), Some(br#""a;b=\"c""#.as_slice()));
        assert_eq!(&*params.get(b"x").expect("there").unquoted(), br#"a;b="c"#);
        assert_eq!(params.number(b"expires"), Some(u32::MAX));
        assert!(!params.repeats(b"tag") && Params::new(b";tag=1;x;TAG=1").repeats(b"tag"));
        assert_eq!(params.count(), 4);
    }

    /// What [`Params`] does, told with searches: ends first, then what is in between.
    fn by_search(mut rest: &[u8]) -> Vec<Param<'_>> {
        let mut found = Vec::new();
        while !rest.is_empty() {
            let end = crate::text::find_outside(rest, b';').unwrap_or(rest.len());
            let raw = trim(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            match memchr::memchr(b'=', raw) {
                _ if raw.is_empty() => {}
                Some(n) => found.push(Param { name: trim(&raw[..n]), value: Some(trim(&raw[n + 1..])), raw }),
                None => found.push(Param { name: raw, value: None, raw }),
            }
        }
        found
    }

    proptest::proptest! {
        #[test]
        fn one_pass_finds_what_searches_find(text in "[;=\"<>\\\\a \r\n]{0,24}") {
            let params: Vec<_> = Params::new(text.as_bytes()).collect();
            proptest::prop_assert_eq!(params, by_search(text.as_bytes()));
        }
    }

    #[test]
    fn an_unclosed_quote_runs_to_the_end_and_not_beyond() {
        let params = Params::new(b";a=\"never;b=c");
        assert_eq!(params.value(b"b"), None);
        assert_eq!(params.count(), 1);
    }
}
