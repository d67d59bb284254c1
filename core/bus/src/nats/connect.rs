//! Connections: who we are, which server this is, and that what broke stays broken.
//!
//! The client library reconnects by itself and then sends what was queued meanwhile, later events before those that were
//! lost. Here a connection that has broken says so and waits until its runtime is dropped.

use super::{Config, Login};
use crate::publisher::{Failure, WINDOW_MAX};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, ServerError};
use signalbox_base::Text;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The oldest server that filters by several subjects and says what it was asked for.
const SERVER_MIN: (u64, u64) = (2, 10);
/// The largest event: a MiB of data and its envelope.
pub(super) const EVENT_MAX: usize = (1 << 20) + (64 << 10);
/// For a connection and for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A connection over which nothing comes is asked this often whether it is there.
const PING: Duration = Duration::from_secs(10);
/// Longer than a runtime lives after its connection broke.
const NEVER: Duration = Duration::from_secs(3600);

/// An open connection. When it breaks, [`Link::broken`] says why.
pub(super) struct Link {
    pub(super) client: Client,
    broken: watch::Receiver<Option<Failure>>,
    /// Subjects that we were not allowed to publish to.
    pub(super) refused: Option<mpsc::UnboundedReceiver<Text>>,
}

impl Clone for Link {
    /// The same connection; what is refused is told to the first only.
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), broken: self.broken.clone(), refused: None }
    }
}

impl Link {
    /// Connects.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let (breaks, broken) = watch::channel(None);
        let (refuses, refused) = mpsc::unbounded_channel();
        let breaks = Arc::new(breaks);
        let connected = Arc::new(AtomicBool::new(false));
        let was_connected = Arc::clone(&connected);
        let told = move |event: Event| {
            match event {
                Event::ServerError(ServerError::Other(text)) => match violation(&text) {
                    Some(subject) => drop(refuses.send(subject)),
                    None => broke(&breaks, Failure::Denied(text.as_str().into())),
                },
                Event::Disconnected | Event::Closed => {
                    broke(&breaks, Failure::Unreachable("the server closed the connection".into()));
                }
                Event::SlowConsumer(_) => {
                    broke(&breaks, Failure::Unreachable("messages came faster than they were taken".into()));
                }
                _ => {}
            }
            std::future::ready(())
        };
        let client = options(config)?
            .name(&config.client_name)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(PING)
            .ignore_discovered_servers()
            .subscription_capacity(2 * WINDOW_MAX)
            .client_capacity(2 * WINDOW_MAX)
            .reconnect_delay_callback(move |_| {
                if was_connected.load(Ordering::Relaxed) { NEVER } else { Duration::ZERO }
            })
            .event_callback(told)
            .connect(addresses(config)?)
            .await
            .map_err(|error| failed(&error))?;
        connected.store(true, Ordering::Relaxed);
        let link = Self { client, broken, refused: Some(refused) };
        link.check_version()?;
        Ok(link)
    }

    /// Returns when the connection has broken.
    pub(super) async fn broken(&self) -> Failure {
        let mut broken = self.broken.clone();
        let told = broken.wait_for(Option::is_some).await;
        let why = told.ok().and_then(|why| why.clone());
        why.unwrap_or_else(|| Failure::Unreachable("the connection has ended".into()))
    }

    /// The future's result, unless the connection breaks.
    pub(super) async fn or_broken<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            value = future => Ok(value),
            why = self.broken() => Err(why),
        }
    }

    fn check_version(&self) -> Result<(), Failure> {
        let version = self.client.server_info().version;
        let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let known = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if known < SERVER_MIN {
            let (major, minor) = SERVER_MIN;
            let found = format!(
                "the server is nats-server {version}, Signalbox needs {major}.{minor} or later: update the server"
            );
            return Err(Failure::Misfit(vec![found]));
        }
        Ok(())
    }

    /// What people should know of the server, though Signalbox can run with it.
    pub(super) fn notes(&self) -> Vec<String> {
        let max = self.client.server_info().max_payload;
        let small = || {
            format!(
                "the server takes messages up to {max} bytes, an event may have {EVENT_MAX}: set max_payload: 2MB in \
                 its configuration, or a very large event will block the relay until then"
            )
        };
        (max < EVENT_MAX).then(small).into_iter().collect()
    }
}

/// The first reason stays.
fn broke(breaks: &watch::Sender<Option<Failure>>, why: Failure) {
    breaks.send_if_modified(|known| {
        let first = known.is_none();
        if first {
            *known = Some(why);
        }
        first
    });
}

/// The subject of `Permissions Violation for Publish to "…"`, unless it is one that this program cannot work without.
fn violation(text: &str) -> Option<Text> {
    let rest = text.split_once("Permissions Violation for Publish to ")?.1;
    let subject = rest.trim_matches(|c: char| c == '"' || c == '\'' || c == '.');
    let subject = subject.split('"').next().unwrap_or_default();
    (!subject.starts_with('$')).then(|| subject.into())
}

fn options(config: &Config) -> Result<ConnectOptions, Failure> {
    let options = match &config.login {
        Login::None => ConnectOptions::new(),
        Login::Credentials(file) => {
            // The library wants the file as it is, to its last newline.
            let text = contents(file)? + "\n";
            ConnectOptions::with_credentials(&text)
                .map_err(|error| denied(format!("{} is no credentials file: {error}", file.display())))?
        }
        Login::Nkey(file) => ConnectOptions::with_nkey(secret(file)?),
        Login::Token(file) => ConnectOptions::with_token(secret(file)?),
        Login::User(user, file) => ConnectOptions::with_user_and_password(user.clone(), secret(file)?),
    };
    let options = match &config.ca_file {
        Some(file) => {
            readable(file)?;
            options.add_root_certificates(file.clone())
        }
        None => options,
    };
    Ok(match &config.certificate {
        Some((certificate, key)) => {
            readable(certificate)?;
            readable(key)?;
            options.add_client_certificate(certificate.clone(), key.clone())
        }
        None => options,
    })
}

fn addresses(config: &Config) -> Result<Vec<ServerAddr>, Failure> {
    let read = |url: &String| {
        let parsed: Result<ServerAddr, _> = url.parse();
        parsed
            .map_err(|error| Failure::Misfit(vec![format!("{url} is no address of a NATS server: {error}")]))
    };
    config.urls.iter().map(read).collect()
}

fn secret(file: &Path) -> Result<String, Failure> {
    Ok(contents(file)?.trim().to_owned())
}

fn contents(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| denied(format!("cannot read {}: {error}", file.display())))
}

fn readable(file: &Path) -> Result<(), Failure> {
    fs::File::open(file).map(drop).map_err(|error| denied(format!("cannot read {}: {error}", file.display())))
}

fn denied(why: String) -> Failure {
    Failure::Denied(why.into())
}

fn failed(error: &ConnectError) -> Failure {
    let text = error.to_string();
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => denied(text),
        // A certificate that is not trusted, or is missing, comes as an error of the stream.
        _ if text.to_lowercase().contains("certificate") => denied(text),
        _ => Failure::Unreachable(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_names_the_subject_that_was_refused() {
        let told = "Permissions Violation for Publish to \"signalbox.v1.call.ended.acme.edge-1\"";
        assert_eq!(violation(told).unwrap(), "signalbox.v1.call.ended.acme.edge-1");
        assert_eq!(violation("Permissions Violation for Publish to \"$JS.API.STREAM.INFO.X\""), None);
        assert_eq!(violation("Permissions Violation for Subscription to \"_INBOX.>\""), None);
        assert_eq!(violation("Stale Connection"), None);
    }
}
