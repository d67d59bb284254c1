//! One event: what the caller hands in, what a reader sees, and the bytes between.

use crate::error::{Error, Result};
use crate::format::{self, RECORD_HEADER, u16_at, u32_at, u64_at, wall_at};
use signalbox_base::{EventSeq, JournalId, Wall};

/// Longest type in bytes (`call.ended.v1`).
pub(crate) const TYPE_BYTES_MAX: usize = 96;
/// Longest tenant in bytes.
pub(crate) const TENANT_BYTES_MAX: usize = 63;
/// Longest subject in bytes.
pub(crate) const SUBJECT_BYTES_MAX: usize = 2048;
/// Longest correlation in bytes.
pub(crate) const CORRELATION_BYTES_MAX: usize = 512;
/// Longest trace context in bytes: a `traceparent` of version 00 has 55.
pub(crate) const TRACE_BYTES_MAX: usize = 256;
/// Largest `data` or private part in bytes.
pub(crate) const PART_BYTES_MAX: usize = 1 << 20;

/// A record as the engine hands it in.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// The number the caller gave it; checked against the journal's own.
    pub expect_seq: Option<EventSeq>,
    /// When it happened.
    pub wall: Wall,
    /// When it is journalled.
    pub recorded: Wall,
    /// Short type with version, `call.ended.v1`; the domain is what stands before the first dot.
    pub kind: &'a str,
    /// Tenant, empty for none.
    pub tenant: &'a str,
    /// The aggregate.
    pub subject: &'a str,
    /// Correlation, empty for none.
    pub correlation: &'a str,
    /// W3C trace context that what led to it carried, empty for none.
    pub traceparent: &'a str,
    /// The event that led to this one, 0 for none.
    pub causation: EventSeq,
    /// The event's data, JSON.
    pub data: &'a [u8],
    /// What only this edge may read.
    pub private: &'a [u8],
}

impl NewRecord<'_> {
    /// Bytes of the encoded record.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let texts = self.kind.len() + self.tenant.len() + self.subject.len() + self.correlation.len();
        RECORD_HEADER + texts + self.traceparent.len() + self.data.len() + self.private.len()
    }

    /// The domain, once the record keeps every rule of the format.
    ///
    /// # Errors
    /// [`Error::BadRecord`] with the rule.
    pub(crate) fn check(&self) -> Result<&str> {
        let rule = |holds: bool, rule| if holds { Ok(()) } else { Err(Error::BadRecord(rule)) };
        rule(self.kind.len() <= TYPE_BYTES_MAX, "a type has at most 96 bytes")?;
        rule(self.tenant.len() <= TENANT_BYTES_MAX, "a tenant has at most 63 bytes")?;
        rule(self.subject.len() <= SUBJECT_BYTES_MAX, "a subject has at most 2,048 bytes")?;
        rule(self.correlation.len() <= CORRELATION_BYTES_MAX, "a correlation has at most 512 bytes")?;
        rule(self.traceparent.len() <= TRACE_BYTES_MAX, "a trace context has at most 256 bytes")?;
        rule(self.data.len() <= PART_BYTES_MAX, "data has at most 1 MiB")?;
        rule(self.private.len() <= PART_BYTES_MAX, "private bytes are at most 1 MiB")?;
        let domain = domain_of(self.kind);
        let legal = (1..=format::DOMAIN_BYTES_MAX).contains(&domain.len()) && domain.len() < self.kind.len();
        rule(legal, "a type is <domain>.<past_tense>.v<N>, its domain 1 to 32 bytes")?;
        Ok(domain)
    }

    /// Appends the record's bytes to `out`.
    pub(crate) fn encode(&self, seq: EventSeq, domain_seq: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let len = self.encoded_len();
        let mut header = [0; RECORD_HEADER];
        format::put(&mut header, 0, &narrow(len).to_le_bytes());
        format::put(&mut header, 8, &seq.0.to_le_bytes());
        format::put(&mut header, 16, &self.wall.0.to_le_bytes());
        format::put(&mut header, 24, &self.recorded.0.to_le_bytes());
        format::put(&mut header, 32, &domain_seq.to_le_bytes());
        format::put(&mut header, 40, &self.causation.0.to_le_bytes());
        header[48] = narrow(self.kind.len()) as u8;
        header[49] = narrow(self.tenant.len()) as u8;
        format::put(&mut header, 50, &(narrow(self.subject.len()) as u16).to_le_bytes());
        format::put(&mut header, 52, &(narrow(self.correlation.len()) as u16).to_le_bytes());
        format::put(&mut header, 54, &(narrow(self.traceparent.len()) as u16).to_le_bytes());
        format::put(&mut header, 56, &narrow(self.data.len()).to_le_bytes());
        format::put(&mut header, 60, &narrow(self.private.len()).to_le_bytes());
        out.extend_from_slice(&header);
        for text in [self.kind, self.tenant, self.subject, self.correlation, self.traceparent] {
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(self.data);
        out.extend_from_slice(self.private);
        let crc = crc32c::crc32c(&out[start + 8..]);
        format::put(&mut out[start..], 4, &crc.to_le_bytes());
    }
}

