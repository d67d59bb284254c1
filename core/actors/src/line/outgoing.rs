//! What a line sends of its own accord, and the answers to it.

use super::leg::{address_of, contact_uri, record_route};
use super::session::{Asked, wanted_by};
use super::{EndedBy, Leg, LegId, Line, Side, State, Told, Use};
use crate::datagram::Datagram;
use crate::devices::Device;
use crate::login::{Authorization, is_worth_an_answer};
use crate::offer;
use crate::ua::{Kind, Request};
use signalbox_base::{Mono, Text};
use signalbox_sip::dialog::Response;
use signalbox_sip::header::DialogReference;
use signalbox_sip::message::Put;
use signalbox_sip::sdp::Direction;
use signalbox_sip::transaction::{Branch, ClientTx};
use signalbox_sip::{HeaderName, Limits, Message, Method, RequestBuilder};
use std::net::SocketAddr;

/// Whom to call, as whom.
#[derive(Clone, Debug)]
pub(crate) struct Invitation {
    /// Request-URI.
    pub(crate) uri: Text,
    /// From without a tag.
    pub(crate) from: Text,
    /// To.
    pub(crate) to: Text,
    /// Values of Route.
    pub(crate) routes: Vec<Text>,
    /// Where it goes; without it, the first route or the URI says.
    pub(crate) via: Option<SocketAddr>,
    /// Further headers.
    pub(crate) headers: Vec<(String, String)>,
    /// The session timer asked for, in seconds; 0: as the device does.
    pub(crate) session_secs: u32,
}

/// What a request within a dialog says beside what it must.
pub(crate) struct Extra<'a> {
    /// Type and body.
    pub(crate) content: (&'a str, &'a [u8]),
    /// More headers.
    pub(crate) headers: &'a [(HeaderName, String)],
}

/// A request within a dialog.
pub(super) struct InDialog<'a> {
    pub(super) method: Method,
    /// The CSeq of an ACK; others get the next.
    pub(super) cseq: Option<u32>,
    pub(super) body: &'a [u8],
    pub(super) content_type: &'a str,
    /// More headers.
    pub(super) headers: &'a [(HeaderName, String)],
}

impl Line {
    /// Calls somebody. `None` when nothing says where to send, or too many calls are up.
    pub(crate) fn invite(&mut self, now: Mono, to: Invitation, out: &mut Vec<Datagram>) -> Option<LegId> {
        let hop = to.routes.first().map_or(to.uri.as_str(), |route| uri_inside(route));
        let peer = to.via.or(self.outbound).or_else(|| address_of(hop))?;
        let (call_id, tag, session) = (Text::from(self.ua.call_id()), self.tag(), self.ua.random.bits());
        let mut leg = Leg::new(State::Calling, call_id, tag, peer, session);
        (leg.from, leg.cseq) = (to.from.clone(), self.ua.first_cseq());
        leg.asked = Asked::of(self.ua.device, to.session_secs);
        leg.invitation = Some(to.clone());
        let id = self.add(now, leg, Side::Caller, &to.uri);
        self.send_invite(now, id, None, out);
        Some(id)
    }

