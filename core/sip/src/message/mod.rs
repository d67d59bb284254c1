//! A SIP message: bytes, and an index of where its parts are.

mod edit;
mod index;
mod limits;
mod line_ends;
mod malformed;
mod method;
mod scan;
mod write;

pub use edit::{Forward, ForwardError};
pub use limits::Limits;
pub use malformed::{Malformed, Reason};
pub use method::{Method, MethodToken};
pub use write::{Parts, Put, RequestBuilder, ResponseBuilder, ResponseHead, Sink, StampedVia};

use crate::header::{CSeq, HeaderError, HeaderName, ListValues, NameAddr, Via, lists_token, number};
use index::{Entry, Index, Span, Start};
use scan::Mode;
use std::cell::Cell;

/// A message over bytes that are borrowed (`Message<&[u8]>`, the hot path) or owned (`Message<Box<[u8]>>`).
///
/// What exists has a start line of SIP 2.0, exactly one From, To, Call-ID and CSeq, at least one Via, a CSeq whose method is
/// the request's, and a body that is all there. Other headers are read when asked for and may be anything.
#[derive(Clone, Debug)]
pub struct Message<B> {
    bytes: B,
    index: Index,
}

/// One header field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Header<'m> {
    /// The known name, or `Other`.
    pub id: HeaderName,
    /// Place among all headers of the message, from 0.
    pub place: usize,
    /// The name as it came.
    pub name: &'m [u8],
    /// The value as it came, without blanks at its ends; line ends of folds are still inside.
    pub value: &'m [u8],
}

/// The start line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'m> {
    /// A request line.
    Request {
        /// The method.
        method: Method,
        /// The Request-URI as it came.
        uri: &'m [u8],
    },
    /// A status line.
    Response {
        /// 100 to 699.
        status: u16,
        /// The reason phrase as it came; may be empty or not UTF-8.
        reason: &'m [u8],
    },
}

/// Whether `bytes` are only line ends: a keep-alive (RFC 5626 §3.5.1, §4.4.1), nothing to parse.
#[must_use]
pub fn is_keepalive(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == b'\r' || b == b'\n')
}

impl<B: AsRef<[u8]>> Message<B> {
    /// Reads a message. Does not allocate for up to 48 headers.
    ///
    /// Line ends may be LF alone ([`Message::has_bare_line_feeds`]), line ends may precede the start line, bytes behind Content-Length are dropped, and without
    /// Content-Length the body goes to the end.
    ///
    /// # Errors
    /// [`Malformed`] with what, where, and whether it can be answered.
    pub fn parse(bytes: B, limits: &Limits) -> Result<Self, Malformed> {
        match scan::scan(bytes.as_ref(), limits, Mode::Strict) {
            Ok(index) => Ok(Self { bytes, index }),
            Err(malformed) => {
                let answerable = salvage_index(bytes.as_ref(), limits).is_some();
                Err(Malformed { answerable, ..malformed })
            }
        }
    }

    /// What [`Malformed::answerable`] promises: the broken request with its Vias, From, To, Call-ID and CSeq, without
    /// a body, to build a reply from. Its CSeq number is 0 when unreadable; the reply echoes the header's text.
    #[must_use]
    pub fn salvage(bytes: B, limits: &Limits) -> Option<Self> {
        salvage_index(bytes.as_ref(), limits).map(|index| Self { bytes, index })
    }

