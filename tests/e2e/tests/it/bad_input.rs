//! What hostile or broken peers send.

use crate::given::{acme, edge_and_kamailio, registered};
use signalbox_e2e::{Edge, Message, World, contract, http, wait};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

/// Bytes that are no SIP, nearly SIP, and SIP that lies about itself.
fn garbage() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 9] = [
        b"\x00\x01\x02\x03 nothing at all",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"REGISTER sip:acme.test SIP/2.0\r\n\r\n",
        b"INVITE sip:401@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nContent-Length: 99999\r\n\r\n",
        b"INVITE sip:401@acme.test SIP/9.9\r\nVia: x\r\nFrom: x\r\nTo: y\r\nCall-ID: z\r\nCSeq: 1 INVITE\r\n\r\n",
        b"OPTIONS sip:acme.test SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK2\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d\r\n",
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP nobody;branch=z9hG4bKstray\r\nCSeq: 1 INVITE\r\n\r\n",
        b"INVITE \xff\xfe SIP/2.0\r\nCSeq: 4294967296000 INVITE\r\n\r\n",
        b"\r\n\r\n",
    ];
    let huge = format!("REGISTER sip:acme.test SIP/2.0\r\nX: {}\r\n\r\n", "y".repeat(60_000)).into_bytes();
    let many = format!("REGISTER sip:acme.test SIP/2.0\r\n{}\r\n", "Via: SIP/2.0/UDP a\r\n".repeat(2_000))
        .into_bytes();
    texts.iter().map(|t| t.to_vec()).chain([huge, many]).collect()
}

#[test]
fn given_garbage_from_one_source_then_it_is_counted_in_few_events_and_nobody_else_notices() {
    let world = World::new("garbage");
    let (edge, _pbx) = edge_and_kamailio(&world);
    let attacker = UdpSocket::bind(world.at(66, 5060)).unwrap();
    let rounds = 20;
    for _ in 0..rounds {
        for datagram in garbage() {
            attacker.send_to(&datagram, edge.sip()).unwrap();
        }
        // The edge reads on: a probe of our own is answered in between.
        assert!(http::get(edge.admin(), "/ready").is_some());
    }
    let events = edge.await_events("security.request_rejected", 1);
    assert!(events.iter().all(|e| e["subject"].as_str() == Some(&world.ip(66).to_string())), "{events:#?}");
    assert!(events.iter().any(|e| e["data"]["rule"] == "malformed"), "{events:#?}");
    assert!(
        events.len() <= 12,
        "one event for each rule and window, not for each datagram: {}",
        events.len()
    );
    let mut phone = registered(&world, &edge, "401", 5060);
    assert_eq!(phone.register(0).status(), Some(200));
    contract::check(&edge.events(""));
}

#[test]
fn given_a_scanner_with_a_spoofed_backend_address_when_it_invites_then_the_pbx_hears_nothing() {
    let world = World::new("scanner");
    let (edge, pbx) = edge_and_kamailio(&world);
    let scanner = UdpSocket::bind(world.at(66, 5060)).unwrap();
    for user in 400..420 {
        scanner.send_to(scan(user, scanner.local_addr().unwrap()).as_bytes(), edge.sip()).unwrap();
    }
    let events = edge.await_events("security.request_rejected", 1);
    assert!(events.len() < 20, "{events:#?}");
    scanner.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 2048];
    let heard = scanner.recv_from(&mut buffer).ok().and_then(|(len, _)| Message::read(&buffer[..len]));
    assert!(heard.as_ref().is_none_or(|m| m.status() >= Some(400)), "{heard:?}");
    assert!(!pbx.log().contains("seen INVITE"), "{}", pbx.log());
    assert!(edge.rows(&["cdr"]).is_empty(), "noise leaves no call record");
}

fn scan(user: u32, from: SocketAddr) -> String {
    format!(
        "INVITE sip:{user}@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bKscan{user};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:100@acme.test>;tag=s{user}\r\nTo: <sip:{user}@acme.test>\r\nCall-ID: scan{user}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:100@{from}>\r\nUser-Agent: friendly-scanner\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn given_sipsak_when_it_asks_the_edge_how_it_is_then_only_a_known_peer_hears() {
    let world = World::new("sipsak");
    let pbx = world.at(2, 5060);
    let mut edge = Edge::configured(&world, &acme(pbx));
    edge.start();
    let from_backend = UdpSocket::bind(pbx).unwrap();
    let address = edge.sip();
    wait::until_true("a probe", || {
        let mut buffer = [0; 2048];
        from_backend.recv_from(&mut buffer).is_ok()
    });
    let options = format!(
        "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {pbx};branch=z9hG4bKask;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:pbx@{pbx}>;tag=1\r\nTo: <sip:{address}>\r\nCall-ID: ask\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    from_backend.send_to(options.as_bytes(), address).unwrap();
    let mut buffer = [0; 2048];
    let answer = wait::until("an answer", || {
        let (len, _) = from_backend.recv_from(&mut buffer).ok()?;
        Message::read(&buffer[..len]).filter(|m| m.status().is_some())
    });
    assert_eq!(answer.status(), Some(200), "{answer}");
    // A stranger's sipsak hears nothing.
    let sipsak = signalbox_e2e::edge::said(Command::new("timeout").args([
        "3",
        "sipsak",
        "-s",
        &format!("sip:{address}"),
    ]));
    assert_ne!(sipsak.code, 0, "{sipsak:?}");
}
