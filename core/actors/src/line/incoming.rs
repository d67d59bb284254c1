//! What a line answers.

use super::leg::{contact_uri, record_route, without_tag};
use super::reliable::Reliable;
use super::session::{Interval, too_short};
use super::{EndedBy, Leg, LegId, Line, Owned, Side, State, Told, Use};
use crate::check::OUT_OF_ORDER;
use crate::datagram::Datagram;
use crate::devices::Device;
use crate::offer;
use crate::ua::Answering;
use signalbox_base::{Mono, Text};
use signalbox_sip::dialog::{Incoming, RemoteOrder};
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::{HeaderName, Message, Method, ResponseBuilder};
use std::net::SocketAddr;

impl Line {
    pub(super) fn on_request(
        &mut self,
        now: Mono,
        request: Owned,
        tx: ServerTx,
        source: SocketAddr,
        out: &mut Vec<Datagram>,
    ) {
        match (request.method(), request.to_tag()) {
            (Method::Cancel, _) => self.on_cancel(now, &request, tx, out),
            (Method::Invite, None) => self.on_invite(now, request, tx, source, out),
            (_, None) => self.told.push(Told::Request { tx, request, source }),
            (method, Some(local)) => {
                let found = self.find(request.call_id(), local, request.from_tag().unwrap_or_default());
                match found.filter(|id| self.legs[id].dialog.is_some()) {
                    // A subscription's dialog is the owner's.
                    None if method == Method::Notify => {
                        self.told.push(Told::Request { tx, request, source });
                    }
                    None => match found.filter(|_| method == Method::Prack) {
                        Some(leg) => self.on_prack(now, leg, &request, tx, out),
                        None => self.answer(now, tx, &request, 481, &[], out),
                    },
                    Some(leg) => self.on_in_dialog(now, leg, &request, tx, out),
                }
            }
        }
    }

    fn on_invite(
        &mut self,
        now: Mono,
        request: Owned,
        tx: ServerTx,
        source: SocketAddr,
        out: &mut Vec<Datagram>,
    ) {
        if let Some(least) = too_short(self.ua.device, &request) {
            let headers = [(HeaderName::MinSe, least.to_string())];
            return self.answer(now, tx, &request, 422, &headers, out);
        }
        let target = String::from_utf8_lossy(request.request_uri().unwrap_or_default()).into_owned();
        let (call_id, tag) = (Text::lossy(request.call_id()), self.tag());
        let mut leg = Leg::new(State::Ringing, call_id, tag, source, self.ua.random.bits());
        (leg.server_tx, leg.invited) = (Some(tx), request.cseq().number);
        leg.peer_updates = request.lists(HeaderName::Allow, b"UPDATE");
        leg.request = Some(request.clone());
        let id = self.add(now, leg, Side::Callee, &target);
        self.ua.assign(tx, Use::Invite(id));
        self.respond_to_invite(now, id, 100, out);
        self.told.push(Told::Invited { leg: id, request, source });
    }

    /// Sends 180 or another provisional response; 183 with a description where the device has early media.
    pub(crate) fn ring(&mut self, now: Mono, id: LegId, status: u16, out: &mut Vec<Datagram>) {
        if self.legs.get(&id).is_some_and(|leg| leg.state == State::Ringing) {
            if let Some(seen) = self.seen.get_mut(&id) {
                seen.ringing.get_or_insert(now);
            }
            let status = if self.ua.device.early_media { 183 } else { status };
            self.respond_to_invite(now, id, status, out);
        }
    }

