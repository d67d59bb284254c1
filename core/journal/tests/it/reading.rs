//! Readers: the watermark, positions in sequence and time, filters, rollover, gaps, a writer beside them.

use crate::support::{
    Event, commit_events, faulty, from_oldest, open, open_at, read_all, refused, sequences, small,
};
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Error, Filter, Gap, Layout, Reader, Start, doctor};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const T: Wall = Wall::from_secs(1_000);

#[test]
fn no_reader_passes_the_watermark() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 2, T);
    let mut inside = from_oldest(&writer);
    let mut outside = Reader::open_dir(Arc::clone(&storage), Layout::new("/j"), Start::Oldest).unwrap();
    Event::number(3, 10).append(&mut writer, T).unwrap();
    assert_eq!(sequences(&mut inside), [1, 2]);
    assert_eq!(sequences(&mut outside), [1, 2]);
    writer.commit(T).unwrap();
    assert_eq!(sequences(&mut inside), [3]);
    assert_eq!(sequences(&mut outside), [3]);
    assert_eq!((inside.position(), outside.position()), (EventSeq(4), EventSeq(4)));
}

#[test]
fn a_reader_starts_anywhere() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    for secs in 0..60 {
        commit_events(&mut writer, 2, Wall::from_secs(secs));
    }
    for seq in 1..=121 {
        let mut reader = writer.reader(Start::Seq(EventSeq(seq))).unwrap();
        assert_eq!(sequences(&mut reader), (seq..=120).collect::<Vec<_>>());
    }
    assert!(matches!(refused(writer.reader(Start::Seq(EventSeq(122)))), Error::BeyondEnd { .. }));
    for secs in 0..=60 {
        let mut reader = writer.reader(Start::Time(Wall::from_secs(secs))).unwrap();
        let first = u64::try_from(secs).unwrap() * 2 + 1;
        assert_eq!(sequences(&mut reader), (first..=120).collect::<Vec<_>>(), "second {secs}");
    }
    let mut tail = writer.reader(Start::End).unwrap();
    assert!(sequences(&mut tail).is_empty());
    commit_events(&mut writer, 1, Wall::from_secs(61));
    assert_eq!(sequences(&mut tail), [121]);
}

#[test]
fn a_clock_that_steps_back_hides_nothing_after_the_moment_asked_for() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    for secs in [10, 20, 30, 15, 16] {
        commit_events(&mut writer, 1, Wall::from_secs(secs));
    }
    let mut reader = writer.reader(Start::Time(Wall::from_secs(20))).unwrap();
    assert_eq!(sequences(&mut reader), [2, 3, 4, 5]);
}

#[test]
fn a_filter_passes_over_and_the_position_goes_on() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    commit_events(&mut writer, 30, T);
    let filter = Filter { kinds: vec!["registration.added".into()], tenants: vec!["acme".into()] };
    let mut reader = from_oldest(&writer).with_filter(filter);
    assert_eq!(sequences(&mut reader), (1..=30).step_by(3).collect::<Vec<_>>());
    assert_eq!(reader.position(), EventSeq(31));
    let nobody = Filter { kinds: vec![], tenants: vec!["other".into()] };
    let mut reader = from_oldest(&writer).with_filter(nobody);
    assert_eq!((sequences(&mut reader), reader.position()), (vec![], EventSeq(31)));
}

