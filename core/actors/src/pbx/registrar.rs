//! The PBX's registrar (RFC 3261 §10.3) with digest and Path (RFC 3327).

use super::Pbx;
use crate::datagram::Datagram;
use crate::line::{Owned, Use};
use crate::seen::Observed;
use crate::ua::Ua;
use signalbox_base::{Mono, Now, Text};
use signalbox_sip::digest::{Credentials, Ha1, NonceIssuer, NonceVerdict, verify};
use signalbox_sip::header::{NameAddr, delta_seconds};
use signalbox_sip::transaction::ServerTx;
use signalbox_sip::uri::SipUri;
use signalbox_sip::{HeaderName, Method};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Seconds that a nonce of ours is good for.
const NONCE_LIFE_SECS: u32 = 300;

/// A registered contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbxContact {
    /// The Contact's URI as it was given.
    pub uri: Text,
    /// Values of Path as they were given.
    pub path: Vec<Text>,
    /// Until when.
    pub until: Mono,
    /// Whether the last OPTIONS to it was answered; `None` before the first.
    pub reachable: Option<bool>,
}

impl PbxContact {
    /// Where a request to it is sent first.
    pub(super) fn next_hop(&self) -> Option<SocketAddr> {
        let first = self.path.first().unwrap_or(&self.uri);
        let address = NameAddr::parse(first.as_bytes()).ok()?;
        let uri = SipUri::parse(address.uri).ok()?;
        Some(SocketAddr::new(uri.address()?, uri.port.unwrap_or(5060)))
    }
}

/// Who is registered.
pub(super) struct Registrar {
    nonces: NonceIssuer,
    bindings: BTreeMap<Text, Vec<PbxContact>>,
}

impl Registrar {
    pub(super) fn new(ua: &mut Ua<Use>) -> Self {
        let mut key = [0; 32];
        key.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&ua.random.bits().to_le_bytes()));
        Self { nonces: NonceIssuer::new(key, NONCE_LIFE_SECS), bindings: BTreeMap::new() }
    }

    pub(super) fn contacts(&self, aor: &str, now: Mono) -> Vec<PbxContact> {
        let contacts = self.bindings.get(aor).into_iter().flatten();
        contacts.filter(|c| c.until > now).cloned().collect()
    }

    pub(super) fn all(&self, now: Mono) -> Vec<PbxContact> {
        self.bindings.values().flatten().filter(|c| c.until > now).cloned().collect()
    }

    pub(super) fn qualified(&mut self, uri: &str, reachable: bool) {
        let contacts = self.bindings.values_mut().flatten();
        contacts.filter(|c| c.uri == uri).for_each(|c| c.reachable = Some(reachable));
    }

    fn set(&mut self, aor: &str, contact: PbxContact, now: Mono) {
        let contacts = self.bindings.entry(Text::new(aor)).or_default();
        contacts.retain(|c| c.uri != contact.uri && c.until > now);
        if contact.until > now {
            contacts.push(contact);
        }
    }
}

impl Pbx {
    pub(super) fn on_register(&mut self, now: Now, tx: ServerTx, request: &Owned, out: &mut Vec<Datagram>) {
        let Some(aor) = request.to().ok().and_then(|to| self.aor_of(to.uri)) else {
            return self.line.answer(now.mono, tx, request, 404, &[], out);
        };
        if let Err((status, headers)) = self.authenticate(now, &aor, request) {
            self.saw(now.mono, Observed::Rejected { aor, status });
            return self.line.answer(now.mono, tx, request, status, &headers, out);
        }
        let general = request.value(HeaderName::Expires).and_then(|value| delta_seconds(value).ok());
        let path: Vec<Text> = request.values(HeaderName::Path).map(Text::lossy).collect();
        for value in request.values(HeaderName::Contact) {
            if value == b"*" {
                self.registrar.bindings.remove(&aor);
                continue;
            }
            let Ok(contact) = NameAddr::parse(value) else { continue };
            let asked = contact.expires().or(general).unwrap_or(self.profile.expires_max_secs);
            let expires_secs = asked.min(self.profile.expires_max_secs);
            let uri = Text::lossy(contact.uri);
            let until = now.mono.plus(Duration::from_secs(u64::from(expires_secs)));
            let binding = PbxContact { uri: uri.clone(), path: path.clone(), until, reachable: None };
            self.registrar.set(&aor, binding, now.mono);
            self.saw(now.mono, Observed::Accepted { aor: aor.clone(), contact: uri, expires_secs });
        }
        let headers = self.listing(&aor, &path, now.mono);
        self.line.answer(now.mono, tx, request, 200, &headers, out);
    }

