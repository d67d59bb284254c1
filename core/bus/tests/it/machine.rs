//! The relay's machine beside a model broker that drops, delays, reorders and repeats acknowledgements, dies, comes back
//! from an old copy, while the edge crashes between saving and being told.

use proptest::prelude::*;
use signalbox_base::{EventSeq, JournalId, Mono, Wall};
use signalbox_bus::publisher::{
    Failure, Found, Identity, LaneFound, LaneId, LaneName, Refusal, Ticket, Told,
};
use signalbox_bus::relay::reconcile::{Own, verdict};
use signalbox_bus::relay::{Input, Limits, Link, Machine, Meta, Output, Saved, State, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

const LANES: usize = 3;
const WINDOW: usize = 8;
const BYTES: usize = 100;
const JOURNAL: JournalId = JournalId(1);

/// What happens next, with a number to choose by.
#[derive(Clone, Copy, Debug)]
enum Step {
    Write(u8),
    Store,
    Tell,
    TellLater,
    TellTwice,
    TellNever,
    TellOld,
    Refuse,
    Break(u8),
    RollBack(u8, u8),
    Crash,
    Wait(u8),
    Ghost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..12).prop_map(Step::Write),
        12 => Just(Step::Store),
        12 => Just(Step::Tell),
        1 => Just(Step::TellLater),
        1 => Just(Step::TellTwice),
        1 => Just(Step::TellNever),
        1 => Just(Step::TellOld),
        1 => Just(Step::Refuse),
        1 => any::<u8>().prop_map(Step::Break),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(lane, to)| Step::RollBack(lane, to)),
        1 => Just(Step::Crash),
        2 => any::<u8>().prop_map(Step::Wait),
        1 => Just(Step::Ghost),
    ]
}

/// Event `seq` of the journal: its lane, its key, its bytes.
fn event(seq: u64) -> (usize, u64, usize) {
    let mixed = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    (usize::try_from(mixed % 3).unwrap(), mixed / 3 % 5, usize::try_from(mixed % 40).unwrap())
}

struct World {
    machine: Machine,
    now: Mono,
    end: u64,
    lanes: Vec<Vec<u64>>,
    /// Under way to the broker, and back.
    going: VecDeque<(Ticket, u64)>,
    coming: VecDeque<Told>,
    old: Vec<Told>,
    /// Of a connection that broke: may still be stored.
    ghosts: Vec<u64>,
    ghosted: HashSet<u64>,
    saved: Saved,
    open: bool,
    told: HashSet<u64>,
    keys: HashMap<u64, u64>,
    tickets: BTreeMap<Ticket, u64>,
    taken: VecDeque<(u64, usize)>,
    cursor: u64,
    /// Nothing was rolled back since both sides were compared.
    whole: bool,
}

