//! Requests outside calls: OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY and whatever else is not INVITE or REGISTER.
//!
//! Out of a dialog an endpoint's request goes to a backend of its tenant, a backend's to a binding; a MESSAGE goes by the routes
//! of calls too. Dialogs that come of the others (SUBSCRIBE, REFER) are stateless: see [`token`].

mod forward;
mod locate;
mod subscription;
pub(crate) mod token;

pub(crate) use locate::{Nobody, UNAVAILABLE, locate};

use crate::backend::{self, Asked, Candidate};
use crate::call::{Target as Called, Words, written};
use crate::dispatch::to_tag;
use crate::net::User;
use crate::registration;
use crate::remote;
use crate::routing::Source;
use crate::sips;
use crate::state::BindingKey;
use crate::tenancy::{Origin, OriginKind, PeerRef};
use crate::turn::Turn;
use foldhash::HashMap;
use forward::{Hop, Way};
use locate::NOT_FOUND;
use signalbox_base::{Flow, Text};
use signalbox_schemas::words::RequestRule;
use signalbox_sip::header::NameAddr;
use signalbox_sip::transaction::{ClientTx, End, ServerTx, TimerId};
use signalbox_sip::uri::{SipUri, without_headers};
use signalbox_sip::{HeaderName, Message, Method, ResponseBuilder, ResponseHead, Uri};
use std::collections::VecDeque;
use std::net::SocketAddr;
use token::{Side, Target};

/// Requests under way.
#[derive(Debug, Default)]
pub(crate) struct Standalone {
    pending: HashMap<u64, Pending>,
    asked: Asked,
    last_number: u64,
    ended: subscription::Ended,
}

#[derive(Debug)]
struct Pending {
    request: Message<Box<[u8]>>,
    flow: Flow,
    tx: ServerTx,
    client: Option<ClientTx>,
    timer: Option<TimerId>,
    attempt: u16,
    /// The sender, as the receiver's messages reach it.
    sender: Target,
    /// Where it goes now.
    way: Way,
    /// The backend asked now, whose health the answer tells of.
    peer: Option<PeerRef>,
    /// Whether it said anything yet.
    heard: bool,
    /// Where to after this one.
    next: VecDeque<Hop>,
}

impl Pending {
    fn waits_for(&self, remote: SocketAddr) -> bool {
        self.client.is_some() && self.way.flow.remote == remote
    }
}

/// Whether a request is for the edge itself: no user, and the edge's own name or address or a domain it serves.
pub(crate) fn is_for_the_edge(turn: &Turn<'_>, request: &Message<&[u8]>) -> bool {
    let Some(uri) = request.request_uri().and_then(sip_uri) else { return false };
    uri.user.is_none()
        && (turn.directory.is_own_host(uri.host) || turn.directory.domain(turn.settings, uri.host).is_some())
}

/// Whether a request bears the token of a stateless dialog.
pub(crate) fn bears_token(request: &Message<&[u8]>) -> bool {
    request.request_uri().and_then(sip_uri).and_then(|uri| uri.user).is_some_and(token::is_token)
}

/// Whether that token is one of this cluster's.
pub(crate) fn opens_token(turn: &Turn<'_>, request: &Message<&[u8]>) -> bool {
    bears_token(request)
        && request
            .request_uri()
            .and_then(sip_uri)
            .and_then(|uri| uri.user)
            .is_some_and(|user| token::open(&turn.settings.cluster_key, user).is_some())
}

