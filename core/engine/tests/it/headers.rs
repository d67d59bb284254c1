//! Header rules of phones, backends and trunks: what arrives on the other side, and what no rule lets through.

use crate::call_support::*;
use crate::support::*;
use crate::trunks::{CARRIER, DID, OTHER, carrier_calls, to_trunks, with_carriers};
use signalbox_base::Text;
use signalbox_engine::settings::{
    Border, BorderOf, Borders, FieldName, FieldValue, HeaderAction, HeaderMatch, HeaderRule, Hide, Match,
    MemberName, NamePattern, Pattern, Rule, Settings,
};
use signalbox_sip::HeaderName;
use std::sync::Arc;

/// `"-X-*"` removes, `"X-Way: b"` sets, `"+X-Way: b"` adds.
fn rules(lines: &[&str]) -> Option<Arc<[HeaderRule]>> {
    let pair = |text: &str| {
        let (name, value) = text.split_once(": ").expect("a name and a value");
        (FieldName::parse(name).expect("a name"), FieldValue::parse(value).expect("a value"))
    };
    let action = |line: &&str| match (line.strip_prefix('-'), line.strip_prefix('+')) {
        (Some(name), _) => HeaderAction::Remove(vec![NamePattern::parse(name).expect("a pattern")]),
        (_, Some(text)) => HeaderAction::Add(pair(text).0, pair(text).1),
        _ => HeaderAction::Set(pair(line).0, pair(line).1),
    };
    let all: Vec<_> = lines
        .iter()
        .map(|line| HeaderRule { action: action(line), requests: true, responses: true })
        .collect();
    (!all.is_empty()).then(|| all.into())
}

fn phones(from: &[&str], to: &[&str]) -> Border {
    let of = BorderOf::Phones("acme".parse().expect("a tenant"));
    Border { of, from: rules(from), to: rules(to) }
}

fn pbx(from: &[&str], to: &[&str]) -> Border {
    let peer = MemberName::Backend("acme".parse().expect("a tenant"), Text::new("pbx-1"));
    Border { of: BorderOf::Peer(peer), from: rules(from), to: rules(to) }
}

fn carrier(name: &str, from: &[&str], to: &[&str]) -> Border {
    let of = BorderOf::Peer(MemberName::Trunk(Text::new(name)));
    Border { of, from: rules(from), to: rules(to) }
}

fn with(mut settings: Settings, borders: impl IntoIterator<Item = Border>) -> Settings {
    settings.rules.borders = Borders::new(borders);
    settings
}

/// Values of a header that is no known one.
fn values(sent: &Sent, name: &str) -> Vec<String> {
    let message = sent.message();
    message.extension(name.as_bytes()).map(|h| String::from_utf8_lossy(h.value).into_owned()).collect()
}

/// What each side says of itself.
const OF_PHONE: &str = "X-Secret: of the phone\r\nx-tenant: beta\r\nUser-Agent: Phone/1\r\n";
const OF_PBX: &str = "X-Asterisk: of the PBX\r\nServer: PBX/16\r\n";

/// Phones' extensions go no further, the PBX hears which tenant it is; its own extensions stay inside.
fn guarded() -> Settings {
    with(
        acme(),
        [
            phones(&["-X-*", "X-Tenant: {tenant}"], &["Server: edge"]),
            pbx(&["-x-asterisk"], &["User-Agent: edge for {peer}", "+X-First: 1"]),
        ],
    )
}

#[track_caller]
fn is_as_the_pbx_should_see(sent: &Sent) {
    assert!(values(sent, "X-Secret").is_empty() && values(sent, "X-Custom").is_empty(), "{}", sent.text());
    assert_eq!(values(sent, "X-Tenant"), ["acme"], "{}", sent.text());
    assert_eq!(values(sent, "X-First"), ["1"]);
    assert_eq!(sent.header(HeaderName::UserAgent).as_deref(), Some("edge for pbx-1"));
}

#[track_caller]
fn is_as_a_phone_should_see(sent: &Sent) {
    assert!(values(sent, "X-Asterisk").is_empty(), "{}", sent.text());
    assert_eq!(sent.header(HeaderName::Server).as_deref(), Some("edge"));
}

