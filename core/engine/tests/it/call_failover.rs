//! Backends that do not answer: another takes the call, unless the caller hears one ringing already.

use crate::call_support::{
    PBX, PHONE, dismissed, phone_calls, respond, said, sdp, the_cdr, with_phone_under,
};
use crate::support::{Phone, Sent, World, addr, backend, domain, inside, response, settings, tenant};
use signalbox_base::Text;
use signalbox_engine::{Command, Input, Pressure, SendError, Settings};
use signalbox_sip::HeaderName;
use std::time::Duration;

const OTHER: &str = "10.0.1.2:5060";

fn two_backends() -> Settings {
    let backends = vec![backend("pbx-1", PBX, 1, None), backend("pbx-2", OTHER, 2, None)];
    settings(vec![tenant("acme", vec![domain("acme.test", &[])], backends)])
}

/// The INVITE at the first backend; what the phone hears does not matter.
fn phone_calls_quietly(world: &mut World, phone: &Phone, id: &str) -> Sent {
    world.take_to(addr(PHONE));
    phone_calls(world, phone, id)
}

fn answered_by_other(world: &mut World) {
    let second = world.take_to(addr(OTHER)).remove(0);
    world.deliver(
        inside(OTHER),
        respond(&second, 200, "<sip:402@10.0.1.2>", &sdp("10.0.1.2", "sendrecv", "PCMA")),
    );
    assert_eq!(said(world, addr(PHONE)), ["200"]);
}

#[test]
fn given_a_silent_backend_when_failover_after_has_passed_then_the_next_one_takes_the_call() {
    let (mut world, phone) = with_phone_under(two_backends());
    let first = phone_calls(&mut world, &phone, "o1");
    world.advance(Duration::from_millis(2_900));
    assert_eq!(world.take_to(addr(OTHER)).len(), 0);
    world.advance(Duration::from_millis(200));
    answered_by_other(&mut world);
    let routed = world.records("call.routed");
    assert_eq!(routed.len(), 2);
    let why = &routed[1].json()["why"];
    assert_eq!((&why["basis"], &why["failover_from"]), (&"failover".into(), &"pbx-1".into()));
    world.take();
    world.deliver(inside(PBX), respond(&first, 200, "<sip:402@10.0.1.1>", ""));
    // The first one answers after all: it is told that nobody is there.
    let bye = dismissed(&mut world, PBX);
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PBX)), Vec::<String>::new());
}

#[test]
fn given_a_503_or_a_refused_packet_when_it_comes_then_the_next_backend_is_tried_at_once() {
    let (mut world, phone) = with_phone_under(two_backends());
    let first = phone_calls(&mut world, &phone, "o2");
    world.deliver(inside(PBX), response(&first, 503, ""));
    answered_by_other(&mut world);
    assert_eq!(world.records("call.routed")[1].json()["why"]["failover_status"], 503);
    let (mut world, phone) = with_phone_under(two_backends());
    phone_calls(&mut world, &phone, "o3");
    world.input(Input::Unsent { ticket: None, remote: addr(PBX), cause: SendError::Refused });
    answered_by_other(&mut world);
}

#[test]
fn given_several_calls_when_a_peer_refuses_packets_then_those_that_heard_nothing_from_it_move_and_no_others()
{
    let (mut world, phone) = with_phone_under(two_backends());
    let rings = phone_calls(&mut world, &phone, "u1");
    world.deliver(inside(PBX), response(&rings, 180, ""));
    let tried = phone_calls_quietly(&mut world, &phone, "u2");
    world.deliver(inside(PBX), response(&tried, 100, ""));
    for id in ["u3", "u4"] {
        phone_calls_quietly(&mut world, &phone, id);
    }
    let refused = |world: &mut World| {
        world.input(Input::Unsent { ticket: None, remote: addr(PBX), cause: SendError::Refused });
        let moved = world.take_to(addr(OTHER));
        moved.iter().map(|sent| sent.header(HeaderName::CallId).expect("one")).collect::<Vec<_>>()
    };
    let mut moved = refused(&mut world);
    moved.sort();
    assert_eq!(moved, ["u3", "u4"]);
    assert_eq!(refused(&mut world), Vec::<String>::new(), "each only once");
    phone_calls_quietly(&mut world, &phone, "u5");
    assert_eq!(refused(&mut world), ["u5"], "who comes later does not wait");
}

#[test]
fn given_a_ringing_backend_when_it_fails_then_no_other_is_tried() {
    let (mut world, phone) = with_phone_under(two_backends());
    let first = phone_calls(&mut world, &phone, "o4");
    world.deliver(inside(PBX), response(&first, 180, ""));
    world.deliver(inside(PBX), response(&first, 503, ""));
    assert_eq!(world.take_to(addr(OTHER)).len(), 0);
    assert_eq!(said(&mut world, addr(PHONE)), ["180", "503"]);
    assert_eq!(the_cdr(&world)["attempts"], 1);
}