impl Standalone {
    /// A request outside any dialog; no open relay is settled.
    pub(crate) fn on_request(
        &mut self,
        turn: &mut Turn<'_>,
        origin: Origin,
        tx: ServerTx,
        request: &Message<&[u8]>,
    ) {
        let contact = contact_uri(request);
        let tenant = Text::new(origin.tenant.as_str());
        let user = request.request_uri().and_then(sip_uri).and_then(|uri| uri.decoded_user());
        let source = registration::source(turn, &origin, user.as_deref());
        let side = match &origin.kind {
            OriginKind::Endpoint { binding } => Side::Phone(*binding),
            OriginKind::Backend { name, .. } | OriginKind::Trunk { name, .. } => Side::Backend(name.clone()),
        };
        let routed = request.method() == Method::Message && !turn.settings.rules.routes.is_empty();
        let found = match &origin.kind {
            OriginKind::Trunk { .. } => as_a_call(turn, &origin, request),
            OriginKind::Endpoint { .. } if source == Source::Endpoint && routed => {
                as_a_call(turn, &origin, request)
            }
            OriginKind::Endpoint { binding } if source == Source::Endpoint => {
                Ok(to_backends(turn, &origin, *binding, request))
            }
            _ => match remote::locate(turn, &origin, request) {
                Ok(located) => {
                    let way = Way::to_located(turn, located);
                    Ok(way.map(|way| Hop { way, peer: None }).into_iter().collect())
                }
                Err(nobody) if routed && nobody == NOT_FOUND => as_a_call(turn, &origin, request),
                Err(Nobody(status)) => Err(Words::plain(status)),
            },
        };
        let mut hops = match found.and_then(|hops| by_scheme(turn, &origin.flow, request, hops)) {
            Ok(hops) => hops,
            Err(words) => return refuse(turn, tx, request, &origin.flow, &words),
        };
        let Some(Hop { way, peer }) = hops.pop_front() else {
            return refuse(turn, tx, request, &origin.flow, &Words::plain(503));
        };
        let sender = Target {
            tenant,
            side,
            flow: origin.flow,
            uri: contact,
            routes: routes(request),
            other: way.flow.remote.ip(),
        };
        self.start(turn, (tx, request), sender, Hop { way, peer }, hops);
    }

    /// A request inside a stateless dialog: its token says where it goes, and who may say so.
    pub(crate) fn on_dialog_request(
        &mut self,
        turn: &mut Turn<'_>,
        flow: Flow,
        tx: ServerTx,
        request: &Message<&[u8]>,
    ) {
        let user = request.request_uri().and_then(sip_uri).and_then(|uri| uri.user).unwrap_or_default();
        let Some(target) = token::open(&turn.settings.cluster_key, user) else {
            return refuse(turn, tx, request, &flow, &Words::plain(481));
        };
        let Some(side) = sender_of(turn, &flow, &target) else {
            turn.reject_request(flow.remote.ip(), RequestRule::UnknownPeer, None, request);
            return refuse(turn, tx, request, &flow, &Words::plain(403));
        };
        let way = Way::to_target(turn, &target);
        let sender = Target {
            tenant: target.tenant,
            side,
            flow,
            uri: contact_uri(request),
            routes: routes(request),
            other: way.flow.remote.ip(),
        };
        self.start(turn, (tx, request), sender, Hop { way, peer: None }, VecDeque::new());
    }

    fn start(
        &mut self,
        turn: &mut Turn<'_>,
        (tx, request): (ServerTx, &Message<&[u8]>),
        sender: Target,
        Hop { way, peer }: Hop,
        next: VecDeque<Hop>,
    ) {
        self.last_number += 1;
        let number = self.last_number;
        if let Some(user) = turn.net.transactions_mut().user_mut(tx) {
            *user = User::Standalone(number);
        }
        let flow = sender.flow;
        let pending = Pending {
            request: request.to_owned(),
            flow,
            tx,
            client: None,
            timer: None,
            attempt: 0,
            sender,
            way,
            peer,
            heard: false,
            next,
        };
        self.pending.insert(number, pending);
        self.forward(turn, number);
    }

    /// The transaction with the receiver is over.
    pub(crate) fn on_ended(&mut self, turn: &mut Turn<'_>, number: u64, tx: ClientTx, why: End) {
        let Some(pending) = self.pending.get(&number).filter(|p| p.client == Some(tx)) else { return };
        if matches!(why, End::Timeout | End::Transport) {
            let at_fault = why == End::Transport || !pending.heard;
            self.failed(turn, number, at_fault);
        }
    }

