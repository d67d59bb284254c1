//! What the stories of calls share: bodies, dialogs seen from a peer, and the usual beginnings.

use crate::support::{Phone, Sent, World, acme, addr, inside, register, response};
use signalbox_base::Flow;
use signalbox_engine::Settings;
use signalbox_sip::HeaderName;
use std::net::SocketAddr;

pub(crate) const PBX: &str = "10.0.1.1:5060";
pub(crate) const PHONE: &str = "198.51.100.7:5062";
pub(crate) const SECOND: &str = "198.51.100.8:5064";

/// A description with one audio stream.
pub(crate) fn sdp(address: &str, direction: &str, codec: &str) -> String {
    let payload = if codec == "PCMA" { "8" } else { "0" };
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
         m=audio 4000 RTP/AVP {payload}\r\na={direction}\r\n"
    )
}

/// Header lines and body for [`respond`] and [`Dialog::request`].
pub(crate) fn with_body(lines: &str, body: &str) -> String {
    format!("{lines}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A response with Contact, more lines and a body.
pub(crate) fn respond(request: &Sent, status: u16, contact: &str, body: &str) -> String {
    let plain = response(request, status, &format!("Contact: {contact}\r\n"));
    if body.is_empty() {
        return plain;
    }
    with_body(plain.trim_end_matches("Content-Length: 0\r\n\r\n"), body)
}

/// An INVITE outside a dialog.
pub(crate) fn invite(flow: &Flow, from: &str, uri: &str, id: &str, body: &str) -> String {
    let via = flow.remote;
    let head = format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{id};rport\r\nMax-Forwards: 70\r\n\
         From: \"Caller\" <{from}>;tag=f{id}\r\nTo: <{uri}>\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:me@{via}>\r\nX-Custom:  kept as it is \r\n"
    );
    if body.is_empty() { format!("{head}Content-Length: 0\r\n\r\n") } else { with_body(&head, body) }
}

/// A dialog as one peer of the edge sees it.
#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    pub(crate) flow: Flow,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) call_id: String,
    pub(crate) target: String,
    pub(crate) cseq: u32,
    pub(crate) counter: u32,
}

impl Dialog {
    /// Of who called: by the INVITE it sent and the answer it got.
    pub(crate) fn calling(flow: Flow, answer: &Sent) -> Self {
        Self {
            flow,
            local: answer.header(HeaderName::From).expect("From"),
            remote: answer.header(HeaderName::To).expect("To"),
            call_id: answer.header(HeaderName::CallId).expect("Call-ID"),
            target: contact_uri(answer),
            cseq: 1,
            counter: 0,
        }
    }

    /// Of who was called: by the INVITE it got and the tag it answered with.
    pub(crate) fn called(flow: Flow, invite: &Sent, tag: &str) -> Self {
        Self {
            flow,
            local: format!("{};tag={tag}", invite.header(HeaderName::To).expect("To")),
            remote: invite.header(HeaderName::From).expect("From"),
            call_id: invite.header(HeaderName::CallId).expect("Call-ID"),
            target: contact_uri(invite),
            cseq: 100,
            counter: 0,
        }
    }

    /// The next request; `rest` is more lines, or lines and a body by [`with_body`].
    pub(crate) fn request(&mut self, method: &str, rest: &str) -> String {
        self.cseq += 1;
        self.write(method, self.cseq, rest)
    }

    /// The ACK of the INVITE with this CSeq.
    pub(crate) fn ack(&mut self, cseq: u32, rest: &str) -> String {
        self.write("ACK", cseq, rest)
    }

    fn write(&mut self, method: &str, cseq: u32, rest: &str) -> String {
        self.counter += 1;
        let Self { flow, local, remote, call_id, target, counter, .. } = &*self;
        let via = flow.remote;
        let end = if rest.contains("\r\n\r\n") { "" } else { "Content-Length: 0\r\n\r\n" };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{call_id}x{counter}x{};rport\r\n\
             Max-Forwards: 70\r\nFrom: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{rest}{end}",
            via.port()
        )
    }
}

pub(crate) fn contact_uri(message: &Sent) -> String {
    let contact = message.header(HeaderName::Contact).expect("a Contact");
    contact.trim_start_matches('<').split('>').next().expect("a URI").to_owned()
}

