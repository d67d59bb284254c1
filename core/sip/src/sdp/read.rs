//! Reading: origin, connections, media, codecs, directions. Everything borrows; unknown lines are passed over.

use crate::text::decimal;
use smallvec::SmallVec;
use std::net::IpAddr;

/// Media sections accepted in one description.
pub const MEDIA_MAX: usize = 32;

/// Formats of one stream whose names are looked up; each costs a walk over the stream's attributes.
const FORMATS_MAX: usize = 64;

/// A description that cannot be read: the peer's fault. The message itself can still be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The first line is not `v=0`.
    #[error("does not start with v=0")]
    NotSdp,
    /// A line is not `letter=value`; its number from 1.
    #[error("line {0} is not type=value")]
    BadLine(usize),
    /// `o=` does not have six fields.
    #[error("bad o= line")]
    BadOrigin,
    /// `c=` does not have three fields.
    #[error("bad c= line")]
    BadConnection,
    /// `m=` does not have kind, port, protocol and a format.
    #[error("bad m= line")]
    BadMedia,
    /// More than [`MEDIA_MAX`] media sections.
    #[error("too many media sections")]
    TooManyMedia,
}

/// A session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// `o=`; some peers leave it out.
    pub origin: Option<Origin<'a>>,
    /// `c=` for media that have none of their own.
    pub connection: Option<Connection<'a>>,
    /// The direction for media that have none of their own.
    pub direction: Option<Direction>,
    /// Media sections in order.
    pub media: SmallVec<[Media<'a>; 4]>,
    /// The whole body.
    pub raw: &'a [u8],
}

/// `o=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// User name, `-` when there is none.
    pub user: &'a [u8],
    /// The session's id.
    pub id: &'a [u8],
    /// The version: grows by one with every change (RFC 3264 §8).
    pub version: &'a [u8],
    /// The address.
    pub connection: Connection<'a>,
}

/// Network type, address type and address, of `c=` and `o=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// `IP4` or `IP6`.
    pub kind: &'a [u8],
    /// The address or name, without TTL and count.
    pub address: &'a [u8],
    /// From the address type to the address's end, for edits.
    pub raw: &'a [u8],
}

/// `m=` and the lines below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// `audio`, `video`, `image` …
    pub kind: &'a [u8],
    /// The port; 0 rejects or ends the stream.
    pub port: u16,
    /// `RTP/AVP`, `RTP/SAVPF`, `udptl` …
    pub protocol: &'a [u8],
    /// Formats, separated by blanks.
    formats: &'a [u8],
    /// Its own `c=`.
    pub connection: Option<Connection<'a>>,
    /// Its own direction.
    pub direction: Option<Direction>,
    /// The section's lines below `m=`.
    lines: &'a [u8],
}

/// Which way a stream flows, seen from who wrote the description (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways; also when nothing is said.
    #[default]
    SendRecv,
    /// Only from the writer.
    SendOnly,
    /// Only to the writer.
    RecvOnly,
    /// Neither way.
    Inactive,
}

/// One format of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec<'a> {
    /// The payload type or other format token.
    pub format: &'a [u8],
    /// The encoding's name; of static payload types as RFC 3551 says; the format itself when unknown.
    pub name: &'a [u8],
    /// The clock rate in Hz; 0 when unknown.
    pub rate: u32,
}

impl Direction {
    /// Whether the writer sends.
    #[must_use]
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer receives.
    #[must_use]
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    fn from_attribute(attribute: &[u8]) -> Option<Self> {
        Some(match attribute {
            b"sendrecv" => Self::SendRecv,
            b"sendonly" => Self::SendOnly,
            b"recvonly" => Self::RecvOnly,
            b"inactive" => Self::Inactive,
            _ => return None,
        })
    }
}

