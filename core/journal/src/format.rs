//! The on-disk format, byte by byte.
//!
//! All integers are little-endian. A CRC is CRC-32C (Castagnoli, RFC 3720 §B.4). Times are microseconds since
//! 1970-01-01T00:00:00Z as `i64`. A journal is a chain of segments; a segment is a header and batches; a batch
//! is what one commit made durable; a record is one event.
//!
//! # Segment: one 4,096-byte header, then batches
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic `SBXJRNL` and a zero byte |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | length of this header, 4,096 |
//! | 16 | 16 | journal id |
//! | 32 | 16 | id of the journal this one `continues`, 0 for none |
//! | 48 | 8 | first sequence of the segment; the file is named by it |
//! | 56 | 8 | when the segment was begun |
//! | 64 | 8 | preallocated size in bytes |
//! | 72 | 8 | salt: random, so that bytes in a record cannot pass for a batch |
//! | 80 | 64 | cluster name: one length byte, then at most 63 bytes, then zeros |
//! | 144 | 64 | edge name, likewise |
//! | 208 | 2 | number of domains |
//! | 210 | … | per domain: length byte, 32 bytes of name, 8 bytes last domain sequence before this segment |
//! | 4092 | 4 | CRC of bytes 0 to 4091 |
//!
//! # Batch: starts at a multiple of 512, padded with zeros to the next
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `SBXB` |
//! | 4 | 4 | CRC of journal id (16), salt (8), then the batch's bytes from 8 to its end, padding excluded |
//! | 8 | 8 | first sequence |
//! | 16 | 4 | number of records, at least 1 |
//! | 20 | 4 | bytes of records that follow this header |
//! | 24 | 8 | when the commit started |
//! | 32 | 8 | oldest recorded time in the batch |
//! | 40 | 8 | newest recorded time in the batch |
//! | 48 | 16 | zeros |
//! | 64 | … | the records, without padding between them |
//!
//! # Record
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the whole record |
//! | 4 | 4 | CRC of the record's bytes from 8 to its end |
//! | 8 | 8 | sequence |
//! | 16 | 8 | wall time: when it happened |
//! | 24 | 8 | recorded time: when it was journalled |
//! | 32 | 8 | domain sequence; the domain is the type up to its first dot |
//! | 40 | 8 | causation: a sequence of the same journal, 0 for none |
//! | 48 | 1 | length of type |
//! | 49 | 1 | length of tenant, 0 for none |
//! | 50 | 2 | length of subject |
//! | 52 | 2 | length of correlation |
//! | 54 | 2 | length of the trace context |
//! | 56 | 4 | length of data |
//! | 60 | 4 | length of private bytes |
//! | 64 | … | type, tenant, subject, correlation, trace context (UTF-8), data (JSON), private bytes |
//!
//! # Invariants
//!
//! 1. Sequences start at 1 and have no hole; a domain's sequences neither. A segment's first sequence is the one
//!    after the last of the segment before it. A fork to a new journal id goes on counting.
//! 2. Batch N+1 is written only after the fsync of batch N returned. So at most the last batch is torn, and a bad
//!    batch with a good one after it is damage, never a crash.
//! 3. A segment's header is durable before the file has its `.seg` name, and its name before its first batch.
//! 4. After the last batch of a segment there are only zeros. Recovery writes zeros over what it cuts.
//! 5. The salt and journal id in the batch CRC make bytes of another journal, an older life of the same disk
//!    block, or data inside a record never pass as a batch.
//! 6. The watermark file and the cursors are written after the fsync of what they name: a journal that ends below
//!    one of them has lost events, and recovery refuses it.

use crate::error::{Error, Result};
use signalbox_base::{EdgeIdentity, EventSeq, JournalId, Text, Wall};
use std::path::Path;

/// Format version this program writes, and the highest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Batches start at multiples of this, so that writing one never rewrites a sector of the one before.
pub const SECTOR: usize = 512;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER: usize = 4096;
/// Bytes of a batch's header.
pub const BATCH_HEADER: usize = 64;
/// Bytes of a record's header.
pub const RECORD_HEADER: usize = 64;
/// Largest batch, header included.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// Most domains of event types in one journal.
pub const DOMAINS_MAX: usize = 64;
/// Longest domain name in bytes.
pub const DOMAIN_BYTES_MAX: usize = 32;
/// Longest cluster or edge name in bytes.
pub const NAME_BYTES_MAX: usize = 63;

