//! Names of peers for the engine: its questions are answered by [`Dns`] without holding up its thread.
//!
//! What cannot be found leaves what the engine knows; that is told once, and again when it is found.

use crate::certificates::Certificates;
use crate::dns::{Dns, Found};
use crate::status::Shared;
use crate::turn::{Mailbox, Told};
use signalbox_base::Text;
use signalbox_engine::{QueryId, Question};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Questions under way at a time; more wait their turn.
const QUESTIONS_MAX: usize = 32;
/// A name that no server answers for is asked for again after this.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Asks name servers for the engine. Clones share everything.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    runtime: Handle,
    mailbox: Mailbox,
    places: Arc<Semaphore>,
    certificates: Arc<Certificates>,
    figures: Arc<DnsFigures>,
    /// Who is asked; the reason where nobody can be.
    dns: Mutex<Result<Dns, String>>,
}

/// Lookups since start.
#[derive(Debug, Default)]
pub(crate) struct DnsFigures {
    answered: AtomicU64,
    empty: AtomicU64,
    failed: AtomicU64,
    /// Hosts whose last lookup found nothing.
    unknown: Mutex<HashSet<Text>>,
}

impl DnsFigures {
    /// By outcome.
    pub(crate) fn lookups(&self) -> [(&'static str, u64); 3] {
        [("found", &self.answered), ("empty", &self.empty), ("failed", &self.failed)]
            .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
    }

    /// How many names do not resolve now.
    pub(crate) fn unknown(&self) -> usize {
        lock(&self.unknown).len()
    }

    fn note(&self, host: &Text, found: &Result<Found, String>) {
        let (count, why) = match found {
            Ok(found) if found.targets.is_empty() => (&self.empty, Some("it has no address")),
            Ok(_) => (&self.answered, None),
            Err(cause) => (&self.failed, Some(cause.as_str())),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let mut unknown = lock(&self.unknown);
        match why {
            Some(why) if unknown.insert(host.clone()) => {
                tracing::warn!(%host, why, "the name does not resolve; what was known of it stays in use");
            }
            None if unknown.remove(host) => tracing::info!(%host, "the name resolves again"),
            _ => {}
        }
    }
}

impl Resolver {
    /// `servers` as in [`Dns::new`].
    pub(crate) fn new(
        runtime: &Handle,
        mailbox: &Mailbox,
        certificates: &Arc<Certificates>,
        shared: &Shared,
        servers: &[SocketAddr],
    ) -> Self {
        Self(Arc::new(Inner {
            runtime: runtime.clone(),
            mailbox: mailbox.clone(),
            places: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            certificates: Arc::clone(certificates),
            figures: Arc::clone(&shared.dns),
            dns: Mutex::new(Dns::new(servers)),
        }))
    }

    /// After a reload: other servers perhaps, and nothing that was remembered.
    pub(crate) fn configure(&self, servers: &[SocketAddr]) {
        *lock(&self.0.dns) = Dns::new(servers);
        // What is configured no more is unknown no more; the rest is asked for again at once.
        lock(&self.0.figures.unknown).clear();
    }

    /// The answer comes by the mailbox.
    pub(crate) fn ask(&self, query: QueryId, question: Question) {
        let it = Arc::clone(&self.0);
        self.0.runtime.spawn(async move {
            // The semaphore is never closed; without a place the question would only be asked at once.
            let _place = it.places.acquire().await;
            let dns = lock(&it.dns).clone();
            let found = match dns {
                Ok(dns) => dns.find(&question).await,
                Err(cause) => Err(cause),
            };
            it.figures.note(&question.host, &found);
            let Found { targets, holds_for } =
                found.unwrap_or_else(|_| Found { targets: Vec::new(), holds_for: RETRY_AFTER });
            for target in &targets {
                // RFC 5922 §4: a certificate is good for the name that is configured, not for where its records lead.
                it.certificates.resolved(&question.host, target.address);
            }
            it.mailbox.tell(Told::Resolved(query, targets, holds_for));
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
