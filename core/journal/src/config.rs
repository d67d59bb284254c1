//! What a journal is told: where it lies, how large it may grow, who reads it; and its file names.

use crate::error::{Error, Result};
use crate::format::{SECTOR, SEGMENT_HEADER};
use signalbox_base::EventSeq;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Smallest `segment_size` in bytes.
pub const SEGMENT_SIZE_MIN: u64 = 16 * 1024;
/// Largest `segment_size` in bytes: a reader of an archived segment holds one in memory.
pub const SEGMENT_SIZE_MAX: u64 = 1 << 30;

/// Settings of one journal. `Config::new(dir)` gives the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The journal's directory; created when missing.
    pub dir: PathBuf,
    /// Bytes of a segment, preallocated; 16 KiB to 1 GiB, a multiple of 512. Default 64 MiB.
    pub segment_size: u64,
    /// How long sealed segments stay once every sink has read them. Default 30 days.
    pub retain: Duration,
    /// Size of the journal beyond which the slowest remote sink is overrun. Default 60 % of the file system.
    pub max_size: MaxSize,
    /// Segments kept preallocated for a full disk. Default 2; at least 1.
    pub reserve_segments: u32,
    /// Where sealed segments go, compressed, before they are deleted. Default none.
    pub archive: Option<PathBuf>,
    /// Who reads the journal: segments stay until all of these have advanced past them.
    pub sinks: Vec<Sink>,
}

impl Config {
    /// The defaults for a journal in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_size: 64 << 20,
            retain: Duration::from_secs(30 * 86_400),
            max_size: MaxSize::Percent(60),
            reserve_segments: 2,
            archive: None,
            sinks: Vec::new(),
        }
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`Error::BadConfig`] with the key and the rule.
    pub fn check(&self) -> Result<()> {
        let bad = |key, reason: &str| Err(Error::BadConfig { key, reason: reason.to_owned() });
        if !(SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&self.segment_size) {
            return bad("segment_size", "must be between 16 KiB and 1 GiB");
        }
        if !self.segment_size.is_multiple_of(SECTOR as u64) {
            return bad("segment_size", "must be a multiple of 512 bytes");
        }
        if self.reserve_segments == 0 {
            return bad("reserve_segments", "must be at least 1");
        }
        if matches!(self.max_size, MaxSize::Percent(p) if p == 0 || p > 100) {
            return bad("max_size", "must be 1 to 100 percent, or bytes");
        }
        match self.sinks.iter().find(|s| !legal_sink(&s.name)) {
            Some(_) => bad("sinks", "a sink's name is 1 to 63 of a-z, 0-9, - and _"),
            None => Ok(()),
        }
    }

    /// Bytes that a journal of this configuration needs to work: a full segment, the one after it, and the reserve.
    #[must_use]
    pub fn size_least(&self) -> u64 {
        self.segment_size * u64::from(self.reserve_segments + 2)
    }

    /// Bytes it may take on a file system of `total` bytes. A share of a small one is no less than what it needs: whether
    /// that is there is told by the reserve.
    pub(crate) fn size_most(&self, total: u64) -> u64 {
        match self.max_size {
            MaxSize::Bytes(bytes) => bytes,
            MaxSize::Percent(_) => self.max_size.bytes(total).max(self.size_least()),
        }
    }

    /// Largest batch that fits an empty segment.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let room = usize::try_from(self.segment_size).unwrap_or(usize::MAX) - SEGMENT_HEADER;
        room.min(crate::format::BATCH_BYTES_MAX)
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout { dir: self.dir.clone(), archive: self.archive.clone() }
    }
}

/// How large a journal may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxSize {
    /// Bytes.
    Bytes(u64),
    /// Percent of the file system, 1 to 100.
    Percent(u8),
}

impl MaxSize {
    /// In bytes, on a file system of `total` bytes.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

/// A reader with a durable cursor that holds segments back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Name of its cursor, `[a-z0-9_-]{1,63}`.
    pub name: String,
    /// Whether it may be overrun.
    pub kind: SinkKind,
}

impl Sink {
    /// The local store or another sink that is never overrun.
    #[must_use]
    pub fn local(name: &str) -> Self {
        Self { name: name.to_owned(), kind: SinkKind::Local }
    }

    /// A broker or another sink that may be overrun at `max_size`.
    #[must_use]
    pub fn remote(name: &str) -> Self {
        Self { name: name.to_owned(), kind: SinkKind::Remote }
    }
}

/// Which promise a sink has at `max_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Never overrun: the disk fills first.
    Local,
    /// Overrun at `max_size`, with the lost range named.
    Remote,
}

/// Names of the journal's files, for readers in any process.
///
/// ```text
/// <dir>/lock                            held by the writing process
/// <dir>/watermark                       durable end, for readers in other processes
/// <dir>/00000000000000000001.seg        a segment, named by its first sequence
/// <dir>/00000000000000000001.sha256     its digest once sealed, as sha256sum(1) reads it
/// <dir>/spare-1                         preallocated segment: the next one, and the reserve for a full disk
/// <dir>/cursors/<sink>.cur              a sink's position
/// <dir>/snapshots/<begin>.snap          a snapshot of the engine's state
/// <archive>/00000000000000000001.seg.zst
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The journal's directory.
    pub dir: PathBuf,
    /// Where archived segments are.
    pub archive: Option<PathBuf>,
}

impl Layout {
    /// A journal in `dir` without an archive.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), archive: None }
    }

    pub(crate) fn segment(&self, first: EventSeq) -> PathBuf {
        self.dir.join(format!("{:020}.seg", first.0))
    }

    pub(crate) fn digest(&self, first: EventSeq) -> PathBuf {
        self.dir.join(format!("{:020}.sha256", first.0))
    }

    pub(crate) fn archived(&self, first: EventSeq) -> Option<PathBuf> {
        self.archive.as_ref().map(|dir| dir.join(format!("{:020}.seg.zst", first.0)))
    }

    pub(crate) fn spare(&self, n: u64) -> PathBuf {
        self.dir.join(format!("spare-{n}"))
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The file that tells other processes the durable end.
    #[must_use]
    pub fn watermark(&self) -> PathBuf {
        self.dir.join("watermark")
    }

    pub(crate) fn cursors(&self) -> PathBuf {
        self.dir.join("cursors")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }
}

/// The first sequence in a name of 20 digits and `suffix`.
pub(crate) fn sequence_of(name: &str, suffix: &str) -> Option<EventSeq> {
    let digits = name.strip_suffix(suffix)?;
    let legal = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if legal { digits.parse().ok().map(EventSeq) } else { None }
}

pub(crate) fn legal_sink(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=63).contains(&name.len()) && name.bytes().all(legal)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_small_file_system_then_a_share_of_it_is_no_less_than_an_empty_journal_takes() {
        let config = Config::new("/journal");
        let empty = config.segment_size * u64::from(1 + config.reserve_segments);
        assert!(MaxSize::Percent(60).bytes(300 << 20) < empty);
        assert!(config.size_most(300 << 20) > empty);
        assert_eq!(config.size_most(100 << 30), MaxSize::Percent(60).bytes(100 << 30));
        let bytes = Config { max_size: MaxSize::Bytes(1 << 20), ..config };
        assert_eq!(bytes.size_most(300 << 20), 1 << 20, "what somebody wrote is kept to");
    }
}