const SEGMENT_MAGIC: [u8; 8] = *b"SBXJRNL\0";
const BATCH_MAGIC: [u8; 4] = *b"SBXB";
const DOMAIN_ENTRY: usize = 1 + DOMAIN_BYTES_MAX + 8;
const DOMAIN_TABLE: usize = 210;
const HEADER_CRC: usize = SEGMENT_HEADER - 4;

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose events these are.
    pub journal: JournalId,
    /// The journal this one goes on from, after a restore or clone.
    pub continues: Option<JournalId>,
    /// First sequence.
    pub first: EventSeq,
    /// When it was begun.
    pub created: Wall,
    /// Preallocated bytes.
    pub size: u64,
    /// Part of every batch's CRC.
    pub salt: u64,
    /// The edge that writes it.
    pub identity: EdgeIdentity,
    /// Last sequence of every domain before this segment.
    pub domains: Vec<(Text, u64)>,
}

/// The header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// First sequence.
    pub first: EventSeq,
    /// Records, at least 1.
    pub count: u32,
    /// Bytes of records.
    pub payload: u32,
    /// When the commit started.
    pub committed: Wall,
    /// Oldest recorded time.
    pub oldest: Wall,
    /// Newest recorded time.
    pub newest: Wall,
}

impl BatchHeader {
    /// Last sequence.
    #[must_use]
    pub fn last(&self) -> EventSeq {
        EventSeq(self.first.0 + u64::from(self.count) - 1)
    }

    /// Bytes without padding.
    #[must_use]
    pub fn bytes(&self) -> usize {
        BATCH_HEADER + self.payload as usize
    }

    /// Bytes on disk, padding included.
    #[must_use]
    pub fn padded(&self) -> usize {
        self.bytes().next_multiple_of(SECTOR)
    }

    /// Reads a header; `None` when these bytes are none. The CRC is checked by [`batch_crc_holds`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < BATCH_HEADER || bytes[..4] != BATCH_MAGIC {
            return None;
        }
        let header = Self {
            first: EventSeq(u64_at(bytes, 8)),
            count: u32_at(bytes, 16),
            payload: u32_at(bytes, 20),
            committed: wall_at(bytes, 24),
            oldest: wall_at(bytes, 32),
            newest: wall_at(bytes, 40),
        };
        let fits = header.count >= 1
            && header.first.0 >= 1
            && header.first.0.checked_add(u64::from(header.count)).is_some()
            && header.payload as usize >= header.count as usize * RECORD_HEADER
            && header.bytes() <= BATCH_BYTES_MAX;
        fits.then_some(header)
    }

    /// Writes the header into the first [`BATCH_HEADER`] bytes of `batch`, whose records are in place.
    pub fn seal(&self, segment: &SegmentHeader, batch: &mut [u8]) {
        batch[..BATCH_HEADER].fill(0);
        batch[..4].copy_from_slice(&BATCH_MAGIC);
        put(batch, 8, &self.first.0.to_le_bytes());
        put(batch, 16, &self.count.to_le_bytes());
        put(batch, 20, &self.payload.to_le_bytes());
        put(batch, 24, &self.committed.0.to_le_bytes());
        put(batch, 32, &self.oldest.0.to_le_bytes());
        put(batch, 40, &self.newest.0.to_le_bytes());
        let crc = batch_crc(segment, &batch[..self.bytes()]);
        put(batch, 4, &crc.to_le_bytes());
    }
}

/// Whether the CRC in `batch` (header and records, without padding) is right for a batch of `segment`.
#[must_use]
pub fn batch_crc_holds(segment: &SegmentHeader, batch: &[u8]) -> bool {
    u32_at(batch, 4) == batch_crc(segment, batch)
}

