//! Starting, watching and stopping a relay: a thread that reads ahead, encodes, publishes, saves, compares, audits.
//!
//! Every connection has a runtime of its own, which is dropped with it: no task of a client survives that could send what
//! was queued before it broke.

use super::driver::{lock, run};
use super::machine::{Limits, Machine, Note, Status};
use super::origin::Origin;
use super::saved::Saved;
use crate::publisher::Broker;
use signalbox_base::{EventSeq, Mono, Wall};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How a relay behaves.
#[derive(Clone, Copy, Debug)]
pub struct RelayOptions {
    /// The machine's limits.
    pub limits: Limits,
    /// How often what was relayed is read back; zero: never.
    pub audit_interval: Duration,
    /// How long a connection may take to be made.
    pub connect_within: Duration,
    /// Any number, different in each relay: pauses differ by it.
    pub seed: u64,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            audit_interval: Duration::from_secs(30),
            connect_within: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// Is told what people should know, on the relay's thread; must return at once.
pub type Notes = Box<dyn Fn(&Note) + Send>;

/// A relay.
pub struct Relay;

impl Relay {
    /// Starts a thread that relays `origin` to `broker`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn(
        origin: Box<dyn Origin>,
        broker: Arc<dyn Broker>,
        options: RelayOptions,
        notes: Notes,
    ) -> std::io::Result<RelayHandle> {
        let shared = Arc::new(Mutex::new(RelayStatus::new(broker.name())));
        let (stop, stopping) = watch::channel(None);
        let thread_s = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(format!("relay-{}", broker.name()))
            .spawn(move || run(origin, &broker, options, notes, stopping, thread_s))?;
        Ok(RelayHandle { shared, stop, thread: Some(thread) })
    }
}

/// A running relay. Dropping it stops the relay without waiting for what is under way.
pub struct RelayHandle {
    shared: Arc<Mutex<RelayStatus>>,
    stop: watch::Sender<Option<Duration>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl RelayHandle {
    /// How it goes.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        lock(&self.shared).clone()
    }

    /// Lets it relay what there is for at most `within`, saves its place and waits for its end.
    pub fn stop(mut self, within: Duration) {
        self.end(within);
    }

    fn end(&mut self, within: Duration) {
        let _ = self.stop.send(Some(within));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// How a relay goes.
#[derive(Clone, Debug)]
pub struct RelayStatus {
    /// `nats` or `kafka`.
    pub broker: &'static str,
    /// The machine's.
    pub status: Status,
    /// When the oldest event that the broker does not have was journalled.
    pub oldest: Option<Wall>,
    /// Everything up to here was read back from the broker.
    pub verified: EventSeq,
}

impl RelayStatus {
    pub(super) fn new(broker: &'static str) -> Self {
        let machine = Machine::new(Saved::default(), EventSeq(0), Limits::default(), 0);
        Self { broker, status: machine.status(), oldest: None, verified: EventSeq(0) }
    }

    /// Events that wait.
    #[must_use]
    pub fn lag_events(&self) -> u64 {
        self.status.behind()
    }

    /// Age of the oldest event that waits; zero when none does.
    #[must_use]
    pub fn lag(&self, now: Wall) -> Duration {
        self.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }
}

/// Monotonic time since the relay began.
pub(super) struct Clock(Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the relay's only clock; the machine gets time as an argument"
    )]
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Mono {
        Mono(1).plus(self.0.elapsed())
    }
}