#[test]
fn given_a_busy_answer_when_it_comes_then_no_other_backend_is_asked() {
    let (mut world, phone) = with_phone_under(two_backends());
    let first = phone_calls(&mut world, &phone, "o5");
    world.deliver(inside(PBX), response(&first, 486, ""));
    assert_eq!(world.take_to(addr(OTHER)).len(), 0);
}

#[test]
fn given_no_backend_answers_when_all_were_tried_then_the_caller_gets_408_and_the_network_is_to_blame() {
    let (mut world, phone) = with_phone_under(two_backends());
    phone_calls(&mut world, &phone, "o6");
    world.advance(Duration::from_secs(40));
    assert_eq!(said(&mut world, addr(PHONE))[0], "408");
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["category"], &cdr["attempts"]), (&"network".into(), &2.into()));
    world.advance(Duration::from_secs(200));
    assert_eq!(world.engine.calls_active(), 0);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_full_disk_or_a_drain_when_a_phone_calls_then_it_may_try_again_later_but_emergencies_pass() {
    let calls = |uri: &str, id: &str| {
        crate::call_support::invite(&crate::support::outside(PHONE), "sip:401@acme.test", uri, id, "")
    };
    let (mut world, phone) = with_phone_under(two_backends());
    world.input(Input::Pressure(Pressure::Reserve));
    world.deliver(phone.flow, calls("sip:402@acme.test", "e1"));
    let refused = world.one_to(addr(PHONE));
    assert_eq!(refused.status(), Some(503));
    assert!(refused.text().contains("Retry-After: "));
    world.deliver(phone.flow, calls("sip:112@acme.test", "e2"));
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    world.input(Input::Pressure(Pressure::Normal));
    world.take();
    world.command(Command::Drain { deadline: Duration::from_secs(300), actor: Text::new("op") });
    world.deliver(phone.flow, calls("sip:402@acme.test", "e3"));
    assert_eq!(said(&mut world, addr(PHONE)), ["503"]);
    assert_eq!(world.records("call.failed").len(), 0, "what was never taken is no failed call");
}

#[test]
fn given_a_limit_of_one_call_when_a_second_is_made_then_it_is_refused_and_counted() {
    let mut limited = two_backends();
    limited.tenants[0].limits.calls = Some(1);
    let (mut world, phone) = with_phone_under(limited);
    phone_calls(&mut world, &phone, "l1");
    let second = crate::call_support::invite(&phone.flow, "sip:401@acme.test", "sip:403@acme.test", "l2", "");
    world.deliver(phone.flow, second);
    assert_eq!(said(&mut world, addr(PHONE)), ["503"]);
    assert_eq!(world.records("call.attempted").len(), 1);
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected")[0].json();
    assert_eq!(told["rule"], "limit");
    assert_eq!((&told["method"], &told["domain"]), (&"INVITE".into(), &"acme.test".into()));
}

/// One backend that is probed and up, and a phone.
fn probed() -> (World, Phone) {
    let mut only = backend("pbx-1", PBX, 1, None);
    only.probe.interval = Some(Duration::from_secs(3_600));
    only.probe.down_after = 3;
    let (mut world, phone) =
        with_phone_under(settings(vec![tenant("acme", vec![domain("acme.test", &[])], vec![only])]));
    world.advance(Duration::from_secs(1));
    for sent in world.take_to(addr(PBX)).iter().filter(|sent| sent.text().starts_with("OPTIONS")) {
        world.deliver(inside(PBX), response(sent, 200, ""));
    }
    world.take();
    (world, phone)
}

fn states(world: &World) -> Vec<String> {
    let changes = world.records("backend.state_changed");
    changes.iter().map(|record| record.json()["to"].as_str().expect("a word").to_owned()).collect()
}

#[test]
fn given_calls_that_nobody_picks_up_when_they_end_with_408_or_503_then_the_backend_stays_up() {
    let (mut world, phone) = probed();
    let before = states(&world);
    for (number, statuses) in
        [&[180, 408][..], &[183, 503], &[408], &[100, 408], &[180, 503], &[408], &[408]].iter().enumerate()
    {
        let at_pbx = phone_calls(&mut world, &phone, &format!("h{number}"));
        for status in *statuses {
            world.deliver(inside(PBX), response(&at_pbx, *status, ""));
        }
        world.take();
    }
    assert_eq!(states(&world), before);
    phone_calls(&mut world, &phone, "h-last");
}

#[test]
fn given_a_backend_that_refuses_with_503_at_once_when_it_happens_thrice_then_it_is_down_unless_one_call_rang_between()
 {
    for (rings, expected) in [(false, true), (true, false)] {
        let (mut world, phone) = probed();
        for number in 0..3 {
            if rings && number == 2 {
                let at_pbx = phone_calls(&mut world, &phone, "r-rings");
                world.deliver(inside(PBX), response(&at_pbx, 180, ""));
                world.take();
            }
            let at_pbx = phone_calls(&mut world, &phone, &format!("r{number}"));
            world.deliver(inside(PBX), response(&at_pbx, 503, ""));
            world.take();
        }
        assert_eq!(states(&world).last().is_some_and(|state| state == "down"), expected, "{rings}");
    }
}
