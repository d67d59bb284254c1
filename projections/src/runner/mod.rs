//! Runs one projection: reads the bus, commits rows and positions together, goes on after every fault that passes.
//!
//! ```text
//!            claim the epoch, load positions, subscribe ◄───────────── connection or bus lost, hole to be read again
//!                           │
//!              ┌──── next batch ◄──────────────┐
//!              ▼                               │
//!        plan (pure) ─► one transaction ─ ok ──┘
//!              ▲             │ connection fault: wait, load positions, plan again
//!              │             │ a row is refused: the batch in parts; an event refused alone is parked
//!              └─────────────┤
//!                            ▼ fenced, schema, permission, damaged journal
//!                         Stopped
//! ```
//!
//! A batch is what has arrived while the one before was committed and within [`Config::batch_wait`] of its first event,
//! at most [`Config::batch_events`]: under load transactions grow, at rest each event is in its table after that wait.

pub mod parked;
mod plan;
mod status;

pub use plan::Held;
pub use status::{SourceLag, Status, StatusHandle};

use crate::projection::Projection;
use plan::{Aggregate, Track, aggregate_of};
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_bus::{Batch, Bus, Delivered, Filter, Progress, Request, Source, Start, Subscription};
use signalbox_store::positions::{self, Claim};
use signalbox_store::{Class, Statement, Store};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// What a projection's cursor on the bus is called: this and its name.
pub const SINK_PREFIX: &str = "projection-";

/// How often positions are told to the bus and commands on parked events are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Settings of a runner.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most events in one transaction. Default 1,000.
    pub batch_events: usize,
    /// How long the first event of a batch waits for others, so that a transaction holds many: what a table may be
    /// behind its events at rest. Not waited for while there is more to catch up with. Default 50 ms.
    pub batch_wait: Duration,
    /// First pause after a fault that may pass. Default 100 ms.
    pub retry_first: Duration,
    /// Longest pause; pauses double up to it. Also how often a hole is looked at again. Default 10 s.
    pub retry_longest: Duration,
    /// Who runs it, for people: `edge-1 pid 4711`.
    pub holder: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_events: 1_000,
            batch_wait: Duration::from_millis(50),
            retry_first: Duration::from_millis(100),
            retry_longest: Duration::from_secs(10),
            holder: format!("pid {}", std::process::id()),
        }
    }
}

/// Why a runner ended though nobody asked it to. A person must act, except when it was fenced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Another process runs this projection now.
    #[error("another process has taken over projection {projection}")]
    Fenced {
        /// Its name.
        projection: &'static str,
    },
    /// The database's tables, rights or state do not allow it to go on.
    #[error("projection {projection} stopped: {error}")]
    Store {
        /// Its name.
        projection: &'static str,
        /// The fault.
        error: signalbox_store::Error,
    },
    /// The bus is damaged.
    #[error("projection {projection} stopped: {error}")]
    Bus {
        /// Its name.
        projection: &'static str,
        /// The fault.
        error: signalbox_bus::Error,
    },
}

/// A projection on its way.
pub struct Runner {
    projection: Box<dyn Projection>,
    bus: Arc<dyn Bus>,
    store: Store,
    config: Config,
    status: StatusHandle,
}

/// The name of a projection's durable cursor on the bus; a journal lists it among its local sinks.
#[must_use]
pub fn sink_name(projection: &dyn Projection) -> String {
    format!("{SINK_PREFIX}{}", projection.name())
}

impl Runner {
    /// Prepares to run; nothing is read or claimed yet. The store's tables must be migrated.
    #[must_use]
    pub fn new(projection: Box<dyn Projection>, bus: Arc<dyn Bus>, store: Store, config: Config) -> Self {
        let status = StatusHandle::default();
        status.begin(projection.name(), projection.version());
        Self { projection, bus, store, config, status }
    }

    /// How it is doing; may be asked at any time.
    #[must_use]
    pub fn status(&self) -> StatusHandle {
        self.status.clone()
    }

