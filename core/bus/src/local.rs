//! The embedded bus: the journal itself, read beside its writer or from another process.
//!
//! Each subscription has a thread with a reader of its own and a short queue, so a slow one holds up nobody. A reader
//! never passes the durable watermark; beside the writer it is woken by the first commit after it has read all there is,
//! elsewhere it looks at the watermark's file, at first often and then less. One that may linger then sleeps for that
//! time, whatever is committed meanwhile, and reads it all at once.

use crate::event::{Delivered, Source};
use crate::subscription::{Batch, BoxFuture, Bus, Error, Gap, Order, Progress, Request, Start, Subscription};
use crate::words::Words;
use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Wall};
use signalbox_journal as journal;
use signalbox_journal::storage::SharedStorage;
use signalbox_journal::{Cursors, Holder, Layout, Mark, Reader};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events and bytes that a reader hands over at once.
const CHUNK_EVENTS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead of the subscriber.
const CHUNKS_AHEAD: usize = 4;
/// How long a reader beside the writer waits before it looks whether its subscriber is still there.
const WATCH: Duration = Duration::from_secs(1);
/// First and longest pause between two looks at another process's watermark.
const POLL_FIRST: Duration = Duration::from_millis(2);
const POLL_LONGEST: Duration = Duration::from_millis(50);

/// The journal of one edge as a bus.
#[derive(Clone)]
pub struct Local {
    identity: EdgeIdentity,
    storage: SharedStorage,
    layout: Layout,
    mark: Mark,
}

impl Local {
    /// The bus of a journal whose writer is in this process (`Mark::Local`) or in another (`Mark::file`).
    #[must_use]
    pub fn new(identity: EdgeIdentity, storage: SharedStorage, layout: Layout, mark: Mark) -> Self {
        Self { identity, storage, layout, mark }
    }

    fn open(&self, request: &Request) -> Result<LocalSubscription, Error> {
        let cursors = Cursors::new(Arc::clone(&self.storage), self.layout.clone(), self.mark.clone());
        let taken = match &request.name {
            Some(name) => Some(cursors.acquire(name, EventSeq(0), wall_now()).map_err(told)?),
            None => None,
        };
        let start = match &request.start {
            // A journal needs no hints: positions say where to go on.
            Start::Beginning | Start::Hint(_) => journal::Start::Oldest,
            Start::Time(moment) => journal::Start::Time(*moment),
            Start::End => journal::Start::End,
            Start::After(positions) => self.after(positions)?,
            Start::Cursor => match &taken {
                Some((_, cursor)) if cursor.seq.0 > 0 => journal::Start::Seq(cursor.seq.next()),
                _ => journal::Start::Oldest,
            },
        };
        let reader = self.reader(start)?.with_filter(request.filter.clone());
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let (alive, dropped) = blocking::channel();
        let feed = Feed {
            identity: self.identity.clone(),
            reader,
            linger: request.linger,
            source: None,
            reached: EventSeq(0),
            words: Words::default(),
            gap: None,
            chunks,
            dropped,
        };
        std::thread::Builder::new()
            .name("bus-reader".to_owned())
            .spawn(move || feed.run())
            .map_err(|error| Error::Unavailable(format!("no thread: {error}")))?;
        let holder = taken.map(|(holder, _)| holder);
        let places = Vec::new();
        Ok(LocalSubscription { queue, rest: None, places, cursors, holder, _alive: alive })
    }

    /// After a fork the journal has another id and goes on counting: who has read that id goes on behind it; who has
    /// not reads all there is once more, for an old copy that was restored has written other events since.
    fn after(&self, positions: &[(Source, EventSeq)]) -> Result<journal::Start, Error> {
        let durable = self.mark.durable().map_err(told)?;
        if durable.0 == 0 {
            return Ok(journal::Start::Oldest);
        }
        let mut last = self.reader(journal::Start::Seq(durable))?;
        let current = last.next().map_err(told)?.map(|record| record.journal);
        let known = positions.iter().find(|(source, _)| Some(source.journal) == current);
        Ok(known.map_or(journal::Start::Oldest, |(_, seq)| journal::Start::Seq(seq.next())))
    }

    fn reader(&self, start: journal::Start) -> Result<Reader, Error> {
        Reader::open(Arc::clone(&self.storage), self.layout.clone(), self.mark.clone(), start).map_err(told)
    }
}

impl Bus for Local {
    fn subscribe(&self, request: Request) -> BoxFuture<'_, Result<Box<dyn Subscription>, Error>> {
        let bus = self.clone();
        Box::pin(async move {
            let opened = tokio::task::spawn_blocking(move || bus.open(&request)).await;
            let subscription = opened.map_err(|error| Error::Broken(error.to_string()))??;
            Ok(Box::new(subscription) as Box<dyn Subscription>)
        })
    }

    fn order(&self) -> Order {
        Order::Source
    }
}

