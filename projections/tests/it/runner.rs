//! The runner: exactly once in the tables, one at a time, and it goes on where it was.

use crate::scripted::{Scripted, quick, run, run_all};
use crate::stories::Edge;
use crate::support::both_migrated;
use crate::tables::{a_day, dump, events};
use signalbox_base::Wall;
use signalbox_bus::Order;
use signalbox_projections::{Calls, Cdrs, Held, Locations, Runner, Stopped};
use signalbox_store::positions::{claim, load};
use std::sync::Arc;
use tokio::sync::watch;

#[tokio::test]
async fn given_everything_delivered_again_when_folded_then_nothing_changes() {
    let bus = Scripted::of(&events(&a_day()));
    for (_database, store) in both_migrated().await {
        run_all(bus.clone(), &store).await;
        let before = dump(&store).await;
        let (ended, status) = run(Box::new(Locations), bus.clone(), &store).await;
        ended.unwrap();
        let of_domain = bus.batches[0].iter().filter(|event| event.domain() == "registration").count();
        assert_eq!((status.applied, status.duplicates), (0, of_domain as u64));
        run_all(bus.clone(), &store).await;
        assert_eq!(dump(&store).await, before);
    }
}

#[tokio::test]
async fn given_positions_were_lost_when_the_whole_batch_is_applied_twice_then_the_tables_are_the_same() {
    let bus = Scripted::of(&events(&a_day()));
    for (_database, store) in both_migrated().await {
        run_all(bus.clone(), &store).await;
        let before = dump(&store).await;
        store.execute("DELETE FROM projection_position", vec![]).await.unwrap();
        run_all(bus.clone(), &store).await;
        assert_eq!(dump(&store).await, before);
    }
}

#[tokio::test]
async fn given_a_runner_that_is_dropped_at_any_moment_when_others_follow_then_the_tables_are_whole() {
    let events = events(&a_day());
    let single = Scripted::new(Order::Source, events.iter().map(|event| vec![event.clone()]).collect());
    for (_database, store) in both_migrated().await {
        for yields in 0..60 {
            let runner = Runner::new(Box::new(Calls), single.clone(), store.clone(), quick());
            let (_stop, asked) = watch::channel(false);
            let task = tokio::spawn(runner.run(asked));
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            task.abort();
            let _ = task.await;
        }
        run_all(single.clone(), &store).await;
        let interrupted = dump(&store).await;
        let [(_a, fresh), _] = both_migrated().await;
        run_all(Scripted::of(&events), &fresh).await;
        assert_eq!(interrupted, dump(&fresh).await);
    }
}

#[tokio::test]
async fn given_a_second_runner_when_the_first_goes_on_then_it_stops_as_fenced_and_has_written_nothing() {
    let mut edge = Edge::new(1);
    let call = edge.attempted("acme", 1);
    edge.failed(&call);
    for (_database, store) in both_migrated().await {
        // The first waits for its second batch while another process claims.
        let (first, later) = (edge.events[..1].to_vec(), edge.events[1..].to_vec());
        let gate = Arc::new(tokio::sync::Notify::new());
        let bus = Arc::new(crate::faults::Gated { batches: vec![first, later], gate: Arc::clone(&gate) });
        let runner = Runner::new(Box::new(Cdrs), bus, store.clone(), quick());
        let status = runner.status();
        let (_stop, asked) = watch::channel(false);
        let running = tokio::spawn(runner.run(asked));
        while status.get().commits == 0 {
            assert!(!running.is_finished(), "{:?}", status.get());
            tokio::task::yield_now().await;
        }
        let other = claim(&store, "cdr", 1, "another", None, Wall(1)).await.unwrap();
        gate.notify_one();
        assert_eq!(running.await.unwrap(), Err(Stopped::Fenced { projection: "cdr" }), "{}", store.kind());
        assert!(store.query("SELECT cdr_id FROM cdr", vec![]).await.unwrap().is_empty());
        store.transaction(vec![other.guard(Wall(2))]).await.expect("the other holds it still");
    }
}

