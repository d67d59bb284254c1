//! What leaves when: one row for each method and response (DESIGN.md §6). A method without a row does not compile.

use crate::contract::{ClassB, Release};
use signalbox_base::EventSeq;
use signalbox_sip::Method;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A request that starts something, or stands alone.
    Request,
    /// A request inside a dialog of a call.
    InDialog,
    /// A response of this status.
    Response(u16),
    /// A request or response between a phone of this edge and another edge, whose call it is.
    Passed,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    /// Class A: with a record behind it, it waits for that record.
    held: bool,
    /// Class B: what it is when it waits for nothing.
    otherwise: ClassB,
}

const fn held(otherwise: ClassB) -> Row {
    Row { held: true, otherwise }
}

const fn free(otherwise: ClassB) -> Row {
    Row { held: false, otherwise }
}

/// When a message may leave. `record` is the record that explains it, where there is one: a binding added, moved or
/// removed; a call routed, answered, modified, ended.
#[must_use]
pub fn release(method: Method, sent: Sent, record: Option<EventSeq>) -> Release {
    let row = row(method, sent);
    match record {
        Some(seq) if row.held => Release::After(seq),
        _ => Release::Now(row.otherwise),
    }
}

fn row(method: Method, sent: Sent) -> Row {
    use ClassB::{
        Ack, Cancel, Challenge, InDialog, Keepalive, Provisional, Refresh, Rejected, Standalone, Trying,
    };
    match (method, sent) {
        (_, Sent::Passed) => free(ClassB::Passed),
        // Challenges are never a failure, whatever they challenge (RFC 3261 §22).
        (_, Sent::Response(401 | 407)) => free(Challenge),

        (Method::Register, Sent::Request | Sent::InDialog) => free(Refresh),
        (Method::Register, Sent::Response(..=299)) => held(Refresh),
        (Method::Register, Sent::Response(_)) => free(Rejected),

        (Method::Invite, Sent::Request) => held(InDialog),
        (Method::Invite, Sent::InDialog) => held(InDialog),
        (Method::Invite, Sent::Response(..=100)) => free(Trying),
        (Method::Invite, Sent::Response(..=199)) => free(Provisional),
        (Method::Invite, Sent::Response(..=299)) => held(InDialog),
        (Method::Invite, Sent::Response(_)) => held(Rejected),

        (Method::Ack, _) => free(Ack),
        (Method::Cancel, _) => free(Cancel),

        (Method::Bye, Sent::Request | Sent::InDialog) => held(InDialog),
        (Method::Bye, Sent::Response(..=199)) => free(InDialog),
        (Method::Bye, Sent::Response(_)) => held(InDialog),

        // A target refresh waits for its record (RFC 3311 §5.1); without one it changed nothing.
        (Method::Update | Method::Refer, Sent::InDialog) => held(InDialog),
        (Method::Update | Method::Refer, Sent::Response(200..=299)) => held(InDialog),
        (Method::Update, Sent::Request | Sent::Response(_)) => free(InDialog),
        // What goes on in a dialog follows what made or changed it: a record of the call that is not on disk yet may hold
        // back a 2xx that this would overtake.
        (Method::Prack, Sent::Request | Sent::InDialog) => held(InDialog),
        (Method::Prack, Sent::Response(_)) => free(InDialog),

        (Method::Options, Sent::InDialog) => held(InDialog),
        (Method::Options, Sent::Request | Sent::Response(_)) => free(Keepalive),

        (
            Method::Info
            | Method::Subscribe
            | Method::Notify
            | Method::Message
            | Method::Publish
            | Method::Other(_),
            Sent::InDialog,
        ) => held(InDialog),
        (
            Method::Refer
            | Method::Info
            | Method::Subscribe
            | Method::Notify
            | Method::Message
            | Method::Publish
            | Method::Other(_),
            Sent::Request | Sent::Response(_),
        ) => free(Standalone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: Option<EventSeq> = Some(EventSeq(7));

    #[test]
    fn what_creates_or_destroys_state_at_a_peer_waits_for_its_record() {
        for (method, sent) in [
            (Method::Register, Sent::Response(200)),
            (Method::Invite, Sent::Request),
            (Method::Invite, Sent::Response(200)),
            (Method::Invite, Sent::Response(486)),
            (Method::Bye, Sent::InDialog),
            (Method::Bye, Sent::Response(200)),
            (Method::Update, Sent::InDialog),
            (Method::Info, Sent::InDialog),
        ] {
            assert_eq!(release(method, sent, SEQ), Release::After(EventSeq(7)), "{method} {sent:?}");
        }
    }

    #[test]
    fn what_harms_nobody_leaves_at_once_even_beside_a_record() {
        for (method, sent, class) in [
            (Method::Invite, Sent::Response(100), ClassB::Trying),
            (Method::Invite, Sent::Response(183), ClassB::Provisional),
            (Method::Invite, Sent::Response(407), ClassB::Challenge),
            (Method::Register, Sent::Response(401), ClassB::Challenge),
            (Method::Register, Sent::Response(403), ClassB::Rejected),
            (Method::Ack, Sent::InDialog, ClassB::Ack),
            (Method::Cancel, Sent::Request, ClassB::Cancel),
        ] {
            assert_eq!(release(method, sent, SEQ), Release::Now(class), "{method} {sent:?}");
        }
    }
}
