//! Peers by name: a real name server says where real Kamailios are, and one of them dies.

use crate::given::{ACME, acme, hang_up, registered, talk};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::name_server::NameServer;
use signalbox_e2e::{Edge, Phone, World, contract, wait};

const PHONES: u16 = 24;

/// A Kamailio on a host and port of its own, and the records that lead to it.
fn place(world: &World, service: &str, name: &str, host: u8, rank: &str) -> (Kamailio, [String; 2]) {
    let pbx = Kamailio::start(world, name, world.at(host, 5000 + u16::from(host)), world.ip(HOST));
    let (ip, port) = (pbx.address().ip(), pbx.address().port());
    let records = [format!("srv-host={service},{name},{port},{rank}"), format!("host-record={name},{ip}")];
    (pbx, records)
}

/// Listeners over UDP and TCP, and who is asked for names.
fn asking(world: &World, names: &NameServer) -> String {
    let listener = |transport| format!("[[listener]]\naddress = \"{transport}:{}\"\n", world.at(HOST, 5060));
    let probe = "[probe]\ninterval = \"500ms\"\ntimeout = \"300ms\"\n[sip]\nfailover_after = \"1s\"\n";
    let dns = format!("[dns]\nservers = [\"{}\"]\n", names.address());
    [listener("udp"), listener("tcp"), probe.to_owned(), dns].concat()
}

/// It calls somebody whom no Kamailio knows; whether that was asked of this one.
fn asks(phone: &mut Phone, pbx: &Kamailio) -> bool {
    let before = pbx.invites_for("nobody");
    let (answer, _) = phone.call(&format!("sip:nobody@{ACME}"));
    assert_eq!(answer.status(), Some(404), "{answer}");
    pbx.invites_for("nobody") > before
}

#[test]
fn given_a_pbx_by_srv_records_when_the_heavier_place_dies_then_its_phones_go_on_at_the_other_and_come_back() {
    let world = World::new("srv");
    let service = "_sip._udp.pbx.test";
    let (mut heavy, of_heavy) = place(&world, service, "a.pbx.test", 2, "10,3");
    let (light, of_light) = place(&world, service, "b.pbx.test", 3, "10,1");
    let names = NameServer::start(&world, 9, &[of_heavy, of_light].concat());
    let tenant = acme(heavy.address()).replace(&heavy.address().to_string(), "pbx.test");
    let mut edge = Edge::configured(&world, &(asking(&world, &names) + &tenant));
    edge.start();
    edge.await_backend("pbx", "up");

    // Given phones that are shared as the weights say, each always with one of both.
    let user = |n: u16| format!("4{n:02}");
    let mut phones: Vec<Phone> = (0..PHONES).map(|n| registered(&world, &edge, &user(n), 6000 + n)).collect();
    let at_heavy: Vec<bool> = phones.iter_mut().map(|phone| asks(phone, &heavy)).collect();
    let there = at_heavy.iter().filter(|at| **at).count();
    assert_eq!(light.invites_for("nobody"), phones.len() - there);
    assert!(there > phones.len() / 2 && there < phones.len(), "{there} of {PHONES}");
    for (phone, at) in phones.iter_mut().zip(&at_heavy) {
        assert_eq!(asks(phone, &heavy), *at, "{}", phone.account.user);
    }

    // When one place dies, then its phones call and register at the other, and reach each other there.
    let mut theirs: Vec<Phone> =
        phones.into_iter().zip(at_heavy).filter_map(|(phone, at)| at.then_some(phone)).collect();
    let (mut caller, mut called) = (theirs.remove(0), theirs.remove(0));
    heavy.kill();
    assert!(asks(&mut caller, &light), "the call failed over");
    for phone in [&mut caller, &mut called] {
        assert_eq!(phone.register(600).status(), Some(200));
    }
    let target = called.account.user.clone();
    let (mut dialog, _) = talk(&mut caller, &mut called, &format!("sip:{target}@{ACME}"));
    hang_up(&mut caller, &mut dialog, &mut called);
    assert_eq!(light.invites_for(&target), 1);
    edge.await_backend("pbx", "up");

    // When it is back, they are with it again.
    heavy.start_again();
    wait::until_true("the place to be tried again", || asks(&mut caller, &heavy));
    let states = edge.events("backend.state_changed");
    assert!(states.iter().all(|event| event["data"]["to"] != "down"), "the name was never down: {states:#?}");
    contract::check(&edge.events(""));
}

#[test]
fn given_a_carrier_whose_naptr_record_chooses_tcp_when_its_first_place_dies_then_the_second_gets_the_call() {
    let world = World::new("naptr");
    let service = "_sip._tcp.carrier.test";
    let (mut first, of_first) = place(&world, service, "a.carrier.test", 4, "10,1");
    let (second, of_second) = place(&world, service, "b.carrier.test", 5, "20,1");
    // What UDP would lead to is not there.
    let others = [
        format!("naptr-record=carrier.test,10,10,s,SIP+D2T,,{service}"),
        "naptr-record=carrier.test,20,10,s,SIP+D2U,,_sip._udp.carrier.test".to_owned(),
        "srv-host=_sip._udp.carrier.test,nowhere.test,5060,10,1".to_owned(),
    ];
    let records = of_first.iter().chain(&of_second).chain(&others).cloned().collect::<Vec<_>>();
    let names = NameServer::start(&world, 9, &records);
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let carrier = "[[trunk]]\nname = \"carrier\"\naddress = \"sip:carrier.test\"\n\
        [[template]]\nname = \"out\"\ncalled = { strip = \"9\" }\n\
        [[route]]\nname = \"out\"\nmatch = { source = \"backends\", number = \"9\" }\ntemplate = \"out\"\nto = \"carrier\"\n";
    let mut edge = Edge::configured(&world, &(asking(&world, &names) + &acme(pbx.address()) + carrier));
    edge.start();
    edge.await_backend("pbx", "up");
    edge.await_backend("carrier", "up");

    let mut phone = registered(&world, &edge, "401", 6000);
    let seen = |carrier: &Kamailio| carrier.log().matches("seen INVITE to 020@carrier.test").count();
    let mut dials = || phone.call(&format!("sip:9020@{ACME}")).0.status();
    assert_eq!((dials(), seen(&first), seen(&second)), (Some(404), 1, 0), "the first by priority");
    first.kill();
    assert_eq!((dials(), seen(&second)), (Some(404), 1), "the next place, in the same call");
    let routed = edge.await_events("call.routed", 5);
    let over: Vec<_> = routed
        .iter()
        .filter(|event| event["data"]["target"]["name"] == "carrier")
        .map(|event| event["data"]["target"]["address"].to_string())
        .collect();
    assert!(over.len() >= 2 && over.iter().all(|address| address.contains("tcp")), "{over:?}");
}
