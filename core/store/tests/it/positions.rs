//! Positions survive, and only one holder writes them.

use crate::support::both_migrated;
use signalbox_base::Wall;
use signalbox_store::positions::{Claim, before_switch, claim, load, renew};
use signalbox_store::{Class, Position};

const SOURCE: &str = "urn:signalbox:test:edge-1:00000000000000000000000001";

fn position(numbers: &[u64]) -> Position {
    let mut position = Position::default();
    numbers.iter().for_each(|n| position.apply(*n));
    position
}

#[tokio::test]
async fn given_a_position_with_a_hole_when_saved_twice_then_it_is_loaded_as_it_was_last() {
    for (_database, store) in both_migrated().await {
        let mut held = claim(&store, "cdr", 1, "one", None, Wall(1)).await.unwrap();
        for numbers in [vec![1], vec![1, 2, 5, 6, 9]] {
            let save = held.save(SOURCE, "call", &position(&numbers), 77, Wall(2));
            store.transaction(vec![held.guard(Wall(2)), save]).await.unwrap();
            held.passed();
        }
        let loaded = load(&store, "cdr", 1).await.unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!((&loaded[0].position, loaded[0].sequence), (&position(&[1, 2, 5, 6, 9]), 77));
        assert!(load(&store, "cdr", 2).await.unwrap().is_empty(), "another version has its own");
    }
}

#[tokio::test]
async fn given_a_second_holder_when_the_first_goes_on_then_it_is_fenced_and_writes_nothing() {
    for (_database, store) in both_migrated().await {
        let first = claim(&store, "cdr", 1, "one", None, Wall(1)).await.unwrap();
        let mut second = claim(&store, "cdr", 1, "two", None, Wall(2)).await.unwrap();
        assert_eq!((first.epoch(), second.epoch()), (1, 2));
        let late = vec![first.guard(Wall(3)), first.save(SOURCE, "call", &position(&[1]), 1, Wall(3))];
        assert_eq!(store.transaction(late).await.unwrap_err().class(), Class::Fenced);
        assert!(load(&store, "cdr", 1).await.unwrap().is_empty());
        let good = vec![second.guard(Wall(3)), second.save(SOURCE, "call", &position(&[1]), 1, Wall(3))];
        store.transaction(good).await.unwrap();
        second.passed();
        claim(&store, "location", 1, "one", None, Wall(4)).await.unwrap();
        store.transaction(vec![second.guard(Wall(5))]).await.expect("another projection is another claim");
    }
}

#[tokio::test]
async fn given_a_database_that_went_back_when_its_holder_goes_on_then_nothing_is_written_until_it_renews() {
    for (_database, store) in both_migrated().await {
        let mut held = claim(&store, "cdr", 1, "one", None, Wall(1)).await.unwrap();
        let before = store.query("SELECT turn FROM projection_holder", vec![]).await.unwrap();
        let before = before[0].int("turn").unwrap().unwrap();
        let save = |n: u64| held.save(SOURCE, "call", &position(&[n]), n, Wall(2));
        store.transaction(vec![held.guard(Wall(2)), save(1)]).await.unwrap();
        held.passed();
        // As it is after a crash that took that transaction back.
        store.execute("DELETE FROM projection_position", vec![]).await.unwrap();
        store.execute("UPDATE projection_holder SET turn = $1", vec![before.into()]).await.unwrap();
        let beyond = held.save(SOURCE, "call", &position(&[1, 2]), 2, Wall(3));
        let refused = store.transaction(vec![held.guard(Wall(3)), beyond]).await.unwrap_err();
        assert_eq!(refused.class(), Class::Fenced, "{}", store.kind());
        assert!(load(&store, "cdr", 1).await.unwrap().is_empty());
        renew(&store, &mut held, Wall(4)).await.unwrap();
        store.transaction(vec![held.guard(Wall(4))]).await.unwrap();
        claim(&store, "cdr", 1, "two", None, Wall(5)).await.unwrap();
        assert_eq!(renew(&store, &mut held, Wall(6)).await.unwrap_err().class(), Class::Fenced);
    }
}

#[tokio::test]
async fn given_a_rebuild_that_is_behind_when_it_wants_its_projection_s_place_then_it_waits_and_else_the_holder_does()
 {
    for (_database, store) in both_migrated().await {
        let mut held = claim(&store, "cdr", 1, "one", None, Wall(1)).await.unwrap();
        let made = claim(&store, "cdr-rebuild", 1, "one", None, Wall(1)).await.unwrap();
        let at = |claim: &Claim, numbers: &[u64]| claim.save(SOURCE, "call", &position(numbers), 1, Wall(2));
        store.transaction(vec![at(&held, &[1, 2]), at(&made, &[1])]).await.unwrap();
        let switch = || store.transaction(before_switch("cdr-rebuild", "cdr", 1));
        assert_eq!(switch().await.unwrap_err().class(), Class::Fenced, "{}", store.kind());
        store.transaction(vec![held.guard(Wall(3))]).await.expect("nothing has changed for the holder");
        held.passed();
        store.transaction(vec![at(&made, &[1, 2])]).await.unwrap();
        switch().await.unwrap();
        let late = store.transaction(vec![held.guard(Wall(4))]).await.unwrap_err();
        assert_eq!(late.class(), Class::Fenced, "it loads its positions again");
    }
}
