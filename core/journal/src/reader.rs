//! Reading a journal, live or past, from this process or another, without allocation per record.

use crate::archive;
use crate::config::Layout;
use crate::error::{Error, Gap, Result};
use crate::format::{
    BATCH_HEADER, BatchHeader, SEGMENT_HEADER, SegmentHeader, batch_crc_holds, u64_at, wall_at,
};
use crate::record::{Filter, Lengths, Record};
use crate::segment::{self, Segment};
use crate::storage::SharedStorage;
use crate::watermark::Mark;
use signalbox_base::{EventSeq, JournalId, Wall};

/// Bytes read at once: few where the journal is being written, where most of them would be read again with the next
/// commit; twice as many each time all of them were wanted.
const CHUNK_FIRST: usize = 16 * 1024;
const CHUNK_LONGEST: usize = 256 * 1024;
/// How often a segment that retention deletes under us is looked for again.
const LOCATE_TRIES_MAX: usize = 8;

/// Where a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record in the archive or the journal.
    Oldest,
    /// This sequence. If it is gone, the first `next` says [`Error::Gap`].
    Seq(EventSeq),
    /// The first record journalled at or after this moment.
    Time(Wall),
    /// What becomes durable after now.
    End,
}

/// Iterates records up to the durable watermark; goes on when it moves.
pub struct Reader {
    storage: SharedStorage,
    layout: Layout,
    mark: Mark,
    filter: Filter,
    /// Next sequence to hand out.
    next: EventSeq,
    /// Records journalled before this are passed over.
    since: Wall,
    place: Option<Place>,
    window: Window,
    /// Records of the loaded batch not yet handed out: a range of the window.
    record: usize,
    batch_end: usize,
}

/// An opened segment and where in it the next batch starts.
struct Place {
    segment: Segment,
    archived: bool,
    at: u64,
    expected: EventSeq,
}

/// Bytes of the current segment. A batch in it counts only when it was durable as the bytes were read.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    len: usize,
    at: u64,
    durable: EventSeq,
    /// Bytes to read at once.
    chunk: usize,
}

impl Reader {
    /// Opens a journal for reading. `mark` says how far it is durable: [`Mark::Local`] beside the writer,
    /// [`Mark::file`] (or [`Reader::open_dir`]) in another process.
    ///
    /// # Errors
    /// [`Error::BeyondEnd`] for a sequence after the next one to come, [`Error::Io`], [`Error::Damaged`].
    pub fn open(storage: SharedStorage, layout: Layout, mark: Mark, start: Start) -> Result<Self> {
        let durable = mark.durable()?;
        let mut since = Wall(i64::MIN);
        let next = match start {
            Start::Oldest => oldest(&storage, &layout)?.unwrap_or(EventSeq(1)),
            Start::Seq(seq) => EventSeq(seq.0.max(1)),
            Start::End => durable.next(),
            Start::Time(moment) => {
                since = moment;
                first_for(&storage, &layout, moment)?.unwrap_or(EventSeq(1))
            }
        };
        if matches!(start, Start::Seq(_)) && next > durable.next() {
            return Err(Error::BeyondEnd { at: next, durable });
        }
        let (filter, window) = (Filter::default(), Window::default());
        let place = None;
        Ok(Self { storage, layout, mark, filter, next, since, place, window, record: 0, batch_end: 0 })
    }

    /// Opens a journal that another process writes (or wrote).
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_dir(storage: SharedStorage, layout: Layout, start: Start) -> Result<Self> {
        let mark = Mark::file(SharedStorage::clone(&storage), layout.watermark());
        Self::open(storage, layout, mark, start)
    }

