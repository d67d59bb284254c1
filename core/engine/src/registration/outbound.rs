//! The edge registers at a trunk or backend, as a phone would: at providers that send calls only to who has registered
//! (RFC 3261 §10.2).
//!
//! ```text
//!            REGISTER                    2xx
//!   Waiting ──────────► Asking ─────────────────► Registered ── near its end, or its connection is gone ──► Asking
//!      ▲                 │  ▲ 401, 407: once a nonce; 423: once more
//!      │  after a while  │  └──┐
//!      └─────────────────┴─────┘ anything else, or nothing: longer each time (RFC 5626 §4.5)
//! ```
//!
//! Nothing of it is durable: a process that starts registers anew, with another Call-ID.

use crate::backend::flow_to;
use crate::call::via;
use crate::classes::Sent;
use crate::facts::registration as facts;
use crate::net::{Timer, User};
use crate::settings::{Asking, OutboundSettings, Settings};
use crate::standalone::sip_uri;
use crate::tenancy::{Directory, PeerRef};
use crate::turn::{About, Outgoing, Turn};
use signalbox_base::{Flow, Text, Wall};
use signalbox_schemas::words::OutboundState;
use signalbox_sip::digest::{Answer, Challenge, Ha1};
use signalbox_sip::header::{NameAddr, delta_seconds};
use signalbox_sip::transaction::{ClientTx, End, TimerId};
use signalbox_sip::{Forward, HeaderName, Message, Method, RequestBuilder};
use std::sync::Arc;
use std::time::Duration;

/// The first wait behind a failure, and the longest (RFC 5626 §4.5).
const WAITS: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(1800)];
/// Whatever a registrar grants, it is asked no more often.
const REFRESH_MIN: Duration = Duration::from_secs(10);
/// A peer whose name has not been resolved yet is asked again after this.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);
/// Challenges answered in one attempt: the nonce may have been too old.
const ANSWERS_MAX: u32 = 3;
/// A registrar that wants longer registrations than this is not followed.
const EXPIRES_MAX_SECS: u32 = 86_400;
/// Registrations are spread over this when the edge starts, and when connections are gone.
const FIRST_WITHIN_MS: u64 = 2000;
/// Service routes kept of one registrar.
const ROUTES_MAX: usize = 4;

/// What the edge registers at others.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    each: Vec<Registration>,
    last_number: u32,
}

/// A registration as people see it, and what calls need of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its state.
    pub state: OutboundState,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// When it ends unless it is refreshed.
    pub until: Option<Wall>,
    /// The way that requests to the registrar take (RFC 3608).
    pub routes: Vec<Text>,
}

/// One registration.
#[derive(Debug)]
struct Registration {
    /// What its timers and transactions are known by.
    number: u32,
    owner: Text,
    peer: Text,
    settings: Arc<OutboundSettings>,
    call_id: String,
    cseq: u32,
    shown: Registered,
    /// Where it was sent last.
    flow: Option<Flow>,
    client: Option<ClientTx>,
    timer: Option<TimerId>,
    failures: u32,
    /// Seconds to ask for: more than is configured after a 423; 0 once it is to end.
    asked: u32,
    challenge: Option<Challenged>,
    /// Challenges met in this attempt.
    answers: u32,
    /// Other places of the name tried in this attempt.
    moves: usize,
}

/// The challenge that credentials are made for.
#[derive(Debug)]
struct Challenged {
    asking: Asking,
    value: Vec<u8>,
    count: u32,
}

