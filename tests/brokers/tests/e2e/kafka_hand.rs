//! What the stories of Kafka have in common: a relay's hands on a connection, and a plain reader.

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use signalbox_base::JournalId;
use signalbox_brokers::Kafka;
use signalbox_brokers::conformance::Pen;
use signalbox_bus::kafka::{Config, KafkaBroker, KafkaBus};
use signalbox_bus::publisher::{Broker, Connection, Encoder, Failure, LaneFound, LaneSaved, Ticket, Told};
use signalbox_bus::{Batch, Bus, Delivered, FileHints, Request, Source, Start, Subscription};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Only what never comes takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

pub(crate) fn source() -> Source {
    Source { cluster: "test".into(), edge: "edge-1".into(), journal: JournalId(1) }
}

/// Events of several keys and two domains.
pub(crate) fn mixed(pen: &mut Pen, count: usize) -> Vec<Delivered> {
    let kinds = ["call.routed.v1", "security.blocked.v1"];
    (0..count).map(|n| pen.event(kinds[n % 2], "acme", &format!("k_{}", n % 7), 1)).collect()
}

/// A connection as a relay has it.
pub(crate) struct Line {
    pub(crate) connection: Connection,
    encoder: Box<dyn Encoder>,
    /// Of each acknowledged event: lane and place.
    pub(crate) saved: Vec<LaneSaved>,
    tickets: u64,
}

impl Line {
    pub(crate) async fn open(broker: &KafkaBroker) -> Result<Self, Failure> {
        let connection = in_time("a connection", broker.connect()).await?;
        Ok(Self { connection, encoder: broker.encoder(), saved: Vec::new(), tickets: 0 })
    }

    /// As soon as the broker is there.
    pub(crate) async fn reopen(broker: &KafkaBroker) -> Self {
        in_time("a connection", async {
            loop {
                match Self::open(broker).await {
                    Ok(line) => return line,
                    Err(Failure::Unreachable(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await
    }

    /// Queues events.
    pub(crate) fn send(&mut self, events: &[Delivered]) -> Result<(), Failure> {
        for event in events {
            let out = self.encoder.encode(event, &self.connection.lanes).unwrap();
            self.tickets += 1;
            self.connection.publisher.publish(Ticket(self.tickets), &out)?;
        }
        Ok(())
    }

    /// Publishes one after the other and waits for each to be acknowledged.
    pub(crate) async fn put(&mut self, events: &[Delivered]) {
        for event in events {
            let out = self.encoder.encode(event, &self.connection.lanes).unwrap();
            self.tickets += 1;
            self.connection.publisher.publish(Ticket(self.tickets), &out).unwrap();
            let told = in_time("an acknowledgement", self.connection.publisher.told()).await;
            let Told::Acked { ticket, place, duplicate: false } = told else { panic!("{told:?}") };
            assert_eq!(ticket, Ticket(self.tickets));
            let lane = &self.connection.lanes[usize::from(out.lane.0)];
            self.saved.retain(|saved| *saved.name != *lane.name);
            self.saved.push(LaneSaved {
                name: lane.name.to_string(),
                incarnation: lane.incarnation.to_string(),
                place,
                journal: event.source.journal.to_string(),
                seq: event.seq.0,
            });
        }
    }

    /// Hears of acknowledgements until the connection is lost.
    pub(crate) async fn until_lost(&mut self) {
        let listening = async { while !matches!(self.connection.publisher.told().await, Told::Lost(_)) {} };
        in_time("the loss of the connection", listening).await;
    }

    pub(crate) async fn ends(&mut self, known: &[LaneSaved]) -> Vec<LaneFound> {
        in_time("the ends", self.connection.own.ends(&source(), known)).await.unwrap()
    }
}

/// Numbers of events found above, of all lanes.
pub(crate) fn above(found: &[LaneFound]) -> Vec<u64> {
    let mut seqs: Vec<u64> = found.iter().flat_map(|lane| &lane.above).map(|found| found.id.seq.0).collect();
    seqs.sort_unstable();
    seqs
}

/// A subscription to everything, from the beginning.
pub(crate) async fn reader(config: Config, dir: &Path) -> Box<dyn Subscription> {
    let bus = KafkaBus::new(config, Arc::new(FileHints::new(dir)));
    let request = Request {
        name: None,
        filter: signalbox_bus::Filter::default(),
        start: Start::Beginning,
        linger: Duration::ZERO,
    };
    in_time("a subscription", bus.subscribe(request)).await.unwrap()
}

pub(crate) async fn read(subscription: &mut dyn Subscription, wanted: usize) -> Vec<Delivered> {
    let mut events = Vec::new();
    while events.len() < wanted {
        let batch: Batch = in_time("a batch", subscription.next_batch(100)).await.unwrap();
        events.extend(batch.events);
    }
    events
}

/// All records of a topic with three partitions, as anybody reads them: key and value.
pub(crate) fn records(kafka: &Kafka, topic: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let mut client = kafka.client();
    client.set("group.id", "story").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = client.create().unwrap();
    let (mut list, mut left) = (TopicPartitionList::new(), 0);
    for partition in 0..3 {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        left += high - low;
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut records = Vec::new();
    while left > 0 {
        let message = consumer.poll(PATIENCE).expect("it was counted").unwrap();
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        records.push((key, message.payload().map(<[u8]>::to_vec)));
        left -= 1;
    }
    records
}
