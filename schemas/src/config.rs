//! Events of the configuration: what is in force, and what was refused.
//!
//! The aggregate is the configuration (subject: `config`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use signalbox_base::Text;

/// A configuration came into force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigApplied {
    /// Name of the edge.
    pub edge: Text,
    /// Its number on this edge; the first is 1.
    pub revision: u64,
    /// SHA-256 of the effective configuration, 64 lower-case hexadecimal digits.
    pub sha256: Text,
    /// The effective configuration with every default; secrets only by the name of their file.
    pub config: Map<String, Value>,
    /// Names of the parts that are left out of `config` because it has more than 512 KiB; the SHA-256 covers them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<Text>,
    /// What changed since the revision before, the first 200 at most; empty for the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<ConfigChange>,
    /// How many changes there are beyond those of `diff`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
    /// Who applied it: a user, or `start`.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Text>,
}

/// One value that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigChange {
    /// Where it stands, such as `tenant.acme.backends.pbx-1.weight`.
    pub key: Text,
    /// The value before; none when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The value now; none when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// A configuration was refused. The one before stays in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigRejected {
    /// Name of the edge.
    pub edge: Text,
    /// The revision that stays in force.
    pub revision: u64,
    /// SHA-256 of the refused text, 64 lower-case hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Text>,
    /// What is wrong with it, the first 200 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ConfigError>,
    /// How many errors there are beyond those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
    /// Who tried to apply it.
    #[schemars(extend("x-personal-data" = true))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<Text>,
}

/// One fault of a configuration, with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigError {
    /// The stable code of the error, such as `SB0123`.
    pub code: Text,
    /// The file.
    pub file: Text,
    /// The line; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in characters; the first is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The key it is about.
    pub key: Text,
    /// What is wrong and what to write instead.
    pub message: Text,
}
