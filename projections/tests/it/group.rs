//! The group: one pass and one transaction for all, and nobody holds up the others.

use crate::faults::{Fussy, Gated};
use crate::scripted::{Scripted, quick, run, run_all, run_group};
use crate::stories::Edge;
use crate::support::both_migrated;
use crate::tables::{a_day, dump, events};
use signalbox_base::Wall;
use signalbox_bus::{BoxFuture, Bus, Delivered, Error, Order, Request, Start, Subscription};
use signalbox_projections::{Calls, Cdrs, Group, Held, Locations, Projection, Stopped, all, parked};
use signalbox_schemas::words::ModificationKind;
use signalbox_schemas::{Event, Kind};
use signalbox_store::positions::{claim, load};
use signalbox_store::{Class, Statement, Store};
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// One event a batch.
fn singly(events: &[Delivered]) -> Arc<Scripted> {
    Scripted::new(Order::Source, events.iter().map(|event| vec![event.clone()]).collect())
}

async fn dump_of(bus: Arc<Scripted>) -> Vec<(&'static str, Vec<Vec<signalbox_store::Value>>)> {
    let [(_database, store), _] = both_migrated().await;
    run_all(bus, &store).await;
    dump(&store).await
}

async fn count(store: &Store, sql: &'static str) -> i64 {
    store.query(sql, vec![]).await.unwrap()[0].int("n").unwrap().unwrap()
}

#[tokio::test]
async fn given_a_batch_when_a_group_folds_it_then_all_write_in_one_transaction() {
    let bus = Scripted::of(&events(&a_day()[..1]));
    let [_, (_database, store)] = both_migrated().await;
    let (stopped, statuses) = run_group(all(), bus.clone(), &store).await;
    assert_eq!(stopped, []);
    assert!(statuses.iter().all(|status| status.commits == 1 && status.is_current()), "{statuses:?}");
    let of_batch = "SELECT COUNT(*) AS n FROM projection_position WHERE domain <> '*'";
    assert!(count(&store, of_batch).await > 1);
    // PostgreSQL says of each row which transaction has written it.
    let writers =
        "SELECT COUNT(DISTINCT CAST(xmin AS TEXT)) AS n FROM projection_position WHERE domain <> '*'";
    assert_eq!(count(&store, writers).await, 1);
}

/// A bus that notes how many rows there are whenever somebody subscribes.
struct Counting {
    inner: Arc<Scripted>,
    store: Store,
    rows: Arc<std::sync::Mutex<Vec<i64>>>,
}

impl Bus for Counting {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        Box::pin(async move {
            let rows = count(
                &self.store,
                "SELECT (SELECT COUNT(*) FROM location) + (SELECT COUNT(*) FROM calls) \
                + (SELECT COUNT(*) FROM projection_position) AS n",
            );
            let rows = rows.await;
            self.rows.lock().unwrap().push(rows);
            self.inner.subscribe(request).await
        })
    }

    fn order(&self) -> Order {
        self.inner.order()
    }
}

#[tokio::test]
async fn given_one_projection_whose_rows_are_refused_when_a_group_folds_then_nobodys_rows_are_there() {
    for (_database, store) in both_migrated().await {
        let rows = Arc::default();
        let inner = Scripted::of(&events(&a_day()[..1]));
        let bus = Arc::new(Counting { inner, store: store.clone(), rows: Arc::clone(&rows) });
        let (stopped, _) = run_group(with_a_misfit(), bus, &store).await;
        assert_eq!(stopped.len(), 1);
        // The others begin again without it: by then nothing of the batch is there.
        assert_eq!(*rows.lock().unwrap(), [0, 0], "{}", store.kind());
        assert!(count(&store, "SELECT COUNT(*) AS n FROM calls").await > 0);
    }
}

#[tokio::test]
async fn given_events_in_one_batch_or_each_in_its_own_when_folded_then_the_tables_are_the_same() {
    let mut edge = Edge::new(3);
    for n in 0..6 {
        let mut call = edge.attempted("acme", n);
        edge.routed(&call, 1);
        edge.progressed(&call);
        if n % 2 == 0 {
            edge.routed(&call, 2);
            edge.answered(&mut call);
            edge.progressed(&call);
            edge.held(&call, ModificationKind::Hold);
        }
        if n % 3 == 0 {
            edge.held(&call, ModificationKind::Resume);
            edge.ended(&call);
        }
    }
    let mut days = a_day();
    days.push(edge);
    let events = events(&days);
    let one_by_one = dump_of(singly(&events)).await;
    assert_eq!(dump_of(Scripted::of(&events)).await, one_by_one);
    for size in [2, 3, 5] {
        let batches = events.chunks(size).map(<[_]>::to_vec).collect();
        assert_eq!(dump_of(Scripted::new(Order::Source, batches)).await, one_by_one, "{size} a batch");
    }
}

