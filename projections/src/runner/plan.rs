//! What a batch means: which events are new, what they write, where the position stands after. Pure.

use super::place::Place;
use crate::projection::{Folded, Projection};
use signalbox_base::{Text, Wall};
use signalbox_bus::{Delivered, Floor, Hint, Order, Progress, Source};
use signalbox_schemas::{Event, Kind, ReadError};
use signalbox_store::positions::{Claim, RESUME, Saved};
use signalbox_store::{Class, Offer, Position, Statement};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

/// Source URN and domain.
pub(crate) type Stream = (Text, Text);

/// Tenant and subject: what is parked together.
pub(crate) type Aggregate = (Text, Text);

/// Why a domain of a source does not go on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// These numbers are missing (inclusive); what comes after waits for them.
    Hole {
        /// First missing number in the domain.
        from: u64,
        /// Last missing number.
        to: u64,
    },
    /// These numbers are missing (inclusive) and the bus does not have them any more; what comes after them is folded.
    Lost {
        /// First missing number in the domain.
        from: u64,
        /// Last missing number.
        to: u64,
    },
    /// An event of a later version: a later release must read it.
    Newer {
        /// What it is and what this release reads.
        reason: String,
    },
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { from, to } => write!(f, "events {from} to {to} are missing and waited for"),
            Self::Lost { from, to } => {
                write!(f, "events {from} to {to} were gone from the bus before they were read")
            }
            Self::Newer { reason } => f.write_str(reason),
        }
    }
}

impl Held {
    /// A later release must read on.
    pub(crate) fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. })
    }

    /// Whether something is waited for.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self, Self::Lost { .. })
    }

    /// What a position says is missing, for a bus that keeps order by key.
    fn of(position: &Position) -> Option<Self> {
        let hole = position.hole().map(|(from, to)| Self::Hole { from, to });
        hole.or_else(|| position.lost().map(|(from, to)| Self::Lost { from, to }))
    }
}

/// How far a projection is in one domain of one source.
#[derive(Clone, Debug, Default)]
struct At {
    position: Position,
    /// The last sequence that was applied, for people who read the table.
    last: u64,
    /// It began with a reading of the bus from its beginning: what is missing below a floor of that is retention.
    fresh: bool,
}

/// How far a projection is, everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    streams: BTreeMap<Stream, At>,
    /// Where each source is read on from.
    pub(crate) resume: BTreeMap<Text, u64>,
    pub(crate) held: BTreeMap<Stream, Held>,
    /// Sources that have been read further than the table of positions says.
    unsaved: BTreeSet<Text>,
    /// Where to go on with a bus that keeps order by key only.
    pub(crate) place: Place,
    /// The last number that a bus in order of sources has said not to have any more.
    pub(crate) gone: u64,
}

/// What floors have settled, to be followed once it is committed.
#[derive(Default)]
pub(crate) struct Settled {
    streams: Vec<(Stream, At)>,
    /// What is lost by that, to be told.
    pub(crate) lost: Vec<Lost>,
}

/// A stream and the first and last number that are lost.
pub(crate) type Lost = (Stream, u64, u64);

/// The events of a batch, each read once for all projections.
pub(crate) struct Batched<'a> {
    pub(crate) events: &'a [Delivered],
    kinds: Vec<Option<Kind>>,
    data: Vec<OnceCell<Result<Event, ReadError>>>,
}

/// What a batch means to one projection.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The streams of the batch, as they are after it.
    touched: Vec<Touched>,
    /// Each write with the index of its event.
    pub(crate) writes: Vec<(usize, Statement)>,
    /// Events to put aside, with class and reason.
    pub(crate) aside: Vec<(usize, &'static str, String)>,
    /// What the bus said to have lost before its events, to be told.
    pub(crate) lost: Vec<Lost>,
    pub(crate) applied: u64,
    pub(crate) duplicates: u64,
}

#[derive(Debug)]
struct Touched {
    source: Arc<Source>,
    stream: Stream,
    at: At,
    held: Option<Held>,
    moved: bool,
    /// An event was left out, so that no hint may go past it.
    left: bool,
}

/// What planning looks at.
struct Batch<'a> {
    projection: &'a dyn Projection,
    order: Order,
    parked: &'a HashSet<Aggregate>,
    batched: &'a Batched<'a>,
}

