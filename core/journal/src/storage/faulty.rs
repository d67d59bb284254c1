//! A disk in memory that fails and crashes by seed.
//!
//! It keeps two states: what is readable, and what is on the platter. A write changes only the first; `sync_data`
//! and `sync_dir` bring one file or directory over. [`FaultyStorage::crash_process`] keeps what is readable;
//! [`FaultyStorage::cut_power`] throws away what was not brought over, except that of every unsynced sector (512
//! bytes) the old content, the new, or a torn mixture survives, and of a directory's unsynced changes a prefix:
//! the seed decides. After a failed sync the bytes stay readable but lose their claim on the platter until they
//! are written again. Handles and locks of before a crash are dead.
//!
//! Every operation that changes the disk has a number, from 0. [`Faults`] says which of them fail, and how.

use super::{Entry, Lock, OpenMode, Space, Storage, StoredFile, Wait};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;

/// What goes wrong, and when. Numbers count the changing operations since the last [`FaultyStorage::set_faults`].
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// These operations fail with an I/O error. A failed sync brings nothing over; a failed write, rename … does
    /// nothing.
    pub fail: BTreeSet<u64>,
    /// At this operation the disk goes away: a write still becomes readable, everything else does nothing, and
    /// every later operation fails until a crash.
    pub die_at: Option<u64>,
    /// Every n-th write is short: it takes about half of its bytes.
    pub short_write_every: Option<u64>,
    /// Bytes that all files together may have.
    pub capacity: Option<u64>,
}

/// What an operation was, for tests that pick one to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bytes written.
    Write,
    /// A file synced.
    Sync,
    /// A directory synced.
    SyncDir,
    /// A file created, renamed, removed, reserved or resized.
    Change,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyStorage {
    disk: Arc<Disk>,
}

struct Disk {
    state: Mutex<State>,
    unlocked: Condvar,
}

struct State {
    random: u64,
    generation: u64,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    readable: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Unsynced changes of names, in order.
    pending: Vec<(PathBuf, NameChange)>,
    locks: BTreeSet<PathBuf>,
    faults: Faults,
    operations: Vec<Operation>,
    writes: u64,
    dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, Node),
    Unset(PathBuf),
    Move(PathBuf, PathBuf),
}

#[derive(Clone, Default)]
struct Inode {
    readable: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since they were last brought over.
    dirty: BTreeSet<usize>,
    /// Whether the length changed since.
    resized: bool,
}

