//! A call and its end, both ways.

use crate::call_support::{
    Dialog, PBX, PHONE, contact_uri, established, invite, pbx_calls, phone_calls, respond, said, sdp,
    the_cdr, with_phone,
};
use crate::support::{addr, inside, response};
use signalbox_sip::HeaderName;
use std::time::Duration;

#[test]
fn given_a_registered_phone_when_it_calls_and_hangs_up_then_there_is_one_record_with_all_durations() {
    let (mut world, phone) = with_phone();
    let before = world.journal.len();
    let at_pbx = phone_calls(&mut world, &phone, "c1");
    assert_eq!(at_pbx.uri(), "sip:402@acme.test");
    assert!(
        at_pbx.text().contains("\r\nX-Custom:  kept as it is \r\n"),
        "unknown headers pass byte for byte"
    );
    assert_eq!(at_pbx.header(HeaderName::MaxForwards).as_deref(), Some("69"));
    assert_eq!(at_pbx.header(HeaderName::CallId).as_deref(), Some("c1"));
    assert!(contact_uri(&at_pbx).ends_with("@10.0.0.5:5060"), "our Contact, not the phone's");
    assert_eq!(at_pbx.message().all(HeaderName::Via).count(), 1, "the caller's Via stays on its side");
    world.advance(Duration::from_secs(1));
    world.take_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    let ringing = world.one_to(addr(PHONE));
    assert_eq!(ringing.status(), Some(180));
    world.advance(Duration::from_secs(2));
    let answer = sdp("10.0.1.1", "sendrecv", "PCMA");
    world.deliver(inside(PBX), respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &answer));
    let ok = world.one_to(addr(PHONE));
    assert!(ok.text().ends_with(&answer), "the body passes untouched");
    assert!(contact_uri(&ok).ends_with("@203.0.113.1:5060"));
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    assert_eq!(world.one_to(addr(PBX)).header(HeaderName::CSeq).as_deref(), Some("1 ACK"));
    world.advance(Duration::from_secs(10));
    world.take();
    world.deliver(phone.flow, caller.request("BYE", "Reason: Q.850;cause=16;text=\"bye\"\r\n"));
    let bye = world.one_to(addr(PBX));
    assert!(bye.text().starts_with("BYE sip:402@10.0.1.1:5060"));
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
    let expected = ["call.attempted", "call.routed", "call.progressed", "call.answered", "call.ended"];
    assert_eq!(world.kinds(before), expected);
    let cdr = the_cdr(&world);
    for (field, value) in
        [("pdd_ms", 1_000), ("ring_ms", 2_000), ("setup_ms", 3_000), ("billable_ms", 10_000)]
    {
        assert_eq!(cdr[field], value, "{field}: {cdr}");
    }
    assert_eq!(cdr["duration_ms"], 13_000);
    assert_eq!((&cdr["released_by"], &cdr["category"]), (&"caller".into(), &"answered".into()));
    assert_eq!((&cdr["q850_cause"], &cdr["reason"]), (&16.into(), &"bye".into()));
    assert_eq!((&cdr["ingress_peer"], &cdr["egress_peer"]), (&"401@acme.test".into(), &"pbx-1".into()));
    assert_eq!((&cdr["side"], &cdr["completeness"]), (&"access_in".into(), &"normal".into()));
    assert_eq!(cdr["codecs"], serde_json::json!(["PCMA"]));
    world.assert_replay_equals_live();
}

#[test]
fn given_a_call_when_the_called_side_hangs_up_then_it_is_the_callee_who_released_it() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "c1");
    world.deliver(inside(PBX), call.pbx.request("BYE", ""));
    let bye = world.one_to(addr(PHONE));
    assert!(bye.uri().starts_with("sip:me@198.51.100.7"), "the phone's own Contact: {}", bye.uri());
    world.deliver(phone.flow, response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    assert_eq!(the_cdr(&world)["released_by"], "callee");
}

