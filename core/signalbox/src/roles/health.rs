//! What the roles of this process tell about themselves: for `/health`, `/ready`, metrics and `signalbox status`.

use super::Roles;
use super::presence::{Observing, Presence, View};
use crate::config::model::{Bus, BusKind};
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_bus::heartbeat::Beat;
use signalbox_bus::presence::{Seen, State};
use signalbox_bus::relay::{self, RelayHandle, RelayStatus};
use signalbox_edge::{Component, ComponentState, EdgeFigure, RelayFigure};
use signalbox_io::Clock;
use signalbox_journal::Mark;
use signalbox_projections::StatusHandle;
use signalbox_store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What projections' components are called, before their names.
pub const PROJECTION: &str = "projection ";

/// Those of this release, to be told of before they run.
const PROJECTIONS: [&str; 4] = ["location", "calls", "cdr", "backend"];

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
    /// Why the store is not used, and since when.
    trouble: Option<(String, Wall)>,
    /// Who folds the tables while this process stands by.
    standby: Option<String>,
    projections: Vec<StatusHandle>,
    relays: Vec<(String, RelayHandle)>,
    presence: Option<Presence>,
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
        let now = Clock::start().now().wall;
        let mut told = self.lock();
        let since = told.trouble.as_ref().map_or(now, |(_, since)| *since);
        told.trouble = why.map(|why| (why, since));
        told.standby = None;
    }

    /// Another process folds the tables, and this one waits.
    pub(super) fn standby(&self, who: String) {
        let mut told = self.lock();
        (told.trouble, told.standby) = (None, Some(who));
        told.projections.clear();
    }

    pub(super) fn running(&self, projections: Vec<StatusHandle>) {
        let mut told = self.lock();
        (told.trouble, told.standby, told.projections) = (None, None, projections);
    }

    pub(super) fn relays(&self, name: String, relay: RelayHandle) {
        self.lock().relays.push((name, relay));
    }

    /// This process hears the other edges.
    pub(super) fn sees(&self, presence: Presence) {
        self.lock().presence = Some(presence);
    }

    /// What this process hears of the other edges goes to the store, until the result is dropped.
    pub(super) fn observed(&self, store: &Store, by: &str) -> Option<Observing> {
        let presence = self.lock().presence.clone()?;
        Some(presence.observe(store.clone(), by.to_owned()))
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
            all.push(store(&told, faults.into_iter().flatten().next(), roles));
            all.extend(told.projections.iter().map(|one| projection(one, durable, now)));
            if let (Some((_, since)), true) = (&told.trouble, told.projections.is_empty()) {
                all.extend(PROJECTIONS.map(|name| unreached(name, *since, durable, now)));
            }
        }
        let (view, bindings) = told.presence.as_ref().map(Presence::look).unwrap_or_default();
        all.extend(view.twin.as_ref().map(same_name));
        all.extend(view.edges.iter().map(|(name, seen)| other_edge(name, seen, &view, &bindings, now)));
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

fn same_name(twin: &Beat) -> Component {
    let Beat { edge, takes_at, calls, registrations, .. } = twin;
    let at = takes_at.map(|at| format!(" at {at}")).unwrap_or_default();
    Component {
        name: "edge name".to_owned(),
        state: ComponentState::Degraded,
        detail: Some(format!(
            "another process{at} is also \"{edge}\" ({calls} calls, {registrations} registrations): give one another edge.name, or stop it"
        )),
        ..Component::default()
    }
}

fn other_edge(name: &Text, seen: &Seen, view: &View, bindings: &BTreeMap<Text, u64>, now: Wall) -> Component {
    let silent = seen.heard_at.map(|at| now.since(at).as_secs_f64());
    let state = match seen.state {
        State::Alive => "alive",
        State::Lost => "lost",
        State::Stopped => "stopped",
    };
    let heard = silent.map_or_else(|| "not heard yet".to_owned(), |secs| format!("heard {secs:.1} s ago"));
    let judged = if view.hears { "" } else { ", not judged: the bus is away" };
    let known = bindings.get(name).copied().unwrap_or(0);
    let takes = seen.beat.takes_at.map_or_else(|| ", takes no calls".to_owned(), |at| format!(" at {at}"));
    let Beat { calls, registrations, .. } = &seen.beat;
    let trip = view.round_trip_ms.map_or_else(String::new, |ms| format!(", round trip {ms:.1} ms"));
    let detail = format!(
        "{state}{judged}, {heard}{takes}, {registrations} registrations ({known} known here), {calls} calls{trip}"
    );
    Component {
        name: format!("edge {name}"),
        state: if seen.state == State::Lost { ComponentState::Down } else { ComponentState::Up },
        detail: Some(detail),
        edge: Some(EdgeFigure {
            name: name.clone(),
            state,
            heard_seconds: silent,
            bindings: known,
            calls: *calls,
        }),
        ..Component::default()
    }
}

