//! The projections of one subscription, from one connection to the next: the group, or one that reads alone.

mod alone;
mod mending;
mod writing;

use super::fault::Fault;
use super::member::Member;
use super::plan::Held;
use super::status::StatusHandle;
use super::{Config, SINK, Stopped};
use crate::projection::Projection;
use alone::{Alone, Back};
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_bus::{BoxFuture, Bus, Filter, Order, Progress, Request, Source, Start, Subscription};
use signalbox_store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// How often positions are stored durably and told to the bus, and commands on parked events are looked for.
const TICK: Duration = Duration::from_secs(1);
/// A projection that has to read more events than this before it is where the first one is reads them alone.
const BEHIND: u64 = 10_000;
/// One that reads alone joins the group when it has no more than this to read.
const NEAR: u64 = 1_000;
/// A hole that stays open is looked at again after twice the time, so often: at most after some ten minutes.
const LOOKS: u32 = 6;

/// What all crews of a group share.
pub(crate) struct Context {
    bus: Arc<dyn Bus>,
    store: Store,
    config: Config,
    stopped: Box<dyn Fn(Stopped) + Send + Sync>,
    /// All projections of the group, for who asks for a rebuild, and how each is doing.
    all: Vec<(Arc<dyn Projection>, StatusHandle)>,
    /// Those that are being made anew.
    rebuilding: Mutex<BTreeSet<&'static str>>,
    /// Those whose tables and positions another crew has replaced by a rebuild's.
    switched: Mutex<BTreeSet<&'static str>>,
    /// Rebuilds that another process had begun were looked for.
    resumed: AtomicBool,
    /// Up to where each projection durably has each source: the bus may forget what all have.
    floors: Mutex<BTreeMap<&'static str, BTreeMap<Text, u64>>>,
}

impl Context {
    pub(crate) fn new(
        bus: Arc<dyn Bus>,
        store: Store,
        config: Config,
        stopped: Box<dyn Fn(Stopped) + Send + Sync>,
        members: &[Member],
    ) -> Self {
        let floors = members.iter().map(|member| (member.name(), BTreeMap::new())).collect();
        let all =
            members.iter().map(|member| (Arc::clone(&member.projection), member.status.clone())).collect();
        let (rebuilding, switched, resumed) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { bus, store, config, stopped, all, rebuilding, switched, resumed, floors: Mutex::new(floors) }
    }

