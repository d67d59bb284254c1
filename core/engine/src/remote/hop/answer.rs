//! What comes back.

use super::{Hops, Pending, write};
use crate::classes::Sent;
use crate::net::User;
use crate::turn::{Outgoing, Turn};
use signalbox_sip::header::HeaderName;
use signalbox_sip::transaction::{ClientTx, OnResponse};
use signalbox_sip::{Limits, Message, Method};

impl Hops {
    /// A response to what was passed on; `what` is never `Absorbed` or `Stray`.
    pub(crate) fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        what: &OnResponse,
        response: &Message<&[u8]>,
    ) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        let (status, was_silent) = (response.status().unwrap_or(500), pending.silent);
        pending.silent = false;
        if let OnResponse::Final { tx, request: Some(sent), needs_ack: true } = what {
            acknowledge(turn, pending, *tx, sent, response);
        }
        if status == 100 {
            // Hop by hop (RFC 3261 §16.7 step 5); the sender has its own from here.
        } else {
            pending.relay(turn, status, response);
        }
        if status < 200 && was_silent && pending.cancelled {
            pending.send_cancel(turn);
        }
    }
}

impl Pending {
    /// The answer, for the sender. A 2xx goes back however often it comes: the sender acknowledges each (RFC 6026 §7).
    fn relay(&mut self, turn: &mut Turn<'_>, status: u16, response: &Message<&[u8]>) {
        let mut bytes = turn.net.scratch();
        write::response(&mut bytes, turn.settings, response, self);
        let told = turn.respond(self.server, self.method, status, None, |out| out.extend_from_slice(&bytes));
        if told.is_err() && self.method == Method::Invite && (200..300).contains(&status) {
            // The sender was told otherwise: it must know of this dialog, to end it (RFC 3261 §13.2.2.4).
            turn.send(self.from, self.method, Sent::Passed, None, |out| out.extend_from_slice(&bytes));
        }
        turn.net.give_back(bytes);
        self.answered |= status >= 200;
    }

    /// The end did not answer.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, status: u16) {
        own(turn, self, status);
        self.answered = true;
    }

    /// The sender wants it no more: CANCEL now, or once something was heard (RFC 3261 §9.1).
    pub(super) fn cancel(&mut self, turn: &mut Turn<'_>) {
        self.cancelled = true;
        self.send_cancel(turn);
    }

    fn send_cancel(&mut self, turn: &mut Turn<'_>) {
        let Some(client) = self.client.filter(|tx| turn.net.transactions().may_cancel(*tx)) else { return };
        let Some(sent) = turn.net.transactions().request(client).map(<[u8]>::to_vec) else { return };
        let Ok(sent) = Message::parse(&*sent, &Limits::DATAGRAM) else { return };
        let branch =
            sent.top_via().ok().and_then(|via| signalbox_sip::transaction::Branch::parse(via.branch()?));
        let Some(branch) = branch else { return };
        let to = sent.value(HeaderName::To).unwrap_or_default();
        let new = Outgoing {
            method: Method::Cancel,
            sent: Sent::Passed,
            flow: self.flow,
            branch,
            user: User::Nobody,
            record: None,
        };
        if turn.request(new, |out| write::hop_by_hop(out, Method::Cancel, &sent, to)).is_ok() {
            let now = turn.now.mono;
            turn.net.transactions_mut().cancelled(client, now);
        }
    }
}

/// Acknowledges a 300–699 within its transaction (RFC 3261 §17.1.1.3).
fn acknowledge(
    turn: &mut Turn<'_>,
    pending: &Pending,
    client: ClientTx,
    sent: &[u8],
    response: &Message<&[u8]>,
) {
    let Ok(sent) = Message::parse(sent, &Limits::DATAGRAM) else { return };
    let to = response.value(HeaderName::To).unwrap_or_default();
    let range = turn.send(pending.flow, Method::Ack, Sent::Passed, None, |out| {
        write::hop_by_hop(out, Method::Ack, &sent, to);
    });
    turn.net.transactions_mut().ack(client, turn.out.bytes(&range));
}

/// An answer of our own.
pub(super) fn own(turn: &mut Turn<'_>, pending: &Pending, status: u16) {
    let tag = format!("{:016x}", turn.entropy.next_u64());
    let request = &pending.request;
    // Too late means that the sender has given up: nobody waits for it (RFC 4320 §4.2).
    let _ = turn.respond(pending.server, pending.method, status, None, |out| {
        crate::call::own_response(out, pending.method, &pending.call_id, request, tag.as_bytes(), status);
    });
}
