//! Calls to `sips:` go over TLS alone, and to phones that have registered so; calls to `sip:` reach these phones as well
//! (RFC 5630).

use super::attempt::Target;
use super::plan::{Final, Plan};
use super::raw::Raw;
use super::words::Words;
use crate::sips::{self, is_sips, may_go, plain};
use crate::tenancy::Origin;
use crate::turn::Turn;

impl Plan {
    /// Keeps the targets that the scheme of the Request-URI lets be called; when it lets none, that is said.
    pub(super) fn by_scheme(mut self, turn: &Turn<'_>, origin: &Origin, ruri: &[u8]) -> Self {
        let before = self.targets.len();
        self.targets.retain_mut(|target| fits(target, ruri));
        if before > 0 && self.targets.is_empty() {
            let warning = sips::warning(turn, &origin.flow);
            self.end = Some(Final::Said(Words::sips_not_allowed(&warning)));
        }
        self
    }
}

/// Whether a target may be called when this was asked for. What is asked for by `sip:` is called so.
pub(super) fn fits(target: &mut Target, ruri: &[u8]) -> bool {
    if !is_sips(ruri) {
        if is_sips(&target.uri) {
            target.uri = Raw::from(&*plain(&target.uri));
        }
        return true;
    }
    is_sips(&target.uri) && may_go(ruri, &target.flow)
}
