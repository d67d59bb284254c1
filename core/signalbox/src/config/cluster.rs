//! `[cluster]`: the other edges.

use super::check::Check;
use super::model::{BusKind, ClientCertificate, File, Listener, Served};
use super::value::{Span, split_host_port};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{Cidr, ListenerId, Transport};
use signalbox_io::{CertificateFiles, CertificateInfo, ClientAuth, Tls, TlsFiles};
use std::net::IpAddr;
use std::path::PathBuf;
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
    /// How long an edge may live unheard: within this of its last sign of life its loss is told, if others are heard. It is
    /// taken for lost one heartbeat sooner, which is the time that telling may take.
    pub lease: Span,
    /// Over a `tls:` listener for edges: this edge's own certificate, good for its name, which it shows as caller and as called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whom the certificates of all edges must be issued by: an authority that issues none to anybody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            edges: Vec::new(),
            heartbeat: Span(Duration::from_secs(1)),
            lease: Span(Duration::from_secs(5)),
            certificate_file: None,
            key_file: None,
            ca_file: None,
        }
    }
}

impl Cluster {
    /// Where other edges are.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Cidr> {
        self.edges.iter().filter_map(|edges| edges.parse().ok()).collect()
    }

    /// What connections between edges are made with, where all of it is named.
    #[must_use]
    pub fn client_auth(&self) -> Option<ClientAuth> {
        let own =
            CertificateFiles { certificate: self.certificate_file.clone()?, key: self.key_file.clone()? };
        Some(ClientAuth::Peers { own, ca_file: self.ca_file.clone()? })
    }

    /// An edge that is silent for so long is lost.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.lease.0.saturating_sub(self.heartbeat.0)
    }
}

/// Whether a listener is named as one for other edges.
#[must_use]
pub fn is_for_edges(listener: &Listener) -> bool {
    listener.serves.as_ref().is_some_and(|serves| serves.contains(&Served::Edges))
}

/// What is wrong with `[cluster]`, and what is only odd.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    let mut check = Edges { file, check };
    check.heartbeats();
    check.transport();
    if file.cluster.edges.is_empty() {
        check.nobody();
    } else {
        check.prefixes();
        check.listener();
        check.shared();
    }
}

struct Edges<'a, 'c> {
    file: &'a File,
    check: &'a mut Check<'c>,
}

impl Edges<'_, '_> {
    fn heartbeats(&mut self) {
        let (beat, lease) = (self.file.cluster.heartbeat.0, self.file.cluster.lease.0);
        if !beat.is_zero() && beat < Duration::from_millis(100) {
            self.check.wrong(
                "cluster.heartbeat",
                "more than ten a second tell no more",
                "write for example \"1s\"",
            );
        }
        if !beat.is_zero() && lease < beat * 4 {
            let message = "two lost heartbeats would make an edge lost";
            self.check.wrong("cluster.lease", message, "make it four heartbeats or more, for example \"5s\"");
        }
    }

    /// Somebody is served who is nowhere.
    fn nobody(&mut self) {
        for (at, listener) in self.file.listener.iter().enumerate() {
            if is_for_edges(listener) {
                let (path, message) =
                    (format!("listener[{at}].serves"), "no other edge is named: none is served here");
                let fix = "name where they are: [cluster] edges = [\"10.0.0.0/24\"]; or leave \"edges\" out";
                self.check.warn(&path, message, fix);
            }
        }
    }

    fn prefixes(&mut self) {
        for (at, text) in self.file.cluster.edges.iter().enumerate() {
            let path = format!("cluster.edges[{at}]");
            match text.parse::<Cidr>() {
                Err(error) => {
                    self.check.wrong(&path, format!("\"{text}\" is {error}"), "write an address or prefix");
                }
                Ok(prefix) if prefix.contains_everything() => {
                    self.check.wrong(
                        &path,
                        "everybody would be taken for an edge",
                        "name the edges' own network",
                    );
                }
                Ok(_) => {}
            }
        }
    }