    /// Runs until `stop` becomes true (or its sender is gone) or the bus ends. The transaction under way is finished.
    ///
    /// # Errors
    /// [`Stopped`]; faults that may pass are waited for instead.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Stopped> {
        let mut pause = self.config.retry_first;
        let mut claim = None;
        loop {
            let fault = match self.session(&mut claim, &mut stop, &mut pause).await {
                Ok(End::Finished) => return Ok(()),
                Ok(End::Again) => continue,
                Err(fault) => self.passing(fault)?,
            };
            tracing::warn!(projection = self.projection.name(), %fault, ?pause, "projection waits");
            self.status.failed(&fault);
            tokio::select! {
                () = asked(&mut stop) => return Ok(()),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(self.config.retry_longest),
            }
        }
    }

    /// The text of a fault that may pass, or why the runner stops.
    fn passing(&self, fault: Fault) -> Result<String, Stopped> {
        let projection = self.projection.name();
        match fault {
            Fault::Store(error) if error.is_retryable() => Ok(error.to_string()),
            Fault::Store(error) if error.class() == Class::Fenced => Err(Stopped::Fenced { projection }),
            Fault::Store(error) => Err(Stopped::Store { projection, error }),
            Fault::Bus(error @ signalbox_bus::Error::Unavailable(_)) => Ok(error.to_string()),
            Fault::Bus(signalbox_bus::Error::Fenced(_)) => Err(Stopped::Fenced { projection }),
            Fault::Bus(error) => Err(Stopped::Bus { projection, error }),
        }
    }

    /// One connection to the bus. The claim is made once and kept: a process that was stopped and goes on does not take
    /// back what another has claimed meanwhile.
    async fn session(
        &self,
        claim: &mut Option<Claim>,
        stop: &mut watch::Receiver<bool>,
        pause: &mut Duration,
    ) -> Result<End, Fault> {
        if *stop.borrow() {
            return Ok(End::Finished);
        }
        let (name, version) = (self.projection.name(), self.projection.version());
        let claim = match claim {
            Some(claim) => claim.clone(),
            None => {
                let made =
                    positions::claim(&self.store, name, version, &self.config.holder, wall_now()).await?;
                claim.insert(made).clone()
            }
        };
        let mut session = Session::begin(self, claim).await?;
        let subscription = self.subscribe(&session.track).await?;
        *pause = self.config.retry_first;
        self.status.connected();
        session.go_on(subscription, stop).await
    }

    async fn subscribe(&self, track: &Track) -> Result<Box<dyn Subscription>, Fault> {
        let mut domains: Vec<String> =
            self.projection.kinds().iter().map(|kind| kind.domain().to_owned()).collect();
        domains.dedup();
        let after =
            |(source, sequence): (&Text, &u64)| Some((source.parse::<Source>().ok()?, EventSeq(*sequence)));
        let request = Request {
            name: Some(sink_name(&*self.projection)),
            filter: Filter { kinds: domains, ..Filter::default() },
            start: Start::After(track.resume.iter().filter_map(after).collect()),
            linger: self.config.batch_wait,
        };
        Ok(self.bus.subscribe(request).await?)
    }
}

enum End {
    Finished,
    Again,
}

enum Fault {
    Store(signalbox_store::Error),
    Bus(signalbox_bus::Error),
}

impl From<signalbox_store::Error> for Fault {
    fn from(error: signalbox_store::Error) -> Self {
        Self::Store(error)
    }
}

impl From<signalbox_bus::Error> for Fault {
    fn from(error: signalbox_bus::Error) -> Self {
        Self::Bus(error)
    }
}

/// From one claim to the next.
struct Session<'a> {
    runner: &'a Runner,
    claim: Claim,
    track: Track,
    parked: HashSet<Aggregate>,
    /// Read without events for us: saved with the next write or tick.
    passed: Vec<Progress>,
    /// Committed, not yet told to the bus.
    untold: Vec<Progress>,
}

impl<'a> Session<'a> {
    async fn begin(runner: &'a Runner, claim: Claim) -> Result<Self, Fault> {
        let (store, projection) = (&runner.store, &*runner.projection);
        // Before the bus's cursor is taken too: whoever has lost the claim must not disturb its new holder.
        store.transaction(vec![claim.guard(wall_now())]).await?;
        let track = Track::restore(positions::load(store, projection.name(), projection.version()).await?);
        let aggregates = parked::aggregates(store, projection).await?;
        let parked: HashSet<_> = aggregates.into_iter().map(|(aggregate, _)| aggregate).collect();
        runner.status.parked(parked.len());
        Ok(Self { runner, claim, track, parked, passed: Vec::new(), untold: Vec::new() })
    }

