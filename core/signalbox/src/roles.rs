//! The roles of one process: the edge, and the projections that fold its journal into the store.
//!
//! SIP never waits for the store: a database that is away is waited for with growing pauses, seen in `/health` and
//! metrics, while calls go on.

use crate::config::{Effective, Keys, Loaded, diff, effective_json, load, sha256_hex};
use crate::errors::{Failure, INTERNAL, JOURNAL_FAILED, NO_ADDRESS, NO_RIGHT, PORT_BUSY};
use crate::identity;
use crate::logging::LevelHandle;
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_bus::{Bus, Local};
use signalbox_edge::{
    Component, ComponentState, Edge, EdgeConfig, EdgeHandle, Fatal, Hooks, InForce, Reloaded, StartError,
};
use signalbox_io::{BindError, Clock, OsEntropy};
use signalbox_journal::{GroupCommit, MaxSize, Sink, Watermark};
use signalbox_projections::{Config as GroupConfig, Group, SINK, StatusHandle, Stopped, all};
use signalbox_store::Store;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// What projections' components are called, before their names.
pub const PROJECTION: &str = "projection ";
/// First and longest pause between attempts to reach the store.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// How often it is looked whether the embedded database's file is still there.
const FILE_WATCH: Duration = Duration::from_secs(2);
/// How long projections may go on after they were asked to stop: the journal has ended then, and so do they with it.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Everything that runs.
pub struct Running {
    /// The edge.
    pub edge: EdgeHandle,
    stop_projections: watch::Sender<bool>,
    projections: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Stops the edge (calls may finish until the deadline), then lets the projections catch up, for a moment.
    ///
    /// # Errors
    /// The edge failed on its way.
    pub async fn stop(self, deadline: Duration, actor: &str) -> Result<signalbox_edge::End, Failure> {
        let report = self.edge.stop(deadline, Text::new(actor)).await;
        self.finish().await;
        report.map(signalbox_edge::End::Stopped).map_err(|fatal| fatal_failure(&fatal))
    }

    /// After the edge's end: lets the projections catch up, for a moment, and whoever asked for the end hear of it.
    pub async fn finish(self) {
        self.stop_projections.send_replace(true);
        // A database that does not answer must not keep the process: the journal has everything.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.projections).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.edge.wait_answered()).await;
    }
}

/// Starts the edge and the projections of a configuration.
///
/// # Errors
/// What a person must mend first; nothing is served then. A store that is away is no error.
pub fn start(loaded: Loaded, level: Option<LevelHandle>, runtime: &Handle) -> Result<Running, Failure> {
    let effective = Effective::new(&loaded.file);
    let mut entropy = OsEntropy::seeded().map_err(|e| Failure::new(INTERNAL, e.to_string()))?;
    let keys = identity::prepare(&effective, &mut entropy)?;
    let settings = Arc::new(effective.settings(&keys)?);
    let store = store_config(&loaded)?;
    let embedded = loaded.file.store.url.strip_prefix("sqlite:").map(str::to_owned);
    let data_dir = loaded.file.edge.data_dir.clone();
    let statuses = Statuses::default();
    let config = edge_config(&loaded, settings, &effective);
    let (current, path) = (Arc::new(Mutex::new(loaded.file.clone())), loaded.path);
    let components = statuses.clone();
    let hooks = Hooks {
        reload: Arc::new(move || reload(&path, &keys, &current)),
        log_level: Arc::new(move |wanted| match &level {
            Some(handle) => handle.set(wanted),
            None => Err("this process has a fixed log level".to_owned()),
        }),
        components: Arc::new(move || components.report()),
    };
    let edge = Edge::start(config, hooks, runtime)?;
    let journal = edge.journal();
    statuses.lock().durable = Some(journal.watermark());
    let bus = Local::new(
        edge.settings().identity.clone(),
        journal.storage(),
        journal.layout().clone(),
        journal.mark(),
    );
    let (stop_projections, stop) = watch::channel(false);
    let holder = format!("{} pid {}", edge.settings().identity, std::process::id());
    let file = embedded.map(|name| data_dir.join(name));
    let projecting = Projecting { store, file, bus: Arc::new(bus), holder, statuses };
    let projections = runtime.spawn(project(projecting, stop));
    Ok(Running { edge, stop_projections, projections })
}

fn store_config(loaded: &Loaded) -> Result<signalbox_store::Config, Failure> {
    let file = &loaded.file;
    Ok(signalbox_store::Config::parse(
        &file.store.url,
        file.store.password_file.as_deref(),
        &file.edge.data_dir,
    )?)
}

