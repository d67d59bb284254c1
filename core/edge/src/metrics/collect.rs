//! From the last published figures to metrics, at each scrape.

use super::catalogue::{
    BACKEND_REGISTERED, BACKEND_UP, BUILD_INFO, CALLS_ACTIVE, CALLS_ANSWERED, CALLS_ATTEMPTED, CALLS_FAILED,
    CONFIG_REVISION, DNS_LOOKUPS, DNS_UNKNOWN, EDGE_DRAINING, JOURNAL_RECORDS, JOURNAL_SEQUENCE,
    JOURNAL_STALLED, LAG_EVENTS, LAG_SECONDS, Metric, MetricKind, PEER_BINDINGS, PEER_SILENT, PEER_UP,
    PROCESS_CPU, PROCESS_FDS, PROCESS_RESIDENT, PROCESS_START, REBUILDING, REGISTRATION_SECONDS,
    REGISTRATIONS, RELAY_ACKED, RELAY_PUBLISHED, RELAY_REWINDS, RELAY_STATE, SECURITY_EVENTS,
    SIP_CONNECTIONS, SIP_CONNECTIONS_ACCEPTED, SIP_CONNECTIONS_CLOSED, SIP_CONNECTIONS_REFUSED, SIP_REQUESTS,
    SIP_RESPONSES, SIP_RESPONSES_RECEIVED, SIP_RETRANSMISSIONS, SIP_TRANSACTIONS, STANDBY, UDP_FAILED,
    UDP_RECEIVED, UDP_SENT,
};
use super::process;
use crate::resolver::DnsFigures;
use crate::status::{Component, ComponentsHook, EdgeFigure, Figures, Phase, Shared};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use signalbox_base::Wall;
use signalbox_engine::contract::{METHODS, RULES, SPAN_BOUNDS_MS, Spans};
use signalbox_io::{StreamEnd, StreamFigures};
use std::fmt;
use std::sync::Arc;

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

#[derive(Debug)]
pub(super) struct Scrape(pub(super) Arc<Shared>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = self.0.figures();
        let mut out = Out(encoder);
        sip(&mut out, &figures)?;
        calls(&mut out, &figures)?;
        transport_and_journal(&mut out, &figures, self.0.streams())?;
        names(&mut out, &self.0.dns)?;
        readers(&mut out, &self.0.reported())?;
        out.one(EDGE_DRAINING, f64::from(u8::from(figures.phase == Phase::Draining)))?;
        out.one(CONFIG_REVISION, figures.config_revision as f64)?;
        process_figures(&mut out, &figures.version, figures.started)
    }
}

/// A process without an edge.
pub(super) struct ScrapeReaders {
    pub(super) components: ComponentsHook,
    pub(super) version: String,
    pub(super) started: Wall,
}

impl fmt::Debug for ScrapeReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScrapeReaders").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Collector for ScrapeReaders {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        readers(&mut out, &(self.components)())?;
        process_figures(&mut out, &self.version, self.started)
    }
}

/// Who reads the journal or the bus, and how far each is behind.
fn readers(out: &mut Out<'_>, components: &[Component]) -> fmt::Result {
    let all = |of: fn(&Component) -> Option<f64>| {
        components.iter().filter_map(move |c| Some(([c.name.clone()], of(c)?)))
    };
    out.rows(LAG_SECONDS, all(|c| c.lag_seconds))?;
    out.rows(LAG_EVENTS, all(|c| c.lag_events.map(|events| events as f64)))?;
    let states = components.iter().filter_map(|c| Some(([c.name.clone(), c.relay?.state.to_owned()], 1.0)));
    out.rows(RELAY_STATE, states)?;
    out.rows(STANDBY, all(|c| c.standby.map(|is| f64::from(u8::from(is)))))?;
    out.rows(REBUILDING, all(|c| c.rebuilding.map(|is| f64::from(u8::from(is)))))?;
    out.rows(RELAY_PUBLISHED, all(|c| c.relay.map(|relay| relay.published as f64)))?;
    out.rows(RELAY_ACKED, all(|c| c.relay.map(|relay| relay.acked as f64)))?;
    out.rows(RELAY_REWINDS, all(|c| c.relay.map(|relay| relay.rewinds as f64)))?;
    peers(out, components)
}

/// The other edges.
fn peers(out: &mut Out<'_>, components: &[Component]) -> fmt::Result {
    let all = |of: fn(&EdgeFigure) -> Option<f64>| {
        let edges = components.iter().filter_map(|component| component.edge.as_ref());
        edges.filter_map(move |edge| Some(([edge.name.to_string()], of(edge)?)))
    };
    out.rows(PEER_UP, all(|edge| Some(f64::from(u8::from(edge.state == "alive")))))?;
    out.rows(PEER_SILENT, all(|edge| edge.heard_seconds))?;
    out.rows(PEER_BINDINGS, all(|edge| Some(edge.bindings as f64)))
}

