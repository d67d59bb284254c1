//! History on real brokers, and `check --live` before and after a broker's death.

use crate::brokered::{Broker, caller, edge_on};
use crate::given::phone;
use serde_json::Value;
use signalbox_brokers::{Nats, NatsOptions, kafka};
use signalbox_e2e::World;

#[test]
fn given_nats_when_history_is_replayed_then_it_lies_marked_beside_the_live_events_and_can_be_resumed() {
    let world = World::new("nats-replay");
    history_is_replayed(&world, &mut Nats::start(NatsOptions::default()), "nats");
}

#[test]
fn given_kafka_when_history_is_replayed_then_it_lies_marked_beside_the_live_events_and_can_be_resumed() {
    let world = World::new("kafka-replay");
    history_is_replayed(&world, &mut kafka::lease(), "kafka");
}

fn history_is_replayed(world: &World, broker: &mut dyn Broker, kind: &str) {
    let (mut edge, _voicemail) = edge_on(world, broker);
    edge.start();
    caller(world, &edge);
    let (answer, dialog) = phone(world, &edge, "401", 5060).call("sip:service@acme.test");
    assert_eq!(answer.status(), Some(200), "{answer}");
    drop(dialog);
    edge.await_events("call.answered", 1);
    let mut live = broker.subscriber(world, "live");
    let before = edge.events("");
    live.has_all(&before);
    let asked = edge.verb(&["check", "--live"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(asked.stdout.contains(&format!("bus  {kind} ")) && asked.stdout.contains(": good"), "{asked:?}");
    edge.terminate();
    let journal = edge.events("");

    let (from, until) = ("2020-11-21T14:00:00Z", "2120-11-21T14:00:00Z");
    let told = edge.rows(&["replay", "--to", kind, "--from", from, "--to", until]).pop().unwrap();
    assert_eq!(told["events"].as_u64(), Some(journal.len() as u64), "{told}");
    let id = told["id"].as_str().unwrap();
    same(&mut broker.of_replay(world, id).await_all(journal.len()), id, &journal);

    // Nobody is there: it ends with how to go on, and so it goes on.
    broker.kill9();
    let asked = edge.verb(&["check", "--live"]);
    assert_eq!(asked.code, 1, "{asked:?}");
    assert!(asked.stdout.contains("bus  ") && asked.stdout.contains("correct bus.url"), "{asked:?}");
    let refused = edge.verb(&[
        "replay",
        "--to",
        kind,
        "--domain",
        "call",
        "--tenant",
        "acme",
        "--type",
        "call.answered",
    ]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("check --live"), "{refused:?}");
    broker.start_again();
    let id = refused.stderr.split("--resume ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let resumed = edge.verb(&["replay", "--resume", &id]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    let answered: Vec<Value> =
        journal.iter().filter(|event| event["type"] == "io.signalbox.call.answered.v1").cloned().collect();
    same(&mut broker.of_replay(world, &id).await_all(answered.len()), &id, &answered);

    live.has_all(&journal);
    assert!(live.got.iter().all(|event| event["replayid"].is_null()), "replays are no news");
}

/// What lies on the broker is the journal's, marked; each key's in order.
fn same(replayed: &mut [Value], id: &str, journal: &[Value]) {
    for event in replayed.iter_mut() {
        let mark = event.as_object_mut().unwrap().remove("replayid");
        assert_eq!(mark.as_ref().and_then(Value::as_str), Some(id), "{event}");
    }
    assert_eq!(replayed.len(), journal.len(), "each once");
    let keys = |events: &[Value]| {
        let mut by_key: Vec<(String, Value)> =
            events.iter().map(|event| (event["partitionkey"].to_string(), event.clone())).collect();
        // Stable: within a key they stay as they came.
        by_key.sort_by(|one, other| one.0.cmp(&other.0));
        by_key
    };
    assert_eq!(keys(replayed), keys(journal));
}