impl<'a> Batched<'a> {
    pub(crate) fn new(events: &'a [Delivered]) -> Self {
        let kinds = events.iter().map(|event| Some(Kind::parse(&event.kind)?.0)).collect();
        Self { events, kinds, data: events.iter().map(|_| OnceCell::new()).collect() }
    }

    fn read(&self, index: usize) -> Result<&Event, &ReadError> {
        let event = &self.events[index];
        self.data[index].get_or_init(|| Event::read(&event.kind, &event.data)).as_ref()
    }
}

impl Track {
    /// As stored; `hint` only for a bus that keeps order by key.
    pub(crate) fn restore(saved: Vec<Saved>, hint: Option<Hint>, order: Order) -> Self {
        let mut track = Self { place: Place::new(hint), ..Self::default() };
        for row in saved {
            if row.domain == RESUME {
                track.resume.insert(row.source.into(), row.sequence);
            } else {
                let at = At { position: row.position, last: row.sequence, fresh: false };
                let stream: Stream = (row.source.into(), row.domain.into());
                // In order of sources a hole shows when its domain is met again.
                let shows = |held: &Held| order == Order::Key || !held.is_open();
                if let Some(held) = Held::of(&at.position).filter(shows) {
                    track.held.insert(stream.clone(), held);
                }
                track.streams.insert(stream, at);
            }
        }
        track
    }

    /// Thinks a batch through. `order` is the bus's; `parked` the aggregates that are put aside whole.
    pub(crate) fn plan(
        &self,
        projection: &dyn Projection,
        order: Order,
        parked: &HashSet<Aggregate>,
        batched: &Batched<'_>,
    ) -> Plan {
        let (writes, aside, touched) = (Vec::new(), Vec::new(), Vec::new());
        let mut plan = Plan { touched, writes, aside, lost: Vec::new(), applied: 0, duplicates: 0 };
        let batch = Batch { projection, order, parked, batched };
        let mut chosen = Vec::new();
        for index in 0..batched.events.len() {
            plan.take(self, &batch, index, &mut chosen);
        }
        plan.writes = projection.fold_batch(&chosen);
        plan
    }

    /// Takes over what a plan says, once it is committed.
    pub(crate) fn follow(&mut self, plan: Plan) {
        for Touched { stream, at, held, left, .. } in plan.touched {
            self.place.left |= left;
            match held {
                Some(held) => self.held.insert(stream.clone(), held),
                None => self.held.remove(&stream),
            };
            self.streams.insert(stream, at);
        }
    }

    /// What floors of the bus settle, as statements and what follows once these are committed. What began with the reading
    /// that found them, or never had a beginning, begins there; to any other position what is missing below is lost.
    pub(crate) fn settle(
        &self,
        projection: &dyn Projection,
        floors: &[Floor],
        claim: &Claim,
        now: Wall,
    ) -> (Vec<Statement>, Settled) {
        let (mut saves, mut settled) = (Vec::new(), Settled::default());
        let folds = |floor: &&Floor| projection.kinds().iter().any(|kind| *kind.domain() == *floor.domain);
        for floor in floors.iter().filter(folds) {
            let stream: Stream = (floor.source.to_string().into(), floor.domain.clone());
            let mut at = self.streams.get(&stream).cloned().unwrap_or_default();
            let moved = if at.fresh || at.position.low() == 0 {
                at.position.settle_floor(floor.first)
            } else {
                let lost = at.position.lose(floor.first);
                settled.lost.extend(lost.map(|(from, to)| (stream.clone(), from, to)));
                lost.is_some()
            };
            if moved {
                saves.push(claim.save(&stream.0, &stream.1, &at.position, at.last, now));
                settled.streams.push((stream, at));
            }
        }
        (saves, settled)
    }

    /// Takes over what floors have settled, once it is committed.
    pub(crate) fn follow_settled(&mut self, settled: Settled) {
        for (stream, at) in settled.streams {
            match (Held::of(&at.position), self.held.get(&stream)) {
                (_, Some(Held::Newer { .. })) => {}
                (Some(held), _) => {
                    self.held.insert(stream.clone(), held);
                }
                (None, _) => {
                    self.held.remove(&stream);
                }
            }
            self.streams.insert(stream, at);
        }
    }

