//! A cluster that does what a story says: leaders move, requests fail, the network is slow, a broker dies.

use super::connect::{SLICE, Stop, metadata};
use super::publish::{KafkaPublisher, open};
use crate::publisher::{Identity, LaneId, Latest, Outgoing, Publisher, Refusal, Ticket, Told};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use signalbox_base::{EventSeq, JournalId, Text};
use std::collections::HashMap;
use std::time::Duration;

type Cluster = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "signalbox.call.v1";
const STATE: &str = "signalbox.location.v1";

fn cluster() -> Cluster {
    let cluster = MockCluster::new(3).unwrap();
    for topic in [TOPIC, STATE] {
        cluster.create_topic(topic, 1, 3).unwrap();
        cluster.partition_leader(topic, 0, Some(1)).unwrap();
    }
    cluster
}

fn settings(cluster: &Cluster) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("reconnect.backoff.ms", "10000")
        .set("reconnect.backoff.max.ms", "10000")
        .set("topic.metadata.refresh.fast.interval.ms", "50");
    client
}

fn publisher(cluster: &Cluster) -> KafkaPublisher {
    let opened = open(&settings(cluster)).unwrap();
    metadata(opened.client(), || opened.trouble(), &Stop::default()).unwrap();
    let counts: HashMap<Text, i32> = [(TOPIC.into(), 1), (STATE.into(), 1)].into();
    opened.publisher(vec![(TOPIC.into(), 0)], counts)
}

fn event(n: u64) -> Outgoing {
    Outgoing {
        id: Identity { journal: JournalId(1), seq: EventSeq(n) },
        lane: LaneId(0),
        key: "acme/k".into(),
        address: TOPIC.into(),
        headers: vec![("ce_id", n.to_string().into())],
        body: n.to_string().into_bytes().into(),
        also: Vec::new(),
    }
}

async fn told(publisher: &mut KafkaPublisher) -> Told {
    let told = tokio::time::timeout(Duration::from_secs(40), publisher.told());
    told.await.expect("Kafka's client tells everything in the end")
}

/// Publishes one after the other, as the events of a key are.
async fn put(publisher: &mut KafkaPublisher, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        publisher.publish(Ticket(n), &event(n)).unwrap();
        let acked = Told::Acked { ticket: Ticket(n), place: n - 1, duplicate: false };
        assert_eq!(told(publisher).await, acked);
    }
}

/// What lies in a topic, as anybody reads it.
fn bodies(cluster: &Cluster, topic: &str, wanted: usize) -> Vec<String> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "story");
    let consumer: BaseConsumer = client.create().unwrap();
    let (_, high) = consumer.fetch_watermarks(topic, 0, Duration::from_secs(20)).unwrap();
    assert_eq!(usize::try_from(high).unwrap(), wanted, "messages in {topic}");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut bodies = Vec::new();
    while bodies.len() < wanted {
        let message = consumer.poll(Duration::from_secs(20)).expect("it was counted").unwrap();
        bodies.push(String::from_utf8(message.payload().unwrap_or(b"-").to_vec()).unwrap());
    }
    bodies
}

