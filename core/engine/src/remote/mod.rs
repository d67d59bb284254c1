//! Location across edges (DESIGN.md §5).
//!
//! Every edge of a cluster tells on the bus who registers with it; the others keep that in a [`Cache`]. A call for a phone
//! that is registered elsewhere is handed to the edge that owns the binding, over a listener for edges:
//!
//! ```text
//!  PBX ──INVITE──► B ── INVITE, Route: <sip:h_ticket@A> ──► A ──INVITE──► phone
//!                  │  the call, its CDR, its events         │  one transaction each way, no call, no record
//!                  ◄──────── Contact: <sip:h_way@A> ─────────◄──────── Contact: <sip:401@…>
//!                    Contact: <sip:h_way@A-outside> ────────────────►  (B's, towards the phone)
//! ```
//!
//! For B the phone is an endpoint like its own, reached over the flow between the two listeners. A passes messages on and
//! keeps nothing beyond their transactions: what requests inside the dialog need is sealed into the Contacts that it writes,
//! as for dialogs of SUBSCRIBE. So a call goes on when A has restarted, and when the phone's NAT has given it another address.
//! B's address is not shown to the phone, and the phone's not to B.
//!
//! A never hands on what was handed to it, and never dials: it sends to the binding's own flow or nowhere.

mod cache;
mod hand;
mod hop;
mod read;
mod ticket;

pub use cache::{Away, Bound, Cache, Found, Liveness, Opinion, Peer, Registered, Update, Version, call_of};
pub(crate) use hand::{Located, PEER_GONE, beyond, elsewhere, locate, target};
pub(crate) use hop::Hops;
pub use read::{DOMAINS, read};

use crate::engine::{Rooms, unreachable};
use crate::settings::{ListenerSettings, Settings};
use crate::state::Binding;
use crate::turn::Turn;
use signalbox_base::{Flow, ListenerId, Transport, Wall};
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, Message, Uri};
use std::net::SocketAddr;
use std::time::Duration;

/// An edge that is handed an INVITE says 100 at once. One that says nothing for so long, through two repetitions, is not there.
pub(crate) const HOP_SILENCE: Duration = Duration::from_secs(2);

/// The listener for other edges, where this one has any to speak to: the first that serves them.
#[must_use]
pub fn listener(settings: &Settings) -> Option<(ListenerId, &ListenerSettings)> {
    if settings.edges.is_empty() {
        return None;
    }
    let at = settings.listeners.iter().position(|listener| listener.serves.edges)?;
    Some((ListenerId(u16::try_from(at).ok()?), &settings.listeners[at]))
}

/// The flow from the listener for other edges to one of them.
fn flow_to(settings: &Settings, edge: SocketAddr) -> Option<Flow> {
    let (id, listener) = listener(settings)?;
    Some(Flow { transport: listener.transport, ..Flow::udp(id, listener.address, edge) })
}

/// The address of another edge in a URI.
fn place(flow: &Flow) -> String {
    match flow.transport {
        Transport::Udp => flow.remote.to_string(),
        other => format!("{};transport={}", flow.remote, other.in_uri()),
    }
}

/// Whether a flow is that of another edge: a listener for edges, and an address where the cluster's edges are.
#[must_use]
pub fn is_peer(settings: &Settings, flow: &Flow) -> bool {
    !settings.edges.is_empty()
        && settings.listener(flow.listener).is_some_and(|listener| listener.serves.edges)
        && settings.edges.iter().any(|edges| edges.contains(flow.remote.ip()))
}

/// The REGISTER that a binding of this edge is from.
fn registered(binding: &Binding) -> Registered {
    let granted = Duration::from_secs(u64::from(binding.granted_secs));
    let at = i64::try_from(granted.as_micros()).unwrap_or(i64::MAX);
    Registered {
        call: Some(call_of(binding.call_id.as_bytes())),
        cseq: binding.cseq,
        at: Wall(binding.expires_at.0.saturating_sub(at)),
    }
}

impl Turn<'_> {
    /// Whether a binding of this edge is the way to its phone: its flow leads there, and the phone has not registered with
    /// another edge since.
    pub(crate) fn is_here(&self, binding: &Binding) -> bool {
        self.net.is_reachable(binding.key)
            && (self.remote.is_empty()
                || !self.remote.is_newer(binding.key, &registered(binding), self.now.wall))
    }
}

/// Takes in what other edges said. What was sent to an edge that is lost now, and was not answered for good, has failed.
pub(crate) fn on_updates(turn: &mut Turn<'_>, rooms: &mut Rooms, updates: &[Update]) {
    for update in updates {
        if let Update::Peer { edge, liveness, .. } = update
            && *liveness != Liveness::Alive
            && let Some(Peer { address: Some(address), liveness: Liveness::Alive, .. }) =
                turn.remote.peer(edge)
        {
            let address = *address;
            unreachable(turn, rooms, address);
            rooms.calls.on_edge_lost(turn, address);
        }
        turn.remote.apply(update.clone());
    }
    turn.remote.sweep(turn.now.wall);
}

/// The ticket that a request bears: in its first Route, else in its Request-URI.
fn ticket_of<'m>(request: &'m Message<&[u8]>) -> Option<&'m [u8]> {
    fn user(uri: &[u8]) -> Option<&[u8]> {
        match Uri::parse(uri).ok()? {
            Uri::Sip(uri) => uri.user.filter(|user| ticket::is_ticket(user)),
            _ => None,
        }
    }
    let route = request.values(HeaderName::Route).next().and_then(|value| NameAddr::parse(value).ok());
    route.and_then(|route| user(route.uri)).or_else(|| user(request.request_uri()?))
}

/// Whether a request bears one.
pub(crate) fn bears_ticket(request: &Message<&[u8]>) -> bool {
    ticket_of(request).is_some()
}
