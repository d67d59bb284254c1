//! The relay's thread between a real journal and a broker in memory.

use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Wall};
use signalbox_bus::publisher::{
    Broker, Connection, Encoder, Failure, Found, Inspection, LaneFound, LaneId, LaneName, LaneSaved,
    Outgoing, Own, Publisher, Ticket, Told,
};
use signalbox_bus::relay::{
    JournalOrigin, Link, Look, Note, Origin, Relay, RelayHandle, RelayOptions, Saved, State,
};
use signalbox_bus::wire::{GROUPS, NatsEncoder, digest};
use signalbox_bus::{BoxFuture, Delivered, Error, Gap, Source};
use signalbox_journal::storage::{FileStorage, SharedStorage};
use signalbox_journal::{Config, Journal, Layout, NewRecord, Writer};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc as channel;

const LONG: Duration = Duration::from_secs(60);

/// A broker in memory: a lane per stream, each place an event or, where it was deleted, nothing.
#[derive(Clone, Default)]
struct Fake(Arc<(Mutex<Store>, Condvar)>);

#[derive(Default)]
struct Store {
    lanes: [Vec<Option<Delivered>>; 4],
    down: bool,
    /// Acknowledged and lost, once each.
    loses: Vec<u64>,
    tell: Option<channel::UnboundedSender<Told>>,
}

impl Fake {
    fn with<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let changed = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        changed
    }

    /// Waits until it holds so many events.
    fn holds(&self, events: usize) {
        let store = self.0.0.lock().unwrap();
        let fewer = |store: &mut Store| store.lanes.iter().flatten().flatten().count() < events;
        let (store, waited) = self.0.1.wait_timeout_while(store, LONG, fewer).unwrap();
        assert!(!waited.timed_out(), "{:?}", store.lanes.each_ref().map(Vec::len));
    }

    fn seqs(&self) -> Vec<u64> {
        let seqs =
            |store: &mut Store| store.lanes.iter().flatten().flatten().map(|event| event.seq.0).collect();
        let mut seqs: Vec<u64> = self.with(seqs);
        seqs.sort_unstable();
        seqs
    }

    fn die(&self) {
        self.with(|store| {
            store.down = true;
            let told = store.tell.take().map(|tell| tell.send(Told::Lost("killed".into())));
            assert!(told.is_none_or(|sent| sent.is_ok()));
        });
    }
}

fn found(event: &Delivered, place: usize) -> Found {
    let id = signalbox_bus::publisher::Identity { journal: event.source.journal, seq: event.seq };
    let (domain_seq, domain) = (event.domain_seq, event.domain().into());
    Found { id, domain_seq, domain, place: place as u64, digest: Some(digest(event)) }
}

impl Broker for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn encoder(&self) -> Box<dyn Encoder> {
        Box::new(NatsEncoder::new())
    }

    fn connect(&self) -> BoxFuture<'_, Result<Connection, Failure>> {
        let lane = |group: &signalbox_bus::wire::Group| LaneName {
            name: group.stream.into(),
            incarnation: "1".into(),
        };
        let (tell, told) = channel::unbounded_channel();
        let up = self.with(|store| {
            store.tell = Some(tell);
            !store.down
        });
        let connection = Connection {
            lanes: GROUPS.iter().map(lane).collect(),
            publisher: Box::new(Wire { fake: self.clone(), told }),
            own: Box::new(self.clone()),
        };
        let outcome = if up { Ok(connection) } else { Err(Failure::Unreachable("down".into())) };
        Box::pin(std::future::ready(outcome))
    }

    fn inspect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Inspection, Failure>> {
        unreachable!("a relay never asks it")
    }
}

struct Wire {
    fake: Fake,
    told: channel::UnboundedReceiver<Told>,
}

impl Publisher for Wire {
    fn publish(&mut self, ticket: Ticket, event: &Outgoing) -> Result<(), Failure> {
        let read = Delivered::from_structured(&event.body).unwrap();
        self.fake.with(|store| {
            let Some(tell) = store.tell.clone() else { return };
            let lane = &mut store.lanes[usize::from(event.lane.0)];
            let lost = store.loses.iter().position(|seq| *seq == event.id.seq.0);
            lane.push(lost.is_none().then_some(read));
            lost.map(|at| store.loses.swap_remove(at));
            let told = Told::Acked { ticket, place: lane.len() as u64, duplicate: false };
            let _ = tell.send(told);
        });
        Ok(())
    }

    fn told(&mut self) -> BoxFuture<'_, Told> {
        Box::pin(async { self.told.recv().await.unwrap_or_else(|| Told::Lost("gone".into())) })
    }
}

