//! What the roles of this process tell about themselves: for `/health`, `/ready`, metrics and `signalbox status`.

use super::Roles;
use crate::config::model::{Bus, BusKind};
use signalbox_base::{EventSeq, Wall};
use signalbox_bus::relay::{RelayHandle, RelayStatus, State};
use signalbox_edge::{Component, ComponentState, RelayFigure};
use signalbox_io::Clock;
use signalbox_journal::Mark;
use signalbox_projections::StatusHandle;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What projections' components are called, before their names.
pub const PROJECTION: &str = "projection ";

/// Shared by the roles that report and whoever asks.
#[derive(Clone)]
pub(super) struct Report(Arc<Inner>);

struct Inner {
    kind: BusKind,
    bus: String,
    roles: Roles,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// Why the store is not used.
    trouble: Option<String>,
    projections: Vec<StatusHandle>,
    relays: Vec<(String, RelayHandle)>,
    /// The journal's durable end: a projection that hears nothing does not know how far it is behind.
    mark: Option<Mark>,
}

impl Report {
    pub(super) fn new(bus: &Bus, roles: Roles) -> Self {
        let told = Mutex::default();
        Self(Arc::new(Inner { kind: bus.kind, bus: bus.describe(), roles, told }))
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Projections read this journal.
    pub(super) fn follows(&self, mark: Mark) {
        self.lock().mark = Some(mark);
    }

    pub(super) fn trouble(&self, why: Option<String>) {
        self.lock().trouble = why;
    }

    pub(super) fn running(&self, projections: Vec<StatusHandle>) {
        let mut told = self.lock();
        (told.trouble, told.projections) = (None, projections);
    }

    pub(super) fn relays(&self, name: String, relay: RelayHandle) {
        self.lock().relays.push((name, relay));
    }

    /// Stops one, if it still runs.
    pub(super) fn end_relay(&self, name: &str) {
        let mut told = self.lock();
        let found = told.relays.iter().position(|(known, _)| known == name);
        let relay = found.map(|at| told.relays.remove(at));
        drop(told);
        if let Some((_, relay)) = relay {
            relay.stop(std::time::Duration::ZERO);
        }
    }

    /// The relays, to be stopped; they are not reported any more.
    pub(super) fn take_relays(&self) -> Vec<RelayHandle> {
        std::mem::take(&mut self.lock().relays).into_iter().map(|(_, relay)| relay).collect()
    }

    /// Everything there is to tell now.
    pub(super) fn components(&self) -> Vec<Component> {
        let now = Clock::start().now().wall;
        let told = self.lock();
        let durable = told.mark.as_ref().and_then(|mark| mark.durable().ok());
        let roles = self.0.roles;
        let relays: Vec<Component> =
            told.relays.iter().map(|(name, relay)| relayed(name, &relay.status(), now, roles)).collect();
        let mut all = vec![self.bus(&relays, durable)];
        all.extend(relays);
        if roles.projections {
            let faults: Vec<Option<String>> = told.projections.iter().map(|one| one.get().fault).collect();
            all.push(store(told.trouble.clone(), faults.into_iter().flatten().next(), roles));
            all.extend(told.projections.iter().map(|one| projection(one, durable, now)));
        }
        all
    }

    fn bus(&self, relays: &[Component], durable: Option<EventSeq>) -> Component {
        let well = relays.iter().all(|relay| relay.state == ComponentState::Up);
        let state = relays.first().and_then(|relay| relay.relay).map(|relay| relay.state);
        let detail = match state {
            Some(state) => format!("{}, {state}", self.0.bus),
            None => self.0.bus.clone(),
        };
        Component {
            name: "bus".to_owned(),
            state: if well { ComponentState::Up } else { ComponentState::Degraded },
            position: durable.filter(|_| self.0.kind == BusKind::Journal),
            detail: Some(detail),
            ..Component::default()
        }
    }
}

fn relayed(name: &str, told: &RelayStatus, now: Wall, roles: Roles) -> Component {
    let status = &told.status;
    let behind = told.lag_events();
    let waits = (behind > 0).then(|| format!("{behind} event(s) wait"));
    let refused = status.refused.map(|seq| format!("event {seq} is not taken"));
    let error = status.error.as_ref().map(ToString::to_string);
    let detail: Vec<String> = [waits, refused, error].into_iter().flatten().collect();
    let well = status.state == State::Flowing && status.refused.is_none();
    Component {
        name: name.to_owned(),
        state: if well { ComponentState::Up } else { ComponentState::Degraded },
        lag_seconds: Some(told.lag(now).as_secs_f64()),
        lag_events: Some(behind),
        relay: Some(RelayFigure {
            state: status.state.as_str(),
            published: status.published,
            acked: status.acked,
            rewinds: status.rewinds,
        }),
        position: Some(status.cursor),
        detail: (!detail.is_empty()).then(|| detail.join("; ")),
        // Calls and tables do not wait for the bus: only a process that does nothing else is not ready without it.
        blocks_ready: !roles.edge && !roles.projections,
    }
}

fn store(trouble: Option<String>, fault: Option<String>, roles: Roles) -> Component {
    let state = match (&trouble, &fault) {
        (Some(_), _) => ComponentState::Down,
        (None, Some(_)) => ComponentState::Degraded,
        (None, None) => ComponentState::Up,
    };
    let (name, detail, blocks_ready) = ("store".to_owned(), trouble.or(fault), !roles.edge);
    Component { name, state, detail, blocks_ready, ..Component::default() }
}

fn projection(handle: &StatusHandle, durable: Option<EventSeq>, now: Wall) -> Component {
    let status = handle.get();
    let through = status.sources.values().map(|s| s.through).max().unwrap_or(0);
    let behind = match durable {
        Some(durable) => durable.0.saturating_sub(through),
        None => status.lag_events(),
    };
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
        lag_events: Some(behind),
        position: Some(EventSeq(through)),
        detail: fault.or(held).or(parked),
        ..Component::default()
    }
}
