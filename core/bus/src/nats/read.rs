//! NATS as a bus: what the subscriber holds. A thread ([`super::feed`]) reads ahead of it, a little.

use super::Config;
use super::feed::{Chunk, Feed, Opened};
use super::hint::{self, Spot};
use crate::event::Source;
use crate::hints::Hints;
use crate::named::Named;
use crate::subscription::{
    Batch, BoxFuture, Bus, Error, Floor, Order, Progress, Request, Start, Subscription,
};
use signalbox_base::EventSeq;
use signalbox_schemas::values::EventId;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Chunks read ahead of the subscriber.
const CHUNKS_AHEAD: usize = 4;

/// The streams of a NATS server as a bus. Each subscription has a thread, a runtime and a connection of its own, so that
/// it disturbs nobody and nothing of it lives on.
///
/// Order is kept by key within a stream, that is within a group of domains. Progress says which events of a source were
/// the last in a batch, not that all before them were read: to go on, use [`Batch::hint`].
#[derive(Clone)]
pub struct NatsBus {
    config: Arc<Config>,
    hints: Arc<dyn Hints>,
}

impl NatsBus {
    /// `hints` keeps where named subscriptions resume; nothing is kept on the server.
    #[must_use]
    pub fn new(config: Config, hints: Arc<dyn Hints>) -> Self {
        Self { config: Arc::new(config), hints }
    }

    async fn open(&self, mut request: Request) -> Result<Box<dyn Subscription>, Error> {
        let mut named = None;
        if let Some(name) = request.name.clone() {
            let (taken, hint) = Named::take(name, Arc::clone(&self.hints)).await?;
            if request.start == Start::Cursor {
                request.start = hint.map_or(Start::Beginning, Start::Hint);
            }
            named = Some(taken);
        }
        let (opened, opening) = oneshot::channel();
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let feed = Feed { config: Arc::clone(&self.config), request, opened, chunks };
        std::thread::Builder::new()
            .name("nats-reader".to_owned())
            .spawn(move || feed.run())
            .map_err(|error| Error::Unavailable(format!("no thread: {error}")))?;
        let ended = || Error::Unavailable("the reader has ended".to_owned());
        let Opened { spots, pending, floors } = opening.await.map_err(|_| ended())??;
        let floors = floors.then(|| Gathered { waiting: spots.len(), floors: Vec::new() });
        let (rest, failed, ends) = (None, None, HashMap::new());
        Ok(Box::new(NatsSubscription { queue, rest, failed, spots, pending, floors, ends, named }))
    }
}

impl Bus for NatsBus {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        Box::pin(self.open(request))
    }

    fn order(&self) -> Order {
        Order::Key
    }
}

struct NatsSubscription {
    queue: mpsc::Receiver<Result<Chunk, Error>>,
    /// What was read but did not fit the batch before.
    rest: Option<Chunk>,
    /// Came behind what was handed over.
    failed: Option<Error>,
    /// How far each stream was handed over.
    spots: Vec<Spot>,
    /// What waits in each stream.
    pending: Vec<u64>,
    /// Until all streams were read to the end they had.
    floors: Option<Gathered>,
    /// The last event of each source that was met.
    ends: HashMap<Arc<Source>, EventSeq>,
    named: Option<Named>,
}

struct Gathered {
    waiting: usize,
    floors: Vec<Floor>,
}

impl NatsSubscription {
    async fn next(&mut self, max: usize) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let chunk = loop {
            let chunk = match (self.rest.take(), self.failed.take()) {
                (Some(rest), failed) => {
                    self.failed = failed;
                    rest
                }
                (None, Some(error)) => return Err(error),
                (None, None) => {
                    let ended = || Err(Error::Unavailable("the connection has ended".to_owned()));
                    self.queue.recv().await.unwrap_or_else(ended)?
                }
            };
            // That a stream was read to its end of then is no news before all were.
            let waiting = self.floors.as_ref().is_some_and(|floors| floors.waiting > 1);
            if !(chunk.items.is_empty() && chunk.caught_up.is_some() && waiting) {
                break chunk;
            }
            self.take(chunk, max, &mut batch);
        };
        self.take(chunk, max, &mut batch);
        while batch.events.len() < max && self.rest.is_none() && self.failed.is_none() {
            match self.queue.try_recv() {
                Ok(Ok(chunk)) => self.take(chunk, max, &mut batch),
                Ok(Err(error)) => self.failed = Some(error),
                Err(_) => break,
            }
        }
        self.finish(&mut batch);
        Ok(batch)
    }

    /// Moves what fits into the batch and keeps the rest.
    fn take(&mut self, mut chunk: Chunk, max: usize, batch: &mut Batch) {
        let lane = chunk.lane;
        let (spot, pending) = (&mut self.spots[lane], &mut self.pending[lane]);
        while batch.events.len() < max {
            let Some(item) = chunk.items.pop_front() else { break };
            let event = item.event;
            spot.place = item.place;
            spot.id = Some(EventId { journal: event.source.journal, seq: event.seq });
            spot.time = item.time;
            *pending = item.pending;
            batch.events.push(event);
        }
        if !chunk.items.is_empty() {
            self.rest = Some(chunk);
            return;
        }
        *pending = chunk.pending;
        if let (Some(found), Some(gathered)) = (chunk.caught_up, &mut self.floors) {
            gathered.floors.extend(found);
            gathered.waiting -= 1;
            if gathered.waiting == 0 {
                batch.floors.append(&mut gathered.floors);
                self.floors = None;
            }
        }
    }

    fn finish(&mut self, batch: &mut Batch) {
        for event in &batch.events {
            let known = self.ends.entry(Arc::clone(&event.source)).or_default();
            *known = event.seq.max(*known);
            match batch.progress.iter_mut().find(|known| known.source == event.source) {
                Some(progress) => progress.through = event.seq.max(progress.through),
                None => {
                    let (source, end) = (Arc::clone(&event.source), EventSeq(0));
                    batch.progress.push(Progress { source, through: event.seq, end });
                }
            }
        }
        for progress in &mut batch.progress {
            progress.end = self.ends.get(&progress.source).copied().unwrap_or_default();
        }
        let hint = hint::write(&self.spots);
        batch.behind = Some(self.pending.iter().sum());
        if let Some(named) = &mut self.named {
            named.hand_over(&mut batch.progress, &hint);
        }
        batch.hint = Some(hint);
    }
}

impl Subscription for NatsSubscription {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        Box::pin(self.next(max.max(1)))
    }

    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        let found = self.named.as_mut().map(|named| (named.find(progress), named));
        Box::pin(async move {
            let Some((at, named)) = found else { return Ok(()) };
            named.acknowledge(at).await
        })
    }
}