impl World {
    fn new() -> Self {
        let limits = Limits { window: WINDOW, window_bytes: BYTES, ..Limits::default() };
        Self {
            machine: Machine::new(Saved::default(), EventSeq(0), limits, 7),
            now: Mono(1_000_000_000),
            end: 0,
            lanes: vec![Vec::new(); LANES],
            going: VecDeque::new(),
            coming: VecDeque::new(),
            old: Vec::new(),
            ghosts: Vec::new(),
            ghosted: HashSet::new(),
            saved: Saved::default(),
            open: false,
            told: HashSet::new(),
            keys: HashMap::new(),
            tickets: BTreeMap::new(),
            taken: VecDeque::new(),
            cursor: 0,
            whole: true,
        }
    }

    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if let Input::Told(Told::Acked { ticket, .. }) = &input
                && let Some(seq) = self.tickets.remove(ticket)
            {
                self.told.insert(seq);
                self.keys.remove(&event(seq).1);
            }
            if let Input::Resumed(saved) = &input {
                self.cursor = saved.cursor.0;
            }
            let mut out = Vec::new();
            self.machine.handle(self.now, input, &mut out);
            for output in out {
                self.obey(output, &mut inputs);
            }
            self.check();
        }
    }

    fn obey(&mut self, output: Output, inputs: &mut VecDeque<Input>) {
        match output {
            Output::Connect => {
                self.open = true;
                inputs.push_back(Input::Reached);
                let (Verdict::Equal(saved) | Verdict::Behind(saved, _)) = self.compare() else {
                    panic!("nothing ever parts here")
                };
                self.whole = true;
                self.told.retain(|seq| *seq <= saved.cursor.0);
                inputs.push_back(Input::Resumed(saved));
            }
            Output::Drop => self.close(),
            Output::Read { from, events } => {
                for seq in (from.0..=self.end).take(events) {
                    let (lane, key, bytes) = event(seq);
                    if !self.machine.takes(bytes) {
                        break;
                    }
                    self.taken.push_back((seq, bytes));
                    let (weight, count): (usize, usize) =
                        self.taken.iter().fold((0, 0), |(bytes, n), (_, more)| (bytes + more, n + 1));
                    assert!(
                        count <= WINDOW && (weight <= BYTES || count == 1),
                        "{count} events, {weight} bytes"
                    );
                    let lane = LaneId(u16::try_from(lane).unwrap());
                    let meta =
                        Meta { seq: EventSeq(seq), journal: JOURNAL, lane, key, bytes, recorded: Wall(0) };
                    let mut out = Vec::new();
                    self.machine.handle(self.now, Input::Read(meta), &mut out);
                    out.into_iter().for_each(|output| self.obey(output, inputs));
                }
                inputs.push_back(Input::ReadDone);
            }
            Output::Publish { ticket, seq } => {
                assert!(
                    self.open && self.machine.state() == State::Flowing,
                    "published before the comparison"
                );
                let (lane, key, _) = event(seq.0);
                assert_eq!(self.keys.insert(key, seq.0), None, "two of a key under way");
                let there = self.lanes[lane].contains(&seq.0) && !self.ghosted.contains(&seq.0);
                assert!(!there || !self.whole, "event {seq} is there and was sent again");
                self.tickets.insert(ticket, seq.0);
                self.going.push_back((ticket, seq.0));
            }
            Output::Forget(through) => {
                while self.taken.front().is_some_and(|(seq, _)| *seq <= through.0) {
                    self.taken.pop_front();
                }
            }
            Output::Save => self.saved = self.machine.saved(),
            Output::Note(_) => {}
            Output::Done => panic!("nobody asked it to stop"),
        }
    }

    /// The rules that hold after every step.
    fn check(&mut self) {
        let cursor = self.machine.cursor().0;
        assert!(cursor >= self.cursor, "the cursor went back from {} to {cursor}", self.cursor);
        self.cursor = cursor;
        if self.whole && self.machine.state() == State::Flowing {
            let missing = (1..=cursor).find(|seq| !self.lanes[event(*seq).0].contains(seq));
            assert_eq!(missing, None, "the cursor is at {cursor}");
        }
    }

    fn compare(&self) -> Verdict {
        let saved = self.machine.saved();
        let known = saved.known();
        let found = |lane: usize| {
            let stored = &self.lanes[lane];
            let name = format!("lane-{lane}");
            let top = known.iter().find(|known| known.name == name);
            let holds = top.is_some_and(|top| {
                usize::try_from(top.place).is_ok_and(|place| stored.get(place - 1) == Some(&top.seq))
            });
            let from = if holds { usize::try_from(top.unwrap().place).unwrap() } else { 0 };
            let one = |(at, seq): (usize, &u64)| Found {
                id: Identity { journal: JOURNAL, seq: EventSeq(*seq) },
                domain_seq: *seq,
                domain: "call".into(),
                place: at as u64 + 1,
                digest: Some(*seq),
            };
            let all: Vec<Found> = stored.iter().enumerate().map(one).collect();
            LaneFound {
                last: all.last().cloned(),
                last_of_journal: all.last().cloned(),
                above: all[from..].to_vec(),
                known_holds: holds,
            }
        };
        let lanes: Vec<LaneName> = (0..LANES)
            .map(|n| LaneName { name: format!("lane-{n}").into(), incarnation: "i".into() })
            .collect();
        let found: Vec<LaneFound> = (0..LANES).map(found).collect();
        let source = "urn:signalbox:c:e:00000000000000000000000001".parse().unwrap();
        let own = Own { chain: vec![Link { source, first: EventSeq(1) }], end: EventSeq(self.end) };
        let digests = (1..=self.end).map(|seq| (EventSeq(seq), seq)).collect();
        verdict(&saved, &lanes, &found, &own, &digests)
    }

    fn close(&mut self) {
        self.open = false;
        self.ghosts.extend(self.going.drain(..).map(|(_, seq)| seq));
        self.old.extend(self.coming.drain(..));
        self.keys.clear();
        self.tickets.clear();
        self.taken.clear();
    }

    fn store(&mut self) {
        let Some((ticket, seq)) = self.going.pop_front() else { return };
        let lane = &mut self.lanes[event(seq).0];
        let known = lane.iter().rposition(|stored| *stored == seq);
        if known.is_none() {
            lane.push(seq);
        }
        let place = known.map_or(lane.len(), |at| at + 1) as u64;
        self.coming.push_back(Told::Acked { ticket, place, duplicate: known.is_some() });
    }

    fn tell(&mut self, at: usize) {
        if let Some(told) = self.coming.remove(at) {
            self.feed(Input::Told(told));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(events) => {
                self.end += u64::from(events);
                self.feed(Input::End(EventSeq(self.end)));
            }
            Step::Store => self.store(),
            Step::Tell => self.tell(0),
            Step::TellLater => self.tell(1),
            Step::TellTwice => {
                if let Some(told) = self.coming.front().cloned() {
                    self.coming.push_front(told);
                    self.tell(0);
                    self.tell(0);
                }
            }
            Step::TellNever => drop(self.coming.pop_front()),
            Step::TellOld => {
                if let Some(told) = self.old.pop() {
                    let before = self.machine.status();
                    self.feed(Input::Told(told));
                    assert_eq!(
                        self.machine.status(),
                        before,
                        "what is told of an old connection changes nothing"
                    );
                }
            }
            Step::Refuse => {
                if let Some((ticket, _)) = self.going.pop_front() {
                    self.feed(Input::Told(Told::Refused { ticket, why: Refusal::Full }));
                }
            }
            Step::Break(stored) => {
                (0..stored % 4).for_each(|_| self.store());
                self.lose();
            }
            Step::RollBack(lane, to) => {
                let lane = &mut self.lanes[usize::from(lane) % LANES];
                lane.truncate(usize::from(to) % (lane.len() + 1));
                self.whole = false;
                self.lose();
                // A broker that came back has no more of what was on its way to the one before.
                self.ghosts.clear();
            }
            Step::Crash => {
                self.close();
                // Tickets begin anew with a process, and no connection outlives one.
                self.old.clear();
                let limits = Limits { window: WINDOW, window_bytes: BYTES, ..Limits::default() };
                self.machine = Machine::new(self.saved.clone(), EventSeq(self.end), limits, 7);
                self.cursor = self.saved.cursor.0;
                self.feed(Input::End(EventSeq(self.end)));
            }
            Step::Wait(ms) => {
                self.now = self.now.plus(Duration::from_millis(u64::from(ms) * 30));
                self.feed(Input::Due);
            }
            Step::Ghost => {
                if let Some(seq) = self.ghosts.pop()
                    && !self.lanes[event(seq).0].contains(&seq)
                {
                    self.lanes[event(seq).0].push(seq);
                    self.ghosted.insert(seq);
                }
            }
        }
    }

    fn lose(&mut self) {
        if self.open {
            self.feed(Input::Told(Told::Lost("gone".into())));
        }
    }

    /// Nothing bad happens any more: everything arrives.
    fn settle(&mut self) {
        self.ghosts.clear();
        for _ in 0..5_000 {
            if self.machine.cursor().0 == self.end && self.machine.state() == State::Flowing {
                return;
            }
            self.step(Step::Store);
            self.step(Step::Tell);
            if self.going.is_empty() && self.coming.is_empty() {
                self.step(Step::Wait(255));
            }
        }
        panic!("stuck: {:?}", self.machine.status());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn whatever_happens_every_event_arrives_in_the_order_of_its_key(
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut world = World::new();
        world.feed(Input::Due);
        for step in steps {
            world.step(step);
        }
        world.settle();
        for (lane, stored) in world.lanes.iter().enumerate() {
            let mine: BTreeSet<u64> = (1..=world.end).filter(|seq| event(*seq).0 == lane).collect();
            prop_assert_eq!(&stored.iter().copied().collect::<BTreeSet<_>>(), &mine);
            let (mut seen, mut last) = (HashSet::new(), HashMap::new());
            for seq in stored.iter().filter(|seq| seen.insert(**seq)) {
                let before = last.insert(event(*seq).1, *seq);
                prop_assert!(before < Some(*seq), "{} after {:?} in lane {}", seq, before, lane);
            }
        }
    }
}

