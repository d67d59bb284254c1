//! What the engine thread tells about itself: figures about once a second, log lines, and clock steps.

use super::{Core, HOUSEKEEPING};
use crate::status::{BackendFigure, Figures, Phase};
use signalbox_base::{Text, Wall};
use signalbox_engine::contract::{Level, Note};
use signalbox_engine::{Command, Input, Settings};
use signalbox_schemas::Event;
use signalbox_schemas::edge::EdgeClockStepped;

/// What figures say besides counts.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) started: Wall,
    pub(crate) version: Text,
    pub(crate) edge: Text,
    pub(crate) networks: Vec<Text>,
    pub(crate) tenants: Vec<Text>,
    pub(crate) config_revision: u64,
}

impl About {
    pub(crate) fn new(settings: &Settings, started: Wall, revision: u64) -> Self {
        let mut about = Self {
            started,
            version: settings.version.clone(),
            edge: settings.identity.edge.clone(),
            networks: Vec::new(),
            tenants: Vec::new(),
            config_revision: 0,
        };
        about.configured(settings, revision);
        about
    }

    pub(crate) fn configured(&mut self, settings: &Settings, revision: u64) {
        self.networks.clone_from(&settings.networks);
        self.tenants = settings.tenants.iter().map(|tenant| Text::new(tenant.name.as_str())).collect();
        self.config_revision = revision;
    }

    /// Figures before the first turn.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            started: self.started,
            version: self.version.clone(),
            networks: self.networks.clone(),
            tenants: self.tenants.clone(),
            config_revision: self.config_revision,
            ..Figures::default()
        }
    }
}

impl Core {
    /// About once a second: follows the machine's clock and publishes figures.
    pub(super) fn housekeeping(&mut self) {
        let now = self.parts.clock.now().mono;
        if self.housekept.is_some_and(|at| now.since(at) < HOUSEKEEPING) {
            return;
        }
        self.housekept = Some(now);
        if let Some(step) = self.parts.clock.check() {
            tracing::warn!(
                step_ms = step.step_ms,
                "the machine's clock was set; stamps follow it, durations do not"
            );
            let stepped = EdgeClockStepped { edge: self.parts.about.edge.clone(), step_ms: step.step_ms };
            self.turn(Input::Command(Command::Note(Box::new(Event::from(stepped)))));
            self.flush();
        }
        self.publish(self.phase);
    }

    pub(super) fn publish(&self, phase: Phase) {
        let (sent, failed) = self.parts.shared.sent_elsewhere();
        let mut traffic = self.traffic;
        traffic.sent += sent;
        traffic.failed += failed;
        self.parts.shared.publish(Figures {
            uptime: self.parts.clock.now().mono,
            phase,
            counters: self.parts.engine.counters().clone(),
            backends: self.backends(),
            traffic,
            durable: self.parts.progress.durable(),
            records: self.records,
            stalled: self.stalled,
            pressure: self.pressure,
            ..self.parts.about.figures()
        });
    }

    fn backends(&self) -> Vec<BackendFigure> {
        crate::look::backends(&self.parts.engine)
    }
}

/// A log line of the engine, with what it belongs to.
pub(super) fn log(note: &Note) {
    let call = note.call.map(tracing::field::display);
    let aor = note.aor.as_ref().map(tracing::field::display);
    let source = note.source.map(tracing::field::display);
    match note.level {
        Level::Info => tracing::info!(target: "signalbox::engine", call, aor, source, "{}", note.text),
        Level::Debug => tracing::debug!(target: "signalbox::engine", call, aor, source, "{}", note.text),
    }
}
