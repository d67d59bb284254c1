//! What is told to the bus is on disk, and a database that went back to an earlier commit loses nothing for good.

use crate::faults::Gated;
use crate::scripted::{Scripted, quick, run_all};
use crate::support::{both_migrated, postgres_on, sqlite};
use crate::tables::{a_day, dump, events};
use signalbox_bus::{Batch, BoxFuture, Bus, Delivered, Error, Order, Progress, Request, Subscription};
use signalbox_projections::{Group, StatusHandle, all};
use signalbox_store::positions::load;
use signalbox_store::{Statement, Store};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// A bus that looks at the tables at the moment it is told how far they are.
struct Witness {
    inner: Arc<Scripted>,
    store: Store,
    /// What each acknowledgement found: the place to read on from in the table, what was told, and the notes.
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug)]
struct Seen {
    stored: u64,
    told: u64,
    /// Domain of each position that was written, and what the commit of its transaction waited for; in order.
    notes: Vec<(String, String)>,
}

struct Witnessing {
    inner: Box<dyn Subscription>,
    store: Store,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Bus for Witness {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        Box::pin(async move {
            let inner = self.inner.subscribe(request).await?;
            let (store, seen) = (self.store.clone(), Arc::clone(&self.seen));
            Ok(Box::new(Witnessing { inner, store, seen }) as Box<dyn Subscription>)
        })
    }

    fn order(&self) -> Order {
        self.inner.order()
    }
}

impl Subscription for Witnessing {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        self.inner.next_batch(max)
    }

    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        let told = progress[0].through.0;
        Box::pin(async move {
            let saved = load(&self.store, "calls", 1).await.unwrap();
            let stored = saved.iter().find(|saved| saved.domain == "*").map_or(0, |saved| saved.sequence);
            let notes = match self.store.kind() {
                "postgres" => notes(&self.store).await,
                _ => Vec::new(),
            };
            self.seen.lock().unwrap().push(Seen { stored, told, notes });
            Ok(())
        })
    }
}

/// Makes PostgreSQL note for each position what the commit of its transaction is going to wait for.
async fn note_commits(store: &Store) {
    for sql in [
        "CREATE TABLE noted (n BIGSERIAL, domain TEXT, waits TEXT)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted (domain, waits) \
            VALUES (NEW.domain, current_setting(''synchronous_commit'')); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER noting AFTER INSERT OR UPDATE ON projection_position \
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note()",
    ] {
        store.query(sql, vec![]).await.unwrap();
    }
}

async fn notes(store: &Store) -> Vec<(String, String)> {
    let rows = store.query("SELECT domain, waits FROM noted ORDER BY n", vec![]).await.unwrap();
    let text = |row: &signalbox_store::Row, column| row.text(column).unwrap().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "domain"), text(row, "waits"))).collect()
}

#[tokio::test]
async fn given_a_batch_when_the_bus_is_told_then_a_commit_that_waited_for_the_disk_lies_between() {
    let inner = Scripted::of(&events(&a_day()[..1]));
    for (_database, store) in both_migrated().await {
        if store.kind() == "postgres" {
            note_commits(&store).await;
        }
        let seen = Arc::default();
        let bus = Witness { inner: inner.clone(), store: store.clone(), seen: Arc::clone(&seen) };
        run_all(Arc::new(bus), &store).await;
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty());
        for Seen { stored, told, notes } in &*seen {
            assert!(
                *stored > 0 && stored >= told,
                "told {told} with {stored} in the table of {}",
                store.kind()
            );
            for (domain, waits) in notes {
                assert_eq!(waits, if domain == "*" { "on" } else { "off" }, "{notes:?}");
            }
            assert!(store.kind() == "sqlite" || notes.last().is_some_and(|(domain, _)| domain == "*"));
        }
    }
}

async fn folded_at_once(events: &[Delivered]) -> Vec<(&'static str, Vec<Vec<signalbox_store::Value>>)> {
    let database = sqlite();
    let store = database.store().await;
    store.migrate().await.unwrap();
    run_all(Scripted::of(events), &store).await;
    dump(&store).await
}

