//! Publishing over one connection: an inbox of our own takes the acknowledgements as one stream, in the server's order.

use super::connect::Link;
use crate::publisher::{Failure, LaneId, LaneName, Outgoing, Publisher, Refusal, Ticket, Told};
use crate::subscription::BoxFuture;
use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use signalbox_base::Text;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use tokio::sync::mpsc;

/// Publishes to the streams of one connection.
pub(super) struct NatsPublisher {
    link: Link,
    refused: mpsc::UnboundedReceiver<Text>,
    lanes: Vec<LaneName>,
    inbox: String,
    acks: Subscriber,
    under_way: HashMap<u64, (LaneId, Text), foldhash::fast::FixedState>,
    /// The largest event that the server takes, bytes.
    max: usize,
    /// Refused before they were sent.
    told: VecDeque<Told>,
    lost: Option<Text>,
}

/// What JetStream answers.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<super::api::ApiError>,
}

impl NatsPublisher {
    pub(super) async fn open(mut link: Link, lanes: &[LaneName]) -> Result<Self, Failure> {
        let inbox = link.client.new_inbox();
        let unreachable = |error: &dyn std::fmt::Display| Failure::Unreachable(error.to_string().into());
        let acks = link.client.subscribe(format!("{inbox}.*")).await.map_err(|error| unreachable(&error))?;
        // The server knows the inbox before the first event is sent, or has refused it.
        let flushed = link.or_broken(link.client.flush()).await?;
        flushed.map_err(|error| unreachable(&error))?;
        let refused = link.refused.take().unwrap_or_else(|| mpsc::unbounded_channel().1);
        let (under_way, told) = (HashMap::default(), VecDeque::new());
        let max = link.client.server_info().max_payload;
        Ok(Self { link, refused, lanes: lanes.to_vec(), inbox, acks, under_way, max, told, lost: None })
    }

    fn send(&mut self, ticket: Ticket, event: &Outgoing) -> Result<(), Failure> {
        let max = self.max;
        let bytes = size(event);
        if bytes > max {
            let why = Refusal::TooLarge { bytes, max };
            self.told.push_back(Told::Refused { ticket, why });
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &event.headers {
            headers.insert(*name, &**value);
        }
        let (subject, reply) = (event.address.to_string(), format!("{}.{}", self.inbox, ticket.0));
        let sending =
            self.link.client.publish_with_reply_and_headers(subject, reply, headers, event.body.clone());
        // Its queue is as long as two windows, so it takes this at once; a budget of the runtime must not say otherwise.
        match tokio::task::unconstrained(sending).now_or_never() {
            Some(Ok(())) => {
                self.under_way.insert(ticket.0, (event.lane, event.address.clone()));
                Ok(())
            }
            Some(Err(error)) => Err(Failure::Unreachable(error.to_string().into())),
            None => Err(Failure::Unreachable("the client's queue is full".into())),
        }
    }

    async fn next(&mut self) -> Told {
        loop {
            if let Some(told) = self.told.pop_front() {
                return told;
            }
            if let Some(why) = &self.lost {
                return Told::Lost(why.clone());
            }
            tokio::select! {
                biased;
                message = self.acks.next() => match message {
                    Some(message) => {
                        if let Some(told) = self.read(&message) {
                            return told;
                        }
                    }
                    None => self.lost = Some("the connection has ended".into()),
                },
                Some(subject) = self.refused.recv() => {
                    if let Some(told) = self.not_allowed(&subject) {
                        return told;
                    }
                }
                why = self.link.broken() => self.lost = Some(why.to_string().into()),
            }
        }
    }

    /// The meaning of an answer; `None` for one that nobody waits for.
    fn read(&mut self, message: &Message) -> Option<Told> {
        let ticket: u64 = message.subject.rsplit('.').next()?.parse().ok()?;
        let (lane, _) = self.under_way.remove(&ticket)?;
        let ticket = Ticket(ticket);
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Some(Told::Refused { ticket, why: Refusal::NoStream });
        }
        let why = match serde_json::from_slice::<Answer<'_>>(&message.payload) {
            Ok(Answer { error: Some(error), .. }) => refusal(&error),
            Ok(answer)
                if self.lanes.get(usize::from(lane.0)).is_some_and(|lane| *lane.name == *answer.stream) =>
            {
                return Some(Told::Acked { ticket, place: answer.seq, duplicate: answer.duplicate });
            }
            Ok(answer) => {
                Refusal::Other(format!("stream {} took it, which is not ours", answer.stream).into())
            }
            Err(error) => Refusal::Other(format!("the answer is none of JetStream's: {error}").into()),
        };
        Some(Told::Refused { ticket, why })
    }

    /// The server names the subject only: it means the first one that was sent there.
    fn not_allowed(&mut self, subject: &Text) -> Option<Told> {
        let sent = self.under_way.iter().filter(|(_, (_, address))| address == subject);
        let ticket = *sent.map(|(ticket, _)| ticket).min()?;
        self.under_way.remove(&ticket);
        let why = Refusal::NotAllowed(format!("publishing to {subject}").into());
        Some(Told::Refused { ticket: Ticket(ticket), why })
    }
}

impl Publisher for NatsPublisher {
    fn publish(&mut self, ticket: Ticket, event: &Outgoing) -> Result<(), Failure> {
        match &self.lost {
            Some(why) => Err(Failure::Unreachable(why.clone())),
            None => self.send(ticket, event),
        }
    }

    fn told(&mut self) -> BoxFuture<'_, Told> {
        Box::pin(self.next())
    }
}

/// What the server counts: headers as they are written, and the body.
fn size(event: &Outgoing) -> usize {
    const OPENING_AND_END: usize = "NATS/1.0\r\n\r\n".len();
    let headers = event.headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    OPENING_AND_END + headers.sum::<usize>() + event.body.len()
}

fn refusal(error: &super::api::ApiError) -> Refusal {
    let said = &error.description;
    match error.err_code {
        // The store's own word follows the code: bytes or messages.
        10_077 if said.contains("maximum") => Refusal::Full,
        // Resources or storage of the server or the account are used up.
        10_023 | 10_047 | 10_122 => Refusal::Full,
        10_054 => Refusal::TooLarge { bytes: 0, max: 0 },
        10_059 | 10_060 => Refusal::NoStream,
        _ => Refusal::Other(said.as_str().into()),
    }
}
