//! A small PBX in the manner of Asterisk: registrar with digest, dialplan, back-to-back calls, qualify.

mod bridge;
mod profile;
mod registrar;
mod transfer;

pub use profile::{PbxProfile, PbxState, PbxUser, Service, Verdict};
pub use registrar::PbxContact;

use crate::agenda::Agenda;
use crate::check::Violation;
use crate::datagram::Datagram;
use crate::devices::Device;
use crate::line::{Line, Owned, Told, Use};
use crate::seen::{CallSeen, LegId, Observed, Seen};
use crate::ua::{Request, Ua};
use bridge::Bridges;
use registrar::Registrar;
use signalbox_base::{Mono, Now, Text};
use signalbox_sip::sdp::Direction;
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::{HeaderName, Method};
use std::net::SocketAddr;

/// What a PBX means to do later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Qualify,
    Answer(LegId),
    HangUp(LegId),
}

/// A PBX.
pub struct Pbx {
    profile: PbxProfile,
    state: PbxState,
    line: Line,
    agenda: Agenda<Plan>,
    registrar: Registrar,
    bridges: Bridges,
    seen: Vec<Seen>,
    requests: Requests,
}

/// Qualify requests under way: their number and the contact asked.
#[derive(Debug, Default)]
struct Requests {
    next: u64,
    pending: Vec<(u64, Text)>,
}

impl Pbx {
    /// A PBX that runs. `now` begins its qualifying.
    #[must_use]
    pub fn new(mut profile: PbxProfile, now: Mono, seed: u64) -> Self {
        let device = profile.device.unwrap_or(&Device::PLAIN);
        profile.qualify = profile.qualify.or(device.qualify);
        let user = device.contact.user.0;
        let at = if user.is_empty() { "" } else { "@" };
        let contact = format!("sip:{user}{at}{}", profile.local);
        let mut ua = Ua::new(profile.local, &profile.agent, device, seed);
        let registrar = Registrar::new(&mut ua);
        let mut agenda = Agenda::new();
        if let Some(every) = profile.qualify {
            agenda.plan(now.plus(every), Plan::Qualify);
        }
        Self {
            line: Line::new(ua, &contact, None, None),
            state: PbxState::Running,
            agenda,
            registrar,
            bridges: Bridges::default(),
            seen: Vec::new(),
            requests: Requests::default(),
            profile,
        }
    }

    /// Takes a datagram that came to its address. A PBX that does not run takes nothing.
    pub fn handle(&mut self, now: Now, bytes: &[u8], from: SocketAddr, out: &mut Vec<Datagram>) {
        if self.state == PbxState::Running {
            self.line.handle(now.mono, bytes, from, out);
            self.follow_up(now, out);
        }
    }

    /// Does what is due.
    pub fn due(&mut self, now: Now, out: &mut Vec<Datagram>) {
        if self.state != PbxState::Running {
            return;
        }
        self.line.due(now.mono, out);
        while let Some(plan) = self.agenda.pop_due(now.mono) {
            match plan {
                Plan::Qualify => self.qualify(now.mono, out),
                Plan::Answer(leg) => self.line.accept(now.mono, leg, out),
                Plan::HangUp(leg) => self.line.hang_up(now.mono, leg, out),
            }
        }
        self.follow_up(now, out);
    }

    /// When [`Pbx::due`] wants to be called; it may be early. Nothing is due while it does not run.
    #[must_use]
    pub fn next_due(&self) -> Option<Mono> {
        if self.state != PbxState::Running {
            return None;
        }
        [self.line.next_due(), self.agenda.next_due()].into_iter().flatten().min()
    }

    /// Stops in the middle: calls are forgotten, nothing is sent, nobody answers until [`Pbx::start`]. Registrations
    /// stay, as in Asterisk's database.
    pub fn kill(&mut self, now: Mono, seed: u64) {
        self.state = PbxState::Killed;
        self.line.forget(now, seed);
        self.bridges = Bridges::default();
        self.requests.pending.clear();
        self.agenda = Agenda::new();
        self.saw(now, Observed::Killed);
    }

