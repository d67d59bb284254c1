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
//!
//! A registration's answer that waits for its record, while the phone asks again:
//!
//! ```
//! use signalbox_base::{Flow, ListenerId, Mono};
//! use signalbox_sip::transaction::{Gate, KeyHasher, NewServer, OnRequest, RequestFields, Table, Timing};
//! use signalbox_sip::{Limits, Message};
//!
//! let bytes = b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
//!     From: <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n\r\n";
//! let message = Message::parse(bytes.as_slice(), &Limits::DATAGRAM).expect("a complete request");
//! let flow = Flow::udp(ListenerId(0), "192.0.2.9:5060".parse().unwrap(), "192.0.2.1:5060".parse().unwrap());
//! let key = KeyHasher::new([1, 2]).key(&RequestFields::of_message(&message, 0).expect("a readable Via"));
//!
//! let (mut table, mut out) = (Table::<u32>::new(Timing::RFC, 1000, 3), Vec::new());
//! assert_eq!(table.on_request(key, &mut out), OnRequest::New);
//! let new = NewServer { key, invite: false, flow, trying_after: None, repeat_2xx: false };
//! let tx = table.open(new, 42, Mono(0)).expect("room");
//! table.respond(tx, 200, b"SIP/2.0 200 OK ...", Gate::Held, Mono(0)).expect("not answered");
//!
//! assert_eq!(table.on_request(key, &mut out), OnRequest::Repeated { tx });
//! assert!(out.is_empty(), "the answer does not exist yet");
//! table.released(tx, Mono(4_000_000));
//! table.on_request(key, &mut out);
//! assert_eq!(out.len(), 1, "now it is sent again");
//! ```

mod chunks;
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