struct LocalSubscription {
    queue: mpsc::Receiver<Result<Batch, Error>>,
    /// What was read but did not fit the batch before.
    rest: Option<Result<Batch, Error>>,
    /// Every source that was handed out.
    places: Vec<Place>,
    cursors: Cursors,
    holder: Option<Holder>,
    /// Dropped with the subscription: the reader's thread ends.
    _alive: blocking::Sender<()>,
}

/// A source of the journal, the last of which has no end yet.
struct Place {
    source: Arc<Source>,
    end: EventSeq,
    acknowledged: EventSeq,
}

impl LocalSubscription {
    fn handed_out(&mut self, batch: &Batch) {
        for Progress { source, end, .. } in &batch.progress {
            match self.places.iter_mut().find(|known| known.source == *source) {
                Some(known) => known.end = *end,
                None => {
                    let (source, acknowledged) = (Arc::clone(source), EventSeq(0));
                    self.places.push(Place { source, end: *end, acknowledged });
                }
            }
        }
    }

    /// Up to where the journal is done with: sources follow each other in it, so the first that is not done with counts,
    /// however far one behind it is.
    fn done(&mut self, progress: &[Progress]) -> EventSeq {
        for Progress { source, through, .. } in progress {
            if let Some(known) = self.places.iter_mut().find(|known| known.source == *source) {
                known.acknowledged = known.acknowledged.max(*through);
            }
        }
        let short = self.places.iter().filter(|place| place.acknowledged < place.end);
        let all = || self.places.iter().map(|place| place.acknowledged).max();
        short.map(|place| place.acknowledged).min().or_else(all).unwrap_or_default()
    }
}

impl Subscription for LocalSubscription {
    fn next_batch(&mut self, max: usize) -> BoxFuture<'_, Result<Batch, Error>> {
        let max = max.max(1);
        Box::pin(async move {
            let mut batch = match self.rest.take() {
                Some(rest) => rest?,
                None => self.queue.recv().await.unwrap_or(Err(Error::Ended))?,
            };
            while batch.events.len() < max {
                match self.queue.try_recv() {
                    Ok(Ok(more)) if more.gaps.is_empty() => join(&mut batch, more),
                    Ok(later) => {
                        self.rest = Some(later);
                        self.handed_out(&batch);
                        return Ok(batch);
                    }
                    Err(_) => break,
                }
            }
            self.rest = split(&mut batch, max).map(Ok);
            self.handed_out(&batch);
            Ok(batch)
        })
    }

    fn acknowledge(&mut self, progress: &[Progress]) -> BoxFuture<'_, Result<(), Error>> {
        let through = self.done(progress);
        let (cursors, holder) = (self.cursors.clone(), self.holder.clone());
        Box::pin(async move {
            let Some(holder) = holder.filter(|_| through.0 > 0) else { return Ok(()) };
            let advanced =
                tokio::task::spawn_blocking(move || cursors.advance(&holder, through, wall_now())).await;
            advanced.map_err(|error| Error::Broken(error.to_string()))?.map_err(told)
        })
    }
}

fn join(batch: &mut Batch, more: Batch) {
    batch.events.extend(more.events);
    for progress in more.progress {
        match batch.progress.iter_mut().find(|known| known.source == progress.source) {
            Some(known) => *known = progress,
            None => batch.progress.push(progress),
        }
    }
}

/// Leaves `max` events in the batch and returns the others. The first part has come as far as its last event.
fn split(batch: &mut Batch, max: usize) -> Option<Batch> {
    if batch.events.len() <= max {
        return None;
    }
    let events = batch.events.split_off(max);
    let progress = std::mem::take(&mut batch.progress);
    let end = progress.iter().map(|progress| progress.end).max().unwrap_or_default();
    for event in &batch.events {
        let reached = Progress { source: Arc::clone(&event.source), through: event.seq, end };
        match batch.progress.iter_mut().find(|known| known.source == reached.source) {
            Some(known) => *known = reached,
            None => batch.progress.push(reached),
        }
    }
    Some(Batch { events, progress, ..Batch::default() })
}

/// The thread of one subscription.
struct Feed {
    identity: EdgeIdentity,
    reader: Reader,
    linger: Duration,
    source: Option<Arc<Source>>,
    /// How far it was read by the end of the chunk before.
    reached: EventSeq,
    words: Words,
    /// Found behind the events of the chunk before: told with the next.
    gap: Option<Gap>,
    chunks: mpsc::Sender<Result<Batch, Error>>,
    dropped: blocking::Receiver<()>,
}

impl Feed {
    fn run(mut self) {
        let mut pause = POLL_FIRST;
        loop {
            // Asked before reading: what was written before the writer stopped is read after.
            let ended = self.writer_gone();
            let before = self.reader.position();
            let (chunk, more) = match self.read() {
                Ok((batch, more)) => (Ok(batch), more),
                Err(error) => (Err(error), false),
            };
            let moved = self.reader.position() > before;
            let news = moved || chunk.as_ref().map_or(true, |batch| !batch.gaps.is_empty());
            let failed = chunk.is_err();
            if news && self.chunks.blocking_send(chunk).is_err() {
                return;
            }
            if failed {
                return;
            }
            if moved {
                pause = POLL_FIRST;
            }
            // Who may linger does not read the little that came while this was read, but sleeps for more to come.
            let again = more || (moved && (self.linger.is_zero() || ended));
            if again {
                continue;
            }
            if ended {
                let _ = self.chunks.blocking_send(Err(Error::Ended));
                return;
            } else if !self.wait(&mut pause) {
                return;
            }
        }
    }

