//! One tenant's peers never reach another's legs, whatever they know of them; and a loop is no spiral.

use crate::call_support::{Dialog, PBX, PHONE, established, invite, said, with_phone, with_phone_under};
use crate::support::{
    Phone, Sent, addr, backend, domain, inside, outside, register, response, settings, tenant,
};
use signalbox_engine::Settings;
use signalbox_sip::HeaderName;
use std::time::Duration;

const FOREIGN: &str = "10.0.2.1:5060";

fn two_tenants() -> Settings {
    let of = |name: &str, host: &str, pbx: &str| {
        tenant(name, vec![domain(host, &[])], vec![backend("pbx-1", pbx, 1, None)])
    };
    settings(vec![of("acme", "acme.test", PBX), of("bolt", "bolt.test", FOREIGN)])
}

#[test]
fn given_a_legs_token_and_tags_when_another_tenants_backend_uses_them_then_it_is_481_and_counted() {
    let (mut world, phone) = with_phone_under(two_tenants());
    let call = established(&mut world, &phone, "i1");
    for stolen in [call.pbx.clone(), call.phone] {
        let mut stolen = Dialog { flow: inside(FOREIGN), ..stolen };
        stolen.cseq += 10;
        world.deliver(inside(FOREIGN), stolen.request("BYE", ""));
        assert_eq!(said(&mut world, addr(FOREIGN)), ["481"]);
    }
    assert_eq!(world.take_to(addr(PBX)).len() + world.take_to(addr(PHONE)).len(), 0);
    assert_eq!(world.engine.calls_active(), 1, "the call goes on");
    assert_eq!(world.engine.counters().rejected[2], 2);
    world.advance(Duration::from_secs(11));
    assert_eq!(world.records("security.request_rejected")[0].json()["method"], "BYE");
}

#[test]
fn given_a_legs_token_when_the_tags_are_wrong_then_it_is_481() {
    let (mut world, phone) = with_phone();
    let call = established(&mut world, &phone, "i2");
    let mut wrong = call.phone;
    wrong.remote = wrong.remote.replace(";tag=pbx", ";tag=guess");
    world.deliver(phone.flow, wrong.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["481"]);
    assert_eq!(world.engine.calls_active(), 1);
}

#[test]
fn given_a_peer_that_lost_our_contact_when_its_identifiers_are_unique_then_the_call_is_found() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "i3");
    call.phone.target = "sip:402@acme.test".to_owned();
    world.deliver(phone.flow, call.phone.request("INFO", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["INFO"]);
}

#[test]
fn given_a_phone_behind_a_new_address_when_it_speaks_in_its_dialog_then_it_is_found_there() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "i4");
    let moved = outside("198.51.100.99:40000");
    call.phone.flow = moved;
    world.deliver(moved, call.phone.request("INFO", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["INFO"]);
    world.deliver(inside(PBX), call.pbx.request("INFO", ""));
    assert_eq!(said(&mut world, moved.remote), ["INFO"], "requests follow it");
}

/// The same request from another address.
fn from_elsewhere(dialog: &Dialog, remote: &str) -> Dialog {
    Dialog { flow: outside(remote), cseq: dialog.cseq + 10, ..dialog.clone() }
}

#[test]
fn given_a_dialogs_true_identifiers_when_a_stranger_hangs_up_then_it_is_481_with_and_without_a_guessed_token()
{
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "i7");
    for (stranger, target) in [
        ("192.0.2.66:5060", "sip:402@acme.test"),
        ("192.0.2.67:5060", "sip:203.0.113.1"),
        ("192.0.2.68:5060", "sip:c0000000000001@203.0.113.1:5060"),
        // A backend's address is no phone's, and the phone's own is not in the backends' network.
        (PBX, "sip:402@acme.test"),
    ] {
        let mut stolen = from_elsewhere(&call.phone, stranger);
        stolen.target = target.to_owned();
        for method in ["INFO", "BYE"] {
            world.deliver(stolen.flow, stolen.request(method, ""));
            assert_eq!(said(&mut world, addr(stranger)), ["481"], "{method} {target}");
        }
    }
    let mut inner = Dialog { flow: inside(PHONE), ..call.phone.clone() };
    inner.target = "sip:402@acme.test".to_owned();
    world.deliver(inner.flow, inner.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["481"]);
    assert_eq!(world.take_to(addr(PBX)).len(), 0);
    assert_eq!(world.engine.calls_active(), 1);
    world.deliver(inside(PBX), call.pbx.request("INFO", ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["INFO"], "nor did the call move to any of them");
}

#[test]
fn given_a_legs_token_when_another_tenants_phone_or_another_users_uses_it_then_it_is_481() {
    let (mut world, phone) = with_phone_under(two_tenants());
    let call = established(&mut world, &phone, "i8");
    for (user, domain, pbx, remote) in [
        ("401", "bolt.test", FOREIGN, "192.0.2.70:5060"),
        ("409", "acme.test", PBX, "192.0.2.71:5060"),
        // Behind the same NAT.
        ("408", "acme.test", PBX, "198.51.100.7:7000"),
    ] {
        let mut other = Phone::new(user, domain, remote);
        register(&mut world, &mut other, pbx, 3600);
        world.deliver(other.flow, from_elsewhere(&call.phone, remote).request("BYE", ""));
        assert_eq!(said(&mut world, addr(remote)), ["481"], "{user}@{domain}");
    }
    assert_eq!(world.take_to(addr(PBX)).len(), 0);
    assert_eq!(world.engine.calls_active(), 1);
}

