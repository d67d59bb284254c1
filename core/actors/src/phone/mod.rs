//! A phone: registers, calls, answers, holds, and checks what it gets.

mod profile;
mod registering;

pub use profile::{Answer, CallPlan, PhoneProfile};

use crate::agenda::Agenda;
use crate::check::Violation;
use crate::datagram::Datagram;
use crate::devices::{Device, KeepAlive};
use crate::line::{Extra, Invitation, Line, Owned, Told};
use crate::login::Login;
use crate::seen::{CallSeen, LegId, Observed, Seen};
use crate::ua::{Request, Ua};
use registering::Registering;
use signalbox_base::{Mono, Text};
use signalbox_sip::sdp::Direction;
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::uri::{SipUri, write_escaped_header};
use signalbox_sip::{HeaderName, Method};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What a phone means to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Refresh,
    Accept(LegId),
    HangUp(LegId),
    Hold(LegId),
    Resume(LegId),
    Tell(LegId),
    KeepAlive,
}

/// A phone.
pub struct Phone {
    profile: PhoneProfile,
    line: Line,
    agenda: Agenda<Plan>,
    registering: Registering,
    plans: BTreeMap<LegId, CallPlan>,
    seen: Vec<Seen>,
    next_request: u64,
    /// Parameters behind its Contact that name the device.
    instance: String,
}

impl Phone {
    /// A phone that does nothing until it is told or called.
    #[must_use]
    pub fn new(profile: PhoneProfile, seed: u64) -> Self {
        let device = profile.device.unwrap_or(&Device::PLAIN);
        let ((before, behind), (params, _)) = (device.contact.user, device.contact.uri_params);
        let params = if profile.transport.reliable() { ";transport=tcp" } else { params };
        let contact = format!("sip:{before}{}{behind}@{}{params}", profile.user, profile.local);
        let mut ua = Ua::new(profile.local, &profile.agent, device, seed);
        ua.transport = profile.transport;
        let instance = match &profile.instance {
            Some(instance) => format!(";+sip.instance=\"<{instance}>\""),
            None => ua.fill(device.contact.params),
        };
        let registering = Registering::new(&mut ua);
        let login = Login { user: profile.user.clone(), password: profile.password.clone() };
        let line = Line::new(ua, &contact, Some(profile.edge), Some(login));
        let (agenda, plans) = (Agenda::new(), BTreeMap::new());
        Self { profile, line, agenda, registering, plans, seen: Vec::new(), next_request: 1, instance }
    }

    /// Takes a datagram that came to its address.
    pub fn handle(&mut self, now: Mono, bytes: &[u8], from: SocketAddr, out: &mut Vec<Datagram>) {
        self.line.handle(now, bytes, from, out);
        self.follow_up(now, out);
    }

    /// Does what is due.
    pub fn due(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        self.line.due(now, out);
        while let Some(plan) = self.agenda.pop_due(now) {
            match plan {
                Plan::Refresh => self.register(now, out),
                Plan::Accept(leg) => self.accept(now, leg, out),
                Plan::HangUp(leg) => self.line.hang_up(now, leg, out),
                Plan::Hold(leg) => self.hold(now, leg, out),
                Plan::Resume(leg) => self.resume(now, leg, out),
                Plan::KeepAlive if self.registering.until().is_some() => {
                    self.send_keep_alive(now, out);
                    self.keep_alive(now);
                }
                Plan::KeepAlive => {}
                Plan::Tell(leg) => {
                    self.line.request(
                        now,
                        leg,
                        Method::Info,
                        ("application/dtmf-relay", b"Signal=5\r\n"),
                        out,
                    );
                }
            }
        }
        self.follow_up(now, out);
    }

