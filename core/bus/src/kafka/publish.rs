//! Publishing on one connection: idempotent, partitions chosen by us, given up at the first sign of a break.
//!
//! Latest state goes first and its event follows when that is stored: an event that the broker has is never sent again,
//! so whatever belongs to it must be there before.

use super::connect::{Ears, MESSAGE_MAX, REQUEST, failed, log, not_made};
use super::topics::Topics;
use crate::publisher::{Failure, Latest, Outgoing, Publisher, Refusal, Ticket, Told};
use crate::subscription::BoxFuture;
use crate::wire::{LOCATION_TOPIC, partition};
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use signalbox_base::Text;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A record under way.
pub(super) struct Part {
    ticket: Ticket,
    /// The event itself, no latest state.
    event: bool,
    bytes: usize,
}

/// What became of it.
enum News {
    Stored { ticket: Ticket, event: bool, place: u64 },
    Refused { ticket: Ticket, why: Refusal },
    Lost(Text),
}

/// The client's callbacks, on its thread.
pub(super) struct Mouth {
    ears: Ears,
    news: mpsc::UnboundedSender<News>,
}

impl ClientContext for Mouth {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(failure) = self.ears.hear(&error, reason) {
            let _ = self.news.send(News::Lost(failure.to_string().into()));
        }
    }
}

impl ProducerContext for Mouth {
    type DeliveryOpaque = Box<Part>;

    fn delivery(&self, told: &DeliveryResult<'_>, part: Box<Part>) {
        let Part { ticket, event, bytes } = *part;
        let news = match told {
            Ok(message) => match u64::try_from(message.offset()) {
                Ok(place) => News::Stored { ticket, event, place },
                Err(_) => News::Lost("an acknowledgement without a place".into()),
            },
            Err((error, _)) => not_stored(ticket, error, bytes),
        };
        let _ = self.news.send(news);
    }
}

/// Who refused it, or that the connection is no good any more.
fn not_stored(ticket: Ticket, error: &KafkaError, bytes: usize) -> News {
    use RDKafkaErrorCode as Code;
    let max = MESSAGE_MAX.parse().unwrap_or(usize::MAX);
    let refused = |why| News::Refused { ticket, why };
    match error.rdkafka_error_code() {
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
            refused(Refusal::TooLarge { bytes, max })
        }
        Some(
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::InvalidTopic,
        ) => refused(Refusal::NoStream),
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            refused(Refusal::NotAllowed(error.to_string().into()))
        }
        Some(
            Code::PolicyViolation | Code::InvalidTimestamp | Code::InvalidRecord | Code::NotEnoughReplicas,
        ) => refused(Refusal::Other(error.to_string().into())),
        _ => News::Lost(error.to_string().into()),
    }
}

/// A producer, not yet connected.
pub(super) struct Opened {
    producer: ThreadedProducer<Mouth>,
    news: mpsc::UnboundedReceiver<News>,
}

/// Makes the producer.
pub(super) fn open(settings: &ClientConfig) -> Result<Opened, Failure> {
    let (tell, news) = mpsc::unbounded_channel();
    let mut client = settings.clone();
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "zstd")
        .set("linger.ms", "2")
        .set("message.max.bytes", MESSAGE_MAX)
        // Longer than the relay waits for an acknowledgement: it is the relay that gives up.
        .set("message.timeout.ms", "30000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("queue.buffering.max.messages", "100000");
    let mouth = Mouth { ears: Ears::default(), news: tell };
    let producer = client.create_with_context(mouth).map_err(|error| not_made(&error))?;
    Ok(Opened { producer, news })
}

impl Opened {
    /// The client, for questions.
    pub(super) fn client(&self) -> &Client<Mouth> {
        self.producer.client()
    }

    /// The first sign of trouble.
    pub(super) fn trouble(&self) -> Option<Failure> {
        self.client().context().ears.trouble()
    }

    /// Whether we may publish, asked without storing anything: a compacted topic takes no message without a key. What is
    /// missing, and what to do.
    pub(super) async fn no_right(mut self, there: &Topics) -> Result<Option<String>, Failure> {
        if !there.contains_key(LOCATION_TOPIC) {
            return Ok(None);
        }
        let part = Box::new(Part { ticket: Ticket(0), event: false, bytes: 0 });
        let probe = BaseRecord::<(), (), _>::with_opaque_to(LOCATION_TOPIC, part).partition(0);
        let no_right = |why: &str| {
            format!(
                "no right to publish: allow the user Write on topics whose names begin with signalbox. ({why})"
            )
        };
        let told = match self.producer.send(probe) {
            Ok(()) => tokio::time::timeout(REQUEST, self.news.recv()).await,
            Err((error, _)) => Ok(Some(News::Lost(error.to_string().into()))),
        };
        // Who may write nothing is not even given a producer's number.
        let fatal = self.client().fatal_error();
        match (told, fatal) {
            (_, Some((RDKafkaErrorCode::ClusterAuthorizationFailed, why))) => Ok(Some(no_right(&why))),
            (Ok(Some(News::Refused { why: Refusal::NotAllowed(why), .. })), _) => Ok(Some(no_right(&why))),
            (Ok(Some(News::Lost(why))), _) => Err(Failure::Unreachable(why)),
            (Ok(_), _) => Ok(None),
            (Err(_), _) => Err(Failure::Unreachable("nothing is answered to what is published".into())),
        }
    }

