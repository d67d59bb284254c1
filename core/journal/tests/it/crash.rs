//! Promise 1, the journal's part: a crash at any write or fsync loses nothing that was released.

use crate::support::{Event, effort, faulty, open_at, read_all, small};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::storage::faulty::{Faults, FaultyStorage, Operation};
use signalbox_journal::storage::{Entry, Lock, OpenMode, SharedStorage, Space, Storage, StoredFile, Wait};
use signalbox_journal::{
    Config, Fact, Layout, Result, Sealed, SnapshotReader, SnapshotWriter, Start, Writer,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// What the world outside has seen of a run, and what the model knows of it.
#[derive(Default)]
struct Seen {
    appended: Vec<Event>,
    /// The highest durable end that a commit returned: packets up to here are on the wire.
    released: EventSeq,
    /// The highest position that a sink was told is stored.
    cursor: EventSeq,
    /// The newest snapshot that was finished: history before it may be retired.
    snapshot: Option<EventSeq>,
    /// Sealed segments whose digest counts.
    sealed: Vec<Sealed>,
}

/// A run of random operations until the end of the script or the first error.
fn live(storage: &SharedStorage, config: &Config, seed: u64, seen: &mut Seen) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut writer, recovered) = open_at(storage, config, 1_000)?;
    assert_eq!(recovered.last.0, seen.appended.len() as u64);
    let cursors = writer.cursors();
    let (holder, _) = cursors.acquire("store", EventSeq(0), Wall(0))?;
    let mut keeper = writer.keeper();
    for step in 0..30 {
        let now = Wall::from_secs(2_000 + step);
        match random.random_range(0..10) {
            0..=5 => commit_some(&mut writer, &mut random, now, seen)?,
            6 => {
                cursors.advance(&holder, seen.released, now)?;
                seen.cursor = seen.released;
            }
            7 => {
                snapshot(storage, config, &writer, seen.released)?;
                seen.snapshot = Some(seen.released);
            }
            8 => {
                for fact in keeper.turn(now)? {
                    if let Fact::Sealed(sealed) = fact {
                        keeper.confirm_sealed(&sealed)?;
                        seen.sealed.push(sealed);
                    }
                }
            }
            _ => {
                let mut reader = writer.reader(Start::Oldest)?;
                assert_eq!(read_all(&mut reader)?.len() as u64, seen.released.0);
            }
        }
    }
    Ok(())
}

fn commit_some(writer: &mut Writer, random: &mut ChaCha8Rng, now: Wall, seen: &mut Seen) -> Result<()> {
    for _ in 0..random.random_range(1..6) {
        let event = Event::number(writer.next_seq().0, random.random_range(0..1200));
        event.append(writer, now)?;
        seen.appended.push(event);
    }
    seen.released = writer.commit(now)?;
    Ok(())
}

fn snapshot(storage: &SharedStorage, config: &Config, writer: &Writer, at: EventSeq) -> Result<()> {
    let layout = Layout::new(&config.dir);
    let (storage, mark) = (Arc::clone(storage), writer.mark());
    let mut snapshot = SnapshotWriter::begin(storage, layout, mark, writer.journal(), 1, at)?;
    snapshot.put(b"key", at, b"value")?;
    snapshot.finish()
}

/// What is kept beside the records: the newest snapshot, and the digests of sealed segments.
fn check_beside(storage: &SharedStorage, config: &Config, seen: &Seen) -> std::result::Result<(), String> {
    let layout = Layout::new(&config.dir);
    let newest = SnapshotReader::newest(storage, &layout, 1, EventSeq(u64::MAX));
    let begin = newest.map_err(|e| format!("no snapshot reads: {e}"))?.map(|reader| reader.begin_seq());
    if begin < seen.snapshot {
        return Err(format!("snapshot {:?} was finished, {begin:?} is there", seen.snapshot));
    }
    let bytes_of = |path: &Path| {
        let file = storage.open(path, OpenMode::Read).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut bytes = vec![0; usize::try_from(file.len().unwrap_or(0)).unwrap_or(0)];
        file.read_at(&mut bytes, 0).map_err(|e| e.to_string())?;
        Ok::<_, String>(bytes)
    };
    for sealed in &seen.sealed {
        let told = bytes_of(&layout.dir.join(format!("{:020}.sha256", sealed.first.0)))?;
        if !told.starts_with(sealed.sha256.as_bytes()) {
            return Err(format!("the digest of {} is gone", sealed.segment));
        }
        let segment = bytes_of(&layout.dir.join(&sealed.segment))?;
        let digest: String = Sha256::digest(&segment).iter().map(|byte| format!("{byte:02x}")).collect();
        if digest != sealed.sha256 {
            return Err(format!("{} is not what its digest says", sealed.segment));
        }
    }
    Ok(())
}

