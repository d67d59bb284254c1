//! Tables that are folded from a real broker: made anew, and behind a broker that has lost what they had not read.

use crate::brokered::{Broker, Calls, caller, edge_audited, lag};
use crate::given::acme;
use crate::standby::Folder;
use nix::sys::signal::Signal;
use signalbox_brokers::{Nats, NatsOptions, kafka};
use signalbox_e2e::load::Voicemail;
use signalbox_e2e::postgres::Database;
use signalbox_e2e::{Edge, World, wait};

#[test]
fn given_nats_when_tables_are_rebuilt_from_it_then_they_are_what_they_were() {
    let world = World::new("nats-rebuild");
    tables_are_made_anew(&world, &Nats::start(NatsOptions::default()));
}

#[test]
fn given_kafka_when_tables_are_rebuilt_from_it_then_they_are_what_they_were() {
    let world = World::new("kafka-rebuild");
    tables_are_made_anew(&world, &kafka::lease());
}

fn tables_are_made_anew(world: &World, broker: &dyn Broker) {
    let (database, pbx) = (Database::create(), world.at(2, 5060));
    let _voicemail = Voicemail::start(pbx);
    let mut edge = Edge::with_store(world, &database.url(), &(broker.config() + &acme(pbx)));
    edge.start();
    let from = caller(world, &edge);
    let good = calls(world, &edge, from, "before");
    until_records(&database, good);
    let rows = || {
        ["location", "location_history", "calls", "cdr", "backend_state", "backend_history"]
            .map(|table| database.query(&format!("SELECT * FROM {table} t ORDER BY CAST(t AS TEXT)")))
    };
    let before = rows();
    database.run("UPDATE cdr SET caller = 'wrong'; UPDATE location SET contact = 'wrong'");
    database.run("DELETE FROM backend_history");
    let rebuilt = edge.rows(&["projections", "rebuild", "--all"]);
    assert!(rebuilt.len() == 4 && rebuilt.iter().all(|row| row["state"] == "done"), "{rebuilt:#?}");
    assert_eq!(rows(), before);
    // And they go on from where they are then.
    let more = calls(world, &edge, from, "after");
    until_records(&database, good + more);
}

/// Calls that have all ended; how many.
fn calls(world: &World, edge: &Edge, from: std::net::SocketAddr, name: &str) -> u64 {
    let calls = Calls::start(world, edge, from, name);
    calls.go_on(0);
    calls.all_went_well()
}

fn until_records(database: &Database, count: u64) {
    wait::until_true("a record of every call", || {
        database.query("SELECT COUNT(*) FROM cdr") == [count.to_string()]
    });
}

#[test]
fn given_nats_emptied_behind_a_reader_when_it_goes_on_then_the_loss_is_told_once_and_what_follows_is_folded()
{
    let world = World::new("nats-emptied");
    emptied_behind_a_reader(&world, &Nats::start(NatsOptions::default()));
}

#[test]
fn given_kafka_emptied_behind_a_reader_when_it_goes_on_then_the_loss_is_told_once_and_what_follows_is_folded()
{
    let world = World::new("kafka-emptied");
    emptied_behind_a_reader(&world, &kafka::lease());
}

fn emptied_behind_a_reader(world: &World, broker: &dyn Broker) {
    // An audit would publish again what was deleted.
    let (mut edge, _voicemail) = edge_audited(world, broker, "0s");
    edge.only(&["edge", "relay"]);
    edge.start();
    let folder = Folder::start(world, &edge, "first", &[]);
    folder.await_standby(false);
    let from = caller(world, &edge);
    let records = |count: u64| {
        wait::until_true("a record of every call that was there to be read", || {
            edge.verb(&["cdr", "--last", "10000", "--json"]).stdout.lines().count() as u64 == count
        });
    };
    let first = calls(world, &edge, from, "first-calls");
    records(first);
    drop(folder);

    let lost = calls(world, &edge, from, "lost-calls");
    wait::until_true("all of it on the broker", || lag(&edge) == Some(0.0));
    broker.empty_calls();
    let mut folder = Folder::start(world, &edge, "second", &[]);
    let third = calls(world, &edge, from, "third-calls");
    records(first + third);
    let detail = |folder: &Folder| folder.component("projection cdr")?["detail"].as_str().map(str::to_owned);
    wait::until_true("the health to tell of it", || {
        detail(&folder).is_some_and(|detail| detail.contains("gone from the bus"))
    });
    let told = |folder: &Folder| {
        let said = folder.process.stderr();
        said.lines().filter(|line| line.contains("gone from the bus before") && line.contains("cdr")).count()
    };
    folder.process.signal(Signal::SIGTERM);
    folder.process.wait("its end");
    assert_eq!(told(&folder), 1, "{}", folder.process.stderr());

    // A next process knows, says nothing and does not read all again; a rebuild keeps what there is.
    let folder = Folder::start(world, &edge, "third", &[]);
    let fourth = calls(world, &edge, from, "fourth-calls");
    records(first + third + fourth);
    assert!(detail(&folder).is_some_and(|detail| detail.contains("gone from the bus")));
    let said = folder.process.stderr();
    assert!(told(&folder) == 0 && !said.contains("read from their beginning"), "{said}");
    let rebuilt = edge.text(&["projections", "rebuild", "cdr"]);
    assert!(rebuilt.contains("carried over"), "{rebuilt}");
    records(first + third + fourth);
    wait::until_true("the health to be well again", || detail(&folder).is_none());
    eprintln!("{lost} records are lost, {first}, {third} and {fourth} are there");
}
