//! NATS: the event as one JSON body (structured mode) under its subject.

use super::{REPLAY_ATTRIBUTE, REPLAY_STREAM, group_of, partition_key, replay_subject, subject};
use crate::event::Delivered;
use crate::publisher::{Encoder, Identity, LaneId, LaneName, Outgoing, Refusal};
use bytes::{Bytes, BytesMut};
use signalbox_base::Text;
use signalbox_schemas::envelope::{self, Envelope, write_structured};
use signalbox_schemas::values::EventId;
use std::collections::HashMap;

/// Room for bodies that is asked for at once.
const BODIES: usize = 64 << 10;

/// Makes [`Outgoing`] for NATS: lanes are named as the streams are.
pub struct NatsEncoder {
    buffer: Vec<u8>,
    bodies: BytesMut,
    content_type: Text,
    /// The edge that the kept subjects end with.
    edge: Text,
    /// Subjects by kind and tenant.
    subjects: HashMap<Text, HashMap<Text, Text>>,
    replay: Option<Replay>,
}

struct Replay {
    id: Text,
    subject: Text,
    opening: Vec<u8>,
}

impl NatsEncoder {
    /// For live events.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "an encoder is chosen, live or replay")]
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            bodies: BytesMut::new(),
            content_type: envelope::CONTENT_TYPE.into(),
            edge: Text::default(),
            subjects: HashMap::new(),
            replay: None,
        }
    }

    /// For the replay `id` (letters, digits and `-`): everything goes to its subject and is marked, and a server does not
    /// take it for the live event it knows already.
    #[must_use]
    pub fn replay(id: &str) -> Self {
        let opening = format!("{{\"{REPLAY_ATTRIBUTE}\":{},", serde_json::Value::from(id)).into_bytes();
        let replay = Replay { id: id.into(), subject: replay_subject(id).into(), opening };
        Self { replay: Some(replay), ..Self::new() }
    }

    /// The structured event, as it goes into a body; valid until the next call.
    pub fn structured(&mut self, event: &Delivered) -> &[u8] {
        self.buffer.clear();
        write_structured(&envelope_of(event), &event.data, &mut self.buffer);
        if let Some(replay) = &self.replay {
            self.buffer.splice(..1, replay.opening.iter().copied());
        }
        &self.buffer
    }

    /// The structured event in a room that it shares with others: one allocation serves many.
    fn body(&mut self, event: &Delivered) -> Bytes {
        let bytes = self.structured(event).len();
        if self.bodies.capacity() < bytes {
            self.bodies.reserve(bytes.max(BODIES));
        }
        self.bodies.extend_from_slice(&self.buffer);
        self.bodies.split().freeze()
    }

    fn subject(&mut self, event: &Delivered) -> Text {
        if let Some(replay) = &self.replay {
            return replay.subject.clone();
        }
        if self.edge != event.source.edge {
            self.edge = event.source.edge.clone();
            self.subjects.clear();
        }
        if let Some(known) = self.subjects.get(&*event.kind).and_then(|tenants| tenants.get(&*event.tenant)) {
            return known.clone();
        }
        let text = Text::from(subject(&event.kind, &event.tenant, &event.source.edge));
        let tenants = self.subjects.entry(event.kind.clone()).or_default();
        tenants.insert(event.tenant.clone(), text.clone());
        text
    }
}

impl Encoder for NatsEncoder {
    fn encode(&mut self, event: &Delivered, lanes: &[LaneName]) -> Result<Outgoing, Refusal> {
        let stream = if self.replay.is_some() { REPLAY_STREAM } else { group_of(event.domain()).stream };
        let lane = lanes.iter().position(|lane| *lane.name == *stream).ok_or(Refusal::NoStream)?;
        let id = match &self.replay {
            Some(replay) => format!("{}.{}", replay.id, event.id()),
            None => event.id(),
        };
        Ok(Outgoing {
            id: Identity { journal: event.source.journal, seq: event.seq },
            lane: LaneId(u16::try_from(lane).map_err(|_| Refusal::NoStream)?),
            key: partition_key(event),
            address: self.subject(event),
            headers: vec![("Content-Type", self.content_type.clone()), ("Nats-Msg-Id", id.into())],
            body: self.body(event),
            also: Vec::new(),
        })
    }
}

/// The event in CloudEvents' structured mode: what stands in a body on NATS, or in a line of NDJSON.
#[must_use]
pub fn structured(event: &Delivered) -> Vec<u8> {
    let mut json = Vec::with_capacity(event.data.len() + 768);
    write_structured(&envelope_of(event), &event.data, &mut json);
    json
}