    /// The message's own bytes: from the start line to the end of the body.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.all_bytes()[usize::from(self.index.start_line.start)..usize::from(self.index.body.end)]
    }

    /// The same message over borrowed bytes.
    #[must_use]
    pub fn as_borrowed(&self) -> Message<&[u8]> {
        Message { bytes: self.all_bytes(), index: self.index.clone() }
    }

    /// A copy that lives on its own: one allocation of exactly the message's size.
    #[must_use]
    pub fn to_owned(&self) -> Message<Box<[u8]>> {
        let end = usize::from(self.index.body.end);
        Message { bytes: Box::from(&self.all_bytes()[..end]), index: self.index.clone() }
    }

    /// Whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// The start line.
    #[must_use]
    pub fn start_line(&self) -> StartLine<'_> {
        let bytes = self.all_bytes();
        match self.index.start {
            Start::Request { uri, .. } => StartLine::Request { method: self.method(), uri: uri.of(bytes) },
            Start::Response { status, reason, .. } => {
                StartLine::Response { status, reason: reason.of(bytes) }
            }
        }
    }

    /// The request's method; of a response, the method in CSeq.
    #[must_use]
    pub fn method(&self) -> Method {
        let span = match self.index.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => self.index.cseq_method,
        };
        Method::from_bytes(span.of(self.all_bytes())).expect("the scan refused any other method")
    }

    /// The Request-URI as it came; `None` for a response.
    #[must_use]
    pub fn request_uri(&self) -> Option<&[u8]> {
        match self.index.start {
            Start::Request { uri, .. } => Some(uri.of(self.all_bytes())),
            Start::Response { .. } => None,
        }
    }

    /// The status code; `None` for a request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase; `None` for a request.
    #[must_use]
    pub fn reason(&self) -> Option<&[u8]> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { reason, .. } => Some(reason.of(self.all_bytes())),
        }
    }

    /// All headers in order.
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = Header<'_>> + ExactSizeIterator {
        let bytes = self.all_bytes();
        self.index.headers.iter().enumerate().map(move |(place, entry)| header_of(bytes, place, entry))
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<Header<'_>> {
        self.all(name).next()
    }

    /// The first header's value.
    #[must_use]
    pub fn value(&self, name: HeaderName) -> Option<&[u8]> {
        self.header(name).map(|header| header.value)
    }

    /// All headers of this name in order.
    pub fn all(&self, name: HeaderName) -> impl DoubleEndedIterator<Item = Header<'_>> {
        let bytes = self.all_bytes();
        let entries = self.index.headers.iter().enumerate().filter(move |(_, entry)| entry.id == name);
        entries.map(move |(place, entry)| header_of(bytes, place, entry))
    }

    /// All values of this name in order, across headers and (for names that are lists) across commas.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.all(name).flat_map(move |header| ListValues::of(name, header.value))
    }

    /// Whether one of the lists of tokens of this name (Supported, Require, Allow …) holds `token`, in any case.
    #[must_use]
    pub fn lists(&self, name: HeaderName, token: &[u8]) -> bool {
        self.all(name).any(|header| lists_token(header.value, token))
    }

    /// RSeq of a reliable provisional response (RFC 3262 §3).
    #[must_use]
    pub fn reliable_rseq(&self) -> Option<u32> {
        self.value(HeaderName::RSeq)
            .filter(|_| self.lists(HeaderName::Require, b"100rel"))
            .and_then(|v| number(v).ok())
    }

    /// All headers of a name this crate does not know, in any case.
    pub fn extension<'m>(&'m self, name: &'m [u8]) -> impl Iterator<Item = Header<'m>> {
        self.all(HeaderName::Other).filter(move |header| header.name.eq_ignore_ascii_case(name))
    }

    /// Call-ID, to be compared byte by byte (RFC 3261 §8.1.1.4).
    #[must_use]
    pub fn call_id(&self) -> &[u8] {
        self.mandatory(self.index.mandatory.call_id)
    }

    /// CSeq.
    #[must_use]
    pub fn cseq(&self) -> CSeq<'_> {
        CSeq { number: self.index.cseq_number, method: self.index.cseq_method.of(self.all_bytes()) }
    }

    /// From.
    ///
    /// # Errors
    /// When it is no `name-addr` or `addr-spec` with parameters.
    pub fn from(&self) -> Result<NameAddr<'_>, HeaderError> {
        NameAddr::parse(self.mandatory(self.index.mandatory.from))
    }

    /// To.
    ///
    /// # Errors
    /// When it is no `name-addr` or `addr-spec` with parameters.
    pub fn to(&self) -> Result<NameAddr<'_>, HeaderError> {
        NameAddr::parse(self.mandatory(self.index.mandatory.to))
    }

    /// The From tag; `None` when there is none or From cannot be read.
    #[must_use]
    pub fn from_tag(&self) -> Option<&[u8]> {
        self.tag(&self.index.tags.from, self.index.mandatory.from)
    }

    /// The To tag; `None` when there is none or To cannot be read.
    #[must_use]
    pub fn to_tag(&self) -> Option<&[u8]> {
        self.tag(&self.index.tags.to, self.index.mandatory.to)
    }

    /// The topmost Via.
    ///
    /// # Errors
    /// When it cannot be read; such a request cannot be answered either.
    pub fn top_via(&self) -> Result<Via<'_>, HeaderError> {
        let value = self.mandatory(self.index.mandatory.via);
        Via::parse(ListValues::new(value).next().ok_or(HeaderError::new("empty", 0))?)
    }

    /// Max-Forwards; `None` when missing, `Some(Err)` when it is no number.
    #[must_use]
    pub fn max_forwards(&self) -> Option<Result<u32, HeaderError>> {
        self.value(HeaderName::MaxForwards).map(number)
    }

    /// The body; empty when there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.index.body.of(self.all_bytes())
    }

    /// Reads every Via, From, To, the Request-URI, Contact, Record-Route, Route and Path through their typed views, and
    /// refuses a second or empty tag, a second branch, and headers in the Request-URI.
    ///
    /// # Errors
    /// The first that cannot be read. `answerable` is true for requests other than ACK whose top Via is readable.
    pub fn validate(&self) -> Result<(), Malformed> {
        self.first_unreadable().map_or(Ok(()), |(reason, offset)| {
            let answerable = self.is_request() && self.method() != Method::Ack && self.top_via().is_ok();
            Err(Malformed { reason, offset, answerable })
        })
    }

    /// Whether the header index left its inline space and allocated.
    #[must_use]
    pub fn index_spilled(&self) -> bool {
        self.index.headers.spilled()
    }

    fn first_unreadable(&self) -> Option<(Reason, usize)> {
        if let Some(uri) = self.request_uri()
            && !is_request_uri(uri)
        {
            return Some((Reason::BadRequestUri, self.offset_of(uri)));
        }
        for header in self.headers() {
            let readable = match header.id {
                HeaderName::Via => ListValues::new(header.value)
                    .all(|value| Via::parse(value).is_ok_and(|via| !via.params.repeats(b"branch"))),
                HeaderName::From | HeaderName::To => NameAddr::parse(header.value)
                    .is_ok_and(|address| address.uri_is_readable() && has_one_tag_at_most(address)),
                HeaderName::Contact if header.value == b"*" => true,
                HeaderName::Contact | HeaderName::RecordRoute | HeaderName::Route | HeaderName::Path => {
                    ListValues::new(header.value)
                        .all(|value| NameAddr::parse(value).is_ok_and(|address| address.uri_is_readable()))
                }
                _ => true,
            };
            if !readable {
                return Some((Reason::BadHeader(header.id), self.offset_of(header.value)));
            }
        }
        None
    }

    fn all_bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    fn mandatory(&self, place: u16) -> &[u8] {
        self.index.headers[usize::from(place)].value.of(self.all_bytes())
    }

    fn tag(&self, kept: &Cell<Option<Span>>, place: u16) -> Option<&[u8]> {
        let span = kept.get().unwrap_or_else(|| {
            let tag = NameAddr::parse(self.mandatory(place)).ok().and_then(|address| address.tag());
            let span = tag.map_or(Span::default(), |tag| {
                let start = self.offset_of(tag);
                Span::new(start..start + tag.len())
            });
            kept.set(Some(span));
            span
        });
        Some(span.of(self.all_bytes())).filter(|tag| !tag.is_empty())
    }

    fn offset_of(&self, part: &[u8]) -> usize {
        part.as_ptr() as usize - self.all_bytes().as_ptr() as usize
    }
}