impl<'a> Session<'a> {
    /// Reads a body. Line ends may be LF alone; empty lines are passed over.
    ///
    /// # Errors
    /// [`SdpError`] on the first line that breaks the shape.
    pub fn parse(raw: &'a [u8]) -> Result<Self, SdpError> {
        let mut session =
            Self { origin: None, connection: None, direction: None, media: SmallVec::new(), raw };
        let mut section_start = 0;
        let mut started = false;
        for (number, line) in lines(raw).enumerate() {
            let (kind, value) = match line {
                [] => continue,
                [kind, b'=', value @ ..] => (*kind, value),
                _ if !started => return Err(SdpError::NotSdp),
                _ => return Err(SdpError::BadLine(number + 1)),
            };
            if !started && (kind, value) != (b'v', b"0") {
                return Err(SdpError::NotSdp);
            }
            started = true;
            let behind = value.as_ptr() as usize - raw.as_ptr() as usize + value.len();
            if kind == b'm' {
                if session.media.len() == MEDIA_MAX {
                    return Err(SdpError::TooManyMedia);
                }
                session.media.push(Media::parse(value)?);
                section_start = behind;
            } else {
                session.line(kind, value)?;
                if let Some(media) = session.media.last_mut() {
                    media.lines = &raw[section_start..behind];
                }
            }
        }
        if started { Ok(session) } else { Err(SdpError::NotSdp) }
    }

    /// A stream's direction: its own, or the session's, or both ways.
    #[must_use]
    pub fn direction_of(&self, media: &Media<'_>) -> Direction {
        media.direction.or(self.direction).unwrap_or_default()
    }

