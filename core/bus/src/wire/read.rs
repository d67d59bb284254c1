//! Reading events back, in both modes. What is none of ours, or is marked as a replay, is [`Foreign`]: counted and passed
//! over, never a reason to stop.

use super::REPLAY_ATTRIBUTE;
use crate::event::{Delivered, Source};
use crate::words::{Words, pair, text};
use serde::Deserialize;
use serde_json::value::RawValue;
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_schemas::values::EventId;
use std::borrow::Cow;
use std::sync::Arc;

/// Why a message is no live event of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// Marked as part of this replay.
    #[error("an event of replay {0}")]
    Replay(Text),
    /// No CloudEvent, or not one that Signalbox writes.
    #[error("no event of Signalbox: {0}")]
    NotOurs(Text),
}

impl Delivered {
    /// Reads structured mode: a JSON body.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn from_structured(json: &[u8]) -> Result<Self, Foreign> {
        Decoder::default().structured(json)
    }

    /// Reads Kafka's binary mode: headers and value. A structured event in a Kafka message is read too.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn from_binary<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        value: &'a [u8],
    ) -> Result<Self, Foreign> {
        Decoder::default().binary(headers, value)
    }
}

/// Reads many events; sources, types and tenants that come again are shared.
#[derive(Debug, Default)]
pub struct Decoder {
    sources: Vec<(Box<str>, Arc<Source>)>,
    words: Words,
}

/// Sources that are kept; a reader of more gives up sharing, not correctness.
const KEPT: usize = 256;

/// Attributes of both modes; what is absent is empty.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    recordedtime: Cow<'a, str>,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow)]
    domainsequence: Cow<'a, str>,
    #[serde(borrow)]
    tenantid: Cow<'a, str>,
    #[serde(borrow)]
    correlationid: Cow<'a, str>,
    #[serde(borrow)]
    traceparent: Cow<'a, str>,
    #[serde(borrow)]
    causationid: Cow<'a, str>,
    #[serde(borrow)]
    replayid: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Decoder {
    /// Reads structured mode.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn structured(&mut self, json: &[u8]) -> Result<Delivered, Foreign> {
        let read: Attributes<'_> =
            serde_json::from_slice(json).map_err(|error| not_ours(&error.to_string()))?;
        let data = read.data.ok_or_else(|| not_ours("it has no data"))?;
        self.event(&read, data.get().as_bytes())
    }

    /// Reads binary mode, and structured mode in a Kafka message.
    ///
    /// # Errors
    /// [`Foreign`].
    pub fn binary<'a>(
        &mut self,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        value: &'a [u8],
    ) -> Result<Delivered, Foreign> {
        let mut read = Attributes::default();
        let mut content_type = "";
        for (name, value) in headers {
            let Ok(text) = std::str::from_utf8(value) else { continue };
            if name.eq_ignore_ascii_case("content-type") {
                content_type = text;
            } else if let Some(field) = name.strip_prefix("ce_").and_then(|name| field(&mut read, name)) {
                *field = Cow::Borrowed(text);
            }
        }
        if content_type.starts_with("application/cloudevents+json") {
            return self.structured(value);
        }
        if !content_type.starts_with("application/json") {
            return Err(not_ours("its content is not JSON"));
        }
        self.event(&read, value)
    }

    fn event(&mut self, read: &Attributes<'_>, data: &[u8]) -> Result<Delivered, Foreign> {
        if read.specversion != "1.0" {
            return Err(not_ours("it is no CloudEvent 1.0"));
        }
        if !read.replayid.is_empty() {
            return Err(Foreign::Replay((&*read.replayid).into()));
        }
        let name = read.kind.strip_prefix("io.signalbox.").ok_or_else(|| not_ours("its type"))?;
        if name.split('.').count() < 3 {
            return Err(not_ours("its type has no version"));
        }
        let source = self.source(&read.source).ok_or_else(|| not_ours("its source"))?;
        let id: EventId = read.id.parse().map_err(|_| not_ours("its id"))?;
        let seq = number(&read.sequence).ok_or_else(|| not_ours("its sequence"))?;
        if id.seq.0 != seq || id.journal != source.journal {
            return Err(not_ours("its id is not that of its source and sequence"));
        }
        let time = |text: &str, what| Wall::parse_rfc3339(text).ok_or_else(|| not_ours(what));
        let (causation, foreign_cause) = match read.causationid.parse::<EventId>() {
            Ok(cause) if cause.journal == source.journal => (cause.seq, Text::default()),
            _ => (EventSeq(0), text(&read.causationid)),
        };
        let (subject, correlation) = pair(&read.subject, &read.correlationid);
        Ok(Delivered {
            source,
            seq: EventSeq(seq),
            domain_seq: number(&read.domainsequence).ok_or_else(|| not_ours("its domainsequence"))?,
            kind: self.words.kind(name),
            tenant: self.words.tenant(if read.tenantid == "_" { "" } else { &read.tenantid }),
            subject,
            time: time(&read.time, "its time")?,
            recorded: time(&read.recordedtime, "its recordedtime")?,
            correlation,
            traceparent: text(&read.traceparent),
            causation,
            foreign_cause,
            data: data.into(),
        })
    }

    fn source(&mut self, text: &str) -> Option<Arc<Source>> {
        if let Some((_, known)) = self.sources.iter().find(|(known, _)| **known == *text) {
            return Some(Arc::clone(known));
        }
        let source: Arc<Source> = Arc::new(text.parse().ok()?);
        if self.sources.len() < KEPT {
            self.sources.push((text.into(), Arc::clone(&source)));
        }
        Some(source)
    }
}

