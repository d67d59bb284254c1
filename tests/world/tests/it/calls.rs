//! Calls on a quiet day: what the CDR says, what passes through, and who may still hang up.

use crate::town::{ACME, INSIDE, OUTSIDE, SECOND, Town};
use signalbox_actors::{Answer, CallPlan, EndedBy, Observed, PbxProfile, PhoneProfile};
use signalbox_schemas::Event;
use signalbox_schemas::call::Cdr;
use signalbox_schemas::words::{Category, ReleasedBy};
use signalbox_sip::Method;
use signalbox_world::{PhoneId, Seeded, Weather, World, edge_settings, hosted, seeds};
use std::time::Duration;

fn cdrs(town: &Town) -> Vec<Cdr> {
    let events = town.world.events(town.edge).into_iter();
    events
        .filter_map(|recorded| match recorded.event {
            Event::CallEnded(cdr) => Some(*cdr),
            Event::CallFailed(failed) => Some(failed.cdr),
            _ => None,
        })
        .collect()
}

fn near(ms: u64, wanted: Duration) -> bool {
    Duration::from_millis(ms).abs_diff(wanted) < Duration::from_millis(50)
}

#[test]
fn given_a_call_through_the_pbx_then_two_cdrs_say_when_and_by_whom_it_ended() {
    let mut town = Town::new(1, Weather::FINE, &[ACME]);
    town.register_all();
    let answer = Answer::After { ring: SECOND * 2, talk: None };
    town.world.phone(town.phones[1], |p, _, _| p.set_answer(answer));
    town.call(town.phones[0], CallPlan::talking("402", SECOND * 7));
    town.world.run(SECOND * 20);
    let cdrs = cdrs(&town);
    assert_eq!(cdrs.len(), 2, "the call crosses the edge twice");
    for cdr in &cdrs {
        assert!(near(cdr.billable_ms, SECOND * 7), "billable {} ms", cdr.billable_ms);
        assert!(near(cdr.setup_ms.unwrap_or(0), SECOND * 2), "setup {:?} ms", cdr.setup_ms);
        assert!(near(cdr.ring_ms.unwrap_or(0), SECOND * 2), "ring {:?} ms", cdr.ring_ms);
        assert_eq!(
            (cdr.released_by, cdr.category, cdr.status),
            (ReleasedBy::Caller, Category::Answered, 200)
        );
    }
    town.assert_good();
}

#[test]
fn given_calls_that_fail_then_each_has_its_category() {
    let mut town = Town::new(2, Weather::FINE, &[ACME]);
    town.register_all();
    let give_up_after = Some(SECOND * 3);
    for (target, category) in [
        ("601", Category::Busy),
        ("603", Category::Rejected),
        ("602", Category::Cancelled),
        ("777", Category::NotFound),
    ] {
        town.call(town.phones[0], CallPlan { give_up_after, ..CallPlan::to(target) });
        town.world.run(SECOND * 6);
        let cdr = cdrs(&town).pop().expect("a record");
        assert_eq!(cdr.category, category, "{target}");
        assert_eq!(cdr.billable_ms, 0, "{target}");
    }
    town.assert_good();
}

#[test]
fn given_requests_of_any_method_inside_a_call_then_they_pass_both_ways_byte_for_byte() {
    for seed in seeds(4) {
        let _seeded = Seeded::new("given_requests_of_any_method", seed);
        let mut town = Town::varied(seed, Weather::FINE, &[ACME]);
        town.register_all();
        town.call(town.phones[0], CallPlan::to("600"));
        town.world.run(SECOND * 3);
        let (caller, callee) = (town.phones[0], town.pbxs[0]);
        let caller_leg = town.world.see_phone(caller).calls().next().unwrap().leg;
        let callee_leg = town.world.see_pbx(callee).calls().next().unwrap().leg;
        let body: Vec<u8> = (0..=255).collect();
        let methods =
            [Method::Info, Method::Options, Method::Message, Method::from_bytes(b"FOO-bar").unwrap()];
        for method in methods {
            let content = ("application/x-any", body.as_slice());
            assert!(
                town.world.phone(caller, |p, now, out| p.send_in_call(now, caller_leg, method, content, out))
            );
            assert!(
                town.world.pbx(callee, |p, now, out| p.send_in_call(now, callee_leg, method, content, out))
            );
            town.world.run(SECOND);
            let heard = |leg| Observed::InDialog { leg, method, body: body.clone().into() };
            let answered = |leg| Observed::InDialogAnswered { leg, method, status: 200 };
            let phone = town.world.see_phone(caller).seen();
            let pbx = town.world.see_pbx(callee).seen();
            for wanted in [heard(caller_leg), answered(caller_leg)] {
                assert!(phone.iter().any(|seen| seen.what == wanted), "{method} at the phone");
            }
            for wanted in [heard(callee_leg), answered(callee_leg)] {
                assert!(pbx.iter().any(|seen| seen.what == wanted), "{method} at the PBX");
            }
        }
        town.world.phone(caller, |p, now, out| p.hang_up(now, caller_leg, out));
        town.assert_good();
    }
}

