//! Requests to JetStream, and pulling messages from a consumer that leaves nothing behind.

use super::connect::{Link, PATIENCE};
use crate::publisher::Failure;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::{self, stream::RawMessageErrorKind};
use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The API of one account over one connection.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) link: Link,
}

/// Why a request has no answer that can be used.
pub(super) enum Trouble {
    /// The server's own word.
    Api(ApiError),
    /// There is no answer.
    Failure(Failure),
}

/// An error as JetStream tells it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl Trouble {
    /// As a reason for no connection; `what` was asked for.
    pub(super) fn failure(self, what: &str) -> Failure {
        match self {
            Self::Failure(failure) => failure,
            Self::Api(error) if matches!(error.err_code, 10_039 | 10_076) => {
                Failure::Misfit(vec![no_jetstream()])
            }
            Self::Api(error) => Failure::Unreachable(format!("{what}: {}", error.description).into()),
        }
    }
}

fn no_jetstream() -> String {
    "JetStream is not enabled on the server, or not for this account: set jetstream { store_dir: … } in its \
     configuration"
        .to_owned()
}

/// A message that lies in a stream.
pub(super) struct Stored {
    pub(super) place: u64,
    pub(super) payload: Bytes,
    /// When it was stored, ns since 1970.
    pub(super) time: i64,
}

impl Api {
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }

    /// One request, at most [`PATIENCE`].
    pub(super) async fn call(&self, what: &str, body: &Value) -> Result<Value, Trouble> {
        let request = self.link.client.request(format!("$JS.API.{what}"), body.to_string().into());
        let answer = self.link.or_broken(request).await.map_err(Trouble::Failure)?;
        let message = answer.map_err(|error| {
            Trouble::Failure(match error.kind() {
                RequestErrorKind::NoResponders => Failure::Misfit(vec![no_jetstream()]),
                _ => Failure::Unreachable(format!("{what}: {error}").into()),
            })
        })?;
        let mut answer: Value = serde_json::from_slice(&message.payload)
            .map_err(|error| Trouble::Failure(Failure::Unreachable(format!("{what}: {error}").into())))?;
        match answer.get_mut("error").map(Value::take) {
            Some(error) => Err(Trouble::Api(serde_json::from_value(error).unwrap_or_default())),
            None => Ok(answer),
        }
    }

    /// The message at a place, from the stream's leader; `None` when there is none.
    pub(super) async fn at(&self, stream: &str, place: u64) -> Result<Option<Stored>, Failure> {
        self.get(stream, |stream| async move { stream.get_raw_message(place).await }).await
    }

    /// The last message on a subject, which may have wildcards, from the stream's leader.
    pub(super) async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Failure> {
        self.get(stream, |stream| async move { stream.get_last_raw_message_by_subject(subject).await }).await
    }

    /// The first message at or above a place.
    pub(super) async fn from(&self, stream: &str, place: u64) -> Result<Option<Stored>, Failure> {
        self.get(stream, |stream| async move { stream.get_first_raw_message_by_subject(">", place).await })
            .await
    }

    async fn get<F, R>(&self, name: &str, get: F) -> Result<Option<Stored>, Failure>
    where
        F: FnOnce(jetstream::stream::Stream<()>) -> R,
        R: Future<Output = Result<jetstream::message::StreamMessage, jetstream::stream::RawMessageError>>,
    {
        let failed =
            |error: &dyn std::fmt::Display| Failure::Unreachable(format!("stream {name}: {error}").into());
        let context = jetstream::new(self.link.client.clone());
        let stream = context.get_stream_no_info(name).await.map_err(|error| failed(&error))?;
        match self.link.or_broken(get(stream)).await? {
            Ok(message) => {
                let nanos = message.time.unix_timestamp_nanos();
                let time = i64::try_from(nanos).unwrap_or_default();
                Ok(Some(Stored { place: message.sequence, payload: message.payload, time }))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Makes a consumer that goes when it is not used, and pulls from it.
    pub(super) async fn pull(&self, stream: &str, from: From, filters: &[String]) -> Result<Pull, Failure> {
        let inbox = self.link.client.new_inbox();
        let name = format!("signalbox-{}", inbox.rsplit('.').next().unwrap_or_default());
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "inactive_threshold": nanos(UNUSED),
            "mem_storage": true,
            "num_replicas": 1,
        });
        match from {
            From::Place(place) if place <= 1 => config["deliver_policy"] = "all".into(),
            From::Place(place) => {
                config["deliver_policy"] = "by_start_sequence".into();
                config["opt_start_seq"] = place.into();
            }
            From::Time(nanos) => {
                config["deliver_policy"] = "by_start_time".into();
                config["opt_start_time"] = rfc3339(nanos).into();
            }
        }
        let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
        match filters {
            [] => {}
            [one] => {
                config["filter_subject"] = one.as_str().into();
                subject = format!("{subject}.{one}");
            }
            many => config["filter_subjects"] = json!(many),
        }
        let body = json!({ "stream_name": stream, "config": config, "action": "create" });
        let what = format!("reading stream {stream}");
        let made = self.call(&subject, &body).await.map_err(|trouble| trouble.failure(&what))?;
        let same = |name: &str| made["config"][name] == config[name];
        if !same("filter_subject") || !same("filter_subjects") {
            return Err(Failure::Misfit(vec![format!("{what}: the server does not filter as it was asked")]));
        }
        let subscribed = self.link.client.subscribe(format!("{inbox}.*")).await;
        let messages = subscribed.map_err(|error| Failure::Unreachable(format!("{what}: {error}").into()))?;
        let pending = made["num_pending"].as_u64().unwrap_or(0);
        let (stream, asked, owed, last) = (stream.to_owned(), 0, 0, 0);
        let bytes = (2 * self.link.client.max_payload()).max(PULL_BYTES);
        Ok(Pull { link: self.link.clone(), stream, name, inbox, messages, pending, asked, owed, last, bytes })
    }
}

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// With the first message at or above this place.
    Place(u64),
    /// With the first message stored at or after this moment, ns since 1970.
    Time(i64),
}

