//! One request on its way, and its answer back.

use super::token::{self, Side, Target};
use super::{Pending, Standalone, subscription};
use crate::backend::{self, Candidate};
use crate::call::{CLAIMS, Names, Target as Called, UNTRUSTED, via, wants_privacy};
use crate::classes::Sent;
use crate::headers;
use crate::hiding::{self, Hiding};
use crate::net::{Timer, User};
use crate::remote::{self, Located};
use crate::settings::{Hide, Settings};
use crate::sips;
use crate::state::BindingKey;
use crate::tenancy::PeerRef;
use crate::turn::{Outgoing, Turn};
use signalbox_base::{Flow, Text, Transport};
use signalbox_sip::header::NameAddr;
use signalbox_sip::transaction::ClientTx;
use signalbox_sip::{Forward, HeaderName, Message, Method, ResponseBuilder, ResponseHead};
use std::borrow::Cow;

/// A place to be tried.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) way: Way,
    /// The backend or trunk whose health the answer tells of.
    pub(super) peer: Option<PeerRef>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) flow: Flow,
    /// Another Request-URI than it came with.
    uri: Option<Text>,
    routes: Vec<Text>,
    /// Who is there, for the token of its Contact.
    side: Side,
    /// How both ends are called there, where templates say.
    names: Option<Box<Names>>,
}

impl Way {
    /// `uri` is the Request-URI where it is not as it came.
    pub(super) fn to_backend(candidate: &Candidate, uri: Option<Text>) -> Self {
        let side = Side::Backend(candidate.name.clone());
        Self { flow: candidate.flow, uri, routes: Vec::new(), side, names: None }
    }

    /// Where a call would go.
    pub(super) fn of_call(target: Called) -> Self {
        let binding = target.event.binding.as_ref().and_then(|key| BindingKey::from_user(key.as_bytes()));
        let side = target.peer.configured().map(|name| Side::Backend(Text::new(name)));
        Self {
            flow: target.flow,
            uri: Some(Text::lossy(&target.uri)),
            routes: target.routes.iter().map(Text::lossy).collect(),
            side: side.unwrap_or(Side::Phone(binding)),
            names: target.names,
        }
    }

    /// The same by these routes, first to be met first.
    pub(super) fn by(self, routes: Vec<Text>) -> Self {
        Self { routes, ..self }
    }

    pub(super) fn to_binding(turn: &Turn<'_>, key: BindingKey) -> Option<Self> {
        let (_, binding) = turn.state.registrations().binding(key)?;
        Some(Self {
            flow: binding.flow.get(),
            uri: Some(binding.request_uri()),
            routes: binding.path.iter().cloned().collect(),
            side: Side::Phone(Some(key)),
            names: None,
        })
    }

    pub(super) fn to_located(turn: &Turn<'_>, located: Located) -> Option<Self> {
        match located {
            Located::Here(key) => Self::to_binding(turn, key),
            Located::Away(key, flow, uri, route) => {
                let side = Side::Phone(Some(key));
                Some(Self { flow, uri: Some(uri), routes: vec![route], side, names: None })
            }
        }
    }

    pub(super) fn side(&self) -> &Side {
        &self.side
    }

    /// The Request-URI that it goes with.
    fn uri<'a>(&'a self, request: &'a Message<impl AsRef<[u8]>>) -> &'a [u8] {
        self.uri.as_ref().map_or(request.request_uri().unwrap_or_default(), |uri| uri.as_bytes())
    }

    /// Whether a request may go this way by its scheme (RFC 5630). What is asked for by `sip:` is sent so.
    pub(super) fn fits(&mut self, request: &Message<&[u8]>) -> bool {
        let asked = request.request_uri().unwrap_or_default();
        let Some(uri) = sips::as_asked(asked, self.uri(request), &self.flow) else { return false };
        if let Cow::Owned(uri) = uri {
            self.uri = Some(Text::lossy(&uri));
        }
        true
    }

