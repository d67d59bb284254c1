//! What the stories share: a journal on a disk, records from a counter, and looking at all of it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use signalbox_base::{EdgeIdentity, EventSeq, Wall};
use signalbox_journal::storage::SharedStorage;
use signalbox_journal::storage::faulty::FaultyStorage;
use signalbox_journal::{Config, Error, Journal, NewRecord, Reader, Recovered, Result, Start, Writer};
use std::sync::Arc;

/// How often random stories run: 1 for `make test`, more for a night.
pub(crate) fn effort() -> u64 {
    std::env::var("SIGNALBOX_EFFORT").ok().and_then(|v| v.parse().ok()).unwrap_or(1)
}

pub(crate) fn identity() -> EdgeIdentity {
    EdgeIdentity { cluster: "demo".into(), edge: "edge-1".into() }
}

pub(crate) fn small() -> Config {
    Config { segment_size: 16 * 1024, ..Config::new("/j") }
}

pub(crate) fn faulty(seed: u64) -> (FaultyStorage, SharedStorage) {
    let disk = FaultyStorage::new(seed);
    (disk.clone(), Arc::new(disk))
}

/// A journal opened at second `secs`; the time makes the random bytes, so every start differs.
pub(crate) fn open_at(storage: &SharedStorage, config: &Config, secs: i64) -> Result<(Writer, Recovered)> {
    let mut random = [0; 32];
    ChaCha8Rng::seed_from_u64(secs as u64).fill(&mut random[..]);
    Journal::open(Arc::clone(storage), config.clone(), &identity(), Wall::from_secs(secs), random)
}

pub(crate) fn open(storage: &SharedStorage) -> (Writer, Recovered) {
    open_at(storage, &small(), 1_000).unwrap()
}

/// One event with content that follows from its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) data: Vec<u8>,
}

impl Event {
    pub(crate) fn number(n: u64, len: usize) -> Self {
        let kind = ["call.ended.v1", "registration.added.v2", "backend.state_changed.v1"][(n % 3) as usize];
        let data = format!("{{\"n\":{n},\"x\":\"{}\"}}", "x".repeat(len)).into_bytes();
        Self { kind: kind.to_owned(), subject: format!("acme/{n}"), data }
    }

    pub(crate) fn append(&self, writer: &mut Writer, at: Wall) -> Result<EventSeq> {
        writer.append(&NewRecord {
            expect_seq: None,
            wall: at,
            recorded: at,
            kind: &self.kind,
            tenant: "acme",
            subject: &self.subject,
            correlation: "c_00000000001",
            traceparent: "",
            causation: EventSeq(0),
            data: &self.data,
            private: b"\x00\xffprivate",
        })
    }
}

/// Appends `count` events in one commit and returns the durable end.
pub(crate) fn commit_events(writer: &mut Writer, count: u64, at: Wall) -> EventSeq {
    for _ in 0..count {
        let seq = writer.next_seq();
        Event::number(seq.0, 200).append(writer, at).unwrap();
    }
    writer.commit(at).unwrap()
}

/// All a reader hands out until the watermark.
pub(crate) fn read_all(reader: &mut Reader) -> Result<Vec<(EventSeq, Event)>> {
    let mut all = Vec::new();
    while let Some(record) = reader.next()? {
        let event = Event {
            kind: record.kind.to_owned(),
            subject: record.subject.to_owned(),
            data: record.data.to_owned(),
        };
        all.push((record.seq, event));
    }
    Ok(all)
}

pub(crate) fn sequences(reader: &mut Reader) -> Vec<u64> {
    read_all(reader).unwrap().into_iter().map(|(seq, _)| seq.0).collect()
}

pub(crate) fn from_oldest(writer: &Writer) -> Reader {
    writer.reader(Start::Oldest).unwrap()
}

/// The error of a call that must not succeed.
pub(crate) fn refused<T>(outcome: Result<T>) -> Error {
    match outcome {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => error,
    }
}
