//! The thread of one subscription: it fetches, filters by headers, and hands over in chunks.

use super::Config;
use super::begin::{assign, begin, lanes, print};
use super::connect::{Ears, REQUEST, SLICE, Stop, failed, reader, settings};
use super::floors::Floors;
use super::hint::{self, Spot};
use super::own::{harmless, headers};
use super::topics;
use crate::event::{Delivered, Source};
use crate::hints::Hint;
use crate::local::wall_now;
use crate::publisher::Failure;
use crate::subscription::{Error, Floor, Request, Start};
use crate::wire::{Decoder, Foreign};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use signalbox_base::{EventSeq, Text};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events and bytes that are handed over at once.
const CHUNK_EVENTS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
/// Messages that are passed over before that is handed over, too.
const CHUNK_PASSED: usize = 4_096;
/// The client counts every second; so many of these between two looks for new topics, and two words about foreign
/// messages.
const LOOK: u32 = 5;
const WORD: u32 = 60;

/// What a subscriber gets at once.
#[derive(Default)]
pub(super) struct Chunk {
    /// Events in the order of their coming.
    pub(super) items: VecDeque<Item>,
    /// Partitions that are new, and their numbers.
    pub(super) lanes: Vec<(usize, (Text, i32))>,
    /// How far partitions are read with it, what was passed over included.
    pub(super) spots: Vec<(usize, Spot)>,
    /// Highest numbers of sources, what was passed over included.
    pub(super) reached: Vec<(Arc<Source>, EventSeq)>,
    /// Told once.
    pub(super) floors: Vec<Floor>,
    /// Messages behind it.
    pub(super) behind: u64,
}

/// An event and how far its partition is read with it.
pub(super) struct Item {
    pub(super) event: Delivered,
    pub(super) lane: usize,
    pub(super) spot: Spot,
}

/// The reader of one subscription.
pub(super) struct Feed {
    consumer: BaseConsumer<Ears>,
    cluster: String,
    reading: Reading,
    ticks: u32,
}

impl Feed {
    /// Connects, finds the partitions and where they are begun, and begins to fetch.
    pub(super) fn open(
        config: &Config,
        request: &Request,
        saved: Option<&Hint>,
        stop: &Stop,
    ) -> Result<Self, Failure> {
        let mut settings = settings(config)?;
        settings.set("statistics.interval.ms", "1000");
        let (consumer, metadata) = reader(&settings, stop)?;
        let unknown = || Failure::Unreachable("the cluster does not tell its id".into());
        let cluster = consumer.client().fetch_cluster_id(REQUEST).ok_or_else(unknown)?;
        let names = lanes(&topics::there(&metadata), &request.filter);
        let hint = match &request.start {
            Start::Hint(hint) => Some(hint),
            Start::Cursor => saved,
            _ => None,
        };
        let places = hint.and_then(hint::read);
        let (begins, oldest) = begin(&consumer, &names, &request.start, places.as_ref(), &cluster, stop)?;
        let kept_since = |domain: &str| {
            let age = i64::try_from(topics::max_age(&config.max_age, domain).as_millis()).ok()?;
            (age > 0).then(|| wall_now().0 / 1_000 - age)
        };
        let floors = oldest.then(|| Floors::new(&names, &begins, kept_since));
        let mut reading = Reading::new(request.clone(), floors);
        for (name, begin) in names.into_iter().zip(begins) {
            reading.add(name, begin.spot, begin.end);
        }
        let feed = Self { consumer, cluster, reading, ticks: 0 };
        feed.fetch()?;
        Ok(feed)
    }

    /// The cluster's id.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Where the partitions are begun.
    pub(super) fn spots(&self) -> Vec<((Text, i32), Spot)> {
        self.reading.lanes.iter().map(|lane| (lane.name.clone(), lane.spot)).collect()
    }

    fn fetch(&self) -> Result<(), Failure> {
        assign(&self.consumer, self.reading.lanes.iter().map(|lane| (&lane.name, lane.spot.next)))
    }

