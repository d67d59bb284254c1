//! The CloudEvents 1.0.2 envelope, written around an event's `data` without parsing it, and read back.
//!
//! Attribute names are those of EVENTS.md's table; extensions follow CloudEvents' rule of lower-case letters and digits.

use crate::Event;
use crate::catalogue::Kind;
use crate::event::{ReadError, TYPE_PREFIX};
use crate::values::{EventId, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use signalbox_base::{EventSeq, JournalId, SmallText, Wall};
use std::borrow::Cow;

/// Where every schema of ours lives: `<SCHEMA_BASE>/<type>/<major.minor>.json`.
pub const SCHEMA_BASE: &str = "urn:signalbox:schemas";

/// The media type of [`write_structured`]'s output.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Who numbers the events: one gapless sequence per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// An edge and its journal: `urn:signalbox:<cluster>:<edge>:<journal-id>`.
    Edge {
        /// Name of the cluster.
        cluster: &'a str,
        /// Name of the edge.
        edge: &'a str,
        /// The journal.
        journal: JournalId,
    },
    /// The store of projections and consumers: `urn:signalbox:<cluster>:store:<store-id>`.
    Store {
        /// Name of the cluster.
        cluster: &'a str,
        /// The store.
        store: JournalId,
    },
}

impl Source<'_> {
    /// The journal's or store's id, the first part of an event's id.
    #[must_use]
    pub const fn journal(&self) -> JournalId {
        match self {
            Self::Edge { journal, .. } => *journal,
            Self::Store { store, .. } => *store,
        }
    }

    const fn names(&self) -> (&str, &str) {
        match self {
            Self::Edge { cluster, edge, .. } => (cluster, edge),
            Self::Store { cluster, .. } => (cluster, "store"),
        }
    }
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cluster, name) = self.names();
        write!(f, "urn:signalbox:{cluster}:{name}:{}", self.journal())
    }
}

/// What a journal record says about its event, besides `data`.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// Who numbers it.
    pub source: Source<'a>,
    /// Position in the source; the first is 1.
    pub seq: EventSeq,
    /// Position among the source's events of the same domain; the first is 1.
    pub domain_seq: EventSeq,
    /// Type with version, as the journal stores it: `call.ended.v1`. One that this release does not know is written too.
    pub type_with_version: &'a str,
    /// The tenant; empty for none.
    pub tenant: &'a str,
    /// What it is about.
    pub subject: &'a str,
    /// When it happened.
    pub time: Wall,
    /// When it was journalled.
    pub recorded_time: Wall,
    /// The call's uid; empty for none.
    pub correlation: &'a str,
    /// The event that led to this one.
    pub causation: Option<EventId>,
    /// W3C trace context of the message or command; empty for none.
    pub traceparent: &'a str,
}

impl Envelope<'_> {
    /// The event's id: the same in every replay.
    #[must_use]
    pub const fn id(&self) -> EventId {
        EventId { journal: self.source.journal(), seq: self.seq }
    }

    /// The tenant, `_` for none.
    #[must_use]
    pub const fn tenant_id(&self) -> &str {
        if self.tenant.is_empty() { "_" } else { self.tenant }
    }

    /// The kind, where this release knows the type in this version.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::parse(self.type_with_version)
            .filter(|(kind, version)| kind.version() == *version)
            .map(|(kind, _)| kind)
    }
}

