//! The phones' side of the load: one socket, one registered caller, and new users that register again and again.

use super::registrations::{Plan, Registrations};
use super::wire::{Wire, response, sdp};
use super::{BUSY, DOMAIN, Death, Shared, fate};
use crate::message::Message;
use crate::phone::unique;
use crate::wait;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two calls, and between two registrations.
const CALL_EVERY: Duration = Duration::from_millis(25);
const REGISTER_EVERY: Duration = Duration::from_millis(50);
/// How long a call is up: from, and so many steps of as much.
const TALK_MS: u64 = 40;
const TALK_STEPS: u64 = 30;
/// Every tenth call is mortal, up to so many.
const MORTALS_MAX: u64 = 12;
/// Whoever calls.
const CALLER: &str = "caller";

pub(super) struct Phones {
    wire: Wire,
    edge: SocketAddr,
    shared: Arc<Shared>,
    /// By Call-ID.
    calls: HashMap<String, Call>,
    registrations: Registrations,
    silent: BTreeSet<String>,
    next_call: Instant,
    next_register: Instant,
    placed: u64,
    registered: u64,
    dead: bool,
}

struct Call {
    user: String,
    invite: String,
    stage: Stage,
}

enum Stage {
    Inviting,
    Talking { until: Option<Instant>, ack: String, bye: String },
    Ending,
}

impl Phones {
    pub(super) fn new(local: SocketAddr, edge: SocketAddr, shared: Arc<Shared>) -> Self {
        let now = wait::now();
        let mut phones = Self {
            wire: Wire::new(local),
            edge,
            registrations: Registrations::new(edge, Arc::clone(&shared)),
            shared,
            calls: HashMap::new(),
            silent: BTreeSet::new(),
            next_call: now,
            next_register: now,
            placed: 0,
            registered: 0,
            dead: false,
        };
        phones.registrations.begin(&mut phones.wire, CALLER.to_owned(), Plan::Stay);
        phones
    }