    /// A phone is where its binding says now; anything else where it was.
    pub(super) fn to_target(turn: &Turn<'_>, target: &Target) -> Self {
        let binding = match &target.side {
            // What goes through another edge goes on through it: that one knows where the phone is.
            Side::Phone(_) if remote::is_peer(turn.settings, &target.flow) => None,
            Side::Phone(key) => key.and_then(|key| turn.state.registrations().binding(key)),
            Side::Backend(_) => None,
        };
        Self {
            flow: binding.map_or(target.flow, |(_, binding)| binding.flow.get()),
            uri: Some(target.uri.clone()),
            routes: target.routes.clone(),
            side: target.side.clone(),
            names: None,
        }
    }
}

impl Standalone {
    pub(super) fn forward(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        pending.attempt += 1;
        let method = pending.request.method();
        let flow = pending.way.flow;
        let branch = turn.branch(method);
        let via = via(turn.settings, &flow, branch, None);
        let asked = pending.way.uri(&pending.request);
        let contact = our_contact(turn, pending, &pending.sender, (asked, &flow));
        let new = Outgoing {
            method,
            sent: Sent::Request,
            flow,
            branch,
            user: User::Standalone(number),
            record: None,
        };
        let host = hidden_host(turn, pending);
        let settings = turn.settings;
        let hiding = host
            .as_deref()
            .map(|host| Hiding::of(settings, &pending.sender.tenant, &pending.request, &pending.flow, host));
        let started = turn.request(new, |out| {
            write_request(pending, settings, (&via, contact.as_deref()), hiding.as_ref(), out)
        });
        let Ok(client) = started else { return self.give_up(turn, number) };
        pending.client = Some(client);
        if pending.peer.is_some() {
            let attempt = pending.attempt;
            let at = turn.now.mono.plus(turn.settings.timers.failover_after);
            pending.timer = Some(turn.start_timer(at, Timer::StandaloneFailover(number, attempt)));
        }
        let waiting = &self.pending;
        self.asked.add(flow.remote, number, |n, to| waiting.get(&n).is_some_and(|p| p.waits_for(to)));
    }

    /// A response from the receiver asked now.
    pub(crate) fn on_response(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        tx: ClientTx,
        response: &Message<&[u8]>,
    ) {
        let Some(pending) = self.pending.get_mut(&number).filter(|p| p.client == Some(tx)) else { return };
        if let Some(timer) = pending.timer.take() {
            turn.cancel_timer(timer);
        }
        let status = response.status().unwrap_or(0);
        let (peer, heard) = (pending.peer, std::mem::replace(&mut pending.heard, true));
        let remote = pending.way.flow.remote;
        let another = !pending.next.is_empty();
        if let Some(peer) = peer {
            match status {
                503 if another => return self.failed(turn, number, !heard),
                503 if heard => {}
                503 => backend::on_traffic(turn, peer, remote, false),
                // It may be the silence of whoever is behind the backend: nothing is said of the backend itself.
                408 => {}
                _ if heard => {}
                _ => backend::on_traffic(turn, peer, remote, true),
            }
        }
        if status < 200 {
            return;
        }
        if let Some(pending) = self.pending.remove(&number) {
            subscription::tell(turn, &mut self.ended, &pending, status, Some(response));
            relay(turn, &pending, response);
        }
    }

    /// The receiver asked now does not answer: the next backend, or the end. `at_fault` says whether that tells of its health.
    pub(super) fn failed(&mut self, turn: &mut Turn<'_>, number: u64, at_fault: bool) {
        let Some(pending) = self.pending.get_mut(&number) else { return };
        if let Some(timer) = pending.timer.take() {
            turn.cancel_timer(timer);
        }
        if let Some(client) = pending.client.take() {
            turn.net.table.withdraw(client, &mut turn.net.outputs);
        }
        pending.heard = false;
        let remote = pending.way.flow.remote;
        if let Some(peer) = pending.peer.filter(|_| at_fault) {
            backend::on_traffic(turn, peer, remote, false);
        }
        let Some(Hop { way, peer }) = pending.next.pop_front() else { return self.give_up(turn, number) };
        (pending.way, pending.peer) = (way, peer);
        self.forward(turn, number);
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(pending) = self.pending.remove(&number) else { return };
        let (status, reason) = match pending.way.side {
            Side::Phone(_) => (480, "Temporarily Unavailable"),
            Side::Backend(_) => (503, "Service Unavailable"),
        };
        subscription::tell(turn, &mut self.ended, &pending, status, None);
        let tag = format!("{:016x}", turn.entropy.next_u64());
        let sent = turn.respond(pending.tx, pending.request.method(), status, None, |out| {
            let head = ResponseHead {
                status,
                reason,
                to_tag: Some(tag.as_bytes()),
                source: Some(pending.flow.remote),
            };
            ResponseBuilder::new(out, &pending.request, &head).finish();
        });
        // Too late means that the sender has given up: nobody waits for it (RFC 4320 §4.2).
        let _ = sent;
    }
}