impl Own for Fake {
    fn ends<'a>(
        &'a mut self,
        source: &'a Source,
        known: &'a [LaneSaved],
    ) -> BoxFuture<'a, Result<Vec<LaneFound>, Failure>> {
        let lanes = self.with(|store| store.lanes.clone());
        let one = |(group, lane): (&signalbox_bus::wire::Group, &Vec<Option<Delivered>>)| {
            let all: Vec<Found> =
                (1..).zip(lane).filter_map(|(place, event)| Some(found(event.as_ref()?, place))).collect();
            let known = known.iter().find(|known| known.name == group.stream);
            let holds = known.filter(|known| {
                all.iter().any(|event| event.place == known.place && event.id.seq.0 == known.seq)
            });
            LaneFound {
                last: all.last().cloned(),
                last_of_journal: all.iter().rfind(|event| event.id.journal == source.journal).cloned(),
                known_holds: holds.is_some(),
                above: all
                    .into_iter()
                    .filter(|event| holds.is_none_or(|known| event.place > known.place))
                    .collect(),
            }
        };
        Box::pin(std::future::ready(Ok(GROUPS.iter().zip(&lanes).map(one).collect())))
    }

    fn read_back<'a>(
        &'a mut self,
        _: &'a Source,
        lane: LaneId,
        place: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Found>, Failure>> {
        let lane = self.with(|store| store.lanes[usize::from(lane.0)].clone());
        let all = (1..).zip(&lane).filter_map(|(at, event)| Some(found(event.as_ref()?, at)));
        let read = all.filter(|event| event.place >= place).take(max).collect();
        Box::pin(std::future::ready(Ok(read)))
    }
}

struct Edge {
    dir: TempDir,
    writer: Writer,
    written: u64,
}

impl Edge {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage: SharedStorage = Arc::new(FileStorage);
        let opened =
            Journal::open(storage, Config::new(dir.path()), &Self::identity(), Wall(1_000_000), [7; 32]);
        Self { dir, writer: opened.unwrap().0, written: 0 }
    }

    fn identity() -> EdgeIdentity {
        EdgeIdentity { cluster: "test".into(), edge: "edge-1".into() }
    }

    /// Journals events of five calls, and some of other domains.
    fn write(&mut self, events: u64) {
        for _ in 0..events {
            self.written += 1;
            let kind = ["call.progressed.v1", "call.modified.v1", "registration.added.v1"]
                [(self.written % 3) as usize];
            let record = NewRecord {
                expect_seq: Some(EventSeq(self.written)),
                wall: Wall(self.written as i64),
                recorded: Wall(self.written as i64),
                kind,
                tenant: "acme",
                subject: &format!("c_{}", self.written % 5),
                correlation: "",
                traceparent: "",
                causation: EventSeq(0),
                data: b"{}",
                private: b"secret",
            };
            self.writer.append(&record).unwrap();
        }
        self.writer.commit(Wall(self.written as i64)).unwrap();
    }

    fn relay(&self, fake: &Fake, audit_interval: Duration) -> (RelayHandle, mpsc::Receiver<Note>) {
        let storage: SharedStorage = Arc::new(FileStorage);
        let layout = Layout::new(self.dir.path());
        let origin = JournalOrigin::new(Self::identity(), storage, layout, self.writer.mark(), "fake");
        let (tell, notes) = mpsc::channel();
        let options = RelayOptions { audit_interval, ..RelayOptions::default() };
        let notes_to = Box::new(move |note: &Note| tell.send(note.clone()).unwrap_or_default());
        let handle = Relay::spawn(Box::new(origin), Arc::new(fake.clone()), options, notes_to).unwrap();
        (handle, notes)
    }

    fn all(&self) -> Vec<u64> {
        (1..=self.written).collect()
    }
}

fn wait_for(notes: &mpsc::Receiver<Note>, wanted: impl Fn(&Note) -> bool) {
    while !wanted(&notes.recv_timeout(LONG).unwrap()) {}
}

#[test]
fn a_broker_that_was_away_gets_everything_once_and_in_order() {
    let (mut edge, fake) = (Edge::start(), Fake::default());
    let (relay, notes) = edge.relay(&fake, Duration::ZERO);
    edge.write(3_000);
    fake.holds(1_000);
    fake.die();
    wait_for(&notes, |note| matches!(note, Note::Away(_)));
    edge.write(500);
    assert!(relay.status().lag_events() > 0 || relay.status().status.state != State::Flowing);
    fake.with(|store| store.down = false);
    fake.holds(3_500);
    relay.stop(LONG);
    assert_eq!(fake.seqs(), edge.all());
    for lane in fake.with(|store| store.lanes.clone()) {
        for key in 0..5 {
            let of_key = lane.iter().flatten().map(|event| event.seq.0).filter(|seq| seq % 5 == key);
            assert!(of_key.is_sorted());
        }
    }
}

