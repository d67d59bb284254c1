//! The bus under calls: how late a subscriber hears, beside a plain publisher of the same client library; what callers feel
//! while the broker is there, away and back; and how fast the backlog drains.

use super::{bare_producer, nats_headers, now, produce, runtime, samples};
use crate::Plan;
use crate::load::{Load, Outcome, Work};
use crate::report::Report;
use crate::subject::{Kind, Subject};
use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use futures_util::StreamExt;
use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use signalbox_base::{EventSeq, Wall};
use signalbox_brokers::kafka::Lease;
use signalbox_brokers::{Nats, Server};
use signalbox_bus::Delivered;
use signalbox_bus::kafka::KafkaBroker;
use signalbox_bus::nats::NatsBroker;
use signalbox_bus::publisher::Broker;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

const CALLS_PER_SECOND: u64 = 100;
/// Events of a call that go by the bus, about: the plain publisher sends as many.
const EVENTS_OF_CALL: u64 = 4;
/// A relay has caught up when a second's events all arrive sooner than this, microseconds; it is waited for so long.
const SETTLED_US: u64 = 1_000_000;
const SETTLING_SECONDS: u32 = 20;
/// A backlog of so many events is none: they are on their way.
const DRAINED: u64 = 50;
/// How long a backlog may take, with the broker's start and the relay's pause before it looks again, besides as long as the
/// broker was away.
const DRAINS_WITHIN: Duration = Duration::from_secs(60);

/// A broker that an edge is on, with a subscriber by the plain client.
pub(super) trait Live: Server {
    /// `[bus]` for the edge.
    fn table(&self) -> String;
    /// Listens to calls from now on, until told to stop; microseconds from an event's time to its arrival.
    fn listen(&self, heard: Heard) -> Result<()>;
    /// Publishes events by the plain client while `next` gives any.
    fn publish(&self, next: &mut dyn FnMut() -> Option<Delivered>) -> Result<()>;
}

/// What a subscriber hears.
#[derive(Clone)]
pub(super) struct Heard {
    ready: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    micros: Arc<Mutex<Histogram<u64>>>,
}