/// Opens what a crash left and compares it with the model; says what is wrong with it.
fn check(
    storage: &SharedStorage,
    config: &Config,
    seen: &mut Seen,
    secs: i64,
) -> std::result::Result<(), String> {
    let (mut writer, recovered) =
        open_at(storage, config, secs).map_err(|e| format!("does not open: {e}"))?;
    if !recovered.cursors_aside.is_empty() {
        return Err(format!("a crash damages no cursor: {:?}", recovered.cursors_aside));
    }
    check_beside(storage, config, seen)?;
    if recovered.last < seen.released || recovered.last < seen.cursor {
        return Err(format!("released {}, recovered {}", seen.released, recovered.last));
    }
    let mut reader = writer.reader(Start::Oldest).map_err(|e| e.to_string())?;
    let read = read_all(&mut reader).map_err(|e| format!("does not read: {e}"))?;
    let prefix = seen.appended.iter().zip(1..).map(|(event, n)| (EventSeq(n), event.clone()));
    let expected: Vec<_> = prefix.take(usize::try_from(recovered.last.0).unwrap()).collect();
    if read != expected {
        return Err(format!("what is read is no prefix of what was written: {} records", read.len()));
    }
    seen.appended.truncate(read.len());
    // What was recovered has been served, so it counts as released; and the journal goes on from there.
    let at = Wall::from_secs(secs);
    let event = Event::number(writer.next_seq().0, 50);
    event.append(&mut writer, at).map_err(|e| e.to_string())?;
    seen.appended.push(event);
    seen.released = writer.commit(at).map_err(|e| e.to_string())?;
    Ok(())
}

/// Runs once with the disk dying at operation `die_at`, crashes, and checks what is left. Then cuts the power twice
/// more, because what recovery accepted and what was added to it must survive that too.
fn survive(
    disk: &FaultyStorage,
    storage: &SharedStorage,
    seed: u64,
    die_at: u64,
) -> std::result::Result<(), String> {
    let (config, mut seen) = (small(), Seen::default());
    disk.set_faults(Faults { die_at: Some(die_at), ..Faults::default() });
    let _ = live(storage, &config, seed, &mut seen);
    for secs in [10_000, 10_001, 10_002] {
        // Every other time only the process dies first, so that unsynced bytes and names are still readable.
        if secs == 10_000 && (seed + die_at) % 2 == 1 {
            disk.crash_process();
        } else {
            disk.cut_power();
        }
        check(storage, &config, &mut seen, secs)
            .map_err(|why| format!("seed {seed}, operation {die_at}: {why}"))?;
    }
    Ok(())
}

fn operations_of(disk: &FaultyStorage, storage: &SharedStorage, seed: u64) -> Vec<Operation> {
    disk.set_faults(Faults::default());
    live(storage, &small(), seed, &mut Seen::default()).expect("without faults the run ends");
    disk.operations()
}

/// Which syncs a disk leaves out.
#[derive(Clone, Copy, Debug)]
enum Omit {
    Data,
    Directories,
    Call(Site),
}

/// Where the journal syncs a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// The header of a new segment, before the segment has its name.
    Header,
    /// A batch of records.
    Batch,
    /// Zeros of a segment to come.
    Spare,
    /// A tail that was accepted after a crash, written again.
    Recovered,
    /// A sealed segment, cut to its length.
    Sealed,
    /// The digest of a sealed segment.
    Digest,
    /// A sink's position.
    Cursor,
    /// A snapshot of the state.
    Snapshot,
}

/// A disk whose syncs of one kind say "done" and do nothing.
struct Unsynced {
    disk: FaultyStorage,
    omit: Omit,
}

struct UnsyncedFile {
    file: Box<dyn StoredFile>,
    omit: Omit,
    path: PathBuf,
    mode: OpenMode,
    /// Syncs so far, whether it was written from its start on, and whether it was cut.
    syncs: AtomicU32,
    from_start: AtomicBool,
    cut: AtomicBool,
}

impl UnsyncedFile {
    fn site(&self) -> Site {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let in_dir = |dir: &str| self.path.parent().is_some_and(|parent| parent.ends_with(dir));
        match name {
            _ if in_dir("cursors") => Site::Cursor,
            _ if in_dir("snapshots") => Site::Snapshot,
            spare if spare.starts_with("spare-") && self.mode == OpenMode::Create => Site::Spare,
            // The writer keeps the handle when the spare becomes a segment.
            spare if spare.starts_with("spare-") && self.syncs.load(Relaxed) == 0 => Site::Header,
            spare if spare.starts_with("spare-") => Site::Batch,
            segment if segment.ends_with(".seg") && self.cut.load(Relaxed) => Site::Sealed,
            segment if segment.ends_with(".seg") && self.from_start.load(Relaxed) => Site::Recovered,
            segment if segment.ends_with(".seg") => Site::Batch,
            digest if digest.ends_with(".tmp") => Site::Digest,
            other => panic!("a file of a kind that this story does not know is synced: {other}"),
        }
    }
}

