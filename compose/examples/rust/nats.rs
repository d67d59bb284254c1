//! Prints call events from NATS JetStream: arguments are the URL and how many.
//! In a crate of your own: `cargo add async-nats futures-util serde_json && cargo add tokio --features full`.
#![allow(clippy::print_stdout, reason = "that is what it is for")]
use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use futures_util::StreamExt;
use std::collections::HashSet;

#[tokio::main]
async fn main() -> Result<(), async_nats::Error> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or("nats://127.0.0.1:4222".into());
    let count: usize = arguments.next().map_or(Ok(0), |count| count.parse())?;
    let stream = jetstream::new(async_nats::connect(url).await?).get_stream("SIGNALBOX_CALL").await?;
    // It leaves nothing on the server. To go on after a restart, keep `message.info()?.stream_sequence` with what you
    // made of it and begin behind it: `deliver_policy: DeliverPolicy::ByStartSequence { start_sequence }`.
    let wanted = OrderedConfig { filter_subject: "signalbox.v1.call.>".into(), ..Default::default() };
    let (mut messages, mut seen) = (stream.create_consumer(wanted).await?.messages().await?, HashSet::new());
    while let Some(message) = messages.next().await {
        let event: serde_json::Value = serde_json::from_slice(&message?.payload)?;
        if seen.insert((event["source"].to_string(), event["sequence"].to_string())) {
            println!("{} {} {} {}", event["id"], event["type"], event["tenantid"], event["subject"]);
        } // else it was delivered twice, as every bus may
        if seen.len() == count {
            break;
        }
    }
    Ok(())
}
