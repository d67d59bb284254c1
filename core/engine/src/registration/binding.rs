//! What a REGISTER asks for, and what an answer grants.

use super::token::{TokenKey, key_of};
use crate::call::is_request_uri;
use crate::state::{Aor, Binding, BindingKey};
use crate::tenancy::Directory;
use crate::turn::Turn;
use signalbox_base::{Flow, Text, canonical_ip};
use signalbox_sip::header::{NameAddr, delta_seconds};
use signalbox_sip::message::Sink;
use signalbox_sip::uri::{SipUri, equivalent};
use signalbox_sip::{HeaderName, Message, Put, Uri};
use smallvec::SmallVec;
use std::net::IpAddr;

/// Contacts of one AoR at most, and so of one REGISTER: each is a call leg when it is called.
pub(super) const CONTACTS_MAX: usize = 32;
/// What is asked when nothing is said (RFC 3261 §10.3 leaves it to the registrar; this is what all use).
const DEFAULT_EXPIRES_SECS: u32 = 3600;

/// The contacts part of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No Contact: what is there?
    Query,
    /// `Contact: *` with `Expires: 0`.
    RemoveAll,
    /// These.
    Each(SmallVec<[Asked; 1]>),
}

/// One Contact of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its binding's key.
    pub(super) key: BindingKey,
    /// Seconds asked for; 0 removes.
    pub(super) expires: u32,
}

/// A REGISTER whose contacts cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadContacts {
    /// The phone's fault, 400.
    Unreadable(&'static str),
    /// More than [`CONTACTS_MAX`], 403.
    TooMany,
}

impl Wanted {
    /// Reads what is asked. Keys are those of bindings that the AoR has already, where the contact is the same by URI
    /// comparison (RFC 3261 §10.3 step 7) or the device is; else fresh ones.
    pub(super) fn read<B: AsRef<[u8]>>(
        request: &Message<B>,
        cluster_key: &TokenKey,
        aor_name: &str,
        aor: Option<&Aor>,
        source: IpAddr,
    ) -> Result<Self, BadContacts> {
        let asker = Asker { secret: cluster_key, aor_name, aor, call_id: request.call_id(), source };
        let header = request.value(HeaderName::Expires).and_then(|v| delta_seconds(v).ok());
        let mut each = SmallVec::new();
        for value in request.values(HeaderName::Contact) {
            if value == b"*" {
                let alone = request.values(HeaderName::Contact).count() == 1;
                return if alone && header == Some(0) {
                    Ok(Self::RemoveAll)
                } else {
                    Err(BadContacts::Unreadable("Contact * needs Expires 0 and nothing beside it"))
                };
            }
            let contact =
                NameAddr::parse(value).map_err(|_| BadContacts::Unreadable("Contact is not readable"))?;
            let Ok(Uri::Sip(uri)) = contact.parsed_uri() else {
                return Err(BadContacts::Unreadable("Contact is no SIP URI"));
            };
            // It will be the Request-URI of what the phone is sent.
            if !is_request_uri(contact.uri) {
                return Err(BadContacts::Unreadable("Contact is not readable"));
            }
            if each.len() == CONTACTS_MAX {
                return Err(BadContacts::TooMany);
            }
            let expires = contact.expires().or(header).unwrap_or(DEFAULT_EXPIRES_SECS);
            each.push(Asked { key: asker.key_for(&contact, uri), expires });
        }
        Ok(if each.is_empty() { Self::Query } else { Self::Each(each) })
    }

    /// Whether the AoR would have more contacts than `max`. Refreshes and removals never are too many.
    pub(super) fn is_too_many(&self, aor: Option<&Aor>, max: usize) -> bool {
        let Self::Each(each) = self else { return false };
        let is_known = |key| aor.is_some_and(|aor| aor.binding(key).is_some());
        let new = each.iter().filter(|asked| asked.expires > 0 && !is_known(asked.key)).count();
        let removed = each.iter().filter(|asked| asked.expires == 0 && is_known(asked.key)).count();
        let there = aor.map_or(0, |aor| aor.bindings.len());
        new > 0 && (there + new).saturating_sub(removed) > max
    }

