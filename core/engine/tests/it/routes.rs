//! Routes: where calls go by rules, and that what is explained is what happens.

use crate::call_support::*;
use crate::support::*;
use crate::trunks::{CARRIER, DID, OTHER, carrier_calls, rule, to_trunks, with_carriers};
use proptest::prelude::*;
use signalbox_base::Text;
use signalbox_engine::routing::{Answer, Chosen, Question, explain};
use signalbox_engine::settings::{
    Affinity, Group, HeaderMatch, Match, Member, MemberName, Pattern, PeerLimits, Rejection, Ring, Rule,
    Settings, To, When, Who, Zone,
};
use signalbox_engine::tenancy::Directory;
use signalbox_sip::HeaderName;
use std::sync::Arc;
use std::time::Duration;

fn routed_by(to: To) -> Settings {
    let mut settings = with_carriers();
    settings.rules.routes = vec![rule("the rule", "6", to)];
    settings
}

fn ring(stages: &[&[&str]]) -> To {
    let stages = stages.iter().map(|stage| stage.iter().map(|user| Text::new(user)).collect()).collect();
    To::Ring(Ring { stages, ring_for: Duration::from_secs(20) })
}

/// 401 and 402 are registered; who calls is the backend.
fn with_two(settings: Settings) -> (World, Phone, Phone) {
    let (mut world, first) = with_phone_under(settings);
    let mut second = Phone::new("402", "acme.test", SECOND);
    register(&mut world, &mut second, PBX, 3600);
    (world, first, second)
}

fn pbx_dials(world: &mut World, number: &str, id: &str) {
    let uri = format!("sip:{number}@acme.test");
    world.deliver(inside(PBX), invite(&inside(PBX), "sip:499@acme.test", &uri, id, ""));
}

#[test]
fn given_a_rule_that_refuses_when_a_phone_calls_then_it_hears_status_phrase_and_cause_and_no_backend_does() {
    let reason = Some(Text::new("Not From Here"));
    let (mut world, phone) =
        with_phone_under(routed_by(To::Reject(Rejection { status: 403, reason, cause: Some(21) })));
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:600@acme.test", "a", ""));
    let answers = world.take_to(phone.flow.remote);
    let refusal = answers.last().expect("an answer");
    assert!(refusal.text().starts_with("SIP/2.0 403 Not From Here\r\n"), "{}", refusal.text());
    assert_eq!(refusal.header(HeaderName::Reason).as_deref(), Some("Q.850;cause=21;text=\"Not From Here\""));
    assert!(world.take_to(addr(PBX)).is_empty());
    let cdr = the_cdr(&world);
    assert_eq!(
        (&cdr["status"], &cdr["q850_cause"], &cdr["released_by"]),
        (&403.into(), &21.into(), &"edge".into())
    );
    world.assert_replay_equals_live();
}

#[test]
fn given_a_rule_that_redirects_then_the_caller_is_told_where_else_to_try() {
    let (mut world, phone) =
        with_phone_under(routed_by(To::Redirect(vec![Text::new("sip:600@elsewhere.example")])));
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:600@acme.test", "a", ""));
    let answers = world.take_to(phone.flow.remote);
    let moved = answers.last().expect("an answer");
    assert_eq!(moved.status(), Some(302));
    assert_eq!(moved.header(HeaderName::Contact).as_deref(), Some("<sip:600@elsewhere.example>"));
}

#[test]
fn given_a_ring_group_when_its_number_is_dialled_then_all_ring_and_the_first_answer_wins() {
    let (mut world, first, second) = with_two(routed_by(ring(&[&["401@acme.test", "402@acme.test"]])));
    pbx_dials(&mut world, "600", "a");
    let at_first = world.one_to(first.flow.remote);
    let at_second = world.one_to(second.flow.remote);
    world.deliver(second.flow, response(&at_second, 180, "Contact: <sip:402@10.0.0.8>\r\n"));
    world.deliver(first.flow, response(&at_first, 180, "Contact: <sip:401@10.0.0.7>\r\n"));
    world.deliver(
        second.flow,
        respond(&at_second, 200, "<sip:402@10.0.0.8>", &sdp("192.0.2.9", "sendrecv", "PCMA")),
    );
    assert!(said(&mut world, first.flow.remote).contains(&"CANCEL".to_owned()));
    assert!(said(&mut world, addr(PBX)).contains(&"200".to_owned()));
    let routed = world.records("call.routed");
    assert!(routed.iter().all(|record| record.json()["why"]["rule"] == "the rule"));
}

