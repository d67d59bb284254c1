//! From NAPTR and SRV records to services: which transport, in which order (RFC 3263 §4.1, §4.2).

use super::Transport;
use hickory_resolver::proto::rr::rdata::NAPTR;
use hickory_resolver::proto::rr::{Name, RData};

/// A service at one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) transport: Transport,
    pub(super) priority: u32,
    pub(super) weight: u16,
    pub(super) host: String,
    pub(super) port: u16,
}

/// The owner of a transport's SRV records (RFC 3263 §4.1).
pub(super) fn name_of(transport: Transport, host: &str) -> String {
    match transport {
        Transport::Udp => format!("_sip._udp.{host}"),
        Transport::Tls | Transport::Wss => format!("_sips._tcp.{host}"),
        Transport::Tcp | Transport::Ws => format!("_sip._tcp.{host}"),
    }
}

/// The SRV names that NAPTR records lead to, in their order, of transports that may be used. Records of a higher order than
/// the first usable one are none of ours (RFC 3403 §4.1).
pub(super) fn of_naptr(records: &[RData], usable: &[Transport]) -> Vec<(Transport, String)> {
    let mut known: Vec<(&NAPTR, Transport)> = records
        .iter()
        .filter_map(|record| match record {
            RData::NAPTR(naptr) if naptr.flags.eq_ignore_ascii_case(b"s") => {
                Some((naptr, transport_of(&naptr.services)?))
            }
            _ => None,
        })
        .filter(|(_, transport)| usable.contains(transport))
        .collect();
    known.sort_by_key(|(naptr, _)| (naptr.order, naptr.preference));
    let order = known.first().map(|(naptr, _)| naptr.order);
    known
        .into_iter()
        .filter(|(naptr, _)| Some(naptr.order) == order)
        .map(|(naptr, transport)| (transport, written(&naptr.replacement)))
        .collect()
}

/// Hosts of SRV records. A target of `.` says that the service is not there (RFC 2782).
pub(super) fn of_srv(records: &[RData], rank: usize, transport: Transport) -> Vec<Service> {
    let rank = u32::try_from(rank).unwrap_or(u32::MAX >> 16) << 16;
    records
        .iter()
        .filter_map(|record| match record {
            RData::SRV(srv) if !srv.target.is_root() => Some(Service {
                transport,
                priority: rank | u32::from(srv.priority),
                weight: srv.weight,
                host: format!("{}.", written(&srv.target)),
                port: srv.port,
            }),
            _ => None,
        })
        .collect()
}

fn transport_of(services: &[u8]) -> Option<Transport> {
    const KNOWN: [(&[u8], Transport); 3] =
        [(b"SIP+D2U", Transport::Udp), (b"SIP+D2T", Transport::Tcp), (b"SIPS+D2T", Transport::Tls)];
    KNOWN.iter().find(|(name, _)| services.eq_ignore_ascii_case(name)).map(|(_, transport)| *transport)
}

fn written(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.truncate(text.trim_end_matches('.').len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::rdata::SRV;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a name")
    }

    fn naptr(order: u16, preference: u16, flags: &str, services: &str, replacement: &str) -> RData {
        let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
        RData::NAPTR(NAPTR::new(
            order,
            preference,
            bytes(flags),
            bytes(services),
            bytes(""),
            name(replacement),
        ))
    }

    #[test]
    fn given_the_naptr_records_of_rfc_3263_then_their_order_says_which_transport_is_first() {
        let records = [
            naptr(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com."),
            naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
            naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
            naptr(10, 50, "u", "E2U+sip", "."),
        ];
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
        let first = |usable: &[Transport]| of_naptr(&records, usable);
        assert_eq!(first(&all), [(Transport::Tls, "_sips._tcp.example.com".to_owned())]);
        assert_eq!(first(&all[..2]), [(Transport::Tcp, "_sip._tcp.example.com".to_owned())]);
        assert_eq!(first(&all[..1]), [(Transport::Udp, "_sip._udp.example.com".to_owned())]);
    }

    #[test]
    fn given_naptr_records_of_one_order_then_preference_ranks_them_and_each_may_be_tried() {
        let records = [
            naptr(10, 20, "S", "sip+d2u", "_sip._udp.example.com."),
            naptr(10, 10, "s", "SIP+D2T", "_sip._tcp.elsewhere.net."),
        ];
        let found = of_naptr(&records, &[Transport::Udp, Transport::Tcp]);
        let expected =
            [(Transport::Tcp, "_sip._tcp.elsewhere.net"), (Transport::Udp, "_sip._udp.example.com")];
        assert_eq!(found, expected.map(|(transport, name)| (transport, name.to_owned())));
    }

    #[test]
    fn given_srv_records_then_ranks_come_before_priorities_and_a_dot_is_no_host() {
        let record = |priority, target| RData::SRV(SRV::new(priority, 5, 5060, name(target)));
        let records = [record(65_535, "a.example.com."), record(1, ".")];
        let found = of_srv(&records, 0, Transport::Udp);
        assert_eq!((found.len(), found[0].host.as_str()), (1, "a.example.com."));
        let later = of_srv(&[record(0, "b.example.com.")], 1, Transport::Tcp);
        assert!(found[0].priority < later[0].priority);
    }
}
