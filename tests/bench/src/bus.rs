//! The bus: events a second through the relay beside a bare publisher of the same client library on the same bytes; how
//! long an event takes from the wire to a subscriber; what callers feel while the broker is away.

use crate::Plan;
use crate::load::{Load, Work};
use crate::report::Report;
use crate::subject::{Kind, Subject};
use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use signalbox_base::{EdgeIdentity, EventSeq, Text, Wall};
use signalbox_brokers::kafka::{Lease, lease};
use signalbox_brokers::{Nats, NatsOptions};
use signalbox_bus::Delivered;
use signalbox_bus::kafka::KafkaBroker;
use signalbox_bus::nats::NatsBroker;
use signalbox_bus::publisher::{Broker, LaneName, Outgoing};
use signalbox_bus::relay::{JournalOrigin, Limits, Origin, Relay, RelayOptions};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Journal, Layout, NewRecord, Writer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const EVENTS: u64 = 100_000;
/// Calls that go on at a time: events of one wait for each other.
const CALLS: u64 = 512;
/// Each publisher runs so often, in turn; the best of each counts, for brokers warm up.
const ROUNDS: usize = 3;
/// What the relay has under way at most, as configured by default.
const WINDOW: usize = 2048;
const CALLS_PER_SECOND: u64 = 100;
/// A relay has caught up when a second's events all arrive sooner than this, microseconds; it is waited for so long.
const SETTLED_US: u64 = 1_000_000;
const SETTLING_SECONDS: u32 = 20;

/// Measures both brokers.
pub(crate) fn run(report: &mut Report, plan: &Plan) -> Result<()> {
    let bytes = Bytes::write()?;
    let mut best = Best::default();
    for _ in 0..ROUNDS {
        best.bare(bytes.to_nats_bare()?);
        best.relay(bytes.relayed(&|| {
            let nats = Nats::start(NatsOptions::default());
            (Arc::new(NatsBroker::new(nats.config())), Box::new(nats))
        })?);
    }
    best.tell(report, "bus/nats");
    let mut best = Best::default();
    for _ in 0..ROUNDS {
        best.bare(bytes.to_kafka_bare()?);
        best.relay(bytes.relayed(&|| {
            let kafka = lease();
            (Arc::new(KafkaBroker::new(kafka.config(), "edge-1")), Box::new(kafka))
        })?);
    }
    best.tell(report, "bus/kafka");
    live(report, "bus/nats", plan.seconds, Nats::start(NatsOptions::default()))?;
    live(report, "bus/kafka", plan.seconds, lease())
}

/// Events a second, the best of each.
#[derive(Default)]
struct Best {
    bare: f64,
    relay: f64,
}

impl Best {
    fn bare(&mut self, rate: f64) {
        self.bare = self.bare.max(rate);
    }

    fn relay(&mut self, rate: f64) {
        self.relay = self.relay.max(rate);
    }

    fn tell(&self, report: &mut Report, part: &str) {
        report.add(part, "bare", 0, "events_per_s", self.bare);
        report.add(part, "signalbox", 0, "events_per_s", self.relay);
        report.add(part, "signalbox", 0, "of_bare", self.relay / self.bare);
    }
}

/// A journal full of events of calls.
struct Bytes {
    dir: TempDir,
    writer: Writer,
    identity: EdgeIdentity,
}

/// A broker and what keeps it running.
type Started = (Arc<dyn Broker>, Box<dyn std::any::Any>);

