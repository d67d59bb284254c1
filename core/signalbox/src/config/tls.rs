//! `[tls]`: certificates of `tls:` and `wss:` listeners, and how backends over TLS are known.

use super::check::Check;
use super::cluster::is_for_edges;
use super::model::{File, Listener};
use super::value::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use signalbox_base::{ListenerId, Text, Transport};
use signalbox_edge::StreamConfig;
use signalbox_io::{CertificateFiles, CertificateInfo, ClientAuth, Tls, TlsFiles};
use std::path::PathBuf;
use std::time::Duration;

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsTable {
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Certificates: each peer gets the one for the domain that it asks for, else the first.
    pub certificate: Vec<CertificateEntry>,
    /// Whom backends' certificates must be issued by. Default: the system's authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ca_file: Option<PathBuf>,
    /// `edge.certificate_expiring` tells of certificates that end within this.
    pub warn_before: Span,
}

impl Default for TlsTable {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::default(),
            certificate: Vec::new(),
            backend_ca_file: None,
            warn_before: Span(StreamConfig::default().warn_before),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 and later.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V13,
}

/// `[[tls.certificate]]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateEntry {
    /// The certificate and behind it those of its issuers, PEM.
    pub certificate_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}

/// Whether who connects to a listener must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// None is asked for.
    #[default]
    None,
    /// Asked for; must be good if it is shown.
    Request,
    /// Nobody connects without one.
    Require,
}

fn is_tls(listener: &Listener) -> bool {
    matches!(listener.address.transport, Transport::Tls | Transport::Wss)
}

/// Only other edges connect there: what is shown is named in `[cluster]`.
fn is_between_edges(listener: &Listener) -> bool {
    is_tls(listener) && is_for_edges(listener)
}

fn backend_over_tls(file: &File) -> bool {
    let backends = file.tenant.iter().flat_map(|tenant| &tenant.backends).map(|backend| &backend.address);
    let trunks = file.trunk.iter().map(|trunk| &trunk.address);
    backends.chain(trunks).any(|address| address.transport == Transport::Tls)
}

/// What the edge is told of connections. `file` has its default listeners.
#[must_use]
pub fn streams(file: &File) -> StreamConfig {
    let backends = file.tenant.iter().flat_map(|tenant| &tenant.backends);
    let backends = backends.map(|backend| (&backend.address, &backend.server_name));
    let peers = backends.chain(file.trunk.iter().map(|trunk| (&trunk.address, &trunk.server_name)));
    let named =
        peers.filter_map(|(address, name)| Some((Text::new(&address.host), Text::new(name.as_ref()?))));
    StreamConfig {
        limits: file.connections.limits(),
        tls: (file.listener.iter().any(is_tls) || backend_over_tls(file)).then(|| files(file)),
        server_names: named.collect(),
        warn_before: file.tls.warn_before.0,
        origins: file.listener.iter().map(|listener| listener.origins.clone()).collect(),
    }
}

fn files(file: &File) -> TlsFiles {
    let auth = |listener: &Listener| {
        let ca_file = listener.client_ca_file.clone().unwrap_or_default();
        if is_between_edges(listener)
            && let Some(peers) = file.cluster.client_auth()
        {
            return peers;
        }
        match listener.client_certificate {
            ClientCertificate::None => ClientAuth::None,
            ClientCertificate::Request => ClientAuth::Request { ca_file },
            ClientCertificate::Require => ClientAuth::Require { ca_file },
        }
    };
    let listeners = file.listener.iter().zip(0..).filter(|(listener, _)| is_tls(listener));
    TlsFiles {
        certificates: file
            .tls
            .certificate
            .iter()
            .map(|one| CertificateFiles {
                certificate: one.certificate_file.clone(),
                key: one.key_file.clone(),
            })
            .collect(),
        tls13_only: file.tls.min_version == TlsVersion::V13,
        backend_ca_file: file.tls.backend_ca_file.clone(),
        listeners: listeners.map(|(listener, at)| (ListenerId(at), auth(listener))).collect(),
    }
}

