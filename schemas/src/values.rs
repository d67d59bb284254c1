//! Values that events carry: moments, addresses, event ids, q-values. Each has one written form.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use signalbox_base::{EventSeq, Flow, IdError, JournalId, SmallText, Wall, canonical, canonical_ip};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use crate::words::Transport;

/// A moment, written as RFC 3339 in UTC with microseconds (`2026-11-21T10:00:00.000000Z`); any offset is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub Wall);

impl From<Wall> for Timestamp {
    fn from(wall: Wall) -> Self {
        Self(wall)
    }
}

impl From<Timestamp> for Wall {
    fn from(at: Timestamp) -> Self {
        at.0
    }
}

impl Timestamp {
    fn text(&self) -> SmallText<40> {
        self.0.text()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Wall::parse_rfc3339(text)
            .map(Self)
            .ok_or(IdError("a time is RFC 3339, such as 2026-11-21T10:00:00.000000Z"))
    }
}

/// An IP address in canonical form: an IPv4-mapped IPv6 address is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip(IpAddr);

impl Ip {
    /// The canonical address.
    #[must_use]
    pub const fn get(self) -> IpAddr {
        self.0
    }
}

/// `0.0.0.0`.
impl Default for Ip {
    fn default() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl From<IpAddr> for Ip {
    fn from(ip: IpAddr) -> Self {
        Self(canonical_ip(ip))
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Ip {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse::<IpAddr>().map(Self::from).map_err(|_| IdError("not an IP address"))
    }
}

/// An IP address and port in canonical form: `192.0.2.7:5060`, `[2001:db8::7]:5060`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SocketAddr);

impl Address {
    /// The canonical address.
    #[must_use]
    pub const fn get(self) -> SocketAddr {
        self.0
    }

    fn text(&self) -> SmallText<64> {
        let mut text = SmallText::default();
        text.socket(self.0);
        text
    }
}

/// `0.0.0.0:0`.
impl Default for Address {
    fn default() -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self(canonical(addr))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let addr: SocketAddr = text.parse().map_err(|_| IdError("not an IP address with a port"))?;
        Ok(Self::from(addr))
    }
}

/// An address with its transport, `udp:192.0.2.7:5060`: a peer's side (`received`) or one of our sockets (`socket`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TransportAddress {
    /// The transport; one that this release does not know reads as `unknown`.
    pub transport: Transport,
    /// The address and port.
    pub address: Address,
}

impl TransportAddress {
    /// From a transport and an address.
    #[must_use]
    pub fn new(transport: signalbox_base::Transport, address: SocketAddr) -> Self {
        Self { transport: transport.into(), address: address.into() }
    }

    /// The peer's side of a flow.
    #[must_use]
    pub fn remote(flow: &Flow) -> Self {
        Self::new(flow.transport, flow.remote)
    }

    /// Our side of a flow.
    #[must_use]
    pub fn local(flow: &Flow) -> Self {
        Self::new(flow.transport, flow.local)
    }

    fn text(&self) -> SmallText<80> {
        let mut text = SmallText::default();
        text.push(self.transport.as_str());
        text.push(":");
        text.socket(self.address.0);
        text
    }
}

impl fmt::Display for TransportAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.address)
    }
}

impl FromStr for TransportAddress {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (transport, address) =
            text.split_once(':').ok_or(IdError("not transport:address:port, such as udp:192.0.2.7:5060"))?;
        Ok(Self { transport: Transport::read(transport), address: address.parse()? })
    }
}

/// The flow a message came over: transport and both addresses, canonical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct FlowData {
    /// Transport protocol.
    pub transport: Transport,
    /// The edge's own address and port.
    pub local: Address,
    /// The peer's address and port, as seen by the edge.
    #[schemars(extend("x-personal-data" = true))]
    pub remote: Address,
}

impl From<&Flow> for FlowData {
    fn from(flow: &Flow) -> Self {
        Self { transport: flow.transport.into(), local: flow.local.into(), remote: flow.remote.into() }
    }
}

impl From<Flow> for FlowData {
    fn from(flow: Flow) -> Self {
        Self::from(&flow)
    }
}

/// The `id` of an event: `<journal-id>.<sequence>`. The same event has the same id in every replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The journal, or the store of a projection or consumer.
    pub journal: JournalId,
    /// The position in it; the first is 1.
    pub seq: EventSeq,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.journal, self.seq)
    }
}

impl FromStr for EventId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        const WRONG: IdError = IdError("an event id is <journal-id>.<sequence>");
        let (journal, seq) = text.split_once('.').ok_or(WRONG)?;
        let digits = !seq.is_empty() && seq.bytes().all(|b| b.is_ascii_digit());
        let seq = if digits { seq.parse().map_err(|_| WRONG)? } else { return Err(WRONG) };
        Ok(Self { journal: journal.parse()?, seq: EventSeq(seq) })
    }
}

/// A contact's preference, 0 to 1 in thousandths (RFC 3261 §20.10), written as a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QValue(u16);

