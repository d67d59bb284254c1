//! A load on an edge that remembers what it saw on the wire: phones that register and call on one side, a PBX that
//! answers on the other. The edge may be killed and started again under it; both sides repeat what UDP loses.
//!
//! Every tenth call is to somebody who is busy. Every tenth is *mortal*: nobody hangs it up, and when the story says so both
//! of its ends die at once. Half of the dead answer 481 like a phone that was switched on again, half answer nothing.

mod pbx;
mod phones;
mod registrations;
mod wire;

use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The domain of the load's phones.
pub const DOMAIN: &str = "load.test";

/// Users who are busy begin with this.
const BUSY: &str = "busy";

/// What the last 200 to a phone's REGISTER said.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The URI where it is reached.
    pub contact: String,
    /// When it ends, microseconds since 1970: seconds after some moment between its REGISTER and the 200. Behind a 200 to a
    /// REGISTER that changed nothing else, the end that the 200 before it said is one too: that record is not waited for.
    pub expires_at: Vec<RangeInclusive<i64>>,
}

/// What the generator itself saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Call-IDs of INVITEs that the phones sent.
    pub tried: BTreeSet<String>,
    /// Those that were answered with 200 on the phones' side.
    pub answered: BTreeSet<String>,
    /// Users whose last REGISTER was answered with 200, and what that said.
    pub registered: BTreeMap<String, Registered>,
    /// Users whose removal of their only contact was.
    pub left: BTreeSet<String>,
    /// How many have registered again as they were.
    pub refreshed: u32,
    /// How many have registered again from somewhere else.
    pub moved: u32,
    /// Those that were answered with 486.
    pub busy: BTreeSet<String>,
    /// Mortal calls that were up when their ends died.
    pub died: BTreeSet<String>,
    /// Calls that are still up for the phones.
    pub phones_up: BTreeSet<String>,
    /// Legs that are still up for the PBX: its Call-ID, and the called user.
    pub pbx_up: BTreeMap<String, String>,
    /// Final answers to INVITE above 299, by status.
    pub refused: BTreeMap<u16, u32>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// No new calls; those that are up end.
    finish: AtomicBool,
    /// Mortal calls lose both ends.
    die: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it: the PBX on the story's host 2, the phones on host 20.
    #[must_use]
    pub fn start(world: &World, edge: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let pbx = pbx::Pbx::new(pbx_address(world), Arc::clone(&shared));
        let phones = phones::Phones::new(world.at(20, 5060), edge, Arc::clone(&shared));
        let threads = vec![std::thread::spawn(move || pbx.run()), std::thread::spawn(move || phones.run())];
        Self { shared, threads }
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// No more calls; those that are up, but mortal ones, end.
    pub fn finish(&self) {
        self.shared.finish.store(true, Ordering::Release);
    }

    /// Both ends of every mortal call die.
    pub fn kill_mortals(&self) {
        self.shared.die.store(true, Ordering::Release);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A side that panicked has said why already.
            let _ = thread.join();
        }
    }
}

/// Somebody who answers every call by itself and waits for the other side to hang up: the load's PBX, alone.
#[derive(Debug)]
pub struct Voicemail {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Voicemail {
    /// Starts it on an address.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let pbx = pbx::Pbx::new(address, Arc::clone(&shared));
        Self { shared, thread: Some(std::thread::spawn(move || pbx.run())) }
    }

    /// Calls that are up.
    #[must_use]
    pub fn up(&self) -> usize {
        self.shared.seen().pbx_up.len()
    }
}

impl Drop for Voicemail {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // If it panicked, it has said why already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Where the load's PBX is, for the edge's configuration.
#[must_use]
pub fn pbx_address(world: &World) -> SocketAddr {
    world.at(2, 5060)
}

/// Whether the called user's call is a mortal one, and whether its dead keep silent.
fn fate(user: &str) -> Option<Death> {
    match user {
        _ if user.starts_with("mortal") => Some(Death::Restarted),
        _ if user.starts_with("silent") => Some(Death::Silent),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Restarted,
    Silent,
}
