//! One projection of a group: its claim, how far it is, what it has put aside.

use super::plan::{Aggregate, Track};
use super::rebuild::Rebuild;
use super::status::StatusHandle;
use super::{Config, parked};
use crate::projection::Projection;
use signalbox_base::Wall;
use signalbox_bus::{Hint, Order};
use signalbox_schemas::Event;
use signalbox_schemas::projection::ProjectionResumed;
use signalbox_store::outbox::Draft;
use signalbox_store::positions::{self, Claim};
use signalbox_store::{Class, Error, Statement, Store};
use std::collections::HashSet;
use std::sync::Arc;

pub(crate) struct Member {
    pub(crate) projection: Arc<dyn Projection>,
    pub(crate) status: StatusHandle,
    claim: Option<Claim>,
    pub(crate) track: Track,
    pub(crate) parked: HashSet<Aggregate>,
    /// Set when this makes another's tables anew.
    pub(crate) rebuild: Option<Rebuild>,
    /// The one whose tables these will be, when it cannot go on before.
    pub(crate) waits: Option<Box<Member>>,
    /// Its tables were looked at since it was claimed.
    pub(crate) looked: bool,
    /// Its tables were made anew and nothing was written since: if they are wrong again, that is no help.
    pub(crate) mended: bool,
}

impl Member {
    pub(crate) fn new(projection: Arc<dyn Projection>) -> Self {
        let status = StatusHandle::default();
        status.begin(projection.name(), projection.version());
        Self {
            projection,
            status,
            claim: None,
            track: Track::default(),
            parked: HashSet::new(),
            rebuild: None,
            waits: None,
            looked: false,
            mended: false,
        }
    }

    /// Makes another's tables anew; `waits` is that one, when it cannot go on before.
    pub(crate) fn rebuilding(rebuild: Rebuild, waits: Option<Self>) -> Self {
        let member = Self::new(rebuild.projection());
        Self { rebuild: Some(rebuild), waits: waits.map(Box::new), ..member }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.projection.name()
    }

    /// Loads what the tables say. The claim is made once and kept: a process that was stopped and goes on does not take
    /// back what another has claimed meanwhile.
    pub(crate) async fn begin(
        &mut self,
        store: &Store,
        config: &Config,
        order: Order,
        now: Wall,
    ) -> Result<(), Error> {
        let (name, version) = (self.name(), self.projection.version());
        if let Some(rebuild) = self.rebuild.as_mut().filter(|rebuild| !rebuild.made) {
            rebuild.make(store, config, now).await?;
        }
        match &mut self.claim {
            None => {
                let lease = config.lease.as_ref();
                let claim = positions::claim(store, name, version, &config.holder, lease, now).await?;
                self.claim = Some(claim);
            }
            // Before the bus's cursor is taken too: whoever has lost the claim must not disturb its new holder.
            Some(claim) => positions::renew(store, claim, now).await?,
        }
        let hint = match order {
            Order::Source => None,
            Order::Key => positions::load_hint(store, name, version, config.bus).await?,
        };
        let hint = hint.map(|hint| Hint(hint.into()));
        self.track = Track::restore(positions::load(store, name, version).await?, hint, order);
        let aggregates = parked::aggregates(store, &*self.projection).await?;
        self.parked = aggregates.into_iter().map(|(aggregate, _)| aggregate).collect();
        self.status.parked(self.parked.len());
        if self.rebuild.is_none() {
            self.status.begun(&self.track);
        }
        Ok(())
    }

    pub(crate) fn claim(&self) -> &Claim {
        self.claim.as_ref().expect("a member begins before it writes")
    }

    /// A transaction with its guard is committed.
    pub(crate) fn passed(&mut self) {
        self.claim.as_mut().expect("a member begins before it writes").passed();
    }

    /// Does what operators asked for on parked aggregates.
    pub(crate) async fn decided(&mut self, store: &Store, config: &Config, now: Wall) -> Result<(), Error> {
        if self.parked.is_empty() {
            return Ok(());
        }
        for (aggregate, wanted) in parked::aggregates(store, &*self.projection).await? {
            let mut statements = vec![self.claim().guard(now)];
            if !matches!(wanted.as_str(), "skip" | "retry") {
                continue;
            }
            let events = parked::events(store, &*self.projection, &aggregate).await?;
            if wanted == "retry" {
                match parked::fold_again(&*self.projection, &events) {
                    Ok(writes) => statements.extend(writes),
                    Err(reason) => {
                        self.stays_parked(store, &aggregate, &reason, now).await?;
                        continue;
                    }
                }
            }
            statements.push(parked::forget(&*self.projection, &aggregate));
            let resumed = Event::from(ProjectionResumed {
                edge: config.edge.clone(),
                projection: self.name().into(),
                version: self.projection.version(),
                aggregate: aggregate.1.clone(),
                decision: wanted.into(),
                events: events.len() as u64,
            });
            statements.extend(Draft::of(&resumed, self.name(), "", now).append(now));
            match store.transaction(statements).await {
                Ok(_) => {
                    self.passed();
                    self.parked.remove(&aggregate);
                    self.status.parked(self.parked.len());
                }
                Err(error) if error.class() == Class::Row => {
                    self.stays_parked(store, &aggregate, &error.to_string(), now).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn stays_parked(
        &mut self,
        store: &Store,
        aggregate: &Aggregate,
        reason: &str,
        now: Wall,
    ) -> Result<(), Error> {
        let again: Statement = parked::failed_again(&*self.projection, aggregate, reason);
        store.transaction(vec![self.claim().guard(now), again]).await?;
        self.passed();
        Ok(())
    }
}
