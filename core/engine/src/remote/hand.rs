//! Handing a request to the edge that owns a binding: which bindings are elsewhere, and the way there.

use super::ticket::{self, HAND_GOOD, Hand, Ticket};
use super::{Away, Found, flow_to, place};
use crate::call::Target;
use crate::call::leg::Peer;
use crate::call::raw::Raw;
use crate::routing::{Nobody, Query, Source, path_of};
use crate::standalone::{self, sip_uri};
use crate::state::{BindingKey, NameParts};
use crate::tenancy::Origin;
use crate::turn::Turn;
use signalbox_base::{Flow, Text};
use signalbox_schemas::call::{RouteTarget, RouteWhy};
use signalbox_schemas::values::TransportAddress;
use signalbox_schemas::words::{RouteBasis, TargetKind};
use signalbox_sip::Message;

/// What a caller is told when the edge that owns a binding does not answer: nobody can reach the phone.
pub(crate) const PEER_GONE: u16 = 480;

/// Bindings at other edges that a backend's request is for, beside those that are here.
pub(crate) fn elsewhere(turn: &Turn<'_>, query: &Query<'_>) -> (RouteBasis, Found) {
    let nothing = (RouteBasis::Binding, Found::default());
    if turn.remote.is_empty() || matches!(query.source, Source::Endpoint | Source::Trunk) {
        return nothing;
    }
    let by_user = query.user.and_then(BindingKey::from_user);
    for key in by_user.into_iter().chain(query.path) {
        let found = turn.remote.find(query.tenant, key, turn.now.wall);
        if found != Found::default() {
            return (RouteBasis::Token, without_those_here(turn, found));
        }
        // It names a binding of this edge, and no other.
        if turn.state.registrations().binding(key).is_some() {
            return nothing;
        }
    }
    let Some(user) = query.user.and_then(|user| std::str::from_utf8(user).ok()) else { return nothing };
    let name = crate::state::AorName::new(query.tenant, user, query.domain);
    let found = turn.remote.find_all(name.as_str(), turn.now.wall);
    (RouteBasis::Binding, without_those_here(turn, found))
}

/// A device that has registered here since is here.
fn without_those_here(turn: &Turn<'_>, mut found: Found) -> Found {
    found.away.retain(|away| {
        let here = turn.state.registrations().binding(away.key).map(|(_, binding)| binding);
        here.is_none_or(|binding| !turn.is_here(binding))
    });
    found
}

/// What nobody is, once other edges are counted in: somebody whose edge is lost is there, and cannot be reached.
pub(crate) fn beyond(nobody: Nobody, found: &Found) -> Nobody {
    if found.lost { Nobody::Unreachable } else { nobody }
}

/// The way of a request to the edge that owns a binding: over which flow, and its Route. `None` when this edge has no
/// listener for it.
fn way(turn: &mut Turn<'_>, tenant: &Text, away: &Away) -> Option<(Flow, String)> {
    let flow = flow_to(turn.settings, away.address)?;
    if flow.local.is_ipv4() != flow.remote.is_ipv4() {
        return None;
    }
    let hand = Hand {
        id: turn.entropy.next_u64(),
        tenant: tenant.clone(),
        key: away.key,
        from: turn.settings.identity.edge.clone(),
        to: away.edge.clone(),
        until: turn.now.wall.plus(HAND_GOOD),
    };
    let ticket = ticket::seal(&turn.settings.cluster_key, &Ticket::Hand(hand));
    Some((flow, format!("<sip:{ticket}@{};lr>", place(&flow))))
}

/// The Request-URI on the way between edges: the owner puts the phone's own Contact there.
fn uri(away: &Away, flow: &Flow) -> String {
    format!("sip:{}@{}", away.key, place(flow))
}

/// A call's target at another edge.
pub(crate) fn target(turn: &mut Turn<'_>, origin: &Origin, away: &Away, basis: RouteBasis) -> Option<Target> {
    let (flow, route) = way(turn, origin.tenant.text(), away)?;
    let name = Text::new(NameParts(&away.name).address());
    Some(Target {
        peer: Peer::Endpoint { name: name.clone() },
        flow,
        uri: Raw::from(uri(away, &flow)),
        routes: [route.as_bytes()].into_iter().collect(),
        event: RouteTarget {
            kind: TargetKind::Contact,
            name,
            contact: None,
            binding: Some(away.key.text()),
            address: Some(TransportAddress::remote(&flow)),
            edge: Some(away.edge.clone()),
        },
        why: RouteWhy { basis, ..RouteWhy::default() },
        stage: None,
        group: None,
        names: None,
    })
}

/// Where a request that does not fork goes.
pub(crate) enum Located {
    /// To a binding of this edge.
    Here(BindingKey),
    /// To another edge: over this flow, with this Request-URI and Route, for the binding.
    Away(BindingKey, Flow, Text, Text),
}

/// The one binding for a request that does not fork, here or elsewhere.
pub(crate) fn locate(
    turn: &mut Turn<'_>,
    origin: &Origin,
    request: &Message<&[u8]>,
) -> Result<Located, standalone::Nobody> {
    let nobody = match standalone::locate(turn, origin, request) {
        Ok(key) => return Ok(Located::Here(key)),
        Err(nobody) => nobody,
    };
    let ruri = request.request_uri().unwrap_or_default();
    let user = sip_uri(ruri).and_then(|uri| uri.decoded_user());
    let query = Query {
        tenant: origin.tenant.as_str(),
        domain: &origin.domain,
        user: user.as_deref(),
        uri: ruri,
        path: path_of(request),
        source: Source::Backend,
    };
    let (_, found) = elsewhere(turn, &query);
    let tenant = origin.tenant.text().clone();
    match found.away.first() {
        Some(away) => match way(turn, &tenant, away) {
            Some((flow, route)) => {
                Ok(Located::Away(away.key, flow, Text::from(uri(away, &flow)), Text::from(route)))
            }
            None => Err(standalone::UNAVAILABLE),
        },
        None if found.lost => Err(standalone::UNAVAILABLE),
        None => Err(nobody),
    }
}