fn sip(out: &mut Out<'_>, figures: &Figures) -> fmt::Result {
    let counters = &figures.counters;
    let networks = figures.networks.iter().map(ToString::to_string);
    let requests = counters.requests.iter().zip(networks).flat_map(|(methods, network)| {
        let rows: Vec<_> = METHODS
            .iter()
            .zip(methods)
            .filter(|(_, count)| **count > 0)
            .map(|(method, count)| ([(*method).to_owned(), network.clone()], *count as f64))
            .collect();
        rows
    });
    out.rows(SIP_REQUESTS, requests)?;
    for (metric, counts) in
        [(SIP_RESPONSES, &counters.responses_sent), (SIP_RESPONSES_RECEIVED, &counters.responses_received)]
    {
        out.rows(metric, CLASSES.iter().zip(counts).map(|(class, n)| ([(*class).to_owned()], *n as f64)))?;
    }
    out.one(SIP_RETRANSMISSIONS, counters.retransmissions as f64)?;
    out.one(SIP_TRANSACTIONS, counters.transactions as f64)?;
    let rules = RULES.iter().zip(&counters.rejected);
    out.rows(SECURITY_EVENTS, rules.map(|(rule, n)| ([(*rule).to_owned()], *n as f64)))
}

fn calls(out: &mut Out<'_>, figures: &Figures) -> fmt::Result {
    let counters = &figures.counters;
    for (metric, counts) in [(REGISTRATIONS, &counters.registrations), (CALLS_ACTIVE, &counters.calls)] {
        let tenants = figures.tenants.iter().zip(counts);
        out.rows(metric, tenants.map(|(tenant, n)| ([tenant.to_string()], *n as f64)))?;
    }
    out.spans(REGISTRATION_SECONDS, &counters.registration)?;
    out.one(CALLS_ATTEMPTED, counters.calls_attempted as f64)?;
    out.one(CALLS_ANSWERED, counters.calls_answered as f64)?;
    out.one(CALLS_FAILED, counters.calls_failed as f64)?;
    let backends = figures.backends.iter();
    out.rows(
        BACKEND_UP,
        backends.map(|b| ([b.tenant.to_string(), b.name.to_string()], f64::from(u8::from(b.takes_traffic)))),
    )?;
    let registered = figures.backends.iter().filter_map(|b| Some((b, b.registration.as_ref()?)));
    out.rows(
        BACKEND_REGISTERED,
        registered.map(|(b, state)| {
            ([b.tenant.to_string(), b.name.to_string()], f64::from(u8::from(**state == *"registered")))
        }),
    )
}

fn names(out: &mut Out<'_>, dns: &DnsFigures) -> fmt::Result {
    out.rows(DNS_LOOKUPS, dns.lookups().map(|(outcome, count)| ([outcome.to_owned()], count as f64)))?;
    out.one(DNS_UNKNOWN, dns.unknown() as f64)
}

fn transport_and_journal(out: &mut Out<'_>, figures: &Figures, streams: StreamFigures) -> fmt::Result {
    out.one(UDP_RECEIVED, figures.traffic.received as f64)?;
    out.one(UDP_SENT, figures.traffic.sent as f64)?;
    out.one(UDP_FAILED, figures.traffic.failed as f64)?;
    let names = ["tcp", "tls", "ws", "wss"].into_iter().zip(streams.open);
    out.rows(SIP_CONNECTIONS, names.map(|(name, open)| ([name.to_owned()], open as f64)))?;
    out.one(SIP_CONNECTIONS_ACCEPTED, streams.accepted as f64)?;
    out.one(SIP_CONNECTIONS_REFUSED, streams.refused as f64)?;
    let reasons = StreamEnd::ALL.iter().zip(streams.closed);
    out.rows(SIP_CONNECTIONS_CLOSED, reasons.map(|(end, n)| ([end.as_str().to_owned()], n as f64)))?;
    out.one(JOURNAL_SEQUENCE, figures.durable.0 as f64)?;
    out.one(JOURNAL_RECORDS, figures.records as f64)?;
    out.one(JOURNAL_STALLED, f64::from(u8::from(figures.stalled)))
}

fn process_figures(out: &mut Out<'_>, version: &str, started: Wall) -> fmt::Result {
    out.rows(BUILD_INFO, [([version.to_owned()], 1.0)])?;
    let usage = process::usage();
    out.one(PROCESS_CPU, usage.cpu_seconds)?;
    out.one(PROCESS_RESIDENT, usage.resident_bytes as f64)?;
    out.one(PROCESS_FDS, usage.open_fds as f64)?;
    out.one(PROCESS_START, started.0 as f64 / 1e6)
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn one(&mut self, metric: Metric, value: f64) -> fmt::Result {
        self.rows::<0>(metric, [([], value)])
    }

    fn spans(&mut self, metric: Metric, spans: &Spans) -> fmt::Result {
        let bounds = SPAN_BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(spans.buckets).collect();
        let mut encoder = self.0.encode_descriptor(metric.name, metric.help, None, MetricType::Histogram)?;
        encoder.encode_histogram::<[(&str, &str); 0]>(spans.sum_us as f64 / 1e6, spans.count, &buckets, None)
    }

    fn rows<const N: usize>(
        &mut self,
        metric: Metric,
        rows: impl IntoIterator<Item = ([String; N], f64)>,
    ) -> fmt::Result {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let counter = metric.kind == MetricKind::Counter;
        let (kind, name) = match metric.name.strip_suffix("_total") {
            Some(base) if counter => (MetricType::Counter, base),
            _ => (MetricType::Gauge, metric.name),
        };
        let mut encoder = self.0.encode_descriptor(name, metric.help, None, kind)?;
        for (values, value) in rows {
            let labels: Vec<(&str, &String)> = metric.labels.iter().copied().zip(&values).collect();
            let mut row = encoder.encode_family(&labels)?;
            if counter {
                row.encode_counter::<[(&str, &str); 0], f64, f64>(&value, None)?;
            } else {
                row.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