#[tokio::test]
async fn given_rows_without_their_positions_when_a_later_batch_folds_them_again_then_they_come_up_to_date() {
    let mut edge = Edge::new(1);
    let mut call = edge.attempted("acme", 1);
    edge.routed(&call, 1);
    let begun = edge.events.clone();
    edge.progressed(&call);
    edge.answered(&mut call);
    for (_database, store) in both_migrated().await {
        run_all(Scripted::of(&begun), &store).await;
        store.execute("DELETE FROM projection_position", vec![]).await.unwrap();
        run_all(Scripted::of(&edge.events), &store).await;
        let calls = signalbox_projections::queries::calls(&store, None).await.unwrap();
        assert_eq!((calls.len(), calls[0].state.as_str(), calls[0].sequence), (1, "answered", 4));
    }
}

#[tokio::test]
async fn given_a_group_that_is_dropped_at_any_moment_when_others_follow_then_the_tables_are_whole() {
    let events = events(&a_day());
    let whole = dump_of(Scripted::of(&events)).await;
    for (_database, store) in both_migrated().await {
        for yields in 0..60 {
            let group = Group::new(all(), singly(&events), store.clone(), quick());
            let (_stop, asked) = watch::channel(false);
            let task = tokio::spawn(group.run(asked, |stopped| panic!("{stopped}")));
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            task.abort();
            let _ = task.await;
        }
        run_all(singly(&events), &store).await;
        assert_eq!(dump(&store).await, whole, "{}", store.kind());
    }
}

/// Failed calls, further on than a group waits for a newcomer, as numbers go.
fn far_on(calls: u64) -> Edge {
    let mut edge = Edge::new(1);
    for n in 0..calls {
        let call = edge.attempted("acme", n);
        edge.failed(&call);
    }
    edge.events.iter_mut().for_each(|event| event.seq.0 += 50_000);
    edge
}

/// A bus of them that one projection has read already.
async fn read_by_calls(edge: &Edge, store: &Store) -> Arc<Scripted> {
    let bus = Scripted::going_on(&edge.events);
    run(Box::new(Calls), bus.clone(), store).await.0.unwrap();
    bus.requests.lock().unwrap().clear();
    bus
}

#[tokio::test]
async fn given_a_new_projection_far_behind_when_the_group_runs_then_it_reads_alone_and_joins() {
    let edge = far_on(4);
    for (_database, store) in both_migrated().await {
        let bus = read_by_calls(&edge, &store).await;
        let (stopped, statuses) = run_group(vec![Box::new(Calls), Box::new(Cdrs)], bus.clone(), &store).await;
        assert_eq!(stopped, []);
        // The one that is behind reads without a name from the beginning, and after that as all do.
        let requests = bus.requests.lock().unwrap().clone();
        let (named, lone): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.name.as_deref() == Some("projections"));
        let starts = |requests: &[Request]| -> Vec<Start> {
            requests.iter().map(|request| request.start.clone()).collect()
        };
        let last = edge.events.last().unwrap();
        let after = Start::After(vec![((*last.source).clone(), last.seq)]);
        assert_eq!(starts(&lone), [Start::After(vec![])]);
        assert_eq!(starts(&named), [after.clone(), after], "nobody reads again what he has");
        assert_eq!(statuses[0].duplicates, 0);
        assert_eq!((statuses[0].applied, statuses[1].applied), (0, 8), "{}", store.kind());
        assert_eq!(count(&store, "SELECT COUNT(*) AS n FROM cdr").await, 4);
        let resumes: Vec<u64> =
            [load(&store, "calls", 1).await.unwrap(), load(&store, "cdr", 1).await.unwrap()]
                .iter()
                .map(|saved| saved.iter().find(|saved| saved.domain == "*").unwrap().sequence)
                .collect();
        assert_eq!(resumes[0], resumes[1]);
    }
}

#[tokio::test]
async fn given_one_projection_that_was_taken_over_when_the_group_goes_on_then_only_that_one_is_fenced() {
    let mut edge = Edge::new(1);
    edge.added("acme", "401@acme.test", "udp:192.0.2.7:5060");
    let call = edge.attempted("acme", 1);
    let first = edge.events.clone();
    edge.failed(&call);
    edge.refreshed("acme", "401@acme.test", Some("udp:192.0.2.9:5060"));
    let later = edge.events[first.len()..].to_vec();
    for (_database, store) in both_migrated().await {
        let gate = Arc::new(Notify::new());
        let bus = Arc::new(Gated { batches: vec![first.clone(), later.clone()], gate: Arc::clone(&gate) });
        let group = Group::new(vec![Box::new(Cdrs), Box::new(Locations)], bus, store.clone(), quick());
        let (statuses, (stop, asked)) = (group.statuses(), watch::channel(false));
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let running = tokio::spawn(group.run(asked, move |stopped| tell.send(stopped).unwrap()));
        while statuses.iter().any(|status| status.get().commits == 0) {
            tokio::task::yield_now().await;
        }
        let other = claim(&store, "cdr", 1, "another", None, Wall(1)).await.unwrap();
        gate.notify_one();
        assert_eq!(told.recv().await, Some(Stopped::Fenced { projection: "cdr" }), "{}", store.kind());
        // The other reads the batch again, now without the one that is gone.
        gate.notify_one();
        while statuses[1].get().applied < 2 {
            assert!(!running.is_finished());
            tokio::task::yield_now().await;
        }
        assert!(statuses[0].get().fault.unwrap().contains("taken over"));
        assert_eq!(count(&store, "SELECT COUNT(*) AS n FROM cdr").await, 0);
        store.transaction(vec![other.guard(Wall(2))]).await.expect("the other holds it still");
        stop.send_replace(true);
        running.await.unwrap();
        assert_eq!(told.recv().await, None, "nobody else stopped");
    }
}

