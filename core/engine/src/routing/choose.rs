//! The choice by rules: pure, so that `signalbox route` explains what the live engine does.

use super::select::Source;
use crate::settings::{Match, MemberName, Pattern, Rejection, Rule, Rules, To, Who};
use signalbox_base::{TenantId, Text, Wall};
use smallvec::SmallVec;

/// A call, as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Whose call it is; none of a shared trunk's call to a number that is nobody's.
    pub tenant: Option<&'a str>,
    /// What kind of peer calls.
    pub source: Source,
    /// The backend's or trunk's name; empty for a phone.
    pub peer: &'a str,
    /// The number or user that was dialled.
    pub number: &'a str,
    /// Its E.164 form, where it has one.
    pub e164: Option<&'a str>,
    /// The domain that the call is in.
    pub domain: &'a str,
    /// The user of From.
    pub caller: &'a str,
    /// Its E.164 form, where it has one.
    pub caller_e164: Option<&'a str>,
    /// Header fields that rules ask for.
    pub headers: &'a [(Text, Text)],
    /// When.
    pub wall: Wall,
    /// Whether the Request-URI names a user or token of the tenant.
    pub bound: bool,
    /// Whether the tenant has backends.
    pub has_backends: bool,
    /// Whether nobody knows who calls: its tenant lets everybody call its backends, which authenticate them, and no further.
    pub stranger: bool,
}

/// Where a call goes, and which rule said so.
#[derive(Clone, Debug)]
pub struct Choice<'r> {
    /// Where to.
    pub to: Chosen<'r>,
    /// The rule; none where none matched.
    pub rule: Option<&'r Rule>,
    /// The pattern that the number matched, where the rule asks for one.
    pub number: Option<&'r str>,
    /// Tags that rules on the way set.
    pub tags: SmallVec<[&'r Text; 2]>,
}

/// Where a call goes.
#[derive(Clone, Copy, Debug)]
pub enum Chosen<'r> {
    /// To the registered contacts of whom the Request-URI names.
    Contacts,
    /// To the tenant's backends.
    Backends,
    /// Where the rule says.
    Rule(&'r To),
    /// To nobody: 404.
    Nobody,
}

/// Chooses. A backend's call, and one between users of a domain that the edge itself is the registrar of, goes to whom it
/// names; then the first rule in the file that matches decides; then a phone's call, and a trunk's to a tenant's number, goes
/// to the tenant's backends.
#[must_use]
pub fn choose<'r>(rules: &'r Rules, ask: &Ask<'_>) -> Choice<'r> {
    let mut choice = Choice::unruled(ask.source, ask.bound, ask.has_backends && ask.tenant.is_some());
    if matches!(choice.to, Chosen::Contacts) {
        return choice;
    }
    for rule in &rules.routes {
        let Some(number) = matched(rule, ask, &choice.tags) else { continue };
        choice.tags.extend(&rule.tags);
        if let Some(to) = &rule.to {
            let chosen = if matches!(to, To::Backends) { Chosen::Backends } else { Chosen::Rule(to) };
            return Choice { to: chosen, rule: Some(rule), number, ..choice };
        }
    }
    choice
}

/// The tenant of a call that has none yet: that of the first rule which matches it and leads somewhere.
#[must_use]
pub fn tenant_of<'r>(rules: &'r Rules, ask: &Ask<'_>) -> Option<&'r TenantId> {
    choose(rules, &Ask { tenant: None, ..*ask }).rule?.tenant.as_ref()
}

/// Whether a rule matches, and the pattern by which it took the number.
fn matched<'r>(rule: &'r Rule, ask: &Ask<'_>, tags: &[&Text]) -> Option<Option<&'r str>> {
    let own = match (&rule.tenant, ask.tenant) {
        (Some(tenant), Some(asked)) => tenant.as_str() == asked,
        // Only a rule that says whose the call is can take one that is nobody's.
        (rule, None) => rule.is_some(),
        (None, Some(_)) => true,
    };
    let Match { source, number, domain, caller, headers, when, tags: wanted } = &rule.matches;
    // From carrier to carrier only where a rule says in so many words that it is for calls of carriers.
    let from_anywhere = source.is_empty() && (ask.source != Source::Trunk || !leads_to_a_trunk(rule));
    let here = own
        && (!ask.stranger || !leads_past_backends(rule))
        && (from_anywhere || source.iter().any(|who| is_from(who, ask)))
        && (domain.is_empty() || domain.iter().any(|name| name.eq_ignore_ascii_case(ask.domain)))
        && (caller.is_empty() || longest(caller, ask.caller, ask.caller_e164).is_some())
        && headers.iter().all(|wanted| {
            let mut values = ask.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&wanted.name));
            values.any(|(_, value)| wanted.value.as_ref().is_none_or(|pattern| pattern.is_match(value)))
        })
        && (when.is_empty() || when.iter().any(|when| when.contains(ask.wall)))
        && wanted.iter().all(|tag| tags.contains(&tag));
    if !here {
        return None;
    }
    if number.is_empty() {
        return Some(None);
    }
    longest(number, ask.number, ask.e164).map(|pattern| Some(pattern.as_str()))
}

