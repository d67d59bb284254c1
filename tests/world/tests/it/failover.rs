//! A backend dies under load (issue 3, Shows 4).

use crate::town::{ACME, INSIDE, MINUTE, OUTSIDE, SECOND, Town};
use signalbox_actors::{Answer, CallPlan, PbxProfile};
use signalbox_schemas::Event;
use signalbox_schemas::words::BackendState;
use signalbox_world::{BackendPlan, Seeded, TenantPlan, Weather, World, edge_settings, hosted, seeds};
use std::time::Duration;

/// Calls a second.
const RATE: u32 = 50;

fn town(seed: u64) -> Town {
    let mut world = World::new(seed, Weather::FINE);
    let second = PbxProfile { local: hosted("10.0.1.2"), ..ACME.pbx_profile() };
    let pbxs = vec![world.add_pbx("acme", ACME.pbx_profile()), world.add_pbx("acme", second)];
    let phones = (0..ACME.phones)
        .map(|n| {
            let mut profile = ACME.phone_profile(n);
            profile.answer = Answer::Ring;
            world.add_phone("acme", profile, None)
        })
        .collect();
    let backends = vec![
        BackendPlan::new("pbx-1", ACME.pbx),
        BackendPlan { priority: 2, ..BackendPlan::new("pbx-2", "10.0.1.2") },
    ];
    let plan = TenantPlan { backends, ..ACME.plan() };
    let edge = world.add_edge(edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[plan]));
    // A commit that stalls sheds calls by design; that is another story.
    world.edge_mut(edge).never_stalls();
    let mut town = Town { world, edge, pbxs, phones };
    town.world.run(SECOND);
    town.register_all();
    town
}

fn load(town: &mut Town, seconds: u32) {
    for n in 0..seconds * RATE {
        let phone = town.phones[n as usize % town.phones.len()];
        town.call(phone, CallPlan::talking("600", SECOND * 4));
        town.world.run(SECOND / RATE);
    }
}

fn states(town: &Town, backend: &str) -> Vec<(BackendState, BackendState, Option<u64>)> {
    let events = town.world.events(town.edge).into_iter().filter(|r| r.subject.ends_with(backend));
    events
        .filter_map(|recorded| match recorded.event {
            Event::BackendStateChanged(e) => Some((e.from, e.to, e.down_ms)),
            _ => None,
        })
        .collect()
}

/// Calls that the callers saw fail.
fn failed(town: &Town) -> usize {
    town.world.phones().flat_map(|p| p.calls()).filter(|c| c.failed.is_some()).count()
}

#[test]
fn given_50_calls_a_second_when_the_backend_is_killed_then_new_calls_fail_over_and_it_comes_back_with_its_downtime()
 {
    for seed in seeds(1) {
        let _seeded = Seeded::new("given_50_calls_a_second_when_the_backend_is_killed", seed);
        let mut town = town(seed);
        load(&mut town, 10);
        town.world.pbx(town.pbxs[0], |p, now, _| p.kill(now.mono, seed));
        load(&mut town, 30);
        assert_eq!(failed(&town), 0, "a caller noticed");
        let down = states(&town, "pbx-1");
        assert_eq!(down.last().map(|(_, to, _)| *to), Some(BackendState::Down), "{down:?}");
        let took_over = town.world.see_pbx(town.pbxs[1]).calls().filter(|c| c.answered.is_some()).count();
        assert!(took_over >= 30 * RATE as usize - 10, "{took_over} calls at the second");
        town.world.pbx(town.pbxs[0], |p, now, _| p.start(now.mono));
        town.world.run(MINUTE);
        let (_, to, down_ms) = *states(&town, "pbx-1").last().unwrap();
        assert_eq!(to, BackendState::Up);
        assert!((20_000..90_000).contains(&down_ms.unwrap_or(0)), "{down_ms:?}");
        town.assert_good();
    }
}

#[test]
fn given_a_backend_that_hears_nothing_then_calls_fail_over_within_failover_after() {
    for seed in seeds(1) {
        let _seeded = Seeded::new("given_a_backend_that_hears_nothing", seed);
        let mut town = town(seed);
        town.world.pbx(town.pbxs[0], |p, _, _| p.stall());
        load(&mut town, 4);
        town.world.run(SECOND * 8);
        assert_eq!(failed(&town), 0, "a caller noticed");
        let slowest =
            town.world.phones().flat_map(|p| p.calls()).map(|c| c.answered.unwrap().since(c.invited)).max();
        assert!(slowest.unwrap() < Duration::from_millis(3_500), "{slowest:?}");
        // It wakes up and hears all that was said meanwhile: nothing of it becomes a second call.
        town.world.pbx(town.pbxs[0], |p, now, _| p.start(now.mono));
        town.assert_good();
    }
}
