//! A bus that keeps order by key only: lanes that overtake each other, holes that close late, restarts from a hint, floors.

use crate::interleaving::cases;
use crate::scripted::{Scripted, run, run_all};
use crate::stories::Edge;
use crate::support::{both_migrated, postgres, sqlite};
use crate::tables::{a_day, dump, events};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use signalbox_bus::{
    Batch, BoxFuture, Bus, Delivered, Error, Floor, Hint, Order, Progress, Request, Start, Subscription,
};
use signalbox_projections::{Calls, Held, Locations};
use signalbox_store::Store;
use signalbox_store::positions::{load, load_hint};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A broker: what it has stored, in order, and what a reader from the beginning is told of its retention. Hints are places.
#[derive(Clone, Default)]
struct Broker {
    stored: Vec<Delivered>,
    floors: Vec<Floor>,
    chunk: usize,
}

impl Broker {
    fn of(stored: Vec<Delivered>) -> Arc<Self> {
        Arc::new(Self { stored, chunk: 1, ..Self::default() })
    }
}

struct Reading {
    rest: VecDeque<(usize, Delivered)>,
    chunk: usize,
    floors: Vec<Floor>,
}

impl Bus for Broker {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        assert_eq!(request.name, None, "hints are kept with the positions, not by the bus");
        let (at, floors) = match &request.start {
            Start::Hint(Hint(place)) => (place.parse().unwrap(), Vec::new()),
            Start::Beginning => (0, self.floors.clone()),
            other => panic!("{other:?} means nothing to a broker"),
        };
        let wanted = |event: &Delivered| request.filter.wants(&event.kind, &event.tenant);
        let rest = self.stored.iter().enumerate().skip(at).filter(|(_, event)| wanted(event));
        let rest = rest.map(|(place, event)| (place, event.clone())).collect();
        let reading = Reading { rest, chunk: self.chunk, floors };
        Box::pin(async move { Ok(Box::new(reading) as Box<dyn Subscription>) })
    }

    fn order(&self) -> Order {
        Order::Key
    }
}

impl Subscription for Reading {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        Box::pin(async move {
            if self.rest.is_empty() {
                return Err(Error::Ended);
            }
            let chunk = self.rest.drain(..self.chunk.min(max).min(self.rest.len()));
            let (places, events): (Vec<_>, Vec<_>) = chunk.unzip();
            let behind = self.rest.len();
            let floors = if behind == 0 { std::mem::take(&mut self.floors) } else { Vec::new() };
            let hint = places.last().map(|place| Hint((place + 1).to_string().into()));
            Ok(Batch { events, floors, hint, behind: Some(behind as u64), ..Batch::default() })
        })
    }

    fn acknowledge(&mut self, _: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        panic!("a bus that keeps nothing needs to hear nothing");
    }
}

/// What decides an interleaving: which key is next, whether its event comes twice, which keys lose what comes after, so that
/// it is stored again behind everything else, and where readers end and others go on.
#[derive(Clone, Debug)]
struct Fate {
    picks: Vec<(usize, bool)>,
    late: Vec<bool>,
    ends: Vec<usize>,
    chunk: usize,
}

fn fates() -> impl Strategy<Value = Fate> {
    let picks = prop::collection::vec((any::<usize>(), prop::bool::weighted(0.2)), 1..60);
    let late = prop::collection::vec(prop::bool::weighted(0.2), 1..12);
    let ends = prop::collection::vec(any::<usize>(), 0..4);
    (picks, late, ends, 1..6usize).prop_map(|(picks, late, ends, chunk)| Fate { picks, late, ends, chunk })
}

/// As a broker of several lanes has stored it: each key in order, everything else as fate will.
fn stored(events: &[Delivered], fate: &Fate) -> Vec<Delivered> {
    let mut keys: BTreeMap<(String, String, String), VecDeque<Delivered>> = BTreeMap::new();
    for event in events {
        let key = (event.source.to_string(), event.tenant.to_string(), event.subject.to_string());
        keys.entry(key).or_default().push_back(event.clone());
    }
    let mut queues: Vec<_> = keys.into_values().collect();
    let (mut stored, mut lost) = (Vec::new(), Vec::new());
    for (queue, _) in queues.iter_mut().zip(fate.late.iter().cycle()).filter(|(_, late)| **late) {
        lost.extend(queue.split_off(queue.len() / 2));
    }
    queues.retain(|queue| !queue.is_empty());
    let mut picks = fate.picks.iter().cycle();
    while !queues.is_empty() {
        let (pick, again) = picks.next().expect("it never ends");
        let picked = pick % queues.len();
        let event = queues[picked].pop_front().expect("empty ones are gone");
        stored.extend(again.then(|| event.clone()));
        stored.push(event);
        queues.retain(|queue| !queue.is_empty());
    }
    stored.extend(lost);
    stored
}

/// One process after another reads what there is until its end; the last one reads all.
async fn fold(events: &[Delivered], fate: &Fate, store: &Store) {
    let whole = Broker { stored: stored(events, fate), chunk: fate.chunk, ..Broker::default() };
    for end in &fate.ends {
        let mut part = whole.clone();
        part.stored.truncate(end % (whole.stored.len() + 1));
        run_all(Arc::new(part), store).await;
    }
    run_all(Arc::new(whole), store).await;
}

