//! Thousands of connections that do next to nothing, and phones among them that notice nothing.
//!
//! `SIGNALBOX_EFFORT=20` tries 20,000 idle ones, then 5,000 over TLS and 5,000 slow senders; what files a process may open is
//! the limit, and is told.

use crate::authority::Authority;
use crate::brokered::effort;
use crate::given::{ACME, acme, hang_up, talk};
use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::phone::Wire;
use signalbox_e2e::{Edge, Phone, Process, World, http, wait};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const IDLE: u32 = 1000;
const OVER_TLS: u32 = 250;
const SLOW: u32 = 250;
/// Files of the edge that are no connections.
const OTHER_FILES: u32 = 200;
/// How long phones live among slow senders, for each unit of effort.
const AMONG_THEM: Duration = Duration::from_millis(1500);

#[test]
fn given_crowds_of_idle_and_slow_connections_then_all_are_held_and_phones_among_them_notice_nothing() {
    let world = World::new("crowds");
    let authority = Authority::new(&world, "ca");
    authority.sign(&world, "edge", "edge.test", 90);
    let pbx = Kamailio::start(&world, "pbx", world.at(2, 5060), world.ip(HOST));
    let dir = world.dir().display();
    let mut edge = Edge::configured(
        &world,
        &format!(
            "[connections]\nmax = 60000\nmax_per_source = 60000\nfirst_message_timeout = \"1h\"\nmessage_timeout = \"1h\"\n\
             [[listener]]\naddress = \"tcp:{}\"\n[[listener]]\naddress = \"tls:{}\"\n[[listener]]\naddress = \"udp:{0}\"\n\
             [[tls.certificate]]\ncertificate_file = \"{dir}/edge.pem\"\nkey_file = \"{dir}/edge.key\"\n{}",
            world.at(HOST, 5060),
            world.at(HOST, 5061),
            acme(pbx.address())
        ),
    );
    edge.start();
    edge.await_backend("pbx", "up");
    let mut told = vec![format!("edge alone: {}", used(&mut edge))];

    let most = files_max().saturating_sub(OTHER_FILES);
    let count = (IDLE * effort()).min(most);
    let idle = crowd(&world, &edge, "idle", count, 30);
    told.push(format!("{count} idle over TCP (of {} wanted): {}", IDLE * effort(), used(&mut edge)));
    wait::until_true("all to be held", || open(&edge) >= f64::from(count));
    live(&world, &edge, &authority.ca);
    drop(idle);
    wait::until_true("the idle ones to be gone", || open(&edge) < 50.0);

    let _tls = crowd(&world, &edge, "tls", OVER_TLS * effort(), 31);
    told.push(format!("{} over TLS: {}", OVER_TLS * effort(), used(&mut edge)));
    let _slow = crowd(&world, &edge, "slow", SLOW * effort(), 32);
    let (before, begun) = (cpu_ms(&mut edge), wait::now());
    let mut lives = 0;
    while begun.elapsed() < AMONG_THEM * effort().min(10) {
        live(&world, &edge, &authority.ca);
        lives += 1;
    }
    let (spent, elapsed) = (cpu_ms(&mut edge) - before, begun.elapsed().as_millis());
    told.push(format!(
        "and {} that send a byte a second: {}; {spent} ms of CPU in {elapsed} ms, with {lives} registrations and calls",
        SLOW * effort(),
        used(&mut edge)
    ));
    assert!(open(&edge) >= f64::from((OVER_TLS + SLOW) * effort()), "nobody was closed");
    let _ = std::io::stdout().write_all(format!("\n{}\n", told.join("\n")).as_bytes());
}

/// A crowd that is up, each of them accepted by the edge.
fn crowd(world: &World, edge: &Edge, kind: &str, count: u32, host: u8) -> Process {
    let before = accepted(edge);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/crowd.py");
    let to = world.at(HOST, if kind == "tls" { 5061 } else { 5060 });
    let mut command = Command::new("python3");
    command.arg(script).args([kind, &count.to_string(), &to.ip().to_string(), &to.port().to_string()]);
    let mut process = Process::start(world.dir(), kind, command.arg(world.ip(host).to_string()));
    wait::until_within(10 * wait::LONG, kind, || {
        assert!(process.ended().is_none(), "{}", process.stderr());
        process.stdout().contains("ready").then_some(())
    });
    wait::until_true("the edge to accept them", || accepted(edge) >= before + f64::from(count));
    process
}

/// A phone over TCP and one over TLS come, talk and go.
fn live(world: &World, edge: &Edge, ca: &Path) {
    let wires =
        [("401", Wire::tcp(world.at(HOST, 5060))), ("402", Wire::tls(world.at(HOST, 5061), ca, "edge.test"))];
    let [mut caller, mut called] = wires.map(|(user, (wire, local))| Phone::over(wire, local, user, ACME));
    for phone in [&mut caller, &mut called] {
        assert_eq!(phone.register(600).status(), Some(200));
    }
    let (mut dialog, _) = talk(&mut caller, &mut called, &format!("sip:402@{ACME}"));
    hang_up(&mut caller, &mut dialog, &mut called);
    for phone in [&mut caller, &mut called] {
        assert_eq!(phone.register(0).status(), Some(200));
    }
    assert!(edge.events("call.failed").is_empty());
}

/// Connections that the edge holds.
fn open(edge: &Edge) -> f64 {
    metric(edge, "signalbox_sip_connections{")
}

/// Those that it ever accepted.
fn accepted(edge: &Edge) -> f64 {
    metric(edge, "signalbox_sip_connections_accepted_total{")
}

fn metric(edge: &Edge, name: &str) -> f64 {
    let (_, text) = http::get(edge.admin(), "/metrics").expect("it serves");
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn used(edge: &mut Edge) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", edge.process().pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("Linux says so");
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

fn cpu_ms(edge: &mut Edge) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", edge.process().pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    // Linux counts in hundredths of a second whatever its own clock is.
    ticks * 10
}

/// What one process may open here.
fn files_max() -> u32 {
    let text = std::fs::read_to_string("/proc/self/limits").expect("Linux says so");
    let line = text.lines().find(|line| line.starts_with("Max open files")).expect("there is one");
    line.split_whitespace().nth(4).and_then(|hard| hard.parse().ok()).unwrap_or(u32::MAX)
}
