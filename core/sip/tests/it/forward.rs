//! Properties of forwarding: what is not named stays, in order and byte for byte.

use proptest::prelude::*;
use signalbox_sip::{Forward, HeaderName, Limits, Message};

const OWNED: [HeaderName; 4] =
    [HeaderName::Via, HeaderName::RecordRoute, HeaderName::MaxForwards, HeaderName::ContentLength];

/// One header line that the forwarder does not own, in one of many spellings.
fn foreign_header() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("Subject"),
        Just("s"),
        Just("Route"),
        Just("Contact"),
        Just("m"),
        Just("X-Vendor"),
        Just("Identity"),
        Just("k"),
        Just("P-Asserted-Identity"),
        Just("Warning"),
    ];
    let colon = prop_oneof![Just(":"), Just(": "), Just(" : "), Just(":\t "), Just(":\r\n ")];
    (name, colon, "[ -~]{0,40}", any::<bool>()).prop_map(|(name, colon, value, folded)| {
        let fold = if folded { "\r\n\tfolded, \"x" } else { "" };
        format!("{name}{colon}{value}{fold}\r\n")
    })
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let headers = prop::collection::vec(foreign_header(), 0..12);
    let mandatory = Just(vec![
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\n".to_owned(),
        "v: SIP/2.0/TCP h;branch=z9hG4bKb, SIP/2.0/UDP i\r\n".to_owned(),
        "f: <sip:a@h>;tag=1\r\n".to_owned(),
        "To : sip:b@h\r\n".to_owned(),
        "i:x\r\n".to_owned(),
        "CSeq: 1  INVITE\r\n".to_owned(),
        "Max-Forwards: 70\r\n".to_owned(),
        "Record-Route: <sip:p;lr>\r\n".to_owned(),
    ]);
    let all = (headers, mandatory).prop_map(|(mut headers, mandatory)| {
        headers.extend(mandatory);
        headers
    });
    let body = prop::collection::vec(any::<u8>(), 0..60);
    (all.prop_shuffle(), body, any::<bool>()).prop_map(|(headers, body, counted)| {
        let length = if counted { format!("l: {}\r\n", body.len()) } else { String::new() };
        [format!("INVITE sip:b@h SIP/2.0\r\n{}{length}\r\n", headers.concat()).as_bytes(), &body].concat()
    })
}

/// Names and values of what the forwarder does not own.
fn foreign(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let message = Message::parse(bytes, &Limits::DATAGRAM).expect("acceptable");
    let foreign = message.headers().filter(|header| !OWNED.contains(&header.id));
    foreign.map(|header| (header.name.to_vec(), header.value.to_vec())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::mutation::effort(200)))]

    #[test]
    fn an_unedited_message_leaves_byte_for_byte(bytes in message()) {
        let message = Message::parse(bytes.as_slice(), &Limits::DATAGRAM).expect("acceptable");
        let mut out = Vec::new();
        Forward::new(&message).write_into(&mut out);
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn forwarding_never_adds_or_loses_a_header_it_does_not_own(bytes in message(), body in prop::option::of("[a-z]{0,20}")) {
        let message = Message::parse(bytes.as_slice(), &Limits::DATAGRAM).expect("acceptable");
        let mut forward = Forward::new(&message);
        forward.set_request_uri("sip:b@next");
        forward.insert_first(HeaderName::Via, "SIP/2.0/UDP us;branch=z9hG4bKnew");
        forward.insert_first(HeaderName::RecordRoute, "<sip:us;lr>");
        prop_assert_eq!(forward.decrement_max_forwards(), Ok(69));
        if let Some(body) = &body {
            forward.edit_body(0..message.body().len(), body);
        }
        prop_assert!(!forward.spilled() && !message.index_spilled());
        let mut out = Vec::new();
        forward.write_into(&mut out);

        prop_assert_eq!(foreign(&out), foreign(&bytes));
        let sent = Message::parse(out.as_slice(), &Limits::DATAGRAM).expect("ours");
        prop_assert_eq!(sent.request_uri(), Some(&b"sip:b@next"[..]));
        prop_assert_eq!(sent.top_via().expect("ours").branch(), Some(&b"z9hG4bKnew"[..]));
        prop_assert_eq!(sent.values(HeaderName::Via).count(), 4);
        prop_assert_eq!(sent.values(HeaderName::RecordRoute).next(), Some(&b"<sip:us;lr>"[..]));
        prop_assert_eq!(sent.body(), body.as_ref().map_or(message.body(), |body| body.as_bytes()));
    }
}