#[test]
fn given_a_backend_when_it_calls_a_user_then_the_phone_is_reached_at_its_own_contact_over_its_flow() {
    let (mut world, phone) = with_phone();
    let at_phone = pbx_calls(&mut world, "sip:401@acme.test", "c2", &[PHONE]).remove(0);
    assert_eq!(at_phone.uri(), "sip:401@198.51.100.7:5062");
    world.deliver(
        phone.flow,
        respond(&at_phone, 200, "<sip:401@192.168.1.7>", &sdp("192.168.1.7", "sendrecv", "PCMA")),
    );
    let ok = world.one_to(addr(PBX));
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    world.deliver(inside(PBX), pbx.ack(1, ""));
    let ack = world.one_to(addr(PHONE));
    assert_eq!(ack.uri(), "sip:401@192.168.1.7", "the target is as it says, the way is its flow");
    world.deliver(inside(PBX), pbx.request("BYE", ""));
    let bye = world.one_to(addr(PHONE));
    world.deliver(phone.flow, response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["side"], &cdr["direction"]), (&"access_out".into(), &"inbound".into()));
    assert_eq!((&cdr["ingress_peer"], &cdr["egress_peer"]), (&"pbx-1".into(), &"401@acme.test".into()));
    world.assert_replay_equals_live();
}

#[test]
fn given_nobody_at_a_user_when_a_backend_calls_then_it_is_404_and_a_record() {
    let (mut world, _) = with_phone();
    let call = invite(&inside(PBX), "sip:402@acme.test", "sip:499@acme.test", "c3", "");
    world.deliver(inside(PBX), call);
    assert_eq!(said(&mut world, addr(PBX)), ["100", "404"]);
    let cdr = the_cdr(&world);
    assert_eq!(
        (&cdr["status"], &cdr["category"], &cdr["stage"]),
        (&404.into(), &"not_found".into(), &"routing".into())
    );
}

#[test]
fn given_a_pending_disk_when_a_call_is_made_then_nothing_that_binds_leaves_before_its_record() {
    let (mut world, phone) = with_phone();
    world.auto_commit = false;
    let offer = sdp("192.0.2.10", "sendrecv", "PCMA");
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "c4", &offer));
    assert_eq!(said(&mut world, addr(PHONE)), ["100"], "100 leaves at once");
    assert_eq!(world.take_to(addr(PBX)).len(), 0);
    world.commit();
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["180"]);
    world.deliver(inside(PBX), respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &offer));
    assert_eq!(world.take_to(addr(PHONE)).len(), 0, "the 200 waits for call.answered");
    world.commit();
    let ok = world.one_to(addr(PHONE));
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["ACK"]);
    world.deliver(phone.flow, caller.request("BYE", ""));
    assert_eq!(world.take_to(addr(PBX)).len(), 0, "the BYE waits for call.ended");
    world.commit();
    let bye = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
}

#[test]
fn given_repeated_messages_when_they_come_again_then_nothing_happens_twice() {
    let (mut world, phone) = with_phone();
    let offer = sdp("192.0.2.10", "sendrecv", "PCMA");
    let call = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "c5", &offer);
    for _ in 0..3 {
        world.deliver(phone.flow, &call);
    }
    assert_eq!(said(&mut world, addr(PHONE)), ["100", "100", "100"]);
    let at_pbx = world.one_to(addr(PBX));
    let ok = respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &offer);
    world.deliver(inside(PBX), &ok);
    world.deliver(inside(PBX), &ok);
    let at_phone = world.one_to(addr(PHONE));
    world.advance(Duration::from_millis(1_600));
    assert_eq!(said(&mut world, addr(PHONE)), ["200", "200"], "T1 and 2·T1 later, until there is an ACK");
    let mut caller = Dialog::calling(phone.flow, &at_phone);
    world.deliver(phone.flow, caller.ack(1, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["ACK"]);
    world.deliver(inside(PBX), &ok);
    assert_eq!(said(&mut world, addr(PBX)), ["ACK"], "the ACK was lost: the 200 again brings it again");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.take().len(), 0);
    assert_eq!(world.records("call.answered").len(), 1);
}

#[test]
fn given_a_caller_that_never_acknowledges_when_64_t1_have_passed_then_both_ends_hear_bye() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "c6");
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    world.advance(Duration::from_secs(33));
    let to_phone = said(&mut world, addr(PHONE));
    assert!(to_phone.iter().any(|word| word == "BYE"), "{to_phone:?}");
    let to_pbx = said(&mut world, addr(PBX));
    assert!(to_pbx.iter().any(|word| word == "BYE"), "{to_pbx:?}");
    assert_eq!(the_cdr(&world)["released_by"], "timeout");
    world.advance(Duration::from_secs(200));
    assert_eq!(world.engine.calls_active(), 0);
    world.assert_replay_equals_live();
}

