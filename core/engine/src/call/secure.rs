//! Calls to `sips:` go over TLS alone, and to phones that have registered so; calls to `sip:` reach these phones as well
//! (RFC 5630).

use super::attempt::Target;
use super::plan::{Final, Plan};
use super::raw::Raw;
use super::words::Words;
use crate::sips;
use crate::tenancy::Origin;
use crate::turn::Turn;
use std::borrow::Cow;

impl Plan {
    /// Keeps the targets that the scheme of the Request-URI lets be called; when it lets none, that is said.
    pub(super) fn by_scheme(mut self, turn: &Turn<'_>, origin: &Origin, ruri: &[u8]) -> Self {
        let refused = || Words::sips_not_allowed(&sips::warning(turn, &origin.flow));
        self.keep(|target| fits(target, ruri), || Final::Said(refused()));
        self
    }
}

/// Whether a target may be called when this was asked for. What is asked for by `sip:` is called so.
pub(super) fn fits(target: &mut Target, ruri: &[u8]) -> bool {
    let Some(uri) = sips::as_asked(ruri, &target.uri, &target.flow) else { return false };
    if let Cow::Owned(uri) = uri {
        target.uri = Raw::from(uri);
    }
    true
}