    /// Reads until nobody listens any more, or the connection breaks.
    pub(super) fn run(mut self, chunks: &mpsc::Sender<Result<Chunk, Error>>) {
        while !chunks.is_closed() {
            let chunk = match self.chunk() {
                Ok(None) => continue,
                Ok(Some(chunk)) => Ok(chunk),
                Err(failure) => Err(failure.into()),
            };
            let failed = chunk.is_err();
            if chunks.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    }

    /// What is there, up to a chunk; `None` when nothing came for a while.
    fn chunk(&mut self) -> Result<Option<Chunk>, Failure> {
        let mut chunk = Chunk::default();
        let (mut bytes, mut passed, mut lingered) = (0, 0, self.reading.request.linger.is_zero());
        let mut wait = SLICE;
        while chunk.items.len() < CHUNK_EVENTS && bytes < CHUNK_BYTES && passed < CHUNK_PASSED {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    wait = Duration::ZERO;
                    match self.reading.take(&message) {
                        Some(item) => {
                            bytes += item.event.data.len();
                            chunk.items.push_back(item);
                        }
                        None => passed += 1,
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if harmless(&error) => {}
                Some(Err(error)) => return Err(self.broken(&error)),
                // Whatever comes meanwhile waits in the client, and is taken all at once.
                None if wait.is_zero() && !lingered && self.reading.behind() == 0 => {
                    lingered = true;
                    std::thread::park_timeout(self.reading.request.linger);
                }
                None => break,
            }
        }
        if let Some(statistics) = self.consumer.context().stats() {
            self.ticks += 1;
            self.reading.counted(&statistics);
            if self.ticks.is_multiple_of(LOOK) {
                self.look(&mut chunk)?;
            }
            if self.ticks.is_multiple_of(WORD) {
                self.reading.foreign.tell();
            }
        }
        self.reading.fill(&mut chunk);
        let nothing = chunk.spots.is_empty() && chunk.lanes.is_empty() && chunk.floors.is_empty();
        Ok((!nothing).then_some(chunk))
    }

    /// Why nothing more can be read on this connection.
    fn broken(&self, error: &KafkaError) -> Failure {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Failure::Unreachable(
                "the place to read on from is gone: retention, or the cluster was rolled back".into(),
            ),
            _ => self.consumer.context().trouble().unwrap_or_else(|| failed("reading", error)),
        }
    }

    /// A new tenant or domain has new topics: they are read from their beginning.
    fn look(&mut self, chunk: &mut Chunk) -> Result<(), Failure> {
        // What is wrong with the connection is told by the next poll.
        let Ok(metadata) = self.consumer.client().fetch_metadata(None, REQUEST) else { return Ok(()) };
        let names = lanes(&topics::there(&metadata), &self.reading.request.filter);
        for name in names {
            if self.reading.lane(&name.0, name.1).is_none() {
                let lane = self.reading.add(name.clone(), Spot::default(), 0);
                chunk.lanes.push((lane, name));
            }
        }
        if chunk.lanes.is_empty() { Ok(()) } else { self.fetch() }
    }
}

/// What a reader knows of what it reads.
struct Reading {
    request: Request,
    lanes: Vec<Lane>,
    by_topic: HashMap<Text, Vec<usize>>,
    decoder: Decoder,
    sources: HashMap<Text, Reached>,
    floors: Option<Floors>,
    foreign: Foreigners,
    /// The latest time of a message, by its broker.
    newest: Option<i64>,
}

struct Lane {
    name: (Text, i32),
    spot: Spot,
    /// The offset behind the last message, as far as is known.
    high: i64,
    moved: bool,
}

struct Reached {
    source: Arc<Source>,
    seq: EventSeq,
    moved: bool,
}

/// What the headers of a message in binary mode say.
#[derive(Default)]
struct Label<'a> {
    kind: &'a str,
    tenant: &'a str,
    source: &'a str,
    seq: Option<EventSeq>,
    domain_seq: Option<u64>,
}

impl<'a> Label<'a> {
    fn read(message: &'a BorrowedMessage<'_>) -> Option<Self> {
        let mut label = Self::default();
        for (name, value) in headers(message) {
            let Ok(text) = std::str::from_utf8(value) else { continue };
            match name {
                "ce_type" => label.kind = text.strip_prefix("io.signalbox.")?,
                "ce_tenantid" => label.tenant = if text == "_" { "" } else { text },
                "ce_source" => label.source = text,
                "ce_sequence" => label.seq = text.parse().ok().map(EventSeq),
                "ce_domainsequence" => label.domain_seq = text.parse().ok(),
                _ => {}
            }
        }
        (!label.kind.is_empty()).then_some(label)
    }
}

impl Reading {
    fn new(request: Request, floors: Option<Floors>) -> Self {
        Self {
            request,
            lanes: Vec::new(),
            by_topic: HashMap::new(),
            decoder: Decoder::default(),
            sources: HashMap::new(),
            floors,
            foreign: Foreigners::default(),
            newest: None,
        }
    }

    fn add(&mut self, name: (Text, i32), spot: Spot, high: i64) -> usize {
        let lane = self.lanes.len();
        self.by_topic.entry(name.0.clone()).or_default().push(lane);
        self.lanes.push(Lane { name, spot, high, moved: false });
        lane
    }

    fn lane(&self, topic: &str, partition: i32) -> Option<usize> {
        let lanes = self.by_topic.get(topic)?;
        lanes.iter().copied().find(|lane| self.lanes[*lane].name.1 == partition)
    }

