//! What a batch means: which events are new, what they write, where the position stands after. Pure.

use crate::projection::Projection;
use signalbox_base::{Text, Wall};
use signalbox_bus::{Delivered, Order, Progress, Source};
use signalbox_schemas::{Event, Kind, ReadError};
use signalbox_store::positions::{Claim, RESUME, Saved};
use signalbox_store::{Offer, Position, Statement};
use std::collections::{BTreeMap, HashSet};
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
    /// An event of a later version: a later release must read it.
    Newer {
        /// What it is and what this release reads.
        reason: String,
    },
}

/// How far a projection is, everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    pub(crate) positions: BTreeMap<Stream, Position>,
    /// The last sequence of each domain that was applied, for people who read the table.
    last: BTreeMap<Stream, u64>,
    pub(crate) resume: BTreeMap<Text, u64>,
    pub(crate) held: BTreeMap<Stream, Held>,
}

/// A batch, thought through.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) track: Track,
    /// Each write with the index of its event.
    pub(crate) writes: Vec<(usize, Statement)>,
    /// Events to put aside, with class and reason.
    pub(crate) aside: Vec<(usize, &'static str, String)>,
    /// Streams and sources whose positions moved.
    moved: HashSet<Stream>,
    /// The stream of the event before: most often the next one's too.
    last: Option<(Arc<Source>, Stream)>,
    pub(crate) applied: u64,
    pub(crate) duplicates: u64,
}

impl Track {
    pub(crate) fn restore(saved: Vec<Saved>) -> Self {
        let mut track = Self::default();
        for row in saved {
            if row.domain == RESUME {
                track.resume.insert(row.source.into(), row.sequence);
            } else {
                let stream = (row.source.into(), row.domain.into());
                track.last.insert(stream.clone(), row.sequence);
                track.positions.insert(stream, row.position);
            }
        }
        track
    }

    /// Thinks `events` through. `order` is the bus's; `parked` the aggregates that are put aside whole.
    pub(crate) fn plan(
        &self,
        projection: &dyn Projection,
        order: Order,
        parked: &HashSet<Aggregate>,
        events: &[Delivered],
    ) -> Plan {
        let mut plan = Plan {
            track: self.clone(),
            writes: Vec::new(),
            aside: Vec::new(),
            moved: HashSet::new(),
            last: None,
            applied: 0,
            duplicates: 0,
        };
        let mut parked = parked.clone();
        for (index, event) in events.iter().enumerate() {
            plan.take(projection, order, &mut parked, index, event);
        }
        plan
    }

    /// How far each source may be passed over by a later reader: not at all while one of its domains is held.
    pub(crate) fn settled(&self, progress: &[Progress]) -> Vec<Progress> {
        let free = |progress: &&Progress| {
            let held = |source: &str| self.held.keys().any(|(held, _)| held.as_str() == source);
            self.held.is_empty() || !held(&progress.source.to_string())
        };
        progress.iter().filter(free).cloned().collect()
    }
}

impl Plan {
    fn take(
        &mut self,
        projection: &dyn Projection,
        order: Order,
        parked: &mut HashSet<Aggregate>,
        index: usize,
        event: &Delivered,
    ) {
        let stream = self.stream(event);
        if matches!(self.track.held.get(&stream), Some(Held::Newer { .. })) {
            return;
        }
        let position = self.track.positions.entry(stream.clone()).or_default();
        if order == Order::Source {
            // Everything of a source comes in order: what is missing before the first is gone for good.
            position.begin_at(event.domain_seq);
        }
        match (position.offer(event.domain_seq), order) {
            (Offer::Duplicate, _) => {
                self.duplicates += 1;
                return;
            }
            (Offer::Next, _) | (Offer::Ahead, Order::Key) => {}
            (Offer::Ahead, Order::Source) | (Offer::TooFarAhead, _) => {
                let (from, to) = position.hole().unwrap_or((position.low() + 1, event.domain_seq - 1));
                self.track.held.entry(stream).or_insert(Held::Hole { from, to });
                return;
            }
        }
        match self.fold(projection, parked, index, event) {
            Ok(()) => {
                let position = self.track.positions.entry(stream.clone()).or_default();
                position.apply(event.domain_seq);
                if position.hole().is_none() {
                    self.track.held.remove(&stream);
                }
                self.track.last.insert(stream.clone(), event.seq.0);
                self.moved.insert(stream);
                self.applied += 1;
            }
            Err(reason) => {
                self.track.held.insert(stream, Held::Newer { reason });
            }
        }
    }

    fn stream(&mut self, event: &Delivered) -> Stream {
        if let Some((source, stream)) = &self.last
            && Arc::ptr_eq(source, &event.source)
            && stream.1.as_str() == event.domain()
        {
            return stream.clone();
        }
        let stream: Stream = (event.source.to_string().into(), event.domain().into());
        self.last = Some((Arc::clone(&event.source), stream.clone()));
        stream
    }

    /// Adds the event's writes, or puts it aside. An error means a later version, with the reason.
    fn fold(
        &mut self,
        projection: &dyn Projection,
        parked: &mut HashSet<Aggregate>,
        index: usize,
        event: &Delivered,
    ) -> Result<(), String> {
        let folded = Kind::parse(&event.kind).is_some_and(|(kind, _)| projection.kinds().contains(&kind));
        if !folded {
            return Ok(());
        }
        let aggregate = aggregate_of(event);
        if parked.contains(&aggregate) {
            self.aside.push((index, "order", "an earlier event of the same aggregate is parked".to_owned()));
            return Ok(());
        }
        match Event::read(&event.kind, &event.data) {
            Ok(data) => {
                let writes = projection.fold(event, &data);
                self.writes.extend(writes.into_iter().map(|write| (index, write)));
            }
            Err(ReadError::UnknownType(_)) => {}
            Err(error @ ReadError::NewerVersion { .. }) => return Err(error.to_string()),
            Err(error @ ReadError::Invalid { .. }) => {
                self.aside.push((index, "invalid", error.to_string()));
                parked.insert(aggregate);
            }
        }
        Ok(())
    }

    /// The statements that store the positions that moved, and where to read on from (`settled`).
    pub(crate) fn saves(&mut self, claim: &Claim, settled: &[Progress], now: Wall) -> Vec<Statement> {
        for progress in settled {
            let source: Text = progress.source.to_string().into();
            let known = self.track.resume.entry(source.clone()).or_default();
            if *known < progress.through.0 {
                *known = progress.through.0;
                self.moved.insert((source, RESUME.into()));
            }
        }
        let save = |stream: &Stream| {
            let (source, domain) = stream;
            if domain.as_str() == RESUME {
                claim.save(source, domain, &Position::default(), self.track.resume[source], now)
            } else {
                claim.save(source, domain, &self.track.positions[stream], self.track.last[stream], now)
            }
        };
        self.moved.iter().map(save).collect()
    }

    /// Whether there is anything to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }
}

pub(crate) fn aggregate_of(event: &Delivered) -> Aggregate {
    (event.tenant.clone(), event.subject.clone())
}
