//! Peers that behave as RFC 3261 says, with all their repetitions, on a network that loses, doubles and delays.

use crate::support::{Seeded, Sent, addr};
use signalbox_base::Flow;
use signalbox_engine::Entropy;
use signalbox_sip::header::HeaderName;
use signalbox_sip::{Limits, Message, Method};

/// Milliseconds of the story.
pub(crate) type Ms = u64;

const T1: Ms = 500;
const T2: Ms = 4_000;
const GIVE_UP: Ms = 64 * T1;

/// What is sent again until something is heard.
#[derive(Clone, Debug)]
struct Repeat {
    bytes: String,
    next: Ms,
    interval: Ms,
    until: Ms,
}

impl Repeat {
    fn new(bytes: String, now: Ms) -> Self {
        Self { bytes, next: now + T1, interval: T1, until: now + GIVE_UP }
    }
}

/// Which side of a call a peer is on, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// No final response yet.
    Early,
    /// A dialog.
    Up,
    /// Over, as far as this peer knows.
    Over,
}

/// One call as one peer sees it.
#[derive(Clone, Debug)]
pub(crate) struct PeerCall {
    pub(crate) call_id: String,
    pub(crate) life: Life,
    pub(crate) was_up: bool,
    caller: bool,
    invite: String,
    local: String,
    remote: String,
    target: String,
    cseq: u32,
    counter: u32,
    heard: bool,
    acked: bool,
    repeat: Option<Repeat>,
    /// Answers (callee), or gives up (caller) at this time.
    turn_at: Option<Ms>,
    hang_up_at: Option<Ms>,
    bye: Option<Repeat>,
}

/// A phone or a PBX.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) flow: Flow,
    pub(crate) calls: Vec<PeerCall>,
    pub(crate) answers: bool,
    pub(crate) hangs_up_callee: bool,
    out: Vec<String>,
}

fn value(message: &Message<&[u8]>, name: HeaderName) -> String {
    String::from_utf8_lossy(message.value(name).unwrap_or_default()).into_owned()
}

fn contact(message: &Message<&[u8]>) -> Option<String> {
    let contact = value(message, HeaderName::Contact);
    Some(contact.split_once('<')?.1.split_once('>')?.0.to_owned())
}

fn branch(message: &Message<&[u8]>) -> String {
    let via = message.top_via().expect("the edge's Via");
    String::from_utf8_lossy(via.branch().unwrap_or_default()).into_owned()
}

/// A response to a request as it came.
fn answer(request: &Message<&[u8]>, status: u16, tag: &str, contact: Option<&str>) -> String {
    let mut text = format!("SIP/2.0 {status} Said\r\n");
    for header in request.all(HeaderName::Via) {
        text.push_str(&format!("Via: {}\r\n", String::from_utf8_lossy(header.value)));
    }
    let to = value(request, HeaderName::To);
    let to = if request.to_tag().is_some() || tag.is_empty() { to } else { format!("{to};tag={tag}") };
    text.push_str(&format!("From: {}\r\nTo: {to}\r\n", value(request, HeaderName::From)));
    text.push_str(&format!(
        "Call-ID: {}\r\nCSeq: {}\r\n",
        value(request, HeaderName::CallId),
        value(request, HeaderName::CSeq)
    ));
    if let Some(contact) = contact {
        text.push_str(&format!("Contact: <{contact}>\r\n"));
    }
    text + "Content-Length: 0\r\n\r\n"
}

