//! What the stories of NATS have in common.

use signalbox_base::JournalId;
use signalbox_brokers::Nats;
use signalbox_brokers::conformance::Pen;
use signalbox_bus::nats::{Config, NatsBroker};
use signalbox_bus::publisher::{
    Broker, Connection, Encoder, Failure, Found, LaneFound, LaneSaved, Publisher, Ticket, Told,
};
use signalbox_bus::{Delivered, Source};
use std::sync::Arc;
use std::time::Duration;

/// One connection of a relay, without the relay.
pub(crate) struct Relay {
    pub(crate) connection: Connection,
    pub(crate) source: Source,
    encoder: Box<dyn Encoder>,
    last: u64,
}

/// Only what never comes takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Relay {
    pub(crate) async fn connect(config: Config) -> Self {
        Self::with(Arc::new(NatsBroker::new(config))).await
    }

    pub(crate) async fn try_connect(config: Config) -> Result<Connection, Failure> {
        NatsBroker::new(config).connect().await
    }

    pub(crate) async fn with(broker: Arc<dyn Broker>) -> Self {
        let connection = broker.connect().await.unwrap_or_else(|failure| panic!("{failure}"));
        Self { connection, source: source(), encoder: broker.encoder(), last: 0 }
    }

    /// With the next tickets.
    pub(crate) fn publish(&mut self, events: &[Delivered]) {
        for event in events {
            self.send(event).unwrap_or_else(|failure| panic!("{failure}"));
        }
    }

    /// Whether it is taken or not.
    pub(crate) fn publish_anyway(&mut self, events: &[Delivered]) {
        for event in events {
            let _ = self.send(event);
        }
    }

    fn send(&mut self, event: &Delivered) -> Result<(), Failure> {
        self.last += 1;
        let outgoing = self.encoder.encode(event, &self.connection.lanes).unwrap();
        self.connection.publisher.publish(Ticket(self.last), &outgoing)
    }

    pub(crate) async fn told(&mut self) -> Told {
        next(&mut *self.connection.publisher).await
    }

    pub(crate) async fn told_of(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        while told.len() < count {
            match self.told().await {
                Told::Lost(why) => panic!("{why}"),
                other => told.push(other),
            }
        }
        told
    }

    pub(crate) async fn ends(&mut self, known: &[LaneSaved]) -> Vec<LaneFound> {
        self.connection.own.ends(&self.source, known).await.unwrap_or_else(|failure| panic!("{failure}"))
    }
}

pub(crate) async fn next(publisher: &mut dyn Publisher) -> Told {
    tokio::time::timeout(PATIENCE, publisher.told()).await.unwrap_or_else(|_| panic!("nothing was told"))
}

pub(crate) fn source() -> Source {
    Source { cluster: "test".into(), edge: "edge-1".into(), journal: JournalId(1) }
}

pub(crate) fn pen() -> Pen {
    Pen::new(source())
}

/// The streams are there.
pub(crate) async fn made(nats: &Nats) {
    Relay::connect(nats.config()).await;
}

pub(crate) fn numbers(found: &[Found]) -> Vec<u64> {
    found.iter().map(|found| found.id.seq.0).collect()
}