    /// To publish with: partitions by lane, and their count by topic.
    pub(super) fn publisher(self, lanes: Vec<(Text, i32)>, counts: HashMap<Text, i32>) -> KafkaPublisher {
        KafkaPublisher {
            producer: Some(self.producer),
            news: self.news,
            lanes,
            counts,
            waiting: HashMap::new(),
        }
    }
}

/// [`Publisher`] on Kafka.
pub(super) struct KafkaPublisher {
    producer: Option<ThreadedProducer<Mouth>>,
    news: mpsc::UnboundedReceiver<News>,
    lanes: Vec<(Text, i32)>,
    counts: HashMap<Text, i32>,
    /// Events whose latest state is under way, and how many records of that.
    waiting: HashMap<Ticket, (Arc<Outgoing>, usize)>,
}

impl KafkaPublisher {
    fn send(
        &self,
        part: Part,
        (topic, partition): (&str, i32),
        key: &Text,
        headers: &[(&'static str, Text)],
        body: Option<&[u8]>,
    ) -> Result<Option<News>, Failure> {
        let gone = || Failure::Unreachable("the connection is broken".into());
        let producer = self.producer.as_ref().ok_or_else(gone)?;
        let (ticket, bytes) = (part.ticket, part.bytes);
        let with = OwnedHeaders::new_with_capacity(headers.len());
        let with = headers
            .iter()
            .fold(with, |all, (key, value)| all.insert(Header { key, value: Some(value.as_bytes()) }));
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(part))
            .key(key.as_bytes())
            .partition(partition)
            .headers(with);
        if let Some(body) = body {
            record = record.payload(body);
        }
        match producer.send(record) {
            Ok(()) => Ok(None),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                Err(failed("the client's queue", &error))
            }
            Err((error, _)) => match not_stored(ticket, &error, bytes) {
                News::Lost(why) => Err(Failure::Unreachable(why)),
                news => Ok(Some(news)),
            },
        }
    }

    fn send_event(&self, ticket: Ticket, event: &Outgoing) -> Result<Option<News>, Failure> {
        let Some((topic, partition)) = self.lanes.get(usize::from(event.lane.0)) else {
            return Ok(Some(News::Refused { ticket, why: Refusal::NoStream }));
        };
        let part = Part { ticket, event: true, bytes: event.body.len() };
        self.send(part, (topic, *partition), &event.key, &event.headers, Some(&event.body))
    }

    fn send_latest(&self, ticket: Ticket, latest: &Latest) -> Result<Option<News>, Failure> {
        let Some(count) = self.counts.get(&latest.address) else {
            return Ok(Some(News::Refused { ticket, why: Refusal::NoStream }));
        };
        let place = (&*latest.address, partition(latest.key.as_bytes(), *count));
        let part = Part { ticket, event: false, bytes: latest.body.as_ref().map_or(0, bytes::Bytes::len) };
        self.send(part, place, &latest.key, &latest.headers, latest.body.as_deref())
    }

    /// What is to be told of it, if anything.
    fn take(&mut self, news: News) -> Option<Told> {
        match news {
            News::Stored { ticket, event: true, place } => {
                Some(Told::Acked { ticket, place, duplicate: false })
            }
            News::Stored { ticket, .. } => {
                let (_, left) = self.waiting.get_mut(&ticket)?;
                *left -= 1;
                if *left > 0 {
                    return None;
                }
                let (event, _) = self.waiting.remove(&ticket)?;
                match self.send_event(ticket, &event) {
                    Ok(None) => None,
                    Ok(Some(News::Refused { ticket, why })) => Some(Told::Refused { ticket, why }),
                    Ok(Some(_)) => Some(self.lost("the client told what it cannot know".into())),
                    Err(failure) => Some(self.lost(failure.to_string().into())),
                }
            }
            News::Refused { ticket, why } => {
                self.waiting.remove(&ticket);
                Some(Told::Refused { ticket, why })
            }
            News::Lost(why) => Some(self.lost(why)),
        }
    }

    /// Nothing that is queued or under way may be sent any more, least of all after a reconnect.
    fn lost(&mut self, why: Text) -> Told {
        self.waiting.clear();
        self.give_up();
        Told::Lost(why)
    }

    fn give_up(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
    }
}

impl Drop for KafkaPublisher {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&mut self, ticket: Ticket, event: &Outgoing) -> Result<(), Failure> {
        let mut refused = None;
        if event.also.is_empty() {
            refused = self.send_event(ticket, event)?;
        } else {
            self.waiting.insert(ticket, (Arc::new(event.clone()), event.also.len()));
            for latest in &event.also {
                refused = refused.or(self.send_latest(ticket, latest)?);
            }
        }
        if let (Some(news), Some(producer)) = (refused, &self.producer) {
            // Told in its turn, like what the broker refuses.
            let _ = producer.context().news.send(news);
        }
        Ok(())
    }

    fn told(&mut self) -> BoxFuture<'_, Told> {
        Box::pin(async move {
            if self.producer.is_none() {
                return Told::Lost("the connection is broken".into());
            }
            loop {
                let Some(news) = self.news.recv().await else {
                    return self.lost("the client has ended".into());
                };
                if let Some(told) = self.take(news) {
                    return told;
                }
            }
        })
    }
}
