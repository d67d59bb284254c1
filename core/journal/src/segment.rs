//! Segments on disk: finding them, reading their headers, walking their batches.

use crate::archive;
use crate::config::{Layout, sequence_of};
use crate::error::{Damage, Error, Result};
use crate::format::{
    BATCH_HEADER, BatchHeader, SECTOR, SEGMENT_HEADER, SegmentHeader, batch_crc_holds, u64_at,
};
use crate::record::{Lengths, Record, crc_holds};
use crate::storage::{OpenMode, Storage, StoredFile, list_or_empty, read_full};
use signalbox_base::EventSeq;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes read at once while looking for what is not zero.
const ZERO_CHUNK: usize = 256 * 1024;

/// Where a segment's bytes are.
pub(crate) enum Source {
    /// A file of the journal.
    File(Box<dyn StoredFile>),
    /// An archived segment, decompressed.
    Memory(Vec<u8>),
}

impl Source {
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => read_full(&**file, buf, offset),
            Self::Memory(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let len = buf.len().min(bytes.len() - from);
                buf[..len].copy_from_slice(&bytes[from..from + len]);
                Ok(len)
            }
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }
}

/// First sequences of the journal's segments, ascending.
pub(crate) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<EventSeq>> {
    let entries = list_or_empty(storage, dir)?;
    Ok(entries.iter().filter(|e| !e.is_dir).filter_map(|e| sequence_of(&e.name, ".seg")).collect())
}

/// First sequences of the archive's segments, ascending.
pub(crate) fn list_archived(storage: &dyn Storage, layout: &Layout) -> Result<Vec<EventSeq>> {
    let Some(dir) = &layout.archive else { return Ok(Vec::new()) };
    let entries = list_or_empty(storage, dir)?;
    Ok(entries.iter().filter_map(|e| sequence_of(&e.name, ".seg.zst")).collect())
}

/// An opened segment with its header read.
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) source: Source,
    pub(crate) path: PathBuf,
}

impl Segment {
    /// Opens the journal's segment that starts at `first`; `None` when there is none.
    pub(crate) fn open(storage: &dyn Storage, layout: &Layout, first: EventSeq) -> Result<Option<Self>> {
        let path = layout.segment(first);
        match storage.open(&path, OpenMode::Read) {
            Ok(file) => Self::read(Source::File(file), path, first).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("open", &path)(e)),
        }
    }

    /// The same from the archive.
    pub(crate) fn open_archived(
        storage: &dyn Storage,
        layout: &Layout,
        first: EventSeq,
    ) -> Result<Option<Self>> {
        let Some(path) = layout.archived(first) else { return Ok(None) };
        match archive::expand(storage, &path)? {
            Some(bytes) => Self::read(Source::Memory(bytes), path, first).map(Some),
            None => Ok(None),
        }
    }

    fn read(source: Source, path: PathBuf, first: EventSeq) -> Result<Self> {
        let mut bytes = vec![0; SEGMENT_HEADER];
        let got = source.read(&mut bytes, 0).map_err(Error::io("read", &path))?;
        let header = SegmentHeader::decode(&bytes[..got], &path)?;
        if header.first != first {
            return Err(Error::damaged(&path, 48, "the file's name and its first sequence differ"));
        }
        Ok(Self { header, source, path })
    }

    /// Walks the batches from the start.
    pub(crate) fn scan(&self) -> Scan<'_> {
        Scan { segment: self, at: SEGMENT_HEADER as u64, expected: self.header.first, buf: Vec::new() }
    }
}

/// A walk over all batches of a segment, checking everything that can be checked.
pub(crate) struct Scan<'a> {
    segment: &'a Segment,
    at: u64,
    expected: EventSeq,
    buf: Vec<u8>,
}

/// What stands at the scan's position.
pub(crate) enum Found {
    /// A good batch; its bytes are in [`Scan::batch`].
    Batch(BatchHeader),
    /// Zeros to the end of the file.
    End,
    /// Something else.
    Bad(Damage),
}

