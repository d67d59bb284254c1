//! What operators do to a running edge.

use crate::given::{acme, edge_and_kamailio, hang_up, hold_and_resume, phone, registered, talk};
use nix::sys::signal::Signal;
use signalbox_e2e::process::Process;
use signalbox_e2e::{Edge, World, contract, edge, http, wait};
use std::fs;
use std::process::Command;

#[test]
fn given_a_changed_file_when_reloaded_then_it_is_in_force_and_an_event_has_the_difference() {
    let world = World::new("reload");
    let (mut edge, pbx) = edge_and_kamailio(&world);
    let second = acme(pbx.address()).replace("[\"acme.test\"]", "[\"acme.test\", \"new.acme.test\"]");

    // By the verb.
    edge.write_config(&second);
    let said = edge.text(&["reload"]);
    assert!(said.contains("revision 2"), "{said}");
    let mut phone = signalbox_e2e::Phone::new("401", "new.acme.test", world.at(20, 5060), edge.sip());
    assert_eq!(phone.register(600).status(), Some(200), "the new domain is served");

    // By a signal.
    edge.write_config(&acme(pbx.address()));
    edge.process().signal(Signal::SIGHUP);
    let applied = edge.await_events("config.applied", 3);
    let revisions: Vec<_> = applied.iter().map(|e| e["data"]["revision"].as_u64()).collect();
    assert_eq!(revisions, [Some(1), Some(2), Some(3)]);
    let diff = |n: usize| applied[n]["data"]["diff"].to_string();
    assert!(
        diff(1).contains("new.acme.test") && diff(2).contains("new.acme.test"),
        "{} {}",
        diff(1),
        diff(2)
    );
    contract::check(&edge.events(""));
}

/// Tenants with many domains each, which all end in `zone`: more than an event can hold.
fn crowd(zone: &str) -> String {
    let tenant = |t: usize| {
        let domains: Vec<String> =
            (0..500).map(|d| format!("\"customer-{d:04}-of-{t:02}.{zone}\"")).collect();
        let domains = domains.join(", ");
        format!(
            "[[tenant]]\nname = \"crowd-{t:02}\"\ndomains = [{domains}]\n\
             backends = [{{ name = \"pbx-{t:02}\", address = \"udp:127.0.0.2:{}\" }}]\n",
            20_000 + t
        )
    };
    (0..40).map(tenant).collect()
}