fn numbers(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn given_a_new_leader_when_it_is_published_on_then_all_is_stored_once_and_in_order() {
    let cluster = cluster();
    let mut publisher = publisher(&cluster);
    put(&mut publisher, 1..=5).await;
    cluster.partition_leader(TOPIC, 0, Some(2)).unwrap();
    put(&mut publisher, 6..=10).await;
    assert_eq!(bodies(&cluster, TOPIC, 10), numbers(1..=10));
}

#[tokio::test]
async fn given_requests_that_fail_for_a_moment_when_they_are_tried_again_then_nothing_is_stored_twice() {
    use RDKafkaRespErr as Error;
    let cluster = cluster();
    let mut publisher = publisher(&cluster);
    put(&mut publisher, 1..=2).await;
    let passing = [
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &passing);
    put(&mut publisher, 3..=6).await;
    assert_eq!(bodies(&cluster, TOPIC, 6), numbers(1..=6));
}

#[tokio::test]
async fn given_requests_that_are_refused_when_an_event_is_published_then_it_is_told_why() {
    use RDKafkaRespErr as Error;
    let cluster = cluster();
    for (error, refusal) in [
        (Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "not allowed"),
        (Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "1 bytes, the broker takes 2097152"),
        (Error::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "olicy"),
    ] {
        let mut publisher = publisher(&cluster);
        cluster.request_errors(RDKafkaApiKey::Produce, &[error]);
        publisher.publish(Ticket(1), &event(1)).unwrap();
        let Told::Refused { ticket: Ticket(1), why } = told(&mut publisher).await else {
            panic!("{error:?} was not told")
        };
        assert!(why.to_string().contains(refusal), "{why}");
    }
    let mut publisher = publisher(&cluster);
    publisher.publish(Ticket(1), &Outgoing { body: vec![b'x'; 3 << 20].into(), ..event(1) }).unwrap();
    let too_large = Refusal::TooLarge { bytes: 3 << 20, max: 2 << 20 };
    assert_eq!(told(&mut publisher).await, Told::Refused { ticket: Ticket(1), why: too_large });
    publisher.publish(Ticket(2), &Outgoing { lane: LaneId(7), ..event(2) }).unwrap();
    assert_eq!(told(&mut publisher).await, Told::Refused { ticket: Ticket(2), why: Refusal::NoStream });
}

#[tokio::test]
async fn given_a_slow_network_when_many_are_under_way_then_all_are_told_in_order() {
    let cluster = cluster();
    let mut publisher = publisher(&cluster);
    for broker in 1..=3 {
        cluster.broker_round_trip_time(broker, SLICE).unwrap();
    }
    for n in 1..=50 {
        publisher.publish(Ticket(n), &event(n)).unwrap();
    }
    for n in 1..=50 {
        let acked = Told::Acked { ticket: Ticket(n), place: n - 1, duplicate: false };
        assert_eq!(told(&mut publisher).await, acked);
    }
}

#[tokio::test]
async fn given_a_broker_that_dies_when_events_are_under_way_then_the_connection_is_lost_for_good() {
    let cluster = cluster();
    let mut publisher = publisher(&cluster);
    put(&mut publisher, 1..=5).await;
    for broker in 1..=3 {
        cluster.broker_down(broker).unwrap();
    }
    // It may be noticed before they are queued.
    let _ = (6..=10).try_for_each(|n| publisher.publish(Ticket(n), &event(n)));
    while !matches!(told(&mut publisher).await, Told::Lost(_)) {}
    for broker in 1..=3 {
        cluster.broker_up(broker).unwrap();
    }
    assert!(publisher.publish(Ticket(11), &event(11)).is_err());
    assert!(matches!(told(&mut publisher).await, Told::Lost(_)));
    let again = &mut self::publisher(&cluster);
    put(again, 6..=8).await;
    assert_eq!(bodies(&cluster, TOPIC, 8), numbers(1..=8));
}

#[tokio::test]
async fn given_latest_state_with_an_event_when_it_is_published_then_the_state_is_there_first() {
    let cluster = cluster();
    let mut publisher = publisher(&cluster);
    let latest = |body: Option<&'static [u8]>| Latest {
        address: STATE.into(),
        key: "acme/401/b1/edge-1".into(),
        headers: Vec::new(),
        body: body.map(bytes::Bytes::from_static),
    };
    let with = Outgoing { also: vec![latest(Some(b"here")), latest(None)], ..event(1) };
    publisher.publish(Ticket(1), &with).unwrap();
    assert_eq!(told(&mut publisher).await, Told::Acked { ticket: Ticket(1), place: 0, duplicate: false });
    assert_eq!(bodies(&cluster, STATE, 2), ["here", "-"]);
    // What cannot be stored with it is not stored without it.
    let elsewhere = Latest { address: "signalbox.nowhere.v1".into(), ..latest(None) };
    publisher.publish(Ticket(2), &Outgoing { also: vec![elsewhere], ..event(2) }).unwrap();
    assert_eq!(told(&mut publisher).await, Told::Refused { ticket: Ticket(2), why: Refusal::NoStream });
    assert_eq!(bodies(&cluster, TOPIC, 1), numbers(1..=1));
}
