//! Faults: what passes is waited for, what one event causes is put aside, everything else stops.

use crate::scripted::{Scripted, quick, run};
use crate::stories::Edge;
use crate::support::both_migrated;
use signalbox_bus::{Batch, BoxFuture, Bus, Delivered, Error, Order, Progress, Request, Subscription};
use signalbox_projections::parked::{self, Decision};
use signalbox_projections::{Cdrs, Held, Projection, Runner, Stopped};
use signalbox_schemas::{Event, Kind};
use signalbox_store::{Class, Statement};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, watch};

/// A bus that gives its first batch, then one more each time the gate is notified, and never ends.
pub(crate) struct Gated {
    pub(crate) batches: Vec<Vec<Delivered>>,
    pub(crate) gate: Arc<Notify>,
}

struct Waiting {
    batches: std::vec::IntoIter<Vec<Delivered>>,
    gate: Arc<Notify>,
    first: bool,
}

impl Bus for Gated {
    fn subscribe(&self, _: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        let waiting =
            Waiting { batches: self.batches.clone().into_iter(), gate: Arc::clone(&self.gate), first: true };
        Box::pin(async move { Ok(Box::new(waiting) as Box<dyn Subscription>) })
    }

    fn order(&self) -> Order {
        Order::Source
    }
}

impl Subscription for Waiting {
    fn next_batch(&mut self, _: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        Box::pin(async move {
            if !std::mem::take(&mut self.first) {
                self.gate.notified().await;
            }
            match self.batches.next() {
                Some(events) => Ok(Batch { events, ..Batch::default() }),
                None => std::future::pending().await,
            }
        })
    }

    fn acknowledge(&mut self, _: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// Writes the subject of each failed call; refuses (by a row the database does not take) those that begin with `bad`,
/// until it is mended.
pub(crate) struct Fussy {
    pub(crate) mended: Arc<AtomicBool>,
}

impl Projection for Fussy {
    fn name(&self) -> &'static str {
        "fussy"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::CallModified]
    }

    fn fold(&self, event: &Delivered, _: &Event) -> Vec<Statement> {
        let refused = event.subject.starts_with("bad") && !self.mended.load(Ordering::Relaxed);
        let name = (!refused).then(|| event.id());
        let insert = "INSERT INTO store_meta (name, value) VALUES ($1, 'fussy')";
        vec![Statement::new(insert, vec![name.into()])]
    }
}

fn modified(subjects: &[&str]) -> Vec<Delivered> {
    let mut edge = Edge::new(1);
    let data = signalbox_schemas::call::CallModified::default;
    subjects.iter().map(|subject| edge.tell("acme", subject, data())).collect()
}

async fn written(store: &signalbox_store::Store) -> usize {
    store.query("SELECT name FROM store_meta WHERE value = 'fussy'", vec![]).await.unwrap().len()
}

#[tokio::test]
async fn given_one_event_that_the_database_refuses_when_folded_then_its_aggregate_is_parked_and_the_rest_goes_on()
 {
    let events = modified(&["a", "b", "bad", "c", "bad", "bad2", "a"]);
    for (_database, store) in both_migrated().await {
        let fussy = || Box::new(Fussy { mended: Arc::default() });
        let (ended, status) = run(fussy(), Scripted::of(&events), &store).await;
        ended.unwrap();
        assert_eq!((status.applied, status.parked, written(&store).await), (7, 2, 4), "{}", store.kind());
        let parked = parked::list(&store).await.unwrap();
        let told: Vec<_> = parked.iter().map(|row| (row.sequence, row.error_class.as_str())).collect();
        assert_eq!(told, [(3, "row"), (5, "order"), (6, "row")]);
        let (ended, status) = run(fussy(), Scripted::of(&events), &store).await;
        ended.unwrap();
        assert_eq!(
            (status.applied, status.parked, written(&store).await),
            (0, 2, 4),
            "again changes nothing"
        );
    }
}