fn leads_to_a_trunk(rule: &Rule) -> bool {
    let Some(To::Group(group)) = &rule.to else { return false };
    group.members.iter().any(|member| matches!(member.peer, MemberName::Trunk(_)))
}

fn leads_past_backends(rule: &Rule) -> bool {
    leads_to_a_trunk(rule) || matches!(rule.to, Some(To::Ring(_)))
}

fn is_from(who: &Who, ask: &Ask<'_>) -> bool {
    match who {
        Who::Endpoints => matches!(ask.source, Source::Endpoint | Source::Neighbour),
        Who::Backends => ask.source == Source::Backend,
        Who::Trunks => ask.source == Source::Trunk,
        Who::Named(name) => matches!(ask.source, Source::Backend | Source::Trunk) && **name == *ask.peer,
    }
}

/// The pattern that says most of a number, of those that it matches.
pub(crate) fn longest<'p>(patterns: &'p [Pattern], number: &str, e164: Option<&str>) -> Option<&'p Pattern> {
    let fits =
        |pattern: &&Pattern| pattern.is_match(number) || e164.is_some_and(|e164| pattern.is_match(e164));
    patterns.iter().filter(fits).max_by_key(|pattern| match pattern {
        Pattern::Exact(_) => usize::MAX,
        other => other.as_str().len(),
    })
}

impl Choice<'_> {
    /// Where a call goes that no rule takes.
    pub(crate) fn unruled(source: Source, bound: bool, has_backends: bool) -> Self {
        let to = match source {
            Source::Backend | Source::Neighbour if bound => Chosen::Contacts,
            Source::Endpoint => Chosen::Backends,
            Source::Trunk if has_backends => Chosen::Backends,
            Source::Trunk | Source::Backend | Source::Neighbour => Chosen::Nobody,
        };
        Self { to, rule: None, number: None, tags: SmallVec::new() }
    }

    /// For people: what happens and which rule says so.
    #[must_use]
    pub fn describe(&self) -> String {
        let what = match self.to {
            Chosen::Contacts => "to the registered contacts of whom it names".to_owned(),
            Chosen::Backends => "to the tenant's backends".to_owned(),
            Chosen::Nobody => "404, no rule takes it".to_owned(),
            Chosen::Rule(to) => described(to),
        };
        let by = match (self.rule, self.number) {
            (Some(rule), Some(number)) => format!(", by {} (number {number})", rule.name),
            (Some(rule), None) => format!(", by {}", rule.name),
            (None, _) => String::new(),
        };
        format!("{what}{by}")
    }
}

