//! What must never happen, whoever crashed and whatever was lost.
//!
//! The oracle looks at every datagram that an edge sends and that an actor gets ([`Oracle::edge_sends`],
//! [`Oracle::actor_gets`]), and at the end holds the actors' stories against the journal ([`end`]). It knows SIP and the
//! promises, not the engine.

pub mod end;
pub mod senders;

use senders::Senders;
use signalbox_base::{EventSeq, Flow, Mono};
use signalbox_engine::{ClassB, Release};
use signalbox_sip::message::is_keepalive;
use signalbox_sip::{Limits, Message, Method};
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Mono,
    /// Which rule.
    pub rule: &'static str,
    /// The case.
    pub detail: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms: {}: {}", self.at.0 / 1_000_000, self.rule, self.detail)
    }
}

/// A message left before its record was on the platter.
pub const UNDURABLE: &str = "a message left before its record was durable (promise 1)";
/// A message that changes something at a peer was marked as harmless.
pub const MISCLASSED: &str = "a class-A message was sent as class B (promise 1)";
/// A message of one tenant reached another.
pub const CROSSED: &str = "a message reached another tenant (promise 6)";
/// An edge sent what is no SIP message.
pub const NONSENSE: &str = "an edge sent what cannot be parsed";

/// A journal refuses to open after a crash: something that it had called durable is gone.
pub const UNOPENED: &str = "a journal does not open after a crash";

/// Watches the wire.
#[derive(Debug, Default)]
pub struct Oracle {
    faults: Vec<Fault>,
    /// What edges have sent: destination and hash of the bytes.
    sent: BTreeSet<(SocketAddr, u64)>,
    /// What came to any edge.
    heard: BTreeSet<(Option<u16>, String, Vec<u8>, u32)>,
    /// Call-ID, From tag and CSeq of INVITEs that began a call, as edges got them.
    invites: BTreeSet<(Vec<u8>, Vec<u8>, u32)>,
    /// Marked messages delivered: proof that the rule about tenants was applied to something.
    pub marked: u64,
    /// Credentials delivered: the same.
    pub credentials: u64,
    senders: Senders,
}

impl Oracle {
    /// What went wrong so far.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Notes a broken promise.
    pub fn fault(&mut self, at: Mono, rule: &'static str, detail: String) {
        self.faults.push(Fault { at, rule, detail });
    }

    /// An edge sends something; `durable` is the last record on its platter.
    pub fn edge_sends(&mut self, at: Mono, release: Release, flow: &Flow, bytes: &[u8], durable: EventSeq) {
        if let Release::After(seq) = release
            && seq > durable
        {
            let detail = format!("record {seq}, platter {durable}: {}", first_line(bytes));
            self.fault(at, UNDURABLE, detail);
        }
        if is_keepalive(bytes) {
            return;
        }
        let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else {
            // A refusal echoes what was broken (RFC 3261 §8.2.6.2 leaves no choice).
            if !bytes.starts_with(b"SIP/2.0 4") && !bytes.starts_with(b"SIP/2.0 505 ") {
                self.fault(at, NONSENSE, first_line(bytes));
            }
            return;
        };
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let new = self.sent.insert((flow.remote, hasher.finish()));
        // What one edge passes on for another has left that one behind its record, and has come here.
        let passed = release == Release::Now(ClassB::Passed) && self.heard.contains(&identity(&message));
        if let (Release::Now(class), true) = (release, new && !passed && self.is_class_a(&message)) {
            self.fault(at, MISCLASSED, format!("{class:?}: {} to {}", first_line(bytes), flow.remote));
        }
        if let (Release::Now(ClassB::Retransmission), true) = (release, new) {
            let detail = format!("a retransmission of nothing: {} to {}", first_line(bytes), flow.remote);
            self.fault(at, MISCLASSED, detail);
        }
    }

    /// A process of an edge begins: it may say again in other words what the one before said.
    pub fn edge_restarts(&mut self) {
        self.sent.clear();
    }

    /// An edge gets something.
    pub fn edge_gets(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { return };
        self.heard.insert(identity(&message));
        if message.is_request() {
            self.senders.hear(&message);
        }
        if message.is_request() && message.method() == Method::Invite && message.to_tag().is_none() {
            self.invites.insert(named(&message));
        }
    }

