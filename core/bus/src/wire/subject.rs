//! NATS: streams by group of domains, and subjects `signalbox.v1.<domain>.<past_tense>.<tenant>.<edge>`.
//!
//! Few tokens on purpose: a server keeps an index of all subjects in memory. The edge is the last one, so the last event
//! of an edge in a stream is one request by wildcard.

use super::past_tense;
use std::borrow::Cow;
use std::fmt::Write;

/// Events that lie in one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stream's name.
    pub stream: &'static str,
    /// The group's name in the configuration (`max_age`).
    pub name: &'static str,
    /// Its domains; every domain of the catalogue is in exactly one group.
    pub domains: &'static [&'static str],
}

impl Group {
    /// What the stream stores: `signalbox.v1.<domain>.>` of each domain.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        self.domains.iter().map(|domain| format!("signalbox.v1.{domain}.>")).collect()
    }
}

/// All groups; the last one also takes domains that this release does not know.
pub const GROUPS: [Group; 4] = [
    Group {
        stream: "SIGNALBOX_CALL",
        name: "call",
        domains: &["call", "media", "dtmf", "recording", "message"],
    },
    Group {
        stream: "SIGNALBOX_REGISTRATION",
        name: "registration",
        domains: &["registration", "subscription"],
    },
    Group { stream: "SIGNALBOX_SECURITY", name: "security", domains: &["security"] },
    Group {
        stream: "SIGNALBOX_OPERATIONS",
        name: "operations",
        domains: &["backend", "edge", "journal", "config", "admin", "projection", "alert"],
    },
];

/// The stream of replays, on `signalbox.replay.>`.
pub const REPLAY_STREAM: &str = "SIGNALBOX_REPLAY";

/// The group of a domain.
#[must_use]
pub fn group_of(domain: &str) -> &'static Group {
    GROUPS.iter().find(|group| group.domains.contains(&domain)).unwrap_or(&GROUPS[GROUPS.len() - 1])
}

/// The subject of an event: type with version (`call.ended.v1`), tenant (empty for none), edge.
#[must_use]
pub fn subject(kind: &str, tenant: &str, edge: &str) -> String {
    let domain = kind.split('.').next().unwrap_or_default();
    let tenant = if tenant.is_empty() { Cow::Borrowed("_") } else { tenant_token(tenant) };
    let (domain, name, edge) = (token(domain), token(past_tense(kind)), token(edge));
    format!("signalbox.v1.{domain}.{name}.{tenant}.{edge}")
}

/// A subject to read by; `None` stands for any. A tenant `Some("")` is that of events without one.
#[must_use]
pub fn filter(domain: Option<&str>, name: Option<&str>, tenant: Option<&str>, edge: Option<&str>) -> String {
    let any = Cow::Borrowed("*");
    let part = |given: Option<&str>| given.map_or(any.clone(), |text| Cow::Owned(token(text).into_owned()));
    let tenant = match tenant {
        None => any.clone(),
        Some("") => Cow::Borrowed("_"),
        Some(tenant) => Cow::Owned(tenant_token(tenant).into_owned()),
    };
    format!("signalbox.v1.{}.{}.{tenant}.{}", part(domain), part(name), part(edge))
}

/// Where an edge says that it lives. No stream stores it.
#[must_use]
pub fn heartbeat_subject(cluster: &str, edge: &str) -> String {
    format!("signalbox.heartbeat.v1.{}.{}", token(cluster), token(edge))
}

/// Where the events of a replay go.
#[must_use]
pub fn replay_subject(id: &str) -> String {
    format!("signalbox.replay.{}", token(id))
}

/// What a subject says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The domain.
    pub domain: Cow<'a, str>,
    /// The past tense.
    pub name: Cow<'a, str>,
    /// The tenant, empty for none.
    pub tenant: Cow<'a, str>,
    /// The edge, or `store`.
    pub edge: Cow<'a, str>,
}

impl<'a> Subject<'a> {
    /// Reads a subject of an event; `None` for any other.
    #[must_use]
    pub fn read(subject: &'a str) -> Option<Self> {
        let mut tokens = subject.strip_prefix("signalbox.v1.")?.split('.');
        let (domain, name) = (untoken(tokens.next()?)?, untoken(tokens.next()?)?);
        let tenant = match tokens.next()? {
            "_" => Cow::Borrowed(""),
            tenant => untoken(tenant)?,
        };
        let edge = untoken(tokens.next()?)?;
        if tokens.next().is_some() { None } else { Some(Self { domain, name, tenant, edge }) }
    }
}

