//! What an INVITE asks for, in words that rules understand.

use super::choose::Ask;
use super::numbers::e164_of;
use super::select::Source;
use crate::call::UNTRUSTED;
use crate::facts::call::user_or_whole;
use crate::headers;
use crate::settings::{Rules, Template, TenantSettings};
use signalbox_base::{Text, Wall};
use signalbox_sip::{HeaderName, Limits, Message};

/// What rules look at of a request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What was dialled.
    pub number: Text,
    /// Its E.164 form.
    pub e164: Option<Text>,
    /// Who calls: the user of From, or of the registration or credentials of who says no name.
    pub caller: Text,
    /// Its E.164 form.
    pub caller_e164: Option<Text>,
    /// Header fields that some rule asks for.
    pub headers: Vec<(Text, Text)>,
    tenant: Option<Text>,
    has_backends: bool,
}

impl Asked {
    /// Reads a request of `caller`, for rules of a tenant. `peer` is the backend or trunk which it comes from, and `template`
    /// that trunk's; header fields are as the peer's own rules leave them.
    #[must_use]
    pub fn of<B: AsRef<[u8]>>(
        rules: &Rules,
        tenant: Option<&TenantSettings>,
        peer: Option<&str>,
        template: Option<&Template>,
        caller: Text,
        request: &Message<B>,
    ) -> Self {
        let number = request.request_uri().map(user_or_whole).unwrap_or_default();
        let mut it = Self::by_numbers(tenant, template, number, caller);
        if rules.routes.iter().all(|rule| rule.matches.headers.is_empty()) {
            return it;
        }
        match headers::entered(rules, it.tenant.as_deref().unwrap_or_default(), peer, request) {
            None => it.read(rules, peer, request),
            // One that has grown too long to be read has nothing that a rule could go by.
            Some(bytes) => {
                if let Ok(request) = Message::parse(&*bytes, &Limits::DATAGRAM) {
                    it.read(rules, peer, &request);
                }
            }
        }
        it
    }

    /// Notes header fields that some rule asks for; what a phone claims to be is nothing to go by.
    fn read<B: AsRef<[u8]>>(&mut self, rules: &Rules, peer: Option<&str>, request: &Message<B>) {
        for wanted in rules.routes.iter().flat_map(|rule| &rule.matches.headers) {
            let mut add = |value: &[u8]| self.headers.push((wanted.name.clone(), Text::lossy(value)));
            match HeaderName::from_bytes(wanted.name.as_bytes()) {
                HeaderName::Other => request.extension(wanted.name.as_bytes()).for_each(|h| add(h.value)),
                claim if peer.is_none() && UNTRUSTED.contains(&claim) => {}
                known => request.all(known).for_each(|header| add(header.value)),
            }
        }
    }

    /// Who calls whom, without a request.
    #[must_use]
    pub fn by_numbers(
        tenant: Option<&TenantSettings>,
        template: Option<&Template>,
        number: Text,
        caller: Text,
    ) -> Self {
        let numbering = tenant.map(|tenant| &tenant.numbering);
        let (number, caller) = match template {
            Some(template) => {
                (template.called.apply(&number, numbering), template.caller.apply(&caller, numbering))
            }
            None => (number, caller),
        };
        Self {
            e164: e164_of(&number, numbering),
            caller_e164: e164_of(&caller, numbering),
            number,
            caller,
            headers: Vec::new(),
            tenant: tenant.map(|tenant| Text::new(tenant.name.as_str())),
            has_backends: tenant.is_some_and(|tenant| !tenant.backends.is_empty()),
        }
    }

    /// The question, from a peer of this kind and name at a moment.
    #[must_use]
    pub fn ask<'a>(&'a self, source: Source, peer: &'a str, wall: Wall) -> Ask<'a> {
        Ask {
            tenant: self.tenant.as_deref(),
            source,
            peer,
            number: &self.number,
            e164: self.e164.as_deref(),
            domain: "",
            caller: &self.caller,
            caller_e164: self.caller_e164.as_deref(),
            headers: &self.headers,
            wall,
            bound: false,
            has_backends: self.has_backends,
            stranger: false,
        }
    }
}