#[tokio::test]
async fn given_a_table_that_nobody_can_make_when_the_group_folds_then_one_stops_and_the_others_go_on() {
    let events = events(&a_day());
    for (_database, store) in both_migrated().await {
        let (stopped, statuses) = run_group(with_a_misfit(), Scripted::of(&events), &store).await;
        match &stopped[..] {
            [Stopped::Store { projection: "misfit", error }] => assert_eq!(error.class(), Class::Schema),
            other => panic!("{other:?}"),
        }
        for status in &statuses {
            assert_eq!(status.is_current(), status.projection != "misfit", "{status:?}");
        }
        assert_eq!(count(&store, "SELECT COUNT(*) AS n FROM location").await, 2);
        assert!(parked::list(&store).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn given_a_row_that_the_database_refuses_one_projection_when_folded_then_it_is_parked_for_that_one_only()
 {
    let mut edge = Edge::new(1);
    let call = edge.attempted("acme", 1);
    edge.tell("acme", "bad", signalbox_schemas::call::CallModified::default());
    edge.failed(&call);
    for (_database, store) in both_migrated().await {
        let fussy: Box<dyn Projection> = Box::new(Fussy { mended: Arc::default() });
        let (stopped, statuses) =
            run_group(vec![Box::new(Cdrs), fussy, Box::new(Calls)], Scripted::of(&edge.events), &store).await;
        assert_eq!(stopped, []);
        let told: Vec<_> = statuses.iter().map(|status| (status.applied, status.parked)).collect();
        assert_eq!(told, [(3, 0), (3, 1), (3, 0)], "{}", store.kind());
        assert_eq!(parked::list(&store).await.unwrap()[0].projection, "fussy");
        assert_eq!(count(&store, "SELECT COUNT(*) AS n FROM cdr").await, 1);
    }
}

#[tokio::test]
async fn given_a_hole_in_one_domain_when_the_group_folds_then_others_go_on_and_the_bus_keeps_what_is_missing()
{
    let mut events = events(&a_day()[..1]);
    let missing = events.iter().position(|event| event.domain() == "call" && event.domain_seq == 3).unwrap();
    events.remove(missing);
    for (_database, store) in both_migrated().await {
        let bus = Scripted::of(&events);
        let (stopped, statuses) = run_group(all(), bus.clone(), &store).await;
        assert_eq!(stopped, []);
        for status in &statuses {
            let of_calls = ["calls", "cdr"].contains(&status.projection.as_str());
            let hole = Held::Hole { from: 3, to: 3 };
            let held: Vec<_> = status.held.values().collect();
            assert_eq!(held, if of_calls { vec![&hole] } else { vec![] }, "{}", status.projection);
            assert_eq!(status.is_current(), !of_calls);
        }
        assert_eq!(count(&store, "SELECT COUNT(*) AS n FROM location").await, 1);
        assert!(bus.acknowledged.lock().unwrap().is_empty(), "two projections have not read all");
    }
}

/// Writes a table that is in no migration.
pub(crate) struct Misfit;

impl Projection for Misfit {
    fn name(&self) -> &'static str {
        "misfit"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::CallAttempted]
    }

    fn fold(&self, _: &Delivered, _: &Event) -> Vec<Statement> {
        vec![Statement::new("INSERT INTO nowhere (name) VALUES ('x')", vec![])]
    }
}

fn with_a_misfit() -> Vec<Box<dyn Projection>> {
    all().into_iter().chain([Box::new(Misfit) as Box<dyn Projection>]).collect()
}

/// Breaks on its first event.
struct Broken;

impl Projection for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn version(&self) -> u32 {
        1
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::CallAttempted]
    }

    fn fold(&self, event: &Delivered, _: &Event) -> Vec<Statement> {
        panic!("it cannot read {}", event.id())
    }
}

#[tokio::test]
async fn given_a_projection_that_panics_reading_alone_when_the_group_runs_then_it_says_so_and_others_go_on() {
    let edge = far_on(1);
    for (_database, store) in both_migrated().await {
        let bus = read_by_calls(&edge, &store).await;
        let (stopped, statuses) = run_group(vec![Box::new(Calls), Box::new(Broken)], bus, &store).await;
        match &stopped[..] {
            [Stopped::Panicked { projection: "broken", what }] => {
                assert!(what.contains("cannot read"), "{what}")
            }
            other => panic!("{other:?}"),
        }
        assert!(statuses[1].fault.as_ref().unwrap().contains("cannot read"), "{:?}", statuses[1]);
        assert_eq!(statuses[0].fault, None);
    }
}
