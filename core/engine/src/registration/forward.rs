//! To the backend and back: the REGISTER as the backend sees it, failover, and the answer as the phone sees it.

use super::binding::{Asked, Wanted, WithExpires, is_same, token_of, write_params};
use super::register::{Pending, RETRY_SECS, Registrar};
use super::service_route;
use crate::backend::{self, Candidate};
use crate::call::{UNTRUSTED, via};
use crate::classes::Sent;
use crate::headers;
use crate::hiding::{self, Hiding};
use crate::net::{Timer, User};
use crate::settings::{ContactMode, Hide, Settings};
use crate::sips;
use crate::standalone::sip_uri;
use crate::state::BindingKey;
use crate::turn::{About, Outgoing, Turn};
use signalbox_base::{EventSeq, Flow};
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::SipUri;
use signalbox_sip::{Forward, HeaderName, Message, Method, Put, ResponseBuilder, ResponseHead};
use smallvec::SmallVec;
use std::borrow::Cow;

impl Registrar {
    /// Sends a pending REGISTER to its candidate.
    pub(super) fn forward(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        pending.attempt += 1;
        let flow = pending.at.flow;
        pending.tried.push((pending.at.peer, flow.remote));
        let branch = turn.branch(Method::Register);
        let host = turn.advertised(&flow);
        let new = Outgoing {
            method: Method::Register,
            sent: Sent::Request,
            flow,
            branch,
            user: User::Register(number),
            record: None,
        };
        let own = EdgeAsHost::of(turn, pending);
        let settings = turn.settings;
        let via = via(settings, &pending.at.flow, branch, None);
        let hiding = hiding_between(settings, pending, &pending.request, &pending.flow);
        let started = turn.request(new, |out| {
            let start = out.len();
            write_request(pending, own, &via, (&host, hiding.as_ref()), out);
            let sides = [None, Some(pending.at.name.as_str())];
            headers::cross(&settings.rules, pending.tenant.as_str(), sides, out, start);
        });
        let Ok(client) = started else { return self.finish_unavailable(turn, number) };
        pending.client = Some(client);
        let attempt = pending.attempt;
        let at = turn.now.mono.plus(turn.settings.timers.failover_after);
        let timer = turn.start_timer(at, Timer::RegisterFailover(number, attempt));
        pending.timer = Some(timer);
        let waiting = &self.pending;
        self.asked.add(flow.remote, number, |n, to| waiting.get(&n).is_some_and(|p| p.waits_for(to)));
    }