    async fn go_on(
        &mut self,
        mut subscription: Box<dyn Subscription>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, Fault> {
        let (mut tick, mut look_again) = (interval(TICK), interval(self.runner.config.retry_longest));
        look_again.reset();
        loop {
            tokio::select! {
                // In this order: a busy bus keeps neither a stop nor a tick from being heard.
                biased;
                () = asked(stop) => {
                    self.save_passed().await?;
                    self.tell(&mut *subscription).await?;
                    return Ok(End::Finished);
                }
                _ = tick.tick() => {
                    self.save_passed().await?;
                    self.tell(&mut *subscription).await?;
                    self.decided().await?;
                    self.runner.status.waiting(wall_now());
                }
                _ = look_again.tick(), if self.has_hole() => return Ok(End::Again),
                batch = subscription.next_batch(self.runner.config.batch_events) => match batch {
                    Ok(batch) => self.batch(batch).await?,
                    Err(signalbox_bus::Error::Ended) => {
                        self.save_passed().await?;
                        self.tell(&mut *subscription).await?;
                        return Ok(End::Finished);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    async fn batch(&mut self, batch: Batch) -> Result<(), Fault> {
        for gap in &batch.gaps {
            let name = self.runner.projection.name();
            tracing::warn!(
                projection = name,
                from = gap.from.0,
                to = gap.to.0,
                "the bus no longer has these events"
            );
        }
        if batch.events.is_empty() {
            self.runner.status.reached(&batch.progress, wall_now());
            self.passed = self.track.settled(&batch.progress);
            return Ok(());
        }
        // Parts still to do, the next one last. A refused row cuts its part into before, itself and after.
        let mut parts = vec![&batch.events[..]];
        while let Some(part) = parts.pop() {
            let progress: &[Progress] = if parts.is_empty() { &batch.progress } else { &[] };
            match self.commit(part, progress, None).await {
                Ok(()) => {}
                Err(Refused::Row(_, at)) if part.len() > 1 => {
                    let (before, rest) = part.split_at(at);
                    let (itself, after) = rest.split_at(1);
                    parts.extend([after, itself, before].into_iter().filter(|part| !part.is_empty()));
                }
                Err(Refused::Row(reason, _)) => self.park(part, progress, &reason).await?,
                Err(Refused::Fault(fault)) => return Err(fault),
            }
        }
        self.passed.clear();
        self.committed(&batch.progress);
        Ok(())
    }

    fn committed(&mut self, progress: &[Progress]) {
        self.runner.status.reached(progress, wall_now());
        let settled = self.track.settled(progress);
        if !settled.is_empty() {
            self.untold = settled;
        }
    }

    async fn save_passed(&mut self) -> Result<(), Fault> {
        let passed = std::mem::take(&mut self.passed);
        if passed.is_empty() {
            return Ok(());
        }
        match self.commit(&[], &passed, None).await {
            Ok(()) => self.committed(&passed),
            Err(Refused::Fault(fault)) => return Err(fault),
            Err(Refused::Row(reason, _)) => {
                return Err(signalbox_store::Error::new(Class::Database, reason).into());
            }
        }
        Ok(())
    }

    /// Parks the one event of `part`, whose row the database refuses.
    async fn park(&mut self, part: &[Delivered], progress: &[Progress], reason: &str) -> Result<(), Fault> {
        match self.commit(part, progress, Some(reason)).await {
            Ok(()) => Ok(()),
            Err(Refused::Fault(fault)) => Err(fault),
            // The row of the parking table is ours: that one being refused is no event's fault.
            Err(Refused::Row(reason, _)) => Err(signalbox_store::Error::new(Class::Database, reason).into()),
        }
    }

    /// One transaction: the writes of `part`, what is put aside, the positions. With `refused` its events are put
    /// aside instead of being folded.
    async fn commit(
        &mut self,
        part: &[Delivered],
        progress: &[Progress],
        refused: Option<&str>,
    ) -> Result<(), Refused> {
        let (runner, now) = (self.runner, wall_now());
        let mut plan = self.track.plan(&*runner.projection, runner.bus.order(), &self.parked, part);
        if let Some(reason) = refused {
            plan.writes.clear();
            plan.aside = (0..part.len()).map(|at| (at, Class::Row.as_str(), reason.to_owned())).collect();
        }
        let saves = plan.saves(&self.claim, &plan.track.settled(progress), now);
        if plan.is_empty() {
            self.track = plan.track;
            runner.status.committed(&[], 0, plan.duplicates, &self.track);
            return Ok(());
        }
        let owners: Vec<usize> = plan.writes.iter().map(|(at, _)| *at).collect();
        let mut statements = vec![self.claim.guard(now)];
        statements.extend(plan.writes.into_iter().map(|(_, write)| write));
        for (at, class, reason) in &plan.aside {
            statements.push(parked::put(&*runner.projection, &part[*at], class, reason, now));
        }
        statements.extend(saves);
        if let Err(error) = runner.store.transaction(statements).await {
            // The guard is the first statement, the writes follow it.
            let owner = error.statement().and_then(|at| owners.get(at.checked_sub(1)?)).copied();
            return Err(match (error.class(), owner) {
                (Class::Row, Some(at)) => Refused::Row(error.to_string(), at),
                _ => Refused::Fault(error.into()),
            });
        }
        for (at, class, reason) in &plan.aside {
            let (name, event) = (runner.projection.name(), &part[*at]);
            tracing::warn!(projection = name, id = event.id(), kind = %event.kind, class, reason, "event parked");
            self.parked.insert(aggregate_of(event));
        }
        runner.status.parked(self.parked.len());
        self.track = plan.track;
        runner.status.committed(part, plan.applied, plan.duplicates, &self.track);
        Ok(())
    }

    /// Tells the bus what is safe in the tables.
    async fn tell(&mut self, subscription: &mut dyn Subscription) -> Result<(), Fault> {
        if !self.untold.is_empty() {
            subscription.acknowledge(&self.untold).await?;
            self.untold.clear();
        }
        Ok(())
    }

    /// Does what operators asked for on parked aggregates.
    async fn decided(&mut self) -> Result<(), Fault> {
        if self.parked.is_empty() {
            return Ok(());
        }
        let (store, projection) = (&self.runner.store, &*self.runner.projection);
        for (aggregate, wanted) in parked::aggregates(store, projection).await? {
            let mut statements = vec![self.claim.guard(wall_now())];
            match wanted.as_str() {
                "skip" => {}
                "retry" => {
                    let events = parked::events(store, projection, &aggregate).await?;
                    match parked::fold_again(projection, &events) {
                        Ok(writes) => statements.extend(writes),
                        Err(reason) => {
                            self.stays_parked(&aggregate, &reason).await?;
                            continue;
                        }
                    }
                }
                _ => continue,
            }
            statements.push(parked::forget(projection, &aggregate));
            match store.transaction(statements).await {
                Ok(_) => {
                    self.parked.remove(&aggregate);
                    self.runner.status.parked(self.parked.len());
                }
                Err(error) if error.class() == Class::Row => {
                    self.stays_parked(&aggregate, &error.to_string()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn stays_parked(&self, aggregate: &Aggregate, reason: &str) -> Result<(), Fault> {
        let again: Statement = parked::failed_again(&*self.runner.projection, aggregate, reason);
        self.runner.store.transaction(vec![self.claim.guard(wall_now()), again]).await?;
        Ok(())
    }

    fn has_hole(&self) -> bool {
        self.track.held.values().any(|held| matches!(held, Held::Hole { .. }))
    }
}

/// Ready when somebody asks to stop, or nobody can ask any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Why a part of a batch was not committed.
enum Refused {
    /// The database refuses a row of the event with this index.
    Row(String, usize),
    Fault(Fault),
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[expect(clippy::disallowed_methods, reason = "rows tell when they were written; folds never see this clock")]
fn wall_now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Wall::default().plus(since)
}
