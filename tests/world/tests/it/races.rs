//! Races: requests that cross each other, and answers that cross their CANCEL, on a network that loses, doubles and reorders.
//! Whatever happens, every transaction ends, no dialog is left, both sides agree how the call ended, and its records say so.
//!
//! `SIGNALBOX_EFFORT=100` runs 10,000 of them.

use crate::town::{Household, INSIDE, SECOND, Town, listed};
use signalbox_actors::{Answer, CallPlan, CallSeen, EndedBy, LegId, PhoneProfile};
use signalbox_schemas::Event;
use signalbox_schemas::call::Cdr;
use signalbox_schemas::words::ReleasedBy;
use signalbox_sip::Method;
use signalbox_world::{PhoneId, Seeded, Weather, hosted, seeds};
use std::time::Duration;

const PAIR: Household =
    Household { tenant: "acme", domain: "acme.test", pbx: "10.0.1.1", phones: 2, street: 100 };

/// The ends begin so long after the answer, in milliseconds: at once, or when half a session of 90, 120 or 180 s is over and
/// whoever refreshes it does so.
const LATER_MS: [u64; 6] = [0, 0, 0, 44_900, 59_900, 89_900];
/// Within this the ends do what they do.
const MOMENT_US: u64 = 120_000;

fn the_leg(town: &Town, phone: PhoneId) -> Option<LegId> {
    town.world.see_phone(phone).calls().find(|call| call.is_alive()).map(|call| call.leg)
}

/// One end does something that may cross what the other does.
fn act(town: &mut Town, phone: PhoneId) {
    let roll = town.world.random().below(100);
    let Some(leg) = the_leg(town, phone) else { return };
    town.world.phone(phone, |p, now, out| match roll {
        0..=29 => p.hang_up(now, leg, out),
        30..=49 => p.hold(now, leg, out),
        50..=59 => p.resume(now, leg, out),
        60..=84 => {
            p.send_in_call(now, leg, Method::Update, ("", b""), out);
        }
        _ => {
            p.send_in_call(now, leg, Method::Info, ("text/plain", b"x"), out);
        }
    });
}

/// A call whose caller may give up while it is answered, and whose ends act at random moments of one short time.
fn race(seed: u64) -> Town {
    // A fifth of the phones speak over TCP: in order, in pieces.
    let mut town = Town::varied_over(seed, Weather::FINE, &[PAIR], seed % 5 == 1);
    town.register_all();
    town.world.set_weather(Weather::ROUGH);
    let ring = Duration::from_micros(town.world.random().below(400_000));
    let give_up = Duration::from_micros(town.world.random().below(900_000));
    let [caller, callee] = [town.phones[0], town.phones[1]];
    town.world.phone(callee, |p, _, _| p.set_answer(Answer::After { ring, talk: None }));
    let give_up_after = (!seed.is_multiple_of(3)).then_some(give_up);
    town.call(caller, CallPlan { give_up_after, ..CallPlan::to("402") });
    let talks = |world: &signalbox_world::World| {
        let confirmed = |phone| world.see_phone(phone).calls().any(|call| call.confirmed.is_some());
        confirmed(caller) && confirmed(callee)
    };
    if town.world.run_until(SECOND * 2, talks) {
        let later = *town.world.random().pick(&LATER_MS);
        town.world.run(Duration::from_millis(later));
        for _ in 0..town.world.random().below(7) {
            let apart = town.world.random().below(MOMENT_US);
            town.world.run(Duration::from_micros(apart / 3));
            let phone = *town.world.random().pick(&[caller, callee]);
            act(&mut town, phone);
        }
    }
    town.world.run(SECOND * 10);
    for phone in [caller, callee] {
        let Some(leg) = the_leg(&town, phone) else { continue };
        town.world.phone(phone, |p, now, out| p.hang_up(now, leg, out));
    }
    town.rest();
    // Pings of phones, and to them, end with their registrations.
    town.world.set_weather(Weather::FINE);
    for phone in [caller, callee] {
        town.world.phone(phone, |p, now, out| p.unregister(now, out));
    }
    // The last repetitions of an answered transaction are absorbed for 64·T1.
    town.world.run(SECOND * 40);
    town
}

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

