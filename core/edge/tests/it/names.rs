//! Where a name's service is, asked of a name server on the loopback interface; and an edge whose backend is named.

use crate::name_server::{NameServer, a, naptr, srv};
use crate::world::{Peer, World, answer, localhost, register, settings};
use hickory_resolver::proto::rr::RecordType;
use signalbox_base::{Text, Transport};
use signalbox_edge::dns::{Dns, Found, TTL_MAX, TTL_MIN};
use signalbox_edge::{EdgeConfig, Hooks};
use signalbox_engine::Question;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

fn question(host: &str, transports: &[Transport]) -> Question {
    let by_naptr = transports.len() > 1;
    Question { host: Text::new(host), port: None, transports: transports.iter().copied().collect(), by_naptr }
}

fn find(world: &World, dns: &Dns, question: &Question) -> Result<Found, String> {
    world.wait(dns.find(question))
}

/// Each as `transport:address priority/weight`.
fn places(found: &Found) -> Vec<String> {
    let each = found.targets.iter();
    each.map(|t| format!("{}:{} {}/{}", t.transport, t.address, t.priority, t.weight)).collect()
}

#[test]
fn given_srv_records_then_hosts_ports_priorities_and_weights_are_theirs_and_are_remembered_for_their_ttl() {
    let (world, server) = (World::new(), NameServer::start());
    let records = [srv(20, 0, 5062, "b.pbx.test"), srv(10, 60, 5070, "a.pbx.test")];
    server.put("_sip._udp.pbx.test", 300, records);
    server.put("a.pbx.test", 120, [a(11), a(12)]);
    server.put("b.pbx.test", 3600, [a(21)]);
    let dns = Dns::new(&[server.address()]).unwrap();
    let found = find(&world, &dns, &question("pbx.test", &[Transport::Udp])).unwrap();
    let expected = ["udp:127.0.0.11:5070 10/60", "udp:127.0.0.12:5070 10/60", "udp:127.0.0.21:5062 20/0"];
    assert_eq!(places(&found), expected);
    assert!(found.holds_for <= Duration::from_secs(120) && found.holds_for > TTL_MIN, "{found:?}");
    assert!(!server.asked().iter().any(|q| q.starts_with("NAPTR")), "the transport is given");
    let again = find(&world, &dns, &question("pbx.test", &[Transport::Udp])).unwrap();
    assert_eq!((places(&again), server.asked()), (places(&found), vec![]));
}

#[test]
fn given_a_port_or_no_srv_records_then_addresses_alone_count() {
    let (world, server) = (World::new(), NameServer::start());
    server.put("pbx.test", 0, [a(9)]);
    server.put("_sip._udp.pbx.test", 300, [srv(1, 1, 5070, "elsewhere.test")]);
    let dns = Dns::new(&[server.address()]).unwrap();
    let with_port = Question { port: Some(5080), ..question("pbx.test", &[Transport::Udp]) };
    let found = find(&world, &dns, &with_port).unwrap();
    assert_eq!(places(&found), ["udp:127.0.0.9:5080 0/0"]);
    assert_eq!(found.holds_for, TTL_MIN, "nobody is asked without end");
    assert!(server.asked().iter().all(|q| q.ends_with(" pbx.test.")));
    let found = find(&world, &dns, &question("pbx.test", &[Transport::Tls])).unwrap();
    assert_eq!(places(&found), ["tls:127.0.0.9:5061 0/0"], "there is no service of that transport");
}

