//! From bytes to the room that handles them: gate, parser, transactions, tenancy, room (DESIGN.md §5).

mod reject;

pub(crate) use reject::{malformed, reject, reject_after, reject_with, to_tag};

use crate::call::is_emergency;
use crate::classes::{self, Sent};
use crate::contract::{ClassB, METHODS, Release};
use crate::engine::Rooms;
use crate::fields::fields_of;
use crate::gate::fingerprints;
use crate::net::User;
use crate::registration::{self, Access};
use crate::settings::CallsFrom;
use crate::tenancy::{Known, Origin, PeerRef, Refusal, resolve_among};
use crate::trace::Traceparent;
use crate::turn::{About, Turn};
use crate::{backend, remote, reuse, sips, standalone};
use signalbox_base::{Flow, Transport};
use signalbox_schemas::words::RequestRule;
use signalbox_sip::header::NameAddr;
use signalbox_sip::transaction::{
    ClientKey, NewServer, OnAck, OnRequest, OnResponse, ServerKey, ServerTx, TRYING_WITHIN,
};
use signalbox_sip::{HeaderName, Limits, Message, Method, ResponseBuilder, ResponseHead, Uri, is_keepalive};
use std::time::Duration;

/// Raw bytes of a datagram or a framed stream message.
pub(crate) fn packet(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: Flow, bytes: &[u8]) {
    if rooms.blocks.contains(turn.now.mono, flow.remote.ip()) && !is_for_help(turn, &flow, bytes) {
        turn.counters.rejected[ACL] += 1;
        return;
    }
    if is_keepalive(bytes) {
        // RFC 5626 §3.5.1: a double CRLF over a stream is answered by a single one.
        if flow.transport.reliable() && bytes.len() >= 4 {
            turn.send_as(flow, Release::Now(ClassB::Keepalive), |out| out.extend_from_slice(b"\r\n"));
        }
        rooms.registrar.seen(turn, &flow);
        return;
    }
    if !is_proven(turn, &flow) {
        let (now, window) = (turn.now.mono, turn.settings.noise.window);
        turn.net.sources.received(now, window, flow.remote, bytes.len());
        if turn.net.sources.is_crowded_out(flow.remote) {
            turn.counters.rejected[LIMIT] += 1;
            return;
        }
    }
    match Message::parse(bytes, &Limits::DATAGRAM) {
        Ok(message) => self::message(turn, rooms, flow, &message),
        Err(fault) => malformed(turn, &flow, bytes, &fault),
    }
}

/// Whether a registered phone in a banned network calls for help, or says what belongs to calls that are there.
fn is_for_help(turn: &Turn<'_>, flow: &Flow, bytes: &[u8]) -> bool {
    let Some((aor, _)) = turn.state.registrations().over_flow(flow).next() else { return false };
    let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { return false };
    let of_a_call = matches!(message.method(), Method::Ack | Method::Cancel) || message.to_tag().is_some();
    let tenant = turn.directory.tenant_place(aor.tenant()).map(|at| &turn.settings.tenants[usize::from(at)]);
    of_a_call
        || !message.is_request()
        || message.method() == Method::Invite
            && is_emergency(tenant.map(|tenant| &tenant.numbering), &message)
}

/// A message that has been parsed.
pub(crate) fn message(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: Flow, message: &Message<&[u8]>) {
    rooms.registrar.seen(turn, &flow);
    if message.has_bare_line_feeds() {
        // Read as it was meant, and as nobody behind us can read otherwise (RFC 3261 §7).
        let mended = message.with_line_ends();
        return match Message::parse(&*mended, &Limits::DATAGRAM) {
            Ok(message) => deliver(turn, rooms, flow, &message),
            Err(fault) => malformed(turn, &flow, &mended, &fault),
        };
    }
    deliver(turn, rooms, flow, message);
}

fn deliver(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: Flow, message: &Message<&[u8]>) {
    turn.traceparent = Traceparent::of(message);
    if message.is_request() {
        request(turn, rooms, flow, message);
    } else {
        response(turn, rooms, flow, message);
    }
}

const ACL: usize = 3;
const LIMIT: usize = 6;

/// Whether the source has shown that it receives what is sent to it: streams, backends, and who is registered over this flow.
fn is_proven(turn: &Turn<'_>, flow: &Flow) -> bool {
    flow.transport != Transport::Udp || remote::is_peer(turn.settings, flow) || turn.is_at_home(flow)
}