/// A record as a reader sees it: borrowed from the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Id of the journal it was written to (differs within one directory after a fork).
    pub journal: JournalId,
    /// Sequence.
    pub seq: EventSeq,
    /// Sequence within its domain, from 1.
    pub domain_seq: u64,
    /// When it happened.
    pub wall: Wall,
    /// When it was journalled.
    pub recorded: Wall,
    /// Short type with version.
    pub kind: &'a str,
    /// Tenant, empty for none.
    pub tenant: &'a str,
    /// The aggregate.
    pub subject: &'a str,
    /// Correlation, empty for none.
    pub correlation: &'a str,
    /// W3C trace context that what led to it carried, empty for none.
    pub traceparent: &'a str,
    /// The event that led to this one, 0 for none.
    pub causation: EventSeq,
    /// The event's data, JSON.
    pub data: &'a [u8],
    /// What only this edge may read.
    pub private: &'a [u8],
}

impl<'a> Record<'a> {
    /// The type up to its first dot.
    #[must_use]
    pub fn domain(&self) -> &'a str {
        domain_of(self.kind)
    }

    /// Reads the record at the start of `bytes`; says why when it is none. The CRC is not checked here.
    pub(crate) fn decode(journal: JournalId, bytes: &'a [u8]) -> std::result::Result<Self, &'static str> {
        let lengths = Lengths::decode(bytes).ok_or("a record's lengths do not add up")?;
        let mut rest = &bytes[RECORD_HEADER..lengths.total];
        let mut take = |len: usize| {
            let (part, after) = rest.split_at(len);
            rest = after;
            part
        };
        let mut text = |len| std::str::from_utf8(take(len)).map_err(|_| "a record's text is not UTF-8");
        let (kind, tenant) = (text(lengths.kind)?, text(lengths.tenant)?);
        let (subject, correlation) = (text(lengths.subject)?, text(lengths.correlation)?);
        let traceparent = text(lengths.traceparent)?;
        Ok(Self {
            journal,
            seq: EventSeq(u64_at(bytes, 8)),
            domain_seq: u64_at(bytes, 32),
            wall: wall_at(bytes, 16),
            recorded: wall_at(bytes, 24),
            kind,
            tenant,
            subject,
            correlation,
            traceparent,
            causation: EventSeq(u64_at(bytes, 40)),
            data: take(lengths.data),
            private: take(lengths.private),
        })
    }
}

/// What a reader wants, decided on a record's header alone. Empty lists want everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Domains (`call`) or types (`call.ended`, any version, or `call.ended.v1`).
    pub kinds: Vec<String>,
    /// Tenants; an empty name is "no tenant".
    pub tenants: Vec<String>,
}