    /// Seconds a response grants each asked contact: that Contact's own parameter, else its Expires header, else what was
    /// asked (RFC 3261 §10.2.4), never above `max`; `stretched` is what was asked where that is more than the phone did. In
    /// order of what was asked.
    pub(super) fn granted<B: AsRef<[u8]>>(
        &self,
        request: &Message<B>,
        response: &Message<&[u8]>,
        stretched: Option<u32>,
        max: u32,
    ) -> SmallVec<[u32; 1]> {
        let Self::Each(each) = self else { return SmallVec::new() };
        let header = response.value(HeaderName::Expires).and_then(|v| delta_seconds(v).ok());
        each.iter()
            .zip(request.values(HeaderName::Contact))
            .map(|(asked, own)| {
                if asked.expires == 0 {
                    return 0;
                }
                let own = NameAddr::parse(own).ok();
                let listed = response
                    .values(HeaderName::Contact)
                    .filter_map(|value| NameAddr::parse(value).ok())
                    .find(|shown| is_same(shown, asked.key, own.as_ref()));
                let told = listed.and_then(|c| c.expires()).or(header).or(stretched);
                told.unwrap_or(asked.expires).min(stretched.map_or(max, |secs| max.max(secs)))
            })
            .collect()
    }
}

/// Contacts that an AoR of a domain may have.
pub(super) fn contacts_max(turn: &Turn<'_>, domain: &str) -> usize {
    let own = turn.directory.policy(turn.settings, domain).and_then(|policy| policy.registrar);
    own.map_or(CONTACTS_MAX, |own| CONTACTS_MAX.min(usize::from(own.contacts_max)))
}

/// Whether a Contact that a backend shows is this binding: by token, or in path mode by its URI.
pub(super) fn is_same(shown: &NameAddr<'_>, key: BindingKey, own: Option<&NameAddr<'_>>) -> bool {
    let Ok(Uri::Sip(uri)) = shown.parsed_uri() else { return false };
    if let Some(token) = uri.user.and_then(BindingKey::from_user) {
        return token == key;
    }
    own.and_then(|own| own.parsed_uri().ok()).is_some_and(|own| equivalent(&own, &Uri::Sip(uri)))
}

/// Whether a REGISTER would bind its AoR to the edge itself: what is sent to such a contact comes back.
pub(super) fn names_the_edge<B: AsRef<[u8]>>(
    directory: &Directory,
    network: u16,
    request: &Message<B>,
    wanted: &Wanted,
) -> bool {
    let Wanted::Each(each) = wanted else { return false };
    let added = each.iter().zip(request.values(HeaderName::Contact)).filter(|(asked, _)| asked.expires > 0);
    let mut uris = added.filter_map(|(_, value)| NameAddr::parse(value).ok());
    uris.any(|contact| match contact.parsed_uri() {
        Ok(Uri::Sip(uri)) => directory.is_listener(network, &uri),
        _ => false,
    })
}

/// The token that a URI's user is, if it is one.
pub(super) fn token_of(shown: &NameAddr<'_>) -> Option<BindingKey> {
    match shown.parsed_uri() {
        Ok(Uri::Sip(uri)) => uri.user.and_then(BindingKey::from_user),
        _ => None,
    }
}

/// Who asks, as far as it tells one phone's Contact from another's.
struct Asker<'a> {
    secret: &'a TokenKey,
    aor_name: &'a str,
    aor: Option<&'a Aor>,
    call_id: &'a [u8],
    source: IpAddr,
}

impl Asker<'_> {
    fn key_for(&self, contact: &NameAddr<'_>, uri: SipUri<'_>) -> BindingKey {
        let instance = contact.sip_instance();
        let source = canonical_ip(self.source);
        let here = uri.address().map(canonical_ip) == Some(source);
        let uri = Uri::Sip(uri);
        if instance.is_none()
            && let Some(aor) = self.aor
        {
            // The same bytes are the same URI; only others are worth a comparison.
            let same = |b: &&Binding| {
                b.contact.as_bytes() == contact.uri
                    || Uri::parse(b.contact.as_bytes()).is_ok_and(|known| equivalent(&known, &uri))
            };
            let known: SmallVec<[&Binding; 2]> =
                aor.bindings.iter().map(|b| &**b).filter(|b| b.instance.is_none()).filter(same).collect();
            // A phone keeps its Call-ID wherever it moves (RFC 3261 §10.2). Without that, an address that is not where the
            // phone is seen is the same one only behind the same NAT, from whatever port.
            let mine = known.iter().find(|b| b.call_id.as_bytes() == self.call_id);
            let near = |b: &&&Binding| here || canonical_ip(b.flow.remote().ip()) == source;
            if let Some(binding) = mine.or_else(|| known.iter().find(near)) {
                return binding.key;
            }
        }
        let seen_at = (!here).then_some(source);
        let key = |uri: &[u8]| key_of(self.secret, self.aor_name, instance, contact.reg_id(), uri, seen_at);
        let fresh = key(contact.uri);
        // A phone that has moved keeps the key of where it was. Who now comes from there with the same address is another.
        let taken = |aor: &Aor| aor.bindings.iter().any(|b| b.key == fresh && b.instance.is_none());
        if instance.is_none() && self.aor.is_some_and(taken) {
            return key(&[contact.uri, b" ", self.call_id].concat());
        }
        fresh
    }
}

