//! Which partitions a subscription reads, and from which offsets.

use super::connect::{Ears, Stop, failed};
use super::hint::{Places, Spot};
use super::own::{Piece, bounds, headers, offsets, scan};
use super::topics::{Topics, carries};
use crate::publisher::Failure;
use crate::subscription::Start;
use crate::wire::topic;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use signalbox_base::Text;
use signalbox_journal::Filter;
use std::hash::BuildHasher;

/// Clocks of edges and brokers differ, and what was lost in a rollback is stored again later: this much earlier is safe.
const SLACK_MS: i64 = 600_000;

/// Where a partition is begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    /// How far it counts as read.
    pub(super) spot: Spot,
    /// Its first offset.
    pub(super) low: i64,
    /// The offset behind its last one.
    pub(super) end: i64,
}

/// Partitions of the topics that may hold what the filter wants.
pub(super) fn lanes(there: &Topics, filter: &Filter) -> Vec<(Text, i32)> {
    let wanted = |name: &str| {
        let Some(of) = carries(name) else { return false };
        let of_domain = |kind: &String| kind.split('.').next() == Some(of.domain);
        let of_tenant = |tenant: &String| topic(of.domain, Some(tenant)) == name;
        (filter.kinds.is_empty() || filter.kinds.iter().any(of_domain))
            && (of.tenant.is_none() || filter.tenants.is_empty() || filter.tenants.iter().any(of_tenant))
    };
    let topics = there.iter().filter(|(name, _)| wanted(name));
    topics.flat_map(|(name, topic)| (0..topic.partitions).map(|p| (Text::from(name.as_str()), p))).collect()
}

/// Where the partitions are begun, and whether all of them are from their beginning.
pub(super) fn begin(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
    start: &Start,
    places: Option<&Places>,
    cluster: &str,
    stop: &Stop,
) -> Result<(Vec<Begin>, bool), Failure> {
    let bounds = bounds(consumer, lanes)?;
    let begin = |at: usize, next: i64| {
        let (low, end) = bounds[at];
        Begin { spot: Spot { next: next.clamp(low, end), ..Spot::default() }, low, end }
    };
    let oldest = || (0..lanes.len()).map(|at| begin(at, 0)).collect::<Vec<_>>();
    let begins = match (start, places) {
        (Start::End, _) => (0..lanes.len()).map(|at| begin(at, i64::MAX)).collect(),
        (Start::Time(moment), _) => {
            let time = moment.0 / 1_000;
            by_time(consumer, lanes, &bounds, |_| time)?
        }
        (Start::Hint(_) | Start::Cursor, Some(places)) => {
            match resume(consumer, lanes, &bounds, places, cluster, stop)? {
                Some(begins) => begins,
                None => return Ok((oldest(), true)),
            }
        }
        _ => return Ok((oldest(), true)),
    };
    Ok((begins, false))
}

/// With what came at a time (milliseconds, the broker's clock) or later, and somewhat before.
fn by_time(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
    bounds: &[(i64, i64)],
    time: impl Fn(usize) -> i64,
) -> Result<Vec<Begin>, Failure> {
    let earlier = |at: usize| (time(at) - SLACK_MS).max(0);
    let found = offsets(consumer, lanes, |at| Offset::Offset(earlier(at)))?;
    let begin = |(at, (offset, (low, end))): (usize, (i64, &(i64, i64)))| {
        // Nothing is as late: what comes now will be.
        let next = if offset < 0 { *end } else { offset.clamp(*low, *end) };
        let spot = Spot { next, print: None, time: Some(time(at)) };
        Begin { spot, low: *low, end: *end }
    };
    Ok(found.into_iter().zip(bounds).enumerate().map(begin).collect())
}

