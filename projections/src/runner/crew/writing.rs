//! What a crew writes: each batch with its positions, once a second where to read on from, and then what the bus may forget.

use super::{Crew, wall_now};
use crate::runner::fault::{Fault, Refused, Transaction, refused};
use crate::runner::member::Member;
use crate::runner::parked;
use crate::runner::plan::{Batched, Lost, Plan, aggregate_of};
use signalbox_base::{EventSeq, Wall};
use signalbox_bus::{Batch, Delivered, Floor, Progress, Subscription};
use signalbox_schemas::Event;
use signalbox_schemas::projection::ProjectionParked;
use signalbox_store::outbox::Draft;
use signalbox_store::{Class, Error, Statement};

impl Crew {
    pub(super) async fn batch(&mut self, batch: Batch) -> Result<(), Fault> {
        for gap in &batch.gaps {
            let of = |member: &mut Member| member.track.gone = member.track.gone.max(gap.to.0);
            self.members.iter_mut().for_each(of);
        }
        // Parts still to do, the next one last. A refused row cuts its part into before, itself and after.
        let mut parts = if batch.events.is_empty() { Vec::new() } else { vec![&batch.events[..]] };
        let mut refusals: Vec<(usize, String)> = Vec::new();
        while let Some(part) = parts.pop() {
            match self.commit(part, &refusals).await {
                Ok(()) => refusals.clear(),
                Err(Refused::Row(_, at, _)) if part.len() > 1 => {
                    let (before, rest) = part.split_at(at);
                    let (itself, after) = rest.split_at(1);
                    parts.extend([after, itself, before].into_iter().filter(|part| !part.is_empty()));
                }
                Err(Refused::Row(member, _, reason)) => {
                    refusals.push((member, reason));
                    parts.push(part);
                }
                Err(Refused::Fault(fault)) => return Err(fault),
            }
        }
        for rebuild in self.members.iter_mut().filter_map(|member| member.rebuild.as_mut()) {
            rebuild.see(&batch.events);
        }
        let now = wall_now();
        if !batch.floors.is_empty() {
            self.settle(&batch.floors, now).await?;
        }
        if self.by_key() {
            let caught_up = batch.behind == Some(0) || !batch.floors.is_empty();
            for member in &mut self.members {
                member.track.reach_place(batch.hint.as_ref(), caught_up, now);
                member.status.reached(&batch.progress, batch.behind, &member.track, now);
            }
            return Ok(());
        }
        for progress in &batch.progress {
            match self.reached.iter_mut().find(|known| known.source == progress.source) {
                Some(known) => *known = progress.clone(),
                None => self.reached.push(progress.clone()),
            }
        }
        for member in &mut self.members {
            member.track.reach(&batch.progress);
            member.status.reached(&batch.progress, None, &member.track, now);
        }
        Ok(())
    }

    /// Numbers that the bus will not give again because of its retention are not waited for; whoever had begun before them
    /// has lost them, which is told once.
    async fn settle(&mut self, floors: &[Floor], now: Wall) -> Result<(), Fault> {
        let (mut transaction, mut all) = (Transaction::default(), Vec::new());
        for (index, member) in self.members.iter().enumerate() {
            let claim = member.claim();
            let (saves, settled) = member.track.settle(&*member.projection, floors, claim, now);
            if !saves.is_empty() {
                transaction.guard(index, claim.guard(now));
                transaction.add(index, None, saves);
            }
            all.push(settled);
        }
        if !transaction.statements.is_empty() {
            self.durably(transaction).await?;
        }
        for (member, settled) in self.members.iter_mut().zip(all) {
            tell_lost(member.name(), &settled.lost);
            member.track.follow_settled(settled);
        }
        Ok(())
    }

    async fn durably(&mut self, transaction: Transaction) -> Result<(), Fault> {
        let done = self.context.store.transaction(transaction.statements).await;
        done.map_err(|error| match refused(error, &transaction.owners) {
            Refused::Fault(fault) => fault,
            Refused::Row(member, _, reason) => Fault::Member(member, Error::new(Class::Database, reason)),
        })?;
        transaction.guarded.iter().for_each(|member| self.members[*member].passed());
        Ok(())
    }

    /// What a part of a batch means to each member; those of `refusals` put its one event aside.
    fn plans(&self, part: &[Delivered], refusals: &[(usize, String)]) -> Vec<Plan> {
        let (order, batched) = (self.context.bus.order(), Batched::new(part));
        let plan = |member: &Member| member.track.plan(&*member.projection, order, &member.parked, &batched);
        let mut plans: Vec<Plan> = self.members.iter().map(plan).collect();
        for (member, reason) in refusals {
            plans[*member].refuse(part.len(), reason);
        }
        plans
    }

