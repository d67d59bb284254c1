//! RFC 5118: IPv6 in SIP, 12 messages in ten sections.

use crate::story::{Story, address, sip, tell};
use signalbox_sip::MalformedReason as Reason;
use signalbox_sip::header::Via;
use signalbox_sip::sdp::Session;
use signalbox_sip::{HeaderName, Message};
use std::net::IpAddr;

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

#[test]
pub(crate) fn rfc_5118_4_1_valid_sip_message_with_an_ipv6_reference() {
    tell("ipv6-good", |story| {
        let message = story.valid();
        let uri = sip(message.request_uri().expect("a request"));
        assert_eq!((uri.address(), uri.port), (ip("2001:db8::10"), None));
        assert_eq!(message.top_via().expect("a Via").address(), ip("2001:db8::9:1"));
        let (answer, _) = story.registered();
        let answer = answer.message().expect("readable");
        let contact = address(&answer, HeaderName::Contact);
        assert_eq!(contact.uri, address(&story.valid(), HeaderName::Contact).uri);
    });
}

#[test]
pub(crate) fn rfc_5118_4_2_invalid_sip_message_with_an_ipv6_reference() {
    tell("ipv6-bad", |story| {
        assert_eq!(story.unreadable(), Reason::BadRequestUri);
        story.answered_readably(400);
    });
}

#[test]
pub(crate) fn rfc_5118_4_3_port_ambiguous_in_a_sip_uri() {
    tell("port-ambiguous", |story| {
        let message = story.valid();
        let uri = sip(message.request_uri().expect("a request"));
        assert_eq!(
            (uri.address(), uri.port),
            (ip("2001:db8::10:5070"), None),
            "5070 is the address's last group"
        );
        // That address is not the edge's: nobody asked for anything here.
        story.dropped();
    });
}

#[test]
pub(crate) fn rfc_5118_4_4_port_unambiguous_in_a_sip_uri() {
    tell("port-unambiguous", |story| {
        let message = story.valid();
        let uri = sip(message.request_uri().expect("a request"));
        assert_eq!((uri.address(), uri.port), (ip("2001:db8::10"), Some(5070)));
        story.registered();
    });
}

#[test]
pub(crate) fn rfc_5118_4_5_ipv6_reference_delimiters_in_received() {
    tell("via-received-param-with-delim", |story| {
        let message = story.valid();
        let via = message.top_via().expect("a Via");
        assert_eq!((via.received(), via.address()), (ip("2001:db8::9:255"), ip("2001:db8::9:1")));
        story.answered_readably(481);
    });
}

#[test]
pub(crate) fn rfc_5118_4_5_no_ipv6_reference_delimiters_in_received() {
    tell("via-received-param-no-delim", |story| {
        let message = story.valid();
        let via = message.top_via().expect("a Via");
        assert_eq!((via.received(), via.address()), (ip("2001:db8::9:255"), ip("2001:db8::9:1")));
        let asked = story.forwarded();
        let answer = story.pbx_answers(&asked, 200, "");
        let answer = answer.message().expect("readable");
        let via = answer.top_via().expect("a Via");
        assert_eq!(via.received(), None, "what it claimed is gone, and what we saw is what its sent-by says");
    });
}

#[test]
pub(crate) fn rfc_5118_4_6_sip_request_with_ipv6_addresses_in_sdp() {
    tell("ipv6-in-sdp", |story| {
        let body = story.valid().body().to_vec();
        let session = Session::parse(&body).expect("a session");
        assert_eq!(session.connection.and_then(|c| c.ip()), ip("2001:db8::20"));
        assert_eq!(session.media.len(), 2);
        let sent = story.forwarded();
        let sent = sent.message().expect("readable");
        let session = Session::parse(sent.body()).expect("a session");
        assert_eq!(session.connection.and_then(|c| c.ip()), ip("2001:db8::20"), "media flows past the edge");
    });
}

#[test]
pub(crate) fn rfc_5118_4_7_multiple_ip_addresses_in_sip_header_fields() {
    tell("mult-ip-in-header", |story| {
        let message = story.valid();
        let vias: Vec<_> =
            message.values(HeaderName::Via).map(|via| Via::parse(via).expect("a Via")).collect();
        let families: Vec<_> = vias.iter().filter_map(|via| via.address()).map(|ip| ip.is_ipv6()).collect();
        assert_eq!(families, [true, false, true]);
        assert_eq!(vias[2].received(), ip("192.0.2.200"));
        story.answered_readably(481);
    });
}

#[test]
pub(crate) fn rfc_5118_4_8_multiple_ip_addresses_in_sdp() {
    tell("mult-ip-in-sdp", |story| {
        let families = |message: &Message<&[u8]>| {
            let session = Session::parse(message.body()).expect("a session");
            let of = |media| session.connection_of(media).and_then(|c| c.ip());
            let all: Vec<_> = session.media.iter().map(|media| of(media).map(|ip| ip.is_ipv6())).collect();
            all
        };
        let before = families(&story.valid());
        assert_eq!(before.last(), Some(&Some(true)), "video by IPv6");
        let sent = story.forwarded();
        assert_eq!(families(&sent.message().expect("readable")), before);
    });
}

#[test]
pub(crate) fn rfc_5118_4_9_ipv4_mapped_ipv6_addresses() {
    tell("ipv4-mapped-ipv6", |story| {
        let message = story.valid();
        let via = message.top_via().expect("a Via");
        assert_eq!((via.address(), via.port), (ip("::ffff:192.0.2.10"), Some(19823)));
        assert_eq!(sip(address(&message, HeaderName::Contact).uri).address(), ip("::ffff:192.0.2.2"));
        let body = message.body().to_vec();
        let session = Session::parse(&body).expect("a session");
        assert_eq!(session.connection.and_then(|c| c.ip()), ip("::ffff:192.0.2.2"));
        story.forwarded();
    });
}

/// The address is the edge's own, however it is written.
const REACHES_THE_EDGE: fn(&mut Story) = |story| {
    let message = story.valid();
    let uri = sip(message.request_uri().expect("a request"));
    assert_eq!((uri.address(), uri.user), (ip("2001:db8::192.0.2.1"), Some(&b"user"[..])));
    let sent = story.forwarded();
    let sent = sent.message().expect("readable");
    // The PBX knows a domain, and not the edge's address; and three colons go to nobody.
    assert_eq!(sent.request_uri(), Some(&b"sip:user@example.com"[..]));
};

#[test]
pub(crate) fn rfc_5118_4_10_ipv6_reference_with_two_colons_as_the_corrected_abnf_has_it() {
    tell("ipv6-correct-abnf-2-colons", REACHES_THE_EDGE);
}

#[test]
pub(crate) fn rfc_5118_4_10_ipv6_reference_with_three_colons_as_the_abnf_bug_had_it() {
    tell("ipv6-bug-abnf-3-colons", REACHES_THE_EDGE);
}
