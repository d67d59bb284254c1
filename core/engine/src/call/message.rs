//! The messages of a leg: relayed ones by edits, our own from what the leg knows.
//!
//! A relayed message keeps every byte that a leg does not own. Owned are Via, Route, Record-Route, Contact, Call-ID, the
//! tags, CSeq, Max-Forwards and RAck; Content-Length is written where a stream needs it. Rules of its peers come last.

use super::claims::{UNTRUSTED, assert_identity, guard_identity};
use super::identity;
use super::leg::Leg;
use super::names::Names;
use super::raw::{ListWriter, Raw, RawList};
use super::reference::domain_of;
use crate::headers;
use crate::hiding::Hiding;
use crate::settings::Settings;
use crate::state::calls::{Branch, PendingRequest};
use signalbox_base::{Flow, TenantId};
use signalbox_sip::header::{HeaderName, ListValues, NameAddr, lists_token};
use signalbox_sip::message::{ForwardError, Sink, StampedVia};
use signalbox_sip::uri::without_headers;
use signalbox_sip::{Forward, Message, Method, Put, RequestBuilder, ResponseBuilder, ResponseHead, Uri};
use smallvec::SmallVec;
use std::borrow::Cow;

/// What a request looks like on the leg it goes out on.
pub(crate) struct Relayed<'a> {
    /// The call's.
    pub(crate) tenant: &'a str,
    pub(crate) uri: &'a [u8],
    pub(crate) via: &'a [u8],
    pub(crate) cseq: u32,
    /// The leg it came over.
    pub(crate) by: &'a Leg,
    /// Its share of Max-Breadth, where it is one of several.
    pub(crate) breadth: Option<u32>,
    /// CSeq on this leg of the INVITE that RAck names.
    pub(crate) rack: Option<u32>,
    /// Whether its provisional responses shall not be reliable.
    pub(crate) unreliable: bool,
    /// How the leg is called, where templates say.
    pub(crate) names: Option<&'a Names>,
}

impl<'a> Relayed<'a> {
    /// From `by`, in a call of this tenant; its CSeq and what is rare are to be filled in.
    pub(crate) fn new(tenant: &'a TenantId, uri: &'a [u8], via: &'a [u8], by: &'a Leg) -> Self {
        Self {
            tenant: tenant.as_str(),
            uri,
            via,
            cseq: 0,
            by,
            breadth: None,
            rack: None,
            unreliable: false,
            names: None,
        }
    }
}

/// What a relayed response looks like on the leg it goes out on.
pub(crate) struct Answering<'a> {
    /// The call's.
    pub(crate) tenant: &'a str,
    /// The request it answers.
    pub(crate) pending: &'a PendingRequest,
    /// Our tag in To.
    pub(crate) tag: &'a [u8],
    /// Header lines beside those of the response.
    pub(crate) more: &'a [(HeaderName, Raw)],
    /// The leg it came over.
    pub(crate) by: &'a Leg,
    /// It was reliable, and its reliability ended here (RFC 3262).
    pub(crate) unreliable: bool,
    /// Content type and description, where it has none and an earlier one of this dialog had.
    pub(crate) description: Option<&'a (Raw, Raw)>,
}

impl<'a> Answering<'a> {
    /// From `by`, in a call of this tenant; what is rare is to be filled in.
    pub(crate) fn new(tenant: &'a TenantId, pending: &'a PendingRequest, tag: &'a [u8], by: &'a Leg) -> Self {
        Self { tenant: tenant.as_str(), pending, tag, more: &[], by, unreliable: false, description: None }
    }
}

