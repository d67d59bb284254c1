//! The thread of one subscription: connects, finds out where to begin, and reads each stream into a short queue.

use super::Config;
use super::api::{Api, From, Pull, Pulled};
use super::connect::Link;
use super::hint::{self, Spot};
use super::streams::{self, Info};
use crate::event::{Delivered, Source};
use crate::publisher::Failure;
use crate::subscription::{Error, Floor, Request, Start};
use crate::wire::{Decoder, GROUPS, filter, group_of};
use signalbox_base::{EventSeq, Text, Wall};
use signalbox_journal::Filter;
use signalbox_schemas::values::EventId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Events and bytes that are handed over at once.
const CHUNK_EVENTS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
/// All that a rolled back server lost is stored again later than this before it.
const BEFORE: i64 = 600 * 1_000_000_000;
/// What is no event of ours is told this often at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What was read of one stream.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) lane: usize,
    pub(super) items: std::collections::VecDeque<Item>,
    /// What waits behind it in the stream.
    pub(super) pending: u64,
    /// The stream was read to the end it had at first, from its beginning: what retention has taken before.
    pub(super) caught_up: Option<Vec<Floor>>,
}

/// An event and where it lies.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: Delivered,
    pub(super) place: u64,
    pub(super) time: i64,
    /// What waits behind it in its stream.
    pub(super) pending: u64,
}

/// Where a subscription begins, by stream.
pub(super) struct Opened {
    pub(super) spots: Vec<Spot>,
    pub(super) pending: Vec<u64>,
    /// Floors will be told.
    pub(super) floors: bool,
}

/// What the thread needs.
pub(super) struct Feed {
    pub(super) config: Arc<Config>,
    pub(super) request: Request,
    pub(super) opened: oneshot::Sender<Result<Opened, Error>>,
    pub(super) chunks: mpsc::Sender<Result<Chunk, Error>>,
}

impl Feed {
    /// Runs until the subscription is dropped or the connection breaks; with the runtime the connection goes.
    pub(super) fn run(self) {
        let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = self.opened.send(Err(Error::Unavailable(format!("no runtime: {error}"))));
                return;
            }
        };
        let chunks = self.chunks.clone();
        runtime.block_on(async {
            tokio::select! {
                () = chunks.closed() => {}
                () = self.read() => {}
            }
        });
        runtime.shutdown_background();
    }

    async fn read(self) {
        let Self { config, request, opened, chunks } = self;
        let (link, lanes) = match open(&config, &request).await {
            Ok(open) => open,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let spots = lanes.iter().map(|lane| lane.spot.clone()).collect();
        let pending = lanes.iter().map(|lane| lane.pull.pending).collect();
        let floors = lanes.iter().all(|lane| lane.floors.is_some());
        if opened.send(Ok(Opened { spots, pending, floors })).is_err() {
            return;
        }
        let mut reading = JoinSet::new();
        for lane in lanes {
            reading.spawn(lane.run(chunks.clone()));
        }
        let error = tokio::select! {
            Some(ended) = reading.join_next() => match ended {
                Ok(Some(failure)) => failure.into(),
                Ok(None) => return,
                Err(error) => Error::Unavailable(format!("a reader ended: {error}")),
            },
            why = link.broken() => why.into(),
        };
        let _ = chunks.send(Err(error)).await;
    }
}

/// Connects and makes a consumer on each stream that the request touches.
async fn open(config: &Config, request: &Request) -> Result<(Link, Vec<Lane>), Error> {
    let link = Link::open(config).await?;
    let api = Api::new(link.clone());
    let hinted = match &request.start {
        Start::Hint(hint) => hint::read(hint).unwrap_or_default(),
        _ => Vec::new(),
    };
    let whole =
        request.filter.tenants.is_empty() && request.filter.kinds.iter().all(|kind| !kind.contains('.'));
    let told_floors =
        whole && matches!(request.start, Start::Beginning | Start::Cursor | Start::After(_) | Start::Hint(_));
    let mut lanes = Vec::new();
    for (lane, (stream, filters)) in streams_of(&request.filter).into_iter().enumerate() {
        let info = streams::find(&api, stream).await?;
        let info = info.ok_or_else(|| Error::Unavailable(format!("there is no stream {stream} yet")))?;
        let hinted = hinted.iter().find(|spot| spot.stream == stream);
        let (from, spot) = begin(&api, stream, &info, &request.start, hinted).await?;
        let pull = api.pull(stream, from, &filters).await?;
        // Retention has taken what was not read: all of it, or what lies behind the place that was read last.
        let unread = match hinted.filter(|known| known.place > 0) {
            Some(known) if known.created != info.created => u64::MAX,
            Some(known) => known.place + 1,
            None => 1,
        };
        let floors = told_floors.then(|| Floors {
            end: info.state.last,
            lost: info.state.first > unread,
            ..Floors::default()
        });
        lanes.push(Lane::new(lane, request, pull, spot, floors));
    }
    Ok((link, lanes))
}

