//! Rewriting addresses: `o=`, `c=` and `a=rtcp:` are edited in place, everything else stays byte for byte.

use super::read::{Connection, SdpError, Session, fields, lines};
use crate::message::{Forward, Put};
use smallvec::SmallVec;
use std::net::IpAddr;

/// Names an edit of `forward`'s body for each address that `replace` maps to another; gives how many were named.
///
/// `sdp` is the session's text inside `body` (all of it, or one part of a multipart body). The unspecified address (hold,
/// RFC 2543), host names and ICE candidates stay as they are.
///
/// # Errors
/// When the description cannot be read; nothing is edited then.
///
/// # Panics
/// When `sdp` is not a slice of `body`: our own mistake.
pub fn replace_addresses(
    body: &[u8],
    sdp: &[u8],
    mut replace: impl FnMut(IpAddr) -> Option<IpAddr>,
    forward: &mut Forward<'_>,
) -> Result<usize, SdpError> {
    let session = Session::parse(sdp)?;
    let mut found: SmallVec<[Connection<'_>; 8]> = SmallVec::new();
    found.extend(session.origin.map(|origin| origin.connection));
    found.extend(session.connection);
    found.extend(session.media.iter().filter_map(|media| media.connection));
    found.extend(lines(sdp).filter_map(rtcp_connection));
    let mut edits = 0;
    for connection in found {
        let Some(new) = connection.ip().filter(|ip| !ip.is_unspecified()).and_then(&mut replace) else {
            continue;
        };
        let start = (connection.raw.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
        assert!(start <= body.len(), "the description is a part of the body");
        forward.edit_body(start..start + connection.raw.len(), SdpAddress(new));
        edits += 1;
    }
    Ok(edits)
}

/// `IP4 192.0.2.1` or `IP6 2001:db8::1`.
struct SdpAddress(IpAddr);

impl Put for SdpAddress {
    fn put(&self, out: &mut impl crate::message::Sink) {
        let kind = if self.0.is_ipv4() { "IP4" } else { "IP6" };
        format_args!("{kind} {}", self.0).put(out);
    }
}

/// `a=rtcp:53020 IN IP4 126.16.64.4` (RFC 3605); without an address there is nothing to do.
fn rtcp_connection(line: &[u8]) -> Option<Connection<'_>> {
    let value = line.strip_prefix(b"a=rtcp:")?;
    let mut parts = fields(value).skip(2);
    Connection::from_fields(value, parts.next(), parts.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Limits, Message};

    fn invite(sdp: &str) -> String {
        format!(
            "INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
             Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
    }

    fn rewritten(sdp: &str, to: &str) -> (usize, String) {
        let text = invite(sdp);
        let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).expect("good");
        let mut forward = Forward::new(&message);
        let to: IpAddr = to.parse().expect("an address");
        let private = |ip: IpAddr| ip.to_string().starts_with("10.").then_some(to);
        let edits =
            replace_addresses(message.body(), message.body(), private, &mut forward).expect("readable");
        let mut out = Vec::new();
        forward.write_into(&mut out);
        (edits, String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn only_mapped_addresses_change_and_content_length_follows() {
        let sdp = "v=0\no=- 1 1 IN IP4 10.0.0.1\r\ns=10.0.0.1\r\nc=IN IP4 10.0.0.1/127\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\nc=IN IP4 192.0.2.50\r\na=rtcp:4001 IN IP4 10.0.0.1\r\n\
                   m=audio 4002 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=candidate:1 1 UDP 1 10.0.0.1 4000 typ host\r\n";
        let (edits, out) = rewritten(sdp, "2001:db8::7");
        assert_eq!(edits, 3);
        let wanted = sdp.replace("IP4 10.0.0.1", "IP6 2001:db8::7");
        assert_eq!(out, invite(&wanted));
    }

    #[test]
    fn nothing_to_map_leaves_the_message_as_it_is() {
        let sdp =
            "v=0\no=- 1 1 IN IP4 host.example.com\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 1 RTP/AVP 0\n";
        assert_eq!(rewritten(sdp, "192.0.2.9"), (0, invite(sdp)));
    }
}