    /// Stops answering for a while; [`Pbx::start`] goes on where it was.
    pub fn stall(&mut self) {
        self.state = PbxState::Stalled;
    }

    /// Runs again.
    pub fn start(&mut self, now: Mono) {
        if let (PbxState::Killed, Some(every)) = (self.state, self.profile.qualify) {
            self.agenda.plan(now.plus(every), Plan::Qualify);
        }
        self.state = PbxState::Running;
    }

    /// From now on it offers reliable provisional responses in calls of its own (RFC 3262).
    pub fn set_reliable(&mut self) {
        self.line.reliable = true;
    }

    /// Whether it runs.
    #[must_use]
    pub fn state(&self) -> PbxState {
        self.state
    }

    /// Calls a URI through `edge`, as `from`: a call of the PBX's own, answered by whoever is there.
    pub fn originate(
        &mut self,
        now: Now,
        uri: &str,
        from: &str,
        edge: SocketAddr,
        out: &mut Vec<Datagram>,
    ) -> Option<LegId> {
        let leg = self.invite(now.mono, uri, from, Some(edge), out);
        self.follow_up(now, out);
        leg
    }

    /// Ends a call of its own.
    pub fn hang_up(&mut self, now: Now, leg: LegId, out: &mut Vec<Datagram>) {
        self.line.hang_up(now.mono, leg, out);
        self.follow_up(now, out);
    }

    /// Puts the peer of a call of its own on hold, or takes it off. `false` when that cannot be done now.
    pub fn hold(&mut self, now: Now, leg: LegId, on: bool, out: &mut Vec<Datagram>) -> bool {
        let direction = if on { Direction::SendOnly } else { Direction::SendRecv };
        self.line.modify(now.mono, leg, direction, out)
    }

    /// Calls whose re-INVITE of its own has no final response.
    #[must_use]
    pub fn modifying(&self) -> usize {
        self.line.modifying()
    }

    /// Sends any request within a call of its own.
    pub fn send_in_call(
        &mut self,
        now: Now,
        leg: LegId,
        method: Method,
        content: (&str, &[u8]),
        out: &mut Vec<Datagram>,
    ) -> bool {
        self.line.request(now.mono, leg, method, content, out)
    }

    /// What it was told to be.
    #[must_use]
    pub fn profile(&self) -> &PbxProfile {
        &self.profile
    }

    /// The contacts registered for an AoR `user@domain` and not expired.
    pub fn contacts(&self, aor: &str, now: Mono) -> Vec<PbxContact> {
        self.registrar.contacts(aor, now)
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

    /// The legs' stories, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &CallSeen> {
        self.line.seen.values()
    }

    /// One leg's story.
    #[must_use]
    pub fn seen_call(&self, leg: LegId) -> Option<&CallSeen> {
        self.line.seen.get(&leg)
    }

    /// Remembers the stories of so many legs at most, oldest forgotten first.
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

    fn saw(&mut self, at: Mono, what: Observed) {
        self.seen.push(Seen { at, what });
    }

    fn follow_up(&mut self, now: Now, out: &mut Vec<Datagram>) {
        loop {
            let told = self.line.take_told();
            if told.is_empty() {
                return;
            }
            told.into_iter().for_each(|told| self.on_told(now, told, out));
        }
    }

