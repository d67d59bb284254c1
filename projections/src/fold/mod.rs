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
use signalbox_store::Value;

/// The largest `INTEGER`; numbers that a peer chose are cut to it rather than refused by the database.
const INTEGER_MAX: u32 = i32::MAX.unsigned_abs();

fn integer(number: u32) -> Value {
    number.min(INTEGER_MAX).into()
}

/// The tenant as tables have it: `_` for none.
fn tenant_of(event: &Delivered) -> Value {
    if event.tenant.is_empty() { Value::Word("_") } else { (&event.tenant).into() }
}

fn maybe(text: &Option<Text>) -> Value {
    text.as_ref().into()
}

/// The journal of an event, as tables have it.
fn journal_of(event: &Delivered) -> Value {
    event.source.journal.to_string().into()
}

/// A list as JSON text.
fn json(list: &[Text]) -> Value {
    if list.is_empty() {
        return Value::Word("[]");
    }
    serde_json::Value::from(list.iter().map(Text::as_str).collect::<Vec<_>>()).to_string().into()
}
