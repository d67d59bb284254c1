//! Identifiers of the edge's own: leg tokens, tags, Call-IDs, branches, and the cookie by which it knows its own Via.

use super::raw::Raw;
use crate::contract::Entropy;
use crate::reuse;
use crate::settings::Settings;
use crate::sips;
use crate::tenancy::{Origin, OriginKind};
use signalbox_base::{CallUid, Flow, ShortToken, Text, fnv1a};
use signalbox_sip::header::{HeaderName, ListValues, Via};
use signalbox_sip::transaction::Branch;
use signalbox_sip::{Message, Put};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};

/// Via parameter that carries the loop cookie. Peers carry it back untouched, as any unknown parameter.
const LOOP_PARAM: &str = "i";

/// A new call.
pub(crate) fn new_uid(entropy: &mut dyn Entropy) -> CallUid {
    CallUid(entropy.next_u64())
}

/// A call's uid as text.
pub(crate) fn name_of(uid: CallUid) -> Text {
    let (mut name, prefix) = ([0; 13], b"c_");
    name[..2].copy_from_slice(prefix);
    name[2..].copy_from_slice(&ShortToken(uid.0).digits());
    Text::lossy(&name)
}

/// A new leg.
pub(crate) fn new_token(entropy: &mut dyn Entropy) -> ShortToken {
    ShortToken(entropy.next_u64())
}

/// A tag or Call-ID of our own: 64 random bits are more than RFC 3261 §19.3 asks for.
pub(crate) fn new_identifier(entropy: &mut dyn Entropy) -> Raw {
    Raw::from(&ShortToken(entropy.next_u64()).digits()[..])
}

/// `host:port` that peers on this flow know the edge by.
pub(crate) fn advertised<'s>(settings: &'s Settings, flow: &Flow) -> Cow<'s, str> {
    match settings.listener(flow.listener) {
        Some(listener) => Cow::Borrowed(&listener.advertise),
        None => Cow::Owned(flow.local.to_string()),
    }
}

/// A header value of our own that is used in this turn only.
pub(crate) type Line = SmallVec<[u8; 128]>;

/// Our Via on a flow; `cookie` marks requests that could come back to us.
pub(crate) fn via(settings: &Settings, flow: &Flow, branch: Branch, cookie: Option<u64>) -> Line {
    let (mut line, by) = (Line::new(), advertised(settings, flow));
    let transport = flow.transport.via();
    let id = ShortToken(branch.0).digits();
    (
        "SIP/2.0/",
        (
            transport,
            (" ", (&*by, (";branch=", (Via::MAGIC_COOKIE, (id, (";rport", reuse::parameter(flow))))))),
        ),
    )
        .put(&mut line);
    if let Some(cookie) = cookie {
        (";", (LOOP_PARAM, ("=", ShortToken(cookie).digits()))).put(&mut line);
    }
    line
}

/// What a request is for, keyed as [`loop_cookie`] is.
pub(crate) fn called<B: AsRef<[u8]>>(settings: &Settings, message: &Message<B>) -> u64 {
    let mut hasher = keyed(settings);
    hasher.write(message.request_uri().unwrap_or_default());
    hasher.finish()
}

/// Keyed, so that nobody outside can make two of the same hash.
fn keyed(settings: &Settings) -> impl Hasher {
    let key = settings.cluster_key.expose();
    foldhash::quality::FixedState::with_seed(fnv1a(0, key.iter().copied())).build_hasher()
}

