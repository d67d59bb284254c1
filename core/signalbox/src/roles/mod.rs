//! The roles of one process: the edge, the relay to a broker, the projections that fold events into the store.
//!
//! They run together or each in a process of its own. SIP never waits for the bus or the store: one that is away is waited
//! for with growing pauses, seen in `/health` and metrics, while calls go on.

mod broker;
mod edge;
mod health;
mod presence;
mod projections;
mod relay;
mod standby;

pub use edge::fatal_failure;
pub use health::PROJECTION;

use crate::config::model::BusKind;
use crate::config::{Loaded, model::File};
use crate::errors::{Failure, USAGE};
use crate::identity;
use crate::logging::LevelHandle;
use broker::Wiring;
use health::Report;
use signalbox_base::{EdgeIdentity, Text};
use signalbox_edge::admin::HealthServer;
use signalbox_edge::{EdgeHandle, End};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Layout, Mark};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long a relay may go on sending once its process is asked to stop; the next one goes on where it ended.
const RELAY_FLUSH: Duration = Duration::from_secs(2);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// SIP and the journal.
    Edge,
    /// From the journal to the broker.
    Relay,
    /// From the journal or the broker into the store.
    Projections,
    /// Alerts: nothing yet in this version.
    Consumers,
}

/// What this process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// SIP and the journal.
    pub edge: bool,
    /// To the broker.
    pub relay: bool,
    /// Into the store.
    pub projections: bool,
}

impl Roles {
    /// Those asked for; none asked for: all that the configuration needs.
    ///
    /// # Errors
    /// A relay without a broker.
    pub fn new(asked: &[Role], file: &File) -> Result<Self, Failure> {
        let broker = file.bus.kind != BusKind::Journal;
        if asked.is_empty() {
            return Ok(Self { edge: true, relay: broker, projections: true });
        }
        let has = |role| asked.contains(&role);
        if has(Role::Relay) && !broker {
            return Err(Failure::new(USAGE, "there is nothing to relay to with bus.kind = \"journal\"")
                .fix("set bus.kind to \"nats\" or \"kafka\", or leave the role out"));
        }
        Ok(Self { edge: has(Role::Edge), relay: has(Role::Relay), projections: has(Role::Projections) })
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.edge, "edge"), (self.relay, "relay"), (self.projections, "projections")];
        let names: Vec<&str> = all.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "consumers (nothing yet)" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// Everything that runs in this process.
pub struct Running {
    /// What it does.
    pub roles: Roles,
    /// Whose events these are.
    pub identity: EdgeIdentity,
    /// The edge, where this process has one.
    pub edge: Option<EdgeHandle>,
    health: Option<HealthServer>,
    report: Report,
    presence: Option<presence::Presence>,
    projections: Option<projections::Handle>,
}

/// A journal as roles read it: of the edge in this process, or of one on this host.
#[derive(Clone)]
struct Journal {
    storage: SharedStorage,
    layout: Layout,
    mark: Mark,
}

impl Journal {
    fn of(edge: &EdgeHandle) -> Self {
        let journal = edge.journal();
        Self { storage: journal.storage(), layout: journal.layout().clone(), mark: journal.mark() }
    }

    fn on_this_host(file: &File) -> Self {
        let storage: SharedStorage = Arc::new(FileStorage);
        let dir = file.edge.data_dir.join("journal");
        let layout = Layout { dir, archive: file.journal.archive.clone() };
        let mark = Mark::file(Arc::clone(&storage), layout.watermark());
        Self { storage, layout, mark }
    }
}

/// Starts the roles of a configuration.
///
/// # Errors
/// What a person must mend first; nothing is served then. A bus or a store that is away is no error.
pub fn start(
    loaded: Loaded,
    roles: Roles,
    level: Option<LevelHandle>,
    runtime: &Handle,
) -> Result<Running, Failure> {
    let file = &loaded.file;
    let cluster = Text::new(&file.edge.cluster);
    let identity = EdgeIdentity { cluster, edge: Text::from(identity::known_name(file)) };
    let store = projections::store_config(&loaded)?;
    let report = Report::new(&file.bus, roles);
    let wiring = Wiring::new(file, &identity);
    let before = roles.edge.then(|| presence::before(file, &wiring)).flatten();
    let edge = match roles.edge {
        true => Some(edge::start(&loaded, &wiring, before.as_ref(), &report, level, runtime)?),
        false => None,
    };
    let health = match (&edge, file.admin.listen.parse()) {
        (None, Ok(address)) => {
            let reported = report.clone();
            let components = Arc::new(move || reported.components());
            let (version, hosts) = (env!("CARGO_PKG_VERSION"), identity::admin_hosts(file));
            let server = HealthServer::start(address, components, version, &hosts, runtime);
            Some(server.map_err(|e| {
                let code = Failure::from(std::io::Error::from(e.kind())).code;
                Failure::new(code, format!("admin.listen {address}: {e}"))
            })?)
        }
        _ => None,
    };
    let journal = edge.as_ref().map_or_else(|| Journal::on_this_host(file), Journal::of);
    if file.bus.kind == BusKind::Journal {
        report.follows(journal.mark.clone());
    }
    if roles.relay {
        relay::start(&file.bus, &wiring, &journal, &identity, &report)?;
    }
    let known = (edge.as_ref(), before);
    let presence = presence::start(file, (&wiring, &journal), &identity, known, &report, runtime);
    let projections = roles.projections.then(|| {
        let bus = wiring.bus(&journal);
        projections::start(file, store, (&wiring, bus), &identity, &report, runtime)
    });
    Ok(Running { roles, identity, edge, health, report, presence, projections })
}

impl Running {
    /// Where this process answers HTTP.
    pub fn admin_address(&self) -> Option<std::net::SocketAddr> {
        match &self.edge {
            Some(edge) => edge.admin_address(),
            None => self.health.as_ref().map(HealthServer::address),
        }
    }

    /// Stops the edge (calls may finish until the deadline), then lets the others catch up, for a moment. `None` without an
    /// edge.
    ///
    /// # Errors
    /// The edge failed on its way.
    pub async fn stop(self, deadline: Duration, actor: &str) -> Result<Option<End>, Failure> {
        if let Some(health) = &self.health {
            health.stopping();
        }
        let report = match &self.edge {
            Some(edge) => Some(edge.stop(deadline, Text::new(actor)).await),
            None => None,
        };
        self.finish().await;
        let report = report.transpose().map_err(|fatal| fatal_failure(&fatal))?;
        Ok(report.map(End::Stopped))
    }

    /// After the edge's end: lets the others catch up, for a moment, and whoever asked for the end hear of it.
    pub async fn finish(self) {
        let (relays, presence) = (self.report.take_relays(), self.presence.clone());
        let stopped = move || {
            // The other edges hear of it first: calls for our phones are not handed to us any more.
            presence.iter().for_each(presence::Presence::stop);
            relays.into_iter().for_each(|relay| relay.stop(RELAY_FLUSH));
        };
        // What was not sent is sent by the next process.
        let _ = tokio::task::spawn_blocking(stopped).await;
        if let Some(presence) = &self.presence {
            presence.written().await;
        }
        if let Some(projections) = self.projections {
            projections.finish().await;
        }
        if let Some(edge) = &self.edge {
            let _ = tokio::time::timeout(Duration::from_secs(1), edge.wait_answered()).await;
        }
    }
}
