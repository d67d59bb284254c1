//! Looking at a journal without its writer: verify, dump, and cut a torn tail.
//!
//! `verify` and `dump` only read, take no lock and read past the watermark: they show what is on disk. On a live
//! journal the last batch may be seen half written; it is then reported as a torn tail.

use crate::config::Layout;
use crate::cursors::{self, Cursor};
use crate::error::{Damage, Error, Result};
use crate::keeper::hex;
use crate::record::{Filter, Record};
use crate::recovery::{self, Cut, check_chain, check_nothing_lost};
use crate::segment::{self, Found, Scan, Segment};
use crate::storage::{SharedStorage, read_small};
use crate::watermark::{Stored, read_mark};
use sha2::{Digest, Sha256};
use signalbox_base::{EventSeq, JournalId, Wall};
use std::path::PathBuf;

/// What `verify` found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Every segment, archived ones first, in order.
    pub segments: Vec<SegmentReport>,
    /// Everything that is wrong. Empty for a sound journal; a torn tail is not damage.
    pub damage: Vec<Damage>,
    /// Bytes after the last good batch: what a start, or `repair`, would cut.
    pub torn_tail: Option<Cut>,
    /// First and last sequence that can be read; none in an empty journal.
    pub range: Option<(EventSeq, EventSeq)>,
    /// What the watermark file says.
    pub watermark: Option<EventSeq>,
    /// The sinks' positions.
    pub cursors: Vec<Cursor>,
}

impl Report {
    /// Whether a start would accept the journal.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// One segment.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// Whether it lies in the archive.
    pub archived: bool,
    /// The journal it belongs to.
    pub journal: JournalId,
    /// `cluster/edge`.
    pub edge: String,
    /// First sequence.
    pub first: EventSeq,
    /// Last sequence; one less than `first` when it holds no record.
    pub last: EventSeq,
    /// Batches.
    pub batches: u64,
    /// Bytes up to the end of the last good batch.
    pub bytes: u64,
    /// When its last commit started.
    pub newest: Option<Wall>,
    /// SHA-256 of those bytes.
    pub sha256: String,
}

/// Checks everything there is: headers, chain, every batch and record, digests, watermark, cursors.
///
/// # Errors
/// [`Error::Io`] when the disk does not let it look; what is wrong with the journal is in the report.
pub fn verify(storage: &SharedStorage, layout: &Layout) -> Result<Report> {
    let mut report = Report {
        segments: Vec::new(),
        damage: Vec::new(),
        torn_tail: None,
        range: None,
        watermark: None,
        cursors: Vec::new(),
    };
    let places = places(storage, layout)?;
    let mut previous: Option<Segment> = None;
    for (i, (first, archived)) in places.iter().enumerate() {
        let segment = match open(storage, layout, *first, *archived) {
            Ok(Some(segment)) => segment,
            Ok(None) => continue,
            Err(error) => {
                report.note(error)?;
                previous = None;
                continue;
            }
        };
        report.segment(storage, layout, &segment, *archived, i + 1 == places.len())?;
        if let Some(previous) = &previous {
            report.link(previous, &segment)?;
        }
        previous = Some(segment);
    }
    report.range = report.readable();
    match cursors::read_all(&**storage, layout) {
        Ok(cursors) => report.cursors = cursors,
        Err(error) => report.note(error)?,
    }
    if let Stored::Mark(_, seq) = read_mark(storage, &layout.watermark())? {
        report.watermark = Some(seq);
    }
    report.judge_end(layout);
    Ok(report)
}

