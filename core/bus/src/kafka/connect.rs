//! Settings of a client, what it says while it works, and errors in words.

use super::{Config, Login, Mechanism};
use crate::publisher::Failure;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::statistics::Statistics;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Largest message that we write, and that topics must take: a record's data has at most 1 MiB, its envelope little.
pub(super) const MESSAGE_MAX: &str = "2097152";
/// How long one request may take.
pub(super) const REQUEST: Duration = Duration::from_secs(10);
/// How long a blocking look lasts, at most, before it is asked whether anybody still waits.
pub(super) const SLICE: Duration = Duration::from_millis(200);
/// Slices in [`REQUEST`].
pub(super) const SLICES: usize = 50;

/// Settings that every client has.
///
/// # Errors
/// A file cannot be read, or the settings contradict each other.
pub(super) fn settings(config: &Config) -> Result<ClientConfig, Failure> {
    let mut client = ClientConfig::new();
    let protocol = match (config.tls, &config.login) {
        (false, None) => "plaintext",
        (true, None) => "ssl",
        (false, Some(_)) => "sasl_plaintext",
        (true, Some(_)) => "sasl_ssl",
    };
    client
        .set("bootstrap.servers", config.bootstrap.join(","))
        .set("client.id", &config.client_id)
        .set("security.protocol", protocol)
        // A connection is never healed: long before the client would try again it has been dropped.
        .set("reconnect.backoff.ms", "10000")
        .set("reconnect.backoff.max.ms", "10000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.timeout.ms", "10000")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("log.connection.close", "false");
    if let Some(file) = &config.ca_file {
        client.set("ssl.ca.location", readable(file)?);
    }
    if let Some((certificate, key)) = &config.certificate {
        client.set("ssl.certificate.location", readable(certificate)?);
        client.set("ssl.key.location", readable(key)?);
    }
    if let Some(login) = &config.login {
        log_in(&mut client, login, config.tls)?;
    }
    Ok(client)
}

fn log_in(client: &mut ClientConfig, login: &Login, tls: bool) -> Result<(), Failure> {
    let mechanism = match login.mechanism {
        Mechanism::ScramSha256 => "SCRAM-SHA-256",
        Mechanism::ScramSha512 => "SCRAM-SHA-512",
        Mechanism::Plain if tls => "PLAIN",
        Mechanism::Plain => {
            let why = "the mechanism PLAIN shows the password to the network: use it with TLS, or use SCRAM";
            return Err(Failure::Misfit(vec![why.to_owned()]));
        }
    };
    let password = std::fs::read_to_string(&login.password_file)
        .map_err(|error| unreadable(&login.password_file, &error))?;
    client
        .set("sasl.mechanisms", mechanism)
        .set("sasl.username", &login.user)
        .set("sasl.password", password.trim_end_matches(['\r', '\n']));
    Ok(())
}

fn readable(file: &Path) -> Result<&str, Failure> {
    std::fs::File::open(file).map_err(|error| unreadable(file, &error))?;
    let name = || Failure::Misfit(vec![format!("{}: its name is not UTF-8", file.display())]);
    file.to_str().ok_or_else(name)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Misfit(vec![format!("{} cannot be read: {error}", file.display())])
}

/// Settings of a client that reads: it joins no group and commits nothing.
pub(super) fn reading(settings: &ClientConfig) -> ClientConfig {
    let mut client = settings.clone();
    let group = format!("signalbox-{}", client.get("client.id").unwrap_or_default());
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A place that is gone is told, never silently replaced by another.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("max.poll.interval.ms", "86400000")
        .set("fetch.wait.max.ms", "100")
        .set("queued.max.messages.kbytes", "8192")
        .set("check.crcs", "true");
    client
}

/// What a client hears: logs go on to tracing, the first trouble is kept.
#[derive(Default)]
pub(super) struct Ears {
    trouble: Mutex<Option<Failure>>,
    stats: Mutex<Option<Statistics>>,
}

