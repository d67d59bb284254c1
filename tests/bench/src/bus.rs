//! The bus: events a second through the relay beside a bare publisher of the same client library on the same bytes; how
//! long an event takes from the wire to a subscriber; what callers feel while the broker is away.

mod live;

use crate::Plan;
use crate::report::Report;
use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use live::live;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use signalbox_base::{EdgeIdentity, EventSeq, Text, Wall};
use signalbox_brokers::kafka::lease;
use signalbox_brokers::{Kafka, Nats, NatsOptions};
use signalbox_bus::Delivered;
use signalbox_bus::kafka::KafkaBroker;
use signalbox_bus::nats::NatsBroker;
use signalbox_bus::publisher::{Broker, LaneName, Outgoing};
use signalbox_bus::relay::{JournalOrigin, Limits, Origin, Relay, RelayOptions};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Journal, Layout, NewRecord, Writer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const EVENTS: u64 = 100_000;
/// Calls that go on at a time, of which each event waits for the one before: those of half a minute at 100 a second.
const CALLS: u64 = 3000;
/// Each publisher runs so often, in turn; the best of each counts, for brokers warm up.
const ROUNDS: usize = 3;
/// What the relay has under way at most, as configured by default.
const WINDOW: usize = 2048;

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
    live(report, "bus/nats", plan, Nats::start(NatsOptions::default()))?;
    live(report, "bus/kafka", plan, lease())
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
        let samples = samples()?;
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
                traceparent: "",
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
        let limits = Limits { window: WINDOW, drain_per_second: 0, ..Limits::default() };
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
                let sent =
                    context.publish_with_headers(event.address.to_string(), nats_headers(&event), event.body);
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
        let producer = bare_producer(&kafka)?;
        let begun = now();
        for event in &events {
            produce(&producer, event, &lanes)?;
        }
        producer.flush(Duration::from_secs(60))?;
        Ok(EVENTS as f64 / begun.elapsed().as_secs_f64())
    }
}

/// Events of calls, as the catalogue shows them.
fn samples() -> Result<Vec<Delivered>> {
    let of_calls = signalbox_schemas::Kind::ALL.iter().filter(|kind| kind.domain() == "call");
    let read = of_calls.filter_map(|kind| Delivered::from_structured(kind.example().as_bytes()).ok());
    let samples: Vec<Delivered> = read.collect();
    ensure!(!samples.is_empty(), "the catalogue has examples of calls");
    Ok(samples)
}

fn nats_headers(event: &Outgoing) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in &event.headers {
        headers.insert(*name, &**value);
    }
    headers
}

type Producing = ThreadedProducer<DefaultProducerContext>;

/// A plain producer with the relay's settings.
fn bare_producer(kafka: &Kafka) -> Result<Producing> {
    let mut settings: ClientConfig = kafka.client();
    settings.set("enable.idempotence", "true").set("acks", "all").set("compression.type", "zstd");
    settings.set("linger.ms", "2").set("message.max.bytes", "2097152");
    Ok(ThreadedProducer::from_config(&settings)?)
}

fn produce(producer: &Producing, event: &Outgoing, lanes: &[LaneName]) -> Result<()> {
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
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}
