//! INVITE dialogs of one actor, both sides of them (RFC 3261 §12–§15).
//!
//! A [`Line`] speaks SIP; its owner (phone or PBX) decides. The owner calls `invite`, `ring`, `accept`, `refuse`,
//! `modify`, `hang_up`; the line tells it by [`Told`] what the peers did, and answers by itself what leaves no choice:
//! 100, ACK, the 200 to BYE, CANCEL and to requests within a dialog, 481 for dialogs nobody has.

mod incoming;
mod leg;
mod outgoing;
mod reliable;
mod session;
mod stray;

use crate::agenda::Agenda;
use crate::check::Violations;
use crate::datagram::Datagram;
use crate::login::Login;
use crate::seen::{CallSeen, EndedBy, LegId, Side};
use crate::ua::{Answering, Heard, Kind, Lapsed, Ua};
pub(crate) use leg::Leg;
use leg::State;
pub(crate) use outgoing::{Extra, Invitation};
use session::Chore;
use signalbox_base::{Mono, Text};
use signalbox_sip::transaction::{End, ServerTx};
use signalbox_sip::{HeaderName, Message, Method};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// An owned message.
pub(crate) type Owned = Message<Box<[u8]>>;

/// What a transaction is for.
#[derive(Clone, Debug, Default)]
pub(crate) enum Use {
    /// Nothing that matters later.
    #[default]
    Nothing,
    /// The INVITE of a leg of ours, or the one we answer.
    Invite(LegId),
    /// A re-INVITE of ours.
    Modify(LegId),
    /// Our BYE.
    Bye(LegId),
    /// Another request of ours within a dialog.
    InDialog(LegId, Method),
    /// The owner's request outside dialogs, with its number.
    Owner(u64, Method),
}

/// What happened, for the owner.
#[derive(Debug)]
pub(crate) enum Told {
    /// An INVITE came; ring, accept or refuse it.
    Invited { leg: LegId, request: Owned, source: SocketAddr },
    /// A provisional response above 100.
    Progress { leg: LegId, status: u16 },
    /// Our INVITE was answered 2xx, and we sent the ACK.
    Answered { leg: LegId },
    /// Our INVITE failed.
    Failed { leg: LegId, status: u16 },
    /// The caller cancelled before we answered.
    Cancelled { leg: LegId },
    /// The ACK to our 2xx came.
    Confirmed { leg: LegId },
    /// The peer's re-INVITE was answered.
    Modified { leg: LegId, held: bool },
    /// A request of ours within the dialog was answered.
    InDialogAnswered { leg: LegId, method: Method, status: u16 },
    /// The peer's request within the dialog was answered 200.
    InDialog { leg: LegId, method: Method, body: Box<[u8]> },
    /// The peer asked for a transfer, and was answered 202: its Refer-To.
    Referred { leg: LegId, to: Text },
    /// An answered leg ended.
    Ended { leg: LegId, by: EndedBy },
    /// A request outside dialogs other than INVITE; the owner answers.
    Request { tx: ServerTx, request: Owned, source: SocketAddr },
    /// The owner's own request was answered; without a response it lapsed (408).
    Response { number: u64, method: Method, status: u16, response: Option<Owned> },
}

/// The dialogs of an actor.
pub(crate) struct Line {
    pub(crate) ua: Ua<Use>,
    pub(crate) violations: Violations,
    /// What is called when nothing else is said: the phone's outbound proxy. Without one, URIs say where to send.
    pub(crate) outbound: Option<SocketAddr>,
    /// Our Contact's URI.
    pub(crate) contact: Text,
    pub(crate) login: Option<Login>,
    /// Whether it offers and takes reliable provisional responses.
    pub(crate) reliable: bool,
    pub(crate) seen: BTreeMap<LegId, CallSeen>,
    /// Legs that ended are forgotten from `seen` beyond this many: a load generator's memory has an end.
    pub(crate) remember_max: usize,
    legs: BTreeMap<LegId, Leg>,
    by_call_id: BTreeMap<Text, Vec<LegId>>,
    next: u64,
    told: Vec<Told>,
    chores: Agenda<Chore>,
}

