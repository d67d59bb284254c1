//! Events about unauthenticated noise, within a budget: one counted event per source and window, merged into prefixes
//! and then into `*` (DESIGN.md §6 "Noise is bounded").

use crate::settings::NoiseBudget;
use foldhash::HashMap;
use signalbox_base::{Cidr, Mono, Text, canonical_ip};
use signalbox_schemas::words::RequestRule;
use signalbox_sip::{HeaderName, Message, Uri};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Whom a counted event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// One address.
    Address(IpAddr),
    /// A /24 or /48: too many addresses to tell apart.
    Prefix(Cidr),
    /// Everyone else.
    Any,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Prefix(cidr) => cidr.fmt(f),
            Self::Any => f.write_str("*"),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A request that a rule refused.
    Rejected(RequestRule),
    /// Wrong credentials.
    AuthFailed,
    /// A TLS handshake that failed.
    TlsFailed,
}

impl From<RequestRule> for What {
    fn from(rule: RequestRule) -> Self {
        Self::Rejected(rule)
    }
}

/// What one source did in one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Who.
    pub source: Source,
    /// What.
    pub what: What,
    /// How often.
    pub count: u64,
    /// What the last one said.
    pub last: Seen,
}

/// What one request said, as far as it could be read; each at most [`Seen::BYTES_MAX`] long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where it was malformed, in bytes.
    pub offset: Option<u32>,
    /// The address of record tried, for wrong credentials.
    pub aor: Option<Text>,
    /// Its method.
    pub method: Option<Text>,
    /// The domain it named, lower case.
    pub domain: Option<Text>,
    /// Its User-Agent.
    pub user_agent: Option<Text>,
    /// Why TLS failed, or which limit was reached.
    pub failure: Option<Text>,
    /// Whether the edge had connected.
    pub outbound: bool,
}

impl Seen {
    /// Bytes kept of each text.
    pub const BYTES_MAX: usize = 255;

    /// Of a request, which need not be valid. The domain is the Request-URI's, or To's where that names nothing but the edge
    /// (`is_own_host`).
    pub fn of<B: AsRef<[u8]>>(request: &Message<B>, is_own_host: impl Fn(&[u8]) -> bool) -> Self {
        let host = |uri: &[u8]| match Uri::parse(uri) {
            Ok(Uri::Sip(uri)) if !is_own_host(uri.host) => Some(bounded(&uri.host.to_ascii_lowercase())),
            _ => None,
        };
        let to = || request.to().ok().and_then(|to| host(to.uri));
        Self {
            method: request.is_request().then(|| bounded(request.method().as_bytes())),
            domain: request.request_uri().and_then(host).or_else(to),
            user_agent: request.value(HeaderName::UserAgent).map(bounded),
            ..Self::default()
        }
    }
}

fn bounded(bytes: &[u8]) -> Text {
    Text::lossy(&bytes[..bytes.len().min(Seen::BYTES_MAX)])
}

/// Counts of the running window.
#[derive(Debug, Default)]
pub struct Noise {
    opened: Option<Mono>,
    counts: HashMap<(Source, What), Tally>,
    /// Counted so far: which of two was the last.
    number: u64,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    count: u64,
    /// The number of the last one.
    number: u64,
    last: Seen,
}

/// One thing to be counted.
#[derive(Clone, Debug)]
pub struct One {
    /// Who.
    pub source: IpAddr,
    /// What.
    pub what: What,
    /// What it said.
    pub seen: Seen,
}

impl Noise {
    /// Counts one. Returns when the window closes, if this opened it.
    pub fn count(&mut self, now: Mono, budget: &NoiseBudget, one: One) -> Option<Mono> {
        let opened = self.opened.is_none();
        self.opened.get_or_insert(now);
        let ip = canonical_ip(one.source);
        let key = [Source::Address(ip), Source::Prefix(prefix(ip))]
            .into_iter()
            .enumerate()
            .find(|(level, key)| {
                self.counts.contains_key(&(*key, one.what))
                    || self.counts.len() < budget.sources_max.saturating_mul(level + 1)
            })
            .map_or(Source::Any, |(_, key)| key);
        self.number += 1;
        self.add(key, one.what, Tally { count: 1, number: self.number, last: one.seen });
        opened.then(|| now.plus(budget.window))
    }

    /// Closes the window: at most `events_max` counted events, the loudest sources told apart, and how long it was.
    pub fn close(&mut self, now: Mono, budget: &NoiseBudget) -> (Vec<Counted>, Duration) {
        let window = self.opened.take().map_or(Duration::ZERO, |opened| now.since(opened));
        let events_max = budget.events_max.max(1);
        if self.counts.len() > events_max {
            self.merge(|source| match source {
                Source::Address(ip) => Source::Prefix(prefix(ip)),
                other => other,
            });
        }
        if self.counts.len() > events_max {
            self.merge_quietest(events_max);
        }
        let mut out: Vec<Counted> = std::mem::take(&mut self.counts)
            .into_iter()
            .map(|((source, what), t)| Counted { source, what, count: t.count, last: t.last })
            .collect();
        out.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.source.cmp(&b.source)));
        out.truncate(events_max);
        (out, window)
    }

    /// Sources and prefixes held at this moment; never above twice `sources_max` and one per rule.
    #[must_use]
    pub fn held(&self) -> usize {
        self.counts.len()
    }

    fn add(&mut self, source: Source, what: What, tally: Tally) {
        let held = self.counts.entry((source, what)).or_default();
        held.count += tally.count;
        // Merged in any order, the last one stays the last one.
        if tally.number >= held.number {
            (held.number, held.last) = (tally.number, tally.last);
        }
    }

    fn merge(&mut self, into: impl Fn(Source) -> Source) {
        for ((source, what), tally) in std::mem::take(&mut self.counts) {
            self.add(into(source), what, tally);
        }
    }

    /// Keeps the loudest, leaving room for one `*` per rule.
    fn merge_quietest(&mut self, events_max: usize) {
        let keep = events_max.saturating_sub(RULES_MAX);
        let mut all: Vec<_> = std::mem::take(&mut self.counts).into_iter().collect();
        all.sort_unstable_by(|a, b| b.1.count.cmp(&a.1.count).then_with(|| a.0.0.cmp(&b.0.0)));
        for (at, ((source, what), tally)) in all.into_iter().enumerate() {
            self.add(if at < keep { source } else { Source::Any }, what, tally);
        }
    }
}