fn edge_config(
    loaded: &Loaded,
    settings: Arc<signalbox_engine::Settings>,
    effective: &Effective,
) -> EdgeConfig {
    let file = &effective.file;
    let mut config = EdgeConfig::new(settings, &file.edge.data_dir, in_force(file));
    let journal = &mut config.journal;
    if let crate::config::value::Size::Bytes(bytes) = file.journal.segment_size {
        journal.segment_size = bytes;
    }
    journal.retain = file.journal.retain.0;
    journal.max_size = match file.journal.max_size {
        crate::config::value::Size::Bytes(bytes) => MaxSize::Bytes(bytes),
        crate::config::value::Size::Percent(percent) => MaxSize::Percent(percent),
    };
    journal.archive = file.journal.archive.clone();
    journal.sinks = vec![Sink::local(SINK)];
    config.commit = GroupCommit { commit_interval: file.journal.commit_interval.0, ..GroupCommit::default() };
    config.admin_listen = loaded.file.admin.listen.parse().ok();
    config
}

fn in_force(file: &crate::config::model::File) -> InForce {
    let text = effective_json(file).to_string();
    InForce { sha256: Text::from(sha256_hex(text.as_bytes())), effective: Text::from(text) }
}

/// Loads the file again; the settings in force stay as they are when it has errors.
fn reload(
    path: &std::path::Path,
    keys: &Keys,
    current: &Mutex<crate::config::model::File>,
) -> Result<Reloaded, Vec<String>> {
    let loaded =
        load(path, std::env::vars()).map_err(|p| p.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let effective = Effective::new(&loaded.file);
    let settings = effective.settings(keys).map_err(|p| vec![p.to_string()])?;
    let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
    let old = effective_json(&Effective::new(&current).file);
    let changes = diff(&old, &effective_json(&effective.file));
    let fixed = ["edge.data_dir", "journal.", "store.", "admin.", "bus.", "log.format"];
    let of_socket =
        |c: &str| c.starts_with("listener[") && [".address:", ".network:"].iter().any(|k| c.contains(k));
    let of_identity = |c: &str| c.starts_with("edge.name:") || c.starts_with("edge.cluster:");
    let needs_restart =
        |c: &&String| fixed.iter().any(|f| c.starts_with(f)) || of_socket(c) || of_identity(c);
    if let Some(change) = changes.iter().find(needs_restart) {
        return Err(vec![format!(
            "{change}: this takes effect with a restart only; set it back, or restart"
        )]);
    }
    *current = loaded.file;
    Ok(Reloaded {
        settings: Arc::new(settings),
        in_force: in_force(&effective.file),
        diff: changes.into_iter().map(Text::from).collect(),
    })
}

/// What the projections report, before and after they run.
#[derive(Clone, Default)]
struct Statuses(Arc<Mutex<Reported>>);

#[derive(Clone, Default)]
struct Reported {
    trouble: Option<String>,
    handles: Vec<StatusHandle>,
    /// The journal's durable end: a projection that hears nothing does not know how far it is behind.
    durable: Option<Arc<Watermark>>,
}

impl Statuses {
    fn lock(&self) -> MutexGuard<'_, Reported> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, why: Option<String>) {
        self.lock().trouble = why;
    }

    fn running(&self, handles: Vec<StatusHandle>) {
        let mut reported = self.lock();
        (reported.trouble, reported.handles) = (None, handles);
    }

    fn report(&self) -> Vec<Component> {
        let Reported { trouble, handles, durable } = self.lock().clone();
        let now = Clock::start().now().wall;
        let durable = durable.map_or(0, |watermark| watermark.get().0);
        let projections: Vec<Component> =
            handles.iter().map(|handle| projection(handle, durable, now)).collect();
        let fault = handles.iter().find_map(|handle| handle.get().fault);
        let state = match (&trouble, &fault) {
            (Some(_), _) => ComponentState::Down,
            (None, Some(_)) => ComponentState::Degraded,
            (None, None) => ComponentState::Up,
        };
        let store = Component {
            name: "store".to_owned(),
            state,
            lag_seconds: None,
            position: None,
            detail: trouble.or(fault),
            blocks_ready: false,
        };
        let bus = Component {
            name: "bus".to_owned(),
            state: ComponentState::Up,
            lag_seconds: None,
            position: Some(EventSeq(durable)),
            detail: Some("journal (embedded)".to_owned()),
            blocks_ready: false,
        };
        [bus, store].into_iter().chain(projections).collect()
    }
}

fn projection(handle: &StatusHandle, durable: u64, now: Wall) -> Component {
    let status = handle.get();
    let through = status.sources.values().map(|s| s.through).max().unwrap_or(0);
    let behind = durable.saturating_sub(through);
    let lag_seconds = match status.recorded_at {
        Some(at) if behind > 0 => now.since(Wall(at)).as_secs_f64(),
        _ => 0.0,
    };
    let parked = (status.parked > 0).then(|| format!("{} aggregate(s) parked", status.parked));
    let held = (!status.held.is_empty()).then(|| format!("{} domain(s) held", status.held.len()));
    let fault = status.fault.as_ref().map(|fault| format!("{behind} event(s) behind: {fault}"));
    let well = status.fault.is_none() && status.held.is_empty();
    Component {
        name: format!("{PROJECTION}{}", status.projection),
        state: if well { ComponentState::Up } else { ComponentState::Degraded },
        lag_seconds: Some(lag_seconds),
        position: Some(EventSeq(through)),
        detail: fault.or(held).or(parked),
        blocks_ready: false,
    }
}

