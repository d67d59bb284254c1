//! NATS JetStream: streams by group of domains, events as structured CloudEvents.

mod api;
mod broker;
mod connect;
mod feed;
mod heartbeat;
mod hint;
mod own;
mod publish;
mod read;
mod rights;
mod streams;

pub use broker::NatsBroker;
pub use heartbeat::{Heard, Heartbeats};
pub use read::NatsBus;

use std::path::PathBuf;
use std::time::Duration;

/// How to reach a NATS server and what its streams should be like.
#[derive(Clone, Debug)]
pub struct Config {
    /// `nats://host:port` or `tls://host:port`, one or several.
    pub urls: Vec<String>,
    /// What the connection is called on the server.
    pub client_name: String,
    /// PEM of the authorities that sign the server's certificate; the system's when `None`.
    pub ca_file: Option<PathBuf>,
    /// PEM of our certificate and its key, where the server asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who we are.
    pub login: Login,
    /// Make and update streams; else only check them.
    pub manage: bool,
    /// Copies of each stream, 1 to 5.
    pub replicas: usize,
    /// Bytes a stream may hold; a full one refuses, and the journal spools.
    pub max_bytes: i64,
    /// How long the server knows message ids again.
    pub duplicate_window: Duration,
    /// How long events of a stream are kept: calls, registrations, security, operations.
    pub max_age: MaxAge,
}

/// Who we are to the server. Secrets are read from their files at each connection.
#[derive(Clone, Debug, Default)]
pub enum Login {
    /// No login.
    #[default]
    None,
    /// A `.creds` file: user JWT and its seed.
    Credentials(PathBuf),
    /// An nkey seed.
    Nkey(PathBuf),
    /// A token.
    Token(PathBuf),
    /// User and password.
    User(String, PathBuf),
}

/// How long events are kept on the bus, by group of domains; zero: for ever.
#[derive(Clone, Copy, Debug)]
pub struct MaxAge {
    /// Calls, media, recordings, messages.
    pub call: Duration,
    /// Registrations and subscriptions.
    pub registration: Duration,
    /// Security.
    pub security: Duration,
    /// Everything else.
    pub operations: Duration,
}

impl Default for MaxAge {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self { call: days(400), registration: days(30), security: days(90), operations: days(400) }
    }
}