#[test]
fn given_any_interleaving_with_duplicates_and_late_holes_when_read_by_key_then_the_tables_are_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let events = events(&a_day());
    let straight = runtime.block_on(async {
        let database = sqlite();
        let store = database.store().await;
        store.migrate().await.unwrap();
        run_all(Scripted::of(&events), &store).await;
        dump(&store).await
    });
    for (on_postgres, cases) in [(false, cases(12)), (true, cases(2))] {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(cases) });
        let outcome = runner.run(&fates(), |fate| {
            let (tables, open) = runtime.block_on(async {
                let database = if on_postgres { postgres().await } else { sqlite() };
                let store = database.store().await;
                store.migrate().await.unwrap();
                fold(&events, &fate, &store).await;
                let saved = load(&store, "calls", 1).await.unwrap();
                (dump(&store).await, saved.iter().filter_map(|saved| saved.position.hole()).count())
            });
            prop_assert_eq!(&tables, &straight);
            prop_assert_eq!(open, 0);
            Ok(())
        });
        outcome.unwrap();
    }
}

/// Three registrations of one edge, each of another phone: three keys.
fn three() -> Vec<Delivered> {
    let mut edge = Edge::new(1);
    for phone in ["401", "402", "403"] {
        edge.added("acme", &format!("{phone}@acme.test"), "udp:192.0.2.7:5060");
    }
    edge.events
}

#[tokio::test]
async fn given_a_missing_number_when_read_by_key_then_later_ones_are_applied_and_the_hint_waits_for_it() {
    let [first, second, third] = three().try_into().unwrap();
    for (_database, store) in both_migrated().await {
        let hint = || load_hint(&store, "location", 1, "journal");
        let seen = vec![first.clone(), third.clone(), first.clone()];
        let (ended, status) = run(Box::new(Locations), Broker::of(vec![first.clone()]), &store).await;
        ended.unwrap();
        assert_eq!((status.lag_events(), hint().await.unwrap().as_deref()), (0, Some("1")));
        let (ended, status) = run(Box::new(Locations), Broker::of(seen.clone()), &store).await;
        ended.unwrap();
        let held: Vec<_> = status.held.values().collect();
        assert_eq!((status.applied, held), (1, vec![&Held::Hole { from: 2, to: 2 }]));
        assert_eq!(
            hint().await.unwrap().as_deref(),
            Some("1"),
            "whoever goes on looks at what follows again"
        );
        assert_eq!(signalbox_projections::queries::locations(&store, None, None).await.unwrap().len(), 2);
        let mended = [seen, vec![second.clone()]].concat();
        let (ended, status) = run(Box::new(Locations), Broker::of(mended), &store).await;
        ended.unwrap();
        assert!(status.held.is_empty() && status.is_current(), "{status:?}");
        assert_eq!(hint().await.unwrap().as_deref(), Some("4"));
    }
}

#[tokio::test]
async fn given_a_bus_that_lost_its_beginning_when_its_floor_is_told_then_that_is_retention_and_else_a_hole() {
    let events = three();
    let floor = Floor { source: Arc::clone(&events[0].source), domain: "registration".into(), first: 2 };
    for (_database, store) in both_migrated().await {
        // Not told that anything was deleted: what is missing may still come.
        let (ended, status) = run(Box::new(Locations), Broker::of(events[1..].to_vec()), &store).await;
        ended.unwrap();
        assert_eq!(status.held.values().collect::<Vec<_>>(), [&Held::Hole { from: 1, to: 1 }]);
        assert_eq!(load_hint(&store, "location", 1, "journal").await.unwrap(), None);
        let told = Broker { stored: events[1..].to_vec(), floors: vec![floor.clone()], chunk: 1 };
        let (ended, status) = run(Box::new(Locations), Arc::new(told), &store).await;
        ended.unwrap();
        assert!(status.held.is_empty(), "{status:?}");
        let saved = load(&store, "location", 1).await.unwrap();
        let position = &saved.iter().find(|saved| saved.domain == "registration").unwrap().position;
        assert_eq!((position.retained_from(), position.low()), (Some(2), 3));
        assert_eq!(load_hint(&store, "location", 1, "journal").await.unwrap().as_deref(), Some("2"));
    }
}

#[tokio::test]
async fn given_a_position_that_has_begun_when_a_floor_is_above_it_then_the_loss_is_told_and_reading_goes_on()
{
    let events = three();
    let floor = Floor { source: Arc::clone(&events[0].source), domain: "registration".into(), first: 3 };
    for (_database, store) in both_migrated().await {
        let hint = || load_hint(&store, "location", 1, "journal");
        // Number 1 is applied; number 2 is gone from the bus before anybody has read it.
        run(Box::new(Locations), Broker::of(events[..1].to_vec()), &store).await.0.unwrap();
        store.execute("DELETE FROM projection_hint", vec![]).await.unwrap();
        let told = Broker { stored: events[2..].to_vec(), floors: vec![floor.clone()], chunk: 1 };
        let told = Arc::new(told);
        let (ended, status) = run(Box::new(Locations), told.clone(), &store).await;
        ended.unwrap();
        let lost = Held::Lost { from: 2, to: 2 };
        assert_eq!(status.held.values().collect::<Vec<_>>(), [&lost], "it is not stepped over");
        assert!(status.is_current() && status.applied == 1, "{status:?}");
        assert_eq!(hint().await.unwrap().as_deref(), Some("1"), "nothing is read again for its sake");
        // Whoever goes on knows of it, and waits for nothing.
        let (ended, status) = run(Box::new(Locations), told, &store).await;
        ended.unwrap();
        assert_eq!((status.held.values().next(), status.applied), (Some(&lost), 0));
        // What comes all the same is taken.
        let late = vec![events[2].clone(), events[1].clone()];
        let (ended, status) = run(Box::new(Locations), Broker::of(late), &store).await;
        ended.unwrap();
        assert_eq!((status.held.len(), status.applied), (0, 1));
        assert_eq!(hint().await.unwrap().as_deref(), Some("2"));
        let (ended, status) = run(Box::new(Calls), Broker::of(Vec::new()), &store).await;
        ended.unwrap();
        assert!(status.held.is_empty(), "another projection has nothing to do with it");
    }
}
