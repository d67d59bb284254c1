//! What the sections' stories are told with.

use signalbox_engine::settings::CallsFrom;
use signalbox_sip::header::NameAddr;
use signalbox_sip::uri::SipUri;
use signalbox_sip::{Forward, HeaderName, Limits, MalformedReason, Message, Uri};
use signalbox_torture::edge::{Edge, PBX, PHONE, PHONE_6, Sent, response};
use signalbox_torture::text::Torture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Every domain that the messages address.
const DOMAINS: [&str; 7] = [
    "example.com",
    "example.net",
    "example.org",
    "company.com",
    "chair-dnrc.example.com",
    "registrar.example.com",
    "host.example.net",
];

/// A message and an edge that has not seen it yet. Everybody may call: the PBX behind the edge decides, as a proxy's would.
pub(crate) struct Story {
    pub(crate) bytes: Vec<u8>,
    pub(crate) edge: Edge,
    sender: SocketAddr,
}

/// Tells a story of the named message: of our own, and of the RFC's when its file is at hand.
#[track_caller]
pub(crate) fn tell(name: &str, story: fn(&mut Story)) {
    let four = signalbox_torture::rfc4475::all().into_iter().map(|torture| (PHONE, torture));
    let six = signalbox_torture::rfc5118::all().into_iter().map(|torture| (PHONE_6, torture));
    let (sender, own) =
        four.chain(six).find(|(_, torture)| torture.name == name).expect("a message of that name");
    for bytes in published(&own).into_iter().chain([own.bytes]) {
        let sender = sender.parse().expect("an address");
        story(&mut Story { bytes, edge: Edge::new(&DOMAINS, CallsFrom::Any), sender });
    }
}

/// The message as the RFC's archive has it; none where that is not beside the repository.
pub(crate) fn published(own: &Torture) -> Option<Vec<u8>> {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    if let Ok(bytes) = std::fs::read(corpus.join("rfc4475").join(format!("{}.dat", own.name))) {
        return Some(bytes);
    }
    let text = std::fs::read_to_string(corpus.join("rfc5118").join(own.name)).ok()?.replace('\n', "\r\n");
    // One file's Content-Length is larger than its body, which is not what its section is about; two lack their empty line.
    let text = text.replace("Content-Length: 268", "Content-Length: 251");
    let ends = text.contains("\r\n\r\n");
    Some((if ends { text } else { text + "\r\n" }).into_bytes())
}

impl Story {
    /// The message, which the parser must take, and write again byte for byte.
    #[track_caller]
    pub(crate) fn parsed(&self) -> Message<&[u8]> {
        let message = Message::parse(self.bytes.as_slice(), &Limits::DATAGRAM).expect("well formed");
        let mut out = Vec::new();
        Forward::new(&message).write_into(&mut out);
        assert_eq!(out, message.as_bytes(), "an unedited message leaves byte for byte");
        message
    }

    /// The same, with all that the edge reads being readable.
    #[track_caller]
    pub(crate) fn valid(&self) -> Message<&[u8]> {
        let message = self.parsed();
        assert_eq!(message.validate(), Ok(()));
        message
    }

    /// Why the parser refuses it.
    #[track_caller]
    pub(crate) fn refused(&self) -> MalformedReason {
        Message::parse(self.bytes.as_slice(), &Limits::DATAGRAM).expect_err("malformed").reason
    }

    /// Why it is no valid message, though it can be parsed and would be forwarded.
    #[track_caller]
    pub(crate) fn unreadable(&self) -> MalformedReason {
        self.parsed().validate().expect_err("not valid").reason
    }

    /// Sends it. What the edge sends: to the PBX, and to the sender without 100.
    pub(crate) fn send(&mut self) -> (Vec<Sent>, Vec<Sent>) {
        let bytes = self.bytes.clone();
        self.send_other(&bytes)
    }

    /// The same with other bytes.
    pub(crate) fn send_other(&mut self, bytes: &[u8]) -> (Vec<Sent>, Vec<Sent>) {
        self.edge.receive(self.sender, bytes);
        self.edge.wait(Duration::from_millis(20));
        let (pbx, rest): (Vec<_>, Vec<_>) =
            self.edge.take().into_iter().partition(|sent| sent.to == addr(PBX));
        let rest: Vec<_> = rest.into_iter().filter(|sent| sent.status() != Some(100)).collect();
        assert!(rest.iter().all(|sent| sent.to == self.sender), "nobody else hears of it");
        (pbx, rest)
    }

