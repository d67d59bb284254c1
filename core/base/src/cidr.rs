//! Address prefixes and the canonical form of addresses.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An IPv4-mapped IPv6 address is IPv4 (EVENTS.md: addresses canonical).
#[must_use]
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The same for an address with its port; scope and flow label of IPv6 are dropped.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical_ip(addr.ip()), addr.port())
}

/// An address prefix; the host bits are zero by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    base: IpAddr,
    len: u8,
}

/// Why text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrError;

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address or prefix such as 192.0.2.0/24 or 2001:db8::/32")
    }
}

impl std::error::Error for CidrError {}

impl Cidr {
    /// The prefix of `len` bits around `ip` (canonicalised, host bits cleared). `None` when `len` is too long.
    #[must_use]
    pub fn new(ip: IpAddr, len: u8) -> Option<Self> {
        match canonical_ip(ip) {
            IpAddr::V4(v4) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                Some(Self { base: IpAddr::V4((u32::from(v4) & mask).into()), len })
            }
            IpAddr::V6(v6) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Some(Self { base: IpAddr::V6((u128::from(v6) & mask).into()), len })
            }
            _ => None,
        }
    }

    /// Whether every address of its family is in it.
    #[must_use]
    pub const fn contains_everything(&self) -> bool {
        self.len == 0
    }

    /// The single address.
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        let ip = canonical_ip(ip);
        Self { base: ip, len: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether `ip` lies inside, bit for bit.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        Self::new(ip, self.len).is_some_and(|other| other.base == self.base)
    }

    /// First address of the prefix.
    #[must_use]
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// Prefix length in bits.
    #[must_use]
    pub fn prefix_len(&self) -> u8 {
        self.len
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        match text.split_once('/') {
            None => text.parse().map(Self::host).map_err(|_| CidrError),
            Some((ip, len)) => {
                let digits = !len.is_empty() && len.bytes().all(|b| b.is_ascii_digit());
                let ip = ip.parse().map_err(|_| CidrError)?;
                let len = if digits { len.parse().map_err(|_| CidrError)? } else { return Err(CidrError) };
                Self::new(ip, len).ok_or(CidrError)
            }
        }
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_never_a_substring() {
        let one: Cidr = "10.0.1.1".parse().unwrap();
        assert!(one.contains("10.0.1.1".parse().unwrap()));
        assert!(!one.contains("10.0.1.10".parse().unwrap()));
        assert!(one.contains("::ffff:10.0.1.1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Cidr>().unwrap().contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "::/129", "host/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn prints_and_reads(a: u32, len in 0u8..=32) {
            let cidr = Cidr::new(IpAddr::V4(a.into()), len).unwrap();
            prop_assert_eq!(cidr.to_string().parse::<Cidr>(), Ok(cidr));
            prop_assert!(cidr.contains(IpAddr::V4(a.into())));
        }
    }
}