fn relayed(name: &str, told: &RelayStatus, now: Wall, roles: Roles) -> Component {
    let status = &told.status;
    let behind = told.lag_events();
    let waits = (behind > 0).then(|| format!("{behind} event(s) wait"));
    let refused = status.refused.map(|seq| format!("event {seq} is not taken"));
    let error = status.error.as_ref().map(ToString::to_string);
    let detail: Vec<String> = [waits, refused, error].into_iter().flatten().collect();
    let well = status.state == relay::State::Flowing && status.refused.is_none();
    Component {
        name: name.to_owned(),
        state: if well { ComponentState::Up } else { ComponentState::Degraded },
        lag_seconds: Some(told.lag(now).as_secs_f64()),
        lag_events: Some(behind),
        edge: None,
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
        ..Component::default()
    }
}

fn store(told: &Told, fault: Option<String>, roles: Roles) -> Component {
    // Before the lease was asked for, nobody knows whose the tables are: a process that does nothing else is not ready yet.
    let asked = told.trouble.is_some() || told.standby.is_some() || !told.projections.is_empty();
    let unasked = (roles.projections && !roles.edge && !asked).then(|| "not opened yet".to_owned());
    let fault = unasked.or(fault);
    let state = match (&told.trouble, &fault) {
        (Some(_), _) => ComponentState::Down,
        (None, Some(_)) => ComponentState::Degraded,
        (None, None) => ComponentState::Up,
    };
    let waits = told.standby.as_ref().map(|who| format!("standby: {who}"));
    let standby = (asked && told.trouble.is_none()).then_some(waits.is_some());
    let away_since = told.trouble.as_ref().map(|(_, since)| since.to_string());
    let detail = told.trouble.as_ref().map(|(why, _)| why.clone()).or(waits).or(fault);
    let (name, blocks_ready) = ("store".to_owned(), !roles.edge);
    Component { name, state, away_since, standby, detail, blocks_ready, ..Component::default() }
}

/// Of a projection that does not run because the store is not there, or not ours.
fn unreached(name: &str, since: Wall, durable: Option<EventSeq>, now: Wall) -> Component {
    let away_for = now.since(since).as_secs_f64();
    Component {
        name: format!("{PROJECTION}{name}"),
        state: ComponentState::Degraded,
        lag_seconds: Some(away_for),
        position: durable.map(|_| EventSeq(0)),
        away_since: Some(since.to_string()),
        detail: Some("the store is away".to_owned()),
        ..Component::default()
    }
}

fn projection(handle: &StatusHandle, durable: Option<EventSeq>, now: Wall) -> Component {
    let status = handle.get();
    let through = status.sources.values().map(|s| s.through).max().unwrap_or(0);
    let behind = match durable {
        Some(durable) => durable.0.saturating_sub(through),
        None => status.lag_events(),
    };
    let away = status.away_since.map(Wall);
    let lag_seconds = match (status.recorded_at.map(Wall).or(away), away) {
        // What there is to fold is not known any more: for all that is known the tables are as old as that.
        (Some(at), _) if behind > 0 || away.is_some() => now.since(at).as_secs_f64(),
        _ => 0.0,
    };
    let parked = (status.parked > 0)
        .then(|| format!("{} aggregate(s) parked: `signalbox parked` says why", status.parked));
    let held = status.held.first_key_value().map(|(stream, held)| {
        let more = match status.held.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("{stream}: {held}{more}")
    });
    let fault = status.fault.as_ref().map(|fault| match away {
        Some(_) if durable.is_none() => fault.clone(),
        _ => format!("{behind} event(s) behind: {fault}"),
    });
    let rebuilding = status.rebuilding.as_ref().map(|rebuild| {
        let percent = (rebuild.done.min(rebuild.total) * 100).checked_div(rebuild.total).unwrap_or(0);
        format!("rebuilding, {percent} % ({})", rebuild.reason)
    });
    let well = status.fault.is_none() && status.held.is_empty() && !status.stands_still();
    Component {
        name: format!("{PROJECTION}{}", status.projection),
        state: if well { ComponentState::Up } else { ComponentState::Degraded },
        lag_seconds: Some(lag_seconds),
        lag_events: (away.is_none() || durable.is_some()).then_some(behind),
        position: Some(EventSeq(through)),
        away_since: away.map(|since| since.to_string()),
        rebuilding: Some(status.rebuilding.is_some()),
        detail: fault.or(rebuilding).or(held).or(parked),
        ..Component::default()
    }
}
