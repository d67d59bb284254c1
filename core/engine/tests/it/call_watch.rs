//! Calls that nobody hangs up: session timers (RFC 4028), the longest duration, ends that are gone.

use crate::call_support::{
    Dialog, Established, PBX, PHONE, established, invite, phone_calls, respond, said, sdp, the_cdr,
    with_body, with_phone, with_phone_under,
};
use crate::support::{Phone, Sent, World, acme, addr, inside, response};
use signalbox_engine::{Input, SendError, Ticket};
use signalbox_sip::HeaderName;
use signalbox_sip::transaction::Branch;
use std::time::Duration;

const TIMER: &str = "Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n";

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A call whose ends have agreed on half an hour.
#[track_caller]
fn timed(world: &mut World, phone: &Phone, id: &str) -> Established {
    let request = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", id, "")
        .replace("X-Custom", &format!("{TIMER}X-Custom"));
    world.deliver(phone.flow, request);
    world.take_to(addr(PHONE));
    let at_pbx = world.one_to(addr(PBX));
    assert!(at_pbx.text().contains(TIMER), "{}", at_pbx.text());
    let answer = response(&at_pbx, 200, &format!("Require: timer\r\n{TIMER}Contact: <sip:402@10.0.1.1>\r\n"));
    world.deliver(inside(PBX), answer);
    let ok = world.one_to(addr(PHONE));
    assert_eq!(ok.header(HeaderName::SessionExpires).as_deref(), Some("1800;refresher=uac"));
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    world.take();
    Established { phone: caller, pbx: Dialog::called(inside(PBX), &at_pbx, "pbx") }
}

/// Both ends got a BYE that says this; they agree to it.
#[track_caller]
fn both_hear(world: &mut World, phone: &Phone, reason: &str) {
    for (flow, at) in [(inside(PBX), PBX), (phone.flow, PHONE)] {
        let bye = world.take_to(addr(at)).pop().expect("a BYE");
        assert!(bye.text().starts_with("BYE "), "{}", bye.text());
        assert_eq!(bye.header(HeaderName::Reason).as_deref(), Some(reason));
        world.deliver(flow, response(&bye, 200, ""));
    }
    assert_eq!(world.engine.calls_active(), 0);
    world.assert_replay_equals_live();
}

const EXPIRED: &str = "Q.850;cause=102;text=\"session_expired\"";

#[test]
fn given_a_session_timer_when_nobody_refreshes_then_the_call_ends_on_both_sides_rfc4028_10() {
    let (mut world, phone) = with_phone();
    timed(&mut world, &phone, "st1");
    let answered = world.records("call.answered")[0].json();
    assert_eq!(answered["session_interval_ms"], 1_800_000);
    world.advance(secs(1_799));
    assert_eq!((world.waiting(), world.engine.calls_active()), (0, 1));
    world.advance(secs(1));
    both_hear(&mut world, &phone, EXPIRED);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["released_by"], &cdr["reason"]), (&"timeout".into(), &"session_expired".into()));
    assert_eq!((&cdr["q850_cause"], &cdr["billable_ms"]), (&102.into(), &1_800_000.into()));
}

#[test]
fn given_a_session_timer_when_either_end_refreshes_then_the_call_goes_on_rfc4028_7_4() {
    for (number, by_phone, method) in [(0, true, "UPDATE"), (1, false, "INVITE"), (2, false, "UPDATE")] {
        let (mut world, phone) = with_phone();
        let mut call = timed(&mut world, &phone, &format!("st2{number}"));
        let (flow, at, other_flow, other) = if by_phone {
            (phone.flow, PHONE, inside(PBX), PBX)
        } else {
            (inside(PBX), PBX, phone.flow, PHONE)
        };
        for _ in 0..3 {
            world.advance(secs(900));
            let dialog = if by_phone { &mut call.phone } else { &mut call.pbx };
            world.deliver(flow, dialog.request(method, TIMER));
            let cseq = dialog.cseq;
            let there = world.take_to(addr(other)).pop().expect("the refresh");
            world.deliver(other_flow, response(&there, 200, TIMER));
            assert_eq!(said(&mut world, addr(at)).last().map(String::as_str), Some("200"));
            if method == "INVITE" {
                let dialog = if by_phone { &mut call.phone } else { &mut call.pbx };
                world.deliver(flow, dialog.ack(cseq, ""));
                world.take();
            }
        }
        world.advance(secs(1_799));
        assert_eq!(world.engine.calls_active(), 1, "{method}");
        world.advance(secs(1));
        both_hear(&mut world, &phone, EXPIRED);
    }
}

