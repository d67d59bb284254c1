//! How the relay audits: beside what it publishes, its own events are read back and what is missing is sent again.

use super::{Driver, Link};
use crate::event::Delivered;
use crate::relay::audit::Hole;
use crate::relay::machine::Input;
use crate::relay::readback::{READ_BACK, ReadBack, read_back};
use crate::subscription::Error;
use signalbox_base::EventSeq;

impl Driver {
    pub(super) fn start_audit(&mut self, link: Option<&mut Link>) {
        let Some(link) = link.filter(|_| self.flowing()) else { return };
        if self.options.audit_interval.is_zero() || link.audit_at > self.clock.now() {
            return;
        }
        let (Some(machine), Some(audit)) = (&self.machine, &self.audit) else { return };
        let Some(own) = link.own.take() else { return };
        let (upto, jobs) = audit.plan(&machine.saved());
        let names: Vec<String> = link.lanes.iter().map(|lane| lane.name.as_str().to_owned()).collect();
        link.auditing = Some(Box::pin(read_back(own, link.source.clone(), names, upto, jobs)));
    }

    pub(super) async fn audited(&mut self, read: ReadBack) {
        let Some(audit) = &mut self.audit else { return };
        read.found.iter().for_each(|found| audit.seen(found));
        read.places.iter().for_each(|(lane, place)| audit.read(lane, *place));
        let holes = audit.finish(read.upto);
        let mut missing = Vec::new();
        for hole in &holes {
            match self.events_of(hole).await {
                Ok(events) => missing.extend(events),
                Err(error) => tracing::warn!(%error, "what the bus has lost is not in the journal"),
            }
        }
        if !missing.is_empty() {
            self.feed(Input::Missing(missing));
        }
    }

    /// The events of the numbers that a domain misses.
    async fn events_of(&mut self, hole: &Hole) -> Result<Vec<EventSeq>, Error> {
        let (mut events, mut from) = (Vec::new(), hole.after.next());
        while from < hole.before {
            let mut read = Vec::new();
            let gap = self.origin.read(from, READ_BACK, &mut read).await?;
            let Some(last) = gap.map(|gap| gap.to).or_else(|| read.last().map(|event| event.seq)) else {
                break;
            };
            let inside = |event: &&Delivered| {
                event.seq < hole.before
                    && event.source.journal == hole.journal
                    && *event.domain() == *hole.domain
                    && (hole.from..=hole.to).contains(&event.domain_seq)
            };
            events.extend(read.iter().filter(inside).map(|event| event.seq));
            from = last.next();
        }
        Ok(events)
    }
}
