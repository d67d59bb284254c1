//! One pass over the bytes that finds the parts of a message and refuses what two readers could read differently.

use super::index::{Entry, INLINE_HEADERS, Index, Mandatory, Span, Start, Tags};
use super::limits::Limits;
use super::malformed::{Malformed, Reason};
use super::method::Method;
use crate::header::HeaderName;
use crate::text::{decimal, decimal_u32, is_blank, is_token, take_token, trim_start};
use smallvec::SmallVec;
use std::cell::Cell;

/// How to treat what is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Refuse it.
    Strict,
    /// Step over it, to find the headers a reply needs.
    Salvage,
}

/// Indexes `bytes`.
pub(crate) fn scan(bytes: &[u8], limits: &Limits, mode: Mode) -> Result<Index, Malformed> {
    let begin =
        bytes.iter().position(|&b| b != b'\r' && b != b'\n').ok_or(Malformed::at(Reason::Empty, 0))?;
    let mut bytes = bytes;
    if bytes.len() > limits.message_bytes_max.min(Limits::MESSAGE_BYTES_CEILING) {
        if mode == Mode::Strict {
            return Err(Malformed::at(Reason::MessageTooLarge, limits.message_bytes_max));
        }
        bytes = &bytes[..limits.message_bytes_max.min(Limits::MESSAGE_BYTES_CEILING)];
    }
    Scanner { bytes, limits, mode, bare_lf: Cell::new(false) }.run(begin)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    limits: &'a Limits,
    mode: Mode,
    bare_lf: Cell<bool>,
}

/// What the header loop learns beside the entries.
#[derive(Default)]
struct Seen {
    via: Option<u16>,
    from: Option<u16>,
    to: Option<u16>,
    call_id: Option<u16>,
    cseq: Option<u16>,
    max_forwards: bool,
    vias: usize,
    content_length: Option<(usize, usize)>,
}

