//! A PBX dies under load.

use crate::given::{ACME, sipp_registers};
use serde_json::Value;
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::load::Voicemail;
use signalbox_e2e::sipp::Sipp;
use signalbox_e2e::{Edge, World, contract, wait};
use std::net::SocketAddr;

const CALLS: u32 = 500;
const PER_SECOND: u32 = 50;

/// Two Kamailios before one voicemail: what one starts, the other could have.
fn edge_with_two(world: &World, voicemail: SocketAddr) -> (Edge, Kamailio, Kamailio) {
    let start = |name: &str, host: u8| {
        Kamailio::with_service(world, name, world.at(host, 5060), world.ip(HOST), voicemail)
    };
    let (first, second) = (start("pbx-1", 2), start("pbx-2", 3));
    let mut edge = Edge::configured(
        world,
        &format!(
            "[probe]\ninterval = \"500ms\"\ntimeout = \"300ms\"\ndown_after = 2\nup_after = 2\n\
             [sip]\nfailover_after = \"1s\"\n\
             [[tenant]]\nname = \"acme\"\ndomains = [\"{ACME}\"]\n\
             backends = [{{ name = \"pbx-1\", address = \"udp:{}\", priority = 1 }}, {{ name = \"pbx-2\", address = \"udp:{}\", priority = 2 }}]\n",
            first.address(),
            second.address()
        ),
    );
    edge.start();
    edge.await_backend("pbx-1", "up");
    edge.await_backend("pbx-2", "up");
    (edge, first, second)
}

#[test]
fn given_calls_at_fifty_a_second_when_a_pbx_is_killed_then_only_calls_in_setup_feel_it() {
    let world = World::new("failover");
    let voicemail = world.at(4, 5060);
    let (edge, mut first, _second) = edge_with_two(&world, voicemail);
    let caller = world.at(20, 5060);
    sipp_registers(&world, &edge, ACME, "401", caller);
    // SIPp would send its answer to BYE to where the INVITE came from, which is dead by then.
    let voicemail = Voicemail::start(voicemail);
    let calling = Sipp::new(&world, "caller", "call", caller).to(edge.sip()).word("domain", ACME).talk(1500);
    let calling = calling.lines(&["401;service".to_owned()]).calls(CALLS, PER_SECOND).start();

    // When the first dies while calls come, and is back before they end.
    wait::until_true("calls to be answered", || answered_by(&edge, "pbx-1") >= 60);
    first.kill();
    let killed_at = wait::wall_micros();
    edge.await_backend("pbx-1", "down");
    wait::until_true("calls to be answered by the other", || answered_by(&edge, "pbx-2") >= 20);
    first.start_again();
    edge.await_backend("pbx-1", "up");
    let counted = calling.finish();

    // Then each call that began after the death was answered, and so was each that had been answered before.
    let rows = edge.await_rows(&["cdr", "--last", "10000"], CALLS as usize);
    let failed: Vec<&Value> = rows.iter().filter(|r| r["category"] != "answered").collect();
    let began_later = |r: &&&Value| u128::from(r["invited_at"].as_u64().unwrap()) > killed_at;
    assert_eq!(failed.iter().filter(began_later).collect::<Vec<_>>(), Vec::<&&Value>::new());
    assert_eq!(counted.failed, failed.len() as u64, "the callers felt what the records say: {counted:?}");
    assert_eq!(counted.good + counted.failed, u64::from(CALLS));
    let ended = rows.iter().filter(|r| r["category"] == "answered");
    assert!(ended.clone().all(|r| r["released_by"] == "caller" && r["completeness"] == "normal"));
    assert!(ended.clone().any(|r| r["attempts"].as_u64() > Some(1)), "some call was in its way when it died");
    assert_eq!(voicemail.up(), 0, "no leg is left behind");
    the_death_and_the_return_are_told(&edge);
}

fn answered_by(edge: &Edge, backend: &str) -> usize {
    edge.events("call.answered").iter().filter(|e| e["data"]["peer"] == backend).count()
}

fn the_death_and_the_return_are_told(edge: &Edge) {
    let events = edge.events("backend.state_changed");
    let changes: Vec<_> = events
        .iter()
        .filter(|e| e["data"]["backend"] == "pbx-1" && e["data"]["to"] != "degraded")
        .map(|e| (e["data"]["to"].as_str().unwrap(), e["data"]["down_ms"].as_u64()))
        .collect();
    let [("up", _), ("down", None), ("up", Some(down_ms))] = changes[..] else {
        panic!("up, down, up with how long it was down: {changes:?}")
    };
    assert!(down_ms > 0);
    contract::check(&edge.events(""));
}
