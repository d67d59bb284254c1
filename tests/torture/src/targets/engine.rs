//! The whole engine with hostile peers: a script of what phones, PBX and strangers send.
//!
//! A script that begins with 0x02 is for an edge with a carrier, routes and `hide = "full"`; any other is for a plain one.
//! It is split at 0x01. The first byte of a piece says who does what with the rest:
//! `P` the phone sends it, `B` the PBX, `S` a stranger, `6` a stranger with IPv6, `T` the carrier; in it `{c}` stands for the last Contact
//! that the PBX saw, `{d}` for the phone's. `R`, `Q` and `U`: the PBX, the phone, the carrier answers the last request that it got, with the
//! status of the next byte and the rest as headers. `W`: time passes, 2ⁿ ms by the next byte.

use crate::edge::{CARRIER, Edge, PBX, PHONE, PHONE_6, Sent, response};
use signalbox_engine::settings::CallsFrom;
use signalbox_sip::header::NameAddr;
use signalbox_sip::{HeaderName, is_keepalive};
use std::net::SocketAddr;
use std::time::Duration;

/// Pieces of a script that are played.
const PIECES_MAX: usize = 24;
/// Longest wait of a piece, as a power of two in milliseconds (65 s).
const WAIT_MAX: u8 = 16;
/// Within it every transaction ends: timer C, and the timers behind it.
const ALL_OVER: Duration = Duration::from_secs(600);
const STRANGER: &str = "203.0.113.9:5060";

/// What a peer remembers.
#[derive(Default)]
struct Peer {
    request: Option<Sent>,
    contact: Vec<u8>,
}

struct Play {
    edge: Edge,
    pbx: Peer,
    phone: Peer,
    carrier: Peer,
    /// Bytes from and to the stranger.
    stranger: (usize, usize),
    /// Whether a stranger's call was accepted.
    accepted: bool,
}

/// See the module.
pub fn engine(bytes: &[u8]) -> bool {
    let domains = ["example.com", "example.net", "example.org"];
    let (edge, bytes) = match bytes.strip_prefix(b"\x02") {
        Some(bytes) => (Edge::with_carrier(&domains, CallsFrom::Any), bytes),
        None => (Edge::new(&domains, CallsFrom::Any), bytes),
    };
    let [pbx, phone, carrier] = Default::default();
    let mut play = Play { edge, pbx, phone, carrier, stranger: (0, 0), accepted: false };
    for piece in bytes.split(|b| *b == 1).take(PIECES_MAX) {
        play.piece(piece);
    }
    play.edge.wait(ALL_OVER);
    play.hear();
    assert_eq!(play.edge.transactions(), 0, "every transaction ends");
    play.edge.assert_replay_equals_live();
    let (received, sent) = play.stranger;
    // A call that the PBX has accepted is heard of whatever it costs (see `Turn::send`); nothing else is.
    assert!(play.accepted || sent <= 3 * received, "{sent} bytes for {received}: an amplifier");
    play.pbx.request.is_some() || play.carrier.request.is_some()
}

impl Play {
    fn piece(&mut self, piece: &[u8]) {
        let Some((who, rest)) = piece.split_first() else { return };
        match who {
            b'P' => self.send(PHONE, rest),
            b'B' => self.send(PBX, rest),
            b'S' => self.send(STRANGER, rest),
            b'6' => self.send(PHONE_6, rest),
            b'T' => self.send(CARRIER, rest),
            b'R' => self.answer(PBX, rest),
            b'U' => self.answer(CARRIER, rest),
            b'Q' => self.answer(PHONE, rest),
            b'W' => {
                let power = rest.first().copied().unwrap_or(0).min(WAIT_MAX);
                self.edge.wait(Duration::from_millis(1 << power));
            }
            _ => return,
        }
        self.hear();
    }

    fn send(&mut self, from: &str, bytes: &[u8]) {
        let bytes = replaced(&replaced(bytes, b"{c}", &self.pbx.contact), b"{d}", &self.phone.contact);
        if from == STRANGER {
            self.stranger.0 += bytes.len();
        }
        self.edge.receive(addr(from), &bytes);
    }

    fn answer(&mut self, from: &str, rest: &[u8]) {
        let peer = match from {
            PBX => &self.pbx,
            PHONE => &self.phone,
            _ => &self.carrier,
        };
        let Some(request) = &peer.request else { return };
        let (code, lines) = rest.split_first().map_or((b'c', &[][..]), |(code, lines)| (*code, lines));
        // `A` is 180, `c` 200, `r` 487, `s` 401; others are what they are.
        let status = match code {
            b'A' => 180,
            b'c' => 200,
            b'r' => 487,
            b's' => 401,
            b'I' => 486,
            other => 100 + u16::from(other) * 2,
        };
        let lines = String::from_utf8_lossy(lines).into_owned();
        let text = format!("Contact: <sip:402@{from}>\r\n{lines}");
        let bytes = response(&request.message().expect("it was read before"), status, &text);
        self.edge.receive(addr(from), &bytes);
    }

    /// What the edge sent is always a message, unless it echoes what was broken, and goes to somebody who is there.
    fn hear(&mut self) {
        for sent in self.edge.take() {
            if is_keepalive(&sent.bytes) {
                continue;
            }
            if sent.to == addr(STRANGER) {
                self.stranger.1 += sent.bytes.len();
                self.accepted |= sent.status().is_some_and(|status| (200..300).contains(&status));
            }
            let Some(message) = sent.message() else {
                let echoes = matches!(sent.status(), Some(400 | 414 | 505 | 513));
                assert!(echoes, "not a message: {}", sent.bytes.escape_ascii());
                continue;
            };
            let peer = match sent.to {
                to if to == addr(PBX) => &mut self.pbx,
                to if to == addr(PHONE) => &mut self.phone,
                to if to == addr(CARRIER) => &mut self.carrier,
                _ => continue,
            };
            let contact = message.values(HeaderName::Contact).next().and_then(|c| NameAddr::parse(c).ok());
            if let Some(contact) = contact {
                peer.contact = contact.uri.to_vec();
            }
            if message.is_request() {
                assert_eq!(
                    message.validate(),
                    Ok(()),
                    "a request of ours is valid: {}",
                    sent.bytes.escape_ascii()
                );
                peer.request = Some(sent);
            }
        }
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn replaced(bytes: &[u8], mark: &[u8], with: &[u8]) -> Vec<u8> {
    match bytes.windows(mark.len()).position(|window| window == mark) {
        Some(at) => [&bytes[..at], with, &bytes[at + mark.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