impl Filter {
    /// Whether a record of this type and tenant is wanted.
    #[must_use]
    pub fn wants(&self, kind: &str, tenant: &str) -> bool {
        let covers = |wanted: &String| {
            kind.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let kind_wanted = self.kinds.is_empty() || self.kinds.iter().any(covers);
        kind_wanted && (self.tenants.is_empty() || self.tenants.iter().any(|t| t == tenant))
    }
}

/// The lengths in a record's header, consistent with each other and with the bytes there are.
pub(crate) struct Lengths {
    pub(crate) total: usize,
    kind: usize,
    tenant: usize,
    subject: usize,
    correlation: usize,
    traceparent: usize,
    data: usize,
    private: usize,
}

impl Lengths {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < RECORD_HEADER {
            return None;
        }
        let lengths = Self {
            total: u32_at(bytes, 0) as usize,
            kind: usize::from(bytes[48]),
            tenant: usize::from(bytes[49]),
            subject: usize::from(u16_at(bytes, 50)),
            correlation: usize::from(u16_at(bytes, 52)),
            traceparent: usize::from(u16_at(bytes, 54)),
            data: u32_at(bytes, 56) as usize,
            private: u32_at(bytes, 60) as usize,
        };
        let texts =
            lengths.kind + lengths.tenant + lengths.subject + lengths.correlation + lengths.traceparent;
        let sum = RECORD_HEADER + texts + lengths.data + lengths.private;
        (sum == lengths.total && sum <= bytes.len()).then_some(lengths)
    }

    /// Whether `filter` wants the record these lengths were read from.
    pub(crate) fn wanted(&self, bytes: &[u8], filter: &Filter) -> bool {
        let text = |from: usize, len| std::str::from_utf8(&bytes[from..from + len]).unwrap_or_default();
        filter.wants(text(RECORD_HEADER, self.kind), text(RECORD_HEADER + self.kind, self.tenant))
    }
}

/// Whether the CRC of the record at the start of `bytes` holds.
pub(crate) fn crc_holds(record: &[u8]) -> bool {
    u32_at(record, 4) == crc32c::crc32c(&record[8..])
}

pub(crate) fn domain_of(kind: &str) -> &str {
    kind.split_once('.').map_or(kind, |(domain, _)| domain)
}

/// Lengths are limited by [`NewRecord::check`], so nothing is lost.
fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("checked against the format's limits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            kind in "[a-z]{1,32}\\.[a-z]{1,20}\\.v[1-9]", tenant in "[a-z0-9-]{0,63}", subject in "\\PC{0,100}",
            correlation in "\\PC{0,30}", traceparent in "[0-9a-f-]{0,55}", causation: u64, wall: i64, recorded: i64,
            data in proptest::collection::vec(any::<u8>(), 0..300),
            private in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let new = NewRecord {
                expect_seq: None, wall: Wall(wall), recorded: Wall(recorded), kind: &kind, tenant: &tenant,
                subject: &subject, correlation: &correlation, traceparent: &traceparent, causation: EventSeq(causation),
                data: &data, private: &private,
            };
            prop_assert_eq!(new.check().unwrap(), domain_of(&kind));
            let mut bytes = Vec::new();
            new.encode(EventSeq(5), 6, &mut bytes);
            prop_assert!(crc_holds(&bytes));
            prop_assert_eq!(bytes.len(), new.encoded_len());
            let record = Record::decode(JournalId(1), &bytes).unwrap();
            prop_assert_eq!((record.seq, record.domain_seq), (EventSeq(5), 6));
            prop_assert_eq!((record.kind, record.tenant), (kind.as_str(), tenant.as_str()));
            prop_assert_eq!((record.subject, record.correlation), (subject.as_str(), correlation.as_str()));
            prop_assert_eq!(record.traceparent, traceparent.as_str());
            prop_assert_eq!((record.data, record.private), (data.as_slice(), private.as_slice()));
            prop_assert_eq!((record.wall, record.recorded), (Wall(wall), Wall(recorded)));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(JournalId(1), &bytes);
        }
    }

    #[test]
    fn filters_look_at_whole_words() {
        let filter =
            Filter { kinds: vec!["call.ended".into(), "backend".into()], tenants: vec!["acme".into()] };
        assert!(filter.wants("call.ended.v1", "acme"));
        assert!(filter.wants("backend.state_changed.v1", "acme"));
        assert!(!filter.wants("call.ended_early.v1", "acme"));
        assert!(!filter.wants("call.ended.v1", "acme2"));
        assert!(Filter::default().wants("anything.done.v1", ""));
    }
}
