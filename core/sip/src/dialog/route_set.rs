//! Route sets and what a request within a dialog is addressed to (RFC 3261 §12.1, §12.2.1.1).

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
        routes.0.shrink_to_fit();
        routes
    }

    /// The callee's, from the Record-Route of a request: in order (RFC 3261 §12.1.1).
    #[must_use]
    pub fn of_request<'a>(record_route: impl IntoIterator<Item = &'a str>) -> Self {
        let mut routes: Vec<_> = record_route.into_iter().flat_map(split_list).map(Text::new).collect();
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
        if is_loose(first) {
            let (uri, routes) = (remote_target.clone(), self.0.clone());
            return RequestTarget { uri, routes, next_hop: hop.into() };
        }
        let mut routes = rest.to_vec();
        routes.push(Text::from(format!("<{remote_target}>")));
        let uri = Text::from(strict_request_uri(hop));
        RequestTarget { next_hop: uri.clone(), uri, routes }
    }
}

/// Splits a header value at the commas that separate list items: not those within quotes or angle brackets. Blank items
/// are left out; an unclosed quote or bracket takes the rest.
pub fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = item_end(rest);
            let item = rest[..end].trim_matches([' ', '\t', '\r', '\n']);
            rest = rest.get(end + 1..).unwrap_or("");
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    })
}

fn item_end(text: &str) -> usize {
    let (mut quoted, mut escaped, mut angled) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !angled => quoted = !quoted,
            _ if quoted => {}
            b'<' => angled = true,
            b'>' => angled = false,
            b',' if !angled => return at,
            _ => {}
        }
    }
    text.len()
}

/// Whether a Route or Record-Route value names a loose router: its URI has the parameter `lr`, with whatever value
/// (RFC 3261 §16.12.1.1). `;lr` in the user part, in URI headers, or after the bracket does not count.
#[must_use]
pub fn is_loose(value: &str) -> bool {
    let (_, params, _) = parts(uri_of(value));
    params.split(';').any(|param| param_name(param).eq_ignore_ascii_case("lr"))
}

/// The URI within angle brackets; a value without brackets is the URI up to its header parameters, of which a route has
/// none that matter, so all of it.
fn uri_of(value: &str) -> &str {
    let quote_end = closing_quote(value).unwrap_or(0);
    let Some(open) = value[quote_end..].find('<') else { return value.trim() };
    let inner = &value[quote_end + open + 1..];
    inner.split('>').next().unwrap_or(inner).trim()
}

/// The end of a display name in quotes, which may contain brackets.
fn closing_quote(value: &str) -> Option<usize> {
    let open = value.find('"').filter(|at| !value[..*at].contains('<'))?;
    let mut escaped = false;
    for (at, byte) in value.bytes().enumerate().skip(open + 1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A SIP URI as (up to the host and port, parameters, headers with their `?`).
fn parts(uri: &str) -> (&str, &str, &str) {
    // The user part may contain `;` and `?`; it ends at the only `@` (RFC 3261 §25.1).
    let host = uri.rfind('@').map_or(0, |at| at + 1);
    let headers = uri[host..].find('?').map_or(uri.len(), |at| host + at);
    let params = uri[host..headers].find(';').map_or(headers, |at| host + at);
    (&uri[..params], &uri[params..headers], &uri[headers..])
}

fn param_name(param: &str) -> &str {
    param.split('=').next().unwrap_or(param).trim()
}

/// A strict router's URI as a Request-URI: without `method` and headers, which are not allowed there
/// (RFC 3261 §19.1.1 table 1, §12.2.1.1).
fn strict_request_uri(uri: &str) -> String {
    let (base, params, _) = parts(uri);
    let mut out = String::with_capacity(uri.len());
    out.push_str(base);
    for param in params.split(';').skip(1).filter(|param| !param_name(param).eq_ignore_ascii_case("method")) {
        out.push(';');
        out.push_str(param);
    }
    out
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
    fn lr_is_a_parameter_of_the_uri_and_of_nothing_else() {
        for loose in [
            "<sip:p;lr>",
            "<sip:p;LR=on>",
            "\"a<b;c\" <sip:u;x@p:5060;transport=udp;lr=true?a=b>;x=1",
            "sip:p;lr",
        ] {
            assert!(is_loose(loose), "{loose}");
        }
        for strict in [
            "<sip:p>",
            "<sip:u;lr@p>",
            "<sip:p?a=;lr>",
            "<sip:p>;lr",
            "<sip:p;lrx>",
            "\"<sip:q;lr>\" <sip:p>",
        ] {
            assert!(!is_loose(strict), "{strict}");
        }
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate() {
        let value = "\"a, \\\"b\\\",\" <sip:a,b@p;lr> ,, <sip:q;lr>;x=1\r\n , <sip:open,";
        let items: Vec<_> = split_list(value).collect();
        assert_eq!(items, ["\"a, \\\"b\\\",\" <sip:a,b@p;lr>", "<sip:q;lr>;x=1", "<sip:open,"]);
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
