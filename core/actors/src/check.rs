//! What no well-behaved peer would send.

use signalbox_base::{Mono, Text};
use signalbox_sip::{HeaderName, Message, Method};
use std::fmt;
use std::net::SocketAddr;

/// A violation that is the network's fault when it reorders: a request was overtaken by a later one.
pub const OUT_OF_ORDER: &str = "CSeq went back within a dialog (RFC 3261 §12.2.2)";

/// Something wrong with a message that an actor received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Mono,
    /// What, with the RFC's section.
    pub what: &'static str,
    /// The message's start line, CSeq and Call-ID, or whatever else tells it.
    pub message: Text,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms: {} ({})", self.at.0 / 1_000_000, self.what, self.message)
    }
}

/// Violations of one actor.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    pub(crate) fn all(&self) -> &[Violation] {
        &self.0
    }

    pub(crate) fn note<B: AsRef<[u8]>>(&mut self, at: Mono, what: &'static str, message: &Message<B>) {
        self.0.push(Violation { at, what, message: Text::from(brief(message)) });
    }

    pub(crate) fn note_text(&mut self, at: Mono, what: &'static str, text: &str) {
        self.0.push(Violation { at, what, message: Text::new(text) });
    }

    /// What every message must have. `datagram` is its length on the wire.
    pub(crate) fn check<B: AsRef<[u8]>>(
        &mut self,
        at: Mono,
        message: &Message<B>,
        datagram: usize,
        local: SocketAddr,
    ) {
        let mut wrong = |holds: bool, what| {
            if !holds {
                self.note(at, what, message);
            }
        };
        let length = message.value(HeaderName::ContentLength).and_then(|v| std::str::from_utf8(v).ok());
        wrong(
            length.is_none_or(|text| text.parse() == Ok(message.body().len())),
            "Content-Length is not the body's (RFC 3261 §20.14)",
        );
        wrong(message.as_bytes().len() == datagram, "bytes behind the message (RFC 3261 §18.3)");
        wrong(message.validate().is_ok(), "a header that cannot be read (RFC 3261 §25)");
        wrong(message.from_tag().is_some(), "no From tag (RFC 3261 §8.1.1.3)");
        let vias = message.values(HeaderName::Via).count();
        wrong(vias == 1, "a Via of somebody else's (topology is hidden)");
        let contact = message.value(HeaderName::Contact).is_some();
        match message.status() {
            Some(status) => {
                let via_is_ours =
                    message.top_via().is_ok_and(|via| via.sent_by == local.to_string().as_bytes());
                wrong(via_is_ours, "a response to another's Via (RFC 3261 §18.1.2)");
                wrong(status == 100 || message.to_tag().is_some(), "no To tag (RFC 3261 §8.2.6.2)");
                let accepted = message.method() == Method::Invite && (200..300).contains(&status);
                wrong(!accepted || contact, "no Contact in a 2xx to INVITE (RFC 3261 §12.1.1)");
            }
            None => {
                wrong(message.max_forwards().is_some(), "no Max-Forwards (RFC 3261 §8.1.1.6)");
                wrong(
                    message.method() != Method::Invite || contact,
                    "no Contact in INVITE (RFC 3261 §8.1.1.8)",
                );
                let branch = message.top_via().is_ok_and(|via| via.has_magic_cookie());
                wrong(branch, "no z9hG4bK branch (RFC 3261 §8.1.1.7)");
            }
        }
    }
}

/// A message in a few words.
pub(crate) fn brief<B: AsRef<[u8]>>(message: &Message<B>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let start = match (message.request_uri(), message.status()) {
        (Some(uri), _) => format!("{} {}", message.method(), text(uri)),
        (None, status) => format!("{} to {}", status.unwrap_or_default(), message.method()),
    };
    format!("{start}, CSeq {}, Call-ID {}", message.cseq().number, text(message.call_id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_sip::Limits;

    fn checked(text: &str) -> Vec<&'static str> {
        let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).unwrap();
        let mut violations = Violations::default();
        violations.check(Mono(0), &message, text.len(), "192.0.2.1:5060".parse().unwrap());
        violations.0.iter().map(|v| v.what).collect()
    }

    const OK: &str = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
        From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn a_good_answer_passes_and_each_fault_is_told() {
        assert!(checked(OK).is_empty());
        assert_eq!(checked(&OK.replace(";tag=2", "")).len(), 1);
        assert_eq!(checked(&OK.replace("192.0.2.1", "192.0.2.10")).len(), 1);
        assert_eq!(
            checked(&OK.replace("From", "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK2\r\nFrom")).len(),
            1
        );
        assert_eq!(checked(&format!("{OK}more")).len(), 1);
        assert_eq!(checked(&OK.replace("OPTIONS", "INVITE")).len(), 1);
    }
}
