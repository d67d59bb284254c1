//! Reading back what a cluster holds of our own: by offsets, for Kafka has no index by source.

use super::connect::{Ears, REQUEST, SLICE, SLICES, Stop, apart, failed};
use crate::event::Source;
use crate::publisher::{Failure, Found, LaneFound, LaneId, LaneSaved, Own, TAIL};
use crate::subscription::BoxFuture;
use crate::wire::{Decoder, lane_name, split_lane};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use signalbox_base::Text;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Messages of the first step back; each further one is twice as long.
const STEP_BACK: i64 = 1_024;

/// [`Own`] on Kafka.
pub(super) struct KafkaOwn {
    tail: Arc<Mutex<Tail>>,
}

/// A reader of pieces of partitions.
pub(super) struct Tail {
    consumer: BaseConsumer<Ears>,
    lanes: Vec<(Text, i32)>,
}

/// A piece of a partition: from one offset to before another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The partition.
    pub(super) partition: i32,
    /// First offset.
    pub(super) from: i64,
    /// Offset behind the last.
    pub(super) to: i64,
}

impl KafkaOwn {
    pub(super) fn new(tail: Tail) -> Self {
        Self { tail: Arc::new(Mutex::new(tail)) }
    }

    async fn with_tail<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tail, &Stop) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let tail = Arc::clone(&self.tail);
        apart(move |stop| work(&tail.lock().unwrap_or_else(PoisonError::into_inner), stop)).await
    }
}

impl Own for KafkaOwn {
    fn ends<'a>(
        &'a mut self,
        source: &'a Source,
        known: &'a [LaneSaved],
    ) -> BoxFuture<'a, Result<Vec<LaneFound>, Failure>> {
        let (source, known) = (source.clone(), known.to_vec());
        Box::pin(self.with_tail(move |tail, stop| tail.ends(&source, &known, stop)))
    }

    fn read_back<'a>(
        &'a mut self,
        source: &'a Source,
        lane: LaneId,
        place: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Found>, Failure>> {
        let source = source.clone();
        Box::pin(self.with_tail(move |tail, stop| tail.read_back(&source, lane, place, max, stop)))
    }
}

impl Tail {
    pub(super) fn new(consumer: BaseConsumer<Ears>, lanes: Vec<(Text, i32)>) -> Self {
        Self { consumer, lanes }
    }

    fn ends(&self, source: &Source, known: &[LaneSaved], stop: &Stop) -> Result<Vec<LaneFound>, Failure> {
        self.same_counts(known)?;
        let bounds = bounds(&self.consumer, &self.lanes)?;
        let known: HashMap<&str, &LaneSaved> = known.iter().map(|lane| (&*lane.name, lane)).collect();
        let mut found: Vec<LaneFound> = Vec::with_capacity(self.lanes.len());
        for lanes in self.lanes.chunk_by(|one, other| one.0 == other.0) {
            let bounds = &bounds[found.len()..found.len() + lanes.len()];
            found.extend(self.ends_of_topic(source, lanes, bounds, &known, stop)?);
        }
        Ok(found)
    }

    fn ends_of_topic(
        &self,
        source: &Source,
        lanes: &[(Text, i32)],
        bounds: &[(i64, i64)],
        known: &HashMap<&str, &LaneSaved>,
        stop: &Stop,
    ) -> Result<Vec<LaneFound>, Failure> {
        let topic = &lanes[0].0;
        let mut own = OwnEvents::new(source);
        let place = |(_, partition): &(Text, i32)| {
            let saved = known.get(lane_name(topic, *partition).as_str())?;
            Some((i64::try_from(saved.place).ok()?, saved.journal.clone(), saved.seq))
        };
        let places: Vec<Option<(i64, String, u64)>> = lanes.iter().map(place).collect();
        let mut pieces = Vec::new();
        for ((lane, place), (low, high)) in lanes.iter().zip(&places).zip(bounds) {
            if let Some((place, ..)) = place
                && (*low..*high).contains(place)
            {
                pieces.push(Piece { partition: lane.1, from: *place, to: *high });
            }
        }
        let mut by_lane: HashMap<i32, Vec<Found>> = HashMap::new();
        scan(&self.consumer, topic, &pieces, stop, |message| {
            by_lane.entry(message.partition()).or_default().extend(own.read(message));
            true
        })?;
        let mut found = Vec::with_capacity(lanes.len());
        let mut open: Vec<(usize, i64)> = Vec::new();
        for (at, ((lane, place), (_, high))) in lanes.iter().zip(&places).zip(bounds).enumerate() {
            let mut events = by_lane.remove(&lane.1).unwrap_or_default();
            let holds = events.first().zip(place.as_ref()).is_some_and(|(first, (place, journal, seq))| {
                i64::try_from(first.place) == Ok(*place)
                    && first.id.seq.0 == *seq
                    && first.id.journal.to_string() == *journal
            });
            if holds {
                let known = events.remove(0);
                found.push(LaneFound::new(source, Some(known.place), Some(known), events));
            } else {
                open.push((at, *high));
                found.push(LaneFound::default());
            }
        }
        for (at, events) in self.tails(topic, lanes, bounds, open, &mut own, stop)? {
            found[at] = LaneFound::new(source, None, None, events);
        }
        Ok(found)
    }

