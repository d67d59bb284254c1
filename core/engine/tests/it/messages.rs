//! Messages (RFC 3428) from carriers and to them: by the numbers and routes of calls, within their limits.

use crate::call_support::*;
use crate::support::*;
use crate::trunks::{CARRIER, DID, OTHER, carrier_calls, rule, to_trunks, with_carriers};
use signalbox_base::Text;
use signalbox_engine::Command;
use signalbox_engine::settings::{Form, Hide, Pattern, Rewrite, Ring, Settings, Template, To};
use signalbox_sip::HeaderName;
use std::sync::Arc;
use std::time::Duration;

const OUTSIDE: &str = "sip:+4930123456@acme.test";

/// A MESSAGE with a word in it, and the Contact that it should not have.
fn message(uri: &str, from: &str, at: &str, id: &str) -> String {
    let text = request("MESSAGE", uri, from, addr(at), id);
    text.replace("Content-Length: 0\r\n\r\n", "Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
}

/// A carrier sends one to a number.
fn by_carrier(world: &mut World, uri: &str, id: &str) {
    world.deliver(outside(CARRIER), message(uri, "sip:+4930123456@carrier.example", CARRIER, id));
}

/// The phone sends one.
fn by_phone(world: &mut World, phone: &Phone, uri: &str, id: &str) {
    world.deliver(phone.flow, message(uri, "sip:401@acme.test", PHONE, id));
}

#[track_caller]
fn status_at(world: &mut World, at: &str) -> Option<u16> {
    world.one_to(addr(at)).status()
}

#[test]
fn given_a_tenants_number_when_a_carrier_writes_to_it_then_its_backend_has_the_message_and_the_carrier_the_answer()
 {
    let mut world = World::new(with_carriers());
    by_carrier(&mut world, DID, "in");
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.uri(), "sip:+442079460001@acme.test");
    assert!(at_pbx.text().ends_with("\r\n\r\nhello"), "{}", at_pbx.text());
    assert_eq!(at_pbx.header(HeaderName::Contact), None, "no dialog comes of it");
    world.deliver(inside(PBX), response(&at_pbx, 202, "Contact: <sip:401@10.0.1.1>\r\n"));
    let answer = world.one_to(addr(CARRIER));
    assert_eq!((answer.status(), answer.header(HeaderName::Contact)), (Some(202), None));
}

#[test]
fn given_nobodys_number_or_what_is_no_message_then_a_carrier_is_refused_and_counted() {
    let mut world = World::new(with_carriers());
    by_carrier(&mut world, "sip:+15551234567@203.0.113.1", "relay");
    assert_eq!(status_at(&mut world, CARRIER), Some(404), "no relay to another carrier");
    for method in ["SUBSCRIBE", "OPTIONS", "INFO", "NOTIFY", "PUBLISH", "REFER"] {
        let text = request(method, DID, "sip:1@carrier.example", addr(CARRIER), method);
        world.deliver(outside(CARRIER), text);
        assert_eq!(status_at(&mut world, CARRIER), Some(403), "{method}");
    }
    assert!(world.take().is_empty());
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    let counted = |rule: &str| {
        let of_rule = told.iter().map(|record| record.json()).find(|json| json["rule"] == rule);
        of_rule.and_then(|json| json["count"].as_u64())
    };
    assert_eq!((counted("unknown_domain"), counted("method")), (Some(1), Some(6)));
}

/// As [`with_carriers`], with templates of the route and of the first trunk.
fn with_templates() -> Settings {
    let template = |called: Rewrite, caller: Rewrite| Some(Arc::new(Template { called, caller }));
    let prefix = |prefix: &str| Rewrite { prefix: Text::new(prefix), ..Rewrite::default() };
    let mut settings = with_carriers();
    settings.rules.routes[0].template =
        template(Rewrite { form: Form::Digits, ..Rewrite::default() }, prefix("+44207946"));
    settings.trunks[0].template_out = template(prefix("#"), Rewrite::default());
    settings
}