fn flowing(end: u64) -> (Machine, Vec<Output>) {
    let mut machine = Machine::new(Saved::default(), EventSeq(0), Limits::default(), 1);
    let mut out = Vec::new();
    let lane = signalbox_bus::relay::LaneState { name: "a".to_owned(), ..Default::default() };
    for input in [
        Input::End(EventSeq(end)),
        Input::Due,
        Input::Reached,
        Input::Resumed(Saved { cursor: EventSeq(0), lanes: vec![lane] }),
    ] {
        machine.handle(Mono(1), input, &mut out);
    }
    (machine, out)
}

fn meta(seq: u64, key: u64) -> Meta {
    Meta { seq: EventSeq(seq), journal: JOURNAL, lane: LaneId(0), key, bytes: 10, recorded: Wall(0) }
}

fn tickets(out: &[Output]) -> Vec<(Ticket, u64)> {
    let ticket = |output: &Output| match output {
        Output::Publish { ticket, seq } => Some((*ticket, seq.0)),
        _ => None,
    };
    out.iter().filter_map(ticket).collect()
}

#[test]
fn a_full_stream_is_shown_and_tried_again_with_growing_pauses() {
    let (mut machine, mut out) = flowing(1);
    let (mut now, mut pauses) = (Mono(1), Vec::new());
    for _ in 0..9 {
        machine.handle(now, Input::Read(meta(1, 1)), &mut out);
        let (ticket, _) = *tickets(&out).last().unwrap();
        machine.handle(now, Input::Told(Told::Refused { ticket, why: Refusal::Full }), &mut out);
        let status = machine.status();
        assert_eq!((status.state, status.refused), (State::Away, Some(EventSeq(1))));
        assert_eq!(status.error.as_deref(), Some("event 1: the stream is full"));
        let due = machine.next_due().unwrap().max(now);
        let until = (0..200).map(|n| now.plus(Duration::from_millis(n * 100))).find(|then| {
            machine.handle(*then, Input::Due, &mut out);
            machine.state() == State::Connecting
        });
        pauses.push(until.unwrap().since(now));
        now = until.unwrap().max(due);
        machine.handle(now, Input::Reached, &mut out);
        machine.handle(now, Input::Resumed(machine.saved()), &mut out);
    }
    assert!(pauses[0] >= Duration::from_millis(50) && pauses[0] <= Duration::from_millis(100), "{pauses:?}");
    assert!(pauses.last().unwrap() >= &Duration::from_secs(5), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(10)), "{pauses:?}");
}