#[test]
fn given_rules_of_both_sides_when_there_is_a_call_then_every_message_of_it_has_passed_them() {
    let (mut world, phone) = with_phone_under(guarded());
    let text = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "rules", "");
    world.deliver(phone.flow, text.replace("X-Custom", &format!("{OF_PHONE}X-Custom")));
    assert!(world.one_to(phone.flow.remote).header(HeaderName::Server).is_none(), "100 is the edge's own");
    let at_pbx = world.one_to(addr(PBX));
    is_as_the_pbx_should_see(&at_pbx);
    for (status, contact) in [(183, "<sip:402@10.0.1.1>"), (200, "<sip:402@10.0.1.1:5060>")] {
        let answer =
            respond(&at_pbx, status, contact, "").replacen("Contact", &format!("{OF_PBX}Contact"), 1);
        world.deliver(inside(PBX), answer);
        let answer = world.one_to(phone.flow.remote);
        is_as_a_phone_should_see(&answer);
        if status == 200 {
            let mut caller = Dialog::calling(phone.flow, &answer);
            let mut callee = Dialog::called(inside(PBX), &at_pbx, "pbx");
            world.deliver(phone.flow, caller.ack(1, OF_PHONE));
            is_as_the_pbx_should_see(&world.one_to(addr(PBX)));
            world.deliver(inside(PBX), callee.request("INFO", OF_PBX));
            let info = world.one_to(phone.flow.remote);
            is_as_a_phone_should_see(&info);
            world.deliver(phone.flow, response(&info, 200, OF_PHONE));
            is_as_the_pbx_should_see(&world.one_to(addr(PBX)));
            world.deliver(phone.flow, caller.request("BYE", OF_PHONE));
            world.take_to(phone.flow.remote);
            is_as_the_pbx_should_see(&world.one_to(addr(PBX)));
        }
    }
    world.assert_replay_equals_live();
}

#[test]
fn given_rules_when_a_phone_registers_subscribes_and_writes_then_they_hold_for_these_too() {
    let mut world = World::new(guarded());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.extra = OF_PHONE.to_owned();
    let text = phone.register(3600).replace("User-Agent: Test/1\r\n", "");
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    is_as_the_pbx_should_see(&at_pbx);
    let granted = granted(&at_pbx, 3600).replace("Content-Length", &format!("{OF_PBX}Content-Length"));
    world.deliver(inside(PBX), granted);
    is_as_a_phone_should_see(&world.one_to(phone.flow.remote));
    for method in ["SUBSCRIBE", "MESSAGE"] {
        let text = request(method, "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, method);
        world.deliver(phone.flow, text.replace("Contact", &format!("{OF_PHONE}Contact")));
        let at_pbx = world.one_to(addr(PBX));
        is_as_the_pbx_should_see(&at_pbx);
        world.deliver(inside(PBX), response(&at_pbx, 200, OF_PBX));
        is_as_a_phone_should_see(&world.one_to(phone.flow.remote));
    }
}

#[test]
fn given_rules_of_trunks_when_one_fails_then_what_each_says_passes_its_own_and_a_pbx_hears_who_calls() {
    let mut settings = with(
        with_carriers(),
        [
            carrier("carrier", &["X-Trunk: {peer}", "-Warning"], &["X-To: {peer}"]),
            carrier("carrier-2", &["X-Trunk: {peer}"], &["-X-Custom"]),
        ],
    );
    settings.trunks[1].peer.hide = Hide::Off;
    let mut world = World::new(settings);
    carrier_calls(&mut world, CARRIER, "+4930123456", DID, "in");
    assert_eq!(values(&world.one_to(addr(PBX)), "X-Trunk"), ["carrier"]);
    world.take();

    let call = invite(&inside(PBX), "sip:401@acme.test", "sip:+4930123456@acme.test", "out", "");
    world.deliver(inside(PBX), call);
    let first = world.one_to(addr(CARRIER));
    assert_eq!((values(&first, "X-To"), values(&first, "X-Custom").len()), (vec!["carrier".to_owned()], 1));
    world.deliver(outside(CARRIER), response(&first, 503, ""));
    let second = world.one_to(addr(OTHER));
    assert!(
        values(&second, "X-To").is_empty() && values(&second, "X-Custom").is_empty(),
        "{}",
        second.text()
    );
    world.take();
    world.deliver(outside(OTHER), response(&second, 486, "Warning: 399 a \"b\"\r\n"));
    let told = world.one_to(addr(PBX));
    assert_eq!((told.status(), values(&told, "X-Trunk")), (Some(486), vec!["carrier-2".to_owned()]));
    assert!(told.header(HeaderName::Warning).is_some(), "that is the other trunk's rule");
}

#[test]
fn given_hidden_sides_then_rules_write_their_own_text_and_let_nothing_through() {
    let mut settings = with(acme(), [phones(&["Organization: {tenant}"], &[])]);
    settings.tenants[0].backends[0].hide = Hide::Full;
    let (mut world, phone) = with_phone_under(settings);
    let text = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "hidden", "");
    let tells =
        "User-Agent: Phone/1\r\nOrganization: Phones Ltd at 198.51.100.7\r\nX-Where: 198.51.100.7\r\n";
    world.deliver(phone.flow, text.replace("X-Custom", &format!("{tells}X-Custom")));
    world.take_to(phone.flow.remote);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.header(HeaderName::Organization).as_deref(), Some("acme"));
    for gone in ["198.51.100.7", "Phone/1", "Ltd"] {
        assert!(!at_pbx.text().contains(gone), "{gone}: {}", at_pbx.text());
    }
}

