//! A phone sends its callers elsewhere (3xx, RFC 3261 §21.3): to colleagues at once, to anybody else if the caller likes.

use crate::call_support::{
    PBX, PHONE, SECOND, pbx_calls, phone_calls, respond, said, sdp, the_cdr, with_phone_under,
};
use crate::support::{Phone, Sent, World, acme, addr, inside, register, response};
use signalbox_engine::Settings;
use signalbox_engine::settings::Redirects;
use signalbox_sip::HeaderName;

/// 401 and 405 are registered.
fn colleagues(settings: Settings) -> (World, Phone, Phone) {
    let (mut world, first) = with_phone_under(settings);
    let mut second = Phone::new("405", "acme.test", SECOND);
    register(&mut world, &mut second, PBX, 3600);
    (world, first, second)
}

fn moved(request: &Sent, contacts: &str) -> String {
    response(request, 302, &format!("Contact: {contacts}\r\n"))
}

#[test]
fn given_a_phone_that_forwards_to_a_colleague_then_the_colleague_rings_and_answers() {
    let (mut world, first, second) = colleagues(acme());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "r1", &[PHONE]);
    world.deliver(first.flow, moved(&invites[0], "<sip:405@acme.test>;q=0.5, <sip:405@203.0.113.1>"));
    assert_eq!(said(&mut world, addr(PHONE)), ["ACK"]);
    let at_second = world.one_to(addr(SECOND));
    assert!(at_second.text().starts_with("INVITE sip:405@"), "{}", at_second.text());
    assert_eq!(at_second.header(HeaderName::From), invites[0].header(HeaderName::From));
    assert_eq!(at_second.message().body(), invites[0].message().body());
    let routed = world.records("call.routed").pop().expect("an event").json();
    assert_eq!(
        (&routed["why"]["failover_from"], &routed["why"]["failover_status"]),
        (&"401@acme.test".into(), &302.into())
    );
    let answer = respond(&at_second, 200, "<sip:405@192.168.0.9>", &sdp("192.0.2.20", "sendrecv", "PCMA"));
    world.deliver(second.flow, answer);
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    world.assert_replay_equals_live();
}

#[test]
fn given_phones_that_forward_to_each_other_then_it_ends_and_the_caller_decides() {
    let (mut world, first, second) = colleagues(acme());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "r2", &[PHONE]);
    world.deliver(first.flow, moved(&invites[0], "<sip:405@acme.test>"));
    let at_second = world.one_to(addr(SECOND));
    world.take();
    world.deliver(second.flow, moved(&at_second, "<sip:401@acme.test>"));
    assert_eq!(said(&mut world, addr(PBX)), ["302"]);
    assert_eq!(world.take_to(addr(PHONE)).len(), 0);
    assert_eq!(the_cdr(&world)["status"], 302);
}

#[test]
fn given_a_redirection_out_of_the_tenant_then_the_edge_calls_nobody_and_the_caller_hears_of_it() {
    let mut pass = acme();
    pass.tenants[0].backends[0].redirects = Redirects::Pass;
    for (settings, contact) in [
        (acme(), "<sip:+4930123456@carrier.example>"),
        (acme(), "<sip:405@198.51.100.66>"),
        (acme(), "<sip:499@acme.test>"),
        (acme(), "<tel:+4930123456>"),
        (acme(), "nonsense"),
        (pass, "<sip:405@acme.test>"),
    ] {
        let (mut world, first, _) = colleagues(settings);
        let invites = pbx_calls(&mut world, "sip:401@acme.test", "r3", &[PHONE]);
        world.deliver(first.flow, moved(&invites[0], contact));
        let told = world.one_to(addr(PBX));
        assert_eq!((told.status(), told.header(HeaderName::Contact).as_deref()), (Some(302), Some(contact)));
        assert_eq!(world.take_to(addr(SECOND)).len(), 0, "{contact}");
    }
}

#[test]
fn given_a_backend_that_redirects_its_caller_to_a_phone_then_that_phone_rings() {
    let (mut world, first, second) = colleagues(acme());
    let at_pbx = phone_calls(&mut world, &first, "r4");
    world.deliver(inside(PBX), moved(&at_pbx, "<sip:405@acme.test>"));
    let at_second = world.one_to(addr(SECOND));
    world.deliver(second.flow, response(&at_second, 486, ""));
    let busy = world.one_to(addr(PHONE));
    assert_eq!(busy.status(), Some(486));
}
