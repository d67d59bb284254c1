//! Reliable provisional responses, both sides of them (RFC 3262).

use super::leg::{contact_uri, record_route};
use super::outgoing::response_of;
use super::session::Chore;
use super::{LegId, Line, Owned, State, Use};
use crate::datagram::Datagram;
use crate::ua::{Answering, Request};
use signalbox_base::Mono;
use signalbox_sip::header::RAck;
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::{HeaderName, Message, Method};
use std::time::Duration;

/// T1: a reliable response is said again after it, and each time after twice as long (RFC 3262 §3).
const RING_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// One that we sent.
#[derive(Debug)]
pub(super) struct Reliable {
    rseq: u32,
    sdp: Vec<u8>,
    acknowledged: bool,
}

impl Reliable {
    /// Whether the peer has our description by it.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }
}

impl Line {
    /// Sends 183 with our description, where the caller takes it reliably, until it is acknowledged.
    pub(crate) fn ring_reliably(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) -> bool {
        let (host, device) = (self.ua.local.ip(), self.ua.device);
        let rseq = u32::try_from(self.ua.random.below(1 << 30)).unwrap_or(1) + 1;
        let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.state == State::Ringing) else {
            return false;
        };
        let Some(request) = leg.request.as_ref() else { return false };
        let takes = |name| request.lists(name, b"100rel");
        if !takes(HeaderName::Supported) && !takes(HeaderName::Require) {
            return false;
        }
        let sdp = leg.media.answer(&device.description, host, request.body());
        leg.answer = Some(sdp.clone());
        leg.reliable = Some(Reliable { rseq, sdp, acknowledged: false });
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.ringing.get_or_insert(now);
        }
        self.chores.plan(now.plus(RING_AGAIN_AFTER), Chore::RingAgain(id, RING_AGAIN_AFTER));
        self.ring_again(now, id, out)
    }

    /// Says it again; `false` once it is acknowledged, or the ringing is over.
    pub(super) fn ring_again(&mut self, now: Mono, id: LegId, out: &mut Vec<Datagram>) -> bool {
        let Some(leg) = self.legs.get(&id).filter(|leg| leg.state == State::Ringing) else { return false };
        let (Some(tx), Some(request)) = (leg.server_tx, leg.request.as_ref()) else { return false };
        let Some(reliable) = leg.reliable.as_ref().filter(|reliable| !reliable.acknowledged) else {
            return false;
        };
        let answering = Answering { tx, request, status: 183, to_tag: leg.local_tag.as_bytes() };
        let contact = &self.contact;
        let write = |response: signalbox_sip::ResponseBuilder<'_>| {
            response
                .header(HeaderName::Contact, format_args!("<{contact}>"))
                .header(HeaderName::Require, "100rel")
                .header(HeaderName::RSeq, reliable.rseq)
                .finish_with_body("application/sdp", &reliable.sdp);
        };
        self.ua.respond(now, answering, write, out);
        true
    }

    /// PRACK of a call that rings.
    pub(super) fn on_prack(
        &mut self,
        now: Mono,
        id: LegId,
        request: &Owned,
        tx: ServerTx,
        out: &mut Vec<Datagram>,
    ) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let rack = request.value(HeaderName::RAck).and_then(|value| RAck::parse(value).ok());
        let invited = leg.invited;
        let own = leg.reliable.as_mut().filter(|reliable| {
            rack.is_some_and(|rack| (rack.rseq, rack.cseq.number) == (reliable.rseq, invited))
        });
        let status = match own {
            Some(reliable) => {
                reliable.acknowledged = true;
                200
            }
            None => {
                self.violations.note(now, "a PRACK of nothing that was sent (RFC 3262 §3)", request);
                481
            }
        };
        self.answer(now, tx, request, status, &[], out);
        if status == 200 {
            let body = request.body().into();
            self.told.push(super::Told::InDialog { leg: id, method: Method::Prack, body });
        }
    }

    /// Acknowledges a reliable response to an INVITE of ours, once.
    pub(super) fn acknowledge_progress(
        &mut self,
        now: Mono,
        id: LegId,
        message: &Message<&[u8]>,
        out: &mut Vec<Datagram>,
    ) {
        let (Some(rseq), Some(leg)) = (message.reliable_rseq(), self.legs.get_mut(&id)) else { return };
        if leg.progress.is_some_and(|(last, _)| rseq != last + 1) {
            return;
        }
        let sent = leg.progress.map_or(0, |(_, sent)| sent) + 1;
        leg.progress = Some((rseq, sent));
        let Some(dialog) = leg.outgoing().dialog(&response_of(message, &record_route(message))) else {
            return self.violations.note(
                now,
                "a reliable response that makes no dialog (RFC 3262 §4)",
                message,
            );
        };
        let (peer, invite, cseq) = (leg.peer, leg.cseq, leg.cseq + sent);
        let branch = self.ua.branch();
        let mut bytes = Vec::with_capacity(512);
        let target = contact_uri(message).unwrap_or_default();
        let mut builder = self.ua.begin(&mut bytes, Method::Prack, target, branch);
        for route in dialog.request_target().routes {
            builder = builder.header(HeaderName::Route, route.as_str());
        }
        let name = dialog.id();
        builder
            .header(HeaderName::From, format_args!("{};tag={}", dialog.local_uri(), name.local_tag))
            .header(HeaderName::To, format_args!("{};tag={}", dialog.remote_uri(), name.remote_tag))
            .header(HeaderName::CallId, name.call_id.as_str())
            .header(HeaderName::CSeq, format_args!("{cseq} PRACK"))
            .header(HeaderName::RAck, format_args!("{rseq} {invite} INVITE"))
            .finish();
        let request = Request { to: peer, branch, method: Method::Prack, bytes, user: Use::Nothing };
        self.ua.send(now, request, out);
    }
}
