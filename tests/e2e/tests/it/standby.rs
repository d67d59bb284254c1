//! Two processes want the tables: one folds, the other stands by and takes over.

use crate::brokered::Broker;
use crate::given::{acme, registered};
use nix::sys::signal::Signal;
use serde_json::Value;
use signalbox_brokers::{Nats, NatsOptions, kafka};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::postgres::Database;
use signalbox_e2e::{Edge, Process, World, http, wait};
use std::net::SocketAddr;

/// A process that folds, or stands by.
pub(crate) struct Folder {
    pub(crate) process: Process,
    admin: SocketAddr,
}

impl Folder {
    pub(crate) fn start(world: &World, edge: &Edge, name: &str, more: &[(&str, &str)]) -> Self {
        let admin = world.free(HOST);
        let text = admin.to_string();
        let own = ("SIGNALBOX__ADMIN__LISTEN", &*text);
        Self { process: edge.start_role("projections", name, &[&[own], more].concat()), admin }
    }

    fn store(&self) -> Option<Value> {
        self.component("store")
    }

    pub(crate) fn component(&self, name: &str) -> Option<Value> {
        let (_, health) = http::get(self.admin, "/health")?;
        let health: Value = serde_json::from_str(&health).unwrap();
        health["components"].as_array()?.iter().find(|one| one["name"] == name).cloned()
    }

    pub(crate) fn await_standby(&self, is: bool) -> Value {
        wait::until(if is { "a standby" } else { "a holder" }, || {
            self.store().filter(|store| store["standby"] == is)
        })
    }
}

/// With `bus`, a `[bus]` of the configuration, they read a broker.
fn one_folds_and_another_takes_over(world: &World, store: &str, bus: &str) {
    let pbx = Kamailio::start(world, "pbx", world.at(2, 5060), world.ip(HOST));
    let mut edge = Edge::with_store(world, store, &(bus.to_owned() + &acme(pbx.address())));
    edge.only(if bus.is_empty() { &["edge"] } else { &["edge", "relay"] });
    edge.start();
    let first = Folder::start(world, &edge, "first", &[]);
    first.await_standby(false);
    let mut second = Folder::start(world, &edge, "second", &[]);
    let told = second.await_standby(true);
    let first_pid = format!("pid {}", first.process.pid());
    assert!(told["detail"].as_str().unwrap().contains(&first_pid), "{told}");
    let said = second.process.stderr();
    assert_eq!(said.matches("standby: ").count(), 1, "{said}");
    assert!(said.contains(&first_pid), "{said}");
    let metrics = http::get(second.admin, "/metrics").unwrap().1;
    assert!(metrics.contains("signalbox_standby{component=\"store\"} 1"), "{metrics}");
    let mut phones = vec![registered(world, &edge, "401", 5060)];
    edge.await_rows(&["locations"], 1);

    // Stopped, it is silent until its lease has run out; continued, it has nothing to say any more.
    first.process.signal(Signal::SIGSTOP);
    second.await_standby(false);
    phones.push(registered(world, &edge, "402", 5061));
    edge.await_rows(&["locations"], 2);
    first.process.signal(Signal::SIGCONT);
    let told = first.await_standby(true);
    assert!(told["detail"].as_str().unwrap().contains(&format!("pid {}", second.process.pid())), "{told}");
    phones.push(registered(world, &edge, "403", 5062));
    edge.await_rows(&["locations"], 3);
    second.await_standby(false);

    // Killed, it leaves the lease to the other.
    second.process.kill();
    first.await_standby(false);
    phones.push(registered(world, &edge, "404", 5063));
    edge.await_rows(&["locations"], 4);

    // Stopped in order, it gives the lease back.
    let third = Folder::start(world, &edge, "third", &[]);
    third.await_standby(true);
    first.process.signal(Signal::SIGTERM);
    third.await_standby(false);
    let calls = edge.rows(&["locations"]);
    assert_eq!(calls.len(), 4);
}

#[test]
fn given_postgres_and_two_processes_when_one_is_killed_or_stopped_then_the_other_takes_over() {
    let world = World::new("standby-postgres");
    let database = Database::create();
    one_folds_and_another_takes_over(&world, &database.url(), "");
    wait::until_true("all tables to have the same holder", || {
        database.query("SELECT COUNT(DISTINCT holder) FROM projection_holder") == ["1"]
    });
}

#[test]
fn given_sqlite_and_two_processes_when_one_is_killed_or_stopped_then_the_other_takes_over() {
    let world = World::new("standby-sqlite");
    one_folds_and_another_takes_over(&world, "sqlite:signalbox.db", "");
}

#[test]
fn given_nats_and_two_processes_when_one_is_killed_or_stopped_then_the_other_takes_over() {
    let world = World::new("standby-nats");
    let (database, nats) = (Database::create(), Nats::start(NatsOptions::default()));
    one_folds_and_another_takes_over(&world, &database.url(), &Broker::config(&nats));
}

#[test]
fn given_kafka_and_two_processes_when_one_is_killed_or_stopped_then_the_other_takes_over() {
    let world = World::new("standby-kafka");
    let (database, kafka) = (Database::create(), kafka::lease());
    one_folds_and_another_takes_over(&world, &database.url(), &Broker::config(&kafka));
}

#[test]
fn given_another_edge_s_database_when_an_edge_with_its_own_journal_starts_then_it_is_refused_and_touches_nothing()
 {
    let world = World::new("foreign-database");
    let database = Database::create();
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let mut edge = Edge::with_store(&world, &database.url(), &acme(pbx.address()));
    edge.start();
    let _alice = registered(&world, &edge, "401", 5060);
    edge.await_rows(&["locations"], 1);
    let elsewhere = world.path("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let other =
        [("SIGNALBOX__EDGE__NAME", "edge-2"), ("SIGNALBOX__EDGE__DATA_DIR", elsewhere.to_str().unwrap())];
    let mut other = Folder::start(&world, &edge, "other", &other);
    let told = wait::until("the refusal", || other.store().filter(|store| store["state"] == "down"));
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("SB0403") && detail.contains("e2e/edge-1"), "{detail}");

    // Also once the first is gone: its rows are still its.
    edge.terminate();
    wait::until_true("one line about it", || other.process.stderr().contains("SB0403"));
    other.process.signal(Signal::SIGTERM);
    other.process.wait("its end");
    let said = other.process.stderr();
    assert_eq!(said.matches("SB0403").count(), 1, "{said}");
    assert_eq!(database.query("SELECT username, edge FROM location"), ["401|edge-1"]);
    let holders = database.query("SELECT DISTINCT holder FROM projection_holder");
    assert!(holders.len() == 1 && holders[0].starts_with("e2e/edge-1 "), "{holders:?}");
}