impl Storage for Unsynced {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StoredFile>> {
        let (file, omit, path) = (self.disk.open(path, mode)?, self.omit, path.to_owned());
        let (syncs, from_start, cut) = Default::default();
        Ok(Box::new(UnsyncedFile { file, omit, path, mode, syncs, from_start, cut }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if matches!(self.omit, Omit::Directories) { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }
    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<Box<dyn Lock>>> {
        self.disk.lock(path, wait)
    }
}

impl StoredFile for UnsyncedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.from_start.fetch_or(offset == 0, Relaxed);
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        let left_out = match self.omit {
            Omit::Data => true,
            Omit::Directories => false,
            Omit::Call(site) => self.site() == site,
        };
        self.syncs.fetch_add(1, Relaxed);
        if left_out { Ok(()) } else { self.file.sync_data() }
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cut.store(true, Relaxed);
        self.file.set_len(len)
    }
}

/// Cuts the power at every operation of a run; the first thing that was lost, if any.
fn cut_everywhere(seed: u64, omit: Option<Omit>) -> std::result::Result<u64, String> {
    let disk_of = |seed| {
        let disk = FaultyStorage::new(seed);
        let storage: SharedStorage = match omit {
            None => Arc::new(disk.clone()),
            Some(omit) => Arc::new(Unsynced { disk: disk.clone(), omit }),
        };
        (disk, storage)
    };
    let (disk, storage) = disk_of(seed);
    let count = operations_of(&disk, &storage, seed).len() as u64;
    for die_at in 0..count {
        let (disk, storage) = disk_of(seed ^ die_at << 32);
        survive(&disk, &storage, seed, die_at)?;
    }
    Ok(count)
}

#[test]
fn promise_1_no_class_a_packet_before_its_record_is_durable_journal_part() {
    for seed in 0..10 * effort() {
        let points = cut_everywhere(seed, None).unwrap_or_else(|why| panic!("{why}"));
        assert!(points > 60, "seed {seed}: a run of {points} operations proves little");
    }
    // The check is worth something only if it notices a missing fsync, of files and of directories.
    for omit in [Omit::Data, Omit::Directories] {
        let noticed = (0..4).filter(|seed| cut_everywhere(*seed, Some(omit)).is_err()).count();
        assert_eq!(noticed, 4, "{omit:?} left out, and the check does not see it");
    }
}

#[test]
fn promise_1_given_any_one_sync_left_out_then_it_is_noticed_or_has_a_reason_why_it_may_go() {
    for (site, may_go) in [
        (Site::Header, None),
        (Site::Batch, None),
        (
            Site::Spare,
            Some(
                "what of it is lost reads as zeros or as the end of the file, and the header's sync covers the \
                 length; it is synced so that commits need no metadata",
            ),
        ),
        (Site::Recovered, None),
        (Site::Sealed, None),
        (Site::Digest, None),
        (Site::Cursor, None),
        (Site::Snapshot, None),
    ] {
        let seeds = 0..8 * effort();
        let noticed = seeds.clone().any(|seed| cut_everywhere(seed, Some(Omit::Call(site))).is_err());
        match may_go {
            None => assert!(noticed, "{site:?} left out, and the check does not see it"),
            Some(why) => assert!(!noticed, "{site:?} may not go after all, though {why}"),
        }
    }
}

#[test]
fn any_failed_operation_then_a_dead_process_then_a_power_cut_loses_nothing_released() {
    for seed in 100..100 + 10 * effort() {
        let (disk, storage) = faulty(seed);
        let count = operations_of(&disk, &storage, seed).len() as u64;
        for fails_at in 0..count {
            let (disk, storage) = faulty(seed ^ fails_at << 32);
            let (config, mut seen) = (small(), Seen::default());
            disk.set_faults(Faults { fail: [fails_at].into(), ..Faults::default() });
            let _ = live(&storage, &config, seed, &mut seen);
            // After a failed fsync the bytes are still readable. Recovery may accept them, but then they must
            // outlive the power cut that follows.
            disk.crash_process();
            let why = |why| format!("seed {seed}, operation {fails_at}: {why}");
            check(&storage, &config, &mut seen, 10_000).map_err(why).unwrap();
            disk.cut_power();
            check(&storage, &config, &mut seen, 10_001).map_err(why).unwrap();
        }
    }
}

#[test]
fn short_writes_are_completed() {
    let (disk, storage) = faulty(7);
    disk.set_faults(Faults { short_write_every: Some(2), ..Faults::default() });
    let mut seen = Seen::default();
    live(&storage, &small(), 7, &mut seen).unwrap();
    disk.cut_power();
    check(&storage, &small(), &mut seen, 10_000).unwrap();
}