/// Calls `show` for every readable record from `from` on that `filter` wants, past any damage; returns how many.
///
/// # Errors
/// [`Error::Io`], and whatever error `show` returns, which ends the dump.
pub fn dump(
    storage: &SharedStorage,
    layout: &Layout,
    from: EventSeq,
    filter: &Filter,
    mut show: impl FnMut(&Record<'_>) -> Result<()>,
) -> Result<u64> {
    let mut shown = 0;
    for (first, archived) in places(storage, layout)? {
        let Ok(Some(segment)) = open(storage, layout, first, archived) else { continue };
        let mut scan = segment.scan();
        while let Found::Batch(_) = scan.next()? {
            for (record, _) in scan.records().flatten() {
                if record.seq >= from && filter.wants(record.kind, record.tenant) {
                    show(&record)?;
                    shown += 1;
                }
            }
        }
    }
    Ok(shown)
}

/// Cuts a torn tail, and nothing else ever; says what it cut. Takes the journal's lock.
///
/// # Errors
/// The errors of [`crate::Journal::open`] for everything that is not a torn tail.
pub fn repair(storage: &SharedStorage, layout: &Layout) -> Result<Option<Cut>> {
    let _lock = crate::lock(storage, layout)?;
    let tail = recovery::examine(&**storage, layout, None)?;
    check_nothing_lost(storage, layout, tail.as_ref())?;
    match tail {
        Some(tail) if tail.torn_to.is_some() => recovery::settle(&**storage, layout, &tail),
        _ => Ok(None),
    }
}

impl Report {
    /// Damage goes into the report, other errors to the caller.
    fn note(&mut self, error: Error) -> Result<()> {
        let damage = match error {
            Error::Damaged(damage) => damage,
            Error::FutureFormat { ref file, .. } | Error::BadCursor { ref file, .. } => {
                Damage { file: file.clone(), offset: 0, reason: error.to_string() }
            }
            other => return Err(other),
        };
        self.damage.push(damage);
        Ok(())
    }

    fn segment(
        &mut self,
        storage: &SharedStorage,
        layout: &Layout,
        segment: &Segment,
        archived: bool,
        is_last: bool,
    ) -> Result<()> {
        let mut scan = segment.scan();
        let mut hash = Sha256::new();
        hash.update(segment.header.encode());
        let (mut batches, mut newest) = (0, None);
        loop {
            match scan.next()? {
                Found::Batch(header) => {
                    hash.update(scan.batch());
                    batches += 1;
                    newest = Some(header.committed);
                }
                Found::End => break,
                Found::Bad(damage) => {
                    self.bad_batch(&mut scan, damage, is_last)?;
                    break;
                }
            }
        }
        let report = SegmentReport {
            file: segment.path.clone(),
            archived,
            journal: segment.header.journal,
            edge: segment.header.identity.to_string(),
            first: segment.header.first,
            last: EventSeq(scan.expected().0 - 1),
            batches,
            bytes: scan.at(),
            newest,
            sha256: hex(&hash.finalize()),
        };
        let known = read_small(&**storage, &layout.digest(report.first))?;
        if known.is_some_and(|line| !line.starts_with(report.sha256.as_bytes())) && !archived {
            let reason = "its SHA-256 is not the one it was sealed with".to_owned();
            self.damage.push(Damage { file: report.file.clone(), offset: 0, reason });
        }
        self.segments.push(report);
        Ok(())
    }

    fn bad_batch(&mut self, scan: &mut Scan<'_>, damage: Damage, is_last: bool) -> Result<()> {
        let later = scan.later_good_batch()?;
        match (later, scan.last_nonzero()?) {
            (None, Some(end)) if is_last => {
                self.torn_tail =
                    Some(Cut { file: damage.file, offset: damage.offset, bytes: end - damage.offset });
            }
            (Some(later), _) => {
                let reason = format!("{}; the next good batch is at byte {later}", damage.reason);
                self.damage.push(Damage { reason, ..damage });
            }
            _ => self.damage.push(damage),
        }
        Ok(())
    }

    fn link(&mut self, previous: &Segment, current: &Segment) -> Result<()> {
        let [.., before, _] = self.segments.as_slice() else { return Ok(()) };
        let (last, first) = (before.last, current.header.first);
        if last.next() != first {
            let reason = format!("it starts with {first}, the segment before it ends with {last}");
            self.damage.push(Damage { file: current.path.clone(), offset: 48, reason });
        }
        check_chain(previous, current).or_else(|error| self.note(error))
    }

    fn readable(&self) -> Option<(EventSeq, EventSeq)> {
        let first = self.segments.first()?.first;
        let last = self.segments.last()?.last;
        (last >= first).then_some((first, last))
    }

    /// A journal that ends below what others have seen has lost events.
    fn judge_end(&mut self, layout: &Layout) {
        let last = self.segments.last().map_or(EventSeq(0), |s| s.last);
        let (file, offset) =
            self.segments.last().map_or((layout.dir.clone(), 0), |s| (s.file.clone(), s.bytes));
        let seen = self.watermark.map(|seq| ("the watermark".to_owned(), seq));
        let cursors = self.cursors.iter().map(|c| (format!("cursor {}", c.sink), c.seq));
        let lost: Vec<_> = seen.into_iter().chain(cursors).filter(|(_, seq)| *seq > last).collect();
        for (holder, seq) in lost {
            let reason = format!("the journal ends with {last}, but {holder} has already seen {seq}");
            self.damage.push(Damage { file: file.clone(), offset, reason });
        }
    }
}

/// Where every segment is: the archive's that the journal no longer has, then the journal's.
fn places(storage: &SharedStorage, layout: &Layout) -> Result<Vec<(EventSeq, bool)>> {
    let here = segment::list(&**storage, &layout.dir)?;
    let archived = segment::list_archived(&**storage, layout)?;
    let mut places: Vec<_> = here.iter().map(|first| (*first, false)).collect();
    places.extend(archived.into_iter().filter(|first| !here.contains(first)).map(|first| (first, true)));
    places.sort_unstable();
    Ok(places)
}

fn open(
    storage: &SharedStorage,
    layout: &Layout,
    first: EventSeq,
    archived: bool,
) -> Result<Option<Segment>> {
    match archived {
        true => Segment::open_archived(&**storage, layout, first),
        false => Segment::open(&**storage, layout, first),
    }
}
