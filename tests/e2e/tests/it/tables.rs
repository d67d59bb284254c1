//! The tables' database goes away under load and comes back; tables are dropped, and made anew.

use crate::given::{acme, edge_and_kamailio, registered};
use signalbox_e2e::edge::{Edge, said};
use signalbox_e2e::load::{self, Load};
use signalbox_e2e::postgres::Database;
use signalbox_e2e::{World, http, wait};
use std::process::Command;
use std::time::Duration;

/// Calls that are answered while the database is away.
const MEANWHILE: usize = 60;

/// Waits until so many more calls are answered than before; none of them fails for want of a database.
fn calls_go_on(load: &Load) {
    let before = load.seen();
    wait::until_within(Duration::from_secs(120), "calls to go on", || {
        (load.seen().answered.len() > before.answered.len() + MEANWHILE).then_some(())
    });
    let meanwhile = load.seen();
    assert!(meanwhile.registered.len() > before.registered.len(), "phones register as ever");
    let failed = |seen: &load::Seen| {
        seen.refused.iter().filter(|(status, _)| **status >= 500).map(|(_, n)| n).sum::<u32>()
    };
    assert_eq!(failed(&meanwhile), failed(&before), "{:?}", meanwhile.refused);
}

/// What a person and a program are told of the projections while their database is away.
fn is_told_to_be_away(edge: &Edge) {
    wait::until_true("status to say that the tables are away", || {
        let status = edge.text(&["status"]);
        status
            .lines()
            .any(|line| line.starts_with("projection cdr") && line.contains("away") && line.contains("since"))
    });
    let status = &edge.rows(&["status"])[0];
    let component = |name: &str| {
        let all = status["components"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let cdr = component("projection cdr");
    assert!(cdr["away_since"].is_string() && cdr["lag_seconds"].as_f64() > Some(0.0), "{cdr}");
    let (_, health) = http::get(edge.admin(), "/health").unwrap();
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["status"], "degraded", "{health}");
}

#[test]
fn promise_4_given_postgres_when_it_is_killed_under_load_and_comes_back_then_no_call_fails_and_nothing_is_lost()
 {
    let world = World::new("promise-4-postgres");
    let database = Database::on_its_own();
    let tenant = format!(
        "[[tenant]]\nname = \"load\"\ndomains = [\"{}\"]\nbackends = [{{ name = \"pbx\", address = \"udp:{}\" }}]\n",
        load::DOMAIN,
        load::pbx_address(&world)
    );
    let mut edge = Edge::with_store(&world, &database.url(), &tenant);
    edge.start();
    let load = Load::start(&world, edge.sip());
    let records = || database.query("SELECT COUNT(*) FROM cdr")[0].parse::<u64>().unwrap();
    let made = || database.query("SELECT COUNT(*) FROM pg_tables WHERE tablename = 'cdr'") == ["1"];
    wait::until_true("the first records", || made() && records() > 5);

    database.stop_server();
    calls_go_on(&load);
    is_told_to_be_away(&edge);
    database.start_server();
    let at_return = records();
    wait::until_true("the tables to catch up", || records() > at_return + MEANWHILE as u64);

    database.freeze_server();
    calls_go_on(&load);
    database.thaw_server();

    load.finish();
    let ended = |edge: &Edge| {
        let of = |pattern| {
            edge.events(pattern).into_iter().map(|event| event["data"]["cdr_id"].as_str().unwrap().to_owned())
        };
        let mut all: Vec<String> = of("call.ended").chain(of("call.failed")).collect();
        all.sort_unstable();
        all
    };
    wait::until_within(Duration::from_secs(120), "a record for every call that has ended", || {
        let mut recorded = database.query("SELECT cdr_id FROM cdr");
        recorded.sort_unstable();
        let up = load.seen().phones_up.len();
        (up <= load.seen().tried.len() / 5 && recorded == ended(&edge)).then_some(())
    });
    let seen = load.seen();
    assert!(seen.answered.len() > 2 * MEANWHILE, "there was a load");
    let counted = database.query("SELECT COUNT(*), COUNT(DISTINCT call_uid) FROM cdr");
    let (all, calls) = counted[0].split_once('|').unwrap();
    assert_eq!(all, calls, "one record for each call");
    let phones = database.query("SELECT username FROM location");
    assert!(
        seen.registered.keys().all(|user| phones.contains(user)),
        "a phone that was told 200 is in the tables"
    );
    wait::until_true("status to be well again", || !edge.text(&["status"]).contains("away"));
}

#[test]
fn given_a_dropped_table_when_the_edge_runs_then_it_heals_and_when_asked_a_rebuild_is_shown() {
    let world = World::new("dropped-table");
    let database = Database::create();
    let pbx = signalbox_e2e::kamailio::Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(1));
    let mut edge = Edge::with_store(&world, &database.url(), &acme(pbx.address()));
    edge.start();
    edge.await_backend("pbx", "up");
    let _alice = registered(&world, &edge, "401", 5060);
    edge.await_rows(&["locations"], 1);
    let id = |database: &Database| database.query("SELECT 'location'::regclass::oid").remove(0);
    let first = id(&database);

    database.run("DROP TABLE location");
    wait::until_true("the table to be made anew", || {
        let said = edge.verb(&["locations", "--json"]);
        said.code == 0 && said.stdout.lines().count() == 1
    });
    assert_ne!(id(&database), first);
    let told = database.query("SELECT type, subject FROM outbox ORDER BY sequence");
    assert_eq!(told, ["projection.rebuilt.v1|location"]);

    let second = id(&database);
    let text = edge.text(&["projections", "rebuild", "location"]);
    assert!(text.contains("location rebuilt"), "{text}");
    assert_ne!(id(&database), second);
    edge.await_rows(&["locations"], 1);
    let list = edge.text(&["projections"]);
    assert!(
        list.contains("location") && list.contains("done") && list.contains("folded by e2e/edge-1"),
        "{list}"
    );
    let wrong = edge.verb(&["projections", "rebuild", "nothing"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("SB0404"), "{wrong:?}");
}

#[test]
fn given_rows_that_the_database_refuses_when_that_is_mended_then_parked_tells_of_them_and_applies_or_skips_them()
 {
    let world = World::new("parked");
    let database = Database::create();
    let pbx = signalbox_e2e::kamailio::Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(1));
    let mut edge = Edge::with_store(&world, &database.url(), &acme(pbx.address()));
    edge.start();
    edge.await_backend("pbx", "up");
    database.run("ALTER TABLE location ADD CONSTRAINT picky CHECK (username NOT IN ('402', '403'))");
    let _phones = [("402", 5061), ("403", 5062), ("401", 5060)]
        .map(|(user, port)| registered(&world, &edge, user, port));
    edge.await_rows(&["locations"], 1);
    let parked = edge.rows(&["parked"]);
    let told: Vec<_> =
        parked.iter().map(|row| (row["subject"].as_str(), row["error_class"].as_str())).collect();
    assert_eq!(told, [(Some("acme/402@acme.test"), Some("row")), (Some("acme/403@acme.test"), Some("row"))]);
    let text = edge.text(&["parked"]);
    assert!(text.contains("acme/402@acme.test") && text.contains("picky"), "{text}");
    assert!(edge.text(&["projections"]).contains("2 aggregate(s) parked"));

    let retry = ["parked", "retry", "location", "acme/402@acme.test"];
    let again = edge.verb(&retry);
    assert!(
        again.code == 1 && again.stderr.contains("stays parked") && again.stderr.contains("picky"),
        "{again:?}"
    );
    database.run("ALTER TABLE location DROP CONSTRAINT picky");
    assert!(edge.text(&retry).contains("1 event(s) of acme/402@acme.test applied by location"));
    edge.await_rows(&["locations"], 2);
    let skipped = edge.rows(&["parked", "skip", "location", "acme/403@acme.test"]);
    assert_eq!((&skipped[0]["events"], &skipped[0]["done"]), (&1.into(), &"skipped".into()));
    assert_eq!(edge.text(&["parked"]), "nothing is parked\n");
    edge.await_rows(&["locations"], 2);
    let nothing = edge.verb(&retry);
    assert!(nothing.code == 1 && nothing.stderr.contains("SB0503"), "{nothing:?}");
}