/// Writes a request onto `leg`.
///
/// # Errors
/// Max-Forwards is 0 or unreadable, or From, To or RAck cannot be read: the sender's fault.
pub(crate) fn relay_request<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    settings: &Settings,
    message: &Message<B>,
    leg: &Leg,
    relayed: &Relayed<'_>,
) -> Result<(), ForwardError> {
    let mut forward = Forward::new(message);
    forward.set_request_uri(relayed.uri);
    forward.set(HeaderName::Via, relayed.via);
    forward.remove(HeaderName::RecordRoute);
    forward.remove(HeaderName::Route);
    for route in leg.routes.iter() {
        forward.insert_first(HeaderName::Route, route);
    }
    forward.decrement_max_forwards()?;
    let hiding = hiding(settings, message, relayed.by, leg);
    match &hiding {
        Some(hiding) => {
            hiding.edit(&mut forward, message);
            forward.set(HeaderName::From, Tagged(&leg.local, &leg.local_tag));
            forward.set(HeaderName::To, Tagged(&leg.remote, &leg.remote_tag));
            forward.set_call_id(&*leg.call_id);
        }
        None => identify(&mut forward, message, leg)?,
    }
    let incoming = message.cseq().number;
    if relayed.cseq != incoming {
        forward.set_cseq_number(relayed.cseq);
    }
    if let Some(cseq) = relayed.rack {
        forward.set_rack_cseq(cseq)?;
    }
    if relayed.unreliable {
        drop_option(&mut forward, message, HeaderName::Supported, b"100rel");
    }
    rewrite_contact(&mut forward, settings, message, leg, hiding.is_some());
    guard_identity(&mut forward, message, &relayed.by.peer, &leg.peer);
    if relayed.by.peer.is_endpoint() {
        UNTRUSTED.into_iter().for_each(|name| forward.remove(name));
        assert_identity(&mut forward, message, relayed, &leg.peer);
    }
    if let Some(names) = relayed.names {
        forward.set(HeaderName::From, Tagged(&leg.local, &leg.local_tag));
        forward.set(HeaderName::To, Tagged(&leg.remote, &leg.remote_tag));
        if !relayed.by.peer.is_endpoint() {
            forward.remove(HeaderName::PAssertedIdentity);
            for value in names.asserted.iter() {
                let value = hiding.as_ref().map_or(Cow::Borrowed(&**value), |hiding| hiding.renamed(value));
                forward.append(HeaderName::PAssertedIdentity, &*value);
            }
        }
    }
    if let Some(breadth) = relayed.breadth {
        forward.set(HeaderName::MaxBreadth, breadth);
    }
    finish(forward, settings, relayed.tenant, (relayed.by, leg), out);
    Ok(())
}

/// Writes a response to the request that waits on `leg`. Contact becomes ours unless the response
/// redirects.
pub(crate) fn relay_response<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    settings: &Settings,
    message: &Message<B>,
    leg: &Leg,
    answering: &Answering<'_>,
) {
    let Answering { tenant, pending, tag, more, by, unreliable, description } = *answering;
    let status = message.status().unwrap_or(500);
    let mut forward = Forward::new(message);
    let hiding = hiding(settings, message, by, leg);
    if let Some(hiding) = &hiding {
        hiding.edit(&mut forward, message);
        forward.set_status(status, &*hiding.renamed(message.reason().unwrap_or_default()));
    }
    forward.remove(HeaderName::Via);
    for via in pending.vias() {
        forward.insert_first(HeaderName::Via, via);
    }
    forward.remove(HeaderName::RecordRoute);
    if (101..300).contains(&status) {
        for route in pending.record_routes() {
            forward.append(HeaderName::RecordRoute, route);
        }
    }
    forward.set(HeaderName::From, pending.from());
    forward.set(HeaderName::To, Tagged(pending.to(), tag));
    if message.call_id() != &*leg.call_id {
        forward.set_call_id(&*leg.call_id);
    }
    if message.cseq().number != pending.cseq {
        forward.set_cseq_number(pending.cseq);
    }
    if status < 300 {
        rewrite_contact(&mut forward, settings, message, leg, hiding.is_some());
    }
    guard_identity(&mut forward, message, &by.peer, &leg.peer);
    if unreliable {
        forward.remove(HeaderName::RSeq);
        drop_option(&mut forward, message, HeaderName::Require, b"100rel");
    }
    if let Some((kind, body)) = description {
        let body = hiding.as_ref().map_or(Cow::Borrowed(&**body), |hiding| hiding.body(Some(kind), body));
        forward.replace_body(&**kind, &body);
    }
    for (name, value) in more {
        forward.append(*name, &**value);
    }
    finish(forward, settings, tenant, (by, leg), out);
}