impl Outbound {
    /// At the start, and after a reload: what is configured still goes on, what is new begins, the rest is withdrawn.
    pub(crate) fn configure(&mut self, turn: &mut Turn<'_>) {
        let mut before = std::mem::take(&mut self.each);
        for (owner, peer, settings) in configured(turn.settings) {
            let same = |r: &Registration| {
                r.asked > 0 && *r.owner == *owner && r.peer == *peer && r.settings == *settings
            };
            if let Some(at) = before.iter().position(same) {
                self.each.push(before.swap_remove(at));
                continue;
            }
            self.last_number += 1;
            let mut new = Registration {
                number: self.last_number,
                owner: Text::new(owner),
                peer: peer.clone(),
                settings: Arc::clone(settings),
                call_id: format!("{:016x}", turn.entropy.next_u64()),
                cseq: 0,
                shown: Registered::default(),
                flow: None,
                client: None,
                timer: None,
                failures: 0,
                asked: settings.expires_secs,
                challenge: None,
                answers: 0,
                moves: 0,
            };
            new.soon(turn);
            self.each.push(new);
        }
        for mut gone in before {
            gone.withdraw(turn);
            // Its answer may ask for credentials once more.
            self.each.extend(gone.client.is_some().then_some(gone));
        }
        self.show(turn);
    }

    /// The edge takes no new calls any more: nobody is to send it any.
    pub(crate) fn withdraw_all(&mut self, turn: &mut Turn<'_>) {
        self.each.iter_mut().for_each(|registration| registration.withdraw(turn));
        self.show(turn);
    }

    /// It is time to register, or to try again.
    pub(crate) fn on_timer(&mut self, turn: &mut Turn<'_>, number: u32) {
        if let Some(registration) = self.each.iter_mut().find(|r| r.number == number) {
            registration.timer = None;
            registration.send(turn);
            self.show(turn);
        }
    }

    /// The registrar answered.
    pub(crate) fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        number: u32,
        tx: ClientTx,
        response: &Message<&[u8]>,
    ) {
        let Some(registration) = self.waiting(number, tx) else { return };
        if response.status().is_some_and(|status| status >= 200) {
            registration.client = None;
            registration.answered(turn, response);
            self.show(turn);
        }
    }

    /// The transaction ended; without an answer, that is one.
    pub(crate) fn on_ended(&mut self, turn: &mut Turn<'_>, number: u32, tx: ClientTx, why: End) {
        let Some(registration) = self.waiting(number, tx) else { return };
        if matches!(why, End::Timeout | End::Transport) {
            registration.client = None;
            registration.failed(turn, None, None);
            self.show(turn);
        }
    }

    /// The registration that waits for the answer to this request.
    fn waiting(&mut self, number: u32, tx: ClientTx) -> Option<&mut Registration> {
        self.each.iter_mut().find(|r| r.number == number && r.client == Some(tx))
    }

    /// A connection of the edge's own is gone: the registrar reaches it no more until it registers over another
    /// (RFC 5626 §4.4).
    pub(crate) fn on_flow_closed(&mut self, turn: &mut Turn<'_>, flow: &Flow) {
        let over = |r: &&mut Registration| {
            r.flow == Some(*flow) && r.shown.state == OutboundState::Registered && r.client.is_none()
        };
        self.each.iter_mut().filter(over).for_each(|registration| registration.soon(turn));
    }

    /// Ends that are over, and what the rest of the engine knows of those that are not.
    fn show(&mut self, turn: &mut Turn<'_>) {
        // One that is withdrawn stands behind the one that took its place.
        for registration in self.each.iter().rev() {
            if let Some(peer) = registration.place(turn) {
                turn.backends.set_registered(peer, registration.shown.clone());
            }
        }
        self.each.retain(|r| r.asked > 0 || r.client.is_some());
    }
}

/// A request on a registration of ours, as it is meant: its Request-URI names whom To names, instead of our Contact. With the
/// peer whose registration it is.
pub(crate) fn arrived(turn: &Turn<'_>, flow: &Flow, request: &Message<&[u8]>) -> Option<(PeerRef, Vec<u8>)> {
    let uri = request.request_uri()?;
    let contact = sip_uri(uri)?;
    let peer = turn.directory.registered_as(contact.user?)?;
    let found = turn.directory.peer(turn.settings, peer)?.backend;
    let network = turn.settings.listener(flow.listener)?.network;
    if network != found.network || request.to_tag().is_some() {
        return None;
    }
    let to = request.to().ok().and_then(|to| sip_uri(to.uri)?.user);
    let account = found.register.as_ref()?.aor_user().as_bytes();
    // Asterisk's To is our Contact: that names nobody but the account.
    let user = to.filter(|user| !user.is_empty() && Some(*user) != contact.user).unwrap_or(account);
    let scheme = if contact.secure { &b"sips:"[..] } else { b"sip:" };
    let mut forward = Forward::new(request);
    forward.set_request_uri(&*[scheme, user, b"@", contact.host_port].concat());
    let mut bytes = Vec::new();
    forward.write_into(&mut bytes);
    Some((peer, bytes))
}