    /// Hands out only what `filter` wants; the rest is passed over by its header.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// The next record, `None` at the watermark.
    ///
    /// # Errors
    /// [`Error::Gap`] when records are gone: the reader then stands after the gap and may be asked again.
    /// [`Error::Damaged`], [`Error::Io`]: it stays where it was.
    #[expect(clippy::should_implement_trait, reason = "the record borrows the reader's buffer")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>> {
        loop {
            if let Some((from, to)) = self.next_in_batch()? {
                let journal = self.journal().expect("a batch is loaded from an open segment");
                return match Record::decode(journal, &self.window.bytes[from..to]) {
                    Ok(record) => Ok(Some(record)),
                    Err(reason) => Err(self.damaged(reason)),
                };
            }
            if !self.load_batch()? {
                return Ok(None);
            }
        }
    }

    /// The sequence that `next` looks at next: everything before has been handed out or filtered out, so it is
    /// one more than what a cursor may be advanced to.
    #[must_use]
    pub fn position(&self) -> EventSeq {
        self.next
    }

    /// Id of the journal that the current segment belongs to.
    #[must_use]
    pub fn journal(&self) -> Option<JournalId> {
        self.place.as_ref().map(|p| p.segment.header.journal)
    }

    /// The mark this reader keeps to.
    #[must_use]
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The next wanted record of the loaded batch as a range of the window.
    fn next_in_batch(&mut self) -> Result<Option<(usize, usize)>> {
        while self.record < self.batch_end {
            let bytes = &self.window.bytes[self.record..self.batch_end];
            let Some(lengths) = Lengths::decode(bytes) else {
                return Err(self.damaged("a record's lengths do not add up"));
            };
            let (seq, recorded) = (EventSeq(u64_at(bytes, 8)), wall_at(bytes, 24));
            let wanted = seq >= self.next && recorded >= self.since && lengths.wanted(bytes, &self.filter);
            let from = self.record;
            self.record += lengths.total;
            if seq >= self.next {
                self.next = seq.next();
                if recorded >= self.since {
                    // Found the moment: from here on the order of the journal counts, not the clock.
                    self.since = Wall(i64::MIN);
                }
            }
            if wanted {
                return Ok(Some((from, self.record)));
            }
        }
        Ok(None)
    }

    /// Loads the batch that holds `next`; false at the watermark.
    fn load_batch(&mut self) -> Result<bool> {
        let durable = self.mark.durable()?;
        while self.next <= durable {
            if self.place.is_none() {
                self.locate(durable)?;
            }
            let Some(header) = self.header(durable)? else {
                self.leave_segment()?;
                continue;
            };
            let place = self.place.as_mut().expect("located above");
            if header.first != place.expected {
                let expected = place.expected;
                return Err(self.damaged(&format!("a batch starts with {}, not {expected}", header.first)));
            }
            let skipped = header.last() < self.next || header.newest < self.since;
            if !skipped && !self.load(&header, durable)? {
                return Err(self.damaged("the batch's CRC does not match its bytes"));
            }
            let place = self.place.as_mut().expect("located above");
            place.at += header.padded() as u64;
            place.expected = header.last().next();
            if !skipped {
                return Ok(true);
            }
            self.next = self.next.max(header.last().next());
        }
        Ok(false)
    }

    /// The batch header at the current place; `None` where the segment ends.
    fn header(&mut self, durable: EventSeq) -> Result<Option<BatchHeader>> {
        let place = self.place.as_ref().expect("the caller located it");
        if !self.window.hold(place, BATCH_HEADER, durable)? {
            return Ok(None);
        }
        let bytes = self.window.at(place.at, BATCH_HEADER);
        match BatchHeader::decode(bytes) {
            Some(header) => Ok(Some(header)),
            None if bytes.iter().all(|b| *b == 0) => Ok(None),
            None => Err(self.damaged("no batch, and not the zeros that follow the last one")),
        }
    }

    fn load(&mut self, header: &BatchHeader, durable: EventSeq) -> Result<bool> {
        let place = self.place.as_ref().expect("the caller located it");
        if !self.window.hold(place, header.bytes(), durable)? {
            return Ok(false);
        }
        let from = usize::try_from(place.at - self.window.at).expect("the window holds the batch");
        if !batch_crc_holds(&place.segment.header, &self.window.bytes[from..from + header.bytes()]) {
            return Ok(false);
        }
        self.record = from + BATCH_HEADER;
        self.batch_end = from + header.bytes();
        Ok(true)
    }

    /// Opens the segment that holds `next`.
    fn locate(&mut self, durable: EventSeq) -> Result<()> {
        for _ in 0..LOCATE_TRIES_MAX {
            let firsts = firsts(&self.storage, &self.layout)?;
            let at_or_before = firsts.partition_point(|first| *first <= self.next);
            let Some(first) = at_or_before.checked_sub(1).map(|i| firsts[i]) else {
                return match firsts.first() {
                    Some(oldest) => Err(self.gap_until(*oldest)),
                    None => Err(self.gap_until(durable.next())),
                };
            };
            if self.enter(first)? {
                return Ok(());
            }
        }
        Err(Error::damaged(&self.layout.segment(self.next), 0, "the segment vanishes again and again"))
    }

    fn enter(&mut self, first: EventSeq) -> Result<bool> {
        let mut archived = false;
        let mut segment = Segment::open(&*self.storage, &self.layout, first)?;
        if segment.is_none() {
            segment = Segment::open_archived(&*self.storage, &self.layout, first)?;
            archived = true;
        }
        let Some(segment) = segment else { return Ok(false) };
        self.window.len = 0;
        self.place = Some(Place { segment, archived, at: SEGMENT_HEADER as u64, expected: first });
        Ok(true)
    }

    /// The current segment has no batch where durable records must follow: they are in the next one, or gone.
    fn leave_segment(&mut self) -> Result<()> {
        let place = self.place.take().expect("the caller located it");
        let (expected, was) = (place.expected, place.segment.header.clone());
        if self.enter(expected)? {
            let now = &self.place.as_ref().expect("just entered").segment.header;
            // A fork replaces an empty segment; the same header again means that its batches are missing.
            if *now != was {
                return Ok(());
            }
            return Err(self.damaged("durable batches are missing"));
        }
        let later = firsts(&self.storage, &self.layout)?.into_iter().find(|first| *first > expected);
        let still_there = !place.archived
            && segment::list(&*self.storage, &self.layout.dir)?.contains(&place.segment.header.first);
        if still_there {
            let reason = format!("the segment ends before {expected}, which was durable");
            return Err(Error::damaged(&place.segment.path, place.at, reason));
        }
        self.next = self.next.max(expected);
        match later {
            // The place was in a hole before `next` anyway.
            Some(first) if first <= self.next => Ok(()),
            Some(first) => Err(self.gap_until(first)),
            None => {
                let durable = self.mark.durable()?;
                Err(self.gap_until(durable.next()))
            }
        }
    }

    /// Steps over `[next, first)` and says so.
    fn gap_until(&mut self, first: EventSeq) -> Error {
        let gap = Gap { from: self.next, to: EventSeq(first.0 - 1) };
        self.next = first;
        self.place = None;
        Error::Gap(gap)
    }

    fn damaged(&self, reason: &str) -> Error {
        match &self.place {
            Some(place) => Error::damaged(&place.segment.path, place.at, reason),
            None => Error::damaged(&self.layout.dir, 0, reason),
        }
    }
}

