//! Who issues certificates in a story.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use signalbox_e2e::{World, wait};
use std::path::PathBuf;
use std::time::Duration;

/// An authority.
pub(crate) struct Authority {
    pub(crate) ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// With its own certificate in `<file>.pem`.
    pub(crate) fn new(world: &World, file: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Signalbox stories");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = world.file(&format!("{file}.pem"), &params.self_signed(&key).unwrap().pem());
        Self { ca, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for a name, good for so many days, and its key: `<file>.pem` and `<file>.key`, over whatever was
    /// there.
    pub(crate) fn sign(&self, world: &World, file: &str, name: &str, days: u64) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{days} days"));
        let end = u64::try_from(wait::wall_micros() / 1_000_000).unwrap() + days * 86_400;
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
        let key = KeyPair::generate().unwrap();
        let _ = world.file(&format!("{file}.pem"), &params.signed_by(&key, &self.issuer).unwrap().pem());
        let _ = world.file(&format!("{file}.key"), &key.serialize_pem());
    }
}