#[test]
fn given_more_configuration_than_an_event_holds_then_it_starts_reloads_and_refuses_as_any_other() {
    let world = World::new("crowd");
    let pbx = world.at(2, 5060);
    let mut edge = Edge::configured(&world, &format!("{}{}", acme(pbx), crowd("first.customers.example")));
    edge.start();
    let applied = &edge.await_events("config.applied", 1)[0];
    assert_eq!(applied["data"]["omitted"], serde_json::json!(["tenant"]));
    assert!(applied["data"]["config"]["edge"].is_object());

    edge.write_config(&format!("{}{}", crowd("second.customers.example"), acme(pbx)));
    let said = edge.text(&["reload"]);
    assert!(said.contains("revision 2, 20000 changes"), "{said}");
    let applied = &edge.await_events("config.applied", 2)[1];
    assert_eq!(applied["data"]["diff"][0]["key"], "tenant.crowd-00.domains[0]", "tenants are called by name");
    assert_eq!(applied["data"]["more"].as_u64(), Some(19_800));

    edge.write_config(&format!("{}{}", acme(pbx), crowd("not a domain")));
    let said = edge.verb(&["reload"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(format!("{}{}", said.stdout, said.stderr).contains("more; `signalbox check`"), "{said:?}");
    edge.write_config(&acme(pbx));
    let rejected = &edge.await_events("config.rejected", 1)[0];
    assert!(rejected["data"]["more"].as_u64() > Some(1_000), "{:#}", rejected["data"]["more"]);
    contract::check(&edge.events(""));
}

#[test]
fn given_a_broken_file_when_reloaded_then_it_is_refused_with_its_place_and_the_old_one_stays() {
    let world = World::new("broken-reload");
    let (mut edge, pbx) = edge_and_kamailio(&world);
    edge.write_config(&acme(pbx.address()).replace("udp:", "udp:nowhere at all"));
    let said = edge.verb(&["reload"]);
    assert_eq!(said.code, 1, "{said:?}");
    let shown = format!("{}{}", said.stdout, said.stderr);
    assert!(shown.contains("signalbox.toml:") && shown.contains("backends[0].address"), "{shown}");
    let mut phone = phone(&world, &edge, "401", 5060);
    assert_eq!(phone.register(600).status(), Some(200), "the old one is in force");

    // By a signal there is nobody to tell, so the log and the event do.
    edge.process().signal(Signal::SIGHUP);
    wait::until_true("the refusal in the log", || edge.process().stderr().contains("backends[0].address"));
    edge.write_config(&acme(pbx.address()));
    let rejected = edge.await_events("config.rejected", 1);
    let error = &rejected[0]["data"]["errors"][0];
    assert_eq!(error["code"], "SB0101", "{error:#}");
    assert!(error["file"].as_str().unwrap().ends_with("signalbox.toml"), "{error:#}");
    assert!(error["line"].is_u64() && error["key"] == "tenant[0].backends[0].address", "{error:#}");
    assert_eq!(edge.events("config.applied").len(), 1);
}

#[test]
fn given_a_call_when_the_edge_is_told_to_stop_then_it_refuses_new_ones_and_waits_for_this_one() {
    let world = World::new("drain");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    let (mut alice, mut bob) =
        (registered(&world, &edge, "401", 5060), registered(&world, &edge, "402", 5061));
    let (mut dialog, _) = talk(&mut alice, &mut bob, "sip:402@acme.test");

    edge.process().signal(Signal::SIGTERM);
    let draining = &edge.await_events("edge.draining", 1)[0];
    assert!(draining["data"]["deadline_at"].as_str() > draining["time"].as_str(), "{draining:#}");
    let (status, _) = http::get(edge.admin(), "/ready").unwrap();
    assert_eq!(status, 503);
    let mut newcomer = phone(&world, &edge, "403", 5062);
    assert_eq!(newcomer.register_once(600).status(), Some(503));
    let (answer, _) = bob.call("sip:401@acme.test");
    assert_eq!(answer.status(), Some(503), "{answer}");
    hold_and_resume(&mut alice, &mut dialog, &mut bob);
    hang_up(&mut alice, &mut dialog, &mut bob);

    let said = edge.wait_end();
    assert_eq!(said.code, 0, "{said:?}");
    let last = said.stderr.lines().last().unwrap();
    assert!(last.contains("every call had ended") && last.contains("nothing was lost"), "{last}");
    let events = edge.events("");
    assert_eq!(contract::types(&events).last().map(String::as_str), Some("edge.stopped"));
    assert_eq!(events.last().unwrap()["data"]["clean"], true);
    assert!(!edge.data_dir().join("admin.sock").exists(), "the socket is gone");
    let said = edge.verb(&["status"]);
    assert!(said.code == 1 && said.stderr.contains("SB0501"), "{said:?}");
}

#[test]
fn given_a_call_that_goes_on_when_the_deadline_comes_then_the_next_start_finds_it_again() {
    let world = World::new("deadline");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    let (mut alice, mut bob) =
        (registered(&world, &edge, "401", 5060), registered(&world, &edge, "402", 5061));
    let (mut dialog, _) = talk(&mut alice, &mut bob, "sip:402@acme.test");

    let said = edge.verb(&["stop", "--within", "1s"]);
    assert_eq!(said.code, 0, "{said:?}");
    let end = edge.wait_end();
    assert!(end.code == 0 && end.stderr.contains("2 call(s)"), "{end:?}");

    edge.start();
    assert_eq!(edge.rows(&["status"])[0]["calls"].as_u64(), Some(2), "each way through the edge is a call");
    hang_up(&mut alice, &mut dialog, &mut bob);
    let rows = edge.await_rows(&["cdr"], 2);
    assert!(
        rows.iter().all(|r| r["completeness"] == "recovered" && r["category"] == "answered"),
        "{rows:#?}"
    );
    assert_eq!(edge.events("call.recovered").len(), 2);
}

#[test]
fn given_a_backend_when_it_is_drained_and_enabled_then_new_traffic_follows() {
    let world = World::new("drain-backend");
    let (edge, pbx) = edge_and_kamailio(&world);
    let mut alice = registered(&world, &edge, "401", 5060);
    let _bob = registered(&world, &edge, "402", 5061);
    let _ = edge.text(&["backends", "drain", "pbx"]);
    edge.await_backend("pbx", "draining");
    let (answer, _) = alice.call("sip:402@acme.test");
    assert!(answer.status() >= Some(480), "nobody else is there: {answer}");
    assert_eq!(pbx.invites_for("402"), 0);

    let _ = edge.text(&["backends", "enable", "acme/pbx"]);
    edge.await_backend("pbx", "up");
    let dialing = alice.dial("sip:402@acme.test");
    wait::until_true("the PBX to see the call", || pbx.invites_for("402") == 1);
    assert_eq!(alice.cancel(&dialing).status(), Some(200));
    let (answer, _) = alice.conclude(dialing);
    assert_eq!(answer.status(), Some(487), "{answer}");

    let said = edge.verb(&["backends", "drain", "nobody"]);
    assert!(said.code == 1 && said.stderr.contains("nobody"), "{said:?}");
    let acted: Vec<_> =
        edge.events("admin.acted").iter().map(|e| e["data"]["actor"].as_str().unwrap().to_owned()).collect();
    assert!(acted.len() >= 2 && acted.iter().all(|a| a == "root"), "who did it: {acted:?}");
}

#[test]
fn given_a_running_edge_when_backed_up_and_restored_then_the_copy_starts_with_everything() {
    let world = World::new("backup");
    let (mut edge, pbx) = edge_and_kamailio(&world);
    let (mut alice, mut bob) =
        (registered(&world, &edge, "401", 5060), registered(&world, &edge, "402", 5061));
    let (mut dialog, _) = talk(&mut alice, &mut bob, "sip:402@acme.test");
    hang_up(&mut alice, &mut dialog, &mut bob);
    let records = edge.await_rows(&["cdr"], 2);
    let archive = world.path("backup.tar.zst").display().to_string();
    let said = edge.text(&["backup", &archive]);
    assert!(said.contains("verified"), "{said}");
    let again = edge.verb(&["backup", &archive]);
    assert!(again.code == 1 && again.stderr.contains("SB0103"), "{again:?}");
    let journal = journal_of(&edge);
    assert_eq!(edge.terminate().code, 0);

    let target = world.path("restored");
    let into = target.display().to_string();
    let _ = edge.text(&["restore", &archive, "--to", &into]);
    assert!(target.join("config/signalbox.toml").is_file());
    let again = edge.verb(&["restore", &archive, "--to", &into]);
    assert!(again.code == 1 && again.stderr.contains("SB0602"), "{again:?}");
    edge.keep_in(target);
    edge.write_config(&acme(pbx.address()));
    assert!(edge.text(&["doctor"]).contains("sound"));
    edge.start();
    assert_eq!(edge.rows(&["locations"]).len(), 2);
    assert_eq!(edge.rows(&["cdr"]), records, "the same records");
    let renewed = journal_of(&edge);
    assert_ne!(renewed, journal, "numbers are never used twice: the journal goes on under a new id");
    let mut third = registered(&world, &edge, "403", 5062);
    assert_eq!(third.register(600).status(), Some(200));
    edge.await_rows(&["locations"], 3);
}

fn journal_of(edge: &Edge) -> String {
    edge.rows(&["status"])[0]["journal"].as_str().unwrap().to_owned()
}

#[test]
fn given_a_damaged_backup_when_restored_then_nothing_is_written() {
    let world = World::new("bad-backup");
    let (edge, _pbx) = edge_and_kamailio(&world);
    let archive = world.path("backup.tar.zst");
    let _ = edge.text(&["backup", &archive.display().to_string()]);
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let target = world.path("restored");
    let said = edge.verb(&["restore", &archive.display().to_string(), "--to", &target.display().to_string()]);
    assert!(said.code == 1 && said.stderr.contains("SB0601"), "{said:?}");
    assert!(fs::read_dir(&target).map_or(0, Iterator::count) == 0, "nothing was written");
}

#[test]
fn given_many_phones_when_one_is_watched_then_the_log_tells_of_it_alone() {
    let world = World::new("watch");
    let (mut edge, _pbx) = edge_and_kamailio(&world);
    let _ = edge.text(&["log", "level", "debug", "--aor", "401@acme.test"]);
    let (mut watched, mut other) =
        (registered(&world, &edge, "401", 5060), registered(&world, &edge, "402", 5061));
    let log = wait::until("the watched phone's steps", || {
        Some(edge.process().stderr()).filter(|l| l.contains("401@acme.test"))
    });
    assert!(!log.contains("402@acme.test"), "{log}");
    let _ = edge.text(&["log", "level", "info", "--aor", "401@acme.test"]);
    let lines =
        |edge: &mut Edge| edge.process().stderr().lines().filter(|l| l.contains("401@acme.test")).count();
    let before = lines(&mut edge);
    assert_eq!((watched.register(0).status(), other.register(0).status()), (Some(200), Some(200)));
    edge.await_rows(&["locations"], 0);
    assert_eq!(lines(&mut edge), before, "nobody is watched any more");
    let _ = edge.text(&["log", "level", "debug"]);
    let _ = edge.text(&["log", "level", "info"]);
}

#[test]
fn given_answers_on_the_command_line_when_init_runs_then_its_file_passes_check() {
    let world = World::new("init");
    let words = ["init", "--domain", "acme.example.net", "--pbx", "10.0.0.11", "--public", "203.0.113.5"];
    let said = edge::signalbox(world.dir(), &words).good();
    for part in ["ExecStart=", "CAP_NET_BIND_SERVICE", "udp dport 5060"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    let check = edge::signalbox(world.dir(), &["check"]).good();
    assert!(check.contains("1 tenant(s), 1 backend(s)"), "{check}");
    let explained = edge::signalbox(world.dir(), &["check", "--explain"]).good();
    assert!(explained.contains("probe.interval") && explained.contains("signalbox.toml:"), "{explained}");
    let again = edge::signalbox(world.dir(), &words);
    assert!(again.code == 1 && again.stderr.contains("SB0103"), "{again:?}");
    let wrong = edge::signalbox(
        world.dir(),
        &["init", "--force", "--domain", "x y", "--pbx", "10.0.0.300", "--public", "z"],
    );
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert_eq!(
        edge::signalbox(world.dir(), &["check"]).code,
        0,
        "a refused draft never replaces a good file"
    );
}

#[test]
fn given_nothing_when_the_demo_runs_for_a_moment_then_no_table_is_empty() {
    let world = World::new("demo");
    let (dir, admin) = (world.path("demo"), world.free(1));
    let mut command = Command::new(edge::binary());
    command.arg("demo").args(["--listen", &world.ip(1).to_string(), "--port", "5060"]);
    command.args(["--admin-port", &admin.port().to_string(), "--stop-after", "8s", "--dir"]).arg(&dir);
    let mut demo = Process::start(world.dir(), "demo", command.current_dir(world.dir()));
    let config = dir.join("demo.toml").display().to_string();
    let rows = |verb: &str| edge::signalbox(world.dir(), &[verb, "--json", "--config", &config]);
    wait::until_true("a call that is up", || {
        assert!(demo.ended().is_none(), "{}", demo.stderr());
        let calls = rows("calls");
        calls.code == 0 && !calls.rows().is_empty()
    });
    assert_eq!(demo.wait("the demo to stop by itself").code(), Some(0), "{}{}", demo.stdout(), demo.stderr());
    for verb in ["locations", "cdr", "backends"] {
        assert!(!rows(verb).rows().is_empty(), "{verb} is empty");
    }
    let events = edge::signalbox(world.dir(), &["tail", "--no-follow", "--json", "--config", &config]).rows();
    contract::check(&events);
}

#[test]
fn given_the_embedded_database_removed_when_the_edge_notices_then_its_tables_are_made_anew() {
    let world = World::new("removed-database");
    let (edge, _pbx) = edge_and_kamailio(&world);
    let mut phone = phone(&world, &edge, "401", 5060);
    assert_eq!(phone.register(600).status(), Some(200));
    edge.await_rows(&["locations"], 1);
    for name in ["signalbox.db", "signalbox.db-wal", "signalbox.db-shm"] {
        let _ = fs::remove_file(edge.data_dir().join(name));
    }
    let said = edge.verb(&["locations"]);
    assert!(said.code == 1 && said.stderr.contains("there is no store yet"), "not an empty answer: {said:?}");
    wait::until_true("the database to be there again", || edge.verb(&["locations"]).code == 0);
    edge.await_rows(&["locations"], 1);
}
