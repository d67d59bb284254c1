//! Every command that the README shows is run as it stands there, but for its paths and names.

use crate::given::edge_and_kamailio;
use crate::given::registered;
use signalbox_e2e::{World, edge, wait};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

/// How a documented command is run here.
enum How {
    /// With these words instead; `{dir}` is the story's directory.
    Words(&'static [&'static str]),
    /// It goes on until it is stopped: it is started, and must be running when it has said something or nothing was
    /// to be said.
    Follows(&'static [&'static str]),
    /// Another story runs it: this names which.
    Elsewhere(&'static str),
}

use How::{Elsewhere, Follows, Words};

/// The README's commands, and what is run for each.
const COMMANDS: &[(&str, How)] = &[
    ("signalbox tail call", Follows(&["tail", "call"])),
    (
        "signalbox tail registration.added --json --from 2026-11-21T14:00:00Z",
        Words(&["tail", "registration.added", "--json", "--from", "2020-11-21T14:00:00Z", "--no-follow"]),
    ),
    ("signalbox locations", Words(&["locations"])),
    (
        "signalbox locations 401@acme.test --at 2026-11-21T14:03:00Z",
        Words(&["locations", "401@acme.test", "--at", "2026-11-21T14:03:00Z"]),
    ),
    ("signalbox cdr --last 10", Words(&["cdr", "--last", "10"])),
    (
        "signalbox cdr --since 1h --tenant acme --json",
        Words(&["cdr", "--since", "1h", "--tenant", "acme", "--json"]),
    ),
    ("signalbox why 401@acme.test", Words(&["why", "401@acme.test"])),
    ("signalbox why 127.0.0.1", Words(&["why", "{phone}"])),
    (
        "signalbox init --domain acme.example.net --pbx 10.0.0.11 --public 203.0.113.5",
        Words(&[
            "init",
            "--domain",
            "acme.example.net",
            "--pbx",
            "10.0.0.11",
            "--public",
            "203.0.113.5",
            "--out",
            "{dir}/own.toml",
        ]),
    ),
    ("signalbox check", Words(&["check"])),
    ("signalbox check --explain", Words(&["check", "--explain"])),
    ("signalbox run --config signalbox.toml", Elsewhere("every story runs it")),
    ("signalbox status", Words(&["status"])),
    ("signalbox reload", Words(&["reload"])),
    ("signalbox backends", Words(&["backends"])),
    ("signalbox backends drain pbx-1", Words(&["backends", "drain", "pbx"])),
    ("signalbox backends enable pbx-1", Words(&["backends", "enable", "pbx"])),
    ("signalbox route --from pbx --to 902079470000", Elsewhere("carriers.rs: route is asked")),
    (
        "signalbox route --from carrier --to +442079460001 --at 2026-11-21T22:00:00Z",
        Elsewhere("carriers.rs: route is asked"),
    ),
    ("signalbox backends drain carrier", Elsewhere("carriers.rs: route is asked")),
    (
        "signalbox log level debug --aor 401@acme.test",
        Words(&["log", "level", "debug", "--aor", "401@acme.test"]),
    ),
    (
        "signalbox log level info --aor 401@acme.test",
        Words(&["log", "level", "info", "--aor", "401@acme.test"]),
    ),
    ("signalbox backup /var/backups/signalbox.tar.zst", Words(&["backup", "{dir}/signalbox.tar.zst"])),
    ("signalbox doctor", Words(&["doctor"])),
    (
        "signalbox restore /var/backups/signalbox.tar.zst --to /var/lib/signalbox-restored",
        Words(&["restore", "{dir}/signalbox.tar.zst", "--to", "{dir}/restored"]),
    ),
    ("signalbox projections", Words(&["projections"])),
    ("signalbox projections rebuild cdr", Words(&["projections", "rebuild", "cdr"])),
    ("signalbox parked", Words(&["parked"])),
    ("signalbox schema list", Words(&["schema", "list"])),
    ("signalbox schema show call.ended", Words(&["schema", "show", "call.ended"])),
    ("signalbox schema asyncapi", Words(&["schema", "asyncapi"])),
    (
        "signalbox replay --to nats --from 2026-11-21T14:00:00Z --to 2026-11-21T15:00:00Z",
        Elsewhere("replays.rs: history on NATS"),
    ),
    ("signalbox replay --to kafka --domain call --tenant acme", Elsewhere("replays.rs: history on Kafka")),
    (
        "signalbox replay --to webhook --url https://example.net/in --token-file token --type call.ended",
        Elsewhere("examples.rs: a web service that breaks off"),
    ),
    ("signalbox replay --to file --out history.ndjson", Elsewhere("examples.rs: history in a file")),
    // The last: it ends the edge.
    ("signalbox stop --within 5m", Words(&["stop", "--within", "5m"])),
];