    /// The last own events of lanes of which nothing certain is known: back in doubling steps.
    fn tails(
        &self,
        topic: &str,
        lanes: &[(Text, i32)],
        bounds: &[(i64, i64)],
        mut open: Vec<(usize, i64)>,
        own: &mut OwnEvents<'_>,
        stop: &Stop,
    ) -> Result<HashMap<usize, Vec<Found>>, Failure> {
        let mut tails: HashMap<usize, Vec<Found>> = HashMap::new();
        let mut step = STEP_BACK;
        while !open.is_empty() {
            let pieces: Vec<Piece> = open
                .iter()
                .map(|(at, to)| Piece {
                    partition: lanes[*at].1,
                    from: bounds[*at].0.max(to - step),
                    to: *to,
                })
                .collect();
            let mut by_lane: HashMap<i32, Vec<Found>> = HashMap::new();
            scan(&self.consumer, topic, &pieces, stop, |message| {
                by_lane.entry(message.partition()).or_default().extend(own.read(message));
                true
            })?;
            for ((at, to), piece) in open.iter_mut().zip(&pieces) {
                let mut events = by_lane.remove(&piece.partition).unwrap_or_default();
                let tail = tails.entry(*at).or_default();
                events.append(tail);
                *tail = events;
                *to = piece.from;
            }
            open.retain(|(at, to)| *to > bounds[*at].0 && tails.get(at).is_none_or(|tail| tail.len() < TAIL));
            step = step.saturating_mul(2);
        }
        Ok(tails)
    }

    fn read_back(
        &self,
        source: &Source,
        lane: LaneId,
        place: u64,
        max: usize,
        stop: &Stop,
    ) -> Result<Vec<Found>, Failure> {
        let lane = self.lanes.get(usize::from(lane.0)..=usize::from(lane.0));
        let lane = lane.ok_or_else(|| Failure::Unreachable("there is no such lane".into()))?;
        let (low, high) = bounds(&self.consumer, lane)?[0];
        let from = i64::try_from(place).unwrap_or(i64::MAX).max(low);
        let mut own = OwnEvents::new(source);
        let mut found = Vec::new();
        let piece = Piece { partition: lane[0].1, from, to: high };
        scan(&self.consumer, &lane[0].0, &[piece], stop, |message| {
            found.extend(own.read(message));
            found.len() < max
        })?;
        found.truncate(max);
        Ok(found)
    }

    /// What was acknowledged lies in partitions by key, so a topic with fewer of them was made anew with another count.
    fn same_counts(&self, known: &[LaneSaved]) -> Result<(), Failure> {
        let mut wrong = Vec::new();
        for saved in known {
            let Some((topic, partition)) = split_lane(&saved.name) else { continue };
            let now = self.lanes.iter().filter(|(name, _)| **name == *topic).count();
            if now > 0 && usize::try_from(partition).is_ok_and(|partition| partition >= now) {
                wrong.push(format!(
                    "topic {topic} has {now} partitions and had at least {}: with another count keys move to other \
                     partitions and lose their order; make it as it was",
                    partition + 1
                ));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Failure::Misfit(wrong)) }
    }
}

