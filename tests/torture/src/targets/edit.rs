//! Parse, edit, print: what is named changes, everything else stays byte for byte.

use signalbox_sip::{Forward, HeaderName, Limits, Message, Method, RequestBuilder};

/// What the edits below own.
const OWNED: [HeaderName; 10] = [
    HeaderName::Via,
    HeaderName::RecordRoute,
    HeaderName::Route,
    HeaderName::Contact,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::MaxForwards,
    HeaderName::From,
    HeaderName::To,
    HeaderName::ContentLength,
];

/// See the module.
pub fn edit(bytes: &[u8]) -> bool {
    let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { return false };
    let mut out = Vec::new();
    Forward::new(&message).write_into(&mut out);
    // But for a version in small letters, which is sent in capitals.
    let (start, rest) = out.split_at(out.iter().position(|b| *b == b'\n').map_or(out.len(), |n| n + 1));
    let (before, after) = message.as_bytes().split_at(start.len());
    assert!(start.eq_ignore_ascii_case(before) && rest == after, "an unedited message leaves byte for byte");
    all_edits(&message);
    one_edit(&message);
    let mut fresh = Vec::new();
    RequestBuilder::new(&mut fresh, Method::Ack, "sip:h").copy(&message, HeaderName::Via).finish();
    assert!(fresh.starts_with(b"ACK sip:h SIP/2.0\r\n"));
    true
}

/// Names and values of what no edit owns, in order.
fn foreign<'m>(message: &'m Message<&[u8]>) -> Vec<(&'m [u8], &'m [u8])> {
    let foreign =
        message.headers().filter(|header| !OWNED.contains(&header.id) && header.id != HeaderName::RAck);
    foreign.map(|header| (header.name, header.value)).collect()
}

fn all_edits(message: &Message<&[u8]>) {
    let mut forward = Forward::new(message);
    forward.set_request_uri("sip:next");
    forward.set_status(500, "x");
    forward.insert_first(HeaderName::Via, "SIP/2.0/UDP us;branch=z9hG4bKn");
    forward.insert_first(HeaderName::RecordRoute, "<sip:us;lr>");
    forward.pop_first(HeaderName::Route);
    forward.set(HeaderName::Contact, "<sip:token@us>");
    forward.set_call_id("mapped");
    forward.set_cseq_number(10_001);
    let _ = (forward.decrement_max_forwards(), forward.set_rack_cseq(5));
    let tags = forward.set_from_tag("f").and_then(|()| forward.set_to_tag("t"));
    forward.ensure_content_length();
    let mut out = Vec::new();
    forward.write_into(&mut out);
    let limits = Limits { header_bytes_max: usize::MAX, ..Limits::DATAGRAM };
    let sent = Message::parse(out.as_slice(), &limits)
        .unwrap_or_else(|malformed| panic!("{malformed}: {}", out.escape_ascii()));
    assert_eq!((sent.call_id(), sent.cseq().number), (&b"mapped"[..], 10_001));
    assert!(tags.is_err() || (sent.from_tag(), sent.to_tag()) == (Some(b"f"), Some(b"t")));
    assert_eq!(sent.top_via().ok().and_then(|via| via.branch()), Some(&b"z9hG4bKn"[..]));
    assert_eq!(foreign(&sent), foreign(message), "what nobody named stays");
    assert_eq!(sent.body(), message.body());
}

/// One edit alone touches nothing else.
fn one_edit(message: &Message<&[u8]>) {
    let mut forward = Forward::new(message);
    forward.insert_first(HeaderName::Via, "SIP/2.0/UDP us;branch=z9hG4bKn");
    let mut out = Vec::new();
    forward.write_into(&mut out);
    let whole = message.as_bytes();
    let line = b"Via: SIP/2.0/UDP us;branch=z9hG4bKn\r\n";
    // A message may end where its head does, without the empty line; what is sent has one.
    let ended = [whole, b"\r\n"].concat();
    let places = (0..out.len()).filter(|at| out[*at..].starts_with(line));
    let mut rests = places.map(|at| [&out[..at], &out[at + line.len()..]].concat());
    assert!(
        rests.any(|rest| rest == whole || rest == ended),
        "one line more, and not another byte: {}",
        out.escape_ascii()
    );
}