/// Writes what goes from one leg to the other, as the rules of both sides say.
fn finish(
    mut forward: Forward<'_>,
    settings: &Settings,
    tenant: &str,
    (by, leg): (&Leg, &Leg),
    out: &mut Vec<u8>,
) {
    if leg.flow.transport.reliable() {
        forward.ensure_content_length();
    }
    let start = out.len();
    forward.write_into(out);
    // What the edge itself says to the caller has come over no other leg.
    if by.token != leg.token {
        headers::cross(&settings.rules, tenant, [by, leg].map(|leg| leg.peer.configured()), out, start);
    }
}

/// Writes a response of our own to the request that waits on the leg with this Call-ID, with our `tag` in To.
pub(crate) fn own_response(
    out: &mut Vec<u8>,
    method: Method,
    call_id: &[u8],
    pending: &PendingRequest,
    tag: &[u8],
    status: u16,
) {
    ("SIP/2.0 ", (u32::from(status), (" ", (phrase(status), "\r\n")))).put(out);
    for via in pending.vias() {
        ("Via: ", (via, "\r\n")).put(out);
    }
    let to = Tagged(pending.to(), if status == 100 { b"" } else { tag });
    ("From: ", (pending.from(), ("\r\nTo: ", (to, "\r\n")))).put(out);
    ("Call-ID: ", (call_id, ("\r\nCSeq: ", (pending.cseq, (" ", (method, "\r\n")))))).put(out);
    "Content-Length: 0\r\n\r\n".put(out);
}

/// Writes a request of our own within the leg's dialog: BYE, OPTIONS to see whether the peer still has it, PRACK.
pub(crate) fn own_request(
    out: &mut Vec<u8>,
    settings: &Settings,
    method: Method,
    leg: &Leg,
    cseq: u32,
    via: &[u8],
    more: Option<(HeaderName, &str)>,
) {
    let mut request = start(out, method, &leg.target, via, &leg.routes)
        .header(HeaderName::From, Tagged(&leg.local, &leg.local_tag))
        .header(HeaderName::To, Tagged(&leg.remote, &leg.remote_tag))
        .header(HeaderName::CallId, &*leg.call_id)
        .header(HeaderName::CSeq, (cseq, (" ", method)));
    if method == Method::Options {
        request = request.header(HeaderName::Contact, &*identity::contact(settings, leg, b""));
    }
    if let Some((name, value)) = more {
        request = request.header(name, value);
    }
    request.finish();
}

/// Writes the ACK to a 300–699 of a branch's INVITE (RFC 3261 §17.1.1.3): same branch, the response's To.
pub(crate) fn ack_failure<B: AsRef<[u8]>>(out: &mut Vec<u8>, branch: &Branch, response: &Message<B>) {
    let to = response.value(HeaderName::To).unwrap_or_default();
    hop_by_hop(out, Method::Ack, branch, to);
}

/// Writes the CANCEL of a branch's INVITE (RFC 3261 §9.1): same branch, Request-URI, To and CSeq number.
pub(crate) fn cancel(out: &mut Vec<u8>, branch: &Branch, reason: Option<&[u8]>) {
    let to = Tagged(&branch.leg.remote, &branch.leg.remote_tag);
    let request = hop_by_hop_head(out, Method::Cancel, branch, to);
    match reason {
        Some(reason) => request.header(HeaderName::Reason, reason).finish(),
        None => request.finish(),
    }
}

/// Writes the ACK to a 2xx that nobody wants: the dialog it made gets a BYE next (RFC 3261 §13.2.2.4).
pub(crate) fn own_ack(out: &mut Vec<u8>, leg: &Leg, cseq: u32, via: &[u8]) {
    start(out, Method::Ack, &leg.target, via, &leg.routes)
        .header(HeaderName::From, Tagged(&leg.local, &leg.local_tag))
        .header(HeaderName::To, Tagged(&leg.remote, &leg.remote_tag))
        .header(HeaderName::CallId, &*leg.call_id)
        .header(HeaderName::CSeq, (cseq, (" ", Method::Ack)))
        .finish();
}

