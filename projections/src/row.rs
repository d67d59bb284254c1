//! Rows of tables as types: one list of columns for writing, reading and printing.

use serde::{Serialize, Serializer};
use signalbox_base::Wall;
use signalbox_store::{Class, Error, Row};

/// A struct whose fields are a table's columns, by name: for reading, and with a second name also one for writing, whose
/// fields are parameters, so that text is shared with the event and not copied.
macro_rules! table_row {
    ($(#[$doc:meta])* $name:ident / $values:ident = $table:literal {
        $($(#[$about:meta])+ $column:ident: $type:ty,)+
    }) => {
        crate::row::table_row! { $(#[$doc])* $name = $table { $($(#[$about])+ $column: $type,)+ } }

        /// A row to be written.
        #[derive(Clone)]
        pub(crate) struct $values {
            $(pub(crate) $column: signalbox_store::Value,)+
        }

        impl $values {
            /// The values in the columns' order.
            pub(crate) fn params(self) -> Vec<signalbox_store::Value> {
                vec![$(self.$column),+]
            }
        }
    };
    ($(#[$doc:meta])* $name:ident = $table:literal { $($(#[$about:meta])+ $column:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $name {
            $($(#[$about])+ pub $column: $type,)+
        }

        impl $name {
            /// The table.
            pub const TABLE: &'static str = $table;
            /// Its columns, in the order of the fields.
            pub const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];

            /// Reads a row that has these columns.
            ///
            /// # Errors
            /// `Class::Schema` when a column is missing or holds something else.
            pub fn read(row: &signalbox_store::Row) -> Result<Self, signalbox_store::Error> {
                Ok(Self { $($column: crate::row::Column::column(row, stringify!($column))?,)+ })
            }
        }
    };
}
pub(crate) use table_row;

/// `INSERT INTO table (columns) VALUES ($1, …)` and `tail` (the `ON CONFLICT` clause).
pub(crate) fn insert(table: &str, columns: &[&str], tail: &str) -> String {
    let places: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({}) {tail}", columns.join(", "), places.join(", "))
}

/// `SELECT columns FROM table` and `tail`.
pub(crate) fn select(table: &str, columns: &[&str], tail: &str) -> String {
    format!("SELECT {} FROM {table} {tail}", columns.join(", "))
}

/// A type that a column is read into.
pub(crate) trait Column: Sized {
    fn column(row: &Row, name: &str) -> Result<Self, Error>;
}

fn required<T>(value: Option<T>, name: &str) -> Result<T, Error> {
    value.ok_or_else(|| Error::new(Class::Schema, format!("column {name} is NULL")))
}

impl Column for i64 {
    fn column(row: &Row, name: &str) -> Result<Self, Error> {
        required(row.int(name)?, name)
    }
}

impl Column for Option<i64> {
    fn column(row: &Row, name: &str) -> Result<Self, Error> {
        row.int(name)
    }
}

impl Column for f64 {
    fn column(row: &Row, name: &str) -> Result<Self, Error> {
        required(row.real(name)?, name)
    }
}

impl Column for String {
    fn column(row: &Row, name: &str) -> Result<Self, Error> {
        required(row.text(name)?.map(str::to_owned), name)
    }
}

impl Column for Option<String> {
    fn column(row: &Row, name: &str) -> Result<Self, Error> {
        Ok(row.text(name)?.map(str::to_owned))
    }
}

/// A `TIMESTAMP` column, whole seconds in UTC; printed `YYYY-MM-DD HH:MM:SS`, as other programs write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub Wall);

impl Column for Stamp {
    fn column(row: &Row, name: &str) -> Result<Self, Error> {
        let text = String::column(row, name)?;
        let at = Wall::parse_rfc3339(&format!("{text}Z"));
        at.map(Self).ok_or_else(|| Error::new(Class::Schema, format!("column {name} holds no timestamp")))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.to_string();
        serializer.serialize_str(&text[..text.len() - 8].replace('T', " "))
    }
}
