//! Route sets and what a request within a dialog is addressed to (RFC 3261 §12.1, §12.2.1.1).

use crate::header::{ListValues, NameAddr};
use crate::uri::SipUri;
use serde::{Deserialize, Serialize};
use signalbox_base::Text;

/// The elements a request visits on its way to the peer, as values of Route, first hop first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteSet(Vec<Text>);

/// Where a request within a dialog goes (RFC 3261 §12.2.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    /// Request-URI, without angle brackets.
    pub uri: Text,
    /// Values of Route, in order.
    pub routes: Vec<Text>,
    /// The URI whose host is contacted first: the first route's if there is one (RFC 3261 §8.1.2).
    pub next_hop: Text,
}

impl RouteSet {
    /// The caller's, from the Record-Route of a response: in reverse order (RFC 3261 §12.1.2). Each item may itself be a
    /// list, as on the wire.
    #[must_use]
    pub fn of_response<'a>(record_route: impl IntoIterator<Item = &'a str>) -> Self {
        let mut routes = Self::of_request(record_route);
        routes.0.reverse();
        routes
    }

    /// The callee's, from the Record-Route of a request: in order (RFC 3261 §12.1.1).
    #[must_use]
    pub fn of_request<'a>(record_route: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = record_route.into_iter();
        let mut routes: Vec<_> =
            lines.flat_map(|line| ListValues::new(line.as_bytes())).map(Text::lossy).collect();
        routes.shrink_to_fit();
        Self(routes)
    }

    /// The values, first hop first.
    #[must_use]
    pub fn as_slice(&self) -> &[Text] {
        &self.0
    }

    /// Request-URI and Route towards `remote_target`. A first hop without `lr` is a strict router: it becomes the
    /// Request-URI and the target goes last (RFC 3261 §12.2.1.1).
    #[must_use]
    pub fn address(&self, remote_target: &Text) -> RequestTarget {
        let Some((first, rest)) = self.0.split_first() else {
            let (uri, next_hop) = (remote_target.clone(), remote_target.clone());
            return RequestTarget { uri, routes: Vec::new(), next_hop };
        };
        let hop = uri_of(first);
        if is_loose(first.as_bytes()) {
            let (uri, routes) = (remote_target.clone(), self.0.clone());
            return RequestTarget { uri, routes, next_hop: Text::lossy(hop) };
        }
        let mut routes = rest.to_vec();
        routes.push(Text::from(format!("<{remote_target}>")));
        let uri = strict_request_uri(hop);
        RequestTarget { next_hop: uri.clone(), uri, routes }
    }
}

/// Whether a Route or Record-Route value names a loose router: its URI has the parameter `lr`, with whatever value
/// (RFC 3261 §16.12.1.1). A value without brackets can carry it as a header parameter only, which is taken as meant. What
/// cannot be read counts as loose: it is nothing to send a Request-URI from.
#[must_use]
pub fn is_loose(value: &[u8]) -> bool {
    let Ok(address) = NameAddr::parse(value) else { return true };
    if !address.bracketed && address.params.has(b"lr") {
        return true;
    }
    match SipUri::parse(address.uri) {
        Ok(uri) => uri.is_loose(),
        Err(_) => true,
    }
}

/// The URI of a route; the whole value when it is no address.
fn uri_of(value: &str) -> &[u8] {
    NameAddr::parse(value.as_bytes()).map_or(value.as_bytes(), |address| address.uri)
}

