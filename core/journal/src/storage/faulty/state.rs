//! What is readable and what is on the platter of the faulty disk, and how the one becomes the other.

use super::{Faults, Operation};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;

pub(super) struct State {
    pub(super) random: u64,
    pub(super) generation: u64,
    pub(super) next_inode: u64,
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) readable: BTreeMap<PathBuf, Node>,
    pub(super) durable: BTreeMap<PathBuf, Node>,
    /// Unsynced changes of names, in order.
    pub(super) pending: Vec<(PathBuf, NameChange)>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) faults: Faults,
    pub(super) operations: Vec<Operation>,
    pub(super) writes: u64,
    pub(super) dead: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

#[derive(Clone)]
pub(super) enum NameChange {
    Set(PathBuf, Node),
    Unset(PathBuf),
    Move(PathBuf, PathBuf),
}

#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) readable: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Sectors written since they were last brought over.
    pub(super) dirty: BTreeSet<usize>,
    /// Whether the length changed since.
    pub(super) resized: bool,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
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
        }
    }

    pub(super) fn alive(&self) -> io::Result<()> {
        if self.dead { Err(died()) } else { Ok(()) }
    }

    /// Numbers an operation and lets it fail when it should.
    pub(super) fn count(&mut self, operation: Operation) -> io::Result<()> {
        let number = self.operations.len() as u64;
        self.operations.push(operation);
        if self.faults.die_at == Some(number) {
            self.dead = true;
            return Err(died());
        }
        let fails = self.faults.fail.contains(&number);
        if fails { Err(io::Error::other("the disk failed (as asked)")) } else { Ok(()) }
    }

    pub(super) fn room(&self, more: u64) -> io::Result<()> {
        let full = more > 0 && self.faults.capacity.is_some_and(|all| self.used() + more > all);
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn used(&self) -> u64 {
        self.readable.values().map(|node| self.len_of(*node)).sum()
    }

    pub(super) fn len_of(&self, node: Node) -> u64 {
        match node {
            Node::Dir => 0,
            Node::File(inode) => self.inodes.get(&inode).map_or(0, |i| i.readable.len() as u64),
        }
    }

    pub(super) fn inode(&mut self, inode: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or_else(died)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
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

    pub(super) fn change(&mut self, change: NameChange) {
        apply(&mut self.readable, &change);
        let path = match &change {
            NameChange::Set(path, _) | NameChange::Unset(path) | NameChange::Move(_, path) => path,
        };
        let dir = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
        self.pending.push((dir, change));
    }

    pub(super) fn lose_unsynced(&mut self) {
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

    pub(super) fn restart(&mut self) {
        self.generation += 1;
        self.locks.clear();
        self.faults = Faults::default();
        self.operations.clear();
        self.dead = false;
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.random, below)
    }
}

impl Inode {
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
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

    pub(super) fn resize(&mut self, len: usize) {
        self.readable.resize(len, 0);
        self.resized = true;
    }

    pub(super) fn bring_over(&mut self) {
        self.durable.resize(self.readable.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector_range(sector, self.readable.len());
            self.durable[range.clone()].copy_from_slice(&self.readable[range]);
        }
        self.resized = false;
    }

    pub(super) fn lose_unsynced(&mut self, random: &mut u64) {
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

pub(super) fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
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

pub(super) fn died() -> io::Error {
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
