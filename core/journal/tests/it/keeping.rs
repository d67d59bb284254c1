//! The keeper: digests, retention, overrun, the archive that readers go on reading.

use crate::support::{
    commit_events, faulty, from_oldest, open, open_at, read_all, refused, sequences, small,
};
use sha2::{Digest, Sha256};
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::storage::{OpenMode, SharedStorage};
use signalbox_journal::{
    Config, Error, Fact, Keeper, Layout, MaxSize, Overrun, Pressure, Reader, Sealed, Sink, SnapshotWriter,
    Start, Writer, doctor,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const T: Wall = Wall::from_secs(1_000);

fn generous() -> Config {
    Config { max_size: MaxSize::Bytes(1 << 40), retain: Duration::from_secs(100), ..small() }
}

fn confirm_all(keeper: &mut Keeper, facts: &[Fact]) -> Vec<Sealed> {
    let sealed: Vec<_> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Sealed(sealed) => Some(sealed.clone()),
            _ => None,
        })
        .collect();
    for one in &sealed {
        keeper.confirm_sealed(one).unwrap();
    }
    sealed
}

fn fill(writer: &mut Writer, until: u64) {
    while commit_events(writer, 3, T) < EventSeq(until) {}
}

fn segments(storage: &SharedStorage) -> Vec<String> {
    let entries = storage.list(Path::new("/j")).unwrap();
    entries.into_iter().map(|e| e.name).filter(|n| n.ends_with(".seg")).collect()
}

fn bytes_of(storage: &SharedStorage, path: &Path) -> Vec<u8> {
    let file = storage.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_sealed_segments_digest_is_told_until_it_is_confirmed_and_is_that_of_the_file() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open_at(&storage, &generous(), 1).unwrap();
    fill(&mut writer, 60);
    let told = writer.keeper().turn(T).unwrap();
    assert!(!told.is_empty());
    // A keeper of another run that never heard a confirmation tells the same again.
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    assert_eq!(facts, told);
    assert_eq!(keeper.turn(T).unwrap(), []);
    for sealed in confirm_all(&mut keeper, &facts) {
        let digest = Sha256::digest(bytes_of(&storage, &Path::new("/j").join(&sealed.segment)));
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(sealed.sha256, hex);
    }
    assert_eq!(writer.keeper().turn(T).unwrap(), []);
    assert!(doctor::verify(&storage, &Layout::new("/j")).unwrap().is_sound());
    assert_eq!(sequences(&mut from_oldest(&writer)).len(), 60);
}

#[test]
fn an_edited_sealed_segment_is_noticed_even_with_right_crcs() {
    let (disk, storage) = faulty(0);
    let (mut writer, _) = open_at(&storage, &generous(), 1).unwrap();
    fill(&mut writer, 60);
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    let sealed = confirm_all(&mut keeper, &facts);
    // Padding is outside every CRC, but not outside the digest.
    let path = Path::new("/j").join(&sealed[0].segment);
    let last = bytes_of(&storage, &path).len() as u64 - 1;
    disk.corrupt(&path, last, |byte| byte ^ 1);
    let report = doctor::verify(&storage, &Layout::new("/j")).unwrap();
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert!(report.damage[0].reason.contains("SHA-256"));
}

#[test]
fn a_damaged_segment_is_told_once_and_kept_with_all_after_it() {
    let (disk, storage) = faulty(0);
    let config = Config { retain: Duration::ZERO, ..generous() };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    fill(&mut writer, 120);
    let second = segments(&storage)[1].clone();
    disk.corrupt(&Path::new("/j").join(&second), 5_000, |byte| byte ^ 1);
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    let damaged: Vec<_> =
        facts.iter().filter(|f| matches!(f, Fact::Damaged(d) if d.offset >= 4096)).collect();
    assert_eq!(damaged.len(), 1, "{facts:?}");
    confirm_all(&mut keeper, &facts);
    assert_eq!(keeper.turn(T).unwrap(), []);
    assert_eq!(segments(&storage)[0], second);
    assert_eq!(keeper.pressure(), Pressure::Normal);
}

#[test]
fn old_segments_go_when_every_sink_is_past_them() {
    let (_, storage) = faulty(0);
    let config = Config { sinks: vec![Sink::local("store"), Sink::remote("nats")], ..generous() };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    fill(&mut writer, 90);
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    confirm_all(&mut keeper, &facts);
    let before = segments(&storage);
    let later = T.plus(Duration::from_secs(200));
    // Nobody has read anything: all stay.
    assert_eq!(keeper.turn(later).unwrap(), []);
    assert_eq!(segments(&storage), before);
    let cursors = writer.cursors();
    for sink in ["store", "nats"] {
        let (holder, _) = cursors.acquire(sink, EventSeq(0), T).unwrap();
        cursors.advance(&holder, EventSeq(90), T).unwrap();
        let left = segments(&storage).len();
        assert_eq!(keeper.turn(later).unwrap(), []);
        assert_eq!(segments(&storage).len(), if sink == "store" { left } else { 1 });
    }
    drop(keeper);
    drop(writer);
    let (_, recovered) = open_at(&storage, &config, 2).unwrap();
    assert_eq!(recovered.last, EventSeq(90));
    assert!(recovered.oldest > EventSeq(1));
}

