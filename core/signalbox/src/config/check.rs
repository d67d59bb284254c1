//! Judges meaning: what parses but cannot work, with the fix.

use super::model::{Backend, Domain, File, Listener, Served, Tenant};
use super::registrar::needs_no_backend;
use super::span::{Problem, Problems, Sources};
use super::value::{Address, is_host_name, split_host_port};
use signalbox_base::{TenantId, Transport};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Keys of the published configuration that this version does not act on: refused by name, not as typing errors.
const LATER: [(&str, &str); 1] = [("alert", "alerts are not part of this version")];

/// Refuses what a later version brings, before serde calls it unknown.
///
/// # Errors
/// One problem a key.
pub(super) fn unsupported(merged: &toml::Table, sources: &Sources) -> Result<(), Problems> {
    let found = LATER.iter().filter(|(key, _)| merged.contains_key(*key));
    let problems: Vec<_> = found
        .map(|(key, why)| {
            let path =
                if sources.origins.contains_key(*key) { (*key).to_owned() } else { format!("{key}[0]") };
            sources.problem(&path, *why, "remove it")
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Everything serde cannot see.
///
/// # Errors
/// All problems found.
pub(super) fn check(file: &File, sources: &Sources) -> Result<Vec<Problem>, Problems> {
    let mut check = Check { sources, problems: Vec::new(), warnings: Vec::new() };
    check.edge(file);
    check.listeners(&file.listener);
    check.tenants(file);
    super::trunk::check(&mut check, file);
    super::route::check(&mut check, file);
    super::template::check(&mut check, file);
    super::headers::check(&mut check, file);
    check.rest(file);
    super::connections::check(&mut check, file);
    super::dns::check(&mut check, file);
    super::outbound::check(&mut check, file);
    super::journal::check(&mut check, file);
    super::tls::check(&mut check, file);
    super::bus::check(&mut check, file);
    super::cluster::check(&mut check, file);
    super::registrar::check(&mut check, file);
    if check.problems.is_empty() { Ok(check.warnings) } else { Err(Problems(check.problems)) }
}

/// What is found, by all parts of the configuration.
pub(super) struct Check<'a> {
    pub(super) sources: &'a Sources,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Check<'_> {
    pub(super) fn wrong(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(self.sources.problem(path, message, fix));
    }

    /// How many mistakes were found so far.
    pub(super) fn mistakes(&self) -> usize {
        self.problems.len()
    }

    /// A mistake whose line is not to be shown.
    pub(super) fn wrong_unseen(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        let problem = self.sources.problem(path, message, fix);
        self.problems.push(Problem { excerpt: None, ..problem });
    }

    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.warnings.push(self.sources.problem(path, message, fix));
    }

    pub(super) fn name(&mut self, path: &str, name: &str) {
        if !is_name(name) {
            self.wrong(path, format!("\"{name}\" is not a name"), "write 1 to 63 letters, digits and -");
        }
    }

    pub(super) fn unknown_tenant(&mut self, path: &str, name: &str, file: &File) {
        let known: Vec<_> = file.tenant.iter().map(|tenant| tenant.name.as_str()).collect();
        self.wrong(
            path,
            format!("there is no tenant \"{name}\""),
            format!("write one of {}", known.join(", ")),
        );
    }

    pub(super) fn above_zero(&mut self, path: &str, limits: &[(&str, Option<u32>)]) {
        for (key, _) in limits.iter().filter(|(_, value)| *value == Some(0)) {
            self.wrong(&format!("{path}.{key}"), "0 would refuse everything", "leave it out for no limit");
        }
    }

    fn edge(&mut self, file: &File) {
        let names = [("edge.cluster", Some(&file.edge.cluster)), ("edge.name", file.edge.name.as_ref())];
        for (path, name) in names {
            if let Some(name) = name {
                self.name(path, name);
            }
        }
        if file.edge.name.as_deref() == Some("store") {
            self.wrong(
                "edge.name",
                "\"store\" is the source of the tables' own events",
                "choose another name",
            );
        }
    }

    fn listeners(&mut self, listeners: &[Listener]) {
        let mut seen: BTreeMap<(Transport, SocketAddr), usize> = BTreeMap::new();
        for (i, listener) in listeners.iter().enumerate() {
            let path = format!("listener[{i}].address");
            let address = &listener.address;
            match address.literal() {
                _ if address.any_transport => self.wrong(
                    &path,
                    format!("\"{address}\" names no transport"),
                    "write udp:, tcp:, tls:, ws: or wss:",
                ),
                None => self.wrong(
                    &path,
                    format!("\"{}\" is not an IP address", address.host),
                    "listen on an address of this machine, or 0.0.0.0",
                ),
                Some(bound) => {
                    if let Some(other) = seen.insert((address.transport, bound), i) {
                        self.wrong(
                            &path,
                            format!("listener[{other}] has the same address"),
                            "give each listener its own port",
                        );
                    }
                }
            }
            if let Some(advertise) = &listener.advertise {
                self.host_port(&format!("listener[{i}].advertise"), advertise);
            }
            if let Some(domain) = &listener.domain {
                self.domain_name(&format!("listener[{i}].domain"), domain);
            }
            if listener.serves.as_ref().is_some_and(Vec::is_empty) {
                self.wrong(
                    &format!("listener[{i}].serves"),
                    "nobody is served here",
                    "name endpoints, backends or both, or leave it out",
                );
            }
            if listener.serves.is_none() && listeners.iter().any(|l| l.network != listener.network) {
                self.wrong(
                    &path,
                    "with several networks each listener must say whom it serves",
                    "add serves = [\"endpoints\"] or [\"backends\"]",
                );
            }
        }
    }

    fn host_port(&mut self, path: &str, text: &str) {
        let good = split_host_port(text).is_some_and(|(host, port)| {
            (host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) || is_host_name(host))
                && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0))
        });
        if !good {
            self.wrong(
                path,
                format!("\"{text}\" cannot be told to peers"),
                "write host[:port], for example \"sbc.example.net:5060\"",
            );
        }
    }

    fn domain_name(&mut self, path: &str, name: &str) {
        if name.ends_with('.') {
            let fix = format!("write \"{}\"", name.trim_end_matches('.'));
            self.wrong(path, format!("\"{name}\" ends with a dot"), fix);
        } else if !(is_host_name(name) || name.parse::<IpAddr>().is_ok()) {
            self.wrong(
                path,
                format!("\"{name}\" is not a domain"),
                "write a host name, for example \"acme.example.net\"",
            );
        }
    }

    fn tenants(&mut self, file: &File) {
        if file.tenant.is_empty() {
            self.wrong(
                "tenant",
                "there is no tenant",
                "add a [[tenant]] with name, domains and backends; `signalbox init` writes one",
            );
        }
        let mut domains: BTreeMap<String, String> = BTreeMap::new();
        let mut sources: BTreeMap<(Transport, String, u16), String> = BTreeMap::new();
        for (i, tenant) in file.tenant.iter().enumerate() {
            let path = format!("tenant[{i}]");
            if let Err(e) = tenant.name.parse::<TenantId>() {
                self.wrong(
                    &format!("{path}.name"),
                    format!("\"{}\": {e}", tenant.name),
                    "for example \"acme\"",
                );
            }
            if file.tenant[..i].iter().any(|t| t.name == tenant.name) {
                self.wrong(
                    &format!("{path}.name"),
                    format!("there are two tenants \"{}\"", tenant.name),
                    "give each its own name",
                );
            }
            self.domains(&path, tenant, &mut domains);
            if tenant.backends.is_empty() && !needs_no_backend(&tenant.domains) {
                self.wrong(
                    &format!("{path}.backends"),
                    "there is no backend",
                    "add { name = \"pbx-1\", address = \"udp:10.0.0.11:5060\" }",
                );
            }
            for (j, backend) in tenant.backends.iter().enumerate() {
                let path = format!("{path}.backends[{j}]");
                if tenant.backends[..j].iter().any(|b| b.name == backend.name) {
                    self.wrong(
                        &format!("{path}.name"),
                        format!("there are two backends \"{}\"", backend.name),
                        "give each its own name",
                    );
                }
                let key = (backend.address.transport, backend.address.host.clone(), backend.address.port());
                if let Some(other) = sources.insert(key, format!("{}/{}", tenant.name, backend.name)) {
                    self.wrong(
                        &format!("{path}.address"),
                        format!("{other} has the same address and port: their calls could not be told apart"),
                        "give each PBX its own address or port",
                    );
                }
                self.backend(&path, file, tenant, backend);
            }
            let limits = [
                ("registrations", tenant.limits.registrations),
                ("calls", tenant.limits.calls),
                ("calls_per_second", tenant.limits.calls_per_second),
                ("calls_per_user", tenant.limits.calls_per_user),
                ("calls_per_number", tenant.limits.calls_per_number),
            ];
            self.above_zero(&format!("{path}.limits"), &limits);
        }
    }

    fn domains(&mut self, path: &str, tenant: &Tenant, seen: &mut BTreeMap<String, String>) {
        if tenant.domains.is_empty() {
            self.wrong(
                &format!("{path}.domains"),
                "there is no domain",
                "name at least one, for example [\"acme.example.net\"]",
            );
        }
        for (j, domain) in tenant.domains.iter().enumerate() {
            let at = format!("{path}.domains[{j}]");
            let at_name = if matches!(domain, Domain::Name(_)) { at.clone() } else { format!("{at}.name") };
            let aliases =
                domain.aliases().iter().enumerate().map(|(k, a)| (format!("{at}.aliases[{k}]"), a.as_str()));
            for (path, name) in std::iter::once((at_name, domain.name())).chain(aliases) {
                self.domain_name(&path, name);
                if let Some(owner) = seen.insert(name.to_ascii_lowercase(), tenant.name.clone()) {
                    self.wrong(
                        &path,
                        format!("\"{name}\" is named twice (tenant {owner})"),
                        "a domain or alias belongs to exactly one place",
                    );
                }
            }
        }
    }

    fn backend(&mut self, path: &str, file: &File, tenant: &Tenant, backend: &Backend) {
        self.name(&format!("{path}.name"), &backend.name);
        self.peer_sources(path, &backend.source);
        let known: Vec<_> = tenant.domains.iter().map(Domain::name).collect();
        if let Some(domain) = &backend.domain
            && !known.iter().any(|name| name.eq_ignore_ascii_case(domain))
        {
            self.wrong(
                &format!("{path}.domain"),
                format!("\"{domain}\" is no domain of tenant {}", tenant.name),
                format!("write one of {}", known.join(", ")),
            );
        }
        self.peer_place(path, file, Served::Backends, backend.network.as_ref(), &backend.address);
        if let Some(probe) = &backend.probe {
            self.probe(&format!("{path}.probe"), probe);
        }
    }

    fn peer_address(&mut self, path: &str, address: &Address) {
        if matches!(address.transport, Transport::Ws | Transport::Wss) {
            let message = "over WebSocket only phones connect";
            self.wrong(&format!("{path}.address"), message, "write udp:, tcp: or tls: with host[:port]");
        }
        if address.literal().is_some_and(|a| a.ip().is_unspecified() || a.ip().is_multicast()) {
            self.wrong(&format!("{path}.address"), "is no address of a peer", "write the peer's own address");
        }
    }

    /// Where a backend or trunk is, and whether a listener of its network speaks with it.
    pub(super) fn peer_place(
        &mut self,
        path: &str,
        file: &File,
        served: Served,
        network: Option<&String>,
        address: &Address,
    ) {
        let word = if served == Served::Trunks { "trunks" } else { "backends" };
        self.peer_address(path, address);
        self.not_ourselves(path, file, address);
        let serving = |l: &&Listener| l.serves.as_ref().is_none_or(|s| s.contains(&served));
        let candidates: Vec<&Listener> = file.listener.iter().filter(serving).collect();
        match network {
            Some(network)
                if !file.listener.is_empty() && !candidates.iter().any(|l| &l.network == network) =>
            {
                let known: Vec<_> = candidates.iter().map(|l| l.network.as_str()).collect();
                let fix = format!(
                    "networks with such a listener: {}",
                    if known.is_empty() { "none".into() } else { known.join(", ") }
                );
                self.wrong(
                    &format!("{path}.network"),
                    format!("no listener of network \"{network}\" serves {word}"),
                    fix,
                );
            }
            None if !file.listener.is_empty() && candidates.is_empty() => {
                self.wrong(
                    &format!("{path}.address"),
                    format!("no listener serves {word}"),
                    format!("add \"{word}\" to a listener's serves"),
                );
            }
            None if candidates.windows(2).any(|w| w[0].network != w[1].network) => {
                self.wrong(
                    &format!("{path}.address"),
                    format!("several networks have listeners that serve {word}"),
                    "add network = \"…\" to it",
                );
            }
            _ => {}
        }
        let v6 = address.literal().map(|a| a.is_ipv6());
        let network_fits = |l: &&&Listener| network.is_none_or(|n| n == &l.network);
        let transport = address.transport;
        let usable = super::settings::peer_address(address);
        let speaks = |l: &&Listener| usable.may_use(l.address.transport);
        let default = file.listener.is_empty() && usable.may_use(Transport::Udp);
        if !default && !candidates.iter().filter(network_fits).copied().any(|l| speaks(&l)) {
            self.wrong(
                &format!("{path}.address"),
                format!("no listener of its network speaks {transport}: it could not send its requests"),
                format!("add a listener with address = \"{transport}:…\""),
            );
        }
        let families: Vec<bool> = candidates
            .iter()
            .filter(network_fits)
            .filter_map(|l| l.address.literal())
            .map(|a| a.is_ipv6())
            .collect();
        if let Some(v6) = v6.filter(|v6| !families.is_empty() && !families.contains(v6)) {
            let family = if v6 { "IPv6" } else { "IPv4" };
            self.wrong(
                &format!("{path}.address"),
                format!("no listener of its network speaks {family}"),
                format!("add an {family} listener"),
            );
        }
    }

    pub(super) fn probe(&mut self, path: &str, probe: &super::model::Probe) {
        for (key, value) in [("down_after", probe.down_after), ("up_after", probe.up_after)] {
            if value == 0 {
                self.wrong(&format!("{path}.{key}"), "0 probes decide nothing", "write 1 or more");
            }
        }
        if probe.timeout.0.is_zero() {
            self.wrong(
                &format!("{path}.timeout"),
                "a probe needs time for its answer",
                "write for example \"3s\"",
            );
        }
    }

    fn rest(&mut self, file: &File) {
        self.probe("probe", &file.probe);
        for (at, host) in file.admin.hosts.iter().enumerate().filter(|(_, host)| !is_host_name(host)) {
            let message = format!("\"{host}\" is not a host name");
            self.wrong(
                &format!("admin.hosts[{at}]"),
                message,
                "write the name alone, for example \"edge-1.example.net\"",
            );
        }
        if !file.admin.listen.is_empty() {
            match file.admin.listen.parse::<SocketAddr>() {
                Err(_) => self.wrong(
                    "admin.listen",
                    format!("\"{}\" is not an address and port", file.admin.listen),
                    "write for example \"127.0.0.1:8060\", or \"\" for none",
                ),
                Ok(a) if !a.ip().is_loopback() => {
                    let message =
                        "the admin port is open to others: it is read-only, but shows metrics and health";
                    self.warn("admin.listen", message, "keep it on 127.0.0.1 or behind a firewall");
                }
                Ok(_) => {}
            }
        }
        if file.sip.timer_c.0 <= std::time::Duration::from_secs(180) {
            self.wrong(
                "sip.timer_c",
                "Timer C is longer than 3 minutes (RFC 3261 16.6)",
                "write for example \"185s\"",
            );
        }
        let url = &file.store.url;
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|p| url.starts_with(p));
        if !known {
            self.wrong(
                "store.url",
                format!("\"{url}\" names no database"),
                "write sqlite:FILE or postgres://user@host/database",
            );
        }
        if let Some((userinfo, _)) = url
            .strip_prefix("postgres")
            .and_then(|u| u.split_once("://"))
            .and_then(|(_, u)| u.split_once('@'))
            && userinfo.contains(':')
        {
            // Without the line: it would put the password on the screen and into logs.
            let fix = "move it to a file and name that with store.password_file";
            self.wrong_unseen("store.url", "a password stands in the URL", fix);
        }
        let secrets = [
            ("store.password_file", &file.store.password_file),
            ("edge.cluster_key_file", &file.edge.cluster_key_file),
            ("admin.events_token_file", &file.admin.events_token_file),
        ];
        for (path, file) in secrets {
            if let Some(Err(e)) = file.as_ref().map(std::fs::File::open) {
                self.wrong(path, e.to_string(), "name a file that the user running signalbox can read");
            }
        }
    }
}