#[test]
fn a_relay_that_starts_anew_sends_nothing_twice() {
    let (mut edge, fake) = (Edge::start(), Fake::default());
    edge.write(700);
    for _ in 0..3 {
        let (relay, _notes) = edge.relay(&fake, Duration::ZERO);
        edge.write(100);
        fake.holds(usize::try_from(edge.written).unwrap());
        // Dropped: what was acknowledged last may not be saved.
        drop(relay);
    }
    assert_eq!(fake.seqs(), edge.all());
}

#[test]
fn a_broker_restored_from_an_old_copy_gets_exactly_what_it_lost() {
    let (mut edge, fake) = (Edge::start(), Fake::default());
    edge.write(400);
    let (relay, notes) = edge.relay(&fake, Duration::ZERO);
    fake.holds(400);
    fake.die();
    wait_for(&notes, |note| matches!(note, Note::Away(_)));
    fake.with(|store| {
        store.lanes[0].truncate(100);
        store.lanes[1].clear();
        store.down = false;
    });
    fake.holds(400);
    relay.stop(LONG);
    assert_eq!(fake.seqs(), edge.all());
}

#[test]
fn a_clone_s_events_on_the_bus_stop_the_relay_and_say_why() {
    let (mut edge, fake) = (Edge::start(), Fake::default());
    edge.write(10);
    let (relay, _notes) = edge.relay(&fake, Duration::ZERO);
    fake.holds(10);
    relay.stop(LONG);
    fake.with(|store| {
        let mut future = store.lanes[0].last().cloned().flatten().unwrap();
        future.seq = EventSeq(99);
        store.lanes[0].push(Some(future));
    });
    let (relay, notes) = edge.relay(&fake, Duration::ZERO);
    wait_for(&notes, |note| matches!(note, Note::Diverged(parted) if parted.bus == EventSeq(99)));
    edge.write(5);
    relay.stop(Duration::ZERO);
    assert_eq!(fake.seqs().len(), 11);
}

/// An origin that is known and has had no event yet, as the outbox of a new store.
struct Silent(Source);

impl Origin for Silent {
    fn chain(&mut self) -> BoxFuture<'_, Result<Vec<Link>, Error>> {
        Box::pin(std::future::ready(Ok(vec![Link { source: self.0.clone(), first: EventSeq(1) }])))
    }

    fn end(&self) -> Result<EventSeq, Error> {
        Ok(EventSeq(0))
    }

    fn read<'a>(
        &'a mut self,
        _: EventSeq,
        _: usize,
        _: &'a mut Vec<Delivered>,
    ) -> BoxFuture<'a, Result<Option<Gap>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn look(&mut self, _: EventSeq) -> BoxFuture<'_, Result<Option<Look>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn beyond(&self, _: EventSeq) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn load(&mut self) -> BoxFuture<'_, Result<Saved, Error>> {
        Box::pin(std::future::ready(Ok(Saved::default())))
    }

    fn save<'a>(&'a mut self, _: &'a Saved) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[test]
fn given_an_origin_that_never_had_an_event_then_its_relay_is_connected_all_the_same() {
    let source = Source { cluster: "prod".into(), edge: "store".into(), journal: JournalId(7) };
    let (tell, notes) = mpsc::channel();
    let tell = Box::new(move |note: &Note| drop(tell.send(note.clone())));
    let broker = Arc::new(Fake::default());
    let relay = Relay::spawn(Box::new(Silent(source)), broker, RelayOptions::default(), tell).unwrap();
    wait_for(&notes, |note| *note == Note::Flowing(EventSeq(0)));
    relay.stop(LONG);
}

#[test]
fn what_was_acknowledged_and_lost_in_the_middle_is_found_and_sent_again() {
    let (mut edge, fake) = (Edge::start(), Fake::default());
    fake.with(|store| store.loses = vec![61, 62, 63, 130]);
    let (relay, notes) = edge.relay(&fake, Duration::from_millis(20));
    edge.write(301);
    wait_for(&notes, |note| matches!(note, Note::Missing { .. }));
    fake.holds(301);
    relay.stop(LONG);
    assert_eq!(fake.seqs(), edge.all());
}
