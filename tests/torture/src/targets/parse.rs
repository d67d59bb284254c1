//! Parsing: every reader over every part, and replies to what can be answered.

use signalbox_sip::digest::{Challenge, Credentials};
use signalbox_sip::header::{
    ContentType, DialogReference, Event, ListValues, NameAddr, RAck, Reason, RetryAfter, SessionExpires,
    SubscriptionState, Via,
};
use signalbox_sip::{HeaderName, Limits, Message, ResponseBuilder, ResponseHead};

/// See the module.
pub fn parse(bytes: &[u8]) -> bool {
    let parsed = Message::parse(bytes, &Limits::DATAGRAM);
    let salvaged = Message::salvage(bytes, &Limits::DATAGRAM);
    match &parsed {
        Err(malformed) => {
            assert!(malformed.offset <= bytes.len());
            assert_eq!(
                malformed.answerable,
                salvaged.is_some(),
                "what is said to be answerable can be answered"
            );
        }
        Ok(message) => read(bytes, message),
    }
    match &parsed {
        Ok(request) if request.is_request() => answer(request, request.validate().is_ok()),
        _ => salvaged.iter().for_each(|request| answer(request, false)),
    }
    parsed.is_ok()
}

fn read(bytes: &[u8], message: &Message<&[u8]>) {
    let inside = |part: &[u8]| {
        let (start, end) = (bytes.as_ptr() as usize, bytes.as_ptr() as usize + bytes.len());
        let at = part.as_ptr() as usize;
        part.is_empty() || (at >= start && at + part.len() <= end)
    };
    let _ = (message.start_line(), message.method(), message.max_forwards(), message.validate());
    assert!(inside(message.body()) && inside(message.as_bytes()));
    assert_eq!(message.is_request(), message.status().is_none());
    for (place, header) in message.headers().enumerate() {
        assert!(inside(header.name) && inside(header.value) && header.place == place);
        assert!(message.all(header.id).any(|same| same.place == place), "found by its name too");
        for value in ListValues::new(header.value).chain([header.value]) {
            assert!(inside(value));
            read_value(value);
        }
    }
    let tags = (message.from_tag(), message.to_tag());
    assert!(tags.0.is_none_or(inside) && tags.1.is_none_or(inside));
    assert_eq!(tags.0, message.from().ok().and_then(|from| from.tag()).filter(|tag| !tag.is_empty()));
    let owned = message.to_owned();
    assert_eq!(owned.as_bytes(), message.as_bytes());
    let again = Message::parse(message.as_bytes(), &Limits::DATAGRAM).expect("a message's own bytes are one");
    assert_eq!(again.headers().len(), message.headers().len());
}

fn read_value(value: &[u8]) {
    let _ = (ContentType::parse(value), Event::parse(value), RAck::parse(value), Reason::parse(value));
    let _ = (RetryAfter::parse(value), SessionExpires::parse(value), SubscriptionState::parse(value));
    let _ = (DialogReference::parse(value), Challenge::parse(value), Credentials::parse(value));
    if let Ok(via) = Via::parse(value) {
        let _ = (via.branch(), via.received(), via.rport(), via.address(), via.known_transport());
    }
    if let Ok(address) = NameAddr::parse(value) {
        let _ = (
            address.q(),
            address.expires(),
            address.sip_instance(),
            address.reg_id(),
            address.display_text(),
        );
        crate::targets::uri(address.uri);
    }
}

/// A reply is read by whoever reads replies, unless it echoes what could not be read.
fn answer(request: &Message<&[u8]>, readable: bool) {
    let mut out = Vec::new();
    let source = "192.0.2.9:5060".parse().ok();
    let head = ResponseHead { status: 400, reason: "Bad Request", to_tag: Some(b"t"), source };
    ResponseBuilder::new(&mut out, request, &head).finish();
    assert!(out.starts_with(b"SIP/2.0 400 Bad Request\r\n") && out.windows(4).any(|w| w == b"\r\n\r\n"));
    let limits = Limits { header_bytes_max: usize::MAX, ..Limits::DATAGRAM };
    match Message::parse(out.as_slice(), &limits) {
        Ok(reply) => {
            assert_eq!((reply.status(), reply.call_id()), (Some(400), request.call_id()));
            assert_eq!(reply.values(HeaderName::Via).count(), request.values(HeaderName::Via).count());
            assert!(!readable || reply.to_tag().is_some());
        }
        Err(malformed) => assert!(!readable, "{malformed}: {}", out.escape_ascii()),
    }
}
