//! RFC 4475 sections 3.3 and 3.4: messages that are well formed and ask for something odd.

use crate::story::{addr, address, sip, tell};
use signalbox_sip::MalformedReason as Reason;
use signalbox_sip::sdp::Session;
use signalbox_sip::{HeaderName, Uri};
use signalbox_torture::edge::PBX;
use std::time::Duration;

#[test]
pub(crate) fn rfc_4475_3_3_1_missing_required_header_fields() {
    tell("insuf", |story| {
        assert!(matches!(story.refused(), Reason::Missing(_)));
        // A 400 would need the From, To and Call-ID that are not there.
        story.dropped();
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_2_request_uri_with_unknown_scheme() {
    tell("unkscm", |story| {
        let message = story.valid();
        let uri = Uri::parse(message.request_uri().expect("a request")).expect("a URI");
        assert!(matches!(uri, Uri::Other { opaque: b"totallyopaquecontent", .. }));
        // To is no routing information, though it names a domain of ours.
        story.answered_readably(416);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_3_request_uri_with_known_but_atypical_scheme() {
    tell("novelsc", |story| {
        let message = story.valid();
        let uri = Uri::parse(message.request_uri().expect("a request")).expect("a URI");
        assert!(matches!(uri, Uri::Other { scheme: b"soap.beep", .. }));
        story.answered_readably(416);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_4_unknown_uri_schemes_in_header_fields() {
    tell("unksm2", |story| {
        let message = story.valid();
        assert_eq!(address(&message, HeaderName::To).uri, b"isbn:2983792873");
        // A registrar registers AoRs, and those are SIP URIs.
        story.answered_readably(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_5_proxy_require_and_require() {
    tell("bext01", |story| {
        story.valid();
        let answer = story.answered_readably(420);
        let answer = answer.message().expect("readable");
        let unsupported: Vec<_> = answer.values(HeaderName::Unsupported).collect();
        assert_eq!(
            unsupported,
            [&b"noProxiesSupportThis"[..], b"norDoAnyProxiesSupportThis"],
            "what a proxy was asked"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_6_unknown_content_type() {
    tell("invut", |story| {
        let message = story.valid();
        let (kind, body) =
            (message.value(HeaderName::ContentType).map(<[u8]>::to_vec), message.body().to_vec());
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(sent.value(HeaderName::ContentType), kind.as_deref(), "415 is for the callee to say");
        assert_eq!(sent.body(), body);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_7_unknown_authorization_scheme() {
    tell("regaut01", |story| {
        story.valid();
        let asked = story.forwarded();
        let seen = asked.message().expect("readable").value(HeaderName::Authorization).map(<[u8]>::to_vec);
        assert!(
            seen.is_some_and(|value| value.starts_with(b"NoOneKnowsThisScheme ")),
            "the registrar judges it"
        );
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
        story.pbx_answers(&asked, 401, challenge);
        assert_eq!(story.edge.bindings(), 0);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_8_multiple_values_in_single_value_required_fields() {
    tell("multi01", |story| {
        assert!(matches!(story.refused(), Reason::Repeated(_)));
        let answer = story.answered(400);
        let answer = answer.message().expect("one of each, so that it can be read");
        assert_eq!(answer.all(HeaderName::CallId).count(), 1);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_9_multiple_content_length_values() {
    tell("mcl01", |story| {
        assert_eq!(story.refused(), Reason::Repeated(HeaderName::ContentLength));
        story.answered(400);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_10_200_ok_response_with_broadcast_via_header_field_value() {
    tell("bcast", |story| {
        story.valid();
        story.dropped();
        // Not from the PBX either.
        let bytes = story.bytes.clone();
        story.edge.receive(addr(PBX), &bytes);
        assert!(story.edge.take().is_empty(), "nothing goes to 255.255.255.255, nor anywhere else");
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_11_max_forwards_of_zero() {
    tell("zeromf", |story| {
        assert_eq!(story.valid().max_forwards(), Some(Ok(0)));
        story.answered_readably(483);
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_12_register_with_a_contact_header_parameter() {
    tell("cparam01", |story| {
        let message = story.valid();
        let contact = address(&message, HeaderName::Contact);
        assert!(contact.params.has(b"unknownparam") && sip(contact.uri).params.into_iter().next().is_none());
        let asked = story.forwarded();
        let asked = asked.message().expect("readable");
        assert!(
            address(&asked, HeaderName::Contact).params.has(b"unknownparam"),
            "it is the contact's, not its URI's"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_13_register_with_a_url_parameter() {
    tell("cparam02", |story| {
        let message = story.valid();
        let contact = address(&message, HeaderName::Contact);
        assert!(!contact.params.has(b"unknownparam") && sip(contact.uri).params.has(b"unknownparam"));
        let (answer, _) = story.registered();
        let answer = answer.message().expect("readable");
        assert!(
            sip(address(&answer, HeaderName::Contact).uri).params.has(b"unknownparam"),
            "the phone gets its own back"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_14_register_with_a_url_escaped_header() {
    tell("regescrt", |story| {
        let message = story.valid();
        let headers = sip(address(&message, HeaderName::Contact).uri).headers;
        assert_eq!(headers, b"Route=%3Csip:sip.example.com%3E");
        let (_, tokens) = story.registered();
        assert_eq!((tokens.len(), story.edge.bindings()), (1, 1));
        // Whoever is called through that binding gets a Request-URI without them (RFC 3261 §19.1.1).
        let options = format!(
            "OPTIONS {} SIP/2.0\r\nVia: SIP/2.0/UDP {PBX};branch=z9hG4bKcall\r\nMax-Forwards: 70\r\n\
             From: <sip:9@example.com>;tag=1\r\nTo: <sip:user@example.com>\r\nCall-ID: call\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n",
            tokens[0]
        );
        story.edge.receive(addr(PBX), options.as_bytes());
        story.edge.wait(Duration::from_millis(20));
        let sent = story.edge.take();
        let sent = sent
            .iter()
            .filter_map(|sent| sent.message())
            .find(|m| m.is_request())
            .expect("it reaches the phone");
        assert!(sip(sent.request_uri().expect("a request")).headers.is_empty());
        assert_eq!(
            sent.all(HeaderName::Route).count(),
            0,
            "nor do they become headers that would lead it elsewhere"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_3_15_unacceptable_accept_offering() {
    tell("sdp01", |story| {
        let message = story.valid();
        assert_eq!(message.value(HeaderName::Accept), Some(&b"text/nobodyKnowsThis"[..]));
        assert!(Session::parse(message.body()).is_ok());
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert_eq!(
            sent.value(HeaderName::Accept),
            Some(&b"text/nobodyKnowsThis"[..]),
            "406 is for the callee to say"
        );
    });
}

#[test]
pub(crate) fn rfc_4475_3_4_1_invite_with_rfc_2543_syntax() {
    tell("inv2543", |story| {
        let message = story.valid();
        assert_eq!((message.from_tag(), message.max_forwards()), (None, None));
        assert_eq!(message.top_via().expect("a Via").branch(), None);
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        assert!(sent.top_via().expect("ours").has_magic_cookie());
        assert_eq!(
            sent.all(HeaderName::RecordRoute).count(),
            0,
            "the edge is the peer, and answers for its own side"
        );
        assert_eq!(story.edge.calls_active(), 1);
        // The same again is a retransmission, though no branch says so.
        let (pbx, _) = story.send();
        assert_eq!((pbx.len(), story.edge.calls_active()), (0, 1));
    });
}