    /// Answers the INVITE with 200 and our description.
    pub(crate) fn accept(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) {
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.state == State::Ringing) else { return };
        let Some(request) = leg.request.as_ref() else { return };
        leg.dialog = dialog_of(request, &leg.local_tag);
        leg.state = State::Up;
        if leg.dialog.is_none() {
            self.violations.note(now, "an INVITE that makes no dialog (RFC 3261 §12.1.1)", request);
        }
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.answered = Some(now);
        }
        self.respond_to_invite(now, id, 200, out);
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.request = None;
        }
    }

    /// Answers the INVITE with a failure.
    pub(crate) fn refuse(&mut self, now: Mono, id: LegId, status: u16, out: &mut Vec<Datagram>) {
        self.refuse_with(now, id, status, &[], out);
    }

    /// The same, with headers.
    pub(crate) fn refuse_with(
        &mut self,
        now: Mono,
        id: LegId,
        status: u16,
        headers: &[(HeaderName, String)],
        out: &mut Vec<Datagram>,
    ) {
        let Some(leg) = self.legs.get(&id).filter(|leg| leg.state == State::Ringing) else { return };
        let (Some(tx), Some(request)) = (leg.server_tx, leg.request.as_ref()) else { return };
        let answering = Answering { tx, request, status, to_tag: leg.local_tag.as_bytes() };
        let write = |response: ResponseBuilder<'_>| {
            headers.iter().fold(response, |r, (name, value)| r.header(*name, value)).finish();
        };
        self.ua.respond(now, answering, write, out);
        self.drop_leg(now, id);
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.failed = Some((now, status));
        }
    }

    fn respond_to_invite(&mut self, now: Mono, id: LegId, status: u16, out: &mut Vec<Datagram>) {
        let (host, device) = (self.ua.local.ip(), self.ua.device);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let (Some(tx), Some(request)) = (leg.server_tx, leg.request.take()) else { return };
        // Who has the answer need not be told again (RFC 3262 §5).
        let told = leg.reliable.as_ref().is_some_and(Reliable::is_acknowledged);
        let describes = if status == 200 { !told } else { status == 183 && device.early_media };
        if describes && leg.answer.is_none() {
            leg.answer = Some(leg.media.answer(&device.description, host, request.body()));
        }
        let sdp = leg.answer.as_deref().filter(|_| describes).unwrap_or_default();
        let early = device.session.as_ref().is_some_and(|timer| timer.in_provisional) && status > 100;
        let session = Interval::of_request(device, &request, None).filter(|_| status == 200 || early);
        let answering = Answering { tx, request: &request, status, to_tag: leg.local_tag.as_bytes() };
        let contact = &self.contact;
        let write = |response: ResponseBuilder<'_>| match status {
            100 => response.finish(),
            _ => {
                let response = response.header(HeaderName::Contact, format_args!("<{contact}>"));
                timed(able(response, device), session, status).finish_with_body("application/sdp", sdp);
            }
        };
        self.ua.respond(now, answering, write, out);
        leg.request = Some(request);
        if status == 200 {
            self.agree(now, id, session);
        }
    }

    pub(super) fn on_ack(&mut self, now: Mono, ack: &Message<&[u8]>) {
        let local = ack.to_tag().unwrap_or_default();
        let Some(id) = self.find(ack.call_id(), local, ack.from_tag().unwrap_or_default()) else { return };
        let Some(leg) = self.legs.get_mut(&id) else { return };
        // It bears the CSeq number of its INVITE (RFC 3261 §13.2.2.4); another's ACK may come late.
        let Some(tx) = leg.server_tx.filter(|_| leg.invited == ack.cseq().number) else { return };
        self.ua.acked(tx, now);
        let Some(seen) = self.seen.get_mut(&id).filter(|seen| seen.confirmed.is_none()) else { return };
        seen.confirmed = Some(now);
        self.told.push(Told::Confirmed { leg: id });
    }

    fn on_cancel(&mut self, now: Mono, request: &Owned, tx: ServerTx, out: &mut Vec<Datagram>) {
        let Some((_, user)) = self.ua.cancelled(request) else {
            return self.answer(now, tx, request, 481, &[], out);
        };
        self.answer(now, tx, request, 200, &[], out);
        let Use::Invite(id) = user else { return };
        if self.legs.get(&id).is_some_and(|leg| leg.state == State::Ringing) {
            self.refuse(now, id, 487, out);
            self.told.push(Told::Cancelled { leg: id });
        }
    }

    fn on_in_dialog(&mut self, now: Mono, id: LegId, request: &Owned, tx: ServerTx, out: &mut Vec<Datagram>) {
        let method = request.method();
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let order = leg.dialog.as_mut().map(|d| d.on_request(request.cseq().number, method.as_bytes()));
        if order == Some(RemoteOrder::Stale) {
            self.violations.note(now, OUT_OF_ORDER, request);
            return self.answer(now, tx, request, 500, &[], out);
        }
        match method {
            Method::Bye => {
                self.answer(now, tx, request, 200, &[], out);
                self.end(now, id, EndedBy::Peer);
                self.drop_leg(now, id);
            }
            Method::Invite if leg.modifying || leg.state != State::Up => {
                self.answer(now, tx, request, 491, &[], out);
            }
            Method::Invite => self.on_modify(now, id, request, tx, out),
            Method::Refer => {
                let to = request.value(HeaderName::ReferTo).map(Text::lossy).unwrap_or_default();
                let contact = [(HeaderName::Contact, format!("<{}>", self.contact))];
                self.answer(now, tx, request, 202, &contact, out);
                self.told.push(Told::Referred { leg: id, to });
            }
            Method::Update if !self.ua.device.updates() => self.answer(now, tx, request, 501, &[], out),
            Method::Update => {
                if let (Some(dialog), Some(contact)) = (leg.dialog.as_mut(), contact_uri(request)) {
                    dialog.refresh_target(contact);
                }
                let session = Interval::of_request(self.ua.device, request, leg.session);
                let timer = session.map(|session| (HeaderName::SessionExpires, session.answered()));
                let contact = (HeaderName::Contact, format!("<{}>", self.contact));
                let headers: Vec<_> = timer.into_iter().chain([contact]).collect();
                self.answer(now, tx, request, 200, &headers, out);
                self.agree(now, id, session);
                self.told.push(Told::InDialog { leg: id, method, body: request.body().into() });
            }
            _ => {
                self.answer(now, tx, request, 200, &[], out);
                let body = request.body().into();
                self.told.push(Told::InDialog { leg: id, method, body });
            }
        }
    }

    /// A re-INVITE: answered with what the offer leaves.
    fn on_modify(&mut self, now: Mono, id: LegId, request: &Owned, tx: ServerTx, out: &mut Vec<Datagram>) {
        let (host, device) = (self.ua.local.ip(), self.ua.device);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if let (Some(dialog), Some(contact)) = (leg.dialog.as_mut(), contact_uri(request)) {
            dialog.refresh_target(contact);
        }
        let sdp = leg.media.answer(&device.description, host, request.body());
        (leg.server_tx, leg.invited) = (Some(tx), request.cseq().number);
        let session = Interval::of_request(device, request, leg.session);
        let answering = Answering { tx, request, status: 200, to_tag: leg.local_tag.as_bytes() };
        let contact = &self.contact;
        let write = |response: ResponseBuilder<'_>| {
            let response = response.header(HeaderName::Contact, format_args!("<{contact}>"));
            timed(able(response, device), session, 200).finish_with_body("application/sdp", &sdp);
        };
        self.ua.respond(now, answering, write, out);
        self.agree(now, id, session);
        // A lost ACK to it ends the leg as that of the first INVITE does (RFC 3261 §14.2).
        self.ua.assign(tx, Use::Invite(id));
        self.told.push(Told::Modified { leg: id, held: offer::holds(request.body()) });
    }
}

