//! Flipped bits are found and located, and never repaired by themselves.

use crate::support::{commit_events, effort, faulty, from_oldest, open, open_at, read_all, refused, small};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::storage::SharedStorage;
use signalbox_journal::storage::faulty::FaultyStorage;
use signalbox_journal::{Error, Filter, Layout, Reader, Start, doctor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const T: Wall = Wall::from_secs(1_000);

/// Sixty records in batches of three, over several segments.
fn journal(seed: u64) -> (FaultyStorage, SharedStorage, Layout) {
    let (disk, storage) = faulty(seed);
    let (mut writer, _) = open(&storage);
    while commit_events(&mut writer, 3, T) < EventSeq(60) {}
    (disk, storage, Layout::new("/j"))
}

/// Offset and used length of every batch of a file.
fn batches(storage: &SharedStorage, file: &Path) -> Vec<(u64, u64)> {
    let handle = storage.open(file, signalbox_journal::storage::OpenMode::Read).unwrap();
    let mut at = 4096;
    let mut found = Vec::new();
    loop {
        let mut bytes = [0; 64];
        let got = handle.read_at(&mut bytes, at).unwrap();
        let Some(header) = signalbox_journal::format::BatchHeader::decode(&bytes[..got]) else {
            return found;
        };
        found.push((at, header.bytes() as u64));
        at += header.padded() as u64;
    }
}

#[test]
fn a_sound_journal_verifies_and_dumps() {
    let (_, storage, layout) = journal(0);
    let report = doctor::verify(&storage, &layout).unwrap();
    assert!(report.is_sound() && report.torn_tail.is_none(), "{report:?}");
    assert_eq!(report.range, Some((EventSeq(1), EventSeq(60))));
    assert!(report.segments.len() >= 2);
    let filter = Filter { kinds: vec!["call".into()], tenants: vec![] };
    let mut shown = Vec::new();
    let count = doctor::dump(&storage, &layout, EventSeq(10), &filter, |record| {
        shown.push(record.seq.0);
        Ok(())
    });
    assert_eq!((count.unwrap(), shown), (17, (12..=60).step_by(3).collect()));
    assert_eq!(doctor::repair(&storage, &layout).unwrap(), None);
}

#[test]
fn a_flipped_bit_is_located_and_stops_every_reader_at_the_batch_before() {
    for seed in 0..60 * effort() {
        let (disk, storage, layout) = journal(seed);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let files: Vec<PathBuf> =
            doctor::verify(&storage, &layout).unwrap().segments.into_iter().map(|s| s.file).collect();
        let number = random.random_range(0..files.len());
        let all = batches(&storage, &files[number]);
        let last_file = number + 1 == files.len();
        // The last batch of all could be a torn tail; that is another story.
        let choices = all.len() - usize::from(last_file);
        if choices == 0 {
            continue;
        }
        let (at, len) = all[random.random_range(0..choices)];
        let flipped = at + random.random_range(0..len);
        disk.corrupt(&files[number], flipped, |byte| byte ^ 0x10);

        let report = doctor::verify(&storage, &layout).unwrap();
        let damage = report.damage.first().unwrap_or_else(|| panic!("seed {seed}: not noticed"));
        assert_eq!((&damage.file, damage.offset), (&files[number], at), "seed {seed}");
        let mut reader = Reader::open_dir(Arc::clone(&storage), layout.clone(), Start::Oldest).unwrap();
        let error = refused(read_all(&mut reader));
        let Error::Damaged(found) = error else { panic!("seed {seed}: {error}") };
        assert_eq!((&found.file, found.offset), (&files[number], at), "seed {seed}");
        if last_file {
            assert!(matches!(refused(open_at(&storage, &small(), 2_000)), Error::Damaged(_)), "seed {seed}");
            assert!(matches!(refused(doctor::repair(&storage, &layout)), Error::Damaged(_)), "seed {seed}");
        }
    }
}

#[test]
fn repair_cuts_a_torn_tail_and_says_what() {
    let (_, storage, layout) = journal(1);
    let report = doctor::verify(&storage, &layout).unwrap();
    let last = report.segments.last().unwrap();
    let file = storage.open(&last.file, signalbox_journal::storage::OpenMode::Write).unwrap();
    file.write_at(b"SBXB half a batch", last.bytes).unwrap();
    let torn = doctor::verify(&storage, &layout).unwrap();
    assert!(torn.is_sound());
    let cut = doctor::repair(&storage, &layout).unwrap().unwrap();
    assert_eq!((&cut.file, cut.offset, cut.bytes), (&last.file, last.bytes, 17));
    assert_eq!(torn.torn_tail, Some(cut));
    assert_eq!(doctor::verify(&storage, &layout).unwrap().torn_tail, None);
    assert_eq!(read_all(&mut from_oldest(&open(&storage).0)).unwrap().len(), 60);
}

#[test]
fn a_batch_that_vanished_is_damage_not_a_gap() {
    let (disk, storage, layout) = journal(2);
    let first = layout.dir.join("00000000000000000001.seg");
    let (at, len) = *batches(&storage, &first).last().unwrap();
    for offset in at..at + len {
        disk.corrupt(&first, offset, |_| 0);
    }
    let mut reader = Reader::open_dir(storage, layout, Start::Oldest).unwrap();
    let Error::Damaged(found) = refused(read_all(&mut reader)) else { panic!("not damage") };
    assert_eq!((found.file, found.offset), (first, at));
}

#[test]
fn bytes_inside_a_record_cannot_pass_for_a_batch() {
    // Given a torn batch whose private bytes hold a whole batch of another life of this journal
    let (_, other) = faulty(9);
    let (mut writer, _) = open(&other);
    commit_events(&mut writer, 60, T);
    let at = batches(&other, Path::new("/j/00000000000000000001.seg"))[0];
    let mut batch = vec![0; usize::try_from(at.1).unwrap()];
    let path = Path::new("/j/00000000000000000001.seg");
    other.open(path, signalbox_journal::storage::OpenMode::Read).unwrap().read_at(&mut batch, at.0).unwrap();

    let (_, storage) = faulty(9);
    let (mut writer, _) = open_at(&storage, &small(), 77).unwrap();
    commit_events(&mut writer, 1, T);
    drop(writer);
    let file = storage.open(path, signalbox_journal::storage::OpenMode::Write).unwrap();
    let end = batches(&storage, path)[0];
    file.write_at(&batch, (end.0 + end.1).next_multiple_of(512) + 512).unwrap();
    let (_, recovered) = open_at(&storage, &small(), 78).unwrap();
    assert_eq!(recovered.last, EventSeq(1));
    assert!(recovered.cut.is_some());
}