/// Answers a request for which there is no call: with a tag, and Retry-After where the sender may try again.
pub(crate) fn refusal<B: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    request: &Message<B>,
    flow: &Flow,
    status: u16,
    tag: &[u8],
    retry_after: Option<u32>,
) {
    let head = ResponseHead { status, reason: phrase(status), to_tag: Some(tag), source: Some(flow.remote) };
    let response = ResponseBuilder::new(out, request, &head);
    match retry_after {
        Some(seconds) => response.header(HeaderName::RetryAfter, seconds).finish(),
        None => response.finish(),
    }
}

/// Reason phrases of the responses that the edge makes itself (RFC 3261 §21).
pub(crate) const fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        402 => "Payment Required",
        410 => "Gone",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        491 => "Request Pending",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        _ => "Failed",
    }
}

/// What a request needs to be answered later. `source` goes into its top Via (RFC 3261 §18.2.1, RFC 3581 §4).
pub(crate) fn pending<B: AsRef<[u8]>>(request: &Message<B>, flow: &Flow) -> PendingRequest {
    let mut parts = ListWriter::default();
    parts.push(request.value(HeaderName::From).unwrap_or_default());
    parts.push(request.value(HeaderName::To).unwrap_or_default());
    let (mut vias, mut source) = (0, Some(flow.remote));
    for via in request.all(HeaderName::Via) {
        parts.push(StampedVia { value: via.value, source: source.take() });
        vias += 1;
    }
    request.all(HeaderName::RecordRoute).for_each(|route| parts.push(route.value));
    PendingRequest { cseq: request.cseq().number, vias, parts: parts.finish() }
}

/// The URI of the first Contact, where requests can be sent to it.
pub(crate) fn contact_of<B: AsRef<[u8]>>(message: &Message<B>) -> Option<&[u8]> {
    let value = message.values(HeaderName::Contact).next()?;
    NameAddr::parse(value).ok().map(|address| without_headers(address.uri)).filter(|uri| is_request_uri(uri))
}

/// The same, to keep.
pub(crate) fn contact_uri<B: AsRef<[u8]>>(message: &Message<B>) -> Option<Raw> {
    contact_of(message).map(Raw::from)
}

/// Whether a request line can bear this URI: it reads, and has no space, control character or delimiter in it
/// (RFC 3261 §25.1).
pub(crate) fn is_request_uri(uri: &[u8]) -> bool {
    let delimits = |byte: &u8| *byte <= b' ' || matches!(byte, 0x7F | b'<' | b'>' | b'"');
    Uri::parse(uri).is_ok() && !uri.iter().any(delimits)
}

/// The route set: Record-Route as the server saw it, or reversed as the client did (RFC 3261 §12.1).
pub(crate) fn route_set<B: AsRef<[u8]>>(message: &Message<B>, client: bool) -> RawList {
    let mut routes: SmallVec<[&[u8]; 8]> =
        message.all(HeaderName::RecordRoute).flat_map(|header| ListValues::new(header.value)).collect();
    if client {
        routes.reverse();
    }
    routes.into_iter().collect()
}

/// A From or To value with a tag, where there is one to give and none in it.
#[derive(Clone, Copy, Debug)]
struct Tagged<'a>(&'a [u8], &'a [u8]);

impl Put for Tagged<'_> {
    fn put(&self, out: &mut impl Sink) {
        let Self(value, tag) = *self;
        value.put(out);
        if !tag.is_empty() && !NameAddr::parse(value).is_ok_and(|address| address.tag().is_some()) {
            (";tag=", tag).put(out);
        }
    }
}

/// What `leg` must not see of a message that came over `by`: legs that hide from each other have each a Call-ID of its own.
fn hiding<'s, B: AsRef<[u8]>>(
    settings: &'s Settings,
    message: &Message<B>,
    by: &'s Leg,
    leg: &'s Leg,
) -> Option<Hiding<'s>> {
    let instead = || {
        let of_phone = domain_of(&leg.peer).or_else(|| domain_of(&by.peer));
        of_phone.or_else(|| host_of(&leg.local)).unwrap_or("anonymous.invalid")
    };
    // Documents of calls name no dialogs: no tenant is needed for those.
    (by.call_id != leg.call_id).then(|| Hiding::of(settings, "", message, &by.flow, instead()))
}