/// Whether the phone is not where its Contact says: it is behind NAT then.
pub(super) fn is_behind_nat(contact: &SipUri<'_>, flow: &Flow) -> bool {
    let port = contact.port.unwrap_or(flow.transport.default_port());
    contact.address() != Some(flow.remote.ip()) || port != flow.remote.port()
}

/// A Contact as the phone wrote it, with another expiry.
#[derive(Clone, Copy, Debug)]
pub(super) struct WithExpires<'a> {
    pub(super) contact: &'a NameAddr<'a>,
    pub(super) expires: u32,
}

impl Put for WithExpires<'_> {
    fn put(&self, out: &mut impl Sink) {
        let contact = self.contact;
        let params = contact.params.as_bytes();
        let head = contact.raw.len() - params.len();
        // An address without brackets cannot have parameters of its own: brackets make sure that none is taken for one.
        if contact.bracketed {
            out.push(contact.raw[..head].trim_ascii_end());
        } else {
            ("<", (contact.uri, ">")).put(out);
        }
        write_params(contact, &[b"expires"], out);
        (";expires=", self.expires).put(out);
    }
}

/// Writes a Contact's parameters but these.
pub(super) fn write_params(contact: &NameAddr<'_>, without: &[&[u8]], out: &mut impl Sink) {
    for param in contact.params {
        if !without.iter().any(|name| param.name.eq_ignore_ascii_case(name)) {
            (";", param.raw).put(out);
        }
    }
}

/// Path values, joined with commas (RFC 3327 §5.3); none for most phones.
pub(super) fn path_of<B: AsRef<[u8]>>(message: &Message<B>) -> Option<Text> {
    let mut headers = message.all(HeaderName::Path);
    let first = headers.next()?.value;
    let Some(second) = headers.next() else { return Some(Text::lossy(first)) };
    let mut joined = first.to_vec();
    for header in std::iter::once(second).chain(headers) {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(header.value);
    }
    Some(Text::lossy(&joined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_sip::Limits;

    fn register(lines: &str) -> Vec<u8> {
        format!(
            "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:401@a.test>;tag=1\r\n\
             To: <sip:401@a.test>\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n{lines}\r\n"
        )
        .into_bytes()
    }

    fn read(lines: &str) -> Result<Wanted, BadContacts> {
        let bytes = register(lines);
        let message = Message::parse(bytes.as_slice(), &Limits::DATAGRAM).unwrap();
        Wanted::read(&message, &TokenKey::default(), "acme/401@a.test", None, IpAddr::from([10, 0, 0, 1]))
    }

    fn expiries(lines: &str) -> Vec<u32> {
        match read(lines).unwrap() {
            Wanted::Each(each) => each.iter().map(|a| a.expires).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_parameter_wins_over_the_header_and_both_over_the_default_rfc3261_10_2_1_1() {
        assert_eq!(expiries("Contact: <sip:1@h>;expires=60, <sip:2@h>\r\nExpires: 120\r\n"), [60, 120]);
        assert_eq!(expiries("Contact: <sip:1@h>\r\n"), [3600]);
    }

    #[test]
    fn a_star_stands_alone_with_expires_zero_rfc3261_10_3() {
        assert_eq!(read("Contact: *\r\nExpires: 0\r\n"), Ok(Wanted::RemoveAll));
        assert!(read("Contact: *\r\nExpires: 5\r\n").is_err());
        assert!(read("Contact: *\r\n").is_err());
        assert!(read("Contact: <sip:4\u{1}1@h>\r\n").is_err());
        assert!(read("Contact: *, <sip:1@h>\r\nExpires: 0\r\n").is_err());
        assert_eq!(read(""), Ok(Wanted::Query));
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        assert!(read("Contact: <mailto:a@h>\r\n").is_err());
        let many = "Contact: <sip:1@h>\r\n".repeat(CONTACTS_MAX + 1);
        assert_eq!(read(&many), Err(BadContacts::TooMany));
    }

    #[test]
    fn a_contact_keeps_all_but_its_expiry() {
        let shown = |value: &str| {
            let mut out = Vec::new();
            let contact = NameAddr::parse(value.as_bytes()).unwrap();
            WithExpires { contact: &contact, expires: 90 }.put(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown("\"A\" <sip:1@h;ob>;q=0.5;expires=7;x"), "\"A\" <sip:1@h;ob>;q=0.5;x;expires=90");
        assert_eq!(shown("sip:1@h"), "<sip:1@h>;expires=90");
    }
}