#[test]
fn given_a_refresh_that_is_refused_or_says_nothing_then_the_timer_runs_on_or_is_off_rfc4028_7_2() {
    for (status, lives) in [(500, false), (200, true)] {
        let (mut world, phone) = with_phone();
        let mut call = timed(&mut world, &phone, &format!("st3{status}"));
        world.advance(secs(1_000));
        world.deliver(phone.flow, call.phone.request("UPDATE", TIMER));
        let update = world.one_to(addr(PBX));
        world.deliver(inside(PBX), response(&update, status, ""));
        assert_eq!(said(&mut world, addr(PHONE)), [status.to_string()]);
        world.advance(secs(2_000));
        assert_eq!(world.engine.calls_active() == 1, lives, "{status}");
        if lives {
            let modified = world.records("call.modified").pop().expect("an event").json();
            assert_eq!((&modified["kind"], modified.get("session_interval_ms")), (&"other".into(), None));
            world.assert_replay_equals_live();
        }
    }
}

#[test]
fn given_a_session_timer_when_the_process_dies_then_another_one_watches_it() {
    let (mut world, phone) = with_phone();
    timed(&mut world, &phone, "st4");
    world.advance(secs(600));
    world.commit();
    let mut world = world.crash_and_restart(secs(2));
    world.advance(secs(20));
    for (flow, at) in [(phone.flow, PHONE), (inside(PBX), PBX)] {
        let probe = world.take_to(addr(at)).pop().expect("OPTIONS");
        world.deliver(flow, response(&probe, 200, ""));
    }
    world.advance(secs(1_700));
    assert_eq!(world.engine.calls_active(), 1);
    world.advance(secs(100));
    both_hear(&mut world, &phone, EXPIRED);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["reason"], &cdr["completeness"]), (&"session_expired".into(), &"recovered".into()));
}

#[test]
fn given_too_short_a_session_when_the_caller_asks_again_then_it_is_one_call_rfc4028_7_3() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "st5");
    world.deliver(inside(PBX), response(&at_pbx, 422, "Min-SE: 600\r\n"));
    assert_eq!(said(&mut world, addr(PBX)), ["ACK"]);
    let small = world.one_to(addr(PHONE));
    assert_eq!((small.status(), small.header(HeaderName::MinSe).as_deref()), (Some(422), Some("600")));
    let again = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "st5", "")
        .replace("branch=z9hG4bKst5", "branch=z9hG4bKst5again")
        .replace("CSeq: 1", "Min-SE: 600\r\nCSeq: 2");
    world.deliver(phone.flow, again);
    world.take_to(addr(PHONE));
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.header(HeaderName::MinSe).as_deref(), Some("600"));
    world.deliver(inside(PBX), respond(&at_pbx, 200, "<sip:402@10.0.1.1>", ""));
    world.take();
    assert_eq!(world.records("call.attempted").len(), 1);
    assert_eq!(world.records("call.failed").len(), 0);
}

fn with_keepalive() -> (World, Phone) {
    let mut settings = acme();
    settings.timers.keepalive = Some(secs(600));
    with_phone_under(settings)
}

#[test]
fn given_a_call_when_both_ends_answer_the_keepalive_then_it_goes_on() {
    let (mut world, phone) = with_keepalive();
    let mut call = established(&mut world, &phone, "ka1");
    for _ in 0..3 {
        world.advance(secs(600));
        for (flow, at, status) in [(phone.flow, PHONE, 405), (inside(PBX), PBX, 200)] {
            let probe = world.one_to(addr(at));
            assert!(probe.text().starts_with("OPTIONS "), "{}", probe.text());
            world.deliver(flow, response(&probe, status, ""));
        }
    }
    // What passes between both ends tells as much.
    world.advance(secs(300));
    world.deliver(phone.flow, call.phone.request("INFO", ""));
    let info = world.one_to(addr(PBX));
    assert_eq!(info.header(HeaderName::CSeq).as_deref(), Some("5 INFO"), "above our own");
    world.deliver(inside(PBX), response(&info, 200, ""));
    world.take();
    world.advance(secs(599));
    assert_eq!((world.take_to(addr(PHONE)).len(), world.engine.calls_active()), (0, 1));
    world.advance(secs(1));
    assert_eq!(said(&mut world, addr(PHONE)), ["OPTIONS"]);
}

