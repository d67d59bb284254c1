//! Promise 1: no class-A packet is on the wire before its record is durable; with the fsync taken out, the oracle fails.

use crate::town::{ACME, GLOBEX, SECOND, Town, listed};
use signalbox_world::oracle::{UNDURABLE, UNOPENED, end};
use signalbox_world::{Crash, CrashPoint, Seeded, Weather, seeds};

#[test]
fn promise_1_given_rough_weather_when_phones_live_then_nothing_leaves_before_its_record() {
    for seed in seeds(20) {
        let _seeded = Seeded::new("promise_1_given_rough", seed);
        let mut town = Town::varied(seed, Weather::ROUGH, &[ACME, GLOBEX]);
        town.register_all();
        town.live(60, SECOND);
        town.assert_good();
    }
}

#[test]
fn promise_1_given_no_fsync_then_the_oracle_sees_it_at_the_first_message() {
    let mut town = Town::new(1, Weather::FINE, &[ACME]);
    town.world.edge(town.edge).disk().remove_sync();
    town.register_all();
    let faults = town.world.judge();
    assert!(faults.iter().any(|fault| fault.rule == UNDURABLE), "{}", listed(&faults));
}

#[test]
fn promise_1_given_no_fsync_when_the_power_goes_then_a_registered_phone_is_lost_and_the_oracle_says_so() {
    let lost = |seed: u64| {
        let mut town = Town::new(seed, Weather::FINE, &[ACME]);
        town.world.edge(town.edge).disk().remove_sync();
        town.register_all();
        town.world.crash(town.edge, Crash::Power);
        town.world.run(SECOND * 5);
        let faults = town.world.judge();
        faults.iter().any(|fault| [end::BINDING, UNOPENED].contains(&fault.rule))
    };
    // What of the unsynced sectors survives is the seed's. The journal may notice by its watermark, and refuses then.
    assert!((1..=10).any(lost), "ten power cuts without fsync lost nothing");
}

#[test]
fn promise_1_given_a_power_cut_amid_any_commit_then_nothing_that_a_phone_was_told_is_lost() {
    for seed in seeds(1) {
        let _seeded = Seeded::new("promise_1_given_a_power_cut", seed);
        let mut commit = 1;
        loop {
            let mut town = Town::varied(seed * 1000 + commit, Weather::FINE, &[ACME]);
            let before = town.world.edge(town.edge).commits();
            town.world.edge_mut(town.edge).crash_at(CrashPoint::AmidCommit(before + commit), Crash::Power);
            town.short_day();
            let reached = town.world.edge(town.edge).lives() > 1;
            town.assert_good();
            if !reached {
                break;
            }
            commit += 1;
        }
        assert!(commit > 10, "only {commit} commits were cut");
    }
}
