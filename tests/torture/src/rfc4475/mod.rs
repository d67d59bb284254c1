//! RFC 4475, "Session Initiation Protocol (SIP) Torture Test Messages", written from its descriptions.

mod application;
mod invalid;
mod valid;

use crate::text::Torture;

/// All 49, in the RFC's order.
#[must_use]
pub fn all() -> Vec<Torture> {
    [valid::all(), invalid::all(), application::all()].concat()
}
