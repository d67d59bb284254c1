//! [`Broker`] on Kafka: one connection from end to end.

use super::Config;
use super::connect::{Ears, REQUEST, SLICE, SLICES, Stop, apart, metadata, reader, settings};
use super::own::{KafkaOwn, Piece, Tail, bounds, scan};
use super::publish::{self, Opened};
use super::topics::{self, Topics};
use crate::publisher::{Broker, Connection, Encoder, Failure, Inspection, LaneName};
use crate::subscription::BoxFuture;
use crate::wire::{
    BACKEND_STATE_TOPIC, KafkaEncoder, LOCATION_TOPIC, State, Wanted, lane_name, replay_topic,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use signalbox_base::Text;
use std::sync::{Mutex, PoisonError};

/// Kafka, as a relay sees it.
pub struct KafkaBroker {
    config: Config,
    /// Whose latest state it goes on with.
    edge: Text,
    wanted: Wanted,
    /// Everything goes to the topic of this replay.
    replay: Option<String>,
    /// Latest state as the last connection found it.
    state: Mutex<State>,
}

impl KafkaBroker {
    /// The cluster that `config` leads to, for the relay of this edge (or `store`).
    #[must_use]
    pub fn new(config: Config, edge: &str) -> Self {
        Self { config, edge: edge.into(), wanted: Wanted::default(), replay: None, state: Mutex::default() }
    }

    /// The same for a replay: everything goes, marked, to [`crate::wire::replay_topic`] of its id.
    #[must_use]
    pub fn replay(config: Config, id: &str) -> Self {
        Self { replay: Some(id.to_owned()), ..Self::new(config, "") }
    }

    /// A client, and the topics that it sees.
    async fn reached(&self) -> Result<(Opened, ClientConfig, Topics), Failure> {
        let config = self.config.clone();
        apart(move |stop| {
            let settings = settings(&config)?;
            let opened = publish::open(&settings)?;
            let there = topics::there(&metadata(opened.client(), || opened.trouble(), stop)?);
            Ok((opened, settings, there))
        })
        .await
    }

    /// Topics of events beside those of all domains: of tenants, or the replay's.
    fn more(&self) -> Vec<String> {
        let replay = self.replay.as_deref().map(replay_topic);
        replay.into_iter().chain(self.wanted.topics()).collect()
    }

    async fn look(&self) -> Result<Inspection, Failure> {
        let (opened, settings, there) = self.reached().await?;
        let mut found = topics::inspect(&self.config, &settings, &there, &self.more()).await?;
        found.wrong.extend(opened.no_right(&there).await?);
        Ok(found)
    }

    async fn connected(&self) -> Result<Connection, Failure> {
        let (opened, settings, there) = self.reached().await?;
        let replay = self.replay.as_deref().map(replay_topic);
        let wanted = self.more();
        let made = topics::settle(&self.config, &settings, &there, &wanted).await?;
        let parts = Parts { per_tenant: self.config.per_tenant, edge: self.edge.clone(), replay };
        let (connection, state) = apart(move |stop| {
            let there = if made { led(&opened, stop)? } else { there };
            parts.assemble(opened, &settings, &there, stop)
        })
        .await?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(connection)
    }
}

impl Broker for KafkaBroker {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn encoder(&self) -> Box<dyn Encoder> {
        if let Some(id) = &self.replay {
            return Box::new(KafkaEncoder::replay(id));
        }
        let state = std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner));
        Box::new(KafkaEncoder::new(self.config.per_tenant, self.wanted.clone(), state))
    }

    fn connect(&self) -> BoxFuture<'_, Result<Connection, Failure>> {
        Box::pin(self.connected())
    }

    /// Rights on Kafka are by topic, whatever the edge.
    fn inspect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Inspection, Failure>> {
        Box::pin(async move {
            match self.look().await {
                Err(Failure::Misfit(wrong)) => Ok(Inspection { wrong, ..Inspection::default() }),
                looked => looked,
            }
        })
    }
}

