//! Addresses that are not listened to. Every block expires.

use foldhash::HashMap;
use signalbox_base::{Cidr, Mono};
use std::net::IpAddr;

/// Blocked prefixes with the moment each ends.
#[derive(Debug, Default)]
pub struct Blocks {
    ends: HashMap<Cidr, Mono>,
    /// Prefix lengths in use, so that a look-up tries only those.
    lengths: Vec<(bool, u8)>,
}

impl Blocks {
    /// Blocks a prefix until `end`; a later end replaces an earlier one.
    pub fn block(&mut self, cidr: Cidr, end: Mono) {
        let until = self.ends.entry(cidr).or_insert(end);
        *until = end.max(*until);
        self.relearn();
    }

    /// Lifts a block.
    pub fn lift(&mut self, cidr: &Cidr) {
        self.ends.remove(cidr);
        self.relearn();
    }

    /// Whether an address (canonical) is blocked at this moment.
    #[must_use]
    pub fn contains(&self, now: Mono, ip: IpAddr) -> bool {
        self.lengths.iter().filter(|(v4, _)| *v4 == ip.is_ipv4()).any(|(_, len)| {
            Cidr::new(ip, *len).is_some_and(|cidr| self.ends.get(&cidr).is_some_and(|end| now < *end))
        })
    }

    fn relearn(&mut self) {
        self.lengths = self.ends.keys().map(|cidr| (cidr.base().is_ipv4(), cidr.prefix_len())).collect();
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_block_then_its_prefix_is_deaf_until_it_ends() {
        let mut blocks = Blocks::default();
        let cidr: Cidr = "198.51.100.0/24".parse().unwrap();
        blocks.block(cidr, Mono(100));
        assert!(blocks.contains(Mono(99), "198.51.100.7".parse().unwrap()));
        assert!(!blocks.contains(Mono(99), "198.51.101.7".parse().unwrap()));
        assert!(!blocks.contains(Mono(100), "198.51.100.7".parse().unwrap()));
        blocks.lift(&cidr);
        assert!(!blocks.contains(Mono(99), "198.51.100.7".parse().unwrap()));
    }
}
