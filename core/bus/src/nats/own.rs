//! What the streams hold of our own: their ends before the first publish, and everything again for the auditor.
//!
//! Everything is asked of a stream's leader: a copy may lag, and its end would look like a loss.

use super::api::{Api, From};
use super::streams::{self, Info};
use crate::event::Source;
use crate::publisher::{Failure, Found, LaneFound, LaneId, LaneName, LaneSaved, Own, TAIL};
use crate::subscription::BoxFuture;
use crate::wire::{Decoder, filter};

/// Reads back over one connection.
pub(super) struct NatsOwn {
    api: Api,
    lanes: Vec<LaneName>,
}

/// A journal writes nothing before it was made; clocks may be wrong by this.
const CLOCKS_DIFFER: i64 = 24 * 3_600 * 1_000_000_000;

/// Whose events in which stream.
struct Mine<'a> {
    stream: &'a str,
    source: &'a Source,
    filter: [String; 1],
}

impl NatsOwn {
    pub(super) fn new(api: Api, lanes: Vec<LaneName>) -> Self {
        Self { api, lanes }
    }

    fn mine<'a>(&self, lane: &'a LaneName, source: &'a Source) -> Mine<'a> {
        Mine { stream: &lane.name, source, filter: [filter(None, None, None, Some(&source.edge))] }
    }

    async fn end(
        &self,
        lane: &LaneName,
        source: &Source,
        known: Option<&LaneSaved>,
    ) -> Result<LaneFound, Failure> {
        let mine = self.mine(lane, source);
        let gone = || Failure::Unreachable(format!("stream {} has gone", lane.name).into());
        let info = streams::find(&self.api, &lane.name).await?.ok_or_else(gone)?;
        let (holds, known_event) = match known {
            Some(known) => self.holds(&mine, known, &info).await?,
            None => (false, None),
        };
        let known_place = known.filter(|_| holds).map(|known| known.place);
        let Some(last) = self.api.last(&lane.name, &mine.filter[0]).await? else {
            return Ok(LaneFound::new(source, known_place, None, Vec::new()));
        };
        let seen_before = known_event.as_ref().is_some_and(|event| event.id.journal == source.journal);
        let mut span = TAIL as u64;
        let mut from = known_place.map_or(last.place.saturating_sub(span - 1), |place| place + 1);
        let found = loop {
            from = from.max(info.state.first);
            let found = self.read(&mine, from, last.place, usize::MAX).await?;
            let whole = known_place.is_some() || found.len() >= TAIL;
            let journal = seen_before || found.iter().any(|event| event.id.journal == source.journal);
            if from <= info.state.first || whole && (journal || self.is_older(&mine, from).await?) {
                break found;
            }
            span = span.saturating_mul(4);
            from = last.place.saturating_sub(span);
        };
        Ok(LaneFound::new(source, known_place, known_event, found))
    }

    /// Whether what was acknowledged last still lies there, and what lies there. What retention has taken since was there.
    async fn holds(
        &self,
        mine: &Mine<'_>,
        known: &LaneSaved,
        info: &Info,
    ) -> Result<(bool, Option<Found>), Failure> {
        if known.incarnation != info.created || known.place > info.state.last {
            return Ok((false, None));
        }
        if known.place < info.state.first {
            return Ok((true, None));
        }
        let Some(stored) = self.api.at(mine.stream, known.place).await? else { return Ok((false, None)) };
        let event = mine.found(&mut Decoder::default(), &stored.payload, stored.place);
        let same =
            |event: &Found| event.id.journal.to_string() == known.journal && event.id.seq.0 == known.seq;
        let event = event.filter(same);
        Ok((event.is_some(), event))
    }

    /// Whether what lies there was stored before the journal was made.
    async fn is_older(&self, mine: &Mine<'_>, place: u64) -> Result<bool, Failure> {
        // A journal's id begins with the milliseconds of its making.
        let made = i64::try_from(mine.source.journal.0 >> 80).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let stored = self.api.from(mine.stream, place).await?;
        Ok(stored.is_none_or(|stored| stored.time.saturating_add(CLOCKS_DIFFER) < made))
    }

    /// Own events from a place to another, at most `max`.
    async fn read(&self, mine: &Mine<'_>, from: u64, to: u64, max: usize) -> Result<Vec<Found>, Failure> {
        let mut found = Vec::new();
        if from > to {
            return Ok(found);
        }
        let mut decoder = Decoder::default();
        let mut pull = self.api.pull(mine.stream, From::Place(from), &mine.filter).await?;
        while pull.pending > 0 && found.len() < max {
            let message = pull.next().await?;
            if message.place > to {
                break;
            }
            found.extend(mine.found(&mut decoder, &message.payload, message.place));
        }
        pull.remove().await;
        Ok(found)
    }
}

impl Mine<'_> {
    /// The event, if it is one of this edge.
    fn found(&self, decoder: &mut Decoder, payload: &[u8], place: u64) -> Option<Found> {
        let event = decoder.structured(payload).ok()?;
        event.source.same_edge(self.source).then(|| Found::of(&event, place))
    }
}

impl Own for NatsOwn {
    fn ends<'a>(
        &'a mut self,
        source: &'a Source,
        known: &'a [LaneSaved],
    ) -> BoxFuture<'a, Result<Vec<LaneFound>, Failure>> {
        Box::pin(async move {
            let mut ends = Vec::with_capacity(self.lanes.len());
            for lane in &self.lanes {
                let known = known.iter().find(|known| *known.name == *lane.name);
                ends.push(self.end(lane, source, known).await?);
            }
            Ok(ends)
        })
    }

    fn read_back<'a>(
        &'a mut self,
        source: &'a Source,
        lane: LaneId,
        place: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Found>, Failure>> {
        Box::pin(async move {
            let Some(lane) = self.lanes.get(usize::from(lane.0)) else { return Ok(Vec::new()) };
            self.read(&self.mine(lane, source), place, u64::MAX, max).await
        })
    }
}
