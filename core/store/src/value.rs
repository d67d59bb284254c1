//! Parameters and rows, the same for both databases.

use crate::error::{Class, Error};
use signalbox_base::{Text, Wall};
use std::sync::Arc;

/// One parameter or one column of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// Any integer column; a value that does not fit the column is a [`Class::Row`] fault.
    Int(i64),
    /// A floating-point column.
    Real(f64),
    /// A text column. NUL, which PostgreSQL cannot store, is U+FFFD by construction ([`Value::text`]).
    Text(Text),
    /// Only as a parameter: text that is a constant of the program, without a copy of it.
    Word(&'static str),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// Only as a parameter: a `TIMESTAMP` column, whole seconds in UTC. It reads back as text `YYYY-MM-DD HH:MM:SS`.
    Timestamp(Wall),
}

impl Value {
    /// Text that both databases can hold.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { Text::new(text) })
    }
}

/// `YYYY-MM-DD HH:MM:SS` in UTC.
pub(crate) fn timestamp_text(at: Wall) -> String {
    let text = at.to_string();
    // A year beyond 9999 prints longer; RFC 3339 forms always end in `.ffffffZ`.
    text[..text.len() - 8].replace('T', " ")
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

/// Sequences and counters; they stay far below 2^63, a larger one saturates.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::text(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::text(&value)
    }
}

/// Shared with the event, not copied.
impl From<&Text> for Value {
    fn from(value: &Text) -> Self {
        if value.contains('\0') { Self::text(value) } else { Self::Text(value.clone()) }
    }
}

impl From<Text> for Value {
    fn from(value: Text) -> Self {
        Self::from(&value)
    }
}

/// Microseconds since 1970, the way times are stored.
impl From<Wall> for Value {
    fn from(value: Wall) -> Self {
        Self::Int(value.0)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row of a result; columns are found by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Self { columns, values }
    }

    /// Column names in order.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Values in the columns' order.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// A column's value.
    ///
    /// # Errors
    /// [`Class::Schema`] when the result has no such column.
    pub fn get(&self, column: &str) -> Result<&Value, Error> {
        let at = self.columns.iter().position(|name| name == column);
        at.map(|at| &self.values[at])
            .ok_or_else(|| Error::new(Class::Schema, format!("the result has no column {column}")))
    }

    /// An integer, or `None` for NULL.
    ///
    /// # Errors
    /// [`Class::Schema`] when the column is missing or holds something else; so do the other accessors.
    pub fn int(&self, column: &str) -> Result<Option<i64>, Error> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(*value)),
            _ => Err(unexpected(column, "an integer")),
        }
    }

    /// A floating-point number, or `None` for NULL. An integer counts (SQLite stores 1.0 so in some columns).
    ///
    /// # Errors
    /// As [`Row::int`].
    pub fn real(&self, column: &str) -> Result<Option<f64>, Error> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Real(value) => Ok(Some(*value)),
            #[expect(clippy::cast_precision_loss, reason = "q values and rates are far below 2^52")]
            Value::Int(value) => Ok(Some(*value as f64)),
            _ => Err(unexpected(column, "a number")),
        }
    }

    /// Text, or `None` for NULL.
    ///
    /// # Errors
    /// As [`Row::int`].
    pub fn text(&self, column: &str) -> Result<Option<&str>, Error> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            _ => Err(unexpected(column, "text")),
        }
    }

    /// Bytes, or `None` for NULL.
    ///
    /// # Errors
    /// As [`Row::int`].
    pub fn bytes(&self, column: &str) -> Result<Option<&[u8]>, Error> {
        match self.get(column)? {
            Value::Null => Ok(None),
            Value::Bytes(value) => Ok(Some(value)),
            _ => Err(unexpected(column, "bytes")),
        }
    }
}

fn unexpected(column: &str, wanted: &str) -> Error {
    Error::new(Class::Schema, format!("column {column} does not hold {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_becomes_the_replacement_character_since_postgres_cannot_hold_it() {
        assert_eq!(Value::from("a\0b"), Value::Text("a\u{FFFD}b".into()));
        assert_eq!(Value::from("a\0b".to_owned()), Value::from("a\0b"));
    }

    #[test]
    fn a_timestamp_is_cut_to_whole_seconds() {
        assert_eq!(timestamp_text(Wall(951_782_400_999_999)), "2000-02-29 00:00:00");
    }

    #[test]
    fn a_column_is_found_by_name_and_a_missing_one_is_a_schema_fault() {
        let row = Row::new(Arc::from(["a".to_owned(), "b".to_owned()]), vec![Value::Int(1), Value::Null]);
        assert_eq!(row.int("a"), Ok(Some(1)));
        assert_eq!(row.text("b"), Ok(None));
        assert_eq!(row.text("a").unwrap_err().class(), Class::Schema);
        assert_eq!(row.int("c").unwrap_err().class(), Class::Schema);
    }
}