    /// The event, if it is one and wanted.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Option<Item> {
        let at = self.lane(message.topic(), message.partition())?;
        let lane = &mut self.lanes[at];
        if message.offset() < lane.spot.next {
            return None;
        }
        let time = message.timestamp().to_millis();
        let spot = Spot { next: message.offset() + 1, print: Some(print(message)), time: time.or(Some(0)) };
        lane.spot = spot;
        lane.high = lane.high.max(spot.next);
        lane.moved = true;
        self.newest = self.newest.max(time);
        let label = Label::read(message);
        if let Some(label) = &label
            && !self.request.filter.wants(label.kind, label.tenant)
        {
            self.passed(at, label);
            return None;
        }
        // Without a value it is a tombstone, whatever its headers say.
        let read = match message.payload().filter(|value| !value.is_empty()) {
            Some(value) => self.decoder.binary(headers(message), value),
            None => Err(Foreign::NotOurs("it has no value".into())),
        };
        let event = match read {
            Ok(event) => event,
            Err(foreign) => {
                self.foreign.count(foreign);
                return None;
            }
        };
        self.saw(at, Arc::clone(&event.source), event.seq, event.domain(), event.domain_seq);
        (self.is_after_the_start(&event)
            && (label.is_some() || self.request.filter.wants(&event.kind, &event.tenant)))
        .then_some(Item { event, lane: at, spot })
    }

    /// Not wanted, but its number counts.
    fn passed(&mut self, lane: usize, label: &Label<'_>) {
        let (Some(seq), Some(domain_seq)) = (label.seq, label.domain_seq) else { return };
        let known = self.sources.get(label.source).map(|reached| Arc::clone(&reached.source));
        let Some(source) = known.or_else(|| label.source.parse().ok().map(Arc::new)) else { return };
        let domain = label.kind.split('.').next().unwrap_or_default();
        self.saw(lane, source, seq, domain, domain_seq);
    }

    fn saw(&mut self, lane: usize, source: Arc<Source>, seq: EventSeq, domain: &str, domain_seq: u64) {
        if let Some(floors) = &mut self.floors {
            floors.saw(lane, &source, domain, domain_seq, self.lanes[lane].spot.time);
        }
        match self.sources.get_mut(source.to_string().as_str()) {
            Some(reached) => {
                reached.seq = reached.seq.max(seq);
                reached.moved = true;
            }
            None => {
                let name = Text::from(source.to_string());
                self.sources.insert(name, Reached { source, seq, moved: true });
            }
        }
    }

    fn is_after_the_start(&self, event: &Delivered) -> bool {
        match &self.request.start {
            Start::Time(moment) => event.recorded >= *moment,
            Start::After(positions) => {
                let known = positions.iter().find(|(source, _)| *source == *event.source);
                known.is_none_or(|(_, seq)| event.seq > *seq)
            }
            _ => true,
        }
    }

    /// Messages known to wait.
    fn behind(&self) -> u64 {
        let waiting = |lane: &Lane| u64::try_from(lane.high - lane.spot.next).unwrap_or(0);
        self.lanes.iter().map(waiting).sum()
    }

    fn counted(&mut self, statistics: &Statistics) {
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values() {
                let Some(lane) = self.lane(&topic.topic, partition.partition) else { continue };
                let (lane, newest) = (&mut self.lanes[lane], self.newest);
                lane.high = lane.spot.next.max(partition.hi_offset);
                if partition.hi_offset == 0 && lane.spot.next == 0 {
                    // Empty: what comes is newer than all that came elsewhere.
                    lane.spot.time = lane.spot.time.or(newest);
                }
            }
        }
    }

    /// Adds to the chunk how far all this is read.
    fn fill(&mut self, chunk: &mut Chunk) {
        for (at, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.moved) {
            lane.moved = false;
            chunk.spots.push((at, lane.spot));
        }
        for reached in self.sources.values_mut().filter(|reached| reached.moved) {
            reached.moved = false;
            chunk.reached.push((Arc::clone(&reached.source), reached.seq));
        }
        let next = || self.lanes.iter().map(|lane| lane.spot.next);
        if self.floors.as_ref().is_some_and(|floors| floors.reached(next())) {
            chunk.floors = self.floors.take().map(Floors::tell).unwrap_or_default();
        }
        chunk.behind = self.behind();
    }
}

/// Messages that are no live events of ours: counted, and told once a minute.
#[derive(Default)]
struct Foreigners {
    count: u64,
    told: u64,
    last: Option<Foreign>,
}

impl Foreigners {
    fn count(&mut self, foreign: Foreign) {
        self.count += 1;
        self.last = Some(foreign);
    }

    fn tell(&mut self) {
        if let Some(last) = self.last.take() {
            let (count, new) = (self.count, self.count - self.told);
            tracing::warn!(new, count, %last, "messages that are no live events of Signalbox are passed over");
            self.told = self.count;
        }
    }
}
