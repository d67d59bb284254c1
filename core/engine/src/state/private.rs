//! The private part of a record: what the edge needs to go on after a restart and nobody else may read.

use crate::state::calls::CallPrivate;
use crate::state::keys::BindingKey;
use serde::{Deserialize, Serialize};
use signalbox_base::{Flow, Text, Wall};

/// Behind a leading byte that names the layout, postcard. Raised with every change of a type that lies in a private part, but
/// for new ones of new events, which a release that does not know the event steps over; what the layout before wrote must
/// still be read, as journals live for weeks (`golden` holds both).
pub(super) const LAYOUT: u8 = 4;

/// The one before: nobody on a leg was a trunk, else the same.
const LAYOUT_3: u8 = 3;

mod layout_2;

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
    /// Of registration.refreshed now and then: all of the binding, for a fold of a history that no longer begins with it.
    BindingWhole(BindingPrivate, Box<WholeBinding>),
}

/// What a refresh does not tell, because it did not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeBinding {
    /// Contact URI and Path as the phone wrote them.
    pub forms: TrueForms,
    /// `+sip.instance`.
    pub instance: Option<Text>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// Preference, 0 to 1000.
    pub q: Option<u16>,
    /// Call-ID of the REGISTER.
    pub call_id: Text,
    /// Its User-Agent.
    pub user_agent: Option<Text>,
    /// Methods allowed, joined with commas.
    pub methods: Option<Text>,
    /// When the binding was stored first.
    pub added_at: Wall,
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

    /// Reads what [`Private::encode`] wrote, in this release or one of the two before.
    ///
    /// # Errors
    /// A later layout, or damage.
    pub fn decode(bytes: &[u8]) -> Result<Self, PrivateError> {
        fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, PrivateError> {
            postcard::from_bytes(bytes).map_err(|error| PrivateError::Invalid(error.to_string()))
        }
        match bytes.split_first() {
            None => Ok(Self::None),
            Some((&(LAYOUT | LAYOUT_3), rest)) => read(rest),
            Some((&layout_2::LAYOUT, rest)) => read::<layout_2::Private>(rest).map(Self::from),
            Some((other, _)) => Err(PrivateError::Layout(*other)),
        }
    }

    /// How a binding is reached, if it is a binding's.
    #[must_use]
    pub fn binding(&self) -> Option<&BindingPrivate> {
        match self {
            Self::Binding(private) | Self::BindingWith(private, _) | Self::BindingWhole(private, _) => {
                Some(private)
            }
            Self::None | Self::Call(_) => None,
        }
    }

    /// What the phone wrote, where the event does not show it or need not.
    #[must_use]
    pub fn forms(&self) -> Option<&TrueForms> {
        match self {
            Self::BindingWith(_, forms) => Some(forms),
            Self::BindingWhole(_, whole) => Some(&whole.forms),
            Self::None | Self::Call(_) | Self::Binding(_) => None,
        }
    }
}