    /// After a batch of a bus that keeps order by key: where to go on from, now or once the holes of now are closed.
    pub(crate) fn reach_place(&mut self, hint: Option<&Hint>, caught_up: bool, now: Wall) {
        let Self { place, held, streams, .. } = self;
        place.watch(held, now);
        place.first_reading &= !caught_up;
        let closed = |(stream, high): &(Stream, u64)| {
            streams.get(stream).is_some_and(|at| at.position.hole().is_none_or(|(from, _)| from > *high))
        };
        if place.waiting.as_ref().is_some_and(|(_, highs)| highs.iter().all(closed)) {
            let (hint, _) = place.waiting.take().expect("it was just looked at");
            place.set(hint);
        }
        let stopped = place.left || place.first_reading || held.values().any(Held::is_newer);
        let Some(hint) = hint.filter(|_| !stopped) else { return };
        let open = held.iter().filter(|(_, held)| held.is_open());
        let mut open = open
            .filter_map(|(stream, _)| Some((stream.clone(), streams.get(stream)?.position.high())))
            .peekable();
        if open.peek().is_none() {
            place.waiting = None;
            place.set(hint.clone());
        } else if place.waiting.is_none() {
            place.waiting = Some((hint.clone(), open.collect()));
        }
    }

    /// Notes how far sources have been read. A source is not passed over while one of its domains is held.
    pub(crate) fn reach(&mut self, progress: &[Progress]) {
        for progress in progress {
            let source: Text = progress.source.to_string().into();
            if self.held.iter().any(|((of, _), held)| *of == source && held.is_open()) {
                continue;
            }
            let known = self.resume.entry(source.clone()).or_default();
            if *known < progress.through.0 {
                *known = progress.through.0;
                self.unsaved.insert(source);
            }
        }
    }

    /// The statements that store where to read on from, as far as that is not stored; `bus` is its kind.
    pub(crate) fn save_resume(&self, claim: &Claim, bus: &str, now: Wall) -> Vec<Statement> {
        let save = |source: &Text| claim.save(source, RESUME, &Position::default(), self.resume[source], now);
        let hint = self.place.hint.as_ref().filter(|_| self.place.unsaved);
        let hint = hint.map(|hint| claim.save_hint(bus, &hint.0, now));
        self.unsaved.iter().map(save).chain(hint).collect()
    }

    /// The statements of [`Track::save_resume`] are committed.
    pub(crate) fn saved_resume(&mut self) {
        self.unsaved.clear();
        self.place.unsaved = false;
    }

    /// Sources of which this projection has still to read more than `within` events that `other` has read.
    pub(crate) fn is_behind(&self, other: &Self, within: u64) -> bool {
        let read = |source: &Text| self.resume.get(source).copied().unwrap_or(0);
        other.resume.iter().any(|(source, far)| read(source).saturating_add(within) < *far)
    }
}

