//! How the messages are written down.

/// A message of an RFC's torture test, in our own bytes.
#[derive(Clone, Debug)]
pub struct Torture {
    /// The RFC's section.
    pub section: &'static str,
    /// What the RFC calls its file.
    pub name: &'static str,
    /// The bytes on the wire.
    pub bytes: Vec<u8>,
}

impl Torture {
    pub(crate) fn new(section: &'static str, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { section, name, bytes: bytes.into() }
    }
}

/// A session with audio and video.
pub const SDP: &str = "v=0\r\no=caller 2890 1 IN IP4 198.51.100.10\r\ns=-\r\nc=IN IP4 198.51.100.10\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 0 12\r\nm=video 40002 RTP/AVP 31\r\na=rtpmap:31 LPC\r\n";

/// Lines (without their ends) as a message without a body.
#[must_use]
pub fn lines(lines: &[&str]) -> String {
    lines.join("\r\n") + "\r\n\r\n"
}

/// Lines as a message with a body; its length is written in front of the empty line.
#[must_use]
pub fn with_body(head: &[&str], body: &str) -> String {
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len())
}

/// An INVITE, ordinary but for its start line and what `rest` adds.
#[must_use]
pub fn invite(name: &str, start: &str, rest: &[&str]) -> String {
    let head = head(name, start, "8 INVITE");
    let own = ["Contact: <sip:caller@198.51.100.10>", "Content-Type: application/sdp"];
    with_body(&[&head.each_ref().map(String::as_str)[..], &own, rest].concat(), SDP)
}

/// A request without a body, ordinary but for its start line, CSeq and what `rest` adds.
#[must_use]
pub fn request(name: &str, start: &str, cseq: &str, rest: &[&str]) -> String {
    let head = head(name, start, cseq);
    lines(&[&head.each_ref().map(String::as_str)[..], rest, &["Content-Length: 0"]].concat())
}

/// What every request begins with here.
fn head(name: &str, start: &str, cseq: &str) -> [String; 7] {
    [
        start.to_owned(),
        "To: <sip:user@example.com>".to_owned(),
        "From: <sip:caller@example.net>;tag=8814".to_owned(),
        "Max-Forwards: 70".to_owned(),
        format!("Call-ID: {name}.8af3@198.51.100.10"),
        format!("CSeq: {cseq}"),
        via(name),
    ]
}

fn via(name: &str) -> String {
    format!("Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK{name}")
}