impl Ears {
    /// The first sign that the connection is broken.
    pub(super) fn trouble(&self) -> Option<Failure> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes an error of the client as a whole; what breaks the connection is kept and returned.
    pub(super) fn hear(&self, error: &KafkaError, reason: &str) -> Option<Failure> {
        let failure = breaks(error, reason)?;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // "All brokers are down" comes before or after the reason why.
        let vague = matches!(&*trouble, Some(Failure::Unreachable(text)) if text.ends_with("are down"));
        if trouble.is_none() || vague {
            *trouble = Some(failure.clone());
        }
        Some(failure)
    }

    /// What the client counted last, once.
    pub(super) fn stats(&self) -> Option<Statistics> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Ears {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics);
    }
}

impl ConsumerContext for Ears {}

/// The client's own log. What concerns connections is told as an error, so it is not told twice.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        _ if facility == "FAIL" => tracing::debug!(facility, "{message}"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(facility, "{message}"),
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "{message}"),
    }
}

/// An error that ends a connection, in words; `None` for one that concerns a single request.
fn breaks(error: &KafkaError, reason: &str) -> Option<Failure> {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code()?;
    let why = if reason.is_empty() { error.to_string() } else { reason.to_owned() };
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => Some(Failure::Denied(why.into())),
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::Fatal
        | Code::OutOfOrderSequenceNumber
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced => Some(Failure::Unreachable(why.into())),
        _ => None,
    }
}

/// An error of one request, in words.
pub(super) fn failed(what: &str, error: &KafkaError) -> Failure {
    use RDKafkaErrorCode as Code;
    let why =
        format!("{what}: {}", error.rdkafka_error_code().map_or(error.to_string(), |code| code.to_string()));
    match error.rdkafka_error_code() {
        Some(
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::GroupAuthorizationFailed,
        ) => Failure::Denied(why.into()),
        _ => Failure::Unreachable(why.into()),
    }
}

/// A client that cannot even be made: its settings are wrong, or a file is no certificate.
pub(super) fn not_made(error: &KafkaError) -> Failure {
    Failure::Misfit(vec![format!("Kafka's client does not take its settings: {error}")])
}

/// Told when nobody waits any more for what a thread does.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to end.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets its [`Stop`] when it is dropped.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Does blocking work on a thread of its own, which no runtime waits for when it is dropped.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce(&Stop) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let stop = StopOnDrop(Stop::default());
    let seen = stop.0.clone();
    let spawned = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
        let _ = tell.send(work(&seen));
    });
    spawned.map_err(|error| Failure::Unreachable(format!("no thread: {error}").into()))?;
    told.await.unwrap_or_else(|_| Err(Failure::Unreachable("given up".into())))
}

/// What the cluster has, as soon as it is reached.
pub(super) fn metadata<C: ClientContext>(
    client: &Client<C>,
    trouble: impl Fn() -> Option<Failure>,
    stop: &Stop,
) -> Result<Metadata, Failure> {
    let mut last = Failure::Unreachable("it does not answer".into());
    for _ in 0..SLICES {
        match client.fetch_metadata(None, SLICE) {
            Ok(metadata) if !metadata.brokers().is_empty() => return Ok(metadata),
            Ok(_) => {}
            Err(error) => {
                if let Failure::Denied(why) = failed("its topics", &error) {
                    last = Failure::Denied(why);
                }
            }
        }
        if let Some(failure) = trouble() {
            return Err(failure);
        }
        if stop.is_set() {
            break;
        }
    }
    Err(last)
}

/// The same by a reading client, which hears of trouble only when it is asked.
pub(super) fn metadata_read(consumer: &BaseConsumer<Ears>, stop: &Stop) -> Result<Metadata, Failure> {
    let trouble = || {
        while consumer.poll(Duration::ZERO).is_some() {}
        consumer.context().trouble()
    };
    metadata(consumer.client(), trouble, stop)
}

/// A client that reads, connected.
pub(super) fn reader(
    settings: &ClientConfig,
    stop: &Stop,
) -> Result<(BaseConsumer<Ears>, Metadata), Failure> {
    let consumer: BaseConsumer<Ears> =
        reading(settings).create_with_context(Ears::default()).map_err(|error| not_made(&error))?;
    let metadata = metadata_read(&consumer, stop)?;
    Ok((consumer, metadata))
}