/// Text as one token of a subject. What may not stand in one (dots, wildcards, spaces, control characters, all that is
/// not ASCII) is written as `%` and two hexadecimal digits a byte; empty text is a lone `%`.
#[must_use]
pub fn token(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("%");
    }
    if text.bytes().all(legal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if legal(byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("memory takes every byte");
        }
    }
    Cow::Owned(out)
}

/// The text that [`token`] wrote; `None` when it did not write this.
#[must_use]
pub fn untoken(token: &str) -> Option<Cow<'_, str>> {
    if token == "%" {
        return Some(Cow::Borrowed(""));
    }
    if !token.is_empty() && token.bytes().all(legal) {
        return Some(Cow::Borrowed(token));
    }
    let mut bytes = token.bytes();
    let mut out = Vec::with_capacity(token.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = (digit(bytes.next())? << 4) | digit(bytes.next())?;
                out.push(u8::try_from(value).ok()?);
            }
            byte if legal(byte) => out.push(byte),
            _ => return None,
        }
    }
    if out.is_empty() { None } else { String::from_utf8(out).ok().map(Cow::Owned) }
}

/// A tenant's name; one that is called `_`, as no tenant is, would read as none.
fn tenant_token(tenant: &str) -> Cow<'_, str> {
    if tenant == "_" { Cow::Borrowed("%5F") } else { token(tenant) }
}

const fn legal(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>' | b'%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use signalbox_schemas::Kind;

    #[test]
    fn subjects_are_those_of_the_contract() {
        assert_eq!(subject("call.ended.v1", "acme", "edge-1"), "signalbox.v1.call.ended.acme.edge-1");
        let none = "signalbox.v1.backend.state_changed._.edge-1";
        assert_eq!(subject("backend.state_changed.v2", "", "edge-1"), none);
        assert_eq!(filter(Some("call"), None, Some("acme"), None), "signalbox.v1.call.*.acme.*");
        assert_eq!(filter(None, None, None, Some("edge-1")), "signalbox.v1.*.*.*.edge-1");
        assert_eq!(filter(None, None, Some(""), None), "signalbox.v1.*.*._.*");
        assert_eq!(heartbeat_subject("prod", "edge-1"), "signalbox.heartbeat.v1.prod.edge-1");
        assert_eq!(replay_subject("01J"), "signalbox.replay.01J");
    }

    #[test]
    fn every_domain_of_the_catalogue_is_in_exactly_one_stream() {
        for kind in Kind::ALL {
            let groups = GROUPS.iter().filter(|group| group.domains.contains(&kind.domain())).count();
            assert_eq!(groups, 1, "{}", kind.domain());
        }
        assert_eq!(group_of("fax").stream, "SIGNALBOX_OPERATIONS");
        assert_eq!(GROUPS[2].subjects(), ["signalbox.v1.security.>"]);
    }

    #[test]
    fn neither_heartbeats_nor_replays_match_a_stream_of_events() {
        let stored: Vec<String> = GROUPS.iter().flat_map(Group::subjects).collect();
        for other in [heartbeat_subject("prod", "edge-1"), replay_subject("x")] {
            assert!(stored.iter().all(|subject| !other.starts_with(subject.trim_end_matches('>'))));
        }
    }

    proptest! {
        #[test]
        fn any_text_makes_a_legal_token_that_reads_back(text in "\\PC*|[ .*>%_\\x00-\\x20]*") {
            let token = token(&text);
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|b| b.is_ascii_graphic() && !b".*>".contains(&b)));
            let read = untoken(&token);
            prop_assert_eq!(read.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn a_subject_reads_back(name in "[a-z_]{1,9}", tenant in "[a-z0-9.-]{0,9}|_", edge in "\\PC{1,9}") {
            let subject = subject(&format!("call.{name}.v1"), &tenant, &edge);
            prop_assert_eq!(subject.split('.').count(), 6);
            let read = Subject::read(&subject).unwrap();
            prop_assert_eq!((&*read.domain, &*read.name, &*read.tenant, &*read.edge), ("call", &*name, &*tenant, &*edge));
        }
    }
}
