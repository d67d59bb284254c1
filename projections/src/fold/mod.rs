//! The folds: one file per projection, with its rows.

mod backend;
mod calls;
mod cdr;
mod location;

pub use backend::{BackendRow, Backends};
pub use calls::{CallRow, Calls};
pub use cdr::{CdrRow, Cdrs};
pub use location::{LocationHistoryRow, LocationRow, Locations};

use signalbox_base::Text;
use signalbox_bus::Delivered;

/// The largest `INTEGER`; numbers that a peer chose are cut to it rather than refused by the database.
const INTEGER_MAX: u32 = i32::MAX.unsigned_abs();

fn integer(number: u32) -> i64 {
    number.min(INTEGER_MAX).into()
}

fn owned(text: &Text) -> String {
    text.as_str().to_owned()
}

/// The tenant as tables have it: `_` for none.
fn tenant_of(event: &Delivered) -> String {
    if event.tenant.is_empty() { "_".to_owned() } else { owned(&event.tenant) }
}

fn maybe(text: &Option<Text>) -> Option<String> {
    text.as_ref().map(owned)
}

/// A list as JSON text.
fn json(list: &[Text]) -> String {
    serde_json::Value::from(list.iter().map(Text::as_str).collect::<Vec<_>>()).to_string()
}

/// Counters of milliseconds and sequences; 2^63 is never reached.
fn big(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
