//! The edge: its settings from the configuration, reloads, and what it asks the bus before its first record.

use super::broker::Wiring;
use super::health::Report;
use super::presence::Before;
use crate::config::{
    Effective, Keys, Loaded, Problems, diff, effective_json, load, model::BusKind, sha256_hex, show, streams,
};
use crate::errors::{CONFIG, Failure, INTERNAL, JOURNAL_FAILED, NO_ADDRESS, NO_RIGHT, PORT_BUSY, TLS_FILES};
use crate::identity;
use crate::logging::LevelHandle;
use signalbox_base::Text;
use signalbox_edge::{Edge, EdgeConfig, EdgeHandle, Fatal, Hooks, InForce, Reloaded, StartError, Unusable};
use signalbox_io::{BindError, OsEntropy};
use signalbox_journal::{GroupCommit, MaxSize, Sink};
use signalbox_projections::SINK;
use signalbox_schemas::config::ConfigChange;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Starts the edge with what it knew of others; `report` is what the process's other roles tell about themselves.
pub(super) fn start(
    loaded: &Loaded,
    wiring: &Wiring,
    before: Option<&Before>,
    report: &Report,
    level: Option<LevelHandle>,
    runtime: &Handle,
) -> Result<EdgeHandle, Failure> {
    let effective = Effective::new(&loaded.file);
    let mut entropy = OsEntropy::seeded().map_err(|e| Failure::new(INTERNAL, e.to_string()))?;
    let keys = identity::prepare(&effective, &mut entropy)?;
    let settings = Arc::new(effective.settings(&keys)?);
    let mut config = edge_config(loaded, settings, &effective);
    config.journal.sinks = sinks(loaded.file.bus.kind);
    config.known = before.map(|before| before.updates().to_vec()).unwrap_or_default();
    config.before_first = wiring.before_first(&config.settings.identity);
    let path = loaded.path.clone();
    let components = report.clone();
    let hooks = Hooks {
        reload: Arc::new(move |before| reload(&path, &keys, before)),
        log_level: Arc::new(move |wanted| match &level {
            Some(handle) => handle.set(wanted),
            None => Err("this process has a fixed log level".to_owned()),
        }),
        components: Arc::new(move || components.components()),
    };
    Ok(Edge::start(config, hooks, runtime)?)
}

/// Who holds segments back: a relay, which may be overrun at `max_size`, or the projections that read the journal itself;
/// whichever process they run in.
fn sinks(bus: BusKind) -> Vec<Sink> {
    vec![bus.sink().map_or_else(|| Sink::local(SINK), Sink::remote)]
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
    config.commit = GroupCommit { commit_interval: file.journal.commit_interval.0, ..GroupCommit::default() };
    config.streams = streams(file);
    config.dns = file.dns.servers();
    config.events_token_file = file.admin.events_token_file.clone();
    config.admin_hosts = identity::admin_hosts(file);
    config.admin_listen = loaded.file.admin.listen.parse().ok();
    config
}

fn in_force(file: &crate::config::model::File) -> InForce {
    let text = effective_json(file).to_string();
    InForce { sha256: Text::from(sha256_hex(text.as_bytes())), effective: Text::from(text) }
}

/// Loads the file again; the settings in force stay as they are when it has errors.
fn reload(path: &std::path::Path, keys: &Keys, before: &InForce) -> Result<Reloaded, Unusable> {
    let loaded = load(path, std::env::vars()).map_err(|problems| unusable(&problems))?;
    let effective = Effective::new(&loaded.file);
    let settings = effective.settings(keys).map_err(|problems| unusable(&problems))?;
    let old = serde_json::from_str(&before.effective).unwrap_or_default();
    let changes = diff(&old, &effective_json(&effective.file));
    let fixed =
        ["edge.data_dir", "journal.", "store.", "admin.", "bus.", "cluster.", "connections.", "log.format"];
    let of_socket = |key: &str| {
        let part = key.strip_prefix("listener[").and_then(|rest| rest.split_once("].")).map(|(_, part)| part);
        part.is_some_and(|part| matches!(part, "address" | "network") || part.starts_with("origins"))
    };
    let of_identity = |key: &str| matches!(key, "edge.name" | "edge.cluster");
    let needs_restart = |c: &&ConfigChange| {
        fixed.iter().any(|f| c.key.starts_with(f)) || of_socket(&c.key) || of_identity(&c.key)
    };
    if let Some(change) = changes.iter().find(needs_restart) {
        let what = show(change);
        return Err(format!("{what}: this takes effect with a restart only; set it back, or restart").into());
    }
    Ok(Reloaded {
        settings: Arc::new(settings),
        in_force: in_force(&effective.file),
        diff: changes,
        streams: streams(&effective.file),
        dns: effective.file.dns.servers(),
    })
}

/// Errors as the event has them, and the first for whoever asked.
fn unusable(problems: &Problems) -> Unusable {
    const SHOWN: usize = 20;
    let mut told: Vec<String> = problems.0.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = problems.0.len().saturating_sub(SHOWN);
    if more > 0 {
        told.push(format!("and {more} more; `signalbox check` shows them all"));
    }
    let errors = problems.0.iter().map(|problem| problem.event(CONFIG)).collect();
    Unusable { errors, told: Text::from(told.join("\n")) }
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
            StartError::Tls(_) => Self::new(TLS_FILES, text),
            StartError::System(_) | StartError::Thread(_) => Self::new(INTERNAL, text),
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
