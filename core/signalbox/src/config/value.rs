//! Values with units and addresses, as people write them in the file.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use signalbox_base::Transport;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

macro_rules! text_value {
    ($name:ident, $title:literal, $pattern:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

/// A duration with its unit: `"2ms"`, `"30s"`, `"5m"`, `"1h"`, `"30d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

text_value!(Span, "Duration", "^[0-9]+(ms|s|m|h|d)$");

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("\"{text}\" is not a duration|write a number and ms, s, m, h or d, for example \"30s\"")
        };
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        let factor = SPAN_UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(wrong)?.1;
        number.checked_mul(factor).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, factor) = SPAN_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| ms >= *factor && ms % factor == 0)
            .unwrap_or(&SPAN_UNITS[0]);
        write!(f, "{}{unit}", ms / factor)
    }
}

/// A size with its unit, `"64MiB"`, or a share of the file system, `"60%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// Per cent of the file system that holds `data_dir`, 1 to 95.
    Percent(u8),
}

text_value!(Size, "Size", "^[0-9]+(B|KiB|MiB|GiB|TiB|%)$");

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is not a size|write a number and KiB, MiB, GiB or %, for example \"64MiB\" or \"60%\""
            )
        };
        let (number, unit) = split_unit(text).ok_or_else(wrong)?;
        if unit == "%" {
            let percent = u8::try_from(number).ok().filter(|p| (1..=95).contains(p));
            return percent
                .map(Self::Percent)
                .ok_or_else(|| format!("\"{text}\" is out of range|write 1% to 95%"));
        }
        let factor = SIZE_UNITS.iter().find(|(u, _)| *u == unit).ok_or_else(wrong)?.1;
        number.checked_mul(factor).map(Self::Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Percent(p) => write!(f, "{p}%"),
            Self::Bytes(0) => f.write_str("0B"),
            Self::Bytes(bytes) => {
                let (unit, factor) =
                    SIZE_UNITS.iter().rev().find(|(_, x)| bytes % x == 0).unwrap_or(&SIZE_UNITS[0]);
                write!(f, "{}{unit}", bytes / factor)
            }
        }
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// `transport:host[:port]`: `"udp:10.0.0.11:5060"`, `"udp:pbx.example.net"`, `"udp:[2001:db8::1]:5060"`; of a peer also
/// `sip:host` and `sips:host`, whose transport DNS chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Transport before the first colon.
    pub transport: Transport,
    /// IP address or host name, without brackets, lower case.
    pub host: String,
    /// Port, if one is written.
    pub port: Option<u16>,
    /// Whether it is written `sip:` (UDP where DNS says nothing) or `sips:` (TLS alone).
    pub any_transport: bool,
}

text_value!(Address, "Address", "^(udp|tcp|tls|ws|wss|sip|sips):.+$");

impl Address {
    /// The socket address, when the host is an IP address.
    pub fn literal(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(signalbox_base::canonical(SocketAddr::new(ip, self.port())))
    }

    /// The port, or the transport's default.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.transport.default_port())
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const FIX: &str = "write transport:host[:port], for example \"udp:10.0.0.30:5060\"";
        let (transport, rest) =
            text.split_once(':').ok_or_else(|| format!("\"{text}\" names no transport|{FIX}"))?;
        let (transport, any_transport) = match transport {
            "sip" => (Transport::Udp, true),
            "sips" => (Transport::Tls, true),
            named => (
                named
                    .parse()
                    .map_err(|()| format!("\"{named}\" is not udp, tcp, tls, ws, wss, sip or sips|{FIX}"))?,
                false,
            ),
        };
        let wrong = || format!("\"{text}\" is not an IP address or host name|{FIX}");
        let (host, port) = split_host_port(rest).ok_or_else(wrong)?;
        if !(host.parse::<IpAddr>().is_ok() || is_host_name(host)) {
            return Err(wrong());
        }
        let port = match port {
            None => None,
            Some(p) => Some(
                p.parse()
                    .ok()
                    .filter(|p| *p > 0)
                    .ok_or_else(|| format!("\"{p}\" is not a port|write 1 to 65535"))?,
            ),
        };
        Ok(Self { transport, host: host.to_ascii_lowercase(), port, any_transport })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracket = self.host.contains(':');
        let (open, close) = if bracket { ("[", "]") } else { ("", "") };
        match (self.any_transport, self.transport) {
            (true, Transport::Tls) => f.write_str("sips")?,
            (true, _) => f.write_str("sip")?,
            (false, transport) => write!(f, "{transport}")?,
        }
        write!(f, ":{open}{}{close}", self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// Splits `host[:port]`, `[v6][:port]` or a bare IPv6 address; brackets are taken off.
pub fn split_host_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    if text.matches(':').count() > 1 {
        return Some((text, None));
    }
    Some(text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))))
}

/// RFC 1123 host name whose last label is not all digits (so that `10.0.0.300` is no name).
pub fn is_host_name(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    let last_is_number = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !text.is_empty() && text.split('.').all(label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_print_as_written() {
        for text in ["2ms", "30s", "5m", "1h", "30d", "1500ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["64MiB", "60%", "1KiB", "3B", "2TiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for bad in ["", "30", "s", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["", "64", "0%", "96%", "64MB", "99999999999TiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let v6: Address = "udp:[2001:db8::1]:5070".parse().unwrap();
        assert_eq!((v6.host.as_str(), v6.port), ("2001:db8::1", Some(5070)));
        assert_eq!(v6.to_string(), "udp:[2001:db8::1]:5070");
        assert_eq!("udp:PBX.example.net".parse::<Address>().unwrap().to_string(), "udp:pbx.example.net");
        for text in ["sip:pbx.example.net", "sips:pbx.example.net:5071"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for bad in [
            "10.0.0.1",
            "udp:10.0.0.300",
            "udp:",
            "sctp:10.0.0.1",
            "udp:10.0.0.1:0",
            "udp:10.0.0.1:70000",
            "udp:a b",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
