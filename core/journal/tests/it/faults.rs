//! Failed fsyncs, process crashes beside power cuts, torn tails, a full disk.

use crate::support::{Event, commit_events, faulty, from_oldest, open, open_at, refused, sequences, small};
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::storage::faulty::{Faults, Operation};
use signalbox_journal::storage::{OpenMode, SharedStorage};
use signalbox_journal::{Config, Error, Fact, MaxSize, Pressure, Sink, doctor};
use std::path::Path;

const SEGMENT: &str = "/j/00000000000000000001.seg";
const T: Wall = Wall::from_secs(1_000);

/// Fails the next sync that `writer` does in a commit.
fn fail_next_sync(disk: &signalbox_journal::storage::faulty::FaultyStorage) {
    // A commit into a segment with room is one write, then one sync.
    disk.set_faults(Faults { fail: [1].into(), ..Faults::default() });
}

#[test]
fn a_failed_fsync_poisons_the_writer_for_ever() {
    let (disk, storage) = faulty(1);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 2, T);
    fail_next_sync(&disk);
    Event::number(3, 10).append(&mut writer, T).unwrap();
    assert!(matches!(refused(writer.commit(T)), Error::Io { action: "sync", .. }));
    assert_eq!(disk.operations(), [Operation::Write, Operation::Sync]);
    // Nothing is tried again, and nobody is told of the third record.
    assert!(matches!(refused(writer.commit(T)), Error::Poisoned));
    assert!(matches!(refused(Event::number(4, 10).append(&mut writer, T)), Error::Poisoned));
    assert_eq!(disk.operations().len(), 2);
    assert_eq!(writer.watermark().get(), EventSeq(2));
    assert!(writer.watermark().stopped());
    assert_eq!(sequences(&mut from_oldest(&writer)), [1, 2]);
}

#[test]
fn what_is_readable_after_a_failed_fsync_is_lost_by_the_power_cut_unless_recovery_came_between() {
    for recover_between in [false, true] {
        let (disk, storage) = faulty(2);
        let (mut writer, _) = open(&storage);
        commit_events(&mut writer, 2, T);
        fail_next_sync(&disk);
        Event::number(3, 10).append(&mut writer, T).unwrap();
        writer.commit(T).unwrap_err();
        drop(writer);
        disk.crash_process();
        if recover_between {
            assert_eq!(open(&storage).1.last, EventSeq(3), "the bytes are still readable");
        }
        disk.cut_power();
        let (_, recovered) = open(&storage);
        assert_eq!(recovered.last, EventSeq(if recover_between { 3 } else { 2 }));
    }
}

#[test]
fn a_process_crash_keeps_what_a_power_cut_may_lose() {
    // Given a batch that was written while its fsync never returned
    let dead_in_sync = |seed| {
        let (disk, storage) = faulty(seed);
        let (mut writer, _) = open(&storage);
        commit_events(&mut writer, 2, T);
        disk.set_faults(Faults { die_at: Some(1), ..Faults::default() });
        Event::number(3, 3000).append(&mut writer, T).unwrap();
        writer.commit(T).unwrap_err();
        drop(writer);
        (disk, storage)
    };
    // When only the process dies, then the batch is there
    let (disk, storage) = dead_in_sync(0);
    disk.crash_process();
    assert_eq!(open(&storage).1.last, EventSeq(3));
    // When the power goes, then it is there whole or not at all, and a torn one is cut and named
    let mut outcomes = [0, 0];
    for seed in 0..40 {
        let (disk, storage) = dead_in_sync(seed);
        disk.cut_power();
        let (_, recovered) = open(&storage);
        outcomes[usize::from(recovered.cut.is_some())] += 1;
        assert!(recovered.last == EventSeq(2) || recovered.cut.is_none());
    }
    assert!(outcomes[1] > 0, "no seed tore the batch: {outcomes:?}");
}

