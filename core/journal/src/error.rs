//! What can go wrong with a journal, and what the operator does about it.

use signalbox_base::EventSeq;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A place in a journal file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Byte offset of the first structure that cannot be trusted.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

/// Sequences that a reader asked for and that no file holds any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// First missing sequence.
    pub from: EventSeq,
    /// Last missing sequence.
    pub to: EventSeq,
}

/// Why a journal refuses. Every message says why and, where a person must act, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb ("read", "sync" …).
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process writes this journal.
    #[error(
        "another process holds the journal in {}; stop that one first, or give this edge its own directory",
        dir.display()
    )]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// The journal belongs to another edge.
    #[error(
        "{} is the journal of {found}, not of {expected}; set cluster and edge to what it says, or use another \
         data_dir",
        file.display()
    )]
    Foreign {
        /// The segment that says so.
        file: PathBuf,
        /// `cluster/edge` in the file.
        found: String,
        /// `cluster/edge` of this process.
        expected: String,
    },
    /// Written by a newer Signalbox.
    #[error(
        "{} has format version {found}, this program reads up to {supported}; start the newer version that wrote it",
        file.display()
    )]
    FutureFormat {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The highest version this program reads.
        supported: u32,
    },
    /// Bytes that were durable have changed or are missing; never repaired by itself.
    #[error(
        "{} is damaged at byte {}: {}; run `signalbox doctor`, then restore a backup or the archive's copy",
        .0.file.display(), .0.offset, .0.reason
    )]
    Damaged(Damage),
    /// Cutting the tail would lose events that someone has already seen.
    #[error(
        "{} ends at sequence {last} (byte {offset}), but {holder} has already seen {seen}; events are missing: \
         restore the journal, it is not cut by itself",
        file.display()
    )]
    CutBelow {
        /// The last segment.
        file: PathBuf,
        /// Where its good part ends.
        offset: u64,
        /// Last sequence that can be read.
        last: EventSeq,
        /// Who has seen more: `the watermark` or `cursor <sink>`.
        holder: String,
        /// What it has seen.
        seen: EventSeq,
    },
    /// An earlier write or fsync failed: what is on disk is unknown until recovery reads it.
    #[error("the journal stopped after a failed write or fsync; restart the process, it recovers from disk")]
    Poisoned,
    /// No room for another segment; nothing was written and the batch stays queued.
    #[error("no room for another journal segment in {}; free space, it heals by itself", dir.display())]
    Full {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// The caller's record breaks a rule of the format.
    #[error("not a record: {0}")]
    BadRecord(&'static str),
    /// The caller's numbering and the journal's disagree.
    #[error("the record should be {expected}, but the journal is at {next}")]
    SequenceMismatch {
        /// What the caller expected.
        expected: EventSeq,
        /// What the journal would give.
        next: EventSeq,
    },
    /// Events are gone (retention or overrun). The reader stands after the gap: calling `next` again goes on.
    #[error("events {} to {} are no longer in the journal or its archive", .0.from, .0.to)]
    Gap(Gap),
    /// A position after the durable end.
    #[error("position {at} is after the durable end {durable}")]
    BeyondEnd {
        /// What was asked.
        at: EventSeq,
        /// The durable watermark.
        durable: EventSeq,
    },
    /// Another holder has taken the sink's cursor.
    #[error("cursor {sink} is held by epoch {current}, this holder has {held}; another process took over")]
    Fenced {
        /// The sink.
        sink: String,
        /// Epoch of this holder.
        held: u64,
        /// Epoch in the file.
        current: u64,
    },
    /// A cursor file that cannot be read back.
    #[error("{} is not a cursor: {reason}; delete it to let the sink start again from the oldest event", file.display())]
    BadCursor {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// A configuration value outside its limits.
    #[error("journal.{key}: {reason}")]
    BadConfig {
        /// The key.
        key: &'static str,
        /// The rule it breaks.
        reason: String,
    },
    /// A snapshot would hold state of records that are not durable yet; finish it after the next commit.
    #[error("the snapshot holds state as of {stamp}, durable is {durable}; finish it after the next commit")]
    SnapshotAhead {
        /// Highest stamp of an entry.
        stamp: EventSeq,
        /// The durable watermark.
        durable: EventSeq,
    },
    /// A backup that does not verify, or a place it may not be restored to.
    #[error("{}: {reason}", file.display())]
    BadBackup {
        /// The backup or the target.
        file: PathBuf,
        /// Why it is refused.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn damaged(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Damaged(Damage { file: file.to_owned(), offset, reason: reason.into() })
    }

    /// Whether the cause is a full disk, which heals by itself.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}