#[test]
fn given_naptr_records_then_they_choose_among_the_transports_that_the_edge_has() {
    let (world, server) = (World::new(), NameServer::start());
    server.put(
        "pbx.test",
        300,
        [naptr(10, "SIPS+D2T", "_sips._tcp.pbx.test"), naptr(20, "SIP+D2T", "_sip._tcp.other.test")],
    );
    server.put("_sips._tcp.pbx.test", 300, [srv(1, 1, 5061, "a.pbx.test")]);
    server.put("_sip._tcp.other.test", 300, [srv(1, 1, 5060, "a.pbx.test")]);
    server.put("_sip._udp.pbx.test", 300, [srv(1, 1, 5060, "a.pbx.test")]);
    server.put("a.pbx.test", 300, [a(5)]);
    let dns = Dns::new(&[server.address()]).unwrap();
    let (udp, tcp, tls) = (Transport::Udp, Transport::Tcp, Transport::Tls);
    let first = |transports: &[Transport]| {
        places(&find(&world, &dns, &question("pbx.test", transports)).unwrap()).remove(0)
    };
    assert_eq!(first(&[udp, tcp, tls]), "tls:127.0.0.5:5061 1/1");
    assert_eq!(first(&[udp, tcp]), "tcp:127.0.0.5:5060 1/1", "its records are where NAPTR says");
    server.put("plain.test", 300, [a(6)]);
    let found = find(&world, &dns, &question("plain.test", &[udp, tcp, tls])).unwrap();
    assert_eq!(places(&found), ["udp:127.0.0.6:5060 0/0"], "without any record it is UDP");
}

#[test]
fn given_a_server_that_knows_no_srv_then_addresses_do_and_one_that_is_away_or_a_name_that_is_not_there_differ()
 {
    let (world, server) = (World::new(), NameServer::start());
    server.put("pbx.test", 300, [a(9)]);
    server.fail(RecordType::SRV);
    let dns = Dns::new(&[server.address()]).unwrap();
    let found = find(&world, &dns, &question("pbx.test", &[Transport::Udp])).unwrap();
    assert_eq!(places(&found), ["udp:127.0.0.9:5060 0/0"]);
    let nothing = find(&world, &dns, &question("nobody.test", &[Transport::Udp])).unwrap();
    assert!(nothing.targets.is_empty() && nothing.holds_for < TTL_MAX);
    drop(server);
    let away = Dns::new(&[localhost(9)]).unwrap();
    find(&world, &away, &question("pbx.test", &[Transport::Udp])).unwrap_err();
    let here = find(&world, &away, &question("localhost", &[Transport::Udp])).unwrap();
    assert!(places(&here).contains(&"udp:127.0.0.1:5060 0/0".to_owned()), "{here:?}");
}

/// A phone registers again and again until a PBX has it.
fn registers_at(world: &World, edge: SocketAddr, pbx: &Peer) {
    let (phone, mut cseq) = (Peer::phone(), 0);
    let mut came = None;
    world.until("a registration at the PBX", || {
        cseq += 1;
        phone.send(edge, &register(&phone, "401", cseq));
        came = pbx.next_within(Duration::from_millis(100));
        came.is_some()
    });
    let (request, from) = came.unwrap();
    pbx.send(from, &answer(&request, "200 OK", true));
}

#[test]
fn given_a_backend_by_name_when_its_records_change_then_no_restart_is_needed_and_without_dns_the_last_ones_count()
 {
    let (world, server) = (World::new(), NameServer::start());
    let moved = Peer::at(Ipv4Addr::new(127, 0, 0, 3));
    let lead_to = |host: &str, pbx: &Peer| {
        server.put("_sip._udp.pbx.acme.test", 1, [srv(1, 1, pbx.address().port(), host)]);
    };
    server.put("first.acme.test", 1, [a(1)]);
    server.put("second.acme.test", 1, [a(3)]);
    lead_to("first.acme.test", &world.pbx);
    let mut named = settings(world.pbx.address(), localhost(0));
    let address = &mut named.tenants[0].backends[0].address;
    (address.host, address.port, address.literal) = (Text::new("pbx.acme.test"), None, None);
    let config = EdgeConfig { settings: Arc::new(named), dns: vec![server.address()], ..world.config() };
    let edge = world.start_with(config, Hooks::default()).unwrap();
    let sip = edge.listeners()[0];
    registers_at(&world, sip, &world.pbx);
    lead_to("second.acme.test", &moved);
    registers_at(&world, sip, &moved);
    drop(server);
    world.until("a lookup that fails", || edge.metrics().contains("signalbox_dns_unknown_names{} 1"));
    registers_at(&world, sip, &moved);
    world.stop(&edge);
}
