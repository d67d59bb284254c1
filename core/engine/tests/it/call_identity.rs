//! Who a call is from, and whom it came past: by trust (RFC 3325, RFC 3323, RFC 5806, RFC 7044), and why it ended (RFC 3326).

use crate::call_support::{PBX, PHONE, established, invite, phone_calls, said, the_cdr, with_phone};
use crate::support::{Sent, World, addr, inside, outside, response};
use signalbox_engine::settings::CallsFrom;
use signalbox_sip::HeaderName;

const PAST: &str =
    "Diversion: <sip:499@acme.test>;reason=unconditional\r\nHistory-Info: <sip:499@acme.test>;index=1\r\n";
const ASSERTED: &str =
    "P-Asserted-Identity: <sip:boss@acme.test>\r\nRemote-Party-ID: <sip:boss@acme.test>;screen=yes\r\n";

fn has(sent: &Sent, name: HeaderName) -> bool {
    sent.header(name).is_some()
}

/// The backend calls the phone with these lines; gives the INVITE at the phone.
#[track_caller]
fn called_with(world: &mut World, id: &str, lines: &str) -> Sent {
    let request = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", id, "")
        .replace("X-Custom", &format!("{lines}X-Custom"));
    world.deliver(inside(PBX), request);
    world.take_to(addr(PHONE)).pop().expect("the INVITE")
}

#[test]
fn given_privacy_when_a_backend_calls_a_phone_then_its_claims_are_taken_out_rfc3325_7() {
    let (mut world, _) = with_phone();
    for (id, privacy, shown) in [
        ("pr0", "", true),
        ("pr1", "Privacy: none\r\n", true),
        ("pr2", "Privacy: id\r\n", false),
        ("pr3", "Privacy: critical; ID\r\n", false),
        ("pr4", "Privacy: user;header\r\n", false),
    ] {
        let at_phone = called_with(&mut world, id, &format!("{ASSERTED}{privacy}"));
        for name in [HeaderName::PAssertedIdentity, HeaderName::RemotePartyId] {
            assert_eq!(has(&at_phone, name), shown, "{privacy}");
        }
        world.take();
    }
}

#[test]
fn given_whom_a_call_came_past_when_a_backend_says_it_then_it_counts_and_a_phones_word_does_not() {
    let (mut world, phone) = with_phone();
    let at_phone = called_with(&mut world, "past1", PAST);
    assert!(has(&at_phone, HeaderName::Diversion) && has(&at_phone, HeaderName::HistoryInfo));
    world.take();
    let request = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "past2", "")
        .replace("X-Custom", &format!("{PAST}X-Custom"));
    world.deliver(phone.flow, request);
    let at_pbx = world.take_to(addr(PBX)).pop().expect("the INVITE");
    assert!(!has(&at_pbx, HeaderName::Diversion) && !has(&at_pbx, HeaderName::HistoryInfo));
    let told: Vec<_> =
        world.records("call.attempted").iter().map(|record| record.json()["diversion"].clone()).collect();
    assert_eq!((told[0][0].as_str(), &told[1]), (Some("sip:499@acme.test"), &serde_json::Value::Null));
}

#[test]
fn given_a_stranger_that_may_call_then_nobody_is_asserted_for_it() {
    let mut open = crate::support::acme();
    open.tenants[0].calls_from = CallsFrom::Any;
    let mut world = World::new(open);
    let stranger = outside("198.51.100.99:5060");
    let request = invite(&stranger, "sip:401@acme.test", "sip:402@acme.test", "str", "")
        .replace("X-Custom", &format!("{ASSERTED}X-Custom"));
    world.deliver(stranger, request);
    let at_pbx = world.take_to(addr(PBX)).pop().expect("the INVITE");
    assert!(!has(&at_pbx, HeaderName::PAssertedIdentity) && !has(&at_pbx, HeaderName::RemotePartyId));
}

#[test]
fn given_reasons_when_a_call_is_cancelled_or_ended_then_all_pass_and_the_record_has_the_cause_rfc3326() {
    const REASONS: &str = "Reason: SIP;cause=487\r\nReason: Q.850;cause=31;text=\"enough\"\r\n";
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "re1");
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    world.take();
    let cancel = format!(
        "CANCEL sip:402@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKre1;rport\r\nMax-Forwards: 70\r\n\
         From: \"Caller\" <sip:401@acme.test>;tag=fre1\r\nTo: <sip:402@acme.test>\r\nCall-ID: re1\r\nCSeq: 1 CANCEL\r\n\
         {REASONS}Content-Length: 0\r\n\r\n"
    );
    world.deliver(phone.flow, cancel);
    let cancel = world.one_to(addr(PBX));
    assert_eq!(
        cancel.header(HeaderName::Reason).as_deref(),
        Some("SIP;cause=487, Q.850;cause=31;text=\"enough\"")
    );
    assert_eq!(the_cdr(&world)["q850_cause"], 31);

    for (lines, cause) in [(REASONS, 31), ("", 16)] {
        let (mut world, phone) = with_phone();
        let mut call = established(&mut world, &phone, "re2");
        world.deliver(inside(PBX), call.pbx.request("BYE", lines));
        let bye = world.one_to(addr(PHONE));
        assert_eq!(bye.text().matches("Reason:").count(), lines.matches("Reason:").count());
        assert_eq!(said(&mut world, addr(PBX)), ["200"]);
        assert_eq!(the_cdr(&world)["q850_cause"], cause);
    }
}
