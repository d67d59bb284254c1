//! Integration tests of the message layer, through its public API alone.

mod corpus;
mod forward;
mod mutation;
mod torture;

use signalbox_sip::{Forward, Limits, Malformed, MalformedReason, Message};

/// What must become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Parsed and valid in all typed views.
    Accepted,
    /// Parsed and forwardable, but not valid: answered with 400 where the edge must understand it.
    Unreadable,
    /// Refused, answered with this status.
    Answered(u16),
    /// Refused without an answer.
    Dropped,
}

/// Lets bytes live their life, and checks on the way that what is accepted leaves byte for byte.
pub(crate) fn fate(bytes: &[u8]) -> (Fate, Option<MalformedReason>) {
    let refused = |malformed: Malformed| {
        (malformed.reply_status().map_or(Fate::Dropped, Fate::Answered), Some(malformed.reason))
    };
    match Message::parse(bytes, &Limits::DATAGRAM) {
        Err(malformed) => refused(malformed),
        Ok(message) => {
            let mut out = Vec::new();
            Forward::new(&message).write_into(&mut out);
            assert_eq!(out, message.as_bytes(), "an unedited message leaves byte for byte");
            assert!(bytes.windows(out.len()).any(|window| window == out));
            match message.validate() {
                Ok(()) => (Fate::Accepted, None),
                Err(malformed) => (Fate::Unreadable, Some(malformed.reason)),
            }
        }
    }
}