    /// A stream's connection: its own, or the session's.
    #[must_use]
    pub fn connection_of(&self, media: &Media<'a>) -> Option<Connection<'a>> {
        media.connection.or(self.connection)
    }

    /// Whether the writer does not take this stream's media: sendonly, inactive, or the address 0.0.0.0 of RFC 2543.
    #[must_use]
    pub fn holds(&self, media: &Media<'a>) -> bool {
        let unspecified = |c: Connection<'_>| c.ip().is_some_and(|ip| ip.is_unspecified());
        !self.direction_of(media).receives() || self.connection_of(media).is_some_and(unspecified)
    }

    /// Whether it puts the call on hold: there are streams in use, and the writer takes media of none of them.
    #[must_use]
    pub fn is_hold(&self) -> bool {
        let mut used = self.media.iter().filter(|media| media.port != 0).peekable();
        used.peek().is_some() && used.all(|media| self.holds(media))
    }

    fn line(&mut self, kind: u8, value: &'a [u8]) -> Result<(), SdpError> {
        match (kind, self.media.last_mut()) {
            (b'o', None) => self.origin = Some(Origin::parse(value)?),
            (b'c', None) => self.connection = Some(Connection::parse(value)?),
            (b'c', Some(media)) if media.connection.is_none() => {
                media.connection = Some(Connection::parse(value)?)
            }
            (b'a', None) => self.direction = Direction::from_attribute(value).or(self.direction),
            (b'a', Some(media)) => media.direction = Direction::from_attribute(value).or(media.direction),
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Connection<'a> {
    /// The address, when it is one and not a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        std::str::from_utf8(self.address).ok()?.parse().ok()
    }

    fn parse(value: &'a [u8]) -> Result<Self, SdpError> {
        let mut fields = fields(value);
        let _network = fields.next().ok_or(SdpError::BadConnection)?;
        Self::from_fields(value, fields.next(), fields.next()).ok_or(SdpError::BadConnection)
    }

    pub(super) fn from_fields(
        line: &'a [u8],
        kind: Option<&'a [u8]>,
        address: Option<&'a [u8]>,
    ) -> Option<Self> {
        let (kind, address) = (kind?, address?);
        let address = &address[..memchr::memchr(b'/', address).unwrap_or(address.len())];
        let offset = |part: &[u8]| part.as_ptr() as usize - line.as_ptr() as usize;
        Some(Self { kind, address, raw: &line[offset(kind)..offset(address) + address.len()] })
    }
}

impl<'a> Origin<'a> {
    fn parse(value: &'a [u8]) -> Result<Self, SdpError> {
        let all: SmallVec<[&[u8]; 8]> = fields(value).take(7).collect();
        let [user, id, version, _network, kind, address] = *all.as_slice() else {
            return Err(SdpError::BadOrigin);
        };
        let connection =
            Connection::from_fields(value, Some(kind), Some(address)).ok_or(SdpError::BadOrigin)?;
        Ok(Self { user, id, version, connection })
    }
}

impl<'a> Media<'a> {
    /// The formats in order of preference.
    pub fn formats(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        fields(self.formats)
    }

    /// The codecs in order of preference, at most 64.
    pub fn codecs(&self) -> impl Iterator<Item = Codec<'a>> + use<'a> {
        let media = *self;
        self.formats().take(FORMATS_MAX).map(move |format| media.codec(format))
    }

    /// Attribute values: `attribute(b"rtpmap")` gives what follows `a=rtpmap:`.
    pub fn attribute<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 's> {
        attributes(self.lines, name)
    }

    fn codec(&self, format: &'a [u8]) -> Codec<'a> {
        let mapped = attributes(self.lines, b"rtpmap").find_map(|map| {
            let mut parts = fields(map);
            (parts.next()? == format).then(|| parts.next()).flatten()
        });
        if let Some(encoding) = mapped {
            let mut parts = encoding.split(|&b| b == b'/');
            let name = parts.next().unwrap_or_default();
            let rate = parts.next().and_then(decimal).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            return Codec { format, name, rate };
        }
        let fixed = self.protocol.starts_with(b"RTP/").then(|| static_payload(format)).flatten();
        let (name, rate) = fixed.unwrap_or((format, 0));
        Codec { format, name, rate }
    }

    fn parse(value: &'a [u8]) -> Result<Self, SdpError> {
        let mut rest = fields(value);
        let (Some(kind), Some(port), Some(protocol), Some(first)) =
            (rest.next(), rest.next(), rest.next(), rest.next())
        else {
            return Err(SdpError::BadMedia);
        };
        let port = port.split(|&b| b == b'/').next().and_then(decimal).and_then(|n| u16::try_from(n).ok());
        let port = port.ok_or(SdpError::BadMedia)?;
        let formats = &value[first.as_ptr() as usize - value.as_ptr() as usize..];
        Ok(Self { kind, port, protocol, formats, connection: None, direction: None, lines: b"" })
    }
}

/// Lines without their ends.
pub(super) fn lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Fields separated by one or more blanks.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b' ').filter(|field| !field.is_empty())
}

