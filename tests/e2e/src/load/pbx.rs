//! The PBX side of the load: registers everybody, rings and answers every call but those to who is busy.

use super::wire::{Wire, response, sdp};
use super::{BUSY, Death, Shared, fate};
use crate::message::Message;
use crate::wait;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A call rings this long, and a little longer each time, up to some limit.
const RINGS_MS: u64 = 10;
const RINGS_STEPS: u64 = 60;

pub(super) struct Pbx {
    wire: Wire,
    shared: Arc<Shared>,
    /// By Call-ID.
    legs: HashMap<String, Leg>,
    /// Call-IDs of legs whose end keeps silent.
    silent: BTreeSet<String>,
    dead: bool,
    rung: u64,
}

struct Leg {
    user: String,
    invite: Message,
    from: SocketAddr,
    tag: String,
    stage: Stage,
}

enum Stage {
    Ringing {
        until: Instant,
    },
    /// Answered; the 200 is repeated until its ACK.
    Up,
}

impl Pbx {
    pub(super) fn new(local: SocketAddr, shared: Arc<Shared>) -> Self {
        Self {
            wire: Wire::new(local),
            shared,
            legs: HashMap::new(),
            silent: BTreeSet::new(),
            dead: false,
            rung: 0,
        }
    }

    pub(super) fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.shared.die.load(Ordering::Acquire) && !self.dead {
                self.die();
            }
            if let Some((message, from)) = self.wire.receive() {
                self.hear(message, from);
            }
            self.answer_what_has_rung();
            self.wire.repeat();
        }
    }

    fn hear(&mut self, message: Message, from: SocketAddr) {
        let call_id = message.call_id().to_owned();
        if message.status().is_some() || self.silent.contains(&call_id) {
            return;
        }
        match message.method() {
            "REGISTER" => {
                let contact = message.header("Contact").unwrap_or_default();
                let expires = message.header("Expires").unwrap_or("600");
                let more = format!("Contact: {contact};expires={expires}\r\n");
                let plain =
                    if contact.contains("expires=") { format!("Contact: {contact}\r\n") } else { more };
                self.reply(&message, from, 200, "OK", &plain);
            }
            "INVITE" => self.invited(message, from),
            "ACK" => {
                self.wire.settle(&call_id);
            }
            "BYE" => {
                self.wire.settle(&call_id);
                let known = self.legs.remove(&call_id).is_some();
                self.shared.seen().pbx_up.remove(&call_id);
                let (status, reason) = if known { (200, "OK") } else { (481, "No such call") };
                self.reply(&message, from, status, reason, "");
            }
            "CANCEL" => self.cancelled(&message, from),
            _ if message.tag("To").is_some() && !self.legs.contains_key(&call_id) => {
                self.reply(&message, from, 481, "No such call", "");
            }
            _ => self.reply(&message, from, 200, "OK", ""),
        }
    }

    fn reply(&self, request: &Message, to: SocketAddr, status: u16, reason: &str, more: &str) {
        self.wire.send(&response(request, status, reason, "p", more, ""), to);
    }

    fn invited(&mut self, invite: Message, from: SocketAddr) {
        let call_id = invite.call_id().to_owned();
        if invite.tag("To").is_some() {
            let (status, reason) =
                if self.legs.contains_key(&call_id) { (200, "OK") } else { (481, "No such call") };
            let more = self.contact();
            self.reply(&invite, from, status, reason, &more);
            return;
        }
        if self.legs.contains_key(&call_id) {
            return;
        }
        let user = invite.uri().trim_start_matches("sip:").split('@').next().unwrap_or_default().to_owned();
        let tag = format!("p{}", self.rung);
        self.wire.send(&response(&invite, 180, "Ringing", &tag, &self.contact(), ""), from);
        self.rung += 1;
        let until = wait::now() + Duration::from_millis(RINGS_MS + self.rung % RINGS_STEPS);
        self.legs.insert(call_id, Leg { user, invite, from, tag, stage: Stage::Ringing { until } });
    }

    fn cancelled(&mut self, cancel: &Message, from: SocketAddr) {
        self.reply(cancel, from, 200, "OK", "");
        let call_id = cancel.call_id();
        if self.legs.get(call_id).is_some_and(|leg| matches!(leg.stage, Stage::Ringing { .. })) {
            self.refuse(call_id, 487, "Request Terminated");
        }
    }

    /// Refuses what rings.
    fn refuse(&mut self, call_id: &str, status: u16, reason: &str) {
        let Some(leg) = self.legs.remove(call_id) else { return };
        let text = response(&leg.invite, status, reason, &leg.tag, "", "");
        self.wire.send_until_settled(call_id.to_owned(), &text, leg.from);
    }

    fn answer_what_has_rung(&mut self) {
        let now = wait::now();
        let has_rung = |leg: &Leg| matches!(leg.stage, Stage::Ringing { until } if until <= now);
        let busy = self.legs.iter().filter(|(_, leg)| leg.user.starts_with(BUSY) && has_rung(leg));
        for call_id in busy.map(|(call_id, _)| call_id.clone()).collect::<Vec<_>>() {
            self.refuse(&call_id, 486, "Busy Here");
        }
        let (contact, body) = (self.contact(), sdp(self.wire.local()));
        for (call_id, leg) in self.legs.iter_mut().filter(|(_, leg)| has_rung(leg)) {
            leg.stage = Stage::Up;
            let more = format!("{contact}Content-Type: application/sdp\r\n");
            let text = response(&leg.invite, 200, "OK", &leg.tag, &more, &body);
            self.wire.send_until_settled(call_id.clone(), &text, leg.from);
            self.shared.seen().pbx_up.insert(call_id.clone(), leg.user.clone());
        }
    }

    fn contact(&self) -> String {
        format!("Contact: <sip:pbx@{}>\r\n", self.wire.local())
    }

    /// The mortal calls that are up lose this end.
    fn die(&mut self) {
        self.dead = true;
        let up = |leg: &Leg| matches!(leg.stage, Stage::Up) && fate(&leg.user).is_some();
        let dying: Vec<String> =
            self.legs.iter().filter(|(_, leg)| up(leg)).map(|(id, _)| id.clone()).collect();
        for call_id in dying {
            let leg = self.legs.remove(&call_id).expect("it was there just now");
            self.wire.settle(&call_id);
            self.shared.seen().pbx_up.remove(&call_id);
            if fate(&leg.user) == Some(Death::Silent) {
                self.silent.insert(call_id);
            }
        }
    }
}
