//! Cursors and snapshots: what others know of the journal, and how far they may be trusted.

use crate::support::{Event, commit_events, faulty, open, refused};
use signalbox_base::{EventSeq, JournalId, Wall};
use signalbox_journal::storage::faulty::Faults;
use signalbox_journal::storage::{SharedStorage, Storage};
use signalbox_journal::{Cursors, Error, Layout, Mark, SnapshotReader, SnapshotWriter};
use std::path::Path;
use std::sync::Arc;

const T: Wall = Wall::from_secs(1_000);

#[test]
fn a_cursor_is_kept_and_only_moves_forward_over_durable_events() {
    let (disk, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 5, T);
    Event::number(6, 1).append(&mut writer, T).unwrap();
    let cursors = writer.cursors();
    let (holder, start) = cursors.acquire("nats", EventSeq(0), T).unwrap();
    assert_eq!((start.seq, start.epoch), (EventSeq(0), 1));
    cursors.advance(&holder, EventSeq(4), T).unwrap();
    cursors.advance(&holder, EventSeq(2), T).unwrap();
    assert!(matches!(refused(cursors.advance(&holder, EventSeq(6), T)), Error::BeyondEnd { .. }));
    let lag = &cursors.lag().unwrap()[0];
    assert_eq!((lag.seq, lag.events, lag.since), (EventSeq(4), 1, Some(T)));
    drop(writer);
    disk.cut_power();
    let (writer, _) = open(&storage);
    assert_eq!(writer.cursors().get("nats").unwrap().map(|c| c.seq), Some(EventSeq(4)));
    assert_eq!(writer.cursors().get("kafka").unwrap(), None);
    assert!(matches!(refused(writer.cursors().acquire("../x", EventSeq(0), T)), Error::BadConfig { .. }));
}

#[test]
fn whoever_acquired_last_is_the_only_one_who_may_advance() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 5, T);
    let here = writer.cursors();
    // The other holder is in another process: it knows the journal by its files only.
    let mark = Mark::file(Arc::clone(&storage), "/j/watermark".into());
    let there = Cursors::new(Arc::clone(&storage), Layout::new("/j"), mark);
    let (old, _) = here.acquire("store", EventSeq(0), T).unwrap();
    here.advance(&old, EventSeq(1), T).unwrap();
    let (new, found) = there.acquire("store", EventSeq(0), T).unwrap();
    assert_eq!((found.seq, found.epoch), (EventSeq(1), 2));
    match refused(here.advance(&old, EventSeq(3), T)) {
        Error::Fenced { held, current, .. } => assert_eq!((held, current), (1, 2)),
        other => panic!("{other}"),
    }
    there.advance(&new, EventSeq(3), T).unwrap();
    assert_eq!(here.get("store").unwrap().map(|c| c.seq), Some(EventSeq(3)));
}

#[test]
fn a_crash_while_a_cursor_is_replaced_leaves_the_old_or_the_new() {
    for seed in 0..8 {
        for die_at in 0..6 {
            let (disk, storage) = faulty(seed);
            let (mut writer, _) = open(&storage);
            commit_events(&mut writer, 5, T);
            let cursors = writer.cursors();
            let (holder, _) = cursors.acquire("nats", EventSeq(2), T).unwrap();
            disk.set_faults(Faults { die_at: Some(die_at), ..Faults::default() });
            let told = cursors.advance(&holder, EventSeq(5), T).is_ok();
            drop((writer, cursors));
            disk.cut_power();
            let seq = open(&storage).0.cursors().get("nats").unwrap().unwrap().seq.0;
            assert!(seq == 5 || seq == 2 && !told, "seed {seed}, operation {die_at}: {seq}");
        }
    }
}

