//! Kafka: the event's data as the value, its attributes as `ce_` headers (binary mode), a topic a domain.

use super::structured::cause_of;
use super::{State, partition, partition_key, replay_topic, split_lane, topic};
use crate::event::Delivered;
use crate::publisher::{Encoder, Identity, LaneId, LaneName, Outgoing, Refusal};
use bytes::Bytes;
use signalbox_base::Text;
use signalbox_schemas::Kind;
use signalbox_schemas::envelope::SCHEMA_BASE;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// [`super::REPLAY_ATTRIBUTE`] as a header.
const REPLAY_HEADER: &str = "ce_replayid";

/// Topics that were needed and not there: a tenant with topics of its own appears while the relay runs. What connects
/// next makes (or checks) them too.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Arc<Mutex<BTreeSet<String>>>);

impl Wanted {
    /// The topics.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, topic: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned());
    }
}

/// Makes [`Outgoing`] for Kafka: lanes are named [`super::lane_name`]. `address` is the topic, `key` the message's key.
pub struct KafkaEncoder {
    per_tenant: bool,
    wanted: Wanted,
    state: Option<State>,
    replay: Option<Text>,
    /// The lane of each partition, by topic, of this many lanes.
    lanes: (usize, HashMap<Text, Vec<u16>>),
    /// By domain and tenant.
    topics: HashMap<Text, HashMap<Text, Text>>,
    kinds: HashMap<Text, Words>,
    words: Fixed,
}

/// What all events of a kind have in common.
struct Words {
    type_name: Text,
    schema: Option<Text>,
    severity: Option<Text>,
}

/// What (nearly) all events have in common.
struct Fixed {
    specversion: Text,
    content_type: Text,
    none: Text,
    source: (Arc<crate::event::Source>, Text),
}

impl KafkaEncoder {
    /// For live events; `state` keeps the latest-state topics, which it may be told to begin with.
    #[must_use]
    pub fn new(per_tenant: bool, wanted: Wanted, state: State) -> Self {
        Self::with(per_tenant, wanted, Some(state), None)
    }

    /// For the replay `id` (letters, digits and `-`): everything goes to its topic, marked; latest state is not touched.
    #[must_use]
    pub fn replay(id: &str) -> Self {
        Self::with(false, Wanted::default(), None, Some(id.into()))
    }

    fn with(per_tenant: bool, wanted: Wanted, state: Option<State>, replay: Option<Text>) -> Self {
        let nobody = crate::event::Source {
            cluster: Text::default(),
            edge: Text::default(),
            journal: signalbox_base::JournalId(0),
        };
        let words = Fixed {
            specversion: "1.0".into(),
            content_type: "application/json".into(),
            none: "_".into(),
            source: (Arc::new(nobody), Text::default()),
        };
        Self {
            per_tenant,
            wanted,
            state,
            replay,
            lanes: (0, HashMap::new()),
            topics: HashMap::new(),
            kinds: HashMap::new(),
            words,
        }
    }