#[test]
fn given_stages_when_the_first_does_not_answer_then_the_next_rings_and_without_anybody_left_it_ends() {
    let (mut world, first, second) = with_two(routed_by(ring(&[&["401@acme.test"], &["402@acme.test"]])));
    pbx_dials(&mut world, "600", "a");
    let at_first = world.one_to(first.flow.remote);
    assert!(world.take_to(second.flow.remote).is_empty());
    world.deliver(first.flow, response(&at_first, 180, "Contact: <sip:401@10.0.0.7>\r\n"));
    world.advance(Duration::from_secs(21));
    let cancel = world.take_to(first.flow.remote).into_iter().find(|sent| sent.text().starts_with("CANCEL "));
    world.deliver(first.flow, response(&cancel.expect("a CANCEL"), 200, ""));
    world.deliver(first.flow, response(&at_first, 487, ""));
    let at_second = world.take_to(second.flow.remote).remove(0);
    world.deliver(second.flow, response(&at_second, 486, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["100", "180", "486"]);
    assert_eq!(world.records("call.routed").len(), 2);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_ring_group_of_nobody_registered_then_it_is_404() {
    let mut world = World::new(routed_by(ring(&[&["401@acme.test"]])));
    pbx_dials(&mut world, "600", "a");
    assert_eq!(said(&mut world, addr(PBX)), ["100", "404"]);
}

fn group(weights: [u16; 2], priorities: [u16; 2]) -> Group {
    let member = |name: &str, at: usize| Member {
        peer: MemberName::Trunk(Text::new(name)),
        priority: priorities[at],
        weight: weights[at],
        limits: PeerLimits::default(),
    };
    let members = vec![member("carrier", 0), member("carrier-2", 1)];
    Group { members, cool_down: Duration::from_secs(60), ..Group::in_order(Text::new("carriers"), []) }
}

/// Where the backend's calls go; each is refused with this status.
fn tried(world: &mut World, calls: usize, status: u16) -> Vec<&'static str> {
    let mut went = Vec::new();
    for call in 0..calls {
        pbx_dials(world, &format!("6{call}"), &format!("c{call}x{}", world.journal.len()));
        for (name, at) in [("carrier", CARRIER), ("carrier-2", OTHER), ("carrier", CARRIER)] {
            for sent in world.take_to(addr(at)).into_iter().filter(|sent| sent.text().starts_with("INVITE "))
            {
                went.push(name);
                world.deliver(outside(at), response(&sent, status, ""));
            }
        }
        world.take();
    }
    went
}

#[test]
fn given_a_group_when_a_member_fails_so_then_the_next_is_tried_and_it_comes_last_until_it_has_cooled_down() {
    let mut settings =
        routed_by(To::Group(Arc::new(Group { failover_on: vec![500], ..group([1, 1], [1, 2]) })));
    settings.rules.routes[0].matches.source = vec![Who::Backends];
    let mut world = World::new(settings);
    assert_eq!(tried(&mut world, 1, 503), ["carrier"], "503 is no cause here");
    assert_eq!(tried(&mut world, 1, 500), ["carrier", "carrier-2"]);
    world.advance(Duration::from_secs(30));
    assert_eq!(tried(&mut world, 1, 486), ["carrier"], "both cool down: they are as good as each other");
    world.advance(Duration::from_secs(31));
    assert_eq!(tried(&mut world, 1, 486), ["carrier"]);
}

#[test]
fn given_weights_and_affinity_then_calls_spread_and_the_same_caller_goes_where_it_went() {
    let mut world = World::new(routed_by(To::Group(Arc::new(group([3, 1], [1, 1])))));
    let went = tried(&mut world, 200, 486);
    let share = went.iter().filter(|name| **name == "carrier").count();
    assert!((120..=180).contains(&share), "{share} of 200 for three quarters of the weight");
    let sticky = Group { affinity: Affinity::Caller, ..group([1, 1], [1, 1]) };
    let mut world = World::new(routed_by(To::Group(Arc::new(sticky))));
    let went = tried(&mut world, 20, 486);
    assert!(went.iter().all(|name| *name == went[0]), "one caller, one trunk");
}

#[test]
fn given_a_groups_limits_when_reached_then_the_other_member_is_taken_and_at_last_the_caller_hears_503() {
    let mut limited = group([1, 1], [1, 2]);
    limited.members[0].limits.calls = Some(1);
    limited.limits.calls = Some(2);
    let mut settings = routed_by(To::Group(Arc::new(limited)));
    settings.tenants[0].numbering.emergency = vec![Text::new("69")];
    let mut world = World::new(settings);
    let mut next = |number: &str| {
        pbx_dials(&mut world, number, number);
        let at = [CARRIER, OTHER].map(|at| world.take_to(addr(at)).len());
        (at, world.take_to(addr(PBX)).pop())
    };
    assert_eq!(next("61").0, [1, 0]);
    assert_eq!(next("62").0, [0, 1]);
    let (nowhere, answer) = next("63");
    assert_eq!(next("69").0, [1, 0], "help has no limit");
    assert_eq!(nowhere, [0, 0]);
    let answer = answer.expect("an answer");
    assert_eq!((answer.status(), answer.header(HeaderName::RetryAfter)), (Some(503), Some("5".into())));
    assert_eq!(world.records("call.failed")[0].json()["category"], "limit");
    world.assert_replay_equals_live();
}

#[test]
fn given_a_trunk_of_another_tenant_when_a_rule_for_all_leads_there_then_it_is_not_used() {
    let mut settings = with_carriers();
    let mut bolt =
        tenant("bolt", vec![domain("bolt.test", &[])], vec![backend("pbx-b", "10.0.2.1:5060", 1, None)]);
    bolt.numbering.own.clear();
    settings.tenants.push(bolt);
    settings.trunks[0].tenant = Some("bolt".parse().expect("a name"));
    settings.rules.routes = vec![rule("abroad", "+", to_trunks(&["carrier"]))];
    let mut world = World::new(settings);
    pbx_dials(&mut world, "+4930123456", "a");
    assert!(world.take_to(addr(CARRIER)).is_empty());
    assert_eq!(said(&mut world, addr(PBX)), ["100", "503"]);
}

#[test]
fn given_a_rule_that_names_carriers_as_its_source_then_it_joins_them_and_nothing_else_does() {
    let mut settings = with_carriers();
    settings.rules.routes[0].matches.source = vec![Who::Named(Text::new("carrier"))];
    settings.rules.routes[0].to = Some(to_trunks(&["carrier-2"]));
    settings.rules.routes[0].tenant = Some("acme".parse().expect("a name"));
    let mut world = World::new(settings);
    carrier_calls(&mut world, CARRIER, "+4930123456", "sip:+15551234567@203.0.113.1", "transit");
    assert_eq!(
        world.take_to(addr(OTHER)).len(),
        1,
        "a number that is nobody's is the call of the rule's tenant"
    );
    let flow = carrier_calls(&mut world, OTHER, "+4930123456", "sip:+15551234567@203.0.113.1", "back");
    assert_eq!(said(&mut world, flow.remote), ["404"]);
}

/// One of a few rules that overlap in many ways.
fn any_rule() -> impl Strategy<Value = Rule> {
    let number = prop_oneof![Just(""), Just("4"), Just("60"), Just("+44"), Just("+4420")];
    let source = prop::option::of(prop_oneof![
        Just(Who::Endpoints),
        Just(Who::Backends),
        Just(Who::Trunks),
        Just(Who::Named(Text::new("carrier"))),
    ]);
    let to = prop_oneof![
        Just(None),
        Just(Some(To::Backends)),
        Just(Some(to_trunks(&["carrier-2"]))),
        Just(Some(ring(&[&["401@acme.test"]]))),
        Just(Some(To::Reject(Rejection { status: 488, reason: None, cause: None }))),
    ];
    let night = prop::bool::ANY;
    let tag = prop::option::of(Just("t"));
    let header = prop::option::of(Just("kept as it is"));
    (number, source, to, night, tag.clone(), tag, header).prop_map(
        |(number, source, to, night, sets, wants, header)| {
            let zone = Arc::new(Zone { name: Text::new("x"), before: 0, transitions: Vec::new() });
            let matches = Match {
                number: if number.is_empty() { vec![] } else { vec![Pattern::Prefix(Text::new(number))] },
                source: source.into_iter().collect(),
                when: if night { vec![When { days: 127, from: 0, until: 720, zone }] } else { vec![] },
                tags: wants.into_iter().map(Text::new).collect(),
                headers: header
                    .map(|value| HeaderMatch {
                        name: Text::new("X-Custom"),
                        value: Some(Pattern::Exact(Text::new(value))),
                    })
                    .into_iter()
                    .collect(),
                ..Match::default()
            };
            let tags = sets.into_iter().map(Text::new).collect();
            Rule { name: Text::new("r"), tenant: None, matches, tags, to, template: None }
        },
    )
}

/// What happens on the wire, in the explanation's words.
fn happened(world: &mut World, asker: std::net::SocketAddr) -> &'static str {
    let sent = world.take();
    let invited =
        |at: &str| sent.iter().any(|sent| sent.flow.remote == addr(at) && sent.text().starts_with("INVITE "));
    if invited(OTHER) {
        return "group";
    }
    if invited(PHONE) {
        return "rings";
    }
    let mut statuses = sent.iter().filter(|sent| sent.flow.remote == asker).filter_map(Sent::status);
    match statuses.next_back() {
        Some(488) => "reject",
        Some(404) => "nobody",
        _ if invited(PBX) => "backends",
        _ => "nothing",
    }
}