fn configured(settings: &Settings) -> impl Iterator<Item = (&str, &Text, &Arc<OutboundSettings>)> {
    Directory::peers(settings)
        .filter_map(|(_, peer)| Some((peer.owner(), &peer.backend.name, peer.backend.register.as_ref()?)))
}

impl Registration {
    fn place(&self, turn: &Turn<'_>) -> Option<PeerRef> {
        turn.directory.find(turn.settings, &self.owner, &self.peer)
    }

    fn soon(&mut self, turn: &mut Turn<'_>) {
        let within = Duration::from_millis(turn.entropy.next_u64() % FIRST_WITHIN_MS);
        self.wait(turn, within);
    }

    /// Asks for its end, where there is one to be ended.
    fn withdraw(&mut self, turn: &mut Turn<'_>) {
        self.timer.take().into_iter().for_each(|timer| turn.cancel_timer(timer));
        self.asked = 0;
        if self.shown.state == OutboundState::Registered {
            self.send(turn);
        }
    }

    fn send(&mut self, turn: &mut Turn<'_>) {
        let Some(flow) = self.place(turn).and_then(|peer| flow_to(turn, peer)).or(self.flow) else {
            return self.wait(turn, RESOLVED_WITHIN);
        };
        self.flow = Some(flow);
        self.cseq += 1;
        let (method, branch, host) =
            (Method::Register, turn.branch(Method::Register), turn.advertised(&flow));
        let tag = turn.entropy.next_u64();
        let uri = format!("sip:{}", self.settings.domain());
        let credentials = self.credentials(turn, &uri);
        let contact = self.contact(turn, &flow, &host);
        let new = Outgoing {
            method,
            sent: Sent::Request,
            flow,
            branch,
            user: User::Outbound(self.number),
            record: None,
        };
        let (aor, via, version) =
            (&*self.settings.aor, via(turn.settings, &flow, branch, None), turn.settings.version.clone());
        let (call_id, cseq, asked) = (&*self.call_id, self.cseq, self.asked);
        let sent = turn.request(new, |out| {
            let mut request = RequestBuilder::new(out, method, &*uri)
                .header(HeaderName::Via, &*via)
                .header(HeaderName::MaxForwards, 70_u32)
                .header(HeaderName::From, format_args!("<sip:{aor}>;tag={tag:016x}"))
                .header(HeaderName::To, format_args!("<sip:{aor}>"))
                .header(HeaderName::CallId, call_id)
                .header(HeaderName::CSeq, format_args!("{cseq} REGISTER"))
                .header(HeaderName::Contact, &*contact)
                .header(HeaderName::Expires, asked)
                .header(HeaderName::UserAgent, format_args!("Signalbox/{version}"));
            if let Some((name, value)) = credentials {
                request = request.header(name, &*value);
            }
            request.finish();
        });
        match sent {
            Ok(tx) => self.client = Some(tx),
            Err(_) => self.failed(turn, None, None),
        }
    }

    /// Where the peer reaches us, without how.
    fn place_of_ours(&self, turn: &Turn<'_>, host: &str) -> String {
        let token;
        let user = match &self.settings.contact {
            Some(user) => &**user,
            None => {
                token = turn.directory.tokens().account(&self.owner, &self.peer);
                &*token
            }
        };
        format!("sip:{user}@{host}")
    }

    /// The same with the transport, as Contact has it.
    fn contact(&self, turn: &Turn<'_>, flow: &Flow, host: &str) -> String {
        let transport = match flow.transport.reliable() {
            true => format!(";transport={}", flow.transport.in_uri()),
            false => String::new(),
        };
        format!("<{}{transport}>", self.place_of_ours(turn, host))
    }

