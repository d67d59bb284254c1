//! Calls: a call is a back-to-back pair of legs.

pub mod cdr;
pub mod leg;
pub(crate) mod offer;
pub mod raw;

use crate::net::User;
use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_base::{CallUid, Flow};
use signalbox_sip::Message;
use signalbox_sip::transaction::{ClientTx, End, OnResponse, ServerTx, Tell, Tx};
use std::net::SocketAddr;

/// What a timer of a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTimer {
    /// The call.
    pub call: CallUid,
    /// Which of its timers.
    pub which: u32,
}

/// Calls in progress, live.
#[derive(Debug, Default)]
pub struct Calls {}

impl Calls {
    /// A new INVITE outside any dialog, from an origin that may place calls (no open relay is settled), in a transaction
    /// just opened with [`User::Nobody`]: set its user to hear of it.
    pub fn on_invite(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Origin,
        tx: ServerTx,
        request: &Message<&[u8]>,
    ) {
    }

    /// Whether a request is inside a dialog of a call: by the token in its Request-URI, else by Call-ID, tags and peer.
    #[must_use]
    pub fn owns(&self, turn: &Turn<'_>, flow: &Flow, request: &Message<&[u8]>) -> bool {
        false
    }

    /// A request inside a dialog that [`Calls::owns`] said yes to; never ACK or CANCEL.
    pub fn on_request(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        tx: ServerTx,
        request: &Message<&[u8]>,
    ) {
    }

    /// An ACK to a 2xx: by its own branch (`tx` is none) or by the INVITE's.
    pub fn on_ack(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        tx: Option<ServerTx>,
        request: &Message<&[u8]>,
    ) {
    }

    /// A CANCEL of an INVITE whose transaction has this user; the CANCEL itself is answered 200 already.
    pub fn on_cancel(
        &mut self,
        turn: &mut Turn<'_>,
        user: User,
        invite: ServerTx,
        request: &Message<&[u8]>,
    ) {
    }

    /// A response to a request sent with [`User::CallLeg`]; `what` is never `Absorbed` or `Stray`.
    pub fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        user: User,
        tx: ClientTx,
        what: &OnResponse,
        response: &Message<&[u8]>,
    ) {
    }

    /// A 2xx to an INVITE that no transaction has.
    pub fn on_stray(&mut self, turn: &mut Turn<'_>, flow: Flow, response: &Message<&[u8]>) {}

    /// A transaction with [`User::CallLeg`] is over.
    pub fn on_ended(&mut self, turn: &mut Turn<'_>, user: User, tx: Tx, why: End) {}

    /// A timer of such a transaction asks for something.
    pub fn on_tell(&mut self, turn: &mut Turn<'_>, user: User, tx: Tx, what: Tell) {}

    /// A timer of a call, started with [`Turn::start_timer`] as [`crate::net::Timer::Call`].
    pub fn on_timer(&mut self, turn: &mut Turn<'_>, timer: CallTimer) {}

    /// A peer cannot be reached: attempts to it that have no response yet have failed.
    pub fn on_unreachable(&mut self, turn: &mut Turn<'_>, remote: SocketAddr) {}

    /// Calls in progress.
    #[must_use]
    pub fn active(&self) -> u64 {
        0
    }

    /// After a restart: redo what was promised, probe what goes on (DESIGN.md §6 "Redo after a crash").
    pub fn resume(&mut self, turn: &mut Turn<'_>) {}
}
