//! Who said what: Call-IDs and credentials, by the tenant of the actor that sent them.

use super::{Fault, MARK, Oracle, first_line};
use crate::events::Recorded;
use signalbox_actors::ACTOR;
use signalbox_base::Mono;
use signalbox_schemas::Event;
use signalbox_sip::{HeaderName, Message};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Credentials of one tenant reached another.
pub const LEAKED: &str = "credentials reached another tenant (promise 6)";
/// A record bears another tenant than whoever it is about.
pub const MISTOLD: &str = "a record is of another tenant than its sender (promise 6)";

const CREDENTIALS: [HeaderName; 2] = [HeaderName::Authorization, HeaderName::ProxyAuthorization];

/// What actors have said to edges.
#[derive(Debug, Default)]
pub(super) struct Senders {
    /// Tenants by Call-ID: one each, unless somebody uses what he overheard.
    calls: BTreeMap<String, BTreeSet<String>>,
    /// Tenants by the value of a header with credentials, which bears nonce and response.
    credentials: BTreeMap<Vec<u8>, String>,
}

impl Senders {
    /// An edge gets a request of an actor.
    pub(super) fn hear(&mut self, message: &Message<&[u8]>) {
        let Some(tenant) = mark_of(message) else { return };
        let call_id = String::from_utf8_lossy(message.call_id()).into_owned();
        self.calls.entry(call_id).or_default().insert(tenant.clone());
        for value in CREDENTIALS.into_iter().flat_map(|name| message.values(name)) {
            self.credentials.entry(value.to_vec()).or_insert_with(|| tenant.clone());
        }
    }
}

/// The tenant whose actor wrote it.
pub(super) fn mark_of(message: &Message<&[u8]>) -> Option<String> {
    let actor = message.extension(ACTOR.as_bytes()).next()?.value;
    let (_, tenant) = std::str::from_utf8(actor).ok()?.split_once(MARK)?;
    Some(tenant.to_owned())
}

impl Oracle {
    /// An actor of `tenant` gets this from an edge: no credentials of anybody else's may be in it.
    pub(super) fn credentials_arrive(
        &mut self,
        at: Mono,
        tenant: Option<&str>,
        to: SocketAddr,
        message: &Message<&[u8]>,
    ) {
        for value in CREDENTIALS.into_iter().flat_map(|name| message.values(name)) {
            let Some(owner) = self.senders.credentials.get(value) else { continue };
            self.credentials += 1;
            if Some(owner.as_str()) != tenant {
                let who = tenant.unwrap_or("nobody");
                let detail = format!("of {owner} to {who} ({to}): {}", first_line(message.as_bytes()));
                self.fault(at, LEAKED, detail);
            }
        }
    }

    /// Records that are of another tenant than whoever sent what they tell of.
    pub(super) fn judge_senders(&self, at: Mono, journal: &[Recorded]) -> Vec<Fault> {
        let mut calls: BTreeMap<&str, &str> = BTreeMap::new();
        let mut faults = Vec::new();
        for recorded in journal {
            let mut fault = |why: String| {
                let detail =
                    format!("record {} {} of {:?}: {why}", recorded.seq, recorded.kind, recorded.tenant);
                faults.push(Fault { at, rule: MISTOLD, detail });
            };
            if let Some(call_id) = call_id_of(&recorded.event)
                && let Some(senders) = self.senders.calls.get(call_id)
                && !senders.contains(&recorded.tenant)
            {
                fault(format!("{call_id} is of {senders:?}"));
            }
            if recorded.kind.starts_with("registration.")
                && recorded.subject.split_once('/').map(|(tenant, _)| tenant) != Some(&*recorded.tenant)
            {
                fault(format!("its subject is {}", recorded.subject));
            }
            if recorded.kind.starts_with("call.") {
                let first = *calls.entry(&recorded.correlation).or_insert(&recorded.tenant);
                if first != recorded.tenant || recorded.subject != recorded.correlation {
                    fault(format!(
                        "{} is a call of {first}, its subject {}",
                        recorded.correlation, recorded.subject
                    ));
                }
            }
        }
        faults
    }
}

/// The Call-ID of the request that made the event.
fn call_id_of(event: &Event) -> Option<&str> {
    match event {
        Event::RegistrationAdded(data) => Some(&data.call_id),
        Event::RegistrationRefreshed(data) => data.call_id.as_deref(),
        Event::RegistrationRemoved(data) => data.call_id.as_deref(),
        Event::RegistrationRejected(data) => data.call_id.as_deref(),
        Event::CallAttempted(data) => Some(&data.call_id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::{EventSeq, Wall};
    use signalbox_schemas::call::CallAttempted;
    use signalbox_sip::Limits;

    const REGISTER: &str = "REGISTER sip:acme.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n";
    const SECRET: &str = "Authorization: Digest username=\"a\", response=\"77\"\r\n";

    fn heard() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.edge_gets(format!("{REGISTER}{SECRET}X-Actor: phone{MARK}acme\r\n\r\n").as_bytes());
        oracle
    }

    #[test]
    fn credentials_at_another_tenant_are_seen_whoever_seems_to_send_them() {
        let mut oracle = heard();
        let text = format!("{REGISTER}{SECRET}\r\n");
        let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).expect("it is one");
        let to = "192.0.2.9:5060".parse().expect("an address");
        oracle.credentials_arrive(Mono(0), Some("acme"), to, &message);
        assert!(oracle.faults().is_empty());
        oracle.credentials_arrive(Mono(0), Some("globex"), to, &message);
        assert_eq!(oracle.faults().iter().map(|f| f.rule).collect::<Vec<_>>(), [LEAKED]);
        assert_eq!(oracle.credentials, 2);
    }

    #[test]
    fn a_record_of_another_tenant_or_subject_is_seen() {
        let recorded = |seq: u64, tenant: &str, subject: &str, event: CallAttempted| Recorded {
            seq: EventSeq(seq),
            wall: Wall(0),
            kind: "call.attempted.v1".to_owned(),
            tenant: tenant.to_owned(),
            subject: subject.to_owned(),
            correlation: "c_1".to_owned(),
            event: Event::CallAttempted(Box::new(event)),
        };
        let of = |call_id: &str| CallAttempted { call_id: call_id.into(), ..CallAttempted::default() };
        let oracle = heard();
        let count = |journal: &[Recorded]| oracle.judge_senders(Mono(0), journal).len();
        assert_eq!(count(&[recorded(1, "acme", "c_1", of("x")), recorded(2, "acme", "c_1", of("y"))]), 0);
        assert_eq!(count(&[recorded(1, "globex", "c_1", of("x"))]), 1, "another sender's");
        assert_eq!(count(&[recorded(1, "acme", "c_2", of("x"))]), 1, "another subject");
        assert_eq!(count(&[recorded(1, "acme", "c_1", of("x")), recorded(2, "globex", "c_1", of("y"))]), 1);
    }
}
