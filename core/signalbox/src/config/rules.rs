//! From routes and groups as written to the engine's rules: names become peers, hours get their zone.

use super::model::File;
use super::route::{
    Affinity, Header, Many, Member, Order, Pattern, PeerGroup, Reject, Ring, Route, To, When,
};
use super::route::{expression, pattern};
use signalbox_base::{TenantId, Text};
use signalbox_engine::settings::{
    self as engine, Group, HeaderMatch, MemberName, PeerLimits, Rejection, Rule, Rules, Who, Zone,
};
use signalbox_sip::Uri;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Zones are known from here (2020) to here (2100), seconds since 1970.
const ZONES_KNOWN: [i64; 2] = [1_577_836_800, 4_102_444_800];

/// Bit 0 is Monday.
const EVERY_DAY: u8 = 0b111_1111;

/// What is wrong, where, and what to do.
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) message: String,
    pub(super) fix: String,
}

struct Compiler<'a> {
    file: &'a File,
    groups: BTreeMap<&'a str, Arc<Group>>,
    zones: BTreeMap<String, Arc<Zone>>,
    faults: &'a mut Vec<Fault>,
}

/// The rules; what cannot be one is left out and told.
pub(super) fn compile(file: &File, faults: &mut Vec<Fault>) -> Rules {
    let mut compiler = Compiler { file, groups: BTreeMap::new(), zones: BTreeMap::new(), faults };
    for (at, group) in file.group.iter().enumerate() {
        let made = compiler.group(&format!("group[{at}]"), group);
        compiler.groups.insert(&group.name, Arc::new(made));
    }
    let routes = file.route.iter().enumerate();
    Rules {
        routes: routes.filter_map(|(at, route)| compiler.route(&format!("route[{at}]"), route)).collect(),
        borders: super::headers::borders(file),
    }
}

/// Rules that no call reaches, each with the one before it that takes them all.
pub(super) fn unreachable(rules: &Rules) -> Vec<(usize, usize)> {
    let ends = |rule: &Rule| rule.to.is_some();
    let found = rules.routes.iter().enumerate().filter_map(|(at, rule)| {
        let before = &rules.routes[..at];
        let by = before.iter().position(|first| ends(first) && covers(first, rule))?;
        Some((at, by))
    });
    found.collect()
}

/// Whether a rule takes every call that another would: it asks for nothing, or for numbers that begin as the other's do.
fn covers(first: &Rule, other: &Rule) -> bool {
    let whose = first.tenant.is_none() || first.tenant == other.tenant;
    let only_numbers = engine::Match { number: Vec::new(), ..first.matches.clone() }.is_everything();
    let begins = |number: &engine::Pattern| match number {
        engine::Pattern::Exact(text) | engine::Pattern::Prefix(text) => {
            let is_shorter =
                |p: &engine::Pattern| matches!(p, engine::Pattern::Prefix(p) if text.starts_with(&**p));
            first.matches.number.iter().any(is_shorter)
        }
        engine::Pattern::Regex(_) | engine::Pattern::Anonymous => false,
    };
    let numbers = &other.matches.number;
    whose
        && only_numbers
        && (first.matches.number.is_empty() || !numbers.is_empty() && numbers.iter().all(begins))
}

