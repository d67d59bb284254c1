//! A socket with repetitions.

use crate::message::Message;
use crate::wait;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// RFC 3261 T1, T2 and 64 × T1.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVE_UP: Duration = Duration::from_secs(32);
const DATAGRAM_MAX: usize = 65_535;

pub(super) struct Wire {
    socket: UdpSocket,
    repeated: HashMap<String, Repeated>,
    buffer: Vec<u8>,
}

struct Repeated {
    bytes: Vec<u8>,
    to: SocketAddr,
    next: Instant,
    gap: Duration,
    until: Instant,
}

impl Wire {
    pub(super) fn new(local: SocketAddr) -> Self {
        let socket = UdpSocket::bind(local).unwrap_or_else(|e| panic!("{local}: {e}"));
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a span above zero is allowed");
        Self { socket, repeated: HashMap::new(), buffer: vec![0; DATAGRAM_MAX] }
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    pub(super) fn send(&self, text: &str, to: SocketAddr) {
        // Nobody may be there at the moment: the edge is killed on purpose.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }

    /// Sends, and repeats until settled or given up.
    pub(super) fn send_until_settled(&mut self, key: String, text: &str, to: SocketAddr) {
        self.send(text, to);
        let now = wait::now();
        let bytes = text.as_bytes().to_vec();
        self.repeated.insert(key, Repeated { bytes, to, next: now + T1, gap: T1, until: now + GIVE_UP });
    }

    /// What is repeated under this key is not repeated any more; whether it was.
    pub(super) fn settle(&mut self, key: &str) -> bool {
        self.repeated.remove(key).is_some()
    }

    /// The next message, if one comes within a moment.
    pub(super) fn receive(&mut self) -> Option<(Message, SocketAddr)> {
        let (len, from) = self.socket.recv_from(&mut self.buffer).ok()?;
        Some((Message::read(&self.buffer[..len])?, from))
    }

    /// Repeats what is due; the keys of what was given up.
    pub(super) fn repeat(&mut self) -> Vec<String> {
        let now = wait::now();
        for repeated in self.repeated.values_mut().filter(|r| r.next <= now) {
            let _ = self.socket.send_to(&repeated.bytes, repeated.to);
            repeated.gap = (2 * repeated.gap).min(T2);
            repeated.next = now + repeated.gap;
        }
        let over: Vec<String> =
            self.repeated.iter().filter(|(_, r)| r.until <= now).map(|(k, _)| k.clone()).collect();
        for key in &over {
            self.repeated.remove(key);
        }
        over
    }
}

/// A response with the request's own headers.
pub(super) fn response(
    request: &Message,
    status: u16,
    reason: &str,
    tag: &str,
    more: &str,
    body: &str,
) -> String {
    let kept = |name: &str| request.all(name).map(|v| format!("{name}: {v}\r\n")).collect::<String>();
    let head: String =
        ["Via", "Record-Route", "From", "Call-ID", "CSeq"].iter().map(|name| kept(name)).collect();
    let to = request.header("To").unwrap_or_default();
    let tag =
        if request.tag("To").is_some() || tag.is_empty() { String::new() } else { format!(";tag={tag}") };
    format!(
        "SIP/2.0 {status} {reason}\r\n{head}To: {to}{tag}\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One audio stream.
pub(super) fn sdp(local: SocketAddr) -> String {
    let ip = local.ip();
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 20000 RTP/AVP 0\r\n")
}