    /// One transaction: for each member its guard, the writes of `part`, what is put aside, the positions.
    async fn commit(&mut self, part: &[Delivered], refusals: &[(usize, String)]) -> Result<(), Refused> {
        let now = wall_now();
        let mut plans = self.plans(part, refusals);
        let mut transaction = Transaction::default();
        for (index, (member, plan)) in self.members.iter().zip(&mut plans).enumerate() {
            if plan.is_empty() {
                continue;
            }
            transaction.guard(index, member.claim().guard(now));
            for (at, write) in std::mem::take(&mut plan.writes) {
                transaction.add(index, Some(at), [write]);
            }
            let put = |(at, class, reason): &(usize, &'static str, String)| {
                parked::put(&*member.projection, &part[*at], class, reason, now)
            };
            transaction.add(index, None, plan.aside.iter().map(put));
            transaction.add(index, None, self.told_parked(member, plan, part, now));
            transaction.add(index, None, plan.saves(member.claim(), now));
        }
        if !transaction.statements.is_empty() {
            // Durable with the next save; until then the bus has the events.
            let done = self.context.store.transaction_soon_durable(transaction.statements).await;
            done.map_err(|error| refused(error, &transaction.owners))?;
            transaction.guarded.iter().for_each(|member| self.members[*member].passed());
        }
        for (member, plan) in self.members.iter_mut().zip(plans) {
            for (at, class, reason) in &plan.aside {
                let (name, event) = (member.name(), &part[*at]);
                tracing::warn!(projection = name, id = event.id(), kind = %event.kind, class, reason, "event parked");
                member.parked.insert(aggregate_of(event));
            }
            tell_lost(member.name(), &plan.lost);
            let (wrote, applied, duplicates) = (!plan.is_empty(), plan.applied, plan.duplicates);
            member.mended &= !wrote;
            member.track.follow(plan);
            member.status.parked(member.parked.len());
            member.status.committed(part.last().filter(|_| wrote), applied, duplicates, &member.track);
        }
        Ok(())
    }

    /// The first event of each aggregate that is put aside is told.
    fn told_parked(&self, member: &Member, plan: &Plan, part: &[Delivered], now: Wall) -> Vec<Statement> {
        if member.rebuild.is_some() {
            return Vec::new();
        }
        let news = plan.aside.iter().filter(|(_, class, _)| *class != "order");
        news.flat_map(|(at, class, _)| {
            let event = &part[*at];
            let parked = Event::from(ProjectionParked {
                edge: self.context.config.edge.clone(),
                projection: member.name().into(),
                version: member.projection.version(),
                aggregate: event.subject.clone(),
                kind: event.kind.clone(),
                error_class: (*class).into(),
            });
            Draft::of(&parked, member.name(), &event.id(), now).append(now)
        })
        .collect()
    }

    /// Stores durably where to read on from, and all that was committed before; then tells the bus.
    pub(super) async fn save(&mut self, subscription: &mut dyn Subscription) -> Result<(), Fault> {
        let now = wall_now();
        let mut transaction = Transaction::default();
        for (index, member) in self.members.iter().enumerate() {
            let saves = member.track.save_resume(member.claim(), self.context.config.bus, now);
            if !saves.is_empty() {
                transaction.guard(index, member.claim().guard(now));
                transaction.add(index, None, saves);
            }
        }
        if !transaction.statements.is_empty() {
            self.durably(transaction).await?;
            for member in &mut self.members {
                member.track.saved_resume();
                self.context.floors().insert(member.name(), member.track.resume.clone());
            }
        }
        self.tell(subscription).await
    }

    /// Tells the bus what every projection durably has.
    async fn tell(&mut self, subscription: &mut dyn Subscription) -> Result<(), Fault> {
        if self.lone || self.by_key() {
            return Ok(());
        }
        let safe = |reached: &Progress| {
            let floor = EventSeq(self.context.floor(&reached.source.to_string()));
            Progress { through: reached.through.min(floor), ..reached.clone() }
        };
        let news = |safe: &Progress| {
            let known = self.told.iter().find(|told| told.source == safe.source);
            safe.through > known.map_or(EventSeq(0), |told| told.through)
        };
        let safe: Vec<Progress> = self.reached.iter().map(safe).filter(news).collect();
        if !safe.is_empty() {
            subscription.acknowledge(&safe).await?;
            self.told.retain(|told| !safe.iter().any(|safe| safe.source == told.source));
            self.told.extend(safe);
        }
        Ok(())
    }
}

/// Told once: the positions know it from then on.
fn tell_lost(projection: &str, lost: &[Lost]) {
    for ((source, domain), from, to) in lost {
        tracing::warn!(
            projection,
            %source,
            %domain,
            from,
            to,
            "events were gone from the bus before they were read; what follows is folded"
        );
    }
}