#[test]
fn a_number_that_was_never_sent_and_is_known_makes_it_compare_again() {
    let (mut machine, mut out) = flowing(1);
    machine.handle(Mono(1), Input::Read(meta(1, 1)), &mut out);
    let (ticket, _) = tickets(&out)[0];
    out.clear();
    machine.handle(Mono(1), Input::Told(Told::Acked { ticket, place: 9, duplicate: true }), &mut out);
    assert!(out.contains(&Output::Drop) && out.contains(&Output::Connect), "{out:?}");
    assert_eq!(machine.cursor(), EventSeq(0));
}

#[test]
fn events_that_the_bus_has_lost_in_the_middle_are_sent_again_and_no_others() {
    let (mut machine, mut out) = flowing(9);
    for seq in 1..=9 {
        machine.handle(Mono(1), Input::Read(meta(seq, seq)), &mut out);
    }
    for (place, (ticket, _)) in (1..).zip(tickets(&out)) {
        machine.handle(Mono(1), Input::Told(Told::Acked { ticket, place, duplicate: false }), &mut out);
    }
    assert_eq!(machine.cursor(), EventSeq(9));
    machine.handle(Mono(1), Input::Missing(vec![EventSeq(3), EventSeq(7)]), &mut out);
    machine.handle(Mono(1), Input::Reached, &mut out);
    out.clear();
    machine.handle(Mono(1), Input::Resumed(machine.saved()), &mut out);
    let mut sent = Vec::new();
    while let Some(Output::Read { from, .. }) =
        out.iter().rfind(|output| matches!(output, Output::Read { .. })).cloned()
    {
        out.clear();
        (from.0..=9).for_each(|seq| machine.handle(Mono(1), Input::Read(meta(seq, seq)), &mut out));
        sent.extend(tickets(&out));
        out.clear();
        machine.handle(Mono(1), Input::ReadDone, &mut out);
    }
    assert_eq!(sent.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [3, 7]);
    for (place, (ticket, _)) in (10..).zip(sent) {
        machine.handle(Mono(1), Input::Told(Told::Acked { ticket, place, duplicate: false }), &mut out);
    }
    assert_eq!(machine.cursor(), EventSeq(9));
}