/// Waits until new topics have their leaders.
fn led(opened: &Opened, stop: &Stop) -> Result<Topics, Failure> {
    let mut there = Topics::new();
    for _ in 0..SLICES {
        there = topics::there(&metadata(opened.client(), || opened.trouble(), stop)?);
        let ours = |(name, topic): (&String, &topics::There)| !name.starts_with("signalbox.") || topic.led;
        let whole = [LOCATION_TOPIC, BACKEND_STATE_TOPIC].iter().all(|name| there.contains_key(*name));
        if whole && there.iter().all(ours) {
            return Ok(there);
        }
        std::thread::park_timeout(SLICE);
    }
    let without: Vec<&str> =
        there.iter().filter(|(_, topic)| !topic.led).map(|(name, _)| name.as_str()).collect();
    Err(Failure::Unreachable(format!("topics without a leader: {}", without.join(", ")).into()))
}

/// What a connection is put together by.
struct Parts {
    per_tenant: bool,
    edge: Text,
    /// The replay's topic.
    replay: Option<String>,
}

impl Parts {
    fn assemble(
        &self,
        opened: Opened,
        settings: &ClientConfig,
        there: &Topics,
        stop: &Stop,
    ) -> Result<(Connection, State), Failure> {
        let lanes = lanes(there, |name| match &self.replay {
            Some(replay) => name == replay,
            None => topics::carries(name).is_some_and(|of| self.per_tenant || of.tenant.is_none()),
        });
        if u16::try_from(lanes.len()).is_err() {
            let why = format!(
                "{} partitions of topics of events are more than a relay can tell apart",
                lanes.len()
            );
            return Err(Failure::Misfit(vec![why]));
        }
        let unknown = || Failure::Unreachable("the cluster does not tell its id".into());
        let incarnation = Text::from(opened.client().fetch_cluster_id(REQUEST).ok_or_else(unknown)?);
        let name = |(topic, partition): &(Text, i32)| LaneName {
            name: lane_name(topic, *partition).into(),
            incarnation: incarnation.clone(),
        };
        let names = lanes.iter().map(name).collect();
        let (consumer, _) = reader(settings, stop)?;
        let state = self.state(&consumer, there, stop)?;
        let counts =
            there.iter().map(|(name, topic)| (Text::from(name.as_str()), topic.partitions)).collect();
        let own = Box::new(KafkaOwn::new(Tail::new(consumer, lanes.clone())));
        let publisher = Box::new(opened.publisher(lanes, counts));
        Ok((Connection { lanes: names, publisher, own }, state))
    }

    /// Latest state of this edge, as the compacted topics hold it.
    fn state(&self, consumer: &BaseConsumer<Ears>, there: &Topics, stop: &Stop) -> Result<State, Failure> {
        let mut state = State::default();
        if self.replay.is_some() {
            return Ok(state);
        }
        for topic in [LOCATION_TOPIC, BACKEND_STATE_TOPIC] {
            let lanes = lanes(there, |name| name == topic);
            let piece = |((_, partition), (from, to)): (&(Text, i32), (i64, i64))| Piece {
                partition: *partition,
                from,
                to,
            };
            let pieces: Vec<Piece> = lanes.iter().zip(bounds(consumer, &lanes)?).map(piece).collect();
            scan(consumer, topic, &pieces, stop, |message| {
                let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
                if let Some(key) = key.filter(|key| edge_of(topic, key) == Some(&*self.edge)) {
                    state.prime(topic, key, message.payload());
                }
                true
            })?;
        }
        Ok(state)
    }
}

/// The partitions of the topics that are wanted.
fn lanes(there: &Topics, wanted: impl Fn(&String) -> bool) -> Vec<(Text, i32)> {
    let topics = there.iter().filter(|(name, _)| wanted(name));
    topics.flat_map(|(name, topic)| (0..topic.partitions).map(|p| (Text::from(name.as_str()), p))).collect()
}

/// Whose state a record is.
fn edge_of<'a>(topic: &str, key: &'a str) -> Option<&'a str> {
    if topic == LOCATION_TOPIC {
        key.rsplit_once('/').map(|(_, edge)| edge)
    } else {
        key.split_once('/').map(|(edge, _)| edge)
    }
}