#[tokio::test]
async fn given_a_missing_number_when_folded_then_the_domain_waits_and_goes_on_once_it_is_there() {
    let events = events(&a_day()[..1]);
    let missing = events.iter().position(|event| event.domain() == "call" && event.domain_seq == 3).unwrap();
    let mut holed = events.clone();
    holed.remove(missing);
    for (_database, store) in both_migrated().await {
        let bus = Scripted::of(&holed);
        let (ended, status) = run(Box::new(Calls), bus.clone(), &store).await;
        ended.unwrap();
        let held: Vec<_> = status.held.values().collect();
        assert_eq!((status.applied, held), (2, vec![&Held::Hole { from: 3, to: 3 }]));
        assert!(!status.is_current());
        assert!(bus.acknowledged.lock().unwrap().is_empty(), "the bus must keep what comes after the hole");
        let (ended, status) = run(Box::new(Calls), Scripted::of(&events), &store).await;
        ended.unwrap();
        assert!(status.held.is_empty() && status.is_current());
    }
}

#[tokio::test]
async fn given_a_journal_whose_beginning_is_gone_when_folded_then_that_is_recorded_and_not_waited_for() {
    let mut edge = Edge::new(1);
    for _ in 0..3 {
        edge.refreshed("acme", "401@acme.test", Some("udp:192.0.2.7:5060"));
    }
    for (_database, store) in both_migrated().await {
        let (ended, status) = run(Box::new(Locations), Scripted::of(&edge.events[1..]), &store).await;
        ended.unwrap();
        assert_eq!((status.applied, status.held.len()), (2, 0));
        let saved = load(&store, "location", 1).await.unwrap();
        let position = &saved.iter().find(|saved| saved.domain == "registration").unwrap().position;
        assert_eq!((position.retained_from(), position.low()), (Some(2), 3));
        let rows = signalbox_projections::queries::locations(&store, None, None).await.unwrap();
        assert_eq!(rows.len(), 1, "the binding is known from its refreshes");
    }
}

#[tokio::test]
async fn given_all_is_folded_when_a_newer_event_is_known_then_the_lag_counts_from_that_moment() {
    let edge = &a_day()[0];
    let [(_database, store), _] = both_migrated().await;
    let (ended, mut status) = run(Box::new(Cdrs), Scripted::of(&edge.events), &store).await;
    ended.unwrap();
    assert!(status.is_current() && status.lag_seconds(Wall(i64::MAX)) == 0.0);
    let level = Wall(status.recorded_at.unwrap());
    assert!(level > edge.now(), "the events are old; what the bus had was folded just now");
    status.sources.values_mut().for_each(|source| source.end = source.through + 1);
    assert_eq!(status.lag_seconds(Wall(level.0 + 2_000_000)), 2.0);
}

#[tokio::test]
async fn given_a_stop_when_asked_then_the_runner_ends_and_has_told_the_bus_what_is_safe() {
    let bus = Scripted::of(&events(&a_day()[..1]));
    let [(_database, store), _] = both_migrated().await;
    let (ended, _) = run(Box::new(Cdrs), bus.clone(), &store).await;
    ended.unwrap();
    let told = bus.acknowledged.lock().unwrap().clone();
    let last_call = bus.batches[0].iter().rev().find(|event| event.domain() == "call").unwrap();
    assert_eq!(told[0].through, last_call.seq);
    let idle = Arc::new(crate::faults::Gated { batches: vec![], gate: Arc::default() });
    let (stop, asked) = watch::channel(false);
    let running = tokio::spawn(Runner::new(Box::new(Cdrs), idle, store, quick()).run(asked));
    stop.send(true).unwrap();
    assert_eq!(running.await.unwrap(), Ok(()));
}