/// The streams that hold what the filter wants, and the subjects to read there; none means all.
fn streams_of(wanted: &Filter) -> Vec<(&'static str, Vec<String>)> {
    let tenants: Vec<Option<&str>> = if wanted.tenants.is_empty() {
        vec![None]
    } else {
        wanted.tenants.iter().map(|tenant| Some(tenant.as_str())).collect()
    };
    let whole = |domain: &str| wanted.kinds.iter().any(|kind| kind == domain);
    let mut streams: HashMap<&str, BTreeSet<String>> = HashMap::new();
    for kind in &wanted.kinds {
        let mut parts = kind.split('.');
        let (domain, name) = (parts.next().unwrap_or_default(), parts.next());
        if name.is_some() && whole(domain) {
            continue;
        }
        let subjects = streams.entry(group_of(domain).stream).or_default();
        subjects.extend(tenants.iter().map(|tenant| filter(Some(domain), name, *tenant, None)));
    }
    let by_tenant = || wanted.tenants.iter().map(|tenant| filter(None, None, Some(tenant), None));
    let all: BTreeSet<String> = by_tenant().collect();
    GROUPS
        .iter()
        .filter_map(|group| match streams.remove(group.stream) {
            Some(subjects) => Some((group.stream, subjects.into_iter().collect())),
            None => wanted.kinds.is_empty().then(|| (group.stream, all.iter().cloned().collect())),
        })
        .collect()
}

/// Where a stream is read from, and what a hint says before anything of it was read.
async fn begin(
    api: &Api,
    stream: &str,
    info: &Info,
    start: &Start,
    hinted: Option<&Spot>,
) -> Result<(From, Spot), Failure> {
    let spot =
        |place, id, time| Spot { stream: stream.to_owned(), created: info.created.clone(), place, id, time };
    let from_time = |time: i64| match time {
        ..=0 => (From::Place(1), spot(0, None, 0)),
        time => (From::Time(time), spot(0, None, time)),
    };
    Ok(match (start, hinted) {
        (Start::Time(moment), _) => from_time(moment.0.saturating_mul(1_000).saturating_sub(BEFORE)),
        (Start::End, _) if info.state.last == 0 => from_time(0),
        (Start::End, _) => {
            let stored = api.at(stream, info.state.last).await?;
            let id = stored.as_ref().and_then(|stored| id_of(&stored.payload));
            let time = stored.map_or(0, |stored| stored.time);
            (From::Place(info.state.last + 1), spot(info.state.last, id, time))
        }
        (_, Some(known)) if known.place == 0 => from_time(known.time),
        (_, Some(known)) => {
            if holds(api, known, info).await? {
                (From::Place(known.place + 1), known.clone())
            } else {
                tracing::warn!(
                    stream,
                    place = known.place,
                    "NATS: the stream is not what it was when it was read; reading again from before that"
                );
                from_time(known.time.saturating_sub(BEFORE))
            }
        }
        (Start::Beginning | Start::Cursor | Start::After(_) | Start::Hint(_), None) => from_time(0),
    })
}

/// Whether what was read last is still there, or was taken by retention since.
async fn holds(api: &Api, known: &Spot, info: &Info) -> Result<bool, Failure> {
    if known.created != info.created || known.place > info.state.last {
        return Ok(false);
    }
    if known.place < info.state.first {
        return Ok(true);
    }
    // What was lost and stored again may by chance lie where it lay, between others than before: its time tells.
    let stored = api.at(&known.stream, known.place).await?.filter(|stored| stored.time == known.time);
    let id = stored.and_then(|stored| id_of(&stored.payload));
    Ok(id.is_some() && id == known.id)
}

fn id_of(payload: &[u8]) -> Option<EventId> {
    let event = Delivered::from_structured(payload).ok()?;
    Some(EventId { journal: event.source.journal, seq: event.seq })
}

/// The first number of each domain in a stream that has lost its beginning.
#[derive(Debug, Default)]
struct Floors {
    /// The stream's last place at first.
    end: u64,
    /// It has forgotten something.
    lost: bool,
    first: HashMap<(Arc<Source>, Text), u64>,
}

/// One stream.
struct Lane {
    lane: usize,
    pull: Pull,
    spot: Spot,
    decoder: Decoder,
    filter: Filter,
    linger: Duration,
    /// Events recorded before are passed over.
    since: Wall,
    /// Events up to these are passed over.
    after: Vec<(Source, EventSeq)>,
    /// Until the end of then is reached.
    floors: Option<Floors>,
    foreign: Foreigners,
}

/// What is no live event of ours.
#[derive(Default)]
struct Foreigners {
    count: u64,
    told: Option<Instant>,
}

