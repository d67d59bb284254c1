//! [`Bus`] on Kafka: every subscription is a client of its own that never outlives a break.

use super::Config;
use super::connect::apart;
use super::feed::{Chunk, Feed};
use super::hint::{self, Spot};
use crate::event::Source;
use crate::hints::Hints;
use crate::named::Named;
use crate::subscription::{Batch, BoxFuture, Bus, Error, Order, Progress, Request, Subscription};
use signalbox_base::{EventSeq, Text};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Chunks read ahead of the subscriber.
const CHUNKS_AHEAD: usize = 4;

/// The events of a cluster as a bus; in order by key.
#[derive(Clone)]
pub struct KafkaBus {
    config: Config,
    hints: Arc<dyn Hints>,
}

impl KafkaBus {
    /// The cluster that `config` leads to. Named subscriptions keep where they are in `hints`; the cluster keeps nothing.
    #[must_use]
    pub fn new(config: Config, hints: Arc<dyn Hints>) -> Self {
        Self { config, hints }
    }

    async fn open(&self, request: Request) -> Result<KafkaSubscription, Error> {
        let (named, saved) = match request.name.clone() {
            Some(name) => {
                let (named, saved) = Named::take(name, Arc::clone(&self.hints)).await?;
                (Some(named), saved)
            }
            None => (None, None),
        };
        let config = self.config.clone();
        let opened = apart(move |stop| Feed::open(&config, &request, saved.as_ref(), stop)).await;
        let feed = opened?;
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let cluster = feed.cluster().to_owned();
        let spots = feed.spots();
        std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || feed.run(&chunks))
            .map_err(|error| Error::Unavailable(format!("no thread: {error}")))?;
        Ok(KafkaSubscription {
            queue,
            current: None,
            failed: None,
            cluster,
            spots,
            reached: Vec::new(),
            named,
        })
    }
}

impl Bus for KafkaBus {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        Box::pin(async move { Ok(Box::new(self.open(request).await?) as Box<dyn Subscription>) })
    }

    fn order(&self) -> Order {
        Order::Key
    }
}

struct KafkaSubscription {
    queue: mpsc::Receiver<Result<Chunk, Error>>,
    /// What was not handed over yet.
    current: Option<Chunk>,
    /// It has ended.
    failed: Option<Error>,
    cluster: String,
    /// How far the partitions were handed over.
    spots: Vec<((Text, i32), Spot)>,
    /// The highest number of each source that was handed over or passed over.
    reached: Vec<(Arc<Source>, EventSeq)>,
    named: Option<Named>,
}

impl KafkaSubscription {
    /// Moves up to `max` events of the current chunk to the batch.
    fn hand_over(&mut self, batch: &mut Batch, max: usize, moved: &mut Vec<(Arc<Source>, EventSeq)>) {
        let Some(chunk) = &mut self.current else { return };
        while batch.events.len() < max {
            let Some(item) = chunk.items.pop_front() else { break };
            self.spots[item.lane].1 = item.spot;
            raise(moved, &item.event.source, item.event.seq);
            batch.events.push(item.event);
        }
        batch.behind = Some(chunk.behind + chunk.items.len() as u64);
        if chunk.items.is_empty() {
            for (lane, name) in chunk.lanes.drain(..) {
                self.spots.resize_with(lane + 1, Default::default);
                self.spots[lane].0 = name;
            }
            for (lane, spot) in chunk.spots.drain(..) {
                self.spots[lane].1 = spot;
            }
            chunk.reached.iter().for_each(|(source, seq)| raise(moved, source, *seq));
            batch.floors.append(&mut chunk.floors);
            self.current = None;
        }
    }

    fn finish(&mut self, batch: &mut Batch, moved: Vec<(Arc<Source>, EventSeq)>) {
        let hint = hint::write(&self.cluster, &self.spots);
        for (source, seq) in moved {
            raise(&mut self.reached, &source, seq);
            let through =
                self.reached.iter().find(|(known, _)| *known == source).map_or(seq, |(_, seq)| *seq);
            batch.progress.push(Progress { source, through, end: through });
        }
        if let Some(named) = &mut self.named {
            named.hand_over(&mut batch.progress, &hint);
        }
        batch.hint = Some(hint);
    }
}

fn raise(all: &mut Vec<(Arc<Source>, EventSeq)>, source: &Arc<Source>, seq: EventSeq) {
    match all.iter_mut().find(|(known, _)| known == source) {
        Some((_, reached)) => *reached = seq.max(*reached),
        None => all.push((Arc::clone(source), seq)),
    }
}

impl Subscription for KafkaSubscription {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        let max = max.max(1);
        Box::pin(async move {
            if self.current.is_none() {
                if let Some(error) = &self.failed {
                    return Err(error.clone());
                }
                let ended = || Err(Error::Unavailable("the reader has ended".to_owned()));
                match self.queue.recv().await.unwrap_or_else(ended) {
                    Ok(chunk) => self.current = Some(chunk),
                    Err(error) => {
                        self.failed = Some(error.clone());
                        return Err(error);
                    }
                }
            }
            let (mut batch, mut moved) = (Batch::default(), Vec::new());
            loop {
                self.hand_over(&mut batch, max, &mut moved);
                if self.current.is_some() || batch.events.len() >= max || self.failed.is_some() {
                    break;
                }
                match self.queue.try_recv() {
                    Ok(Ok(chunk)) => self.current = Some(chunk),
                    Ok(Err(error)) => self.failed = Some(error),
                    Err(_) => break,
                }
            }
            self.finish(&mut batch, moved);
            Ok(batch)
        })
    }

    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        let found = self.named.as_mut().map(|named| (named.find(progress), named));
        Box::pin(async move {
            let Some((at, named)) = found else { return Ok(()) };
            named.acknowledge(at).await
        })
    }
}
