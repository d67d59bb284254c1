//! [`Bus`] on Kafka: every subscription is a client of its own that never outlives a break.

use super::Config;
use super::connect::{apart, settings};
use super::feed::{Chunk, Feed};
use super::hint::{self, Spot};
use crate::event::Source;
use crate::hints::{Epoch, Hint, Hints};
use crate::publisher::Failure;
use crate::subscription::{Batch, BoxFuture, Bus, Error, Order, Progress, Request, Subscription};
use signalbox_base::{EventSeq, Text};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Chunks read ahead of the subscriber.
const CHUNKS_AHEAD: usize = 4;
/// Batches of a named subscription that can still be acknowledged; older ones are acknowledged by newer ones.
const HANDED: usize = 1_024;

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
        let (config, hints) = (self.config.clone(), Arc::clone(&self.hints));
        let opened = apart(move |stop| {
            let taken = match request.name.as_deref().map(|name| hints.acquire(name)).transpose() {
                Ok(taken) => taken,
                Err(error) => return Ok(Err(error)),
            };
            let saved = taken.as_ref().and_then(|(_, hint)| hint.as_ref());
            let feed = Feed::open(&settings(&config)?, &request, saved, stop)?;
            let name = request.name.zip(taken.map(|(epoch, _)| epoch));
            Ok(Ok((feed, name)))
        });
        let (feed, name) = opened.await.map_err(told)??;
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let cluster = feed.cluster().to_owned();
        let spots = feed.spots();
        std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || feed.run(&chunks))
            .map_err(|error| Error::Unavailable(format!("no thread: {error}")))?;
        let named = name.map(|(name, epoch)| Named {
            name,
            epoch,
            hints: Arc::clone(&self.hints),
            handed: VecDeque::new(),
        });
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

/// A failed connection, as a subscriber is told it.
pub(super) fn told(failure: Failure) -> Error {
    match failure {
        Failure::Unreachable(why) => Error::Unavailable(why.to_string()),
        denied @ Failure::Denied(_) => Error::Unavailable(denied.to_string()),
        misfit @ Failure::Misfit(_) => Error::Broken(misfit.to_string()),
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

struct Named {
    name: String,
    epoch: Epoch,
    hints: Arc<dyn Hints>,
    /// What can be acknowledged, oldest first.
    handed: VecDeque<(Vec<Progress>, Hint)>,
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
            // A source of its own for each batch: by it an acknowledgement says which batch it is of, for numbers of
            // different partitions do not tell one from the other.
            let source = if self.named.is_some() { Arc::new((*source).clone()) } else { source };
            batch.progress.push(Progress { source, through, end: through });
        }
        if let Some(named) = &mut self.named {
            if named.handed.len() == HANDED {
                named.handed.pop_front();
            }
            named.handed.push_back((batch.progress.clone(), hint.clone()));
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

impl Named {
    /// The batch that this progress is of.
    fn find(&self, progress: &[Progress]) -> Option<usize> {
        let same = |one: &Progress| progress.iter().any(|other| Arc::ptr_eq(&one.source, &other.source));
        let of_batch = self.handed.iter().rposition(|(handed, _)| handed.iter().any(same));
        // A copy says less: then the first batch that came so far.
        of_batch
            .or_else(|| self.handed.iter().position(|(handed, _)| !handed.is_empty() && handed == progress))
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
        let found = self.named.as_ref().and_then(|named| named.find(progress));
        Box::pin(async move {
            let (Some(named), Some(at)) = (&mut self.named, found) else { return Ok(()) };
            let (name, epoch, hints) = (named.name.clone(), named.epoch, Arc::clone(&named.hints));
            let hint = named.handed[at].1.clone();
            let saved = tokio::task::spawn_blocking(move || hints.save(&name, epoch, &hint)).await;
            saved.map_err(|error| Error::Broken(error.to_string()))??;
            named.handed.drain(..=at);
            Ok(())
        })
    }
}