    /// `user@domain` of a URI; a host that is none of ours is read as our first domain.
    pub(super) fn aor_of(&self, uri: &[u8]) -> Option<Text> {
        let uri = SipUri::parse(uri).ok()?;
        let user = String::from_utf8_lossy(&uri.decoded_user()?).into_owned();
        let ours = self.profile.domains.iter().find(|domain| uri.host_is(domain.as_bytes()));
        Some(Text::from(format!("{user}@{}", ours.unwrap_or(&self.profile.domains[0]))))
    }

    /// The contacts as a 200 lists them (RFC 3261 §10.3 step 8), and the Path (RFC 3327 §5.3).
    fn listing(&self, aor: &str, path: &[Text], now: Mono) -> Vec<(HeaderName, String)> {
        let mut headers = Vec::new();
        for contact in self.registrar.contacts(aor, now) {
            let expires = contact.until.since(now).as_secs();
            headers.push((HeaderName::Contact, format!("<{}>;expires={expires}", contact.uri)));
        }
        headers.extend(path.iter().map(|path| (HeaderName::Path, path.to_string())));
        headers
    }

    /// Whether the request proves to come from the AoR's user; else what to answer.
    pub(super) fn authenticate(
        &self,
        now: Now,
        aor: &str,
        request: &Owned,
    ) -> Result<(), (u16, Vec<(HeaderName, String)>)> {
        let known = self.profile.users.iter().find(|u| format!("{}@{}", u.user, u.domain) == aor);
        let Some(user) = known else { return Err((404, Vec::new())) };
        let realm = user.domain.as_bytes();
        let value = request.value(HeaderName::Authorization);
        let credentials = value.and_then(|value| Credentials::parse(value).ok());
        let Some(credentials) = credentials else { return Err((401, self.challenge(now, realm, false))) };
        match self.registrar.nonces.judge(&credentials.nonce, realm, now.wall) {
            NonceVerdict::Fresh => {}
            NonceVerdict::Stale => return Err((401, self.challenge(now, realm, true))),
            NonceVerdict::Foreign => return Err((401, self.challenge(now, realm, false))),
        }
        let algorithm = self.profile.algorithm;
        let ha1 = Ha1::from_password(algorithm, user.user.as_bytes(), realm, user.password.as_bytes());
        let good = credentials.username == user.user.as_bytes()
            && verify(&credentials, &ha1, request.method().as_bytes(), request.body());
        match user.verdict {
            super::Verdict::Accept if good => Ok(()),
            super::Verdict::Forbid if good && request.method() == Method::Register => Err((403, Vec::new())),
            _ if good => Ok(()),
            _ => Err((401, self.challenge(now, realm, false))),
        }
    }

    fn challenge(&self, now: Now, realm: &[u8], stale: bool) -> Vec<(HeaderName, String)> {
        let nonce = self.registrar.nonces.issue(realm, now.wall, 0);
        let realm = String::from_utf8_lossy(realm);
        let algorithm = self.profile.algorithm.as_str();
        let stale = if stale { ", stale=true" } else { "" };
        let value = format!(
            "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\", opaque=\"0\"{stale}"
        );
        vec![(HeaderName::WwwAuthenticate, value)]
    }
}
