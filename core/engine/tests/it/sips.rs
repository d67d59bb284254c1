//! `sips:` (RFC 3261 §26.2, RFC 5630): over TLS alone, by the same scheme at each hop, else 480.

use crate::call_support::{Dialog, PBX, PHONE, contact_uri, invite, respond, said, sdp, the_cdr};
use crate::streams;
use crate::support::{Phone, Sent, World, addr, granted, inside, outside, register, request, token_in};
use signalbox_base::{ConnId, Flow, ListenerId, Transport};
use signalbox_sip::HeaderName;

const TLS: Transport = Transport::Tls;

/// TLS outside, and a PBX over this transport.
fn world(pbx: Transport) -> World {
    let mut settings = streams::settings();
    settings.listeners[2..].iter_mut().for_each(|listener| listener.transport = TLS);
    settings.tenants[0].backends[0].address.transport = pbx;
    World::new(settings)
}

fn over_tls(flow: Flow, conn: Option<u64>) -> Flow {
    Flow { listener: ListenerId(flow.listener.0 + 2), transport: TLS, conn: conn.map(ConnId), ..flow }
}

/// 401 over TLS, with a Contact of this scheme.
fn phone(scheme: &str) -> Phone {
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.flow = over_tls(outside(PHONE), Some(7));
    phone.contact = format!("<{scheme}:401@{PHONE};transport=tls>");
    phone
}

fn in_sips(text: &str) -> String {
    text.replace(" sip:", " sips:").replace("<sip:", "<sips:")
}

/// Registered by a PBX over TLS; the token that it got.
fn registered(world: &mut World, phone: &mut Phone) -> Sent {
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(at_pbx.flow, granted(&at_pbx, 3600));
    assert_eq!(world.one_to(addr(PHONE)).status(), Some(200));
    at_pbx
}

#[track_caller]
fn refused(world: &mut World, to: &str) {
    let answer =
        world.take_to(addr(to)).into_iter().find(|sent| sent.status() != Some(100)).expect("an answer");
    assert_eq!(answer.status(), Some(480), "{}", answer.text());
    let warning = answer.header(HeaderName::Warning).expect("a Warning");
    assert!(warning.starts_with("380 ") && warning.ends_with("\"SIPS Not Allowed\""), "{warning}");
    assert!(world.take().is_empty(), "nothing goes on");
}

#[test]
fn given_tls_outside_and_udp_inside_when_sips_is_asked_for_then_it_is_480_and_sip_goes_on() {
    let mut world = world(Transport::Udp);
    let mut phone = phone("sips");
    let asked = in_sips(&phone.register(3600));
    world.deliver(phone.flow, asked);
    refused(&mut world, PHONE);
    assert_eq!(world.records("registration.rejected")[0].json()["status"], 480);
    let token = register(&mut world, &mut phone, PBX, 3600);
    assert!(!token.is_empty(), "the same phone by sip, whatever its Contact");
    let call = invite(
        &phone.flow,
        "sip:401@acme.test",
        "sip:402@acme.test",
        "c1",
        &sdp("192.0.2.10", "sendrecv", "PCMA"),
    );
    world.deliver(phone.flow, in_sips(&call));
    refused(&mut world, PHONE);
    assert_eq!(the_cdr(&world)["status"], 480);
    let message = request("MESSAGE", "sips:402@acme.test", "sip:401@acme.test", addr(PHONE), "m1");
    world.deliver(phone.flow, in_sips(&message));
    refused(&mut world, PHONE);
    world.deliver(phone.flow, call.replace("c1", "c2"));
    let at_pbx = world.one_to(addr(PBX));
    assert!(
        at_pbx.uri().starts_with("sip:402@") && !at_pbx.text().contains("<sips:203"),
        "{}",
        at_pbx.text()
    );
    world.assert_replay_equals_live();
}

