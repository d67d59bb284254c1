//! Edges that say that they live: one small topic, nothing of it kept for long, none of it in order.

use super::Config;
use super::begin::assign;
use super::connect::{Ears, SLICE, apart, failed, not_made, reader, settings};
use super::own::{bounds, harmless};
use super::topics;
use crate::publisher::Failure;
use crate::wire::HEARTBEAT_TOPIC;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use signalbox_base::Text;
use tokio::sync::mpsc;

/// Heartbeats that wait for who listens; more are lost, newer ones follow.
const WAITING: usize = 1_024;

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose: the cluster and the edge, as the sender named them.
    pub key: Text,
    /// What it says.
    pub body: Vec<u8>,
}

/// Sends heartbeats. They may be lost: nobody waits for an acknowledgement, and the next one follows.
pub struct Heartbeats {
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Heartbeats {
    /// A client for it; it connects by itself, also again.
    ///
    /// # Errors
    /// [`Failure::Misfit`] for settings that contradict each other.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let mut client = settings(config)?;
        client
            .set("acks", "1")
            .set("reconnect.backoff.ms", "500")
            .set("queue.buffering.max.messages", "1000")
            // An old one is worth nothing.
            .set("message.timeout.ms", "5000");
        let producer =
            client.create_with_context(DefaultProducerContext).map_err(|error| not_made(&error))?;
        Ok(Self { producer })
    }

    /// Queues one; never waits.
    ///
    /// # Errors
    /// The client does not take it.
    pub fn send(&self, key: &str, body: &[u8]) -> Result<(), Failure> {
        let record = BaseRecord::<[u8], [u8]>::to(HEARTBEAT_TOPIC).key(key.as_bytes()).payload(body);
        self.producer.send(record).map_err(|(error, _)| failed("a heartbeat", &error))
    }
}

/// Heartbeats from now on, until the receiver is dropped or the connection breaks; then the channel ends.
///
/// # Errors
/// There is no connection, or no topic.
pub async fn heartbeats(config: &Config) -> Result<mpsc::Receiver<Heartbeat>, Failure> {
    let config = config.clone();
    let consumer = apart(move |stop| {
        let (consumer, metadata) = reader(&settings(&config)?, stop)?;
        let there = topics::there(&metadata);
        let partitions = there.get(HEARTBEAT_TOPIC).map_or(0, |topic| topic.partitions);
        if partitions == 0 {
            return Err(Failure::Misfit(vec![format!("topic {HEARTBEAT_TOPIC} is missing")]));
        }
        let lanes: Vec<(Text, i32)> = (0..partitions).map(|p| (HEARTBEAT_TOPIC.into(), p)).collect();
        let ends = bounds(&consumer, &lanes)?;
        assign(&consumer, lanes.iter().zip(&ends).map(|(lane, (_, end))| (lane, *end)))?;
        Ok(consumer)
    });
    let consumer = consumer.await?;
    let (tell, told) = mpsc::channel(WAITING);
    let spawned = std::thread::Builder::new()
        .name("kafka-heartbeats".to_owned())
        .spawn(move || listen(&consumer, &tell));
    spawned.map_err(|error| Failure::Unreachable(format!("no thread: {error}").into()))?;
    Ok(told)
}

fn listen(consumer: &rdkafka::consumer::BaseConsumer<Ears>, tell: &mpsc::Sender<Heartbeat>) {
    while !tell.is_closed() {
        match consumer.poll(SLICE) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Ok(message)) => {
                let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
                let beat = key.zip(message.payload());
                if let Some((key, body)) = beat {
                    // A full queue loses it: whoever lags does not want old ones.
                    let _ = tell.try_send(Heartbeat { key: key.into(), body: body.to_vec() });
                }
            }
            Some(Err(error)) if harmless(&error) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "heartbeats are not heard");
                return;
            }
        }
    }
}
