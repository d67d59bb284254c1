//! What hostile or broken peers send.

use crate::given::{acme, edge_and_kamailio, registered};
use signalbox_e2e::edge::{HOST, Said, said};
use signalbox_e2e::kamailio::Kamailio;
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

/// An edge before a backend that is a bare socket, and has been probed.
fn edge_and_socket(world: &World) -> (Edge, UdpSocket) {
    let pbx = UdpSocket::bind(world.at(2, 5060)).unwrap();
    let mut edge = Edge::configured(world, &acme(pbx.local_addr().unwrap()));
    edge.start();
    pbx.set_read_timeout(Some(wait::LONG)).unwrap();
    assert_eq!(heard(&pbx).method(), "OPTIONS");
    (edge, pbx)
}

/// What comes next.
fn heard(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 2048];
    let (len, _) = socket.recv_from(&mut buffer).unwrap();
    Message::read(&buffer[..len]).unwrap()
}

/// A backend asks the edge how it is: the answer, and what it was sent before that.
fn asks(pbx: &UdpSocket, edge: &Edge) -> (Message, Vec<Message>) {
    let (local, address) = (pbx.local_addr().unwrap(), edge.sip());
    let options = format!(
        "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKask;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:pbx@{local}>;tag=1\r\nTo: <sip:{address}>\r\nCall-ID: ask\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    pbx.send_to(options.as_bytes(), address).unwrap();
    let mut before = Vec::new();
    loop {
        let message = heard(pbx);
        if message.call_id() == "ask" {
            return (message, before);
        }
        before.push(message);
    }
}

/// Its source cannot be faked on a network that filters; all that it writes can.
#[test]
fn given_a_scanner_that_gives_itself_out_as_the_backend_then_it_hears_silence_and_the_backend_nothing() {
    let world = World::new("scanner");
    let (edge, pbx) = edge_and_socket(&world);
    // From elsewhere, and from the backend's own machine.
    let scanners = [world.at(66, 5060), world.at(2, 6666)].map(|at| UdpSocket::bind(at).unwrap());
    for user in 400..420 {
        for scanner in &scanners {
            scanner.send_to(scan(user, pbx.local_addr().unwrap()).as_bytes(), edge.sip()).unwrap();
        }
    }
    // One socket has one order: what was asked after the scans is answered after them.
    let (answer, before) = asks(&pbx, &edge);
    assert_eq!(answer.status(), Some(200), "{answer}");
    assert!(before.iter().all(|m| m.status().is_none() && m.method() == "OPTIONS"), "{before:#?}");
    for scanner in &scanners {
        scanner.set_nonblocking(true).unwrap();
        let silence = scanner.recv_from(&mut [0; 2048]).unwrap_err();
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
    }
    let events = edge.await_events("security.request_rejected", 2);
    assert!(events.len() <= 4, "one for each source and window: {events:#?}");
    for scanner in &scanners {
        let source = scanner.local_addr().unwrap().ip().to_string();
        assert!(events.iter().any(|e| e["subject"] == *source), "{source}: {events:#?}");
    }
    assert!(events.iter().all(|e| e["data"]["rule"] == "acl"), "{events:#?}");
    assert!(edge.rows(&["cdr"]).is_empty(), "noise leaves no call record");
}

/// An INVITE that says it comes from `backend`.
fn scan(user: u32, backend: SocketAddr) -> String {
    format!(
        "INVITE sip:{user}@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {backend};branch=z9hG4bKscan{user};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:100@acme.test>;tag=s{user}\r\nTo: <sip:{user}@acme.test>\r\nCall-ID: scan{user}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:100@{backend}>\r\nUser-Agent: friendly-scanner\r\nContent-Length: 0\r\n\r\n"
    )
}

/// sipsak asks somebody how it is; code 3 is that no answer came.
fn sipsak(address: SocketAddr) -> Said {
    let uri = format!("sip:{address}");
    said(Command::new("timeout").args(["20", "sipsak", "-v", "-Z", "20", "-s", &uri]))
}

#[test]
fn given_sipsak_when_it_asks_the_edge_how_it_is_then_only_a_known_peer_hears() {
    let world = World::new("sipsak");
    let (edge, pbx) = edge_and_socket(&world);
    let (answer, _) = asks(&pbx, &edge);
    assert_eq!(answer.status(), Some(200), "{answer}");
    // A stranger's sipsak gets an answer from those who answer strangers, and hears nothing here.
    let other = Kamailio::start(&world, "other", world.at(3, 5060), world.ip(HOST));
    let asked = sipsak(other.address());
    assert!(asked.code == 0 && asked.stdout.contains("200"), "{asked:?}");
    let silence = sipsak(edge.sip());
    assert!(silence.code == 3 && silence.stdout.contains("giving up"), "{silence:?}");
}
