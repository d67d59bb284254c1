//! The projections: one process at a time folds events into the store; another stands by, and takes over when that one's
//! lease has run out. What it wrote is fenced then.

use super::broker::Wiring;
use super::health::Report;
use super::standby::{self, Candidacy, Found};
use crate::config::Loaded;
use crate::config::model::{Bus as BusSettings, BusKind, File};
use crate::errors::{Failure, STORE_FOREIGN, STORE_NEWER};
use crate::outbox::{self, Outbox};
use signalbox_base::EdgeIdentity;
use signalbox_bus::Bus;
use signalbox_projections::{Config as GroupConfig, Group, Stopped, all, restore_bookkeeping};
use signalbox_store::lease::Lease;
use signalbox_store::{Class, Store};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// First and longest pause between attempts to reach the store.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// How often it is looked whether the embedded database's file is still there.
const FILE_WATCH: Duration = Duration::from_secs(2);
/// How long projections may go on after they were asked to stop: the journal has ended then, and so do they with it.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Running projections.
pub(super) struct Handle {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Handle {
    /// Lets them catch up, for a moment.
    pub(super) async fn finish(self) {
        self.stop.send_replace(true);
        // A database that does not answer must not keep the process: journal and bus have everything.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.task).await;
    }
}

/// Where the tables are.
pub(super) fn store_config(loaded: &Loaded) -> Result<signalbox_store::Config, Failure> {
    let file = &loaded.file;
    Ok(signalbox_store::Config::parse(
        &file.store.url,
        file.store.password_file.as_deref(),
        &file.edge.data_dir,
    )?)
}

/// Starts to fold what `bus` carries; a store that is away is waited for.
pub(super) fn start(
    file: &File,
    store: signalbox_store::Config,
    (wiring, bus): (&Wiring, Arc<dyn Bus>),
    identity: &EdgeIdentity,
    report: &Report,
    runtime: &tokio::runtime::Handle,
) -> Handle {
    let (stop, asked) = watch::channel(false);
    let kind = file.bus.kind;
    let candidacy = Candidacy::new(identity, kind.as_str(), kind == BusKind::Journal, &file.edge.data_dir);
    let embedded = file.store.url.strip_prefix("sqlite:").map(|name| file.edge.data_dir.join(name));
    let (report, settings, wiring) = (report.clone(), file.bus.clone(), wiring.clone());
    let identity = identity.clone();
    let candidacy = Arc::new(candidacy);
    let projecting = Projecting { store, file: embedded, bus, candidacy, report, settings, wiring, identity };
    Handle { stop, task: runtime.spawn(project(projecting, asked)) }
}

/// What the projections run on.
struct Projecting {
    store: signalbox_store::Config,
    /// The embedded database's file: if it is removed while open, its tables are made anew from the journal.
    file: Option<PathBuf>,
    bus: Arc<dyn Bus>,
    candidacy: Arc<Candidacy>,
    report: Report,
    settings: BusSettings,
    wiring: Wiring,
    identity: EdgeIdentity,
}

/// Why the projections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Stopped,
    FileRemoved,
    /// Another process folds now.
    Fenced,
}

/// Opens the store, however long that takes, and runs every projection until told to stop.
async fn project(it: Projecting, mut stop: watch::Receiver<bool>) {
    let mut first = true;
    while let Some(store) = connect(&it.store, &it.report, &mut stop).await {
        let Some(lease) = it.stand(&store, first, &mut stop).await else { return };
        let ended = it.run(store.clone(), lease.clone(), stop.clone()).await;
        match ended {
            Ended::FileRemoved => tracing::error!(
                "the database's file was removed or replaced; its tables are made anew from the journal"
            ),
            Ended::Fenced => tracing::warn!("another process has taken over the tables; this one stands by"),
            Ended::Stopped => {}
        }
        // Whoever was stopped by another does not take back what that one has taken.
        first &= ended != Ended::Fenced;
        if ended == Ended::Stopped {
            it.candidacy.give_back(&store, &lease).await;
            return;
        }
    }
}

impl Projecting {
    /// Waits for the lease, however long that takes.
    async fn stand(&self, store: &Store, first: bool, stop: &mut watch::Receiver<bool>) -> Option<Lease> {
        let mut said = String::new();
        loop {
            match self.candidacy.stand(store, first).await {
                Ok(Found::Ours(lease)) => {
                    if !said.is_empty() {
                        tracing::warn!("this process folds the tables now");
                    }
                    return Some(lease);
                }
                Ok(Found::Standby(held)) => {
                    let line = standby::told(&held);
                    if said != held.holder {
                        tracing::warn!(
                            "standby: {line}; this process takes over when that one ends or is silent"
                        );
                        said = held.holder;
                    }
                    self.report.standby(line);
                }
                Ok(Found::Foreign(why)) => {
                    let line = format!("{STORE_FOREIGN} this database is not used: {why}");
                    if said != why {
                        tracing::error!(
                            "{line}; give this edge a database of its own, or all of them one bus"
                        );
                        said = why;
                    }
                    self.report.trouble(Some(line));
                }
                Err(error) => {
                    let restored = match error.class() {
                        Class::Schema => restore_bookkeeping(store).await,
                        _ => Err(error),
                    };
                    self.report.trouble(restored.unwrap_or_else(|error| Some(error.to_string())));
                }
            }
            if !self.candidacy.wait(stop).await {
                return None;
            }
        }
    }