impl Compiler<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.faults.push(Fault { path: path.to_owned(), message: message.into(), fix: fix.into() });
    }

    fn route(&mut self, path: &str, route: &Route) -> Option<Rule> {
        let faults = self.faults.len();
        let mut tenant = None;
        if let Some(name) = &route.tenant {
            if !self.file.tenant.iter().any(|t| t.name == *name) {
                self.wrong(
                    &format!("{path}.tenant"),
                    format!("there is no tenant \"{name}\""),
                    self.tenants(),
                );
            }
            tenant = name.parse::<TenantId>().ok();
        }
        let matches = self.matches(&format!("{path}.match"), &route.matches);
        let to = route.to.as_ref().and_then(|to| self.to(&format!("{path}.to"), to, &mut tenant));
        if route.to.is_none() && route.tags.is_empty() {
            self.wrong(path, "it leads nowhere and sets no tags", "add to = \"…\"");
        }
        let name = route.name.as_deref().unwrap_or(path);
        let tags = route.tags.iter().map(|tag| Text::new(tag)).collect();
        let template = super::template::named(self.file, route.template.as_ref());
        let rule = Rule { name: Text::new(name), tenant, matches, tags, to, template };
        (self.faults.len() == faults).then_some(rule)
    }

    fn tenants(&self) -> String {
        let names: Vec<_> = self.file.tenant.iter().map(|tenant| tenant.name.as_str()).collect();
        format!("write one of {}", names.join(", "))
    }

    fn matches(&mut self, path: &str, written: &super::route::Match) -> engine::Match {
        let mut source = Vec::new();
        for name in written.source.as_slice() {
            match name.as_str() {
                "endpoints" => source.push(Who::Endpoints),
                "backends" => source.push(Who::Backends),
                "trunks" => source.push(Who::Trunks),
                name if self.peers().iter().any(|known| known == name) => {
                    source.push(Who::Named(Text::new(name)));
                }
                name => {
                    let fix =
                        format!("write endpoints, backends, trunks or one of {}", self.peers().join(", "));
                    self.wrong(
                        &format!("{path}.source"),
                        format!("no backend or trunk is named \"{name}\""),
                        fix,
                    );
                }
            }
        }
        let domains = written.domain.as_slice();
        let known = |name: &str| {
            let mut all = self.file.tenant.iter().flat_map(|tenant| &tenant.domains);
            all.any(|domain| domain.name().eq_ignore_ascii_case(name))
        };
        if let Some(name) = domains.iter().find(|name| !known(name)) {
            let fix = "write the domain's own name, no alias";
            self.wrong(&format!("{path}.domain"), format!("\"{name}\" is no domain of a tenant"), fix);
        }
        engine::Match {
            source,
            number: self.patterns(&format!("{path}.number"), &written.number),
            domain: domains.iter().map(|name| Text::from(name.to_ascii_lowercase())).collect(),
            caller: self.patterns(&format!("{path}.caller"), &written.caller),
            headers: written
                .header
                .as_slice()
                .iter()
                .map(|h| self.header(&format!("{path}.header"), h))
                .collect(),
            when: written
                .when
                .as_slice()
                .iter()
                .filter_map(|w| self.when(&format!("{path}.when"), w))
                .collect(),
            tags: written.tags.iter().map(|tag| Text::new(tag)).collect(),
        }
    }

    fn patterns(&mut self, path: &str, written: &Many<Pattern>) -> Vec<engine::Pattern> {
        let mut found = Vec::new();
        for one in written.as_slice() {
            match pattern(one) {
                Ok(pattern) => found.push(pattern),
                Err(why) => self.wrong(path, why, Pattern::FIX),
            }
        }
        found
    }

    fn header(&mut self, path: &str, header: &Header) -> HeaderMatch {
        let value = match (&header.value, &header.regex) {
            (Some(_), Some(_)) => {
                self.wrong(path, "value and regex exclude each other", "write one of them");
                None
            }
            (Some(value), None) => Some(engine::Pattern::Exact(Text::new(value))),
            (None, Some(regex)) => match expression(regex) {
                Ok(regex) => Some(engine::Pattern::Regex(regex)),
                Err(why) => {
                    self.wrong(path, why, "write for example \"^urgent$\"");
                    None
                }
            },
            (None, None) => None,
        };
        HeaderMatch { name: Text::new(&header.name), value }
    }

    fn when(&mut self, path: &str, when: &When) -> Option<engine::When> {
        let (from, until) = (minute(&when.from), minute(&when.until));
        for (key, text, found) in [("from", &when.from, from), ("until", &when.until, until)] {
            if found.is_none() {
                self.wrong(
                    &format!("{path}.{key}"),
                    format!("\"{text}\" is no time"),
                    "write for example \"08:30\"",
                );
            }
        }
        let Some(zone) = self.zone(&when.zone) else {
            let message = format!("there is no time zone \"{}\"", when.zone);
            self.wrong(&format!("{path}.zone"), message, "write an IANA name, for example \"Europe/London\"");
            return None;
        };
        let days = when.days.iter().fold(0, |days, day| days | 1 << *day as u8);
        Some(engine::When {
            days: if days == 0 { EVERY_DAY } else { days },
            from: from?,
            until: until?,
            zone,
        })
    }

    /// A zone with its transitions, so that no decision needs more than the time.
    fn zone(&mut self, name: &str) -> Option<Arc<Zone>> {
        if let Some(known) = self.zones.get(name) {
            return Some(Arc::clone(known));
        }
        let zone = jiff::tz::TimeZone::get(name).ok()?;
        let [from, until] = ZONES_KNOWN.map(jiff::Timestamp::from_second);
        let (from, until) = (from.ok()?, until.ok()?);
        let known = zone.following(from).take_while(|change| change.timestamp() < until);
        let made = Arc::new(Zone {
            name: Text::new(name),
            before: zone.to_offset(from).seconds(),
            transitions: known.map(|c| (c.timestamp().as_second(), c.offset().seconds())).collect(),
        });
        self.zones.insert(name.to_owned(), Arc::clone(&made));
        Some(made)
    }

    fn to(&mut self, path: &str, to: &To, tenant: &mut Option<TenantId>) -> Option<engine::To> {
        match to {
            To::Name(name) if name == "backends" => Some(engine::To::Backends),
            To::Name(name) if self.groups.contains_key(name.as_str()) => {
                let group = Arc::clone(&self.groups[name.as_str()]);
                group.members.iter().for_each(|member| self.own(path, &member.peer, tenant));
                Some(engine::To::Group(group))
            }
            To::Name(name) => self.names(path, std::slice::from_ref(name), tenant),
            To::Names(names) => self.names(path, names, tenant),
            To::Ring(ring) => self.ring(path, ring, tenant),
            To::Reject(Reject { reject, reason, cause }) => {
                if !(400..=699).contains(reject) || cause.is_some_and(|cause| !(1..=127).contains(&cause)) {
                    let fix = "write a status from 400 to 699, and a cause from 1 to 127";
                    self.wrong(path, "is no refusal", fix);
                }
                let reason = reason.as_deref().map(Text::new);
                Some(engine::To::Reject(Rejection { status: *reject, reason, cause: *cause }))
            }
            To::Redirect(redirect) => {
                let good = |uri: &String| matches!(Uri::parse(uri.as_bytes()), Ok(Uri::Sip(_) | Uri::Tel(_)));
                if redirect.redirect.is_empty() || !redirect.redirect.iter().all(good) {
                    self.wrong(path, "these are no URIs", "write for example [\"sip:400@pbx.example.net\"]");
                }
                Some(engine::To::Redirect(redirect.redirect.iter().map(|uri| Text::new(uri)).collect()))
            }
        }
    }

    /// Peers one after the other, or users at once.
    fn names(&mut self, path: &str, names: &[String], tenant: &mut Option<TenantId>) -> Option<engine::To> {
        if names.iter().any(|name| name.contains('@')) {
            let users = names.iter().map(|name| Many::One(name.clone())).collect();
            let ring = Ring { ring: users, order: Order::All, ring_for: super::value::Span(Duration::ZERO) };
            return self.ring(path, &ring, tenant);
        }
        let peers: Option<Vec<MemberName>> =
            names.iter().map(|name| self.member(path, name, tenant.as_ref())).collect();
        let peers = peers.filter(|peers| !peers.is_empty())?;
        peers.iter().for_each(|peer| self.own(path, peer, tenant));
        Some(engine::To::Group(Arc::new(Group::in_order(Text::from(names.join(", ")), peers))))
    }

    fn ring(&mut self, path: &str, ring: &Ring, tenant: &mut Option<TenantId>) -> Option<engine::To> {
        let flat = ring.ring.iter().all(|entry| matches!(entry, Many::One(_)));
        let users =
            |entry: &Many<String>| entry.as_slice().iter().map(|user| Text::new(user)).collect::<Vec<_>>();
        let stages: Vec<Vec<Text>> = match ring.order {
            Order::All if flat => vec![ring.ring.iter().flat_map(users).collect()],
            _ => ring.ring.iter().map(users).collect(),
        };
        if ring.ring.is_empty() {
            self.wrong(path, "nobody rings", "write for example { ring = [\"401@acme.example.net\"] }");
        }
        for user in stages.iter().flatten() {
            let domain = user.split_once('@').map_or("", |(_, domain)| domain);
            let named =
                |t: &&super::model::Tenant| t.domains.iter().any(|d| d.name().eq_ignore_ascii_case(domain));
            match self.file.tenant.iter().find(named) {
                None => {
                    let message = format!("\"{user}\" is no user of a tenant's domain");
                    self.wrong(path, message, "write user@domain, with the domain's own name");
                }
                Some(owner) => self.claim(path, user, &owner.name, tenant),
            }
        }
        Some(engine::To::Ring(engine::Ring { stages, ring_for: ring.ring_for.0 }))
    }

    fn group(&mut self, path: &str, group: &PeerGroup) -> Group {
        let mut members = Vec::new();
        for (at, member) in group.members.iter().enumerate() {
            let (name, priority, weight, limits) = match member {
                Member::Name(name) => (name, 1, 1, PeerLimits::default()),
                Member::Table(table) => (&table.name, table.priority, table.weight, table.limits.settings()),
            };
            let path = format!("{path}.members[{at}]");
            let peer = self.member(&path, name, None);
            members.extend(peer.map(|peer| engine::Member { peer, priority, weight, limits }));
        }
        if group.members.is_empty() {
            self.wrong(&format!("{path}.members"), "nobody is in it", "name trunks or backends");
        }
        Group {
            name: Text::new(&group.name),
            members,
            affinity: match group.affinity {
                Affinity::None => engine::Affinity::None,
                Affinity::Caller => engine::Affinity::Caller,
                Affinity::Number => engine::Affinity::Number,
                Affinity::CallId => engine::Affinity::CallId,
            },
            failover_on: group.failover_on.clone(),
            cool_down: group.cool_down.0,
            limits: group.limits.settings(),
        }
    }

    /// A trunk, or a backend of this tenant, else of the only one that has such.
    fn member(&mut self, path: &str, name: &str, tenant: Option<&TenantId>) -> Option<MemberName> {
        if let Some(trunk) = self.file.trunk.iter().find(|trunk| trunk.name == name) {
            if trunk.direction == super::trunk::Direction::In {
                let fix = format!("give {name} direction = \"both\", or name another");
                self.wrong(path, format!("trunk {name} takes no calls: its direction is in"), fix);
            }
            return Some(MemberName::Trunk(Text::new(name)));
        }
        let (of, backend) = name.split_once('/').map_or((None, name), |(of, backend)| (Some(of), backend));
        let of = of.or(tenant.map(|tenant| tenant.as_str()));
        let owners = self.file.tenant.iter().filter(|t| of.is_none_or(|of| of == t.name));
        let owners: Vec<_> = owners.filter(|t| t.backends.iter().any(|b| b.name == backend)).collect();
        match &*owners {
            [only] => Some(MemberName::Backend(only.name.parse().ok()?, Text::new(backend))),
            [] => {
                let groups = self.file.group.iter().map(|group| group.name.clone());
                let known: Vec<String> = self.peers().into_iter().chain(groups).collect();
                let fix = format!("known: backends, {}", known.join(", "));
                self.wrong(path, format!("no trunk, group or backend is named \"{name}\""), fix);
                None
            }
            [first, ..] => {
                let fix = format!("write \"{}/{backend}\"", first.name);
                self.wrong(path, format!("several tenants have a backend \"{backend}\""), fix);
                None
            }
        }
    }

    /// A route to what is somebody's is for calls of that one.
    fn own(&mut self, path: &str, member: &MemberName, tenant: &mut Option<TenantId>) {
        let (name, owner) = match member {
            MemberName::Backend(owner, name) => (name, Some(owner.to_string())),
            MemberName::Trunk(name) => {
                let trunk = self.file.trunk.iter().find(|trunk| trunk.name == name.as_str());
                (name, trunk.and_then(|trunk| trunk.tenant.clone()))
            }
        };
        if let Some(owner) = owner {
            self.claim(path, name, &owner, tenant);
        }
    }

    fn claim(&mut self, path: &str, name: &str, owner: &str, tenant: &mut Option<TenantId>) {
        match tenant {
            Some(tenant) if tenant.as_str() == owner => {}
            Some(other) => {
                let message = format!("{name} is tenant {owner}'s, and the route is for calls of {other}");
                self.wrong(path, message, "lead calls of a tenant to what is its own, or shared");
            }
            None => *tenant = owner.parse().ok(),
        }
    }

    fn peers(&self) -> Vec<String> {
        let backends = self.file.tenant.iter().flat_map(|tenant| &tenant.backends).map(|b| b.name.clone());
        self.file.trunk.iter().map(|trunk| trunk.name.clone()).chain(backends).collect()
    }
}

/// `HH:MM` as minute of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    (hour < 24 && minute < 60 || (hour, minute) == (24, 0)).then_some((hour * 60 + minute) % 1440)
}