impl Scanner<'_> {
    fn run(&self, begin: usize) -> Result<Index, Malformed> {
        let (line_end, mut at) = self.line(begin)?;
        let start = self.start_line(begin, line_end)?;
        let mut headers: SmallVec<[Entry; INLINE_HEADERS]> = SmallVec::new();
        let mut seen = Seen::default();
        let head_end = loop {
            let line_start = at;
            let (content_end, next) = self.line(line_start)?;
            at = next;
            if content_end == line_start {
                break line_start;
            }
            if let Some((entry, next)) = self.header(line_start, content_end, next)? {
                at = next;
                self.note(&entry, headers.len(), &mut seen)?;
                headers.push(entry);
            }
        };
        self.no_nul(begin, head_end)?;
        let mandatory = mandatory(&seen, head_end)?;
        let cseq_value = headers[usize::from(mandatory.cseq)].value;
        let (cseq_number, cseq_method) = self.cseq(cseq_value, start)?;
        let body = self.body(at, &seen)?;
        let start_line = Span::new(begin..line_end);
        let head_end = head_end as u16;
        let tags = Tags::default();
        let bare_lf = self.bare_lf.get();
        Ok(Index {
            start,
            start_line,
            headers,
            mandatory,
            tags,
            cseq_number,
            cseq_method,
            head_end,
            body,
            bare_lf,
        })
    }

    /// In strict mode an error; in salvage mode nothing.
    fn refuse(&self, reason: Reason, offset: usize) -> Result<(), Malformed> {
        if self.mode == Mode::Strict { Err(Malformed::at(reason, offset)) } else { Ok(()) }
    }

    /// The end of the line's content, and where the next line starts. The end of input is an empty line.
    #[inline]
    fn line(&self, from: usize) -> Result<(usize, usize), Malformed> {
        let found = self.line_end(from);
        #[cfg(test)]
        crate::text::steps::add(found.map_or(self.bytes.len(), |(_, next)| next) - from);
        found
    }

    #[inline]
    fn line_end(&self, from: usize) -> Result<(usize, usize), Malformed> {
        let rest = &self.bytes[from..];
        match memchr::memchr2(b'\r', b'\n', rest) {
            None if rest.is_empty() => Ok((from, from)),
            // What is cut off inside a line may mean anything.
            None => Err(Malformed::at(Reason::HeadTruncated, from)),
            Some(n) if rest[n] == b'\n' => {
                self.bare_lf.set(true);
                Ok((from + n, from + n + 1))
            }
            Some(n) if rest.get(n + 1) == Some(&b'\n') => Ok((from + n, from + n + 2)),
            // Never stepped over, not even to answer: what follows could be read as a header of its own.
            Some(n) => Err(Malformed::at(Reason::BareCr, from + n)),
        }
    }

    fn start_line(&self, begin: usize, end: usize) -> Result<Start, Malformed> {
        let line = &self.bytes[begin..end];
        if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
            return status_line(line, begin);
        }
        let bad = Malformed::at(Reason::BadStartLine, begin);
        let first = memchr::memchr(b' ', line).ok_or(bad)?;
        let last = memchr::memrchr(b' ', line.trim_ascii_end()).filter(|&n| n > first).ok_or(bad)?;
        let version = &line[last + 1..];
        if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
            return Err(bad);
        }
        if Method::from_bytes(&line[..first]).is_none() {
            return Err(Malformed::at(Reason::BadMethod, begin));
        }
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            let trailing = version.trim_ascii_end().eq_ignore_ascii_case(b"SIP/2.0");
            let reason = if trailing { Reason::BadStartLine } else { Reason::BadVersion };
            self.refuse(reason, begin + last + 1)?;
        }
        let uri = &line[first + 1..last];
        if uri.len() > self.limits.uri_bytes_max {
            self.refuse(Reason::UriTooLong, begin + first + 1)?;
        }
        if let Some(n) = bad_uri_byte(uri) {
            self.refuse(Reason::BadRequestUri, begin + first + 1 + n)?;
        }
        Ok(Start::Request {
            method: Span::new(begin..begin + first),
            uri: Span::new(begin + first + 1..begin + last),
        })
    }

    /// One header field with its folds, and where the next line starts. `None` when it was stepped over.
    fn header(
        &self,
        start: usize,
        first_end: usize,
        next: usize,
    ) -> Result<Option<(Entry, usize)>, Malformed> {
        let bytes = self.bytes;
        let line = &bytes[start..first_end];
        let name_len = line.iter().position(|&b| !is_token(b)).unwrap_or(line.len());
        let colon = line[name_len..]
            .iter()
            .position(|&b| b != b' ' && b != b'\t')
            .map_or(line.len(), |n| name_len + n);
        if name_len == 0 || line.get(colon) != Some(&b':') {
            self.refuse(Reason::BadHeaderLine, start)?;
            return Ok(None);
        }
        let (mut value_end, mut end) = (first_end, next);
        while matches!(bytes.get(end), Some(b' ' | b'\t')) {
            (value_end, end) = self.line(end)?;
            if end - start > self.limits.header_bytes_max {
                break;
            }
        }
        if end - start > self.limits.header_bytes_max {
            self.refuse(Reason::HeaderTooLong, start)?;
        }
        let mut value_start = start + colon + 1;
        while value_start < value_end && is_blank(bytes[value_start]) {
            value_start += 1;
        }
        while value_end > value_start && is_blank(bytes[value_end - 1]) {
            value_end -= 1;
        }
        let entry = Entry {
            id: HeaderName::from_bytes(&line[..name_len]),
            line: Span::new(start..end),
            name_end: (start + name_len) as u16,
            value: Span::new(value_start..value_end),
        };
        Ok(Some((entry, end)))
    }

    #[inline]
    fn note(&self, entry: &Entry, place: usize, seen: &mut Seen) -> Result<(), Malformed> {
        let offset = usize::from(entry.line.start);
        if place >= self.limits.headers_max {
            // Stepping over this one would make the walk's result depend on where the limit lies.
            return Err(Malformed::at(Reason::TooManyHeaders, offset));
        }
        let first = match entry.id {
            HeaderName::Via => {
                seen.vias += 1 + memchr::memchr_iter(b',', entry.value.of(self.bytes)).count();
                if seen.vias > self.limits.vias_max {
                    self.refuse(Reason::TooManyVias, offset)?;
                }
                seen.via.get_or_insert(place as u16);
                return Ok(());
            }
            HeaderName::From => &mut seen.from,
            HeaderName::To => &mut seen.to,
            HeaderName::CallId => &mut seen.call_id,
            HeaderName::CSeq => &mut seen.cseq,
            HeaderName::MaxForwards => {
                if std::mem::replace(&mut seen.max_forwards, true) {
                    self.refuse(Reason::Repeated(HeaderName::MaxForwards), offset)?;
                }
                return Ok(());
            }
            HeaderName::ContentLength => return self.content_length(entry, seen),
            _ => return Ok(()),
        };
        if first.is_some() {
            return self.refuse(Reason::Repeated(entry.id), offset);
        }
        if entry.value.start == entry.value.end {
            return self.refuse(Reason::Missing(entry.id), offset);
        }
        *first = Some(place as u16);
        Ok(())
    }

    /// The same length twice is harmless; two lengths are two messages.
    fn content_length(&self, entry: &Entry, seen: &mut Seen) -> Result<(), Malformed> {
        let offset = usize::from(entry.value.start);
        match decimal(entry.value.of(self.bytes)) {
            Some(n) if n <= Limits::MESSAGE_BYTES_CEILING as u64 => {
                let length = n as usize;
                if seen.content_length.is_some_and(|(earlier, _)| earlier != length) {
                    return self.refuse(Reason::Repeated(HeaderName::ContentLength), offset);
                }
                seen.content_length = Some((length, offset));
                Ok(())
            }
            _ => self.refuse(Reason::BadContentLength, offset),
        }
    }

    fn cseq(&self, value: Span, start: Start) -> Result<(u32, Span), Malformed> {
        let raw = value.of(self.bytes);
        let offset = usize::from(value.start);
        let digits = raw.iter().take_while(|b| b.is_ascii_digit()).count();
        let method = trim_start(&raw[digits..]);
        let method_start = offset + raw.len() - method.len();
        let span = Span::new(method_start..usize::from(value.end));
        let number = decimal_u32(&raw[..digits]);
        let requested = match start {
            Start::Request { method, .. } => Some(method.of(self.bytes)),
            Start::Response { .. } => None,
        };
        // The request line's method was checked already.
        let legal = requested == Some(method) || Method::from_bytes(method).is_some();
        if number.is_none() || method.len() + digits == raw.len() || !legal {
            self.refuse(Reason::BadCSeq, offset)?;
        }
        if requested.is_some_and(|requested| requested != method) {
            self.refuse(Reason::CSeqMethodMismatch, method_start)?;
        }
        Ok((number.unwrap_or(0), span))
    }

    fn body(&self, start: usize, seen: &Seen) -> Result<Span, Malformed> {
        let available = self.bytes.len() - start;
        if self.mode == Mode::Salvage {
            return Ok(Span::new(start..start));
        }
        match seen.content_length {
            Some((length, offset)) if length > available => Err(Malformed::at(Reason::BodyTruncated, offset)),
            // RFC 3261 §18.3: what follows the body in a datagram is dropped.
            Some((length, _)) => Ok(Span::new(start..start + length)),
            None => Ok(Span::new(start..self.bytes.len())),
        }
    }

    /// NUL passes only behind a backslash, as quoted strings may hold it (`intmeth` of RFC 4475 §3.1.1.2).
    fn no_nul(&self, begin: usize, end: usize) -> Result<(), Malformed> {
        for n in memchr::memchr_iter(0, &self.bytes[begin..end]) {
            let at = begin + n;
            if at == 0 || self.bytes[at - 1] != b'\\' {
                return Err(Malformed::at(Reason::Nul, at));
            }
        }
        Ok(())
    }
}