#[test]
fn given_a_route_by_header_then_it_goes_by_what_the_callers_rules_leave_and_by_no_claim_of_a_phone() {
    let matches = |name: &str, value: Option<&str>| {
        let value = value.map(|value| Pattern::Exact(Text::new(value)));
        Match { headers: vec![HeaderMatch { name: Text::new(name), value }], ..Match::default() }
    };
    let rule = |name: &str, matches| Rule {
        name: Text::new(name),
        tenant: None,
        matches,
        tags: Vec::new(),
        to: Some(to_trunks(&["carrier"])),
        template: None,
    };
    let mut settings = with_carriers();
    settings.rules.routes =
        vec![rule("claim", matches("P-Asserted-Identity", None)), rule("way", matches("X-Way", Some("out")))];
    for (from, expected) in [(vec![], CARRIER), (vec!["-X-*"], PBX), (vec!["-X-*", "X-Way: out"], CARRIER)] {
        let (mut world, phone) = with_phone_under(with(settings.clone(), [phones(&from, &[])]));
        let text = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "way", "");
        world.deliver(phone.flow, text.replace("X-Custom", "X-Way: out\r\nX-Custom"));
        world.take_to(phone.flow.remote);
        assert!(world.one_to(addr(expected)).text().starts_with("INVITE "), "{from:?}");
        let text = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "claim", "");
        world.deliver(
            phone.flow,
            text.replace("X-Custom", "P-Asserted-Identity: <sip:1@acme.test>\r\nX-Custom"),
        );
        if from.len() < 2 {
            assert!(world.take_to(addr(CARRIER)).is_empty(), "a phone's word is nothing to go by");
        }
    }
}

/// What the edge and its peers say to each other: who somebody is, and by which way a message came and goes.
const INTERNAL: &str = "P-Asserted-Identity: <sip:boss@acme.test>\r\nRemote-Party-ID: <sip:boss@acme.test>;screen=yes\r\n\
     Diversion: <sip:boss@acme.test>\r\nHistory-Info: <sip:boss@acme.test>;index=1\r\n\
     Route: <sip:boss@10.0.1.99;lr>\r\nRecord-Route: <sip:boss@10.0.1.99;lr>\r\n";

#[test]
fn given_internal_headers_of_a_phone_when_it_registers_calls_writes_or_answers_then_no_peer_sees_them() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.extra = INTERNAL.to_owned();
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let mut seen = vec![at_pbx.text()];
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    world.take();
    for method in ["INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS", "PUBLISH", "INFO"] {
        let text = request(method, "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, method);
        world.deliver(phone.flow, text.replace("Contact", &format!("{INTERNAL}Contact")));
        let at_pbx = world.take_to(addr(PBX)).remove(0);
        seen.push(at_pbx.text());
    }
    world.take();
    let at_phone = pbx_calls(&mut world, "sip:401@acme.test", "in", &[PHONE]).remove(0);
    world.deliver(
        phone.flow,
        respond(&at_phone, 200, "<sip:401@198.51.100.7>", "").replacen(
            "Contact",
            "Remote-Party-ID: <sip:boss@acme.test>\r\nContact",
            1,
        ),
    );
    seen.extend(world.take_to(addr(PBX)).iter().map(Sent::text));
    assert_eq!(seen.len(), 8);
    for text in seen {
        assert!(!text.contains("boss@"), "{text}");
    }
}
