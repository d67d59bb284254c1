//! Phones and backends over connections: what bridges, what follows a phone to its next connection, what fails with one.

use crate::call_support::{
    Dialog, PBX, PHONE, contact_uri, established, hang_up, invite, pbx_calls, phone_calls, respond, said, sdp,
};
use crate::support::{Phone, World, acme, addr, granted, inside, outside, register, response, token_in};
use signalbox_base::{ConnId, Flow, Text, Transport};
use signalbox_engine::settings::ListenerSettings;
use signalbox_engine::{FlowEnd, Input, SendError, Settings, Ticket};
use signalbox_sip::HeaderName;
use std::time::Duration;

/// `acme` with a listener for TCP outside (2) and one inside (3).
pub(crate) fn settings() -> Settings {
    let mut settings = acme();
    for network in [0, 1] {
        let udp = settings.listeners[network].clone();
        settings.listeners.push(ListenerSettings { transport: Transport::Tcp, ..udp });
    }
    settings
}

/// A connection of a phone.
fn over_tcp(remote: &str, conn: u64) -> Flow {
    let mut flow = outside(remote);
    flow.listener.0 = 2;
    (flow.transport, flow.conn) = (Transport::Tcp, Some(ConnId(conn)));
    flow
}

/// 401 registered over a connection.
fn with_phone_over_tcp() -> (World, Phone) {
    let mut world = World::new(settings());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.flow = over_tcp(PHONE, 7);
    phone.extra = "Supported: outbound\r\n".to_owned();
    phone.contact = format!("<sip:401@{PHONE};transport=tcp>;+sip.instance=\"<urn:uuid:1>\"");
    register(&mut world, &mut phone, PBX, 3600);
    (world, phone)
}

/// The phone's connection breaks, and it registers again over another.
fn comes_back(world: &mut World, phone: &mut Phone, remote: &str, conn: u64) {
    world.input(Input::FlowClosed { flow: phone.flow, cause: FlowEnd::Closed });
    phone.flow = over_tcp(remote, conn);
    phone.contact = phone.contact.replace(PHONE, remote);
    let request = phone.register(3600);
    world.deliver(phone.flow, request);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    assert_eq!(world.one_to(addr(remote)).status(), Some(200));
}