fn attributes<'a, 'n>(section: &'a [u8], name: &'n [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
    lines(section).filter_map(move |line| line.strip_prefix(b"a=")?.strip_prefix(name)?.strip_prefix(b":"))
}

/// RFC 3551 §6, as far as it is met.
fn static_payload(format: &[u8]) -> Option<(&'static [u8], u32)> {
    Some(match format {
        b"0" => (b"PCMU", 8000),
        b"3" => (b"GSM", 8000),
        b"4" => (b"G723", 8000),
        b"8" => (b"PCMA", 8000),
        b"9" => (b"G722", 8000),
        b"13" => (b"CN", 8000),
        b"15" => (b"G728", 8000),
        b"18" => (b"G729", 8000),
        b"26" => (b"JPEG", 90_000),
        b"31" => (b"H261", 90_000),
        b"34" => (b"H263", 90_000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &[u8] = b"v=0\r\no=bob 280744730 28977631 IN IP4 host.example.com\r\ns=\r\nc=IN IP4 192.0.2.9/127\r\n\
        t=0 0\r\na=sendonly\r\nm=audio 22334/2 RTP/AVP 0 101 96\r\na=rtpmap:101 telephone-event/8000\r\n\
        a=rtpmap:96 opus/48000/2\r\nm=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n\
        a=inactive\r\n";

    #[test]
    fn reads_origin_connections_and_media() {
        let session = Session::parse(OFFER).expect("good");
        let origin = session.origin.expect("there");
        assert_eq!((origin.id, origin.connection.address), (&b"280744730"[..], &b"host.example.com"[..]));
        let [audio, video] = session.media.as_slice() else { panic!("two media") };
        assert_eq!((audio.kind, audio.port, audio.protocol), (&b"audio"[..], 22334, &b"RTP/AVP"[..]));
        assert_eq!(session.connection_of(audio).expect("there").raw, b"IP4 192.0.2.9");
        assert_eq!(session.connection_of(video).expect("there").ip(), "2001:db8::1".parse().ok());
        assert_eq!(session.direction_of(audio), Direction::SendOnly);
        assert_eq!(session.direction_of(video), Direction::Inactive);
    }

    #[test]
    fn codec_names_come_from_rtpmap_or_the_static_table() {
        let session = Session::parse(OFFER).expect("good");
        let names: Vec<_> = session.media[0].codecs().map(|codec| (codec.name, codec.rate)).collect();
        assert_eq!(names, [(&b"PCMU"[..], 8000), (b"telephone-event", 8000), (b"opus", 48_000)]);
        let fax = Session::parse(b"v=0\nm=image 4000 udptl t38\n").expect("good");
        assert_eq!(fax.media[0].codecs().next().expect("one").name, b"t38");
    }

    #[test]
    fn hold_is_seen_in_all_its_spellings() {
        for (text, wanted) in [
            ("v=0\nc=IN IP4 1.1.1.1\nm=audio 1 RTP/AVP 0\n", false),
            ("v=0\nc=IN IP4 1.1.1.1\nm=audio 1 RTP/AVP 0\na=sendonly\n", true),
            ("v=0\nc=IN IP4 1.1.1.1\na=inactive\nm=audio 1 RTP/AVP 0\n", true),
            ("v=0\nc=IN IP4 0.0.0.0\nm=audio 1 RTP/AVP 0\n", true),
            ("v=0\nc=IN IP4 1.1.1.1\nm=audio 1 RTP/AVP 0\na=recvonly\n", false),
            ("v=0\nc=IN IP4 1.1.1.1\nm=audio 1 RTP/AVP 0\na=sendonly\nm=video 2 RTP/AVP 31\n", false),
            ("v=0\nc=IN IP4 1.1.1.1\nm=audio 0 RTP/AVP 0\na=sendonly\n", false),
        ] {
            assert_eq!(Session::parse(text.as_bytes()).expect("good").is_hold(), wanted, "{text}");
        }
    }

    #[test]
    fn broken_shapes_are_typed() {
        for (text, wanted) in [
            ("", SdpError::NotSdp),
            ("hello", SdpError::NotSdp),
            ("v=1\n", SdpError::NotSdp),
            ("v=0\nnonsense\n", SdpError::BadLine(2)),
            ("v=0\no=- 1 1 IN IP4\n", SdpError::BadOrigin),
            ("v=0\nc=IN\n", SdpError::BadConnection),
            ("v=0\nm=audio x RTP/AVP 0\n", SdpError::BadMedia),
            ("v=0\nm=audio 70000 RTP/AVP 0\n", SdpError::BadMedia),
            ("v=0\nm=audio 1 RTP/AVP\n", SdpError::BadMedia),
        ] {
            assert_eq!(Session::parse(text.as_bytes()).expect_err("broken"), wanted, "{text}");
        }
        let many = format!("v=0\n{}", "m=audio 1 RTP/AVP 0\n".repeat(MEDIA_MAX + 1));
        assert_eq!(Session::parse(many.as_bytes()).expect_err("too many"), SdpError::TooManyMedia);
    }
}
