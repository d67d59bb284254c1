//! Whether we may publish, asked without storing anything: an event that says it is for another stream.

use super::connect::{Link, PATIENCE};
use super::publish::NatsPublisher;
use super::streams::Want;
use crate::publisher::{Failure, Identity, LaneId, Outgoing, Publisher, Refusal, Ticket, Told};
use crate::wire::{group_of, subject};
use bytes::Bytes;
use signalbox_base::{EventSeq, JournalId, Text};

/// No stream is called that; the server compares before it stores.
const NO_STREAM: (&str, &str) = ("Nats-Expected-Stream", "SIGNALBOX_NONE");

/// What the relay of `edge` may not publish to the streams that there are, and what to do; one line each.
pub(super) async fn missing(link: Link, there: &[Want], edge: &str) -> Result<Vec<String>, Failure> {
    let mut publisher = NatsPublisher::open(link, &[]).await?;
    let mut lines = Vec::new();
    for (ticket, want) in (0..).map(Ticket).zip(there) {
        // A domain of the stream with an event that there is not.
        let Some(domain) = want.subjects.first().and_then(|subject| subject.split('.').nth(2)) else {
            continue;
        };
        let address = subject(&format!("{domain}.checked.v1"), "", edge);
        debug_assert_eq!(group_of(domain).stream, want.stream);
        publisher.publish(ticket, &probe(&address))?;
        let told = tokio::time::timeout(PATIENCE, publisher.told()).await;
        match told {
            Ok(Told::Refused { why: Refusal::NotAllowed(_), .. }) => lines.push(format!(
                "no right to publish to {address}: give the user that right for signalbox.v1.*.*.*.{}",
                address.rsplit('.').next().unwrap_or_default()
            )),
            Ok(Told::Lost(why)) => return Err(Failure::Unreachable(why)),
            Ok(Told::Refused { .. } | Told::Acked { .. }) => {}
            Err(_) => lines.push(format!(
                "nothing is answered to what is published to {address}: let the user subscribe to _INBOX.>"
            )),
        }
    }
    Ok(lines)
}

fn probe(address: &str) -> Outgoing {
    Outgoing {
        id: Identity { journal: JournalId(0), seq: EventSeq(0) },
        lane: LaneId(0),
        key: Text::default(),
        address: address.into(),
        headers: vec![(NO_STREAM.0, NO_STREAM.1.into())],
        body: Bytes::new(),
        also: Vec::new(),
    }
}
