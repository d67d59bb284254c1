//! Events out to JSON and back, whatever version they were written in.

use crate::catalogue::{Event, Kind};
use crate::upcast::{self, UPCASTERS};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The prefix of every CloudEvents `type` of ours.
pub const TYPE_PREFIX: &str = "io.signalbox.";

/// The `data` of one kind of event. The engine writes it without making an [`Event`] of it.
pub trait EventData: Serialize + DeserializeOwned + Into<Event> {
    /// Its kind.
    const KIND: Kind;

    /// Appends it as JSON, in one pass.
    fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("events have text keys only, and memory takes every byte");
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

/// Reads `data` of `kind` written in `version`.
pub(crate) fn read_version<T: DeserializeOwned>(
    kind: Kind,
    version: u16,
    data: &[u8],
) -> Result<T, ReadError> {
    upcast::read(UPCASTERS, kind.short(), kind.version(), version, data)
}
