//! Where a name's service is: NAPTR, SRV and addresses (RFC 3263), by hickory-resolver and its cache.
//!
//! A port that is given, and a name without a dot or in the hosts file, mean addresses alone; such names belong to a
//! machine, not to a domain. NAPTR is asked only where it may choose the transport. A server that cannot answer for a type of
//! record (SERVFAIL, REFUSED, NOTIMP) is taken as having none of it; one that says nothing is an error, and decides nothing.

mod services;

use futures_util::future::join_all;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use services::Service;
use signalbox_base::{Text, Transport, canonical};
use signalbox_engine::{Question, ResolvedTarget};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Everything about one question takes no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// One server is waited for so long, then the next one is asked.
const SERVER_WITHIN: Duration = Duration::from_millis(1500);
/// Answers that are kept, negative ones among them.
const CACHE_MAX: u64 = 1024;
/// What was found holds at least so long, whatever its TTL says.
pub const TTL_MIN: Duration = Duration::from_secs(5);
/// What was found holds no longer, whatever its TTL says.
pub const TTL_MAX: Duration = Duration::from_secs(3600);
/// What is not there, or is in the hosts file, is looked up again after this.
const NOTHING_TTL_MAX: Duration = Duration::from_secs(60);
/// Hosts taken of one name's SRV records.
const HOSTS_MAX: usize = 16;
/// Addresses taken of one name.
const TARGETS_MAX: usize = 16;

/// What DNS says of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Places, the preferred ones first; empty when there are none.
    pub targets: Vec<ResolvedTarget>,
    /// How long that holds.
    pub holds_for: Duration,
}

/// Asks name servers and remembers their answers for their TTL.
#[derive(Clone, Debug)]
pub struct Dns {
    resolver: TokioResolver,
}

impl Dns {
    /// Asks these servers; none means those of the system (`/etc/resolv.conf`, else one on this machine).
    ///
    /// # Errors
    /// What keeps the resolver from being made.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let (config, options) = match servers {
            [] => hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|cause| {
                tracing::warn!(%cause, "/etc/resolv.conf cannot be read; a name server on this machine is asked");
                (of_servers(&[(Ipv4Addr::LOCALHOST, 53).into()]), ResolverOpts::default())
            }),
            named => (of_servers(named), ResolverOpts::default()),
        };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let options = builder.options_mut();
        options.timeout = SERVER_WITHIN;
        options.cache_size = CACHE_MAX;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        (options.positive_min_ttl, options.positive_max_ttl) = (Some(TTL_MIN), Some(TTL_MAX));
        (options.negative_min_ttl, options.negative_max_ttl) = (Some(TTL_MIN), Some(NOTHING_TTL_MAX));
        builder.build().map(|resolver| Self { resolver }).map_err(|cause| cause.to_string())
    }

    /// Where a name's service is.
    ///
    /// # Errors
    /// Why nothing is known: no server answered in time, or none could be reached.
    pub async fn find(&self, question: &Question) -> Result<Found, String> {
        let mut look = Look { resolver: self.resolver.clone(), question, holds_for: TTL_MAX };
        // The file is read each time: it is short, and who changes it wants no restart.
        let hosts = Hosts::from_system().unwrap_or_default();
        let found = tokio::time::timeout(ANSWER_WITHIN, look.find(hosts)).await;
        let mut targets = found
            .map_err(|_| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))?
            .map_err(|cause| cause.to_string())?;
        targets.sort_by_key(|target| target.priority);
        targets.truncate(TARGETS_MAX);
        let holds_for = look.holds_for.max(TTL_MIN);
        Ok(Found { holds_for: if targets.is_empty() { NOTHING_TTL_MAX } else { holds_for }, targets })
    }
}