/// What can have a `*` of its own.
const RULES_MAX: usize = 9;

/// The place of a rule in [`crate::contract::Counters::rejected`].
pub(crate) fn rule_index(rule: RequestRule) -> usize {
    match rule {
        RequestRule::Malformed => 0,
        RequestRule::UnknownDomain => 1,
        RequestRule::UnknownPeer => 2,
        RequestRule::Acl => 3,
        RequestRule::Method => 4,
        RequestRule::Oversize => 5,
        RequestRule::Limit | RequestRule::Unknown => 6,
    }
}

fn prefix(ip: IpAddr) -> Cidr {
    Cidr::new(ip, if ip.is_ipv4() { 24 } else { 48 }).expect("24 and 48 fit their families")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: NoiseBudget =
        NoiseBudget { window: Duration::from_secs(10), sources_max: 100, events_max: 32 };

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn one(source: IpAddr, rule: RequestRule, offset: Option<u32>) -> One {
        One { source, what: rule.into(), seen: Seen { offset, ..Seen::default() } }
    }

    #[test]
    fn given_few_sources_then_each_has_its_own_count() {
        let mut noise = Noise::default();
        assert_eq!(
            noise.count(Mono(5), &BUDGET, one(ip(1), RequestRule::Malformed, Some(7))),
            Some(Mono(10_000_000_005))
        );
        assert_eq!(noise.count(Mono(6), &BUDGET, one(ip(1), RequestRule::Malformed, Some(9))), None);
        noise.count(Mono(6), &BUDGET, one(ip(1), RequestRule::UnknownDomain, None));
        let (events, window) = noise.close(Mono(10_000_000_005), &BUDGET);
        assert_eq!(window, Duration::from_secs(10));
        assert_eq!(events.len(), 2);
        assert_eq!((events[0].count, events[0].last.offset), (2, Some(9)));
        assert_eq!(events[0].source, Source::Address(ip(1)));
        assert_eq!(noise.held(), 0);
    }

    #[test]
    fn given_a_flood_of_sources_then_memory_and_events_are_bounded_and_nothing_is_uncounted() {
        let mut noise = Noise::default();
        for n in 0..100_000u32 {
            noise.count(
                Mono(1),
                &BUDGET,
                one(ip(n.wrapping_mul(2_654_435_761)), RequestRule::Malformed, None),
            );
            assert!(noise.held() <= 2 * BUDGET.sources_max + RULES_MAX);
        }
        let (events, _) = noise.close(Mono(2), &BUDGET);
        assert!(events.len() <= BUDGET.events_max, "{}", events.len());
        assert_eq!(events.iter().map(|e| e.count).sum::<u64>(), 100_000);
        assert!(events.iter().any(|e| e.source == Source::Any));
    }

    #[test]
    fn given_merged_sources_then_what_is_told_is_what_the_last_one_said_however_long() {
        let said = |domain: &str| {
            let text = format!(
                "OPTIONS sip:1@{domain} SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:1@x>;tag=1\r\n\
                 To: <sip:1@second.test>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nUser-Agent: {}\r\n\r\n",
                "u".repeat(2000)
            );
            let message =
                Message::parse(text.as_bytes(), &signalbox_sip::Limits::DATAGRAM).expect("a request");
            Seen::of(&message, |host| host == b"10.0.0.1")
        };
        assert_eq!(
            said("10.0.0.1").domain,
            Some(Text::new("second.test")),
            "the edge's own address says nothing"
        );
        let mut noise = Noise::default();
        let what = RequestRule::UnknownDomain.into();
        for host in 0..200 {
            let seen = said(if host == 199 { "LAST.test" } else { "first.test" });
            noise.count(Mono(1), &BUDGET, One { source: ip(0x0A00_0100 + host), what, seen });
        }
        let (events, _) = noise.close(Mono(2), &BUDGET);
        assert_eq!(events[0].last.domain, Some(Text::new("last.test")));
        assert_eq!(events[0].last.user_agent.as_ref().map(|ua| ua.len()), Some(Seen::BYTES_MAX));
    }

    #[test]
    fn given_one_noisy_network_then_it_is_named_by_its_prefix() {
        let mut noise = Noise::default();
        for host in 0..200 {
            noise.count(Mono(1), &BUDGET, one(ip(0x0A00_0100 + host), RequestRule::UnknownDomain, None));
        }
        let (events, _) = noise.close(Mono(2), &BUDGET);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].source.to_string(), "10.0.1.0/24");
        assert_eq!(events[0].count, 200);
    }
}