    /// It goes on to the PBX, once, with one hop less, and nothing is answered yet.
    #[track_caller]
    pub(crate) fn forwarded(&mut self) -> Sent {
        let (mut pbx, sender) = self.send();
        assert_eq!((pbx.len(), sender.len()), (1, 0), "forwarded once, not answered");
        let sent = pbx.remove(0);
        let message = sent.message().expect("what is forwarded can be read");
        assert_eq!(message.validate(), Ok(()), "what is forwarded is valid");
        assert_eq!(message.values(HeaderName::Via).count(), 1, "topology is hidden");
        let before = self.parsed().max_forwards().map_or(71, |hops| hops.expect("a number")).min(255);
        assert_eq!(message.max_forwards(), Some(Ok(before - 1)));
        sent
    }

    /// It is answered so, and goes nowhere.
    #[track_caller]
    pub(crate) fn answered(&mut self, status: u16) -> Sent {
        let (pbx, mut sender) = self.send();
        assert_eq!((pbx.len(), sender.len()), (0, 1), "answered once, not forwarded");
        let answer = sender.remove(0);
        assert_eq!(answer.status(), Some(status));
        assert_eq!((self.edge.calls_active(), self.edge.bindings()), (0, 0), "nothing came of it");
        answer
    }

    /// It is answered so, and the answer finds its way: all Vias, From, Call-ID and CSeq as they came, and a To tag.
    #[track_caller]
    pub(crate) fn answered_readably(&mut self, status: u16) -> Sent {
        let answer = self.answered(status);
        let (request, message) = (self.parsed(), answer.message().expect("an answer that can be read"));
        let bare = |value: &[u8]| value.split(|b| *b == b';').next().unwrap_or_default().to_vec();
        let vias = |m: &Message<&[u8]>| m.values(HeaderName::Via).map(bare).collect::<Vec<_>>();
        assert_eq!(vias(&message), vias(&request));
        for name in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
            assert_eq!(message.value(name), request.value(name), "{name}");
        }
        assert!(message.to_tag().is_some());
        assert!(request.to_tag().is_none_or(|tag| message.to_tag() == Some(tag)));
        answer
    }

    /// Nobody hears anything, and nothing is kept.
    #[track_caller]
    pub(crate) fn dropped(&mut self) {
        let (pbx, sender) = self.send();
        assert_eq!((pbx.len(), sender.len()), (0, 0), "dropped in silence");
        assert_eq!((self.edge.calls_active(), self.edge.bindings()), (0, 0), "nothing came of it");
        self.edge.assert_replay_equals_live();
    }

    /// The PBX answers a request that it got; what the sender gets of it.
    #[track_caller]
    pub(crate) fn pbx_answers(&mut self, request: &Sent, status: u16, lines: &str) -> Sent {
        let answer = response(&request.message().expect("a request"), status, lines);
        self.edge.receive(addr(PBX), &answer);
        self.edge.wait(Duration::from_millis(20));
        let mut to_sender: Vec<_> =
            self.edge.take().into_iter().filter(|sent| sent.to == self.sender).collect();
        assert_eq!(to_sender.len(), 1, "one answer");
        let sent = to_sender.remove(0);
        assert_eq!(sent.status(), Some(status));
        sent
    }

    /// The PBX grants every Contact of a REGISTER; the phone's 200, and the tokens that the PBX knows the phone by.
    #[track_caller]
    pub(crate) fn registered(&mut self) -> (Sent, Vec<String>) {
        let asked = self.forwarded();
        let contacts: Vec<String> = asked
            .message()
            .expect("a request")
            .values(HeaderName::Contact)
            .map(|contact| String::from_utf8_lossy(contact).into_owned())
            .collect();
        let lines: String =
            contacts.iter().map(|contact| format!("Contact: {contact};expires=60\r\n")).collect();
        let answer = self.pbx_answers(&asked, 200, &lines);
        let token = |contact: &String| {
            let contact = NameAddr::parse(contact.as_bytes()).expect("a contact");
            String::from_utf8_lossy(contact.uri).into_owned()
        };
        (answer, contacts.iter().map(token).collect())
    }
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The SIP URI that these bytes are.
#[track_caller]
pub(crate) fn sip(bytes: &[u8]) -> SipUri<'_> {
    match Uri::parse(bytes).expect("a URI") {
        Uri::Sip(uri) => uri,
        other => panic!("no SIP URI: {other:?}"),
    }
}

/// The first value of a header, as an address.
#[track_caller]
pub(crate) fn address<'m>(message: &'m Message<&[u8]>, name: HeaderName) -> NameAddr<'m> {
    NameAddr::parse(message.values(name).next().expect("there")).expect("an address")
}
