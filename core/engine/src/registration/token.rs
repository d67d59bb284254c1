//! Keys of bindings: opaque to backends, the same across refresh, restart and edges of a cluster.

use crate::state::BindingKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use signalbox_base::{Secret, ShortToken, canonical_ip};
use std::fmt;
use std::net::IpAddr;

/// The cluster's key, made ready once: to key HMAC anew costs as much as the binding's key itself.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

impl TokenKey {
    /// Of the cluster's secret.
    #[must_use]
    pub fn new(cluster_key: &Secret) -> Self {
        Self(Hmac::new_from_slice(cluster_key.expose()).expect("HMAC takes keys of any length"))
    }

    /// The id of a subscription: a keyed function of what its messages have in common.
    pub(crate) fn subscription(&self, parts: [&[u8]; 5]) -> u64 {
        let mut mac = self.0.clone();
        mac.update(b"subscription");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        u64::from_be_bytes(std::array::from_fn(|at| digest[at]))
    }

    /// The Contact's user part of a registration of the edge's own: it names the peer, and nobody can guess it.
    pub(crate) fn account(&self, owner: &str, peer: &str) -> String {
        let digest = self.derived(format!("account {owner}/{peer}").as_bytes());
        let part = |at: usize| ShortToken(u64::from_be_bytes(std::array::from_fn(|n| digest[at + n])));
        format!("t_{}{}", part(0), part(8))
    }

    /// A key for another use.
    pub(crate) fn derived(&self, label: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"key for ");
        mac.update(label);
        mac.finalize().into_bytes().into()
    }
}

impl Default for TokenKey {
    fn default() -> Self {
        Self::new(&Secret::default())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// The key of a binding: a keyed function of its AoR's name and of the device (`+sip.instance` with `reg-id`) or, for
/// phones that name none, of the Contact URI and, where that is not where the phone is seen, of the address it is seen at:
/// phones behind different NATs have the same private addresses.
#[must_use]
pub fn key_of(
    cluster_key: &TokenKey,
    aor_name: &str,
    instance: Option<&[u8]>,
    reg_id: Option<u32>,
    contact: &[u8],
    seen_at: Option<IpAddr>,
) -> BindingKey {
    let mut mac = cluster_key.0.clone();
    let (kind, device) = match instance {
        Some(instance) => (1u8, instance),
        None => (0, contact),
    };
    mac.update(b"binding");
    // Lengths first, so that neighbouring parts cannot trade bytes.
    for part in [aor_name.as_bytes(), device] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.update(&[kind]);
    mac.update(&reg_id.filter(|_| kind == 1).unwrap_or(0).to_be_bytes());
    match seen_at.filter(|_| kind == 0).map(canonical_ip) {
        Some(IpAddr::V4(ip)) => mac.update(&ip.octets()),
        Some(IpAddr::V6(ip)) => mac.update(&ip.octets()),
        None => {}
    }
    let digest = mac.finalize().into_bytes();
    let (first, _) = digest.split_at(16);
    BindingKey(first.iter().fold(0u128, |key, byte| key << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_everything_that_names_the_binding() {
        let secret = TokenKey::new(&Secret::new(b"cluster".to_vec()));
        let nat = Some(IpAddr::from([192, 0, 2, 7]));
        let base =
            key_of(&secret, "acme/401@a.test", Some(b"urn:uuid:1"), Some(1), b"sip:401@10.0.0.1", None);
        let same = key_of(&secret, "acme/401@a.test", Some(b"urn:uuid:1"), Some(1), b"sip:401@10.9.9.9", nat);
        assert_eq!(base, same, "the device counts, not where it is");
        for other in [
            key_of(
                &TokenKey::new(&Secret::new(b"other".to_vec())),
                "acme/401@a.test",
                Some(b"urn:uuid:1"),
                Some(1),
                b"x",
                None,
            ),
            key_of(&secret, "globex/401@a.test", Some(b"urn:uuid:1"), Some(1), b"x", None),
            key_of(&secret, "acme/401@b.test", Some(b"urn:uuid:1"), Some(1), b"x", None),
            key_of(&secret, "acme/401@a.test", Some(b"urn:uuid:2"), Some(1), b"x", None),
            key_of(&secret, "acme/401@a.test", Some(b"urn:uuid:1"), Some(2), b"x", None),
            key_of(&secret, "acme/401@a.test", None, None, b"urn:uuid:1", None),
            key_of(&secret, "acme/401@a.test", None, None, b"x", None),
        ] {
            assert_ne!(base, other);
        }
        let seen_at = |ip: Option<IpAddr>| key_of(&secret, "acme/401@a.test", None, None, b"x", ip);
        assert_ne!(seen_at(nat), seen_at(None), "without a device, where it is seen tells it apart");
        assert_ne!(seen_at(nat), seen_at(Some(IpAddr::from([192, 0, 2, 8]))));
    }
}