#[test]
fn a_damaged_cursor_is_an_error_with_a_way_out_and_put_aside_by_the_next_start() {
    let (disk, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 5, T);
    writer.cursors().acquire("nats", EventSeq(2), T).unwrap();
    disk.corrupt(Path::new("/j/cursors/nats.cur"), 17, |byte| byte ^ 1);
    let error = refused(writer.cursors().get("nats"));
    assert!(matches!(error, Error::BadCursor { .. }) && error.to_string().contains("delete it"), "{error}");
    drop(writer);
    let (writer, recovered) = open(&storage);
    assert_eq!(recovered.cursors_aside, [Path::new("/j/cursors/nats.cur.damaged")]);
    let (_, cursor) = writer.cursors().acquire("nats", EventSeq(0), T).unwrap();
    assert_eq!(cursor.seq, EventSeq(0), "it begins again");
    drop(writer);
    assert!(open(&storage).1.cursors_aside.is_empty());
}

fn begin(storage: &SharedStorage, mark: Mark, version: u32, at: u64) -> SnapshotWriter {
    let (storage, layout) = (Arc::clone(storage), Layout::new("/j"));
    SnapshotWriter::begin(storage, layout, mark, JournalId(1), version, EventSeq(at)).unwrap()
}

fn newest(storage: &SharedStorage, version: u32, durable: u64) -> Option<SnapshotReader> {
    SnapshotReader::newest(storage, &Layout::new("/j"), version, EventSeq(durable)).unwrap()
}

#[test]
fn a_snapshot_taken_over_many_turns_reads_back_with_each_aggregates_sequence() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 3, T);
    let mut snapshot = begin(&storage, writer.mark(), 7, 3);
    let big = vec![5; 300_000];
    for n in 0..5u64 {
        let seq = commit_events(&mut writer, 1, T);
        snapshot.put(format!("aor/{n}").as_bytes(), seq, &big).unwrap();
    }
    snapshot.finish().unwrap();
    let reader = newest(&storage, 7, 8).unwrap();
    assert_eq!((reader.begin_seq(), reader.journal()), (EventSeq(3), JournalId(1)));
    let entries: Vec<_> = reader.entries().map(|e| (e.key.to_vec(), e.seq.0, e.value == big)).collect();
    let expected: Vec<_> = (0..5).map(|n| (format!("aor/{n}").into_bytes(), 4 + n, true)).collect();
    assert_eq!(entries, expected);
}

#[test]
fn a_snapshot_never_outlives_the_events_it_came_from() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 3, T);
    let mut snapshot = begin(&storage, writer.mark(), 7, 3);
    Event::number(4, 1).append(&mut writer, T).unwrap();
    snapshot.put(b"k", EventSeq(4), b"v").unwrap();
    assert!(matches!(refused(snapshot.finish()), Error::SnapshotAhead { .. }));
    writer.commit(T).unwrap();
    snapshot.finish().unwrap();
    assert!(newest(&storage, 7, 4).is_some());
    assert!(newest(&storage, 7, 3).is_none(), "a journal that ends before it does not know its state");
}

#[test]
fn damaged_unfinished_and_foreign_snapshots_are_passed_over_and_two_are_kept() {
    let (disk, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 9, T);
    for at in [2, 4, 6] {
        let mut snapshot = begin(&storage, writer.mark(), 7, at);
        snapshot.put(b"k", EventSeq(at), b"v").unwrap();
        snapshot.finish().unwrap();
    }
    let names: Vec<_> = disk.list(Path::new("/j/snapshots")).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["00000000000000000004.snap", "00000000000000000006.snap"]);
    begin(&storage, writer.mark(), 7, 8).put(b"k", EventSeq(8), b"v").unwrap();
    assert_eq!(newest(&storage, 7, 9).unwrap().begin_seq(), EventSeq(6));
    assert!(newest(&storage, 8, 9).is_none());
    for offset in 0..=70 {
        let flip = |byte: u8| byte ^ 4;
        disk.corrupt(Path::new("/j/snapshots/00000000000000000006.snap"), offset, flip);
        assert_eq!(newest(&storage, 7, 9).unwrap().begin_seq(), EventSeq(4), "byte {offset}");
        disk.corrupt(Path::new("/j/snapshots/00000000000000000006.snap"), offset, flip);
    }
}
