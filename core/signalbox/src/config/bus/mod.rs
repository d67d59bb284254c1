//! `[bus]`: its keys and defaults, and what the relay and the readers are told.

mod check;

pub(super) use check::check;

use super::model::File;
use super::value::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_bus::nats;
use signalbox_bus::publisher::Broker;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[bus]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// `journal`: projections and subscribers read the journal itself. `nats`, `kafka`: it is relayed there, and they read
    /// from there.
    pub kind: BusKind,
    /// NATS: `nats://host:port` or `tls://host:port`; Kafka: `host:port`. Several by comma. Default: this machine, the usual port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Make and update streams or topics; false: only check them and say what is wrong.
    pub manage: bool,
    /// Kafka: TLS to the brokers. For NATS write `tls://` in `url`.
    pub tls: Switch,
    /// PEM of the authorities that sign the broker's certificate. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM of our certificate, where the broker asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// PEM of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Events on their way to the broker at a time.
    pub window: u16,
    /// How often what the broker acknowledged is read back; `"0s"` switches it off.
    pub audit_interval: Span,
    /// How long the bus keeps events, by group of domains; `"0s"`: for ever.
    pub max_age: MaxAge,
    /// NATS only.
    pub nats: Nats,
    /// Kafka only.
    pub kafka: Kafka,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            kind: BusKind::Journal,
            url: None,
            manage: true,
            tls: Switch::Off,
            ca_file: None,
            cert_file: None,
            key_file: None,
            window: 2048,
            audit_interval: Span(Duration::from_secs(30)),
            max_age: MaxAge::default(),
            nats: Nats::default(),
            kafka: Kafka::default(),
        }
    }
}

/// Which bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// The journal itself.
    #[default]
    Journal,
    /// NATS JetStream, 2.10 or later.
    Nats,
    /// Apache Kafka.
    Kafka,
}

impl BusKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Nats => "nats",
            Self::Kafka => "kafka",
        }
    }

    /// Cursor of the relay to it; none where nothing is relayed.
    pub const fn sink(self) -> Option<&'static str> {
        match self {
            Self::Journal => None,
            Self::Nats => Some("relay-nats"),
            Self::Kafka => Some("relay-kafka"),
        }
    }
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Off.
    #[default]
    Off,
    /// On.
    On,
}

/// `bus.max_age`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaxAge {
    /// Calls, media, recordings, messages.
    pub call: Span,
    /// Registrations and subscriptions.
    pub registration: Span,
    /// Security.
    pub security: Span,
    /// Everything else.
    pub operations: Span,
}

impl Default for MaxAge {
    fn default() -> Self {
        let d = nats::MaxAge::default();
        Self {
            call: Span(d.call),
            registration: Span(d.registration),
            security: Span(d.security),
            operations: Span(d.operations),
        }
    }
}

/// `[bus.nats]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// A `.creds` file: user JWT and its seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// File that holds an nkey seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey_file: Option<PathBuf>,
    /// File that holds a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// User name, with `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File that holds the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Copies of each stream, 1 to 5. One copy survives no lost disk of the server.
    pub replicas: u8,
    /// Bytes a stream may hold; a full one refuses, and the journal spools.
    pub max_bytes: Size,
    /// How long the server knows message ids again.
    pub duplicate_window: Span,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            credentials_file: None,
            nkey_file: None,
            token_file: None,
            user: None,
            password_file: None,
            replicas: 1,
            max_bytes: Size::Bytes(20 << 30),
            duplicate_window: Span(Duration::from_secs(120)),
        }
    }
}

/// `[bus.kafka]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// SASL user name, with `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File that holds the user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// Copies of each partition.
    pub replicas: u16,
    /// Copies that must have an event before it is acknowledged.
    pub min_insync: u16,
    /// Partitions of each topic. Fixed once made: another count would break the order by key.
    pub partitions: u16,
    /// Whether tenants share topics or each has its own.
    pub topics: Topics,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            user: None,
            password_file: None,
            mechanism: Mechanism::ScramSha512,
            replicas: 1,
            min_insync: 1,
            partitions: 6,
            topics: Topics::Shared,
        }
    }
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Mechanism {
    /// RFC 7677, with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 4616: the password itself, so only with TLS.
    #[serde(rename = "PLAIN")]
    Plain,
}

/// Who reads a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topics {
    /// All tenants' events in one topic a domain, for the operator.
    Shared,
    /// A topic for each tenant and domain, so that a tenant may be let read its own.
    PerTenant,
}

impl Bus {
    /// The addresses, the default one included.
    pub fn urls(&self) -> Vec<String> {
        let default = match self.kind {
            BusKind::Journal => return Vec::new(),
            BusKind::Nats => "nats://127.0.0.1:4222",
            BusKind::Kafka => "127.0.0.1:9092",
        };
        self.url.as_deref().unwrap_or(default).split(',').map(|url| url.trim().to_owned()).collect()
    }