/// What cannot work, and what soon will not.
pub(super) fn check(check: &mut Check<'_>, file: &File) {
    let before = check.mistakes();
    for (i, listener) in file.listener.iter().enumerate() {
        let (path, transport) = (format!("listener[{i}]"), listener.address.transport);
        if is_tls(listener) && !is_between_edges(listener) && file.tls.certificate.is_empty() {
            let fix = "add a [[tls.certificate]] with certificate_file and key_file";
            check.wrong(&format!("{path}.address"), format!("{transport} needs a certificate"), fix);
        }
        let asks = listener.client_certificate != ClientCertificate::None;
        if asks && !is_tls(listener) {
            let message = format!("over {transport} nobody shows a certificate");
            check.wrong(
                &format!("{path}.client_certificate"),
                message,
                "remove it, or listen on tls: or wss:",
            );
        }
        if asks && listener.client_ca_file.is_none() {
            let fix = "add client_ca_file with the certificates of those who issue them";
            check.wrong(
                &format!("{path}.client_certificate"),
                "nobody is named whose certificates count",
                fix,
            );
        }
        if !listener.origins.is_empty() && !matches!(transport, Transport::Ws | Transport::Wss) {
            let message = format!("over {transport} nobody names a page");
            check.wrong(&format!("{path}.origins"), message, "remove it, or listen on ws: or wss:");
        }
        for (k, origin) in listener.origins.iter().enumerate() {
            if !(origin.starts_with("https://") || origin.starts_with("http://")) || origin.ends_with('/') {
                let fix = "write it as browsers do, for example \"https://phone.example.net\"";
                check.wrong(&format!("{path}.origins[{k}]"), format!("\"{origin}\" is not an origin"), fix);
            }
        }
    }
    if check.mistakes() > before {
        return;
    }
    let ending = |check: &mut Check<'_>, path: &str, one: Option<&CertificateInfo>, then: &str| {
        if let Some((what, fix)) = one.and_then(|one| ending(one, file.tls.warn_before.0, then)) {
            check.warn(path, what, fix);
        }
    };
    for at in 0..file.tls.certificate.len() {
        let one = TlsFiles { certificates: files(file).certificates.split_off(at), ..TlsFiles::default() };
        let one = TlsFiles { certificates: one.certificates.into_iter().take(1).collect(), ..one };
        let path = format!("tls.certificate[{at}]");
        match Tls::load(&one) {
            Ok(tls) => {
                let (path, then) = (format!("{path}.certificate_file"), "phones will not connect");
                ending(check, &path, tls.certificates().first(), then);
            }
            Err(error) => unloaded(check, &path, &error.to_string()),
        }
    }
    if check.mistakes() == before
        && let Some(tls) = streams(file).tls
    {
        match Tls::load(&tls) {
            Ok(tls) => {
                // The one that is shown to other edges comes behind all others.
                let own = tls.certificates().get(file.tls.certificate.len());
                let (path, then) = ("cluster.certificate_file", "the other edges will not connect");
                ending(check, path, own, then);
            }
            Err(error) => unloaded(check, "tls", &error.to_string()),
        }
    }
}

/// What the loader said: after the semicolon what to do.
fn unloaded(check: &mut Check<'_>, path: &str, said: &str) {
    let (what, fix) = said.rsplit_once("; ").unwrap_or((said, "see the manual's page on certificates"));
    check.wrong(path, what, fix);
}

/// A certificate that has ended, or will soon.
fn ending(one: &CertificateInfo, within: Duration, then: &str) -> Option<(String, &'static str)> {
    let now = signalbox_io::Clock::start().now().wall;
    let fix = "renew it, then run `signalbox reload`; connections in progress go on";
    if one.not_after <= now {
        return Some((format!("{} has expired: {then}", one.file.display()), fix));
    }
    let left = one.not_after.since(now);
    (left < within).then(|| (format!("{} ends in {} days", one.file.display(), left.as_secs() / 86_400), fix))
}