/// Reads pieces of one topic, until `each` says no.
pub(super) fn scan(
    consumer: &BaseConsumer<Ears>,
    topic: &str,
    pieces: &[Piece],
    stop: &Stop,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<(), Failure> {
    let mut left: HashMap<i32, i64> = HashMap::new();
    let mut list = TopicPartitionList::new();
    for piece in pieces.iter().filter(|piece| piece.from < piece.to) {
        left.insert(piece.partition, piece.to);
        let added = list.add_partition_offset(topic, piece.partition, Offset::Offset(piece.from));
        added.map_err(|error| failed(topic, &error))?;
    }
    if left.is_empty() {
        return Ok(());
    }
    consumer.assign(&list).map_err(|error| failed(topic, &error))?;
    let read = read_assigned(consumer, topic, &mut left, stop, &mut each);
    let unassigned = consumer.unassign().map_err(|error| failed(topic, &error));
    read.and(unassigned)
}

fn read_assigned(
    consumer: &BaseConsumer<Ears>,
    topic: &str,
    left: &mut HashMap<i32, i64>,
    stop: &Stop,
    each: &mut dyn FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<(), Failure> {
    let mut idle = 0;
    while !left.is_empty() {
        match consumer.poll(SLICE) {
            Some(Ok(message)) => {
                idle = 0;
                let partition = message.partition();
                let Some(to) = left.get(&partition).copied().filter(|_| message.topic() == topic) else {
                    continue;
                };
                if message.offset() < to && !each(&message) {
                    return Ok(());
                }
                if message.offset() + 1 >= to {
                    left.remove(&partition);
                }
            }
            // All pieces are of one topic, so the number alone says which.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                left.remove(&partition);
            }
            Some(Err(error)) if harmless(&error) => {}
            Some(Err(error)) => {
                return Err(consumer.context().trouble().unwrap_or_else(|| failed(topic, &error)));
            }
            None => idle += 1,
        }
        if stop.is_set() || idle > SLICES {
            return Err(Failure::Unreachable(format!("{topic}: nothing more is read").into()));
        }
    }
    Ok(())
}

/// Of groups, in none of which we are.
pub(super) fn harmless(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::GroupAuthorizationFailed
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator
        )
    )
}

/// First offset and the one behind the last, of each lane, in two requests for each broker.
pub(super) fn bounds(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
) -> Result<Vec<(i64, i64)>, Failure> {
    let lows = offsets(consumer, lanes, |_| Offset::Beginning)?;
    let highs = offsets(consumer, lanes, |_| Offset::End)?;
    Ok(lows.into_iter().zip(highs).collect())
}

/// Offsets by time, or those of beginning and end (which the protocol takes for times); in the order of the lanes.
/// Where nothing is as late, the offset is negative.
pub(super) fn offsets(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
    time: impl Fn(usize) -> Offset,
) -> Result<Vec<i64>, Failure> {
    if lanes.is_empty() {
        return Ok(Vec::new());
    }
    // A new partition is in the metadata before its leader knows that it leads.
    for _ in 0..SLICES {
        match ask(consumer, lanes, &time) {
            Err(error) if passing(&error) => std::thread::park_timeout(SLICE),
            told => return told.map_err(|error| failed(NOT_TOLD, &error)),
        }
    }
    Err(Failure::Unreachable(format!("{NOT_TOLD}: they have no leader").into()))
}

const NOT_TOLD: &str = "the ends of partitions are not told";

fn passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::ReplicaNotAvailable
                | Code::OffsetNotAvailable
        )
    )
}

fn ask(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
    time: impl Fn(usize) -> Offset,
) -> Result<Vec<i64>, KafkaError> {
    let mut asked = TopicPartitionList::with_capacity(lanes.len());
    for (at, (topic, partition)) in lanes.iter().enumerate() {
        asked.add_partition_offset(topic, *partition, time(at))?;
    }
    let told = consumer.offsets_for_times(asked, REQUEST)?;
    let mut by_lane: HashMap<(String, i32), i64> = HashMap::with_capacity(lanes.len());
    for lane in told.elements() {
        lane.error()?;
        let offset = lane.offset().to_raw().unwrap_or(-1);
        by_lane.insert((lane.topic().to_owned(), lane.partition()), offset);
    }
    let missing = KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition);
    let of = |(topic, partition): &(Text, i32)| {
        by_lane.get(&(topic.as_str().to_owned(), *partition)).copied().ok_or_else(|| missing.clone())
    };
    lanes.iter().map(of).collect()
}

/// A message's headers as text and bytes.
pub(super) fn headers<'a>(message: &'a BorrowedMessage<'_>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let headers = message.headers();
    headers
        .into_iter()
        .flat_map(|headers| headers.iter())
        .map(|header| (header.key, header.value.unwrap_or_default()))
}

/// Tells own events from others'.
struct OwnEvents<'a> {
    source: &'a Source,
    prefix: String,
    decoder: Decoder,
}

impl<'a> OwnEvents<'a> {
    fn new(source: &'a Source) -> Self {
        let prefix = format!("urn:signalbox:{}:{}:", source.cluster, source.edge);
        Self { source, prefix, decoder: Decoder::default() }
    }

    fn read(&mut self, message: &BorrowedMessage<'_>) -> Option<Found> {
        let others =
            |(name, value): (&str, &[u8])| name == "ce_source" && !value.starts_with(self.prefix.as_bytes());
        if headers(message).any(others) {
            return None;
        }
        let event = self
            .decoder
            .binary(headers(message), message.payload().filter(|value| !value.is_empty())?)
            .ok()?;
        let place = u64::try_from(message.offset()).unwrap_or(0);
        event.source.same_edge(self.source).then(|| Found::of(&event, place))
    }
}
