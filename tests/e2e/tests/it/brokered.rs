//! An edge before a broker: its configuration, a steady load of calls, and a subscriber that is not ours.

use crate::given::{ACME, acme, phone};
use serde_json::Value;
use signalbox_brokers::kafka::Lease;
use signalbox_brokers::{Nats, Server, cache};
use signalbox_e2e::load::Voicemail;
use signalbox_e2e::sipp::{Counted, Sipp};
use signalbox_e2e::{Edge, Process, World, contract, http, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A call is up this long.
const TALK_MS: u32 = 200;
/// Calls of one run of SIPp; runs follow each other.
const CALLS_OF_RUN: u32 = 40;
const PER_SECOND: u32 = 20;
/// A relay whose broker has come back looks after ten seconds at the latest, and then has a backlog.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker under a story.
pub(crate) trait Broker: Server {
    /// `[bus]` for an edge.
    fn config(&self) -> String;
    /// A subscriber of everything, of another language and with a stock client.
    fn subscriber(&self, world: &World, name: &str) -> Subscriber;
    /// One of a replay, by its id.
    fn of_replay(&self, world: &World, id: &str) -> Subscriber;
    /// Deletes the events of calls.
    fn empty_calls(&self);
    /// Deletes where the events of calls lie, with all of them.
    fn delete_calls(&self);
}

impl Broker for Nats {
    fn config(&self) -> String {
        format!("[bus]\nkind = \"nats\"\nurl = \"{}\"\n[bus.nats]\nmax_bytes = \"1GiB\"\n", self.url())
    }
    fn subscriber(&self, world: &World, name: &str) -> Subscriber {
        Subscriber::start(world, name, "nats_all.py", &[&self.url()])
    }
    fn of_replay(&self, world: &World, id: &str) -> Subscriber {
        let subject = format!("signalbox.replay.{id}");
        Subscriber::start(world, &subject, "nats_all.py", &[&self.url(), "SIGNALBOX_REPLAY", &subject])
    }
    fn empty_calls(&self) {
        self.empty("SIGNALBOX_CALL");
    }
    fn delete_calls(&self) {
        self.delete("SIGNALBOX_CALL");
    }
}

impl Broker for Lease {
    fn config(&self) -> String {
        format!("[bus]\nkind = \"kafka\"\nurl = \"{}\"\n[bus.kafka]\npartitions = 3\n", self.url())
    }
    fn subscriber(&self, world: &World, name: &str) -> Subscriber {
        Subscriber::start(world, name, "kafka_all.py", &[&self.url()])
    }
    fn of_replay(&self, world: &World, id: &str) -> Subscriber {
        let topic = format!("signalbox.replay.{id}");
        Subscriber::start(world, &topic, "kafka_all.py", &[&self.url(), &topic])
    }
    fn empty_calls(&self) {
        self.empty("signalbox.call.v1");
    }
    fn delete_calls(&self) {
        self.delete("signalbox.call.v1");
    }
}

/// An edge on a broker, not started, and somebody who answers its calls.
pub(crate) fn edge_on(world: &World, broker: &dyn Broker) -> (Edge, Voicemail) {
    edge_with(world, &broker.config())
}

/// The same whose relay reads back so often what the broker has.
pub(crate) fn edge_audited(world: &World, broker: &dyn Broker, interval: &str) -> (Edge, Voicemail) {
    let audited = format!("[bus]\naudit_interval = \"{interval}\"\n");
    edge_with(world, &broker.config().replace("[bus]\n", &audited))
}

fn edge_with(world: &World, bus: &str) -> (Edge, Voicemail) {
    let pbx = world.at(2, 5060);
    let edge = Edge::configured(world, &(bus.to_owned() + &acme(pbx)));
    (edge, Voicemail::start(pbx))
}

/// Registers the load's caller at a started edge; where it calls from.
pub(crate) fn caller(world: &World, edge: &Edge) -> SocketAddr {
    edge.await_backend("pbx", "up");
    let answer = phone(world, edge, "401", 5060).register(3600);
    assert_eq!(answer.status(), Some(200), "{answer}");
    world.at(20, 5060)
}

/// What multiplies how long a story goes on.
pub(crate) fn effort() -> u32 {
    std::env::var("SIGNALBOX_EFFORT").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The metric of the relay's lag at an edge.
pub(crate) fn lag(edge: &Edge) -> Option<f64> {
    let (_, text) = http::get(edge.admin(), "/metrics")?;
    let line = text.lines().find(|line| line.starts_with("signalbox_lag_events{sink=\"relay"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Calls that go on until the story has enough of them.
pub(crate) struct Calls {
    stop: Arc<AtomicBool>,
    runs: Arc<AtomicU32>,
    thread: Option<JoinHandle<Counted>>,
}

impl Calls {
    /// Starts them. `name` tells this load from others of the story.
    pub(crate) fn start(world: &World, edge: &Edge, from: SocketAddr, name: &str) -> Self {
        let (stop, runs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counter, to) = (Arc::clone(&stop), Arc::clone(&runs), edge.sip());
        let run = {
            let (name, here) = (name.to_owned(), world.dir().to_owned());
            move |nth: u32| {
                let sipp = Sipp::within(&here, &format!("{name}-{nth}"), "call", from).to(to);
                let sipp = sipp.word("domain", ACME).talk(TALK_MS).lines(&["401;service".to_owned()]);
                sipp.calls(CALLS_OF_RUN, PER_SECOND).run()
            }
        };
        let thread = std::thread::spawn(move || {
            let mut all = Counted::default();
            while !stopped.load(Ordering::Acquire) {
                let one = run(counter.load(Ordering::Acquire));
                all.good += one.good;
                all.failed += one.failed;
                counter.fetch_add(1, Ordering::AcqRel);
            }
            all
        });
        Self { stop, runs, thread: Some(thread) }
    }

    /// Waits until so many more runs have begun and ended.
    pub(crate) fn go_on(&self, runs: u32) {
        let enough = self.runs.load(Ordering::Acquire) + runs + 1;
        wait::until_within(PATIENCE * effort(), "calls to go on", || {
            (self.runs.load(Ordering::Acquire) >= enough).then_some(())
        });
    }

    /// No more calls: none has failed, and how many there were.
    pub(crate) fn all_went_well(self) -> u64 {
        self.went_well_but_for(|| 0)
    }

    /// The same over minutes, in which a busy machine's disk may stall: the edge tells how many it refused for that.
    pub(crate) fn all_went_well_but_for_stalls(self, edge: &Edge) -> u64 {
        self.went_well_but_for(|| {
            let told = edge.events("edge.overloaded").into_iter().map(|event| event["data"].clone());
            told.filter(|data| data["resource"] == "commit").filter_map(|data| data["shed"].as_u64()).sum()
        })
    }

    fn went_well_but_for(mut self, refused: impl FnOnce() -> u64) -> u64 {
        self.stop.store(true, Ordering::Release);
        let counted = self.thread.take().unwrap().join().unwrap();
        let refused = refused();
        assert!(counted.failed <= refused, "{counted:?}, {refused} refused");
        assert!(counted.good > 0);
        counted.good
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // If it panicked, it has said why already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A running program of `tests/e2e/subscribers`, and what it has printed.
pub(crate) struct Subscriber {
    process: Process,
    out: PathBuf,
    read: u64,
    /// Everything that came, in the order in which it came, with what came twice.
    pub(crate) got: Vec<Value>,
}

impl Subscriber {
    pub(crate) fn start(world: &World, name: &str, script: &str, args: &[&str]) -> Self {
        let process = Process::start(world.dir(), name, python(script).args(args));
        Self { process, out: world.path(&format!("{name}.out")), read: 0, got: Vec::new() }
    }

    /// Reads what has been printed since the last look.
    pub(crate) fn look(&mut self) {
        let ended = self.process.ended();
        assert!(ended.is_none(), "the subscriber ended ({ended:?}): {}", self.process.stderr());
        let mut text = String::new();
        let mut file = File::open(&self.out).unwrap();
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let _ = file.read_to_string(&mut text);
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let read = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].take();
        self.got.extend(text[..whole].lines().map(read));
    }

    /// Waits until at least so many events have come.
    pub(crate) fn await_count(&mut self, count: usize) {
        wait::until_within(PATIENCE, &format!("{count} events at the subscriber"), || {
            self.look();
            (self.got.len() >= count).then_some(())
        });
    }

    /// Waits for so many events, and takes them.
    pub(crate) fn await_all(mut self, count: usize) -> Vec<Value> {
        self.await_count(count);
        self.got
    }

    /// Waits until every event of the journal has come; then it has come once but for repetitions that say the same, and
    /// each key's in order. Events that are not in `journal` may have come too: what the edge did since.
    pub(crate) fn has_all(&mut self, journal: &[Value]) {
        let expected: BTreeSet<_> = journal.iter().map(identity).collect();
        let deadline = wait::Deadline::within(PATIENCE);
        loop {
            self.look();
            let there: BTreeSet<_> = self.got.iter().map(identity).collect();
            let missing: Vec<_> = expected.difference(&there).collect();
            if missing.is_empty() {
                break;
            }
            let stderr = self.process.stderr();
            assert!(
                deadline.left().is_some(),
                "{} of {} never came: {missing:?}\n{stderr}",
                missing.len(),
                expected.len()
            );
            wait::pause();
        }
        let once = self.once();
        for event in journal {
            assert_eq!(once[&identity(event)], event, "as the journal has it");
        }
        self.each_key_is_in_order();
    }

    /// Waits until each source that has told anything is there whole, from its first event on, and of the store at least so
    /// many.
    pub(crate) fn has_every_source_whole(&mut self, of_the_store: usize) {
        wait::until_within(PATIENCE, "every source to be whole", || {
            self.look();
            let mut sources: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
            for (source, sequence) in self.got.iter().map(identity) {
                sources.entry(source).or_default().insert(sequence.parse().unwrap());
            }
            let whole = sources.values().all(|seen| seen.last() == Some(&(seen.len() as u64)));
            let store = sources.iter().find(|(source, _)| source.contains(":store:"));
            (whole && store.map_or(0, |(_, seen)| seen.len()) >= of_the_store).then_some(())
        });
        self.each_key_is_in_order();
    }

    /// By source and sequence.
    fn once(&self) -> BTreeMap<(String, String), &Value> {
        let mut once = BTreeMap::new();
        for event in &self.got {
            let first = *once.entry(identity(event)).or_insert(event);
            assert_eq!(first, event, "two events with one identity");
        }
        once
    }

    fn each_key_is_in_order(&self) {
        let (mut seen, mut last) = (BTreeSet::new(), BTreeMap::new());
        for event in self.got.iter().filter(|event| seen.insert(identity(event))) {
            let text = |name| contract::text(event, name).to_owned();
            let domain = text("type").split('.').nth(2).unwrap().to_owned();
            let sequence = text("sequence");
            if let Some(before) =
                last.insert((text("source"), domain, text("partitionkey")), sequence.clone())
            {
                assert!(before < sequence, "{sequence} after {before} of one key: {event}");
            }
        }
    }
}

/// What an event is told from all others by.
pub(crate) fn identity(event: &Value) -> (String, String) {
    (contract::text(event, "source").to_owned(), contract::text(event, "sequence").to_owned())
}

/// A program of `tests/e2e/subscribers`, in the Python that has the clients.
pub(crate) fn python(script: &str) -> Command {
    let mut command = Command::new(cache().join("python/bin/python"));
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("subscribers").join(script));
    command
}
