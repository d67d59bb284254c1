//! A phone at home, behind a real NAT.

use crate::given::{acme, hang_up, hold_and_resume, talk};
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::netns::Home;
use signalbox_e2e::{Edge, Phone, World};

/// The phone at home, one on the open side, and the edge on the address that both know.
struct Street {
    home: Phone,
    open: Phone,
    edge: Edge,
    _pbx: Kamailio,
    _nat: Home,
}

fn street(world: &World) -> Street {
    let nat = Home::build();
    let edge_address = std::net::SocketAddr::new(nat.outside, 5060);
    let pbx = Kamailio::start(world, "pbx", std::net::SocketAddr::new(nat.outside, 5080), nat.outside);
    let mut edge = Edge::configured(world, "");
    edge.listen_on(edge_address);
    edge.write_config(&acme(pbx.address()));
    edge.start();
    edge.await_backend("pbx", "up");
    let mut home = Phone::on(nat.socket(5060), "401", "acme.test", edge_address);
    let mut open = Phone::new("402", "acme.test", std::net::SocketAddr::new(nat.outside, 5090), edge_address);
    for phone in [&mut home, &mut open] {
        assert_eq!(phone.register(600).status(), Some(200));
    }
    Street { home, open, edge, _pbx: pbx, _nat: nat }
}

#[test]
fn given_a_phone_behind_nat_when_it_registers_then_its_row_has_both_addresses() {
    let world = World::new("nat-registers");
    let street = street(&world);
    let rows = street.edge.await_rows(&["locations", "401"], 1);
    assert_eq!(rows[0]["contact"], "sip:401@192.168.77.2:5060", "what it believes");
    let received = rows[0]["received"].as_str().unwrap();
    assert!(received.starts_with("sip:198.18."), "where it really is: {received}");
}

#[test]
fn given_a_phone_behind_nat_when_it_calls_then_both_can_hold_and_it_hangs_up() {
    let world = World::new("nat-calls");
    let Street { home, open, edge, .. } = &mut street(&world);
    let (mut caller_side, mut called_side) = talk(home, open, "sip:402@acme.test");
    hold_and_resume(home, &mut caller_side, open);
    hold_and_resume(open, &mut called_side, home);
    hang_up(home, &mut caller_side, open);
    records_say(edge, "caller");
}

#[test]
fn given_a_phone_behind_nat_when_it_is_called_then_both_can_hold_and_the_other_hangs_up() {
    let world = World::new("nat-is-called");
    let Street { home, open, edge, .. } = &mut street(&world);
    let (mut caller_side, mut called_side) = talk(open, home, "sip:401@acme.test");
    hold_and_resume(home, &mut called_side, open);
    hold_and_resume(open, &mut caller_side, home);
    hang_up(home, &mut called_side, open);
    records_say(edge, "callee");
}

fn records_say(edge: &Edge, released_by: &str) {
    let rows = edge.await_rows(&["cdr"], 2);
    assert!(rows.iter().all(|r| r["category"] == "answered" && r["released_by"] == released_by), "{rows:#?}");
    let kinds: Vec<_> =
        edge.events("call.modified").iter().map(|e| e["data"]["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds.iter().filter(|k| *k == "hold").count(),
        4,
        "two holds, each on both ways through the edge: {kinds:?}"
    );
    assert_eq!(kinds.iter().filter(|k| *k == "resume").count(), 4, "{kinds:?}");
}
