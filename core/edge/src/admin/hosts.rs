//! Under which names the HTTP port answers.
//!
//! A page in the browser of somebody who reaches this port can point a name of its own at it (DNS rebinding) and would
//! then read as its own what is told here. Such a request bears that name in `Host`; whoever asks by an address, by
//! `localhost` or by a name that we know as ours is no such page.

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// What may be asked under any name: load balancers look here, and call us as they like.
const ANYWHERE: [&str; 2] = ["/health", "/ready"];

/// Names of this machine, besides its addresses and `localhost`.
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Arc<Self> {
        Arc::new(Self(names.iter().map(|name| name.trim_end_matches('.').to_owned()).collect()))
    }

    /// Whether a `Host` (RFC 9110 §7.2: `host[:port]`) is one of ours.
    fn knows(&self, host: &str) -> bool {
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let name = match host.rsplit_once(':') {
            Some((name, port)) if digits(port) => name,
            _ => host,
        };
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let name = name.trim_end_matches('.');
        bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Before HTTP/1.1 nobody had to say a name, and browsers are not so old.
    fn know(&self, headers: &HeaderMap) -> bool {
        headers.get_all(HOST).iter().all(|host| host.to_str().is_ok_and(|host| self.knows(host)))
    }
}

/// Refuses what comes under a name that is none of ours.
pub(super) async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    if ANYWHERE.contains(&request.uri().path()) || hosts.know(request.headers()) {
        return next.run(request).await;
    }
    let why =
        "this port does not answer to that name: ask it by its address, or add the name to [admin] hosts\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_own_names_are_known_and_nothing_else() {
        let hosts = Hosts::new(&["edge-1.example.net.".to_owned(), "Prometheus-Target".to_owned()]);
        for ours in [
            "127.0.0.1:8060",
            "203.0.113.5",
            "[::1]:8060",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST:8060",
            "localhost.:8060",
            "edge-1.example.net:8060",
            "EDGE-1.example.net.",
            "prometheus-target:80",
        ] {
            assert!(hosts.knows(ours), "{ours}");
        }
        for theirs in [
            "",
            "evil.example",
            "evil.example:8060",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "edge-1.example.net.evil.example",
            "evil.example:8060:127.0.0.1",
            "[::1].evil.example",
            "127.0.0.1@evil.example",
        ] {
            assert!(!hosts.knows(theirs), "{theirs}");
        }
    }
}
