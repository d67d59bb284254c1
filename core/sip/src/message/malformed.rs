//! Why bytes are not a message, where, and what may be answered.

use crate::header::HeaderName;

/// Bytes that are not an acceptable SIP message: the peer's fault, never ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct Malformed {
    /// What is wrong.
    pub reason: Reason,
    /// Where, in bytes from the start of the input.
    pub offset: usize,
    /// Whether it is a request other than ACK from which Via, From, To, Call-ID and CSeq could be copied into a reply.
    /// [`Message::salvage`](super::Message::salvage) then gives the message to answer.
    pub answerable: bool,
}

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// Nothing but line ends: a keep-alive (RFC 5626 §3.5.1).
    #[error("nothing but line ends")]
    Empty,
    /// Above `message_bytes_max`.
    #[error("message too large")]
    MessageTooLarge,
    /// Not `Method SP URI SP SIP/2.0`, nor `SIP/2.0 SP code SP reason`.
    #[error("start line is neither a request's nor a status line")]
    BadStartLine,
    /// A method that is no token, or longer than [`Method::BYTES_MAX`](super::Method::BYTES_MAX).
    #[error("method is no token or too long")]
    BadMethod,
    /// A SIP version other than 2.0.
    #[error("SIP version is not 2.0")]
    BadVersion,
    /// Request-URI empty, without a scheme, or with blanks, angle brackets, quotes or control characters.
    #[error("bad Request-URI")]
    BadRequestUri,
    /// Above `uri_bytes_max`.
    #[error("Request-URI too long")]
    UriTooLong,
    /// Status code outside 100 to 699.
    #[error("bad status code")]
    BadStatus,
    /// Above `headers_max`.
    #[error("too many headers")]
    TooManyHeaders,
    /// Above `header_bytes_max`.
    #[error("header too long")]
    HeaderTooLong,
    /// Above `vias_max`.
    #[error("too many Via values")]
    TooManyVias,
    /// A header line without a colon, or with something other than a token before it.
    #[error("header line without a name and colon")]
    BadHeaderLine,
    /// The input ends inside the start line or a header.
    #[error("input ends inside the head")]
    HeadTruncated,
    /// A CR that no LF follows: some peers would see a line end there, we would not.
    #[error("CR without LF")]
    BareCr,
    /// A NUL that is not escaped inside a quoted string.
    #[error("NUL byte")]
    Nul,
    /// A mandatory header is missing (RFC 3261 §8.1.1; Max-Forwards may be).
    #[error("{0} missing")]
    Missing(HeaderName),
    /// A header that may be there once is there again.
    #[error("{0} repeated")]
    Repeated(HeaderName),
    /// A Content-Length that is no number from 0 to 65535.
    #[error("bad Content-Length")]
    BadContentLength,
    /// Content-Length is larger than what arrived (RFC 3261 §18.3).
    #[error("body shorter than Content-Length")]
    BodyTruncated,
    /// CSeq is not a number below 2³¹·2 and a method.
    #[error("bad CSeq")]
    BadCSeq,
    /// CSeq names another method than the request line (RFC 3261 §8.1.1.5).
    #[error("CSeq method differs from the request's")]
    CSeqMethodMismatch,
    /// A header whose typed view cannot read it; only from [`Message::validate`](super::Message::validate).
    #[error("{0} cannot be read")]
    BadHeader(HeaderName),
}

impl Malformed {
    pub(crate) const fn at(reason: Reason, offset: usize) -> Self {
        Self { reason, offset, answerable: false }
    }

    /// The status to answer with, or `None` when it must be dropped: not a request, an ACK, or not enough of it readable.
    #[must_use]
    pub const fn reply_status(&self) -> Option<u16> {
        if !self.answerable {
            return None;
        }
        Some(match self.reason {
            Reason::MessageTooLarge => 513,
            Reason::BadVersion => 505,
            Reason::UriTooLong => 414,
            _ => 400,
        })
    }

    /// A reason phrase that names the fault, for the reply.
    #[must_use]
    pub const fn reply_reason(&self) -> &'static str {
        match self.reason {
            Reason::MessageTooLarge => "Message Too Large",
            Reason::BadVersion => "Version Not Supported",
            Reason::UriTooLong => "Request-URI Too Long",
            Reason::BadRequestUri => "Bad Request-URI",
            Reason::BadContentLength | Reason::BodyTruncated => "Bad Content-Length",
            Reason::BadCSeq | Reason::CSeqMethodMismatch => "Bad CSeq",
            Reason::Missing(_) => "Missing Header",
            Reason::Repeated(_) => "Repeated Header",
            _ => "Bad Request",
        }
    }
}
