//! Upcasters: pure functions that turn the data of version N into that of version N+1.
//!
//! A breaking change of an event adds a version to the catalogue and one function here; readers only ever see the
//! version that the release writes. The released schemas and golden samples of the old version stay and are read by test.

use crate::event::ReadError;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One step from a version to the next.
pub(crate) struct Upcaster {
    /// The type, `call.ended`.
    pub short: &'static str,
    /// The version it reads; it writes the one after.
    pub from: u16,
    /// The change; the error says what is wrong with the data.
    pub apply: fn(Value) -> Result<Value, String>,
}

/// The steps of this release: none, for every event is in its first version.
pub(crate) const UPCASTERS: &[Upcaster] = &[];

/// Reads `data` written in version `found` as the type of version `known`, by as many steps as lie between.
pub(crate) fn read<T: DeserializeOwned>(
    steps: &[Upcaster],
    short: &'static str,
    known: u16,
    found: u16,
    data: &[u8],
) -> Result<T, ReadError> {
    let invalid = |detail: String| ReadError::Invalid { short, version: found, detail };
    if found == known {
        return serde_json::from_slice(data).map_err(|error| invalid(error.to_string()));
    }
    if found > known {
        return Err(ReadError::NewerVersion { short, found, known });
    }
    let mut value: Value = serde_json::from_slice(data).map_err(|error| invalid(error.to_string()))?;
    for version in found..known {
        let step = steps
            .iter()
            .find(|step| step.short == short && step.from == version)
            .ok_or_else(|| invalid(format!("no upcaster reads version {version}")))?;
        value = (step.apply)(value).map_err(&invalid)?;
    }
    serde_json::from_value(value).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use serde::Deserialize;
    use serde_json::json;

    /// The third version of an event that exists only here. Version 1 had `seconds`, version 2 `millis`.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Bell {
        duration_ms: u64,
        tone: String,
    }

    fn seconds_to_millis(mut value: Value) -> Result<Value, String> {
        let fields = value.as_object_mut().ok_or("not an object")?;
        let seconds = fields.remove("seconds").and_then(|v| v.as_u64()).ok_or("no seconds")?;
        fields.insert("millis".to_owned(), json!(seconds * 1000));
        Ok(value)
    }

    fn rename_and_add_tone(mut value: Value) -> Result<Value, String> {
        let fields = value.as_object_mut().ok_or("not an object")?;
        let millis = fields.remove("millis").ok_or("no millis")?;
        fields.insert("duration_ms".to_owned(), millis);
        fields.insert("tone".to_owned(), json!("unknown"));
        Ok(value)
    }

    const STEPS: &[Upcaster] = &[
        Upcaster { short: "bell.rung", from: 2, apply: rename_and_add_tone },
        Upcaster { short: "bell.rung", from: 1, apply: seconds_to_millis },
        Upcaster { short: "bell.muted", from: 1, apply: |_| Err("another type's step was used".to_owned()) },
    ];

    fn read_bell(version: u16, data: Value) -> Result<Bell, ReadError> {
        read(STEPS, "bell.rung", 3, version, data.to_string().as_bytes())
    }

    #[test]
    fn given_an_event_of_each_version_when_read_then_it_is_the_latest() {
        let told = Bell { duration_ms: 2000, tone: "unknown".to_owned() };
        assert_eq!(read_bell(1, json!({ "seconds": 2 })).unwrap(), told);
        assert_eq!(read_bell(2, json!({ "millis": 2000 })).unwrap(), told);
        assert_eq!(read_bell(3, json!({ "duration_ms": 2000, "tone": "unknown" })).unwrap(), told);
    }

    #[test]
    fn given_an_event_of_tomorrow_when_read_then_its_domain_must_stop() {
        let newer = ReadError::NewerVersion { short: "bell.rung", found: 4, known: 3 };
        assert_eq!(read_bell(4, json!({})), Err(newer));
    }

    #[test]
    fn given_data_that_no_step_takes_when_read_then_it_is_invalid_in_its_own_version() {
        for (version, data) in [(1, json!({})), (1, json!([])), (2, json!({ "seconds": 2 })), (0, json!({}))]
        {
            let error = read_bell(version, data).unwrap_err();
            assert!(matches!(error, ReadError::Invalid { version: v, .. } if v == version), "{error}");
        }
    }

    #[test]
    fn every_old_version_of_every_event_has_its_step() {
        for kind in Kind::ALL {
            for version in 1..kind.version() {
                let steps = UPCASTERS.iter().filter(|s| s.short == kind.short() && s.from == version).count();
                assert_eq!(steps, 1, "{}.v{version}", kind.short());
            }
        }
    }
}
