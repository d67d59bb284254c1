//! Forwarding: untouched spans are copied, and a list of edits is applied.
//!
//! An edit replaces a range of the original message with bytes kept beside it. Edits are named in any order and applied
//! from front to back. An edit that starts inside what another one takes away is dropped with it, so removing a header
//! wins over changing it; of two that replace the same part, the one named last wins.

use super::index::{Index, Span, Start};
use super::{Message, Put};
use crate::header::{HeaderName, ListValues, NameAddr, RAck};
use smallvec::SmallVec;
use std::ops::Range;

/// What start lines say, in whatever case.
const VERSION: &str = "SIP/2.0";
/// Edits kept without an allocation.
const INLINE_EDITS: usize = 24;
/// Bytes of new text kept without an allocation.
const INLINE_TEXT: usize = 1024;

/// Why an edit could not be named: the peer's message does not have what it would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Max-Forwards is 0: answer 483 (RFC 3261 §16.3).
    #[error("Max-Forwards is 0")]
    TooManyHops,
    /// The header is there, and cannot be read.
    #[error("{0} cannot be read")]
    Unreadable(HeaderName),
    /// The header is not there.
    #[error("{0} missing")]
    Missing(HeaderName),
}

/// A message on its way: the original and what shall differ.
///
/// Without edits, [`Forward::write_into`] writes the message byte for byte. An edit touches only what it names: all other
/// headers keep their bytes and order. Does not allocate for up to 24 edits with 1024 bytes of new text.
#[derive(Debug)]
pub struct Forward<'m> {
    bytes: &'m [u8],
    index: &'m Index,
    text: SmallVec<[u8; INLINE_TEXT]>,
    edits: SmallVec<[Edit; INLINE_EDITS]>,
    counted: bool,
}

/// Replaces `range` of the original by `new` of the text. Empty ranges insert.
#[derive(Clone, Copy, Debug)]
struct Edit {
    range: Span,
    new: (u32, u32),
    in_body: bool,
}

impl<'m> Forward<'m> {
    /// Starts without edits, but for a version in small letters: it is read in any case, and sent in upper case (RFC 3261 §7.1).
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(message: &'m Message<B>) -> Self {
        let mut forward = Self {
            bytes: message.all_bytes(),
            index: &message.index,
            text: SmallVec::new(),
            edits: SmallVec::new(),
            counted: false,
        };
        let line = forward.index.start_line.range();
        let version = match forward.index.start {
            Start::Request { .. } => line.end - VERSION.len()..line.end,
            Start::Response { .. } => line.start..line.start + VERSION.len(),
        };
        let said = &forward.bytes[version.clone()];
        if said != VERSION.as_bytes() && said.eq_ignore_ascii_case(VERSION.as_bytes()) {
            forward.replace(version, VERSION);
        }
        forward
    }

    /// Writes another Request-URI; does nothing to a response.
    pub fn set_request_uri(&mut self, uri: impl Put) {
        if let Start::Request { uri: span, .. } = self.index.start {
            self.replace(span.range(), uri);
        }
    }

    /// Writes another status and reason; does nothing to a request.
    pub fn set_status(&mut self, status: u16, reason: impl Put) {
        if let Start::Response { code, reason: span, .. } = self.index.start {
            self.replace(code.range(), u32::from(status));
            let glue = if span.start == code.end { " " } else { "" };
            self.replace(span.range(), (glue, reason));
        }
    }

    /// Removes every header of this name.
    pub fn remove(&mut self, name: HeaderName) {
        let index = self.index;
        index
            .headers
            .iter()
            .filter(|entry| entry.id == name)
            .for_each(|entry| self.replace(entry.line.range(), ""));
    }

    /// Removes every header of this unknown name, in any case.
    pub fn remove_extension(&mut self, name: &[u8]) {
        let (index, bytes) = (self.index, self.bytes);
        for entry in &index.headers {
            let this = &bytes[usize::from(entry.line.start)..usize::from(entry.name_end)];
            if entry.id == HeaderName::Other && this.eq_ignore_ascii_case(name) {
                self.replace(entry.line.range(), "");
            }
        }
    }

    /// Removes the header at this place (see [`Header::place`](super::Header::place)); a place beyond the last does nothing.
    pub fn remove_nth(&mut self, place: usize) {
        if let Some(entry) = self.index.headers.get(place) {
            self.replace(entry.line.range(), "");
        }
    }

    /// Gives the header at this place another value; a place beyond the last does nothing.
    pub fn replace_nth(&mut self, place: usize, value: impl Put) {
        if let Some(entry) = self.index.headers.get(place) {
            self.replace(entry.value.range(), value);
        }
    }

    /// Gives the first header of this name another value and removes the others; appends it when there is none.
    pub fn set(&mut self, name: HeaderName, value: impl Put) {
        let index = self.index;
        let mut places = index.headers.iter().filter(|entry| entry.id == name);
        match places.next() {
            Some(entry) => self.replace(entry.value.range(), value),
            None => return self.append(name, value),
        }
        places.for_each(|entry| self.replace(entry.line.range(), ""));
    }

