//! Phones over TCP, TLS and WebSocket, and PBXs that know UDP only; connections that break, and certificates that change.

use crate::authority::Authority;
use crate::given::{ACME, acme, hang_up, hold_and_resume, registered, talk};
use rcgen::KeyPair;
use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::phone::Wire;
use signalbox_e2e::sipp::Sipp;
use signalbox_e2e::{Edge, Phone, World, http, wait};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

const TCP: u16 = 5060;
const TLS: u16 = 5061;
const WS: u16 = 5080;
const WSS: u16 = 5443;

/// Listeners for everything on the edge's host, and whatever else.
fn listeners(world: &World, more: &str) -> String {
    let mut text = String::new();
    for (transport, port) in [("udp", TCP), ("tcp", TCP), ("tls", TLS), ("ws", WS), ("wss", WSS)] {
        text += &format!("[[listener]]\naddress = \"{transport}:{}\"\n\n", world.at(HOST, port));
    }
    let dir = world.dir().display();
    format!(
        "{text}[[tls.certificate]]\ncertificate_file = \"{dir}/acme.pem\"\nkey_file = \"{dir}/acme.key\"\n\n{more}"
    )
}

/// An edge for all transports before a Kamailio on UDP.
fn edge_and_kamailio(world: &World, more: &str) -> (Edge, Kamailio, Authority) {
    let authority = Authority::new(world, "ca");
    authority.sign(world, "acme", ACME, 90);
    let pbx = Kamailio::start(world, "pbx", world.at(2, 5060), world.ip(HOST));
    let mut edge = Edge::configured(world, &listeners(world, &format!("{more}\n{}", acme(pbx.address()))));
    edge.start();
    edge.await_backend("pbx", "up");
    (edge, pbx, authority)
}

fn over(world: &World, ca: &Path, transport: &str) -> (Wire, SocketAddr) {
    match transport {
        "tcp" => Wire::tcp(world.at(HOST, TCP)),
        "tls" => Wire::tls(world.at(HOST, TLS), ca, ACME),
        "ws" => Wire::websocket(world.at(HOST, WS), None),
        _ => Wire::websocket(world.at(HOST, WSS), Some((ca, ACME))),
    }
}

fn phone_over(world: &World, ca: &Path, transport: &str, user: &str) -> Phone {
    let (wire, local) = over(world, ca, transport);
    let mut phone = Phone::over(wire, local, user, ACME);
    let answer = phone.register(600);
    assert_eq!(answer.status(), Some(200), "{transport}: {answer}");
    phone
}

#[test]
fn given_phones_over_every_transport_and_a_kamailio_on_udp_then_they_talk_hold_and_hang_up_from_both_sides() {
    let world = World::new("transports");
    let (edge, _pbx, authority) = edge_and_kamailio(&world, "");
    let mut desk = registered(&world, &edge, "402", 5070);
    for (at, transport) in ["tcp", "tls", "ws", "wss"].into_iter().enumerate() {
        let user = format!("50{at}");
        let mut mobile = phone_over(&world, &authority.ca, transport, &user);
        let row = edge.rows(&["locations", &format!("{user}@{ACME}")]).remove(0);
        let received = row["received"].as_str().unwrap_or_default().to_owned();
        assert!(received.contains(&mobile.local.to_string()), "{transport}: {row}");
        // It calls, it is held, and it hangs up.
        let (mut ours, mut theirs) = talk(&mut mobile, &mut desk, &format!("sip:402@{ACME}"));
        hold_and_resume(&mut mobile, &mut ours, &mut desk);
        hold_and_resume(&mut desk, &mut theirs, &mut mobile);
        hang_up(&mut mobile, &mut ours, &mut desk);
        // It is called, and the other hangs up.
        let (mut theirs, _) = talk(&mut desk, &mut mobile, &format!("sip:{user}@{ACME}"));
        hang_up(&mut desk, &mut theirs, &mut mobile);
        assert_eq!(mobile.register(0).status(), Some(200));
    }
    let ended = edge.await_events("call.ended", 16);
    assert!(ended.iter().all(|event| event["data"]["category"] == "answered"), "{ended:#?}");
    let metrics = http::get(edge.admin(), "/metrics").unwrap().1;
    assert!(metrics.contains("signalbox_sip_connections_accepted_total{} 4.0"), "{metrics}");
}

#[test]
fn given_sipp_over_tcp_and_kamailio_on_udp_or_tcp_then_registrations_and_calls_go_through() {
    for transport in ["udp", "tcp"] {
        let world = World::new(&format!("sipp-{transport}"));
        let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
        let tenant = acme(pbx.address()).replace("udp:", &format!("{transport}:"));
        let edge_at = world.at(HOST, TCP);
        let both =
            format!("[[listener]]\naddress = \"udp:{edge_at}\"\n[[listener]]\naddress = \"tcp:{edge_at}\"\n");
        let mut edge = Edge::configured(&world, &format!("{both}{tenant}"));
        edge.start();
        edge.await_backend("pbx", "up");
        let users: Vec<String> = (0..20)
            .map(|n| format!("6{n:02};[authentication username=6{n:02} password=pw-6{n:02}]"))
            .collect();
        let register = Sipp::new(&world, "register", "register", world.at(20, 5060)).to(edge_at).over_tcp();
        register.word("domain", ACME).word("expires", "600").lines(&users).calls(20, 10).run().all_good(20);
        assert_eq!(edge.await_events("registration.added", 20).len(), 20);
    }
}

