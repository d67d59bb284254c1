//! TLS of the listeners, towards backends and between edges: loaded at the start and at each reload, and watched for its end.

use crate::config::StreamConfig;
use crate::handle::EdgeHandle;
use signalbox_base::{Text, Wall};
use signalbox_engine::remote::Update;
use signalbox_engine::tenancy::Directory;
use signalbox_engine::{Command, Settings};
use signalbox_io::{CertificateInfo, Clock, Streams, Tls, TlsError};
use signalbox_schemas::Event;
use signalbox_schemas::edge::EdgeCertificateExpiring;
use signalbox_schemas::values::Timestamp;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// Certificates that end soon are told of this often.
const TOLD_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What connections over TLS are made with.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    streams: Option<Streams>,
    /// By a backend's host, what its certificate must be good for.
    names: Mutex<HashMap<Text, Text>>,
    served: Mutex<(Vec<CertificateInfo>, Duration)>,
    changed: Notify,
}

impl Certificates {
    pub(crate) fn new(streams: Option<Streams>) -> Self {
        Self { streams, ..Self::default() }
    }

    /// Reads the files; `None` where nobody speaks TLS.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub(crate) fn load(config: &StreamConfig) -> Result<Option<Tls>, TlsError> {
        config.tls.as_ref().map(Tls::load).transpose()
    }

    /// New connections are made with these from now on.
    pub(crate) fn put(&self, tls: Option<Tls>, config: &StreamConfig, settings: &Settings) {
        let Some(streams) = &self.streams else { return };
        *lock(&self.names) = config.server_names.iter().cloned().collect();
        for backend in Directory::peers(settings).map(|(_, found)| found.backend) {
            if let Some(address) = backend.address.literal {
                self.resolved(&backend.address.host, address);
            }
        }
        if let Some(tls) = tls {
            *lock(&self.served) = (tls.certificates().to_vec(), config.warn_before);
            streams.set_tls(Arc::new(tls));
            self.changed.notify_one();
        }
    }

    /// Whether anybody speaks TLS.
    pub(crate) fn any(&self) -> bool {
        !lock(&self.served).0.is_empty()
    }

    /// A backend's host has this address.
    pub(crate) fn resolved(&self, host: &Text, address: SocketAddr) {
        if let Some(streams) = &self.streams {
            streams.set_name(address, lock(&self.names).get(host).unwrap_or(host));
        }
    }

    /// Other edges take requests where they say.
    pub(crate) fn peers(&self, updates: &[Update]) {
        let Some(streams) = &self.streams else { return };
        for update in updates {
            if let Update::Peer { edge, address: Some(address), .. } = update {
                streams.set_name(*address, edge);
            }
        }
    }

    fn expiring(&self, now: Wall) -> Vec<CertificateInfo> {
        let served = lock(&self.served);
        served.0.iter().filter(|one| one.not_after.since(now) < served.1).cloned().collect()
    }
}

/// Tells of certificates that end soon, as an event each day and in the log, while the edge lives.
pub(crate) fn watch(certificates: Arc<Certificates>, edge: EdgeHandle, clock: Clock, runtime: &Handle) {
    if certificates.streams.is_none() {
        return;
    }
    runtime.spawn(async move {
        loop {
            for one in certificates.expiring(clock.now().wall) {
                let (file, not_after) = (one.file.display(), Timestamp::from(one.not_after));
                tracing::warn!(%file, %not_after, "a certificate ends soon; renew it and run `signalbox reload`");
                let event = EdgeCertificateExpiring {
                    edge: edge.settings().identity.edge.clone(),
                    subject: Text::from(one.subject),
                    not_after,
                    listener: None,
                };
                if edge.command(Command::Note(Box::new(Event::from(event)))).await.is_err() {
                    return;
                }
            }
            let again = tokio::time::timeout(TOLD_EVERY, certificates.changed.notified());
            tokio::select! {
                _ = again => {}
                _ = edge.wait_end() => return,
            }
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
