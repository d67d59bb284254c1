//! Calls that nobody hangs up: a phone loses its power amid one (RFC 4028, RFC 3261 §12.2.2).

use crate::town::{ACME, MINUTE, SECOND, Town};
use signalbox_actors::{CallPlan, EndedBy, LegId};
use signalbox_schemas::Event;
use signalbox_schemas::call::Cdr;
use signalbox_schemas::words::{Completeness, ReleasedBy};
use signalbox_world::{Crash, Seeded, Weather, seeds};
use std::time::Duration;

/// A phone calls its PBX.
fn begin(seed: u64, plan: CallPlan, keepalive: Option<Duration>) -> (Town, LegId) {
    let mut town = Town::timed(seed, Weather::FINE, &[ACME], |timers| timers.keepalive = keepalive);
    town.register_all();
    town.call(town.phones[0], plan);
    town.world.run(SECOND * 3);
    let at_pbx = town.world.see_pbx(town.pbxs[0]).calls().next().unwrap().leg;
    (town, at_pbx)
}

fn the_cdr(town: &Town) -> Cdr {
    let ended = town.world.events(town.edge).into_iter().filter_map(|recorded| match recorded.event {
        Event::CallEnded(cdr) => Some(*cdr),
        _ => None,
    });
    let all: Vec<Cdr> = ended.collect();
    assert_eq!(all.len(), 1);
    all.into_iter().next().unwrap()
}

#[test]
fn given_a_session_timer_when_the_phone_refreshes_then_the_call_goes_on_and_without_its_power_it_ends() {
    for seed in seeds(4) {
        let _seeded = Seeded::new("given_a_session_timer", seed);
        let plan = CallPlan { session_secs: Some(120), ..CallPlan::to("600") };
        let (mut town, at_pbx) = begin(seed, plan, None);
        town.world.set_weather(Weather::ROUGH);
        town.world.run(MINUTE * 10);
        if seed % 2 == 0 {
            town.world.crash(town.edge, Crash::Power);
            town.world.run(MINUTE * 5);
        }
        let (phone, pbx) = (town.phones[0], town.pbxs[0]);
        let lives =
            |town: &Town| town.world.see_pbx(pbx).seen_call(at_pbx).is_some_and(|call| call.is_alive());
        assert!(lives(&town), "it was refreshed");
        let before = town.world.now().mono;
        town.world.phone(phone, |p, now, _| p.restart(now, seed));
        assert!(town.world.run_until(MINUTE * 3, |world| {
            world.see_pbx(pbx).seen_call(at_pbx).is_some_and(|call| !call.is_alive())
        }));
        assert!(town.world.now().mono.since(before) >= SECOND * 55, "not before its time");
        let ended = town.world.see_pbx(pbx).seen_call(at_pbx).unwrap().ended;
        assert_eq!(ended.map(|(_, by)| by), Some(EndedBy::Peer));
        let cdr = the_cdr(&town);
        assert_eq!((cdr.released_by, cdr.reason.as_deref()), (ReleasedBy::Timeout, Some("session_expired")));
        town.assert_good();
    }
}

#[test]
fn given_keepalives_when_a_phone_loses_its_power_then_its_call_ends_when_it_was_last_there() {
    for seed in seeds(4) {
        let _seeded = Seeded::new("given_keepalives", seed);
        let (mut town, at_pbx) = begin(seed, CallPlan::to("600"), Some(MINUTE * 2));
        town.world.set_weather(Weather::ROUGH);
        town.world.run(MINUTE * 11);
        let (phone, pbx) = (town.phones[0], town.pbxs[0]);
        assert!(town.world.see_pbx(pbx).seen_call(at_pbx).unwrap().is_alive(), "both answered");
        town.world.phone(phone, |p, now, _| p.restart(now, seed));
        town.world.run(MINUTE * 5);
        let ended = town.world.see_pbx(pbx).seen_call(at_pbx).unwrap().ended;
        assert_eq!(ended.map(|(_, by)| by), Some(EndedBy::Peer));
        let cdr = the_cdr(&town);
        assert_eq!((cdr.reason.as_deref(), cdr.completeness), (Some("dead_peer"), Completeness::Estimated));
        let billed = Duration::from_millis(cdr.billable_ms);
        assert!((MINUTE * 9..MINUTE * 12).contains(&billed), "{billed:?}");
        town.assert_good();
    }
}
