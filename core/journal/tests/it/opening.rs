//! What a start accepts and what it refuses, and a new identity for an old journal.

use crate::support::{
    Event, commit_events, faulty, from_oldest, identity, open, open_at, refused, sequences, small,
};
use signalbox_base::{EdgeIdentity, EventSeq, Wall};
use signalbox_journal::format::{FORMAT_VERSION, SegmentHeader};
use signalbox_journal::storage::{OpenMode, SharedStorage};
use signalbox_journal::{Config, Error, Journal, NewRecord};
use std::path::Path;
use std::sync::Arc;

const SEGMENT: &str = "/j/00000000000000000001.seg";
const T: Wall = Wall::from_secs(1_000);

#[test]
fn a_new_journal_starts_at_one_and_an_old_one_goes_on() {
    let (_, storage) = faulty(0);
    let (mut writer, recovered) = open(&storage);
    assert!(recovered.created && recovered.last == EventSeq(0));
    assert_eq!(commit_events(&mut writer, 3, T), EventSeq(3));
    let journal = writer.journal();
    drop(writer);
    let (writer, recovered) = open(&storage);
    assert!(!recovered.created);
    assert_eq!((recovered.journal, recovered.last, writer.next_seq()), (journal, EventSeq(3), EventSeq(4)));
    assert_eq!(recovered.newest, Some(T));
}

#[test]
fn domain_sequences_have_no_hole_over_segments_and_starts() {
    let (_, storage) = faulty(0);
    for start in 0..4 {
        let (mut writer, _) = open_at(&storage, &small(), 1_000 + start).unwrap();
        // Several commits of several batches each, so that segments begin in the middle of a commit too.
        for _ in 0..5 {
            for _ in 0..20 {
                Event::number(writer.next_seq().0, 900).append(&mut writer, T).unwrap();
            }
            writer.commit(T).unwrap();
        }
    }
    let (writer, recovered) = open(&storage);
    let mut reader = from_oldest(&writer);
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    while let Some(record) = reader.next().unwrap() {
        let count = counts.entry(record.domain().to_owned()).or_default();
        *count += 1;
        assert_eq!(record.domain_seq, *count, "{}", record.seq);
    }
    assert_eq!(counts.values().sum::<u64>(), 400);
    let known: Vec<_> = recovered.domains.iter().map(|(name, seq)| (name.to_string(), *seq)).collect();
    assert!(counts.into_iter().all(|entry| known.contains(&entry)), "{known:?}");
    assert!(storage.list(Path::new("/j")).unwrap().iter().filter(|e| e.name.ends_with(".seg")).count() > 10);
}

#[test]
fn a_second_process_is_kept_out() {
    let (_, storage) = faulty(0);
    let (writer, _) = open(&storage);
    assert!(matches!(refused(open_at(&storage, &small(), 2_000)), Error::Locked { .. }));
    drop(writer);
    open(&storage);
}