impl QValue {
    /// From thousandths; more than 1000 is 1000.
    #[must_use]
    pub const fn from_thousandths(thousandths: u16) -> Self {
        Self(if thousandths > 1000 { 1000 } else { thousandths })
    }

    /// The preference in thousandths, 0 to 1000.
    #[must_use]
    pub const fn thousandths(self) -> u16 {
        self.0
    }
}

/// 1, the preference of a contact that names none.
impl Default for QValue {
    fn default() -> Self {
        Self(1000)
    }
}

impl Serialize for QValue {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            s.serialize_u16(self.0 / 1000)
        } else {
            s.serialize_f64(f64::from(self.0) / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for QValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let q = f64::deserialize(d)?;
        if !(0.0..=1.0).contains(&q) {
            return Err(de::Error::custom("a q-value is 0 to 1"));
        }
        // In range by the check above; three decimals are all that RFC 3261 allows.
        Ok(Self((q * 1000.0).round() as u16))
    }
}

impl JsonSchema for QValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "QValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

impl Ip {
    fn text(&self) -> SmallText<48> {
        let mut text = SmallText::default();
        match self.0 {
            IpAddr::V4(ip) => text.ipv4(ip),
            IpAddr::V6(ip) => {
                let _ = fmt::Write::write_fmt(&mut text, format_args!("{ip}"));
            }
        }
        text
    }
}

impl EventId {
    fn text(&self) -> SmallText<48> {
        let mut text = SmallText::default();
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{self}"));
        text
    }
}

/// Text in JSON, as it is displayed; read by `FromStr`.
macro_rules! as_text {
    ($type:ident, $schema:tt) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.text().as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

as_text!(Timestamp, { "type": "string", "format": "date-time" });
as_text!(Ip, { "type": "string", "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] });
as_text!(Address, { "type": "string", "pattern": "^([0-9.]+|\\[[0-9a-f:.]+\\]):[0-9]{1,5}$" });
as_text!(TransportAddress, { "type": "string", "pattern": "^[a-z0-9]+:([0-9.]+|\\[[0-9a-f:.]+\\]):[0-9]{1,5}$" });
as_text!(EventId, { "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}\\.[0-9]+$" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_written_as_ipv4() {
        let address: Address = "[::ffff:192.0.2.7]:5060".parse().unwrap();
        assert_eq!(address.to_string(), "192.0.2.7:5060");
        let ip: Ip = serde_json::from_str("\"::ffff:192.0.2.7\"").unwrap();
        assert_eq!(ip.to_string(), "192.0.2.7");
    }

    #[test]
    fn a_flow_of_a_dual_stack_socket_is_told_by_its_ipv4_addresses() {
        let (local, remote) =
            ("[::ffff:192.0.2.1]:5060".parse().unwrap(), "[::ffff:192.0.2.7]:41822".parse().unwrap());
        let (listener, transport) = (signalbox_base::ListenerId(0), signalbox_base::Transport::Tcp);
        let flow = Flow { listener, transport, local, remote, conn: None };
        let json = r#"{"transport":"tcp","local":"192.0.2.1:5060","remote":"192.0.2.7:41822"}"#;
        assert_eq!(serde_json::to_string(&FlowData::from(flow)).unwrap(), json);
        assert_eq!(TransportAddress::remote(&flow).to_string(), "tcp:192.0.2.7:41822");
        assert_eq!(TransportAddress::local(&flow).to_string(), "tcp:192.0.2.1:5060");
    }

    #[test]
    fn a_moment_is_text_with_microseconds() {
        let at = Timestamp(Wall(951_782_400_000_001));
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2000-02-29T00:00:00.000001Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>("\"2000-02-29T01:00:00.000001+01:00\"").unwrap(), at);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
    }

    #[test]
    fn a_transport_of_tomorrow_is_unknown_and_its_address_is_kept() {
        let socket: TransportAddress = "quic:[2001:db8::1]:5061".parse().unwrap();
        assert_eq!(socket.transport, Transport::Unknown);
        assert_eq!(socket.address.to_string(), "[2001:db8::1]:5061");
        assert_eq!(
            "tls:192.0.2.1:5061".parse::<TransportAddress>().unwrap().to_string(),
            "tls:192.0.2.1:5061"
        );
    }

    #[test]
    fn an_event_id_reads_as_it_is_written() {
        let id = EventId { journal: JournalId::new(1_763_719_200_000, [7; 10]), seq: EventSeq(42) };
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        for bad in ["", "42", "x.42", &format!("{}.", id.journal), &format!("{}.+4", id.journal)] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_q_value_survives_json() {
        for thousandths in 0..=1000 {
            let q = QValue::from_thousandths(thousandths);
            let json = serde_json::to_string(&q).unwrap();
            assert_eq!(serde_json::from_str::<QValue>(&json).unwrap(), q, "{json}");
        }
        assert_eq!(serde_json::to_string(&QValue::default()).unwrap(), "1");
        assert!(serde_json::from_str::<QValue>("1.5").is_err());
    }
}
