//! Compact JSON into a buffer, byte for byte what `serde_json` writes, for the shapes that `data` is made of.
//!
//! An edge writes several events a call. A general writer goes through `io::Write` for every comma and looks at text byte
//! by byte; this one appends to memory and looks at eight bytes at a time.

use serde::ser::{Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple};
use serde::{Serialize, Serializer};
use serde_json::Error;
use std::fmt;

/// Appends `value`.
///
/// # Errors
/// For what no `data` has: bytes, variants that carry something, keys that are no text. What was appended till then stays.
pub(crate) fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(Json(out))
}

struct Json<'a>(&'a mut Vec<u8>);

/// A list or object that is open; `first` until something stands in it.
struct Open<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Open<'a> {
    fn new(out: &'a mut Vec<u8>, bracket: u8) -> Self {
        out.push(bracket);
        Self { out, first: true }
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        value.serialize(Json(self.out))
    }

    fn close(self, bracket: u8) -> Result<(), Error> {
        self.out.push(bracket);
        Ok(())
    }
}

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// Whether any of eight bytes is a control character, a quotation mark or a backslash (RFC 8259 §7).
const fn any_special(eight: u64) -> bool {
    // A byte below 0x20, or one that is zero once the mark is taken away, borrows into its highest bit.
    let below = eight.wrapping_sub(ONES * 0x20) & !eight;
    let quote = eight ^ (ONES * b'"' as u64);
    let slash = eight ^ (ONES * b'\\' as u64);
    let quote = quote.wrapping_sub(ONES) & !quote;
    let slash = slash.wrapping_sub(ONES) & !slash;
    (below | quote | slash) & HIGHS != 0
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let (eights, rest) = bytes.as_chunks::<8>();
    if eights.iter().any(|eight| any_special(u64::from_le_bytes(*eight)))
        || rest.iter().copied().any(is_special)
    {
        escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

#[cold]
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes.iter().copied() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0A => b'n',
            0x0C => b'f',
            0x0D => b'r',
            0x00..0x20 => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    // 20 digits hold any of 64 bits.
    let (mut digits, mut at, mut rest) = ([b'0'; 20], 20, value);
    while rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn none<T>(what: &str) -> Result<T, Error> {
    Err(Error::custom(format_args!("no event has {what}")))
}

impl<'a> Serializer for Json<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        if value < 0 {
            self.0.push(b'-');
        }
        number(self.0, value.unsigned_abs());
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        number(self.0, value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        text(self.0, value);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        none("bytes")
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        none("variants that carry something")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>, Error> {
        Ok(Open::new(self.0, b'['))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'a>, Error> {
        Ok(Open::new(self.0, b'['))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        none("structs without names")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        none("variants that carry something")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'a>, Error> {
        Ok(Open::new(self.0, b'{'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, Error> {
        Ok(Open::new(self.0, b'{'))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        none("variants that carry something")
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let start = self.0.len();
        self.0.push(b'"');
        let mut plain = true;
        fmt::Write::write_fmt(&mut Displayed { out: self.0, plain: &mut plain }, format_args!("{value}"))
            .map_err(Error::custom)?;
        if plain {
            self.0.push(b'"');
        } else {
            let shown = self.0.split_off(start + 1);
            escaped(self.0, &shown);
            self.0.push(b'"');
        }
        Ok(())
    }
}

/// Takes what is displayed as it is, and says whether that was right.
struct Displayed<'a> {
    out: &'a mut Vec<u8>,
    plain: &'a mut bool,
}

impl fmt::Write for Displayed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        *self.plain &= !text.bytes().any(is_special);
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl SerializeSeq for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close(b']')
    }
}

impl SerializeTuple for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.close(b']')
    }
}

impl SerializeMap for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        let start = self.out.len();
        key.serialize(Json(self.out))?;
        if self.out.get(start) != Some(&b'"') {
            return none("keys that are no text");
        }
        self.out.push(b':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Json(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.close(b'}')
    }
}

impl SerializeStruct for Open<'_> {
    type Ok = ();
    type Error = Error;

    // Where a name's length is known, it is written by a few moves.
    #[inline(always)]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        // Field names are identifiers, or such as `type`: nothing in them is escaped.
        self.out.extend_from_slice(if std::mem::take(&mut self.first) { b"\"" } else { b",\"" });
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        value.serialize(Json(self.out))
    }

    fn end(self) -> Result<(), Error> {
        self.close(b'}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};
    use signalbox_base::Text;

    /// Every shape that an event's data has.
    #[derive(Serialize)]
    struct Shapes {
        text: Text,
        numbers: (u64, i64, u8, i16),
        fraction: f64,
        is: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<u32>,
        nothing: Option<u32>,
        list: Vec<Text>,
        value: Value,
        shown: Shown,
        #[serde(flatten)]
        inside: Inside,
    }

    #[derive(Serialize)]
    struct Inside {
        letter: char,
        any: Map<String, Value>,
    }

    struct Shown(String);

    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.collect_str(&self.0)
        }
    }

    /// Text in which what is escaped is common, in every place of eight bytes.
    fn any_text() -> impl Strategy<Value = String> {
        let one = prop_oneof![6 => any::<char>(), 6 => prop::char::range('a', 'z'), 1 => prop::char::range('\0', ' '),
            1 => Just('"'), 1 => Just('\\'), 1 => Just('\u{7f}'), 1 => Just('\u{2028}')];
        prop::collection::vec(one, 0..24).prop_map(|chars| chars.into_iter().collect())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any_text().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any_text(), inner), 0..4)
                    .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    fn written<T: Serialize>(value: &T) -> String {
        let mut out = Vec::new();
        append(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn each_shape_is_written_as_serde_json_writes_it(
            text in any_text(),
            numbers in any::<(u64, i64, u8, i16)>(),
            fraction in any::<f64>(),
            (is, some) in any::<(bool, Option<u32>)>(),
            list in prop::collection::vec(any_text(), 0..4),
            value in any_value(),
            (letter, shown) in (any::<char>(), any_text()),
            key in any_text(),
        ) {
            let shapes = Shapes {
                text: Text::from(text),
                numbers,
                fraction,
                is,
                left_out: some,
                nothing: some,
                list: list.into_iter().map(Text::from).collect(),
                value: value.clone(),
                shown: Shown(shown),
                inside: Inside { letter, any: Map::from_iter([(key, value)]) },
            };
            prop_assert_eq!(written(&shapes), serde_json::to_string(&shapes).unwrap());
        }

        #[test]
        fn numbers_of_every_length_are_written(digits in 0_u32..20, value in any::<u64>()) {
            let value = value % 10_u64.saturating_pow(digits).max(1);
            prop_assert_eq!(written(&value), value.to_string());
        }
    }

    #[test]
    fn each_byte_that_needs_an_escape_gets_one_wherever_it_stands() {
        for char in (0..=0x80).filter_map(char::from_u32) {
            for at in 0..17 {
                let text = format!("{}{char}{}", "a".repeat(at), "b".repeat(16 - at));
                assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
            }
        }
        assert_eq!(written(&(i64::MIN, u64::MAX, 0_u64)), "[-9223372036854775808,18446744073709551615,0]");
    }

    #[test]
    fn what_no_event_has_is_an_error() {
        let mut out = Vec::new();
        assert!(append(&mut out, &std::collections::BTreeMap::from([(1, 2)])).is_err());
        assert!(append(&mut out, &Err::<u32, u32>(1)).is_err());
    }
}
