//! A broker dies under a steady load of calls and comes back; roles in processes of their own.

use crate::brokered::{Broker, Calls, caller, edge_on, effort, lag, python};
use crate::given::phone;
use serde_json::Value;
use signalbox_brokers::{Nats, NatsOptions, kafka};
use signalbox_e2e::edge::{HOST, said};
use signalbox_e2e::{Edge, Process, World, contract, http, wait};
use std::time::Duration;

/// Runs of calls while the broker is away.
const RUNS_AWAY: u32 = 2;
/// With `SIGNALBOX_EFFORT` above 1 it is away for at least so long, and calls go on all the time.
const LONG_AWAY: Duration = Duration::from_secs(180);

#[test]
fn promise_4_given_nats_when_it_is_killed_under_load_and_comes_back_then_no_call_fails_and_nothing_is_lost() {
    let world = World::new("nats-away");
    broker_is_away(&world, &mut Nats::start(NatsOptions::default()));
}

#[test]
fn promise_4_given_kafka_when_it_is_killed_under_load_and_comes_back_then_no_call_fails_and_nothing_is_lost()
{
    let world = World::new("kafka-away");
    broker_is_away(&world, &mut kafka::lease());
}

fn broker_is_away(world: &World, broker: &mut dyn Broker) {
    let (mut edge, _voicemail) = edge_on(world, broker);
    edge.start();
    let mut subscriber = broker.subscriber(world, "subscriber");
    let calls = Calls::start(world, &edge, caller(world, &edge), "calls");
    subscriber.await_count(100);

    // When it is away while calls go on, and is back while they do.
    broker.kill9();
    let away = wait::Deadline::within(if effort() > 1 { LONG_AWAY } else { Duration::ZERO });
    calls.go_on(RUNS_AWAY);
    while away.left().is_some() {
        calls.go_on(1);
    }
    let waiting = lag(&edge).unwrap();
    assert!(waiting > 100.0, "the lag shows what waits: {waiting}");
    broker.start_again();
    calls.go_on(1);

    // Then no call has felt it, and the subscriber that was there all the time misses nothing.
    let good = calls.all_went_well_but_for_stalls(&edge);
    wait::until_true("all calls to end", || edge.rows(&["status"])[0]["calls"] == 0);
    let journal = edge.events("");
    subscriber.has_all(&journal);
    wait::until_true("the relay to have no lag", || lag(&edge) == Some(0.0));
    assert_eq!(edge.events("call.ended").len() as u64, good);
    contract::check(&journal);
    eprintln!(
        "{good} calls, {} events, {waiting} waited at the return, {} came",
        journal.len(),
        subscriber.got.len()
    );
}

#[test]
fn given_roles_in_three_processes_when_projections_read_nats_then_tables_are_those_of_the_journal() {
    let world = World::new("nats-roles");
    tables_from_the_bus_are_those_of_the_journal(&world, &mut Nats::start(NatsOptions::default()));
}

#[test]
fn given_roles_in_three_processes_when_projections_read_kafka_then_tables_are_those_of_the_journal() {
    let world = World::new("kafka-roles");
    tables_from_the_bus_are_those_of_the_journal(&world, &mut kafka::lease());
}

fn tables_from_the_bus_are_those_of_the_journal(world: &World, broker: &mut dyn Broker) {
    let (mut edge, _voicemail) = edge_on(world, broker);
    edge.only(&["edge"]);
    edge.start();
    let mut relay = role(world, &edge, "relay", "relay", &[]);
    let by_bus = role(world, &edge, "projections", "by-bus", &[]);
    let calls = Calls::start(world, &edge, caller(world, &edge), "calls");
    calls.go_on(1);
    // The relay may die at any moment, and go on where it was.
    relay.kill();
    calls.go_on(1);
    let relay = role(world, &edge, "relay", "relay-again", &[]);
    let good = calls.all_went_well();
    // A phone that is gone leaves a place where it was.
    let mut leaver = phone(world, &edge, "402", 5062);
    assert_eq!(leaver.register(600).status(), Some(200));
    assert_eq!(leaver.register(0).status(), Some(200));
    wait::until_true("all calls to end", || edge.events("call.ended").len() as u64 == good);

    let journal = [("SIGNALBOX__BUS__KIND", "journal"), ("SIGNALBOX__STORE__URL", "sqlite:by-journal.db")];
    let by_journal = role(world, &edge, "projections", "by-journal", &journal);
    // The edge goes on, but its last events are not of tables: backends are up.
    let rows = wait::until("equal tables", || {
        let bus = tables(&edge, "signalbox.db")?;
        let complete = bus.iter().filter(|row| row["table"] == "cdr").count() as u64 == good;
        let equal = complete && tables(&edge, "by-journal.db")? == bus;
        equal.then_some(bus)
    });
    let of = |table: &str| rows.iter().filter(|row| row["table"] == table).count();
    assert!(of("location") == 1 && of("location_history") == 1 && of("backend_history") > 0, "{rows:#?}");
    drop((relay, by_bus, by_journal));
    eprintln!("{good} calls, {} rows", rows.len());
}

/// A process of a role that is ready, with an admin port of its own.
fn role(world: &World, edge: &Edge, role: &str, name: &str, environment: &[(&str, &str)]) -> Process {
    let listen = world.free(HOST);
    let text = listen.to_string();
    let process =
        edge.start_role(role, name, &[environment, &[("SIGNALBOX__ADMIN__LISTEN", &*text)]].concat());
    wait::until_true(&format!("{name} to be ready"), || {
        http::get(listen, "/ready").is_some_and(|(status, _)| status == 200)
    });
    process
}

/// Every row of every table, as software that is not ours reads them; nothing while the tables are not made yet.
fn tables(edge: &Edge, file: &str) -> Option<Vec<Value>> {
    let read = said(python("tables.py").arg(edge.data_dir().join(file)));
    (read.code == 0).then(|| read.rows())
}