#[test]
fn given_an_edge_that_nobody_connects_to_then_its_pbx_calls_over_the_connection_that_the_edge_has_made() {
    let world = World::new("alias");
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let tenant = acme(pbx.address()).replace("udp:", "tcp:");
    let (at, nowhere) = (world.at(HOST, TCP), world.at(HOST, 5070));
    let listeners = format!(
        "[[listener]]\naddress = \"udp:{at}\"\n\
         [[listener]]\naddress = \"tcp:{at}\"\nadvertise = \"{nowhere}\"\n"
    );
    let mut edge = Edge::configured(&world, &(listeners + &tenant));
    edge.start();
    edge.await_backend("pbx", "up");
    let (mut caller, mut called) =
        (registered(&world, &edge, "401", 5071), registered(&world, &edge, "402", 5072));
    let (mut dialog, _) = talk(&mut caller, &mut called, &format!("sip:402@{ACME}"));
    hang_up(&mut caller, &mut dialog, &mut called);
}

#[test]
fn given_an_asterisk_on_udp_when_a_phone_over_tls_calls_it_then_it_answers_and_names_stay_on_their_sides() {
    let world = World::new("tls-asterisk");
    let authority = Authority::new(&world, "ca");
    authority.sign(&world, "acme", ACME, 90);
    let plan =
        Plan { users: &["401"], dialplan: "exten => _X.,1,Answer()\n same => n,Echo()", ..Plan::default() };
    let pbx = Asterisk::start(&world, "pbx", world.at(2, 5060), &plan);
    let mut edge = Edge::configured(&world, &listeners(&world, &acme(pbx.address())));
    edge.start();
    edge.await_backend("pbx", "up");
    let mut mobile = phone_over(&world, &authority.ca, "tls", "401");
    let contacts = pbx.console("pjsip show contacts");
    assert!(!contacts.to_ascii_lowercase().contains("tls"), "{contacts}");
    let (answer, dialog) = mobile.call(&format!("sip:500@{ACME}"));
    assert_eq!(answer.status(), Some(200), "{answer}");
    assert!(answer.contact().is_some_and(|contact| contact.contains(";transport=tls")), "{answer}");
    assert_eq!(mobile.hang_up(&mut dialog.unwrap()).status(), Some(200));
    edge.await_events("call.ended", 1);
}

#[test]
fn given_a_connection_that_breaks_in_a_call_then_the_phone_comes_back_and_its_call_goes_on() {
    let world = World::new("reconnect");
    let (edge, _pbx, authority) = edge_and_kamailio(&world, "");
    let mut desk = registered(&world, &edge, "402", 5070);
    let mut mobile = phone_over(&world, &authority.ca, "tcp", "401");
    let (_, mut theirs) = talk(&mut mobile, &mut desk, &format!("sip:402@{ACME}"));
    let (wire, local) = over(&world, &authority.ca, "tcp");
    mobile.reconnect(wire, local);
    // Until it has registered nobody is there, which whoever calls hears at once.
    wait::until_true("the edge to know", || {
        let (answer, _) = registered(&world, &edge, "403", 5071).call(&format!("sip:401@{ACME}"));
        answer.status() == Some(480)
    });
    assert_eq!(mobile.register(600).status(), Some(200));
    hang_up(&mut desk, &mut theirs, &mut mobile);
    let ended = edge.await_events("call.ended", 1);
    assert_eq!(ended[0]["data"]["released_by"], "callee");
}

#[test]
fn given_a_renewed_certificate_when_reloaded_then_new_connections_get_it_and_old_ones_go_on() {
    let world = World::new("renewed");
    let (edge, _pbx, authority) = edge_and_kamailio(&world, "");
    let mut mobile = phone_over(&world, &authority.ca, "tls", "401");
    // A key that is not the certificate's is refused by name, and nothing changes.
    let good = std::fs::read_to_string(world.path("acme.key")).unwrap();
    let _ = world.file("acme.key", &KeyPair::generate().unwrap().serialize_pem());
    let refused = edge.verb(&["reload"]);
    assert_ne!(refused.code, 0);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("acme.key"), "{refused:?}");
    let _ = world.file("acme.key", &good);
    phone_over(&world, &authority.ca, "tls", "402");
    // One that ends soon is told of.
    assert!(edge.events("edge.certificate_expiring").is_empty());
    authority.sign(&world, "acme", ACME, 5);
    let said = edge.text(&["reload"]);
    assert!(said.contains("certificates were read again"), "{said}");
    let told = edge.await_events("edge.certificate_expiring", 1);
    assert_eq!(told[0]["data"]["subject"], "CN=5 days");
    phone_over(&world, &authority.ca, "tls", "403");
    assert_eq!(mobile.register(600).status(), Some(200), "its connection is of before");
}

#[test]
fn given_slow_senders_then_they_are_closed_in_time_and_nobody_else_notices() {
    let world = World::new("slow");
    let limits = "[connections]\nmessage_timeout = \"2s\"\nfirst_message_timeout = \"4s\"\n";
    let (edge, _pbx, authority) = edge_and_kamailio(&world, limits);
    let mut slow: Vec<TcpStream> =
        (0..500).map(|_| TcpStream::connect(world.at(HOST, TCP)).unwrap()).collect();
    let begun = wait::now();
    let (mut sent, mut registered) = (0, 0);
    while begun.elapsed() < Duration::from_secs(3) {
        for stream in &mut slow {
            let _ = stream.write_all(b"REGISTER sip:acme.test SIP/2.0\r\n".get(sent..=sent).unwrap_or(b"x"));
        }
        sent += 1;
        phone_over(&world, &authority.ca, "tcp", &format!("7{registered:02}"));
        registered += 1;
    }
    assert!(registered > 2);
    for mut stream in slow {
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        // What was still written makes the system say it by a reset.
        let ended = stream.read(&mut [0]);
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
    let metrics = http::get(edge.admin(), "/metrics").unwrap().1;
    assert!(metrics.contains("signalbox_sip_connections_closed_total{reason=\"slow\"} 500.0"), "{metrics}");
}
