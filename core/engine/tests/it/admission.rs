//! Who may have a call made where: nobody gets past the rules by another name, another number or another try.

use crate::call_support::*;
use crate::support::*;
use crate::trunks::{CARRIER, DID, OTHER, carrier_calls, rule, to_trunks, trunk, with_carriers};
use signalbox_base::Text;
use signalbox_engine::settings::{
    CallsFrom, Form, Group, Match, Member, MemberName, NumberBlock, Pattern, PeerLimits, Rejection, Rewrite,
    Ring, Rule, Settings, Template, To,
};
use std::sync::Arc;
use std::time::Duration;

const DEAR: &str = "sip:+88212345678@acme.test";

/// What an address was invited to.
fn invited(world: &mut World, at: &str) -> Vec<String> {
    let sent = world.take_to(addr(at)).into_iter();
    sent.filter(|sent| sent.text().starts_with("INVITE ")).map(|sent| sent.uri()).collect()
}

fn refusal(status: u16) -> To {
    To::Reject(Rejection { status, reason: None, cause: None })
}

/// A rule for one caller.
fn for_caller(caller: &str, to: To) -> Rule {
    let matches = Match { caller: vec![Pattern::Exact(Text::new(caller))], ..Match::default() };
    Rule { matches, ..rule(caller, "+", to) }
}

#[test]
fn given_a_tenant_that_lets_anybody_call_its_backends_when_a_stranger_dials_out_then_no_carrier_and_no_phone_hears()
 {
    let mut settings = with_carriers();
    settings.tenants[0].calls_from = CallsFrom::Any;
    let ring = Ring { stages: vec![vec![Text::new("401@acme.test")]], ring_for: Duration::from_secs(20) };
    settings.rules.routes.push(rule("all", "6", To::Ring(ring)));
    let (mut world, phone) = with_phone_under(settings);
    let stranger = outside("192.0.2.99:5060");
    for (uri, id) in [(DEAR, "out"), ("sip:600@acme.test", "ring")] {
        world.deliver(stranger, invite(&stranger, "sip:x@acme.test", uri, id, ""));
        assert_eq!(invited(&mut world, PBX), [uri], "it asks for credentials");
        assert_eq!(invited(&mut world, CARRIER), [""; 0]);
        assert!(world.take_to(phone.flow.remote).is_empty());
    }
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", DEAR, "own", ""));
    assert_eq!(invited(&mut world, CARRIER).len(), 1, "a registered phone may");
}

#[test]
fn given_a_phone_that_wants_privacy_when_it_takes_anothers_name_then_rules_and_records_know_it_by_its_own() {
    let mut settings = with_carriers();
    settings.rules.routes = vec![for_caller("402", to_trunks(&["carrier"])), for_caller("401", refusal(488))];
    let (mut world, phone) = with_phone_under(settings);
    world.deliver(phone.flow, invite(&phone.flow, "sip:402@anonymous.invalid", DEAR, "a", ""));
    assert_eq!(said(&mut world, phone.flow.remote), ["100", "488"]);
    assert_eq!(invited(&mut world, CARRIER), [""; 0]);
    assert_eq!(the_cdr(&world)["caller"], "401");
}

#[test]
fn given_a_challenged_call_when_it_comes_back_for_another_number_then_limits_and_records_take_it_for_another()
{
    let mut settings = acme();
    settings.tenants[0].limits.calls_per_second = Some(0);
    settings.tenants[0].numbering.emergency = vec![Text::new("112")];
    let (mut world, phone) = with_phone_under(settings);
    let call = |world: &mut World, number: &str, cseq: &str| {
        let text = invite(&phone.flow, "sip:401@acme.test", &format!("sip:{number}@acme.test"), "x", "");
        world.deliver(
            phone.flow,
            text.replace("CSeq: 1 ", &format!("CSeq: {cseq} ")).replace("z9hG4bK", &format!("z9hG4bK{cseq}")),
        );
    };
    call(&mut world, "112", "1");
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(
        inside(PBX),
        response(&at_pbx, 407, "Proxy-Authenticate: Digest realm=\"p\", nonce=\"n\"\r\n"),
    );
    world.take();
    call(&mut world, "+88212345678", "2");
    assert_eq!(said(&mut world, phone.flow.remote), ["503"]);
    assert_eq!(invited(&mut world, PBX), [""; 0]);
    call(&mut world, "112", "3");
    assert_eq!(invited(&mut world, PBX), ["sip:112@acme.test"], "the call that was challenged goes on");
}

