//! What the suite needs of a real Kafka, but the product's reader.

use super::{Broker, Provider};
use crate::kafka::{Kafka, Lease, lease};
use crate::place::Copied;
use crate::server::Server;
use futures_util::future::join_all;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord};
use signalbox_base::{EventSeq, JournalId};
use signalbox_bus::publisher::{Encoder, LaneName, Outgoing};
use signalbox_bus::wire::{GROUPS, KafkaEncoder, State, Wanted, lane_name, split_lane, topic};
use signalbox_bus::{Bus, Delivered, Source};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How the product reads from a broker; `dir` is for what it keeps outside.
pub trait Open {
    /// The bus.
    fn open(kafka: &Kafka, dir: &Path) -> Arc<dyn Bus>;
}

/// A broker with the product's topics, and the hands of a relay on it.
pub struct OnKafka<O> {
    /// The broker.
    pub kafka: Lease,
    dir: tempfile::TempDir,
    producer: FutureProducer,
    encoder: KafkaEncoder,
    lanes: Vec<LaneName>,
    /// Of each stored event: its number, lane and place there.
    stored: Vec<(EventSeq, usize, i64)>,
    copied: Option<Copied>,
    open: PhantomData<O>,
}

/// Of each topic.
const PARTITIONS: i32 = 3;
/// Only what never comes takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

impl<O: Open> Provider for OnKafka<O> {
    async fn start() -> Self {
        let kafka = lease();
        let names: Vec<String> =
            GROUPS.iter().flat_map(|group| group.domains).map(|domain| topic(domain, None)).collect();
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| {
                NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1))
                    .set("message.timestamp.type", "LogAppendTime")
                    .set("max.message.bytes", "2097152")
            })
            .collect();
        let made = admin(&kafka).create_topics(&topics, &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        kafka.settle();
        let lane = |name: &String, partition| LaneName {
            name: lane_name(name, partition).into(),
            incarnation: "".into(),
        };
        let lanes = names.iter().flat_map(|name| (0..PARTITIONS).map(move |p| lane(name, p))).collect();
        Self {
            dir: tempfile::tempdir().unwrap(),
            producer: producer(&kafka),
            encoder: KafkaEncoder::new(false, Wanted::default(), State::default()),
            lanes,
            stored: Vec::new(),
            copied: None,
            open: PhantomData,
            kafka,
        }
    }

    fn bus(&self) -> Arc<dyn Bus> {
        O::open(&self.kafka, self.dir.path())
    }

    fn source(&self) -> Source {
        Source { cluster: "test".into(), edge: "edge-1".into(), journal: JournalId(1) }
    }

    async fn put(&mut self, events: &[Delivered]) {
        for chunk in events.chunks(1_000) {
            let outgoing: Vec<Outgoing> =
                chunk.iter().map(|event| self.encoder.encode(event, &self.lanes).unwrap()).collect();
            let sent = outgoing.iter().map(|out| {
                let (topic, partition) = split_lane(&self.lanes[usize::from(out.lane.0)].name).unwrap();
                assert_eq!(topic, &*out.address);
                let headers = out.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
                self.send(topic, partition, &out.key, headers, Some(&out.body))
            });
            for (out, offset) in outgoing.iter().zip(stored(sent).await) {
                self.stored.push((out.id.seq, usize::from(out.lane.0), offset));
            }
        }
    }
}

impl<O: Open> Broker for OnKafka<O> {
    async fn put_again(&mut self, events: &[Delivered]) {
        self.put(events).await;
    }

    async fn put_foreign(&mut self, beside: &Delivered) -> usize {
        let ours = self.encoder.encode(beside, &self.lanes).unwrap();
        let (topic, partition) = split_lane(&self.lanes[usize::from(ours.lane.0)].name).unwrap();
        let replay = KafkaEncoder::replay("r-1").headers(beside, &ours.key);
        let mut other = ours.headers.clone();
        for (name, value) in &mut other {
            if *name == "ce_type" {
                *value = "com.example.order.created".into();
            }
        }
        let json = |body| (vec![("content-type", "application/cloudevents+json".into())], body);
        let messages = [
            (vec![], Some(&b"not json"[..])),
            (vec![], None),
            (ours.headers.clone(), None),
            (ours.headers[..3].to_vec(), Some(&b"{}"[..])),
            json(Some(&b"{\"specversion\":"[..])),
            json(Some(&b"\xff\xfe"[..])),
            (other, Some(&b"{}"[..])),
            (replay, Some(&b"{}"[..])),
        ];
        for (headers, body) in &messages {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            stored([self.send(topic, partition, &ours.key, headers, *body)]).await;
        }
        messages.len()
    }

    async fn expire(&mut self, before: EventSeq) {
        let mut firsts: HashMap<usize, i64> = HashMap::new();
        for (_, lane, offset) in self.stored.iter().filter(|(seq, _, _)| *seq < before) {
            let first = firsts.entry(*lane).or_default();
            *first = (*first).max(offset + 1);
        }
        let mut offsets = TopicPartitionList::new();
        for (lane, offset) in firsts {
            let (topic, partition) = split_lane(&self.lanes[lane].name).unwrap();
            offsets.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
        }
        let gone = admin(&self.kafka).delete_records(&offsets, &AdminOptions::new()).await.unwrap();
        assert!(gone.elements().iter().all(|partition| partition.error().is_ok()), "{gone:?}");
    }

    fn kill(&mut self) {
        self.kafka.kill9();
    }

    async fn start_again(&mut self) {
        self.kafka.start_again();
        self.producer = producer(&self.kafka);
    }

    async fn copy(&mut self) {
        self.copied = Some(self.kafka.copy());
        self.producer = producer(&self.kafka);
    }

    async fn roll_back(&mut self) {
        let copied = self.copied.as_ref().expect("a copy was taken");
        self.kafka.roll_back(copied);
        self.producer = producer(&self.kafka);
    }
}

impl<O> OnKafka<O> {
    /// Queues a record, in the order of the calls.
    fn send<'a>(
        &self,
        topic: &str,
        partition: i32,
        key: &str,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        body: Option<&[u8]>,
    ) -> DeliveryFuture {
        let headers = headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut record = FutureRecord::to(topic).partition(partition).key(key).headers(headers);
        if let Some(body) = body {
            record = record.payload(body);
        }
        self.producer.send_result(record).expect("the queue has room")
    }
}

/// The offsets at which the records lie.
async fn stored(sent: impl IntoIterator<Item = DeliveryFuture>) -> Vec<i64> {
    let told = join_all(sent).await.into_iter();
    told.map(|told| told.expect("the producer lives").expect("Kafka takes it").offset).collect()
}

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    kafka.client().create().expect("the settings are well-formed")
}

fn producer(kafka: &Kafka) -> FutureProducer {
    let mut client = kafka.client();
    client
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("message.max.bytes", "2097152")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string());
    client.create().expect("the settings are well-formed")
}