#[test]
fn given_a_phone_over_tcp_and_a_pbx_over_udp_then_each_sees_its_own_transport_only() {
    let (mut world, phone) = with_phone_over_tcp();
    let at_pbx = phone_calls(&mut world, &phone, "c1");
    assert!(at_pbx.header(HeaderName::Via).is_some_and(|via| via.starts_with("SIP/2.0/UDP 10.0.0.5:5060;")));
    assert!(!at_pbx.text().to_ascii_lowercase().contains("tcp"), "{}", at_pbx.text());
    let answer = sdp("10.0.1.1", "sendrecv", "PCMA");
    world.deliver(inside(PBX), respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &answer));
    let ok = world.one_to(addr(PHONE));
    assert_eq!(ok.flow, phone.flow, "over its own connection");
    assert!(contact_uri(&ok).ends_with("@203.0.113.1:5060;transport=tcp"), "{}", ok.text());
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    assert!(world.one_to(addr(PBX)).text().starts_with("ACK "));
    world.advance(Duration::from_secs(70));
    let again: Vec<_> =
        world.take_to(addr(PHONE)).into_iter().filter(|s| !s.text().starts_with("\r\n")).collect();
    assert!(again.is_empty(), "nothing is repeated over a connection: {again:?}");
    let mut call =
        crate::call_support::Established { phone: caller, pbx: Dialog::called(inside(PBX), &at_pbx, "pbx") };
    let bye = call.pbx.request("BYE", "");
    world.deliver(inside(PBX), bye);
    let bye = world.one_to(addr(PHONE));
    assert!(bye.header(HeaderName::Via).is_some_and(|via| via.starts_with("SIP/2.0/TCP ")));
    world.deliver(phone.flow, response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_request_without_content_length_then_a_pbx_over_tcp_gets_one() {
    let mut with_tcp = settings();
    with_tcp.tenants[0].backends[0].address.transport = Transport::Tcp;
    let mut world = World::new(with_tcp);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let bare = phone.register(60).replace("Content-Length: 0\r\n", "");
    world.deliver(phone.flow, bare);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!((at_pbx.flow.transport, at_pbx.flow.conn), (Transport::Tcp, None), "to wherever it listens");
    assert_eq!(at_pbx.flow.listener.0, 3);
    assert!(at_pbx.text().contains("Content-Length: 0\r\n"), "{}", at_pbx.text());
    assert!(at_pbx.header(HeaderName::Contact).is_some_and(|c| c.contains("@10.0.0.5:5060;transport=tcp>")));
}

#[test]
fn given_a_pbx_over_tcp_then_requests_to_it_go_where_it_listens_and_not_to_where_it_called_from() {
    let mut with_tcp = settings();
    with_tcp.tenants[0].backends[0].address.transport = Transport::Tcp;
    let mut world = World::new(with_tcp);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let pbx = addr(PBX);
    let mut dialled = inside(PBX);
    (dialled.transport, dialled.listener.0) = (Transport::Tcp, 3);
    let request = phone.register(3600);
    world.deliver(phone.flow, request);
    let at_pbx = world.one_to(pbx);
    world.deliver(dialled, granted(&at_pbx, 3600));
    let token = token_in(&at_pbx);
    world.take();
    // The PBX calls over a connection of its own making.
    let from = "10.0.1.1:40001";
    let accepted = Flow { remote: addr(from), conn: Some(ConnId(9)), ..dialled };
    let uri = format!("sip:{token}@10.0.0.5:5060;transport=tcp");
    let offer = invite(&accepted, "sip:402@acme.test", &uri, "c1", &sdp("10.0.1.1", "sendrecv", "PCMA"))
        .replace(&format!("Contact: <sip:me@{from}>"), "Contact: <sip:me@10.0.1.1;transport=tcp>");
    world.deliver(accepted, offer);
    assert_eq!(said(&mut world, addr(from)), ["100"]);
    let at_phone = world.one_to(addr(PHONE));
    world.deliver(
        phone.flow,
        respond(&at_phone, 200, &format!("<sip:401@{PHONE}>"), &sdp("192.0.2.10", "sendrecv", "PCMA")),
    );
    let ok = world.one_to(addr(from));
    assert_eq!(
        (ok.status(), ok.flow),
        (Some(200), accepted),
        "RFC 3261 18.2.2: over the connection of the request"
    );
    let mut caller = Dialog::calling(accepted, &ok);
    world.deliver(accepted, caller.ack(1, ""));
    world.take();
    world.input(Input::FlowClosed { flow: accepted, cause: FlowEnd::Closed });
    let mut callee = Dialog::called(phone.flow, &at_phone, "pbx");
    world.deliver(phone.flow, callee.request("BYE", ""));
    let bye = world.one_to(pbx);
    assert_eq!(bye.flow, dialled, "a connection is made or found to the address of its Contact");
    world.deliver(dialled, response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
}

#[test]
fn given_a_closed_connection_then_its_phone_gets_480_at_once_until_it_registers_again() {
    let (mut world, mut phone) = with_phone_over_tcp();
    let before = world.journal.len();
    world.input(Input::FlowClosed { flow: phone.flow, cause: FlowEnd::Failed });
    let offer = sdp("10.0.1.1", "sendrecv", "PCMA");
    world.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "c1", &offer));
    assert!(said(&mut world, addr(PBX)).contains(&"480".to_owned()));
    assert!(!world.kinds(before).iter().any(|kind| kind.starts_with("registration.")), "the row is kept");
    comes_back(&mut world, &mut phone, "198.51.100.7:41000", 8);
    let at_phone = pbx_calls(&mut world, "sip:401@acme.test", "c2", &["198.51.100.7:41000"]).remove(0);
    assert_eq!(at_phone.flow, phone.flow);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_call_when_the_phone_comes_back_on_another_connection_then_its_dialog_follows_it() {
    let (mut world, mut phone) = with_phone_over_tcp();
    let mut call = established(&mut world, &phone, "c1");
    comes_back(&mut world, &mut phone, "198.51.100.7:41000", 8);
    comes_back(&mut world, &mut phone, "198.51.100.9:42000", 9);
    let reinvite = call.pbx.request("INVITE", "Contact: <sip:402@10.0.1.1:5060>\r\n");
    world.deliver(inside(PBX), reinvite);
    let at_phone = world.one_to(addr("198.51.100.9:42000"));
    assert_eq!(at_phone.flow, phone.flow, "no longer over the first connection, nor the second");
    world.deliver(phone.flow, respond(&at_phone, 200, &phone.contact, ""));
    assert!(said(&mut world, addr(PBX)).contains(&"200".to_owned()));
    let ack = call.pbx.ack(101, "");
    world.deliver(inside(PBX), ack);
    assert!(said(&mut world, addr("198.51.100.9:42000")).contains(&"ACK".to_owned()));
    call.phone.flow = phone.flow;
    hang_up(&mut world, &mut call);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_phone_without_instance_when_it_comes_back_with_another_contact_then_its_dialog_follows_its_call_id()
 {
    let mut world = World::new(settings());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.flow = over_tcp(PHONE, 7);
    register(&mut world, &mut phone, PBX, 3600);
    let mut call = established(&mut world, &phone, "c1");
    comes_back(&mut world, &mut phone, "198.51.100.7:41000", 8);
    let bye = call.pbx.request("BYE", "");
    world.deliver(inside(PBX), bye);
    assert!(world.one_to(addr("198.51.100.7:41000")).text().starts_with("BYE "));
}

#[test]
fn given_a_call_when_the_edge_restarts_and_the_phone_registers_again_then_its_dialog_follows_it() {
    let (mut world, mut phone) = with_phone_over_tcp();
    let mut call = established(&mut world, &phone, "c1");
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    comes_back(&mut world, &mut phone, "198.51.100.7:41000", 1 << 40);
    let bye = call.pbx.request("BYE", "");
    world.deliver(inside(PBX), bye);
    let at_phone = world.one_to(addr("198.51.100.7:41000"));
    assert!(at_phone.text().starts_with("BYE "), "{}", at_phone.text());
    world.deliver(phone.flow, response(&at_phone, 200, ""));
    assert!(said(&mut world, addr(PBX)).contains(&"200".to_owned()));
}

#[test]
fn given_a_phone_that_is_called_when_its_connection_breaks_before_it_answers_then_the_call_fails_at_once() {
    let (mut world, phone) = with_phone_over_tcp();
    pbx_calls(&mut world, "sip:401@acme.test", "c1", &[PHONE]);
    world.input(Input::FlowClosed { flow: phone.flow, cause: FlowEnd::Closed });
    let said = said(&mut world, addr(PBX));
    assert!(said.iter().any(|said| matches!(said.as_str(), "480" | "408" | "503")), "{said:?}");
}

#[test]
fn given_a_pbx_that_takes_no_connection_then_the_next_one_is_asked_at_once() {
    let mut two = settings();
    let mut second = two.tenants[0].backends[0].clone();
    (second.name, second.priority) = (Text::new("pbx-2"), 2);
    second.address.host = Text::new("10.0.1.2");
    second.address.literal = Some(addr("10.0.1.2:5060"));
    two.tenants[0].backends.push(second);
    for backend in &mut two.tenants[0].backends {
        backend.address.transport = Transport::Tcp;
    }
    let mut world = World::new(two);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let request = phone.register(60);
    world.deliver(phone.flow, request);
    let first = world.one_to(addr(PBX));
    let via = first.message().top_via().unwrap().branch().map(<[u8]>::to_vec).unwrap();
    let branch = signalbox_sip::transaction::Branch::parse(&via).unwrap();
    world.input(Input::Unsent {
        ticket: Some(Ticket(branch.0)),
        remote: addr(PBX),
        cause: SendError::Refused,
    });
    assert!(world.one_to(addr("10.0.1.2:5060")).text().starts_with("REGISTER "));
}

#[test]
fn given_bytes_that_cannot_be_framed_then_they_are_counted_as_malformed() {
    let mut world = World::new(settings());
    let bytes = b"OPTIONS sip:acme.test SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\n\r\n";
    let mut framer = signalbox_sip::stream::Framer::new(signalbox_sip::Limits::DATAGRAM);
    framer.push(bytes);
    let fault = framer.next_frame().expect_err("no Content-Length");
    world.input(Input::Unframed { flow: over_tcp("192.0.2.1:40000", 3), bytes, fault });
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0].json()["rule"], &told[0].json()["source"]),
        (&"malformed".into(), &"192.0.2.1".into())
    );
}
