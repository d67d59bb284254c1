//! Dialogs (RFC 3261 §12): identity, state, route set, and the arithmetic of session timers (RFC 4028).
//!
//! No message is parsed or built here: constructors take what the message layer read, as text, and
//! [`Dialog::request_target`] says what a request within the dialog is addressed to. All types are serialisable, since a
//! dialog outlives its process in a record.

mod create;
mod id;
mod route_set;
mod session_timer;
mod state;

pub use create::{Incoming, Outgoing, Response};
pub use id::DialogId;
pub use route_set::{RequestTarget, RouteSet, is_loose};
pub use session_timer::{
    Answer, Ask, Duty, IntervalTooSmall, MIN_SE_FLOOR_S, Offer, Policy, SessionInterval, SessionTimer,
    answer_request, relay_request, relay_response, retry_after_422,
};
pub use state::{CSEQ_MAX, CSeqExhausted, Dialog, Phase, RemoteOrder, Role, refreshes_target};
