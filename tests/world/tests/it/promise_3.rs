//! Promise 3: kill -9 at any point: no acknowledged event lost, no leg left alive on either side.

use crate::town::{ACME, GLOBEX, SECOND, Town};
use signalbox_actors::CallPlan;
use signalbox_world::{Crash, CrashPoint, Seeded, Weather, World, seeds};
use std::time::Duration;

fn kind(world: &mut World) -> Crash {
    if world.random().chance(500) { Crash::Process } else { Crash::Power }
}

/// 20 kills in `make test`, 200 in `make chaos`.
#[test]
fn promise_3_kill_at_random_points() {
    for seed in seeds(10) {
        let _seeded = Seeded::new("promise_3_kill", seed);
        let weather = if seed % 2 == 0 { Weather::ROUGH } else { Weather::FINE };
        let mut town = Town::varied(seed, weather, &[ACME, GLOBEX]);
        town.register_all();
        for _ in 0..2 {
            let down = 50 + town.world.random().below(6_000);
            town.world.set_restart_after(Duration::from_millis(down));
            let things = 5 + town.world.random().below(20);
            town.live(things, Duration::from_millis(700));
            let how = kind(&mut town.world);
            match town.world.random().below(4) {
                0 => town.world.crash(town.edge, how),
                place => {
                    let commit = town.world.edge(town.edge).commits() + 1 + town.world.random().below(6);
                    let point = match place {
                        1 => CrashPoint::AmidCommit(commit),
                        2 => CrashPoint::AmidSending(commit),
                        _ => CrashPoint::BetweenCommitAndSend(commit),
                    };
                    town.world.edge_mut(town.edge).crash_at(point, how);
                }
            }
            town.live(12, Duration::from_millis(700));
        }
        assert!(town.world.edge(town.edge).lives() >= 2, "nothing was killed");
        town.assert_good();
    }
}

/// One short life, killed between each of its commits and the messages that the commit released.
#[test]
fn promise_3_kill_between_every_commit_and_its_send() {
    for seed in seeds(1) {
        let _seeded = Seeded::new("promise_3_kill_between", seed);
        let mut kills = 0;
        for commit in 1.. {
            let mut reached = false;
            for point in [CrashPoint::BetweenCommitAndSend, CrashPoint::AmidSending] {
                let mut town = Town::varied(seed * 1000 + commit, Weather::FINE, &[ACME]);
                let before = town.world.edge(town.edge).commits();
                town.world.edge_mut(town.edge).crash_at(point(before + commit), Crash::Process);
                town.short_day();
                if town.world.edge(town.edge).lives() > 1 {
                    reached = true;
                    kills += 1;
                }
                town.assert_good();
            }
            if !reached {
                break;
            }
        }
        assert!(kills > 30, "only {kills} points were found");
    }
}

#[test]
fn promise_3_given_both_ends_died_while_the_edge_was_down_then_the_call_is_closed_as_estimated() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("promise_3_given_both", seed);
        let mut town = Town::new(seed, Weather::FINE, &[ACME]);
        town.register_all();
        town.call(town.phones[0], CallPlan::to("600"));
        town.world.run(SECOND * 30);
        town.world.crash(town.edge, Crash::Power);
        town.world.phone(town.phones[0], |p, now, _| p.restart(now, 99));
        town.world.pbx(town.pbxs[0], |p, now, _| {
            p.kill(now.mono, 98);
            p.start(now.mono);
        });
        town.world.run(SECOND * 60);
        let closed = town.world.events(town.edge).into_iter().find_map(|recorded| match recorded.event {
            signalbox_schemas::Event::CallEnded(cdr) => Some(cdr),
            _ => None,
        });
        let cdr = closed.expect("the call is closed");
        assert_eq!(cdr.completeness, signalbox_schemas::words::Completeness::Estimated);
        // The edge knows only when it last heard of the call; it never bills more than that.
        assert!(cdr.billable_ms <= 31_000, "{} ms", cdr.billable_ms);
        town.assert_good();
    }
}
