//! Events out to JSON and back, whatever version they were written in.

use crate::catalogue::{Event, Kind};
use crate::json;
use crate::upcast::{self, UPCASTERS};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The prefix of every CloudEvents `type` of ours.
pub const TYPE_PREFIX: &str = "io.signalbox.";

/// The `data` of one kind of event. The engine writes it without making an [`Event`] of it.
pub trait EventData: Serialize + DeserializeOwned + Into<Event> {
    /// Its kind.
    const KIND: Kind;

    /// Appends it as JSON, in one pass.
    fn write(&self, out: &mut Vec<u8>) {
        json::append(out, self).expect("events have fields, lists, text and numbers only");
    }
}

/// Why an event could not be read. What to do differs: see each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A type that this release does not know: skip the event.
    #[error("event type {0} is not known to this release")]
    UnknownType(String),
    /// A known type in a later version: stop its domain, a later release must read it.
    #[error("event type {short} has version {found}; this release reads up to {known}")]
    NewerVersion {
        /// The type, `call.ended`.
        short: &'static str,
        /// The version of the event.
        found: u16,
        /// The latest version that this release reads.
        known: u16,
    },
    /// The data is not what its type and version say: park the aggregate.
    #[error("event type {short}.v{version} does not read: {detail}")]
    Invalid {
        /// The type, `call.ended`.
        short: &'static str,
        /// The version of the event.
        version: u16,
        /// What is wrong, and where in the data.
        detail: String,
    },
}

impl Event {
    /// Reads the `data` of an event of type `call.ended.v1` (or the full type name), upcasting older versions.
    /// Fields that this release does not know are ignored; words that it does not know become `unknown`.
    pub fn read(type_with_version: &str, data: &[u8]) -> Result<Self, ReadError> {
        let unknown = || ReadError::UnknownType(type_with_version.to_owned());
        let (kind, version) = Kind::parse(type_with_version).ok_or_else(unknown)?;
        Self::read_kind(kind, version, data)
    }
}

impl Kind {
    /// The kind and version of `call.ended.v1` or `io.signalbox.call.ended.v1`, where the kind is known;
    /// the version may be another than [`Kind::version`].
    #[must_use]
    pub fn parse(type_with_version: &str) -> Option<(Self, u16)> {
        let name = type_with_version.strip_prefix(TYPE_PREFIX).unwrap_or(type_with_version);
        let (short, version) = name.rsplit_once(".v")?;
        let canonical = !version.starts_with(['0', '+']);
        let version = if canonical { version.parse().ok()? } else { return None };
        Some((Self::from_short(short)?, version))
    }

    /// The kind of the full type name in the version that this release writes.
    #[must_use]
    pub fn from_type_name(type_name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.type_name() == type_name)
    }

    /// The kind of `call.ended`.
    #[must_use]
    pub fn from_short(short: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.short() == short)
    }
}

/// `call.ended`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.short())
    }
}

/// Reads `data` of `kind` written in `version`.
pub(crate) fn read_version<T: DeserializeOwned>(
    kind: Kind,
    version: u16,
    data: &[u8],
) -> Result<T, ReadError> {
    upcast::read(UPCASTERS, kind.short(), kind.version(), version, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::EdgeClockStepped;
    use proptest::prelude::*;

    #[test]
    fn every_kind_is_found_by_each_of_its_names() {
        for kind in Kind::ALL.iter().copied() {
            assert_eq!(Kind::parse(kind.versioned()), Some((kind, kind.version())));
            assert_eq!(Kind::parse(kind.type_name()), Some((kind, kind.version())));
            assert_eq!(Kind::from_short(kind.short()), Some(kind));
            assert_eq!(Kind::from_type_name(kind.type_name()), Some(kind));
            assert!(kind.short().starts_with(&format!("{}.", kind.domain())), "{kind}");
            assert!(!kind.description().is_empty(), "{kind}");
        }
    }

    #[test]
    fn severity_is_on_the_domains_that_have_one() {
        for kind in Kind::ALL {
            let has = ["security", "backend", "edge"].contains(&kind.domain());
            assert_eq!(kind.severity().is_some(), has, "{kind}");
        }
    }

    #[test]
    fn what_is_not_a_type_with_its_version_is_unknown() {
        for bad in [
            "",
            "call.ended",
            "call.ended.v",
            "call.ended.v01",
            "call.ended.v+1",
            "call.ended.v65536",
            "fax.sent.v1",
        ] {
            assert_eq!(Event::read(bad, b"{}"), Err(ReadError::UnknownType(bad.to_owned())));
        }
    }

    #[test]
    fn given_a_version_of_tomorrow_when_read_then_its_domain_must_stop() {
        let newer = ReadError::NewerVersion { short: "call.ended", found: 2, known: 1 };
        assert_eq!(Event::read("call.ended.v2", b"not even JSON"), Err(newer));
    }

    #[test]
    fn given_wrong_data_when_read_then_the_error_says_what_and_where() {
        let error = Event::read("edge.clock_stepped.v1", br#"{"edge":"e","step_ms":"far"}"#).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("edge.clock_stepped.v1") && said.contains("column"), "{said}");
    }

    #[test]
    fn data_is_appended_and_absent_fields_are_left_out() {
        let mut out = b"before".to_vec();
        EdgeClockStepped { edge: "e".into(), step_ms: -7 }.write(&mut out);
        crate::registration::RegistrationRejected::default().write(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(r#"before{"edge":"e","step_ms":-7}{"edge":"""#), "{text}");
        assert!(!text.contains("null") && !text.contains("user_agent"), "{text}");
    }

    proptest! {
        #[test]
        fn reading_never_panics(index in 0..Kind::ALL.len(), data in "\\PC{0,60}") {
            let _ = Event::read(Kind::ALL[index].versioned(), data.as_bytes());
            let _ = Event::read(&data, b"{}");
        }
    }
}