impl Window {
    /// Makes sure that `len` bytes from the place on are here, as they were when `durable` was durable.
    fn hold(&mut self, place: &Place, len: usize, durable: EventSeq) -> Result<bool> {
        let inside = place.at >= self.at && place.at + len as u64 <= self.at + self.len as u64;
        if inside && place.expected <= self.durable {
            return Ok(true);
        }
        // At the live end the place is inside what was read, but was not durable then; behind it the place is beyond.
        let behind = self.len > 0 && place.expected <= self.durable;
        self.chunk = if behind { (self.chunk * 2).min(CHUNK_LONGEST) } else { CHUNK_FIRST };
        let wanted = len.max(self.chunk);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        let source = &place.segment.source;
        let got = source.read(&mut self.bytes[..wanted], place.at);
        self.len = got.map_err(Error::io("read", &place.segment.path))?;
        (self.at, self.durable) = (place.at, durable);
        Ok(self.len >= len)
    }

    fn at(&self, at: u64, len: usize) -> &[u8] {
        let from = usize::try_from(at - self.at).expect("the caller made the window hold it");
        &self.bytes[from..from + len]
    }
}

/// First sequences of all segments, archived or not, ascending, each once.
fn firsts(storage: &SharedStorage, layout: &Layout) -> Result<Vec<EventSeq>> {
    // The archive is listed last: a segment moves from the journal to the archive, never back.
    let mut firsts = segment::list(&**storage, &layout.dir)?;
    firsts.extend(segment::list_archived(&**storage, layout)?);
    firsts.sort_unstable();
    firsts.dedup();
    Ok(firsts)
}

fn oldest(storage: &SharedStorage, layout: &Layout) -> Result<Option<EventSeq>> {
    Ok(firsts(storage, layout)?.first().copied())
}

/// The segment that holds the first record journalled at `moment` or later: the last one begun before it.
fn first_for(storage: &SharedStorage, layout: &Layout, moment: Wall) -> Result<Option<EventSeq>> {
    let firsts = firsts(storage, layout)?;
    let (mut low, mut high) = (0, firsts.len());
    while low < high {
        let middle = (low + high) / 2;
        match created(storage, layout, firsts[middle])? {
            Some(created) if created >= moment => high = middle,
            _ => low = middle + 1,
        }
    }
    Ok(firsts.get(low.saturating_sub(1)).copied())
}

/// When a segment was begun; `None` when it is gone by now.
fn created(storage: &SharedStorage, layout: &Layout, first: EventSeq) -> Result<Option<Wall>> {
    if let Some(segment) = Segment::open(&**storage, layout, first)? {
        return Ok(Some(segment.header.created));
    }
    match layout.archived(first) {
        None => Ok(None),
        Some(path) => {
            let bytes = archive::peek(&**storage, &path, SEGMENT_HEADER)?;
            bytes.map(|bytes| SegmentHeader::decode(&bytes, &path).map(|header| header.created)).transpose()
        }
    }
}