/// What the ends say of the call that they had, against its records.
fn disagreement(town: &Town) -> Option<String> {
    let of = |n: usize| town.world.see_phone(town.phones[n]).calls().next().cloned();
    let (caller, callee) = (of(0)?, of(1));
    let by = |call: &CallSeen| call.ended.map(|(_, by)| by);
    let records = cdrs(town);
    let answered = caller.answered.is_some();
    // The phone's own call is the first of the two.
    let own = records.iter().find(|cdr| *cdr.ingress_call_id == *caller.call_id)?;
    if answered != own.answered_at.is_some() {
        return Some(format!("the caller says {answered}, its record {:?}", own.category));
    }
    let both = callee.as_ref().and_then(&by);
    let released = own.released_by;
    match (by(&caller), both) {
        (Some(EndedBy::Me), Some(EndedBy::Peer)) if released != ReleasedBy::Caller => {}
        (Some(EndedBy::Peer), Some(EndedBy::Me)) if released != ReleasedBy::Callee => {}
        (Some(EndedBy::Peer), Some(EndedBy::Peer)) if released == ReleasedBy::Caller => {}
        _ => return None,
    }
    Some(format!("the ends say {:?} and {both:?}, the record {released:?}", by(&caller)))
}

#[test]
fn given_a_race_in_rough_weather_when_it_is_over_then_both_sides_and_the_records_agree() {
    let mut talked = 0;
    for seed in seeds(100) {
        let _seeded = Seeded::new("given_a_race_in_rough_weather", seed);
        let town = race(seed);
        let faults = town.world.judge();
        assert!(faults.is_empty(), "seed {seed}: {} faults:\n{}", faults.len(), listed(&faults));
        assert_eq!(disagreement(&town), None, "seed {seed}");
        let engine = town.world.edge(town.edge).engine().unwrap();
        assert_eq!((engine.calls_active(), engine.calls_unanswered()), (0, 0), "seed {seed}");
        // Probes of the PBX go on.
        assert!(engine.counters().transactions <= 3, "seed {seed}: {}", engine.counters().transactions);
        talked += u64::from(cdrs(&town).iter().any(|cdr| cdr.answered_at.is_some()));
    }
    assert!(talked * 4 > seeds(100).len() as u64, "only {talked} calls were answered");
}

/// A PBX calls an AoR of three phones, which answer, refuse or just ring, some of them reliably; it may give up meanwhile.
fn fork(seed: u64) -> Town {
    let mut town = Town::varied_over(seed, Weather::FINE, &[PAIR], seed % 5 == 1);
    for last in [90, 91] {
        let local = hosted(&format!("198.51.100.{last}:5060"));
        let phone = town.world.add_phone("acme", PhoneProfile { local, ..PAIR.phone_profile(0) }, None);
        town.phones.push(phone);
    }
    town.register_all();
    town.world.set_weather(Weather::ROUGH);
    for phone in town.phones.clone() {
        let ring = Duration::from_micros(town.world.random().below(300_000));
        let answers = [Answer::After { ring, talk: None }, Answer::Ring, Answer::Status(486)];
        let roll = town.world.random().below(10);
        let answer = answers[usize::from(roll > 6) + usize::from(roll > 8)];
        let reliable = town.world.random().chance(500);
        town.world.phone(phone, |p, _, _| {
            p.set_answer(answer);
            if reliable {
                p.set_reliable();
            }
        });
    }
    let (pbx, edge) = (town.pbxs[0], hosted(INSIDE));
    let (to, from) = ("sip:401@acme.test", "sip:600@acme.test");
    let leg = town.world.pbx(pbx, |p, now, out| p.originate(now, to, from, edge, out)).expect("a leg");
    let until = Duration::from_micros(town.world.random().below(900_000));
    town.world.run(if seed.is_multiple_of(3) { SECOND * 5 } else { until });
    town.world.pbx(pbx, |p, now, out| p.hang_up(now, leg, out));
    town.rest();
    town.world.run(SECOND * 40);
    town
}

#[test]
fn given_a_forked_call_in_rough_weather_when_it_is_over_then_one_phone_had_it_and_the_records_agree() {
    let mut talked = 0;
    for seed in seeds(60) {
        let _seeded = Seeded::new("given_a_forked_call_in_rough_weather", seed);
        let town = fork(seed);
        let faults = town.world.judge();
        assert!(faults.is_empty(), "seed {seed}: {} faults:\n{}", faults.len(), listed(&faults));
        let caller = town.world.see_pbx(town.pbxs[0]).calls().last().expect("a call").clone();
        let records = cdrs(&town);
        assert_eq!(records.len(), 1, "seed {seed}");
        assert_eq!(records[0].answered_at.is_some(), caller.answered.is_some(), "seed {seed}");
        talked += u64::from(caller.answered.is_some());
    }
    assert!(talked * 4 > seeds(60).len() as u64, "only {talked} calls were answered");
}
