//! Transactions: RFC 3261 §17 as corrected by RFC 6026, without I/O, clocks or message bytes.
//!
//! Four machines, one file each ([`ClientInvite`], [`Client`], [`ServerInvite`], [`Server`]), are small `Copy` values that
//! consume themselves: `machine.on_x(…, now) -> (machine, Action)`, with `wake()` for the next timer and `end()` once
//! terminated. [`Table`] keeps many of them: handles, keys, the bytes to repeat and the timers on a [`Wheel`].
//!
//! **The gate is inside.** A message that waits for its record to be on disk has not been sent: the machine does not know
//! of it, repeats nothing of it and starts no timer for it. The machine is told by `released(now)` once the gate has put it
//! on the wire. So the first transmission of every message is the caller's, and every repetition is the table's.
//!
//! **Invariant.** No transaction ends while a message is handled: whatever the timers, it ends in [`Table::due`] (or by
//! [`Table::transport_error`] and [`Table::withdraw`]). A handle returned for a message is good for the rest of that turn.

mod client;
mod client_invite;
mod key;
mod server;
mod server_invite;
mod slab;
mod table;
mod timing;
mod wheel;

pub use client::Client;
pub use client_invite::ClientInvite;
pub use key::{Branch, ClientKey, KeyHasher, MethodTag, RequestFields, ServerKey};
pub use server::Server;
pub use server_invite::ServerInvite;
pub use table::{
    ClientTx, Gate, NewClient, NewServer, OnAck, OnRequest, OnResponse, OpenError, Output, RespondError,
    ServerTx, Table, Tell, Tx,
};
pub use timing::{Repeat, Rules, TRYING_WITHIN, Timing};
pub use wheel::{MOVES_MAX, TimerId, Wheel};

/// What a machine asks for in one step. Ending and waking are asked of the machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: absorbed, or not due yet.
    None,
    /// Give the message to the transaction user.
    Deliver,
    /// Give the first 300–699 of an INVITE to the user, who builds the ACK (RFC 3261 §17.1.1.3).
    DeliverAndAck,
    /// Give a 2xx that came after a 300–699 of the same branch to the user: a fork below answered late. It wants an ACK and
    /// a BYE (RFC 3261 §13.2.2.4).
    DeliverLate,
    /// Send the request (clients), or the last released response (servers) again.
    Resend,
    /// Send the ACK again.
    ResendAck,
    /// Timer C fired: the user cancels the branch (RFC 3261 §16.8).
    TimerC,
    /// Nothing was answered for as long as asked: the user sends 100 Trying (RFC 3261 §17.2.1).
    TryingDue,
}

/// Why a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ran its course.
    Done,
    /// Client: no final response in time (timers B and F, or 64·T1 after CANCEL); the user treats it as 408.
    Timeout,
    /// Server INVITE: nobody acknowledged the final response (timer H, or 64·T1 of repeated 2xx).
    NoAck,
    /// Server non-INVITE: the user did not answer within 64·T1, after which the client has given up and nothing may be sent
    /// (RFC 4320 §4.2).
    Unanswered,
    /// The transport failed (RFC 3261 §17.1.4, §17.2.4).
    Transport,
    /// The user took it back ([`Table::withdraw`]).
    Withdrawn,
}