fn explained(answer: &Answer<'_>) -> &'static str {
    match answer.choice.as_ref().map(|choice| choice.to) {
        Some(Chosen::Contacts | Chosen::Rule(To::Ring(_))) => "rings",
        Some(Chosen::Nobody) => "nobody",
        _ => answer.kind(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn given_any_rules_when_anybody_calls_then_what_was_explained_happens(
        rules in prop::collection::vec(any_rule(), 0..6),
        who in 0..3_usize,
        dialled in prop_oneof![
            Just("401"), Just("402"), Just("600"), Just("+442079460001"), Just("%2b44-2079460001;npdi"),
        ],
        hour in 0..24_u64,
    ) {
        let mut settings = with_carriers();
        settings.rules.routes = rules;
        let (mut world, phone) = with_phone_under(settings.clone());
        world.advance(Duration::from_secs(hour * 3_600 / 24));
        world.take();
        let (flow, from) = [(phone.flow, "401@acme.test"), (inside(PBX), "pbx-1"), (outside(CARRIER), "carrier")][who];
        let directory = Directory::new(&settings);
        let headers = [(Text::new("X-Custom"), Text::new("kept as it is"))];
        let question = Question { from, to: dialled, caller: "401", headers: &headers, wall: world.now.wall };
        let told = explain(&settings, &directory, &question, |_, aor| aor == "401@acme.test");
        let uri = format!("sip:{dialled}@acme.test");
        world.deliver(flow, invite(&flow, "sip:401@acme.test", &uri, "x", ""));
        let wire = happened(&mut world, flow.remote);
        let words = told.as_ref().map_or("nobody", explained);
        prop_assert_eq!(wire, words, "{:?}", told);
        let rule = told.ok().and_then(|told| told.choice?.rule).map(|rule| rule.name.to_string());
        let record = world.records("call.routed").first().map(|record| record.json()["why"]["rule"].clone());
        if let Some(record) = record {
            prop_assert_eq!(record.as_str().map(str::to_owned), rule);
        }
    }
}

#[test]
fn given_a_did_and_a_user_when_a_rule_joins_them_then_the_carriers_call_rings_at_the_phone_itself() {
    let mut settings = with_carriers();
    settings.rules.routes = vec![rule("direct", "+442079460001", ring(&[&["401@acme.test"]]))];
    let (mut world, phone) = with_phone_under(settings);
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", DID, "in");
    let ringing = world.one_to(phone.flow.remote);
    assert!(ringing.text().starts_with("INVITE sip:"), "{}", ringing.text());
    assert_eq!(world.one_to(flow.remote).status(), Some(100));
    assert_eq!(world.records("call.attempted")[0].json()["side"], "trunk_in");
}
