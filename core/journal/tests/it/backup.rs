//! Backup and restore: nothing is put in place that does not verify.

use crate::support::{commit_events, faulty, open, open_at, read_all, refused, sequences, small};
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::backup::{self, Extra, Manifest, backup};
use signalbox_journal::restore::restore;
use signalbox_journal::storage::faulty::{Faults, FaultyStorage};
use signalbox_journal::storage::{OpenMode, SharedStorage, Storage};
use signalbox_journal::{Config, Error, Layout, Result, Start, Writer, doctor};
use std::path::{Path, PathBuf};

const T: Wall = Wall::from_secs(1_000);
const OUT: &str = "/backups/one.tar.zst";

fn extras() -> Vec<Extra> {
    vec![
        Extra { name: "signalbox.db".into(), path: "/data/signalbox.db".into() },
        Extra { name: "etc/signalbox.toml".into(), path: "/data/signalbox.toml".into() },
    ]
}

/// A journal of several segments with a cursor, and two files beside it.
fn world(seed: u64) -> (FaultyStorage, SharedStorage, Writer) {
    let (disk, storage) = faulty(seed);
    let (mut writer, _) = open(&storage);
    while commit_events(&mut writer, 5, T) < EventSeq(60) {}
    let (holder, _) = writer.cursors().acquire("nats", EventSeq(0), T).unwrap();
    writer.cursors().advance(&holder, EventSeq(33), T).unwrap();
    for dir in ["/data", "/backups"] {
        storage.create_dir(Path::new(dir)).unwrap();
    }
    for extra in extras() {
        let file = storage.open(&extra.path, OpenMode::Create).unwrap();
        file.write_at(extra.name.repeat(1000).as_bytes(), 0).unwrap();
    }
    (disk, storage, writer)
}

fn back_up(storage: &SharedStorage) -> Result<Manifest> {
    backup(storage, &Layout::new("/j"), &extras(), Path::new(OUT), T)
}

#[test]
fn a_live_journal_is_backed_up_to_its_durable_end_and_restored_whole() {
    let (_, storage, mut writer) = world(0);
    crate::support::Event::number(61, 5).append(&mut writer, T).unwrap();
    let manifest = back_up(&storage).unwrap();
    assert_eq!((manifest.last, manifest.journal), (EventSeq(60), Some(writer.journal())));
    assert_eq!(backup::verify(&storage, Path::new(OUT)).unwrap(), manifest);
    let before = read_all(&mut writer.reader(Start::Oldest).unwrap()).unwrap();

    assert_eq!(restore(&storage, Path::new(OUT), Path::new("/new")).unwrap(), manifest);
    let config = Config { dir: "/new/journal".into(), ..small() };
    let (mut restored, recovered) = open_at(&storage, &config, 5_000).unwrap();
    assert_eq!((recovered.last, recovered.journal), (EventSeq(60), writer.journal()));
    assert_eq!(read_all(&mut restored.reader(Start::Oldest).unwrap()).unwrap(), before);
    assert_eq!(restored.cursors().get("nats").unwrap().map(|c| c.seq), Some(EventSeq(33)));
    let file = storage.open(Path::new("/new/etc/signalbox.toml"), OpenMode::Read).unwrap();
    assert_eq!(file.len().unwrap(), 18_000);
    // The old journal lives on, so the restored one takes a new name before it goes on counting.
    let old = restored.journal();
    assert_ne!(restored.fork_identity(T, [3; 10]).unwrap(), old);
    assert_eq!(commit_events(&mut restored, 1, T), EventSeq(61));
    assert_eq!(sequences(&mut restored.reader(Start::Seq(EventSeq(60))).unwrap()), [60, 61]);
}

