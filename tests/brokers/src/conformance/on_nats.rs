//! What the suite needs of a real NATS server, but the product's reader.

use super::{Broker, Provider};
use crate::nats::{Nats, NatsOptions};
use crate::place::Copied;
use crate::server::Server;
use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use futures_util::future::try_join_all;
use signalbox_base::{EventSeq, JournalId};
use signalbox_bus::nats::NatsBroker;
use signalbox_bus::publisher::{Broker as _, Encoder, LaneName, Outgoing};
use signalbox_bus::wire::NatsEncoder;
use signalbox_bus::{Bus, Delivered, Source};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

/// How the product reads from a server; `dir` is for what it keeps outside.
pub trait Open {
    /// The bus.
    fn open(nats: &Nats, dir: &Path) -> Arc<dyn Bus>;
}

/// A server with the product's streams, and the hands of a relay on it.
pub struct OnNats<O> {
    /// The server.
    pub nats: Nats,
    context: Context,
    encoder: NatsEncoder,
    lanes: Vec<LaneName>,
    /// Of each stored event: its number, stream and place there.
    stored: Vec<(EventSeq, usize, u64)>,
    copied: Option<Copied>,
    open: PhantomData<O>,
}

const MESSAGE_ID: &str = "Nats-Msg-Id";

impl<O: Open> Provider for OnNats<O> {
    async fn start() -> Self {
        let nats = Nats::start(NatsOptions::default());
        // The product makes the streams; its connection has done its part with that.
        let lanes = NatsBroker::new(nats.config()).connect().await.unwrap().lanes;
        let context = jetstream::new(nats.client().await);
        let (encoder, stored) = (NatsEncoder::new(), Vec::new());
        Self { nats, context, encoder, lanes, stored, copied: None, open: PhantomData }
    }

    fn bus(&self) -> Arc<dyn Bus> {
        O::open(&self.nats, self.nats.dir())
    }

    fn source(&self) -> Source {
        Source { cluster: "test".into(), edge: "edge-1".into(), journal: JournalId(1) }
    }

    async fn put(&mut self, events: &[Delivered]) {
        self.store(events, true).await;
    }
}

impl<O: Open> Broker for OnNats<O> {
    async fn put_again(&mut self, events: &[Delivered]) {
        self.store(events, false).await;
    }

    async fn put_foreign(&mut self, beside: &Delivered) -> usize {
        let subject = self.encode(beside).address.to_string();
        let replay = NatsEncoder::replay("r-1").structured(beside).to_vec();
        let ours = String::from_utf8(NatsEncoder::new().structured(beside).to_vec()).unwrap();
        let bodies = [
            b"not json".to_vec(),
            Vec::new(),
            br#"{"specversion":"1.0"}"#.to_vec(),
            ours.replace("io.signalbox.", "com.example.").into_bytes(),
            ours.as_bytes()[..ours.len() / 2].to_vec(),
            replay,
        ];
        for body in &bodies {
            self.context.publish(subject.clone(), body.clone().into()).await.unwrap().await.unwrap();
        }
        bodies.len()
    }

    async fn expire(&mut self, before: EventSeq) {
        for (lane, stream) in self.lanes.iter().enumerate() {
            let gone = self.stored.iter().filter(|(seq, of, _)| *of == lane && *seq < before);
            if let Some(last) = gone.map(|(_, _, place)| *place).max() {
                let stream = self.context.get_stream(&*stream.name).await.unwrap();
                stream.purge().sequence(last + 1).await.unwrap();
            }
        }
    }

    fn kill(&mut self) {
        self.nats.kill9();
    }

    async fn start_again(&mut self) {
        self.nats.start_again();
        self.connect().await;
    }

    async fn copy(&mut self) {
        self.copied = Some(self.nats.copy());
        self.connect().await;
    }

    async fn roll_back(&mut self) {
        let copied = self.copied.as_ref().expect("a copy was taken");
        self.nats.roll_back(copied);
        self.connect().await;
    }
}

impl<O> OnNats<O> {
    fn encode(&mut self, event: &Delivered) -> Outgoing {
        self.encoder.encode(event, &self.lanes).unwrap()
    }

    async fn connect(&mut self) {
        self.context = jetstream::new(self.nats.client().await);
    }

    /// Publishes in this order and waits for the acknowledgements.
    async fn store(&mut self, events: &[Delivered], with_id: bool) {
        for chunk in events.chunks(256) {
            let mut acks = Vec::new();
            let outgoing: Vec<Outgoing> = chunk.iter().map(|event| self.encode(event)).collect();
            for out in &outgoing {
                let mut headers = HeaderMap::new();
                for (name, value) in out.headers.iter().filter(|(name, _)| with_id || *name != MESSAGE_ID) {
                    headers.insert(*name, &**value);
                }
                let address = out.address.to_string();
                let sent = self.context.publish_with_headers(address, headers, out.body.clone());
                acks.push(sent.await.unwrap().into_future());
            }
            for (out, ack) in outgoing.iter().zip(try_join_all(acks).await.unwrap()) {
                self.stored.push((out.id.seq, usize::from(out.lane.0), ack.sequence));
            }
        }
    }
}