    /// A response from the backend that is asked now.
    pub(crate) fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        tx: signalbox_sip::transaction::ClientTx,
        response: &Message<&[u8]>,
    ) {
        let Some(pending) = self.pending.get_mut(&number).filter(|p| p.client == Some(tx)) else { return };
        let status = response.status().unwrap_or(0);
        if let Some(timer) = pending.timer.take() {
            turn.cancel_timer(timer);
        }
        if status < 200 {
            // It is there and works on it: the transaction's own timer bounds how long.
            return;
        }
        let (peer, remote) = (pending.at.peer, pending.at.flow.remote);
        match status {
            // It is there, and was too slow or somebody behind it was: another may do better, but it is not down.
            408 => return self.failed(turn, number, false),
            503 => return self.failed(turn, number, true),
            _ => {}
        }
        backend::on_traffic(turn, peer, remote, true);
        self.answer(turn, number, response);
    }

    /// The backend asked now does not answer, or cannot: the next one is asked, or the phone is told. `at_fault` counts
    /// against its health.
    pub(super) fn failed(&mut self, turn: &mut Turn<'_>, number: u64, at_fault: bool) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        if let Some(timer) = pending.timer.take() {
            turn.cancel_timer(timer);
        }
        if let Some(client) = pending.client.take() {
            turn.net.table.withdraw(client, &mut turn.net.outputs);
        }
        let (peer, remote) = (pending.at.peer, pending.at.flow.remote);
        let about = About { aor: Some(pending.address()), source: Some(pending.flow.remote), call: None };
        turn.note(about, || format!("no answer by {}, attempt {}", pending.at.name, pending.attempt));
        if at_fault {
            backend::on_traffic(turn, peer, remote, false);
        }
        let aor = turn.state.registrations().aor(&pending.name);
        let mut next = backend::registrars(turn, &pending.tenant, &pending.name, aor);
        sips::keep_secure(&pending.request, &mut next);
        let next = next.into_iter().find(|c: &Candidate| !pending.tried.contains(&(c.peer, c.flow.remote)));
        match next {
            Some(next) => {
                pending.at = next;
                self.forward(turn, number);
            }
            None => self.finish_unavailable(turn, number),
        }
    }

    /// Nobody answers: 503, so that the phone tries again or elsewhere.
    fn finish_unavailable(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(pending) = self.pending.remove(&number) else { return };
        self.rejected_by_edge(turn, &pending, 503, "No Backend Answers");
        let tag = format!("{:016x}", turn.entropy.next_u64());
        let sent = turn.respond(pending.tx, Method::Register, 503, None, |out| {
            let head = ResponseHead {
                status: 503,
                reason: "Service Unavailable",
                to_tag: Some(tag.as_bytes()),
                source: Some(pending.flow.remote),
            };
            ResponseBuilder::new(out, &pending.request, &head)
                .header(HeaderName::RetryAfter, RETRY_SECS)
                .finish();
        });
        // Too late means that the phone has given up: nobody waits for it.
        let _ = sent;
    }

    /// Passes the answer to the phone, which sees its own Contacts in it. `granted` is per asked contact.
    pub(super) fn relay(
        turn: &mut Turn<'_>,
        pending: &Pending,
        response: &Message<&[u8]>,
        granted: &[u32],
        record: Option<EventSeq>,
    ) {
        let status = response.status().unwrap_or(500);
        let about = About { aor: Some(pending.address()), source: Some(pending.flow.remote), call: None };
        turn.note(about, || {
            format!("REGISTER answered {status} by {}, granted {granted:?}", pending.at.name)
        });
        let is_success = (200..300).contains(&status);
        let contacts = if is_success { shown(turn, pending, response, granted) } else { Shown::default() };
        let service = service_route::sealed(turn, pending, response).filter(|_| is_success);
        let settings = turn.settings;
        let hiding = hiding_between(settings, pending, response, &pending.at.flow);
        let sent = turn.respond(pending.tx, Method::Register, status, record, |out| {
            let start = out.len();
            write_response(pending, response, (&contacts, service.as_deref(), hiding.as_ref()), out);
            let sides = [Some(pending.at.name.as_str()), None];
            headers::cross(&settings.rules, pending.tenant.as_str(), sides, out, start);
        });
        let _ = sent;
    }
}

/// Values of Contact, one behind the other: a usual answer has one, and needs no allocation.
#[derive(Debug, Default)]
struct Shown {
    bytes: SmallVec<[u8; 256]>,
    ends: SmallVec<[usize; 4]>,
}

