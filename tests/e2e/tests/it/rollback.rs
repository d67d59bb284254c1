//! A broker, and then an edge, is put back to an old copy of its disk under load; a stream or topic is deleted.

use crate::brokered::{Broker, Calls, caller, edge_on, effort, identity};
use serde_json::Value;
use signalbox_brokers::{Nats, NatsOptions, kafka};
use signalbox_e2e::{Edge, World, contract, wait};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn given_nats_when_its_directory_is_rolled_back_under_load_then_a_fresh_subscriber_sees_everything() {
    let world = World::new("nats-rolled-back");
    broker_is_rolled_back(&world, &mut Nats::start(NatsOptions::default()));
}

#[test]
fn given_kafka_when_its_directory_is_rolled_back_under_load_then_a_fresh_subscriber_sees_everything() {
    let world = World::new("kafka-rolled-back");
    broker_is_rolled_back(&world, &mut kafka::lease());
}

#[test]
fn given_nats_when_the_stream_of_calls_is_deleted_under_load_then_a_fresh_subscriber_sees_everything() {
    let world = World::new("nats-deleted");
    calls_are_deleted(&world, &Nats::start(NatsOptions::default()));
}

#[test]
fn given_kafka_when_the_topic_of_calls_is_deleted_under_load_then_a_fresh_subscriber_sees_everything() {
    let world = World::new("kafka-deleted");
    calls_are_deleted(&world, &kafka::lease());
}

#[test]
fn given_nats_when_an_edge_is_restored_from_an_old_copy_then_no_later_event_is_missing_or_doubled() {
    let world = World::new("nats-edge-restored");
    edge_is_restored(&world, &mut Nats::start(NatsOptions::default()));
}

#[test]
fn given_kafka_when_an_edge_is_restored_from_an_old_copy_then_no_later_event_is_missing_or_doubled() {
    let world = World::new("kafka-edge-restored");
    edge_is_restored(&world, &mut kafka::lease());
}

fn broker_is_rolled_back(world: &World, broker: &mut dyn Broker) {
    let (mut edge, _voicemail) = edge_on(world, broker);
    edge.start();
    let calls = Calls::start(world, &edge, caller(world, &edge), "calls");
    let mut before = broker.subscriber(world, "before");
    before.await_count(100);
    drop(before);
    // The store tells events of its own.
    let _ = edge.text(&["projections", "rebuild", "cdr"]);
    let copied = broker.copy();
    // It holds more than the copy when it is rolled back: more than there was at all when that was made.
    let at_the_copy = edge.events("").len();
    let mut doomed = broker.subscriber(world, "doomed");
    wait::until_true("tables to be read from the broker again, and anew", || {
        edge.verb(&["projections", "rebuild", "location", "calls"]).code == 0
    });
    calls.go_on(effort());
    doomed.await_count(at_the_copy + 50);
    drop(doomed);

    broker.roll_back(&copied);
    calls.go_on(1);
    calls.all_went_well();
    quiet(&edge);
    let journal = edge.events("");
    let mut fresh = broker.subscriber(world, "fresh");
    fresh.has_all(&journal);
    fresh.has_every_source_whole(3);
    contract::check(&journal);
    eprintln!("{} events, {} came", journal.len(), fresh.got.len());
}

fn calls_are_deleted(world: &World, broker: &dyn Broker) {
    let (mut edge, _voicemail) = edge_on(world, broker);
    edge.start();
    let calls = Calls::start(world, &edge, caller(world, &edge), "calls");
    let mut before = broker.subscriber(world, "before");
    before.await_count(100);
    drop(before);
    broker.delete_calls();
    calls.go_on(1);
    let good = calls.all_went_well();
    quiet(&edge);
    let journal = edge.events("");
    let mut fresh = broker.subscriber(world, "fresh");
    fresh.has_all(&journal);
    // And so has whoever read what was deleted.
    wait::until_true("a record of each call", || edge.rows(&["cdr", "--last", "10000"]).len() as u64 == good);
}

fn edge_is_restored(world: &World, broker: &mut dyn Broker) {
    let (mut edge, _voicemail) = edge_on(world, broker);
    edge.start();
    let from = caller(world, &edge);
    let mut subscriber = broker.subscriber(world, "subscriber");
    let calls = Calls::start(world, &edge, from, "before");
    subscriber.await_count(100);
    let copied = world.path("copied");
    copy(edge.data_dir(), &copied);
    calls.go_on(effort());
    calls.all_went_well();
    quiet(&edge);
    let lost_future = edge.events("");
    subscriber.has_all(&lost_future);
    edge.terminate();

    // When the disk is that of the copy.
    std::fs::remove_dir_all(edge.data_dir()).unwrap();
    copy(&copied, edge.data_dir());
    edge.start();
    // Calls that were up when the copy was made are up again, until their ends are asked; nothing waits for that here.
    let calls = Calls::start(world, &edge, caller(world, &edge), "after");
    calls.go_on(1);
    calls.all_went_well();

    // Then what it says from now on has a source of its own, which is complete at the subscriber, and no identity was
    // used for two events.
    let journal = edge.events("");
    let (old, new) = (&lost_future[0]["source"], &journal.last().unwrap()["source"]);
    assert_ne!(old, new);
    let started = edge.events("edge.started").pop().unwrap();
    let continues = started["data"]["continues"].as_str().unwrap();
    assert!(&started["source"] == new && old.as_str().unwrap().ends_with(continues), "{started:#}");
    subscriber.has_all(&journal);
    subscriber.has_all(&lost_future);
    let of_new = |events: &[Value]| -> BTreeSet<_> {
        events.iter().filter(|event| &event["source"] == new).map(identity).collect()
    };
    wait::until_true("nothing else of the new source at the subscriber", || {
        subscriber.look();
        of_new(&subscriber.got) == of_new(&edge.events(""))
    });
    eprintln!("{} events before, {} of the new source", lost_future.len(), of_new(&journal).len());
}

/// Waits until nothing is up any more.
fn quiet(edge: &Edge) {
    wait::until_true("all calls to end", || edge.rows(&["status"])[0]["calls"] == 0);
}

/// As a backup of a running machine does it: file by file, while they are written.
fn copy(from: &Path, to: &Path) {
    let _ = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(to.join("journal").is_dir());
}
