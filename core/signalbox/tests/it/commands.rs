//! Help, configuration, codes and schemas.

use std::path::Path;
use std::process::{Command, Output, Stdio};

pub(crate) fn signalbox(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_signalbox"))
        .args(args)
        .current_dir(dir)
        .env_remove("SIGNALBOX_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built with this test")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const VERBS: [&str; 21] = [
    "run",
    "demo",
    "init",
    "check",
    "reload",
    "stop",
    "status",
    "tail",
    "projections",
    "locations",
    "calls",
    "cdr",
    "backends",
    "why",
    "backup",
    "restore",
    "doctor",
    "explain",
    "schema",
    "log",
    "completions",
];

#[test]
fn every_verb_is_listed_and_shows_an_example() {
    let dir = tempfile::tempdir().unwrap();
    let list = stdout(&signalbox(dir.path(), &["--help"]));
    for verb in VERBS {
        assert!(list.lines().any(|l| l.trim_start().starts_with(&format!("{verb} "))), "{verb}: {list}");
        let help = stdout(&signalbox(dir.path(), &[verb, "--help"]));
        assert!(help.contains(&format!("Example: signalbox {verb}")), "{verb}: {help}");
    }
}

#[test]
fn given_nothing_when_a_command_needs_a_configuration_then_it_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    for verb in ["check", "status", "locations", "tail", "run", "doctor"] {
        let output = signalbox(dir.path(), &[verb]);
        assert_eq!(output.status.code(), Some(1), "{verb}");
        let said = stderr(&output);
        assert!(
            said.contains("SB0102") && said.contains("signalbox.toml") && said.contains("signalbox init"),
            "{verb}: {said}"
        );
    }
}

#[test]
fn given_answers_when_init_runs_then_what_it_wrote_passes_check() {
    let dir = tempfile::tempdir().unwrap();
    let answers = ["init", "--domain", "acme.example.net", "--pbx", "10.0.0.11", "--public", "203.0.113.5"];
    let output = signalbox(dir.path(), &answers);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("systemd") && said.contains("udp dport 5060"), "{said}");
    let check = signalbox(dir.path(), &["check"]);
    assert!(check.status.success() && stdout(&check).contains("good"), "{}", stderr(&check));
    let explained = stdout(&signalbox(dir.path(), &["check", "--explain", "--json"]));
    let line = explained.lines().find(|l| l.contains("\"journal.retain\"")).unwrap();
    assert!(line.contains("signalbox.toml:"), "{line}");
    let again = signalbox(dir.path(), &answers);
    assert_eq!(again.status.code(), Some(1), "an existing file is not written over");
    assert!(stderr(&again).contains("SB0103"));
}

#[test]
fn given_a_bus_when_init_runs_then_it_stands_in_the_file_with_its_login() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("edge.creds"), "seed").unwrap();
    let answers = ["init", "--domain", "acme.example.net", "--pbx", "10.0.0.11", "--public", "203.0.113.5"];
    let init =
        |name: &str, bus: &[&str]| signalbox(dir.path(), &[&answers[..], &["--out", name], bus].concat());
    let effective = |name: &str| -> Vec<serde_json::Value> {
        let explained = signalbox(dir.path(), &["check", "--explain", "--json", "--config", name]);
        assert!(explained.status.success(), "{}", stderr(&explained));
        stdout(&explained).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let value = |lines: &[serde_json::Value], key: &str| {
        lines.iter().find(|line| line["key"] == key).map(|line| line["value"].as_str().unwrap().to_owned())
    };
    let nats =
        ["--bus", "nats", "--bus-url", "tls://nats.example.net:4222", "--bus-credentials", "edge.creds"];
    let done = init("nats.toml", &nats);
    assert!(done.status.success(), "{}", stderr(&done));
    let lines = effective("nats.toml");
    assert!(value(&lines, "bus.kind").unwrap().contains("nats"), "{lines:?}");
    assert!(value(&lines, "bus.url").unwrap().contains("tls://nats.example.net:4222"));
    assert!(value(&lines, "bus.nats.credentials_file").unwrap().contains("edge.creds"));
    let kafka = ["--bus", "kafka", "--bus-url", "broker-1:9092", "--bus-user", "edge", "--bus-password-file"];
    let done = init("kafka.toml", &[&kafka[..], &["edge.creds"]].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let lines = effective("kafka.toml");
    assert!(value(&lines, "bus.tls").unwrap().contains("on"), "a password is not sent without it");
    assert!(value(&lines, "bus.kafka.user").unwrap().contains("edge"));
    // What does not fit together, and a file that is not there, are refused and leave nothing behind.
    for wrong in [
        &["--bus-url", "nats://10.0.0.1:4222"][..],
        &["--bus", "nats"],
        &["--bus", "nats", "--bus-url", "10.0.0.1:4222"],
        &["--bus", "nats", "--bus-url", "nats://10.0.0.1:4222", "--bus-credentials", "no-such-file"],
        &["--bus", "kafka", "--bus-url", "broker-1:9092", "--bus-credentials", "edge.creds"],
        &["--bus", "kafka", "--bus-url", "broker-1:9092", "--bus-user", "edge"],
    ] {
        assert!(!init("wrong.toml", wrong).status.success(), "{wrong:?}");
        assert!(!dir.path().join("wrong.toml").exists(), "{wrong:?}");
    }
}

#[test]
fn given_other_edges_when_init_runs_then_they_stand_in_the_file_and_a_key_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let init = |name: &str, more: &[&str]| {
        let answers =
            ["init", "--domain", "acme.example.net", "--pbx", "10.0.0.11", "--public", "203.0.113.5"];
        signalbox(dir.path(), &[&answers[..], &["--out", name], more].concat())
    };
    let nats = ["--bus", "nats", "--bus-url", "nats://10.0.9.9:4222"];
    let edges = ["--edges", "10.0.9.0/24", "--edges-listen", "10.0.9.1"];
    let key = || std::fs::read_to_string(dir.path().join("cluster.key"));
    // Not without a bus, and a wrong answer leaves no key behind.
    assert!(!init("one.toml", &edges).status.success());
    let wrong = ["--edges", "10.0.9.0/99", "--edges-listen", "10.0.9.1"];
    assert!(!init("one.toml", &[&nats[..], &wrong].concat()).status.success());
    assert!(key().is_err());
    let done = init("one.toml", &[&nats[..], &edges].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).contains("cluster.key") && stdout(&done).contains("udp dport 5070"));
    let check = signalbox(dir.path(), &["check", "--config", "one.toml"]);
    assert!(check.status.success() && !stderr(&check).contains("warning"), "{}", stderr(&check));
    let made = key().unwrap();
    assert_eq!(made.len(), 64);
    let done = init("two.toml", &[&nats[..], &edges].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(key().unwrap(), made, "one key for all");
}

