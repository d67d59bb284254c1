//! The load's phones that register: some stay, some leave again, some register again, some move to another address.

use super::wire::Wire;
use super::{DOMAIN, Registered, Shared};
use crate::message::Message;
use crate::phone::{granted, unique};
use crate::wait;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between a phone's first 200 and its second REGISTER.
const GOES_ON_AFTER: Duration = Duration::from_millis(300);
/// What a phone asks for first, and how much less with each REGISTER: the expiry tells which of them is in force.
const EXPIRES_SECS: u32 = 3600;
const EXPIRES_STEP_SECS: u32 = 600;

/// What a phone does after it has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Stay,
    Leave,
    Refresh,
    Move,
}

impl Plan {
    /// Every fifth leaves again, every fifth registers again, every fifth moves.
    pub(super) fn of(nth: u64) -> Self {
        match nth % 5 {
            0 => Self::Leave,
            1 => Self::Refresh,
            2 => Self::Move,
            _ => Self::Stay,
        }
    }
}

struct Phone {
    user: String,
    plan: Plan,
    cseq: u32,
    contact: String,
    expires: u32,
    /// When its last REGISTER was sent first, microseconds since 1970.
    asked_at: i64,
    /// What the 200 before said.
    before: Option<Registered>,
}

/// All of them, by Call-ID.
pub(super) struct Registrations {
    edge: SocketAddr,
    shared: Arc<Shared>,
    phones: HashMap<String, Phone>,
    going_on: VecDeque<(Instant, String)>,
}

impl Registrations {
    pub(super) fn new(edge: SocketAddr, shared: Arc<Shared>) -> Self {
        Self { edge, shared, phones: HashMap::new(), going_on: VecDeque::new() }
    }

    /// A new phone registers.
    pub(super) fn begin(&mut self, wire: &mut Wire, user: String, plan: Plan) {
        let contact = format!("sip:{user}@{}", wire.local());
        let phone = Phone { user, plan, cseq: 0, contact, expires: 0, asked_at: 0, before: None };
        self.ask(wire, unique("reg"), phone, EXPIRES_SECS);
    }

    /// Those that have been registered for a moment do what they planned.
    pub(super) fn go_on(&mut self, wire: &mut Wire) {
        while self.going_on.front().is_some_and(|(at, _)| *at <= wait::now()) {
            let Some((_, call_id)) = self.going_on.pop_front() else { return };
            let Some(mut phone) = self.phones.remove(&call_id) else { continue };
            let mut expires = phone.expires - EXPIRES_STEP_SECS;
            match phone.plan {
                Plan::Leave => expires = 0,
                Plan::Move => phone.contact = format!("sip:{}@{};ob", phone.user, wire.local()),
                Plan::Refresh | Plan::Stay => {}
            }
            self.ask(wire, call_id, phone, expires);
        }
    }

    fn ask(&mut self, wire: &mut Wire, call_id: String, mut phone: Phone, expires: u32) {
        phone.cseq += 1;
        (phone.expires, phone.asked_at) = (expires, micros());
        let Phone { user, cseq, contact, .. } = &phone;
        let local = wire.local();
        let text = format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{call_id}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag={call_id}\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <{contact}>;+sip.instance=\"<urn:signalbox:{user}>\"\r\nExpires: {expires}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        // Until it is answered nobody knows what is in force.
        phone.before = self.shared.seen().registered.remove(user);
        wire.send_until_settled(key(&call_id), &text, self.edge);
        self.phones.insert(call_id, phone);
    }

    /// A final answer.
    pub(super) fn answered(&mut self, wire: &mut Wire, answer: &Message) {
        let call_id = answer.call_id();
        let Some(phone) = self.phones.get_mut(call_id).filter(|phone| phone.cseq == answer.cseq()) else {
            return;
        };
        if !wire.settle(&key(call_id)) {
            return;
        }
        if answer.status() >= Some(300) {
            self.phones.remove(call_id);
            return;
        }
        let mut seen = self.shared.seen();
        if phone.expires == 0 {
            seen.left.insert(phone.user.clone());
            return;
        }
        let Some(secs) = granted(answer, &phone.contact) else { return };
        let end = |from: i64| from + i64::from(secs) * 1_000_000;
        let mut expires_at = vec![end(phone.asked_at)..=end(micros())];
        match phone.plan {
            Plan::Refresh if phone.cseq > 1 => {
                seen.refreshed += 1;
                expires_at.extend(phone.before.take().into_iter().flat_map(|before| before.expires_at));
            }
            Plan::Move if phone.cseq > 1 => seen.moved += 1,
            _ => {}
        }
        seen.registered.insert(phone.user.clone(), Registered { contact: phone.contact.clone(), expires_at });
        if phone.cseq == 1 && phone.plan != Plan::Stay {
            self.going_on.push_back((wait::now() + GOES_ON_AFTER, call_id.to_owned()));
        }
    }

    /// Nobody answered: what is in force is not known.
    pub(super) fn given_up(&mut self, call_id: &str) {
        self.phones.remove(call_id);
    }
}

fn key(call_id: &str) -> String {
    format!("REGISTER {call_id}")
}

fn micros() -> i64 {
    i64::try_from(wait::wall_micros()).expect("the year is not 294,000")
}
