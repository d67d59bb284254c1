//! Doctor, backup and restore on a journal at rest, made by a short demo.

use crate::commands::{signalbox, stderr, stdout};
use std::net::UdpSocket;
use std::path::Path;

/// A free UDP port; the demo's HTTP port is another one.
fn port() -> String {
    let bound = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    bound.expect("loopback has a free port").port().to_string()
}

fn demo(dir: &Path) {
    let (sip, admin) = (port(), port());
    let args = ["demo", "--port", &sip, "--admin-port", &admin, "--stop-after", "6s"];
    let output = signalbox(dir, &args);
    let said = stderr(&output);
    assert!(output.status.success() && said.contains("nothing was lost"), "{said}");
}

#[test]
fn given_a_demo_that_ended_then_its_state_is_read_verified_backed_up_and_restored() {
    let dir = tempfile::tempdir().unwrap();
    demo(dir.path());
    let run = |args: &[&str]| {
        let output = signalbox(dir.path(), args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    let locations = run(&["locations", "--json"]);
    assert_eq!(
        locations.lines().filter(|l| l.contains("\"401\"")).count(),
        2,
        "401 of both tenants: {locations}"
    );
    assert!(run(&["tail", "--no-follow"]).contains("registration.added"));
    assert!(run(&["why", "401@acme.test"]).contains("registration.added"));
    let ambiguous = signalbox(dir.path(), &["why", "401"]);
    assert_eq!(ambiguous.status.code(), Some(2));
    assert!(stderr(&ambiguous).contains("signalbox why acme/401@acme.test"), "{}", stderr(&ambiguous));
    assert!(run(&["doctor"]).contains("sound"));
    assert!(run(&["doctor", "--dump", "1", "--last", "3"]).contains("edge.started.v1"));

    run(&["backup", "b.tar.zst"]);
    assert_eq!(
        signalbox(dir.path(), &["backup", "b.tar.zst"]).status.code(),
        Some(1),
        "a backup is never written over"
    );
    let restored = run(&["restore", "b.tar.zst", "--to", "again"]);
    assert!(restored.contains("a new id"), "{restored}");
    assert_eq!(
        signalbox(dir.path(), &["restore", "b.tar.zst", "--to", "again"]).status.code(),
        Some(1),
        "not over something"
    );
    let same = run(&["doctor", "--data-dir", "again"]);
    assert!(same.contains("sound"), "{same}");

    let mut bytes = std::fs::read(dir.path().join("b.tar.zst")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    std::fs::write(dir.path().join("bad.tar.zst"), bytes).unwrap();
    let bad = signalbox(dir.path(), &["restore", "bad.tar.zst", "--to", "nowhere"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(!dir.path().join("nowhere").exists(), "nothing of a bad backup is put in place");
}

#[test]
fn given_a_damaged_journal_when_the_doctor_looks_then_it_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    demo(dir.path());
    let journal = dir.path().join("target/demo/journal");
    let segment = std::fs::read_dir(&journal)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_some_and(|x| x == "seg"));
    let segment = segment.unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let output = signalbox(dir.path(), &["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("SB0303"), "{}", stderr(&output));
    assert!(stdout(&output).contains("DAMAGE"), "{}", stdout(&output));
}
