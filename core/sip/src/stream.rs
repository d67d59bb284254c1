//! Framing: finding whole messages in a stream of bytes (RFC 3261 §18.3, keep-alives by RFC 5626 §4.4.1).

use crate::header::HeaderName;
use crate::message::{Limits, Malformed, Reason};
use crate::text::{decimal, trim};
use std::ops::Range;

/// What a stream's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message of this many bytes, from the start of what is buffered.
    Message(usize),
    /// CRLF CRLF: a ping to be answered with one CRLF.
    Ping,
    /// CRLF: a pong, or what some peers send between messages; nothing to answer.
    Pong,
}

/// Collects a stream's bytes and cuts them into frames.
///
/// After an error the stream cannot be trusted: where the next message starts is not known. Close the connection.
/// Work is linear: bytes once searched for the end of a head are not searched again.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes at the front that were handed out.
    consumed: usize,
    /// Bytes behind `consumed` in which no head ends.
    searched: usize,
    /// Head and body of the message at the front, once its head is whole.
    whole: Option<usize>,
    /// The last frame was a single CRLF: another one makes it a ping that arrived in two parts.
    half_ping: bool,
    limits: Limits,
}

impl Framer {
    /// An empty one.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { buffer: Vec::new(), consumed: 0, searched: 0, whole: None, half_ping: false, limits }
    }

    /// Takes what the connection gave.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes waiting for the rest of their message. At most the message limit, when every push is followed by `next_frame`
    /// until it gives `None`.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    /// Those bytes.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    /// The next frame with its bytes; `None` until more arrives.
    ///
    /// # Errors
    /// [`Malformed`] when the head or the whole is too large, Content-Length is missing, unreadable or says two things, or
    /// the bytes are no SIP.
    pub fn next_frame(&mut self) -> Result<Option<(Frame, &[u8])>, Malformed> {
        let Some((frame, len)) = self.find()? else {
            if self.buffered() == 0 {
                // Most connections are silent most of the time: they keep no memory.
                self.buffer = Vec::new();
                self.consumed = 0;
            }
            return Ok(None);
        };
        self.half_ping = frame == Frame::Pong;
        let range = self.take(len);
        Ok(Some((frame, &self.buffer[range])))
    }

    fn take(&mut self, len: usize) -> Range<usize> {
        let start = self.consumed;
        self.consumed += len;
        self.searched = 0;
        self.whole = None;
        start..start + len
    }

    fn find(&mut self) -> Result<Option<(Frame, usize)>, Malformed> {
        let rest = &self.buffer[self.consumed..];
        match rest {
            [b'\r', b'\n', ..] if self.half_ping => return Ok(Some((Frame::Ping, 2))),
            [b'\r', b'\n', b'\r', b'\n', ..] => return Ok(Some((Frame::Ping, 4))),
            [] | [b'\r'] | [b'\r', b'\n', b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => return Ok(Some((Frame::Pong, 2))),
            [first, ..] if !first.is_ascii_graphic() => return Err(Malformed::at(Reason::BadStartLine, 0)),
            _ => {}
        }
        let max = self.limits.message_bytes_max.min(Limits::MESSAGE_BYTES_CEILING);
        if self.whole.is_none() {
            let Some(head) = head_end(rest, self.searched) else {
                // The last three bytes may be the start of the head's end.
                self.searched = rest.len().saturating_sub(3);
                return if rest.len() > max {
                    Err(Malformed::at(Reason::MessageTooLarge, max))
                } else {
                    Ok(None)
                };
            };
            let whole = head + content_length(&rest[..head])?;
            if whole > max {
                return Err(Malformed::at(Reason::MessageTooLarge, max));
            }
            self.whole = Some(whole);
        }
        Ok(self.whole.filter(|&whole| rest.len() >= whole).map(|whole| (Frame::Message(whole), whole)))
    }
}

/// Just behind the empty line that ends the head; LF alone ends lines too.
fn head_end(bytes: &[u8], searched: usize) -> Option<usize> {
    #[cfg(test)]
    crate::text::steps::add(bytes.len() - searched);
    memchr::memchr_iter(b'\n', &bytes[searched..]).map(|n| searched + n).find_map(|n| match &bytes[n + 1..] {
        [b'\r', b'\n', ..] => Some(n + 3),
        [b'\n', ..] => Some(n + 2),
        _ => None,
    })
}

