//! URIs as events show them: without the password and the headers that a URI may carry (RFC 3261 §19.1.1). Whatever reads
//! events must not learn how somebody logs in.

use signalbox_base::Text;
use std::borrow::Cow;

/// A URI of any scheme for an event: all of it but its password and headers. It need not be well formed; of what can be read
/// in two ways, more is left out.
pub(crate) fn public(uri: &[u8]) -> Text {
    Text::lossy(&without_secrets(uri))
}

/// The same for text, which is shared when all of it may be shown, as nearly always.
pub(crate) fn public_text(uri: &Text) -> Text {
    match without_secrets(uri.as_bytes()) {
        Cow::Borrowed(shown) if shown.len() == uri.len() => uri.clone(),
        shown => Text::lossy(&shown),
    }
}

/// The same for header values with addresses in angle brackets, such as Path; what is outside of them stays.
pub(crate) fn public_values(values: &Text) -> Text {
    if !values.bytes().any(|b| b == b'<') {
        return public_text(values);
    }
    let mut out: Vec<u8> = Vec::new();
    let mut rest = values.as_bytes();
    while let Some(open) = find(rest, b'<') {
        let (before, behind) = rest.split_at(open + 1);
        out.extend_from_slice(before);
        let close = find(behind, b'>').unwrap_or(behind.len());
        out.extend_from_slice(&without_secrets(&behind[..close]));
        rest = &behind[close..];
    }
    out.extend_from_slice(rest);
    Text::lossy(&out)
}

fn without_secrets(uri: &[u8]) -> Cow<'_, [u8]> {
    let scheme = find(uri, b':').map_or(0, |colon| colon + 1);
    let rest = &uri[scheme..];
    // The user part may hold a question mark; behind the `@` it starts the headers.
    let host = find(rest, b'@').unwrap_or(0);
    if rest[host..].iter().skip(1).any(|b| *b == b'@') {
        // Two readers find two hosts, and two passwords: only what is before all of them.
        let sure = rest.iter().position(|b| matches!(b, b':' | b'@' | b'?' | b';')).unwrap_or(0);
        return Cow::Borrowed(&uri[..scheme + sure]);
    }
    let end = find(&rest[host..], b'?').map_or(rest.len(), |at| host + at);
    match find(&rest[..host], b':') {
        Some(colon) => Cow::Owned([&uri[..scheme + colon], &rest[host..end]].concat()),
        None => Cow::Borrowed(&uri[..scheme + end]),
    }
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|b| *b == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(uri: &str) -> String {
        public(uri.as_bytes()).as_str().to_owned()
    }

    #[test]
    fn given_a_uri_with_a_password_or_headers_then_the_rest_of_it_is_shown() {
        for (uri, wanted) in [
            ("sip:401:s3cret@acme.test:5080;transport=tcp", "sip:401@acme.test:5080;transport=tcp"),
            ("sips:a?b:s3cret@acme.test", "sips:a?b@acme.test"),
            ("sip:401@acme.test?Authorization=Digest%20s3cret", "sip:401@acme.test"),
            ("sip:401:s3@cret@acme.test", "sip:401"),
            ("sip:401@acme.test?x=s3cret@b", "sip:401"),
            ("sip:401:@acme.test", "sip:401@acme.test"),
            ("http://user:s3cret@acme.test/x", "http://user@acme.test/x"),
        ] {
            assert_eq!(shown(uri), wanted);
        }
    }

    #[test]
    fn given_a_uri_without_secrets_then_it_is_shown_as_it_came() {
        for uri in [
            "sip:401@acme.test:5060;ob",
            "sip:acme.test:5060",
            "sip:[2001:db8::1]:5060",
            "sip:401@[2001:db8::1]:5060",
            "tel:+49301234;phone-context=x",
            "urn:service:sos",
            "nonsense",
            "",
        ] {
            assert_eq!(shown(uri), uri);
        }
    }

    #[test]
    fn given_values_with_addresses_then_each_is_shown_without_its_secrets() {
        let values = Text::new("\"A:b\" <sip:p:s3cret@h;lr>;x=1, <sip:q@h?s=3>, <sip:r:x@h");
        assert_eq!(public_values(&values).as_str(), "\"A:b\" <sip:p@h;lr>;x=1, <sip:q@h>, <sip:r@h");
        assert_eq!(public_values(&Text::new("sip:p:s3cret@h")).as_str(), "sip:p@h");
    }

    proptest! {
        #[test]
        fn whatever_the_uri_no_byte_behind_the_first_colon_of_its_user_part_is_shown(
            head in "[a-z0-9?;&/]{0,8}", secret in "[A-Z]{4}[A-Z:?;@/]{0,8}[A-Z]{4}", tail in "[a-z0-9.;=]{0,12}",
        ) {
            let text = shown(&format!("sip:{head}:{secret}@{tail}"));
            prop_assert!(!text.bytes().any(|b| b.is_ascii_uppercase()), "{text}");
        }
    }
}