impl Plan {
    fn take<'b>(&mut self, track: &Track, batch: &Batch<'b>, index: usize, chosen: &mut Vec<Folded<'b>>) {
        let event = &batch.batched.events[index];
        let domain = event.domain();
        if !batch.projection.kinds().iter().any(|kind| kind.domain() == domain) {
            return;
        }
        let place = self.touch(track, event, domain);
        let touched = &mut self.touched[place];
        if matches!(touched.held, Some(Held::Newer { .. })) {
            return;
        }
        let position = &mut touched.at.position;
        if batch.order == Order::Source {
            // Everything of a source comes in order: what is missing before the first is gone for good.
            position.begin_at(event.domain_seq);
        }
        let offer = position.offer(event.domain_seq);
        match (offer, batch.order) {
            (Offer::Duplicate, _) => {
                self.duplicates += 1;
                return;
            }
            (Offer::Next, _) | (Offer::Ahead, Order::Key) => {}
            // All that is missing was lost on another bus.
            (Offer::Ahead, _) if position.hole().is_none() && position.high() + 1 == event.domain_seq => {}
            (Offer::Ahead, _) if touched.at.last < track.gone && track.gone < event.seq.0 => {
                let lost = position.lose(event.domain_seq);
                self.lost.extend(lost.map(|(from, to)| (touched.stream.clone(), from, to)));
            }
            (Offer::Ahead, Order::Source) | (Offer::TooFarAhead, _) => {
                let (from, to) = position.hole().unwrap_or((position.low() + 1, event.domain_seq - 1));
                touched.held.get_or_insert(Held::Hole { from, to });
                touched.left = true;
                return;
            }
        }
        match self.choose(batch, index, chosen) {
            Ok(()) => {
                let touched = &mut self.touched[place];
                touched.at.position.apply(event.domain_seq);
                match Held::of(&touched.at.position) {
                    None => touched.held = None,
                    // Applied all the same: another lane may still bring what is missing. It is held against the hint.
                    Some(held) if batch.order == Order::Key || !held.is_open() => touched.held = Some(held),
                    Some(_) => {}
                }
                touched.at.last = event.seq.0;
                touched.moved = true;
                self.applied += 1;
            }
            Err(reason) => {
                self.touched[place].held = Some(Held::Newer { reason });
                self.touched[place].left = true;
            }
        }
    }

    /// Where the event's stream is among those of the batch; they are few.
    fn touch(&mut self, track: &Track, event: &Delivered, domain: &str) -> usize {
        let same = |touched: &Touched| {
            touched.stream.1.as_str() == domain
                && (Arc::ptr_eq(&touched.source, &event.source) || touched.source == event.source)
        };
        if let Some(place) = self.touched.iter().position(same) {
            return place;
        }
        let stream: Stream = (event.source.to_string().into(), domain.into());
        let fresh = || At { fresh: track.place.first_reading, ..At::default() };
        let at = track.streams.get(&stream).cloned().unwrap_or_else(fresh);
        let held = track.held.get(&stream).cloned();
        let (source, moved, left) = (Arc::clone(&event.source), false, false);
        self.touched.push(Touched { source, stream, at, held, moved, left });
        self.touched.len() - 1
    }

    /// Takes the event among those to fold, puts it aside, or passes it over. An error means a later version, with the
    /// reason.
    fn choose<'b>(
        &mut self,
        batch: &Batch<'b>,
        index: usize,
        chosen: &mut Vec<Folded<'b>>,
    ) -> Result<(), String> {
        let folded = batch.batched.kinds[index].is_some_and(|kind| batch.projection.kinds().contains(&kind));
        if !folded {
            return Ok(());
        }
        let event = &batch.batched.events[index];
        if self.is_parked(batch, event) {
            self.aside.push((index, "order", "an earlier event of the same aggregate is parked".to_owned()));
            return Ok(());
        }
        match batch.batched.read(index) {
            Ok(data) => chosen.push(Folded { at: index, event, data }),
            Err(ReadError::UnknownType(_)) => {}
            Err(error @ ReadError::NewerVersion { .. }) => return Err(error.to_string()),
            Err(error @ ReadError::Invalid { .. }) => {
                self.aside.push((index, "invalid", error.to_string()));
            }
        }
        Ok(())
    }

    /// Whether the event's aggregate is parked, or is being parked with this batch.
    fn is_parked(&self, batch: &Batch<'_>, event: &Delivered) -> bool {
        let same = |(at, ..): &(usize, &'static str, String)| {
            let other = &batch.batched.events[*at];
            (&other.tenant, &other.subject) == (&event.tenant, &event.subject)
        };
        (!batch.parked.is_empty() && batch.parked.contains(&aggregate_of(event)))
            || self.aside.iter().any(same)
    }

    /// Puts all its events aside instead of folding them.
    pub(crate) fn refuse(&mut self, events: usize, reason: &str) {
        self.writes.clear();
        self.aside = (0..events).map(|at| (at, Class::Row.as_str(), reason.to_owned())).collect();
    }

    /// The statements that store the positions that moved.
    pub(crate) fn saves(&self, claim: &Claim, now: Wall) -> Vec<Statement> {
        let save = |touched: &Touched| {
            let (source, domain) = &touched.stream;
            claim.save(source, domain, &touched.at.position, touched.at.last, now)
        };
        self.touched.iter().filter(|touched| touched.moved).map(save).collect()
    }

    /// Whether there is anything to commit.
    pub(crate) fn is_empty(&self) -> bool {
        !self.touched.iter().any(|touched| touched.moved)
    }
}

pub(crate) fn aggregate_of(event: &Delivered) -> Aggregate {
    (event.tenant.clone(), event.subject.clone())
}
