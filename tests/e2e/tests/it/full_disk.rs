//! A disk that is full: before the start, and while a call is up.

use crate::given::{acme, hang_up, hold_and_resume, phone, registered, talk};
use signalbox_e2e::edge::{HOST, said};
use signalbox_e2e::janitor::{self, Undo};
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::{Edge, Message, World, contract, wait};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// A small disk of the story's own.
struct Disk {
    dir: PathBuf,
    _unmount: Undo,
}

impl Disk {
    fn mount(world: &World) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "to mount a small disk needs root: run the e2e tests as root"
        );
        let dir = world.path("disk");
        fs::create_dir(&dir).unwrap();
        let unmount = janitor::at_end(&format!("umount -l {}", dir.display()));
        let mounted = said(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&dir));
        assert_eq!(mounted.code, 0, "{mounted:?}");
        Self { dir, _unmount: unmount }
    }

    /// Takes what room there is.
    fn fill(&self) {
        let mut hog = OpenOptions::new().create(true).append(true).open(self.hog()).unwrap();
        while hog.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives it back.
    fn free(&self) {
        fs::remove_file(self.hog()).unwrap();
    }

    fn hog(&self) -> PathBuf {
        self.dir.join("hog")
    }

    /// Files of the journal whose names fit.
    fn journal_files(&self, fits: impl Fn(&str) -> bool) -> usize {
        let files = fs::read_dir(self.dir.join("data/journal")).unwrap();
        files.filter(|file| fits(&file.as_ref().unwrap().file_name().to_string_lossy())).count()
    }
}

/// An edge that keeps its state there. Segments are small: the reserve is soon used.
fn edge_on(world: &World, disk: &Disk, pbx: SocketAddr) -> Edge {
    let mut edge = Edge::configured(world, "");
    edge.keep_in(disk.dir.join("data"));
    edge.write_config(&acme(pbx));
    let text = fs::read_to_string(edge.config()).unwrap();
    fs::write(edge.config(), text.replace("segment_size = \"4MiB\"", "segment_size = \"64KiB\"")).unwrap();
    edge
}

#[test]
fn given_a_full_disk_when_started_then_one_line_says_so_and_space_heals_it() {
    let world = World::new("full");
    let disk = Disk::mount(&world);
    disk.fill();
    let mut edge = edge_on(&world, &disk, world.at(2, 5060));
    let said = edge.start_in_vain();
    assert!(said.code == 1 && said.stderr.starts_with("SB0205"), "{said:?}");
    assert_eq!(said.stderr.lines().filter(|line| !line.starts_with('{')).count(), 2, "{said:?}");
    disk.free();
    edge.start();
}

/// The levels of room for the journal that were told so far.
fn levels(edge: &Edge) -> Vec<String> {
    let told = edge.events("edge.overloaded").into_iter().filter(|e| e["data"]["resource"] == "disk");
    told.map(|e| e["data"]["level"].as_str().unwrap().to_owned()).collect()
}

fn come_back_later(answer: &Message) -> bool {
    answer.status() == Some(503) && answer.header("Retry-After").is_some()
}

fn await_status(edge: &Edge, pressure: &str) {
    wait::until_true(pressure, || edge.rows(&["status"])[0]["pressure"] == pressure);
}

#[test]
fn given_a_call_when_the_disk_fills_then_it_ends_with_its_record_nothing_new_is_taken_and_space_heals_it() {
    let world = World::new("filling");
    let disk = Disk::mount(&world);
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let mut edge = edge_on(&world, &disk, pbx.address());
    edge.start();
    edge.await_backend("pbx", "up");
    let process = edge.process().pid();
    let (mut alice, mut bob) =
        (registered(&world, &edge, "401", 5060), registered(&world, &edge, "402", 5061));
    let (mut dialog, _) = talk(&mut alice, &mut bob, "sip:402@acme.test");

    // When nothing but the journal's reserve is left, which a new journal has within a moment, and phones go on registering until that is begun.
    let mut other = phone(&world, &edge, "403", 5062);
    wait::until_true("the journal's reserve", || disk.journal_files(|name| name.starts_with("spare-")) == 2);
    wait::until_true("a phone to be refused for want of room", || {
        disk.fill();
        come_back_later(&other.register_once(600)) && levels(&edge) == ["reserve"]
    });
    // Then nothing new is taken.
    let (refused, _) = alice.call("sip:402@acme.test");
    assert!(come_back_later(&refused), "{refused}");
    await_status(&edge, "reserve");

    // When what goes on in calls uses up the reserve, then the call can still be ended, and has its record.
    wait::until_true("the end of the reserve", || {
        disk.fill();
        hold_and_resume(&mut alice, &mut dialog, &mut bob);
        levels(&edge) == ["reserve", "full"]
    });
    await_status(&edge, "full");
    assert!(come_back_later(&other.register_once(600)));
    hang_up(&mut alice, &mut dialog, &mut bob);
    assert_eq!(edge.await_events("call.ended", 2).len(), 2, "each way through the edge is a call");

    // When there is room again, then phones are taken and calls are made, by the same process.
    disk.free();
    wait::until_true("room", || levels(&edge).last().is_some_and(|level| level == "normal"));
    assert_eq!(other.register(600).status(), Some(200));
    let (mut dialog, _) = talk(&mut alice, &mut bob, "sip:402@acme.test");
    hang_up(&mut alice, &mut dialog, &mut bob);
    let records = edge.await_rows(&["cdr"], 4);
    assert!(records.iter().all(|record| record["category"] == "answered"), "{records:#?}");
    assert_eq!(edge.process().pid(), process);
    assert_eq!(edge.rows(&["locations"]).len(), 3);
    // And what there was no room for while it was full has been made up for.
    wait::until_true("the digests of all segments that were told as sealed", || {
        let told = edge.events("journal.sealed").len();
        told >= 2 && disk.journal_files(|name| name.ends_with(".sha256")) == told
    });
    contract::check(&edge.events(""));
}
