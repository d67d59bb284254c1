//! Apache Kafka by librdkafka: a topic a domain, events as binary CloudEvents, latest state in compacted topics.

mod begin;
mod broker;
mod connect;
mod feed;
mod floors;
mod heartbeat;
mod hint;
#[cfg(test)]
mod mock;
mod own;
mod publish;
mod read;
mod topics;

pub use broker::KafkaBroker;
pub use heartbeat::{Heartbeat, Heartbeats, heartbeats};
pub use read::KafkaBus;

use crate::nats::MaxAge;
use std::path::PathBuf;

/// How to reach Kafka and what its topics should be like.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port` of brokers to begin with.
    pub bootstrap: Vec<String>,
    /// What we are called in the broker's log and quotas.
    pub client_id: String,
    /// TLS to the brokers.
    pub tls: bool,
    /// PEM of the authorities that sign the brokers' certificates; the system's when `None`.
    pub ca_file: Option<PathBuf>,
    /// PEM of our certificate and its key, where brokers ask for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// SASL: who we are.
    pub login: Option<Login>,
    /// Make and update topics; else only check them.
    pub manage: bool,
    /// Copies of each partition.
    pub replicas: i32,
    /// Copies that must have an event before it is acknowledged.
    pub min_insync: i32,
    /// Partitions of each topic; fixed once made.
    pub partitions: i32,
    /// A tenant's events in topics of its own.
    pub per_tenant: bool,
    /// How long events are kept, by group of domains.
    pub max_age: MaxAge,
}

/// A SASL login. The password is read from its file at each connection.
#[derive(Clone, Debug)]
pub struct Login {
    /// SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN.
    pub mechanism: Mechanism,
    /// User name.
    pub user: String,
    /// File that holds the password.
    pub password_file: PathBuf,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 7677.
    ScramSha256,
    /// As RFC 7677, with SHA-512.
    ScramSha512,
    /// RFC 4616; only with TLS.
    Plain,
}
