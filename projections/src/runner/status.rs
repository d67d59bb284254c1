//! How a projection is doing, for metrics, readiness and `signalbox projections`.

use super::plan::{Held, Track};
use serde::Serialize;
use signalbox_base::Wall;
use signalbox_bus::{Delivered, Progress};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A view on a runner that may be read from anywhere, also after it has ended.
#[derive(Clone, Default)]
pub struct StatusHandle(Arc<Mutex<Status>>);

/// What a runner has done and how far it is behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Name of the projection.
    pub projection: String,
    /// Its version.
    pub version: u32,
    /// Events applied since the process began, those without a row included.
    pub applied: u64,
    /// Events that came again and were skipped.
    pub duplicates: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Times a transaction or the bus had to be tried again.
    pub retries: u64,
    /// The last fault that led to a retry; none once it has passed.
    pub fault: Option<String>,
    /// Since when store or bus have not been reached, microseconds since 1970.
    pub away_since: Option<i64>,
    /// Its tables are being made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebuilding: Option<Rebuilding>,
    /// Aggregates that are put aside.
    pub parked: usize,
    /// Domains that do not go on, `source domain`, and why.
    pub held: BTreeMap<String, Held>,
    /// Each source and how far it has been read.
    pub sources: BTreeMap<String, SourceLag>,
    /// Events known to wait on a bus that does not count by source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
    /// What was journalled up to this moment is in the tables or passed over, microseconds since 1970: when the last
    /// applied event was journalled, or when the bus was last known to have no other.
    pub recorded_at: Option<i64>,
}

/// How far a rebuild is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rebuilding {
    /// `asked`, or what was wrong with the tables.
    pub reason: String,
    /// Events read.
    pub done: u64,
    /// Events to be read.
    pub total: u64,
    /// Whether the tables that people read stand still meanwhile.
    pub stands_still: bool,
}

/// How far one source has been folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceLag {
    /// Every event up to here is in the tables or passed over.
    pub through: u64,
    /// The last event the bus is known to have.
    pub end: u64,
}

impl Status {
    /// Events that the bus has and the tables do not (of all domains: a filter is not looked through).
    #[must_use]
    pub fn lag_events(&self) -> u64 {
        let by_source =
            || self.sources.values().map(|source| source.end.saturating_sub(source.through)).sum();
        self.behind.unwrap_or_else(by_source)
    }

    /// For how many seconds the tables may have been behind while there are events to fold; 0 when there are none.
    #[must_use]
    pub fn lag_seconds(&self, now: Wall) -> f64 {
        match self.recorded_at {
            Some(at) if self.lag_events() > 0 => now.since(Wall(at)).as_secs_f64(),
            _ => 0.0,
        }
    }

    /// Whether everything that the bus has is in the tables and nothing is wrong.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let waits = self.held.values().any(Held::is_open);
        self.lag_events() == 0 && !waits && self.fault.is_none() && !self.stands_still()
    }

    /// Whether the tables wait for a rebuild.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        self.rebuilding.as_ref().is_some_and(|rebuilding| rebuilding.stands_still)
    }

    /// How much of what there is to read has been read: events read and events there are.
    pub(crate) fn read_of(&self) -> (u64, u64) {
        let through = self.sources.values().map(|source| source.through).sum::<u64>();
        let end = self.sources.values().map(|source| source.end).sum::<u64>();
        match self.behind {
            Some(behind) => (self.applied, self.applied + behind),
            None => (through, end),
        }
    }

    fn holding(&mut self, track: &Track) {
        if self.held.is_empty() && track.held.is_empty() {
            return;
        }
        let held = track.held.iter();
        self.held =
            held.map(|((source, domain), held)| (format!("{source} {domain}"), held.clone())).collect();
    }

    fn level(&mut self, now: Wall) {
        if self.is_current() && (self.behind.is_some() || !self.sources.is_empty()) {
            self.recorded_at = Some(now.0);
        }
    }
}

impl StatusHandle {
    /// The state now.
    #[must_use]
    pub fn get(&self) -> Status {
        self.lock().clone()
    }

    pub(crate) fn begin(&self, projection: &str, version: u32) {
        let mut status = self.lock();
        status.projection = projection.to_owned();
        status.version = version;
    }

    /// What is in the tables from before, each source up to there; the bus may have more.
    pub(crate) fn begun(&self, track: &Track) {
        let mut status = self.lock();
        for (source, through) in &track.resume {
            let lag = SourceLag { through: *through, end: *through };
            status.sources.entry(source.to_string()).or_insert(lag);
        }
        status.holding(track);
    }

    /// `last`: the last event of a transaction in which this projection wrote; none when it had nothing to write.
    pub(crate) fn committed(&self, last: Option<&Delivered>, applied: u64, duplicates: u64, track: &Track) {
        let mut status = self.lock();
        status.applied += applied;
        status.duplicates += duplicates;
        status.commits += u64::from(last.is_some());
        status.fault = None;
        status.recorded_at = last.map(|event| event.recorded.0).or(status.recorded_at);
        status.holding(track);
    }

    pub(crate) fn reached(&self, progress: &[Progress], behind: Option<u64>, track: &Track, now: Wall) {
        let mut status = self.lock();
        status.holding(track);
        status.behind = behind;
        for progress in progress {
            let lag = SourceLag { through: progress.through.0, end: progress.end.0 };
            status.sources.insert(progress.source.to_string(), lag);
        }
        status.level(now);
    }

    /// Waiting for the bus: nothing has come until now.
    pub(crate) fn waiting(&self, now: Wall) {
        self.lock().level(now);
    }

    /// Store and bus are both reached (again).
    pub(crate) fn connected(&self) {
        let mut status = self.lock();
        (status.fault, status.away_since) = (None, None);
    }

    pub(crate) fn failed(&self, fault: &str, now: Wall) {
        let mut status = self.lock();
        status.retries += 1;
        status.fault = Some(fault.to_owned());
        status.away_since.get_or_insert(now.0);
    }

    pub(crate) fn rebuilding(&self, rebuilding: Option<Rebuilding>) {
        self.lock().rebuilding = rebuilding;
    }

    /// It does not go on: what it says last.
    pub(crate) fn stopped(&self, why: &str, now: Wall) {
        let mut status = self.lock();
        status.fault = Some(why.to_owned());
        status.away_since.get_or_insert(now.0);
    }

    pub(crate) fn parked(&self, aggregates: usize) {
        self.lock().parked = aggregates;
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