#[test]
fn another_edges_journal_is_refused_with_both_names() {
    let (_, storage) = faulty(0);
    drop(open(&storage));
    let other = EdgeIdentity { cluster: "demo".into(), edge: "edge-2".into() };
    let error = refused(Journal::open(Arc::clone(&storage), small(), &other, T, [1; 32]));
    assert!(matches!(error, Error::Foreign { .. }));
    let text = error.to_string();
    assert!(text.contains("demo/edge-1") && text.contains("demo/edge-2"), "{text}");
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let (_, storage) = faulty(0);
    drop(open(&storage));
    let file = storage.open(Path::new(SEGMENT), OpenMode::Write).unwrap();
    file.write_at(&(FORMAT_VERSION + 1).to_le_bytes(), 8).unwrap();
    match refused(open_at(&storage, &small(), 2_000)) {
        Error::FutureFormat { found, supported, .. } => assert_eq!((found, supported), (2, 1)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_segment_of_another_journal_in_the_chain_is_refused() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    while commit_events(&mut writer, 10, T) < EventSeq(100) {}
    drop(writer);
    let last =
        storage.list(Path::new("/j")).unwrap().into_iter().rfind(|e| e.name.ends_with(".seg")).unwrap();
    let path = Path::new("/j").join(last.name);
    let file = storage.open(&path, OpenMode::Write).unwrap();
    let mut bytes = vec![0; 4096];
    file.read_at(&mut bytes, 0).unwrap();
    let mut header = SegmentHeader::decode(&bytes, &path).unwrap();
    header.journal = signalbox_base::JournalId(42);
    file.write_at(&header.encode(), 0).unwrap();
    assert!(matches!(refused(open_at(&storage, &small(), 2_000)), Error::Damaged(_)));
}

#[test]
fn a_forked_journal_names_the_one_it_continues_and_counts_domains_anew() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    let old = writer.journal();
    let record = |writer: &mut signalbox_journal::Writer, kind: &str| {
        let event = Event { kind: kind.to_owned(), subject: "s".to_owned(), data: b"{}".to_vec() };
        event.append(writer, T).unwrap();
        writer.commit(T).unwrap();
    };
    for kind in ["call.ended.v1", "call.ended.v1", "edge.started.v1"] {
        record(&mut writer, kind);
    }
    let new = writer.fork_identity(T, [7; 10]).unwrap();
    assert_ne!(old, new);
    record(&mut writer, "call.ended.v1");
    drop(writer);
    // The new source's numbers also go on over a restart.
    let (mut writer, _) = open(&storage);
    record(&mut writer, "call.ended.v1");
    let mut reader = from_oldest(&writer);
    let mut seen = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        seen.push((record.seq.0, record.journal, record.domain().to_owned(), record.domain_seq));
    }
    let [call, edge] = ["call", "edge"].map(str::to_owned);
    let before = [(1, old, call.clone(), 1), (2, old, call.clone(), 2), (3, old, edge, 1)];
    let after = [(4, new, call.clone(), 1), (5, new, call, 2)];
    assert_eq!(seen, [&before[..], &after[..]].concat());
    drop(writer);
    let (writer, recovered) = open(&storage);
    assert_eq!((recovered.journal, recovered.continues), (new, Some(old)));
    drop(writer);
    // Closed, and twice without a record between: what never had a record is not continued.
    let fork = |secs| {
        let random = [u8::try_from(secs).unwrap(); 32];
        Journal::fork_identity(Arc::clone(&storage), small(), &identity(), Wall::from_secs(secs), random)
            .unwrap()
    };
    fork(20);
    let third = fork(21);
    let (_, recovered) = open(&storage);
    assert_eq!((recovered.journal, recovered.continues, recovered.last), (third, Some(new), EventSeq(5)));
}

#[test]
fn the_callers_mistakes_are_named_and_change_nothing() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    let good = NewRecord {
        expect_seq: Some(EventSeq(1)),
        wall: T,
        recorded: T,
        kind: "call.ended.v1",
        tenant: "",
        subject: "",
        correlation: "",
        traceparent: "",
        causation: EventSeq(0),
        data: b"{}",
        private: b"",
    };
    let long = "x".repeat(3000);
    let bad = [
        NewRecord { kind: "nodots", ..good },
        NewRecord { kind: ".ended.v1", ..good },
        NewRecord { tenant: &long, ..good },
        NewRecord { subject: &long, ..good },
        NewRecord { correlation: &long, ..good },
        NewRecord { traceparent: &long, ..good },
        NewRecord { data: &[0; 20_000], ..good },
    ];
    for record in bad {
        assert!(matches!(refused(writer.append(&record)), Error::BadRecord(_)));
    }
    let wrong = NewRecord { expect_seq: Some(EventSeq(2)), ..good };
    assert!(matches!(refused(writer.append(&wrong)), Error::SequenceMismatch { .. }));
    assert_eq!(writer.append(&good).unwrap(), EventSeq(1));
    writer.commit(T).unwrap();
    assert_eq!(sequences(&mut from_oldest(&writer)), [1]);
    let too_small = Config { segment_size: 512, ..small() };
    assert!(matches!(refused(open_at(&faulty(0).1, &too_small, 1)), Error::BadConfig { .. }));
}

#[test]
fn a_lost_directory_is_not_taken_for_a_new_journal_while_a_cursor_remembers() {
    let (_, storage): (_, SharedStorage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 3, T);
    let (holder, _) = writer.cursors().acquire("nats", EventSeq(0), T).unwrap();
    writer.cursors().advance(&holder, EventSeq(3), T).unwrap();
    drop(writer);
    storage.remove(Path::new(SEGMENT)).unwrap();
    storage.remove(Path::new("/j/watermark")).unwrap();
    assert!(matches!(refused(open_at(&storage, &small(), 2_000)), Error::CutBelow { .. }));
}