impl Scan<'_> {
    /// Offset of the next batch.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Sequence the next batch must start with.
    pub(crate) fn expected(&self) -> EventSeq {
        self.expected
    }

    /// Bytes of the batch found last: header, records and padding.
    pub(crate) fn batch(&self) -> &[u8] {
        &self.buf
    }

    /// The records of the batch found last.
    pub(crate) fn records(&self) -> Records<'_> {
        let journal = self.segment.header.journal;
        let end = BatchHeader::decode(&self.buf).map_or(0, |h| h.bytes());
        Records { journal, rest: self.buf.get(BATCH_HEADER..end).unwrap_or_default() }
    }

    /// The next batch.
    pub(crate) fn next(&mut self) -> Result<Found> {
        let header = self.header_at(self.at)?;
        let Some(header) = header else {
            return match self.last_nonzero()? {
                None => Ok(Found::End),
                Some(_) => Ok(self.bad("no batch, and not the zeros that follow the last one")),
            };
        };
        if !self.load(self.at, &header)? {
            return Ok(self.bad("the batch's CRC does not match its bytes"));
        }
        if header.first != self.expected {
            let reason = format!("the batch starts with {}, expected {}", header.first, self.expected);
            return Ok(self.bad(&reason));
        }
        if let Err(reason) = self.check_records(&header) {
            return Ok(self.bad(&reason));
        }
        self.at += header.padded() as u64;
        self.expected = header.last().next();
        Ok(Found::Batch(header))
    }

    /// Offset of a good batch after the current position, if any: the difference between damage and a torn tail.
    pub(crate) fn later_good_batch(&mut self) -> Result<Option<u64>> {
        let len = self.len()?;
        let mut at = self.at + SECTOR as u64;
        let mut chunk = vec![0; ZERO_CHUNK];
        while at < len {
            let got = self.read(&mut chunk, at)?;
            for (i, sector) in chunk[..got].chunks(SECTOR).enumerate() {
                let Some(header) = BatchHeader::decode(sector) else { continue };
                let offset = at + (i * SECTOR) as u64;
                if header.first >= self.expected && self.load(offset, &header)? {
                    return Ok(Some(offset));
                }
            }
            if got == 0 {
                break;
            }
            at += got as u64;
        }
        Ok(None)
    }

    /// Offset just behind the last byte from the current position on that is not zero.
    pub(crate) fn last_nonzero(&self) -> Result<Option<u64>> {
        let (mut at, mut found) = (self.at, None);
        let mut chunk = vec![0; ZERO_CHUNK];
        loop {
            let got = self.read(&mut chunk, at)?;
            if got == 0 {
                return Ok(found);
            }
            if !all_zero(&chunk[..got]) {
                found = chunk[..got].iter().rposition(|b| *b != 0).map(|i| at + i as u64 + 1);
            }
            at += got as u64;
        }
    }

    fn header_at(&self, at: u64) -> Result<Option<BatchHeader>> {
        let mut bytes = [0; BATCH_HEADER];
        let got = self.read(&mut bytes, at)?;
        Ok(BatchHeader::decode(&bytes[..got]))
    }

    /// Reads the batch at `at` into the buffer; whether it is all there and its CRC holds.
    fn load(&mut self, at: u64, header: &BatchHeader) -> Result<bool> {
        if at + header.bytes() as u64 > self.len()? {
            return Ok(false);
        }
        self.buf.resize(header.padded(), 0);
        let mut buf = std::mem::take(&mut self.buf);
        let got = self.read(&mut buf, at)?;
        self.buf = buf;
        Ok(got >= header.bytes() && batch_crc_holds(&self.segment.header, &self.buf[..header.bytes()]))
    }

    fn check_records(&self, header: &BatchHeader) -> std::result::Result<(), String> {
        let mut expected = self.expected;
        for record in self.records() {
            let (record, crc_holds) = record?;
            if !crc_holds || record.seq != expected {
                return Err(format!("record {expected} has a wrong CRC or sequence"));
            }
            expected = expected.next();
        }
        let complete = expected == header.last().next();
        if complete { Ok(()) } else { Err("the batch holds fewer records than it says".to_owned()) }
    }

    fn bad(&self, reason: &str) -> Found {
        Found::Bad(Damage { file: self.segment.path.clone(), offset: self.at, reason: reason.to_owned() })
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<usize> {
        self.segment.source.read(buf, at).map_err(Error::io("read", &self.segment.path))
    }

    fn len(&self) -> Result<u64> {
        self.segment.source.len().map_err(Error::io("read", &self.segment.path))
    }
}

/// The records of one batch, each with whether its own CRC holds.
pub(crate) struct Records<'a> {
    journal: signalbox_base::JournalId,
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = std::result::Result<(Record<'a>, bool), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some(lengths) = Lengths::decode(self.rest) else {
            self.rest = &[];
            return Some(Err("a record's lengths do not add up"));
        };
        let (record, rest) = self.rest.split_at(lengths.total);
        self.rest = rest;
        Some(Record::decode(self.journal, record).map(|view| (view, crc_holds(record))))
    }
}

fn all_zero(bytes: &[u8]) -> bool {
    let (words, tail) = bytes.split_at(bytes.len() / 8 * 8);
    words.chunks_exact(8).all(|w| u64_at(w, 0) == 0) && tail.iter().all(|b| *b == 0)
}
