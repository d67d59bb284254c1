//! Events about unauthenticated noise, within a budget: one counted event per source and window, merged into prefixes
//! and then into `*` (DESIGN.md §6 "Noise is bounded").

use crate::settings::NoiseBudget;
use foldhash::HashMap;
use signalbox_base::{Cidr, Mono, Text, canonical_ip};
use signalbox_schemas::words::RequestRule;
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
    /// The address of record tried last, for wrong credentials.
    pub aor: Option<Text>,
    /// How often.
    pub count: u64,
    /// Where the first malformed message was broken, in bytes.
    pub offset: Option<u32>,
}

/// Counts of the running window.
#[derive(Debug, Default)]
pub struct Noise {
    opened: Option<Mono>,
    counts: HashMap<(Source, What), Tally>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    count: u64,
    offset: Option<u32>,
    aor: Option<Text>,
}

/// One thing to be counted.
#[derive(Clone, Debug)]
pub struct One {
    /// Who.
    pub source: IpAddr,
    /// What.
    pub what: What,
    /// Where it was malformed, in bytes.
    pub offset: Option<u32>,
    /// The address of record tried.
    pub aor: Option<Text>,
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
        self.add(key, one.what, Tally { count: 1, offset: one.offset, aor: one.aor });
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
            .map(|((source, what), t)| Counted { source, what, aor: t.aor, count: t.count, offset: t.offset })
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
        held.offset = held.offset.or(tally.offset);
        held.aor = tally.aor.or(held.aor.take());
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

/// Rules that can have a `*` of their own.
const RULES_MAX: usize = 8;

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
        One { source, what: rule.into(), offset, aor: None }
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
        assert_eq!((events[0].count, events[0].offset), (2, Some(7)));
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