    fn listener(&mut self) {
        // Without any listener the default one serves everybody.
        let Some(at) = self.chosen() else {
            if !self.file.listener.is_empty() {
                let fix = "add \"edges\" to the serves of the listener that they reach";
                self.check.wrong("cluster.edges", "no listener serves edges", fix);
            }
            return;
        };
        let told = self.file.listener[at].advertise.as_deref().and_then(split_host_port);
        if let Some((host, _)) = told.filter(|(host, _)| host.parse::<IpAddr>().is_err()) {
            let (path, host) = (format!("listener[{at}].advertise"), host.to_owned());
            let message = format!("other edges are told this, and \"{host}\" is not an address");
            self.check.wrong(
                &path,
                message,
                "give edges a listener of their own, that advertises an address",
            );
        }
    }

    /// The listener that requests go to other edges from.
    fn chosen(&self) -> Option<usize> {
        let serves =
            |listener: &Listener| listener.serves.as_ref().is_none_or(|s| s.contains(&Served::Edges));
        self.file.listener.iter().position(serves)
    }

    /// Between edges it is UDP, or TLS that both sides show a certificate in.
    fn transport(&mut self) {
        let chosen = self.chosen().filter(|_| !self.file.cluster.edges.is_empty());
        for (at, listener) in self.file.listener.iter().enumerate() {
            if Some(at) != chosen && !is_for_edges(listener) {
                continue;
            }
            let path = |key: &str| format!("listener[{at}].{key}");
            match listener.address.transport {
                Transport::Udp => {}
                Transport::Tls => self.over_tls(&path, listener),
                other => {
                    let message = format!("edges do not speak {other} to each other");
                    self.check.wrong(&path("address"), message, "write udp: or tls:");
                }
            }
        }
    }

    fn over_tls(&mut self, path: &dyn Fn(&str) -> String, listener: &Listener) {
        if listener.serves.as_ref().is_none_or(|serves| serves.len() > 1) {
            let message = "nobody but edges has a certificate of the cluster's authority";
            self.check.wrong(&path("serves"), message, "give edges a listener of their own");
        }
        if listener.client_certificate != ClientCertificate::None || listener.client_ca_file.is_some() {
            let message = "who connects here must show a certificate that [cluster] ca_file counts";
            self.check.wrong(
                &path("client_certificate"),
                message,
                "leave client_certificate and client_ca_file out",
            );
        }
        let cluster = &self.file.cluster;
        let needed = [
            ("cluster.certificate_file", &cluster.certificate_file, "this edge's certificate"),
            ("cluster.key_file", &cluster.key_file, "its private key"),
            ("cluster.ca_file", &cluster.ca_file, "the authority that issues the edges' certificates"),
        ];
        for (key, _, what) in needed.into_iter().filter(|(_, file, _)| file.is_none()) {
            self.check.wrong(key, format!("over TLS edges need {what}"), "name the file, PEM");
        }
        let Some((own, name)) = cluster.client_auth().zip(self.file.edge.name.as_ref()) else { return };
        // What the files lack is told where all of TLS is read.
        let files = TlsFiles { listeners: vec![(ListenerId(0), own)], ..TlsFiles::default() };
        let Ok(tls) = Tls::load(&files) else { return };
        let good = |one: &CertificateInfo| one.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !tls.certificates().iter().any(good) {
            let message = format!("it is not good for \"{name}\", by which the other edges know this one");
            self.check.wrong(
                "cluster.certificate_file",
                message,
                "have that as a DNS name in its subjectAltName",
            );
        }
    }

    fn shared(&mut self) {
        if self.file.bus.kind == BusKind::Journal {
            let fix = "set bus.kind to \"nats\" or \"kafka\", or leave cluster.edges out";
            self.check.wrong(
                "cluster.edges",
                "edges know of each other by the bus, and this one has none",
                fix,
            );
        }
        if self.file.edge.cluster_key_file.is_none() {
            let fix =
                "write the same 32 random bytes to a file on each (`openssl rand -hex 32`) and name it here";
            self.check.wrong("edge.cluster_key_file", "the edges of a cluster must have one key", fix);
        }
        if self.file.cluster.heartbeat.0.is_zero() {
            let fix = "write for example \"1s\"";
            self.check.wrong("cluster.heartbeat", "without it nobody knows which edge lives, and where", fix);
        }
    }
}