fn batch_crc(segment: &SegmentHeader, batch: &[u8]) -> u32 {
    let mut key = [0; 24];
    put(&mut key, 0, &segment.journal.0.to_le_bytes());
    put(&mut key, 16, &segment.salt.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&key), &batch[8..])
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SEGMENT_HEADER];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        put(&mut out, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut out, 12, &4096u32.to_le_bytes());
        put(&mut out, 16, &self.journal.0.to_le_bytes());
        put(&mut out, 32, &self.continues.map_or(0, |j| j.0).to_le_bytes());
        put(&mut out, 48, &self.first.0.to_le_bytes());
        put(&mut out, 56, &self.created.0.to_le_bytes());
        put(&mut out, 64, &self.size.to_le_bytes());
        put(&mut out, 72, &self.salt.to_le_bytes());
        put_name(&mut out[80..144], &self.identity.cluster);
        put_name(&mut out[144..208], &self.identity.edge);
        put(&mut out, 208, &u16::try_from(self.domains.len()).unwrap_or(u16::MAX).to_le_bytes());
        for (entry, (name, seq)) in out[DOMAIN_TABLE..].chunks_exact_mut(DOMAIN_ENTRY).zip(&self.domains) {
            put_name(&mut entry[..=DOMAIN_BYTES_MAX], name);
            put(entry, 1 + DOMAIN_BYTES_MAX, &seq.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..HEADER_CRC]);
        put(&mut out, HEADER_CRC, &crc.to_le_bytes());
        out
    }

    /// Reads a header from the first bytes of `file`.
    ///
    /// # Errors
    /// [`Error::FutureFormat`] for a newer version (checked before the CRC, whose place may have moved),
    /// [`Error::Damaged`] for everything else that is not a header.
    pub fn decode(bytes: &[u8], file: &Path) -> Result<Self> {
        let damaged = |offset, reason: &str| Err(Error::damaged(file, offset, reason));
        if bytes.len() < SEGMENT_HEADER {
            return damaged(0, "shorter than a segment's header");
        }
        if bytes[..8] != SEGMENT_MAGIC {
            return damaged(0, "no segment: the magic is missing");
        }
        let version = u32_at(bytes, 8);
        if version > FORMAT_VERSION {
            return Err(Error::FutureFormat {
                file: file.to_owned(),
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        if u32_at(bytes, HEADER_CRC) != crc32c::crc32c(&bytes[..HEADER_CRC]) {
            return damaged(0, "the header's CRC does not match");
        }
        let continues = u128_at(bytes, 32);
        let count = usize::from(u16_at(bytes, 208));
        let (Some(cluster), Some(edge)) = (name_in(&bytes[80..144]), name_in(&bytes[144..208])) else {
            return damaged(80, "the edge's name is not text");
        };
        let domains: Option<Vec<_>> = bytes[DOMAIN_TABLE..HEADER_CRC]
            .chunks_exact(DOMAIN_ENTRY)
            .take(count)
            .map(|e| Some((name_in(&e[..=DOMAIN_BYTES_MAX])?, u64_at(e, 1 + DOMAIN_BYTES_MAX))))
            .collect();
        let Some(domains) = domains.filter(|d| version == FORMAT_VERSION && d.len() == count) else {
            return damaged(8, "version 0 or a broken table of domains");
        };
        Ok(Self {
            journal: JournalId(u128_at(bytes, 16)),
            continues: (continues != 0).then_some(JournalId(continues)),
            first: EventSeq(u64_at(bytes, 48)),
            created: wall_at(bytes, 56),
            size: u64_at(bytes, 64),
            salt: u64_at(bytes, 72),
            identity: EdgeIdentity { cluster, edge },
            domains,
        })
    }
}

pub(crate) fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn wall_at(bytes: &[u8], at: usize) -> Wall {
    Wall(i64::from_le_bytes(array_at(bytes, at)))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

fn put_name(out: &mut [u8], name: &str) {
    let len = name.len().min(out.len() - 1);
    out[0] = u8::try_from(len).expect("names are shorter than 64 bytes");
    out[1..=len].copy_from_slice(&name.as_bytes()[..len]);
}

fn name_in(bytes: &[u8]) -> Option<Text> {
    let name = bytes.get(1..1 + usize::from(bytes[0]))?;
    std::str::from_utf8(name).ok().map(Text::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(domains: Vec<(Text, u64)>) -> SegmentHeader {
        SegmentHeader {
            journal: JournalId(7),
            continues: Some(JournalId(6)),
            first: EventSeq(9),
            created: Wall(1),
            size: 1 << 20,
            salt: 99,
            identity: EdgeIdentity { cluster: "demo".into(), edge: "edge-1".into() },
            domains,
        }
    }

    #[test]
    fn a_header_with_every_domain_reads_back() {
        let domains = (0..DOMAINS_MAX as u64).map(|i| (Text::from(format!("domain_{i}")), i)).collect();
        let header = header(domains);
        assert_eq!(SegmentHeader::decode(&header.encode(), Path::new("x")).unwrap(), header);
    }

    proptest! {
        #[test]
        fn any_changed_bit_of_a_header_is_noticed(byte in 0..SEGMENT_HEADER, bit in 0..8) {
            let mut bytes = header(vec![("call".into(), 3)]).encode();
            bytes[byte] ^= 1u8 << bit;
            prop_assert!(SegmentHeader::decode(&bytes, Path::new("x")).is_err());
        }

        #[test]
        fn any_changed_bit_of_a_batch_is_noticed(byte in 0..200usize, bit in 0..8) {
            let mut batch = vec![7; 200];
            let sealed = BatchHeader {
                first: EventSeq(1), count: 2, payload: 136, committed: Wall(3), oldest: Wall(1), newest: Wall(2),
            };
            sealed.seal(&header(vec![]), &mut batch);
            prop_assert!(batch_crc_holds(&header(vec![]), &batch));
            prop_assert_eq!(BatchHeader::decode(&batch), Some(sealed));
            batch[byte] ^= 1u8 << bit;
            let noticed = BatchHeader::decode(&batch).is_none() || !batch_crc_holds(&header(vec![]), &batch);
            prop_assert!(noticed);
        }
    }
}