/// `acme` with 401 registered at `PHONE`, nothing on the wire.
pub(crate) fn with_phone() -> (World, Phone) {
    with_phone_under(acme())
}

pub(crate) fn with_phone_under(settings: Settings) -> (World, Phone) {
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register(&mut world, &mut phone, PBX, 3600);
    (world, phone)
}

/// The phone calls 402; gives the INVITE at the backend. 100 has reached the phone.
#[track_caller]
pub(crate) fn phone_calls(world: &mut World, phone: &Phone, id: &str) -> Sent {
    let offer = sdp("192.0.2.10", "sendrecv", "PCMA");
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", id, &offer));
    let trying = world.one_to(phone.flow.remote);
    assert_eq!(trying.status(), Some(100));
    world.one_to(addr(PBX))
}

/// The backend calls 401 by address; gives the INVITEs at the phones. 100 has reached the backend.
#[track_caller]
pub(crate) fn pbx_calls(world: &mut World, uri: &str, id: &str, phones: &[&str]) -> Vec<Sent> {
    let offer = sdp("10.0.1.1", "sendrecv", "PCMA");
    world.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", uri, id, &offer));
    let trying = world.one_to(addr(PBX));
    assert_eq!(trying.status(), Some(100));
    phones.iter().map(|phone| world.one_to(addr(phone))).collect()
}

/// An established call phone → backend.
pub(crate) struct Established {
    pub(crate) phone: Dialog,
    pub(crate) pbx: Dialog,
}

/// 200 from the backend, ACK from the phone.
#[track_caller]
pub(crate) fn established(world: &mut World, phone: &Phone, id: &str) -> Established {
    let at_pbx = phone_calls(world, phone, id);
    let answer = sdp("10.0.1.1", "sendrecv", "PCMA");
    world.deliver(inside(PBX), respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &answer));
    let ok = world.one_to(phone.flow.remote);
    assert_eq!(ok.status(), Some(200), "{}", ok.text());
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    let ack = world.one_to(addr(PBX));
    assert!(ack.text().starts_with("ACK sip:402@10.0.1.1:5060 SIP/2.0\r\n"), "{}", ack.text());
    Established { phone: caller, pbx: Dialog::called(inside(PBX), &at_pbx, "pbx") }
}

/// The phone hangs up, the backend agrees.
#[track_caller]
pub(crate) fn hang_up(world: &mut World, call: &mut Established) {
    let flow = call.phone.flow;
    world.deliver(flow, call.phone.request("BYE", ""));
    let bye = world.take_to(addr(PBX)).pop().expect("the BYE reaches the backend");
    assert!(bye.text().starts_with("BYE "), "{}", bye.text());
    world.deliver(inside(PBX), response(&bye, 200, ""));
    world.take();
}

/// An answer that nobody wanted was undone as RFC 3261 §13.2.2.4 says: ACK, then BYE, behind a record of it. Gives the BYE.
#[track_caller]
pub(crate) fn dismissed(world: &mut World, at: &str) -> Sent {
    let mut sent = world.take_to(addr(at));
    assert_eq!(sent.len(), 2, "{:#?}", sent.iter().map(Sent::text).collect::<Vec<_>>());
    assert!(sent[0].text().starts_with("ACK "), "{}", sent[0].text());
    assert_eq!(world.journal.last().map(|record| record.kind), Some("call.dismissed.v1"));
    let bye = sent.remove(1);
    assert!(bye.text().starts_with("BYE "), "{}", bye.text());
    bye
}

/// Statuses and methods that were sent to an address.
pub(crate) fn said(world: &mut World, to: SocketAddr) -> Vec<String> {
    let first = |sent: &Sent| {
        let text = sent.text();
        let mut words = text.split(' ');
        let word = words.next().expect("a start line").to_owned();
        if word == "SIP/2.0" { words.next().expect("a status").to_owned() } else { word }
    };
    world.take_to(to).iter().map(first).collect()
}

/// The one call record.
#[track_caller]
pub(crate) fn the_cdr(world: &World) -> serde_json::Value {
    let all: Vec<_> = [world.records("call.ended"), world.records("call.failed")].concat();
    assert_eq!(all.len(), 1, "{:?}", world.kinds(0));
    all[0].json()
}