/// Messages on their way at most.
const PULL: usize = 256;
/// Bytes on their way, unless the server takes larger messages.
const PULL_BYTES: usize = 4 << 20;
/// How long a request waits at the server.
const EXPIRES: Duration = Duration::from_secs(30);
/// While nothing comes, the server says so this often.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// How long the server keeps a consumer that asks for nothing: its reader was killed, or is stuck.
const UNUSED: Duration = Duration::from_secs(300);

/// A pull consumer, in order and without acknowledgements; it never goes on by itself after a break.
pub(super) struct Pull {
    link: Link,
    stream: String,
    name: String,
    inbox: String,
    messages: Subscriber,
    /// Messages that wait behind the last one.
    pub(super) pending: u64,
    /// Requests so far; the last one's answers end with its number.
    asked: u64,
    /// Messages that the last request may still bring.
    owed: usize,
    /// The consumer's own number of the last message.
    last: u64,
    bytes: usize,
}

/// A message from a stream.
pub(super) struct Pulled {
    pub(super) place: u64,
    /// When it was stored, ns since 1970.
    pub(super) time: i64,
    /// Messages that wait behind it.
    pub(super) pending: u64,
    pub(super) payload: Bytes,
}

impl Pull {
    /// The next message; waits for it as long as the server lives. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Pulled, Failure> {
        loop {
            if self.owed == 0 {
                self.ask().await?;
            }
            let silence = HEARTBEAT * 2 + PATIENCE;
            let link = self.link.clone();
            let waited = link.or_broken(tokio::time::timeout(silence, self.messages.next())).await?;
            let message = match waited {
                Err(_) => return Err(self.failed("nothing is heard of it")),
                Ok(None) => return Err(self.failed("the connection has ended")),
                Ok(Some(message)) => message,
            };
            if let Some(pulled) = self.took(message)? {
                return Ok(pulled);
            }
        }
    }

    /// A message that is here already.
    pub(super) fn ready(&mut self) -> Result<Option<Pulled>, Failure> {
        while self.owed > 0 {
            let next = tokio::task::unconstrained(self.messages.next()).now_or_never();
            let Some(Some(message)) = next else { return Ok(None) };
            if let Some(pulled) = self.took(message)? {
                return Ok(Some(pulled));
            }
        }
        Ok(None)
    }

    /// Removes the consumer. Not doing so costs the server a little memory for a while.
    pub(super) async fn remove(self) {
        let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, self.name);
        if self.link.client.publish(subject, Bytes::new()).await.is_ok() {
            let _ = tokio::time::timeout(PATIENCE, self.link.or_broken(self.link.client.flush())).await;
        }
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        let body = json!({ "batch": PULL, "expires": nanos(EXPIRES), "idle_heartbeat": nanos(HEARTBEAT),
            "max_bytes": self.bytes });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name);
        let reply = format!("{}.{}", self.inbox, self.asked + 1);
        let asking = self.link.client.publish_with_reply(subject, reply, body.to_string().into());
        let asked = self.link.or_broken(asking).await?;
        asked.map_err(|error| self.failed(&error.to_string()))?;
        self.asked += 1;
        self.owed = PULL;
        Ok(())
    }

    fn took(&mut self, message: Message) -> Result<Option<Pulled>, Failure> {
        // What was stored may have a status of its own; only answers of the server have no place.
        if let Some(place) = message.reply.as_deref().and_then(Place::read) {
            if place.number != self.last + 1 {
                return Err(self.failed("messages were lost on their way"));
            }
            self.last = place.number;
            self.owed = self.owed.saturating_sub(1);
            self.pending = place.pending;
            let Place { place, time, pending, .. } = place;
            return Ok(Some(Pulled { place, time, pending, payload: message.payload }));
        }
        let Some(status) = message.status else {
            return Err(self.failed("a message says not where it lies"));
        };
        let of = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let said = message.description.as_deref().unwrap_or_default();
        match status {
            StatusCode::IDLE_HEARTBEAT => {}
            _ if of != Some(self.asked) => {}
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => self.owed = 0,
            StatusCode::REQUEST_TERMINATED if said == "Batch Completed" || said.contains("MaxBytes") => {
                self.owed = 0
            }
            status => return Err(self.failed(&format!("{status} {said}"))),
        }
        Ok(None)
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("reading stream {}: {why}", self.stream).into())
    }
}

