//! TLS of connections: certificates by the name that a peer asks for, who must show one, and how backends are verified.
//!
//! Protocols and ciphers are rustls's own choice, which is Mozilla's intermediate one: TLS 1.2 and 1.3 with forward secrecy
//! and authenticated encryption only. Everything is loaded as a whole ([`Tls::load`]) and swapped as a whole: connections
//! that are there keep what they were made with.

mod certificate;
mod error;

pub use certificate::CertificateInfo;
pub(crate) use certificate::names_of;
pub use error::TlsError;

use crate::tls::certificate::{ByName, Certificate};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use signalbox_base::{ListenerId, Wall};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is to be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates with their keys. Who names no domain, or one that no certificate has, gets the first.
    pub certificates: Vec<CertificateFiles>,
    /// Whether TLS 1.2 is refused.
    pub tls13_only: bool,
    /// Whom backends' certificates must be issued by. None: the system's authorities.
    pub backend_ca_file: Option<PathBuf>,
    /// What each listener asks of those who connect.
    pub listeners: Vec<(ListenerId, ClientAuth)>,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and behind it those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Whether who connects must show a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for, and must be good if it is shown.
    Request {
        /// Whom it must be issued by.
        ca_file: PathBuf,
    },
    /// Nobody connects without one.
    Require {
        /// Whom it must be issued by.
        ca_file: PathBuf,
    },
    /// Whoever is on the other side of a connection, made by it or to it, is of one kind with us: both show a certificate of
    /// the same authorities. The names in that of who connects are told.
    Peers {
        /// What is shown here, whichever name is asked for.
        own: CertificateFiles,
        /// Whom theirs must be issued by.
        ca_file: PathBuf,
    },
}

/// Everything that connections over TLS are made with.
#[derive(Debug)]
pub struct Tls {
    servers: HashMap<ListenerId, Arc<ServerConfig>>,
    client: Arc<ClientConfig>,
    /// Whom peers' certificates must be issued by, whoever connects; none where nobody is trusted.
    verifier: Option<Arc<WebPkiServerVerifier>>,
    /// For connections from a listener whose other side is of one kind with us.
    peers: HashMap<ListenerId, Arc<ClientConfig>>,
    certificates: Vec<CertificateInfo>,
}

impl Tls {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// [`TlsError`] names the file, what is wrong with it and what to do.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] =
            if files.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let loaded: Vec<Certificate> = files
            .certificates
            .iter()
            .map(|one| Certificate::load(one, &provider))
            .collect::<Result<_, _>>()?;
        let mut certificates: Vec<_> = loaded.iter().map(|one| one.info.clone()).collect();
        let by_name = Arc::new(ByName::new(loaded));
        let (mut servers, mut peers) = (HashMap::new(), HashMap::new());
        for (listener, auth) in &files.listeners {
            let mut shown = Arc::clone(&by_name);
            if let ClientAuth::Peers { own, ca_file } = auth {
                let own = Certificate::load(own, &provider)?;
                certificates.push(own.info.clone());
                shown = Arc::new(ByName::new(vec![own]));
                let verifier = verifier(&provider, Some(ca_file))?;
                peers.insert(*listener, Arc::new(client(&provider, versions, verifier, &shown)?));
            }
            let config = server(&provider, versions, auth, shown)?;
            servers.insert(*listener, Arc::new(config));
        }
        let verifier = verifier(&provider, files.backend_ca_file.as_deref())?;
        let client = Arc::new(client(&provider, versions, verifier.clone(), &by_name)?);
        Ok(Self { servers, client, verifier, peers, certificates })
    }

    /// The certificates that are served.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateInfo] {
        &self.certificates
    }

    /// The serving side of a connection that a listener has accepted; `None` where the listener serves no TLS.
    pub(crate) fn accept(&self, listener: ListenerId) -> Option<Box<Connection>> {
        let config = Arc::clone(self.servers.get(&listener)?);
        ServerConnection::new(config).ok().map(|connection| Box::new(connection.into()))
    }

    /// Whether who connects to a listener is to be named by its certificate.
    pub(crate) fn names(&self, listener: ListenerId) -> bool {
        self.peers.contains_key(&listener)
    }

    /// The calling side of a connection from a listener to a peer of this name.
    pub(crate) fn connect(&self, listener: ListenerId, name: &str) -> Option<Box<Connection>> {
        let config = self.peers.get(&listener).unwrap_or(&self.client);
        let connection = ClientConnection::new(Arc::clone(config), server_name(name)?).ok()?;
        Some(Box::new(connection.into()))
    }

    /// Whether what somebody who connected has shown would be good enough if the edge had dialled a peer of this name.
    pub(crate) fn is_good(&self, shown: &[CertificateDer<'_>], name: &str, now: Wall) -> bool {
        let (Some(verifier), Some((first, others))) = (&self.verifier, shown.split_first()) else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.secs()).unwrap_or(0)));
        let is_good = |name| verifier.verify_server_cert(first, others, &name, &[], now).is_ok();
        server_name(name).is_some_and(is_good)
    }
}

/// The name of a peer, or its address.
fn server_name(name: &str) -> Option<ServerName<'static>> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Some(ServerName::IpAddress(ip.into())),
        Err(_) => ServerName::try_from(name.to_owned()).ok(),
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    auth: &ClientAuth,
    certificates: Arc<ByName>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Library)?;
    let verifier = |ca_file: &Path| {
        let roots = Arc::new(roots_of(ca_file)?);
        Ok(WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)))
    };
    let wrong = |ca_file: &Path, why: String| TlsError::Authorities { file: ca_file.to_owned(), why };
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Request { ca_file } => builder.with_client_cert_verifier(
            verifier(ca_file)?
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(ca_file, error.to_string()))?,
        ),
        ClientAuth::Require { ca_file } | ClientAuth::Peers { ca_file, .. } => builder
            .with_client_cert_verifier(
                verifier(ca_file)?.build().map_err(|error| wrong(ca_file, error.to_string()))?,
            ),
    };
    let mut config = builder.with_cert_resolver(certificates);
    // One ticket is enough for a phone that comes back.
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Option<Arc<WebPkiServerVerifier>>,
    certificates: &Arc<ByName>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Library)?;
    let builder = match verifier {
        Some(verifier) => builder.with_webpki_verifier(verifier),
        // Nobody is trusted: fine for an edge that has no backends over TLS.
        None => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_client_cert_resolver(Arc::clone(certificates) as _))
}

/// Judges peers by their issuers: those of a file, else the system's.
fn verifier(
    provider: &Arc<CryptoProvider>,
    ca_file: Option<&Path>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, TlsError> {
    let roots = match ca_file {
        Some(file) => roots_of(file)?,
        None => {
            let mut roots = RootCertStore::empty();
            // A broken certificate in the system's store does not spoil the others.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        return Ok(None);
    }
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map(Some).map_err(|error| TlsError::Authorities {
        file: ca_file.unwrap_or(Path::new("the system's authorities")).to_owned(),
        why: error.to_string(),
    })
}

fn roots_of(file: &Path) -> Result<RootCertStore, TlsError> {
    let wrong = |why: String| TlsError::Authorities { file: file.to_owned(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(roots) }
}
