//! What goes out on either side.

use super::{Admitted, Between, End, Pending};
use crate::call::CLAIMS;
use crate::remote::ticket;
use crate::settings::Settings;
use crate::turn::Turn;
use signalbox_base::{Flow, Text, Transport};
use signalbox_sip::header::{ListValues, NameAddr};
use signalbox_sip::transaction::Branch;
use signalbox_sip::{Forward, HeaderName, Message, Method, RequestBuilder};

/// Proxies behind an end that are remembered in its Contact.
const ROUTES_MAX: usize = 4;

/// Our Via on a flow.
pub(super) fn via(turn: &Turn<'_>, flow: &Flow, branch: Branch) -> String {
    format!("SIP/2.0/{} {};branch={branch};rport", flow.transport.via(), turn.advertised(flow))
}

/// A request on its way: Via, routes, Request-URI and Contact are of the side it goes to.
pub(super) fn request(
    out: &mut Vec<u8>,
    settings: &Settings,
    message: &Message<&[u8]>,
    admitted: &Admitted,
    via: &str,
) {
    let Admitted { between, to, flow, uri, routes } = admitted;
    let mut forward = Forward::new(message);
    forward.set_request_uri(&**uri);
    forward.set(HeaderName::Via, via);
    forward.remove(HeaderName::Route);
    for route in routes {
        forward.insert_first(HeaderName::Route, &**route);
    }
    forward.remove(HeaderName::RecordRoute);
    // At 0 it was refused; what is not a number too.
    let _ = forward.decrement_max_forwards();
    rewrite_contact(&mut forward, settings, message, (between, other(*to)), flow, false);
    finish(forward, *to, flow, out);
}

/// A response on its way back.
pub(super) fn response(out: &mut Vec<u8>, settings: &Settings, message: &Message<&[u8]>, pending: &Pending) {
    let mut forward = Forward::new(message);
    forward.remove(HeaderName::Via);
    for via in pending.request.vias() {
        forward.insert_first(HeaderName::Via, via);
    }
    forward.remove(HeaderName::RecordRoute);
    if message.status().is_some_and(|status| status < 300) {
        let ends = (&pending.between, pending.to);
        rewrite_contact(&mut forward, settings, message, ends, &pending.from, true);
    }
    finish(forward, other(pending.to), &pending.from, out);
}

/// CANCEL, or the ACK of a 300–699, of an INVITE as it was sent (RFC 3261 §9.1, §17.1.1.3): the same branch, Request-URI,
/// From, Call-ID and CSeq number; ACK has the response's To.
pub(super) fn hop_by_hop(out: &mut Vec<u8>, method: Method, sent: &Message<&[u8]>, to: &[u8]) {
    let value = |name| sent.value(name).unwrap_or_default();
    let mut request = RequestBuilder::new(out, method, sent.request_uri().unwrap_or_default());
    request = request.header(HeaderName::Via, value(HeaderName::Via));
    for route in sent.all(HeaderName::Route) {
        request = request.header(HeaderName::Route, route.value);
    }
    request
        .header(HeaderName::MaxForwards, 70_u32)
        .header(HeaderName::From, value(HeaderName::From))
        .header(HeaderName::To, to)
        .header(HeaderName::CallId, sent.call_id())
        .header(HeaderName::CSeq, (sent.cseq().number, (" ", method)))
        .finish();
}

fn other(end: End) -> End {
    match end {
        End::Phone => End::Edge,
        End::Edge => End::Phone,
    }
}

/// What a phone says of who it is goes no further (RFC 3325 §5).
fn finish(mut forward: Forward<'_>, to: End, flow: &Flow, out: &mut Vec<u8>) {
    if to == End::Edge {
        CLAIMS.into_iter().for_each(|name| forward.remove(name));
    }
    if flow.transport.reliable() {
        forward.ensure_content_length();
    }
    forward.write_into(out);
}

/// Our Contact instead of the end's own; its feature parameters follow (RFC 3840). `towards` is who reads it.
fn rewrite_contact(
    forward: &mut Forward<'_>,
    settings: &Settings,
    message: &Message<&[u8]>,
    (between, end): (&Between, End),
    towards: &Flow,
    response: bool,
) {
    let Some(value) = message.values(HeaderName::Contact).next() else { return };
    let Some(contact) = NameAddr::parse(value).ok().filter(|c| crate::call::is_request_uri(c.uri)) else {
        // One that nobody could be called by would only show where its owner is.
        return forward.remove(HeaderName::Contact);
    };
    let mut routes: Vec<Text> = message
        .all(HeaderName::RecordRoute)
        .flat_map(|header| ListValues::new(header.value))
        .take(ROUTES_MAX)
        .map(Text::lossy)
        .collect();
    if response {
        // Who asked sees them the other way round (RFC 3261 §12.1.2).
        routes.reverse();
    }
    let way = between.way(end, Text::lossy(contact.uri), routes);
    let user = ticket::seal(&settings.cluster_key, &way);
    let host = settings
        .listener(towards.listener)
        .map_or_else(|| Text::from(towards.local.to_string()), |listener| listener.advertise.clone());
    let transport = match towards.transport {
        Transport::Udp => String::new(),
        other => format!(";transport={other}"),
    };
    let features = if contact.bracketed { contact.params.as_bytes() } else { b"" };
    let mut line = format!("<sip:{user}@{host}{transport}>").into_bytes();
    line.extend_from_slice(features);
    forward.set(HeaderName::Contact, &*line);
}
