//! The private part of a record: what the edge needs to go on after a restart and nobody else may read.

use crate::state::calls::CallPrivate;
use crate::state::keys::BindingKey;
use serde::{Deserialize, Serialize};
use signalbox_base::{Flow, Text};

/// Behind a leading byte that names the layout, postcard.
const LAYOUT: u8 = 2;

/// What a record carries beside its public event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one turn on the stack; a box would cost an allocation a record"
)]
pub enum Private {
    /// Nothing.
    #[default]
    None,
    /// Of registration.added and registration.refreshed.
    Binding(BindingPrivate),
    /// Of the calls' events.
    Call(CallPrivate),
    /// Of registration.added and registration.refreshed when the event does not show all of what the phone wrote.
    BindingWith(BindingPrivate, TrueForms),
}

/// What a phone wrote, passwords in URIs included: requests to it must bear it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrueForms {
    /// The Contact URI.
    pub contact: Text,
    /// Path values.
    pub path: Option<Text>,
}

/// How a binding is reached, in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingPrivate {
    /// Its key.
    pub key: BindingKey,
    /// The flow of the REGISTER.
    pub flow: Flow,
    /// The backend that accepted it.
    pub backend: Text,
    /// The backend the AoR belongs to when all are up.
    pub home: Text,
    /// What was granted, seconds.
    pub granted_secs: u32,
    /// The phone's address as seen differs from the one in its Contact.
    pub behind_nat: bool,
}

/// A private part that this release does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// Written by a later release.
    #[error("private part has layout {0}, this release reads {LAYOUT}")]
    Layout(u8),
    /// Not what its layout says.
    #[error("private part does not read: {0}")]
    Invalid(String),
}

impl Private {
    /// Appends the bytes; none for [`Private::None`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::None) {
            return;
        }
        out.push(LAYOUT);
        let taken = std::mem::take(out);
        *out = postcard::to_extend(self, taken)
            .expect("memory takes every byte, and nothing here has an unknown length");
    }

    /// Reads what [`Private::encode`] wrote.
    ///
    /// # Errors
    /// A later layout, or damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, PrivateError> {
        match bytes.split_first() {
            None => Ok(Self::None),
            Some((&LAYOUT, rest)) => {
                postcard::from_bytes(rest).map_err(|error| PrivateError::Invalid(error.to_string()))
            }
            Some((other, _)) => Err(PrivateError::Layout(*other)),
        }
    }
}