#[test]
fn given_two_tenants_trunks_at_one_address_when_a_number_is_called_then_its_owners_backend_rings() {
    let mut settings = with_carriers();
    let mut globex =
        tenant("globex", vec![domain("globex.test", &[])], vec![backend("pbx-g", "10.0.2.1:5060", 1, None)]);
    globex.numbering.own = vec![NumberBlock::parse("+442079470000/4").expect("a block")];
    settings.tenants.push(globex);
    settings.trunks = vec![trunk("of-acme", CARRIER), trunk("of-globex", CARRIER)];
    settings.trunks[0].tenant = Some("acme".parse().expect("a name"));
    settings.trunks[1].tenant = Some("globex".parse().expect("a name"));
    settings.rules.routes.clear();
    let mut world = World::new(settings);
    carrier_calls(&mut world, CARRIER, "+4930123456", "sip:+442079470001@203.0.113.1", "g");
    assert_eq!((invited(&mut world, "10.0.2.1:5060").len(), invited(&mut world, PBX).len()), (1, 0));
    carrier_calls(&mut world, CARRIER, "+4930123456", DID, "a");
    assert_eq!((invited(&mut world, "10.0.2.1:5060").len(), invited(&mut world, PBX).len()), (0, 1));
    world.take();
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", "sip:+15551234567@203.0.113.1", "nobody");
    assert_eq!(said(&mut world, flow.remote), ["404"]);
}

#[test]
fn given_a_tenants_trunk_when_a_phone_dials_its_address_then_no_backend_is_asked_to_pass_it_on() {
    let mut settings = with_carriers();
    settings.trunks[0].tenant = Some("acme".parse().expect("a name"));
    settings.rules.routes.clear();
    let (mut world, phone) = with_phone_under(settings);
    let past = "sip:+88212345678@198.51.100.10";
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", past, "past", ""));
    assert_eq!(said(&mut world, phone.flow.remote), ["404"]);
    assert_eq!((invited(&mut world, PBX), invited(&mut world, CARRIER)), (vec![], vec![]));
}

#[test]
fn given_a_number_with_separators_and_parameters_then_rules_owners_and_carriers_know_it_without() {
    let mut settings = with_carriers();
    settings.rules.routes =
        vec![rule("dear", "+882", refusal(488)), rule("abroad", "+", to_trunks(&["carrier"]))];
    settings.rules.routes.insert(0, rule("premium", "90900", refusal(488)));
    settings.rules.routes.push(rule("out", "9", to_trunks(&["carrier"])));
    let (mut world, phone) = with_phone_under(settings);
    for (number, id) in [
        ("+8-8212345;x=1", "a"),
        ("%2B88212345678;npdi", "b"),
        ("+(882)12345678", "c"),
        ("9-0900.1234567", "f"),
        ("9%2d09001234567", "g"),
    ] {
        let uri = format!("sip:{number}@acme.test");
        world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", &uri, id, ""));
        assert_eq!(said(&mut world, phone.flow.remote), ["100", "488"], "{number}");
    }
    let ported = "sip:+4930123456;npdi;rn=+88212345678@acme.test";
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", ported, "d", ""));
    assert_eq!(invited(&mut world, CARRIER), ["sip:+4930123456@198.51.100.10:5060"]);
    carrier_calls(&mut world, CARRIER, "+4930123456", "sip:+442079460001;npdi@203.0.113.1", "e");
    assert_eq!(invited(&mut world, PBX).len(), 1, "it has its owner");
}