fn request(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: Flow, request: &Message<&[u8]>) {
    let method = request.method();
    count_request(turn, &flow, method);
    let scanner = |name| request.value(name).is_some_and(fingerprints::is_scanner);
    if scanner(HeaderName::UserAgent) || scanner(HeaderName::From) {
        turn.reject_request(flow.remote.ip(), RequestRule::Acl, None, request);
        return;
    }
    if let Err(fault) = request.validate() {
        turn.reject_request(flow.remote.ip(), RequestRule::Malformed, Some(fault.offset), request);
        if fault.answerable && method != Method::Ack {
            reject(turn, flow, request, 400, fault.reply_reason());
        }
        return;
    }
    let Ok(fields) = fields_of(request, &flow) else { return };
    let key = turn.net.hasher.key(&fields);
    reuse::consider(turn, &flow, request);
    match method {
        Method::Ack => ack(turn, rooms, flow, key, request),
        _ => {
            let known = turn.net.table.on_request(key, &mut turn.net.outputs);
            if known != OnRequest::New {
                return;
            }
            if method == Method::Cancel {
                let invite = turn.net.hasher.cancelled(&fields);
                cancel(turn, rooms, flow, key, invite, request);
            } else {
                Fresh { turn, rooms, flow, key, method, request, account: None }.dispatch();
            }
        }
    }
}

/// A request that no transaction knows.
struct Fresh<'t, 'e, 'm> {
    turn: &'t mut Turn<'e>,
    rooms: &'t mut Rooms,
    flow: Flow,
    key: ServerKey,
    method: Method,
    request: &'t Message<&'m [u8]>,
    /// The peer on whose registration it came.
    account: Option<PeerRef>,
}

