//! Session descriptions: read, judged, tracked, and rewritten.

use signalbox_sip::sdp::{Party, Session, Summary, Tracker, replace_addresses};
use signalbox_sip::{Forward, Limits, Message};
use std::net::IpAddr;

/// See the module.
pub fn sdp(bytes: &[u8]) -> bool {
    let Ok(session) = Session::parse(bytes) else { return false };
    let summary = Summary::of(&session);
    assert!(Summary::codec_names(&session).count() >= summary.codecs.len());
    let _ = (session.is_hold(), Summary::sends(&session));
    for media in &session.media {
        let _ = (
            session.direction_of(media),
            session.connection_of(media).and_then(|c| c.ip()),
            session.holds(media),
        );
        let _ = (media.formats().count(), media.codecs().count(), media.attribute(b"rtpmap").count());
    }
    let mut tracker = Tracker::default();
    tracker.offer(Party::Caller, &session);
    let _ = tracker.answer(&session);
    tracker.offer(Party::Callee, &session);
    tracker.reject();
    rewrite(bytes);
    true
}

/// Every address becomes another; the rest stays, and it is a session again.
fn rewrite(body: &[u8]) {
    let ours: IpAddr = "192.0.2.77".parse().expect("an address");
    let head = b"MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n\
        Call-ID: x\r\nCSeq: 1 MESSAGE\r\n\r\n";
    let bytes = [head.as_slice(), body].concat();
    let Ok(message) = Message::parse(bytes.as_slice(), &Limits::DATAGRAM) else { return };
    let mut forward = Forward::new(&message);
    let Ok(()) = replace_addresses(message.body(), message.body(), |_| Some(ours), &mut forward).map(drop)
    else {
        return;
    };
    let mut out = Vec::new();
    forward.write_into(&mut out);
    let sent = Message::parse(out.as_slice(), &Limits::DATAGRAM).expect("a message again");
    let session = Session::parse(sent.body()).expect("a session again");
    for media in &session.media {
        let ip = session.connection_of(media).and_then(|connection| connection.ip());
        assert!(ip.is_none_or(|ip| ip == ours || ip.is_unspecified()), "no address is left over but hold's");
    }
}