    /// Writes a header above the first of its name; above all others but Via when there is none. What is inserted at one
    /// place stands in the order of the calls.
    pub fn insert_first(&mut self, name: HeaderName, value: impl Put) {
        let headers = &self.index.headers;
        let first = headers.iter().find(|entry| entry.id == name);
        let first = first.or_else(|| headers.iter().find(|entry| entry.id != HeaderName::Via));
        let at = first.map_or(self.index.head_end, |entry| entry.line.start);
        self.insert_line(usize::from(at), name.as_str(), value);
    }

    /// Writes a header behind all others.
    pub fn append(&mut self, name: HeaderName, value: impl Put) {
        self.append_extension(name.as_str(), value);
    }

    /// Writes a header of any name behind all others.
    pub fn append_extension(&mut self, name: &str, value: impl Put) {
        self.insert_line(usize::from(self.index.head_end), name, value);
    }

    /// Removes the first value of this name: the header, or only its first element when more follow behind a comma.
    pub fn pop_first(&mut self, name: HeaderName) {
        let Some(entry) = self.index.headers.iter().find(|entry| entry.id == name) else { return };
        let value = entry.value.of(self.bytes);
        match ListValues::of(name, value).nth(1) {
            Some(second) => {
                let start = usize::from(entry.value.start);
                self.replace(start..start + (second.as_ptr() as usize - value.as_ptr() as usize), "");
            }
            None => self.replace(entry.line.range(), ""),
        }
    }

    /// Replaces a part that a view of this message gave (a tag, a URI, digits …).
    ///
    /// # Panics
    /// When `part` is not a slice of this message's bytes: our own mistake.
    pub fn replace_part(&mut self, part: &[u8], new: impl Put) {
        let range = self.range_of(part);
        self.replace(range, new);
    }

    /// Writes behind a part that a view of this message gave.
    ///
    /// # Panics
    /// When `part` is not a slice of this message's bytes: our own mistake.
    pub fn insert_behind(&mut self, part: &[u8], new: impl Put) {
        let end = self.range_of(part).end;
        self.replace(end..end, new);
    }

    /// One hop less; a missing Max-Forwards is written as 70 (RFC 3261 §16.6 step 3). Gives the new value.
    ///
    /// # Errors
    /// [`ForwardError::TooManyHops`] at 0, [`ForwardError::Unreadable`] when it is no number.
    pub fn decrement_max_forwards(&mut self) -> Result<u8, ForwardError> {
        const NAME: HeaderName = HeaderName::MaxForwards;
        let Some(entry) = self.index.headers.iter().find(|entry| entry.id == NAME) else {
            self.append(NAME, 70_u32);
            return Ok(70);
        };
        let hops =
            crate::header::number(entry.value.of(self.bytes)).map_err(|_| ForwardError::Unreadable(NAME))?;
        let hops = hops.min(255).checked_sub(1).ok_or(ForwardError::TooManyHops)?;
        self.replace(entry.value.range(), hops);
        Ok(hops as u8)
    }

    /// Gives From another tag, or one if it has none.
    ///
    /// # Errors
    /// When From cannot be read.
    pub fn set_from_tag(&mut self, tag: impl Put) -> Result<(), ForwardError> {
        self.set_tag(HeaderName::From, self.index.mandatory.from, tag)
    }

    /// Gives To another tag, or one if it has none.
    ///
    /// # Errors
    /// When To cannot be read.
    pub fn set_to_tag(&mut self, tag: impl Put) -> Result<(), ForwardError> {
        self.set_tag(HeaderName::To, self.index.mandatory.to, tag)
    }

    /// Writes another Call-ID.
    pub fn set_call_id(&mut self, call_id: impl Put) {
        let entry = &self.index.headers[usize::from(self.index.mandatory.call_id)];
        self.replace(entry.value.range(), call_id);
    }

    /// Writes another CSeq number; the method stays.
    pub fn set_cseq_number(&mut self, number: u32) {
        let value = self.index.headers[usize::from(self.index.mandatory.cseq)].value;
        let digits = value.of(self.bytes).iter().take_while(|b| b.is_ascii_digit()).count();
        let start = usize::from(value.start);
        self.replace(start..start + digits, number);
    }

    /// Writes another CSeq number inside RAck; the RSeq and the method stay.
    ///
    /// # Errors
    /// When RAck is missing or cannot be read.
    pub fn set_rack_cseq(&mut self, number: u32) -> Result<(), ForwardError> {
        const NAME: HeaderName = HeaderName::RAck;
        let entry =
            self.index.headers.iter().find(|entry| entry.id == NAME).ok_or(ForwardError::Missing(NAME))?;
        let rack = RAck::parse(entry.value.of(self.bytes)).map_err(|_| ForwardError::Unreadable(NAME))?;
        self.replace_part(rack.cseq_digits, number);
        Ok(())
    }