    pub(super) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.shared.die.load(Ordering::Acquire) && !self.dead {
                self.die();
            }
            if let Some((message, from)) = self.wire.receive() {
                self.hear(&message, from);
            }
            if self.is_ready() && !self.shared.finish.load(Ordering::Acquire) {
                self.go_on();
            }
            self.hang_up_what_has_lasted();
            for key in self.wire.repeat() {
                self.given_up(&key);
            }
        }
    }

    /// Whether there is somebody who may call.
    fn is_ready(&self) -> bool {
        self.placed > 0 || self.shared.seen().registered.contains_key(CALLER)
    }

    fn go_on(&mut self) {
        let now = wait::now();
        if self.next_register <= now {
            self.next_register = next(self.next_register, REGISTER_EVERY, now);
            self.registered += 1;
            self.registrations.begin(&mut self.wire, unique("user"), Plan::of(self.registered));
        }
        self.registrations.go_on(&mut self.wire);
        if self.next_call <= now {
            self.next_call = next(self.next_call, CALL_EVERY, now);
            self.call();
        }
    }

    fn call(&mut self) {
        self.placed += 1;
        let nth = self.placed / 10;
        let user = match self.placed % 10 {
            0 if nth <= MORTALS_MAX && nth.is_multiple_of(2) => format!("mortal{nth}"),
            0 if nth <= MORTALS_MAX => format!("silent{nth}"),
            5 => format!("{BUSY}{}", self.placed),
            _ => format!("bob{}", self.placed),
        };
        let (call_id, local) = (unique("call"), self.wire.local());
        let body = sdp(local);
        let invite = format!(
            "INVITE sip:{user}@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{call_id};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{CALLER}@{DOMAIN}>;tag=f{call_id}\r\nTo: <sip:{user}@{DOMAIN}>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:{CALLER}@{local}>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.shared.seen().tried.insert(call_id.clone());
        self.wire.send_until_settled(format!("INVITE {call_id}"), &invite, self.edge);
        self.calls.insert(call_id, Call { user, invite, stage: Stage::Inviting });
    }

    fn hear(&mut self, message: &Message, from: SocketAddr) {
        let call_id = message.call_id().to_owned();
        if self.silent.contains(&call_id) {
            return;
        }
        match (message.status(), message.method()) {
            (None, "BYE") => {
                let known = self.ended(&call_id);
                let (status, reason) = if known { (200, "OK") } else { (481, "No such call") };
                self.wire.send(&response(message, status, reason, "", "", ""), from);
            }
            (None, "ACK") => {}
            (None, _) => {
                let strange = message.tag("To").is_some() && !self.calls.contains_key(&call_id);
                let (status, reason) = if strange { (481, "No such call") } else { (200, "OK") };
                self.wire.send(&response(message, status, reason, "f", "", ""), from);
            }
            (Some(100..200), "INVITE") => {
                self.wire.settle(&format!("INVITE {call_id}"));
            }
            (Some(200..), "REGISTER") => self.registrations.answered(&mut self.wire, message),
            (Some(200..300), "INVITE") => self.answered(&call_id, message),
            (Some(status), "INVITE") => self.refused(&call_id, message, status),
            (Some(200..), "BYE") => {
                self.ended(&call_id);
            }
            _ => {}
        }
    }

    fn answered(&mut self, call_id: &str, answer: &Message) {
        self.wire.settle(&format!("INVITE {call_id}"));
        let Some(call) = self.calls.get_mut(call_id) else {
            return;
        };
        if let Stage::Talking { ack, .. } = &call.stage {
            self.wire.send(ack, self.edge);
            return;
        }
        if !matches!(call.stage, Stage::Inviting) {
            return;
        }
        let request =
            |method: &str, cseq: u32| in_dialog(&call.invite, answer, method, cseq, self.wire.local());
        let (ack, bye) = (request("ACK", 1), request("BYE", 2));
        self.wire.send(&ack, self.edge);
        let talk = Duration::from_millis(TALK_MS * (1 + self.placed % TALK_STEPS));
        // One that is answered after its like have died is an ordinary call.
        let lasts = fate(&call.user).is_some() && !self.dead;
        let until = (!lasts).then(|| wait::now() + talk);
        call.stage = Stage::Talking { until, ack, bye };
        let mut seen = self.shared.seen();
        seen.answered.insert(call_id.to_owned());
        seen.phones_up.insert(call_id.to_owned());
    }

    fn refused(&mut self, call_id: &str, answer: &Message, status: u16) {
        self.wire.settle(&format!("INVITE {call_id}"));
        let Some(call) = self.calls.get(call_id) else { return };
        let invite = Message::read(call.invite.as_bytes()).expect("it is ours");
        let ack = format!(
            "ACK {} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {call_id}\r\nCSeq: 1 ACK\r\n\
             Content-Length: 0\r\n\r\n",
            invite.uri(),
            invite.header("Via").unwrap_or_default(),
            invite.header("From").unwrap_or_default(),
            answer.header("To").unwrap_or_default(),
        );
        self.wire.send(&ack, self.edge);
        if matches!(call.stage, Stage::Inviting) {
            let mut seen = self.shared.seen();
            *seen.refused.entry(status).or_default() += 1;
            if status == 486 {
                seen.busy.insert(call_id.to_owned());
            }
            // The ACK may be lost: a repeated answer wants another one for a while, which an ended call still gives.
            self.calls.get_mut(call_id).expect("it was there just now").stage = Stage::Ending;
        }
    }

    fn hang_up_what_has_lasted(&mut self) {
        let (now, finish) = (wait::now(), self.shared.finish.load(Ordering::Acquire));
        for (call_id, call) in &mut self.calls {
            let Stage::Talking { until: Some(until), bye, .. } = &call.stage else { continue };
            if *until <= now || finish {
                self.wire.send_until_settled(format!("BYE {call_id}"), bye, self.edge);
                call.stage = Stage::Ending;
            }
        }
    }

    fn ended(&mut self, call_id: &str) -> bool {
        self.wire.settle(&format!("BYE {call_id}"));
        self.shared.seen().phones_up.remove(call_id);
        self.calls.remove(call_id).is_some()
    }

    fn given_up(&mut self, key: &str) {
        let Some((method, call_id)) = key.split_once(' ') else { return };
        match method {
            "REGISTER" => self.registrations.given_up(call_id),
            // Nobody answered: the phone forgets the call, as phones do.
            "INVITE" => {
                self.calls.remove(call_id);
            }
            _ => {}
        }
    }

    /// The mortal calls that are up lose this end.
    fn die(&mut self) {
        self.dead = true;
        let up = |call: &Call| matches!(call.stage, Stage::Talking { .. }) && fate(&call.user).is_some();
        let dying: Vec<String> =
            self.calls.iter().filter(|(_, call)| up(call)).map(|(id, _)| id.clone()).collect();
        for call_id in dying {
            let call = self.calls.remove(&call_id).expect("it was there just now");
            let mut seen = self.shared.seen();
            seen.phones_up.remove(&call_id);
            seen.died.insert(call_id.clone());
            if fate(&call.user) == Some(Death::Silent) {
                self.silent.insert(call_id);
            }
        }
    }
}

/// Keeps the pace, but does not catch up on more than a moment that was lost.
fn next(planned: Instant, every: Duration, now: Instant) -> Instant {
    (planned + every).max(now - 4 * every)
}

fn in_dialog(invite: &str, answer: &Message, method: &str, cseq: u32, local: SocketAddr) -> String {
    let invite = Message::read(invite.as_bytes()).expect("it is ours");
    let mut routes: Vec<&str> = answer.all("Record-Route").collect();
    routes.reverse();
    let routes: String = routes.iter().map(|r| format!("Route: {r}\r\n")).collect();
    format!(
        "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{};rport\r\nMax-Forwards: 70\r\n{routes}\
         From: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n",
        answer.contact().unwrap_or_default(),
        unique("b"),
        invite.header("From").unwrap_or_default(),
        answer.header("To").unwrap_or_default(),
        invite.call_id(),
    )
}