impl Line {
    pub(crate) fn new(
        ua: Ua<Use>,
        contact: &str,
        outbound: Option<SocketAddr>,
        login: Option<Login>,
    ) -> Self {
        let reliable = ua.device.supported.contains("100rel");
        Self {
            ua,
            violations: Violations::default(),
            outbound,
            contact: Text::new(contact),
            login,
            reliable,
            seen: BTreeMap::new(),
            remember_max: usize::MAX,
            legs: BTreeMap::new(),
            by_call_id: BTreeMap::new(),
            next: 1,
            told: Vec::new(),
            chores: Agenda::new(),
        }
    }

    /// What happened since it was last asked.
    pub(crate) fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    pub(crate) fn legs_alive(&self) -> usize {
        self.legs.len()
    }

    /// Legs whose re-INVITE has no final response.
    pub(crate) fn modifying(&self) -> usize {
        self.legs.values().filter(|leg| leg.modifying).count()
    }

    pub(crate) fn handle(&mut self, now: Mono, bytes: &[u8], from: SocketAddr, out: &mut Vec<Datagram>) {
        match self.ua.hear(now, bytes, from, out) {
            Heard::Absorbed => {}
            // A refusal echoes what somebody else has broken in our name.
            Heard::Malformed(_) if bytes.starts_with(b"SIP/2.0 4") || bytes.starts_with(b"SIP/2.0 505 ") => {}
            Heard::Malformed(why) => self.violations.note_text(now, "not a SIP message (RFC 3261 §7)", &why),
            Heard::Request { message, tx } => {
                self.violations.check(now, &message, bytes.len(), self.ua.local);
                self.on_request(now, message.to_owned(), tx, from, out);
            }
            Heard::Ack { message } => {
                self.violations.check(now, &message, bytes.len(), self.ua.local);
                self.on_ack(now, &message);
            }
            Heard::Response { message, user, tx, kind } => {
                self.violations.check(now, &message, bytes.len(), self.ua.local);
                match (user, kind) {
                    (Use::Invite(leg), kind) => self.on_invite_response(now, leg, tx, &message, kind, out),
                    (Use::Modify(leg), kind) => self.on_modify_response(now, leg, tx, &message, kind, out),
                    (_, Kind::Provisional) => {}
                    (user, _) => self.on_final(now, user, message.status().unwrap_or(408), Some(&message)),
                }
            }
            Heard::Stray { message } => self.on_stray(now, &message, out),
        }
    }

    pub(crate) fn next_due(&self) -> Option<Mono> {
        [self.ua.next_due(), self.chores.next_due()].into_iter().flatten().min()
    }

    pub(crate) fn due(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        self.do_chores(now, out);
        for lapsed in self.ua.due(now, out) {
            let (user, end) = match lapsed {
                Lapsed::Ended { user, end } => (user, end),
                Lapsed::Unanswered { user: Use::Invite(leg) } => {
                    self.hang_up(now, leg, out);
                    continue;
                }
                Lapsed::Unanswered { .. } => continue,
            };
            match (user, end) {
                (Use::Invite(leg), End::NoAck) => self.hang_up_as(now, leg, EndedBy::Timeout, out),
                (Use::Invite(leg), _) => self.fail(now, leg, 408),
                // RFC 3261 §14.1: no answer to a re-INVITE ends the dialog.
                (Use::Modify(leg), _) => {
                    self.told.push(Told::InDialogAnswered { leg, method: Method::Invite, status: 408 });
                    self.hang_up_as(now, leg, EndedBy::Timeout, out);
                }
                (user, _) => self.on_final(now, user, 408, None),
            }
        }
    }

    /// The process died: nothing is sent, everything is forgotten.
    pub(crate) fn forget(&mut self, now: Mono, seed: u64) {
        for leg in std::mem::take(&mut self.legs).into_keys() {
            let Some(seen) = self.seen.get_mut(&leg) else { continue };
            match seen.answered {
                Some(_) => seen.ended = Some((now, EndedBy::Killed)),
                None => seen.failed = Some((now, 0)),
            }
        }
        self.by_call_id.clear();
        self.told.clear();
        self.chores = Agenda::new();
        let (local, agent, device) = (self.ua.local, self.ua.agent.clone(), self.ua.device);
        let transport = self.ua.transport;
        self.ua = Ua::new(local, &agent, device, seed);
        self.ua.transport = transport;
    }