/// Where a hint leads; `None` when retention has overtaken it: then only the beginning is sure.
fn resume(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
    bounds: &[(i64, i64)],
    places: &Places,
    cluster: &str,
    stop: &Stop,
) -> Result<Option<Vec<Begin>>, Failure> {
    if places.cluster != cluster {
        let times = places.spots.values().map(|spot| spot.time);
        let earliest = times.chain(places.rest.map(Some)).min().flatten();
        return earliest.map(|time| by_time(consumer, lanes, bounds, |_| time)).transpose();
    }
    let known: Vec<Option<&Spot>> =
        lanes.iter().map(|lane| places.spots.get(&(lane.0.as_str().to_owned(), lane.1))).collect();
    let overtaken =
        |(spot, (low, _)): (&Option<&Spot>, &(i64, i64))| spot.is_some_and(|spot| spot.next < *low);
    if known.iter().zip(bounds).any(overtaken) {
        tracing::info!("retention has overtaken a resume hint; the topics are read from their beginning");
        return Ok(None);
    }
    let prints = prints(consumer, lanes, bounds, &known, stop)?;
    let time = |at: usize| known[at].map_or(places.rest, |spot| spot.time);
    let timed = by_time(consumer, lanes, bounds, |at| time(at).unwrap_or(0))?;
    let begins = timed.into_iter().enumerate().map(|(at, timed)| {
        let (low, end) = bounds[at];
        let from = |spot| Begin { spot, low, end };
        let begin = Spot { next: low, ..Spot::default() };
        match known[at] {
            // Retention has taken the message that would tell, and nothing behind it.
            Some(spot) if spot.next == low => from(*spot),
            Some(spot) if spot.next <= end && spot.print.is_some() && spot.print == prints[at] => from(*spot),
            Some(spot) if spot.next <= end && spot.print.is_none() && spot.time.is_none() => from(*spot),
            _ if time(at).is_some() => timed,
            _ => from(begin),
        }
    });
    Ok(Some(begins.collect()))
}

/// Fingerprints of the messages before the known spots.
fn prints(
    consumer: &BaseConsumer<Ears>,
    lanes: &[(Text, i32)],
    bounds: &[(i64, i64)],
    known: &[Option<&Spot>],
    stop: &Stop,
) -> Result<Vec<Option<u32>>, Failure> {
    let mut prints = vec![None; lanes.len()];
    let mut first = 0;
    for topic in lanes.chunk_by(|one, other| one.0 == other.0) {
        let at = first..first + topic.len();
        first = at.end;
        let mut pieces = Vec::new();
        for at in at.clone() {
            if let Some(spot) = known[at].filter(|spot| spot.print.is_some() && spot.next <= bounds[at].1) {
                let from = (spot.next - 1).max(bounds[at].0);
                pieces.push(Piece { partition: lanes[at].1, from, to: spot.next });
            }
        }
        scan(consumer, &topic[0].0, &pieces, stop, |message| {
            let lane = at.clone().find(|at| lanes[*at].1 == message.partition());
            if let Some(lane) = lane {
                prints[lane] = Some(print(message));
            }
            true
        })?;
    }
    Ok(prints)
}

/// Tells a message from what may lie at its offset after a rollback.
pub(super) fn print(message: &BorrowedMessage<'_>) -> u32 {
    let state = foldhash::fast::FixedState::with_seed(2);
    let time = message.timestamp().to_millis();
    let id = headers(message).find(|(name, _)| *name == "ce_id").map(|(_, id)| id);
    let hash = match id {
        Some(id) => state.hash_one((time, id)),
        None => state.hash_one((time, message.key(), message.payload())),
    };
    u32::try_from(hash >> 32).expect("32 bits are left")
}

/// Begins to fetch there.
pub(super) fn assign<'a>(
    consumer: &BaseConsumer<Ears>,
    spots: impl IntoIterator<Item = (&'a (Text, i32), i64)>,
) -> Result<(), Failure> {
    let what = "partitions are not assigned";
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next) in spots {
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(next));
        added.map_err(|error| failed(what, &error))?;
    }
    consumer.assign(&list).map_err(|error| failed(what, &error))
}