#[test]
fn given_both_ends_hang_up_at_once_then_both_are_told_200_and_there_is_one_record() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "c7");
    world.deliver(phone.flow, call.phone.request("BYE", ""));
    let bye = world.one_to(addr(PBX));
    world.deliver(inside(PBX), call.pbx.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    world.deliver(inside(PBX), response(&bye, 481, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
    assert_eq!(the_cdr(&world)["released_by"], "caller");
}

#[test]
fn given_a_far_end_that_is_silent_or_wants_credentials_when_one_hangs_up_then_it_hears_200_once_the_end_is_on_disk()
 {
    for far in [None, Some(401), Some(407), Some(500)] {
        let (mut world, phone) = with_phone();
        let mut call = established(&mut world, &phone, "c8");
        world.auto_commit = false;
        let bye = call.phone.request("BYE", "");
        world.deliver(phone.flow, &bye);
        assert_eq!(world.take().len(), 0, "not before call.ended");
        world.auto_commit = true;
        world.commit();
        assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
        let onward = world.one_to(addr(PBX));
        assert!(onward.text().starts_with("BYE "));
        assert_eq!(world.engine.calls_unanswered(), 1);
        world.deliver(phone.flow, &bye);
        assert_eq!(said(&mut world, addr(PHONE)), ["200"], "the 200 was lost");
        assert_eq!(world.take_to(addr(PBX)).len(), 0);
        if let Some(status) = far {
            world.deliver(inside(PBX), response(&onward, status, ""));
        }
        assert_eq!(said(&mut world, addr(PHONE)), Vec::<String>::new());
        assert_eq!(the_cdr(&world)["released_by"], "caller");
        world.advance(Duration::from_secs(200));
        assert_eq!((world.engine.calls_active(), world.engine.calls_unanswered()), (0, 0));
        assert_eq!(world.engine.counters().transactions, 0);
    }
}

#[test]
fn given_a_bye_that_was_overtaken_when_it_comes_then_it_is_500_and_the_call_goes_on_rfc3261_12_2_2() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "c9");
    let late = call.phone.request("BYE", "");
    world.deliver(phone.flow, call.phone.request("INFO", ""));
    world.take();
    world.deliver(phone.flow, late);
    assert_eq!(said(&mut world, addr(PHONE)), ["500"]);
    assert_eq!(world.engine.calls_active(), 1);
    assert!(world.records("call.ended").is_empty());
}

#[test]
fn given_a_contact_that_is_no_uri_when_the_backend_answers_with_it_then_what_is_sent_to_it_still_reads() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "c10");
    world.deliver(inside(PBX), respond(&at_pbx, 200, "<@sip:x@10.0.1.1>", ""));
    let mut caller = Dialog::calling(phone.flow, &world.one_to(addr(PHONE)));
    world.deliver(phone.flow, caller.ack(1, ""));
    assert_eq!(world.one_to(addr(PBX)).uri(), at_pbx.uri(), "where the INVITE went");
}

#[test]
fn given_peers_that_write_no_contact_when_they_invite_and_answer_then_each_still_learns_how_to_call_us_back()
{
    let (mut world, phone) = with_phone();
    let plain = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "c11", "")
        .replace("Contact: <sip:me@198.51.100.7:5062>\r\n", "");
    world.deliver(phone.flow, plain);
    let at_pbx = world.take_to(addr(PBX)).remove(0);
    world.deliver(inside(PBX), response(&at_pbx, 200, ""));
    let ok = world.take_to(addr(PHONE)).pop().expect("a 200");
    let (mut caller, mut callee) =
        (Dialog::calling(phone.flow, &ok), Dialog::called(inside(PBX), &at_pbx, "pbx"));
    world.deliver(phone.flow, caller.ack(1, ""));
    assert_eq!(world.one_to(addr(PBX)).header(HeaderName::Contact), None);
    world.deliver(inside(PBX), callee.request("INVITE", ""));
    let again = world.one_to(addr(PHONE));
    assert_eq!(contact_uri(&again), caller.target);
    world.deliver(phone.flow, response(&again, 200, ""));
    let ok = world.take_to(addr(PBX)).pop().expect("a 200");
    assert_eq!(contact_uri(&ok), callee.target);
    world.deliver(inside(PBX), callee.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["BYE"]);
}