/// The host of an address, by which its receiver knows this side.
fn host_of(address: &[u8]) -> Option<&str> {
    match Uri::parse(NameAddr::parse(address).ok()?.uri).ok()? {
        Uri::Sip(uri) => std::str::from_utf8(uri.host).ok(),
        _ => None,
    }
}

fn identify<B: AsRef<[u8]>>(
    forward: &mut Forward<'_>,
    message: &Message<B>,
    leg: &Leg,
) -> Result<(), ForwardError> {
    if message.call_id() != &*leg.call_id {
        forward.set_call_id(&*leg.call_id);
    }
    // Whoever began without a tag (RFC 2543) goes on without one.
    match &*leg.local_tag {
        same if message.from_tag().unwrap_or_default() == same => {}
        b"" => forward.set(HeaderName::From, &*leg.local),
        tag => forward.set_from_tag(tag)?,
    }
    match &*leg.remote_tag {
        same if message.to_tag().unwrap_or_default() == same => {}
        b"" => forward.set(HeaderName::To, &*leg.remote),
        tag => forward.set_to_tag(tag)?,
    }
    Ok(())
}

/// Whether nobody could be called back without a Contact: INVITE and its 2xx make a dialog (RFC 3261 §8.1.1.8, §12.1.1).
fn needs_contact<B: AsRef<[u8]>>(message: &Message<B>) -> bool {
    let success = message.status().is_none_or(|status| (200..300).contains(&status));
    success && message.method() == Method::Invite
}

/// Our Contact instead of the peer's, or where it should have written one; its feature parameters follow (RFC 3840), unless the legs hide from each other.
fn rewrite_contact<B: AsRef<[u8]>>(
    forward: &mut Forward<'_>,
    settings: &Settings,
    message: &Message<B>,
    leg: &Leg,
    hidden: bool,
) {
    let value = message.values(HeaderName::Contact).next();
    if value.is_none() && !needs_contact(message) {
        return;
    }
    let features = match value.map(NameAddr::parse) {
        Some(Ok(address)) if address.bracketed && !hidden => address.params.as_bytes(),
        _ => b"",
    };
    forward.set(HeaderName::Contact, &*identity::contact(settings, leg, features));
}

/// Takes an option tag out of every header of this name (RFC 3261 §20.32, §20.37).
fn drop_option<B: AsRef<[u8]>>(
    forward: &mut Forward<'_>,
    message: &Message<B>,
    name: HeaderName,
    tag: &[u8],
) {
    for header in message.all(name).filter(|header| lists_token(header.value, tag)) {
        let others: SmallVec<[&[u8]; 8]> =
            ListValues::new(header.value).filter(|option| !option.eq_ignore_ascii_case(tag)).collect();
        if others.is_empty() {
            forward.remove_nth(header.place);
        } else {
            forward.replace_nth(header.place, others.join(b", ".as_slice()));
        }
    }
}

fn hop_by_hop(out: &mut Vec<u8>, method: Method, branch: &Branch, to: impl Put) {
    hop_by_hop_head(out, method, branch, to).finish();
}

fn hop_by_hop_head<'o>(
    out: &'o mut Vec<u8>,
    method: Method,
    branch: &Branch,
    to: impl Put,
) -> RequestBuilder<'o> {
    let leg = &branch.leg;
    start(out, method, &branch.uri, &branch.via, &leg.routes)
        .header(HeaderName::From, Tagged(&leg.local, &leg.local_tag))
        .header(HeaderName::To, to)
        .header(HeaderName::CallId, &*leg.call_id)
        .header(HeaderName::CSeq, (branch.cseq, (" ", method)))
}

fn start<'o>(
    out: &'o mut Vec<u8>,
    method: Method,
    uri: &[u8],
    via: &[u8],
    routes: &RawList,
) -> RequestBuilder<'o> {
    let mut request = RequestBuilder::new(out, method, uri).header(HeaderName::Via, via);
    for route in routes.iter() {
        request = request.header(HeaderName::Route, route);
    }
    request.header(HeaderName::MaxForwards, 70_u32)
}
