//! A replay to a web service: batches of CloudEvents (HTTP binding, batched content mode), in order, each once it is
//! accepted; what is refused for the moment is tried again.

use super::http::Endpoint;
use super::place::Place;
use crate::errors::{Failure, INTERNAL};
use signalbox_bus::Delivered;
use signalbox_bus::wire::NatsEncoder;
use std::sync::Arc;
use std::time::Duration;

/// Events and bytes of a batch.
const EVENTS_MAX: usize = 200;
const BYTES_MAX: usize = 512 * 1024;
/// Tries of a batch, and the pause after the first; it doubles each time.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);
const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// Where to, and what waits to be sent.
pub(super) struct Webhook {
    endpoint: Arc<Endpoint>,
    encoder: NatsEncoder,
    batch: Vec<u8>,
    events: usize,
}

impl Webhook {
    pub(super) fn new(place: &Place) -> Result<Self, Failure> {
        let endpoint = Endpoint::new(place.url.as_deref().unwrap_or_default(), place.token_file.as_deref())?;
        let encoder = NatsEncoder::replay(&place.id);
        Ok(Self { endpoint: Arc::new(endpoint), encoder, batch: Vec::new(), events: 0 })
    }

    pub(super) async fn take(&mut self, event: &Delivered) -> Result<(), Failure> {
        self.batch.push(if self.events == 0 { b'[' } else { b',' });
        self.batch.extend_from_slice(self.encoder.structured(event));
        self.events += 1;
        if self.events >= EVENTS_MAX || self.batch.len() >= BYTES_MAX { self.settle().await } else { Ok(()) }
    }

    pub(super) async fn settle(&mut self) -> Result<(), Failure> {
        if self.events == 0 {
            return Ok(());
        }
        self.events = 0;
        self.batch.push(b']');
        let body: Arc<[u8]> = std::mem::take(&mut self.batch).into();
        let mut pause = PAUSE;
        for tried in 1.. {
            let (endpoint, body) = (Arc::clone(&self.endpoint), Arc::clone(&body));
            let posted = tokio::task::spawn_blocking(move || endpoint.post(CONTENT_TYPE, &body)).await;
            let why = match posted.map_err(|error| Failure::new(INTERNAL, error.to_string()))? {
                Ok(200..=299) => return Ok(()),
                Ok(status @ (408 | 425 | 429 | 500..=599)) => format!("it answered {status}"),
                Ok(status) => return Err(self.failed(&format!("it answered {status}"))),
                Err(error) => error.to_string(),
            };
            if tried == TRIES {
                return Err(self.failed(&format!("{why}, {TRIES} times")));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(INTERNAL, format!("{}: {why}", self.endpoint))
    }
}