#[test]
fn given_a_blocked_caller_when_its_carrier_writes_it_in_another_form_then_it_is_blocked_all_the_same() {
    let mut settings = with_carriers();
    settings.tenants[0].numbering.blocked_callers = vec![Pattern::Exact(Text::new("+442079460999"))];
    let plus = Rewrite { prefix: Text::new("+"), ..rewrite() };
    settings.trunks[0].template_in = Some(Arc::new(Template { called: rewrite(), caller: plus }));
    let mut world = World::new(settings);
    let flow = carrier_calls(&mut world, CARRIER, "442079460999", DID, "a");
    assert_eq!(said(&mut world, flow.remote), ["100", "603"]);
    let flow = carrier_calls(&mut world, OTHER, "442079460999", DID, "bare");
    assert_eq!(said(&mut world, flow.remote), ["100", "603"], "without a template too");
}

fn rewrite() -> Rewrite {
    Rewrite { strip: Text::default(), form: Form::Same, prefix: Text::default() }
}

#[test]
fn given_a_members_limit_when_others_fail_then_calls_that_come_over_are_limited_too() {
    let member = |name: &str, priority, calls| Member {
        peer: MemberName::Trunk(Text::new(name)),
        priority,
        weight: 1,
        limits: PeerLimits { calls, ..PeerLimits::default() },
    };
    let members = vec![member("carrier", 1, None), member("carrier-2", 2, Some(1))];
    let group = Group { members, ..Group::in_order(Text::new("carriers"), []) };
    let mut settings = with_carriers();
    settings.rules.routes = vec![rule("abroad", "+", To::Group(Arc::new(group)))];
    let (mut world, phone) = with_phone_under(settings);
    let ids = ["a", "b"];
    for id in ids {
        world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", DEAR, id, ""));
    }
    let tries = world.take_to(addr(CARRIER));
    let mut over = 0;
    for sent in tries.iter().filter(|sent| sent.text().starts_with("INVITE ")) {
        world.deliver(outside(CARRIER), response(sent, 503, ""));
        over += invited(&mut world, OTHER).len();
    }
    assert_eq!(over, 1, "it takes one call");
    assert!(said(&mut world, phone.flow.remote).contains(&"503".to_owned()));
}

#[test]
fn given_a_users_limit_when_it_has_a_call_then_another_for_it_is_486_and_one_that_replaces_it_is_not() {
    let mut settings: Settings = acme();
    settings.tenants[0].limits.calls_per_user = Some(1);
    let (mut world, phone) = with_phone_under(settings);
    established(&mut world, &phone, "first");
    world.take();
    let uri = "sip:401@acme.test";
    let from_pbx = |world: &mut World, id: &str, more: &str| {
        let text = invite(&inside(PBX), "sip:402@acme.test", uri, id, "");
        world.deliver(inside(PBX), text.replacen("Max-Forwards", &format!("{more}Max-Forwards"), 1));
        said(world, addr(PBX))
    };
    assert_eq!(from_pbx(&mut world, "second", ""), ["100", "486"]);
    assert!(world.take_to(phone.flow.remote).is_empty());
    let unknown = "Replaces: x@y;from-tag=a;to-tag=b\r\n";
    assert_ne!(from_pbx(&mut world, "third", unknown), ["100", "486"]);
}