/// A response that says what the device can.
fn able<'o>(response: ResponseBuilder<'o>, device: &Device) -> ResponseBuilder<'o> {
    let response = response.header(HeaderName::Allow, device.allow);
    if device.supported.is_empty() {
        return response;
    }
    response.header(HeaderName::Supported, device.supported)
}

/// A response that agrees to a session timer, where there is one.
fn timed(response: ResponseBuilder<'_>, session: Option<Interval>, status: u16) -> ResponseBuilder<'_> {
    let Some(session) = session else { return response };
    let response = response.header(HeaderName::SessionExpires, session.answered());
    if status < 200 { response } else { response.header(HeaderName::Require, "timer") }
}

fn dialog_of(request: &Owned, local_tag: &str) -> Option<signalbox_sip::dialog::Dialog> {
    let (from, to) = (request.from().ok()?, request.to().ok()?);
    let (local_uri, remote_uri) = (without_tag(&to), without_tag(&from));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (call_id, from_tag) = (text(request.call_id()), text(from.tag().unwrap_or_default()));
    let incoming = Incoming {
        call_id: &call_id,
        local_tag,
        from_tag: &from_tag,
        local_uri: &local_uri,
        remote_uri: &remote_uri,
        cseq: request.cseq().number,
        contact: contact_uri(request)?,
        record_route: &record_route(request),
        secure: false,
    };
    incoming.dialog(200)
}