impl Peer {
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow, calls: Vec::new(), answers: true, hangs_up_callee: false, out: Vec::new() }
    }

    /// Calls; gives up at `cancel_at` when nobody has answered by then, hangs up at `hang_up_at`.
    pub(crate) fn call(
        &mut self,
        now: Ms,
        from: &str,
        uri: &str,
        id: &str,
        cancel_at: Option<Ms>,
        hang_up_at: Option<Ms>,
    ) {
        let invite = crate::call_support::invite(&self.flow, from, uri, id, "");
        self.out.push(invite.clone());
        self.calls.push(PeerCall {
            call_id: id.to_owned(),
            life: Life::Early,
            was_up: false,
            caller: true,
            local: format!("\"Caller\" <{from}>;tag=f{id}"),
            remote: String::new(),
            target: String::new(),
            cseq: 1,
            counter: 0,
            heard: false,
            acked: false,
            repeat: Some(Repeat::new(invite.clone(), now)),
            invite,
            turn_at: cancel_at,
            hang_up_at,
            bye: None,
        });
    }

    /// Everything it wants to send now.
    pub(crate) fn tick(&mut self, now: Ms) -> Vec<String> {
        let mut out = std::mem::take(&mut self.out);
        for call in &mut self.calls {
            call.tick(now, &self.flow, self.answers, &mut out);
        }
        out
    }

    /// Hears a packet.
    pub(crate) fn hear(&mut self, now: Ms, bytes: &[u8], random: &mut Seeded) {
        let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { panic!("the edge sends SIP") };
        match message.status() {
            Some(status) => self.hear_response(now, status, &message),
            None => self.hear_request(now, &message, random),
        }
    }

    fn hear_response(&mut self, now: Ms, status: u16, message: &Message<&[u8]>) {
        let flow = self.flow;
        let call_id = String::from_utf8_lossy(message.call_id()).into_owned();
        let method = message.method();
        let tag = |call: &PeerCall| call.local.rsplit_once("tag=").map(|(_, tag)| tag.to_owned());
        let from = message.from_tag().map(|tag| String::from_utf8_lossy(tag).into_owned());
        let Some(call) = self.calls.iter_mut().find(|call| call.call_id == call_id && tag(call) == from)
        else {
            return;
        };
        match method {
            Method::Invite if status < 200 => {
                call.heard = true;
                call.repeat = None;
            }
            Method::Invite if status < 300 => {
                call.repeat = None;
                if call.life == Life::Early {
                    call.life = Life::Up;
                    call.was_up = true;
                    call.remote = value(message, HeaderName::To);
                    call.target = contact(message).expect("a 2xx to INVITE has a Contact");
                    // It had given up already: the answer is undone at once.
                    if call.turn_at.is_some_and(|at| at <= now) {
                        call.hang_up_at = Some(now);
                    }
                }
                let ack = call.write("ACK", 1, &flow);
                self.out.push(ack);
            }
            Method::Invite => {
                let via = call.invite.split("\r\n").nth(1).expect("Via").to_owned();
                let uri = call.invite.split(' ').nth(1).expect("a URI").to_owned();
                let to = value(message, HeaderName::To);
                self.out.push(format!(
                    "ACK {uri} SIP/2.0\r\n{via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
                     CSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
                    call.local
                ));
                call.repeat = None;
                if call.life == Life::Early {
                    call.life = Life::Over;
                }
            }
            Method::Bye => call.bye = None,
            _ => {}
        }
    }

    fn hear_request(&mut self, now: Ms, message: &Message<&[u8]>, random: &mut Seeded) {
        let call_id = String::from_utf8_lossy(message.call_id()).into_owned();
        let method = message.method();
        let from = value(message, HeaderName::From);
        let known = self.calls.iter_mut().find(|call| {
            call.call_id == call_id
                && match method {
                    Method::Invite | Method::Cancel => !call.caller && call.invite == branch(message),
                    _ => call.remote == from,
                }
        });
        match (method, known) {
            (Method::Invite, Some(call)) => {
                if let Some(repeat) = &call.repeat {
                    self.out.push(repeat.bytes.clone());
                }
            }
            (Method::Invite, None) => self.ring(now, message, random),
            (Method::Cancel, Some(call)) => {
                self.out.push(answer(message, 200, "cancel", None));
                if call.life == Life::Early {
                    call.life = Life::Over;
                    let final_487 = call.target.clone();
                    self.out.push(final_487.clone());
                    call.repeat = Some(Repeat::new(final_487, now));
                }
            }
            (Method::Ack, Some(call)) => {
                call.acked = true;
                call.repeat = None;
            }
            (Method::Ack, None) => {
                // Of a 300–699: it names no dialog.
                self.calls
                    .iter_mut()
                    .filter(|call| call.call_id == call_id)
                    .for_each(|call| call.repeat = None);
            }
            (Method::Bye, Some(call)) => {
                call.life = Life::Over;
                call.repeat = None;
                self.out.push(answer(message, 200, "", None));
            }
            (Method::Options, known) => {
                let status = match known {
                    Some(call) if call.life != Life::Up => 481,
                    None if message.to_tag().is_some() => 481,
                    _ => 200,
                };
                self.out.push(answer(message, status, "options", None));
            }
            _ => self.out.push(answer(message, 481, "none", None)),
        }
    }

    fn ring(&mut self, now: Ms, message: &Message<&[u8]>, random: &mut Seeded) {
        let tag = format!("u{:x}", random.next_u64() % 0xFFFF_FFFF);
        let own = format!("sip:ua@{}", self.flow.remote);
        let ringing = answer(message, 180, &tag, Some(&own));
        self.out.push(ringing.clone());
        let hang_up = self.hangs_up_callee.then(|| now + 3_000 + random.next_u64() % 40_000);
        self.calls.push(PeerCall {
            call_id: String::from_utf8_lossy(message.call_id()).into_owned(),
            life: Life::Early,
            was_up: false,
            caller: false,
            // Of a called peer: the branch that tells its INVITE from others.
            invite: branch(message),
            local: format!("{};tag={tag}", value(message, HeaderName::To)),
            remote: value(message, HeaderName::From),
            // While it rings: its refusal; afterwards the caller's Contact.
            target: answer(message, 487, &tag, None),
            cseq: 500,
            counter: 0,
            heard: true,
            acked: false,
            repeat: None,
            turn_at: Some(now + random.next_u64() % 6_000),
            hang_up_at: hang_up,
            bye: None,
        });
        let call = self.calls.last_mut().expect("just pushed");
        let ok = answer(message, 200, &tag, Some(&own));
        // Kept beside the call: what it will say, and whom it will speak to.
        call.repeat = Some(Repeat { bytes: ringing, next: Ms::MAX, interval: T1, until: Ms::MAX });
        call.bye = Some(Repeat { bytes: ok, next: Ms::MAX, interval: T1, until: Ms::MAX });
        call.counter = 0;
        call.heard = contact(message).is_some();
        call.remote = value(message, HeaderName::From);
        call.invite = branch(message);
        self.contacts(message);
    }

    fn contacts(&mut self, message: &Message<&[u8]>) {
        if let (Some(call), Some(contact)) = (self.calls.last_mut(), contact(message)) {
            call.local.push('\n');
            call.local.push_str(&contact);
        }
    }
}

