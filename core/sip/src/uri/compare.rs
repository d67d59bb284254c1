//! When two URIs are the same (RFC 3261 §19.1.4, RFC 3966 §4).

use super::escape::decoded;
use super::{SipUri, TelUri, Uri};
use crate::header::Params;

/// Parameters that must be in both URIs or in neither. `transport` follows the section's examples: with and without it a
/// URI can resolve to different places.
const DECISIVE: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];

/// Whether both name the same resource.
#[must_use]
pub fn equivalent(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    match (a, b) {
        (Uri::Sip(a), Uri::Sip(b)) => sip(a, b),
        (Uri::Tel(a), Uri::Tel(b)) => tel(a, b),
        (Uri::Other { scheme: s, opaque: o }, Uri::Other { scheme: t, opaque: p }) => {
            s.eq_ignore_ascii_case(t) && o == p
        }
        _ => false,
    }
}

fn sip(a: &SipUri<'_>, b: &SipUri<'_>) -> bool {
    a.secure == b.secure
        && same(a.user, b.user, same_exactly)
        && same(a.password, b.password, same_exactly)
        && a.host_is(b.host)
        && a.port == b.port
        && shared_params_agree(a.params, b.params)
        && shared_params_agree(b.params, a.params)
        && same_headers(a.headers, b.headers)
}

fn tel(a: &TelUri<'_>, b: &TelUri<'_>) -> bool {
    let digits = |tel: &TelUri<'_>| {
        let mut out = Vec::with_capacity(tel.number.len());
        tel.write_digits(&mut out);
        out.make_ascii_lowercase();
        out
    };
    let all_in = |a: Params<'_>, b: Params<'_>| {
        a.into_iter().all(|p| b.get(p.name).is_some_and(|q| same(p.value, q.value, same_without_case)))
    };
    digits(a) == digits(b) && all_in(a.params, b.params) && all_in(b.params, a.params)
}

fn shared_params_agree(a: Params<'_>, b: Params<'_>) -> bool {
    a.into_iter().all(|param| match b.get(param.name) {
        Some(other) => same(param.value, other.value, same_without_case),
        None => !DECISIVE.iter().any(|name| name.eq_ignore_ascii_case(param.name)),
    })
}

/// The same headers in any order.
fn same_headers(a: &[u8], b: &[u8]) -> bool {
    let split = |h: &[u8]| h.split(|&b| b == b'&').filter(|h| !h.is_empty()).count();
    let found = |wanted: &[u8]| b.split(|&b| b == b'&').any(|header| same_header(wanted, header));
    split(a) == split(b) && a.split(|&b| b == b'&').filter(|h| !h.is_empty()).all(found)
}

fn same_header(a: &[u8], b: &[u8]) -> bool {
    let split = |h: &[u8]| memchr::memchr(b'=', h).unwrap_or(h.len());
    let (a_name, a_value) = a.split_at(split(a));
    let (b_name, b_value) = b.split_at(split(b));
    same_without_case(a_name, b_name) && same_exactly(a_value, b_value)
}

fn same(a: Option<&[u8]>, b: Option<&[u8]>, eq: fn(&[u8], &[u8]) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn same_exactly(a: &[u8], b: &[u8]) -> bool {
    decoded(a).eq(decoded(b))
}

fn same_without_case(a: &[u8], b: &[u8]) -> bool {
    decoded(a).map(|b| b.to_ascii_lowercase()).eq(decoded(b).map(|b| b.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same_uri(a: &str, b: &str) -> bool {
        let (a, b) =
            (Uri::parse(a.as_bytes()).expect("readable"), Uri::parse(b.as_bytes()).expect("readable"));
        let forth = equivalent(&a, &b);
        assert_eq!(forth, equivalent(&b, &a), "comparison must not depend on order");
        forth
    }

    #[test]
    fn equal_pairs_of_the_rfc() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::1]"),
            ("tel:+1-201-555-0123", "tel:+12015550123"),
        ] {
            assert!(same_uri(a, b), "{a} = {b}");
        }
    }

    #[test]
    fn unequal_pairs_of_the_rfc() {
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b", "sip:b"),
            ("tel:7042;phone-context=a.com", "tel:7042;phone-context=b.com"),
        ] {
            assert!(!same_uri(a, b), "{a} ≠ {b}");
        }
    }
}
