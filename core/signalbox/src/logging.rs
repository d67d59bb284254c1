//! Structured logs: text on a terminal, JSON otherwise, the level changeable while running.

use crate::config::model::{Format, Log};
use std::io::IsTerminal;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes the level of the running program.
#[derive(Clone, Debug)]
pub struct LevelHandle(reload::Handle<EnvFilter, Registry>);

impl LevelHandle {
    /// Sets the level: `error`, `warn`, `info`, `debug` or `trace`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn set(&self, level: &str) -> Result<(), String> {
        if !["error", "warn", "info", "debug", "trace"].contains(&level) {
            return Err(format!("\"{level}\" is not error, warn, info, debug or trace"));
        }
        self.0.reload(filter(level)).map_err(|e| e.to_string())
    }
}

/// Only our own crates at the level; what others have to say matters from `warn` on. The engine tells steps only of who
/// is watched (`log level debug --aor …`), so whatever it tells is wanted at any level.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "warn,signalbox::engine=debug,signalbox={level},signalbox_edge={level},signalbox_engine={level},signalbox_store={level},signalbox_projections={level},signalbox_bus={level},sip={level}"
    ))
}

/// Starts logging to standard error. Called once.
pub fn start(config: &Log) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(filter(config.level.as_str()));
    let json = match config.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stderr().is_terminal(),
    };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init();
    } else {
        let colours = std::io::stderr().is_terminal();
        registry.with(fmt::layer().with_ansi(colours).with_target(false).with_writer(std::io::stderr)).init();
    }
    LevelHandle(handle)
}
