//! [`Broker`] on Kafka: one connection from end to end.

use super::Config;
use super::connect::{SLICE, SLICES, Stop, apart, metadata, reader, settings};
use super::own::{KafkaOwn, Piece, Tail, bounds};
use super::publish::{self, Opened};
use super::topics::{self, Topics};
use crate::publisher::{Broker, Connection, Encoder, Failure, LaneName};
use crate::subscription::BoxFuture;
use crate::wire::{BACKEND_STATE_TOPIC, KafkaEncoder, LOCATION_TOPIC, State, Wanted, lane_name};
use rdkafka::config::ClientConfig;
use rdkafka::message::Message;
use signalbox_base::Text;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Kafka, as a relay sees it.
pub struct Kafka {
    config: Config,
    /// Whose latest state it goes on with.
    edge: Text,
    wanted: Wanted,
    /// Latest state as the last connection found it.
    state: Mutex<State>,
}

impl Kafka {
    /// The cluster that `config` leads to, for the relay of this edge (or `store`).
    #[must_use]
    pub fn new(config: Config, edge: &str) -> Self {
        Self { config, edge: edge.into(), wanted: Wanted::default(), state: Mutex::default() }
    }

    async fn connected(&self) -> Result<Connection, Failure> {
        let config = self.config.clone();
        let (opened, settings, there) = apart(move |stop| {
            let settings = settings(&config)?;
            let opened = publish::open(&settings)?;
            let there = topics::there(&metadata(opened.client(), || opened.trouble(), stop)?);
            Ok((opened, settings, there))
        })
        .await?;
        let wanted = self.wanted.topics();
        let made = topics::settle(&self.config, &settings, &there, &wanted).await?;
        let (per_tenant, edge) = (self.config.per_tenant, self.edge.clone());
        let (connection, state) = apart(move |stop| {
            let there = if made { led(&opened, stop)? } else { there };
            assemble(opened, &settings, &there, per_tenant, &edge, stop)
        })
        .await?;
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(connection)
    }
}

impl Broker for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn encoder(&self) -> Box<dyn Encoder> {
        let state = std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner));
        Box::new(KafkaEncoder::new(self.config.per_tenant, self.wanted.clone(), state))
    }

    fn connect(&self) -> BoxFuture<'_, Result<Connection, Failure>> {
        Box::pin(self.connected())
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

fn assemble(
    opened: Opened,
    settings: &ClientConfig,
    there: &Topics,
    per_tenant: bool,
    edge: &str,
    stop: &Stop,
) -> Result<(Connection, State), Failure> {
    let of_events = |name: &String| topics::carries(name).is_some_and(|of| per_tenant || of.tenant.is_none());
    let events = there.iter().filter(|(name, _)| of_events(name));
    let lanes: Vec<(Text, i32)> = events
        .flat_map(|(name, topic)| (0..topic.partitions).map(|p| (Text::from(name.as_str()), p)))
        .collect();
    if u16::try_from(lanes.len()).is_err() {
        let why =
            format!("{} partitions of topics of events are more than a relay can tell apart", lanes.len());
        return Err(Failure::Misfit(vec![why]));
    }
    let counts: HashMap<Text, i32> =
        there.iter().map(|(name, topic)| (Text::from(name.as_str()), topic.partitions)).collect();
    let cluster = opened.client().fetch_cluster_id(SLICE).unwrap_or_default();
    let incarnation = Text::from(cluster);
    let names = lanes
        .iter()
        .map(|(topic, p)| LaneName { name: lane_name(topic, *p).into(), incarnation: incarnation.clone() })
        .collect();
    let (consumer, _) = reader(settings, stop)?;
    let compacted: Vec<(Text, i32)> = [LOCATION_TOPIC, BACKEND_STATE_TOPIC]
        .into_iter()
        .flat_map(|name| {
            (0..there.get(name).map_or(0, |topic| topic.partitions)).map(move |p| (name.into(), p))
        })
        .collect();
    let ends = bounds(&consumer, &compacted)?;
    let tail = Tail::new(consumer, lanes.clone());
    let mut state = State::default();
    for name in [LOCATION_TOPIC, BACKEND_STATE_TOPIC] {
        let pieces: Vec<Piece> = compacted
            .iter()
            .zip(&ends)
            .filter(|((topic, _), _)| **topic == *name)
            .map(|((_, partition), (from, to))| Piece { partition: *partition, from: *from, to: *to })
            .collect();
        tail.scan(name, &pieces, stop, |message| {
            let key = message.key().and_then(|key| std::str::from_utf8(key).ok());
            if let Some(key) = key.filter(|key| is_of(name, key, edge)) {
                state.prime(name, key, message.payload());
            }
            true
        })?;
    }
    let publisher = Box::new(opened.publisher(lanes, counts));
    Ok((Connection { lanes: names, publisher, own: Box::new(KafkaOwn::new(tail)) }, state))
}

/// Whether a record of latest state is this edge's.
fn is_of(topic: &str, key: &str, edge: &str) -> bool {
    let named = if topic == LOCATION_TOPIC {
        key.rsplit_once('/').map(|(_, edge)| edge)
    } else {
        key.split_once('/').map(|(edge, _)| edge)
    };
    named == Some(edge)
}
