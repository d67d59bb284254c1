//! Fresh messages, written straight into a buffer.

use super::{Message, Method};
use crate::header::{HeaderName, ListValues, Via};
use signalbox_base::SmallText;
use smallvec::SmallVec;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

/// Where text goes: a `Vec` or an inline buffer.
pub trait Sink {
    /// Appends bytes.
    fn push(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn push(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl<const N: usize> Sink for SmallVec<[u8; N]> {
    fn push(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What can be written as a value: bytes, text, numbers, `format_args!`, addresses, pairs (one behind the other) and
/// [`Parts`]. The caller keeps line ends out of it; what came from a parsed message can only hold folds.
pub trait Put {
    /// Appends it.
    fn put(&self, out: &mut impl Sink);
}

/// Byte strings one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a>(pub &'a [&'a [u8]]);

impl Put for Parts<'_> {
    fn put(&self, out: &mut impl Sink) {
        self.0.iter().for_each(|part| out.push(part));
    }
}

impl Put for [u8] {
    fn put(&self, out: &mut impl Sink) {
        out.push(self);
    }
}

impl<const N: usize> Put for [u8; N] {
    fn put(&self, out: &mut impl Sink) {
        out.push(self);
    }
}

impl Put for Vec<u8> {
    fn put(&self, out: &mut impl Sink) {
        out.push(self);
    }
}

impl Put for str {
    fn put(&self, out: &mut impl Sink) {
        out.push(self.as_bytes());
    }
}

impl Put for String {
    fn put(&self, out: &mut impl Sink) {
        out.push(self.as_bytes());
    }
}

impl Put for Method {
    fn put(&self, out: &mut impl Sink) {
        out.push(self.as_bytes());
    }
}

impl<T: Put + ?Sized> Put for &T {
    fn put(&self, out: &mut impl Sink) {
        (**self).put(out);
    }
}

impl<A: Put, B: Put> Put for (A, B) {
    fn put(&self, out: &mut impl Sink) {
        self.0.put(out);
        self.1.put(out);
    }
}

impl Put for u32 {
    fn put(&self, out: &mut impl Sink) {
        let mut digits = [0_u8; 10];
        let mut at = digits.len();
        let mut rest = *self;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        out.push(&digits[at..]);
    }
}

impl Put for fmt::Arguments<'_> {
    fn put(&self, out: &mut impl Sink) {
        struct Adapter<'a, S>(&'a mut S);
        impl<S: Sink> fmt::Write for Adapter<'_, S> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.push(text.as_bytes());
                Ok(())
            }
        }
        // Only a Display of the caller could fail; what it wrote until then is kept.
        let _ = Adapter(out).write_fmt(*self);
    }
}

/// An address as a host: IPv6 in brackets.
impl Put for IpAddr {
    fn put(&self, out: &mut impl Sink) {
        match self {
            Self::V4(ip) => {
                let mut text = SmallText::<16>::default();
                text.ipv4(*ip);
                out.push(text.as_bytes());
            }
            Self::V6(ip) => format_args!("[{ip}]").put(out),
        }
    }
}

/// Host and port: `192.0.2.1:5060`, `[2001:db8::1]:5060`.
impl Put for SocketAddr {
    fn put(&self, out: &mut impl Sink) {
        (self.ip(), (":", u32::from(self.port()))).put(out);
    }
}

/// Writes a request. Headers stand in the order of the calls; end with [`RequestBuilder::finish`] or `finish_with_body`.
#[derive(Debug)]
pub struct RequestBuilder<'o> {
    head: HeadWriter<'o>,
}

/// Writes a response. See [`RequestBuilder`].
#[derive(Debug)]
pub struct ResponseBuilder<'o> {
    head: HeadWriter<'o>,
}

/// What a response takes from its request (RFC 3261 §8.2.6).
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase.
    pub reason: &'a str,
    /// The To tag to add when the request has none; not added to a 100.
    pub to_tag: Option<&'a [u8]>,
    /// Where the request came from: written as `received`, and as `rport` when asked for, into the top Via
    /// (RFC 3261 §18.2.1, RFC 3581 §4). `None` when the Via has them already.
    pub source: Option<SocketAddr>,
}

impl<'a> ResponseHead<'a> {
    /// Status and reason, nothing else.
    #[must_use]
    pub const fn new(status: u16, reason: &'a str) -> Self {
        Self { status, reason, to_tag: None, source: None }
    }
}

