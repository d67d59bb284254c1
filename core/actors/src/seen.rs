//! What an actor saw, for tests to hold against events and rows.

use signalbox_base::{Mono, Text};
use signalbox_sip::Method;
use std::net::SocketAddr;

/// A call leg of one actor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u64);

/// Who began the leg, seen from the actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The actor sent the INVITE.
    Caller,
    /// The actor received it.
    Callee,
}

/// Who ended an answered leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedBy {
    /// The actor sent BYE.
    Me,
    /// The peer sent BYE.
    Peer,
    /// Nobody answered any more, or the ACK never came.
    Timeout,
    /// The actor was killed.
    Killed,
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Mono,
    /// What.
    pub what: Observed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// A 200 to REGISTER that lists our Contact: valid for so many seconds.
    Registered {
        /// As granted.
        expires_secs: u32,
        /// Contacts that the answer listed.
        contacts: usize,
    },
    /// A 200 to a REGISTER that removed our Contact.
    Unregistered,
    /// REGISTER was refused; 408 when nobody answered.
    RegisterRefused {
        /// Status.
        status: u16,
    },
    /// A PBX accepted a registration.
    Accepted {
        /// `user@domain`.
        aor: Text,
        /// The Contact as received.
        contact: Text,
        /// Granted; 0 removed it.
        expires_secs: u32,
    },
    /// A PBX refused a registration.
    Rejected {
        /// `user@domain`.
        aor: Text,
        /// Status.
        status: u16,
    },
    /// An INVITE came.
    Invited {
        /// Which leg.
        leg: LegId,
        /// User part and host of the Request-URI.
        target: Text,
        /// URI in From.
        from: Text,
        /// Where it came from.
        source: SocketAddr,
    },
    /// An INVITE was refused because its sender is not trusted.
    Distrusted {
        /// Where it came from.
        source: SocketAddr,
    },
    /// A provisional response above 100 came.
    Progress {
        /// Which leg.
        leg: LegId,
        /// Status.
        status: u16,
    },
    /// The leg is up: the caller has its 2xx, the callee its ACK.
    Answered {
        /// Which leg.
        leg: LegId,
    },
    /// Our INVITE failed.
    Failed {
        /// Which leg.
        leg: LegId,
        /// Status; 408 when nobody answered.
        status: u16,
    },
    /// We refused an INVITE, or it was cancelled (487).
    Refused {
        /// Which leg.
        leg: LegId,
        /// Status.
        status: u16,
    },
    /// The peer changed the session; `true` holds us.
    Modified {
        /// Which leg.
        leg: LegId,
        /// Whether we are held.
        held: bool,
    },
    /// A request of ours within the dialog was answered; 408 when it was not.
    InDialogAnswered {
        /// Which leg.
        leg: LegId,
        /// Its method.
        method: Method,
        /// Status.
        status: u16,
    },
    /// The peer sent a request within the dialog, and we answered 200.
    InDialog {
        /// Which leg.
        leg: LegId,
        /// Its method.
        method: Method,
        /// Its body.
        body: Box<[u8]>,
    },
    /// An answered leg ended.
    Ended {
        /// Which leg.
        leg: LegId,
        /// By whom.
        by: EndedBy,
    },
    /// A request outside a dialog came.
    Request {
        /// Its method.
        method: Method,
        /// What we answered.
        status: u16,
        /// Its body.
        body: Box<[u8]>,
    },
    /// A request of ours outside a dialog was answered; 408 when it was not.
    Answer {
        /// Its method.
        method: Method,
        /// Status.
        status: u16,
    },
    /// The actor was killed and has forgotten its calls.
    Killed,
}

/// One leg's story in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSeen {
    /// Which leg.
    pub leg: LegId,
    /// Call-ID as this actor sees it.
    pub call_id: Text,
    /// Our side.
    pub side: Side,
    /// URI called.
    pub target: Text,
    /// When the INVITE was sent or received.
    pub invited: Mono,
    /// First 18x.
    pub ringing: Option<Mono>,
    /// Caller: the 2xx came. Callee: the 2xx was sent.
    pub answered: Option<Mono>,
    /// The ACK was sent or received.
    pub confirmed: Option<Mono>,
    /// Why it was never answered.
    pub failed: Option<(Mono, u16)>,
    /// How an answered leg ended.
    pub ended: Option<(Mono, EndedBy)>,
}

impl CallSeen {
    /// Neither failed nor ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.failed.is_none() && self.ended.is_none()
    }
}
