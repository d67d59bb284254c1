//! Streams: bytes keep their order and are not lost, but come in pieces of any size.

use crate::network::Weather;
use signalbox_actors::Random;
use signalbox_base::Mono;
use signalbox_sip::Limits;
use signalbox_sip::stream::{Frame, Framer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// A message comes in so many pieces at most.
const PIECES_MAX: u64 = 4;

/// Connections between phones and the edges' stream listeners: one for each phone, which it holds open.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    listeners: BTreeSet<SocketAddr>,
    ways: BTreeMap<(SocketAddr, SocketAddr), Way>,
}

/// One direction of a connection.
#[derive(Debug)]
struct Way {
    framer: Framer,
    /// When its last piece arrives: no other comes before it.
    last: Mono,
}

/// What a stream's piece has completed.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message.
    Message(Vec<u8>),
    /// A ping, to be answered (RFC 5626 §4.4.1).
    Ping,
}

impl Pipes {
    /// An edge takes connections here.
    pub(super) fn listen(&mut self, address: SocketAddr) {
        self.listeners.insert(address);
    }

    /// Whether these two speak over a stream.
    pub(super) fn carry(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.listeners.contains(&from) || self.listeners.contains(&to)
    }

    /// Cuts what was written into pieces; gives when each arrives.
    pub(super) fn write(
        &mut self,
        now: Mono,
        (from, to): (SocketAddr, SocketAddr),
        bytes: &[u8],
        weather: Weather,
        random: &mut Random,
    ) -> Vec<(Mono, Vec<u8>)> {
        let way = self.way(from, to);
        let mut cuts: Vec<usize> =
            (1..=random.below(PIECES_MAX)).map(|_| random.below(bytes.len() as u64) as usize).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).filter(|cut| cut[0] < cut[1]).map(|cut| bytes[cut[0]..cut[1]].to_vec());
        let span = weather.delay_max.saturating_sub(weather.delay_min).as_micros() as u64;
        pieces
            .map(|piece| {
                let delay = weather.delay_min + Duration::from_micros(random.below(span + 1));
                way.last = way.last.max(now.plus(delay));
                (way.last, piece)
            })
            .collect()
    }

    /// A piece arrives.
    ///
    /// # Panics
    /// When the stream cannot be cut into messages: a finding.
    pub(super) fn read(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<Heard> {
        let way = self.way(from, to);
        way.framer.push(bytes);
        let mut heard = Vec::new();
        while let Some((frame, bytes)) = way.framer.next_frame().expect("whoever writes a stream can be read")
        {
            match frame {
                Frame::Message(_) => heard.push(Heard::Message(bytes.to_vec())),
                Frame::Ping => heard.push(Heard::Ping),
                Frame::Pong => {}
            }
        }
        heard
    }

    fn way(&mut self, from: SocketAddr, to: SocketAddr) -> &mut Way {
        let new = || Way { framer: Framer::new(Limits::DATAGRAM), last: Mono(0) };
        self.ways.entry((from, to)).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_order_however_it_was_cut() {
        let (phone, edge) = ("198.51.100.10:5060".parse().unwrap(), "192.0.2.1:5070".parse().unwrap());
        let (mut pipes, mut random) = (Pipes::default(), Random::new(5));
        pipes.listen(edge);
        assert!(pipes.carry(phone, edge) && pipes.carry(edge, phone) && !pipes.carry(phone, phone));
        let message = |n: usize| {
            format!(
                "OPTIONS sip:a SIP/2.0\r\nCSeq: {n} OPTIONS\r\nContent-Length: {n}\r\n\r\n{}",
                "x".repeat(n)
            )
        };
        let mut arriving: Vec<(Mono, Vec<u8>)> = Vec::new();
        for n in 0..50 {
            let text = if n % 7 == 3 { "\r\n\r\n".to_owned() } else { message(n) };
            let now = Mono(n as u64);
            arriving.extend(pipes.write(now, (phone, edge), text.as_bytes(), Weather::ROUGH, &mut random));
        }
        assert!(arriving.windows(2).all(|two| two[0].0 <= two[1].0) && arriving.len() > 80);
        let heard: Vec<_> = arriving.iter().flat_map(|(_, bytes)| pipes.read(phone, edge, bytes)).collect();
        assert_eq!(heard.len(), 50);
        for (n, heard) in heard.into_iter().enumerate() {
            match heard {
                Heard::Message(bytes) => assert_eq!(bytes, message(n).into_bytes()),
                Heard::Ping => assert_eq!(n % 7, 3),
            }
        }
    }
}
