//! Prints call events from Kafka: arguments are the bootstrap servers and how many. In a crate of your own: `cargo add rdkafka`.
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, error::KafkaError, message::Headers, message::Message};
use std::collections::{HashMap, HashSet};

fn main() -> Result<(), KafkaError> {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().unwrap_or("127.0.0.1:9092".into());
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "call-printer-rust");
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let (consumer, mut seen) = (config.create::<BaseConsumer>()?, HashSet::new());
    consumer.subscribe(&["signalbox.call.v1"])?;
    for message in consumer.iter() {
        let message = message?;
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let event: HashMap<&str, String> = headers.map(|header| (header.key, text(header.value))).collect();
        if seen.insert((event["ce_source"].clone(), event["ce_sequence"].clone())) {
            println!("{} {} {} {}", event["ce_id"], event["ce_type"], event["ce_tenantid"], event["ce_subject"]);
        } // else it was delivered twice, as every bus may; `message.payload()` is the event's data as JSON
        consumer.commit_message(&message, CommitMode::Sync)?;
        if seen.len() == count {
            break;
        }
    }
    Ok(())
}