fn described(to: &To) -> String {
    match to {
        To::Backends => "to the tenant's backends".to_owned(),
        To::Group(group) => format!("to {}", group.name),
        To::Ring(ring) => {
            let stages: Vec<String> = ring.stages.iter().map(|stage| stage.join(", ")).collect();
            format!("to {}", stages.join(", then "))
        }
        To::Reject(Rejection { status, .. }) => format!("refused with {status}"),
        To::Redirect(contacts) => format!("redirected to {}", contacts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HeaderMatch, When, Zone};
    use std::sync::Arc;

    fn rule(name: &str, matches: Match, to: Option<u16>) -> Rule {
        let to = to.map(|status| To::Reject(Rejection { status, reason: None, cause: None }));
        Rule { name: Text::new(name), tenant: None, matches, tags: Vec::new(), to, template: None }
    }

    fn number(prefixes: &[&str]) -> Match {
        let number = prefixes.iter().map(|prefix| Pattern::Prefix(Text::new(prefix))).collect();
        Match { number, ..Match::default() }
    }

    fn ask(number: &str) -> Ask<'_> {
        Ask {
            tenant: Some("acme"),
            source: Source::Endpoint,
            peer: "",
            number,
            e164: None,
            domain: "acme.test",
            caller: "401",
            caller_e164: None,
            headers: &[],
            wall: Wall(0),
            bound: false,
            has_backends: true,
            stranger: false,
        }
    }

    fn by(rules: &Rules, ask: &Ask<'_>) -> Option<String> {
        choose(rules, ask).rule.map(|rule| rule.name.to_string())
    }

    #[test]
    fn given_two_rules_when_both_match_then_the_first_in_the_file_wins_and_the_longest_of_its_prefixes_is_named()
     {
        let rules = Rules {
            routes: vec![
                rule("wide", number(&["+44", "+4420"]), Some(403)),
                rule("narrow", number(&["+442079"]), Some(404)),
            ],
            ..Rules::default()
        };
        let choice = choose(&rules, &ask("+442079460000"));
        assert_eq!((choice.rule.map(|rule| &*rule.name), choice.number), (Some("wide"), Some("+4420")));
        assert_eq!(by(&rules, &ask("401")), None);
        assert_eq!(by(&rules, &Ask { e164: Some("+4420"), ..ask("020") }).as_deref(), Some("wide"));
    }

    #[test]
    fn given_a_rule_that_only_tags_when_a_later_one_asks_for_the_tag_then_it_matches() {
        let tagged = Match { tags: vec![Text::new("night")], ..Match::default() };
        let mut first = rule("first", number(&["4"]), None);
        first.tags = vec![Text::new("night")];
        let rules = Rules { routes: vec![first, rule("second", tagged, Some(480))], ..Rules::default() };
        assert_eq!(by(&rules, &ask("402")).as_deref(), Some("second"));
        assert_eq!(by(&rules, &ask("502")), None);
    }

    #[test]
    fn given_conditions_when_one_does_not_hold_then_the_rule_does_not_match() {
        let zone = Arc::new(Zone { name: Text::new("UTC"), before: 0, transitions: Vec::new() });
        let matches = Match {
            source: vec![Who::Named(Text::new("carrier"))],
            domain: vec![Text::new("ACME.test")],
            caller: vec![Pattern::Regex(regex::Regex::new("^4..$").expect("an expression"))],
            headers: vec![HeaderMatch {
                name: Text::new("X-Way"),
                value: Some(Pattern::Exact(Text::new("b"))),
            }],
            when: vec![When { days: 1 << 3, from: 0, until: 60, zone }],
            ..number(&["+44"])
        };
        let rules = Rules { routes: vec![rule("all", matches, Some(403))], ..Rules::default() };
        let headers = [(Text::new("x-way"), Text::new("a")), (Text::new("x-way"), Text::new("b"))];
        let good = Ask { source: Source::Trunk, peer: "carrier", headers: &headers, ..ask("+44") };
        assert_eq!(by(&rules, &good).as_deref(), Some("all"));
        for other in [
            Ask { peer: "other", ..good },
            Ask { source: Source::Endpoint, ..good },
            Ask { domain: "b.test", ..good },
            Ask { caller: "4010", ..good },
            Ask { headers: &headers[..1], ..good },
            Ask { wall: Wall::from_secs(3_600), ..good },
            Ask { number: "+49", ..good },
        ] {
            assert_eq!(by(&rules, &other), None, "{other:?}");
        }
    }

    #[test]
    fn given_another_tenants_rule_or_nobodys_call_then_only_a_rule_that_names_the_tenant_takes_it() {
        let mut of_bolt = rule("bolt", Match::default(), Some(403));
        of_bolt.tenant = Some("bolt".parse().expect("a name"));
        let rules =
            Rules { routes: vec![rule("any", Match::default(), Some(404)), of_bolt], ..Rules::default() };
        assert_eq!(by(&rules, &ask("1")).as_deref(), Some("any"));
        let nobodys = Ask { source: Source::Trunk, ..ask("1") };
        assert_eq!(tenant_of(&rules, &nobodys).map(TenantId::as_str), Some("bolt"));
        let only_bolt = Rules { routes: rules.routes[1..].to_vec(), ..Rules::default() };
        assert_eq!(by(&only_bolt, &ask("1")), None);
    }

    #[test]
    fn given_no_rule_when_asked_then_each_kind_of_peer_has_its_own_way() {
        let rules = Rules::default();
        let to = |ask: Ask<'_>| choose(&rules, &ask).describe();
        assert_eq!(to(ask("402")), "to the tenant's backends");
        assert_eq!(to(Ask { source: Source::Trunk, ..ask("402") }), "to the tenant's backends");
        let without = Ask { source: Source::Trunk, has_backends: false, ..ask("402") };
        assert_eq!(to(without), "404, no rule takes it");
        assert_eq!(to(Ask { source: Source::Backend, ..ask("402") }), "404, no rule takes it");
        let bound = Ask { source: Source::Backend, bound: true, ..ask("402") };
        assert_eq!(to(bound), "to the registered contacts of whom it names");
    }
}
