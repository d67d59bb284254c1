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

mod file;
mod state;

use super::{Entry, Lock, OpenMode, Space, Storage, StoredFile, Wait};
use file::{FaultyFile, FaultyLock};
use state::{NameChange, Node, State, apply};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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

impl FaultyStorage {
    /// An empty disk whose crashes are decided by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State::new(seed);
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
