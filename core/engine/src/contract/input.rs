//! What can happen to an engine.

use signalbox_base::{EventSeq, Flow, Text, Transport};
use signalbox_schemas::config::{ConfigChange, ConfigError};
use signalbox_sip::{Malformed, Message};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::Settings;

/// One thing that happened. Every input is handled in one turn, without waiting.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives for one turn on the stack; a box would cost an allocation a message"
)]
pub enum Input<'a> {
    /// A datagram or a framed stream message, unparsed: the gate judges raw bytes before parsing costs anything.
    Packet {
        /// Where it came from and where an answer goes.
        flow: Flow,
        /// The bytes as received.
        bytes: &'a [u8],
    },
    /// Bytes of a stream that cannot be framed; the driver closes the connection.
    Unframed {
        /// Where they came from.
        flow: Flow,
        /// What was buffered, from the start of the message.
        bytes: &'a [u8],
        /// What is wrong.
        fault: Malformed,
    },
    /// A message that the driver has parsed already (tests, the simulated world).
    Message {
        /// Where it came from and where an answer goes.
        flow: Flow,
        /// The message, borrowing the receive buffer.
        message: Message<&'a [u8]>,
    },
    /// Timers may be due; the engine works off at most [`crate::contract::Input::DUE_MAX`] of them a call.
    Due,
    /// Every record up to and including this one is on disk, and what waited for it has been sent.
    Committed(EventSeq),
    /// An operator's command or a new configuration; the reply is put into the outbox.
    Command(Command),
    /// An answer to [`crate::Ask::Resolve`]; empty when nothing is known of the name.
    Resolved {
        /// The question's number.
        query: QueryId,
        /// Places in the order of their records; priorities and weights say whose turn it is.
        targets: &'a [ResolvedTarget],
        /// When it is to be asked again: what was found holds that long.
        again_after: Duration,
    },
    /// Another edge has connected and shown a certificate of the cluster's authority; before anything that came with it.
    Shown {
        /// The connection.
        flow: Flow,
        /// The names that the certificate is good for.
        names: &'a [Text],
    },
    /// TLS with a peer has failed: it connected, or the edge did.
    TlsFailed {
        /// The connection; one that the edge made has no `conn`.
        flow: Flow,
        /// The alert, or what is wrong with the certificate.
        reason: &'a Text,
    },
    /// A connection ended.
    FlowClosed {
        /// The flow that is gone.
        flow: Flow,
        /// Why.
        cause: FlowEnd,
    },
    /// A transmit failed at the socket (for UDP: an ICMP error reported later names the peer only).
    Unsent {
        /// The transmit's ticket, when the driver knows which one it was.
        ticket: Option<Ticket>,
        /// The peer that could not be reached.
        remote: SocketAddr,
        /// Why.
        cause: SendError,
    },
    /// What other edges said: a bounded batch, never journalled.
    Remote(&'a [crate::remote::Update]),
    /// Disk or load: how much is still admitted.
    Pressure(Pressure),
    /// The journal has not committed for 200 ms (`true`), or has caught up again (`false`).
    Stalled(bool),
}

impl Input<'_> {
    /// Timers worked off in one [`Input::Due`].
    pub const DUE_MAX: usize = 256;
}

/// Number of a question asked with [`crate::Ask::Resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// Number of a transmit whose failure matters to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One place where a name's service is (RFC 3263 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedTarget {
    /// Canonical address and port.
    pub address: SocketAddr,
    /// Transport.
    pub transport: Transport,
    /// Lower is tried first: the rank of its transport, then the priority of its SRV record.
    pub priority: u32,
    /// Share among the hosts of a priority (RFC 2782).
    pub weight: u16,
    /// The host that has this address: the target of the SRV record, else the name itself.
    pub host: Text,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// The peer closed it.
    Closed,
    /// Nothing came for too long.
    Idle,
    /// An error of the transport.
    Failed,
}

/// Why a transmit failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// ICMP port unreachable, connection refused.
    Refused,
    /// No route, network or host unreachable.
    Unreachable,
    /// Larger than the transport carries.
    TooLarge,
    /// The local socket's buffer stayed full.
    Busy,
    /// Anything else.
    Other,
}

/// How much is admitted (DESIGN.md §6 "Stall and full").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Everything.
    #[default]
    Normal,
    /// New INVITE and REGISTER get 503; dialogs go on.
    Reserve,
    /// Only what ends dialogs.
    Full,
}

/// What an operator asks of the running engine. Each is answered by one [`CommandReply`] in the same turn.
#[derive(Clone, Debug)]
pub enum Command {
    /// Apply a new configuration; recorded as `config.applied` with its diff.
    Reload {
        /// The new effective settings.
        settings: Arc<Settings>,
        /// Revision number, rising by one.
        revision: u64,
        /// SHA-256 of the canonical effective configuration, hexadecimal.
        sha256: Text,
        /// The effective configuration as JSON, secrets by name only.
        effective: Text,
        /// What changed.
        diff: Vec<ConfigChange>,
        /// Who asked.
        actor: Text,
    },
    /// A configuration was refused; recorded as `config.rejected`.
    ReloadRejected {
        /// Each error with its place.
        errors: Vec<ConfigError>,
        /// Who asked.
        actor: Text,
    },
    /// Set a backend's operator state; recorded as `backend.state_changed` and `admin.acted`.
    Backend {
        /// `tenant/name`, or the name alone where it is unique.
        name: Text,
        /// The wish.
        wish: BackendWish,
        /// Who asked.
        actor: Text,
    },
    /// Stop admitting: new INVITE and REGISTER get 503, dialogs go on; recorded as `edge.draining`.
    Drain {
        /// How long calls may go on.
        deadline: Duration,
        /// Who asked.
        actor: Text,
    },
    /// The last words of a stopping edge; recorded as `edge.stopped`.
    Stop {
        /// No call was cut off.
        clean: bool,
    },
    /// Something an operator did that changes no engine state (log level, …); recorded as `admin.acted`.
    Acted {
        /// What was done.
        action: Text,
        /// To what.
        target: Text,
        /// `done` or the error.
        outcome: Text,
        /// Who asked.
        actor: Text,
    },
    /// A fact of the edge itself: `edge.started`, `edge.clock_stepped`, `journal.sealed`, `journal.overrun` …
    Note(Box<signalbox_schemas::Event>),
    /// Remove a binding or all of an AoR; recorded as `registration.removed` with reason `admin`.
    RemoveBinding {
        /// `user@domain`.
        aor: Text,
        /// The tenant; needed when two tenants have the AoR.
        tenant: Option<Text>,
        /// Who asked.
        actor: Text,
    },
}

/// What an operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendWish {
    /// New traffic again, by its probes.
    Enable,
    /// No new traffic; dialogs and their AoRs' calls in progress go on.
    Drain,
    /// No traffic and no probes.
    Disable,
}

/// The engine's answer to a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandReply {
    /// Done; one line for people.
    Done(Text),
    /// Refused; why and what to do.
    Refused(Text),
}