#[test]
fn a_reader_survives_retention_under_it_and_names_the_gap() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    while commit_events(&mut writer, 3, T) < EventSeq(150) {}
    let mut reader = from_oldest(&writer);
    assert_eq!(reader.next().unwrap().unwrap().seq, EventSeq(1));
    let mut firsts: Vec<_> =
        storage.list(Path::new("/j")).unwrap().into_iter().filter(|e| e.name.ends_with(".seg")).collect();
    let newest = firsts.pop().unwrap();
    for entry in &firsts {
        storage.remove(&Path::new("/j").join(&entry.name)).unwrap();
    }
    // The opened segment is read to its end, then the loss is named, then it goes on.
    let second: u64 = firsts[1].name[..20].parse().unwrap();
    let resumes: u64 = newest.name[..20].parse().unwrap();
    for seq in 2..second {
        assert_eq!(reader.next().unwrap().unwrap().seq, EventSeq(seq));
    }
    let gap = Gap { from: EventSeq(second), to: EventSeq(resumes - 1) };
    match reader.next().map(|r| r.map(|r| r.seq)) {
        Err(Error::Gap(found)) => assert_eq!(found, gap),
        other => panic!("{other:?}"),
    }
    assert_eq!(sequences(&mut reader), (resumes..=writer.next_seq().0 - 1).collect::<Vec<_>>());
    let mut late = writer.reader(Start::Seq(EventSeq(1))).unwrap();
    match late.next().map(|r| r.map(|r| r.seq)) {
        Err(Error::Gap(found)) => assert_eq!(found, Gap { from: EventSeq(1), ..gap }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_larger_than_the_read_chunk_are_read() {
    let (_, storage) = faulty(0);
    let config = Config { segment_size: 4 << 20, ..small() };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    for n in 1..=6 {
        Event::number(n, 900_000).append(&mut writer, T).unwrap();
        Event::number(n, 5).append(&mut writer, T).unwrap();
    }
    writer.commit(T).unwrap();
    assert_eq!(sequences(&mut from_oldest(&writer)), (1..=12).collect::<Vec<_>>());
}

#[test]
fn readers_beside_a_writer_see_every_record_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let storage: SharedStorage = Arc::new(FileStorage);
    let config = Config { segment_size: 64 * 1024, ..Config::new(dir.path().join("j")) };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    let total = 5_000;
    let readers: Vec<_> = (0..3)
        .map(|i| {
            let mut reader = match i {
                0 => Reader::open_dir(Arc::clone(&storage), Layout::new(&config.dir), Start::Oldest).unwrap(),
                _ => from_oldest(&writer),
            };
            let watermark = writer.watermark();
            std::thread::spawn(move || {
                let mut next = 1;
                while next <= total {
                    for (seq, event) in read_all(&mut reader).unwrap() {
                        assert_eq!((seq.0, event.subject), (next, format!("acme/{next}")));
                        next += 1;
                    }
                    let _ = watermark.wait_beyond(EventSeq(next - 1), Duration::from_millis(50));
                }
            })
        })
        .collect();
    while commit_events(&mut writer, 50, T) < EventSeq(total) {}
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn given_real_files_when_small_and_large_batches_take_turns_then_every_reader_sees_each_at_once_and_after_a_restart()
 {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_size: 1 << 20, ..Config::new(dir.path()) };
    let storage: SharedStorage = Arc::new(FileStorage);
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    let mut inside = from_oldest(&writer);
    let layout = Layout::new(dir.path());
    let mut outside = Reader::open_dir(Arc::clone(&storage), layout.clone(), Start::Oldest).unwrap();
    // A large batch goes past the page cache, where the readers' look beyond the end has left zeros.
    for count in [1, 1_500, 2, 3, 1_500, 1_500, 1, 1_500] {
        let first = writer.next_seq().0;
        commit_events(&mut writer, count, T);
        let expected: Vec<u64> = (first..first + count).collect();
        assert_eq!(sequences(&mut inside), expected);
        assert_eq!(sequences(&mut outside), expected);
    }
    let all = writer.next_seq().0;
    drop(writer);
    let report = doctor::verify(&storage, &layout).unwrap();
    assert!(report.is_sound() && report.torn_tail.is_none() && report.segments.len() >= 2, "{report:?}");
    let (writer, recovered) = open_at(&storage, &config, 2).unwrap();
    assert_eq!((recovered.last, recovered.cut), (EventSeq(all - 1), None));
    assert_eq!(sequences(&mut from_oldest(&writer)), (1..all).collect::<Vec<_>>());
}
