//! A 18x has reached the caller: what rings now is what it hears, and no other target takes its place.

use crate::call::call::{Core, State};
use crate::call::setup::Setup;
use crate::turn::Turn;
use signalbox_base::Mono;
use signalbox_sip::Message;
use signalbox_sip::transaction::{ClientTx, End, OnResponse};

/// Ringing, or playing early media.
#[derive(Debug)]
pub(crate) struct Ringing {
    pub(crate) setup: Setup,
}

impl Ringing {
    const RINGING: bool = true;

    /// A response to an attempt.
    pub(crate) fn on_response(
        self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        how: &OnResponse,
        response: &Message<&[u8]>,
    ) -> State {
        self.setup.on_response(Self::RINGING, core, turn, number, how, response)
    }

    /// The transaction of an attempt is over.
    pub(crate) fn on_ended(
        self,
        core: &mut Core,
        turn: &mut Turn<'_>,
        number: u32,
        tx: ClientTx,
        why: End,
    ) -> State {
        self.setup.on_ended(Self::RINGING, core, turn, number, tx, why)
    }

    /// An attempt rings for too long (RFC 3261 §16.8).
    pub(crate) fn on_timer_c(self, core: &mut Core, turn: &mut Turn<'_>, number: u32) -> State {
        self.setup.on_timer_c(Self::RINGING, core, turn, number)
    }

    /// The caller gave up.
    pub(crate) fn on_cancel(self, core: &mut Core, turn: &mut Turn<'_>, cancel: &Message<&[u8]>) -> State {
        self.setup.cancelled(core, turn, cancel)
    }

    /// When something is to be done.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.setup.due()
    }

    /// A deadline has come.
    pub(crate) fn on_due(self, core: &mut Core, turn: &mut Turn<'_>) -> State {
        self.setup.on_due(Self::RINGING, core, turn)
    }
}
