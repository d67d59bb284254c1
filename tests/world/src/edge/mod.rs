//! An edge's host: the driver's side of the engine's contract, over a simulated disk and network.
//!
//! As in the real edge, records go to the journal in order, a group commit makes them durable, and only then what they
//! hold back leaves. A commit takes simulated time, and the host can die at any point of it.

mod commit;
mod life;

pub use commit::{Crash, CrashPoint};
pub(crate) use life::{Effect, Life};

use crate::disk::Disk;
use crate::oracle::Oracle;
use signalbox_actors::Random;
use signalbox_base::Now;
use signalbox_engine::{Engine, Entropy, Settings};
use signalbox_journal::{Config, Writer};
use std::net::SocketAddr;

/// Bytes of a segment: small, so that stories cross from one to the next.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// One edge with its disk, alive or not.
pub struct EdgeHost {
    pub(crate) disk: Disk,
    pub(crate) settings: Settings,
    pub(crate) life: Option<Life>,
    pub(crate) crash_at: Option<(CrashPoint, Crash)>,
    /// Commits finished in all lives.
    pub(crate) commits: u64,
    /// Starts so far.
    pub(crate) lives: u32,
    pub(crate) seed: u64,
    pub(crate) stalls: u64,
}

impl EdgeHost {
    pub(crate) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            disk: Disk::new(seed),
            settings,
            life: None,
            crash_at: None,
            commits: 0,
            lives: 0,
            seed,
            stalls: commit::STALLS,
        }
    }

    /// Its disk.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// The engine, while the process runs.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.life.as_ref().map(|life| &life.engine)
    }

    /// The journal, while the process runs.
    #[must_use]
    pub fn writer(&self) -> Option<&Writer> {
        self.life.as_ref().map(|life| &life.writer)
    }

    /// Commits finished so far, in all lives.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Times it was started.
    #[must_use]
    pub fn lives(&self) -> u32 {
        self.lives
    }

    /// Dies at this point, once.
    pub fn crash_at(&mut self, point: CrashPoint, how: Crash) {
        self.crash_at = Some((point, how));
    }

    /// A disk whose commits never stall: nothing is shed because of it.
    pub fn never_stalls(&mut self) {
        self.stalls = 0;
    }

    /// Its listeners' addresses, in order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.settings.listeners.iter().map(|l| l.address)
    }

    pub(crate) fn start(&mut self, now: Now, oracle: &mut Oracle, effects: &mut Vec<Effect>) {
        self.lives += 1;
        self.life = Life::begin(self, now, oracle, effects);
    }

    /// The process or the machine dies.
    pub(crate) fn crash(&mut self, how: Crash) {
        self.life = None;
        match how {
            Crash::Process => self.disk.crash_process(),
            Crash::Power => self.disk.cut_power(),
        }
    }

    fn config(&self) -> Config {
        Config { segment_size: SEGMENT_BYTES, ..Config::new("/journal") }
    }
}

/// Random bits for the engine, from the world's seed.
pub(crate) struct Seed(pub(crate) Random);

impl Entropy for Seed {
    fn next_u64(&mut self) -> u64 {
        self.0.bits()
    }
}