#[test]
fn given_a_phone_that_registered_from_elsewhere_when_it_speaks_in_its_dialog_then_it_keeps_it_even_without_our_contact()
 {
    let (mut world, phone) = with_phone();
    let call = established(&mut world, &phone, "i9");
    let mut again = Phone::new("401", "acme.test", "192.0.2.72:5060");
    register(&mut world, &mut again, PBX, 3600);
    let mut moved = from_elsewhere(&call.phone, "192.0.2.72:5060");
    moved.target = "sip:402@acme.test".to_owned();
    world.deliver(again.flow, moved.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["BYE"]);
}

/// What the edge sent, as a proxy at `via` sends it back, perhaps to another Request-URI.
fn back(sent: &Sent, via: &str, branch: &str, uri: &str) -> String {
    let lines = format!("Via: SIP/2.0/UDP {via};branch=z9hG4bK{branch}\r\nVia:");
    sent.text().replacen("Via:", &lines, 1).replacen(&sent.uri(), uri, 1)
}

#[test]
fn given_a_backend_that_is_a_proxy_when_it_sends_a_phones_call_back_then_it_is_a_spiral_and_served() {
    let (mut world, _) = with_phone();
    let called = "sip:401@acme.test";
    let mut other = Phone::new("402", "acme.test", "192.0.2.73:5060");
    register(&mut world, &mut other, PBX, 3600);
    world.deliver(other.flow, invite(&other.flow, "sip:402@acme.test", called, "i5", ""));
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.uri(), called);
    // Neither Request-URI nor identifiers differ: where it comes from does (RFC 5393 §4.2.1).
    world.deliver(inside(PBX), back(&at_pbx, PBX, "spiral", called));
    assert_eq!(said(&mut world, addr(PBX)), ["100"]);
    let at_phone = world.one_to(addr(PHONE));
    assert_eq!(at_phone.uri(), "sip:401@198.51.100.7:5062");
    assert_eq!(at_phone.message().all(HeaderName::Via).count(), 1);
}

#[test]
fn given_an_invite_that_comes_by_two_ways_then_the_second_is_482_rfc3261_8_2_2_2() {
    let (mut world, phone) = with_phone();
    let first = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "merge", "");
    world.deliver(phone.flow, &first);
    let at_pbx = world.one_to(addr(PBX));
    let by_another_way = first.replace("branch=z9hG4bKmerge", "branch=z9hG4bKother");
    for answer in [180, 200] {
        world.take();
        world.deliver(phone.flow, by_another_way.replace("other", &format!("other{answer}")));
        assert_eq!(said(&mut world, addr(PHONE)), ["482"]);
        assert_eq!(said(&mut world, addr(PBX)), Vec::<String>::new(), "it does not ring twice");
        world.deliver(inside(PBX), response(&at_pbx, answer, "Contact: <sip:402@10.0.1.1>\r\n"));
    }
    assert_eq!(world.records("call.attempted").len(), 1);
    // Once it is over the same may be tried again, as after a 503 (RFC 3263 §4.3).
    let (mut world, phone) = with_phone();
    world.deliver(phone.flow, &first);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 486, ""));
    world.take();
    world.deliver(phone.flow, &by_another_way);
    assert_eq!(said(&mut world, addr(PBX)), ["INVITE"]);
}

#[test]
fn given_a_backend_that_forks_to_two_phones_then_both_branches_ring() {
    let (mut world, _) = with_phone();
    let mut second = Phone::new("402", "acme.test", "192.0.2.74:5060");
    register(&mut world, &mut second, PBX, 3600);
    for (called, at, id) in
        [("sip:401@acme.test", PHONE, "one"), ("sip:402@acme.test", "192.0.2.74:5060", "two")]
    {
        let call = invite(&inside(PBX), "sip:409@acme.test", called, "forked", "");
        world.deliver(inside(PBX), call.replace("branch=z9hG4bKforked", &format!("branch=z9hG4bK{id}")));
        assert_eq!(said(&mut world, addr(PBX)), ["100"]);
        assert_eq!(said(&mut world, addr(at)), ["INVITE"]);
    }
}

#[test]
fn given_a_phone_that_forwards_to_its_own_number_when_the_call_comes_round_then_it_is_a_loop() {
    let (mut world, _) = with_phone();
    let call = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "i10", "");
    world.deliver(inside(PBX), call);
    world.take_to(addr(PBX));
    let at_phone = world.one_to(addr(PHONE));
    // The backend has it back by another way, with the Request-URI that it called.
    world.deliver(inside(PBX), back(&at_phone, PBX, "loop", "sip:401@acme.test"));
    assert_eq!(said(&mut world, addr(PBX)), ["482"]);
    world.deliver(inside(PBX), back(&at_phone, PBX, "spiral", "sip:499@acme.test"));
    assert_eq!(said(&mut world, addr(PBX)), ["100", "404"], "another Request-URI is a spiral");
}

#[test]
fn given_a_stranger_when_it_calls_then_nothing_reaches_the_backend() {
    let (mut world, _) = with_phone();
    let stranger = outside("192.0.2.66:5060");
    world.deliver(stranger, invite(&stranger, "sip:401@acme.test", "sip:402@acme.test", "i6", ""));
    assert_eq!(world.take_to(addr(PBX)).len(), 0);
    assert_eq!(world.records("call.attempted").len(), 0);
}
