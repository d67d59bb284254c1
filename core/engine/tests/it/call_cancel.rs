//! The caller gives up: before and after it rings, and while the answer is on its way.

use crate::call_support::{
    Dialog, PBX, PHONE, dismissed, phone_calls, respond, said, sdp, the_cdr, with_phone,
};
use crate::support::{Sent, World, addr, inside, response};
use signalbox_base::Flow;
use signalbox_sip::HeaderName;
use std::time::Duration;

fn cancel(flow: &Flow, id: &str) -> String {
    let via = flow.remote;
    format!(
        "CANCEL sip:402@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n\
         From: \"Caller\" <sip:401@acme.test>;tag=f{id}\r\nTo: <sip:402@acme.test>\r\nCall-ID: {id}\r\nCSeq: 1 CANCEL\r\n\
         Reason: SIP;cause=487;text=\"ORIGINATOR_CANCEL\"\r\nContent-Length: 0\r\n\r\n"
    )
}

fn ends_quietly(world: &mut World) {
    world.advance(Duration::from_secs(200));
    assert_eq!(world.engine.calls_active(), 0);
    world.assert_replay_equals_live();
}

/// The CANCEL at the backend is answered, its INVITE ends with 487.
fn backend_obeys(world: &mut World, invite: &Sent, cancel: &Sent) {
    assert!(cancel.text().starts_with("CANCEL sip:402@acme.test SIP/2.0\r\n"));
    assert_eq!(
        cancel.header(HeaderName::Via),
        invite.header(HeaderName::Via),
        "the INVITE's own Via (RFC 3261 §9.1)"
    );
    world.deliver(inside(PBX), response(cancel, 200, ""));
    world.deliver(inside(PBX), response(invite, 487, ""));
    assert_eq!(said(world, addr(PBX)), ["ACK"]);
}

#[test]
fn given_a_ringing_call_when_the_caller_cancels_then_both_sides_end_and_it_is_cancelled() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "k1");
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    world.take();
    world.deliver(phone.flow, cancel(&phone.flow, "k1"));
    assert_eq!(said(&mut world, addr(PHONE)), ["200", "487"]);
    let at_backend = world.one_to(addr(PBX));
    assert!(at_backend.text().contains("ORIGINATOR_CANCEL"), "the caller's Reason goes along");
    backend_obeys(&mut world, &at_pbx, &at_backend);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["category"], &cdr["released_by"]), (&"cancelled".into(), &"caller".into()));
    assert_eq!((&cdr["status"], &cdr["stage"]), (&487.into(), &"ringing".into()));
    ends_quietly(&mut world);
}

#[test]
fn given_no_provisional_yet_when_the_caller_cancels_then_the_cancel_waits_for_one_rfc3261_9_1() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "k2");
    world.deliver(phone.flow, cancel(&phone.flow, "k2"));
    assert_eq!(said(&mut world, addr(PHONE)), ["200", "487"]);
    assert_eq!(world.take_to(addr(PBX)).len(), 0, "no CANCEL before a provisional response");
    world.deliver(inside(PBX), response(&at_pbx, 100, ""));
    let at_backend = world.one_to(addr(PBX));
    backend_obeys(&mut world, &at_pbx, &at_backend);
    ends_quietly(&mut world);
}

#[test]
fn given_a_cancel_that_crosses_the_answer_when_the_answer_comes_late_then_it_is_acknowledged_and_ended() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "k3");
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    world.take();
    world.deliver(phone.flow, cancel(&phone.flow, "k3"));
    let at_backend = world.one_to(addr(PBX));
    let ok = respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "sendrecv", "PCMA"));
    world.deliver(inside(PBX), &ok);
    world.deliver(inside(PBX), response(&at_backend, 200, ""));
    let bye = dismissed(&mut world, PBX);
    world.deliver(inside(PBX), &ok);
    assert_eq!(said(&mut world, addr(PBX)), ["ACK"], "again, with the answer again");
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(the_cdr(&world)["category"], "cancelled");
    ends_quietly(&mut world);
}