    fn send_invite(
        &mut self,
        now: Mono,
        id: LegId,
        authorization: Option<Authorization>,
        out: &mut Vec<Datagram>,
    ) {
        let (branch, device) = (self.ua.branch(), self.ua.device);
        let host = self.ua.local.ip();
        let identity = self.legs.get(&id).and_then(|leg| self.identify(&leg.from));
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let sdp = leg.media.offer(&device.description, device.hold, host, Direction::SendRecv);
        let Some(invitation) = leg.invitation.as_ref() else { return };
        let mut bytes = Vec::with_capacity(1024);
        let mut request = self.ua.begin(&mut bytes, Method::Invite, invitation.uri.as_str(), branch);
        for route in &invitation.routes {
            request = request.header(HeaderName::Route, route.as_str());
        }
        request = request
            .header(HeaderName::From, format_args!("{};tag={}", leg.from, leg.local_tag))
            .header(HeaderName::To, invitation.to.as_str())
            .header(HeaderName::CallId, leg.call_id.as_str())
            .header(HeaderName::CSeq, format_args!("{} INVITE", leg.cseq))
            .header(HeaderName::Contact, format_args!("<{}>", self.contact))
            .header(HeaderName::Allow, device.allow);
        for supported in supported(device, self.reliable, leg.asked.is_some()) {
            request = request.header(HeaderName::Supported, supported);
        }
        if let Some(asked) = leg.asked {
            request = request.header(HeaderName::SessionExpires, asked.value());
        }
        if let Some(least) = device.session.as_ref().map(|timer| timer.least).filter(|least| *least > 0) {
            request = request.header(HeaderName::MinSe, least);
        }
        if let Some((name, value)) = identity {
            request = request.header(name, value);
        }
        let further = invitation.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in device.inviting.iter().copied().chain(further) {
            request = request.extension(name, value);
        }
        if let Some(Authorization { name, value }) = authorization {
            request = request.header(name, value);
        }
        request.finish_with_body("application/sdp", &sdp);
        let request = Request { to: leg.peer, branch, method: Method::Invite, bytes, user: Use::Invite(id) };
        let tx = self.ua.send(now, request, out);
        match tx {
            Some(tx) => leg.invite_tx = Some(tx),
            None => self.fail(now, id, 503),
        }
    }

    /// A response to an INVITE that begins a leg.
    pub(super) fn on_invite_response(
        &mut self,
        now: Mono,
        id: LegId,
        tx: ClientTx,
        message: &Message<&[u8]>,
        kind: Kind,
        out: &mut Vec<Datagram>,
    ) {
        let status = message.status().unwrap_or_default();
        match kind {
            Kind::Provisional => {
                self.acknowledge_progress(now, id, message, out);
                self.on_provisional(now, id, status, out);
            }
            Kind::Another2xx => self.on_stray(now, message, out),
            Kind::Final { .. } if status < 300 => self.on_answer(now, id, message, out),
            Kind::Final { request } => {
                if let Some(request) = request.as_deref().and_then(parse) {
                    self.ack_failure(tx, &request, message, out);
                }
                self.on_refusal(now, id, message, out);
            }
        }
    }