    /// Writes another body and its Content-Type; Content-Length follows. An empty body takes Content-Type away.
    pub fn replace_body(&mut self, content_type: impl Put, body: &[u8]) {
        if body.is_empty() {
            self.remove(HeaderName::ContentType);
        } else {
            self.set(HeaderName::ContentType, content_type);
        }
        self.edit_body(0..self.index.body.range().len(), body);
    }

    /// Replaces a range of the body; Content-Length follows. Ranges count from the body's start.
    ///
    /// # Panics
    /// When the range is outside the body: our own mistake.
    pub fn edit_body(&mut self, range: Range<usize>, new: impl Put) {
        let body = self.index.body.range();
        assert!(range.start <= range.end && range.end <= body.len(), "the range was read from this body");
        self.edit(body.start + range.start..body.start + range.end, new, true);
    }

    /// Sees to it that the message says Content-Length, as streams need it (RFC 3261 §18.3).
    pub fn ensure_content_length(&mut self) {
        self.counted = true;
    }

    /// Whether nothing differs so far.
    #[must_use]
    pub fn is_unedited(&self) -> bool {
        self.edits.is_empty() && (!self.counted || self.says_content_length())
    }

    /// Whether edits or new text left their inline space and allocated.
    #[must_use]
    pub fn spilled(&self) -> bool {
        self.edits.spilled() || self.text.spilled()
    }

    /// Appends the edited message to `out`.
    pub fn write_into(mut self, out: &mut Vec<u8>) {
        let unedited = self.is_unedited();
        self.sort();
        self.write_content_length();
        let head_end = usize::from(self.index.head_end);
        // A datagram may end behind its last header. As soon as something is written, the empty line is too.
        let mut owes_empty_line = !unedited && usize::from(self.index.body.start) == head_end;
        let mut at = usize::from(self.index.start_line.start);
        let end = usize::from(self.index.body.end);
        out.reserve(end - at + self.text.len() + 4);
        for edit in &self.edits {
            let range = edit.range.range();
            if range.start < at {
                continue;
            }
            out.extend_from_slice(&self.bytes[at..range.start]);
            if owes_empty_line && edit.in_body {
                out.extend_from_slice(b"\r\n");
                owes_empty_line = false;
            }
            out.extend_from_slice(&self.text[edit.new.0 as usize..edit.new.1 as usize]);
            at = range.end;
        }
        out.extend_from_slice(&self.bytes[at..end]);
        if owes_empty_line {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Front to back; what is inserted at a place goes in front of what is replaced there, in the order of the calls; of
    /// two replacements at one place the last named comes first, and so wins.
    fn sort(&mut self) {
        self.edits.sort_unstable_by_key(|edit| {
            let order = i64::from(edit.new.0);
            let replaces = edit.range.start != edit.range.end;
            (edit.range.start, edit.in_body, replaces, if replaces { -order } else { order })
        });
    }

    fn write_content_length(&mut self) {
        const NAME: HeaderName = HeaderName::ContentLength;
        let original = self.index.body.range().len();
        if self.edits.iter().any(|edit| edit.in_body) {
            let (mut at, mut removed, mut added) = (0, 0, 0);
            for edit in self.edits.iter().filter(|edit| edit.in_body) {
                let range = edit.range.range();
                if range.start < at {
                    continue;
                }
                removed += range.len();
                added += (edit.new.1 - edit.new.0) as usize;
                at = range.end;
            }
            self.set(NAME, (original + added - removed) as u32);
            self.sort();
        } else if self.counted && !self.says_content_length() {
            self.append(NAME, original as u32);
            self.sort();
        }
    }

    fn says_content_length(&self) -> bool {
        self.index.headers.iter().any(|entry| entry.id == HeaderName::ContentLength)
    }

    fn set_tag(&mut self, name: HeaderName, place: u16, tag: impl Put) -> Result<(), ForwardError> {
        let value = self.index.headers[usize::from(place)].value.of(self.bytes);
        let address = NameAddr::parse(value).map_err(|_| ForwardError::Unreadable(name))?;
        match address.params.get(b"tag") {
            Some(param) => self.replace_part(param.raw, ("tag=", tag)),
            None => self.insert_behind(value, (";tag=", tag)),
        }
        Ok(())
    }

    fn insert_line(&mut self, at: usize, name: &str, value: impl Put) {
        self.replace(at..at, (name, (": ", (value, "\r\n"))));
    }

    fn replace(&mut self, range: Range<usize>, new: impl Put) {
        self.edit(range, new, false);
    }

    fn edit(&mut self, range: Range<usize>, new: impl Put, in_body: bool) {
        let start = self.text.len() as u32;
        new.put(&mut self.text);
        self.edits.push(Edit { range: Span::new(range), new: (start, self.text.len() as u32), in_body });
    }

    fn range_of(&self, part: &[u8]) -> Range<usize> {
        let start = (part.as_ptr() as usize).wrapping_sub(self.bytes.as_ptr() as usize);
        assert!(
            start <= self.bytes.len() && part.len() <= self.bytes.len() - start,
            "a part of this message"
        );
        start..start + part.len()
    }
}
