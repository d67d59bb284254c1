//! kill -9 of the edge under load, again and again: at random moments, and between commits and their sends. What was said
//! on the wire stays true.

use crate::brokered::effort;
use serde_json::Value;
use signalbox_e2e::edge::Edge;
use signalbox_e2e::load::{self, Load, Seen};
use signalbox_e2e::postgres::Database;
use signalbox_e2e::{World, contract, wait};
use std::collections::BTreeMap;
use std::time::Duration;

/// Kills of one run, half of them at random and half between a commit and its send; `SIGNALBOX_EFFORT` multiplies them.
const ROUNDS: u32 = 20;
/// What a message may wait for when the edge is killed at its commit: anything, or a record of this type.
const HELD_BY: [&str; 7] = [
    "",
    ":registration.added",
    ":registration.removed",
    ":call.routed",
    ":call.answered",
    ":call.ended",
    ":call.failed",
];
const SEAMS: [&str; 2] = ["after-commit", "after-send"];
/// A kill comes within this of the edge being ready.
const LIFE_MS: u64 = 1500;

#[test]
fn promise_3_given_sqlite_when_the_edge_is_killed_under_load_then_everything_said_is_true() {
    let world = World::new("kills-sqlite");
    killed_again_and_again(&world, "sqlite:signalbox.db", 0);
}

#[test]
fn promise_3_given_postgres_when_the_edge_is_killed_under_load_then_everything_said_is_true() {
    let world = World::new("kills-postgres");
    let database = Database::create();
    // Where the other left off: together they pass every seam of every kind.
    killed_again_and_again(&world, &database.url(), ROUNDS / 2);
}

fn killed_again_and_again(world: &World, store: &str, first_step: u32) {
    let tenant = format!(
        "[[tenant]]\nname = \"load\"\ndomains = [\"{}\"]\nbackends = [{{ name = \"pbx\", address = \"udp:{}\" }}]\n",
        load::DOMAIN,
        load::pbx_address(world)
    );
    let mut edge = Edge::with_store(world, store, &tenant);
    edge.start();
    let load = Load::start(world, edge.sip());
    wait::until_true("the first call", || !load.seen().answered.is_empty());

    let mut random = Random::seeded();
    let rounds = ROUNDS * effort() / 2;
    for round in 0..rounds {
        random.moment();
        edge.kill();
        edge.live_until(&fail_point(first_step + round));
        if round + 1 == rounds {
            load.kill_mortals();
            wait::until_true("the mortal calls to die", || !load.seen().died.is_empty());
        }
        let calls_before = load.seen().tried.len();
        edge.start();
        wait::until_true("calls to go on", || load.seen().tried.len() > calls_before);
    }
    load.finish();
    everything_said_is_true(&edge, &load);
}

/// Steps through every seam of every kind of commit, then through the same of the next commit, and so on.
fn fail_point(step: u32) -> String {
    let (step, kinds, seams) = (step as usize, HELD_BY.len(), SEAMS.len());
    let nth = 1 + step / (kinds * seams);
    format!("{}:{nth}{}", SEAMS[step % seams], HELD_BY[step / seams % kinds])
}

/// Waits until both sides are quiet, then compares what was seen on the wire with events and tables.
fn everything_said_is_true(edge: &Edge, load: &Load) {
    // Recovered calls whose ends keep silent take their time: a probe, and as long as a transaction may last.
    wait::until_within(Duration::from_secs(120), "both sides to be quiet", || {
        let seen = load.seen();
        let up = edge.rows(&["status"])[0]["calls"].as_u64();
        (seen.phones_up.is_empty() && seen.pbx_up.is_empty() && up == Some(0)).then_some(())
    });
    let seen = load.seen();
    eprintln!(
        "calls {}, answered {}, refused {:?}, died at both ends {}; phones there {}, refreshed {}, moved {}, left {}",
        seen.tried.len(),
        seen.answered.len(),
        seen.refused,
        seen.died.len(),
        seen.registered.len(),
        seen.refreshed,
        seen.moved,
        seen.left.len()
    );
    assert!(seen.answered.len() > 100 && seen.registered.len() > 50, "there was a load: {seen:?}");
    assert!(
        seen.busy.len() > 10 && seen.left.len() > 10 && seen.refreshed > 10 && seen.moved > 10,
        "{seen:?}"
    );

    let records = records(edge);
    for call_id in &seen.answered {
        let cdrs = records.get(call_id).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(cdrs.len(), 1, "an answered call has exactly one record: {call_id} {cdrs:#?}");
        assert!(cdrs[0]["answered_at"].is_number(), "{:#}", cdrs[0]);
    }
    assert!(records.values().all(|cdrs| cdrs.len() == 1), "no call has two records");
    for call_id in &seen.busy {
        assert_eq!(records[call_id][0]["category"], "busy", "{:#}", records[call_id][0]);
    }
    for call_id in &seen.died {
        assert_eq!(records[call_id][0]["completeness"], "estimated", "{:#}", records[call_id][0]);
    }
    every_registered_phone_is_there(edge, &seen);
    contract::check(&edge.events(""));
}

type Records = BTreeMap<String, Vec<Value>>;

fn records(edge: &Edge) -> Records {
    let mut records = Records::new();
    for cdr in edge.rows(&["cdr", "--last", "1000000"]) {
        records.entry(cdr["ingress_call_id"].as_str().unwrap().to_owned()).or_default().push(cdr);
    }
    records
}

/// Each phone is where and for as long as its last 200 said; who was told that it is gone is gone.
fn every_registered_phone_is_there(edge: &Edge, seen: &Seen) {
    let rows = edge.rows(&["locations"]);
    let mut there: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in &rows {
        there.entry(row["username"].as_str().unwrap()).or_default().push(row);
    }
    for (user, said) in &seen.registered {
        let rows = there.get(&**user).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(rows.len(), 1, "told 200, and has one contact: {user} {said:?} {rows:#?}");
        assert_eq!(rows[0]["contact"], *said.contact, "{user} {said:?}");
        let end = rows[0]["expires_at"].as_i64().unwrap();
        assert!(said.expires_at.iter().any(|told| told.contains(&end)), "{user} {said:?} {:#}", rows[0]);
    }
    let back: Vec<_> = seen.left.iter().filter(|user| there.contains_key(&***user)).collect();
    assert!(back.is_empty(), "told that they are gone: {back:?}");
}

/// Moments of kills; the seed is printed, `SIGNALBOX_SEED` sets it.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let from_clock = || u64::try_from(wait::wall_micros() & 0xffff_ffff).unwrap_or(1);
        let seed = std::env::var("SIGNALBOX_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(from_clock);
        eprintln!("SIGNALBOX_SEED={seed}");
        Self(seed | 1)
    }

    /// Waits until a random moment.
    fn moment(&mut self) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        wait::spend(Duration::from_millis(self.0 % LIFE_MS));
    }
}
