//! Session descriptions an actor offers and answers with.

use signalbox_sip::sdp::{Direction, Session};
use std::net::IpAddr;

/// The RTP port that is written; no media flows.
const RTP_PORT: u16 = 40_000;

/// A description with PCMA and telephone-events; `version` rises with every change (RFC 3264 §8).
pub(crate) fn describe(host: IpAddr, session: u64, version: u32, direction: Direction) -> Vec<u8> {
    let kind = if host.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- {session} {version} IN {kind} {host}\r\ns=-\r\nc=IN {kind} {host}\r\nt=0 0\r\n\
         m=audio {RTP_PORT} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n{}\r\n",
        attribute(direction)
    )
    .into_bytes()
}

/// What the peer's description wants of its first stream; without one, both ways.
pub(crate) fn direction_of(body: &[u8]) -> Direction {
    let session = Session::parse(body).ok();
    session.and_then(|s| s.media.first().map(|media| s.direction_of(media))).unwrap_or(Direction::SendRecv)
}

/// What we answer to an offered direction (RFC 3264 §6.1).
pub(crate) fn answer_to(offered: Direction) -> Direction {
    match offered {
        Direction::SendRecv => Direction::SendRecv,
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        Direction::Inactive => Direction::Inactive,
    }
}

fn attribute(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "a=sendrecv",
        Direction::SendOnly => "a=sendonly",
        Direction::RecvOnly => "a=recvonly",
        Direction::Inactive => "a=inactive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_reads_back() {
        let host = "192.0.2.1".parse().unwrap();
        for direction in [Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]
        {
            assert_eq!(direction_of(&describe(host, 7, 1, direction)), direction);
        }
        assert_eq!(answer_to(Direction::SendOnly), Direction::RecvOnly);
        assert_eq!(direction_of(b""), Direction::SendRecv);
    }
}