#[derive(Debug)]
struct HeadWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl HeadWriter<'_> {
    fn header(&mut self, name: &str, value: impl Put) {
        (name, (": ", (value, "\r\n"))).put(self.out);
    }

    fn copy<B: AsRef<[u8]>>(&mut self, from: &Message<B>, name: HeaderName) {
        from.all(name).for_each(|header| self.header(name.as_str(), header.value));
    }

    fn finish(mut self, body: &[u8]) {
        self.header("Content-Length", body.len() as u32);
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(body);
    }
}

macro_rules! builder_methods {
    ($type:ident) => {
        impl $type<'_> {
            /// Writes a header.
            #[must_use]
            pub fn header(mut self, name: HeaderName, value: impl Put) -> Self {
                self.head.header(name.as_str(), value);
                self
            }

            /// Writes a header of any name.
            #[must_use]
            pub fn extension(mut self, name: &str, value: impl Put) -> Self {
                self.head.header(name, value);
                self
            }

            /// Copies all headers of this name, values byte for byte.
            #[must_use]
            pub fn copy<B: AsRef<[u8]>>(mut self, from: &Message<B>, name: HeaderName) -> Self {
                self.head.copy(from, name);
                self
            }

            /// Ends the message without a body.
            pub fn finish(self) {
                self.head.finish(b"");
            }

            /// Ends the message with a body; an empty one writes no Content-Type.
            pub fn finish_with_body(mut self, content_type: impl Put, body: &[u8]) {
                if !body.is_empty() {
                    self.head.header("Content-Type", content_type);
                }
                self.head.finish(body);
            }
        }
    };
}

builder_methods!(RequestBuilder);
builder_methods!(ResponseBuilder);

impl<'o> RequestBuilder<'o> {
    /// Writes the request line.
    pub fn new(out: &'o mut Vec<u8>, method: Method, uri: impl Put) -> Self {
        (method, (" ", (uri, " SIP/2.0\r\n"))).put(out);
        Self { head: HeadWriter { out } }
    }
}

impl<'o> ResponseBuilder<'o> {
    /// Writes the status line and what a response takes from its request: all Vias, From, To with a tag, Call-ID, CSeq;
    /// Record-Route for 101 to 299 (RFC 3261 §12.1.1).
    pub fn new<B: AsRef<[u8]>>(out: &'o mut Vec<u8>, request: &Message<B>, head: &ResponseHead<'_>) -> Self {
        ("SIP/2.0 ", (u32::from(head.status), (" ", (head.reason, "\r\n")))).put(out);
        let mut writer = HeadWriter { out };
        let mut vias = request.all(HeaderName::Via);
        if let Some(top) = vias.next() {
            writer.header("Via", StampedVia { value: top.value, source: head.source });
        }
        vias.for_each(|via| writer.header("Via", via.value));
        if (101..300).contains(&head.status) {
            writer.copy(request, HeaderName::RecordRoute);
        }
        // One of each, also of a broken request that has two: whoever sent it must be able to read the answer.
        let first = |writer: &mut HeadWriter<'_>, name: HeaderName| {
            if let Some(value) = request.value(name) {
                writer.header(name.as_str(), value);
            }
        };
        first(&mut writer, HeaderName::From);
        let to = request.value(HeaderName::To).unwrap_or_default();
        match head.to_tag {
            Some(tag) if head.status != 100 && request.to_tag().is_none() => {
                writer.header("To", (to, (";tag=", tag)))
            }
            _ => writer.header("To", to),
        }
        first(&mut writer, HeaderName::CallId);
        first(&mut writer, HeaderName::CSeq);
        Self { head: writer }
    }
}

/// A Via header's value whose first element gets the source it came from.
///
/// `received` is written when the source differs from sent-by or rport was asked for (RFC 3581 §4); values the sender wrote
/// there itself are replaced.
#[derive(Clone, Copy, Debug)]
pub struct StampedVia<'a> {
    /// The whole value of the top Via header.
    pub value: &'a [u8],
    /// Where the request came from.
    pub source: Option<SocketAddr>,
}

