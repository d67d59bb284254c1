//! Other processes on real files: this test binary runs itself again as a reader and as a writer that is killed.

use crate::support::{Event, commit_events, effort, open_at, read_all, refused, sequences};
use signalbox_base::{EventSeq, Wall};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Error, Layout, Reader, Start};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const ROLE: &str = "SIGNALBOX_JOURNAL_TEST_ROLE";
const DIR: &str = "SIGNALBOX_JOURNAL_TEST_DIR";
const T: Wall = Wall::from_secs(1_000);

fn files() -> SharedStorage {
    Arc::new(FileStorage)
}

fn config(dir: &Path) -> Config {
    Config { segment_size: 64 * 1024, ..Config::new(dir) }
}

/// Starts this binary again with only [`the_other_process`] and a role for it.
fn spawn(role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::the_other_process", "--nocapture"])
        .env(ROLE, role)
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The numbers that the other process prints as `seq <n>`.
fn numbers(child: &mut Child) -> impl Iterator<Item = u64> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(|l| l.ok()).filter_map(|l| l.strip_prefix("seq ").and_then(|n| n.parse().ok()))
}

/// Does nothing in an ordinary run; with a role it is the other process of a story.
#[test]
fn the_other_process() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else { return };
    let dir = Path::new(&dir);
    let mut out = std::io::stdout();
    // The test harness has written part of a line before it hands over.
    writeln!(out).unwrap();
    match role.as_str() {
        "reader" => {
            let mut reader = Reader::open_dir(files(), Layout::new(dir), Start::Oldest).unwrap();
            for seq in sequences(&mut reader) {
                writeln!(out, "seq {seq}").unwrap();
            }
            assert!(matches!(refused(open_at(&files(), &config(dir), 2)), Error::Locked { .. }));
            writeln!(out, "seq 999999").unwrap();
        }
        _ => {
            let secs = i64::from(std::process::id());
            let (mut writer, _) = open_at(&files(), &config(dir), secs).unwrap();
            loop {
                let seq = commit_events(&mut writer, 3, T);
                writeln!(out, "seq {seq}").unwrap();
                out.flush().unwrap();
            }
        }
    }
}

#[test]
fn another_process_reads_to_the_watermark_and_may_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open_at(&files(), &config(dir.path()), 1).unwrap();
    while commit_events(&mut writer, 10, T) < EventSeq(300) {}
    Event::number(301, 5).append(&mut writer, T).unwrap();
    let mut child = spawn("reader", dir.path());
    let seen: Vec<_> = numbers(&mut child).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(seen, (1..=300).chain([999_999]).collect::<Vec<_>>());
}

#[test]
fn a_killed_writer_loses_nothing_it_told() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 * effort() {
        let mut child = spawn("writer", dir.path());
        let mut told = numbers(&mut child);
        let last = (0..20 + round).map_while(|_| told.next()).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let last = told.last().unwrap_or(last);
        let (writer, recovered) = open_at(&files(), &config(dir.path()), 1).unwrap();
        assert!(recovered.last >= EventSeq(last), "told {last}, recovered {}", recovered.last);
        let all = read_all(&mut writer.reader(Start::Oldest).unwrap()).unwrap();
        assert_eq!(all.len() as u64, recovered.last.0);
        for (seq, event) in all {
            assert_eq!(event, Event::number(seq.0, 200));
        }
    }
}

#[test]
fn a_backup_of_real_files_restores() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("data/journal");
    let (mut writer, _) = open_at(&files(), &config(&journal), 1).unwrap();
    while commit_events(&mut writer, 10, T) < EventSeq(300) {}
    let out = dir.path().join("one.tar.zst");
    let layout = Layout::new(&journal);
    signalbox_journal::backup::backup(&files(), &layout, &[], &out, T).unwrap();
    let target = dir.path().join("restored");
    signalbox_journal::restore::restore(&files(), &out, &target).unwrap();
    let (_, recovered) = open_at(&files(), &config(&target.join("journal")), 2).unwrap();
    assert_eq!(recovered.last, EventSeq(300));
    let room = files().space(dir.path()).unwrap();
    assert!(room.free > 0 && room.free <= room.total);
}