/// Appends the structured-mode JSON of an event. `data` is its JSON and goes in as it is.
pub fn write_structured(envelope: &Envelope<'_>, data: &[u8], out: &mut Vec<u8>) {
    let known = envelope.kind();
    let name = envelope.type_with_version.strip_prefix(TYPE_PREFIX).unwrap_or(envelope.type_with_version);
    put(out, "{\"specversion\":\"1.0\",\"id\":\"");
    put_id(out, envelope.id());
    put(out, "\",\"source\":\"");
    put_source(out, &envelope.source);
    put(out, "\",\"type\":");
    put_text(out, &[TYPE_PREFIX, name]);
    if !envelope.subject.is_empty() {
        put(out, ",\"subject\":");
        put_text(out, &[envelope.subject]);
    }
    put(out, ",\"time\":\"");
    put(out, envelope.time.text().as_str());
    put(out, "\",\"recordedtime\":\"");
    put(out, envelope.recorded_time.text().as_str());
    put(out, "\",\"datacontenttype\":\"application/json\"");
    if let Some(kind) = known {
        put(out, ",\"dataschema\":\"");
        put(out, SCHEMA_BASE);
        put(out, "/");
        put(out, SchemaPath(kind).text().as_str());
        put(out, "\"");
    }
    put(out, ",\"sequence\":\"");
    put_number(out, envelope.seq.0, 20);
    put(out, "\",\"domainsequence\":\"");
    put_number(out, envelope.domain_seq.0, 20);
    put(out, "\",\"partitionkey\":");
    put_text(out, &partition_key_parts(envelope.tenant_id(), envelope.subject));
    put_extensions(envelope, known, out);
    put(out, ",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
}

fn put_extensions(envelope: &Envelope<'_>, known: Option<Kind>, out: &mut Vec<u8>) {
    put(out, ",\"tenantid\":");
    put_text(out, &[envelope.tenant_id()]);
    if !envelope.correlation.is_empty() {
        put(out, ",\"correlationid\":");
        put_text(out, &[envelope.correlation]);
    }
    if let Some(cause) = envelope.causation {
        put(out, ",\"causationid\":\"");
        put_id(out, cause);
        put(out, "\"");
    }
    if !envelope.traceparent.is_empty() {
        put(out, ",\"traceparent\":");
        put_text(out, &[envelope.traceparent]);
    }
    if let Some(severity) = known.and_then(Kind::severity) {
        put(out, ",\"severitynumber\":");
        put_number(out, severity.into(), 1);
    }
}

/// The ordering key on every bus: tenant and aggregate. An address of record already begins with its tenant.
#[must_use]
pub fn partition_key(tenant: &str, subject: &str) -> String {
    partition_key_parts(tenant, subject).concat()
}

/// `io.signalbox.call.ended.v1/1.0.json`: a schema's place under [`SCHEMA_BASE`] and in `schemas/json/`.
pub(crate) struct SchemaPath(pub Kind);

impl SchemaPath {
    fn text(&self) -> SmallText<96> {
        let mut text = SmallText::default();
        text.push(self.0.type_name());
        text.push("/");
        text.number(self.0.version().into(), 1);
        text.push(".");
        text.number(self.0.minor().into(), 1);
        text.push(".json");
        text
    }
}

impl std::fmt::Display for SchemaPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text().as_str())
    }
}

fn partition_key_parts<'a>(tenant: &'a str, subject: &'a str) -> [&'a str; 3] {
    let tenant = if tenant.is_empty() { "_" } else { tenant };
    let begins = subject.strip_prefix(tenant).is_some_and(|rest| rest.starts_with('/'));
    if begins { ["", "", subject] } else { [tenant, "/", subject] }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A number of at least `width` digits, zeros before it.
fn put_number(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let (mut at, mut rest) = (digits.len(), number);
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

fn put_id(out: &mut Vec<u8>, id: EventId) {
    put(out, id.journal.text().as_str());
    put(out, ".");
    put_number(out, id.seq.0, 1);
}

fn put_source(out: &mut Vec<u8>, source: &Source<'_>) {
    let (cluster, name) = source.names();
    for part in ["urn:signalbox:", cluster, ":", name, ":", source.journal().text().as_str()] {
        put(out, part);
    }
}

/// The parts as one JSON string (RFC 8259 §7).
fn put_text(out: &mut Vec<u8>, parts: &[&str]) {
    out.push(b'"');
    for part in parts {
        let mut rest = part.as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            out.extend_from_slice(&rest[..at]);
            match rest[at] {
                byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
                byte => put(out, &format!("\\u{byte:04x}")),
            }
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
    }
    out.push(b'"');
}

/// A position, 20 digits in JSON so that text sorts as numbers do (CloudEvents sequence extension).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{:020}", self.0))
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(d)?;
        let digits = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.map(Self).ok_or_else(|| de::Error::custom("a sequence is 20 digits"))
    }
}

impl JsonSchema for Sequence {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Sequence".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{20}$" })
    }
}

