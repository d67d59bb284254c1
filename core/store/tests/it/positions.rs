//! Positions survive, and only one holder writes them.

use crate::support::both_migrated;
use signalbox_base::Wall;
use signalbox_store::positions::{claim, load};
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
        let held = claim(&store, "cdr", 1, "one", Wall(1)).await.unwrap();
        for numbers in [vec![1], vec![1, 2, 5, 6, 9]] {
            let save = held.save(SOURCE, "call", &position(&numbers), 77, Wall(2));
            store.transaction(vec![held.guard(Wall(2)), save]).await.unwrap();
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
        let first = claim(&store, "cdr", 1, "one", Wall(1)).await.unwrap();
        let second = claim(&store, "cdr", 1, "two", Wall(2)).await.unwrap();
        assert_eq!((first.epoch(), second.epoch()), (1, 2));
        let late = vec![first.guard(Wall(3)), first.save(SOURCE, "call", &position(&[1]), 1, Wall(3))];
        assert_eq!(store.transaction(late).await.unwrap_err().class(), Class::Fenced);
        assert!(load(&store, "cdr", 1).await.unwrap().is_empty());
        let good = vec![second.guard(Wall(3)), second.save(SOURCE, "call", &position(&[1]), 1, Wall(3))];
        store.transaction(good).await.unwrap();
        claim(&store, "location", 1, "one", Wall(4)).await.unwrap();
        store.transaction(vec![second.guard(Wall(5))]).await.expect("another projection is another claim");
    }
}
