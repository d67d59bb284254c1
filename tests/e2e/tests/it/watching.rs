//! `signalbox log level debug` for one source or one call: the log tells of that one, and of nothing else.

use crate::given::{edge_and_kamailio, hang_up, hold_and_resume, phone, registered, talk};
use signalbox_e2e::{Edge, Phone, World, wait};

/// What the log tells of whom it was told to watch: nothing else is at this level.
fn steps(edge: &mut Edge) -> Vec<String> {
    let log = edge.process().stderr();
    log.lines().filter(|line| line.contains("\"level\":\"DEBUG\"")).map(str::to_owned).collect()
}

#[test]
fn given_many_sources_when_one_is_watched_then_the_log_tells_of_it_alone() {
    let world = World::new("watch-source");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    let watched = world.ip(30).to_string();
    let mut one = Phone::new("401", "acme.test", world.at(30, 5060), edge.sip());
    let mut other = phone(&world, &edge, "402", 5060);
    let both_register = |one: &mut Phone, other: &mut Phone| {
        assert_eq!((one.register(600).status(), other.register(600).status()), (Some(200), Some(200)));
    };
    both_register(&mut one, &mut other);
    assert!(steps(&mut edge).is_empty(), "nobody is watched yet");

    let _ = edge.text(&["log", "level", "debug", "--source", &watched]);
    both_register(&mut one, &mut other);
    wait::until_true("the watched source's steps", || !steps(&mut edge).is_empty());
    let told = steps(&mut edge);
    assert!(told.iter().all(|line| line.contains(&format!("{watched}:5060"))), "{told:#?}");

    let _ = edge.text(&["log", "level", "info", "--source", &watched]);
    let before = steps(&mut edge).len();
    both_register(&mut one, &mut other);
    assert_eq!(steps(&mut edge).len(), before, "nobody is watched any more");
}

#[test]
fn given_two_calls_when_one_is_watched_then_the_log_tells_of_its_messages_and_events_alone() {
    let world = World::new("watch-call");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    let [mut alice, mut bob, mut carol, mut dave] =
        [("401", 5060), ("402", 5061), ("403", 5062), ("404", 5063)]
            .map(|(user, port)| registered(&world, &edge, user, port));
    let (mut watched, _) = talk(&mut alice, &mut bob, "sip:402@acme.test");
    let (mut other, _) = talk(&mut carol, &mut dave, "sip:404@acme.test");
    let from_alice = |row: &serde_json::Value| row["caller"] == "401" && row["side"] == "access_in";
    let rows = edge.await_rows(&["calls"], 4);
    let call = rows.iter().find(|row| from_alice(row)).unwrap()["call_uid"].as_str().unwrap().to_owned();

    let _ = edge.text(&["log", "level", "debug", "--call", &call]);
    hold_and_resume(&mut carol, &mut other, &mut dave);
    hold_and_resume(&mut alice, &mut watched, &mut bob);
    hang_up(&mut carol, &mut other, &mut dave);
    hang_up(&mut alice, &mut watched, &mut bob);
    for step in ["INVITE from", "200 to INVITE", "BYE from", "call.ended"] {
        wait::until_true(step, || steps(&mut edge).iter().any(|line| line.contains(step)));
    }
    let told = steps(&mut edge);
    assert!(told.iter().all(|line| line.contains(&call)), "{told:#?}");

    let said = edge.verb(&["log", "level", "debug", "--call", "nonsense"]);
    assert!(said.code == 1 && said.stderr.contains("nonsense"), "{said:?}");
}
