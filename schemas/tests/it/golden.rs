//! Golden samples: real events as consumers get them. They are read by ours and by foreign software, for ever.

use crate::{here, json, tree};
use jsonschema::Validator;
use serde_json::Value;
use signalbox_base::EventSeq;
use signalbox_schemas::envelope::{Envelope, OwnedEnvelope, Source, write_structured};
use signalbox_schemas::{Kind, schema};
use std::collections::BTreeSet;

fn samples() -> Vec<(String, String)> {
    tree(&here("golden"))
}

fn validator(schema: &str) -> Validator {
    jsonschema::options().should_validate_formats(true).build(&json(schema)).unwrap()
}

fn assert_valid(validator: &Validator, value: &Value, name: &str) {
    let errors: Vec<String> =
        validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

/// The schema that the sample itself names, as it is checked in.
fn named_schema(sample: &Value) -> String {
    let urn = sample["dataschema"].as_str().unwrap();
    let path = urn.strip_prefix("urn:signalbox:schemas/").unwrap();
    std::fs::read_to_string(here("json").join(path)).unwrap()
}

#[test]
fn every_event_has_a_sample_in_its_own_directory() {
    let samples = samples();
    for kind in Kind::ALL {
        let prefix = format!("{}/", kind.type_name());
        assert!(samples.iter().any(|(path, _)| path.starts_with(&prefix)), "{prefix} is missing");
    }
    for (path, text) in &samples {
        assert_eq!(path.split_once('/').unwrap().0, json(text)["type"], "{path}");
    }
}

#[test]
fn no_two_samples_have_one_identity_or_one_number_in_a_domain() {
    let mut taken = BTreeSet::new();
    for (path, text) in samples() {
        let sample = json(&text);
        let word = |name: &str| sample[name].as_str().unwrap().to_owned();
        let domain = word("type").split('.').nth(2).unwrap().to_owned();
        assert!(taken.insert((word("source"), "*".to_owned(), word("sequence"))), "{path}: sequence");
        assert!(taken.insert((word("source"), domain, word("domainsequence"))), "{path}: domainsequence");
    }
}

#[test]
fn every_sample_is_valid_by_its_schema_and_the_envelope_s() {
    let envelope = validator(&schema::envelope());
    for (path, text) in samples() {
        let sample = json(&text);
        assert_valid(&envelope, &sample, &path);
        assert_valid(&validator(&named_schema(&sample)), &sample["data"], &path);
    }
}

#[test]
fn the_schemas_refuse_what_is_not_the_event() {
    for (path, text) in samples() {
        let sample = json(&text);
        let validator = validator(&named_schema(&sample));
        let mut data = sample["data"].clone();
        data["edge"] = Value::from(7);
        assert!(!validator.is_valid(&data), "{path}: edge is a number");
        data.as_object_mut().unwrap().remove("edge");
        assert!(!validator.is_valid(&data), "{path}: edge is missing");
    }
}

#[test]
fn the_samples_of_a_kind_together_have_every_field() {
    let samples = samples();
    for kind in Kind::ALL {
        let prefix = format!("{}/", kind.type_name());
        let told: BTreeSet<String> = samples
            .iter()
            .filter(|(path, _)| path.starts_with(&prefix))
            .flat_map(|(_, text)| json(text)["data"].as_object().unwrap().keys().cloned().collect::<Vec<_>>())
            .collect();
        let schema = json(&schema::of(*kind));
        let mut known: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        if *kind == Kind::CallFailed {
            // It shares the call record with call.ended; a call that failed was not answered.
            known.retain(|key| !["answered_at", "setup_ms"].contains(&key.as_str()));
        }
        assert_eq!(told, known, "{}", kind.short());
    }
}

#[test]
fn given_a_sample_when_read_and_written_again_then_it_is_the_same_event() {
    for (path, text) in samples() {
        let read = OwnedEnvelope::read(text.as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}"));
        let event = read.event().unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut data = Vec::new();
        event.write_data(&mut data);

        let parts: Vec<&str> = read.source.split(':').collect();
        let source = match parts[..] {
            ["urn", "signalbox", cluster, "store", _] => Source::Store { cluster, store: read.id.journal },
            ["urn", "signalbox", cluster, edge, _] => {
                Source::Edge { cluster, edge, journal: read.id.journal }
            }
            _ => panic!("{path}: source {}", read.source),
        };
        let envelope = Envelope {
            source,
            seq: read.id.seq,
            domain_seq: EventSeq(read.domainsequence.0),
            type_with_version: event.kind().versioned(),
            tenant: if read.tenantid == "_" { "" } else { &read.tenantid },
            subject: read.subject.as_deref().unwrap_or_default(),
            time: read.time.into(),
            recorded_time: read.recordedtime.into(),
            correlation: read.correlationid.as_deref().unwrap_or_default(),
            causation: read.causationid,
            traceparent: read.traceparent.as_deref().unwrap_or_default(),
        };
        let mut written = Vec::new();
        write_structured(&envelope, &data, &mut written);
        // What is written is of this release; a sample of an earlier minor names its own schema.
        let (mut written, mut sample) = (json(std::str::from_utf8(&written).unwrap()), json(&text));
        let (now, then) = (written["dataschema"].take(), sample["dataschema"].take());
        let version = |urn: &Value| {
            urn.as_str().unwrap().rsplit_once('.').unwrap().0.rsplit_once('.').unwrap().0.to_owned()
        };
        assert_eq!(version(&now), version(&then), "{path}");
        assert_eq!(written, sample, "{path}");
    }
}

#[test]
fn given_a_sample_when_a_cloudevents_sdk_reads_it_then_it_sees_the_same_attributes() {
    use cloudevents::AttributesReader;
    for (path, text) in samples() {
        let event: cloudevents::Event = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let sample = json(&text);
        assert_eq!(event.id(), sample["id"], "{path}");
        assert_eq!(event.ty(), sample["type"], "{path}");
        assert_eq!(event.source(), sample["source"].as_str().unwrap(), "{path}");
        assert_eq!(event.subject().unwrap(), sample["subject"], "{path}");
        assert_eq!(event.dataschema().unwrap().as_str(), sample["dataschema"], "{path}");
        assert!(event.time().is_some(), "{path}");
        let sequence = event.extension("sequence").map(ToString::to_string);
        assert_eq!(sequence.as_deref(), sample["sequence"].as_str(), "{path}");
        assert!(
            matches!(event.data(), Some(cloudevents::Data::Json(data)) if *data == sample["data"]),
            "{path}"
        );
    }
}

#[test]
fn given_a_sample_of_a_later_release_when_read_then_what_is_new_is_passed_over() {
    for (path, text) in samples() {
        let sample = OwnedEnvelope::read(text.as_bytes()).unwrap();
        let mut later = json(sample.data.get());
        later["added_later"] = Value::from(1);
        let schema = json(&named_schema(&json(&text)));
        let mut words = 0;
        for (key, property) in schema["properties"].as_object().unwrap() {
            let definition =
                property["$ref"].as_str().and_then(|r| schema.pointer(r.trim_start_matches('#')));
            if definition.is_some_and(|d| d.get("enum").is_some()) {
                later[key] = Value::from("word_of_tomorrow");
                words += 1;
            }
        }
        let event = signalbox_schemas::Event::read(&sample.type_name, later.to_string().as_bytes())
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut data = Vec::new();
        event.write_data(&mut data);
        let data = String::from_utf8(data).unwrap();
        assert!(!data.contains("added_later") && !data.contains("word_of_tomorrow"), "{path}");
        assert!(data.matches("\"unknown\"").count() >= words, "{path}");
    }
}
