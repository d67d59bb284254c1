//! RFC 4475 section 3.1.1: messages that are valid, however they look.

use crate::story::{addr, address, sip, tell};
use signalbox_sip::header::Via;
use signalbox_sip::{HeaderName, Method};
use signalbox_torture::edge::PBX;

#[test]
pub(crate) fn rfc_4475_3_1_1_1_a_short_tortuous_invite() {
    tell("wsinv", |story| {
        let message = story.valid();
        assert_eq!(
            (message.to_tag(), message.from_tag()),
            (Some(&b"1918181833n"[..]), Some(&b"98asjd8"[..]))
        );
        assert_eq!((message.cseq().number, message.max_forwards()), (9, Some(Ok(68))));
        assert_eq!(
            address(&message, HeaderName::From).display_text().as_deref(),
            Some(&b"J Rosenberg \\\""[..])
        );
        let branches: Vec<_> =
            message.values(HeaderName::Via).map(|via| Via::parse(via).expect("a Via")).collect();
        let branches: Vec<_> = branches.iter().filter_map(Via::branch).collect();
        assert_eq!(branches, [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"]);
        let contact = address(&message, HeaderName::Contact);
        assert_eq!((contact.q(), contact.params.value(b"newparam")), (Some(330), Some(&b"newvalue"[..])));
        assert_eq!(message.value(HeaderName::Subject), Some(&b""[..]));
        assert_eq!(
            message.extension(b"unknownheaderwithunusualvalue").next().map(|h| h.value),
            Some(&b";;,,;;,;"[..])
        );
        // It bears a To tag of a dialog that nobody here has (RFC 3261 §12.2.2).
        story.answered_readably(481);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_2_a_wide_range_of_valid_characters() {
    tell("intmeth", |story| {
        let message = story.valid();
        assert!(matches!(message.method(), Method::Other(_)));
        assert_eq!(message.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
        assert_eq!(message.from_tag(), Some(&b"_token~1'+`*%!-."[..]));
        let uri = sip(message.request_uri().expect("a request"));
        assert_eq!(uri.user, Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..]));
        assert_eq!(uri.password, Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..]));
        let names = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
        let kept = |m: &signalbox_sip::Message<&[u8]>| names.map(|name| m.value(name).map(<[u8]>::to_vec));
        let before = (message.request_uri().map(<[u8]>::to_vec), kept(&message));
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!((sent.request_uri().map(<[u8]>::to_vec), kept(&sent)), before, "nothing is rewritten");
        assert_eq!(sent.extension(b"extensionHeader-!.%*+_`'~").count(), 1);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_3_valid_use_of_the_percent_escaping_mechanism() {
    tell("esc01", |story| {
        let message = story.valid();
        let uri = sip(message.request_uri().expect("a request"));
        assert_eq!(uri.decoded_user().as_deref(), Some(&b"sips:user@example.com"[..]));
        assert!(!uri.secure && uri.host == b"example.net", "what is escaped is user, not URI");
        assert_eq!(sip(address(&message, HeaderName::To).uri).decoded_user().as_deref(), Some(&b"user"[..]));
        assert!(
            sip(address(&message, HeaderName::Contact).uri).is_loose(),
            "a parameter's name may be escaped"
        );
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(
            sent.request_uri(),
            Some(&b"sip:sips%3Auser%40example.com@example.net"[..]),
            "escapes stay"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_4_escaped_nulls_in_uris() {
    tell("escnull", |story| {
        let message = story.valid();
        assert_eq!(message.values(HeaderName::Contact).count(), 2);
        let to = address(&message, HeaderName::To);
        let user = sip(to.uri).decoded_user().expect("a user").into_owned();
        assert_eq!(user, b"null-\0-null", "a NUL ends nothing");
        let (answer, tokens) = story.registered();
        let answer = answer.message().expect("readable");
        let contacts: Vec<_> = answer.values(HeaderName::Contact).collect();
        assert_eq!(
            (contacts.len(), tokens.len(), story.edge.bindings()),
            (2, 2, 2),
            "two contacts, two bindings"
        );
        assert!(contacts[0].starts_with(b"<sip:%00@") && contacts[1].starts_with(b"<sip:%00%00@"));
        story.edge.assert_replay_equals_live();
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_5_use_of_percent_when_it_is_not_an_escape() {
    tell("esc02", |story| {
        let message = story.valid();
        assert!(matches!(message.method(), Method::Other(_)), "this is not REGISTER");
        assert_eq!(message.values(HeaderName::Contact).count(), 2, "C%6Fntact is no Contact");
        assert_eq!(message.top_via().expect("a Via").branch(), Some(&b"z9hG4bK209%fzsnel234"[..]));
        assert_eq!(address(&message, HeaderName::To).display_text().as_deref(), Some(&b"%Z%45"[..]));
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(sent.method().as_str(), "RE%47IST%45R");
        assert_eq!(sent.extension(b"C%6Fntact").count(), 1);
        assert_eq!(story.edge.bindings(), 0);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_6_no_lws_between_display_name_and_bracket() {
    tell("lwsdisp", |story| {
        let message = story.valid();
        let from = address(&message, HeaderName::From);
        assert_eq!(from.display_text().as_deref(), Some(&b"caller"[..]));
        assert_eq!(from.uri, b"sip:caller@example.com");
        story.forwarded();
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_7_long_values_in_header_fields() {
    tell("longreq", |story| {
        let message = story.valid();
        assert_eq!(message.values(HeaderName::Via).count(), 34);
        assert!(message.value(HeaderName::Contact).is_some_and(|contact| contact.len() > 100));
        let (call_id, from) = (message.call_id().to_vec(), message.from_tag().map(<[u8]>::to_vec));
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(
            (sent.call_id(), sent.from_tag()),
            (call_id.as_slice(), from.as_deref()),
            "nothing is cut short"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_8_extra_trailing_octets_in_a_udp_datagram() {
    tell("dblreq", |story| {
        let message = story.valid();
        assert_eq!((message.method(), message.body()), (Method::Register, &b""[..]));
        let (_, tokens) = story.registered();
        assert_eq!(
            (tokens.len(), story.edge.bindings(), story.edge.calls_active()),
            (1, 1, 0),
            "no INVITE came"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_9_semicolon_separated_parameters_in_the_user_part() {
    tell("semiuri", |story| {
        let message = story.valid();
        let uri = sip(message.request_uri().expect("a request"));
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!((uri.host, uri.params.into_iter().count()), (&b"example.com"[..], 0));
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(sent.request_uri(), Some(&b"sip:user;par=u%40example.net@example.com"[..]));
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_10_varied_and_unknown_transport_types() {
    tell("transports", |story| {
        let message = story.valid();
        let vias: Vec<_> =
            message.values(HeaderName::Via).map(|via| Via::parse(via).expect("a Via")).collect();
        let transports: Vec<_> = vias.iter().map(|via| via.transport).collect();
        assert_eq!(transports, [&b"UDP"[..], b"SCTP", b"TLS", b"UNKNOWN", b"TCP"]);
        let asked = story.forwarded();
        let answer = story.pbx_answers(&asked, 200, "");
        let answer = answer.message().expect("readable");
        assert_eq!(answer.values(HeaderName::Via).count(), 5, "the answer goes back through all of them");
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_11_s_mime_signed_message() {
    tell("mpart01", |story| {
        let body = story.valid().body().to_vec();
        assert!(body.contains(&0), "binary");
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!((sent.method(), sent.body()), (Method::Message, body.as_slice()), "byte for byte");
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_12_unusual_reason_phrase() {
    tell("unreason", |story| {
        let message = story.valid();
        assert_eq!(message.status(), Some(200));
        let reason = std::str::from_utf8(message.reason().expect("a response")).expect("UTF-8");
        assert!(reason.starts_with("= 2**3 * 5**2 но сто девяносто девять"), "{reason}");
        // A response to nothing that was asked.
        story.dropped();
        assert_eq!(story.edge.counters().strays, 1);
    });
}

#[test]
pub(crate) fn rfc_4475_3_1_1_13_empty_reason_phrase() {
    tell("noreason", |story| {
        let message = story.valid();
        assert_eq!((message.status(), message.reason()), (Some(100), Some(&b""[..])));
        story.dropped();
        assert_eq!(story.edge.counters().strays, 1);
        // What is a stray from a phone is one from the PBX too.
        let bytes = story.bytes.clone();
        story.edge.receive(addr(PBX), &bytes);
        assert!(story.edge.take().is_empty());
    });
}
