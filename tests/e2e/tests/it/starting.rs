//! What stops a start: one line that says what, where and what to do, and exit code 1.

use crate::given::acme;
use signalbox_e2e::edge::{Said, binary, said, signalbox};
use signalbox_e2e::{Edge, World};
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Asserts a refusal: its code, its exit status, no panic, and that it is short.
fn refused(said: &Said, code: &str, names: &[&str]) {
    assert_eq!(said.code, 1, "{said:?}");
    let lines: Vec<&str> = said.stderr.lines().filter(|l| !l.starts_with('{')).collect();
    assert!(lines.len() <= 2, "what, where, and what to do: {lines:#?}");
    assert!(lines[0].starts_with(code), "{lines:#?}");
    assert!(names.iter().all(|name| said.stderr.contains(name)), "{names:?} in {lines:#?}");
    assert!(!said.stderr.contains("panicked"), "{said:?}");
}

fn edge(world: &World) -> Edge {
    Edge::configured(world, &acme(world.at(2, 5060)))
}

#[test]
fn given_a_wrong_value_when_checked_then_its_place_and_its_fix_are_shown_and_nothing_changes() {
    let world = World::new("check");
    let text = "[[tenant]]\nname = \"acme\"\ndomains = [\"acme.test\"]\n\
                backends = [{ name = \"pbx-2\", address = \"udp:10.0.0.300\" }]\n";
    let _ = world.file("signalbox.toml", text);
    let said = signalbox(world.dir(), &["check"]);
    assert_eq!(said.code, 1, "{said:?}");
    let shown = format!("{}{}", said.stdout, said.stderr);
    for part in [
        "signalbox.toml:4:41",
        "backends[0].address",
        "\"udp:10.0.0.300\" is not an IP address or host name",
        "^^^^^^^^^^^^^^^^",
        "udp:10.0.0.30:5060",
        "1 error. Nothing was changed.",
    ] {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
}

#[test]
fn given_an_unknown_key_or_no_file_when_run_then_it_says_so_and_does_not_start() {
    let world = World::new("unknown-key");
    let _ = world.file("signalbox.toml", "[edge]\nclutser = \"prod\"\n");
    let said = signalbox(world.dir(), &["run"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("signalbox.toml:2:") && said.stderr.contains("clutser"), "{said:?}");
    assert!(said.stderr.contains("cluster"), "it knows what was meant: {said:?}");
    let said = signalbox(world.dir(), &["run", "--config", "missing.toml"]);
    assert!(said.code == 1 && said.stderr.contains("missing.toml"), "{said:?}");
    let said = signalbox(world.dir(), &["rum"]);
    assert_eq!(said.code, 2, "{said:?}");
}

#[test]
fn given_a_journal_of_another_edge_when_started_then_it_refuses_and_names_both() {
    let world = World::new("foreign");
    let mut edge = edge(&world);
    edge.start();
    assert_eq!(edge.terminate().code, 0);
    let text = fs::read_to_string(edge.config()).unwrap().replace("cluster = \"e2e\"", "cluster = \"other\"");
    fs::write(edge.config(), text).unwrap();
    let said = edge.start_in_vain();
    assert!(said.stderr.contains("SB0301") && said.code == 1, "{said:?}");
    assert!(said.stderr.contains("e2e/edge-1") && said.stderr.contains("other/edge-1"), "{said:?}");
}

#[test]
fn given_a_journal_of_a_later_version_when_started_then_it_refuses_and_changes_nothing() {
    let world = World::new("future");
    let mut edge = edge(&world);
    edge.start();
    assert_eq!(edge.terminate().code, 0);
    let segment = last_segment(&edge);
    let mut bytes = fs::read(&segment).unwrap();
    // The format says: the version stands at byte 8. A later version may have another header behind it.
    bytes[8] = 2;
    fs::write(&segment, &bytes).unwrap();
    let said = edge.start_in_vain();
    assert!(said.stderr.contains("SB0302") && said.code == 1, "{said:?}");
    assert!(fs::read(&segment).unwrap() == bytes, "nothing was changed");
}

fn last_segment(edge: &Edge) -> std::path::PathBuf {
    let entries = fs::read_dir(edge.data_dir().join("journal")).unwrap().flatten().map(|e| e.path());
    entries.filter(|p| p.extension().is_some_and(|x| x == "seg")).max().unwrap()
}

#[test]
fn given_damage_in_the_middle_when_started_then_it_refuses_and_doctor_shows_where() {
    let world = World::new("damage");
    let mut edge = edge(&world);
    edge.start();
    assert_eq!(edge.terminate().code, 0);
    assert!(edge.verb(&["doctor"]).good().contains("sound"));
    let segment = last_segment(&edge);
    let mut bytes = fs::read(&segment).unwrap();
    // Inside the first batch; good ones follow, so this is no torn tail.
    bytes[4096 + 100] ^= 0x40;
    fs::write(&segment, &bytes).unwrap();
    let said = edge.start_in_vain();
    assert!(said.stderr.contains("SB0303") && said.code == 1, "{said:?}");
    let doctor = edge.verb(&["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("byte 4096"), "{doctor:?}");
}

#[test]
fn given_a_busy_port_when_started_then_one_line_names_it() {
    let world = World::new("busy");
    let mut edge = edge(&world);
    let sip = edge.sip();
    let taken = UdpSocket::bind(sip).unwrap();
    refused(&edge.start_in_vain(), "SB0201", &[&sip.to_string(), "ss -lunp"]);
    drop(taken);
    let admin = edge.admin();
    let taken = std::net::TcpListener::bind(admin).unwrap();
    // Another program's log must not hide the line: a fresh one is read.
    fs::remove_file(world.path("edge-1.err")).unwrap();
    refused(&edge.start_in_vain(), "SB0201", &[&admin.to_string()]);
    drop(taken);
    edge.start();
}

#[test]
fn given_a_second_edge_on_the_same_data_when_started_then_it_refuses() {
    let world = World::new("second");
    let mut edge = edge(&world);
    edge.start();
    let said = said(Command::new(binary()).arg("run").arg("--config").arg(edge.config()));
    refused(&said, "SB0206", &[]);
    assert!(edge.rows(&["status"])[0]["phase"].is_string(), "the first goes on");
}

#[test]
fn given_no_right_when_started_as_nobody_then_one_line_says_which() {
    assert!(nix::unistd::geteuid().is_root(), "to become nobody needs root: run the e2e tests as root");
    let world = World::new("nobody");
    let edge = edge(&world);
    fs::create_dir(edge.data_dir()).unwrap();
    fs::set_permissions(edge.data_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the binary was built, nobody may not be let in.
    let own = world.path("signalbox");
    fs::copy(binary(), &own).unwrap();
    let as_nobody = ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"];
    let mut command = Command::new("setpriv");
    command.args(as_nobody).arg(&own).arg("run").arg("--config").arg(edge.config()).current_dir(world.dir());
    let said = said(&mut command);
    let data_dir = edge.data_dir().display().to_string();
    refused(&said, "SB0202", &[&data_dir]);
}
