//! When a message may leave: after its record is durable, or at once for the closed list of harmless ones.

use signalbox_base::EventSeq;

/// When a transmit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// At once: the message is of a kind whose loss or repetition harms nobody.
    Now(ClassB),
    /// Once this record is durable (class A), in decision order behind everything of the same aggregate.
    After(EventSeq),
}

/// The closed list of what may leave before anything is durable (DESIGN.md §6). Whatever is not here is class A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClassB {
    /// 100 to an INVITE.
    Trying,
    /// 18x passed on.
    Provisional,
    /// ACK.
    Ack,
    /// CANCEL and the 200 to it.
    Cancel,
    /// 401/407 passed on or our own, and the retry they lead to.
    Challenge,
    /// A REGISTER on its way to a backend, a query, or the 2xx to a refresh that changed nothing.
    Refresh,
    /// OPTIONS and other keep-alives, both ways, and their answers.
    Keepalive,
    /// Rejections of requests of which no call or binding was recorded.
    Rejected,
    /// Requests and responses of stateless dialogs and stand-alone requests (SUBSCRIBE, NOTIFY, MESSAGE, OPTIONS …).
    Standalone,
    /// Requests inside a dialog that change nothing durable (INFO, PRACK, UPDATE without target change …) and answers.
    InDialog,
    /// Passed on between a phone of this edge and another edge: the call and its records are the other edge's, which has
    /// released it once they were durable there.
    Passed,
    /// A repetition of something released before.
    Retransmission,
}