impl Fresh<'_, '_, '_> {
    fn dispatch(mut self) {
        if self.account.is_none()
            && let Some((peer, bytes)) = registration::arrived(self.turn, &self.flow, self.request)
        {
            // It was a message before its Request-URI was put right.
            let Ok(request) = Message::parse(&*bytes, &Limits::DATAGRAM) else { return };
            let Self { turn, rooms, flow, key, method, .. } = self;
            return Fresh { turn, rooms, flow, key, method, request: &request, account: Some(peer) }
                .dispatch();
        }
        if remote::bears_ticket(self.request)
            && self.rooms.hops.on_request(self.turn, self.flow, self.key, self.request)
        {
            return;
        }
        self.flow = self.rooms.hops.home(self.turn, self.flow);
        let owner = self.rooms.calls.owner(self.turn, &self.flow, self.request);
        let mut origin = None;
        if owner.is_none() && !self.turn.is_at_home(&self.flow) {
            let found = self.origin();
            // A stranger who asks for a domain that is not here gets silence, whatever else is wrong with its request.
            if found == Err(Refusal::UnknownDomain) && !standalone::opens_token(self.turn, self.request) {
                return self.refuse(Refusal::UnknownDomain);
            }
            origin = Some(found);
        }
        let hops = self.request.max_forwards();
        if hops.as_ref().is_some_and(Result::is_err) {
            return self.reject(400, "Bad Max-Forwards");
        }
        let to_us = standalone::is_for_the_edge(self.turn, self.request);
        if self.method == Method::Options && to_us && self.answer_options() {
            return;
        }
        if matches!(hops, Some(Ok(0))) {
            return self.reject(483, "Too Many Hops");
        }
        if let Some(leg) = owner {
            if let Some(tx) = self.open(User::Nobody) {
                self.rooms.calls.on_request(self.turn, leg, self.flow, tx, self.request);
            }
            return;
        }
        if standalone::bears_token(self.request) {
            if let Some(tx) = self.open(User::Nobody) {
                self.rooms.standalone.on_dialog_request(self.turn, self.flow, tx, self.request);
            }
            return;
        }
        if self.request.to_tag().is_some() && self.method != Method::Register {
            return self.reject(481, "Call/Transaction Does Not Exist");
        }
        match origin.unwrap_or_else(|| self.origin()) {
            Ok(origin) => self.out_of_dialog(origin),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn origin(&self) -> Result<Origin, Refusal> {
        origin_of(self.turn, &self.flow, self.request, self.account)
    }

    fn out_of_dialog(mut self, origin: Origin) {
        if self.request.value(HeaderName::ProxyRequire).is_some() {
            return self.bad_extension(HeaderName::ProxyRequire);
        }
        if self.names_an_unknown_scheme() {
            return self.reject(416, "Unsupported URI Scheme");
        }
        let uri = self.request.request_uri().unwrap_or_default();
        if !sips::may_go(uri, &self.flow) {
            // The hop before this one broke what it asks for.
            return sips::refuse(self.turn, self.flow, self.request);
        }
        if sips::is_sips(uri) && self.has_another_contact() {
            return self.reject(400, "Contact Is Not SIPS");
        }
        if self.method == Method::Register {
            if !origin.is_endpoint() {
                self.turn.reject_request(self.flow.remote.ip(), RequestRule::Method, None, self.request);
                return self.reject(403, "Forbidden");
            }
            return self.rooms.registrar.on_register(self.turn, origin, self.flow, self.key, self.request);
        }
        match self.rooms.registrar.ask(self.turn, &origin, self.request) {
            Access::Answered => {}
            Access::Open => self.enter(origin),
            Access::Proven { bytes, aor } => {
                // It was a message before one header of it was taken out.
                let Ok(request) = Message::parse(&*bytes, &Limits::DATAGRAM) else { return };
                let Self { turn, rooms, flow, key, method, account, .. } = self;
                Fresh { turn, rooms, flow, key, method, request: &request, account }
                    .enter(Origin { proven: Some(aor), ..origin });
            }
        }
    }

    fn enter(mut self, origin: Origin) {
        if !self.may_enter(&origin) {
            self.turn.reject_request(self.flow.remote.ip(), RequestRule::UnknownPeer, None, self.request);
            return self.reject(403, "Forbidden");
        }
        // These exist inside dialogs only (RFC 3261 §15, RFC 3262 §3, RFC 3311 §5.2), and those of ours have a To tag.
        if matches!(self.method, Method::Bye | Method::Prack | Method::Update) {
            return self.reject(481, "Call/Transaction Does Not Exist");
        }
        let Some(tx) = self.open(User::Nobody) else { return };
        if self.method == Method::Invite {
            self.rooms.calls.on_invite(self.turn, origin, tx, self.request);
        } else {
            self.rooms.standalone.on_request(self.turn, origin, tx, self.request);
        }
    }

    /// No open relay: an endpoint speaks over the flow of a live binding under its own name, or with credentials of ours, or
    /// its tenant's backend authenticates everyone (DESIGN.md §5).
    fn may_enter(&self, origin: &Origin) -> bool {
        let any = || {
            let place = self.turn.directory.tenant_place(origin.tenant.as_str());
            place.is_some_and(|at| self.turn.settings.tenants[usize::from(at)].calls_from == CallsFrom::Any)
        };
        origin.is_known() || any()
    }

    /// A Request-URI that is neither sip, sips nor tel, nor a service's name (RFC 5031): To says nothing about where it goes
    /// (RFC 4475 §3.3.2).
    fn names_an_unknown_scheme(&self) -> bool {
        match self.request.request_uri().map(Uri::parse) {
            Some(Ok(Uri::Other { scheme, .. })) => !scheme.eq_ignore_ascii_case(b"urn"),
            _ => false,
        }
    }

    /// Whether it asks for `sips:` and wants to be answered by another scheme (RFC 3261 §8.1.1.8).
    fn has_another_contact(&self) -> bool {
        let mut contacts =
            self.request.values(HeaderName::Contact).filter_map(|value| NameAddr::parse(value).ok());
        self.method != Method::Register && contacts.any(|contact| !sips::is_sips(contact.uri))
    }

    /// OPTIONS to the edge itself, from a peer or a registered phone: 200, or 503 while draining. `false` for strangers,
    /// who are treated like any other request of theirs.
    fn answer_options(&mut self) -> bool {
        if !self.turn.is_at_home(&self.flow) {
            return false;
        }
        if self.request.value(HeaderName::Require).is_some() {
            self.bad_extension(HeaderName::Require);
            return true;
        }
        let draining = self.turn.net.draining;
        let (status, reason) = if draining { (503, "Service Unavailable") } else { (200, "OK") };
        let release = classes::release(self.method, Sent::Response(status), None);
        let (request, tag, flow) = (self.request, to_tag(self.turn, self.request), self.flow);
        count_response(self.turn, status);
        self.turn.send_as(flow, release, |out| {
            let head =
                ResponseHead { status, reason, to_tag: Some(tag.as_bytes()), source: Some(flow.remote) };
            ResponseBuilder::new(out, request, &head)
                .header(HeaderName::Allow, ALLOW)
                .header(HeaderName::Accept, "application/sdp, */*")
                .header(HeaderName::Supported, "path, outbound, 100rel, timer, replaces")
                .finish();
        });
        true
    }

    fn refuse(&mut self, refusal: Refusal) {
        refuse(self.turn, &self.flow, self.request, refusal);
        match refusal {
            Refusal::UnknownDomain if self.turn.is_at_home(&self.flow) => self.reject(404, "Not Found"),
            // A stranger who asks for a domain that is not here learns nothing.
            Refusal::UnknownDomain => {}
            Refusal::UnknownPeer => self.reject(403, "Forbidden"),
            Refusal::NoDomain => self.reject(403, "Domain Not Named"),
            Refusal::NobodysNumber => self.reject(404, "Not Found"),
            Refusal::Method => self.reject(403, "Forbidden"),
        }
    }

    fn bad_extension(&mut self, name: HeaderName) {
        let (request, flow, tag) = (self.request, self.flow, to_tag(self.turn, self.request));
        let release = classes::release(self.method, Sent::Response(420), None);
        count_response(self.turn, 420);
        self.turn.send_as(flow, release, |out| {
            let head = ResponseHead {
                status: 420,
                reason: "Bad Extension",
                to_tag: Some(tag.as_bytes()),
                source: Some(flow.remote),
            };
            let unsupported = request.value(name).unwrap_or_default();
            ResponseBuilder::new(out, request, &head).header(HeaderName::Unsupported, unsupported).finish();
        });
    }

    fn reject(&mut self, status: u16, reason: &str) {
        reject(self.turn, self.flow, self.request, status, reason);
    }

    /// Opens the server transaction, or says 503 when there are too many.
    fn open(&mut self, user: User) -> Option<ServerTx> {
        let tx = open(self.turn, self.flow, self.key, self.method, user);
        if tx.is_none() {
            self.turn.net.shed += 1;
            self.reject(503, "Service Unavailable");
        }
        tx
    }
}

/// Methods the edge passes or answers.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, PRACK, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, PUBLISH";

/// Timer C and the repetitions of a final answer behind it (RFC 3261 §16.6, §17.2.1): so long may an INVITE be answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(180 + 32);

/// Opens a server transaction; none when the table is full.
pub(crate) fn open(
    turn: &mut Turn<'_>,
    flow: Flow,
    key: ServerKey,
    method: Method,
    user: User,
) -> Option<ServerTx> {
    let invite = method == Method::Invite;
    if invite {
        turn.net.sources.keep(flow.remote, turn.now.mono.plus(ANSWERED_WITHIN));
    }
    let new =
        NewServer { key, invite, flow, trying_after: invite.then_some(TRYING_WITHIN), repeat_2xx: true };
    turn.net.table.open(new, user, turn.now.mono).ok()
}

/// The same for a request that is passed on: whoever answers it repeats its own 2xx.
pub(crate) fn open_hop(turn: &mut Turn<'_>, flow: Flow, key: ServerKey, method: Method) -> Option<ServerTx> {
    let invite = method == Method::Invite;
    let new = NewServer { key, invite, flow, trying_after: None, repeat_2xx: false };
    turn.net.table.open(new, User::Nobody, turn.now.mono).ok()
}

fn ack(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: Flow, key: ServerKey, request: &Message<&[u8]>) {
    match turn.net.table.on_ack(key, turn.now.mono) {
        OnAck::Absorbed { .. } => {}
        _ if remote::bears_ticket(request) && rooms.hops.on_ack(turn, &flow, request) => {}
        OnAck::Deliver { tx } => rooms.calls.on_ack(turn, flow, Some(tx), request),
        OnAck::Unmatched => rooms.calls.on_ack(turn, flow, None, request),
    }
}

/// CANCEL is answered by each element itself (RFC 3261 §9.2).
fn cancel(
    turn: &mut Turn<'_>,
    rooms: &mut Rooms,
    flow: Flow,
    key: ServerKey,
    invite: ServerKey,
    request: &Message<&[u8]>,
) {
    let Some(target) = turn.net.table.find_server(invite) else {
        if is_for_nobody(turn, &flow, request) {
            return refuse(turn, &flow, request, Refusal::UnknownDomain);
        }
        return reject(turn, flow, request, 481, "Call/Transaction Does Not Exist");
    };
    let Some(tx) = open(turn, flow, key, Method::Cancel, User::Nobody) else { return };
    let tag = to_tag(turn, request);
    let answered = turn.respond(tx, Method::Cancel, 200, None, |out| {
        let head = ResponseHead {
            status: 200,
            reason: "OK",
            to_tag: Some(tag.as_bytes()),
            source: Some(flow.remote),
        };
        ResponseBuilder::new(out, request, &head).finish();
    });
    match turn.net.table.user(target).copied() {
        _ if answered.is_err() => {}
        Some(user @ User::CallLeg { .. }) => rooms.calls.on_cancel(turn, user, target, request),
        Some(User::Hop(number)) => rooms.hops.on_cancel(turn, number),
        _ => {}
    }
}

fn response(turn: &mut Turn<'_>, rooms: &mut Rooms, flow: Flow, response: &Message<&[u8]>) {
    let status = response.status().unwrap_or(0);
    if let Some(class) = usize::from(status / 100).checked_sub(1).filter(|c| *c < 6) {
        turn.counters.responses_received[class] += 1;
    }
    let key = response
        .top_via()
        .ok()
        .and_then(|via| via.branch())
        .and_then(|branch| ClientKey::of_response(branch, response.cseq().method));
    let what = match key {
        Some(key) => turn.net.table.on_response(key, status, turn.now.mono, &mut turn.net.outputs),
        None => OnResponse::Stray,
    };
    let tx = match &what {
        OnResponse::Provisional { tx }
        | OnResponse::Final { tx, .. }
        | OnResponse::Again { tx }
        | OnResponse::Late { tx } => *tx,
        OnResponse::Absorbed { .. } => return,
        OnResponse::Stray => {
            turn.counters.strays += 1;
            if key.is_some() && (200..300).contains(&status) && response.cseq().method == b"INVITE" {
                rooms.calls.on_stray(turn, flow, response);
            }
            return;
        }
    };
    let Some(user) = turn.net.table.user(tx).copied() else { return };
    match user {
        User::Nobody => {}
        User::CallLeg { .. } => rooms.calls.on_response(turn, user, tx, &what, response),
        User::Register(number) => rooms.registrar.on_response(turn, number, tx, response),
        User::Outbound(number) => rooms.registrar.outbound.on_response(turn, number, tx, response),
        User::Standalone(number) => rooms.standalone.on_response(turn, number, tx, response),
        User::Hop(number) => rooms.hops.on_response(turn, number, &what, response),
        User::Probe(peer) => backend::on_response(turn, peer, tx, response),
    }
}

/// Whether a stranger asks for a domain that is not here: it gets silence, whatever else is wrong with its request.
fn is_for_nobody(turn: &Turn<'_>, flow: &Flow, request: &Message<&[u8]>) -> bool {
    !turn.is_at_home(flow) && origin_of(turn, flow, request, None) == Err(Refusal::UnknownDomain)
}

fn origin_of(
    turn: &Turn<'_>,
    flow: &Flow,
    request: &Message<&[u8]>,
    account: Option<PeerRef>,
) -> Result<Origin, Refusal> {
    let known = Known {
        registrations: turn.state.registrations(),
        remote: Some(&*turn.remote),
        wall: turn.now.wall,
        account,
    };
    resolve_among(turn.settings, turn.directory, known, flow, request)
}

/// Counts a request of nobody's.
fn refuse(turn: &mut Turn<'_>, flow: &Flow, request: &Message<&[u8]>, refusal: Refusal) {
    let method = request.method();
    let about = About { source: Some(flow.remote), ..About::default() };
    turn.note(about, || format!("{method} refused: {refusal:?}"));
    let rule = match refusal {
        Refusal::UnknownDomain | Refusal::NoDomain | Refusal::NobodysNumber => RequestRule::UnknownDomain,
        Refusal::Method => RequestRule::Method,
        Refusal::UnknownPeer => RequestRule::UnknownPeer,
    };
    turn.reject_request(flow.remote.ip(), rule, None, request);
}

fn count_request(turn: &mut Turn<'_>, flow: &Flow, method: Method) {
    let network = turn.settings.listener(flow.listener).map_or(0, |l| usize::from(l.network));
    if let Some(row) = turn.counters.requests.get_mut(network) {
        let name = method.as_str();
        let at = METHODS.iter().position(|m| *m == name).unwrap_or(METHODS.len() - 1);
        row[at] += 1;
    }
}

fn count_response(turn: &mut Turn<'_>, status: u16) {
    if let Some(class) = usize::from(status / 100).checked_sub(1).filter(|c| *c < 6) {
        turn.counters.responses_sent[class] += 1;
    }
}