impl PeerCall {
    /// Whether it called and heard an answer.
    pub(crate) fn heard_answer(&self) -> bool {
        self.caller && self.was_up
    }

    fn tick(&mut self, now: Ms, flow: &Flow, answers: bool, out: &mut Vec<String>) {
        if !self.caller && self.life == Life::Early && self.turn_at.is_some_and(|at| at <= now) {
            if answers {
                self.pick_up(now, out);
            } else if self.turn_at.is_some_and(|at| at + 100_000 <= now) {
                // Nobody comes to this phone; in the end it says so itself.
                self.life = Life::Over;
                let refusal = self.target.replacen("487", "480", 1);
                out.push(refusal.clone());
                self.repeat = Some(Repeat::new(refusal, now));
            }
        }
        if self.caller && self.life == Life::Early && self.heard && self.turn_at.is_some_and(|at| at <= now) {
            // CANCEL every second until there is a final response.
            if now.is_multiple_of(1_000) {
                out.push(self.invite.replacen("INVITE", "CANCEL", 1).replace("1 INVITE", "1 CANCEL"));
            }
            // Without a final response 64·T1 after CANCEL the transaction counts as cancelled (RFC 3261 §9.1).
            if self.turn_at.is_some_and(|at| at + GIVE_UP <= now) {
                self.life = Life::Over;
            }
        }
        if let Some(gone) = repeat(&mut self.repeat, now, out)
            && gone
        {
            match (self.caller, self.life) {
                (true, Life::Early) => self.life = Life::Over,
                (false, Life::Up) => self.hang_up(now, flow, out),
                _ => {}
            }
        }
        if self.life == Life::Up && self.hang_up_at.is_some_and(|at| at <= now) && (self.caller || self.acked)
        {
            self.hang_up(now, flow, out);
        }
        if self.life != Life::Early {
            repeat(&mut self.bye, now, out);
        }
    }

