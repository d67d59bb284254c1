//! The health of each backend: counts in a row, and the state they add up to.
//!
//! ```text
//!             first success                failures ≥ half of down_after
//!   Unknown ───────────────► Up ─────────────────────────────────► Degraded
//!      │                     ▲ ▲  up_after successes in a row         │
//!      │ down_after failures │ └──────────────────────────────────────┤
//!      ▼                     │                                        │ failures ≥ down_after
//!     Down ──────────────────┘ up_after successes in a row            │
//!      ▲──────────────────────────────────────────────────────────────┘
//!   Draining, Disabled: an operator's; probing goes on while draining and says what comes after.
//! ```

use super::probe::Round;
use crate::contract::QueryId;
use crate::registration::Registered;
use crate::settings::{ProbeSettings, Settings};
use crate::state::{BackendRecords, NOBODYS, Wish, backend_key};
use crate::tenancy::{Directory, PeerRef};
use foldhash::HashMap;
use signalbox_schemas::words::BackendState;
use signalbox_sip::transaction::TimerId;

/// Health of all backends of the running configuration.
#[derive(Debug, Default)]
pub struct Backends {
    each: Vec<Vec<Health>>,
    trunks: Vec<Health>,
    pub(super) queries: HashMap<QueryId, PeerRef>,
    pub(super) last_number: u64,
}

/// Health of one.
#[derive(Debug)]
pub(crate) struct Health {
    /// What its probes and traffic say; what is recorded unless the operator wants otherwise.
    pub(super) seen: BackendState,
    pub(super) wish: Wish,
    pub(super) failures: u32,
    pub(super) successes: u32,
    pub(super) round: Option<Round>,
    pub(super) timer: Option<TimerId>,
    pub(super) resolve_timer: Option<TimerId>,
    pub(super) last_status: Option<u16>,
    /// How often it came back from an outage.
    pub(super) restarts: u32,
    pub(super) rtt_ms: Option<u64>,
    /// What the edge itself registered there.
    pub(super) registered: Option<Registered>,
}

/// A state that changed by a success or failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: BackendState,
    /// Now.
    pub to: BackendState,
    /// How many in a row led to it.
    pub consecutive: u32,
}

impl Backends {
    /// For the backends of these settings, going on from what is recorded of each.
    #[must_use]
    pub fn new(settings: &Settings, records: &BackendRecords) -> Self {
        let mut it = Self::default();
        for tenant in &settings.tenants {
            let of = |name: &str| records.get(&*backend_key(tenant.name.as_str(), name));
            it.each.push(
                tenant.backends.iter().map(|b| Health::new(of(&b.name).map(|r| (r.state, r.wish)))).collect(),
            );
        }
        it.trunks.extend(settings.trunks.iter().map(|trunk| {
            let owner = trunk.tenant.as_ref().map_or(NOBODYS, |tenant| tenant.as_str());
            let record = records.get(&*backend_key(owner, &trunk.peer.name));
            Health::new(record.map(|r| (r.state, r.wish)))
        }));
        it
    }

    /// After a reload: health goes with the names.
    pub(super) fn carry_over(&mut self, mut before: Self, old: &Settings, new: &Settings) {
        for (peer, found) in Directory::peers(new) {
            let was = if peer.is_trunk() {
                let place = old.trunks.iter().position(|trunk| trunk.peer.name == found.backend.name);
                place.and_then(|place| before.trunks.get_mut(place))
            } else {
                old.tenants.iter().position(|t| t.name.as_str() == found.owner()).and_then(|at| {
                    let place = old.tenants[at].backends.iter().position(|b| b.name == found.backend.name)?;
                    before.each.get_mut(at)?.get_mut(place)
                })
            };
            if let (Some(was), Some(now)) = (was, self.get_mut(peer)) {
                now.seen = was.seen;
                now.failures = was.failures;
                now.successes = was.successes;
                now.last_status = was.last_status;
                now.rtt_ms = was.rtt_ms;
                now.restarts = was.restarts;
                now.registered = was.registered.take();
            }
        }
        self.last_number = before.last_number;
    }

    /// The state that counts: the operator's, else what is seen.
    #[must_use]
    pub fn state(&self, peer: PeerRef) -> BackendState {
        self.get(peer).map_or(BackendState::Unknown, Health::state)
    }

    /// Whether new traffic may go there.
    #[must_use]
    pub fn accepts(&self, peer: PeerRef) -> bool {
        matches!(self.state(peer), BackendState::Up | BackendState::Degraded | BackendState::Unknown)
    }

    /// Status and round-trip time of the last probe, where it was answered.
    #[must_use]
    pub fn last_probe(&self, peer: PeerRef) -> (Option<u16>, Option<u64>) {
        self.get(peer).map_or((None, None), |h| (h.last_status, h.rtt_ms))
    }

    /// How often a backend came back from an outage: it may have forgotten what it knew.
    #[must_use]
    pub fn restarts(&self, peer: PeerRef) -> u32 {
        self.get(peer).map_or(0, |h| h.restarts)
    }

    /// What the edge itself registered there, where it does.
    #[must_use]
    pub fn registered(&self, peer: PeerRef) -> Option<&Registered> {
        self.get(peer)?.registered.as_ref()
    }

    pub(crate) fn set_registered(&mut self, peer: PeerRef, registered: Registered) {
        if let Some(health) = self.get_mut(peer) {
            health.registered = Some(registered);
        }
    }