#[tokio::test]
async fn given_parked_events_when_an_operator_decides_then_they_are_applied_in_order_or_forgotten() {
    let events = modified(&["bad", "bad", "bad2"]);
    for (_database, store) in both_migrated().await {
        let mended = Arc::new(AtomicBool::new(false));
        let bus = Arc::new(Gated { batches: vec![events.clone()], gate: Arc::default() });
        let runner =
            Runner::new(Box::new(Fussy { mended: Arc::clone(&mended) }), bus, store.clone(), quick());
        let (status, (_stop, asked)) = (runner.status(), watch::channel(false));
        let running = tokio::spawn(runner.run(asked));
        let until = async |parked: usize| {
            while status.get().parked != parked {
                assert!(!running.is_finished(), "{:?}", status.get());
                tokio::task::yield_now().await;
            }
        };
        until(2).await;
        assert_eq!(parked::decide(&store, "fussy", "acme", "bad2", Decision::Skip).await.unwrap(), 1);
        until(1).await;
        mended.store(true, Ordering::Relaxed);
        assert_eq!(parked::decide(&store, "fussy", "acme", "bad", Decision::Retry).await.unwrap(), 2);
        until(0).await;
        running.abort();
        assert_eq!((written(&store).await, parked::list(&store).await.unwrap().len()), (2, 0));
    }
}

#[tokio::test]
async fn given_data_that_does_not_read_when_folded_then_that_call_is_parked_and_no_other() {
    let mut edge = Edge::new(1);
    edge.tell_raw("acme", "c_broken", "call.ended.v1", b"{\"edge\":7}");
    let call = edge.attempted("acme", 1);
    edge.failed(&call);
    for (_database, store) in both_migrated().await {
        let (ended, status) = run(Box::new(Cdrs), Scripted::of(&edge.events), &store).await;
        ended.unwrap();
        assert_eq!((status.parked, status.held.len()), (1, 0));
        assert_eq!(parked::list(&store).await.unwrap()[0].error_class, "invalid");
        assert_eq!(store.query("SELECT cdr_id FROM cdr", vec![]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn given_a_later_version_when_met_then_its_domain_stops_and_an_unknown_type_is_passed_over() {
    let mut edge = Edge::new(1);
    edge.tell_raw("acme", "c_0", "call.teleported.v1", b"{}");
    let call = edge.attempted("acme", 1);
    edge.failed(&call);
    edge.tell_raw("acme", "c_2", "call.ended.v9", b"{}");
    let after = edge.attempted("acme", 3);
    edge.failed(&after);
    for (_database, store) in both_migrated().await {
        let (ended, status) = run(Box::new(Cdrs), Scripted::of(&edge.events), &store).await;
        ended.unwrap();
        assert!(matches!(status.held.values().next(), Some(Held::Newer { .. })), "{status:?}");
        assert_eq!((status.applied, status.parked), (3, 0));
        assert_eq!(store.query("SELECT cdr_id FROM cdr", vec![]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn given_a_table_that_nobody_can_make_when_folded_then_the_projection_stops_and_parks_nothing() {
    let mut edge = Edge::new(1);
    let call = edge.attempted("acme", 1);
    edge.failed(&call);
    for (_database, store) in both_migrated().await {
        let (ended, _) = run(Box::new(crate::group::Misfit), Scripted::of(&edge.events), &store).await;
        match ended {
            Err(Stopped::Store { error, .. }) => assert_eq!(error.class(), Class::Schema),
            other => panic!("{other:?}"),
        }
        assert!(parked::list(&store).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn given_a_database_that_drops_connections_when_folding_then_the_runner_goes_on_and_nothing_is_twice() {
    let mut edge = Edge::new(1);
    for n in 0..200 {
        let call = edge.attempted("acme", n);
        edge.failed(&call);
    }
    let [_, (database, store)] = both_migrated().await;
    let batches = edge.events.chunks(4).map(<[_]>::to_vec).collect();
    let runner = Runner::new(Box::new(Cdrs), Scripted::new(Order::Source, batches), store.clone(), quick());
    let (status, (_stop, asked)) = (runner.status(), watch::channel(false));
    let running = tokio::spawn(runner.run(asked));
    let other = database.store().await;
    let cut = "SELECT COUNT(*) AS n FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()) cut";
    while !running.is_finished() && status.get().retries < 5 {
        other.query(cut, vec![]).await.unwrap();
    }
    running.await.unwrap().unwrap();
    let again = database.store().await;
    assert_eq!(again.query("SELECT cdr_id FROM cdr", vec![]).await.unwrap().len(), 200);
}