#[test]
fn given_a_wrong_answer_when_init_runs_then_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let output = signalbox(
        dir.path(),
        &["init", "--domain", "acme.example.net", "--pbx", "10.0.0.300", "--public", "203.0.113.5"],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("10.0.0.300"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let asked = signalbox(dir.path(), &["init", "--domain", "acme.example.net"]);
    assert_eq!(asked.status.code(), Some(2), "no terminal to ask at");
    assert!(stderr(&asked).contains("--pbx"));
}

#[test]
fn given_a_mistake_when_check_runs_then_place_and_fix_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[[tenant]]\nname = \"acme\"\ndomains = [\"acme.test\"]\nbackends = [{ name = \"p\", address = \"udp:10.0.0.300\" }]\n";
    std::fs::write(dir.path().join("signalbox.toml"), text).unwrap();
    let output = signalbox(dir.path(), &["check"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("signalbox.toml:4:37  tenant[0].backends[0].address:"), "{said}");
    assert!(said.contains("^^^^^^^^^^^^^^^^") && said.contains("1 error. Nothing was changed."), "{said}");
}

#[test]
fn codes_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let page = stdout(&signalbox(dir.path(), &["explain", "SB0201"]));
    assert!(page.starts_with("SB0201") && page.contains("What to do:"), "{page}");
    assert!(stdout(&signalbox(dir.path(), &["explain", "--json"])).lines().all(|l| l.starts_with('{')));
    assert_eq!(signalbox(dir.path(), &["explain", "SB9999"]).status.code(), Some(1));
}

#[test]
fn the_contract_is_in_the_binary() {
    let dir = tempfile::tempdir().unwrap();
    let list = stdout(&signalbox(dir.path(), &["schema", "list", "--json"]));
    assert!(list.lines().count() >= 20);
    for line in list.lines() {
        let kind: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = kind["type"].as_str().unwrap();
        let schema = stdout(&signalbox(dir.path(), &["schema", "show", name]));
        let schema: serde_json::Value =
            serde_json::from_str(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(schema["title"], name);
    }
    assert!(stdout(&signalbox(dir.path(), &["schema", "asyncapi"])).contains("asyncapi: "));
    let config: serde_json::Value =
        serde_json::from_str(&stdout(&signalbox(dir.path(), &["schema", "config"]))).unwrap();
    assert!(config["properties"]["tenant"].is_object());
    assert_eq!(signalbox(dir.path(), &["schema", "show", "no.such"]).status.code(), Some(1));
}

#[test]
fn a_wrong_word_is_usage() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(signalbox(dir.path(), &["nonsense"]).status.code(), Some(2));
    assert_eq!(signalbox(dir.path(), &["stop", "--within", "soon"]).status.code(), Some(2));
}