    /// When [`Phone::due`] wants to be called; it may be early.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        [self.line.next_due(), self.agenda.next_due()].into_iter().flatten().min()
    }

    /// Calls by plan. `None` when too many calls are up.
    pub fn call(&mut self, now: Mono, plan: CallPlan, out: &mut Vec<Datagram>) -> Option<LegId> {
        let uri = self.uri_of(&plan.to);
        let invitation = Invitation {
            from: self.own_address(),
            to: Text::from(self.line.ua.device.form.to(&uri)),
            uri,
            routes: Vec::new(),
            via: None,
            headers: plan.headers.clone(),
            session_secs: plan.session_secs.unwrap_or(0),
        };
        let leg = self.line.invite(now, invitation, out)?;
        if let Some(after) = plan.give_up_after {
            self.agenda.plan(now.plus(after), Plan::HangUp(leg));
        }
        self.plans.insert(leg, plan);
        self.follow_up(now, out);
        Some(leg)
    }

    /// Ends a call, however far it is.
    pub fn hang_up(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        self.line.hang_up(now, leg, out);
        self.follow_up(now, out);
    }

    /// Puts the peer on hold.
    pub fn hold(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        self.line.modify(now, leg, Direction::SendOnly, out);
    }

    /// Takes the peer off hold.
    pub fn resume(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        self.line.modify(now, leg, Direction::SendRecv, out);
    }

    /// Calls whose re-INVITE of its own has no final response.
    #[must_use]
    pub fn modifying(&self) -> usize {
        self.line.modifying()
    }

    /// Sends any request within a call.
    pub fn send_in_call(
        &mut self,
        now: Mono,
        leg: LegId,
        method: Method,
        content: (&str, &[u8]),
        out: &mut Vec<Datagram>,
    ) -> bool {
        self.line.request(now, leg, method, content, out)
    }

    /// Asks the peer of a call to call somebody else in its place: a user of its domain, or a whole URI. With `replaces`, to
    /// take the place of this phone in that other call of its (RFC 5589).
    pub fn refer(
        &mut self,
        now: Mono,
        leg: LegId,
        to: &str,
        replaces: Option<LegId>,
        out: &mut Vec<Datagram>,
    ) -> bool {
        let uri = self.uri_of(to);
        let headers = replaces.and_then(|other| self.line.replaces(other)).map(|replaces| {
            let mut escaped = Vec::with_capacity(2 * replaces.len());
            write_escaped_header(replaces.as_bytes(), &mut escaped);
            format!("?Replaces={}", String::from_utf8_lossy(&escaped))
        });
        let refer_to = format!("<{uri}{}>", headers.unwrap_or_default());
        let headers = [(HeaderName::ReferTo, refer_to)];
        self.line.request_with(now, leg, Method::Refer, Extra { content: ("", b""), headers: &headers }, out)
    }

    /// Sends a request outside dialogs to a user of its domain, or to a whole URI.
    pub fn send(
        &mut self,
        now: Mono,
        method: Method,
        to: &str,
        content: (&str, &[u8]),
        out: &mut Vec<Datagram>,
    ) {
        let uri = self.uri_of(to);
        let number = self.next_request;
        self.next_request += 1;
        let (branch, tag) = (self.line.ua.branch(), self.line.tag());
        let from = self.own_address();
        let mut bytes = Vec::with_capacity(512);
        let request = self
            .line
            .ua
            .begin(&mut bytes, method, uri.as_str(), branch)
            .header(HeaderName::From, format_args!("{from};tag={tag}"))
            .header(HeaderName::To, format_args!("<{uri}>"))
            .header(HeaderName::CallId, format_args!("{branch}-{number}"))
            .header(HeaderName::CSeq, format_args!("1 {method}"))
            .header(HeaderName::Contact, format_args!("<{}>", self.line.contact));
        let request = match method {
            Method::Subscribe => {
                request.header(HeaderName::Event, "dialog").header(HeaderName::Expires, 600_u32)
            }
            _ => request,
        };
        request.finish_with_body(content.0, content.1);
        let user = crate::line::Use::Owner(number, method);
        let request = Request { to: self.profile.edge, branch, method, bytes, user };
        self.line.ua.send(now, request, out);
    }

    /// Plans the device's next keep-alive.
    fn keep_alive(&mut self, now: Mono) {
        if let Some((_, every)) = self.line.ua.device.keepalive {
            self.agenda.forget(|plan| *plan == Plan::KeepAlive);
            self.agenda.plan(now.plus(every), Plan::KeepAlive);
        }
    }

    fn send_keep_alive(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        match self.line.ua.device.keepalive {
            Some((KeepAlive::Bytes(bytes), _)) => {
                self.line.ua.transmit(self.profile.edge, bytes.to_vec(), out);
            }
            Some((KeepAlive::Options, _)) => {
                let registrar = format!("sip:{}", self.profile.domain);
                self.send(now, Method::Options, &registrar, ("", b""), out);
            }
            None => {}
        }
    }

    /// Decides how calls from now on are answered.
    pub fn set_answer(&mut self, answer: Answer) {
        self.profile.answer = answer;
    }

    /// From now on it offers and takes reliable provisional responses (RFC 3262).
    pub fn set_reliable(&mut self) {
        self.line.reliable = true;
    }

    /// Loses its power and starts anew: calls and registration are forgotten, nothing is sent.
    pub fn restart(&mut self, now: Mono, seed: u64) {
        self.line.forget(now, seed);
        self.registering = Registering::new(&mut self.line.ua);
        self.agenda = Agenda::new();
        self.plans.clear();
        self.saw(now, Observed::Killed);
    }

    /// What it was told to be.
    #[must_use]
    pub fn profile(&self) -> &PhoneProfile {
        &self.profile
    }

    /// `user@domain`.
    #[must_use]
    pub fn aor(&self) -> String {
        format!("{}@{}", self.profile.user, self.profile.domain)
    }

    /// Its Contact's URI.
    #[must_use]
    pub fn contact(&self) -> &str {
        &self.line.contact
    }

    /// Until when it believes to be registered.
    #[must_use]
    pub fn registered_until(&self) -> Option<Mono> {
        self.registering.until()
    }

    /// Whether the last thing it knows of its registration is that it was removed.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.registering.has_left()
    }

    /// Everything seen since the start, or since it was last taken.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Takes what was seen.
    pub fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// The calls' stories, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &CallSeen> {
        self.line.seen.values()
    }

    /// One call's story.
    #[must_use]
    pub fn seen_call(&self, leg: LegId) -> Option<&CallSeen> {
        self.line.seen.get(&leg)
    }

    /// Remembers the stories of so many calls at most, oldest forgotten first.
    pub fn remember_calls(&mut self, at_most: usize) {
        self.line.remember_max = at_most;
    }

    /// Legs alive, those whose BYE waits for its answer included.
    #[must_use]
    pub fn legs_alive(&self) -> usize {
        self.line.legs_alive()
    }

    /// What was wrong with what it received.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        self.line.violations.all()
    }

    fn accept(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        self.line.accept(now, leg, out);
    }

    fn saw(&mut self, at: Mono, what: Observed) {
        self.seen.push(Seen { at, what });
    }

    fn own_address(&self) -> Text {
        Text::from(format!("<sip:{}{}>", self.aor(), self.uri_params()))
    }

    /// What the device writes behind URIs of others.
    fn uri_params(&self) -> &'static str {
        if self.profile.transport.reliable() { "" } else { self.line.ua.device.contact.uri_params.1 }
    }

    fn uri_of(&self, to: &str) -> Text {
        if to.starts_with("sip:") {
            Text::new(to)
        } else {
            Text::from(format!("sip:{to}@{}{}", self.profile.domain, self.uri_params()))
        }
    }

    fn follow_up(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        loop {
            let told = self.line.take_told();
            if told.is_empty() {
                return;
            }
            told.into_iter().for_each(|told| self.on_told(now, told, out));
        }
    }

    fn on_told(&mut self, now: Mono, told: Told, out: &mut Vec<Datagram>) {
        let saw = match told {
            Told::Invited { leg, request, source } => {
                return self.on_invited(now, leg, &request, source, out);
            }
            Told::Request { tx, request, source } => return self.on_request(now, tx, &request, source, out),
            Told::Response { number: 0, status, response, .. } => {
                return self.on_registered(now, status, response.as_ref(), out);
            }
            Told::Answered { leg } => {
                self.begin_plan(now, leg);
                Observed::Answered { leg }
            }
            Told::Confirmed { leg } => {
                if let Answer::After { talk: Some(talk), .. } = self.profile.answer {
                    self.agenda.plan(now.plus(talk), Plan::HangUp(leg));
                }
                Observed::Answered { leg }
            }
            Told::Ended { leg, by } => {
                self.forget_plans(leg);
                Observed::Ended { leg, by }
            }
            Told::Failed { leg, status } => {
                self.forget_plans(leg);
                Observed::Failed { leg, status }
            }
            Told::Cancelled { leg } => {
                self.forget_plans(leg);
                Observed::Refused { leg, status: 487 }
            }
            Told::Progress { leg, status } => Observed::Progress { leg, status },
            Told::Modified { leg, held } => Observed::Modified { leg, held },
            Told::InDialogAnswered { leg, method, status } => {
                Observed::InDialogAnswered { leg, method, status }
            }
            Told::InDialog { leg, method, body } => Observed::InDialog { leg, method, body },
            Told::Referred { leg, to } => {
                Observed::InDialog { leg, method: Method::Refer, body: to.as_bytes().into() }
            }
            Told::Response { method, status, .. } => Observed::Answer { method, status },
        };
        self.saw(now, saw);
    }

    fn begin_plan(&mut self, now: Mono, leg: LegId) {
        let Some(plan) = self.plans.remove(&leg) else { return };
        // Giving up meant the ringing.
        self.agenda.forget(|what| *what == Plan::HangUp(leg));
        if let Some((after, length)) = plan.hold {
            self.agenda.plan(now.plus(after), Plan::Hold(leg));
            self.agenda.plan(now.plus(after + length), Plan::Resume(leg));
        }
        if let Some(after) = plan.info_after {
            self.agenda.plan(now.plus(after), Plan::Tell(leg));
        }
        if let Some(talk) = plan.talk {
            self.agenda.plan(now.plus(talk), Plan::HangUp(leg));
        }
    }

    fn forget_plans(&mut self, leg: LegId) {
        self.plans.remove(&leg);
        self.agenda.forget(|what| match *what {
            Plan::Refresh | Plan::KeepAlive => false,
            Plan::Accept(l) | Plan::HangUp(l) | Plan::Hold(l) | Plan::Resume(l) | Plan::Tell(l) => l == leg,
        });
    }

    fn on_invited(
        &mut self,
        now: Mono,
        leg: LegId,
        request: &Owned,
        source: SocketAddr,
        out: &mut Vec<Datagram>,
    ) {
        let uri = request.request_uri().unwrap_or_default();
        let from = request.from().map(|from| Text::lossy(from.uri)).unwrap_or_default();
        self.saw(now, Observed::Invited { leg, target: Text::lossy(uri), from, source });
        if !self.is_mine(uri) {
            self.line.violations.note(now, "an INVITE for somebody else's Contact", request);
        }
        let status = match self.profile.answer {
            Answer::After { ring, .. } => {
                self.ring(now, leg, out);
                return self.agenda.plan(now.plus(ring), Plan::Accept(leg));
            }
            Answer::Ring => return self.ring(now, leg, out),
            Answer::Status(status) => status,
        };
        self.line.refuse(now, leg, status, out);
        self.saw(now, Observed::Refused { leg, status });
    }

    fn ring(&mut self, now: Mono, leg: LegId, out: &mut Vec<Datagram>) {
        if self.line.reliable && self.line.ring_reliably(now, leg, out) {
            return;
        }
        self.line.ring(now, leg, 180, out);
    }

    /// Whether a Request-URI is our Contact: user, host and port.
    fn is_mine(&self, uri: &[u8]) -> bool {
        let place = |uri: &[u8]| {
            let uri = SipUri::parse(uri).ok()?;
            Some((uri.decoded_user()?.into_owned(), uri.address()?, uri.port.unwrap_or(5060)))
        };
        place(uri).is_some_and(|called| place(self.line.contact.as_bytes()) == Some(called))
    }

    fn on_request(
        &mut self,
        now: Mono,
        tx: ServerTx,
        request: &Owned,
        source: SocketAddr,
        out: &mut Vec<Datagram>,
    ) {
        let method = request.method();
        if source != self.profile.edge {
            self.line.violations.note(now, "a request from somebody else than the edge", request);
        }
        let status = match method {
            Method::Options | Method::Message | Method::Notify | Method::Info => 200,
            Method::Register => 405,
            _ => 501,
        };
        let headers = [(HeaderName::Allow, self.line.ua.device.allow.to_owned())];
        self.line.answer(now, tx, request, status, &headers, out);
        self.saw(now, Observed::Request { method, status, body: request.body().into() });
    }
}
