//! The index of a message: where its parts are, in 16-bit offsets.

use crate::header::HeaderName;
use smallvec::SmallVec;
use std::cell::Cell;
use std::ops::Range;

/// Headers indexed without an allocation. Real INVITEs carry 12 to 35.
pub(crate) const INLINE_HEADERS: usize = 48;

/// A half-open range of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl Span {
    pub(crate) fn new(range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= usize::from(u16::MAX));
        Self { start: range.start as u16, end: range.end as u16 }
    }

    pub(crate) fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.range()]
    }
}

/// One header field: `line.start` is where its name starts, `line.end` where the next line does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) id: HeaderName,
    pub(crate) line: Span,
    pub(crate) name_end: u16,
    pub(crate) value: Span,
}

/// The start line's parts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Request { method: Span, uri: Span },
    Response { code: Span, status: u16, reason: Span },
}

/// Headers every message has, by their place in `headers`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mandatory {
    pub(crate) via: u16,
    pub(crate) from: u16,
    pub(crate) to: u16,
    pub(crate) call_id: u16,
    pub(crate) cseq: u16,
}

/// Tags of From and To, each read when first asked for: they are asked for many times on a message's way. An empty span
/// stands for none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tags {
    pub(crate) from: Cell<Option<Span>>,
    pub(crate) to: Cell<Option<Span>>,
}

#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) start: Start,
    /// The start line without its line end.
    pub(crate) start_line: Span,
    pub(crate) headers: SmallVec<[Entry; INLINE_HEADERS]>,
    pub(crate) mandatory: Mandatory,
    pub(crate) tags: Tags,
    pub(crate) cseq_number: u32,
    pub(crate) cseq_method: Span,
    /// Where the empty line starts (headers are appended there).
    pub(crate) head_end: u16,
    /// The body; its end is the message's end.
    pub(crate) body: Span,
    /// A line of the head ends in LF alone.
    pub(crate) bare_lf: bool,
}

/// In one piece: `SmallVec`'s own clone goes entry by entry.
impl Clone for Index {
    fn clone(&self) -> Self {
        Self { headers: SmallVec::from_slice(&self.headers), tags: self.tags.clone(), ..*self }
    }
}