    /// One line for people: `journal (embedded)`, `nats nats://127.0.0.1:4222`.
    pub fn describe(&self) -> String {
        match self.kind {
            BusKind::Journal => "journal (embedded)".to_owned(),
            kind => format!("{} {}", kind.as_str(), self.urls().join(",")),
        }
    }

    /// To publish to, as `edge` or `store`; none with the journal alone. `client` is its name on the server.
    pub fn broker(&self, client: String, edge: &str) -> Option<Arc<dyn Broker>> {
        match self.kind {
            BusKind::Journal => None,
            BusKind::Nats => Some(Arc::new(nats::NatsBroker::new(self.nats(client)))),
            #[cfg(feature = "kafka")]
            BusKind::Kafka => {
                Some(Arc::new(signalbox_bus::kafka::KafkaBroker::new(self.kafka(client), edge)))
            }
            // Refused by the check of the configuration.
            #[cfg(not(feature = "kafka"))]
            BusKind::Kafka => {
                let _ = edge;
                None
            }
        }
    }

    /// What a connection to NATS is made with; `client` is its name on the server.
    pub fn nats(&self, client: String) -> nats::Config {
        let n = &self.nats;
        let login = match (&n.credentials_file, &n.nkey_file, &n.token_file, &n.user, &n.password_file) {
            (Some(file), ..) => nats::Login::Credentials(file.clone()),
            (_, Some(file), ..) => nats::Login::Nkey(file.clone()),
            (_, _, Some(file), ..) => nats::Login::Token(file.clone()),
            (.., Some(user), Some(file)) => nats::Login::User(user.clone(), file.clone()),
            _ => nats::Login::None,
        };
        let max_bytes = match n.max_bytes {
            Size::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
            // Refused by the check: a server's disk is not ours to measure.
            Size::Percent(_) => -1,
        };
        nats::Config {
            urls: self.urls(),
            client_name: client,
            ca_file: self.ca_file.clone(),
            certificate: self.certificate(),
            login,
            manage: self.manage,
            replicas: usize::from(n.replicas),
            max_bytes,
            duplicate_window: n.duplicate_window.0,
            max_age: self.ages(),
        }
    }

    /// What a connection to Kafka is made with; `client` is its name in quotas and logs.
    #[cfg(feature = "kafka")]
    pub fn kafka(&self, client: String) -> signalbox_bus::kafka::Config {
        use signalbox_bus::kafka;
        let k = &self.kafka;
        let mechanism = match k.mechanism {
            Mechanism::ScramSha512 => kafka::Mechanism::ScramSha512,
            Mechanism::ScramSha256 => kafka::Mechanism::ScramSha256,
            Mechanism::Plain => kafka::Mechanism::Plain,
        };
        let login = k.user.clone().zip(k.password_file.clone());
        kafka::Config {
            bootstrap: self.urls(),
            client_id: client,
            tls: self.tls == Switch::On,
            ca_file: self.ca_file.clone(),
            certificate: self.certificate(),
            login: login.map(|(user, password_file)| kafka::Login { mechanism, user, password_file }),
            manage: self.manage,
            replicas: i32::from(k.replicas),
            min_insync: i32::from(k.min_insync),
            partitions: i32::from(k.partitions),
            per_tenant: k.topics == Topics::PerTenant,
            max_age: self.ages(),
        }
    }

    fn certificate(&self) -> Option<(PathBuf, PathBuf)> {
        self.cert_file.clone().zip(self.key_file.clone())
    }

    fn ages(&self) -> nats::MaxAge {
        let MaxAge { call, registration, security, operations } = &self.max_age;
        nats::MaxAge {
            call: call.0,
            registration: registration.0,
            security: security.0,
            operations: operations.0,
        }
    }

    /// Every file that holds something secret or is read at each connection.
    fn files(&self) -> [(&'static str, &Option<PathBuf>); 8] {
        [
            ("bus.ca_file", &self.ca_file),
            ("bus.cert_file", &self.cert_file),
            ("bus.key_file", &self.key_file),
            ("bus.nats.credentials_file", &self.nats.credentials_file),
            ("bus.nats.nkey_file", &self.nats.nkey_file),
            ("bus.nats.token_file", &self.nats.token_file),
            ("bus.nats.password_file", &self.nats.password_file),
            ("bus.kafka.password_file", &self.kafka.password_file),
        ]
    }
}

/// Leaves out of the effective configuration what the kind of bus does not look at, and fills in its address.
pub(super) fn effective(bus: &mut serde_json::Value, file: &File) {
    let Some(keys) = bus.as_object_mut() else { return };
    match file.bus.kind {
        BusKind::Journal => keys.retain(|key, _| key == "kind"),
        BusKind::Nats => keys.retain(|key, _| key != "kafka" && key != "tls"),
        BusKind::Kafka => keys.retain(|key, _| key != "nats"),
    }
    if file.bus.kind != BusKind::Journal {
        keys.insert("url".to_owned(), file.bus.urls().join(",").into());
    }
}
