//! Host names to addresses, for peers that the configuration names.
//!
//! A and AAAA by the system's resolver, in its order of preference; every answer is asked for again when the engine
//! asks again, nothing is cached here.

use crate::certificates::Certificates;
use crate::turn::{Mailbox, Told};
use signalbox_base::{Text, canonical};
use signalbox_engine::{QueryId, ResolvedTarget};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Questions under way at a time; more wait their turn.
const QUESTIONS_MAX: usize = 32;
/// A name that takes longer does not resolve.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Addresses taken of one name.
const TARGETS_MAX: usize = 16;

/// Asks the system's resolver without holding up the engine thread.
#[derive(Clone)]
pub(crate) struct Resolver {
    runtime: Handle,
    mailbox: Mailbox,
    places: Arc<Semaphore>,
    certificates: Arc<Certificates>,
}

impl Resolver {
    pub(crate) fn new(runtime: Handle, mailbox: Mailbox, certificates: Arc<Certificates>) -> Self {
        Self { runtime, mailbox, places: Arc::new(Semaphore::new(QUESTIONS_MAX)), certificates }
    }

    /// The answer comes by the mailbox; no target means that the name does not resolve now.
    pub(crate) fn ask(&self, query: QueryId, host: Text, port: u16) {
        let (mailbox, places) = (self.mailbox.clone(), Arc::clone(&self.places));
        let certificates = Arc::clone(&self.certificates);
        self.runtime.spawn(async move {
            // The semaphore is never closed; without a place the question would only be asked at once.
            let _place = places.acquire().await;
            let looked_up =
                tokio::time::timeout(ANSWER_WITHIN, tokio::net::lookup_host((host.as_str(), port))).await;
            let targets: Vec<ResolvedTarget> = match looked_up {
                Ok(Ok(addresses)) => addresses
                    .take(TARGETS_MAX)
                    .map(|address| ResolvedTarget { address: canonical(address) })
                    .collect(),
                Ok(Err(cause)) => {
                    tracing::warn!(%host, %cause, "the name does not resolve");
                    Vec::new()
                }
                Err(_) => {
                    tracing::warn!(%host, "the resolver did not answer within 5 s");
                    Vec::new()
                }
            };
            for target in &targets {
                certificates.resolved(&host, target.address);
            }
            mailbox.tell(Told::Resolved(query, targets));
        });
    }
}