/// The event's envelope as the schemas crate writes it.
pub(super) fn envelope_of(event: &Delivered) -> Envelope<'_> {
    let (cluster, edge, journal) = (&*event.source.cluster, &*event.source.edge, event.source.journal);
    let source = match edge {
        "store" => envelope::Source::Store { cluster, store: journal },
        edge => envelope::Source::Edge { cluster, edge, journal },
    };
    Envelope {
        source,
        seq: event.seq,
        domain_seq: signalbox_base::EventSeq(event.domain_seq),
        type_with_version: &event.kind,
        tenant: &event.tenant,
        subject: &event.subject,
        time: event.time,
        recorded_time: event.recorded,
        correlation: &event.correlation,
        causation: cause_of(event),
        traceparent: &event.traceparent,
    }
}

pub(super) fn cause_of(event: &Delivered) -> Option<EventId> {
    if event.causation.0 > 0 {
        return Some(EventId { journal: event.source.journal, seq: event.causation });
    }
    event.foreign_cause.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{GROUPS, sample};
    use cloudevents::AttributesReader;

    fn lanes() -> Vec<LaneName> {
        let lane = |group: &super::super::Group| LaneName {
            name: group.stream.into(),
            incarnation: "2026-11-21T10:00:00Z".into(),
        };
        GROUPS.iter().map(lane).collect()
    }

    #[test]
    fn an_event_goes_out_as_the_contract_says() {
        let event = sample();
        let out = NatsEncoder::new().encode(&event, &lanes()).unwrap();
        assert_eq!(out.address, "signalbox.v1.backend.state_changed.acme.edge-1");
        assert_eq!(&*lanes()[usize::from(out.lane.0)].name, "SIGNALBOX_OPERATIONS");
        assert_eq!(out.key, "acme/pbx-1");
        let headers: Vec<(&str, &str)> = out.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let id = event.id();
        assert_eq!(headers, [("Content-Type", "application/cloudevents+json"), ("Nats-Msg-Id", &*id)]);
        let json: serde_json::Value = serde_json::from_slice(&out.body).unwrap();
        let journal = event.source.journal;
        let expected = serde_json::json!({
            "specversion": "1.0", "id": format!("{journal}.42"), "source": format!("urn:signalbox:prod:edge-1:{journal}"),
            "type": "io.signalbox.backend.state_changed.v1", "subject": "pbx-1",
            "time": "2025-11-21T10:00:00.000001Z", "recordedtime": "2025-11-21T10:00:00.000002Z",
            "datacontenttype": "application/json",
            "dataschema": "urn:signalbox:schemas/io.signalbox.backend.state_changed.v1/1.0.json",
            "sequence": "00000000000000000042", "domainsequence": "00000000000000000007",
            "partitionkey": "acme/pbx-1", "tenantid": "acme", "correlationid": "c_00000000001",
            "causationid": format!("{journal}.41"), "severitynumber": 13,
            "data": serde_json::from_slice::<serde_json::Value>(&event.data).unwrap(),
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn an_event_of_the_store_names_the_store_and_the_event_elsewhere_that_led_to_it() {
        let store = signalbox_base::JournalId(9);
        let source = crate::Source { cluster: "prod".into(), edge: "store".into(), journal: store };
        let cause: Text = format!("{}.12", signalbox_base::JournalId(7)).into();
        let causation = signalbox_base::EventSeq(0);
        let event = Delivered { source: source.into(), causation, foreign_cause: cause.clone(), ..sample() };
        let json: serde_json::Value = serde_json::from_slice(&structured(&event)).unwrap();
        assert_eq!(json["source"], format!("urn:signalbox:prod:store:{store}"));
        assert_eq!(json["causationid"], *cause);
        assert_eq!(Delivered::from_structured(&structured(&event)), Ok(event));
    }

    #[test]
    fn the_cloudevents_sdk_reads_it() {
        let event = sample();
        let read: cloudevents::Event = serde_json::from_slice(NatsEncoder::new().structured(&event)).unwrap();
        assert_eq!((read.id(), read.ty()), (&*event.id(), "io.signalbox.backend.state_changed.v1"));
        assert_eq!(read.extension("partitionkey").unwrap().to_string(), "acme/pbx-1");
    }

    #[test]
    fn a_replay_is_marked_and_no_duplicate_of_the_live_event() {
        let event = sample();
        let lane = LaneName { name: REPLAY_STREAM.into(), incarnation: Text::default() };
        let out = NatsEncoder::replay("r-1").encode(&event, &[lane]).unwrap();
        assert_eq!(out.address, "signalbox.replay.r-1");
        assert_eq!(&*out.headers[1].1, format!("r-1.{}", event.id()));
        let json: serde_json::Value = serde_json::from_slice(&out.body).unwrap();
        assert_eq!((&json["replayid"], &json["id"]), (&"r-1".into(), &event.id().into()));
    }

    #[test]
    fn an_event_without_its_stream_is_refused() {
        assert_eq!(NatsEncoder::new().encode(&sample(), &lanes()[..3]), Err(Refusal::NoStream));
    }
}
