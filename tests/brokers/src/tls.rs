//! Certificates for a broker on loopback and for its clients, signed by an authority of the story's own.

use crate::place::Place;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::PathBuf;

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authority, for clients.
    pub ca: PathBuf,
    /// The broker's certificate, for `localhost` and 127.0.0.1.
    pub server_certificate: PathBuf,
    /// The broker's key.
    pub server_key: PathBuf,
    /// Key and certificate in one file, as Kafka wants them.
    pub server_both: PathBuf,
    /// A client's certificate, for `edge`.
    pub client_certificate: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
    /// An authority that has signed nothing here.
    pub stranger: PathBuf,
}

impl Tls {
    pub(crate) fn make(place: &Place) -> Self {
        let authority = |name: &str| {
            let mut params = params(name, vec![]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = key();
            let certificate = params.self_signed(&key).expect("the parameters are complete");
            (certificate.pem(), Issuer::new(params, key))
        };
        let ((ca, issuer), (stranger, _)) = (authority("Signalbox tests"), authority("Stranger"));
        let sign = |name: &str, names: Vec<String>| {
            let key = key();
            let signed = params(name, names).signed_by(&key, &issuer).expect("the parameters are complete");
            (signed.pem(), key.serialize_pem())
        };
        let (server, server_key) = sign("localhost", vec!["localhost".into(), "127.0.0.1".into()]);
        let (client, client_key) = sign("edge", vec!["edge".into()]);
        Self {
            ca: place.file("ca.pem", &ca),
            server_certificate: place.file("server.pem", &server),
            server_key: place.file("server.key", &server_key),
            server_both: place.file("server-both.pem", &format!("{server_key}{server}")),
            client_certificate: place.file("client.pem", &client),
            client_key: place.file("client.key", &client_key),
            stranger: place.file("stranger.pem", &stranger),
        }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system gives random numbers")
}

fn params(name: &str, names: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("the names are ASCII");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
