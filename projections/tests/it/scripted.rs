//! A bus that plays back what a test says, and ends.

use signalbox_base::EventSeq;
use signalbox_bus::{Batch, BoxFuture, Bus, Delivered, Error, Order, Progress, Request, Start, Subscription};
use signalbox_projections::{Config, Group, Projection, Runner, Status, Stopped};
use signalbox_store::Store;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Gives out its batches again to every subscriber, whatever that has read before: every restart is a redelivery. Unless
/// it goes on: then a subscriber gets what comes after the positions that it names.
pub(crate) struct Scripted {
    pub(crate) order: Order,
    pub(crate) batches: Vec<Vec<Delivered>>,
    /// What was acknowledged last.
    pub(crate) acknowledged: Arc<Mutex<Vec<Progress>>>,
    goes_on: bool,
    /// Every request, in order.
    pub(crate) requests: Mutex<Vec<Request>>,
}

impl Scripted {
    pub(crate) fn new(order: Order, batches: Vec<Vec<Delivered>>) -> Arc<Self> {
        Arc::new(Self::playing(order, batches, false))
    }

    /// One batch, of which nobody gets again what he says he has.
    pub(crate) fn going_on(events: &[Delivered]) -> Arc<Self> {
        Arc::new(Self::playing(Order::Source, vec![events.to_vec()], true))
    }

    fn playing(order: Order, batches: Vec<Vec<Delivered>>, goes_on: bool) -> Self {
        Self { order, batches, acknowledged: Arc::default(), goes_on, requests: Mutex::default() }
    }

    /// All events in one batch, in the order of their sources.
    pub(crate) fn of(events: &[Delivered]) -> Arc<Self> {
        Self::new(Order::Source, vec![events.to_vec()])
    }
}

struct Playing {
    batches: VecDeque<Vec<Delivered>>,
    acknowledged: Arc<Mutex<Vec<Progress>>>,
}

impl Bus for Scripted {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        let has = |event: &Delivered| match &request.start {
            Start::After(known) if self.goes_on => {
                known.iter().any(|(source, through)| *source == *event.source && event.seq <= *through)
            }
            _ => false,
        };
        let wanted = |event: &&Delivered| request.filter.wants(&event.kind, &event.tenant) && !has(event);
        let batches = self.batches.iter().map(|batch| batch.iter().filter(wanted).cloned().collect());
        let batches = batches.filter(|batch: &Vec<Delivered>| !self.goes_on || !batch.is_empty()).collect();
        self.requests.lock().unwrap().push(request.clone());
        let playing = Playing { batches, acknowledged: Arc::clone(&self.acknowledged) };
        Box::pin(async move { Ok(Box::new(playing) as Box<dyn Subscription>) })
    }

    fn order(&self) -> Order {
        self.order
    }
}

impl Subscription for Playing {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        Box::pin(async move {
            let Some(events) = self.batches.front_mut() else { return Err(Error::Ended) };
            let rest = events.split_off(max.min(events.len()));
            let events = std::mem::replace(events, rest);
            if self.batches.front().is_some_and(Vec::is_empty) {
                self.batches.pop_front();
            }
            let mut progress: Vec<Progress> = Vec::new();
            for event in &events {
                let reached =
                    Progress { source: Arc::clone(&event.source), through: event.seq, end: event.seq };
                match progress.iter_mut().find(|known| known.source == event.source) {
                    Some(known) => known.through = EventSeq(known.through.0.max(event.seq.0)),
                    None => progress.push(reached),
                }
            }
            Ok(Batch { events, progress, ..Batch::default() })
        })
    }

    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        *self.acknowledged.lock().unwrap() = progress.to_vec();
        Box::pin(async { Ok(()) })
    }
}

/// Settings without waiting.
pub(crate) fn quick() -> Config {
    let pause = Duration::from_millis(1);
    Config { retry_first: pause, retry_longest: Duration::from_secs(3600), ..Config::default() }
}

/// Runs one projection until the bus ends.
pub(crate) async fn run(
    projection: Box<dyn Projection>,
    bus: Arc<dyn Bus>,
    store: &Store,
) -> (Result<(), Stopped>, Status) {
    let runner = Runner::new(projection, bus, store.clone(), quick());
    let (status, (_stop, asked)) = (runner.status(), watch::channel(false));
    let ended = runner.run(asked).await;
    (ended, status.get())
}

/// Runs all projections of the release as a group until the bus ends.
pub(crate) async fn run_all(bus: Arc<dyn Bus>, store: &Store) {
    let (ended, _) = run_group(signalbox_projections::all(), bus, store).await;
    assert_eq!(ended, []);
}

/// Runs a group until the bus ends: who stopped before, and how each was in the end.
pub(crate) async fn run_group(
    projections: Vec<Box<dyn Projection>>,
    bus: Arc<dyn Bus>,
    store: &Store,
) -> (Vec<Stopped>, Vec<Status>) {
    let group = Group::new(projections, bus, store.clone(), quick());
    let (statuses, (_stop, asked)) = (group.statuses(), watch::channel(false));
    let told = Arc::new(Mutex::new(Vec::new()));
    let stopped = Arc::clone(&told);
    group.run(asked, move |why| stopped.lock().unwrap().push(why)).await;
    let stopped = told.lock().unwrap().clone();
    (stopped, statuses.iter().map(signalbox_projections::StatusHandle::get).collect())
}
