//! A replay to a broker: pipelined, but never two events of one key under way, so that order by key holds whatever breaks.

use crate::config::model::Bus;
use crate::errors::{Failure, INTERNAL};
use signalbox_base::Text;
use signalbox_bus::Delivered;
use signalbox_bus::nats::NatsBroker;
use signalbox_bus::publisher::{Broker, Connection, Encoder, Ticket, Told};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Events under way at a time.
const WINDOW: usize = 512;
/// A broker that says nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection and what is under way on it.
pub(super) struct BrokerTarget {
    /// Which broker, for people.
    name: String,
    connection: Connection,
    encoder: Box<dyn Encoder>,
    under_way: HashMap<Ticket, Text>,
    keys: HashSet<Text>,
    next: u64,
}

impl BrokerTarget {
    pub(super) async fn nats(bus: &Bus, id: &str) -> Result<Self, Failure> {
        let broker = NatsBroker::replay(bus.nats(format!("signalbox-replay-{id}")), id);
        Self::connect(&broker, bus.describe()).await
    }

    #[cfg(feature = "kafka")]
    pub(super) async fn kafka(bus: &Bus, id: &str) -> Result<Self, Failure> {
        let config = bus.kafka(format!("signalbox-replay-{id}"));
        Self::connect(&signalbox_bus::kafka::KafkaBroker::replay(config, id), bus.describe()).await
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(clippy::unused_async, reason = "as with the feature")]
    pub(super) async fn kafka(_: &Bus, _: &str) -> Result<Self, Failure> {
        Err(Failure::new(INTERNAL, "this program was built without Kafka")
            .fix("use a build with the feature `kafka`"))
    }

    async fn connect(broker: &dyn Broker, name: String) -> Result<Self, Failure> {
        let connection = tokio::time::timeout(PATIENCE, broker.connect()).await;
        let connection = connection.map_err(|_| failed(&name, "it does not answer"))?;
        let connection = connection.map_err(|why| failed(&name, &why.to_string()))?;
        // Only now does the encoder know the lanes that there are.
        let (encoder, under_way, keys) = (broker.encoder(), HashMap::new(), HashSet::new());
        Ok(Self { name, connection, encoder, under_way, keys, next: 1 })
    }

    pub(super) async fn take(&mut self, event: &Delivered) -> Result<(), Failure> {
        let out = self.encoder.encode(event, &self.connection.lanes);
        let out = out.map_err(|why| failed(&self.name, &why.to_string()))?;
        while self.under_way.len() >= WINDOW || self.keys.contains(&out.key) {
            self.hear().await?;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let published = self.connection.publisher.publish(ticket, &out);
        published.map_err(|why| failed(&self.name, &why.to_string()))?;
        self.keys.insert(out.key.clone());
        self.under_way.insert(ticket, out.key);
        Ok(())
    }

    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        while !self.under_way.is_empty() {
            self.hear().await?;
        }
        Ok(())
    }

    async fn hear(&mut self) -> Result<(), Failure> {
        let told = tokio::time::timeout(PATIENCE, self.connection.publisher.told()).await;
        match told {
            Ok(Told::Acked { ticket, .. }) => {
                if let Some(key) = self.under_way.remove(&ticket) {
                    self.keys.remove(&key);
                }
                Ok(())
            }
            Ok(Told::Refused { why, .. }) => Err(failed(&self.name, &why.to_string())),
            Ok(Told::Lost(why)) => Err(failed(&self.name, &why)),
            Err(_) => Err(failed(&self.name, "it does not answer")),
        }
    }
}

fn failed(broker: &str, why: &str) -> Failure {
    Failure::new(INTERNAL, format!("{broker}: {why}"))
        .fix("`signalbox check --live` says what is wrong with a bus")
}
