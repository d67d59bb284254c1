//! A flow: the five-tuple (and connection) a message came over and can be answered on (RFC 5626 §1.1).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::str::FromStr;

/// Index of a listener in the running configuration's order; stable while the process lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId(pub u16);

/// A connection accepted or opened by this process; never reused while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// SIP transports (RFC 3261 §18, RFC 7118).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// A stream without TLS.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Lower-case name, as in configurations and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Value of a `transport` URI parameter: WebSocket has one name with TLS and without (RFC 7118 §5.2).
    #[must_use]
    pub const fn in_uri(self) -> &'static str {
        match self {
            Self::Wss => "ws",
            other => other.as_str(),
        }
    }

    /// Upper-case name, as in Via (RFC 3261 §20.42, RFC 7118 §5).
    #[must_use]
    pub const fn via(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// Whether the transport delivers or fails, so that requests are not retransmitted (RFC 3261 §17).
    #[must_use]
    pub const fn reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The port used when none is given (RFC 3261 §19.1.2, RFC 7118 §5.1).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Transport {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Udp, Self::Tcp, Self::Tls, Self::Ws, Self::Wss]
            .into_iter()
            .find(|t| t.as_str().eq_ignore_ascii_case(text))
            .ok_or(())
    }
}

/// Where bytes came from and where an answer goes. Both addresses are canonical ([`crate::canonical`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// The listener whose socket carries it.
    pub listener: ListenerId,
    /// Transport protocol.
    pub transport: Transport,
    /// Our address on it.
    pub local: SocketAddr,
    /// The peer's address, as seen.
    pub remote: SocketAddr,
    /// The connection, for stream transports.
    pub conn: Option<ConnId>,
}

impl Flow {
    /// A UDP flow; addresses are made canonical.
    #[must_use]
    pub fn udp(listener: ListenerId, local: SocketAddr, remote: SocketAddr) -> Self {
        let (local, remote) = (crate::canonical(local), crate::canonical(remote));
        Self { listener, transport: Transport::Udp, local, remote, conn: None }
    }
}

/// A flow as it is kept by the hundred thousand: 16 bytes for IPv4 datagrams, which nearly all are; others are boxed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Flow", into = "Flow")]
pub struct CompactFlow(Kept);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kept {
    Short { local: SocketAddrV4, remote: SocketAddrV4, listener: ListenerId, transport: Transport },
    Long(Box<Flow>),
}

impl From<Flow> for CompactFlow {
    fn from(flow: Flow) -> Self {
        Self(match flow {
            Flow {
                listener,
                transport,
                local: SocketAddr::V4(local),
                remote: SocketAddr::V4(remote),
                conn: None,
            } => Kept::Short { local, remote, listener, transport },
            _ => Kept::Long(Box::new(flow)),
        })
    }
}

impl From<CompactFlow> for Flow {
    fn from(flow: CompactFlow) -> Self {
        flow.get()
    }
}

impl CompactFlow {
    /// The flow.
    #[must_use]
    pub fn get(&self) -> Flow {
        match &self.0 {
            Kept::Short { local, remote, listener, transport } => Flow {
                listener: *listener,
                transport: *transport,
                local: SocketAddr::V4(*local),
                remote: SocketAddr::V4(*remote),
                conn: None,
            },
            Kept::Long(flow) => **flow,
        }
    }

    /// Its transport protocol.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match &self.0 {
            Kept::Short { transport, .. } => *transport,
            Kept::Long(flow) => flow.transport,
        }
    }

    /// The peer's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        match &self.0 {
            Kept::Short { remote, .. } => SocketAddr::V4(*remote),
            Kept::Long(flow) => flow.remote,
        }
    }

    /// The connection, for stream transports.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match &self.0 {
            Kept::Short { .. } => None,
            Kept::Long(flow) => flow.conn,
        }
    }
}

/// As [`Flow`] is displayed.
impl fmt::Display for CompactFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl PartialEq<Flow> for CompactFlow {
    fn eq(&self, other: &Flow) -> bool {
        self.get() == *other
    }
}

/// `udp:192.0.2.1:5060`, the peer's side, as in events' `received` and in tables.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    #[test]
    fn a_usual_flow_is_kept_in_16_bytes() {
        assert_eq!(size_of::<CompactFlow>(), 16);
    }

    proptest! {
        #[test]
        fn a_flow_is_given_back_as_it_was(local: (IpAddr, u16), remote: (IpAddr, u16), conn: Option<u64>, tcp: bool) {
            let flow = Flow {
                listener: ListenerId(7),
                transport: if tcp { Transport::Tcp } else { Transport::Udp },
                local: local.into(),
                remote: remote.into(),
                conn: conn.map(ConnId),
            };
            let kept = CompactFlow::from(flow);
            prop_assert_eq!(kept.get(), flow);
            prop_assert_eq!((kept.transport(), kept.remote(), kept.conn()), (flow.transport, flow.remote, flow.conn));
        }
    }
}