    /// Credentials for the challenge that is known, once more. They are made for one realm, and go to one peer.
    fn credentials(&mut self, turn: &mut Turn<'_>, uri: &str) -> Option<(HeaderName, Vec<u8>)> {
        let OutboundSettings { user, realm, secret, .. } = &*self.settings;
        let known = self.challenge.as_mut()?;
        let challenge = Challenge::parse(&known.value).ok()?;
        known.count += 1;
        let ha1 = Ha1::from_password(challenge.algorithm, user.as_bytes(), realm.as_bytes(), secret.expose());
        let cnonce = format!("{:016x}", turn.entropy.next_u64());
        let answer = Answer {
            username: user.as_bytes(),
            ha1: &ha1,
            method: b"REGISTER",
            uri: uri.as_bytes(),
            cnonce: &cnonce,
            nonce_count: known.count,
            body: b"",
        };
        Some((known.asking.credentials(), answer.write(&challenge)?))
    }

    fn answered(&mut self, turn: &mut Turn<'_>, response: &Message<&[u8]>) {
        let status = response.status().unwrap_or(500);
        match status {
            200..=299 if self.asked == 0 => {
                let state = OutboundState::Ended;
                let ended = Registered { state, status: Some(status), ..Registered::default() };
                self.go(turn, ended, None);
            }
            200..=299 => self.granted(turn, response),
            401 | 407 if self.may_answer(turn, response) => self.send(turn),
            423 if self.may_ask_for_more(response) => self.send(turn),
            503 if self.goes_elsewhere(turn) => self.send(turn),
            _ => {
                let after = response.value(HeaderName::RetryAfter).and_then(|v| delta_seconds(v).ok());
                let reason = response.reason().filter(|reason| !reason.is_empty()).map(Text::lossy);
                self.failed(turn, Some((status, reason)), after);
            }
        }
    }

    fn granted(&mut self, turn: &mut Turn<'_>, response: &Message<&[u8]>) {
        let ours = self.flow.map(|flow| self.place_of_ours(turn, &turn.advertised(&flow)));
        let ours = ours.unwrap_or_default();
        let contacts = response.values(HeaderName::Contact).filter_map(|v| NameAddr::parse(v).ok());
        let named = contacts.filter(|c| c.uri.starts_with(ours.as_bytes())).find_map(|c| c.expires());
        let general = response.value(HeaderName::Expires).and_then(|v| delta_seconds(v).ok());
        let secs = named.or(general).unwrap_or(self.asked);
        if secs == 0 {
            // It keeps nothing, whatever its status says.
            return self.failed(turn, Some((200, None)), None);
        }
        let routes = response.values(HeaderName::ServiceRoute).take(ROUTES_MAX).map(Text::lossy).collect();
        self.failures = 0;
        // 80 % to 90 % of it: edges that started together must not refresh together for ever.
        let share = 0.8 + (turn.entropy.next_u64() % 100) as f64 / 1000.0;
        self.wait(turn, Duration::from_secs(u64::from(secs)).mul_f64(share).max(REFRESH_MIN));
        let until = turn.now.wall.plus(Duration::from_secs(u64::from(secs)));
        let state = OutboundState::Registered;
        self.go(turn, Registered { state, status: response.status(), until: Some(until), routes }, None);
    }

    /// Takes a challenge for our realm: the first of an attempt, and others that say that only the nonce was too old. Any
    /// other means that the secret is wrong, or that it is somebody else's to give.
    fn may_answer(&mut self, turn: &mut Turn<'_>, response: &Message<&[u8]>) -> bool {
        let asking = if response.status() == Some(401) { Asking::Registrar } else { Asking::Proxy };
        let realm = self.settings.realm.as_bytes();
        let challenges = || {
            response.all(asking.challenge()).filter_map(|h| Some((h.value, Challenge::parse(h.value).ok()?)))
        };
        let ours = challenges()
            .find_map(|(value, challenge)| (*challenge.realm == *realm).then_some((value, challenge.stale)));
        if let (None, Some((_, other))) = (ours, challenges().next()) {
            let (aor, realm) = (&self.settings.aor, String::from_utf8_lossy(&other.realm).into_owned());
            let about = About { aor: Some(aor), ..About::default() };
            turn.note(about, || format!("{aor}: asked for credentials of realm \"{realm}\", which has none"));
        }
        self.answers += 1;
        let taken = ours.filter(|(_, stale)| self.answers == 1 || *stale && self.answers <= ANSWERS_MAX);
        self.challenge = taken.map(|(value, _)| Challenged { asking, value: value.to_vec(), count: 0 });
        self.challenge.is_some()
    }

