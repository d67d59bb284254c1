//! How many connections there are, in all and of each source.

use super::config::StreamLimits;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Counts open connections that peers made.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: usize,
    sources: HashMap<IpAddr, usize, foldhash::fast::RandomState>,
}

impl Gate {
    /// Counts one more of this source, unless a limit is reached.
    pub(super) fn enter(&mut self, source: IpAddr, limits: &StreamLimits) -> bool {
        let of_source = self.sources.entry(key(source)).or_default();
        if self.open >= limits.connections_max || *of_source >= limits.per_source_max {
            if *of_source == 0 {
                self.sources.remove(&key(source));
            }
            return false;
        }
        *of_source += 1;
        self.open += 1;
        true
    }

    /// One of this source is gone.
    pub(super) fn leave(&mut self, source: IpAddr) {
        let key = key(source);
        if let Some(count) = self.sources.get_mut(&key) {
            *count -= 1;
            self.open -= 1;
            if *count == 0 {
                self.sources.remove(&key);
            }
        }
    }
}

/// Whoever has an IPv6 address has all of its /64.
fn key(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_limit_when_one_leaves_then_another_may_enter() {
        let limits = StreamLimits { connections_max: 3, per_source_max: 2, ..StreamLimits::default() };
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let mut gate = Gate::default();
        assert_eq!([a, a, a].map(|ip| gate.enter(ip, &limits)), [true, true, false], "per source");
        assert_eq!([b, b].map(|ip| gate.enter(ip, &limits)), [true, false], "in all");
        gate.leave(a);
        assert!(gate.enter(b, &limits));
    }

    #[test]
    fn given_ipv6_then_a_64_is_one_source() {
        let limits = StreamLimits { per_source_max: 1, ..StreamLimits::default() };
        let mut gate = Gate::default();
        assert!(gate.enter("2001:db8::1".parse().unwrap(), &limits));
        assert!(!gate.enter("2001:db8::ffff:2".parse().unwrap(), &limits));
        assert!(gate.enter("2001:db8:0:1::1".parse().unwrap(), &limits));
        for ip in ["2001:db8::1", "2001:db8:0:1::1"] {
            gate.leave(ip.parse().unwrap());
        }
        assert_eq!((gate.open, gate.sources.len()), (0, 0), "no source is remembered");
    }
}
