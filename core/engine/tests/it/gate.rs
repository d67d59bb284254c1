//! Unauthenticated noise: bounded in events, memory and bytes sent (promise 5).

use crate::support::*;
use signalbox_base::{Cidr, ConnId, Text, Transport};
use signalbox_engine::Input;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Junk of three kinds, each from another source.
fn flood(world: &mut World, sources: std::ops::Range<u32>) {
    for n in sources {
        let source = SocketAddr::new(IpAddr::V4(n.wrapping_mul(2_654_435_761).into()), 5060);
        let flow = signalbox_base::Flow { remote: source, ..outside("192.0.2.1:1") };
        let text: &[u8] = match n % 3 {
            0 => b"INVITE sip:x SIP/2.0\r\nnonsense\r\n\r\n",
            1 => b"REGISTER sip:nowhere.test SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:a@nowhere.test>;tag=1\r\nTo: <sip:a@nowhere.test>\r\nCall-ID: n\r\nCSeq: 1 REGISTER\r\n\r\n",
            _ => b"\x00\x01\x02garbage",
        };
        world.input(Input::Packet { flow, bytes: text });
    }
}

#[test]
fn promise_5_given_ten_times_the_spoofed_sources_then_no_more_memory_is_held_for_them() {
    let mut world = World::new(acme());
    flood(&mut world, 0..100_000);
    let (sources, kinds) = world.engine.strangers_held();
    assert!(sources > 1_000 && kinds > 10, "the flood was noticed: {sources} sources, {kinds} kinds");
    flood(&mut world, 100_000..1_000_000);
    assert_eq!(world.engine.strangers_held(), (sources, kinds));
    world.advance(Duration::from_secs(11));
    assert_eq!(world.engine.strangers_held().1, 0, "what was counted is told and let go");
}

#[test]
fn promise_5_given_100_000_spoofed_sources_then_events_and_answers_are_bounded_and_all_are_counted() {
    let mut world = World::new(acme());
    flood(&mut world, 0..100_000);
    assert!(world.take().is_empty(), "silence");
    world.advance(Duration::from_secs(11));
    let told = world.records("security.request_rejected");
    let settings = world.engine.settings().noise;
    assert!(told.len() <= settings.events_max, "{}", told.len());
    let counted: u64 = told.iter().map(|r| r.json()["count"].as_u64().unwrap()).sum();
    let shed = world.engine.counters().rejected[6];
    assert_eq!(counted + shed, 100_000);
    assert!(told.iter().any(|r| r.subject == "*"));
    assert!(world.engine.state().registrations().is_empty());
}

#[test]
fn promise_5_given_an_unproven_source_then_it_gets_at_most_three_times_its_bytes_in_a_window() {
    let mut world = World::new(acme());
    let flow = outside("192.0.2.66:5060");
    let (mut got, mut sent) = (0, 0);
    for n in 0..50 {
        let text = request("MESSAGE", "sip:1@acme.test", "sip:2@acme.test", flow.remote, &format!("a{n}"));
        sent += text.len();
        world.deliver(flow, text);
        got += world.take().iter().map(|s| s.bytes.len()).sum::<usize>();
        assert!(got <= 3 * sent);
    }
    let keepalive = world.now;
    world.deliver(flow, "\r\n\r\n");
    assert!(world.take().is_empty() && world.now == keepalive);
}

#[test]
fn given_a_known_scanner_then_it_hears_nothing() {
    let mut world = World::new(acme());
    let flow = outside("192.0.2.66:5060");
    let text = request("OPTIONS", "sip:100@acme.test", "sip:100@1.1.1.1", flow.remote, "s")
        .replace("Contact", "User-Agent: friendly-scanner\r\nContact");
    world.deliver(flow, &text);
    world.deliver(flow, text.replace("CSeq: 1 OPTIONS", "CSeq: x"));
    assert!(world.take().is_empty());
    assert_eq!(world.engine.counters().rejected[3], 2);
}

#[test]
fn given_a_block_then_its_prefix_is_not_even_parsed() {
    let mut world = World::new(acme());
    let end = world.now.mono.plus(Duration::from_secs(5));
    world.engine.blocks_mut().block("192.0.2.0/24".parse::<Cidr>().unwrap(), end);
    let flow = outside("192.0.2.66:5060");
    let text = request("MESSAGE", "sip:1@acme.test", "sip:2@acme.test", flow.remote, "b1");
    world.deliver(flow, &text);
    assert!(world.take().is_empty());
    world.advance(Duration::from_secs(6));
    world.deliver(flow, &text);
    assert_eq!(world.one_to(flow.remote).status(), Some(403));
}

#[test]
fn given_a_malformed_request_then_the_right_4xx_or_silence() {
    let mut world = World::new(acme());
    let flow = inside("10.0.1.1:5060");
    let good = request("MESSAGE", "sip:1@acme.test", "sip:2@acme.test", flow.remote, "bad");
    for (text, status) in [
        (good.replace("CSeq: 1 MESSAGE", "CSeq: one MESSAGE"), Some(400)),
        (good.replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), Some(505)),
        (good.replace("Content-Length: 0", "Content-Length: 10"), Some(400)),
        (good.replace("Max-Forwards: 70", "Max-Forwards: many"), Some(400)),
        (good.replace("Call-ID: bad\r\n", ""), None),
        (good.replace("From: <sip:2@acme.test>", "From: <sip:2@acme.test"), Some(400)),
    ] {
        world.deliver(flow, &text);
        let answers: Vec<Option<u16>> = world.take_to(flow.remote).iter().map(Sent::status).collect();
        assert_eq!(answers, status.map(Some).into_iter().collect::<Vec<_>>(), "{text}");
    }
    world.deliver(flow, "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKnobody\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n");
    assert_eq!(world.engine.counters().strays, 1);
}

#[test]
fn given_tls_handshakes_that_fail_then_each_source_is_told_once_a_window_with_the_last_reason() {
    let mut world = World::new(acme());
    let over =
        |remote: &str, conn| signalbox_base::Flow { transport: Transport::Tls, conn, ..outside(remote) };
    for n in 0..1_000 {
        let reason = Text::from(format!("received fatal alert: number {n}"));
        let flow = over(&format!("192.0.2.66:{}", 1024 + n), Some(ConnId(n)));
        world.input(Input::TlsFailed { flow, reason: &reason });
    }
    let reason = Text::new("invalid peer certificate: Expired");
    world.input(Input::TlsFailed { flow: over("10.0.1.1:5061", None), reason: &reason });
    world.advance(Duration::from_secs(11));
    let told: Vec<_> = world.records("security.tls_failed").iter().map(|record| record.json()).collect();
    let [phones, backend] = &*told else { panic!("{told:?}") };
    assert_eq!((&phones["source"], &phones["count"]), (&"192.0.2.66".into(), &1_000.into()));
    assert_eq!(
        (&phones["reason"], &phones["outbound"]),
        (&"received fatal alert: number 999".into(), &false.into())
    );
    assert_eq!((&backend["reason"], &backend["outbound"]), (&reason.as_str().into(), &true.into()));
}