/// Whether it can be read and holds no headers: those are for links, and must not reach the next hop in a Request-URI
/// (RFC 3261 §19.1.1, `escruri` of RFC 4475 §3.1.2.11).
fn is_request_uri(uri: &[u8]) -> bool {
    crate::uri::Uri::parse(uri).is_ok_and(|uri| uri.as_sip().is_none_or(|sip| sip.headers.is_empty()))
}

/// None, or one that is not empty: a second one would be appended to an answer's To (RFC 3261 §25.1 `tag-param`).
fn has_one_tag_at_most(address: NameAddr<'_>) -> bool {
    let empty = |tag: crate::header::Param<'_>| tag.value.is_none_or(<[u8]>::is_empty);
    !address.params.repeats(b"tag") && !address.params.get(b"tag").is_some_and(empty)
}

fn header_of<'m>(bytes: &'m [u8], place: usize, entry: &Entry) -> Header<'m> {
    let name = &bytes[usize::from(entry.line.start)..usize::from(entry.name_end)];
    Header { id: entry.id, place, name, value: entry.value.of(bytes) }
}

fn salvage_index(bytes: &[u8], limits: &Limits) -> Option<Index> {
    let index = scan::scan(bytes, limits, Mode::Salvage).ok()?;
    match index.start {
        Start::Request { method, .. } if method.of(bytes) != b"ACK" => {}
        _ => return None,
    }
    let via = index.headers[usize::from(index.mandatory.via)].value.of(bytes);
    ListValues::new(via).next().is_some_and(|top| Via::parse(top).is_ok()).then_some(index)
}

#[cfg(test)]
mod tests;
