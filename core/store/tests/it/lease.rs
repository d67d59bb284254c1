//! One holder at a time, by the database's clock; what it claims under a lease that is gone is refused.

use crate::support::both_migrated;
use signalbox_base::Wall;
use signalbox_store::Class;
use signalbox_store::lease::{Candidate, give_back, renew, see, take};
use signalbox_store::positions::claim;
use std::time::Duration;

fn candidate(who: &str, place: &str, term: Duration) -> Candidate {
    let (name, folds) = ("projections", "journal lab/edge-1".to_owned());
    Candidate { name, holder: who.to_owned(), place: place.to_owned(), alone: false, folds, term }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn given_a_holder_when_another_wants_the_lease_then_it_waits_until_it_is_given_back() {
    for (_database, store) in both_migrated().await {
        let (first, second) = (candidate("first", "a", LONG), candidate("second", "b", LONG));
        let lease = take(&store, &first).await.unwrap().unwrap();
        assert_eq!(take(&store, &second).await.unwrap(), None, "{}", store.kind());
        let held = see(&store, "projections").await.unwrap().unwrap();
        assert_eq!((held.holder.as_str(), held.holds), ("first", true));
        assert!(held.since > Wall(1_600_000_000_000_000), "the database's clock: {held:?}");
        assert!(renew(&store, &lease).await.unwrap());
        give_back(&store, &lease).await.unwrap();
        assert!(!see(&store, "projections").await.unwrap().unwrap().holds);
        assert!(take(&store, &second).await.unwrap().is_some());
        assert!(!renew(&store, &lease).await.unwrap(), "it is another's");
    }
}

#[tokio::test]
async fn given_a_lease_that_has_run_out_when_another_takes_it_then_the_first_claims_and_makes_nothing() {
    for (_database, store) in both_migrated().await {
        let first = take(&store, &candidate("first", "a", Duration::ZERO)).await.unwrap().unwrap();
        let second = take(&store, &candidate("second", "b", LONG)).await.unwrap().unwrap();
        let late = claim(&store, "cdr", 1, "first", Some(&first), Wall(1)).await.unwrap_err();
        assert_eq!(late.class(), Class::Fenced, "{}", store.kind());
        let late = store.transaction(vec![first.guard()]).await.unwrap_err();
        assert_eq!(late.class(), Class::Fenced);
        claim(&store, "cdr", 1, "second", Some(&second), Wall(2)).await.unwrap();
    }
}

#[tokio::test]
async fn given_a_holder_that_died_when_one_of_its_own_directory_starts_alone_then_it_need_not_wait() {
    for (_database, store) in both_migrated().await {
        take(&store, &candidate("dead", "a", LONG)).await.unwrap().unwrap();
        let alone = |place| Candidate { alone: true, ..candidate("next", place, LONG) };
        assert_eq!(take(&store, &alone("b")).await.unwrap(), None, "of another directory");
        assert!(take(&store, &alone("a")).await.unwrap().is_some(), "{}", store.kind());
    }
}
