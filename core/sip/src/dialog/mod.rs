//! Dialogs (RFC 3261 §12): identity, state and route set.
//!
//! No message is parsed or built here: constructors take what the message layer read, as text, and
//! [`Dialog::request_target`] says what a request within the dialog is addressed to. All types are serialisable, since a
//! dialog outlives its process in a record.

mod create;
mod id;
mod route_set;
mod state;

pub use create::{Incoming, Outgoing, Response};
pub use id::DialogId;
pub use route_set::{RequestTarget, RouteSet, is_loose};
pub use state::{CSEQ_MAX, CSeqExhausted, Dialog, Phase, RemoteOrder, Role, refreshes_target};