    fn may_ask_for_more(&mut self, response: &Message<&[u8]>) -> bool {
        let min = response.value(HeaderName::MinExpires).and_then(|v| delta_seconds(v).ok());
        self.answers += 1;
        let longer = |min: &u32| *min > self.asked && *min <= EXPIRES_MAX_SECS;
        let more = min.filter(longer).filter(|_| self.asked > 0 && self.answers <= ANSWERS_MAX);
        self.asked = more.unwrap_or(self.asked);
        more.is_some()
    }

    /// Whether the peer's name has another place, which has not been tried yet (RFC 3263 §4.3).
    fn goes_elsewhere(&mut self, turn: &mut Turn<'_>) -> bool {
        let (Some(peer), Some(flow)) = (self.place(turn), self.flow) else { return false };
        turn.directory.judged(peer, flow.remote, true);
        let next = turn.directory.sites(peer).iter().any(|site| !site.failed);
        let goes = next && self.asked > 0 && self.moves < turn.directory.sites(peer).len();
        self.moves += usize::from(goes);
        goes
    }

    /// It did not work: tried again, each time after a longer while. What goes to other places of the name goes there first.
    fn failed(&mut self, turn: &mut Turn<'_>, answer: Option<(u16, Option<Text>)>, retry_after: Option<u32>) {
        if let (Some(peer), Some(flow), None) = (self.place(turn), self.flow, &answer) {
            turn.directory.judged(peer, flow.remote, true);
        }
        if self.asked > 0 {
            self.failures = self.failures.saturating_add(1);
            let wait = back_off(self.failures, turn.entropy.next_u64());
            let told = Duration::from_secs(u64::from(retry_after.unwrap_or(0))).min(WAITS[1]);
            self.wait(turn, wait.max(told));
        }
        let state = if answer.is_some() { OutboundState::Refused } else { OutboundState::Unreachable };
        let (status, reason) = answer.unzip();
        self.go(turn, Registered { state, status, ..Registered::default() }, reason.flatten());
    }

    fn wait(&mut self, turn: &mut Turn<'_>, time: Duration) {
        (self.answers, self.moves) = (0, 0);
        let timer = turn.start_timer(turn.now.mono.plus(time), Timer::Outbound(self.number));
        if let Some(before) = self.timer.replace(timer) {
            turn.cancel_timer(before);
        }
    }

    /// Told when anything but its end is another.
    fn go(&mut self, turn: &mut Turn<'_>, to: Registered, reason: Option<Text>) {
        let before = std::mem::replace(&mut self.shown, to);
        if (before.state, before.status) != (self.shown.state, self.shown.status) {
            let tenant = self.owner.parse().ok();
            let what = facts::Changed {
                registrar: &self.peer,
                aor: &self.settings.aor,
                from: before.state,
                now: &self.shown,
                reason,
                flow: self.flow,
            };
            let fact = facts::outbound_changed(turn, tenant.as_ref(), what);
            turn.record(fact);
        }
    }
}

/// How long to wait behind so many failures in a row: twice as long each time, half of it by chance (RFC 5626 §4.5).
fn back_off(failures: u32, random: u64) -> Duration {
    let [first, longest] = WAITS;
    let upper = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    upper.mul_f64(0.5 + (random % 1000) as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_failures_in_a_row_then_each_wait_is_twice_as_long_up_to_half_an_hour_and_never_the_same() {
        let span = |failures| [back_off(failures, 0), back_off(failures, 999)].map(|d| d.as_secs());
        assert_eq!((span(1), span(2), span(3)), ([15, 29], [30, 59], [60, 119]));
        assert_eq!((span(8), span(u32::MAX)), ([900, 1799], [900, 1799]));
    }
}