    /// The `ce_` headers of an event, and its content type.
    #[must_use]
    pub fn headers(&mut self, event: &Delivered, key: &Text) -> Vec<(&'static str, Text)> {
        let kind = self.kinds.entry(event.kind.clone()).or_insert_with(|| words_of(&event.kind));
        let fixed = &mut self.words;
        if fixed.source.0 != event.source {
            fixed.source = (Arc::clone(&event.source), event.source.to_string().into());
        }
        let tenant = if event.tenant.is_empty() { &fixed.none } else { &event.tenant };
        let mut headers = Vec::with_capacity(19);
        headers.extend([
            ("ce_specversion", fixed.specversion.clone()),
            ("ce_id", event.id().into()),
            ("ce_source", fixed.source.1.clone()),
            ("ce_type", kind.type_name.clone()),
        ]);
        if !event.subject.is_empty() {
            headers.push(("ce_subject", event.subject.clone()));
        }
        headers.extend([
            ("ce_time", Text::new(event.time.text().as_str())),
            ("ce_recordedtime", Text::new(event.recorded.text().as_str())),
        ]);
        headers.extend(kind.schema.clone().map(|schema| ("ce_dataschema", schema)));
        headers.extend([
            ("ce_sequence", Text::from(format!("{:020}", event.seq.0))),
            ("ce_domainsequence", Text::from(format!("{:020}", event.domain_seq))),
            ("ce_partitionkey", key.clone()),
            ("ce_tenantid", tenant.clone()),
        ]);
        if !event.correlation.is_empty() {
            headers.push(("ce_correlationid", event.correlation.clone()));
        }
        if !event.traceparent.is_empty() {
            headers.push(("ce_traceparent", event.traceparent.clone()));
        }
        headers.extend(cause_of(event).map(|cause| ("ce_causationid", Text::from(cause.to_string()))));
        headers.extend(kind.severity.clone().map(|severity| ("ce_severitynumber", severity)));
        if let Some(replay) = &self.replay {
            headers.push((REPLAY_HEADER, replay.clone()));
        }
        headers.push(("content-type", fixed.content_type.clone()));
        headers
    }

    fn topic(&mut self, event: &Delivered) -> Text {
        if let Some(replay) = &self.replay {
            return replay_topic(replay).into();
        }
        let (domain, tenant) = (event.domain(), if self.per_tenant { &*event.tenant } else { "" });
        if let Some(known) = self.topics.get(domain).and_then(|tenants| tenants.get(tenant)) {
            return known.clone();
        }
        let name = Text::from(topic(domain, Some(tenant)));
        self.topics.entry(domain.into()).or_default().insert(tenant.into(), name.clone());
        name
    }

    fn lane(&mut self, topic: &str, key: &str, lanes: &[LaneName]) -> Option<LaneId> {
        if self.lanes.0 != lanes.len() {
            self.lanes = (lanes.len(), by_topic(lanes));
        }
        let partitions = self.lanes.1.get(topic)?;
        let chosen = partition(key.as_bytes(), i32::try_from(partitions.len()).ok()?);
        partitions.get(usize::try_from(chosen).ok()?).map(|lane| LaneId(*lane))
    }
}

impl Encoder for KafkaEncoder {
    fn encode(&mut self, event: &Delivered, lanes: &[LaneName]) -> Result<Outgoing, Refusal> {
        let (key, topic) = (partition_key(event), self.topic(event));
        let Some(lane) = self.lane(&topic, &key, lanes) else {
            self.wanted.add(&topic);
            return Err(Refusal::NoStream);
        };
        Ok(Outgoing {
            id: Identity { journal: event.source.journal, seq: event.seq },
            lane,
            headers: self.headers(event, &key),
            key,
            address: topic,
            body: Bytes::copy_from_slice(&event.data),
            also: self.state.as_mut().map_or_else(Vec::new, |state| state.latest(event)),
        })
    }
}

/// Topics all of whose partitions, from 0 on, are lanes.
fn by_topic(lanes: &[LaneName]) -> HashMap<Text, Vec<u16>> {
    let mut topics: HashMap<Text, Vec<(i32, u16)>> = HashMap::new();
    for (at, lane) in (0u16..).zip(lanes) {
        if let Some((topic, partition)) = split_lane(&lane.name) {
            topics.entry(topic.into()).or_default().push((partition, at));
        }
    }
    let whole = |mut partitions: Vec<(i32, u16)>| {
        partitions.sort_unstable();
        let gapless = (0..).zip(&partitions).all(|(at, (partition, _))| at == *partition);
        gapless.then(|| partitions.into_iter().map(|(_, lane)| lane).collect())
    };
    topics.into_iter().filter_map(|(topic, partitions)| Some((topic, whole(partitions)?))).collect()
}