    /// An actor of `tenant` (`None`: of none) gets something from an edge.
    pub fn actor_gets(&mut self, at: Mono, tenant: Option<&str>, to: SocketAddr, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else { return };
        self.credentials_arrive(at, tenant, to, &message);
        let Some(mark) = senders::mark_of(&message) else { return };
        self.marked += 1;
        if Some(&*mark) != tenant {
            let detail = format!("{} of {mark} to {} ({to})", first_line(bytes), tenant.unwrap_or("nobody"));
            self.fault(at, CROSSED, detail);
        }
    }

    /// What creates or destroys a call at a peer, told from the message alone (DESIGN.md §6).
    fn is_class_a(&self, message: &Message<&[u8]>) -> bool {
        match (message.method(), message.status()) {
            (Method::Invite, None) => message.to_tag().is_none(),
            (Method::Bye, None) => true,
            (Method::Invite, Some(200..=299)) => self.invites.contains(&named(message)),
            _ => false,
        }
    }
}

/// Stands in an actor's name before their tenant's name.
pub const MARK: &str = " of tenant ";

/// What tells an INVITE from others, also from the other side's in the same dialog.
fn named(message: &Message<&[u8]>) -> (Vec<u8>, Vec<u8>, u32) {
    let from = message.from_tag().unwrap_or_default();
    (message.call_id().to_vec(), from.to_vec(), message.cseq().number)
}

/// What tells a message from others, on whichever side of an edge it is.
fn identity(message: &Message<&[u8]>) -> (Option<u16>, String, Vec<u8>, u32) {
    let method = message.method().as_str().to_owned();
    (message.status(), method, message.call_id().to_vec(), message.cseq().number)
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default();
    let call_id = Message::parse(bytes, &Limits::DATAGRAM)
        .map(|m| format!(" [{} {}]", String::from_utf8_lossy(m.call_id()), m.cseq().number))
        .unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned() + &call_id
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::ListenerId;

    fn flow() -> Flow {
        let address = |text: &str| text.parse().expect("an address");
        Flow::udp(ListenerId(0), address("192.0.2.1:5060"), address("198.51.100.10:5060"))
    }

    fn request(method: &str, to_tag: &str) -> Vec<u8> {
        format!(
            "{method} sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:a@b>{to_tag}\r\nCall-ID: x\r\nCSeq: 1 {method}\r\nX-Actor: phone{MARK}acme\r\n\r\n"
        )
        .into_bytes()
    }

    fn rules(oracle: &Oracle) -> Vec<&'static str> {
        oracle.faults().iter().map(|fault| fault.rule).collect()
    }

    #[test]
    fn a_message_before_its_record_is_seen() {
        let mut oracle = Oracle::default();
        let invite = request("INVITE", "");
        oracle.edge_sends(Mono(0), Release::After(EventSeq(5)), &flow(), &invite, EventSeq(5));
        assert!(oracle.faults().is_empty());
        oracle.edge_sends(Mono(0), Release::After(EventSeq(6)), &flow(), &invite, EventSeq(5));
        assert_eq!(rules(&oracle), [UNDURABLE]);
    }

    #[test]
    fn a_class_a_message_may_leave_at_once_only_as_a_repetition() {
        let mut oracle = Oracle::default();
        let bye = request("BYE", ";tag=2");
        let again = Release::Now(ClassB::Retransmission);
        oracle.edge_sends(Mono(0), Release::After(EventSeq(1)), &flow(), &bye, EventSeq(1));
        oracle.edge_sends(Mono(0), again, &flow(), &bye, EventSeq(1));
        assert!(oracle.faults().is_empty());
        oracle.edge_sends(
            Mono(0),
            Release::Now(ClassB::InDialog),
            &flow(),
            &request("BYE", ";tag=3"),
            EventSeq(1),
        );
        assert_eq!(rules(&oracle), [MISCLASSED]);
        oracle.edge_sends(Mono(0), again, &flow(), &request("INFO", ";tag=3"), EventSeq(1));
        assert_eq!(rules(&oracle), [MISCLASSED, MISCLASSED], "a repetition of nothing");
    }

    #[test]
    fn a_message_of_one_tenant_at_another_is_seen() {
        let mut oracle = Oracle::default();
        oracle.actor_gets(Mono(0), Some("acme"), flow().remote, &request("INVITE", ""));
        assert!(oracle.faults().is_empty());
        oracle.actor_gets(Mono(0), Some("globex"), flow().remote, &request("INVITE", ""));
        assert_eq!((rules(&oracle), oracle.marked), (vec![CROSSED], 2));
    }
}