impl Bytes {
    fn write() -> Result<Self> {
        let dir = tempfile::tempdir_in(std::env::current_dir()?)?;
        let identity = EdgeIdentity { cluster: Text::new("bench"), edge: Text::new("edge-1") };
        let config = Config::new(dir.path().join("journal"));
        let (mut writer, _) = Journal::open(Arc::new(FileStorage), config, &identity, Wall(1), [7; 32])?;
        let samples: Vec<Delivered> = signalbox_schemas::Kind::ALL
            .iter()
            .filter(|kind| kind.domain() == "call")
            .filter_map(|kind| Delivered::from_structured(kind.example().as_bytes()).ok())
            .collect();
        ensure!(!samples.is_empty(), "the catalogue has examples of calls");
        for n in 0..EVENTS {
            let (round, slot) = (n / CALLS, n % CALLS);
            let sample = &samples[usize::try_from(round)? % samples.len()];
            let call = format!("c_{slot}_{}", round / samples.len() as u64);
            writer.append(&NewRecord {
                expect_seq: None,
                wall: sample.time,
                recorded: sample.recorded,
                kind: &sample.kind,
                tenant: "acme",
                subject: &call,
                correlation: &call,
                causation: EventSeq(0),
                data: &sample.data,
                private: &[],
            })?;
            if n % 1000 == 999 {
                writer.commit(Wall(1))?;
            }
        }
        Ok(Self { dir, writer, identity })
    }

    fn origin(&self, broker: &str, layout: Layout) -> JournalOrigin {
        let storage: SharedStorage = Arc::new(FileStorage);
        JournalOrigin::new(self.identity.clone(), storage, layout, self.writer.mark(), broker)
    }

    /// Everything as a broker gets it.
    async fn encoded(&self, broker: &dyn Broker, lanes: &[LaneName]) -> Result<Vec<Outgoing>> {
        let mut origin = self.origin("bare", Layout::new(self.dir.path().join("journal")));
        let (mut encoder, mut out, mut from) = (broker.encoder(), Vec::new(), EventSeq(1));
        while from.0 <= EVENTS {
            let mut read = Vec::new();
            origin.read(from, 1000, &mut read).await?;
            for event in &read {
                out.push(encoder.encode(event, lanes)?);
            }
            from = EventSeq(from.0 + read.len() as u64);
        }
        Ok(out)
    }