/// Two batches; the second starts where the first one's sectors end.
fn two_batches(storage: &SharedStorage) -> (u64, u64) {
    let (mut writer, _) = open(storage);
    commit_events(&mut writer, 1, T);
    let first_end = doctor::verify(storage, &signalbox_journal::Layout::new("/j")).unwrap().segments[0].bytes;
    commit_events(&mut writer, 1, T);
    let end = doctor::verify(storage, &signalbox_journal::Layout::new("/j")).unwrap().segments[0].bytes;
    (first_end, end)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_journal_goes_on() {
    let (_, probe) = faulty(0);
    let (start, end) = two_batches(&probe);
    let file = probe.open(Path::new(SEGMENT), OpenMode::Read).unwrap();
    let mut batch = vec![0; usize::try_from(end - start).unwrap()];
    file.read_at(&mut batch, start).unwrap();
    let used = batch.iter().rposition(|b| *b != 0).unwrap() + 1;
    for kept in 0..used {
        let (_, storage) = faulty(0);
        two_batches(&storage);
        storage.remove(Path::new("/j/watermark")).unwrap();
        let file = storage.open(Path::new(SEGMENT), OpenMode::Write).unwrap();
        file.write_at(&vec![0; batch.len() - kept], start + kept as u64).unwrap();
        let (mut writer, recovered) = open(&storage);
        assert_eq!(recovered.last, EventSeq(1), "{kept} bytes kept");
        match recovered.cut {
            Some(cut) => assert!(cut.offset == start && cut.bytes <= kept as u64, "{kept}: {cut:?}"),
            None => assert!(batch[..kept].iter().all(|b| *b == 0), "{kept} bytes kept and none cut"),
        }
        assert_eq!(commit_events(&mut writer, 1, T), EventSeq(2));
        assert_eq!(sequences(&mut from_oldest(&writer)), [1, 2]);
    }
}

#[test]
fn a_tail_that_others_have_seen_is_never_cut() {
    // The watermark file says 2: losing 2 is loss, not a torn tail.
    let (_, storage) = faulty(0);
    let (start, _) = two_batches(&storage);
    let file = storage.open(Path::new(SEGMENT), OpenMode::Write).unwrap();
    file.write_at(&[0xFF; 8], start).unwrap();
    match refused(open_at(&storage, &small(), 2_000)) {
        Error::CutBelow { last, seen, holder, .. } => {
            assert_eq!((last, seen, holder.as_str()), (EventSeq(1), EventSeq(2), "the watermark"));
        }
        other => panic!("{other}"),
    }
    // Without the file, a cursor says the same.
    storage.remove(Path::new("/j/watermark")).unwrap();
    let (_, storage) = faulty(0);
    let (start, _) = two_batches(&storage);
    let (writer, _) = open(&storage);
    let (holder, _) = writer.cursors().acquire("nats", EventSeq(0), T).unwrap();
    writer.cursors().advance(&holder, EventSeq(2), T).unwrap();
    drop(writer);
    storage.remove(Path::new("/j/watermark")).unwrap();
    storage.open(Path::new(SEGMENT), OpenMode::Write).unwrap().write_at(&[0xFF; 8], start).unwrap();
    let error = refused(open_at(&storage, &small(), 2_000));
    assert!(error.to_string().contains("cursor nats has already seen 2"), "{error}");
}

#[test]
fn a_full_disk_stops_at_a_segments_end_and_heals_by_itself() {
    let (disk, storage) = faulty(3);
    let config = Config { sinks: vec![Sink::local("store")], max_size: MaxSize::Bytes(1 << 40), ..small() };
    let (mut writer, _) = open_at(&storage, &config, 1_000).unwrap();
    let mut keeper = writer.keeper();
    assert_eq!(keeper.turn(T).unwrap(), []);
    // Given a disk that has no room beyond what is preallocated
    disk.set_faults(Faults { capacity: Some(0), ..Faults::default() });
    let mut pressures = Vec::new();
    let mut error = None;
    for _ in 0..200 {
        let seq = writer.next_seq();
        Event::number(seq.0, 2000).append(&mut writer, T).unwrap();
        match writer.commit(T) {
            Ok(durable) => assert_eq!(durable, seq),
            Err(e) => {
                error = Some(e);
                break;
            }
        }
        let facts = keeper.turn(T).unwrap();
        pressures.extend(facts.into_iter().filter_map(|f| match f {
            Fact::Pressure(p) => Some(p),
            _ => None,
        }));
    }
    // Then the reserve is used up segment by segment, and the last record waits
    assert!(matches!(error, Some(Error::Full { .. })), "{error:?}");
    assert_eq!(pressures, [Pressure::Reserve, Pressure::Full]);
    assert!(!writer.poisoned());
    let waiting = writer.next_seq().0 - 1;
    assert_eq!(writer.queued().0, 1);
    // When there is room again, then the same record is committed
    disk.set_faults(Faults::default());
    assert_eq!(writer.commit(T).unwrap(), EventSeq(waiting));
    keeper.turn(T).unwrap();
    assert_eq!(keeper.pressure(), Pressure::Normal);
    assert_eq!(sequences(&mut from_oldest(&writer)), (1..=waiting).collect::<Vec<_>>());
}
