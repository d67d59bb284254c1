//! What events must not say: how somebody logs in.

use crate::call_support::{invite, respond, said, sdp};
use crate::support::*;
use proptest::prelude::*;
use signalbox_sip::HeaderName;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";
const PHONE: &str = "192.0.2.7:40000";

/// Registers with a password in every URI that a REGISTER has, is refused, refreshes, moves; calls and is called; leaves.
fn life_of_a_phone(secret: &str) -> World {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.contact = format!("<sip:401:{secret}@192.168.1.20:5060;ob?X-Key={secret}>");
    phone.extra =
        format!("Path: <sip:p:{secret}@192.0.2.7;lr>\r\nAuthorization: Digest response=\"{secret}\"\r\n");
    let with_secret = |text: String| {
        text.replace("From: <sip:401@", &format!("From: <sip:401:{secret}@"))
            .replace("To: <sip:401@", &format!("To: <sip:401:{secret}@"))
    };
    for (status, remote) in [(403, PHONE), (200, PHONE), (200, PHONE), (200, "192.0.2.7:41111")] {
        phone.flow = outside(remote);
        let text = with_secret(phone.register(3600));
        world.deliver(phone.flow, text);
        let at_pbx = world.one_to(addr(PBX));
        let answer = if status == 200 { granted(&at_pbx, 3600) } else { response(&at_pbx, status, "") };
        world.deliver(inside(PBX), answer);
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(status));
    }
    world.assert_replay_equals_live();

    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    let (caller, callee) = (format!("sip:401:{secret}@acme.test"), format!("sip:402:{secret}@acme.test"));
    let text = invite(&phone.flow, &caller, &callee, "out", &sdp("192.0.2.10", "sendrecv", "PCMA"))
        .replace("X-Custom", &format!("Diversion: <sip:9:{secret}@acme.test>;reason=x\r\nX-Custom"));
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    assert!(at_pbx.uri().contains(secret), "what is not ours to change passes");
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, &format!("<sip:402:{secret}@10.0.1.1>"), &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    assert_eq!(said(&mut world, phone.flow.remote), ["100", "200"]);
    world.take();

    let text = invite(&inside(PBX), &callee, "sip:401@acme.test", "in", "")
        .replace("X-Custom", &format!("Diversion: <sip:9:{secret}@acme.test>;reason=x\r\nX-Custom"));
    world.deliver(inside(PBX), text);
    let at_phone = world.one_to(phone.flow.remote);
    // Headers of a Contact are no part of a Request-URI (RFC 3261 §19.1.1).
    assert_eq!(at_phone.uri(), format!("sip:401:{secret}@192.168.1.20:5060;ob"));
    assert!(at_phone.header(HeaderName::Route).expect("its Path").contains(secret));
    world.deliver(phone.flow, response(&at_phone, 486, &format!("Contact: <sip:401:{secret}@h>\r\n")));
    world.take();
    let text = with_secret(phone.register(0));
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 200, ""));
    world.advance(Duration::from_secs(40));
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_the_password_in_a_uri_no_event_shows_it(secret in "S3[a-zA-Z0-9&=+$,._~*-]{4,12}t") {
        let world = life_of_a_phone(&secret);
        for kind in ["registration.added", "registration.refreshed", "registration.removed", "registration.rejected",
                     "call.attempted", "call.routed", "call.answered", "call.failed"] {
            prop_assert!(!world.records(kind).is_empty(), "{kind} is part of the story");
        }
        for record in &world.journal {
            let data = String::from_utf8_lossy(&record.data);
            prop_assert!(!data.contains(&secret), "{} {data}", record.kind);
            prop_assert!(!record.subject.contains(&secret));
        }
        let added = world.records("registration.added")[0].json();
        prop_assert_eq!(&added["contact"], "sip:401@192.168.1.20:5060;ob");
        prop_assert_eq!(&added["path"], "<sip:p@192.0.2.7;lr>");
    }
}