    /// Through the relay, from the first acknowledgement to the last.
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn relayed(&self, start: &dyn Fn() -> Started) -> Result<f64> {
        let (broker, _running) = start();
        let journal = self.dir.path().join("journal");
        let cursors = journal.join("cursors");
        if cursors.exists() {
            std::fs::remove_dir_all(cursors)?;
        }
        let origin = self.origin(broker.name(), Layout::new(journal));
        let limits = Limits { window: WINDOW, ..Limits::default() };
        let options = RelayOptions { limits, audit_interval: Duration::ZERO, ..RelayOptions::default() };
        let relay = Relay::spawn(Box::new(origin), broker, options, Box::new(|_| {}))?;
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut begun = None;
        loop {
            let status = relay.status().status;
            let now = Instant::now();
            if status.cursor.0 > 0 && begun.is_none() {
                begun = Some((now, status.cursor.0));
            }
            if let Some((at, first)) = begun.filter(|_| status.cursor.0 >= EVENTS) {
                relay.stop(Duration::ZERO);
                return Ok((EVENTS - first) as f64 / (now - at).as_secs_f64());
            }
            ensure!(now < deadline, "the relay does not get on: {:?}", status.error);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// By the plain client with as much under way, on one thread as the relay is.
    fn to_nats_bare(&self) -> Result<f64> {
        let nats = Nats::start(NatsOptions::default());
        runtime()?.block_on(async {
            let broker = NatsBroker::new(nats.config());
            let lanes = broker.connect().await?.lanes;
            let events = self.encoded(&broker, &lanes).await?;
            let context = jetstream::new(nats.client().await);
            let begun = now();
            let mut acks = VecDeque::with_capacity(WINDOW);
            for event in events {
                let mut headers = async_nats::HeaderMap::new();
                for (name, value) in &event.headers {
                    headers.insert(*name, &**value);
                }
                let sent = context.publish_with_headers(event.address.to_string(), headers, event.body);
                acks.push_back(sent.await?.into_future());
                if acks.len() == WINDOW {
                    acks.pop_front().context("it is full")?.await?;
                }
            }
            for ack in acks {
                ack.await?;
            }
            Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
        })
    }

    /// By the plain client with the relay's settings and as much under way as the client likes.
    fn to_kafka_bare(&self) -> Result<f64> {
        let kafka = lease();
        let broker = KafkaBroker::new(kafka.config(), "edge-1");
        let (lanes, events) = runtime()?.block_on(async {
            let lanes = broker.connect().await?.lanes;
            let events = self.encoded(&broker, &lanes).await?;
            anyhow::Ok((lanes, events))
        })?;
        let mut settings = kafka.client();
        settings.set("enable.idempotence", "true").set("acks", "all").set("compression.type", "zstd");
        settings.set("linger.ms", "2").set("message.max.bytes", "2097152");
        let producer: ThreadedProducer<DefaultProducerContext> = ThreadedProducer::from_config(&settings)?;
        let begun = now();
        for event in &events {
            let (topic, partition) =
                lanes[usize::from(event.lane.0)].name.rsplit_once('/').context("topic/partition")?;
            let mut headers = OwnedHeaders::new_with_capacity(event.headers.len());
            for (key, value) in &event.headers {
                headers = headers.insert(Header { key, value: Some(&**value) });
            }
            let mut record = BaseRecord::to(topic)
                .partition(partition.parse()?)
                .key(event.key.as_bytes())
                .payload(&event.body[..])
                .headers(headers);
            while let Err((_, back)) = producer.send(record) {
                record = back;
                std::thread::yield_now();
            }
        }
        producer.flush(Duration::from_secs(60))?;
        Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// A broker that an edge is on, with a subscriber by the plain client.
trait Live {
    /// `[bus]` for the edge.
    fn table(&self) -> String;
    /// Listens to calls from now on, until told to stop; microseconds from an event's time to its arrival.
    fn listen(&self, heard: Heard) -> Result<()>;
    fn kill9(&mut self);
    fn start_again(&mut self);
}

/// What a subscriber hears.
#[derive(Clone)]
struct Heard {
    ready: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    micros: Arc<Mutex<Histogram<u64>>>,
}

impl Heard {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn event(&self, event: &Delivered) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let late = u64::try_from(now - event.time.0).unwrap_or(0);
        let _ = self.micros.lock().unwrap_or_else(PoisonError::into_inner).record(late);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }
}

impl Live for Nats {
    fn table(&self) -> String {
        format!("[bus]\nkind = \"nats\"\nurl = \"{}\"\n[bus.nats]\nmax_bytes = \"1GiB\"\n", self.url())
    }

    fn listen(&self, heard: Heard) -> Result<()> {
        runtime()?.block_on(async {
            let context = jetstream::new(self.client().await);
            let stream = context.get_stream("SIGNALBOX_CALL").await?;
            let config = jetstream::consumer::pull::OrderedConfig {
                deliver_policy: jetstream::consumer::DeliverPolicy::New,
                ..Default::default()
            };
            let mut messages = stream.create_consumer(config).await?.messages().await?;
            heard.ready.store(true, Ordering::Release);
            while heard.goes_on() {
                let next = tokio::time::timeout(Duration::from_millis(200), messages.next()).await;
                if let Ok(Some(message)) = next {
                    heard.event(&Delivered::from_structured(&message?.payload)?);
                }
            }
            Ok(())
        })
    }

    fn kill9(&mut self) {
        Self::kill9(self);
    }

    fn start_again(&mut self) {
        Self::start_again(self);
    }
}

impl Live for Lease {
    fn table(&self) -> String {
        format!("[bus]\nkind = \"kafka\"\nurl = \"{}\"\n", self.url())
    }

    fn listen(&self, heard: Heard) -> Result<()> {
        let consumer: BaseConsumer =
            self.client().set("group.id", "bench").set("enable.auto.commit", "false").create()?;
        let metadata = consumer.fetch_metadata(Some("signalbox.call.v1"), Duration::from_secs(10))?;
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            list.add_partition_offset("signalbox.call.v1", partition.id(), Offset::End)?;
        }
        consumer.assign(&list)?;
        heard.ready.store(true, Ordering::Release);
        while heard.goes_on() {
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = message?;
            let headers = message.headers().context("events have headers")?;
            let pairs = headers.iter().filter_map(|header| Some((header.key, header.value?)));
            heard.event(&Delivered::from_binary(pairs, message.payload().unwrap_or_default())?);
        }
        Ok(())
    }

    fn kill9(&mut self) {
        signalbox_brokers::Kafka::kill9(self);
    }

    fn start_again(&mut self) {
        signalbox_brokers::Kafka::start_again(self);
    }
}

/// Calls until the relay has sent what waited while it connected: that is no latency of a running system.
fn settle(load: &mut Load, heard: &Heard) -> Result<()> {
    let reset = || heard.micros.lock().unwrap_or_else(PoisonError::into_inner).reset();
    for _ in 0..SETTLING_SECONDS {
        reset();
        load.run(Work::Call, CALLS_PER_SECOND, 1)?;
        let micros = heard.micros.lock().unwrap_or_else(PoisonError::into_inner);
        if !micros.is_empty() && micros.max() < SETTLED_US {
            break;
        }
    }
    reset();
    Ok(())
}

/// Calls through the built binary with its relay: how late a subscriber hears, and a hop's p99 with the broker there, away
/// and there again.
fn live(report: &mut Report, part: &str, seconds: u64, mut broker: impl Live + Sync) -> Result<()> {
    let mut load = Load::new()?;
    let subject = Subject::with(Kind::Signalbox, load.backend(), &broker.table())?;
    load.aim(subject.address);
    load.register_callers()?;
    // The first seconds of a run are the caches', not the bus's.
    load.run(Work::Call, CALLS_PER_SECOND, 3)?;
    let micros = Arc::new(Mutex::new(Histogram::new(3)?));
    let heard = Heard { ready: Arc::default(), stop: Arc::default(), micros: Arc::clone(&micros) };
    let before = std::thread::scope(|scope| {
        let listening = scope.spawn(|| broker.listen(heard.clone()));
        while !heard.ready.load(Ordering::Acquire) && !listening.is_finished() {
            std::thread::yield_now();
        }
        let outcome =
            settle(&mut load, &heard).and_then(|()| load.run(Work::Call, CALLS_PER_SECOND, seconds));
        heard.stop.store(true, Ordering::Release);
        listening.join().map_err(|_| anyhow::anyhow!("the subscriber panicked"))??;
        outcome
    })?;
    let micros = micros.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(!micros.is_empty(), "the subscriber heard nothing");
    for (name, quantile) in [("to_subscriber_p50_us", 0.5), ("to_subscriber_p99_us", 0.99)] {
        report.add(part, "signalbox", CALLS_PER_SECOND, name, micros.value_at_quantile(quantile) as f64);
    }
    broker.kill9();
    let away = load.run(Work::Call, CALLS_PER_SECOND, seconds)?;
    broker.start_again();
    let back = load.run(Work::Call, CALLS_PER_SECOND, seconds)?;
    let p99 = |outcome: &crate::load::Outcome| outcome.hop_us.value_at_quantile(0.99) as f64;
    for (name, outcome) in [("hop_p99_us", &before), ("hop_p99_away_us", &away), ("hop_p99_back_us", &back)] {
        report.add(part, "signalbox", CALLS_PER_SECOND, name, p99(outcome));
    }
    report.add(part, "signalbox", CALLS_PER_SECOND, "p99_away_of_before", p99(&away) / p99(&before));
    let lost = before.lost() + away.lost() + back.lost();
    report.add(part, "signalbox", CALLS_PER_SECOND, "lost", lost as f64);
    Ok(())
}
