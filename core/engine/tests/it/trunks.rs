//! Carriers: whose their calls are, where calls to them go, and what they may not.

use crate::call_support::*;
use crate::support::*;
use signalbox_base::{Cidr, Flow, Text};
use signalbox_engine::contract::BackendWish;
use signalbox_engine::settings::{
    Form, Group, Match, MemberName, NumberBlock, Pattern, PeerLimits, ProbeSettings, Rewrite, Rule, Settings,
    Template, To, TrunkDirection, TrunkSettings,
};
use signalbox_engine::{Command, CommandReply};
use signalbox_sip::HeaderName;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CARRIER: &str = "198.51.100.10:5060";
pub(crate) const OTHER: &str = "198.51.100.20:5060";
/// A number of acme's.
pub(crate) const DID: &str = "sip:+442079460001@203.0.113.1";

pub(crate) fn trunk(name: &str, address: &str) -> TrunkSettings {
    let mut peer = backend(name, address, 1, None);
    peer.network = 0;
    TrunkSettings {
        peer,
        tenant: None,
        direction: TrunkDirection::Both,
        limits: PeerLimits::default(),
        template_in: None,
        template_out: None,
    }
}

pub(crate) fn to_trunks(names: &[&str]) -> To {
    let peers = names.iter().map(|name| MemberName::Trunk(Text::new(name)));
    To::Group(Arc::new(Group::in_order(Text::new(names[0]), peers)))
}

pub(crate) fn rule(name: &str, number: &str, to: To) -> Rule {
    let number = vec![Pattern::Prefix(Text::new(number))];
    let matches = Match { number, ..Match::default() };
    Rule { name: Text::new(name), tenant: None, matches, tags: Vec::new(), to: Some(to), template: None }
}

/// `acme` with two shared carriers outside, a number block, and a route for numbers that begin with `+`.
pub(crate) fn with_carriers() -> Settings {
    let mut settings = acme();
    settings.listeners[0].serves.trunks = true;
    settings.trunks = vec![trunk("carrier", CARRIER), trunk("carrier-2", OTHER)];
    settings.trunks[0].peer.source = vec!["198.51.100.64/28".parse::<Cidr>().expect("a prefix")];
    settings.tenants[0].numbering.own = vec![NumberBlock::parse("+442079460000/4").expect("a block")];
    settings.rules.routes = vec![rule("abroad", "+", to_trunks(&["carrier", "carrier-2"]))];
    settings
}

/// A carrier calls; gives its flow. What is sent stays on the wire.
pub(crate) fn carrier_calls(world: &mut World, from: &str, caller: &str, uri: &str, id: &str) -> Flow {
    let flow = outside(from);
    let offer = sdp("198.51.100.10", "sendrecv", "PCMA");
    world.deliver(flow, invite(&flow, &format!("sip:{caller}@carrier.example"), uri, id, &offer));
    flow
}