#[test]
fn given_sips_that_came_openly_or_wants_an_answer_by_another_scheme_then_it_goes_no_further() {
    let mut world = world(TLS);
    let mut openly = Phone::new("402", "acme.test", "192.0.2.20:5060");
    let asked = in_sips(&openly.register(60));
    world.deliver(openly.flow, asked);
    refused(&mut world, "192.0.2.20:5060");
    let mut phone = phone("sips");
    registered(&mut world, &mut phone);
    let call = invite(&phone.flow, "sip:401@acme.test", "sips:402@acme.test", "c1", "");
    world.deliver(phone.flow, call);
    assert_eq!(said(&mut world, addr(PHONE)), ["400"]);
}

#[test]
fn given_tls_on_both_sides_when_a_phone_calls_by_sips_then_each_hop_and_each_contact_is_sips() {
    let mut world = world(TLS);
    let mut phone = phone("sips");
    let text = in_sips(&phone.register(3600));
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!((at_pbx.flow.transport, at_pbx.uri().as_str()), (TLS, "sips:acme.test"));
    assert!(at_pbx.header(HeaderName::Contact).is_some_and(|contact| contact.starts_with("<sips:")));
    world.deliver(at_pbx.flow, granted(&at_pbx, 3600));
    assert_eq!(world.one_to(addr(PHONE)).status(), Some(200));

    let offer = sdp("192.0.2.10", "sendrecv", "PCMA");
    world.deliver(
        phone.flow,
        in_sips(&invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "c1", &offer)),
    );
    assert_eq!(said(&mut world, addr(PHONE)), ["100"]);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!((at_pbx.flow.transport, at_pbx.uri().as_str()), (TLS, "sips:402@acme.test"));
    assert!(contact_uri(&at_pbx).starts_with("sips:"), "{}", at_pbx.text());
    let answer = respond(&at_pbx, 200, "<sips:402@10.0.1.1:5060>", &sdp("10.0.1.1", "sendrecv", "PCMA"));
    world.deliver(at_pbx.flow, answer);
    let ok = world.one_to(addr(PHONE));
    assert!(contact_uri(&ok).starts_with("sips:"), "{}", ok.text());
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    let ack = world.one_to(addr(PBX));
    assert_eq!((ack.flow.transport, ack.uri().as_str()), (TLS, "sips:402@10.0.1.1:5060"));
    world.assert_replay_equals_live();
}

#[test]
fn given_a_phone_by_sips_or_sip_when_it_is_called_then_each_scheme_reaches_whom_it_may() {
    for (scheme, by_sips) in [("sips", true), ("sip", false)] {
        let mut world = world(TLS);
        let mut phone = phone(scheme);
        let token = token_in(&registered(&mut world, &mut phone)).replace("<sips:", "");
        let pbx = over_tls(inside(PBX), None);
        let offer = sdp("10.0.1.1", "sendrecv", "PCMA");
        for (at, called) in
            [format!("sip:{token}@10.0.0.5:5060"), "sip:401@acme.test".to_owned()].iter().enumerate()
        {
            let call = invite(&pbx, "sip:402@acme.test", called, &format!("s{at}"), &offer);
            world.deliver(pbx, in_sips(&call));
            if by_sips {
                let at_phone = world.one_to(addr(PHONE));
                assert_eq!(at_phone.uri(), format!("sips:401@{PHONE};transport=tls"));
                assert!(contact_uri(&at_phone).starts_with("sips:"), "{}", at_phone.text());
                world.take();
            } else {
                refused(&mut world, PBX);
            }
            world.deliver(pbx, call.replace(&format!("s{at}"), &format!("t{at}")));
            let at_phone = world.one_to(addr(PHONE));
            assert_eq!(at_phone.uri(), format!("sip:401@{PHONE};transport=tls"), "no scheme is added");
            assert!(contact_uri(&at_phone).starts_with("sip:"), "{}", at_phone.text());
            world.take();
        }
        let message = request("MESSAGE", "sips:401@acme.test", "sip:402@acme.test", addr(PBX), "m1");
        world.deliver(pbx, in_sips(&message));
        if by_sips {
            assert!(world.one_to(addr(PHONE)).uri().starts_with("sips:"));
        } else {
            refused(&mut world, PBX);
        }
    }
}
