//! Signs of life of edges: told to whoever listens just then, stored by nobody.

use super::Config;
use super::connect::Link;
use crate::publisher::Failure;
use crate::wire::{heartbeat_subject, token};
use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;

/// A connection for heartbeats. When it breaks it is dropped and another is made.
pub struct Heartbeats {
    link: Link,
    cluster: String,
}

/// Heartbeats of the cluster's edges as they come.
pub struct Heard {
    link: Link,
    messages: Subscriber,
}

impl Heartbeats {
    /// Connects.
    ///
    /// # Errors
    /// The server is not reached, or refuses us.
    pub async fn connect(config: &Config, cluster: &str) -> Result<Self, Failure> {
        Ok(Self { link: Link::open(config).await?, cluster: cluster.to_owned() })
    }

    /// Tells that `edge` lives; `body` is JSON and is bounded by the server's `max_payload`. Nobody confirms it.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn beat(&self, edge: &str, body: &[u8]) -> Result<(), Failure> {
        let client = &self.link.client;
        let subject = heartbeat_subject(&self.cluster, edge);
        let sent = async {
            client.publish(subject, Bytes::copy_from_slice(body)).await.map_err(|error| lost(&error))?;
            client.flush().await.map_err(|error| lost(&error))
        };
        self.link.or_broken(sent).await?
    }

    /// Listens to all edges of the cluster. What was told before is gone.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn listen(&self) -> Result<Heard, Failure> {
        let subject = format!("signalbox.heartbeat.v1.{}.*", token(&self.cluster));
        let messages = self.link.client.subscribe(subject).await.map_err(|error| lost(&error))?;
        let flushed = self.link.or_broken(self.link.client.flush()).await?;
        flushed.map_err(|error| lost(&error))?;
        Ok(Heard { link: self.link.clone(), messages })
    }
}

impl Heard {
    /// The next heartbeat: which edge, and what it said. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn next(&mut self) -> Result<(String, Bytes), Failure> {
        loop {
            let message = self.link.or_broken(self.messages.next()).await?;
            let message = message.ok_or_else(|| Failure::Unreachable("the connection has ended".into()))?;
            let edge = message.subject.rsplit('.').next().and_then(crate::wire::untoken);
            if let Some(edge) = edge {
                return Ok((edge.into_owned(), message.payload));
            }
        }
    }
}

fn lost(error: &dyn std::fmt::Display) -> Failure {
    Failure::Unreachable(error.to_string().into())
}