fn status_line(line: &[u8], begin: usize) -> Result<Start, Malformed> {
    if line.len() < 11 || !line[..8].eq_ignore_ascii_case(b"SIP/2.0 ") {
        let versioned = line.get(4..7).is_some_and(|v| v != b"2.0");
        return Err(Malformed::at(if versioned { Reason::BadVersion } else { Reason::BadStartLine }, begin));
    }
    let (digits, rest) = take_token(&line[8..]);
    let status = decimal(digits).filter(|n| digits.len() == 3 && (100..700).contains(n));
    let status = status.ok_or(Malformed::at(Reason::BadStatus, begin + 8))? as u16;
    if !(rest.is_empty() || rest[0] == b' ') {
        return Err(Malformed::at(Reason::BadStartLine, begin + 11));
    }
    let end = begin + line.len();
    let reason = Span::new((begin + 12).min(end)..end);
    Ok(Start::Response { code: Span::new(begin + 8..begin + 11), status, reason })
}

/// Where a Request-URI breaks: no scheme, or a byte that no URI may hold and that another reader may split at.
fn bad_uri_byte(uri: &[u8]) -> Option<usize> {
    let scheme = uri.iter().position(|&b| !(b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')));
    let scheme = scheme.unwrap_or(uri.len());
    if scheme == 0
        || !uri[0].is_ascii_alphabetic()
        || uri.get(scheme) != Some(&b':')
        || scheme + 1 == uri.len()
    {
        return Some(0);
    }
    uri.iter().position(|&b| b <= b' ' || b == 0x7f || matches!(b, b'<' | b'>' | b'"'))
}

fn mandatory(seen: &Seen, head_end: usize) -> Result<Mandatory, Malformed> {
    let found = |place: Option<u16>, name| place.ok_or(Malformed::at(Reason::Missing(name), head_end));
    Ok(Mandatory {
        via: found(seen.via, HeaderName::Via)?,
        from: found(seen.from, HeaderName::From)?,
        to: found(seen.to, HeaderName::To)?,
        call_id: found(seen.call_id, HeaderName::CallId)?,
        cseq: found(seen.cseq, HeaderName::CSeq)?,
    })
}