/// What the reply subject of a message says of it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    place: u64,
    number: u64,
    time: i64,
    pending: u64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<place>.<number>.<time>.<pending>`, or with `<domain>.<account>` before the
    /// stream and possibly more behind (NATS ADR-15).
    fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let at = match tokens.len() {
            7 => 3,
            9.. => 5,
            _ => return None,
        };
        let number = |at: usize| tokens.get(at)?.parse::<u64>().ok();
        let (place, time, pending) = (number(at)?, tokens.get(at + 2)?.parse().ok()?, number(at + 3)?);
        Some(Self { place, number: number(at + 1)?, time, pending })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole microseconds, downwards.
fn rfc3339(nanos: i64) -> String {
    signalbox_base::Wall(nanos.div_euclid(1_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_where_it_lies_in_both_forms() {
        let expected = Place { place: 12, number: 3, time: 1_700_000_000_000_000_001, pending: 9 };
        let short = "$JS.ACK.S.C.1.12.3.1700000000000000001.9";
        assert_eq!(Place::read(short).as_ref(), Some(&expected));
        let long = "$JS.ACK.hub.ACCHASH.S.C.1.12.3.1700000000000000001.9.token";
        assert_eq!(Place::read(long).as_ref(), Some(&expected));
        for bad in ["", "_INBOX.x", "$JS.ACK.S.C.1.12.3.1.x", "$JS.ACK.S.C.1.12.3.1"] {
            assert_eq!(Place::read(bad), None, "{bad}");
        }
    }
}
