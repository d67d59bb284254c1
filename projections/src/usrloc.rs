//! The written forms of the usual usrloc `location` table.

use signalbox_base::{Text, fnv1a};
use signalbox_schemas::values::TransportAddress;
use signalbox_schemas::words::Transport;

/// Bits of the `methods` column.
const METHODS: [(&str, i64); 14] = [
    ("INVITE", 1),
    ("CANCEL", 2),
    ("ACK", 4),
    ("BYE", 8),
    ("INFO", 16),
    ("REGISTER", 32),
    ("SUBSCRIBE", 64),
    ("NOTIFY", 128),
    ("MESSAGE", 256),
    ("OPTIONS", 512),
    ("PRACK", 1024),
    ("UPDATE", 2048),
    ("REFER", 4096),
    ("PUBLISH", 8192),
];

/// The bit mask of methods; `None` when the phone named none. Methods without a bit do not show.
pub(crate) fn methods(names: &[Text]) -> Option<i64> {
    let bit =
        |name: &Text| METHODS.iter().find(|(known, _)| *known == name.as_str()).map_or(0, |(_, bit)| *bit);
    (!names.is_empty()).then(|| names.iter().fold(0, |mask, name| mask | bit(name)))
}

/// `sip:192.0.2.7:5060`, with `;transport=` unless it is UDP.
pub(crate) fn received(from: &TransportAddress) -> String {
    match from.transport {
        Transport::Udp | Transport::Unknown => format!("sip:{}", from.address),
        other => format!("sip:{};transport={other}", from.address),
    }
}

/// What stands before the `@` of an AoR; empty when there is none.
pub(crate) fn user_of(aor: &str) -> &str {
    aor.rsplit_once('@').map_or("", |(user, _)| user)
}

/// A positive number that is always the same for the same key (FNV-1a, 63 bits, each part ended by a zero byte).
pub(crate) fn row_id(key: &[&str]) -> i64 {
    let hash = fnv1a(0, key.iter().flat_map(|part| part.bytes().chain([0])));
    i64::try_from(hash >> 1).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_the_usual_bits() {
        assert_eq!(methods(&[]), None);
        assert_eq!(methods(&["INVITE".into(), "BYE".into(), "X-OWN".into()]), Some(9));
        assert_eq!(METHODS.iter().fold(0, |mask, (_, bit)| mask | bit), 16_383);
    }

    #[test]
    fn received_is_a_sip_uri() {
        let udp: TransportAddress = "udp:192.0.2.7:5060".parse().unwrap();
        let tls: TransportAddress = "tls:[2001:db8::7]:5061".parse().unwrap();
        assert_eq!(received(&udp), "sip:192.0.2.7:5060");
        assert_eq!(received(&tls), "sip:[2001:db8::7]:5061;transport=tls");
    }

    #[test]
    fn the_row_id_tells_keys_apart_by_their_parts() {
        assert_ne!(row_id(&["ab", "c"]), row_id(&["a", "bc"]));
        assert!(row_id(&["acme", "401@acme.test"]) > 0);
    }
}
