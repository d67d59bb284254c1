//! NATS as the relay sees it.

use super::Config;
use super::api::Api;
use super::connect::Link;
use super::own::NatsOwn;
use super::publish::NatsPublisher;
use super::rights;
use super::streams::{self, Want};
use crate::publisher::{Broker, Connection, Encoder, Failure, Inspection, LaneName};
use crate::subscription::BoxFuture;
use crate::wire::{GROUPS, NatsEncoder, REPLAY_STREAM};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A NATS server, or a cluster of them, to publish to.
#[derive(Debug)]
pub struct NatsBroker {
    config: Config,
    replay: Option<String>,
    /// What people should know and were told.
    said: Mutex<Vec<String>>,
}

/// How long a replay stays on the bus.
const REPLAY_KEPT: Duration = Duration::from_secs(7 * 86_400);

impl NatsBroker {
    /// For live events.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, replay: None, said: Mutex::default() }
    }

    /// For the replay `id` (letters, digits and `-`), which goes to a stream of its own.
    #[must_use]
    pub fn replay(config: Config, id: &str) -> Self {
        Self { replay: Some(id.to_owned()), ..Self::new(config) }
    }

    async fn look(&self, edge: &str) -> Result<Inspection, Failure> {
        let link = Link::open(&self.config).await?;
        let mut found = Inspection { notes: link.notes(), ..Inspection::default() };
        let api = Api::new(link.clone());
        let mut there = Vec::new();
        for want in self.wanted() {
            if streams::inspect(&api, &self.config, &want, &mut found).await? {
                there.push(want);
            }
        }
        if self.replay.is_none() {
            found.wrong.extend(rights::missing(link, &there, edge).await?);
        }
        Ok(found)
    }

    fn wanted(&self) -> Vec<Want> {
        let age = &self.config.max_age;
        if self.replay.is_some() {
            let subjects = vec!["signalbox.replay.>".to_owned()];
            return vec![Want { stream: REPLAY_STREAM, subjects, max_age: REPLAY_KEPT, setting: "" }];
        }
        let ages = [age.call, age.registration, age.security, age.operations];
        let want = |(group, max_age): (&'static crate::wire::Group, Duration)| Want {
            stream: group.stream,
            subjects: group.subjects(),
            max_age,
            setting: group.name,
        };
        GROUPS.iter().zip(ages).map(want).collect()
    }

    /// Each once: connections come and go.
    fn say(&self, notes: Vec<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes {
            if !said.contains(&note) {
                tracing::warn!("NATS: {note}");
                said.push(note);
            }
        }
    }

    async fn open(&self) -> Result<Connection, Failure> {
        let link = Link::open(&self.config).await?;
        let mut notes = link.notes();
        let api = Api::new(link.clone());
        let (mut lanes, mut findings) = (Vec::new(), Vec::new());
        for want in self.wanted() {
            match streams::ensure(&api, &self.config, &want).await {
                Ok(ready) => {
                    notes.extend(ready.notes);
                    lanes.push(LaneName { name: want.stream.into(), incarnation: ready.created });
                }
                Err(Failure::Misfit(found)) => findings.extend(found),
                Err(other) => return Err(other),
            }
        }
        if !findings.is_empty() {
            return Err(Failure::Misfit(findings));
        }
        self.say(notes);
        let own = NatsOwn::new(api, lanes.clone());
        let publisher = NatsPublisher::open(link, &lanes).await?;
        Ok(Connection { lanes, publisher: Box::new(publisher), own: Box::new(own) })
    }
}

impl Broker for NatsBroker {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(match &self.replay {
            Some(id) => NatsEncoder::replay(id),
            None => NatsEncoder::new(),
        })
    }

    fn connect(&self) -> BoxFuture<'_, Result<Connection, Failure>> {
        Box::pin(self.open())
    }

    fn inspect<'a>(&'a self, edge: &'a str) -> BoxFuture<'a, Result<Inspection, Failure>> {
        Box::pin(async move {
            match self.look(edge).await {
                Err(Failure::Misfit(wrong)) => Ok(Inspection { wrong, ..Inspection::default() }),
                looked => looked,
            }
        })
    }
}