#[test]
fn events_that_retention_took_are_named_once() {
    let (mut machine, mut out) = flowing(9);
    machine.handle(Mono(1), Input::Overrun(EventSeq(5)), &mut out);
    let gone = Output::Note(signalbox_bus::relay::Note::Overrun(EventSeq(1), EventSeq(5)));
    assert_eq!(out.iter().filter(|output| **output == gone).count(), 1);
    assert_eq!(machine.cursor(), EventSeq(5));
}

#[test]
fn a_relay_that_stops_first_relays_what_there_is() {
    let (mut machine, mut out) = flowing(1);
    machine.handle(Mono(1), Input::Read(meta(1, 1)), &mut out);
    machine.handle(Mono(1), Input::Stop(Mono(2_000)), &mut out);
    assert!(!out.contains(&Output::Done));
    let (ticket, _) = tickets(&out)[0];
    out.clear();
    machine.handle(Mono(2), Input::Told(Told::Acked { ticket, place: 1, duplicate: false }), &mut out);
    assert_eq!(out.iter().rev().take(2).collect::<Vec<_>>(), [&Output::Done, &Output::Save]);
    assert_eq!(machine.saved().cursor, EventSeq(1));
}

#[test]
fn a_connection_that_cannot_be_made_is_tried_again() {
    let mut machine = Machine::new(Saved::default(), EventSeq(0), Limits::default(), 1);
    let mut out = Vec::new();
    machine.handle(Mono(1), Input::Due, &mut out);
    machine.handle(Mono(1), Input::Failed(Failure::Denied("bad password".into())), &mut out);
    let status = machine.status();
    assert_eq!((status.state, status.error.as_deref()), (State::Away, Some("refused: bad password")));
    machine.handle(machine.next_due().unwrap(), Input::Due, &mut out);
    assert_eq!(
        out.iter().filter(|output| **output == Output::Connect).count(),
        1 + usize::from(machine.state() == State::Connecting)
    );
}
