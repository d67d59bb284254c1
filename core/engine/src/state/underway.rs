//! What goes on in a call beside its own INVITE, as the journal knows it: INVITEs inside its dialog, and dialogs that nobody
//! wanted. After a restart the first are answered on both sides, and the others are ended.

use super::calls::PendingRequest;
use crate::call::leg::{End, Leg};
use crate::call::offer::Description;
use crate::call::raw::Raw;
use serde::{Deserialize, Serialize};
use signalbox_base::{Flow, Wall};
use std::time::Duration;

/// How long an INVITE inside a dialog may be open: Timer C's three minutes (RFC 3261 §16.6 step 11), and what its last
/// repetitions take.
pub const OPEN_MAX: Duration = Duration::from_secs(300);

/// What is under way in one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underway {
    /// INVITEs inside the dialog: the last of each end, for as long as it can be open.
    pub(crate) reinvites: Vec<Open>,
    /// Dialogs of answers that nobody wanted.
    pub(crate) dismissed: Vec<Dismissed>,
}

/// An INVITE inside the dialog that is open, or was a moment ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub(crate) reinvite: Reinvite,
    /// When it was sent on.
    pub(crate) at: Wall,
    /// It was accepted, by a record: its sender has its 2xx, or gets it with the next repetition from the other side.
    pub(crate) settled: bool,
}

/// An INVITE inside the dialog, on both of its legs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reinvite {
    /// Who sent it.
    pub(crate) from: End,
    /// Where it came from and its responses go.
    pub(crate) flow: Flow,
    /// What its responses repeat of it.
    pub(crate) invite: PendingRequest,
    /// The topmost Via it went out with.
    pub(crate) via: Raw,
    /// The Request-URI it went out with.
    pub(crate) uri: Raw,
    /// The CSeq number it went out with.
    pub(crate) cseq: u32,
    /// Whether it moved its sender's target.
    pub(crate) moved: bool,
    /// What it offers, in a few words.
    pub(crate) offer: Option<Description>,
}

/// A dialog that an unwanted 2xx made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissed {
    /// Of which attempt.
    pub(crate) attempt: u32,
    pub(crate) leg: Leg,
    /// CSeq number of the INVITE, which the ACK repeats.
    pub(crate) cseq: u32,
}

impl Underway {
    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.reinvites.is_empty() && self.dismissed.is_empty()
    }
}