fn of_servers(servers: &[SocketAddr]) -> ResolverConfig {
    let each = servers.iter().map(|server| {
        let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = server.port();
            connection
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    ResolverConfig::from_name_servers(each.collect())
}

/// One question on its way.
struct Look<'q> {
    resolver: TokioResolver,
    question: &'q Question,
    holds_for: Duration,
}

impl Look<'_> {
    async fn find(&mut self, hosts: Hosts) -> Result<Vec<ResolvedTarget>, NetError> {
        let Question { ref host, port, ref transports, .. } = *self.question;
        let Some(first) = transports.first().copied() else { return Ok(Vec::new()) };
        let is_here = is_listed(&hosts, host);
        self.resolver.set_hosts(Arc::new(hosts));
        if is_here {
            self.holds_for = NOTHING_TTL_MAX;
        }
        let of_a_machine = is_here || !host.trim_end_matches('.').contains('.');
        if port.is_none() && !of_a_machine {
            let services = self.services().await?;
            if !services.is_empty() {
                return self.hosts(&services).await;
            }
        }
        let plain = Service {
            transport: first,
            priority: 0,
            weight: 0,
            host: host.to_string(),
            port: port.unwrap_or(first.default_port()),
        };
        self.hosts(&[plain]).await
    }

    /// The SRV records of the services that NAPTR names, else of each transport that may be used.
    async fn services(&mut self) -> Result<Vec<Service>, NetError> {
        let host = self.question.host.trim_end_matches('.').to_owned();
        let mut asked = Vec::new();
        if self.question.by_naptr {
            let records = self.records(&host, RecordType::NAPTR).await?;
            asked = services::of_naptr(&records, &self.question.transports);
        }
        if asked.is_empty() {
            asked = self.question.transports.iter().map(|t| (*t, services::name_of(*t, &host))).collect();
        }
        let mut found = Vec::new();
        for (rank, (transport, name)) in asked.into_iter().enumerate() {
            let records = self.records(&name, RecordType::SRV).await?;
            found.extend(services::of_srv(&records, rank, transport));
        }
        found.sort_by_key(|service| service.priority);
        found.truncate(HOSTS_MAX);
        Ok(found)
    }

    /// The addresses of each service's host. One that has none is left out; only when none could be asked for it is an error.
    async fn hosts(&mut self, services: &[Service]) -> Result<Vec<ResolvedTarget>, NetError> {
        let lookups = services.iter().map(|service| self.resolver.lookup_ip(service.host.as_str()));
        let mut targets = Vec::new();
        let mut failed = None;
        for (service, looked_up) in services.iter().zip(join_all(lookups).await) {
            match looked_up {
                Ok(found) => {
                    let answers = found.as_lookup().answers();
                    let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
                    self.holds_for = self.holds_for.min(Duration::from_secs(ttl.into()));
                    targets.extend(found.iter().map(|ip| target(service, ip)));
                }
                Err(cause) if is_none_there(&cause) => {}
                Err(cause) => failed = Some(cause),
            }
        }
        // Who was not heard of may well be there: it is asked for again soon.
        if failed.is_some() {
            self.holds_for = TTL_MIN;
        }
        match failed {
            Some(cause) if targets.is_empty() => Err(cause),
            _ => Ok(targets),
        }
    }

    /// The records of one type; none where there are none.
    async fn records(&mut self, name: &str, kind: RecordType) -> Result<Vec<RData>, NetError> {
        match self.resolver.lookup(format!("{name}."), kind).await {
            Ok(found) => {
                let answers = found.answers().iter().filter(|record| record.record_type() == kind);
                let ttl = answers.clone().map(|record| record.ttl).min().unwrap_or_default();
                self.holds_for = self.holds_for.min(Duration::from_secs(ttl.into()));
                Ok(answers.map(|record| record.data.clone()).collect())
            }
            Err(cause) if is_none_there(&cause) || is_not_served(&cause) => Ok(Vec::new()),
            Err(cause) => Err(cause),
        }
    }
}

fn target(service: &Service, ip: IpAddr) -> ResolvedTarget {
    ResolvedTarget {
        address: canonical(SocketAddr::new(ip, service.port)),
        transport: service.transport,
        priority: service.priority,
        weight: service.weight,
        host: Text::new(&service.host),
    }
}

fn is_listed(hosts: &Hosts, host: &str) -> bool {
    let Ok(name) = Name::from_utf8(host) else { return false };
    [RecordType::A, RecordType::AAAA]
        .into_iter()
        .any(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)).is_some())
}

fn is_none_there(cause: &NetError) -> bool {
    cause.is_no_records_found() || cause.is_nx_domain()
}

fn is_not_served(cause: &NetError) -> bool {
    matches!(cause, NetError::Dns(DnsError::ResponseCode(_)))
}
