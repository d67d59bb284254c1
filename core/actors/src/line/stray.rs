//! Answers to an INVITE that no transaction wants any more.

use super::leg::{self, address_of, contact_uri, record_route};
use super::outgoing::{InDialog, response_of};
use super::{EndedBy, Leg, LegId, Line, State, Use};
use crate::datagram::Datagram;
use crate::seen::CallSeen;
use signalbox_base::{Mono, Text};
use signalbox_sip::dialog::Outgoing;
use signalbox_sip::{Message, Method};

impl Line {
    /// A response that no transaction wants: a repeated 2xx gets its ACK again, a 2xx of a leg that is gone or of
    /// another fork gets ACK and BYE (RFC 3261 §13.2.2.4).
    pub(super) fn on_stray(&mut self, now: Mono, message: &Message<&[u8]>, out: &mut Vec<Datagram>) {
        if message.method() != Method::Invite || !matches!(message.status(), Some(200..=299)) {
            return;
        }
        let (local, remote) = (message.from_tag().unwrap_or_default(), message.to_tag().unwrap_or_default());
        let known = self.find(message.call_id(), local, remote).filter(|id| self.legs[id].dialog.is_some());
        if let Some(id) = known {
            if let Some((to, ack)) = &self.legs[&id].ack {
                self.ua.transmit(*to, ack.clone(), out);
            }
            return;
        }
        // Of a life before a restart nothing is known, and nothing is said to it.
        let killed = |call: &CallSeen| call.ended.is_some_and(|(_, by)| by == EndedBy::Killed);
        let ours = |call: &CallSeen| call.call_id.as_bytes() == message.call_id() && !killed(call);
        if self.seen.values().any(ours) {
            self.reject_late_answer(now, message, out);
        }
    }

    fn reject_late_answer(&mut self, now: Mono, message: &Message<&[u8]>, out: &mut Vec<Datagram>) {
        let text = |bytes: &[u8]| Text::lossy(bytes);
        let (Ok(from), Ok(to)) = (message.from(), message.to()) else { return };
        let Some(contact) = contact_uri(message) else { return };
        let cseq = message.cseq().number;
        let outgoing = Outgoing {
            call_id: text(message.call_id()),
            local_tag: text(from.tag().unwrap_or_default()),
            local_uri: Text::from(leg::without_tag(&from)),
            remote_uri: Text::from(leg::without_tag(&to)),
            cseq,
            request_uri: Text::new(contact),
            secure: false,
        };
        let Some(dialog) = outgoing.dialog(&response_of(message, &record_route(message))) else { return };
        let id = LegId(self.next);
        self.next += 1;
        let peer = self.outbound.or_else(|| address_of(contact)).unwrap_or(self.ua.local);
        let (call_id, tag) = (outgoing.call_id, outgoing.local_tag);
        let mut leg = Leg::new(State::Up, call_id, tag, peer, 0);
        leg.dialog = Some(dialog);
        self.by_call_id.entry(leg.call_id.clone()).or_default().push(id);
        self.legs.insert(id, leg);
        self.acknowledge(now, id, cseq, out);
        if let Some(leg) = self.legs.get_mut(&id) {
            leg.state = State::Leaving;
        }
        let bye = InDialog { method: Method::Bye, cseq: None, body: b"", content_type: "", headers: &[] };
        if !self.send_in_dialog(now, id, &bye, Use::Bye(id), out) {
            self.drop_leg(now, id);
        }
    }
}
