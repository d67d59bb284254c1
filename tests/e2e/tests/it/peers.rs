//! The peers themselves, without an edge between them: what the other stories take for granted.

use signalbox_e2e::asterisk::{Asterisk, Plan};
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::netns::Home;
use signalbox_e2e::phone::granted;
use signalbox_e2e::postgres::Database;
use signalbox_e2e::{Phone, Process, World, wait};
use std::path::PathBuf;
use std::process::Command;

#[test]
fn given_a_kamailio_when_phones_register_then_they_reach_each_other() {
    let world = World::new("kamailio-alone");
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(20));
    let mut alice = Phone::new("401", "acme.test", world.at(20, 5060), pbx.address());
    let mut bob = Phone::new("402", "acme.test", world.at(20, 5061), pbx.address());
    let (answer, contact) = (alice.register(300), alice.contact());
    assert_eq!((answer.status(), granted(&answer, &contact)), (Some(200), Some(300)), "{answer}");
    assert_eq!(bob.register(300).status(), Some(200));

    let calling = alice.dial("sip:402@acme.test");
    let invite = bob.rung();
    bob.answer(&invite, 180, "Ringing");
    let accepting = std::thread::spawn(move || (bob.accept(&invite), bob));
    let (answer, dialog) = alice.conclude(calling);
    let (_, mut bob) = accepting.join().unwrap();
    assert_eq!(answer.status(), Some(200));
    let mut dialog = dialog.unwrap();
    let hanging_up = std::thread::spawn(move || alice.hang_up(&mut dialog));
    let bye = bob.asked("BYE");
    bob.answer(&bye, 200, "OK");
    assert_eq!(hanging_up.join().unwrap().status(), Some(200));
    assert_eq!(pbx.invites_for("402"), 1);
}

#[test]
fn given_two_asterisks_then_each_registers_its_own_phones() {
    let world = World::new("asterisk-alone");
    let plan =
        Plan { users: &["401"], dialplan: "exten => _X.,1,Answer()\n same => n,Echo()", ..Plan::default() };
    let pbxs =
        [("a", 2), ("b", 3)].map(|(name, host)| Asterisk::start(&world, name, world.at(host, 5060), &plan));
    for (port, pbx) in [5060, 5061].into_iter().zip(&pbxs) {
        let mut phone = Phone::new("401", "acme.test", world.at(20, port), pbx.address());
        assert_eq!(phone.register(300).status(), Some(200));
        assert!(pbx.console("pjsip show contacts").contains(&format!("{}:{port}", world.ip(20))));
        let (answer, dialog) = phone.call("sip:500@acme.test");
        assert_eq!(answer.status(), Some(200), "{answer}");
        assert_eq!(phone.hang_up(&mut dialog.unwrap()).status(), Some(200));
    }
}

#[test]
fn given_a_home_then_its_packets_come_from_the_router() {
    let home = Home::build();
    let here = std::net::UdpSocket::bind((home.outside, 0)).unwrap();
    let there = home.socket(5060);
    there.send_to(b"out", here.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 16];
    let (_, from) = here.recv_from(&mut buffer).unwrap();
    assert_eq!(from.ip(), home.public);
    assert_ne!(from.port(), 5060);
    here.send_to(b"back", from).unwrap();
    assert_eq!(there.recv_from(&mut buffer).unwrap().0, 4);
}

#[test]
fn given_a_server_then_every_story_has_an_empty_database() {
    let (one, other) = (Database::create(), Database::create());
    assert_ne!(one.url(), other.url());
    let _ = one.query("CREATE TABLE t (n int)");
    assert_eq!(other.query("SELECT count(*) FROM information_schema.tables WHERE table_name = 't'"), ["0"]);
}

/// Tells a copy of this test that it is the one to be killed, and where to say what it started.
const VICTIM: &str = "SIGNALBOX_E2E_VICTIM";

#[test]
fn given_a_test_process_when_it_is_killed_then_what_it_started_is_gone() {
    if let Some(file) = std::env::var_os(VICTIM).map(PathBuf::from) {
        let started = Process::start(file.parent().unwrap(), "victim", Command::new("sleep").arg("1000"));
        std::fs::write(&file, started.pid().to_string()).unwrap();
        wait::until_within(10 * wait::LONG, "the end", || None::<()>);
    }
    let world = World::new("janitor");
    let file = world.path("pid");
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "peers::given_a_test_process_when_it_is_killed_then_what_it_started_is_gone"]);
    let mut copy = Process::start(world.dir(), "copy", copy.env(VICTIM, &file));
    let started = wait::until("the copy to start something", || {
        std::fs::read_to_string(&file).ok().filter(|text| !text.is_empty())
    });
    let its_process = PathBuf::from("/proc").join(started);
    assert!(its_process.exists());
    copy.kill();
    wait::until_true("the janitor", || !its_process.exists());
}