/// On a stream Content-Length is not optional: without it nobody knows where the next message starts.
fn content_length(head: &[u8]) -> Result<usize, Malformed> {
    const NAME: HeaderName = HeaderName::ContentLength;
    let mut found = None;
    let mut offset = 0;
    for line in head.split_inclusive(|&b| b == b'\n') {
        let at = offset;
        offset += line.len();
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        if at == 0
            || line[0] == b' '
            || line[0] == b'\t'
            || HeaderName::from_bytes(trim(&line[..colon])) != NAME
        {
            continue;
        }
        let folded = matches!(head.get(offset), Some(b' ' | b'\t'));
        let length = decimal(trim(&line[colon + 1..]))
            .filter(|&n| n <= Limits::MESSAGE_BYTES_CEILING as u64 && !folded);
        let length = length.ok_or(Malformed::at(Reason::BadContentLength, at))?;
        if found.is_some_and(|earlier| earlier != length) {
            return Err(Malformed::at(Reason::Repeated(NAME), at));
        }
        found = Some(length);
    }
    found.map(|length| length as usize).ok_or(Malformed::at(Reason::Missing(NAME), head.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::steps;

    const MESSAGE: &[u8] = b"MESSAGE sip:a SIP/2.0\r\nl : 5\r\nX: y\r\n\r\nhello";

    fn frames(framer: &mut Framer) -> Result<Vec<(Frame, Vec<u8>)>, Malformed> {
        let mut all = Vec::new();
        while let Some((frame, bytes)) = framer.next_frame()? {
            all.push((frame, bytes.to_vec()));
        }
        Ok(all)
    }

    #[test]
    fn messages_and_keepalives_come_out_however_the_bytes_are_cut() {
        let stream = [b"\r\n\r\n", MESSAGE, MESSAGE, b"\r\n", MESSAGE].concat();
        for size in 1..=stream.len() {
            let mut framer = Framer::new(Limits::DATAGRAM);
            let mut got = Vec::new();
            for chunk in stream.chunks(size) {
                framer.push(chunk);
                got.extend(frames(&mut framer).expect("good"));
            }
            let count = |wanted: fn(&Frame) -> bool| got.iter().filter(|(frame, _)| wanted(frame)).count();
            assert_eq!(count(|frame| matches!(frame, Frame::Message(_))), 3, "chunks of {size}");
            assert_eq!(count(|frame| *frame == Frame::Ping), 1, "chunks of {size}");
            assert!(got.iter().all(|(frame, bytes)| !matches!(frame, Frame::Message(_)) || bytes == MESSAGE));
            assert_eq!(framer.buffered(), 0);
        }
    }

    #[test]
    fn a_stream_that_cannot_be_framed_is_refused() {
        for (bytes, wanted) in [
            (&b"OPTIONS sip:a SIP/2.0\r\nX: y\r\n\r\n"[..], Reason::Missing(HeaderName::ContentLength)),
            (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n", Reason::BadContentLength),
            (b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 1\r\n 1\r\n\r\n", Reason::BadContentLength),
            (
                b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n",
                Reason::Repeated(HeaderName::ContentLength),
            ),
            (b"OPTIONS sip:a SIP/2.0\r\nl: 65535\r\n\r\n", Reason::MessageTooLarge),
            (b"\x16\x03\x01", Reason::BadStartLine),
        ] {
            let mut framer = Framer::new(Limits::DATAGRAM);
            framer.push(bytes);
            assert_eq!(framer.next_frame().expect_err("refused").reason, wanted);
        }
    }

    #[test]
    fn a_slow_sender_costs_a_few_looks_at_each_byte() {
        let head = format!("OPTIONS sip:a SIP/2.0\r\n{}l: 9000\r\n\r\n", "X: y\r\n".repeat(5_000));
        let stream = [head.as_bytes(), &[b'x'; 9_000]].concat();
        let mut framer = Framer::new(Limits::DATAGRAM);
        steps::take();
        let mut whole = 0;
        for byte in &stream {
            framer.push(&[*byte]);
            whole += usize::from(matches!(framer.next_frame().expect("good"), Some((Frame::Message(_), _))));
        }
        let steps = steps::take();
        assert_eq!(whole, 1);
        assert!(steps <= 5 * head.len(), "{steps} steps for a head of {} bytes", head.len());
    }

    #[test]
    fn a_head_that_never_ends_is_refused_at_the_limit() {
        let mut framer = Framer::new(Limits { message_bytes_max: 1000, ..Limits::DATAGRAM });
        let mut taken = 0;
        let refused = loop {
            framer.push(&[b'a'; 100]);
            taken += 100;
            match framer.next_frame() {
                Ok(frame) => assert_eq!(frame, None),
                Err(malformed) => break malformed,
            }
        };
        assert_eq!((refused.reason, taken), (Reason::MessageTooLarge, 1100));
    }
}
