//! What a journal does before it serves anything: check, cut a torn tail, make durable what it accepts.

use crate::config::Layout;
use crate::cursors;
use crate::error::{Error, Result};
use crate::format::SegmentHeader;
use crate::segment::{self, Found, Segment};
use crate::storage::{OpenMode, SharedStorage, Storage, write_full};
use crate::watermark::{Stored, read_mark};
use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Text, Wall};
use std::path::PathBuf;

/// What recovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The journal.
    pub journal: JournalId,
    /// The journal it goes on from.
    pub continues: Option<JournalId>,
    /// Whether there was none and one was created.
    pub created: bool,
    /// Last sequence, durable now; 0 in a new journal.
    pub last: EventSeq,
    /// Oldest sequence that is still in the directory (`last + 1` when there is no record).
    pub oldest: EventSeq,
    /// Last sequence of every domain.
    pub domains: Vec<(Text, u64)>,
    /// The newest recorded time seen in the last segment; a clock that is behind it was set back.
    pub newest: Option<Wall>,
    /// A torn last batch that was cut. It was never released.
    pub cut: Option<Cut>,
    /// Damaged cursors that were put aside; their sinks begin again.
    pub cursors_aside: Vec<PathBuf>,
}

/// A torn tail that was cut: the file, from where, and how many bytes were not zero.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cut {
    /// The last segment.
    pub file: PathBuf,
    /// Offset of the first byte that was replaced by zero.
    pub offset: u64,
    /// Bytes replaced.
    pub bytes: u64,
}

/// The last segment, walked to its end.
pub(crate) struct Tail {
    pub(crate) header: SegmentHeader,
    pub(crate) path: PathBuf,
    /// Where the next batch goes.
    pub(crate) end: u64,
    pub(crate) next: EventSeq,
    pub(crate) domains: Vec<(Text, u64)>,
    pub(crate) newest: Option<Wall>,
    pub(crate) last_batch: Option<(u64, Vec<u8>)>,
    /// Bytes after `end` that are not zero: up to this offset.
    pub(crate) torn_to: Option<u64>,
}

/// Checks the chain of headers, then walks the last segment. `None` when there is no segment at all.
pub(crate) fn examine(
    storage: &dyn Storage,
    layout: &Layout,
    identity: Option<&EdgeIdentity>,
) -> Result<Option<Tail>> {
    let firsts = segment::list(storage, &layout.dir)?;
    let mut previous: Option<Segment> = None;
    for first in firsts {
        let missing = || Error::damaged(&layout.segment(first), 0, "the segment vanished");
        let current = Segment::open(storage, layout, first)?.ok_or_else(missing)?;
        check_identity(&current, identity)?;
        if let Some(previous) = &previous {
            check_chain(previous, &current)?;
        }
        previous = Some(current);
    }
    previous.map(|last| walk(&last)).transpose()
}

/// Refuses to end below what anyone has already seen.
pub(crate) fn check_nothing_lost(
    storage: &SharedStorage,
    layout: &Layout,
    tail: Option<&Tail>,
) -> Result<()> {
    let last = tail.map_or(EventSeq(0), |t| EventSeq(t.next.0 - 1));
    let refuse = |holder: String, seen: EventSeq| {
        let (file, offset) = tail.map_or((layout.dir.clone(), 0), |t| (t.path.clone(), t.end));
        Err(Error::CutBelow { file, offset, last, holder, seen })
    };
    if let Stored::Mark(_, seen) = read_mark(storage, &layout.watermark())?
        && seen > last
    {
        return refuse("the watermark".to_owned(), seen);
    }
    for cursor in cursors::read_all(&**storage, layout)? {
        if cursor.seq > last {
            return refuse(format!("cursor {}", cursor.sink), cursor.seq);
        }
    }
    Ok(())
}

/// Writes the accepted tail again and syncs it, then zeros over what is torn.
///
/// Writing again is not waste: after a failed fsync the bytes may be readable without being on disk, and a later
/// fsync alone would not bring them there. Only the last batch can be in that state (invariant 2).
pub(crate) fn settle(storage: &dyn Storage, layout: &Layout, tail: &Tail) -> Result<Option<Cut>> {
    let file = storage.open(&tail.path, OpenMode::Write).map_err(Error::io("open", &tail.path))?;
    let write = |bytes: &[u8], at| write_full(&*file, bytes, at).map_err(Error::io("write", &tail.path));
    write(&tail.header.encode(), 0)?;
    if let Some((offset, batch)) = &tail.last_batch {
        write(batch, *offset)?;
    }
    let cut = tail.torn_to.map(|to| Cut { file: tail.path.clone(), offset: tail.end, bytes: to - tail.end });
    if let Some(cut) = &cut {
        write(&vec![0; usize::try_from(cut.bytes).unwrap_or(usize::MAX)], cut.offset)?;
    }
    file.sync_data().map_err(Error::io("sync", &tail.path))?;
    storage.sync_dir(&layout.dir).map_err(Error::io("sync", &layout.dir))?;
    Ok(cut)
}

fn check_identity(segment: &Segment, identity: Option<&EdgeIdentity>) -> Result<()> {
    match identity {
        Some(expected) if segment.header.identity != *expected => Err(Error::Foreign {
            file: segment.path.clone(),
            found: segment.header.identity.to_string(),
            expected: expected.to_string(),
        }),
        _ => Ok(()),
    }
}

pub(crate) fn check_chain(previous: &Segment, current: &Segment) -> Result<()> {
    let (old, new) = (&previous.header, &current.header);
    let same = old.journal == new.journal && old.continues == new.continues;
    let forked = old.journal != new.journal && new.continues == Some(old.journal);
    if !same && !forked {
        let reason = format!("it does not continue journal {} of the segment before it", old.journal);
        return Err(Error::damaged(&current.path, 16, reason));
    }
    Ok(())
}

fn walk(segment: &Segment) -> Result<Tail> {
    let mut scan = segment.scan();
    let mut domains = segment.header.domains.clone();
    let (mut newest, mut last_at) = (None, None);
    let mut last_batch: Vec<u8> = Vec::new();
    let torn_to = loop {
        let at = scan.at();
        match scan.next()? {
            Found::Batch(header) => {
                note_domains(&scan, &mut domains);
                newest = newest.max(Some(header.newest));
                last_at = Some(at);
                last_batch.clear();
                last_batch.extend_from_slice(scan.batch());
            }
            Found::End => break None,
            Found::Bad(damage) => match scan.later_good_batch()? {
                Some(later) => {
                    let reason = format!("{}, and a good batch follows at byte {later}", damage.reason);
                    return Err(Error::damaged(&damage.file, damage.offset, reason));
                }
                None => break scan.last_nonzero()?,
            },
        }
    };
    Ok(Tail {
        header: segment.header.clone(),
        path: segment.path.clone(),
        end: scan.at(),
        next: scan.expected(),
        domains,
        newest,
        last_batch: last_at.map(|at| (at, last_batch)),
        torn_to,
    })
}

fn note_domains(scan: &segment::Scan<'_>, domains: &mut Vec<(Text, u64)>) {
    for (record, _) in scan.records().flatten() {
        match domains.iter_mut().find(|(name, _)| *name == record.domain()) {
            Some((_, seq)) => *seq = record.domain_seq,
            None => domains.push((Text::new(record.domain()), record.domain_seq)),
        }
    }
}