    async fn run(&self, store: Store, lease: Lease, stop: watch::Receiver<bool>) -> Ended {
        let config = GroupConfig {
            holder: self.candidacy.holder().to_owned(),
            edge: self.identity.edge.clone(),
            lease: Some(lease.clone()),
            bus: self.settings.kind.as_str(),
            ..GroupConfig::default()
        };
        let relay = self.relay_outbox(&store);
        let forgetting =
            relay.is_none().then(|| tokio::spawn(outbox::forget_old(store.clone(), lease.clone())));
        let observed = self.report.observed(&store, self.candidacy.holder());
        let group = Group::new(all(), Arc::clone(&self.bus), store.clone(), config);
        self.report.running(group.statuses());
        let (halt, halted) = watch::channel(false);
        let (report, fenced) = (self.report.clone(), watch::channel(false).0);
        let taken = fenced.clone();
        let told = move |stopped: Stopped| {
            if matches!(stopped, Stopped::Fenced { .. }) {
                taken.send_replace(true);
                return;
            }
            tracing::error!(error = %stopped, "a projection stopped; calls go on, its table does not");
            report.trouble(Some(stopped.to_string()));
        };
        let running = tokio::spawn(group.run(halted, told));
        let watcher = tokio::spawn(until_halt(self.file.clone(), stop, halt, fenced.subscribe()));
        let (candidacy, kept, over) = (Arc::clone(&self.candidacy), fenced.clone(), watch::channel(false).0);
        let until = over.subscribe();
        let keeper = tokio::spawn(async move {
            if candidacy.keep(&store, &lease, until).await {
                kept.send_replace(true);
            }
        });
        outlive(running, &self.report).await;
        let ended = watcher.await.unwrap_or(Ended::Stopped);
        over.send_replace(true);
        let _ = keeper.await;
        drop(observed);
        if let Some(task) = forgetting {
            task.abort();
        }
        if let Some(name) = relay {
            let report = self.report.clone();
            // It saves its place, which may take a moment.
            let _ = tokio::task::spawn_blocking(move || report.end_relay(&name)).await;
        }
        ended
    }

    /// What projections and consumers tell themselves goes to the broker from here, under the relay's name.
    fn relay_outbox(&self, store: &Store) -> Option<String> {
        let broker = self.wiring.broker("store")?;
        let (runtime, holder) = (tokio::runtime::Handle::current(), self.candidacy.holder().to_owned());
        let cluster = self.identity.cluster.clone();
        let origin = Outbox::new(store.clone(), runtime, cluster, broker.name(), holder);
        let name = format!("relay-outbox-{}", broker.name());
        match super::relay::spawn(name.clone(), Box::new(origin), broker, &self.settings, &self.report) {
            Ok(()) => Some(name),
            Err(error) => {
                tracing::error!(%error, "events of the store are not relayed");
                None
            }
        }
    }
}

/// Waits for the end; a panic is told where people look.
async fn outlive(running: tokio::task::JoinHandle<()>, report: &Report) {
    if let Err(panic) = running.await {
        tracing::error!(error = %panic, "projections ended by a panic; calls go on, tables do not");
        report.trouble(Some(format!("projections ended by a panic: {panic}")));
    }
}

/// Waits for the stop, or for the database's file to be another one than was opened; then halts the runners.
async fn until_halt(
    file: Option<PathBuf>,
    mut stop: watch::Receiver<bool>,
    halt: watch::Sender<bool>,
    mut fenced: watch::Receiver<bool>,
) -> Ended {
    let opened = file.as_deref().and_then(file_id);
    loop {
        tokio::select! {
            () = asked(&mut stop) => {
                tokio::time::sleep(CATCH_UP).await;
                halt.send_replace(true);
                return Ended::Stopped;
            }
            () = asked(&mut fenced) => {
                halt.send_replace(true);
                return Ended::Fenced;
            }
            () = tokio::time::sleep(FILE_WATCH) => {}
        }
        if opened.is_some() && file.as_deref().and_then(file_id) != opened {
            halt.send_replace(true);
            return Ended::FileRemoved;
        }
    }
}

/// Ready when somebody asks, or nobody can any more.
async fn asked(wanted: &mut watch::Receiver<bool>) {
    let _ = wanted.wait_for(|wanted| *wanted).await;
}

fn file_id(path: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

async fn connect(
    config: &signalbox_store::Config,
    report: &Report,
    stop: &mut watch::Receiver<bool>,
) -> Option<Store> {
    let mut pause = RETRY_FIRST;
    loop {
        let opened = async {
            let store = Store::open(config).await?;
            store.migrate().await?;
            restore_bookkeeping(&store).await?;
            Ok::<_, signalbox_store::Error>(store)
        };
        match opened.await {
            Ok(store) => {
                report.trouble(None);
                return Some(store);
            }
            Err(error) => {
                if pause == RETRY_FIRST {
                    tracing::warn!(%error, store = config.url(), "the store is away; calls go on, tables catch up later");
                }
                let newer = error.class() == Class::Newer;
                report.trouble(Some(if newer {
                    format!("{STORE_NEWER} {error}")
                } else {
                    error.to_string()
                }));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LONGEST),
            _ = stop.changed() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Roles;
    use super::*;
    use signalbox_edge::ComponentState;

    #[tokio::test]
    async fn given_projections_when_they_panic_then_health_says_that_the_store_is_down() {
        let roles = Roles { edge: true, relay: false, projections: true };
        let report = Report::new(&BusSettings::default(), roles);
        let store = || report.components().into_iter().find(|one| one.name == "store").unwrap();
        outlive(tokio::spawn(async {}), &report).await;
        assert_eq!(store().state, ComponentState::Up);
        outlive(tokio::spawn(async { panic!("broken fold") }), &report).await;
        assert_eq!(store().state, ComponentState::Down);
        assert!(store().detail.unwrap().contains("broken fold"));
    }
}