    fn on_provisional(&mut self, now: Mono, id: LegId, status: u16, out: &mut Vec<Datagram>) {
        let Some(leg) = self.legs.get(&id) else { return };
        if leg.cancel_wanted {
            self.cancel(now, id, out);
        }
        if status == 100 {
            return;
        }
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.ringing.get_or_insert(now);
        }
        self.told.push(Told::Progress { leg: id, status });
    }

    fn on_refusal(&mut self, now: Mono, id: LegId, message: &Message<&[u8]>, out: &mut Vec<Datagram>) {
        let status = message.status().unwrap_or_default();
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if matches!(status, 401 | 407) && is_worth_an_answer(message, leg.answers) && !leg.cancel_wanted {
            let uri = leg.invitation.as_ref().map(|i| i.uri.clone()).unwrap_or_default();
            let login = self.login.as_ref();
            let answer = login.and_then(|l| l.answer(message, Method::Invite, &uri, &mut self.ua.random));
            if answer.is_some() {
                leg.answers += 1;
                leg.cseq += 1;
                return self.send_invite(now, id, answer, out);
            }
        }
        if let (422, Some(asked), Some(least)) = (status, leg.asked.as_mut(), wanted_by(message))
            && least > asked.secs
            && !leg.cancel_wanted
        {
            asked.secs = least;
            leg.cseq += 1;
            return self.send_invite(now, id, None, out);
        }
        self.fail(now, id, status);
    }

    fn on_answer(&mut self, now: Mono, id: LegId, message: &Message<&[u8]>, out: &mut Vec<Datagram>) {
        let Some(leg) = self.legs.get_mut(&id) else { return self.on_stray(now, message, out) };
        leg.dialog = leg.outgoing().dialog(&response_of(message, &record_route(message)));
        for _ in 0..leg.progress.map_or(0, |(_, sent)| sent) {
            // Each PRACK had a number of its own.
            let _ = leg.dialog.as_mut().map(signalbox_sip::dialog::Dialog::next_cseq);
        }
        leg.state = State::Up;
        leg.invitation = None;
        leg.peer_updates = message.lists(HeaderName::Allow, b"UPDATE");
        let (cseq, cancelled, has_answer) = (leg.cseq, leg.cancel_wanted, leg.progress.is_some());
        let streams = offer::streams(&leg.media.again());
        if let Some(seen) = self.seen.get_mut(&id) {
            (seen.answered, seen.confirmed) = (Some(now), Some(now));
        }
        if message.body().is_empty() && !has_answer {
            self.violations.note(now, "no answer in a 2xx to an offer (RFC 3261 §13.2.1)", message);
        } else if !message.body().is_empty() && offer::streams(message.body()) != streams {
            self.violations.note(now, "an answer with other streams than its offer (RFC 3264 §6)", message);
        }
        self.on_refreshed(now, id, 200, Some(message));
        self.acknowledge(now, id, cseq, out);
        self.told.push(Told::Answered { leg: id });
        if cancelled {
            self.hang_up(now, id, out);
        }
    }

    /// Sends the ACK to a 2xx and keeps it for repetitions.
    pub(super) fn acknowledge(&mut self, now: Mono, id: LegId, cseq: u32, out: &mut Vec<Datagram>) {
        let ack =
            InDialog { method: Method::Ack, cseq: Some(cseq), body: b"", content_type: "", headers: &[] };
        let Some((to, _, bytes)) = self.write_in_dialog(now, id, &ack) else { return };
        let bytes = self.ua.dressed(bytes);
        self.ua.transmit(to, bytes.clone(), out);
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.ack = Some((to, bytes));
        }
    }

    /// The ACK to a 300–699: the INVITE's branch, the response's To (RFC 3261 §17.1.1.3).
    pub(super) fn ack_failure(
        &mut self,
        tx: ClientTx,
        request: &Message<&[u8]>,
        response: &Message<&[u8]>,
        out: &mut Vec<Datagram>,
    ) {
        let to = response.value(HeaderName::To).unwrap_or_default();
        let (Some(bytes), Some(peer)) = (same_branch(request, Method::Ack, to), self.ua.peer(tx)) else {
            return;
        };
        let bytes = self.ua.dressed(bytes);
        self.ua.transmit(peer, bytes.clone(), out);
        self.ua.remember_ack(tx, &bytes);
    }

    /// Ends a leg, however far it is: CANCEL, refuse, or BYE.
    pub(crate) fn hang_up(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) {
        self.hang_up_as(now, id, EndedBy::Me, out);
    }

    pub(super) fn hang_up_as(&mut self, now: Mono, id: LegId, by: EndedBy, out: &mut Vec<Datagram>) {
        match self.legs.get(&id).map(|leg| leg.state) {
            Some(State::Calling) => self.cancel(now, id, out),
            Some(State::Ringing) => self.refuse(now, id, 603, out),
            Some(State::Up) => {
                self.end(now, id, by);
                let bye =
                    InDialog { method: Method::Bye, cseq: None, body: b"", content_type: "", headers: &[] };
                if !self.send_in_dialog(now, id, &bye, Use::Bye(id), out) {
                    self.drop_leg(now, id);
                }
            }
            Some(State::Leaving) | None => {}
        }
    }

    fn cancel(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        // RFC 3261 §9.1: not before a provisional response.
        leg.cancel_wanted = true;
        let Some(tx) = leg.invite_tx else { return };
        let Some(invite) = self.ua.cancellable(tx) else { return };
        let (Some(request), Some(peer)) = (parse(&invite), self.ua.peer(tx)) else { return };
        let to = request.value(HeaderName::To).unwrap_or_default();
        let branch = request.top_via().ok().and_then(|via| Branch::parse(via.branch()?));
        let (Some(bytes), Some(branch)) = (same_branch(&request, Method::Cancel, to), branch) else { return };
        let cancel = Request { to: peer, branch, method: Method::Cancel, bytes, user: Use::Nothing };
        if self.ua.send(now, cancel, out).is_some() {
            self.ua.cancel_sent(tx, now);
        }
    }

    /// Changes the session's direction by re-INVITE. `false` when that cannot be done now.
    pub(crate) fn modify(
        &mut self,
        now: Mono,
        id: LegId,
        direction: Direction,
        out: &mut Vec<Datagram>,
    ) -> bool {
        let (host, device) = (self.ua.local.ip(), self.ua.device);
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.is_up() && !leg.modifying) else {
            return false;
        };
        let sdp = leg.media.offer(&device.description, device.hold, host, direction);
        self.reinvite(now, id, &sdp, &[], out)
    }

    pub(super) fn on_modify_response(
        &mut self,
        now: Mono,
        id: LegId,
        tx: ClientTx,
        message: &Message<&[u8]>,
        kind: Kind,
        out: &mut Vec<Datagram>,
    ) {
        let status = message.status().unwrap_or_default();
        let request = match kind {
            Kind::Provisional => return,
            Kind::Another2xx => return self.on_stray(now, message, out),
            Kind::Final { request } => request,
        };
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.modifying = false;
        }
        if status >= 300 {
            if let Some(request) = request.as_deref().and_then(parse) {
                self.ack_failure(tx, &request, message, out);
            }
        } else {
            if let (Some(leg), Some(contact)) = (self.legs.get_mut(&id), contact_uri(message))
                && let Some(dialog) = leg.dialog.as_mut()
            {
                dialog.refresh_target(contact);
            }
            self.acknowledge(now, id, message.cseq().number, out);
        }
        self.on_final(now, Use::InDialog(id, Method::Invite), status, Some(message));
    }

    /// The dialog's name for whoever shall replace it (RFC 3891 §3), as a header's value.
    pub(crate) fn replaces(&self, id: LegId) -> Option<String> {
        let dialog = self.legs.get(&id)?.dialog.as_ref()?.id();
        Some(format!("{};to-tag={};from-tag={}", dialog.call_id, dialog.remote_tag, dialog.local_tag))
    }

    /// The leg that a Replaces of its peer's peer names.
    pub(crate) fn named(&self, replaces: &[u8]) -> Option<LegId> {
        let named = DialogReference::parse(replaces).ok()?;
        self.find(named.call_id, named.local_tag, named.remote_tag)
    }

    /// Sends any request within the dialog.
    pub(crate) fn request(
        &mut self,
        now: Mono,
        id: LegId,
        method: Method,
        content: (&str, &[u8]),
        out: &mut Vec<Datagram>,
    ) -> bool {
        self.request_with(now, id, method, Extra { content, headers: &[] }, out)
    }

    /// The same with headers.
    pub(crate) fn request_with(
        &mut self,
        now: Mono,
        id: LegId,
        method: Method,
        extra: Extra<'_>,
        out: &mut Vec<Datagram>,
    ) -> bool {
        if !self.legs.get(&id).is_some_and(Leg::is_up) {
            return false;
        }
        let Extra { content: (content_type, body), headers } = extra;
        let request = InDialog { method, cseq: None, body, content_type, headers };
        self.send_in_dialog(now, id, &request, Use::InDialog(id, method), out)
    }

    pub(super) fn send_in_dialog(
        &mut self,
        now: Mono,
        id: LegId,
        request: &InDialog<'_>,
        user: Use,
        out: &mut Vec<Datagram>,
    ) -> bool {
        let Some((to, branch, bytes)) = self.write_in_dialog(now, id, request) else { return false };
        let request = Request { to, branch, method: request.method, bytes, user };
        self.ua.send(now, request, out).is_some()
    }

    fn write_in_dialog(
        &mut self,
        now: Mono,
        id: LegId,
        request: &InDialog<'_>,
    ) -> Option<(SocketAddr, Branch, Vec<u8>)> {
        let branch = self.ua.branch();
        let leg = self.legs.get_mut(&id)?;
        let dialog = leg.dialog.as_mut()?;
        let cseq = request.cseq.or_else(|| dialog.next_cseq().ok())?;
        let target = dialog.request_target();
        let to = self.outbound.or_else(|| address_of(&target.next_hop)).unwrap_or(leg.peer);
        if self.outbound.is_none() && address_of(&target.next_hop).is_none() {
            self.violations.note_text(now, "a target that is no address", &target.next_hop);
        }
        let mut bytes = Vec::with_capacity(1024);
        let mut builder = self.ua.begin(&mut bytes, request.method, target.uri.as_str(), branch);
        for route in &target.routes {
            builder = builder.header(HeaderName::Route, route.as_str());
        }
        let id = dialog.id();
        builder = builder
            .header(HeaderName::From, format_args!("{};tag={}", dialog.local_uri(), id.local_tag))
            .header(HeaderName::To, tagged(dialog.remote_uri(), &id.remote_tag))
            .header(HeaderName::CallId, id.call_id.as_str())
            .header(HeaderName::CSeq, format_args!("{cseq} {}", request.method));
        if request.method.refreshes_target() || request.method == Method::Refer {
            builder = builder.header(HeaderName::Contact, format_args!("<{}>", self.contact));
        }
        let refreshes = matches!(request.method, Method::Invite | Method::Update);
        if let Some(session) = leg.session.filter(|_| refreshes) {
            builder = builder
                .header(HeaderName::Supported, "timer")
                .header(HeaderName::SessionExpires, session.requested());
        }
        for (name, value) in request.headers {
            builder = builder.header(*name, value);
        }
        builder.finish_with_body(request.content_type, request.body);
        Some((to, branch, bytes))
    }
}