impl Shown {
    fn push(&mut self, value: impl Put) {
        value.put(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// Contacts as the phone sees them: its own as it wrote them, other bindings of its AoR here by their own URIs, what is
/// registered past the edge as the backend shows it, tokens of other edges not at all.
fn shown(turn: &Turn<'_>, pending: &Pending, response: &Message<&[u8]>, granted: &[u32]) -> Shown {
    let asked: &[_] = if let Wanted::Each(each) = &pending.wanted { each } else { &[] };
    let own: SmallVec<[NameAddr<'_>; 2]> =
        pending.request.values(HeaderName::Contact).filter_map(|v| NameAddr::parse(v).ok()).collect();
    let mut seen: SmallVec<[BindingKey; 2]> = SmallVec::new();
    let mut out = Shown::default();
    let push_own = |at: usize, seen: &mut SmallVec<[BindingKey; 2]>, out: &mut Shown| {
        seen.push(asked[at].key);
        if granted[at] > 0 {
            out.push(WithExpires { contact: &own[at], expires: granted[at] });
        }
    };
    for value in response.values(HeaderName::Contact) {
        let Ok(contact) = NameAddr::parse(value) else { continue };
        let token = token_of(&contact);
        let mine = asked.iter().enumerate().position(|(at, a)| match token {
            Some(token) => token == a.key,
            None => is_same(&contact, a.key, own.get(at)),
        });
        match (mine, token) {
            (Some(at), _) if seen.contains(&asked[at].key) => {}
            (Some(at), _) => push_own(at, &mut seen, &mut out),
            (None, Some(key)) => {
                let other =
                    turn.state.registrations().binding(key).filter(|(aor, _)| aor.name == pending.name);
                // Another phone behind another NAT may have this one's address: two of them would only confuse it.
                let shared = |uri: &[u8]| own.iter().any(|own| own.uri == uri);
                if let Some((_, binding)) = other.filter(|(_, b)| !shared(b.contact.as_bytes())) {
                    let here = binding.expires_at.since(turn.now.wall).as_secs();
                    let here = u32::try_from(here).unwrap_or(u32::MAX);
                    let told = contact.expires().unwrap_or(here);
                    // Where the backend has been asked for more, what ends first is true.
                    let left = if pending.stretched.is_some() { told.min(here) } else { told };
                    out.push(("<", (&*binding.contact, (">;expires=", left))));
                }
            }
            // Registered past the edge, where nobody out here could reach it.
            (None, None) if pending.at.hide == Hide::Full => {}
            (None, None) => out.push(value),
        }
    }
    // A registrar that lists nothing has granted what it did not refuse.
    for (at, one) in asked.iter().enumerate().take(own.len()) {
        if !seen.contains(&one.key) {
            push_own(at, &mut seen, &mut out);
        }
    }
    out
}

fn write_response(
    pending: &Pending,
    response: &Message<&[u8]>,
    (contacts, service, hiding): (&Shown, Option<&str>, Option<&Hiding<'_>>),
    out: &mut Vec<u8>,
) {
    let to_tag = response.to_tag().map(|tag| match hiding {
        Some(hiding) => Cow::Owned(hiding.other_name(tag)),
        None => Cow::Borrowed(tag),
    });
    let reason = String::from_utf8_lossy(response.reason().unwrap_or_default());
    let head = ResponseHead {
        status: response.status().unwrap_or(500),
        reason: &reason,
        to_tag: to_tag.as_deref(),
        source: Some(pending.flow.remote),
    };
    let mut builder = ResponseBuilder::new(out, &pending.request, &head);
    for contact in contacts.iter() {
        builder = builder.header(HeaderName::Contact, contact);
    }
    if let Some(service) = service {
        builder = builder.header(HeaderName::ServiceRoute, service);
    }
    for header in response.headers() {
        let passes = !matches!(
            header.id,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::Contact
                | HeaderName::RecordRoute
                | HeaderName::Path
                | HeaderName::ServiceRoute
                | HeaderName::ContentLength
                | HeaderName::ContentType
        );
        let tells = hiding.is_some() && hiding::is_telltale(header.id);
        if passes
            && !tells
            && let Ok(name) = std::str::from_utf8(header.name)
        {
            let value = hiding.map_or(Cow::Borrowed(header.value), |it| it.value(header.id, header.value));
            builder = builder.extension(name, &*value);
        }
    }
    builder
        .finish_with_body(response.value(HeaderName::ContentType).unwrap_or(b"text/plain"), response.body());
}

/// What is hidden from one side of the other, where the backend asked now has it so.
fn hiding_between<'a, B: AsRef<[u8]>>(
    settings: &'a Settings,
    pending: &'a Pending,
    message: &Message<B>,
    from: &Flow,
) -> Option<Hiding<'a>> {
    let hides = pending.at.hide == Hide::Full;
    hides.then(|| Hiding::of(settings, pending.tenant.as_str(), message, from, pending.domain()))
}

/// Where a phone wrote the edge's own address for its domain. The registrar behind must see the domain: it stores the AoR
/// that To names.
#[derive(Clone, Copy, Debug)]
struct EdgeAsHost {
    ruri: bool,
    from: bool,
    to: bool,
}

impl EdgeAsHost {
    fn of(turn: &Turn<'_>, pending: &Pending) -> Self {
        let domain = pending.domain().as_bytes();
        let stands = |uri: Option<SipUri<'_>>| {
            uri.is_some_and(|uri| {
                !uri.host.eq_ignore_ascii_case(domain)
                    && turn.directory.stands_for_a_domain(turn.settings, &pending.tenant, uri.host)
            })
        };
        let [ruri, from, to] = hosts(&pending.request).map(stands);
        Self { ruri, from, to }
    }

    fn rewrite<'m>(self, forward: &mut Forward<'m>, request: &'m Message<Box<[u8]>>, domain: &str) {
        let all = [self.ruri, self.from, self.to];
        if all == [false; 3] {
            return;
        }
        for (stands, uri) in all.into_iter().zip(hosts(request)) {
            if let Some(uri) = uri.filter(|_| stands) {
                forward.replace_part(uri.host_port, domain);
            }
        }
    }
}

/// The URIs of Request-URI, From and To.
fn hosts(request: &Message<Box<[u8]>>) -> [Option<SipUri<'_>>; 3] {
    let [from, to] = [request.from(), request.to()].map(|address| sip_uri(address.ok()?.uri));
    [request.request_uri().and_then(sip_uri), from, to]
}

/// The REGISTER for the backend: our Via alone, the domain for our own address, and tokens for Contacts (or a Path with the
/// first token).
fn write_request(
    pending: &Pending,
    own: EdgeAsHost,
    via: &[u8],
    (host, hiding): (&str, Option<&Hiding<'_>>),
    out: &mut Vec<u8>,
) {
    let request = &pending.request;
    let transport = pending.at.flow.transport;
    let mut forward = Forward::new(request);
    if let Some(hiding) = hiding {
        hiding.edit(&mut forward, request);
        hiding.rename_dialog(&mut forward, request);
    }
    own.rewrite(&mut forward, request, pending.domain());
    forward.remove(HeaderName::Via);
    forward.insert_first(HeaderName::Via, via);
    forward.remove(HeaderName::Route);
    forward.remove(HeaderName::RecordRoute);
    forward.remove(HeaderName::ProxyRequire);
    // Who registers is who its credentials say.
    UNTRUSTED.into_iter().for_each(|name| forward.remove(name));
    // At 0 it was refused on arrival; what is not a number too.
    let _ = forward.decrement_max_forwards();
    let suffix = if transport == signalbox_base::Transport::Udp { "" } else { ";transport=" };
    let transport = if suffix.is_empty() { "" } else { transport.as_str() };
    if let Some(secs) = pending.stretched {
        forward.set(HeaderName::Expires, secs);
    }
    if let Wanted::Each(each) = &pending.wanted {
        let here = Here { host, suffix, transport };
        match pending.at.contact {
            ContactMode::Token => write_tokens(pending, each, here, &mut forward),
            ContactMode::Path => write_path(pending, each, here, &mut forward),
        }
    }
    if pending.at.flow.transport.reliable() {
        forward.ensure_content_length();
    }
    forward.write_into(out);
}

/// How the backend writes to us.
#[derive(Clone, Copy)]
struct Here<'h> {
    host: &'h str,
    suffix: &'h str,
    transport: &'h str,
}

fn write_tokens<'m>(pending: &'m Pending, each: &[Asked], here: Here<'_>, forward: &mut Forward<'m>) {
    let Here { host, suffix, transport } = here;
    // Outbound ends here: the backend has one flow to us, not the phone's (RFC 5626 §6).
    let without: &[&[u8]] = if pending.stretched.is_some() { &[b"reg-id", b"expires"] } else { &[b"reg-id"] };
    let mut line: SmallVec<[u8; 128]> = SmallVec::new();
    for (asked, value) in each.iter().zip(pending.request.values(HeaderName::Contact)) {
        let Ok(contact) = NameAddr::parse(value) else { continue };
        line.clear();
        // A phone that is reached by `sips:` is told to the backend so, where that one is, too.
        let scheme = sips::scheme_towards(contact.uri, &pending.at.flow);
        ("<", (scheme, (asked.key.digits(), ("@", (host, (suffix, (transport, ">"))))))).put(&mut line);
        write_params(&contact, without, &mut line);
        forward.replace_part(contact.raw, &*line);
    }
}

/// One Path serves all Contacts of a REGISTER (RFC 3327 §5.1): it bears the first one's token, which names the AoR, and the
/// Request-URI of what comes back tells which Contact is meant.
fn write_path<'m>(pending: &'m Pending, each: &[Asked], here: Here<'_>, forward: &mut Forward<'m>) {
    let Some(first) = each.first() else { return };
    let Here { host, suffix, transport } = here;
    let request = &pending.request;
    forward.insert_first(
        HeaderName::Path,
        ("<sip:", (first.key.digits(), ("@", (host, (suffix, (transport, ";lr>")))))),
    );
    if !request.lists(HeaderName::Supported, b"path") {
        forward.append(HeaderName::Supported, "path");
    }
    let Some(expires) = pending.stretched else { return };
    for contact in request.values(HeaderName::Contact).filter_map(|value| NameAddr::parse(value).ok()) {
        forward.replace_part(contact.raw, WithExpires { contact: &contact, expires });
    }
}
