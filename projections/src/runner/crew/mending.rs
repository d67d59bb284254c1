//! What a crew does about tables that are missing, damaged or asked to be made anew, and about projections that end.

use super::{Crew, End, wall_now};
use crate::runner::Stopped;
use crate::runner::fault::Fault;
use crate::runner::member::Member;
use crate::runner::plan::Held;
use crate::runner::rebuild::{self, Rebuild, Switched};
use crate::runner::status::Rebuilding;
use signalbox_store::{Class, Error, TableFault};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// A rebuild that has found nothing to read when it has looked so often has read all there is.
const LOOKS: u32 = 3;
/// Every so many seconds it is looked whether the tables are still there.
const TABLES_EVERY: u32 = 3;

impl Crew {
    /// The text of a fault that may pass; otherwise whom it concerns has stopped, or is made anew.
    pub(super) async fn passing(&mut self, fault: Fault, stop: &watch::Receiver<bool>) -> Option<String> {
        let by_store = |projection, error: Error| match error.class() {
            Class::Fenced => Stopped::Fenced { projection },
            _ => Stopped::Store { projection, error },
        };
        match fault {
            Fault::Store(error) if error.is_retryable() => return Some(error.to_string()),
            Fault::Bus(error @ signalbox_bus::Error::Unavailable(_)) => return Some(error.to_string()),
            Fault::Guard => return Some("the tables are not as this process left them".to_owned()),
            Fault::Store(error) => self.stop_all(|projection| by_store(projection, error.clone())).await,
            Fault::Member(index, mut error) => {
                if error.class() == Class::Schema {
                    match rebuild::restore_bookkeeping(&self.context.store).await {
                        Ok(None) => {}
                        Ok(Some(restored)) => return Some(restored),
                        Err(damaged) if damaged.class() == Class::Schema => error = damaged,
                        Err(passing) => return Some(passing.to_string()),
                    }
                }
                let member = self.members.remove(index);
                if error.class() != Class::Schema || member.mended || member.projection.tables().is_none() {
                    self.stopped(member, |projection| by_store(projection, error.clone())).await;
                    return None;
                }
                let faults = match self.faults(&member).await {
                    Ok(faults) => faults,
                    Err(passing) => {
                        self.members.insert(index, member);
                        return Some(passing.to_string());
                    }
                };
                let reason = if faults.is_empty() { error.to_string() } else { in_words(&faults) };
                self.mend(index, member, reason, &faults, stop);
            }
            Fault::Bus(signalbox_bus::Error::Fenced(_)) => {
                self.stop_all(|projection| Stopped::Fenced { projection }).await;
            }
            Fault::Bus(error) => {
                self.stop_all(|projection| Stopped::Bus { projection, error: error.clone() }).await;
            }
        }
        None
    }

