//! JSON Schemas of the types that events carry, so that the published contract names their form.

use crate::{CallUid, EventSeq, JournalId, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

macro_rules! inline_schema {
    ($type:ident, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

inline_schema!(Text, { "type": "string" });
inline_schema!(CallUid, { "type": "string", "pattern": "^c_[0-9A-Za-z]{11}$" });
inline_schema!(JournalId, { "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$" });
inline_schema!(EventSeq, { "type": "integer", "format": "uint64", "minimum": 0 });
