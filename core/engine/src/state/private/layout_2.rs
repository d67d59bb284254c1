//! Layout 2: changes of legs were told of legs that are not known too, as none; no refresh told the whole binding.

use super::{BindingPrivate, TrueForms};
use crate::call::leg::{Leg, LegChange};
use crate::call::raw::Raw;
use crate::state::calls::{Answer, Attempted, CallPrivate, PendingRequest};
use serde::Deserialize;

pub(super) const LAYOUT: u8 = 2;

#[derive(Deserialize)]
#[expect(clippy::large_enum_variant, reason = "it lives for one record of a replay")]
pub(super) enum Private {
    None,
    Binding(BindingPrivate),
    Call(Call),
    BindingWith(BindingPrivate, TrueForms),
}

#[derive(Deserialize)]
pub(super) enum Call {
    Attempted { leg: Leg, invite: PendingRequest },
    Routed { attempt: Attempted, leg: LegChange, invite: Option<PendingRequest> },
    Answered { caller: LegChange, callee: LegChange, answer: Answer },
    Legs { caller: LegChange, callee: LegChange },
    Ended { bye_caller: bool, bye_callee: bool },
    Failed { bytes: Raw },
}

impl From<Private> for super::Private {
    fn from(private: Private) -> Self {
        match private {
            Private::None => Self::None,
            Private::Binding(binding) => Self::Binding(binding),
            Private::Call(call) => Self::Call(call.into()),
            Private::BindingWith(binding, forms) => Self::BindingWith(binding, forms),
        }
    }
}

impl From<Call> for CallPrivate {
    fn from(call: Call) -> Self {
        match call {
            Call::Attempted { leg, invite } => Self::Attempted { leg, invite },
            Call::Routed { attempt, leg, invite } => Self::Routed { attempt, leg: Some(leg), invite },
            Call::Answered { caller, callee, answer } => {
                Self::Answered { caller: Some(caller), callee: Some(callee), answer }
            }
            Call::Legs { caller, callee } => Self::Legs { caller: Some(caller), callee: Some(callee) },
            Call::Ended { bye_caller, bye_callee } => Self::Ended { bye_caller, bye_callee },
            Call::Failed { bytes } => Self::Failed { bytes },
        }
    }
}