impl Heard {
    fn event(&self, event: &Delivered) {
        let late = u64::try_from(wall().0 - event.time.0).unwrap_or(0);
        let _ = self.micros().record(late);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    fn micros(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.micros.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is heard while `meanwhile` is done.
    fn while_doing<T>(
        &self,
        broker: &(impl Live + Sync),
        meanwhile: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.ready.store(false, Ordering::Release);
        self.stop.store(false, Ordering::Release);
        std::thread::scope(|scope| {
            let listening = scope.spawn(|| broker.listen(self.clone()));
            while !self.ready.load(Ordering::Acquire) && !listening.is_finished() {
                std::thread::yield_now();
            }
            let outcome = meanwhile();
            self.stop.store(true, Ordering::Release);
            listening.join().map_err(|_| anyhow::anyhow!("the subscriber panicked"))??;
            outcome
        })
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

    fn publish(&self, next: &mut dyn FnMut() -> Option<Delivered>) -> Result<()> {
        runtime()?.block_on(async {
            let broker = NatsBroker::new(self.config());
            let lanes = broker.connect().await?.lanes;
            let (mut encoder, context) = (broker.encoder(), jetstream::new(self.client().await));
            while let Some(event) = next() {
                let event = encoder.encode(&event, &lanes)?;
                let headers = nats_headers(&event);
                let sent =
                    context.publish_with_headers(event.address.to_string(), headers, event.body).await?;
                tokio::spawn(sent.into_future());
                tokio::time::sleep(BETWEEN).await;
            }
            Ok(())
        })
    }
}

impl Live for Lease {
    fn table(&self) -> String {
        let partitions = self.config().partitions;
        format!("[bus]\nkind = \"kafka\"\nurl = \"{}\"\n[bus.kafka]\npartitions = {partitions}\n", self.url())
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

    #[expect(clippy::disallowed_methods, reason = "a benchmark keeps time")]
    fn publish(&self, next: &mut dyn FnMut() -> Option<Delivered>) -> Result<()> {
        let broker = KafkaBroker::new(self.config(), "edge-1");
        let lanes = runtime()?.block_on(broker.connect())?.lanes;
        let (mut encoder, producer) = (broker.encoder(), bare_producer(self)?);
        while let Some(event) = next() {
            produce(&producer, &encoder.encode(&event, &lanes)?, &lanes)?;
            std::thread::sleep(BETWEEN);
        }
        Ok(producer.flush(Duration::from_secs(10))?)
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn wall() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Calls until the relay has sent what waited while it connected: that is no latency of a running system.
fn settle(load: &mut Load, heard: &Heard) -> Result<()> {
    for _ in 0..SETTLING_SECONDS {
        heard.micros().reset();
        load.run(Work::Call, CALLS_PER_SECOND, 1)?;
        let micros = heard.micros();
        if !micros.is_empty() && micros.max() < SETTLED_US {
            break;
        }
    }
    heard.micros().reset();
    Ok(())
}

/// Calls through the built binary with its relay: how late a subscriber hears, and a hop's p99 with the broker there, away,
/// and there again until the backlog is gone.
pub(super) fn live(report: &mut Report, part: &str, plan: &Plan, mut broker: impl Live + Sync) -> Result<()> {
    let seconds = plan.seconds;
    let mut load = Load::new()?;
    let subject = Subject::with(Kind::Signalbox, load.backend(), &broker.table())?;
    load.aim(subject.address);
    load.register_callers()?;
    // The first seconds of a run are the caches', not the bus's.
    load.run(Work::Call, CALLS_PER_SECOND, 3)?;
    let heard = Heard {
        ready: Arc::default(),
        stop: Arc::default(),
        micros: Arc::new(Mutex::new(Histogram::new(3)?)),
    };
    let before = heard.while_doing(&broker, || {
        settle(&mut load, &heard)?;
        load.run(Work::Call, CALLS_PER_SECOND, seconds)
    })?;
    tell_lateness(report, part, "signalbox", &heard)?;
    heard.while_doing(&broker, || {
        heard.micros().reset();
        let mut events = paced(seconds)?;
        broker.publish(&mut events)
    })?;
    tell_lateness(report, part, "bare", &heard)?;
    let begun = Lag::now(subject.admin)?;
    broker.kill9();
    let away = load.run(Work::Call, CALLS_PER_SECOND, plan.away)?;
    let (back, drain) = std::thread::scope(|scope| {
        let draining = scope.spawn(|| Drain::watch(subject.admin, begun, Duration::from_secs(plan.away)));
        broker.start_again();
        let back = load.run_until(Work::Call, CALLS_PER_SECOND, || draining.is_finished());
        let drain = draining.join().map_err(|_| anyhow::anyhow!("the watcher panicked"));
        anyhow::Ok((back?, drain??))
    })?;
    // From the kill until the backlog is gone.
    let mut outage = away.hop_us.clone();
    outage.add(&back.hop_us)?;
    let p99 = |outcome: &Outcome| outcome.hop_us.value_at_quantile(0.99) as f64;
    let mut add = |name, value| report.add(part, "signalbox", CALLS_PER_SECOND, name, value);
    add("hop_p99_us", p99(&before));
    add("hop_p99_away_us", p99(&away));
    add("hop_p99_back_us", p99(&back));
    add("p99_away_of_before", p99(&away) / p99(&before));
    add("p99_back_of_before", p99(&back) / p99(&before));
    add("p99_outage_of_before", outage.value_at_quantile(0.99) as f64 / p99(&before));
    add("away_s", away.wall.as_secs_f64());
    add("back_s", back.wall.as_secs_f64());
    add("drain_s", drain.span.as_secs_f64());
    add("backlog_events", drain.backlog as f64);
    add("arrival_events_per_s", drain.arrival);
    add("drain_events_per_s", drain.rate);
    add("drain_of_arrival", drain.rate / drain.arrival);
    add("lost", (before.lost() + away.lost() + back.lost()) as f64);
    Ok(())
}

fn tell_lateness(report: &mut Report, part: &str, who: &str, heard: &Heard) -> Result<()> {
    let micros = heard.micros();
    ensure!(!micros.is_empty(), "the subscriber heard nothing");
    for (name, quantile) in [("to_subscriber_p50_us", 0.5), ("to_subscriber_p99_us", 0.99)] {
        report.add(part, who, CALLS_PER_SECOND, name, micros.value_at_quantile(quantile) as f64);
    }
    Ok(())
}

/// Between two events of the plain publisher.
const BETWEEN: Duration = Duration::from_micros(1_000_000 / (CALLS_PER_SECOND * EVENTS_OF_CALL));

/// Events that happen as they are asked for, for so long.
fn paced(seconds: u64) -> Result<impl FnMut() -> Option<Delivered>> {
    let (samples, begun, mut seq) = (samples()?, now(), 0);
    Ok(move || {
        let sample = &samples[seq as usize % samples.len()];
        seq += 1;
        let event = Delivered { time: wall(), seq: EventSeq(seq), domain_seq: seq, ..sample.clone() };
        (begun.elapsed() < Duration::from_secs(seconds)).then_some(event)
    })
}

/// Events that the relay had to send at a moment.
#[derive(Clone, Copy)]
struct Lag {
    events: u64,
    at: Instant,
}

impl Lag {
    fn now(admin: SocketAddr) -> Result<Self> {
        Ok(Self { events: lag(admin)?, at: now() })
    }
}

/// How a backlog grew and drained.
struct Drain {
    backlog: u64,
    arrival: f64,
    rate: f64,
    /// From its greatest until it was gone.
    span: Duration,
}

impl Drain {
    /// Watches it until it is gone; it grew from `begun`, while the broker was away for so long.
    #[expect(clippy::disallowed_methods, reason = "a benchmark keeps time")]
    fn watch(admin: SocketAddr, begun: Lag, away: Duration) -> Result<Self> {
        let watched = now();
        let mut most = begun;
        loop {
            let lag = Lag::now(admin)?;
            if lag.events >= most.events {
                most = lag;
            } else if lag.events <= DRAINED {
                let span = lag.at - most.at;
                return Ok(Self {
                    backlog: most.events,
                    arrival: (most.events - begun.events) as f64 / (most.at - begun.at).as_secs_f64(),
                    rate: (most.events - lag.events) as f64 / span.as_secs_f64(),
                    span,
                });
            }
            let left = lag.events;
            ensure!(watched.elapsed() < DRAINS_WITHIN + away, "{left} of {} events still wait", most.events);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Events that the relay has to send, as its metrics say.
fn lag(admin: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find(|line| line.starts_with("signalbox_lag_events{sink=\"relay"));
    let value = line.and_then(|line| line.rsplit(' ').next()).context("the relay has its metrics")?;
    Ok(value.parse::<f64>()? as u64)
}