/// The commands in the README's shell blocks.
fn documented() -> BTreeSet<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let blocks = text.split("```sh").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).map(|l| l.split(" #").next().unwrap().trim().to_owned());
    lines.filter(|l| l.starts_with("signalbox ")).collect()
}

#[test]
fn given_the_readme_then_each_of_its_commands_runs() {
    let known: BTreeSet<String> = COMMANDS.iter().map(|(text, _)| (*text).to_owned()).collect();
    assert_eq!(documented(), known, "a command of the README is run below, and only those are");
    let world = World::new("documented");
    let (edge, _pbx) = edge_and_kamailio(&world);
    let phone = registered(&world, &edge, "401", 5060);
    let dir = world.dir().display().to_string();
    let words = |words: &[&str]| -> Vec<String> {
        words
            .iter()
            .map(|w| w.replace("{dir}", &dir).replace("{phone}", &phone.local.ip().to_string()))
            .collect()
    };
    for (text, how) in COMMANDS {
        match how {
            Words(list) => {
                let list = words(list);
                let said = edge.verb(&list.iter().map(String::as_str).collect::<Vec<_>>());
                assert_eq!(said.code, 0, "{text}: {said:?}");
                assert!(!said.stdout.is_empty() || text.contains("cdr"), "{text} says nothing: {said:?}");
            }
            Follows(list) => follows(edge.config(), list, text),
            Elsewhere(where_to) => assert!(!where_to.is_empty()),
        }
    }
}

/// It is still running when another command has come and gone.
fn follows(config: &Path, words: &[&str], text: &str) {
    let mut command = Command::new(edge::binary());
    command
        .args(words)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let dir = config.parent().unwrap();
    assert_eq!(edge::signalbox(dir, &["status"]).code, 0);
    let ended = child.try_wait().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ended.is_none(), "{text} ended: {ended:?}");
}

#[test]
fn given_an_error_code_when_explained_then_there_is_more_to_say() {
    let world = World::new("explain");
    let all = edge::signalbox(world.dir(), &["explain"]).good();
    for code in ["SB0101", "SB0201", "SB0301", "SB0501", "SB0900"] {
        assert!(all.contains(code), "{code} is missing: {all}");
        assert!(edge::signalbox(world.dir(), &["explain", code]).good().contains(code));
    }
    let unknown = edge::signalbox(world.dir(), &["explain", "SB9999"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
}

#[test]
fn given_each_verb_when_help_is_asked_for_then_it_shows_an_example() {
    let world = World::new("help");
    let help = edge::signalbox(world.dir(), &["--help"]).good();
    let verbs: Vec<&str> = help
        .lines()
        .filter_map(|l| l.strip_prefix("  ")?.split(' ').next())
        .filter(|v| !v.is_empty() && !v.starts_with('-'))
        .collect();
    assert!(verbs.len() >= 19, "{verbs:?}");
    for verb in verbs {
        let said = edge::signalbox(world.dir(), &[verb, "--help"]).good();
        assert!(said.contains("Example: signalbox"), "{verb}: {said}");
    }
    wait::until_true("completions", || edge::signalbox(world.dir(), &["completions", "bash"]).code == 0);
}