/// A Signalbox event as CloudEvents 1.0.2 in structured mode.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OwnedEnvelope {
    /// The version of CloudEvents.
    #[schemars(extend("const" = "1.0"))]
    pub specversion: String,
    /// `<journal-id>.<sequence>`: the same in every replay.
    pub id: EventId,
    /// `urn:signalbox:<cluster>:<edge>:<journal-id>`, or `urn:signalbox:<cluster>:store:<store-id>`.
    pub source: String,
    /// `io.signalbox.<domain>.<past_tense>.v<N>`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// What it is about: an address of record, a call uid, an address, a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-personal-data" = true))]
    pub subject: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// When it was journalled.
    pub recordedtime: Timestamp,
    /// The media type of `data`.
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: String,
    /// The schema of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    /// Position in the source, 20 digits, gapless.
    pub sequence: Sequence,
    /// Position among the source's events of the same domain, 20 digits, gapless.
    pub domainsequence: Sequence,
    /// The ordering key: tenant and aggregate.
    #[schemars(extend("x-personal-data" = true))]
    pub partitionkey: String,
    /// The tenant; `_` for none.
    pub tenantid: String,
    /// The call's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<String>,
    /// The event that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<EventId>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// OpenTelemetry severity number, 1 to 24: on security, backend, edge and alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severitynumber: Option<u8>,
    /// What happened; its schema is named by `dataschema`.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub data: Box<RawValue>,
}

impl OwnedEnvelope {
    /// Reads structured-mode JSON. `data` is kept as text until [`OwnedEnvelope::event`].
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The event inside.
    pub fn event(&self) -> Result<Event, ReadError> {
        Event::read(&self.type_name, self.data.get().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope<'static> {
        let journal = JournalId::new(1_763_719_200_000, [7; 10]);
        Envelope {
            source: Source::Edge { cluster: "prod", edge: "edge-1", journal },
            seq: EventSeq(42),
            domain_seq: EventSeq(7),
            type_with_version: "edge.clock_stepped.v1",
            tenant: "",
            subject: "edge-1",
            time: Wall(1_763_719_200_000_001),
            recorded_time: Wall(1_763_719_200_000_002),
            correlation: "",
            causation: None,
            traceparent: "",
        }
    }

    fn written(envelope: &Envelope<'_>, data: &str) -> OwnedEnvelope {
        let mut out = Vec::new();
        write_structured(envelope, data.as_bytes(), &mut out);
        OwnedEnvelope::read(&out).unwrap()
    }

    #[test]
    fn data_goes_in_untouched_and_the_event_comes_out() {
        let data = r#"{ "edge":"edge-1",  "step_ms":-1200 }"#;
        let read = written(&envelope(), data);
        assert_eq!(read.data.get(), data);
        assert_eq!(read.event().unwrap().kind(), Kind::EdgeClockStepped);
        assert_eq!(read.sequence, Sequence(42));
        assert_eq!(read.tenantid, "_");
        assert_eq!(read.partitionkey, "_/edge-1");
        assert_eq!(read.severitynumber, Some(13));
        assert_eq!(read.correlationid, None);
    }

    #[test]
    fn text_off_the_wire_cannot_break_out_of_its_attribute() {
        let subject = "acme/\"},{\\\u{1}\n401@acme.example";
        let read = written(&Envelope { tenant: "acme", subject, ..envelope() }, "{}");
        assert_eq!(read.subject.as_deref(), Some(subject));
        assert_eq!(read.partitionkey, subject);
    }

    #[test]
    fn a_type_that_this_release_does_not_know_is_passed_on_without_a_schema() {
        let read = written(&Envelope { type_with_version: "fax.sent.v3", ..envelope() }, "{}");
        assert_eq!(read.type_name, "io.signalbox.fax.sent.v3");
        assert_eq!(read.dataschema, None);
        assert!(matches!(read.event(), Err(ReadError::UnknownType(_))));
    }

    #[test]
    fn the_partition_key_names_the_tenant_once() {
        assert_eq!(partition_key("acme", "acme/401@acme.example"), "acme/401@acme.example");
        assert_eq!(partition_key("acme", "acme"), "acme/acme");
        assert_eq!(partition_key("", "192.0.2.7"), "_/192.0.2.7");
    }

    #[test]
    fn a_store_is_a_source_of_its_own() {
        let store = JournalId::new(1_763_719_200_000, [9; 10]);
        let read =
            written(&Envelope { source: Source::Store { cluster: "prod", store }, ..envelope() }, "{}");
        assert_eq!(read.source, format!("urn:signalbox:prod:store:{store}"));
        assert_eq!(read.id, EventId { journal: store, seq: EventSeq(42) });
    }
}