#[test]
fn given_an_end_that_is_gone_when_it_was_asked_twice_then_the_call_ends_when_it_was_last_there() {
    for status in [Some(481), None] {
        let (mut world, phone) = with_keepalive();
        established(&mut world, &phone, "ka2");
        // Both are asked; the phone says this, or nothing for 64·T1.
        let asked = |world: &mut World, phone_says: Option<u16>| {
            let at_pbx = world.one_to(addr(PBX));
            world.deliver(inside(PBX), response(&at_pbx, 200, ""));
            let at_phone: Vec<Sent> = world.take_to(addr(PHONE));
            assert!(at_phone[0].text().starts_with("OPTIONS "), "{}", at_phone[0].text());
            match phone_says {
                Some(status) => world.deliver(phone.flow, response(&at_phone[0], status, "")),
                None => world.advance(secs(32)),
            }
            world.take_to(addr(PHONE));
        };
        world.advance(secs(600));
        asked(&mut world, Some(200));
        world.advance(secs(600));
        asked(&mut world, status);
        assert_eq!(world.records("call.ended").len(), 0, "once is not enough");
        world.advance(secs(32));
        asked(&mut world, status);
        let cdr = the_cdr(&world);
        assert_eq!((&cdr["reason"], &cdr["completeness"]), (&"dead_peer".into(), &"estimated".into()));
        assert_eq!(cdr["billable_ms"], 600_000);
        let bye = world.take_to(addr(PBX)).remove(0);
        assert!(bye.text().starts_with("BYE "));
        world.deliver(inside(PBX), response(&bye, 200, ""));
        world.advance(secs(200));
        assert_eq!(world.engine.counters().transactions, 0);
    }
}

#[test]
fn given_an_end_that_cannot_be_sent_to_when_it_is_back_in_time_then_the_call_goes_on() {
    let (mut world, phone) = with_keepalive();
    let mut call = established(&mut world, &phone, "ka3");
    world.advance(secs(600));
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 200, ""));
    let probe = world.one_to(addr(PHONE));
    let via = probe.message().top_via().expect("a Via").branch().and_then(Branch::parse).expect("our branch");
    let ticket = Some(Ticket(via.0));
    world.input(Input::Unsent { ticket, remote: phone.flow.remote, cause: SendError::Unreachable });
    world.advance(secs(590));
    assert_eq!((world.engine.calls_active(), world.take_to(addr(PBX)).len()), (1, 0), "it is not asked yet");
    world.deliver(phone.flow, call.phone.request("INFO", ""));
    let info = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&info, 200, ""));
    world.advance(secs(500));
    assert_eq!(world.engine.calls_active(), 1);
}

#[test]
fn given_a_longest_duration_when_it_has_passed_then_the_call_ends_also_across_a_restart() {
    for (by_tenant, restarts) in [(false, false), (true, false), (true, true)] {
        let mut settings = acme();
        settings.timers.call_max = Some(secs(if by_tenant { 9_000 } else { 3_600 }));
        settings.tenants[0].limits.call_duration = by_tenant.then_some(secs(3_600));
        let (mut world, phone) = with_phone_under(settings);
        established(&mut world, &phone, "max");
        world.advance(secs(2_000));
        if restarts {
            world.commit();
            world = world.crash_and_restart(secs(100));
            world.advance(secs(20));
            for (flow, at) in [(phone.flow, PHONE), (inside(PBX), PBX)] {
                let probe = world.take_to(addr(at)).pop().expect("OPTIONS");
                world.deliver(flow, response(&probe, 200, ""));
            }
            world.advance(secs(1_481));
        } else {
            world.advance(secs(1_600));
        }
        both_hear(&mut world, &phone, "Q.850;cause=102;text=\"max_duration\"");
        let cdr = the_cdr(&world);
        assert_eq!((&cdr["released_by"], &cdr["reason"]), (&"edge".into(), &"max_duration".into()));
    }
}

#[test]
fn given_a_refresh_with_a_new_offer_then_hold_and_interval_are_told_at_once() {
    let (mut world, phone) = with_phone();
    let mut call = timed(&mut world, &phone, "st6");
    let lines = format!("{TIMER}Contact: <sip:me@198.51.100.7:5062>\r\n");
    world.deliver(
        phone.flow,
        call.phone.request("INVITE", &with_body(&lines, &sdp("192.0.2.10", "sendonly", "PCMA"))),
    );
    let at_pbx = world.one_to(addr(PBX));
    let answer = respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "recvonly", "PCMA"))
        .replace("Contact:", "Session-Expires: 900;refresher=uas\r\nContact:");
    world.deliver(inside(PBX), answer);
    let modified = world.records("call.modified");
    assert_eq!(modified.len(), 1);
    let modified = modified[0].json();
    assert_eq!((&modified["kind"], &modified["session_interval_ms"]), (&"hold".into(), &900_000.into()));
    world.assert_replay_equals_live();
}