/// The backend calls a number that nobody is registered under; gives what comes to the address.
fn pbx_calls_out(world: &mut World, number: &str, id: &str, at: &str) -> Sent {
    let uri = format!("sip:{number}@acme.test");
    world.deliver(
        inside(PBX),
        invite(&inside(PBX), "sip:401@acme.test", &uri, id, &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    assert_eq!(world.one_to(addr(PBX)).status(), Some(100));
    world.one_to(addr(at))
}

#[test]
fn given_a_shared_trunk_when_it_calls_a_tenants_number_then_its_backend_rings_and_the_record_says_from_whom()
{
    let mut world = World::new(with_carriers());
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", DID, "in");
    assert_eq!(world.one_to(flow.remote).status(), Some(100));
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.uri(), "sip:+442079460001@acme.test", "in the tenant's own domain");
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:401@10.0.1.1:5060>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    let ok = world.one_to(flow.remote);
    let mut carrier = Dialog::calling(flow, &ok);
    world.deliver(flow, carrier.ack(1, ""));
    world.take();
    world.deliver(flow, carrier.request("BYE", ""));
    let cdr = the_cdr(&world);
    for (key, value) in [
        ("tenant", "acme"),
        ("side", "trunk_in"),
        ("direction", "inbound"),
        ("ingress_kind", "trunk"),
        ("ingress_peer", "carrier"),
        ("egress_peer", "pbx-1"),
        ("callee_e164", "+442079460001"),
    ] {
        assert_eq!(cdr[key], value, "{key}");
    }
    assert_eq!(world.records("call.routed")[0].json()["why"]["basis"], "number");
    world.assert_replay_equals_live();
}

#[test]
fn given_a_trunk_when_it_calls_nobodys_number_or_sends_what_is_no_call_then_it_is_refused_and_nobody_hears_of_it()
 {
    let mut world = World::new(with_carriers());
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", "sip:+15551234567@203.0.113.1", "relay");
    assert_eq!(
        world.one_to(flow.remote).status(),
        Some(404),
        "the route is for nobody's calls but the tenants' own"
    );
    let register = request("REGISTER", "sip:acme.test", "sip:401@acme.test", flow.remote, "reg");
    world.deliver(flow, register);
    assert_eq!(world.one_to(flow.remote).status(), Some(403));
    let message = request("SUBSCRIBE", DID, "sip:401@acme.test", flow.remote, "msg");
    world.deliver(flow, message);
    assert_eq!(world.one_to(flow.remote).status(), Some(403));
    assert!(world.take().is_empty(), "neither PBX nor the other carrier");
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    let mut rules: Vec<_> = told.iter().map(|record| record.json()["rule"].to_string()).collect();
    rules.sort();
    assert_eq!(rules, ["\"method\"", "\"unknown_domain\""]);
}

#[test]
fn given_a_route_to_a_trunk_when_another_carrier_calls_a_number_of_it_then_the_tenants_backend_has_the_call()
{
    let mut world = World::new(with_carriers());
    let flow = carrier_calls(&mut world, OTHER, "+4930123456", DID, "in");
    assert_eq!(world.one_to(flow.remote).status(), Some(100));
    assert_eq!(world.take_to(addr(PBX)).len(), 1, "a route without a source does not join carriers");
    assert!(world.take_to(addr(CARRIER)).is_empty());
}

#[test]
fn given_a_prefix_of_sources_when_a_call_comes_from_it_then_it_is_the_carriers_and_a_neighbours_is_not() {
    let mut world = World::new(with_carriers());
    carrier_calls(&mut world, "198.51.100.70:5080", "+4930123456", DID, "in");
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    carrier_calls(&mut world, "198.51.100.10:5062", "+4930123456", DID, "other port");
    assert!(world.take_to(addr(PBX)).is_empty(), "where phones are served a bare address is nobody");
}

#[test]
fn given_a_direction_when_a_call_comes_the_other_way_then_it_does_not_go() {
    let mut settings = with_carriers();
    settings.trunks[0].direction = TrunkDirection::Out;
    settings.trunks[1].direction = TrunkDirection::In;
    let mut world = World::new(settings);
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", DID, "in");
    assert_eq!(world.one_to(flow.remote).status(), Some(403));
    let out = pbx_calls_out(&mut world, "+4930123456", "out", CARRIER);
    world.deliver(outside(CARRIER), response(&out, 503, ""));
    assert!(world.take_to(addr(OTHER)).is_empty(), "it takes no calls");
}

#[test]
fn given_a_route_when_the_backend_calls_a_number_then_the_trunk_gets_it_and_on_503_the_next_one() {
    let mut world = World::new(with_carriers());
    let first = pbx_calls_out(&mut world, "+4930123456", "out", CARRIER);
    assert_eq!(first.uri(), "sip:+4930123456@198.51.100.10:5060");
    world.deliver(outside(CARRIER), response(&first, 503, ""));
    assert!(world.one_to(addr(CARRIER)).text().starts_with("ACK "));
    let second = world.one_to(addr(OTHER));
    world.deliver(
        outside(OTHER),
        respond(&second, 200, "<sip:x@198.51.100.20:5060>", &sdp("198.51.100.20", "sendrecv", "PCMA")),
    );
    let ok = world.one_to(addr(PBX));
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    world.deliver(inside(PBX), pbx.ack(1, ""));
    assert!(world.one_to(addr(OTHER)).text().starts_with("ACK sip:x@198.51.100.20:5060 "));
    let mut callee = Dialog::called(outside(OTHER), &second, "pbx");
    world.deliver(outside(OTHER), callee.request("BYE", ""));
    let cdr = the_cdr(&world);
    for (key, value) in [
        ("side", "trunk_out"),
        ("direction", "outbound"),
        ("egress_kind", "trunk"),
        ("egress_peer", "carrier-2"),
        ("route", "abroad"),
    ] {
        assert_eq!(cdr[key], value, "{key}");
    }
    let routed = world.records("call.routed");
    let why: Vec<_> = routed.iter().map(|record| record.json()["why"].clone()).collect();
    assert_eq!((&why[0]["basis"], &why[0]["rule"]), (&"rule".into(), &"abroad".into()));
    assert_eq!((&why[1]["failover_from"], &why[1]["failover_status"]), (&"carrier".into(), &503.into()));
    world.assert_replay_equals_live();
}

#[test]
fn given_a_number_that_no_route_takes_when_the_backend_calls_it_then_it_is_404() {
    let mut world = World::new(with_carriers());
    let uri = "sip:0049301@acme.test";
    world.deliver(inside(PBX), invite(&inside(PBX), "sip:401@acme.test", uri, "out", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["100", "404"]);
}

#[test]
fn given_a_call_with_a_trunk_when_the_edge_dies_then_it_goes_on() {
    let mut world = World::new(with_carriers());
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", DID, "in");
    world.one_to(flow.remote);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:401@10.0.1.1:5060>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    let mut carrier = Dialog::calling(flow, &world.one_to(flow.remote));
    world.deliver(flow, carrier.ack(1, ""));
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    world.deliver(flow, carrier.request("BYE", ""));
    assert!(said(&mut world, addr(PBX)).contains(&"BYE".to_owned()));
    assert_eq!(the_cdr(&world)["ingress_peer"], "carrier");
}

#[test]
fn given_an_operator_who_drains_a_trunk_then_calls_take_the_other_and_its_state_is_nobodys() {
    let mut settings = with_carriers();
    settings.trunks[0].peer.probe = ProbeSettings::default();
    let mut world = World::new(settings);
    world.advance(Duration::from_secs(1));
    let probe = world.take_to(addr(CARRIER)).remove(0);
    assert!(probe.text().starts_with("OPTIONS "));
    world.deliver(outside(CARRIER), response(&probe, 200, ""));
    let up = world.records("backend.state_changed")[0].clone();
    assert_eq!((up.tenant.as_str(), up.subject.as_str()), ("", "carrier"));
    let drain =
        Command::Backend { name: Text::new("carrier"), wish: BackendWish::Drain, actor: Text::new("root") };
    assert!(matches!(world.command(drain), CommandReply::Done(_)));
    pbx_calls_out(&mut world, "+4930123456", "out", OTHER);
    world.assert_replay_equals_live();
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    pbx_calls_out(&mut world, "+4930123457", "out-2", OTHER);
}

#[test]
fn given_a_trunks_limit_when_one_more_calls_then_it_is_503_with_retry_after_also_after_a_restart() {
    let mut settings = with_carriers();
    settings.trunks[0].limits.calls = Some(1);
    let mut world = World::new(settings);
    carrier_calls(&mut world, CARRIER, "+4930123456", DID, "first");
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    world.take();
    let flow = carrier_calls(&mut world, CARRIER, "+4930123456", DID, "second");
    let refused = world.one_to(flow.remote);
    assert_eq!((refused.status(), refused.header(HeaderName::RetryAfter)), (Some(503), Some("5".into())));
    pbx_calls_out(&mut world, "+4930123456", "out", OTHER);
    let flow =
        carrier_calls(&mut world, CARRIER, "+4930123456", "sip:112@203.0.113.1", "not a number of ours");
    assert_eq!(world.one_to(flow.remote).status(), Some(404));
}

#[test]
fn given_limits_of_user_and_number_when_reached_then_the_caller_hears_403_or_486_and_help_passes() {
    let mut settings = acme();
    settings.tenants[0].limits.calls_per_user = Some(1);
    settings.tenants[0].numbering.emergency = vec![Text::new("15")];
    let (mut world, phone) = with_phone_under(settings.clone());
    established(&mut world, &phone, "first");
    let call = |world: &mut World, uri: &str, id: &str| {
        world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", uri, id, ""));
        world.take_to(phone.flow.remote).iter().find_map(Sent::status)
    };
    assert_eq!(call(&mut world, "sip:403@acme.test", "second"), Some(403));
    assert_eq!(call(&mut world, "sip:15@acme.test", "help"), Some(100));
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected")[0].json();
    assert_eq!((&told["rule"], &told["reason"]), (&"limit".into(), &"calls_per_user of acme".into()));
    settings.tenants[0].limits.calls_per_user = None;
    settings.tenants[0].limits.calls_per_number = Some(1);
    let (mut world, phone) = with_phone_under(settings);
    established(&mut world, &phone, "first");
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "third", ""));
    assert_eq!(world.take_to(phone.flow.remote).iter().find_map(Sent::status), Some(486), "402 has one call");
}

