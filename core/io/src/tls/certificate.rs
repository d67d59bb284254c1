//! One certificate with its key, and the choice among several by the name that a peer asks for.

use super::{CertificateFiles, TlsError};
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureScheme};
use signalbox_base::Wall;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What people want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its file.
    pub file: PathBuf,
    /// Whom it was issued for, as it is written in it.
    pub subject: String,
    /// Domains it is good for, lower case, `*.` for any one label.
    pub names: Vec<String>,
    /// When it becomes good.
    pub not_before: Wall,
    /// When it ends.
    pub not_after: Wall,
}

/// A certificate that can be shown.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) info: CertificateInfo,
    key: Arc<CertifiedKey>,
}

impl Certificate {
    pub(super) fn load(files: &CertificateFiles, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let wrong = |why: String| TlsError::Certificate { file: files.certificate.clone(), why };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| wrong(error.to_string()))?;
        let Some(first) = chain.first() else {
            return Err(wrong("there is no certificate in it".to_owned()));
        };
        let info = info(files.certificate.clone(), first).map_err(wrong)?;
        let wrong_key = |why: String| TlsError::Key { file: files.key.clone(), why };
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong_key(error.to_string()))?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(_) => {
                TlsError::Mismatch { key: files.key.clone(), certificate: files.certificate.clone() }
            }
            other => wrong_key(other.to_string()),
        })?;
        Ok(Self { info, key: Arc::new(key) })
    }
}

fn info(file: PathBuf, certificate: &CertificateDer<'_>) -> Result<CertificateInfo, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let validity = parsed.validity();
    let at = |seconds: i64| Wall(seconds.saturating_mul(1_000_000));
    Ok(CertificateInfo {
        file,
        subject: parsed.subject().to_string(),
        names: names(&parsed),
        not_before: at(validity.not_before.timestamp()),
        not_after: at(validity.not_after.timestamp()),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.into_iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    names.collect()
}

/// The names that a verified certificate is good for.
pub(crate) fn names_of(certificate: &[u8]) -> Vec<String> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| names(&parsed)).unwrap_or_default()
}

/// Certificates by the names they are good for.
#[derive(Debug)]
pub(super) struct ByName {
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Option<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn new(certificates: Vec<Certificate>) -> Self {
        let first = certificates.first().map(|one| Arc::clone(&one.key));
        let mut names = HashMap::new();
        for one in certificates {
            for name in one.info.names {
                names.entry(name).or_insert_with(|| Arc::clone(&one.key));
            }
        }
        Self { names, first }
    }

    /// The name itself, else any one label in place of its first (RFC 6125 §6.4.3), else the first certificate.
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wild = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.names.get(&name).or_else(|| self.names.get(&wild()?))
        });
        named.or(self.first.as_ref()).cloned()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

/// Towards a backend that asks who we are.
impl ResolvesClientCert for ByName {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.first.clone().filter(|key| key.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.first.is_some()
    }
}