#[test]
fn given_a_packet_in_a_carriers_name_where_strangers_are_heard_then_the_carrier_still_gets_its_answers() {
    let carrier = addr("10.0.9.9:5060");
    let mut settings = with_carriers();
    settings.listeners[1].serves.trunks = true;
    settings.trunks = vec![trunk("inner", "10.0.9.9:5060")];
    settings.trunks[0].peer.network = settings.listeners[1].network;
    let mut world = World::new(settings);
    let spoofed = outside("10.0.9.9:5060");
    world
        .deliver(spoofed, request("OPTIONS", "sip:x@nowhere.test", "sip:y@nowhere.test", carrier, "spoofed"));
    world.take();
    let flow = inside("10.0.9.9:5060");
    for id in ["a", "b", "c", "d"] {
        world.deliver(flow, invite(&flow, "sip:+4930123456@carrier.example", DID, id, ""));
        assert_eq!(said(&mut world, carrier), ["100"], "{id}");
    }
}

#[test]
fn given_a_numbers_limit_then_it_is_one_number_however_it_is_dialled() {
    let mut settings = with_carriers();
    settings.tenants[0].limits.calls_per_number = Some(1);
    let (mut world, phone) = with_phone_under(settings);
    let call = |world: &mut World, number: &str| {
        let uri = format!("sip:{number}@acme.test");
        world.deliver(
            phone.flow,
            invite(&phone.flow, "sip:401@acme.test", &uri, &format!("id{}", number.len()), ""),
        );
        said(world, phone.flow.remote)
    };
    assert_eq!(call(&mut world, "+4930123456"), ["100"]);
    for number in ["004930123456", "+49-30-123456", "+49(30)12.3456", "+4930123456;x=y"] {
        assert_eq!(call(&mut world, number), ["486"], "{number}");
    }
}

#[test]
fn given_a_template_that_strips_an_e164_prefix_then_any_form_of_the_number_loses_it_and_nothing_is_left_is_404()
 {
    let mut settings = with_carriers();
    let strip = |what: &str| {
        Some(Arc::new(Template {
            called: Rewrite { strip: Text::new(what), ..rewrite() },
            caller: rewrite(),
        }))
    };
    settings.rules.routes[0].template = strip("+4930");
    settings.rules.routes.push(Rule { template: strip("9"), ..rule("out", "9", to_trunks(&["carrier"])) });
    let (mut world, phone) = with_phone_under(settings);
    for (number, id) in [("+4930123456", "a"), ("004930123456", "b"), ("+49-30-123456", "c")] {
        let uri = format!("sip:{number}@acme.test");
        world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", &uri, id, ""));
        assert_eq!(invited(&mut world, CARRIER), ["sip:123456@198.51.100.10:5060"], "{number}");
    }
    world.take();
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:9@acme.test", "d", ""));
    assert_eq!(
        (said(&mut world, phone.flow.remote), invited(&mut world, CARRIER)),
        (vec!["100".to_owned(), "404".to_owned()], vec![])
    );
}

#[test]
fn given_a_banned_network_when_a_registered_phone_there_calls_for_help_then_that_call_goes_through_and_no_other()
 {
    let mut settings = acme();
    settings.tenants[0].numbering.emergency = vec![Text::new("112")];
    let (mut world, phone) = with_phone_under(settings);
    let network = format!("{}/32", phone.flow.remote.ip()).parse().expect("a network");
    world.engine.blocks_mut().block(network, world.now.mono.plus(Duration::from_secs(600)));
    let call = |world: &mut World, flow: &signalbox_base::Flow, number: &str| {
        let uri = format!("sip:{number}@acme.test");
        let offer = sdp("192.0.2.7", "sendrecv", "PCMA");
        world.deliver(*flow, invite(flow, "sip:401@acme.test", &uri, number, &offer));
    };
    call(&mut world, &phone.flow, "402");
    let elsewhere = outside(&format!("{}:9", phone.flow.remote.ip()));
    call(&mut world, &elsewhere, "112");
    assert!(world.take().is_empty(), "a ban is silent");
    call(&mut world, &phone.flow, "112");
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:112@10.0.1.1:5060>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    let ok = world.take_to(phone.flow.remote).pop().expect("the answer");
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    world.deliver(phone.flow, caller.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["ACK", "BYE"]);
}
