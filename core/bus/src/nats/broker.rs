//! NATS as the relay sees it.

use super::Config;
use super::api::Api;
use super::connect::Link;
use super::own::NatsOwn;
use super::publish::NatsPublisher;
use super::streams::{self, Want};
use crate::publisher::{Broker, Connection, Encoder, Failure, LaneName};
use crate::subscription::BoxFuture;
use crate::wire::{GROUPS, NatsEncoder, REPLAY_STREAM};
use std::time::Duration;

/// A NATS server, or a cluster of them, to publish to.
#[derive(Clone, Debug)]
pub struct NatsBroker {
    config: Config,
    replay: Option<String>,
}

/// How long a replay stays on the bus.
const REPLAY_KEPT: Duration = Duration::from_secs(7 * 86_400);

impl NatsBroker {
    /// For live events.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, replay: None }
    }

    /// For the replay `id` (letters, digits and `-`), which goes to a stream of its own.
    #[must_use]
    pub fn replay(config: Config, id: &str) -> Self {
        Self { config, replay: Some(id.to_owned()) }
    }

    /// Connects and looks, and changes nothing: what is wrong with the server and its streams, and what people should
    /// know, one line each; empty when all is well.
    ///
    /// # Errors
    /// The server is not reached, or refuses us.
    pub async fn inspect(&self) -> Result<Vec<String>, Failure> {
        let link = match Link::open(&self.config).await {
            Err(Failure::Misfit(findings)) => return Ok(findings),
            other => other?,
        };
        let mut told = link.notes();
        let api = Api::new(link);
        for want in self.wanted() {
            told.extend(streams::inspect(&api, &self.config, &want).await?);
        }
        Ok(told)
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
        for note in notes {
            tracing::warn!("NATS: {note}");
        }
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
}