pub(super) fn response_of<'a>(message: &'a Message<&[u8]>, record_route: &'a [&'a str]) -> Response<'a> {
    Response {
        status: message.status().unwrap_or_default(),
        to_tag: message.to_tag().and_then(|tag| std::str::from_utf8(tag).ok()).unwrap_or_default(),
        contact: contact_uri(message),
        record_route,
    }
}

/// Values of Supported: the device's own, and what a story asks for beside.
fn supported(device: &Device, reliable: bool, timed: bool) -> impl Iterator<Item = &'static str> {
    let lacks = |option: &str| !device.supported.contains(option);
    let own = Some(device.supported).filter(|own| !own.is_empty());
    let rel = (reliable && lacks("100rel")).then_some("100rel");
    let timer = (timed && lacks("timer")).then_some("timer");
    own.into_iter().chain(rel).chain(timer)
}

/// An ACK or CANCEL: Request-URI, top Via, Route, From, Call-ID and CSeq number are the INVITE's (RFC 3261 §9.1,
/// §17.1.1.3).
fn same_branch(invite: &Message<&[u8]>, method: Method, to: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    let number = invite.cseq().number;
    RequestBuilder::new(&mut bytes, method, invite.request_uri()?)
        .copy(invite, HeaderName::Via)
        .header(HeaderName::MaxForwards, 70_u32)
        .copy(invite, HeaderName::Route)
        .copy(invite, HeaderName::From)
        .header(HeaderName::To, to)
        .copy(invite, HeaderName::CallId)
        .header(HeaderName::CSeq, format_args!("{number} {method}"))
        .finish();
    Some(bytes)
}

fn parse(bytes: &[u8]) -> Option<Message<&[u8]>> {
    Message::parse(bytes, &Limits::DATAGRAM).ok()
}

/// An address with its tag, when there is one (RFC 3261 §12.2.1.1).
fn tagged<'a>(address: &'a str, tag: &'a str) -> impl Put + use<'a> {
    let mark = if tag.is_empty() { "" } else { ";tag=" };
    (address, (mark, tag))
}

/// The URI inside angle brackets.
fn uri_inside(value: &str) -> &str {
    let inner = value.split('<').nth(1).unwrap_or(value);
    inner.split('>').next().unwrap_or(inner)
}