/// Our Contact for one side of a dialog: a token of the other. `None` for who has none.
fn our_contact(
    turn: &Turn<'_>,
    pending: &Pending,
    target: &Target,
    (uri, towards): (&[u8], &Flow),
) -> Option<String> {
    // Of a MESSAGE comes no dialog (RFC 3428 §4): neither side is given a way to the other.
    if target.uri.is_empty() || pending.request.method() == Method::Message {
        return None;
    }
    let token = token::seal(&turn.settings.cluster_key, target);
    let transport = match towards.transport {
        Transport::Udp => String::new(),
        other => format!(";transport={}", other.in_uri()),
    };
    let scheme = sips::scheme_towards(uri, towards);
    Some(format!("<{scheme}{token}@{}{transport}>", turn.advertised(towards)))
}

/// What a phone knows its side of the edge by, where one of the two hides from the other.
fn hidden_host(turn: &Turn<'_>, pending: &Pending) -> Option<Text> {
    let sides = [&pending.sender.side, pending.way.side()];
    let hides = |name: &Text| {
        let peer = turn.directory.named(turn.settings, &pending.sender.tenant, name)?;
        Some(turn.directory.peer(turn.settings, peer)?.backend.hide == Hide::Full)
    };
    let backends =
        sides.iter().filter_map(|side| if let Side::Backend(name) = side { Some(name) } else { None });
    backends.filter_map(hides).any(|hides| hides).then(|| {
        let of_phone = sides.iter().find_map(|side| match side {
            Side::Phone(Some(key)) => turn.state.registrations().aor_of(*key),
            _ => None,
        });
        of_phone.map_or_else(|| Text::new("anonymous.invalid"), |aor| Text::new(aor.domain()))
    })
}

fn write_request(
    pending: &Pending,
    settings: &Settings,
    (via, contact): (&[u8], Option<&str>),
    hiding: Option<&Hiding<'_>>,
    out: &mut Vec<u8>,
) {
    let mut forward = Forward::new(&pending.request);
    if let Some(hiding) = hiding {
        hiding.edit(&mut forward, &pending.request);
        hiding.rename_dialog(&mut forward, &pending.request);
    }
    forward.remove(HeaderName::Via);
    forward.insert_first(HeaderName::Via, via);
    forward.remove(HeaderName::Route);
    for route in &pending.way.routes {
        forward.insert_first(HeaderName::Route, &**route);
    }
    forward.remove(HeaderName::RecordRoute);
    // At 0 it was refused on arrival; what is not a number too.
    let _ = forward.decrement_max_forwards();
    if let Some(uri) = &pending.way.uri {
        forward.set_request_uri(&**uri);
    }
    match contact {
        Some(contact) => forward.set(HeaderName::Contact, contact),
        // None, or one that nobody could be called by: it would only show where the sender is.
        None => forward.remove(HeaderName::Contact),
    }
    let [from_phone, to_phone] =
        [&pending.sender.side, &pending.way.side].map(|side| matches!(side, Side::Phone(_)));
    if from_phone {
        UNTRUSTED.into_iter().for_each(|name| forward.remove(name));
    } else if to_phone && wants_privacy(&pending.request) {
        CLAIMS.into_iter().for_each(|name| forward.remove(name));
    }
    if let Some(names) = &pending.way.names {
        names.edit(&mut forward, &pending.request, !from_phone, hiding);
    }
    if pending.way.flow.transport.reliable() {
        forward.ensure_content_length();
    }
    let start = out.len();
    forward.write_into(out);
    let sides = [&pending.sender.side, &pending.way.side].map(Side::configured);
    headers::cross(&settings.rules, &pending.sender.tenant, sides, out, start);
}