    fn on_told(&mut self, now: Now, told: Told, out: &mut Vec<Datagram>) {
        let at = now.mono;
        let saw = match told {
            Told::Invited { leg, request, source } => {
                return self.on_invited(now, leg, &request, source, out);
            }
            Told::Request { tx, request, source } => return self.on_request(now, tx, &request, source, out),
            Told::Response { number, status, .. } => return self.on_qualified(number, status),
            Told::Progress { leg, status } => {
                self.bridge_progress(at, leg, status, out);
                Observed::Progress { leg, status }
            }
            Told::Answered { leg } => {
                self.bridge_answered(at, leg, out);
                Observed::Answered { leg }
            }
            Told::Failed { leg, status } => {
                self.bridge_failed(at, leg, status, out);
                Observed::Failed { leg, status }
            }
            Told::Cancelled { leg } => {
                self.bridge_over(at, leg, out);
                Observed::Refused { leg, status: 487 }
            }
            Told::Ended { leg, by } => {
                self.bridge_over(at, leg, out);
                Observed::Ended { leg, by }
            }
            Told::Confirmed { leg } => {
                if self.line.ua.device.connected_line && self.bridges.is_caller(leg) {
                    self.line.connect_line(at, leg, out);
                }
                Observed::Answered { leg }
            }
            Told::Modified { leg, held } => Observed::Modified { leg, held },
            Told::InDialogAnswered { leg, method, status } => {
                Observed::InDialogAnswered { leg, method, status }
            }
            Told::Referred { leg, to } => {
                self.transfer(at, leg, &to, out);
                Observed::InDialog { leg, method: Method::Refer, body: to.as_bytes().into() }
            }
            Told::InDialog { leg, method, body } => {
                self.bridge_relay(at, leg, method, &body, out);
                Observed::InDialog { leg, method, body }
            }
        };
        self.saw(at, saw);
    }

    fn on_request(
        &mut self,
        now: Now,
        tx: ServerTx,
        request: &Owned,
        source: SocketAddr,
        out: &mut Vec<Datagram>,
    ) {
        let method = request.method();
        if method == Method::Register {
            return self.on_register(now, tx, request, out);
        }
        let status = match method {
            _ if !self.trusts(source) && method != Method::Options => 403,
            Method::Options | Method::Message | Method::Notify | Method::Publish | Method::Info => 200,
            _ => 501,
        };
        let headers = [(HeaderName::Allow, self.line.ua.device.allow.to_owned())];
        self.line.answer(now.mono, tx, request, status, &headers, out);
        self.saw(now.mono, Observed::Request { method, status, body: request.body().into() });
    }

    fn trusts(&self, source: SocketAddr) -> bool {
        self.profile.trusts.contains(&source.ip())
    }

    /// OPTIONS to every contact (Asterisk's `qualify_frequency`).
    fn qualify(&mut self, now: Mono, out: &mut Vec<Datagram>) {
        if let Some(every) = self.profile.qualify {
            self.agenda.plan(now.plus(every), Plan::Qualify);
        }
        for contact in self.registrar.all(now) {
            self.requests.next += 1;
            let number = self.requests.next;
            self.requests.pending.push((number, contact.uri.clone()));
            let Some(to) = contact.next_hop() else { continue };
            let (branch, tag, domain) = (self.line.ua.branch(), self.line.tag(), &self.profile.domains[0]);
            let (call_id, cseq) = (self.line.ua.call_id(), self.line.ua.first_cseq());
            let mut bytes = Vec::with_capacity(512);
            let mut builder = self.line.ua.begin(&mut bytes, Method::Options, contact.uri.as_str(), branch);
            for path in &contact.path {
                builder = builder.header(HeaderName::Route, path.as_str());
            }
            builder
                .header(HeaderName::From, format_args!("<sip:qualify@{domain}>;tag={tag}"))
                .header(HeaderName::To, format_args!("<{}>", contact.uri))
                .header(HeaderName::CallId, call_id)
                .header(HeaderName::CSeq, format_args!("{cseq} OPTIONS"))
                .header(HeaderName::Contact, format_args!("<{}>", self.line.contact))
                .finish();
            let user = Use::Owner(number, Method::Options);
            let request = Request { to, branch, method: Method::Options, bytes, user };
            self.line.ua.send(now, request, out);
        }
    }

    fn on_qualified(&mut self, number: u64, status: u16) {
        let Some(at) = self.requests.pending.iter().position(|(n, _)| *n == number) else { return };
        let (_, contact) = self.requests.pending.swap_remove(at);
        self.registrar.qualified(&contact, status != 408);
    }
}
