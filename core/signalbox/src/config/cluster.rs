//! `[cluster]`: the other edges.

use super::model::{BusKind, File, Served};
use super::span::{Problem, Sources};
use super::value::{Span, split_host_port};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::Cidr;
use std::net::IpAddr;
use std::time::Duration;

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Where the `edges` listeners of the other edges are, addresses or prefixes: nobody else is answered there, and
    /// nothing goes elsewhere. Empty: calls for phones that are registered at another edge are not handed over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edges: Vec<String>,
    /// Between signs of life on the bus; `"0s"` for none.
    pub heartbeat: Span,
    /// An edge that is silent for this long, while others are heard, is lost.
    pub lease: Span,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            edges: Vec::new(),
            heartbeat: Span(Duration::from_secs(1)),
            lease: Span(Duration::from_secs(5)),
        }
    }
}

impl Cluster {
    /// Where other edges are.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Cidr> {
        self.edges.iter().filter_map(|edges| edges.parse().ok()).collect()
    }
}

/// What is wrong with `[cluster]`, and what is only odd.
pub(super) fn check(file: &File, sources: &Sources) -> (Vec<Problem>, Vec<Problem>) {
    let mut check = Check { file, sources, problems: Vec::new(), warnings: Vec::new() };
    check.heartbeats();
    if file.cluster.edges.is_empty() {
        check.nobody();
    } else {
        check.prefixes();
        check.listener();
        check.shared();
    }
    (check.problems, check.warnings)
}

struct Check<'a> {
    file: &'a File,
    sources: &'a Sources,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Check<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(self.sources.problem(path, message, fix));
    }

    fn heartbeats(&mut self) {
        let (beat, lease) = (self.file.cluster.heartbeat.0, self.file.cluster.lease.0);
        if !beat.is_zero() && beat < Duration::from_millis(100) {
            self.wrong(
                "cluster.heartbeat",
                "more than ten a second tell no more",
                "write for example \"1s\"",
            );
        }
        if !beat.is_zero() && lease < beat * 3 {
            let message = "one lost heartbeat would make an edge lost";
            self.wrong("cluster.lease", message, "make it three heartbeats or more, for example \"5s\"");
        }
    }

    /// Somebody is served who is nowhere.
    fn nobody(&mut self) {
        for (at, listener) in self.file.listener.iter().enumerate() {
            if listener.serves.as_ref().is_some_and(|serves| serves.contains(&Served::Edges)) {
                let (path, message) =
                    (format!("listener[{at}].serves"), "no other edge is named: none is served here");
                let fix = "name where they are: [cluster] edges = [\"10.0.0.0/24\"]; or leave \"edges\" out";
                self.warnings.push(self.sources.problem(&path, message, fix));
            }
        }
    }

    fn prefixes(&mut self) {
        for (at, text) in self.file.cluster.edges.iter().enumerate() {
            let path = format!("cluster.edges[{at}]");
            match text.parse::<Cidr>() {
                Err(error) => {
                    self.wrong(&path, format!("\"{text}\" is {error}"), "write an address or prefix");
                }
                Ok(prefix) if prefix.contains_everything() => {
                    self.wrong(&path, "everybody would be taken for an edge", "name the edges' own network");
                }
                Ok(_) => {}
            }
        }
    }

    fn listener(&mut self) {
        let serves = |served: &Option<Vec<Served>>| {
            served.as_ref().is_none_or(|served| served.contains(&Served::Edges))
        };
        // Without any listener the default one serves everybody.
        let found = self.file.listener.iter().position(|listener| serves(&listener.serves));
        let Some(at) = found else {
            if !self.file.listener.is_empty() {
                let fix = "add \"edges\" to the serves of the listener that they reach";
                self.wrong("cluster.edges", "no listener serves edges", fix);
            }
            return;
        };
        let told = self.file.listener[at].advertise.as_deref().and_then(split_host_port);
        if let Some((host, _)) = told.filter(|(host, _)| host.parse::<IpAddr>().is_err()) {
            let (path, host) = (format!("listener[{at}].advertise"), host.to_owned());
            let message = format!("other edges are told this, and \"{host}\" is not an address");
            self.wrong(&path, message, "give edges a listener of their own, that advertises an address");
        }
    }

    fn shared(&mut self) {
        if self.file.bus.kind == BusKind::Journal {
            let fix = "set bus.kind to \"nats\" or \"kafka\", or leave cluster.edges out";
            self.wrong("cluster.edges", "edges know of each other by the bus, and this one has none", fix);
        }
        if self.file.edge.cluster_key_file.is_none() {
            let fix =
                "write the same 32 random bytes to a file on each (`openssl rand -hex 32`) and name it here";
            self.wrong("edge.cluster_key_file", "the edges of a cluster must have one key", fix);
        }
        if self.file.cluster.heartbeat.0.is_zero() {
            let fix = "write for example \"1s\"";
            self.wrong("cluster.heartbeat", "without it nobody knows which edge lives, and where", fix);
        }
    }
}