    /// The transaction with the sender is over.
    pub(crate) fn on_abandoned(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    /// Nothing was answered within `failover_after`.
    pub(crate) fn on_timer(&mut self, turn: &mut Turn<'_>, number: u64, attempt: u16) {
        if self.pending.get(&number).is_some_and(|p| p.attempt == attempt && p.client.is_some()) {
            self.failed(turn, number, true);
        }
    }

    /// Places of backends mean others now: they are found again by their names.
    pub(crate) fn on_reload(&mut self, turn: &Turn<'_>) {
        for pending in self.pending.values_mut() {
            let tenant = pending.sender.tenant.clone();
            let place = |way: &Way| turn.directory.named(turn.settings, &tenant, way.side().configured()?);
            pending.peer = pending.peer.and_then(|_| place(&pending.way));
            pending.next.retain_mut(|hop| {
                let was = std::mem::replace(&mut hop.peer, place(&hop.way));
                was.is_none() || hop.peer.is_some()
            });
        }
    }

    /// A peer cannot be reached.
    pub(crate) fn on_unreachable(&mut self, turn: &mut Turn<'_>, remote: SocketAddr) {
        for number in self.asked.take(remote) {
            if !self.pending.get(&number).is_some_and(|p| p.waits_for(remote)) {
                continue;
            }
            self.failed(turn, number, true);
        }
    }
}

/// The tenant's backends, in the order to try them.
fn to_backends(
    turn: &mut Turn<'_>,
    origin: &Origin,
    binding: Option<BindingKey>,
    request: &Message<&[u8]>,
) -> VecDeque<Hop> {
    let aor = binding.and_then(|key| turn.state.registrations().aor_of(key)).map(|aor| aor.name.clone());
    let list = backend::candidates(turn, &origin.tenant, aor.as_deref());
    let uri = in_its_domain(turn, origin, request);
    let hop = |candidate: &Candidate| Hop {
        way: Way::to_backend(candidate, uri.clone()).by(registration::service_routes(
            turn,
            origin,
            request,
            &candidate.name,
        )),
        peer: Some(candidate.peer),
    };
    list.iter().map(hop).collect()
}

/// Where a call to the same would go.
fn as_a_call(turn: &mut Turn<'_>, origin: &Origin, request: &Message<&[u8]>) -> Result<VecDeque<Hop>, Words> {
    let targets = written::ways(turn, origin, request)?;
    let hop = |target: Called| Hop {
        peer: target.peer.place(turn, origin.tenant.as_str()),
        way: Way::of_call(target),
    };
    Ok(targets.into_iter().map(hop).collect())
}

/// The Request-URI with the domain that the request is in, when the sender wrote the edge's own address there: what a PBX
/// looks up is a user of its domain. `None` leaves it as it came.
fn in_its_domain(turn: &Turn<'_>, origin: &Origin, request: &Message<&[u8]>) -> Option<Text> {
    let ruri = request.request_uri()?;
    let uri = sip_uri(ruri)?;
    if !turn.directory.stands_for_a_domain(turn.settings, &origin.tenant, uri.host) {
        return None;
    }
    let start = uri.host_port.as_ptr() as usize - ruri.as_ptr() as usize;
    let behind = &ruri[start + uri.host_port.len()..];
    Some(Text::lossy(&[&ruri[..start], origin.domain.as_bytes(), behind].concat()))
}

/// Who sends inside a dialog, if it may: a backend of the token's tenant towards a phone; towards a backend, who is
/// registered at the tenant over this flow, or still has the address the dialog began from.
fn sender_of(turn: &Turn<'_>, flow: &Flow, target: &Target) -> Option<Side> {
    let listener = turn.settings.listener(flow.listener)?;
    match &target.side {
        Side::Phone(_) => {
            if let Some(neighbour) = neighbour(turn, flow, target) {
                return Some(neighbour);
            }
            if !listener.serves.backends {
                return None;
            }
            // Its address and port, which alone count where phones are served too; or its address, from any port.
            let mut peers = turn.directory.peers_at(listener.network, flow.remote);
            peers.extend(turn.directory.peers_of_address(listener.network, flow.remote.ip()));
            peers
                .iter()
                .filter_map(|peer| turn.directory.peer(turn.settings, *peer))
                .find(|found| found.owner() == &*target.tenant)
                .map(|found| Side::Backend(found.backend.name.clone()))
        }
        Side::Backend(_) => {
            // A phone of another edge speaks through that edge, which has judged that it is the phone.
            if remote::is_peer(turn.settings, flow) {
                return (flow.remote.ip() == target.other).then_some(Side::Phone(None));
            }
            if !listener.serves.endpoints {
                return None;
            }
            let own =
                |(aor, _): &(&crate::state::Aor, &crate::state::Binding)| aor.tenant() == &*target.tenant;
            let binding: Option<BindingKey> =
                turn.state.registrations().over_flow(flow).find(own).map(|(_, binding)| binding.key);
            (binding.is_some() || flow.remote.ip() == target.other).then_some(Side::Phone(binding))
        }
    }
}

/// A registered phone that speaks with another, where no backend is between them: only who was given the token can be where
/// its other end is.
fn neighbour(turn: &Turn<'_>, flow: &Flow, target: &Target) -> Option<Side> {
    let mut over = turn.state.registrations().over_flow(flow);
    let (_, binding) = over.find(|(aor, _)| aor.tenant() == &*target.tenant)?;
    (flow.remote.ip() == target.other).then_some(Side::Phone(Some(binding.key)))
}

/// The ways that the scheme of the Request-URI lets a request go; when it lets none of them, what is said (RFC 5630).
fn by_scheme(
    turn: &Turn<'_>,
    flow: &Flow,
    request: &Message<&[u8]>,
    mut hops: VecDeque<Hop>,
) -> Result<VecDeque<Hop>, Words> {
    let before = hops.len();
    hops.retain_mut(|hop| hop.way.fits(request));
    if before > 0 && hops.is_empty() {
        return Err(Words::sips_not_allowed(&sips::warning(turn, flow)));
    }
    Ok(hops)
}

/// Answers within the transaction what goes no further.
fn refuse(turn: &mut Turn<'_>, tx: ServerTx, request: &Message<&[u8]>, flow: &Flow, words: &Words) {
    let (tag, (status, reason)) = (to_tag(turn, request), words.said());
    let sent = turn.respond(tx, request.method(), status, None, |out| {
        let head = ResponseHead { status, reason, to_tag: Some(tag.as_bytes()), source: Some(flow.remote) };
        let response = ResponseBuilder::new(out, request, &head);
        words.headers().iter().fold(response, |it, (name, value)| it.header(*name, &**value)).finish();
    });
    // The transaction was opened in this turn: nothing can have answered it.
    debug_assert!(sent.is_ok());
}

fn contact_uri(request: &Message<&[u8]>) -> Text {
    let value = request.values(HeaderName::Contact).next().unwrap_or_default();
    NameAddr::parse(value)
        .ok()
        .filter(is_reachable)
        .map(|c| Text::lossy(without_headers(c.uri)))
        .unwrap_or_default()
}

/// Whether a Contact can be the Request-URI of what its owner is sent.
fn is_reachable(contact: &NameAddr<'_>) -> bool {
    contact.parsed_uri().is_ok() && !contact.uri.iter().any(|byte| byte.is_ascii_control() || *byte == b' ')
}

/// The route set towards a sender: its Record-Routes in order (RFC 3261 §12.1.1).
fn routes(request: &Message<&[u8]>) -> Vec<Text> {
    request.values(HeaderName::RecordRoute).take(ROUTES_MAX).map(Text::lossy).collect()
}

/// Proxies behind a peer that are remembered in a token.
const ROUTES_MAX: usize = 4;

pub(crate) fn sip_uri(bytes: &[u8]) -> Option<SipUri<'_>> {
    match Uri::parse(bytes).ok()? {
        Uri::Sip(uri) => Some(uri),
        _ => None,
    }
}
