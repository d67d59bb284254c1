//! The other edges: who lives, who is registered there, and what an edge's loss means.
//!
//! ```text
//!  heartbeats ◄──► pulse ──── who lives ────► engine (calls to lost edges get 480 at once), /health, metrics
//!                    └─────── who lives ────► observer ─► edge.lost, edge.returned in the store's outbox
//!  bus ──────────► follow ─── who is where ─► engine, and a file beside the journal that a start without a bus goes on from
//! ```
//!
//! SIP waits for none of it: with the bus away everybody counts as living and what is known stays in use, until it expires.

mod file;
mod follow;
mod observer;
mod pulse;

pub(super) use file::Before;

use super::Journal;
use super::broker::Wiring;
use super::health::Report;
use crate::config::{is_for_edges, model::File};
use signalbox_base::{EdgeIdentity, Text};
use signalbox_bus::heartbeat::{Beat, Pulse};
use signalbox_bus::presence::{Seen, State};
use signalbox_edge::EdgeHandle;
use signalbox_engine::remote::{Cache, Update};
use signalbox_io::{Clock, OsEntropy};
use signalbox_store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long an end waits for the file.
const WRITE_WITHIN: Duration = Duration::from_secs(2);

/// The other edges as this process sees them.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// By name.
    pub(super) edges: BTreeMap<Text, Seen>,
    /// Whether others would be heard now: nothing is said of them while not.
    pub(super) hears: bool,
    /// Whether that has been so for long: who lives was heard.
    pub(super) settled: bool,
    /// How long a heartbeat takes to come back, milliseconds.
    pub(super) round_trip_ms: Option<f64>,
    /// Another process that speaks under this edge's name.
    pub(super) twin: Option<Beat>,
}

impl View {
    /// Whether somebody's state is another than in `before`, or what may be said of it.
    fn differs(&self, before: &Self) -> bool {
        fn states(view: &View) -> impl Iterator<Item = (&Text, State)> {
            view.edges.iter().map(|(name, seen)| (name, seen.state))
        }
        (self.hears, self.settled) != (before.hears, before.settled) || states(self).ne(states(before))
    }
}

/// Shared by the parts of a process that tell of the other edges.
#[derive(Clone)]
pub(super) struct Presence {
    view: watch::Receiver<View>,
    known: Known,
    stop: watch::Sender<bool>,
    /// Until it was waited for.
    speaking: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// The same.
    following: Arc<Mutex<Option<tokio::task::JoinHandle<()>>>>,
}

/// What is known of bindings elsewhere: the engine's own copy is not for others.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    cache: Cache,
    /// Since it was copied.
    changed: bool,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, updates: &[Update]) {
        let mut kept = self.lock();
        for update in updates {
            kept.changed |= kept.cache.apply(update.clone());
        }
        kept.cache.sweep(Clock::start().now().wall);
    }

    /// For the file: changes count from now.
    fn copy(&self) -> Cache {
        let mut kept = self.lock();
        kept.changed = false;
        kept.cache.clone()
    }
}

fn pulse(file: &File, wiring: &Wiring) -> Option<Pulse> {
    wiring.pulse().filter(|_| !file.cluster.heartbeat.0.is_zero())
}

/// What the edge of this configuration knew of others when it stopped; nothing where it does not follow them.
pub(super) fn before(file: &File, wiring: &Wiring) -> Option<Before> {
    pulse(file, wiring)?;
    file.listener.iter().any(is_for_edges).then(|| file::Cached::beside(&file.edge.data_dir).read())?
}

/// Starts it, where the configuration has a bus and wants heartbeats. A bus that is away is waited for. An edge comes with
/// what it knew [before].
pub(super) fn start(
    file: &File,
    (wiring, journal): (&Wiring, &Journal),
    identity: &EdgeIdentity,
    (edge, before): (Option<&EdgeHandle>, Option<Before>),
    report: &Report,
    runtime: &Handle,
) -> Option<Presence> {
    let pulse = pulse(file, wiring)?;
    let mut process = [0; 8];
    match OsEntropy::seeded() {
        Ok(mut entropy) => entropy.fill(&mut process),
        Err(error) => {
            tracing::error!(%error, "no randomness for heartbeats: other edges take this one for lost");
            return None;
        }
    }
    let (stop, stopped) = watch::channel(false);
    let (tell, view) = watch::channel(View::default());
    let known = Known::default();
    let cached = file::Cached::beside(&file.edge.data_dir);
    // Calls are handed over where this edge has a listener for edges.
    let follows = edge.filter(|edge| edge.takes_at().is_some());
    let speaking = pulse::Speaking {
        pulse,
        identity: identity.clone(),
        process: Text::from(format!("{:016x}", u64::from_be_bytes(process))),
        edge: edge.cloned(),
        every: file.cluster.heartbeat.0,
        patience: file.cluster.patience(),
        known: known.clone(),
        view: tell,
        expected: before.iter().flat_map(Before::edges).collect(),
    };
    let following = follows.map(|edge| {
        let following = follow::Following {
            bus: wiring.bus(journal),
            own: identity.edge.clone(),
            edge: edge.clone(),
            known: known.clone(),
            file: cached,
            longest: file.sip.max_expires.0,
        };
        runtime.spawn(following.run(before, stopped.clone()))
    });
    let thread =
        std::thread::Builder::new().name("presence".to_owned()).spawn(move || speaking.run(&stopped));
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => {
            tracing::error!(%error, "no thread for heartbeats: other edges take this one for lost");
            return None;
        }
    };
    let (speaking, following) = (Arc::new(Mutex::new(Some(thread))), Arc::new(Mutex::new(following)));
    let presence = Presence { view, known, stop, speaking, following };
    report.sees(presence.clone());
    Some(presence)
}

/// Somebody tells of losses and returns.
pub(super) struct Observing(tokio::task::JoinHandle<()>);

impl Drop for Observing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Presence {
    /// The edges, with how many bindings of each are known.
    pub(super) fn look(&self) -> (View, BTreeMap<Text, u64>) {
        let view = self.view.borrow().clone();
        let known = self.known.lock();
        let of = |name: &Text| known.cache.len_of(name) as u64;
        let bindings = view.edges.keys().map(|name| (name.clone(), of(name))).collect();
        (view, bindings)
    }

    /// Tells of losses and returns in the store's outbox, until the result is dropped. Within a runtime only.
    pub(super) fn observe(&self, store: Store, by: String) -> Observing {
        Observing(tokio::spawn(observer::run(store, by, self.view.clone())))
    }

    /// Waits, for a moment, until what is known is in its file; behind [`Presence::stop`].
    pub(super) async fn written(&self) {
        let task = self.following.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Late, it is learnt again from the bus.
            let _ = tokio::time::timeout(WRITE_WITHIN, task).await;
        }
    }

    /// The last words: that this edge stops, and what is known goes to its file. Blocks for a moment.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
        let thread = self.speaking.lock().unwrap_or_else(PoisonError::into_inner).take();
        // If it panicked, it has said why.
        let _ = thread.map(JoinHandle::join);
    }
}