#[test]
fn given_a_phone_that_unregisters_during_its_call_then_the_other_side_still_hangs_up() {
    let mut town = Town::new(3, Weather::FINE, &[ACME]);
    town.register_all();
    let answer = Answer::After { ring: SECOND, talk: Some(SECOND * 20) };
    town.world.phone(town.phones[1], |p, _, _| p.set_answer(answer));
    town.call(town.phones[0], CallPlan { info_after: Some(SECOND * 10), ..CallPlan::to("402") });
    town.world.run(SECOND * 5);
    town.world.phone(town.phones[0], |p, now, out| p.unregister(now, out));
    town.world.run(SECOND * 30);
    let call = town.world.see_phone(town.phones[0]).calls().next().unwrap();
    assert_eq!(call.ended.map(|(_, by)| by), Some(EndedBy::Peer));
    let info = Observed::InDialogAnswered { leg: call.leg, method: Method::Info, status: 200 };
    assert!(town.world.see_phone(town.phones[0]).seen().iter().any(|seen| seen.what == info));
    town.assert_good();
}

#[test]
fn given_an_absurdly_long_user_then_it_is_refused_and_nothing_breaks() {
    let mut town = Town::new(4, Weather::FINE, &[ACME]);
    town.register_all();
    for length in [255, 256, 1500, 2040] {
        let mut profile = ACME.phone_profile(9);
        profile.local = hosted(&format!("198.51.100.99:{}", 5000 + length));
        (profile.user, profile.refresh) = ("u".repeat(length), false);
        let phone: PhoneId = town.world.add_phone("acme", profile, None);
        town.world.phone(phone, |p, now, out| p.register(now, out));
        town.world.run(SECOND * 2);
        let refused = town
            .world
            .see_phone(phone)
            .seen()
            .iter()
            .any(|seen| matches!(seen.what, Observed::RegisterRefused { status: 400 | 404 | 414 }));
        assert!(refused, "{length}");
    }
    town.call(town.phones[0], CallPlan::talking("600", SECOND));
    town.world.run(SECOND * 5);
    assert!(town.world.see_phone(town.phones[0]).calls().next().unwrap().answered.is_some());
}

#[test]
fn given_two_edges_before_one_pbx_then_phones_at_either_reach_each_other() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("given_two_edges", seed);
        let mut world = World::new(seed, Weather::ROUGH);
        let other = ["192.0.2.2:5060", "10.0.0.6:5060"];
        let mut pbx: PbxProfile = ACME.pbx_profile();
        pbx.trusts.push(hosted(other[1]).ip());
        let pbxs = vec![world.add_pbx("acme", pbx)];
        let here = world.add_phone("acme", ACME.phone_profile(0), None);
        let profile = PhoneProfile { edge: hosted(other[0]), ..ACME.phone_profile(1) };
        let there = world.add_phone("acme", profile, None);
        let edge = world.add_edge(edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[ACME.plan()]));
        world.add_edge(edge_settings("edge-2", hosted(other[0]), hosted(other[1]), &[ACME.plan()]));
        world.run(SECOND);
        let mut town = Town { world, edge, pbxs, phones: vec![here, there] };
        town.register_all();
        for (caller, to) in [(here, "402"), (there, "401")] {
            town.call(caller, CallPlan::talking(to, SECOND * 2));
            town.world.run(SECOND * 15);
        }
        for phone in [here, there] {
            let answered = town.world.see_phone(phone).calls().filter(|c| c.confirmed.is_some()).count();
            assert_eq!(answered, 2, "one call each way");
        }
        town.assert_good();
    }
}