    fn floors(&self) -> MutexGuard<'_, BTreeMap<&'static str, BTreeMap<Text, u64>>> {
        self.floors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rebuilding(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.rebuilding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switched(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.switched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A projection of the group and its status, by its name.
    fn of(&self, name: &str) -> Option<&(Arc<dyn Projection>, StatusHandle)> {
        self.all.iter().find(|(projection, _)| projection.name() == name)
    }

    /// What every projection has of a source.
    fn floor(&self, source: &str) -> u64 {
        let floors = self.floors();
        floors.values().map(|has| has.get(source).copied().unwrap_or(0)).min().unwrap_or(0)
    }
}

/// Projections that read together.
pub(crate) struct Crew {
    context: Arc<Context>,
    members: Vec<Member>,
    /// Whether this is one that has left the group until it is near the end.
    lone: bool,
    /// Those that have left this group; each gives itself back when it may join again.
    alone: Alone,
    /// How far this subscription has come, and how far the bus has been told.
    reached: Vec<Progress>,
    told: Vec<Progress>,
    /// Seconds, more or less.
    ticks: u32,
    /// How often the bus was read again in vain for what is missing.
    looks: u32,
}

enum End {
    Finished,
    Again,
    /// The lone member may join the group.
    Near,
    /// A rebuild has taken the place of its projection.
    Switched,
}

impl Crew {
    pub(crate) fn group(context: Arc<Context>, members: Vec<Member>) -> Self {
        let (reached, told) = (Vec::new(), Vec::new());
        Self { context, members, lone: false, alone: Alone::default(), reached, told, ticks: 0, looks: 0 }
    }

    fn lone(
        context: Arc<Context>,
        member: Member,
        stop: watch::Receiver<bool>,
    ) -> BoxFuture<'static, Option<Member>> {
        let crew = Self { lone: true, ..Self::group(context, vec![member]) };
        Box::pin(crew.run(stop))
    }

    /// Until the stop, the end of the bus or of all members; a lone one until it may join, which it then returns to do.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Option<Member> {
        let mut pause = self.context.config.retry_first;
        loop {
            let fault = match self.session(&mut stop, &mut pause).await {
                Ok(End::Again) => continue,
                Ok(End::Near) => return self.members.pop(),
                Ok(End::Switched) if self.lone => return self.members.pop(),
                Ok(End::Switched) => continue,
                Ok(End::Finished) => {
                    self.members.clear();
                    while let Some(back) = self.alone.next().await {
                        // It has still to hear of the end.
                        self.joined(back);
                    }
                    if self.members.is_empty() {
                        return None;
                    }
                    continue;
                }
                Err(fault) => match self.passing(fault, &stop).await {
                    Some(text) => text,
                    None => continue,
                },
            };
            let names: Vec<&str> = self.members.iter().map(Member::name).collect();
            // Said once for each reason; the attempts that follow are no news.
            if self.members.iter().any(|member| member.status.get().fault.as_deref() != Some(&*fault)) {
                tracing::warn!(projections = names.join(", "), %fault, "projections wait");
            } else {
                tracing::debug!(projections = names.join(", "), %fault, ?pause, "projections wait");
            }
            let now = wall_now();
            self.members.iter().for_each(|member| member.status.failed(&fault, now));
            tokio::select! {
                () = asked(&mut stop) => {}
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(self.context.config.retry_longest),
            }
        }
    }

    /// One connection to the bus.
    async fn session(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        pause: &mut Duration,
    ) -> Result<End, Fault> {
        if *stop.borrow() || (self.members.is_empty() && self.alone.is_empty()) {
            return Ok(End::Finished);
        }
        if self.members.is_empty() {
            return Ok(tokio::select! {
                () = asked(stop) => End::Finished,
                Some(back) = self.alone.next() => self.joined(back),
            });
        }
        self.look(stop).await?;
        if self.members.is_empty() {
            return Ok(End::Again);
        }
        let (context, now) = (Arc::clone(&self.context), wall_now());
        for (index, member) in self.members.iter_mut().enumerate() {
            context.switched().remove(member.name());
            let begun = member.begin(&context.store, &context.config, context.bus.order(), now).await;
            begun.map_err(|error| Fault::of(index, error))?;
            context.floors().insert(member.name(), member.track.resume.clone());
        }
        self.part(stop, Self::is_behind);
        self.part(stop, |crew, member| {
            crew.members[member].track.place.hint != crew.members[0].track.place.hint
        });
        let mut subscription = self.subscribe().await?;
        *pause = context.config.retry_first;
        if let Some(since) = self.members.iter().filter_map(|member| member.status.get().away_since).min() {
            tracing::info!(away = ?wall_now().since(Wall(since)), "projections go on");
        }
        self.members.iter().for_each(|member| member.status.connected());
        self.go_on(&mut *subscription, stop).await
    }

    async fn go_on(
        &mut self,
        subscription: &mut dyn Subscription,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<End, Fault> {
        let patience = self.context.config.retry_longest * (1 << self.looks.min(LOOKS));
        let (mut tick, mut look_again) = (interval(TICK), interval(patience));
        look_again.reset();
        loop {
            tokio::select! {
                // In this order: a busy bus keeps neither a stop nor a tick from being heard.
                biased;
                () = asked(stop) => {
                    self.save(subscription).await?;
                    return Ok(End::Finished);
                }
                _ = tick.tick() => {
                    if self.members.iter().any(|member| self.context.switched().contains(member.name())) {
                        return Ok(End::Again);
                    }
                    self.tick(subscription).await?;
                    self.ask(stop).await?;
                    if self.tables_are_gone().await? {
                        return Ok(End::Again);
                    }
                    if let Some(end) = self.switch(true).await? {
                        return Ok(end);
                    }
                }
                Some(back) = self.alone.next() => {
                    let saved = self.save(subscription).await;
                    let end = self.joined(back);
                    return saved.map(|()| end);
                }
                _ = look_again.tick(), if self.has_hole() => {
                    self.looks += 1;
                    self.save(subscription).await?;
                    return Ok(End::Again);
                }
                batch = subscription.next_batch(self.context.config.batch_events) => match batch {
                    Ok(batch) => {
                        self.batch(batch).await?;
                        self.looks = if self.misses() { self.looks } else { 0 };
                        self.part(stop, Self::is_held);
                        if self.members.is_empty() {
                            return Ok(End::Again);
                        }
                        if let Some(end) = self.switch(false).await? {
                            return Ok(end);
                        }
                        if self.is_near() {
                            self.save(subscription).await?;
                            return Ok(End::Near);
                        }
                    }
                    Err(signalbox_bus::Error::Ended) => {
                        self.save(subscription).await?;
                        return Ok(End::Finished);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    async fn tick(&mut self, subscription: &mut dyn Subscription) -> Result<(), Fault> {
        self.save(subscription).await?;
        let (context, now) = (Arc::clone(&self.context), wall_now());
        for (index, member) in self.members.iter_mut().enumerate() {
            let done = member.decided(&context.store, &context.config, now).await;
            done.map_err(|error| Fault::guarded(index, error))?;
            member.status.waiting(now);
        }
        self.show().await;
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<Box<dyn Subscription>, Fault> {
        let kinds = self.members.iter().flat_map(|member| member.projection.kinds());
        let mut domains: Vec<String> = kinds.map(|kind| kind.domain().to_owned()).collect();
        domains.sort_unstable();
        domains.dedup();
        let after = |source: &Text| {
            let all = self.members.iter().map(|member| member.track.resume.get(source).copied());
            Some((source.parse::<Source>().ok()?, EventSeq(all.min().flatten()?)))
        };
        let first = self.members.first().map(|member| &member.track.resume);
        let start = match self.by_key() {
            false => Start::After(first.into_iter().flat_map(BTreeMap::keys).filter_map(after).collect()),
            true => match self.members.first().and_then(|member| member.track.place.hint.clone()) {
                Some(hint) => Start::Hint(hint),
                None => Start::Beginning,
            },
        };
        let request = Request {
            // A bus that keeps hints for nobody needs no name to keep them under.
            name: (!self.lone && !self.by_key()).then(|| SINK.to_owned()),
            filter: Filter { kinds: domains, ..Filter::default() },
            start,
            linger: self.context.config.batch_wait,
        };
        (self.reached, self.told) = (Vec::new(), Vec::new());
        Ok(self.context.bus.subscribe(request).await?)
    }

    /// Sends members of a group away to read alone.
    fn part(&mut self, stop: &watch::Receiver<bool>, leaves: impl Fn(&Self, usize) -> bool) {
        if self.lone || self.members.len() < 2 {
            return;
        }
        for index in (0..self.members.len()).rev().filter(|index| leaves(self, *index)).collect::<Vec<_>>() {
            let member = self.members.remove(index);
            tracing::info!(projection = member.name(), "projection reads alone until it has caught up");
            let (name, status) = (member.name(), member.status.clone());
            self.alone.spawn(name, status, Self::lone(Arc::clone(&self.context), member, stop.clone()));
        }
    }

    /// One that has read alone is back, or has ended.
    fn joined(&mut self, back: Back) -> End {
        match back {
            Back::Joins(member) => {
                tracing::info!(projection = member.name(), "projection has caught up with the others");
                self.members.push(*member);
            }
            Back::Stopped => {}
            Back::Panicked { projection, status, what } => {
                let stopped = Stopped::Panicked { projection, what };
                status.stopped(&stopped.to_string(), wall_now());
                if self.context.of(projection).is_none() {
                    self.context.floors().remove(projection);
                }
                (self.context.stopped)(stopped);
            }
        }
        End::Again
    }

    fn is_behind(&self, member: usize) -> bool {
        let track = &self.members[member].track;
        self.members.iter().any(|other| track.is_behind(&other.track, BEHIND))
    }

    fn by_key(&self) -> bool {
        self.context.bus.order() == Order::Key
    }

    /// Whether the bus must be read again for what is missing. Between lanes numbers are missing all the time, for a moment.
    fn has_hole(&self) -> bool {
        if self.by_key() {
            let (patience, now) = (self.context.config.retry_longest / 2, wall_now());
            return self.members.iter().any(|member| member.track.place.is_overdue(patience, now));
        }
        self.misses()
    }

    fn misses(&self) -> bool {
        let hole = |held: &Held| matches!(held, Held::Hole { .. });
        self.members.iter().any(|member| member.track.held.values().any(hole))
    }

    /// Whether a member does not go on, so that it would keep the others.
    fn is_held(&self, member: usize) -> bool {
        let held = &self.members[member].track.held;
        held.values().any(if self.by_key() { Held::is_newer } else { Held::is_open })
    }

    /// Whether a lone member is near enough to the end to join.
    fn is_near(&self) -> bool {
        let left = |progress: &Progress| progress.end.0.saturating_sub(progress.through.0);
        self.lone
            && !self.by_key()
            && self.members.iter().all(|member| member.waits.is_none())
            && !self.reached.is_empty()
            && self.reached.iter().map(left).sum::<u64>() <= NEAR
            && !self.members.iter().any(|member| member.track.held.values().any(Held::is_open))
    }
}

/// Ready when somebody asks to stop, or nobody can ask any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
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