#[test]
fn given_a_blocked_caller_when_a_trunk_brings_it_then_it_is_603_and_the_record_says_blocked() {
    let mut settings = with_carriers();
    settings.tenants[0].numbering.blocked_callers =
        vec![Pattern::Prefix(Text::new("+4490")), Pattern::Anonymous];
    let mut world = World::new(settings);
    for (caller, id) in [("+44901234567", "a"), ("anonymous", "b")] {
        let flow = carrier_calls(&mut world, CARRIER, caller, DID, id);
        let answers: Vec<_> = world.take_to(flow.remote).iter().filter_map(Sent::status).collect();
        assert_eq!(answers, [100, 603], "{caller}");
    }
    assert!(world.take_to(addr(PBX)).is_empty());
    assert_eq!(world.records("call.failed")[0].json()["category"], "blocked");
    carrier_calls(&mut world, CARRIER, "+4930123456", DID, "c");
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
}

/// A template that rewrites who is called, and one for who calls.
fn template(called: (&str, Form, &str), caller: (&str, Form, &str)) -> Option<Arc<Template>> {
    let rewrite = |(strip, form, prefix): (&str, Form, &str)| Rewrite {
        strip: Text::new(strip),
        form,
        prefix: Text::new(prefix),
    };
    Some(Arc::new(Template { called: rewrite(called), caller: rewrite(caller) }))
}

