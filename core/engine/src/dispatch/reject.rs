//! Answers to what gets no transaction: broken bytes, and requests that go no further.

use super::count_response;
use crate::contract::{ClassB, Release};
use crate::gate::fingerprints;
use crate::turn::{About, Turn};
use signalbox_base::Flow;
use signalbox_schemas::words::RequestRule;
use signalbox_sip::transaction::RequestFields;
use signalbox_sip::{
    HeaderName, Limits, Malformed, MalformedReason, Message, Method, ResponseBuilder, ResponseHead,
};

/// Bytes that are no message: counted, and answered where there is somebody to answer.
pub(crate) fn malformed(turn: &mut Turn<'_>, flow: &Flow, bytes: &[u8], fault: &Malformed) {
    let source = flow.remote.ip();
    if fingerprints::is_scanner_raw(bytes) {
        turn.reject(source, RequestRule::Acl, None);
        return;
    }
    let rule = match fault.reason {
        MalformedReason::MessageTooLarge => RequestRule::Oversize,
        _ => RequestRule::Malformed,
    };
    let request = Message::salvage(bytes, &Limits::DATAGRAM);
    match &request {
        Some(request) => turn.reject_request(source, rule, Some(fault.offset), request),
        None => turn.reject(source, rule, Some(fault.offset)),
    }
    turn.note(About { source: Some(flow.remote), ..About::default() }, || format!("malformed: {fault}"));
    // Of what is there twice the first is echoed (RFC 4475 §3.3.8): whoever sent it finds its transaction by the Via.
    if let Some(status) = fault.reply_status()
        && let Some(request) = request
    {
        reject(turn, *flow, &request, status, fault.reply_reason());
    }
}

/// A response to a request that gets no transaction: nothing is kept, and a repeated request gets the same again
/// (RFC 3261 §8.2.7).
pub(crate) fn reject(turn: &mut Turn<'_>, flow: Flow, request: &Message<&[u8]>, status: u16, reason: &str) {
    reject_after(turn, flow, request, status, reason, None);
}

/// The same with Retry-After in seconds.
pub(crate) fn reject_after(
    turn: &mut Turn<'_>,
    flow: Flow,
    request: &Message<&[u8]>,
    status: u16,
    reason: &str,
    retry_after: Option<u32>,
) {
    let secs = retry_after.map(|secs| secs.to_string());
    let header = secs.as_ref().map(|secs| (HeaderName::RetryAfter, secs.as_bytes()));
    reject_with(turn, flow, request, (status, reason), header.as_slice());
}

/// The same with headers of the caller's.
pub(crate) fn reject_with(
    turn: &mut Turn<'_>,
    flow: Flow,
    request: &Message<&[u8]>,
    (status, reason): (u16, &str),
    headers: &[(HeaderName, &[u8])],
) {
    if request.method() == Method::Ack {
        return;
    }
    let tag = to_tag(turn, request);
    let class = if matches!(status, 401 | 407) { ClassB::Challenge } else { ClassB::Rejected };
    count_response(turn, status);
    turn.send_as(flow, Release::Now(class), |out| {
        let head = ResponseHead { status, reason, to_tag: Some(tag.as_bytes()), source: Some(flow.remote) };
        let response = ResponseBuilder::new(out, request, &head);
        headers.iter().fold(response, |response, (name, value)| response.header(*name, *value)).finish();
    });
}

/// A To tag that is the same for a repeated request.
pub(crate) fn to_tag(turn: &Turn<'_>, request: &Message<&[u8]>) -> String {
    let branch = request.top_via().ok().and_then(|via| via.branch()).unwrap_or_default();
    let key = turn.net.hasher.key(&RequestFields {
        method: b"tag",
        call_id: request.call_id(),
        from_tag: request.from_tag().unwrap_or_default(),
        via: branch,
        ..RequestFields::default()
    });
    format!("{:016x}", (key.bits() >> 64) as u64)
}
