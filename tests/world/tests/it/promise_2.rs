//! Promise 2: folding the journal gives the state that living through it gave.

use crate::town::{ACME, GLOBEX, SECOND, Town};
use signalbox_world::{Crash, Seeded, Snapshot, Weather, seeds};

#[test]
fn promise_2_replay_equals_live_at_any_moment_and_through_any_snapshot() {
    for seed in seeds(8) {
        let _seeded = Seeded::new("promise_2", seed);
        let mut town = Town::varied(seed, Weather::ROUGH, &[ACME, GLOBEX]);
        town.register_all();
        for round in 0..6 {
            // The snapshot is taken a few entries at a time while life goes on.
            let mut taken = Snapshot::begin(&town.world, town.edge);
            for _ in 0..5 {
                town.live(3, SECOND);
                taken.take(&town.world, town.edge, 2);
            }
            town.world.run_until_durable(town.edge);
            taken.finish(&town.world, town.edge);
            if round == 3 {
                town.world.crash(town.edge, Crash::Power);
                town.world.run(SECOND * 3);
            }
        }
        town.assert_good();
    }
}