/// A group that reads these batches, each but the first once the gate is notified.
struct Folding {
    gate: Arc<Notify>,
    statuses: Vec<StatusHandle>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Folding {
    /// The batches tell no progress, so that nothing is stored durably behind them.
    fn begin(batches: Vec<Vec<Delivered>>, store: &Store) -> Self {
        let gate = Arc::new(Notify::new());
        let bus = Arc::new(Gated { batches, gate: Arc::clone(&gate) });
        let group = Group::new(all(), bus, store.clone(), quick());
        let (statuses, (stop, asked)) = (group.statuses(), watch::channel(false));
        let running = tokio::spawn(group.run(asked, |stopped| panic!("{stopped}")));
        Self { gate, statuses, stop, running }
    }

    async fn until_applied(&self, events: &[Delivered]) {
        let of = |status: &StatusHandle| {
            let name = status.get().projection;
            let kinds = all().into_iter().find(|one| one.name() == name).unwrap().kinds();
            let folds = |event: &&Delivered| kinds.iter().any(|kind| kind.domain() == event.domain());
            events.iter().filter(folds).count() as u64
        };
        while self.statuses.iter().any(|status| status.get().applied < of(status)) {
            assert!(!self.running.is_finished());
            tokio::task::yield_now().await;
        }
    }

    /// Whoever reads again gets the first batch at once and waits before each other one.
    async fn until_whole(self, store: &Store, events: &[Delivered]) {
        let (whole, mut tables) = (folded_at_once(events).await, Vec::new());
        for _ in 0..2_000 {
            self.gate.notify_one();
            tables = dump(store).await;
            if tables == whole {
                break;
            }
        }
        assert_eq!(tables, whole);
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }
}

/// The first edge's day, and the second's in two batches.
fn in_three() -> (Vec<Delivered>, Vec<Vec<Delivered>>) {
    let events = events(&a_day());
    let (first, second) = events.split_at(events.len() / 2);
    let (begins, ends) = second.split_at(second.len() / 2);
    let batches = [first, begins, ends].map(<[_]>::to_vec).to_vec();
    (events, batches)
}

/// What transactions of projections write.
const WRITTEN: [&str; 9] = [
    "location",
    "location_history",
    "calls",
    "cdr",
    "backend_state",
    "backend_history",
    "projection_position",
    "projection_hint",
    "projection_holder",
];

/// The guard's turn is all that tells: epoch, connections and tables are as a process without a fault would find them.
#[tokio::test]
async fn given_a_database_that_silently_went_back_a_commit_when_folding_goes_on_then_no_row_is_lost() {
    let (events, batches) = in_three();
    for (_database, store) in both_migrated().await {
        let folding = Folding::begin(batches.clone(), &store);
        folding.until_applied(&batches[0]).await;
        for table in WRITTEN {
            store
                .execute(format!("CREATE TABLE was_{table} AS SELECT * FROM {table}"), vec![])
                .await
                .unwrap();
        }
        folding.gate.notify_one();
        folding.until_applied(&batches[..2].concat()).await;
        let back = |table: &&str| {
            [format!("DELETE FROM {table}"), format!("INSERT INTO {table} SELECT * FROM was_{table}")]
                .map(|sql| Statement::new(sql, vec![]))
        };
        store.transaction(WRITTEN.iter().flat_map(back).collect()).await.unwrap();
        folding.until_whole(&store, &events).await;
    }
}

#[tokio::test]
async fn given_a_server_that_crashed_behind_a_batch_when_folding_goes_on_then_what_it_lost_is_folded_again() {
    let (events, batches) = in_three();
    // Only a commit that waits for it is written before ten seconds are over.
    let settings = "-c fsync=on -c wal_writer_delay=10s -c autovacuum=off";
    let server = crate::postgres::start(None, settings);
    let database = postgres_on(&server).await;
    let store = database.store().await;
    store.migrate().await.unwrap();
    let folding = Folding::begin(batches.clone(), &store);
    folding.until_applied(&batches[0]).await;
    server.crash();
    let looking = database.store().await;
    let lost = dump(&looking).await;
    assert!(lost.iter().all(|(_, rows)| rows.is_empty()), "the crash took nothing: {lost:?}");
    folding.until_whole(&looking, &events).await;
}