#[test]
fn given_a_route_when_a_phone_writes_to_a_number_outside_then_carriers_get_it_one_after_the_other_by_their_names()
 {
    let (mut world, phone) = with_phone_under(with_templates());
    let claims = "P-Asserted-Identity: <sip:boss@acme.test>\r\nContact";
    let text = message(OUTSIDE, "sip:401@acme.test", PHONE, "out").replace("Contact", claims);
    world.deliver(phone.flow, text);
    let first = world.one_to(addr(CARRIER));
    assert_eq!(first.uri(), "sip:#4930123456@198.51.100.10:5060".replace('#', "%23"));
    assert!(first.header(HeaderName::From).expect("From").starts_with("<sip:+44207946401@acme.test>;tag="));
    for none in [HeaderName::Contact, HeaderName::PAssertedIdentity, HeaderName::Route] {
        assert_eq!(first.header(none), None);
    }
    world.deliver(outside(CARRIER), response(&first, 503, ""));
    let second = world.one_to(addr(OTHER));
    assert_eq!(second.uri(), "sip:4930123456@198.51.100.20:5060");
    world.deliver(outside(OTHER), response(&second, 200, "Contact: <sip:x@198.51.100.20>\r\n"));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!((answer.status(), answer.header(HeaderName::Contact)), (Some(200), None));
    let to = answer.header(HeaderName::To).expect("To");
    assert!(to.starts_with(&format!("<{OUTSIDE}>;tag=")), "as the phone wrote it: {to}");
}

#[test]
fn given_routes_when_backend_and_phones_write_to_each_other_then_these_have_their_messages_as_before() {
    let (mut world, phone) = with_phone_under(with_carriers());
    world.deliver(inside(PBX), message("sip:401@acme.test", "sip:402@acme.test", PBX, "to 401"));
    assert!(world.one_to(phone.flow.remote).text().starts_with("MESSAGE "));
    by_phone(&mut world, &phone, "sip:402@acme.test", "to 402");
    assert!(world.one_to(addr(PBX)).text().starts_with("MESSAGE "));
    world.deliver(inside(PBX), message(OUTSIDE, "sip:402@acme.test", PBX, "outside"));
    assert!(world.one_to(addr(CARRIER)).text().starts_with("MESSAGE "));
    world.deliver(inside(PBX), message("sip:499@acme.test", "sip:402@acme.test", PBX, "nobody"));
    assert_eq!(status_at(&mut world, PBX), Some(404));
    let subscribe = request("SUBSCRIBE", OUTSIDE, "sip:401@acme.test", phone.flow.remote, "sub");
    world.deliver(phone.flow, subscribe);
    assert!(world.one_to(addr(PBX)).text().starts_with("SUBSCRIBE "), "routes are of calls and messages");
}

#[test]
fn given_calls_a_second_when_one_message_too_many_comes_or_goes_over_a_carrier_then_it_is_503() {
    let mut settings = with_carriers();
    settings.trunks[0].limits.calls_per_second = Some(1);
    settings.tenants[0].limits.calls_per_second = Some(2);
    settings.tenants[0].numbering.emergency = vec![Text::new("+112")];
    let (mut world, phone) = with_phone_under(settings);
    by_carrier(&mut world, DID, "one");
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    by_carrier(&mut world, DID, "two");
    let refused = world.one_to(addr(CARRIER));
    assert_eq!((refused.status(), refused.header(HeaderName::RetryAfter)), (Some(503), Some("5".into())));
    by_phone(&mut world, &phone, OUTSIDE, "three");
    assert_eq!(world.take_to(addr(OTHER)).len(), 1, "the first carrier has had one this second");
    by_phone(&mut world, &phone, OUTSIDE, "four");
    assert_eq!(status_at(&mut world, PHONE), Some(503), "the tenant has had two");
    by_phone(&mut world, &phone, "sip:+112@acme.test", "help");
    assert_eq!(world.take_to(addr(CARRIER)).len(), 1, "who asks for help passes");
    world.advance(Duration::from_secs(11));
    assert_eq!(world.records("security.request_rejected")[0].json()["rule"], "limit");
}

