//! How the relay connects: both sides are compared before anything is sent.

use super::{Driver, Link};
use crate::publisher::{Connection, Failure, Told};
use crate::relay::audit::Audit;
use crate::relay::machine::{Input, Machine};
use crate::relay::reconcile::{self, Own as Journal, Verdict};
use crate::subscription::Error;
use signalbox_base::EventSeq;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Driver {
    /// Connects and compares; the machine is told how that went.
    pub(super) async fn connect(&mut self) -> Option<Link> {
        let mut stopping = self.stopping.clone();
        let connecting = self.connect_and_compare();
        let stopped = async move {
            // A sender that is gone stops it too.
            let _ = stopping.wait_for(Option::is_some).await;
        };
        let outcome = tokio::select! {
            outcome = connecting => Some(outcome),
            () = stopped => None,
        };
        match outcome {
            None => {
                self.feed_stop();
                None
            }
            Some(Err(failure)) => {
                self.feed(Input::Failed(failure));
                None
            }
            Some(Ok((link, verdict))) => {
                self.feed_verdict(verdict);
                Some(link)
            }
        }
    }

    async fn connect_and_compare(&mut self) -> Result<(Link, Verdict), Failure> {
        let origin = |error: Error| Failure::Unreachable(format!("the journal: {error}").into());
        let mut chain = self.origin.chain().await.map_err(origin)?;
        if chain.is_empty() {
            // Before its first event a journal has no id, and nothing to compare.
            self.origin.beyond(EventSeq(0)).await;
            chain = self.origin.chain().await.map_err(origin)?;
        }
        let end = self.origin.end().map_err(origin)?;
        let Some(source) = chain.last().map(|link| link.source.clone()) else {
            return Err(Failure::Unreachable("the journal has no events".into()));
        };
        let journal = Journal { chain, end };
        let broker = Arc::clone(&self.broker);
        let connected = tokio::time::timeout(self.options.connect_within, broker.connect()).await;
        let timeout = |_| Failure::Unreachable("no connection in time".into());
        let Connection { lanes, mut publisher, mut own } = connected.map_err(timeout)??;
        self.feed(Input::Reached);
        let saved = self.machine.as_ref().map(Machine::saved).unwrap_or_default();
        let known = saved.known();
        let found = tokio::select! {
            found = own.ends(&source, &known) => found?,
            told = publisher.told() => {
                let why = if let Told::Lost(why) = told { why } else { "it told of events never sent".into() };
                return Err(Failure::Unreachable(why));
            }
        };
        let mut digests = BTreeMap::new();
        for seq in reconcile::questions(&saved, &lanes, &found, &journal) {
            let look = self.origin.look(seq).await.map_err(origin)?;
            digests.extend(look.map(|look| (seq, look.digest)));
        }
        let verdict = reconcile::verdict(&saved, &lanes, &found, &journal, &digests);
        let audit_at = self.clock.now().plus(self.options.audit_interval);
        let encoder = self.broker.encoder();
        let link = Link { lanes, publisher, encoder, source, own: Some(own), auditing: None, audit_at };
        Ok((link, verdict))
    }

    fn feed_verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Equal(saved) => {
                self.audit.get_or_insert_with(|| Audit::new(&saved));
                self.feed(Input::Resumed(saved));
            }
            Verdict::Behind(saved, lost) => {
                for lane in &lost {
                    tracing::warn!(lane = %lane.lane, from = %lane.from, "the bus has lost events; they are sent again");
                }
                self.audit = Some(Audit::new(&saved));
                self.feed(Input::Resumed(saved));
            }
            Verdict::Ahead(parted) | Verdict::Differs(parted) => self.feed(Input::Diverged(parted)),
        }
        if let Ok(end) = self.origin.end() {
            self.feed(Input::End(end));
        }
    }
}