/// What the projections run on.
struct Projecting {
    store: signalbox_store::Config,
    /// The embedded database's file: if it is removed while open, its tables are made anew from the journal.
    file: Option<PathBuf>,
    bus: Arc<dyn Bus>,
    holder: String,
    statuses: Statuses,
}

/// Why the projections ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Stopped,
    FileRemoved,
}

/// Opens the store, however long that takes, and runs every projection until told to stop.
async fn project(it: Projecting, mut stop: watch::Receiver<bool>) {
    while let Some(store) = connect(&it.store, &it.statuses, &mut stop).await {
        if it.run(store, stop.clone()).await == Ended::Stopped {
            return;
        }
        tracing::error!(
            "the database's file was removed or replaced; its tables are made anew from the journal"
        );
    }
}

impl Projecting {
    async fn run(&self, store: Store, stop: watch::Receiver<bool>) -> Ended {
        let config = GroupConfig { holder: self.holder.clone(), ..GroupConfig::default() };
        let group = Group::new(all(), Arc::clone(&self.bus), store, config);
        self.statuses.running(group.statuses());
        let (halt, halted) = watch::channel(false);
        let statuses = self.statuses.clone();
        let told = move |stopped: Stopped| {
            tracing::error!(error = %stopped, "a projection stopped; calls go on, its table does not");
            statuses.trouble(Some(stopped.to_string()));
        };
        let running = tokio::spawn(group.run(halted, told));
        let watcher = tokio::spawn(until_halt(self.file.clone(), stop, halt));
        if let Err(panic) = running.await {
            tracing::error!(error = %panic, "projections ended by a panic; calls go on, tables do not");
        }
        watcher.await.unwrap_or(Ended::Stopped)
    }
}

/// Waits for the stop, or for the database's file to be another one than was opened; then halts the runners.
async fn until_halt(
    file: Option<PathBuf>,
    mut stop: watch::Receiver<bool>,
    halt: watch::Sender<bool>,
) -> Ended {
    let opened = file.as_deref().and_then(file_id);
    loop {
        let told =
            tokio::time::timeout(FILE_WATCH, async { stop.wait_for(|stop| *stop).await.map(|_| ()) }).await;
        if told.is_ok() {
            tokio::time::sleep(CATCH_UP).await;
            halt.send_replace(true);
            return Ended::Stopped;
        }
        if opened.is_some() && file.as_deref().and_then(file_id) != opened {
            halt.send_replace(true);
            return Ended::FileRemoved;
        }
    }
}

fn file_id(path: &std::path::Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

async fn connect(
    config: &signalbox_store::Config,
    statuses: &Statuses,
    stop: &mut watch::Receiver<bool>,
) -> Option<Store> {
    let mut pause = RETRY_FIRST;
    loop {
        let opened = async {
            let store = Store::open(config).await?;
            store.migrate().await?;
            Ok::<_, signalbox_store::Error>(store)
        };
        match opened.await {
            Ok(store) => {
                statuses.trouble(None);
                return Some(store);
            }
            Err(error) => {
                if pause == RETRY_FIRST {
                    tracing::warn!(%error, store = config.url(), "the store is away; calls go on, tables catch up later");
                }
                statuses.trouble(Some(error.to_string()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_LONGEST),
            _ = stop.changed() => return None,
        }
    }
}

impl From<StartError> for Failure {
    fn from(e: StartError) -> Self {
        let text = e.to_string();
        let by_kind = |kind: std::io::ErrorKind| match kind {
            std::io::ErrorKind::AddrInUse => PORT_BUSY,
            std::io::ErrorKind::PermissionDenied => NO_RIGHT,
            std::io::ErrorKind::AddrNotAvailable => NO_ADDRESS,
            _ => INTERNAL,
        };
        match e {
            StartError::Journal(e) => e.into(),
            StartError::Fold { .. } => Self::new(JOURNAL_FAILED, text),
            StartError::Bind(bind) => {
                let code = match bind {
                    BindError::Busy(_) => PORT_BUSY,
                    BindError::Forbidden(_) => NO_RIGHT,
                    BindError::NotOurs(_) | BindError::NoFamily(_) => NO_ADDRESS,
                    BindError::TooManyFiles(_) | BindError::Other { .. } => INTERNAL,
                };
                Self::new(code, text)
            }
            StartError::AdminListen { cause, .. } | StartError::AdminSocket { cause, .. } => {
                Self::new(by_kind(cause.kind()), text)
            }
            StartError::Transport(_) | StartError::System(_) | StartError::Thread(_) => {
                Self::new(INTERNAL, text)
            }
        }
    }
}

/// An edge that stopped by itself.
pub fn fatal_failure(fatal: &Fatal) -> Failure {
    let code = match fatal {
        Fatal::Journal(_) | Fatal::Stalled(_) => JOURNAL_FAILED,
        Fatal::System(_) | Fatal::Panic(_) => INTERNAL,
    };
    Failure::new(code, fatal.to_string())
}