    pub(super) fn get(&self, peer: PeerRef) -> Option<&Health> {
        let row = if peer.is_trunk() { &self.trunks } else { self.each.get(usize::from(peer.tenant))? };
        row.get(usize::from(peer.backend))
    }

    pub(super) fn get_mut(&mut self, peer: PeerRef) -> Option<&mut Health> {
        let row =
            if peer.is_trunk() { &mut self.trunks } else { self.each.get_mut(usize::from(peer.tenant))? };
        row.get_mut(usize::from(peer.backend))
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Health> {
        self.each.iter_mut().flatten().chain(&mut self.trunks)
    }

    /// A number that no other probe or question has.
    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Health {
    fn new(recorded: Option<(BackendState, Wish)>) -> Self {
        let (state, wish) = recorded.unwrap_or((BackendState::Unknown, Wish::Serve));
        let seen = match state {
            BackendState::Up | BackendState::Degraded | BackendState::Down => state,
            BackendState::Draining | BackendState::Disabled | BackendState::Unknown => BackendState::Unknown,
        };
        Self {
            seen,
            wish,
            failures: 0,
            successes: 0,
            round: None,
            timer: None,
            resolve_timer: None,
            last_status: None,
            restarts: 0,
            rtt_ms: None,
            registered: None,
        }
    }

    pub(super) fn state(&self) -> BackendState {
        match self.wish {
            Wish::Serve => self.seen,
            Wish::Drain => BackendState::Draining,
            Wish::Disable => BackendState::Disabled,
        }
    }

    /// It answered. `Some` when the state that counts changed.
    pub(super) fn succeeded(&mut self, probe: &ProbeSettings, by_probe: bool) -> Option<Change> {
        self.failures = 0;
        if !by_probe && self.seen == BackendState::Down {
            // A late answer to old traffic does not end an outage; probes do.
            return None;
        }
        self.successes = self.successes.saturating_add(1);
        let enough = self.successes >= u32::from(probe.up_after.max(1));
        match self.seen {
            BackendState::Unknown => self.go(BackendState::Up, self.successes),
            BackendState::Degraded | BackendState::Down if enough => {
                self.go(BackendState::Up, self.successes)
            }
            _ => None,
        }
    }

    /// It did not answer, or said 408 or 503. `Some` when the state that counts changed.
    pub(super) fn failed(&mut self, probe: &ProbeSettings) -> Option<Change> {
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        let down_after = u32::from(probe.down_after.max(1));
        // Without probes nothing would bring it back: real traffic alone never takes it out.
        let down = self.failures >= down_after && probe.interval.is_some();
        match self.seen {
            BackendState::Down => None,
            _ if down => self.go(BackendState::Down, self.failures),
            BackendState::Up if self.failures >= down_after.div_ceil(2) => {
                self.go(BackendState::Degraded, self.failures)
            }
            _ => None,
        }
    }

    fn go(&mut self, to: BackendState, consecutive: u32) -> Option<Change> {
        let from = self.state();
        self.restarts += u32::from(self.seen == BackendState::Down && to == BackendState::Up);
        self.seen = to;
        (self.state() != from).then_some(Change { from, to: self.state(), consecutive })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: ProbeSettings = ProbeSettings {
        interval: Some(std::time::Duration::from_secs(10)),
        timeout: std::time::Duration::from_secs(3),
        down_after: 3,
        up_after: 2,
    };

    fn states(health: &mut Health, steps: &str) -> Vec<BackendState> {
        steps
            .chars()
            .map(|step| {
                match step {
                    '+' => health.succeeded(&PROBE, true),
                    't' => health.succeeded(&PROBE, false),
                    _ => health.failed(&PROBE),
                };
                health.state()
            })
            .collect()
    }

    #[test]
    fn thresholds_and_hysteresis() {
        use BackendState::{Degraded, Down, Up};
        let mut health = Health::new(None);
        assert_eq!(states(&mut health, "+--+"), [Up, Up, Degraded, Degraded]);
        assert_eq!(states(&mut health, "+"), [Up]);
        assert_eq!(states(&mut health, "---"), [Up, Degraded, Down]);
        assert_eq!(states(&mut health, "+-+"), [Down, Down, Down], "one success is not enough");
        assert_eq!(states(&mut health, "+"), [Up]);
        assert_eq!(states(&mut health, "-t-t-t"), [Up; 6], "traffic that is answered stops the count");
    }

    #[test]
    fn a_late_answer_to_traffic_does_not_end_an_outage() {
        let mut health = Health::new(Some((BackendState::Down, Wish::Serve)));
        assert_eq!(states(&mut health, "ttt"), [BackendState::Down; 3]);
        assert_eq!(states(&mut health, "++").last(), Some(&BackendState::Up));
    }

    #[test]
    fn given_a_wish_then_what_is_seen_waits_behind_it() {
        let mut health = Health::new(Some((BackendState::Up, Wish::Drain)));
        assert!(health.failed(&PROBE).is_none() && health.failed(&PROBE).is_none());
        assert!(health.failed(&PROBE).is_none(), "a draining backend that dies stays draining");
        assert_eq!(health.state(), BackendState::Draining);
        assert_eq!(health.seen, BackendState::Down);
    }

    #[test]
    fn without_probes_traffic_alone_takes_nobody_out() {
        let silent = ProbeSettings { interval: None, ..PROBE };
        let mut health = Health::new(Some((BackendState::Up, Wish::Serve)));
        for _ in 0..100 {
            health.failed(&silent);
        }
        assert_eq!(health.state(), BackendState::Degraded);
    }
}