#[test]
fn given_sqlite_when_all_tables_are_rebuilt_then_people_read_the_same_as_before() {
    let world = World::new("rebuilt-sqlite");
    let (edge, _pbx) = edge_and_kamailio(&world);
    let _alice = registered(&world, &edge, "401", 5060);
    let before = edge.await_rows(&["locations"], 1);
    let rebuilt = edge.rows(&["projections", "rebuild", "--all"]);
    assert_eq!(rebuilt.len(), 4, "{rebuilt:#?}");
    assert!(rebuilt.iter().all(|row| row["state"] == "done"), "{rebuilt:#?}");
    assert_eq!(edge.await_rows(&["locations"], 1), before);
}

#[test]
fn given_a_database_of_a_later_version_when_the_edge_starts_then_one_line_names_both_and_calls_go_on() {
    let world = World::new("later-version");
    let database = Database::create();
    let pbx = signalbox_e2e::kamailio::Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(1));
    let mut edge = Edge::with_store(&world, &database.url(), &acme(pbx.address()));
    edge.start();
    edge.await_rows(&["locations"], 0);
    edge.terminate();
    database.run(
        "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (99, 'later', '2026-11-21T00:00:00Z', '1'); \
         UPDATE store_meta SET value = '9.9.0' WHERE name = 'migrated_by'",
    );
    edge.start();
    let _alice = registered(&world, &edge, "401", 5060);
    let said_by = edge.verb(&["locations"]);
    assert_eq!(said_by.code, 1);
    for word in ["SB0402", "migration 99", "9.9.0", env!("CARGO_PKG_VERSION")] {
        assert!(said_by.stderr.contains(word), "{word}: {}", said_by.stderr);
    }
    let explained = said(Command::new(signalbox_e2e::edge::binary()).args(["explain", "SB0402"])).good();
    assert!(explained.contains("later version"), "{explained}");
}