#[test]
fn given_an_answer_on_its_way_when_the_cancel_comes_after_it_then_the_call_stands() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "k4");
    let ok = respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "sendrecv", "PCMA"));
    world.auto_commit = false;
    world.deliver(inside(PBX), &ok);
    world.deliver(phone.flow, cancel(&phone.flow, "k4"));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"], "of the CANCEL");
    world.auto_commit = true;
    world.commit();
    let answer = world.one_to(addr(PHONE));
    assert_eq!(answer.header(HeaderName::CSeq).as_deref(), Some("1 INVITE"));
    let mut caller = Dialog::calling(phone.flow, &answer);
    world.deliver(phone.flow, caller.ack(1, ""));
    world.deliver(phone.flow, caller.request("BYE", ""));
    let bye = world.take_to(addr(PBX)).pop().expect("a BYE");
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(the_cdr(&world)["category"], "answered");
    ends_quietly(&mut world);
}

#[test]
fn given_timer_c_when_it_rings_for_too_long_then_it_is_cancelled_and_nobody_answered() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "k5");
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    world.take();
    world.advance(Duration::from_secs(186));
    assert!(said(&mut world, addr(PHONE)).contains(&"408".to_owned()));
    let at_backend = world.take_to(addr(PBX)).remove(0);
    backend_obeys(&mut world, &at_pbx, &at_backend);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["category"], &cdr["released_by"]), (&"no_answer".into(), &"timeout".into()));
    ends_quietly(&mut world);
}

#[test]
fn given_failures_of_the_called_side_then_each_has_its_category() {
    for (status, category) in
        [(486, "busy"), (404, "not_found"), (603, "rejected"), (480, "no_answer"), (500, "network")]
    {
        let (mut world, phone) = with_phone();
        let at_pbx = phone_calls(&mut world, &phone, "f1");
        world.deliver(inside(PBX), response(&at_pbx, 180, ""));
        world.take();
        world.deliver(inside(PBX), response(&at_pbx, status, "Reason: Q.850;cause=17\r\nX-Why: because\r\n"));
        assert_eq!(said(&mut world, addr(PBX)), ["ACK"]);
        let failure = world.one_to(addr(PHONE));
        assert_eq!(failure.status(), Some(status));
        assert!(failure.text().contains("\r\nX-Why: because\r\n"));
        let cdr = the_cdr(&world);
        assert_eq!((&cdr["category"], &cdr["status"]), (&category.into(), &status.into()));
        assert_eq!(cdr["q850_cause"], 17);
        ends_quietly(&mut world);
    }
}

#[test]
fn given_a_challenge_when_the_caller_comes_back_with_credentials_then_it_is_one_call() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "a1");
    let challenge = "Proxy-Authenticate: Digest realm=\"pbx\", nonce=\"1\"\r\n";
    world.deliver(inside(PBX), response(&at_pbx, 407, challenge));
    let asked = world.one_to(addr(PHONE));
    assert_eq!(asked.status(), Some(407));
    assert!(asked.header(HeaderName::ProxyAuthenticate).is_some());
    world.take();
    assert_eq!(world.records("call.failed").len(), 0, "a challenge is no failure");
    assert_eq!(at_pbx.header(HeaderName::CSeq).as_deref(), Some("1 INVITE"));
    let again = crate::call_support::invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "a1", "")
        .replace("branch=z9hG4bKa1", "branch=z9hG4bKa1again")
        .replace("CSeq: 1 ", "CSeq: 2 ")
        .replace("X-Custom:", "Proxy-Authorization: Digest username=\"401\"\r\nX-Custom:");
    world.deliver(phone.flow, again);
    let second = world.one_to(addr(PBX));
    assert!(second.header(HeaderName::ProxyAuthorization).is_some(), "credentials pass");
    assert_eq!(second.header(HeaderName::CSeq).as_deref(), Some("2 INVITE"));
    world.deliver(inside(PBX), response(&second, 486, ""));
    assert_eq!(world.records("call.attempted").len(), 1);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["category"], &cdr["attempts"]), (&"busy".into(), &2.into()));
    ends_quietly(&mut world);
}

#[test]
fn given_a_challenge_when_nobody_comes_back_then_the_call_is_closed_once() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "a2");
    world.deliver(
        inside(PBX),
        response(&at_pbx, 401, "WWW-Authenticate: Digest realm=\"pbx\", nonce=\"1\"\r\n"),
    );
    ends_quietly(&mut world);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["status"], &cdr["category"]), (&401.into(), &"rejected".into()));
}
