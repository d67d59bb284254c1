//! The first thing that the README promises: a registration and a call through the edge, as events, as rows, as a story.

use crate::given::{ACME, edge_and_kamailio, sipp_registers};
use cloudevents::{AttributesReader, Event};
use signalbox_e2e::contract;
use signalbox_e2e::sipp::Sipp;
use signalbox_e2e::{Edge, World, http, wait};

/// Everything recorded of one run, for the checks after it.
fn one_call(world: &World, edge: &Edge) {
    let (alice, bob) = (world.at(20, 5060), world.at(21, 5060));
    sipp_registers(world, edge, ACME, "401", alice);
    sipp_registers(world, edge, ACME, "402", bob);
    let answering = Sipp::new(world, "bob", "answer", bob).calls(1, 1).start();
    let calling = Sipp::new(world, "alice", "call", alice).to(edge.sip()).word("domain", ACME).talk(300);
    calling.lines(&["401;402".to_owned()]).calls(1, 1).run().all_good(1);
    answering.finish().all_good(1);
}

#[test]
fn given_a_real_pbx_when_sipp_registers_and_calls_then_every_verb_shows_it() {
    let world = World::new("readme");
    let (edge, pbx) = edge_and_kamailio(&world);

    one_call(&world, &edge);

    assert_eq!(pbx.invites_for("402"), 1, "the PBX saw the call once");
    the_phones_are_in_the_tables(&world, &edge);
    let call = the_call_has_a_record_for_each_way_through_the_edge(&edge);
    the_story_is_told(&edge, &call);
    the_edge_says_how_it_is(&edge);
}

fn the_phones_are_in_the_tables(world: &World, edge: &Edge) {
    let rows = edge.await_rows(&["locations"], 2);
    let alice = rows.iter().find(|r| r["username"] == "401").unwrap();
    assert_eq!(alice["aor"], "401@acme.test");
    assert_eq!(alice["contact"], format!("sip:401@{}", world.at(20, 5060)), "the phone's own Contact");
    assert_eq!((alice["tenant"].as_str(), alice["backend"].as_str()), (Some("acme"), Some("pbx")));
    let shown = edge.text(&["locations", "402@acme.test"]);
    assert!(shown.contains("402@acme.test") && !shown.contains("401@acme.test"), "{shown}");
}

fn the_call_has_a_record_for_each_way_through_the_edge(edge: &Edge) -> String {
    let rows = edge.await_rows(&["cdr"], 2);
    let side =
        |side: &str| rows.iter().find(|r| r["side"] == side).unwrap_or_else(|| panic!("{side}: {rows:#?}"));
    let (inwards, outwards) = (side("access_in"), side("access_out"));
    for cdr in [inwards, outwards] {
        assert_eq!((cdr["caller"].as_str(), cdr["callee"].as_str()), (Some("401"), Some("402")), "{cdr:#}");
        assert_eq!(
            (cdr["category"].as_str(), cdr["completeness"].as_str()),
            (Some("answered"), Some("normal"))
        );
        assert_eq!((cdr["status"].as_u64(), cdr["released_by"].as_str()), (Some(200), Some("caller")));
        assert!(cdr["billable_ms"].as_u64() >= Some(200), "{cdr:#}");
    }
    assert_eq!(inwards["egress_peer"], "pbx");
    assert_eq!(outwards["ingress_peer"], "pbx");
    assert!(edge.rows(&["calls"]).is_empty(), "no call is up any more");
    let table = edge.text(&["cdr", "--last", "1"]);
    assert!(table.starts_with("ENDED") && table.lines().count() == 2, "{table}");
    inwards["call_uid"].as_str().unwrap().to_owned()
}

fn the_story_is_told(edge: &Edge, call: &str) {
    let story = edge.text(&["why", call]);
    for step in ["call.attempted", "call.routed", "call.progressed", "call.answered", "call.ended"] {
        assert!(story.contains(step), "{step} is missing:\n{story}");
    }
    let phone = edge.text(&["why", "401@acme.test"]);
    assert!(phone.contains("registration.added") && phone.contains("call.ended"), "{phone}");
    let tail = edge.text(&["tail", "call", "--no-follow"]);
    assert_eq!(tail.matches("call.ended").count(), 2, "{tail}");
}

fn the_edge_says_how_it_is(edge: &Edge) {
    // Its figures are about a second old.
    let status = wait::until("both calls in the figures", || {
        edge.rows(&["status"]).pop().filter(|status| status["calls_answered"].as_u64() == Some(2))
    });
    let now = (status["registrations"].as_u64(), status["calls"].as_u64());
    assert_eq!(now, (Some(2), Some(0)), "{status:#}");
    assert!(edge.text(&["status"]).contains("e2e/edge-1"));
    let backends = edge.rows(&["backends"]);
    assert_eq!((backends.len(), backends[0]["state"].as_str()), (1, Some("up")));
    let (code, health) = http::get(edge.admin(), "/health").unwrap();
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!((code, health["status"].as_str()), (200, Some("ok")), "{health:#}");
    let (_, metrics) = http::get(edge.admin(), "/metrics").unwrap();
    assert!(metrics.contains("signalbox_registrations{tenant=\"acme\"} 2"), "{metrics}");
}

#[test]
fn given_the_events_of_a_call_then_foreign_software_accepts_each_of_them() {
    let world = World::new("events");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    one_call(&world, &edge);
    assert_eq!(edge.terminate().code, 0);

    // Without a running edge they are read from the journal on disk.
    let events = edge.events("");
    contract::check(&events);
    let types = contract::types(&events);
    for expected in [
        "edge.started",
        "config.applied",
        "backend.state_changed",
        "registration.added",
        "call.ended",
        "edge.stopped",
    ] {
        assert!(types.iter().any(|t| t == expected), "{expected} is missing in {types:?}");
    }
    for event in &events {
        let read: Event = serde_json::from_value(event.clone()).unwrap_or_else(|e| panic!("{e}: {event:#}"));
        assert_eq!(read.id(), event["id"].as_str().unwrap());
        assert!(read.ty().starts_with("io.signalbox.") && read.time().is_some());
        assert_eq!(read.dataschema().map(ToString::to_string).as_deref(), event["dataschema"].as_str());
    }
    let text = serde_json::to_string(&events).unwrap();
    assert!(!text.contains("pw-401") && !text.contains("response="), "credentials never are in an event");
}