    /// What is there now, up to a chunk, and whether there is more; a gap begins a new one.
    fn read(&mut self) -> Result<(Batch, bool), Error> {
        let before = self.source.clone();
        let (mut batch, mut bytes, mut more) = (Batch::default(), 0, true);
        batch.gaps.extend(self.gap.take());
        while batch.events.len() < CHUNK_EVENTS && bytes < CHUNK_BYTES {
            match self.reader.next() {
                Ok(Some(record)) => {
                    bytes += record.data.len();
                    let source = source_of(&self.identity, &mut self.source, record.journal);
                    batch.events.push(self.words.delivered(source, &record));
                }
                Ok(None) => {
                    more = false;
                    break;
                }
                Err(journal::Error::Gap(gap)) => {
                    let gap = Gap { from: gap.from, to: gap.to };
                    if !batch.events.is_empty() {
                        self.gap = Some(gap);
                        break;
                    }
                    batch.gaps.push(gap);
                }
                Err(error) => return Err(told(error)),
            }
        }
        let end = self.reader.mark().durable().map_err(told)?;
        let through = EventSeq(self.reader.position().0.saturating_sub(1));
        if let Some(journal) = self.reader.journal() {
            let source = source_of(&self.identity, &mut self.source, journal);
            batch.progress.extend(progress_of(&batch.events, source, through, end));
            // One that has ended with the chunk before: there it could not be known.
            let ended = before.filter(|before| !batch.progress.iter().any(|known| known.source == *before));
            batch.progress.extend(ended.map(|source| Progress {
                source,
                through: self.reached,
                end: self.reached,
            }));
            self.reached = through;
        }
        Ok((batch, more))
    }

    fn writer_gone(&self) -> bool {
        matches!(self.reader.mark(), Mark::Local(watermark) if watermark.stopped())
    }

    /// Waits for more, and then for what comes with it; false when nobody reads any more.
    fn wait(&self, pause: &mut Duration) -> bool {
        match self.reader.mark() {
            Mark::Local(watermark) => {
                let seen = EventSeq(self.reader.position().0.saturating_sub(1));
                let news = watermark.wait_beyond(seen, WATCH) > seen;
                if news && !self.linger.is_zero() && !watermark.stopped() {
                    return self.pause(self.linger);
                }
                !matches!(self.dropped.try_recv(), Err(blocking::TryRecvError::Disconnected))
            }
            Mark::File(_) => {
                let now = (*pause).max(self.linger);
                *pause = (*pause * 2).min(POLL_LONGEST);
                self.pause(now)
            }
        }
    }

    /// False when nobody reads any more.
    fn pause(&self, pause: Duration) -> bool {
        matches!(self.dropped.recv_timeout(pause), Err(blocking::RecvTimeoutError::Timeout))
    }
}

/// One entry for each source in the chunk: a fork in the middle of it ends the old one with its last event, and that is
/// all that there will ever be of it.
fn progress_of(events: &[Delivered], last: Arc<Source>, through: EventSeq, end: EventSeq) -> Vec<Progress> {
    let mut all: Vec<Progress> = Vec::new();
    for event in events.iter().filter(|event| event.source != last) {
        match all.iter_mut().find(|known| known.source == event.source) {
            Some(known) => (known.through, known.end) = (event.seq, event.seq),
            None => {
                all.push(Progress { source: Arc::clone(&event.source), through: event.seq, end: event.seq })
            }
        }
    }
    all.push(Progress { source: last, through, end });
    all
}

pub(crate) fn source_of(
    identity: &EdgeIdentity,
    known: &mut Option<Arc<Source>>,
    journal: JournalId,
) -> Arc<Source> {
    match known {
        Some(source) if source.journal == journal => Arc::clone(source),
        _ => {
            let (cluster, edge) = (identity.cluster.clone(), identity.edge.clone());
            Arc::clone(known.insert(Arc::new(Source { cluster, edge, journal })))
        }
    }
}

pub(crate) fn told(error: journal::Error) -> Error {
    match error {
        journal::Error::Fenced { sink, .. } => Error::Fenced(sink),
        // A journal that has not come so far (again) may still do so.
        error @ (journal::Error::Io { .. }
        | journal::Error::Full { .. }
        | journal::Error::BeyondEnd { .. }) => Error::Unavailable(error.to_string()),
        error => Error::Broken(error.to_string()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a cursor tells when it was written; the bus has no other use of time"
)]
pub(crate) fn wall_now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall::default().plus(since)
}