/// Everything that a request's way was chosen by: a loop brings the same back from the same side, a spiral brings another
/// Request-URI, or comes from another side. A backend that is a proxy sends a phone's call back unchanged, and then
/// it is for a phone (RFC 3261 §16.3 step 4, §16.6 step 8; RFC 5393 §4.2.1).
pub(crate) fn loop_cookie<B: AsRef<[u8]>>(settings: &Settings, origin: &Origin, message: &Message<B>) -> u64 {
    let mut hasher = keyed(settings);
    let mut field = |bytes: &[u8]| {
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    let side: &[u8] = match &origin.kind {
        // Whoever it is, a phone's call goes to its tenant's backends.
        OriginKind::Endpoint { .. } => b"",
        OriginKind::Backend { name, .. } | OriginKind::Trunk { name, .. } => name.as_bytes(),
    };
    field(&[u8::from(!origin.is_endpoint())]);
    field(side);
    field(origin.tenant.as_str().as_bytes());
    field(origin.domain.as_bytes());
    field(message.request_uri().unwrap_or_default());
    field(message.call_id());
    field(message.from_tag().unwrap_or_default());
    field(message.to_tag().unwrap_or_default());
    field(&message.cseq().number.to_be_bytes());
    message.all(HeaderName::Route).for_each(|route| field(route.value));
    hasher.finish()
}

/// Whether one of the request's Vias carries our cookie of this very request.
pub(crate) fn is_loop<B: AsRef<[u8]>>(settings: &Settings, origin: &Origin, message: &Message<B>) -> bool {
    let mut carried = message
        .all(HeaderName::Via)
        .flat_map(|header| ListValues::new(header.value))
        .filter_map(|value| Via::parse(value).ok()?.params.value(LOOP_PARAM.as_bytes()))
        .filter_map(|value| std::str::from_utf8(value).ok()?.parse::<ShortToken>().ok())
        .peekable();
    // The cookie costs a hash; most requests carry no Via of ours.
    carried.peek().is_some() && {
        let own = loop_cookie(settings, origin, message);
        carried.any(|token| token.0 == own)
    }
}

/// Our Contact on a leg, of the scheme that its other end has. Header parameters of the peer's own Contact (feature tags,
/// RFC 3840) follow it.
pub(crate) fn contact(settings: &Settings, leg: &super::leg::Leg, features: &[u8]) -> Line {
    let (mut line, flow) = (Line::new(), &leg.flow);
    let (scheme, host) = (sips::scheme_towards(&leg.target, flow), advertised(settings, flow));
    ("<", (scheme, (super::leg::contact_user(leg.token), ("@", &*host)))).put(&mut line);
    if flow.transport != signalbox_base::Transport::Udp {
        (";transport=", flow.transport.in_uri()).put(&mut line);
    }
    (">", features).put(&mut line);
    line
}

/// A From or To value without its tag, byte for byte otherwise.
pub(crate) fn without_tag(value: &[u8]) -> Cow<'_, [u8]> {
    let Ok(address) = signalbox_sip::header::NameAddr::parse(value) else { return Cow::Borrowed(value) };
    let Some(tag) = address.params.get(b"tag") else { return Cow::Borrowed(value) };
    let start = tag.raw.as_ptr() as usize - value.as_ptr() as usize;
    let before = value[..start].trim_ascii_end();
    let before = before.strip_suffix(b";").unwrap_or(before);
    let behind = &value[start + tag.raw.len()..];
    if behind.is_empty() { Cow::Borrowed(before) } else { Cow::Owned([before, behind].concat()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_uid_when_named_then_it_is_as_it_is_printed() {
        for uid in [0, 7, u64::MAX].map(CallUid) {
            assert_eq!(*name_of(uid), *uid.to_string());
        }
    }

    #[test]
    fn given_a_tag_anywhere_when_taken_out_then_the_rest_keeps_its_bytes() {
        for (value, expected) in [
            ("\"A; tag=b\" <sip:a@b;tag=no>;tag=1", "\"A; tag=b\" <sip:a@b;tag=no>"),
            ("<sip:a@b> ; x=1 ;tag=9;y", "<sip:a@b> ; x=1 ;y"),
            ("sip:a@b;tag=1", "sip:a@b"),
            ("<sip:a@b>", "<sip:a@b>"),
            ("nonsense <", "nonsense <"),
        ] {
            assert_eq!(*without_tag(value.as_bytes()), *expected.as_bytes(), "{value}");
        }
    }
}