#[test]
fn a_journal_at_rest_is_backed_up_without_its_watermark_and_torn_tail() {
    let (_, storage, writer) = world(0);
    drop(writer);
    storage.remove(Path::new("/j/watermark")).unwrap();
    let report = doctor::verify(&storage, &Layout::new("/j")).unwrap();
    let last = report.segments.last().unwrap();
    storage.open(&last.file, OpenMode::Write).unwrap().write_at(b"torn", last.bytes).unwrap();
    assert_eq!(back_up(&storage).unwrap().last, EventSeq(60));
    restore(&storage, Path::new(OUT), Path::new("/new")).unwrap();
}

#[test]
fn a_backup_is_refused_over_another_or_of_a_damaged_journal() {
    let (disk, storage, _writer) = world(0);
    back_up(&storage).unwrap();
    assert!(matches!(refused(back_up(&storage)), Error::BadBackup { .. }));
    storage.remove(Path::new(OUT)).unwrap();
    disk.corrupt(Path::new("/j/00000000000000000001.seg"), 5_000, |byte| byte ^ 1);
    assert!(matches!(refused(back_up(&storage)), Error::Damaged(_)));
    let bad = [Extra { name: "../etc/passwd".into(), path: "/data/signalbox.db".into() }];
    let error = refused(backup(&storage, &Layout::new("/j"), &bad, Path::new("/backups/two"), T));
    assert!(matches!(error, Error::BadBackup { .. }));
}

#[test]
fn a_changed_backup_is_refused_before_anything_is_in_place() {
    let (_, probe, _writer) = world(0);
    back_up(&probe).unwrap();
    let len = probe.open(Path::new(OUT), OpenMode::Read).unwrap().len().unwrap();
    for step in 0..40 {
        let (disk, storage, _writer) = world(0);
        back_up(&storage).unwrap();
        disk.corrupt(Path::new(OUT), len * step / 40, |byte| byte ^ 0x20);
        // A bit that the compression does not use may flip unseen; what is restored is right all the same.
        if restore(&storage, Path::new(OUT), Path::new("/new")).is_err() {
            assert!(storage.list(Path::new("/new")).is_err(), "byte {}", len * step / 40);
        } else {
            assert_eq!(backup::verify(&storage, Path::new(OUT)).unwrap().last, EventSeq(60));
        }
    }
    let (_, storage, _writer) = world(0);
    back_up(&storage).unwrap();
    storage.open(Path::new(OUT), OpenMode::Write).unwrap().set_len(len / 2).unwrap();
    assert!(matches!(refused(restore(&storage, Path::new(OUT), Path::new("/new"))), Error::BadBackup { .. }));
}

#[test]
fn a_target_that_holds_something_is_refused() {
    let (_, storage, _writer) = world(0);
    back_up(&storage).unwrap();
    let error = refused(restore(&storage, Path::new(OUT), Path::new("/data")));
    assert!(error.to_string().contains("signalbox.db"), "{error}");
    storage.create_dir(Path::new("/empty")).unwrap();
    restore(&storage, Path::new(OUT), Path::new("/empty")).unwrap();
}

#[test]
fn a_crash_while_restoring_leaves_all_or_nothing() {
    let restored = PathBuf::from("/new/journal");
    let (disk, storage, writer) = world(0);
    back_up(&storage).unwrap();
    drop(writer);
    disk.set_faults(Faults::default());
    restore(&storage, Path::new(OUT), Path::new("/new")).unwrap();
    let count = disk.operations().len() as u64;
    for die_at in 0..count {
        let (disk, storage, writer) = world(die_at);
        back_up(&storage).unwrap();
        drop(writer);
        disk.set_faults(Faults { die_at: Some(die_at), ..Faults::default() });
        restore(&storage, Path::new(OUT), Path::new("/new")).unwrap_err();
        disk.cut_power();
        if disk.list(Path::new("/new")).is_ok() {
            let config = Config { dir: restored.clone(), ..small() };
            assert_eq!(open_at(&storage, &config, 9_000).unwrap().1.last, EventSeq(60), "operation {die_at}");
        } else {
            restore(&storage, Path::new(OUT), Path::new("/new")).unwrap();
        }
    }
}
