//! What an edge is started with.

use crate::status::ComponentsHook;
use signalbox_base::{JournalId, Text};
use signalbox_engine::Settings;
use signalbox_io::{StreamLimits, TlsFiles};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{GroupCommit, Layout, Mark};
use signalbox_schemas::config::{ConfigChange, ConfigError};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One edge.
#[derive(Clone)]
pub struct EdgeConfig {
    /// What the engine is told. The journal's id is filled in by the start.
    pub settings: Arc<Settings>,
    /// Holds the journal and the admin socket; created when missing.
    pub data_dir: PathBuf,
    /// The journal, in a directory of its own.
    pub journal: signalbox_journal::Config,
    /// The journal's disk.
    pub storage: SharedStorage,
    /// When to commit.
    pub commit: GroupCommit,
    /// TCP, TLS and WebSocket.
    pub streams: StreamConfig,
    /// `[dns] servers`: asked for peers' names. Empty: those of the system.
    pub dns: Vec<SocketAddr>,
    /// `[admin] listen`: HTTP, read-only. None serves no HTTP.
    pub admin_listen: Option<SocketAddr>,
    /// `[admin] events_token_file`: who has this token may read events over HTTP. None: whoever is on this machine, and
    /// nobody when the port is reached from others.
    pub events_token_file: Option<PathBuf>,
    /// Names of this machine under which HTTP answers, besides its addresses and `localhost`: its host name and
    /// `[admin] hosts`.
    pub admin_hosts: Vec<String>,
    /// The configuration in force, for `config.applied`.
    pub in_force: InForce,
    /// Asked before the first record of a run over an old journal.
    pub before_first: Option<BeforeFirst>,
    /// What was known of other edges: the first call already finds their phones.
    pub known: Vec<signalbox_engine::remote::Update>,
}

impl EdgeConfig {
    /// The defaults: the journal in `data_dir/journal`, on the file system.
    #[must_use]
    pub fn new(settings: Arc<Settings>, data_dir: impl Into<PathBuf>, in_force: InForce) -> Self {
        let data_dir = data_dir.into();
        Self {
            settings,
            journal: signalbox_journal::Config::new(data_dir.join("journal")),
            data_dir,
            storage: Arc::new(FileStorage),
            commit: GroupCommit::default(),
            streams: StreamConfig::default(),
            dns: Vec::new(),
            admin_listen: None,
            events_token_file: None,
            admin_hosts: Vec::new(),
            in_force,
            before_first: None,
            known: Vec::new(),
        }
    }
}

/// How connections are served and made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// How much they may take.
    pub limits: StreamLimits,
    /// Certificates and authorities; none where nobody speaks TLS. The only part that a reload changes.
    pub tls: Option<TlsFiles>,
    /// By a backend's host as it is configured, the name that its certificate must be good for, where that is another.
    pub server_names: Vec<(Text, Text)>,
    /// Certificates that end within this are told of.
    pub warn_before: Duration,
    /// For each listener, the pages that may open WebSockets to it; empty for all.
    pub origins: Vec<Vec<String>>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            limits: StreamLimits::default(),
            tls: None,
            server_names: Vec::new(),
            warn_before: Duration::from_secs(21 * 86_400),
            origins: Vec::new(),
        }
    }
}

/// A journal that was opened, before anything is written to it.
#[derive(Clone)]
pub struct Opened {
    /// Its disk.
    pub storage: SharedStorage,
    /// Its place.
    pub layout: Layout,
    /// Its durable end.
    pub mark: Mark,
    /// Its id.
    pub journal: JournalId,
}

/// Whether an old journal goes on under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fork {
    /// It does.
    Keep,
    /// It may be an old copy, or one of two: it gets a new id that names the one it continues. With the reason.
    New(String),
}

/// Decides about [`Fork`]: somebody who was told later events of this journal than it has itself would take other events
/// under the same numbers for those. May block, for a second at most.
pub type BeforeFirst = Arc<dyn Fn(&Opened) -> Fork + Send + Sync>;

/// An effective configuration as events carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// SHA-256 of the canonical form, 64 hexadecimal digits.
    pub sha256: Text,
    /// JSON, secrets by name only.
    pub effective: Text,
}

/// A configuration that was loaded for a reload.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// What the engine is told.
    pub settings: Arc<Settings>,
    /// As events carry it.
    pub in_force: InForce,
    /// What changed; empty when nothing did.
    pub diff: Vec<ConfigChange>,
    /// How connections are made; files behind unchanged names may have changed.
    pub streams: StreamConfig,
    /// As [`EdgeConfig::dns`].
    pub dns: Vec<SocketAddr>,
}

/// A configuration that does not come into force.
#[derive(Clone, Debug)]
pub struct Unusable {
    /// Each error with its place, as the event has it.
    pub errors: Vec<ConfigError>,
    /// The same for whoever asked.
    pub told: Text,
}

impl From<String> for Unusable {
    fn from(message: String) -> Self {
        let told = Text::from(message);
        Self { errors: vec![ConfigError { message: told.clone(), ..ConfigError::default() }], told }
    }
}

/// Loads the configuration again, and compares it with what is in force.
pub type ReloadHook = Arc<dyn Fn(&InForce) -> Result<Reloaded, Unusable> + Send + Sync>;

/// Sets the log level (`info`, `debug`, or a filter); the error says what is wrong with it.
pub type LogLevelHook = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What the binary does for the edge.
#[derive(Clone)]
pub struct Hooks {
    /// For `signalbox reload` and SIGHUP. May block: it is called on a blocking thread.
    pub reload: ReloadHook,
    /// For `signalbox log level`.
    pub log_level: LogLevelHook,
    /// State and lag of bus, store and projections, for health, readiness and metrics. Must return at once.
    pub components: ComponentsHook,
}

impl Default for Hooks {
    /// Nothing to reload, no level to set, no other components.
    fn default() -> Self {
        Self {
            reload: Arc::new(|_| {
                Err("this process was started without a configuration file".to_owned().into())
            }),
            log_level: Arc::new(|_| Err("this process has a fixed log level".to_owned())),
            components: Arc::new(Vec::new),
        }
    }
}