fn words_of(name: &str) -> Words {
    let type_name = Text::from(format!("io.signalbox.{name}"));
    let known = Kind::parse(name).filter(|(kind, version)| kind.version() == *version).map(|(kind, _)| kind);
    let schema = |kind: Kind| {
        format!("{SCHEMA_BASE}/{}/{}.{}.json", kind.type_name(), kind.version(), kind.minor()).into()
    };
    let severity = known.and_then(Kind::severity).map(|number| number.to_string().into());
    Words { type_name, schema: known.map(schema), severity }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{lane_name, sample};

    fn lanes(topic: &str, partitions: i32) -> Vec<LaneName> {
        let lane = |p| LaneName { name: lane_name(topic, p).into(), incarnation: "abc".into() };
        (0..partitions).map(lane).collect()
    }

    fn encoder() -> KafkaEncoder {
        KafkaEncoder::new(false, Wanted::default(), State::default())
    }

    #[test]
    fn an_event_goes_out_as_the_contract_says() {
        let event = sample();
        let out = encoder().encode(&event, &lanes("signalbox.backend.v1", 6)).unwrap();
        assert_eq!((&*out.address, &*out.key), ("signalbox.backend.v1", "acme/pbx-1"));
        assert_eq!(i32::from(out.lane.0), partition(b"acme/pbx-1", 6));
        assert_eq!(out.body, &event.data[..]);
        let headers: Vec<(&str, &str)> = out.headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let journal = event.source.journal;
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", &*format!("{journal}.42")),
            ("ce_source", &*format!("urn:signalbox:prod:edge-1:{journal}")),
            ("ce_type", "io.signalbox.backend.state_changed.v1"),
            ("ce_subject", "pbx-1"),
            ("ce_time", "2025-11-21T10:00:00.000001Z"),
            ("ce_recordedtime", "2025-11-21T10:00:00.000002Z"),
            ("ce_dataschema", "urn:signalbox:schemas/io.signalbox.backend.state_changed.v1/1.0.json"),
            ("ce_sequence", "00000000000000000042"),
            ("ce_domainsequence", "00000000000000000007"),
            ("ce_partitionkey", "acme/pbx-1"),
            ("ce_tenantid", "acme"),
            ("ce_correlationid", "c_00000000001"),
            ("ce_causationid", &*format!("{journal}.41")),
            ("ce_severitynumber", "13"),
            ("content-type", "application/json"),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn both_modes_carry_the_same_attributes() {
        let event = sample();
        let json = super::super::NatsEncoder::new().structured(&event).to_vec();
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json).unwrap();
        let key = partition_key(&event);
        let binary = encoder().headers(&event, &key);
        let mut binary: BTreeSet<&str> =
            binary.iter().filter_map(|(name, _)| name.strip_prefix("ce_")).collect();
        binary.extend(["datacontenttype", "data"]);
        assert_eq!(binary, json.keys().map(String::as_str).collect());
    }

    #[test]
    fn a_tenant_s_own_topic_is_asked_for_until_it_is_there() {
        let (event, wanted) = (sample(), Wanted::default());
        let mut encoder = KafkaEncoder::new(true, wanted.clone(), State::default());
        let shared = lanes("signalbox.backend.v1", 2);
        assert_eq!(encoder.encode(&event, &shared), Err(Refusal::NoStream));
        assert_eq!(wanted.topics(), ["signalbox.tenant.acme.backend.v1"]);
        let own: Vec<LaneName> =
            shared.into_iter().chain(lanes("signalbox.tenant.acme.backend.v1", 1)).collect();
        let out = encoder.encode(&event, &own).unwrap();
        assert_eq!((&*out.address, out.lane), ("signalbox.tenant.acme.backend.v1", LaneId(2)));
        let nobody_s = Delivered { tenant: "".into(), ..event };
        assert_eq!(&*encoder.encode(&nobody_s, &own).unwrap().address, "signalbox.backend.v1");
    }

    #[test]
    fn a_replay_is_marked_and_touches_no_latest_state() {
        let out = KafkaEncoder::replay("r-1").encode(&sample(), &lanes("signalbox.replay.r-1", 1)).unwrap();
        assert_eq!(&*out.address, "signalbox.replay.r-1");
        assert!(out.headers.contains(&("ce_replayid", "r-1".into())));
        assert_eq!(out.also, []);
    }
}
