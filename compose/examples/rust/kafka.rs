//! Prints call events from Kafka: arguments are the bootstrap servers and how many. In a crate of your own: `cargo add rdkafka`.
#![allow(clippy::print_stdout, reason = "that is what it is for")]
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, error::KafkaError, message::Headers, message::Message};
use std::collections::{HashMap, HashSet};

fn main() -> Result<(), KafkaError> {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().unwrap_or("127.0.0.1:9092".into());
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(usize::MAX);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "call-printer-rust");
    config.set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let (consumer, mut seen) = (config.create::<BaseConsumer>()?, HashSet::new());
    consumer.subscribe(&["signalbox.call.v1"])?;
    for message in consumer.iter().take(count) {
        let message = message?;
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        let attribute =
            headers.filter_map(|header| Some((header.key.strip_prefix("ce_")?, text(header.value))));
        let event: HashMap<&str, String> = attribute.collect();
        if seen.insert((event["source"].clone(), event["sequence"].clone())) {
            println!("{} {} {} {}", event["id"], event["type"], event["tenantid"], event["subject"]);
        } // else it was delivered twice, as every bus may; `message.payload()` is the event's data as JSON
        consumer.commit_message(&message, CommitMode::Sync)?;
    }
    Ok(())
}
