//! Stories of trunks, numbers, groups and routes as people write them.

use super::tests::{GOOD, keys, load_text};
use super::*;
use signalbox_base::{Text, Wall};
use signalbox_engine::settings::{Affinity, Form, MemberName, Settings, To, TrunkDirection};

const CARRIERS: &str = r#"
[[trunk]]
name      = "carrier"
tenant    = "acme"
network   = "outside"
address   = "udp:198.51.100.10"
source    = ["198.51.100.0/28"]
direction = "both"
hide      = "full"
probe     = { interval = "30s" }
limits    = { calls = 30 }
template  = { in = "uk-in", out = "uk-out" }

[[trunk]]
name    = "carrier-2"
address = "udp:198.51.100.20"

[[template]]
name   = "uk-out"
called = { strip = "9", form = "e164" }
caller = { form = "national", prefix = "*" }

[[template]]
name   = "uk-in"
called = { strip = "0", prefix = "+44" }

[[group]]
name        = "carriers"
members     = [{ name = "carrier", priority = 1, weight = 2, limits = { calls_per_second = 5 } }, "carrier-2"]
affinity    = "caller"
failover_on = [500, 503]
cool_down   = "30s"

[[route]]
match = { source = "endpoints", number = "999" }
tags  = ["night"]

[[route]]
name   = "out"
tenant = "acme"
template = "uk-out"
match  = { number = ["+44", { exact = "100" }, { regex = "^0[1-9]" }], caller = "4", header = { name = "X-Way", value = "b" }, when = { days = ["mon", "fri"], from = "08:30", until = "18:00", zone = "Europe/London" }, tags = ["night"] }
to     = "carriers"

[[route]]
match = { number = "600" }
to    = { ring = [["401@acme.example.net", "402@acme.example.net"], "403@acme.example.net"], ring_for = "15s" }

[[route]]
match = { number = "601" }
to    = "401@acme.example.net"

[[route]]
match = { number = "09" }
to    = { reject = 403, reason = "No", cause = 21 }

[[route]]
match = { number = "08", source = "pbx-1" }
to    = { redirect = ["sip:1@example.net"] }

[[route]]
match = { number = "07" }
to    = ["carrier-2", "pbx-2"]

[[route]]
to = "backends"
"#;

fn good() -> String {
    let numbers = "numbers = [\"+442079460000/4\"]\ncountry = \"44\"\nemergency_numbers = [\"112\"]\nblocked_callers = [\"+4490\", \"anonymous\"]\n";
    let trunks = GOOD.replace("serves = [\"endpoints\"]", "serves = [\"endpoints\", \"trunks\"]");
    trunks.replace("name = \"acme\"\n", &format!("name = \"acme\"\n{numbers}")) + CARRIERS
}

fn settings(text: &str) -> Settings {
    let loaded = load_text(text).unwrap_or_else(|problems| panic!("{problems}"));
    Effective::new(&loaded.file).settings(&keys()).unwrap()
}

#[test]
fn given_trunks_and_routes_when_loaded_then_the_engine_has_them_as_they_are_written() {
    let settings = settings(&good());
    let carrier = &settings.trunks[0];
    assert_eq!(carrier.tenant.as_ref().map(|tenant| tenant.as_str()), Some("acme"));
    assert_eq!((carrier.direction, carrier.limits.calls), (TrunkDirection::Both, Some(30)));
    assert_eq!(settings.networks[usize::from(settings.trunks[1].peer.network)], "outside");
    let (inward, outward) = (carrier.template_in.as_ref().unwrap(), carrier.template_out.as_ref().unwrap());
    assert_eq!((&*inward.called.prefix, outward.called.form), ("+44", Form::E164));
    let acme = &settings.tenants[0].numbering;
    assert_eq!((acme.own.len(), acme.emergency.len(), acme.country.as_deref()), (1, 1, Some("44")));
    assert!(acme.blocks("anonymous") && acme.blocks("+44901") && !acme.blocks("+4420"));
    let rules = &settings.rules.routes;
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names[..3], ["route[0]", "out", "route[2]"]);
    let Some(To::Group(group)) = &rules[1].to else { panic!("{:?}", rules[1].to) };
    assert_eq!(
        (group.affinity, &*group.failover_on, group.members.len()),
        (Affinity::Caller, &[500, 503][..], 2)
    );
    assert_eq!((group.members[0].weight, group.members[1].priority), (2, 1));
    let Some(To::Ring(ring)) = &rules[2].to else { panic!("{:?}", rules[2].to) };
    assert_eq!(ring.stages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(rules[2].tenant.as_ref().map(|t| t.as_str()), Some("acme"), "its users are acme's");
    let Some(To::Group(group)) = &rules[6].to else { panic!("{:?}", rules[6].to) };
    assert_eq!(group.members[1].peer, MemberName::Backend("acme".parse().unwrap(), Text::new("pbx-2")));
}