impl Put for StampedVia<'_> {
    fn put(&self, out: &mut impl Sink) {
        let top = ListValues::new(self.value).next();
        let (Some(source), Some(Ok(via))) = (self.source, top.map(Via::parse)) else {
            return out.push(self.value);
        };
        let start = via.raw.as_ptr() as usize - self.value.as_ptr() as usize;
        let params_start = via.params.as_bytes().as_ptr() as usize - self.value.as_ptr() as usize;
        out.push(&self.value[start..params_start]);
        let asked = via.rport().is_some();
        for param in via.params {
            if param.name.eq_ignore_ascii_case(b"received") {
                continue;
            }
            out.push(b";");
            if param.name.eq_ignore_ascii_case(b"rport") {
                ("rport=", u32::from(source.port())).put(out);
            } else {
                out.push(param.raw);
            }
        }
        let ip = source.ip().to_canonical();
        if asked || via.address() != Some(ip) {
            match ip {
                IpAddr::V4(_) => (";received=", ip).put(out),
                IpAddr::V6(_) => format_args!(";received={ip}").put(out),
            }
        }
        out.push(&self.value[start + via.raw.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Limits;

    const INVITE: &[u8] = b"INVITE sip:b@example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK0\r\n\
        v: SIP/2.0/TCP 10.0.0.3;branch=z9hG4bKx\r\n\
        Record-Route: <sip:p1;lr>\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: sip:b@example.com\r\n\
        Call-ID: x\r\nCSeq: 1 INVITE\r\nRecord-Route: <sip:p2;lr>\r\n\r\n";

    fn respond(head: &ResponseHead<'_>) -> String {
        let request = Message::parse(INVITE, &Limits::DATAGRAM).expect("good");
        let mut out = Vec::new();
        ResponseBuilder::new(&mut out, &request, head).finish();
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_response_carries_what_section_8_2_6_says() {
        let source = "192.0.2.7:40000".parse().ok();
        let text = respond(&ResponseHead { status: 180, reason: "Ringing", to_tag: Some(b"t"), source });
        assert_eq!(
            text,
            "SIP/2.0 180 Ringing\r\n\
             Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK1;rport=40000;received=192.0.2.7, SIP/2.0/UDP 10.0.0.2;branch=z9hG4bK0\r\n\
             Via: SIP/2.0/TCP 10.0.0.3;branch=z9hG4bKx\r\n\
             Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\n\
             From: <sip:a@example.com>;tag=1\r\nTo: sip:b@example.com;tag=t\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_100_gets_no_tag_and_a_failure_no_record_route() {
        let text = respond(&ResponseHead { status: 100, reason: "Trying", to_tag: Some(b"t"), source: None });
        assert!(text.contains("To: sip:b@example.com\r\n") && !text.contains("Record-Route"));
        let text =
            respond(&ResponseHead { status: 486, reason: "Busy Here", to_tag: Some(b"t"), source: None });
        assert!(text.contains(";tag=t") && !text.contains("Record-Route"));
    }

    #[test]
    fn a_forged_received_is_replaced_and_an_equal_source_writes_none() {
        let stamp = |value: &str, source: &str| {
            let mut out = Vec::new();
            StampedVia { value: value.as_bytes(), source: source.parse().ok() }.put(&mut out);
            String::from_utf8(out).expect("ASCII")
        };
        let forged = "SIP/2.0/UDP 10.0.0.1;received=1.1.1.1;branch=z9hG4bK1";
        assert_eq!(stamp(forged, "192.0.2.7:1"), "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;received=192.0.2.7");
        assert_eq!(stamp("SIP/2.0/UDP 192.0.2.7;branch=b", "192.0.2.7:1"), "SIP/2.0/UDP 192.0.2.7;branch=b");
        assert_eq!(
            stamp("SIP/2.0/UDP a;rport", "[2001:db8::1]:9"),
            "SIP/2.0/UDP a;rport=9;received=2001:db8::1"
        );
    }

    #[test]
    fn a_request_is_written_in_the_order_of_the_calls() {
        let mut out = Vec::new();
        let target: SocketAddr = "[2001:db8::1]:5060".parse().expect("an address");
        RequestBuilder::new(&mut out, Method::Options, ("sip:", target))
            .header(HeaderName::MaxForwards, 70_u32)
            .extension("X-Probe", format_args!("{}-{}", "a", 1))
            .header(HeaderName::UserAgent, Parts(&[b"Signal", b"box"]))
            .finish_with_body("text/plain", b"hello");
        assert_eq!(
            out,
            b"OPTIONS sip:[2001:db8::1]:5060 SIP/2.0\r\nMax-Forwards: 70\r\nX-Probe: a-1\r\nUser-Agent: Signalbox\r\n\
              Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
        );
    }

    #[test]
    fn numbers_are_written_whole() {
        for n in [0, 7, 10, 4_294_967_295] {
            let mut out = Vec::new();
            n.put(&mut out);
            assert_eq!(out, n.to_string().as_bytes());
        }
    }
}