/// A strict router's URI as a Request-URI: without `method` and headers, which are not allowed there
/// (RFC 3261 §19.1.1 table 1, §12.2.1.1).
fn strict_request_uri(uri: &[u8]) -> Text {
    let Ok(parsed) = SipUri::parse(uri) else { return Text::lossy(uri) };
    // The user part may hold `;` and `?`; a URI that was read has one `@` at most, and it ends the user part.
    let host = uri.iter().position(|b| *b == b'@').map_or(0, |at| at + 1);
    let end = uri[host..].iter().position(|b| matches!(b, b';' | b'?')).map_or(uri.len(), |n| host + n);
    let mut out = uri[..end].to_vec();
    for param in parsed.params.filter(|param| !param.name.eq_ignore_ascii_case(b"method")) {
        out.push(b';');
        out.extend_from_slice(param.raw);
    }
    Text::lossy(&out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(values: &[&str]) -> Vec<Text> {
        values.iter().map(|value| Text::new(value)).collect()
    }

    #[test]
    fn the_caller_reverses_record_route_and_the_callee_does_not_rfc3261_12_1() {
        let lines = ["<sip:p3;lr>, <sip:p2;lr>", "<sip:p1;lr>"];
        let caller = RouteSet::of_response(lines);
        assert_eq!(caller.as_slice(), texts(&["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]));
        let callee = RouteSet::of_request(lines);
        assert_eq!(callee.as_slice(), texts(&["<sip:p3;lr>", "<sip:p2;lr>", "<sip:p1;lr>"]));
    }

    #[test]
    fn without_routes_the_target_is_addressed_directly_rfc3261_12_2_1_1() {
        let to = RouteSet::default().address(&"sip:bob@192.0.2.4".into());
        assert_eq!((to.uri.as_str(), to.next_hop.as_str()), ("sip:bob@192.0.2.4", "sip:bob@192.0.2.4"));
        assert!(to.routes.is_empty());
    }

    #[test]
    fn a_loose_first_hop_keeps_the_target_in_the_request_uri_rfc3261_12_2_1_1() {
        let to = RouteSet::of_request(["<sip:p1;lr>,<sip:p2>"]).address(&"sip:bob@192.0.2.4".into());
        assert_eq!((to.uri.as_str(), to.next_hop.as_str()), ("sip:bob@192.0.2.4", "sip:p1;lr"));
        assert_eq!(to.routes, texts(&["<sip:p1;lr>", "<sip:p2>"]));
    }

    #[test]
    fn a_strict_first_hop_becomes_the_request_uri_rfc3261_12_2_1_1() {
        let set = RouteSet::of_request(["<sip:p1;method=INVITE;transport=tcp?x=y>, <sip:p2;lr>"]);
        let to = set.address(&"sip:bob@192.0.2.4".into());
        assert_eq!((to.uri.as_str(), to.next_hop.as_str()), ("sip:p1;transport=tcp", "sip:p1;transport=tcp"));
        assert_eq!(to.routes, texts(&["<sip:p2;lr>", "<sip:bob@192.0.2.4>"]));
    }

    #[test]
    fn a_strict_hop_keeps_its_user_and_loses_only_what_a_request_uri_may_not_have_rfc3261_19_1_1() {
        for (hop, uri) in [
            ("<sip:u;m=1?@p;maddr=10.0.0.1;METHOD=BYE>", "sip:u;m=1?@p;maddr=10.0.0.1"),
            ("<sip:p:5070?>", "sip:p:5070"),
            ("Proxy <sips:p>;x=1", "sips:p"),
        ] {
            assert_eq!(RouteSet::of_request([hop]).address(&"sip:bob@192.0.2.4".into()).uri, uri);
        }
    }

    #[test]
    fn lr_is_a_parameter_of_the_uri_and_of_nothing_else() {
        for loose in [
            "<sip:p;lr>",
            "<sip:p;LR=on>",
            "\"a<b;c\" <sip:u;x@p:5060;transport=udp;lr=true?a=b>;x=1",
            "sip:p;lr",
        ] {
            assert!(is_loose(loose.as_bytes()), "{loose}");
        }
        for strict in [
            "<sip:p>",
            "<sip:u;lr@p>",
            "<sip:p?a=;lr>",
            "<sip:p>;lr",
            "<sip:p;lrx>",
            "\"<sip:q;lr>\" <sip:p>",
        ] {
            assert!(!is_loose(strict.as_bytes()), "{strict}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_addressed_without_a_panic(value in "[\"\\\\<>;,?@=lrsip: é]{0,40}", target in "\\PC{0,20}") {
            let set = RouteSet::of_response([value.as_str()]);
            let to = set.address(&Text::from(target));
            prop_assert!(to.routes.len() == set.as_slice().len());
        }
    }
}