#[test]
fn given_hours_in_a_zone_when_its_clocks_change_then_summer_and_winter_have_their_own_hours() {
    let settings = settings(&good());
    let when = &settings.rules.routes[1].matches.when[0];
    for (at, inside) in [
        ("2026-01-16T08:30:00Z", true),
        ("2026-01-16T18:00:00Z", false),
        ("2026-07-17T07:30:00Z", true),
        ("2026-07-17T17:00:00Z", false),
        ("2026-07-18T10:00:00Z", false),
        ("2090-01-16T08:30:00Z", true),
    ] {
        assert_eq!(when.contains(Wall::parse_rfc3339(at).unwrap()), inside, "{at}");
    }
}

/// What is changed, the path that the problem names, and words that stand in it.
#[test]
fn given_a_mistake_in_trunks_or_routes_then_it_names_its_place_and_what_to_do() {
    let good = good();
    for (from, to, path, words) in [
        (
            "to     = \"carriers\"",
            "to     = \"carrriers\"",
            "route[1].to",
            "no trunk, group or backend is named",
        ),
        ("tenant = \"acme\"\ntemplate", "tenant = \"bolt\"\ntemplate", "route[1].tenant", "no tenant"),
        ("template = \"uk-out\"", "template = \"us\"", "route[1].template", "no template"),
        ("{ in = \"uk-in\"", "{ in = \"us\"", "trunk[0].template.in", "no template"),
        ("source = \"endpoints\"", "source = \"phones\"", "route[0].match.source", "named \"phones\""),
        ("Europe/London", "Europe/Londom", "route[1].match.when.zone", "no time zone"),
        ("08:30", "8.30", "route[1].match.when.from", "is no time"),
        ("^0[1-9]", "^0[1-9", "route[1].match.number", "no expression"),
        ("\"403@acme.example.net\"", "\"403@elsewhere.net\"", "route[2].to", "no user of a tenant's domain"),
        ("reject = 403", "reject = 200", "route[4].to", "no refusal"),
        ("sip:1@example.net", "1@example.net", "route[5].to", "no URIs"),
        ("direction = \"both\"", "direction = \"in\"", "group[0].members[0]", "takes no calls"),
        ("name    = \"carrier-2\"", "name    = \"pbx-1\"", "trunk[1].name", "a backend of tenant acme"),
        ("198.51.100.20\"", "198.51.100.10\"", "trunk[1].address", "the same address"),
        ("tenant    = \"acme\"", "tenant    = \"nobody\"", "trunk[0].tenant", "no tenant"),
        ("198.51.100.0/28", "198.51.100.0/99", "trunk[0].source[0]", "is not"),
        ("network   = \"outside\"", "network   = \"inside\"", "trunk[0].network", "serves trunks"),
        ("+442079460000/4", "+442079460000/x", "tenant[0].numbers[0]", "free digits"),
        ("country = \"44\"", "country = \"uk\"", "tenant[0].country", "country code"),
        ("calls = 30", "calls = 0", "trunk[0].limits.calls", "refuse everything"),
        ("failover_on = [500, 503]", "failover_on = [200]", "group[0].failover_on[0]", "no failure"),
        ("name        = \"carriers\"", "name        = \"carrier\"", "group[0].name", "something else"),
    ] {
        assert!(good.contains(from), "{from}");
        let problems = load_text(&good.replace(from, to)).unwrap_err();
        let found = problems.0.iter().find(|problem| problem.path == path);
        let found = found.unwrap_or_else(|| panic!("{to}: {problems}"));
        assert!(found.message.contains(words) && !found.fix.is_empty(), "{to}: {problems}");
        assert!(found.place.contains(".toml:"), "{to}: {}", found.place);
    }
}

#[test]
fn given_a_rule_that_nothing_reaches_or_numbers_in_one_another_then_a_warning_says_so() {
    let warned = |text: &str| {
        let loaded = load_text(text).unwrap_or_else(|problems| panic!("{problems}"));
        loaded
            .warnings
            .iter()
            .map(|warning| format!("{}: {}", warning.path, warning.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(warned(&good()), Vec::<String>::new());
    let behind_all = good() + "[[route]]\nmatch = { number = \"05\" }\nto = \"backends\"\n";
    assert_eq!(warned(&behind_all), ["route[8]: route[7] takes every call that this one could"]);
    let narrower = good().replace(
        "[[route]]\nto = \"backends\"",
        "[[route]]\nmatch = { number = \"0901\" }\nto = \"backends\"",
    );
    assert_eq!(warned(&narrower), ["route[7]: route[4] takes every call that this one could"]);
    let other = "[[tenant]]\nname = \"bolt\"\ndomains = [\"bolt.example.net\"]\nnumbers = [\"+442079460100/2\"]\n\
                 backends = [{ name = \"pbx-b\", address = \"udp:10.0.0.21\" }]\n";
    let nested = warned(&(good() + other));
    assert!(nested.len() == 1 && nested[0].starts_with("tenant[1].numbers[0]: "), "{nested:?}");
    let twice = load_text(&(good() + &other.replace("+442079460100/2", "+442079460000/4"))).unwrap_err();
    assert!(twice.0.iter().any(|problem| problem.message.contains("is tenant acme's too")), "{twice}");
}