#[test]
fn given_templates_of_route_and_trunk_then_request_uri_to_from_and_identity_have_the_carriers_form_on_each_try()
 {
    let mut settings = with_carriers();
    settings.tenants[0].numbering.country = Some(Text::new("44"));
    settings.rules.routes[0].matches.number = vec![Pattern::Prefix(Text::new("9"))];
    settings.rules.routes[0].template = template(("9", Form::E164, ""), ("", Form::Same, "+44207946"));
    settings.trunks[1].template_out = template(("", Form::National, ""), ("", Form::Digits, ""));
    let mut world = World::new(settings);
    let uri = "sip:902079470000@acme.test";
    let text = invite(&inside(PBX), "sip:0001@acme.test", uri, "out", "");
    let identity = "P-Asserted-Identity: <sip:0001@acme.test>\r\nX-Custom:";
    world.deliver(inside(PBX), text.replace("X-Custom:", identity));
    let first = world.one_to(addr(CARRIER));
    assert_eq!(first.uri(), "sip:+442079470000@198.51.100.10:5060");
    let says = |sent: &Sent, name| sent.header(name).expect("the header");
    assert!(says(&first, HeaderName::To).starts_with("<sip:+442079470000@"), "{}", first.text());
    assert!(says(&first, HeaderName::From).starts_with("\"Caller\" <sip:+442079460001@acme.test>;tag="));
    assert_eq!(says(&first, HeaderName::PAssertedIdentity), "<sip:+442079460001@acme.test>");
    world.deliver(outside(CARRIER), response(&first, 503, ""));
    let ack = world.one_to(addr(CARRIER));
    assert_eq!(
        says(&ack, HeaderName::From),
        says(&first, HeaderName::From),
        "the ACK of a failure is of the INVITE"
    );
    let second = world.one_to(addr(OTHER));
    assert_eq!(second.uri(), "sip:02079470000@198.51.100.20:5060");
    assert!(says(&second, HeaderName::From).starts_with("\"Caller\" <sip:442079460001@acme.test>;tag="));
    world.deliver(outside(OTHER), respond(&second, 200, "<sip:x@198.51.100.20:5060>", ""));
    let ok = world.take_to(addr(PBX)).pop().expect("the answer");
    assert!(
        says(&ok, HeaderName::To).starts_with("<sip:902079470000@acme.test>;tag="),
        "as the PBX wrote it"
    );
    world.assert_replay_equals_live();
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    world.deliver(inside(PBX), pbx.request("BYE", ""));
    assert!(said(&mut world, addr(OTHER)).contains(&"BYE".to_owned()));
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["callee"], &cdr["caller"]), (&"902079470000".into(), &"0001".into()), "raw");
}

#[test]
fn given_a_trunk_that_brings_national_numbers_then_its_template_says_whose_they_are() {
    let mut settings = with_carriers();
    settings.trunks[0].template_in = template(("0", Form::Same, "+44"), ("0", Form::Same, "+44"));
    let mut world = World::new(settings);
    carrier_calls(&mut world, CARRIER, "02079999999", "sip:02079460001@203.0.113.1", "in");
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.uri(), "sip:+442079460001@acme.test");
    assert!(
        at_pbx.header(HeaderName::From).expect("From").contains("<sip:+442079999999@"),
        "{}",
        at_pbx.text()
    );
}