    async fn stop_all(&mut self, why: impl Fn(&'static str) -> Stopped) {
        for member in std::mem::take(&mut self.members) {
            self.stopped(member, &why).await;
        }
    }

    /// One that has stopped keeps the bus from forgetting what it has not read; one that was taken over is another's.
    async fn stopped(&self, mut member: Member, why: impl Fn(&'static str) -> Stopped) {
        if let Some(rebuild) = member.rebuild.take() {
            let stopped = why(rebuild.of());
            self.ended(&rebuild, member.name());
            if !matches!(stopped, Stopped::Fenced { .. }) {
                tracing::error!(projection = rebuild.of(), error = %stopped, "rebuild failed; the tables are as they were");
                if let Err(error) = rebuild.fail(&self.context.store, &stopped.to_string(), wall_now()).await
                {
                    tracing::warn!(projection = rebuild.of(), %error, "what the rebuild made is left");
                }
            }
            let Some(waits) = member.waits.take() else { return };
            member = *waits;
        }
        let stopped = why(member.name());
        if matches!(stopped, Stopped::Fenced { .. }) {
            self.context.floors().remove(member.name());
        }
        member.status.stopped(&stopped.to_string(), wall_now());
        (self.context.stopped)(stopped);
    }

    /// A rebuild is not under way any more.
    fn ended(&self, rebuild: &Rebuild, name: &'static str) {
        self.context.floors().remove(name);
        self.context.rebuilding().remove(rebuild.of());
        if let Some((_, status)) = self.context.of(rebuild.of()) {
            status.rebuilding(None);
        }
    }

    async fn faults(&self, member: &Member) -> Result<Vec<TableFault>, Error> {
        match member.projection.tables() {
            Some(tables) => self.context.store.table_faults(tables.names).await,
            None => Ok(Vec::new()),
        }
    }

    /// Looks at the tables of members that begin; what is not as it should be is made anew.
    pub(super) async fn look(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Fault> {
        for index in (0..self.members.len()).rev() {
            let member = &self.members[index];
            if member.looked || member.rebuild.is_some() {
                continue;
            }
            let faults = self.faults(member).await.map_err(|error| Fault::of(index, error))?;
            let mut reason = in_words(&faults);
            if faults.is_empty() {
                let other = rebuild::is_of_another_version(&self.context.store, &*member.projection).await;
                match other.map_err(|error| Fault::of(index, error))? {
                    Some(why) => reason = why,
                    None => {
                        self.members[index].looked = true;
                        continue;
                    }
                }
            }
            let member = self.members.remove(index);
            self.mend(index, member, reason, &faults, stop);
        }
        Ok(())
    }

    /// Whether tables are not as they should be any more, at rest too, when no event finds out. The next session mends them.
    pub(super) async fn tables_are_gone(&mut self) -> Result<bool, Fault> {
        self.ticks += 1;
        if !self.ticks.is_multiple_of(TABLES_EVERY) {
            return Ok(false);
        }
        match rebuild::restore_bookkeeping(&self.context.store).await {
            Ok(Some(_)) => return Ok(true),
            Err(error) if error.is_retryable() => return Err(Fault::Store(error)),
            // A damaged one stops whoever needs it, with what to do.
            Ok(None) | Err(_) => {}
        }
        let whole = |member: &&Member| member.rebuild.is_none() && !member.mended;
        let tables = self.members.iter().filter(whole).filter_map(|member| member.projection.tables());
        let names: Vec<&'static str> = tables.flat_map(|tables| tables.names).copied().collect();
        if self.context.store.table_faults(&names).await.map_err(Fault::Store)?.is_empty() {
            return Ok(false);
        }
        self.members.iter_mut().for_each(|member| member.looked = false);
        Ok(true)
    }

    /// A projection whose tables cannot be written waits until they are made anew: in a group apart, else in the place of
    /// the one that reads alone.
    fn mend(
        &mut self,
        index: usize,
        mut member: Member,
        reason: String,
        faults: &[TableFault],
        stop: &watch::Receiver<bool>,
    ) {
        let Some(tables) = member.projection.tables() else {
            self.members.insert(index, member);
            return;
        };
        tracing::error!(projection = member.name(), reason, "the tables are made anew from history");
        self.context.rebuilding().insert(member.name());
        (member.mended, member.looked) = (true, true);
        let stands_still = Rebuilding { reason: reason.clone(), stands_still: true, ..Rebuilding::default() };
        member.status.rebuilding(Some(stands_still));
        let rebuild = Rebuild::new(Arc::clone(&member.projection), tables, reason, faults, wall_now());
        let shadow = Member::rebuilding(rebuild, Some(member));
        self.context.floors().insert(shadow.name(), std::collections::BTreeMap::new());
        if self.lone {
            self.members.insert(index, shadow);
        } else {
            self.apart(shadow, stop);
        }
    }

    fn apart(&mut self, member: Member, stop: &watch::Receiver<bool>) {
        let (name, status) = (member.name(), member.status.clone());
        self.alone.spawn(name, status, Self::lone(Arc::clone(&self.context), member, stop.clone()));
    }

    /// Begins the rebuilds that somebody has asked for.
    pub(super) async fn ask(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Fault> {
        if self.lone {
            return Ok(());
        }
        let begun_too = !self.context.resumed.swap(true, Ordering::Relaxed);
        let wanted = match rebuild::wanted(&self.context.store, begun_too).await {
            Ok(wanted) => wanted,
            Err(error) if error.is_retryable() => return Err(Fault::Store(error)),
            // Nobody can ask then; the tables themselves are folded all the same.
            Err(error) => {
                tracing::debug!(%error, "rebuilds cannot be asked for");
                return Ok(());
            }
        };
        for (name, reason) in wanted {
            let Some((projection, status)) = self.context.of(&name) else { continue };
            let Some(tables) = projection.tables() else { continue };
            if !self.context.rebuilding().insert(projection.name()) {
                continue;
            }
            tracing::info!(projection = name, reason, "the tables are made anew beside those that are read");
            status.rebuilding(Some(Rebuilding { reason: reason.clone(), ..Rebuilding::default() }));
            let rebuild = Rebuild::new(Arc::clone(projection), tables, reason, &[], wall_now());
            let shadow = Member::rebuilding(rebuild, None);
            self.context.floors().insert(shadow.name(), std::collections::BTreeMap::new());
            self.apart(shadow, stop);
        }
        Ok(())
    }

    /// Shows how far rebuilds are.
    pub(super) async fn show(&mut self) {
        for member in self.members.iter_mut() {
            let (done, total) = member.status.get().read_of();
            let Some(rebuild) = &mut member.rebuild else { continue };
            rebuild.looks += 1;
            // Only for people to look at: the next one comes in a second.
            let _ = rebuild.progress(&self.context.store, done, total).await;
            if let Some((_, status)) = self.context.of(rebuild.of()) {
                let (reason, stands_still) = (rebuild.reason.clone(), member.waits.is_some());
                status.rebuilding(Some(Rebuilding { reason, done, total, stands_still }));
            }
        }
    }

    /// Lets a rebuild that has read as far as its projection take its place. `tick`: a second has passed.
    pub(super) async fn switch(&mut self, tick: bool) -> Result<Option<End>, Fault> {
        let Some(index) = self.members.iter().position(|member| member.rebuild.is_some()) else {
            return Ok(None);
        };
        if !self.is_level(index, tick) {
            return Ok(None);
        }
        let (context, now) = (Arc::clone(&self.context), wall_now());
        let member = &self.members[index];
        let (guard, events) = (member.claim().guard(now), member.status.get().applied);
        let Some(rebuild) = &member.rebuild else { return Ok(None) };
        let done = rebuild.switch(&context.store, guard, &context.config, (events, now)).await;
        let done = done.map_err(|error| Fault::guarded(index, error))?;
        let Some(Switched { carried, left_to_do }) = done else { return Ok(None) };
        if !left_to_do.is_empty() {
            tracing::warn!(projection = rebuild.of(), "{left_to_do}");
        }
        tracing::info!(
            projection = rebuild.of(),
            reason = rebuild.reason,
            events,
            carried,
            took = ?rebuild.age(now),
            "the tables are made anew"
        );
        let mut member = self.members.remove(index);
        if let Some(rebuild) = member.rebuild.take() {
            self.context.switched().insert(rebuild.of());
            self.ended(&rebuild, member.name());
        }
        if let Some(waits) = member.waits.take() {
            self.members.push(*waits);
        }
        Ok(Some(End::Switched))
    }

    /// Whether a rebuild has all that there is, or, in one group with its projection, all that this has.
    fn is_level(&self, index: usize, tick: bool) -> bool {
        let member = &self.members[index];
        let Some(rebuild) = &member.rebuild else { return false };
        let waits = if self.by_key() { Held::is_newer } else { Held::is_open };
        // What is missing at its beginning is retention once the bus has said so, and looks like a loss before.
        let settled = !self.by_key() || !member.track.place.first_reading;
        if !settled || member.track.held.values().any(waits) {
            return false;
        }
        let beside = self.members.iter().find(|other| other.name() == rebuild.of());
        if let Some(projection) = beside {
            // Sources that are gone from the bus are known to the projection only.
            let found = &member.track.resume;
            return !found.is_empty()
                && found.iter().all(|(source, read)| projection.track.resume.get(source) == Some(read));
        }
        let status = member.status.get();
        let known = status.behind.is_some() || !status.sources.is_empty();
        // In a group apart it waits for its projection, which is near.
        (self.by_key() || member.waits.is_some())
            && (known || tick && rebuild.looks >= LOOKS)
            && status.lag_events() == 0
    }
}

fn in_words(faults: &[TableFault]) -> String {
    faults.iter().map(|fault| fault.what.as_str()).collect::<Vec<_>>().join("; ")
}