#[test]
fn given_rules_that_refuse_or_ring_then_a_message_is_refused_or_has_its_user_who_sees_no_hidden_caller() {
    let mut settings = with_carriers();
    settings.tenants[0].numbering.blocked_callers = vec![Pattern::Prefix(Text::new("+4490"))];
    let users = Ring { stages: vec![vec![Text::new("401@acme.test")]], ring_for: Duration::ZERO };
    settings.rules.routes.insert(0, rule("user", "+442079460001", To::Ring(users)));
    settings.rules.routes.insert(1, rule("other", "+442079460002", to_trunks(&["carrier-2"])));
    let (mut world, phone) = with_phone_under(settings);
    let blocked = message(DID, "sip:+44901234567@carrier.example", CARRIER, "blocked");
    world.deliver(outside(CARRIER), blocked);
    assert_eq!(status_at(&mut world, CARRIER), Some(603));
    let text = message(DID, "sip:anonymous@anonymous.invalid", CARRIER, "private");
    let hidden = "P-Asserted-Identity: <sip:+4930123456@carrier.example>\r\nPrivacy: id\r\nContact";
    world.deliver(outside(CARRIER), text.replace("Contact", hidden));
    let at_phone = world.one_to(phone.flow.remote);
    assert_eq!(
        (at_phone.uri(), at_phone.header(HeaderName::PAssertedIdentity)),
        ("sip:401@198.51.100.7:5062".to_owned(), None)
    );
    world.deliver(phone.flow, response(&at_phone, 200, ""));
    assert_eq!(status_at(&mut world, CARRIER), Some(200));
    by_carrier(&mut world, "sip:+442079460002@203.0.113.1", "relay");
    assert!(world.take_to(addr(OTHER)).is_empty(), "a route without a source joins no carriers");
}

#[test]
fn given_a_carrier_that_hides_then_neither_side_of_a_message_sees_the_other() {
    let mut settings = with_carriers();
    settings.trunks[0].peer.hide = Hide::Full;
    let (mut world, phone) = with_phone_under(settings);
    let text = message(OUTSIDE, "sip:401@acme.test", PHONE, "secret");
    world.deliver(phone.flow, text.replace("Contact", "User-Agent: Phone/1\r\nContact"));
    let at_carrier = world.one_to(addr(CARRIER));
    for gone in ["198.51.100.7", "Phone/1", "secret"] {
        assert!(!at_carrier.text().contains(gone), "{gone}: {}", at_carrier.text());
    }
    world.deliver(outside(CARRIER), response(&at_carrier, 200, "Server: Carrier/1\r\n"));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.header(HeaderName::CallId).as_deref(), Some("secret"));
    assert!(!answer.text().contains("Carrier/1"));
}

#[test]
fn given_a_message_to_a_carrier_when_the_configuration_is_read_again_then_the_next_carrier_still_gets_it() {
    let settings = with_carriers();
    let (mut world, phone) = with_phone_under(settings.clone());
    by_phone(&mut world, &phone, OUTSIDE, "out");
    let first = world.one_to(addr(CARRIER));
    let mut turned = settings;
    turned.trunks.reverse();
    world.command(Command::Reload {
        settings: turned.into(),
        revision: 2,
        sha256: "x".into(),
        effective: "{}".into(),
        diff: vec![],
        actor: "root".into(),
    });
    world.deliver(outside(CARRIER), response(&first, 503, ""));
    let second = world.one_to(addr(OTHER));
    world.deliver(outside(OTHER), response(&second, 200, ""));
    assert_eq!(status_at(&mut world, PHONE), Some(200));
    carrier_calls(&mut world, CARRIER, "+4930123456", DID, "call");
}
