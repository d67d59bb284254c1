//! Connections that are used both ways (RFC 5923): peers that ask for it in their Via are sent requests over the
//! connections that they have made, and the edge asks for the same.
//!
//! Whose connection it is must be certain, else whoever asks would get a peer's calls. Over TLS the peer's certificate
//! says so, which the driver judges as it does when it dials the peer. Over TCP, which the RFC leaves out, the
//! source does: it must be this peer's by configuration, and the very address that it stands for.

use crate::contract::Ask;
use crate::tenancy::{Directory, PeerRef};
use crate::turn::Turn;
use crate::{backend, settings::ListenerSettings};
use signalbox_base::{Flow, Transport, canonical};
use signalbox_sip::Message;
use std::net::SocketAddr;

/// What our Via says on a flow: that a connection which we make may be used for what comes back.
pub(crate) fn parameter(flow: &Flow) -> &'static str {
    let ours = flow.conn.is_none() && matches!(flow.transport, Transport::Tcp | Transport::Tls);
    if ours { ";alias" } else { "" }
}

/// A request over a connection that somebody has made: when its sender may be a peer that wants it used both ways, the
/// driver is asked to.
pub(crate) fn consider(turn: &mut Turn<'_>, flow: &Flow, request: &Message<&[u8]>) {
    let Some(conn) = flow.conn.filter(|conn| !turn.net.reused.contains(conn)) else { return };
    if !matches!(flow.transport, Transport::Tcp | Transport::Tls) {
        return;
    }
    let Some(place) = sent_by(flow, request) else { return };
    let Some(listener) = turn.settings.listener(flow.listener) else { return };
    let stands_for = Directory::peers(turn.settings)
        .filter(|(peer, found)| found.backend.network == listener.network && is_served(listener, *peer))
        .filter(|(peer, _)| flow.transport == Transport::Tls || is_its_own(turn, flow, *peer, place))
        .flat_map(|(peer, _)| backend::flows_to(turn, peer, None, 0))
        .find(|to| to.remote == place && to.transport == flow.transport);
    if let Some(stands_for) = stands_for {
        turn.net.reused.insert(conn);
        turn.out.asks.push(Ask::Reuse { flow: *flow, stands_for });
    }
}

/// Where the sender listens, when it wants its connection used for that: its Via says so, by address or by a name, which
/// then means the address that it comes from.
fn sent_by(flow: &Flow, request: &Message<&[u8]>) -> Option<SocketAddr> {
    let via = request.top_via().ok()?;
    via.params.has(b"alias").then_some(())?;
    let ip = via.address().unwrap_or(flow.remote.ip());
    Some(canonical(SocketAddr::new(ip, via.port.unwrap_or(flow.transport.default_port()))))
}

fn is_served(listener: &ListenerSettings, peer: PeerRef) -> bool {
    if peer.is_trunk() { listener.serves.trunks } else { listener.serves.backends }
}

/// Whether the source is known as this very peer, and the place is on it.
fn is_its_own(turn: &Turn<'_>, flow: &Flow, peer: PeerRef, place: SocketAddr) -> bool {
    let Some(listener) = turn.settings.listener(flow.listener) else { return false };
    let (network, source) = (listener.network, flow.remote);
    let known = match peer.is_trunk() {
        true => turn.directory.trunks_at(network, source),
        false => turn.directory.peers_at(network, source),
    };
    known.contains(&peer) && place.ip() == source.ip()
}