impl Lane {
    fn new(lane: usize, request: &Request, pull: Pull, spot: Spot, floors: Option<Floors>) -> Self {
        let after = if let Start::After(after) = &request.start { after.clone() } else { Vec::new() };
        let since = if let Start::Time(since) = request.start { since } else { Wall(i64::MIN) };
        let (filter, linger) = (request.filter.clone(), request.linger);
        let (decoder, foreign) = (Decoder::default(), Foreigners::default());
        Self { lane, pull, spot, decoder, filter, linger, since, after, floors, foreign }
    }

    /// Reads until it fails or nobody takes what is read.
    async fn run(mut self, chunks: mpsc::Sender<Result<Chunk, Error>>) -> Option<Failure> {
        if let Some(floors) = self.reached(0) {
            let chunk = Chunk { lane: self.lane, caught_up: Some(floors), ..Chunk::default() };
            if chunks.send(Ok(chunk)).await.is_err() {
                return None;
            }
        }
        loop {
            let chunk = match self.read().await {
                Ok(chunk) => chunk,
                Err(failure) => return Some(failure),
            };
            if chunks.send(Ok(chunk)).await.is_err() {
                return None;
            }
        }
    }

    /// What comes, with what is there already, up to a chunk.
    async fn read(&mut self) -> Result<Chunk, Failure> {
        let mut chunk = Chunk { lane: self.lane, ..Chunk::default() };
        let mut bytes = 0;
        let first = self.pull.next().await?;
        let until = Instant::now() + self.linger;
        self.take(&first, &mut chunk, &mut bytes);
        while chunk.items.len() < CHUNK_EVENTS && bytes < CHUNK_BYTES {
            let next = match self.pull.ready()? {
                Some(next) => next,
                None if self.pull.pending > 0 || self.linger.is_zero() => break,
                None => match timeout_at(until, self.pull.next()).await {
                    Ok(next) => next?,
                    Err(_) => break,
                },
            };
            self.take(&next, &mut chunk, &mut bytes);
        }
        chunk.pending = self.pull.pending;
        Ok(chunk)
    }

    fn take(&mut self, message: &Pulled, chunk: &mut Chunk, bytes: &mut usize) {
        *bytes += message.payload.len();
        match self.decoder.structured(&message.payload) {
            Ok(event) => {
                if let Some(floors) = self.floors.as_mut().filter(|floors| floors.lost) {
                    let domain = (Arc::clone(&event.source), Text::new(event.domain()));
                    floors.first.entry(domain).or_insert(event.domain_seq);
                }
                if self.wants(&event) {
                    let (place, time, pending) = (message.place, message.time, message.pending);
                    chunk.items.push_back(Item { event, place, time, pending });
                }
            }
            Err(why) => self.foreign.met(&self.spot.stream, message.place, &why),
        }
        if let Some(floors) = self.reached(message.place) {
            chunk.caught_up = Some(floors);
        }
    }

    fn wants(&self, event: &Delivered) -> bool {
        let read = |(source, through): &(Source, EventSeq)| *source == *event.source && event.seq <= *through;
        self.filter.wants(&event.kind, &event.tenant)
            && event.recorded >= self.since
            && !self.after.iter().any(read)
    }

    /// The floors, once, when the stream was read to the end it had at first.
    fn reached(&mut self, place: u64) -> Option<Vec<Floor>> {
        let end = self.floors.as_ref()?.end;
        if place < end && self.pull.pending > 0 {
            return None;
        }
        let first = self.floors.take()?.first.into_iter().filter(|(_, first)| *first > 1);
        Some(first.map(|((source, domain), first)| Floor { source, domain, first }).collect())
    }
}

impl Foreigners {
    fn met(&mut self, stream: &str, place: u64, why: &crate::wire::Foreign) {
        self.count += 1;
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told >= TOLD_EVERY) {
            self.told = Some(now);
            tracing::warn!(stream, place, passed_over = self.count, "NATS: {why}; it is passed over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_touches_only_the_streams_that_hold_what_it_wants() {
        let of = |kinds: &[&str], tenants: &[&str]| {
            let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            streams_of(&Filter { kinds: text(kinds), tenants: text(tenants) })
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(of(&[], &[]), GROUPS.map(|group| (group.stream, none.clone())));
        let acme = ("SIGNALBOX_SECURITY", vec!["signalbox.v1.*.*.acme.*".to_owned()]);
        assert_eq!(of(&[], &["acme"])[2], acme);
        let narrow =
            ["signalbox.v1.call.ended._.*", "signalbox.v1.call.ended.acme.*", "signalbox.v1.media.*._.*"];
        let narrow = narrow.iter().chain(&["signalbox.v1.media.*.acme.*"]).map(|s| (*s).to_owned()).collect();
        let wanted = of(&["call.ended.v1", "call.ended", "media", "media.started"], &["acme", ""]);
        assert_eq!(wanted, [("SIGNALBOX_CALL", narrow)]);
        let fax = vec!["signalbox.v1.fax.*.*.*".to_owned()];
        assert_eq!(of(&["fax"], &[]), [("SIGNALBOX_OPERATIONS", fax)], "where a later release would put it");
    }
}