#[test]
fn at_max_size_the_remote_sink_is_overrun_and_the_store_is_not() {
    let (_, storage) = faulty(0);
    let sinks = vec![Sink::local("store"), Sink::remote("nats")];
    let config = Config { sinks, max_size: MaxSize::Bytes(64 * 1024), ..generous() };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    fill(&mut writer, 240);
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    confirm_all(&mut keeper, &facts);
    // The store has read nothing: nothing goes, and the pressure says so.
    keeper.turn(T).unwrap();
    assert_eq!(keeper.pressure(), Pressure::Full);
    assert_eq!(from_oldest(&writer).next().unwrap().unwrap().seq, EventSeq(1));
    // The store catches up: the broker's events go, and the loss is named exactly.
    let cursors = writer.cursors();
    let (holder, _) = cursors.acquire("store", EventSeq(0), T).unwrap();
    cursors.advance(&holder, EventSeq(240), T).unwrap();
    let facts = keeper.turn(T).unwrap();
    let oldest: u64 = segments(&storage)[0][..20].parse().unwrap();
    let overrun = Overrun { sink: "nats".into(), from: EventSeq(1), to: EventSeq(oldest - 1) };
    assert_eq!(facts, [Fact::Overrun(overrun), Fact::Pressure(Pressure::Normal)]);
    let mut nats = writer.reader(Start::Seq(EventSeq(1))).unwrap();
    assert!(matches!(refused(nats.next().map(drop)), Error::Gap(gap) if gap.to == EventSeq(oldest - 1)));
    assert_eq!(nats.next().unwrap().unwrap().seq, EventSeq(oldest));
}

#[test]
fn archived_segments_are_read_as_if_they_had_stayed() {
    let (disk, storage) = faulty(0);
    let archive = PathBuf::from("/archive");
    let config = Config { archive: Some(archive.clone()), retain: Duration::ZERO, ..generous() };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    for secs in 0..40 {
        commit_events(&mut writer, 3, Wall::from_secs(secs));
    }
    let before = read_all(&mut from_oldest(&writer)).unwrap();
    let mut halfway = writer.reader(Start::Seq(EventSeq(50))).unwrap();
    assert_eq!(halfway.next().unwrap().unwrap().seq, EventSeq(50));
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    confirm_all(&mut keeper, &facts);
    keeper.turn(T).unwrap();
    assert_eq!(segments(&storage).len(), 1);
    assert_eq!(read_all(&mut from_oldest(&writer)).unwrap(), before);
    assert_eq!(sequences(&mut halfway), (51..=120).collect::<Vec<_>>());
    for secs in 0..40 {
        let mut reader = writer.reader(Start::Time(Wall::from_secs(secs))).unwrap();
        assert_eq!(sequences(&mut reader)[0], u64::try_from(secs).unwrap() * 3 + 1);
    }
    let layout = Layout { dir: "/j".into(), archive: Some(archive.clone()) };
    let report = doctor::verify(&storage, &layout).unwrap();
    assert!(report.is_sound() && report.segments[0].archived, "{:?}", report.damage);
    // A damaged archive file is named, not passed over.
    let name = &storage.list(&archive).unwrap()[0].name;
    disk.corrupt(&archive.join(name), 40, |byte| !byte);
    let mut reader = Reader::open_dir(Arc::clone(&storage), layout, Start::Oldest).unwrap();
    let Error::Damaged(damage) = refused(read_all(&mut reader)) else { panic!("not damage") };
    assert_eq!(damage.file, archive.join(name));
}

#[test]
fn what_the_older_snapshot_needs_is_kept() {
    let (_, storage) = faulty(0);
    let config = Config { retain: Duration::ZERO, ..generous() };
    let (mut writer, _) = open_at(&storage, &config, 1).unwrap();
    fill(&mut writer, 90);
    for at in [40, 70] {
        let (mark, journal) = (writer.mark(), writer.journal());
        let layout = Layout::new("/j");
        SnapshotWriter::begin(Arc::clone(&storage), layout, mark, journal, 1, EventSeq(at))
            .unwrap()
            .finish()
            .unwrap();
    }
    let mut keeper = writer.keeper();
    let facts = keeper.turn(T).unwrap();
    confirm_all(&mut keeper, &facts);
    keeper.turn(T).unwrap();
    let oldest: u64 = segments(&storage)[0][..20].parse().unwrap();
    assert!(oldest > 1 && oldest <= 41, "oldest segment starts with {oldest}");
}

#[test]
fn a_keeper_prepares_the_segments_that_the_writer_takes() {
    let (_, storage) = faulty(0);
    let (mut writer, _) = open(&storage);
    let mut keeper = writer.keeper();
    keeper.turn(T).unwrap();
    let spares = |storage: &SharedStorage| {
        let entries = storage.list(Path::new("/j")).unwrap();
        entries.iter().filter(|e| e.name.starts_with("spare-") && e.len == 16 * 1024).count()
    };
    assert_eq!(spares(&storage), 2);
    while segments(&storage).len() < 3 {
        commit_events(&mut writer, 3, T);
    }
    assert_eq!(spares(&storage), 0);
    keeper.turn(T).unwrap();
    assert_eq!(spares(&storage), 2);
    // The next run takes over what is left.
    drop((writer, keeper));
    let (writer, _) = open(&storage);
    writer.keeper().turn(T).unwrap();
    assert_eq!(spares(&storage), 2);
}
