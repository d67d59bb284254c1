//! What the edge tells about itself: figures that the engine thread publishes about once a second, and components that
//! others report.

use crate::resolver::DnsFigures;
use serde::Serialize;
use signalbox_base::{EventSeq, Mono, Text, Wall};
use signalbox_engine::contract::{Counters, Pressure};
use signalbox_io::{StreamFigures, Streams};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the edge is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Recovering, or waiting for a component that must catch up.
    #[default]
    Starting,
    /// Serving.
    Serving,
    /// New calls and registrations are refused; calls in progress go on.
    Draining,
    /// The last records are being written.
    Stopping,
    /// Stopped by an error that it must not survive.
    Failed,
}

/// One component of `/health`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Component {
    /// `sip udp:…`, `journal`, `bus`, `store`.
    pub name: String,
    /// `up`, `degraded` or `down`.
    pub state: ComponentState,
    /// How far behind it is, seconds, where that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<f64>,
    /// How many events it is behind, where that means something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_events: Option<u64>,
    /// Another edge, as this process hears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<EdgeFigure>,
    /// What a relay to a broker has done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayFigure>,
    /// How far it has come in the journal, where it follows one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<EventSeq>,
    /// Since when what it needs has not been reached, RFC 3339: its lag is at least as long, and its events are unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_since: Option<String>,
    /// Whether another process does what this one would, where only one may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby: Option<bool>,
    /// Whether its tables are being made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilding: Option<bool>,
    /// One line for people, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether the edge is not ready before this component has caught up.
    #[serde(skip)]
    pub blocks_ready: bool,
}

/// A component's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentState {
    /// Works.
    #[default]
    Up,
    /// Works with less than it should.
    Degraded,
    /// Does not work.
    Down,
}

/// Another edge, as of now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeFigure {
    /// Its name.
    pub name: Text,
    /// `alive`, `lost` or `stopped`.
    pub state: &'static str,
    /// Since it was heard, seconds; none for one that was never heard.
    pub heard_seconds: Option<f64>,
    /// Bindings of its that are known here.
    pub bindings: u64,
    /// Its calls in progress, as it said last.
    pub calls: u64,
}

/// A relay to a broker, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RelayFigure {
    /// `away`, `connecting`, `reconciling`, `flowing`, `diverged` or `stopped`.
    pub state: &'static str,
    /// Events sent since the process began, again ones included.
    pub published: u64,
    /// Events acknowledged.
    pub acked: u64,
    /// How often it went back to its cursor.
    pub rewinds: u64,
}

/// A backend as of the figures' moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendFigure {
    /// Whose.
    pub tenant: Text,
    /// Name in the tenant.
    pub name: Text,
    /// `up`, `down`, `draining`, `disabled`, `unknown`.
    pub state: Text,
    /// Whether it is given new traffic.
    pub takes_traffic: bool,
    /// `registered`, `refused`, `unreachable`: what became of the edge's own registration there, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Text>,
}

/// Datagrams since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Received.
    pub received: u64,
    /// Handed to the network.
    pub sent: u64,
    /// Not taken by the network.
    pub failed: u64,
}

/// The edge at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// When the edge started.
    pub started: Wall,
    /// How long it has been running.
    pub uptime: Mono,
    /// Where it is in its life.
    pub phase: Phase,
    /// Version of the program.
    pub version: Text,
    /// Names of the networks, in the order of [`Counters::requests`].
    pub networks: Vec<Text>,
    /// Names of the tenants, in the order of [`Counters::registrations`].
    pub tenants: Vec<Text>,
    /// The engine's counts.
    pub counters: Counters,
    /// Backends with their state.
    pub backends: Vec<BackendFigure>,
    /// Datagrams.
    pub traffic: Traffic,
    /// Last durable event.
    pub durable: EventSeq,
    /// Events handed to the journal since start.
    pub records: u64,
    /// Whether commits take too long.
    pub stalled: bool,
    /// How much is admitted.
    pub pressure: Pressure,
    /// Revision of the configuration in force.
    pub config_revision: u64,
}

impl Figures {
    /// Calls in progress.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.counters.calls.iter().sum()
    }

    /// Bindings in force.
    #[must_use]
    pub fn registrations(&self) -> u64 {
        self.counters.registrations.iter().sum()
    }
}

/// Reports the state of components outside the edge (bus, store, projections); asked at each look.
pub type ComponentsHook = Arc<dyn Fn() -> Vec<Component> + Send + Sync>;

/// Shared between the threads and whoever looks.
pub(crate) struct Shared {
    figures: Mutex<Arc<Figures>>,
    components: ComponentsHook,
    listeners: Vec<String>,
    streams: Option<Streams>,
    pub(crate) dns: Arc<DnsFigures>,
    /// Sent and failed datagrams of the journal thread.
    pub(crate) sent: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        figures: Figures,
        listeners: Vec<String>,
        components: ComponentsHook,
        streams: Option<Streams>,
    ) -> Self {
        let figures = Mutex::new(Arc::new(figures));
        let (sent, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { figures, components, listeners, streams, dns: Arc::default(), sent, failed }
    }

    pub(crate) fn publish(&self, figures: Figures) {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(figures);
    }

    pub(crate) fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts of connections; zero where no listener serves them.
    pub(crate) fn streams(&self) -> StreamFigures {
        self.streams.as_ref().map(Streams::figures).unwrap_or_default()
    }

    pub(crate) fn sent_elsewhere(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// What others report: the readers of the journal among it.
    pub(crate) fn reported(&self) -> Vec<Component> {
        (self.components)()
    }

    /// All components: listeners, journal, and those reported from outside.
    pub(crate) fn components(&self) -> Vec<Component> {
        let figures = self.figures();
        let serving = !matches!(figures.phase, Phase::Failed | Phase::Starting);
        let up = |works| if works { ComponentState::Up } else { ComponentState::Down };
        let listeners = self.listeners.iter().map(|name| Component {
            name: format!("sip {name}"),
            state: up(serving),
            ..Component::default()
        });
        let (state, detail) = match (figures.phase, figures.stalled, figures.pressure) {
            (Phase::Failed, ..) => (ComponentState::Down, Some("stopped after a failed write or fsync")),
            (_, true, _) => {
                (ComponentState::Degraded, Some("commits take longer than 200 ms; new calls get 503"))
            }
            (.., Pressure::Reserve) => {
                (ComponentState::Degraded, Some("disk nearly full; new calls get 503"))
            }
            (.., Pressure::Full) => {
                (ComponentState::Degraded, Some("disk full; only what ends calls is served"))
            }
            _ => (ComponentState::Up, None),
        };
        let journal = Component {
            name: "journal".to_owned(),
            state,
            position: Some(figures.durable),
            detail: detail.map(str::to_owned),
            ..Component::default()
        };
        listeners.chain([journal]).chain((self.components)()).collect()
    }

    /// Why the edge is not ready for traffic; `None` when it is.
    pub(crate) fn not_ready(&self) -> Option<String> {
        match self.figures().phase {
            Phase::Serving => (self.components)()
                .into_iter()
                .find(|c| c.blocks_ready && c.state != ComponentState::Up)
                .map(|c| format!("{} is catching up", c.name)),
            Phase::Starting => Some("starting".to_owned()),
            Phase::Draining => Some("draining".to_owned()),
            Phase::Stopping => Some("stopping".to_owned()),
            Phase::Failed => Some("failed".to_owned()),
        }
    }
}