/// The answer for the sender: its own Vias, and our Contact in place of the receiver's.
fn relay(turn: &mut Turn<'_>, pending: &Pending, response: &Message<&[u8]>) {
    let status = response.status().unwrap_or(500);
    let contact = response.values(HeaderName::Contact).next().and_then(|v| NameAddr::parse(v).ok());
    let contact = contact.filter(|c| status < 300 && super::is_reachable(c)).and_then(|contact| {
        let mut routes: Vec<Text> = response.values(HeaderName::RecordRoute).map(Text::lossy).collect();
        // The other end sees them the other way round (RFC 3261 §12.1.2).
        routes.reverse();
        routes.truncate(super::ROUTES_MAX);
        let target = Target {
            tenant: pending.sender.tenant.clone(),
            side: pending.way.side.clone(),
            flow: pending.way.flow,
            uri: Text::lossy(contact.uri),
            routes,
            other: pending.flow.remote.ip(),
        };
        let asked = pending.request.request_uri().unwrap_or_default();
        our_contact(turn, pending, &target, (asked, &pending.flow))
    });
    let (host, settings) = (hidden_host(turn, pending), turn.settings);
    let tenant = &pending.sender.tenant;
    let hiding = host.as_deref().map(|host| Hiding::of(settings, tenant, response, &pending.way.flow, host));
    let sent = turn.respond(pending.tx, pending.request.method(), status, None, |out| {
        let start = out.len();
        write_response(pending, response, contact.as_deref(), hiding.as_ref(), out);
        let sides = [&pending.way.side, &pending.sender.side].map(Side::configured);
        headers::cross(&settings.rules, tenant, sides, out, start);
    });
    // Too late means that the sender has given up.
    let _ = sent;
}

fn write_response(
    pending: &Pending,
    response: &Message<&[u8]>,
    contact: Option<&str>,
    hiding: Option<&Hiding<'_>>,
    out: &mut Vec<u8>,
) {
    let status = response.status().unwrap_or(500);
    let reason = String::from_utf8_lossy(response.reason().unwrap_or_default());
    let to_tag = response.to_tag().map(|tag| match hiding {
        Some(hiding) => Cow::Owned(hiding.other_name(tag)),
        None => Cow::Borrowed(tag),
    });
    let head = ResponseHead {
        status,
        reason: &reason,
        to_tag: to_tag.as_deref(),
        source: Some(pending.flow.remote),
    };
    let mut builder = ResponseBuilder::new(out, &pending.request, &head);
    if let Some(contact) = contact {
        builder = builder.header(HeaderName::Contact, contact);
    }
    for header in response.headers() {
        let ours = matches!(
            header.id,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::RecordRoute
                | HeaderName::ContentLength
                | HeaderName::ContentType
        );
        let redirect = header.id == HeaderName::Contact && status < 300;
        let claim = matches!(pending.way.side, Side::Phone(_)) && CLAIMS.contains(&header.id);
        let hidden = hiding.is_some() && hiding::is_telltale(header.id);
        if !ours
            && !redirect
            && !claim
            && !hidden
            && let Ok(name) = std::str::from_utf8(header.name)
        {
            let value = hiding.map_or(Cow::Borrowed(header.value), |it| it.value(header.id, header.value));
            builder = builder.extension(name, &*value);
        }
    }
    let content_type = response.value(HeaderName::ContentType).unwrap_or(b"text/plain");
    let body =
        hiding.map_or(Cow::Borrowed(response.body()), |it| it.body(Some(content_type), response.body()));
    builder.finish_with_body(content_type, &body);
}
