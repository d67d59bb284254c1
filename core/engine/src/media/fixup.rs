//! Private addresses in a phone's session description, put right from where its packets come from.

use signalbox_base::canonical_ip;
use signalbox_sip::header::HeaderName;
use signalbox_sip::sdp::replace_addresses;
use signalbox_sip::{Forward, Message};
use std::net::IpAddr;

/// Whether an address means nothing outside its own network: RFC 1918, RFC 6598, link-local, RFC 4193.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match canonical_ip(ip) {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Rewrites private addresses of an SDP body to `source`, the address that the peer is seen at; gives how many. Nothing is
/// touched when `source` is private itself (phone and edge share a network), when the families differ, or when the body is
/// no SDP that reads.
pub fn fix<B: AsRef<[u8]>>(message: &Message<B>, source: IpAddr, forward: &mut Forward<'_>) -> usize {
    let source = canonical_ip(source);
    let is_sdp = message
        .value(HeaderName::ContentType)
        .and_then(|kind| kind.split(|b| *b == b';').next())
        .is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/sdp"));
    if !is_sdp || is_private(source) {
        return 0;
    }
    let body = message.body();
    let replace = |ip: IpAddr| (is_private(ip) && ip.is_ipv4() == source.is_ipv4()).then_some(source);
    // A description that does not read passes as it is: whoever wrote it may still be understood by the other side.
    replace_addresses(body, body, replace, forward).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_sip::Limits;

    fn fixed(address: &str, source: &str) -> (usize, String) {
        let sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"
        );
        let text = format!(
            "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).unwrap();
        let mut forward = Forward::new(&message);
        let edits = fix(&message, source.parse().unwrap(), &mut forward);
        let mut out = Vec::new();
        forward.write_into(&mut out);
        (edits, String::from_utf8(out).unwrap())
    }

    #[test]
    fn given_a_phone_behind_nat_when_it_offers_its_private_address_then_the_seen_one_stands_there() {
        let (edits, text) = fixed("10.0.0.7", "203.0.113.9");
        assert_eq!(edits, 2);
        assert!(text.contains("c=IN IP4 203.0.113.9\r\n") && !text.contains("10.0.0.7"));
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())));
    }

    #[test]
    fn given_a_public_address_or_a_shared_network_when_offered_then_nothing_changes() {
        assert_eq!(fixed("198.51.100.1", "203.0.113.9").0, 0);
        assert_eq!(fixed("10.0.0.7", "10.0.0.8").0, 0);
        assert_eq!(fixed("10.0.0.7", "2001:db8::1").0, 0);
    }

    #[test]
    fn private_addresses_are_known() {
        for (ip, private) in [
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("100.64.0.1", true),
            ("169.254.1.1", true),
            ("192.0.2.1", false),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:192.168.0.1", true),
        ] {
            assert_eq!(is_private(ip.parse().unwrap()), private, "{ip}");
        }
    }
}
