//! Session descriptions an actor offers and answers with.

use crate::devices::{Description, Hold};
use signalbox_sip::sdp::{Direction, Session};
use std::net::IpAddr;

/// The RTP port that is written; no media flows.
const RTP_PORT: u16 = 40_000;

/// One side's descriptions during a call.
#[derive(Debug)]
pub(crate) struct Media {
    id: u64,
    version: u32,
    pub(crate) direction: Direction,
    /// `m=` lines of the streams behind the first: their number never falls (RFC 3264 §8).
    further: Vec<String>,
    /// What was said last.
    said: Vec<u8>,
}

impl Media {
    /// `id` names the session.
    pub(crate) fn new(id: u64) -> Self {
        let (direction, further, said) = (Direction::SendRecv, Vec::new(), Vec::new());
        Self { id: id % 2_000_000_000, version: 0, direction, further, said }
    }

    /// What was said last, as a refresh says it again.
    pub(crate) fn again(&self) -> Vec<u8> {
        self.said.clone()
    }

    /// An offer. The first one has all streams that the device has.
    pub(crate) fn offer(
        &mut self,
        ways: &Description,
        hold: Hold,
        host: IpAddr,
        direction: Direction,
    ) -> Vec<u8> {
        if self.version == 0 {
            self.further = ways.streams.iter().map(|stream| (*stream).to_owned()).collect();
        }
        let held = direction == Direction::SendOnly;
        let (connection, direction) = match hold {
            Hold::ZeroAddress if held => ("0.0.0.0".to_owned(), Direction::SendRecv),
            Hold::Inactive if held => (host.to_string(), Direction::Inactive),
            _ => (host.to_string(), direction),
        };
        self.write(ways, host, &connection, direction, |_| true)
    }

    /// The answer to an offer: its first stream as we take it, the others refused (RFC 3264 §6).
    pub(crate) fn answer(&mut self, ways: &Description, host: IpAddr, offer: &[u8]) -> Vec<u8> {
        let Ok(session) = Session::parse(offer) else {
            return self.offer(ways, Hold::SendOnly, host, Direction::SendRecv);
        };
        let Some(first) = session.media.first() else {
            return self.offer(ways, Hold::SendOnly, host, Direction::SendRecv);
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.further = session.media[1..]
            .iter()
            .map(|media| {
                let format = media.formats().next().map(text).unwrap_or_default();
                format!("m={} 0 {} {format}", text(media.kind), text(media.protocol))
            })
            .collect();
        let direction = answer_to(session.direction_of(first));
        let offered = |format: &str| first.formats().any(|other| other == format.as_bytes());
        self.write(ways, host, &host.to_string(), direction, offered)
    }

    fn write(
        &mut self,
        ways: &Description,
        host: IpAddr,
        connection: &str,
        direction: Direction,
        takes: impl Fn(&str) -> bool,
    ) -> Vec<u8> {
        self.version += 1;
        self.direction = direction;
        let kind = if host.is_ipv4() { "IP4" } else { "IP6" };
        let origin = ways
            .origin
            .replace("{id}", &self.id.to_string())
            .replace("{version}", &self.version.to_string())
            .replace("{sum}", &(self.id + u64::from(self.version)).to_string());
        let formats: Vec<&str> = ways.formats.split(' ').filter(|format| takes(format)).collect();
        let mut text = format!(
            "v=0\r\no={origin} IN {kind} {host}\r\ns={}\r\nc=IN {kind} {connection}\r\nt=0 0\r\n\
             m=audio {RTP_PORT} RTP/AVP {}\r\n",
            ways.name,
            formats.join(" ")
        );
        let lines = ways.lines.split_inclusive('\n');
        text.extend(lines.filter(|line| format_of(line).is_none_or(|format| formats.contains(&format))));
        if direction != Direction::SendRecv || !ways.implies_both_ways {
            text += attribute(direction);
        }
        for stream in &self.further {
            text += stream;
            text += "\r\n";
            let refused = stream.split(' ').nth(1) == Some("0");
            if direction != Direction::SendRecv && !refused {
                text += attribute(direction);
            }
        }
        self.said = text.into_bytes();
        self.said.clone()
    }
}

/// The format that an attribute's line is about.
fn format_of(line: &str) -> Option<&str> {
    let about = line.strip_prefix("a=rtpmap:").or_else(|| line.strip_prefix("a=fmtp:"))?;
    about.split(' ').next()
}

/// How many streams a description has.
pub(crate) fn streams(body: &[u8]) -> usize {
    Session::parse(body).map_or(0, |session| session.media.len())
}

/// Whether a description holds its reader.
pub(crate) fn holds(body: &[u8]) -> bool {
    Session::parse(body).is_ok_and(|session| session.is_hold())
}

/// What we answer to an offered direction (RFC 3264 §6.1).
fn answer_to(offered: Direction) -> Direction {
    match offered {
        Direction::SendRecv => Direction::SendRecv,
        Direction::SendOnly => Direction::RecvOnly,
        Direction::RecvOnly => Direction::SendOnly,
        Direction::Inactive => Direction::Inactive,
    }
}

fn attribute(direction: Direction) -> &'static str {
    match direction {
        Direction::SendRecv => "a=sendrecv\r\n",
        Direction::SendOnly => "a=sendonly\r\n",
        Direction::RecvOnly => "a=recvonly\r\n",
        Direction::Inactive => "a=inactive\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Device;

    const HOST: &str = "192.0.2.1";

    fn read(body: &[u8]) -> (usize, bool, Direction) {
        let session = Session::parse(body).unwrap();
        (session.media.len(), session.is_hold(), session.direction_of(&session.media[0]))
    }

    #[test]
    fn each_device_holds_in_its_way_and_is_understood() {
        let host = HOST.parse().unwrap();
        for device in Device::PHONES.iter().chain(Device::PBXS) {
            let mut media = Media::new(7);
            let (ways, hold) = (&device.description, device.hold);
            let offer = media.offer(ways, hold, host, Direction::SendRecv);
            assert_eq!(read(&offer), (1 + ways.streams.len(), false, Direction::SendRecv), "{}", device.name);
            let held = media.offer(ways, hold, host, Direction::SendOnly);
            assert!(holds(&held) && streams(&held) == streams(&offer), "{}", device.name);
        }
    }

    #[test]
    fn an_answer_has_as_many_streams_and_only_formats_that_were_offered() {
        let host = HOST.parse().unwrap();
        let (caller, callee) = (&Device::LINPHONE.description, &Device::ZOIPER.description);
        let offer = Media::new(7).offer(caller, Hold::SendOnly, host, Direction::SendOnly);
        let answer = String::from_utf8(Media::new(8).answer(callee, host, &offer)).unwrap();
        assert!(answer.contains("m=audio 40000 RTP/AVP 8 101\r\n"), "{answer}");
        assert!(answer.ends_with("a=recvonly\r\nm=video 0 RTP/AVP 96\r\n"), "{answer}");
        assert!(!answer.contains("opus"));
    }
}