    fn pick_up(&mut self, now: Ms, out: &mut Vec<String>) {
        self.life = Life::Up;
        self.was_up = true;
        let ok = self.bye.take().expect("set when it rang").bytes;
        if let Some((local, target)) = self.local.clone().split_once('\n') {
            (self.local, self.target) = (local.to_owned(), target.to_owned());
        }
        out.push(ok.clone());
        self.repeat = Some(Repeat::new(ok, now));
    }

    fn hang_up(&mut self, now: Ms, flow: &Flow, out: &mut Vec<String>) {
        self.cseq += 1;
        self.life = Life::Over;
        let bye = self.write("BYE", self.cseq, flow);
        out.push(bye.clone());
        self.bye = Some(Repeat::new(bye, now));
    }

    fn write(&mut self, method: &str, cseq: u32, flow: &Flow) -> String {
        self.counter += 1;
        let Self { target, local, remote, call_id, counter, .. } = &*self;
        let via = flow.remote;
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{call_id}-{counter}-{};rport\r\n\
             Max-Forwards: 70\r\nFrom: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:ua@{via}>\r\nContent-Length: 0\r\n\r\n",
            via.port()
        )
    }
}

/// Sends again what is due; `Some(true)` when it has been given up.
fn repeat(slot: &mut Option<Repeat>, now: Ms, out: &mut Vec<String>) -> Option<bool> {
    let it = slot.as_mut()?;
    if it.until <= now {
        *slot = None;
        return Some(true);
    }
    if it.next <= now {
        out.push(it.bytes.clone());
        it.interval = (it.interval * 2).min(T2);
        it.next = now + it.interval;
    }
    Some(false)
}

/// A network between the peers and the edge.
pub(crate) struct Wire {
    pub(crate) random: Seeded,
    /// Per thousand.
    pub(crate) loss: u64,
    pub(crate) doubles: u64,
    pub(crate) delay_max: Ms,
    to_edge: Vec<(Ms, Flow, Vec<u8>)>,
    to_peer: Vec<(Ms, std::net::SocketAddr, Vec<u8>)>,
}

impl Wire {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Seeded(seed);
        let (loss, doubles) = (random.next_u64() % 200, random.next_u64() % 200);
        Self {
            loss,
            doubles,
            delay_max: 1 + random.next_u64() % 400,
            random,
            to_edge: vec![],
            to_peer: vec![],
        }
    }

    fn fates(&mut self, now: Ms) -> Vec<Ms> {
        let copies = 1 + u64::from(self.random.next_u64() % 1000 < self.doubles);
        let all: Vec<Ms> = (0..copies)
            .filter_map(|_| {
                let lost = self.random.next_u64() % 1000 < self.loss;
                let delay = self.random.next_u64() % self.delay_max;
                (!lost).then_some(now + delay)
            })
            .collect();
        all
    }

    pub(crate) fn post(&mut self, now: Ms, flow: Flow, bytes: &str) {
        for at in self.fates(now) {
            self.to_edge.push((at, flow, bytes.as_bytes().to_vec()));
        }
    }

    pub(crate) fn carry(&mut self, now: Ms, sent: &Sent) {
        for at in self.fates(now) {
            self.to_peer.push((at, sent.flow.remote, sent.bytes.clone()));
        }
    }

    pub(crate) fn due_at_edge(&mut self, now: Ms) -> Vec<(Flow, Vec<u8>)> {
        let (due, rest) = std::mem::take(&mut self.to_edge).into_iter().partition(|(at, ..)| *at <= now);
        self.to_edge = rest;
        let due: Vec<(Ms, Flow, Vec<u8>)> = due;
        due.into_iter().map(|(_, flow, bytes)| (flow, bytes)).collect()
    }

    pub(crate) fn due_at(&mut self, now: Ms, peer: &str) -> Vec<Vec<u8>> {
        let here = addr(peer);
        let (due, rest) =
            std::mem::take(&mut self.to_peer).into_iter().partition(|(at, to, _)| *at <= now && *to == here);
        self.to_peer = rest;
        let due: Vec<(Ms, std::net::SocketAddr, Vec<u8>)> = due;
        due.into_iter().map(|(.., bytes)| bytes).collect()
    }
}
