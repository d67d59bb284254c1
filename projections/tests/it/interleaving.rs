//! Whatever order sources and domains arrive in, and however often, the tables are the same.

use crate::scripted::{Scripted, run_all};
use crate::support::{both_migrated, sqlite};
use crate::tables::{a_day, dump, events};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use signalbox_bus::{Delivered, Order};
use std::collections::{BTreeMap, VecDeque};

/// Random cases, scaled by `SIGNALBOX_EFFORT` (1 by default).
pub(crate) fn cases(base: u32) -> u32 {
    std::env::var("SIGNALBOX_EFFORT").ok().and_then(|effort| effort.parse().ok()).unwrap_or(1) * base
}

/// Takes events from the keys' queues as `choices` say, so the order of each key is kept; some come again.
fn shuffled(events: &[Delivered], choices: &[(usize, bool)]) -> Vec<Vec<Delivered>> {
    let mut keys: BTreeMap<(String, String, String), VecDeque<Delivered>> = BTreeMap::new();
    for event in events {
        let key = (event.source.to_string(), event.tenant.to_string(), event.subject.to_string());
        keys.entry(key).or_default().push_back(event.clone());
    }
    let mut queues: Vec<_> = keys.into_values().collect();
    let (mut batches, mut batch, mut choice) = (Vec::new(), Vec::new(), choices.iter().cycle());
    while !queues.is_empty() {
        let (pick, again) = choice.next().expect("it never ends");
        let picked = pick % queues.len();
        batch.extend(queues[picked].pop_front());
        queues.retain(|queue| !queue.is_empty());
        if *again {
            // What was just delivered is delivered once more, in another batch.
            batches.push(batch.clone());
            if pick % 2 == 0 {
                batch.clear();
            }
        }
    }
    batches.push(batch);
    batches
}

#[test]
fn given_any_order_that_keeps_each_key_and_any_redelivery_when_folded_then_the_tables_are_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let events = events(&a_day());
    let straight = runtime.block_on(async {
        let [(_a, lite), (_b, postgres)] = both_migrated().await;
        run_all(Scripted::of(&events), &lite).await;
        // And once through PostgreSQL, as far from the straight order as can be.
        let turned = shuffled(&events, &[(usize::MAX, false), (3, true), (0, false)]);
        run_all(Scripted::new(Order::Key, turned), &postgres).await;
        assert_eq!(dump(&lite).await, dump(&postgres).await);
        dump(&lite).await
    });
    let choices = prop::collection::vec((any::<usize>(), prop::bool::weighted(0.1)), 1..60);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases(12)) });
    let outcome = runner.run(&choices, |choices| {
        let tables = runtime.block_on(async {
            let database = sqlite();
            let store = database.store().await;
            store.migrate().await.unwrap();
            run_all(Scripted::new(Order::Key, shuffled(&events, &choices)), &store).await;
            dump(&store).await
        });
        prop_assert_eq!(&tables, &straight);
        Ok(())
    });
    outcome.unwrap();
}