impl FaultyStorage {
    /// An empty disk whose crashes are decided by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: seed,
            generation: 0,
            next_inode: 1,
            inodes: BTreeMap::new(),
            readable: BTreeMap::new(),
            durable: BTreeMap::new(),
            pending: Vec::new(),
            locks: BTreeSet::new(),
            faults: Faults::default(),
            operations: Vec::new(),
            writes: 0,
            dead: false,
        };
        Self { disk: Arc::new(Disk { state: Mutex::new(state), unlocked: Condvar::new() }) }
    }

    /// Sets what goes wrong from now on, and starts counting operations at 0.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.operations.clear();
    }

    /// The operations counted so far; the index is the number that [`Faults`] takes.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    /// The process dies; the disk and its cache live on. Ends all faults.
    pub fn crash_process(&self) {
        self.state().restart();
        self.disk.unlocked.notify_all();
    }

    /// The power goes: of what was not synced, the seed decides what is left. Ends all faults.
    pub fn cut_power(&self) {
        let mut state = self.state();
        state.lose_unsynced();
        state.restart();
        drop(state);
        self.disk.unlocked.notify_all();
    }

    /// Changes bytes of a file behind everyone's back, on the platter too.
    ///
    /// # Panics
    /// When there is no such file or it is shorter: a mistake of the test.
    pub fn corrupt(&self, path: &Path, offset: u64, change: impl Fn(u8) -> u8) {
        let mut state = self.state();
        let Some(Node::File(inode)) = state.readable.get(path).copied() else {
            panic!("no file {}", path.display())
        };
        let at = usize::try_from(offset).expect("offsets of tests are small");
        let file = state.inodes.get_mut(&inode).expect("named files have an inode");
        file.readable[at] = change(file.readable[at]);
        if at < file.durable.len() {
            file.durable[at] = file.readable[at];
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for FaultyStorage {
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state();
        state.alive()?;
        if state.readable.get(dir) != Some(&Node::Dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = state.readable.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, node): (&PathBuf, &Node)| Entry {
            name: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            len: state.len_of(*node),
            is_dir: *node == Node::Dir,
        };
        Ok(inside.map(entry).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        if state.readable.get(dir) == Some(&Node::Dir) {
            return Ok(());
        }
        state.count(Operation::Change)?;
        for parent in dir.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            state.readable.insert(parent.to_owned(), Node::Dir);
            state.durable.insert(parent.to_owned(), Node::Dir);
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn StoredFile>> {
        let mut state = self.state();
        state.alive()?;
        let creates = matches!(mode, OpenMode::Create | OpenMode::Ensure);
        let inode = match state.readable.get(path).copied() {
            Some(Node::Dir) => return Err(ErrorKind::IsADirectory.into()),
            Some(Node::File(inode)) => inode,
            None if creates => state.create(path)?,
            None => return Err(ErrorKind::NotFound.into()),
        };
        if mode == OpenMode::Create {
            state.inode(inode)?.resize(0);
        }
        let (disk, generation) = (Arc::clone(&self.disk), state.generation);
        Ok(Box::new(FaultyFile { disk, inode, generation, writes: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.count(Operation::Change)?;
        if !state.readable.contains_key(from) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(NameChange::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.count(Operation::Change)?;
        if !matches!(state.readable.get(path), Some(Node::File(_))) {
            return Err(ErrorKind::NotFound.into());
        }
        state.change(NameChange::Unset(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.count(Operation::Change)?;
        let inside: Vec<_> = state.readable.keys().filter(|p| p.starts_with(dir)).cloned().collect();
        if inside.is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        for path in inside {
            state.change(NameChange::Unset(path));
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.count(Operation::SyncDir)?;
        let pending = std::mem::take(&mut state.pending);
        for (of, change) in pending {
            if of == dir {
                apply(&mut state.durable, &change);
            } else {
                state.pending.push((of, change));
            }
        }
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let state = self.state();
        state.alive()?;
        let total = state.faults.capacity.unwrap_or(1 << 40);
        Ok(Space { total, free: total.saturating_sub(state.used()) })
    }

    fn lock(&self, path: &Path, wait: Wait) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = self.state();
        loop {
            state.alive()?;
            if state.locks.insert(path.to_owned()) {
                let (disk, generation) = (Arc::clone(&self.disk), state.generation);
                return Ok(Some(Box::new(FaultyLock { disk, path: path.to_owned(), generation })));
            }
            if wait == Wait::No {
                return Ok(None);
            }
            state = self.disk.unlocked.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct FaultyFile {
    disk: Arc<Disk>,
    inode: u64,
    generation: u64,
    writes: bool,
}

impl FaultyFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.alive()?;
        if state.generation == self.generation { Ok(state) } else { Err(died()) }
    }
}

impl StoredFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        let bytes = &state.inode(self.inode)?.readable;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        if !self.writes {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let died = state.count(Operation::Write);
        if died.is_err() && !state.dead {
            return died.map(|()| 0);
        }
        state.writes += 1;
        let short = state.faults.short_write_every.is_some_and(|n| state.writes.is_multiple_of(n));
        let bytes = if short && bytes.len() > 1 { &bytes[..bytes.len() / 2] } else { bytes };
        let at = usize::try_from(offset).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let grows = (at + bytes.len()).saturating_sub(state.inode(self.inode)?.readable.len());
        state.room(grows as u64)?;
        state.inode(self.inode)?.write(at, bytes);
        died.map(|()| bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let outcome = state.count(Operation::Sync);
        let died = state.dead;
        let inode = state.inode(self.inode)?;
        match outcome {
            Ok(()) => inode.bring_over(),
            // The kernel reports the error once and calls the pages clean: they lose their claim.
            Err(_) if !died => inode.dirty.clear(),
            Err(_) => {}
        }
        outcome
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.inode)?.readable.len() as u64)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let have = self.len()?;
        if len > have { self.set_len(len) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.count(Operation::Change)?;
        let have = state.inode(self.inode)?.readable.len() as u64;
        state.room(len.saturating_sub(have))?;
        let len = usize::try_from(len).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        state.inode(self.inode)?.resize(len);
        Ok(())
    }
}

struct FaultyLock {
    disk: Arc<Disk>,
    path: PathBuf,
    generation: u64,
}

impl Lock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation == self.generation {
            state.locks.remove(&self.path);
            self.disk.unlocked.notify_all();
        }
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(died()) } else { Ok(()) }
    }

    /// Numbers an operation and lets it fail when it should.
    fn count(&mut self, operation: Operation) -> io::Result<()> {
        let number = self.operations.len() as u64;
        self.operations.push(operation);
        if self.faults.die_at == Some(number) {
            self.dead = true;
            return Err(died());
        }
        let fails = self.faults.fail.contains(&number);
        if fails { Err(io::Error::other("the disk failed (as asked)")) } else { Ok(()) }
    }

    fn room(&self, more: u64) -> io::Result<()> {
        let full = more > 0 && self.faults.capacity.is_some_and(|all| self.used() + more > all);
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.readable.values().map(|node| self.len_of(*node)).sum()
    }

    fn len_of(&self, node: Node) -> u64 {
        match node {
            Node::Dir => 0,
            Node::File(inode) => self.inodes.get(&inode).map_or(0, |i| i.readable.len() as u64),
        }
    }

    fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(died)
    }

    fn create(&mut self, path: &Path) -> io::Result<u64> {
        let parent = path.parent().and_then(|dir| self.readable.get(dir));
        if parent != Some(&Node::Dir) {
            return Err(ErrorKind::NotFound.into());
        }
        self.count(Operation::Change)?;
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.change(NameChange::Set(path.to_owned(), Node::File(inode)));
        Ok(inode)
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.readable, &change);
        let path = match &change {
            NameChange::Set(path, _) | NameChange::Unset(path) | NameChange::Move(_, path) => path,
        };
        let dir = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
        self.pending.push((dir, change));
    }

    fn lose_unsynced(&mut self) {
        let survive = self.draw(self.pending.len() as u64 + 1);
        for (_, change) in self.pending.iter().take(usize::try_from(survive).unwrap_or(0)) {
            apply(&mut self.durable, change);
        }
        self.pending.clear();
        self.readable = self.durable.clone();
        let mut random = self.random;
        for inode in self.inodes.values_mut() {
            inode.lose_unsynced(&mut random);
        }
        self.random = random;
    }

    fn restart(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.faults = Faults::default();
        self.operations.clear();
        self.dead = false;
    }

    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.random, below)
    }
}

impl Inode {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        if self.readable.len() < end {
            self.readable.resize(end, 0);
            self.resized = true;
        }
        self.readable[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
    }

    fn resize(&mut self, len: usize) {
        self.readable.resize(len, 0);
        self.resized = true;
    }

    fn bring_over(&mut self) {
        self.durable.resize(self.readable.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector_range(sector, self.readable.len());
            self.durable[range.clone()].copy_from_slice(&self.readable[range]);
        }
        self.resized = false;
    }

    fn lose_unsynced(&mut self, random: &mut u64) {
        if self.resized && draw(random, 2) == 0 {
            self.durable.resize(self.readable.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            let len = self.durable.len().min(self.readable.len());
            let range = sector_range(sector, len);
            let survive = match draw(random, 3) {
                0 => 0,
                1 => range.len(),
                _ => usize::try_from(draw(random, range.len() as u64 + 1)).unwrap_or(0),
            };
            let part = range.start..range.start + survive;
            self.durable[part.clone()].copy_from_slice(&self.readable[part]);
        }
        self.resized = false;
        self.readable = self.durable.clone();
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    match change {
        NameChange::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        NameChange::Unset(path) => {
            names.remove(path);
        }
        NameChange::Move(from, to) => {
            let moved: Vec<_> = names.keys().filter(|p| p.starts_with(from)).cloned().collect();
            for old in moved {
                let rest = old.strip_prefix(from).expect("it starts with it");
                let new = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                if let Some(node) = names.remove(&old) {
                    names.insert(new, node);
                }
            }
        }
    }
}

fn sector_range(sector: usize, len: usize) -> std::ops::Range<usize> {
    let start = (sector * SECTOR).min(len);
    start..(start + SECTOR).min(len)
}

fn died() -> io::Error {
    io::Error::other("the disk is gone (simulated crash)")
}

/// SplitMix64.
fn draw(random: &mut u64, below: u64) -> u64 {
    *random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) % below
}