    /// The answer to a request of ours that is no INVITE.
    fn on_final(&mut self, now: Mono, user: Use, status: u16, response: Option<&Message<&[u8]>>) {
        match user {
            Use::Bye(leg) => self.drop_leg(now, leg),
            Use::InDialog(leg, method) => {
                if matches!(method, Method::Invite | Method::Update) {
                    self.on_refreshed(now, leg, status, response);
                }
                self.told.push(Told::InDialogAnswered { leg, method, status });
                // RFC 3261 §12.2.1.2: the peer has no such dialog.
                if matches!(status, 408 | 481) && self.legs.get(&leg).is_some_and(Leg::is_up) {
                    self.end(now, leg, EndedBy::Timeout);
                    self.drop_leg(now, leg);
                }
            }
            Use::Owner(number, method) => {
                let response = response.map(Message::to_owned);
                self.told.push(Told::Response { number, method, status, response });
            }
            Use::Nothing | Use::Invite(_) | Use::Modify(_) => {}
        }
    }

    /// Answers a request outside the legs, with headers.
    pub(crate) fn answer(
        &mut self,
        now: Mono,
        tx: ServerTx,
        request: &Owned,
        status: u16,
        headers: &[(HeaderName, String)],
        out: &mut Vec<Datagram>,
    ) {
        let tag = self.tag();
        let answering = Answering { tx, request, status, to_tag: tag.as_bytes() };
        let write = |response: signalbox_sip::ResponseBuilder<'_>| {
            headers.iter().fold(response, |r, (name, value)| r.header(*name, value)).finish();
        };
        self.ua.respond(now, answering, write, out);
    }

    pub(crate) fn tag(&mut self) -> Text {
        Text::from(self.ua.tag())
    }

    fn add(&mut self, now: Mono, leg: Leg, side: Side, target: &str) -> LegId {
        let id = LegId(self.next);
        self.next += 1;
        self.seen.insert(
            id,
            CallSeen {
                leg: id,
                call_id: leg.call_id.clone(),
                side,
                target: Text::new(target),
                invited: now,
                ringing: None,
                answered: None,
                confirmed: None,
                failed: None,
                ended: None,
            },
        );
        while self.seen.len() > self.remember_max.max(self.legs.len() + 1) {
            self.seen.pop_first();
        }
        self.by_call_id.entry(leg.call_id.clone()).or_default().push(id);
        self.legs.insert(id, leg);
        id
    }

    fn drop_leg(&mut self, now: Mono, id: LegId) {
        let Some(leg) = self.legs.remove(&id) else { return };
        // A 2xx that still waits for its ACK is repeated no more: the BYE has overtaken it.
        if let Some(tx) = leg.server_tx {
            self.ua.acked(tx, now);
        }
        if let Some(legs) = self.by_call_id.get_mut(&leg.call_id) {
            legs.retain(|other| *other != id);
            if legs.is_empty() {
                self.by_call_id.remove(&leg.call_id);
            }
        }
    }

    /// The leg that was never answered is over.
    fn fail(&mut self, now: Mono, id: LegId, status: u16) {
        if !self.legs.contains_key(&id) {
            return;
        }
        self.drop_leg(now, id);
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.failed = Some((now, status));
        }
        self.told.push(Told::Failed { leg: id, status });
    }

    /// The answered leg is over; a BYE of ours may still be on its way.
    fn end(&mut self, now: Mono, id: LegId, by: EndedBy) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.state == State::Leaving {
            return;
        }
        leg.state = State::Leaving;
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.ended = Some((now, by));
        }
        self.told.push(Told::Ended { leg: id, by });
    }

    /// The leg whose dialog a request or response belongs to.
    fn find(&self, call_id: &[u8], local_tag: &[u8], remote_tag: &[u8]) -> Option<LegId> {
        let call_id = std::str::from_utf8(call_id).ok()?;
        let legs = self.by_call_id.get(call_id)?;
        legs.iter().copied().find(|id| self.legs.get(id).is_some_and(|leg| leg.is(local_tag, remote_tag)))
    }
}
