//! NAT boxes: address and port rewriting with mappings that expire.

use signalbox_base::Mono;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How a box maps and filters (RFC 4787 §4, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// One public port for an inside address; only who was spoken to may answer.
    Restricted,
    /// Another public port for each destination.
    Symmetric,
}

/// A box between some phones and the world.
#[derive(Debug)]
pub struct Nat {
    public: IpAddr,
    kind: NatKind,
    lifetime: Duration,
    next_port: u16,
    mappings: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    peers: Vec<SocketAddr>,
    port: u16,
    /// The last packet from inside: only those keep it open.
    last: Mono,
}

impl Nat {
    /// A box with one public address whose mappings live `lifetime` after the last packet from inside.
    #[must_use]
    pub fn new(public: IpAddr, kind: NatKind, lifetime: Duration) -> Self {
        Self { public, kind, lifetime, next_port: 20_000, mappings: Vec::new() }
    }

    /// Its address.
    #[must_use]
    pub fn public(&self) -> IpAddr {
        self.public
    }

    /// The source that a packet from inside gets.
    pub fn outbound(&mut self, now: Mono, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        let (lifetime, kind) = (self.lifetime, self.kind);
        self.mappings.retain(|m| now.since(m.last) < lifetime);
        let fits =
            |m: &&mut Mapping| m.inside == inside && (kind == NatKind::Restricted || m.peers.contains(&to));
        let port = match self.mappings.iter_mut().find(fits) {
            Some(mapping) => {
                mapping.last = now;
                if !mapping.peers.contains(&to) {
                    mapping.peers.push(to);
                }
                mapping.port
            }
            None => {
                // Steps wide enough that a forgotten mapping's port is not met again soon.
                self.next_port = if self.next_port > 60_000 { 20_000 } else { self.next_port + 7 };
                self.mappings.push(Mapping { inside, peers: vec![to], port: self.next_port, last: now });
                self.next_port
            }
        };
        SocketAddr::new(self.public, port)
    }

    /// Whom a packet from outside reaches inside, if anybody.
    #[must_use]
    pub fn inbound(&self, now: Mono, port: u16, from: SocketAddr) -> Option<SocketAddr> {
        let open =
            |m: &&Mapping| m.port == port && now.since(m.last) < self.lifetime && m.peers.contains(&from);
        self.mappings.iter().find(open).map(|m| m.inside)
    }

    /// It loses its power: all mappings are forgotten.
    pub fn restart(&mut self) {
        self.mappings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: &str = "192.168.0.10:5060";
    const EDGE: &str = "192.0.2.1:5060";

    fn at(secs: u64) -> Mono {
        Mono(secs * 1_000_000_000)
    }

    #[test]
    fn a_mapping_answers_its_peers_until_nothing_comes_from_inside_any_more() {
        let (inside, edge) = (INSIDE.parse().unwrap(), EDGE.parse().unwrap());
        let mut nat = Nat::new("203.0.113.5".parse().unwrap(), NatKind::Restricted, Duration::from_secs(30));
        let outside = nat.outbound(at(0), inside, edge);
        assert_eq!(nat.inbound(at(29), outside.port(), edge), Some(inside));
        assert_eq!(nat.inbound(at(29), outside.port(), "192.0.2.2:5060".parse().unwrap()), None);
        assert_eq!(nat.inbound(at(31), outside.port(), edge), None, "packets from outside keep nothing open");
        assert_ne!(nat.outbound(at(31), inside, edge), outside);
    }

    #[test]
    fn a_symmetric_box_has_a_port_for_each_destination() {
        let inside = INSIDE.parse().unwrap();
        let (a, b) = (EDGE.parse().unwrap(), "192.0.2.2:5060".parse().unwrap());
        let mut nat = Nat::new("203.0.113.5".parse().unwrap(), NatKind::Symmetric, Duration::from_secs(30));
        assert_ne!(nat.outbound(at(0), inside, a), nat.outbound(at(0), inside, b));
        assert_eq!(nat.outbound(at(1), inside, a), nat.outbound(at(2), inside, a));
    }
}
