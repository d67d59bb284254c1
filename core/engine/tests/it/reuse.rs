//! Connections that are used both ways (RFC 5923): whose may be, whose may not, and how the edge asks for it.

use crate::call_support::{PBX, PHONE};
use crate::streams::settings;
use crate::support::{Phone, World, addr, backend, inside, outside, request};
use signalbox_base::{ConnId, Flow, Transport};
use signalbox_engine::{Ask, FlowEnd, Input};
use signalbox_sip::HeaderName;

/// Two PBXs over this transport.
fn world(transport: Transport) -> World {
    let mut settings = settings();
    settings.tenants[0].backends.push(backend("pbx-2", "10.0.1.2:5060", 2, None));
    settings.tenants[0].backends.iter_mut().for_each(|pbx| pbx.address.transport = transport);
    settings.listeners[2..].iter_mut().for_each(|listener| listener.transport = transport);
    World::new(settings)
}

/// A connection that somebody has made, to the inside or the outside.
fn made(flow: Flow, transport: Transport, conn: u64) -> Flow {
    Flow {
        listener: signalbox_base::ListenerId(flow.listener.0 + 2),
        transport,
        conn: Some(ConnId(conn)),
        ..flow
    }
}

/// OPTIONS over a connection, with this in Via; what the driver was asked then.
fn asks(world: &mut World, flow: Flow, sent_by: &str, id: &str) -> Vec<Ask> {
    let text = request("OPTIONS", "sip:acme.test", "sip:pbx@acme.test", addr(PBX), id);
    let name = flow.transport.via();
    world.deliver(flow, text.replace(&format!("UDP {PBX};"), &format!("{name} {sent_by};")));
    std::mem::take(&mut world.asks)
}

#[test]
fn given_a_pbx_that_wants_its_connection_used_then_it_stands_for_where_it_listens_and_is_asked_for_once() {
    let (tcp, from) = (Transport::Tcp, "10.0.1.1:40001");
    let mut world = world(tcp);
    let flow = made(inside(from), tcp, 9);
    assert!(asks(&mut world, flow, PBX, "o1").is_empty(), "it does not want it");
    let stands_for = Flow { remote: addr(PBX), conn: None, ..flow };
    let wanted = [Ask::Reuse { flow, stands_for }];
    assert_eq!(asks(&mut world, flow, &format!("{PBX};alias"), "o2"), wanted);
    assert!(asks(&mut world, flow, &format!("{PBX};alias"), "o3").is_empty(), "once is enough");
    world.input(Input::FlowClosed { flow, cause: FlowEnd::Closed });
    let again = made(inside(from), tcp, 10);
    let wanted = [Ask::Reuse { flow: again, stands_for }];
    assert_eq!(asks(&mut world, again, "pbx-1.acme.test:5060;alias", "o4"), wanted, "a name is its source");
}

#[test]
fn given_a_stranger_or_another_pbx_that_claims_the_place_of_a_pbx_then_nobody_s_requests_go_to_it() {
    let tcp = Transport::Tcp;
    let mut world = world(tcp);
    let claim = format!("{PBX};alias");
    for (at, flow) in [
        made(inside("10.0.1.66:40001"), tcp, 1),
        made(inside("10.0.1.2:40001"), tcp, 2),
        made(outside("10.0.1.1:40001"), tcp, 3),
        made(outside(PHONE), tcp, 4),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(asks(&mut world, flow, &claim, &format!("o{at}")).is_empty(), "{flow}");
    }
    let own = made(inside("10.0.1.1:40001"), tcp, 5);
    for (at, place) in ["10.0.1.1:5999", "10.0.1.2:5060", "10.0.1.66:5060"].into_iter().enumerate() {
        let asked = asks(&mut world, own, &format!("{place};alias"), &format!("p{at}"));
        assert!(asked.is_empty(), "{place}: its requests go nowhere by that");
    }
}

#[test]
fn given_tls_then_the_source_says_nothing_and_the_driver_is_left_to_judge_the_certificate() {
    let tls = Transport::Tls;
    let mut world = world(tls);
    let flow = made(inside("10.0.1.66:40001"), tls, 1);
    let stands_for = Flow { remote: addr(PBX), conn: None, ..flow };
    assert_eq!(asks(&mut world, flow, &format!("{PBX};alias"), "o1"), [Ask::Reuse { flow, stands_for }]);
    let elsewhere = made(outside("10.0.1.1:40001"), tls, 2);
    assert!(asks(&mut world, elsewhere, &format!("{PBX};alias"), "o2").is_empty(), "no PBX is served there");
}

#[test]
fn given_a_pbx_over_a_stream_then_our_via_asks_for_the_same_and_a_phone_is_asked_for_nothing() {
    for (transport, wanted) in [(Transport::Tcp, true), (Transport::Tls, true), (Transport::Udp, false)] {
        let mut world = match transport {
            Transport::Udp => World::new(crate::support::acme()),
            stream => world(stream),
        };
        let mut phone = Phone::new("401", "acme.test", PHONE);
        let register = phone.register(60);
        world.deliver(phone.flow, register);
        let via = world.one_to(addr(PBX)).header(HeaderName::Via).expect("a Via");
        assert_eq!(via.ends_with(";alias"), wanted, "{via}");
    }
}
