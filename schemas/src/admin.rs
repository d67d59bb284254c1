//! Events of operators' commands.
//!
//! The aggregate is `admin`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

use crate::words::Outcome;

/// Somebody gave a command that changes something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdminActed {
    /// Name of the edge.
    pub edge: Text,
    /// Who: the peer's user of the admin socket.
    #[schemars(extend("x-personal-data" = true))]
    pub actor: Text,
    /// What, such as `backends.drain`.
    pub action: Text,
    /// What it was done to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Text>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text>,
}