fn field<'r, 'a>(read: &'r mut Attributes<'a>, name: &str) -> Option<&'r mut Cow<'a, str>> {
    Some(match name {
        "specversion" => &mut read.specversion,
        "id" => &mut read.id,
        "source" => &mut read.source,
        "type" => &mut read.kind,
        "subject" => &mut read.subject,
        "time" => &mut read.time,
        "recordedtime" => &mut read.recordedtime,
        "sequence" => &mut read.sequence,
        "domainsequence" => &mut read.domainsequence,
        "tenantid" => &mut read.tenantid,
        "correlationid" => &mut read.correlationid,
        "traceparent" => &mut read.traceparent,
        "causationid" => &mut read.causationid,
        REPLAY_ATTRIBUTE => &mut read.replayid,
        _ => return None,
    })
}

fn number(digits: &str) -> Option<u64> {
    let legal = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if legal { digits.parse().ok() } else { None }
}

fn not_ours(why: &str) -> Foreign {
    Foreign::NotOurs(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{KafkaEncoder, NatsEncoder, State, Wanted, partition_key, sample};
    use proptest::prelude::*;

    fn binary(encoder: &mut KafkaEncoder, event: &Delivered) -> Result<Delivered, Foreign> {
        let headers = encoder.headers(event, &partition_key(event));
        Delivered::from_binary(headers.iter().map(|(name, value)| (*name, value.as_bytes())), &event.data)
    }

    fn kafka() -> KafkaEncoder {
        KafkaEncoder::new(false, Wanted::default(), State::default())
    }

    fn event() -> impl Strategy<Value = Delivered> {
        let names = (
            "[a-z]{1,8}\\.[a-z_]{1,12}\\.v[1-9]",
            "[a-z0-9-]{0,8}",
            "\\PC{0,20}",
            "\\PC{0,8}",
            "[0-9a-f-]{0,55}",
        );
        let numbers = (1..=u64::MAX, 1..=u64::MAX, any::<u32>(), any::<u32>());
        let cause = prop_oneof![Just("".to_owned()), Just("01JD8Z6Q4V5X7Y9A2C4E6G8J0M.31".to_owned())];
        (names, numbers, cause).prop_map(|(names, numbers, cause)| Delivered {
            kind: names.0.as_str().into(),
            tenant: names.1.as_str().into(),
            subject: names.2.as_str().into(),
            correlation: names.3.as_str().into(),
            traceparent: names.4.as_str().into(),
            seq: EventSeq(numbers.0),
            domain_seq: numbers.1,
            time: Wall(i64::from(numbers.2) * 1_000_003),
            recorded: Wall(i64::from(numbers.3) * 1_000_003),
            causation: EventSeq(if cause.is_empty() { numbers.0 - 1 } else { 0 }),
            foreign_cause: cause.as_str().into(),
            ..sample()
        })
    }

    proptest! {
        #[test]
        fn both_modes_read_back_as_they_were(event in event()) {
            let json = NatsEncoder::new().structured(&event).to_vec();
            prop_assert_eq!(Delivered::from_structured(&json), Ok(event.clone()));
            prop_assert_eq!(binary(&mut kafka(), &event), Ok(event));
        }

        #[test]
        fn no_message_is_more_than_foreign(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Delivered::from_structured(&bytes).is_err());
            prop_assert!(Delivered::from_binary([("ce_id", &bytes[..]), ("content-type", b"application/json")], &bytes).is_err());
        }
    }

    #[test]
    fn a_structured_event_in_a_kafka_message_is_read_too() {
        let json = NatsEncoder::new().structured(&sample()).to_vec();
        let headers = [("content-type", &b"application/cloudevents+json; charset=UTF-8"[..])];
        assert_eq!(Delivered::from_binary(headers, &json), Ok(sample()));
    }

    #[test]
    fn a_replay_is_told_from_live_events() {
        let json = NatsEncoder::replay("r-1").structured(&sample()).to_vec();
        assert_eq!(Delivered::from_structured(&json), Err(Foreign::Replay("r-1".into())));
        assert_eq!(binary(&mut KafkaEncoder::replay("r-1"), &sample()), Err(Foreign::Replay("r-1".into())));
    }

    #[test]
    fn what_others_write_is_foreign() {
        let ours: serde_json::Value =
            serde_json::from_slice(NatsEncoder::new().structured(&sample())).unwrap();
        for (name, value) in [
            ("specversion", "0.3"),
            ("type", "com.example.order.created"),
            ("type", "io.signalbox.call"),
            ("source", "urn:example:shop"),
            ("sequence", "43"),
            ("sequence", "00000000000000000043"),
            ("id", "A234-1234-1234"),
            ("time", "yesterday"),
            ("domainsequence", ""),
        ] {
            let mut other = ours.clone();
            other[name] = value.into();
            let read = Delivered::from_structured(other.to_string().as_bytes());
            assert!(matches!(read, Err(Foreign::NotOurs(_))), "{name} {value}: {read:?}");
        }
    }

    #[test]
    fn what_comes_again_is_shared() {
        let json = NatsEncoder::new().structured(&sample()).to_vec();
        let mut decoder = Decoder::default();
        let (first, second) = (decoder.structured(&json).unwrap(), decoder.structured(&json).unwrap());
        assert!(Arc::ptr_eq(&first.source, &second.source));
    }
}
