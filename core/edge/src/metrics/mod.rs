//! Metrics: the engine's counts, copied about once a second, and what the journal thread measures itself.

mod catalogue;
mod collect;
mod process;

pub use catalogue::{METRICS, Metric, MetricKind};

use crate::status::{ComponentsHook, Shared};
use catalogue::{CALL_SETUP_SECONDS, JOURNAL_COMMIT_SECONDS};
use collect::{Scrape, ScrapeReaders};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use signalbox_base::Wall;
use std::sync::Arc;

/// Upper bounds of the commit buckets, seconds: an fsync takes 30 µs to 16 s, where the process stops.
const COMMIT_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.2, 1.0, 16.0];

/// Upper bounds of the setup buckets, seconds: from an automatic answer to a patient caller.
const SETUP_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 185.0];

/// What the journal thread measures; cloned into it.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) commit_seconds: Histogram,
    pub(crate) call_setup_seconds: Histogram,
}

/// Everything that is scraped.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    measured: Measured,
}

impl Metrics {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let measured = Measured {
            commit_seconds: Histogram::new(COMMIT_BUCKETS),
            call_setup_seconds: Histogram::new(SETUP_BUCKETS),
        };
        let mut registry = Registry::default();
        for (metric, histogram) in [
            (CALL_SETUP_SECONDS, &measured.call_setup_seconds),
            (JOURNAL_COMMIT_SECONDS, &measured.commit_seconds),
        ] {
            registry.register(metric.name, metric.help, histogram.clone());
        }
        registry.register_collector(Box::new(Scrape(shared)));
        Self { registry, measured }
    }

    pub(crate) fn measured(&self) -> Measured {
        self.measured.clone()
    }

    /// All metrics in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only when a collector does, and ours has nothing that fails.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// What a process without an edge is scraped for.
#[derive(Debug)]
pub(crate) struct ReaderMetrics(Registry);

impl ReaderMetrics {
    pub(crate) fn new(components: ComponentsHook, version: &str, started: Wall) -> Self {
        let mut registry = Registry::default();
        let version = version.to_owned();
        registry.register_collector(Box::new(ScrapeReaders { components, version, started }));
        Self(registry)
    }

    /// All of them in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only when a collector does, and ours has nothing that fails.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0);
        text
    }
}
