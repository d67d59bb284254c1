//! `hide = "full"`: what shows one side of the edge to the other is named anew on its way, or left out.
//!
//! Routes, Via and Contact are the edge's own on each leg in any case. Media flows directly between the peers, so where it
//! goes (`c=`, `m=`, candidates) stays in a description.

use crate::call::reads_session;
use crate::settings::Settings;
use crate::standalone::token::Kind;
use signalbox_base::{Flow, Secret, fnv1a};
use signalbox_sip::header::{ContentType, HeaderName, ListValues, NameAddr, Via};
use signalbox_sip::{Forward, Message, Uri};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

/// Identifiers of dialogs outside calls, sealed for the other side.
const NAMED: Kind = Kind { prefix: "h_", key: b"hidden name", nonce: b"hidden nonce" };

/// Headers that tell of their sender's software, neighbours and other calls, and that nobody needs to answer.
const TELLTALES: [HeaderName; 8] = [
    HeaderName::UserAgent,
    HeaderName::Server,
    HeaderName::Organization,
    HeaderName::Warning,
    HeaderName::InReplyTo,
    HeaderName::PAccessNetworkInfo,
    HeaderName::PChargingVector,
    HeaderName::SessionId,
];

/// Any other byte in them would make them wrong: credentials and challenges, and names of dialogs, which are put into the
/// receiver's words elsewhere.
const UNTOUCHED: [HeaderName; 8] = [
    HeaderName::Replaces,
    HeaderName::Join,
    HeaderName::TargetDialog,
    HeaderName::Authorization,
    HeaderName::ProxyAuthorization,
    HeaderName::WwwAuthenticate,
    HeaderName::ProxyAuthenticate,
    HeaderName::AuthenticationInfo,
];

/// Attributes of a dialog-info document (RFC 4235 §4.1.2) that name a dialog.
const DIALOG_NAMES: [&[u8]; 3] = [b"call-id=\"", b"local-tag=\"", b"remote-tag=\""];

/// Attributes that say where media goes (RFC 8839 §5, RFC 3605).
const MEDIA: [&[u8]; 3] = [b"candidate:", b"remote-candidates:", b"rtcp:"];

/// Headers that say who somebody is: their hosts are of the sender's side, wherever it has them from.
const NAMING: [HeaderName; 6] = [
    HeaderName::Contact,
    HeaderName::From,
    HeaderName::PAssertedIdentity,
    HeaderName::RemotePartyId,
    HeaderName::Diversion,
    HeaderName::ReplyTo,
];

/// Bits of the numbers in `o=`: peers read them as signed.
const NUMBER_MASK: u64 = (1 << 62) - 1;

/// Hosts that are looked for: a message has as many as somebody likes to write, and a body as many words.
const HOSTS_MAX: usize = 16;

/// What of one message is not for its receiver.
#[derive(Debug)]
pub(crate) struct Hiding<'a> {
    /// Names of the sender, and of the edge on the sender's side.
    hosts: SmallVec<[Vec<u8>; 5]>,
    /// What stands in their place.
    instead: &'a [u8],
    key: &'a Secret,
    tenant: &'a str,
}

impl<'a> Hiding<'a> {
    /// Of a message of this tenant that came over `from`.
    pub(crate) fn of<B: AsRef<[u8]>>(
        settings: &'a Settings,
        tenant: &'a str,
        message: &Message<B>,
        from: &Flow,
        instead: &'a str,
    ) -> Self {
        let mut hosts: SmallVec<[Vec<u8>; 5]> = SmallVec::new();
        let mut add = |host: &[u8]| {
            let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
            let names_a_host = bare.contains(&b'.') || bare.contains(&b':');
            let fits = names_a_host && hosts.len() < HOSTS_MAX;
            if fits && bare != instead.as_bytes() && !hosts.iter().any(|known| known == bare) {
                hosts.push(bare.to_owned());
            }
        };
        add(from.remote.ip().to_string().as_bytes());
        add(from.local.ip().to_string().as_bytes());
        for name in NAMING {
            let named = message.values(name).next().and_then(|value| NameAddr::parse(value).ok());
            if let Some(Uri::Sip(uri)) = named.and_then(|named| Uri::parse(named.uri).ok()) {
                add(uri.host);
            }
        }
        let vias = message.all(HeaderName::Via).filter(|_| message.is_request());
        vias.flat_map(|header| ListValues::new(header.value))
            .filter_map(|value| Via::parse(value).ok())
            .for_each(|via| add(via.host));
        Self { hosts, instead: instead.as_bytes(), key: &settings.cluster_key, tenant }
    }

    /// Names edits of headers and body.
    pub(crate) fn edit<B: AsRef<[u8]>>(&self, forward: &mut Forward<'_>, message: &Message<B>) {
        for header in message.headers() {
            if is_telltale(header.id) {
                forward.remove_nth(header.place);
            } else if header.id != HeaderName::Via && !UNTOUCHED.contains(&header.id) {
                for range in self.places(header.value) {
                    forward.replace_part(&header.value[range], self.instead);
                }
            }
        }
        let body = message.body();
        if let Cow::Owned(new) = self.body(message.value(HeaderName::ContentType), body) {
            forward.edit_body(0..body.len(), new.as_slice());
        }
    }

    /// A header's value with other names in it.
    pub(crate) fn value<'v>(&self, name: HeaderName, value: &'v [u8]) -> Cow<'v, [u8]> {
        if UNTOUCHED.contains(&name) { Cow::Borrowed(value) } else { self.renamed(value) }
    }

    /// A body of this type.
    pub(crate) fn body<'v>(&self, kind: Option<&[u8]>, body: &'v [u8]) -> Cow<'v, [u8]> {
        match kind {
            Some(kind) if reads_session(kind) => Cow::Owned(self.description(body)),
            Some(kind) if is_multipart(kind) => {
                self.parts(kind, body).map_or(Cow::Borrowed(body), Cow::Owned)
            }
            Some(kind) if !self.tenant.is_empty() && kind.starts_with(b"application/dialog-info+xml") => {
                Cow::Owned(self.renamed(&self.dialog_info(body)).into_owned())
            }
            _ => self.renamed(body),
        }
    }

    /// A body of several parts (RFC 2046 §5.1), each as one of its type; parts of parts stay.
    fn parts(&self, kind: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let kind = ContentType::parse(kind).ok()?;
        let delimiter = [b"--", &*kind.params.get(b"boundary")?.unquoted()].concat();
        let mut out = Vec::with_capacity(body.len() + 64);
        let mut part: Option<&[u8]> = None;
        for (at, line) in lines(body) {
            if !line.starts_with(&delimiter) {
                continue;
            }
            match part {
                Some(begun) => self.part(&begun[..begun.len() - (body.len() - at)], &mut out),
                None => out.extend_from_slice(&body[..at]),
            }
            out.extend_from_slice(line);
            part = Some(&body[at + line.len()..]);
        }
        // What is behind the last delimiter is for nobody, and a part without an end is none.
        part.map(|_| out)
    }

    fn part(&self, part: &[u8], out: &mut Vec<u8>) {
        let head = lines(part).find(|(_, line)| line.trim_ascii().is_empty());
        let (head, content) = part.split_at(head.map_or(part.len(), |(at, line)| at + line.len()));
        let mut kind = None;
        for (_, line) in lines(head) {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-type") {
                kind = line.get(name.len() + 1..).map(<[u8]>::trim_ascii);
            }
            // It would no longer be as long.
            if !name.eq_ignore_ascii_case(b"content-length") {
                out.extend_from_slice(&self.renamed(line));
            }
        }
        let nested = kind.is_some_and(is_multipart);
        out.extend_from_slice(&if nested { Cow::Borrowed(content) } else { self.body(kind, content) });
    }

    /// The dialogs of a document by their other names, which come back in Replaces of who picks up (RFC 3891).
    fn dialog_info(&self, body: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::with_capacity(body.len() * 2), body);
        while let Some(first) = rest.first() {
            let name = DIALOG_NAMES.iter().find(|name| rest.starts_with(name));
            let value = name.and_then(|name| rest[name.len()..].split(|byte| *byte == b'"').next());
            if let (Some(name), Some(value)) = (name, value) {
                out.extend_from_slice(name);
                out.extend_from_slice(&self.other_name(value));
                rest = &rest[name.len() + value.len()..];
            } else {
                out.push(*first);
                rest = &rest[1..];
            }
        }
        out
    }

    /// Any text with other names in it.
    pub(crate) fn renamed<'v>(&self, text: &'v [u8]) -> Cow<'v, [u8]> {
        let places = self.places(text);
        if places.is_empty() {
            return Cow::Borrowed(text);
        }
        let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
        for place in places {
            out.extend_from_slice(&text[at..place.start]);
            out.extend_from_slice(self.instead);
            at = place.end;
        }
        out.extend_from_slice(&text[at..]);
        Cow::Owned(out)
    }

    /// The same as [`other_name`].
    pub(crate) fn other_name(&self, name: &[u8]) -> Vec<u8> {
        other_name(self.key, self.tenant, name)
    }

    /// Writes both tags and the Call-ID of a request outside calls as the other side knows them. Tags that cannot be read
    /// stay.
    pub(crate) fn rename_dialog<B: AsRef<[u8]>>(&self, forward: &mut Forward<'_>, request: &Message<B>) {
        forward.set_call_id(&*self.other_name(request.call_id()));
        if let Some(tag) = request.from_tag() {
            let _ = forward.set_from_tag(&*self.other_name(tag));
        }
        if let Some(tag) = request.to_tag() {
            let _ = forward.set_to_tag(&*self.other_name(tag));
        }
    }

    /// Where hosts to be hidden stand, with their ports.
    fn places(&self, text: &[u8]) -> SmallVec<[Range<usize>; 2]> {
        let mut found = SmallVec::new();
        let mut at = 0;
        while at < text.len() {
            // Hosts begin where words do, so that a long one is looked at once.
            let begins = at == 0 || !is_host_byte(text[at - 1]) || is_behind_escape(text, at);
            let known = || self.hosts.iter().find_map(|host| host_at(text, at, host));
            // An address is of its sender's side, whoever has it.
            match begins.then(|| address_at(text, at).or_else(known)).flatten() {
                Some(place) => {
                    at = place.end;
                    found.push(place);
                }
                None => at += 1,
            }
        }
        found
    }

    /// A session description that says nothing of who wrote it: its origin is as meaningless as RFC 8829 §5.2.1 has it, and
    /// still the same through a session, its version growing by one with each change (RFC 3264 §8).
    fn description(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len());
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            match line {
                [b'o', b'=', origin @ ..] => self.origin(origin, &mut out),
                [b's', b'=', ..] => out.extend_from_slice(b"s=-\r\n"),
                [b'i' | b'u' | b'e' | b'p', b'=', ..] => {}
                line if line.starts_with(b"a=tool:") => {}
                // Where media goes to stays; other attributes may name their sender.
                [b'a', b'=', attribute @ ..] if !MEDIA.iter().any(|name| attribute.starts_with(name)) => {
                    out.extend_from_slice(&self.renamed(line));
                }
                line => out.extend_from_slice(line),
            }
        }
        out
    }

    fn origin(&self, origin: &[u8], out: &mut Vec<u8>) {
        let mut fields = origin.split(u8::is_ascii_whitespace).skip(1);
        let (id, version) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
        let shift = fnv1a(fnv1a(0, self.key.expose().iter().copied()), id.iter().copied());
        let version = number(version).unwrap_or(0).wrapping_add(shift.rotate_left(17));
        let line = format!("o=- {} {} IN IP4 0.0.0.0\r\n", shift & NUMBER_MASK, version & NUMBER_MASK);
        out.extend_from_slice(line.as_bytes());
    }
}

/// Whether a header goes no further.
pub(crate) fn is_telltale(name: HeaderName) -> bool {
    TELLTALES.contains(&name)
}

/// A Call-ID or tag of a tenant's dialog that the edge keeps nothing of, as its other side knows it: what was sealed for one
/// side opens on its way back, so that both have it over a restart.
pub(crate) fn other_name(key: &Secret, tenant: &str, name: &[u8]) -> Vec<u8> {
    match given_name(key, tenant, name) {
        Cow::Owned(given) => given,
        Cow::Borrowed(name) => NAMED.seal(key, &(tenant, name)).into_bytes(),
    }
}

/// The same as it was given: opened where it was sealed.
pub(crate) fn given_name<'n>(key: &Secret, tenant: &str, name: &'n [u8]) -> Cow<'n, [u8]> {
    match NAMED.open::<(String, Vec<u8>)>(key, name) {
        Some((owner, given)) if owner == tenant => Cow::Owned(given),
        _ => Cow::Borrowed(name),
    }
}

/// The longest text of an address (RFC 4291 §2.2), and a full stop behind it.
const ADDRESS_BYTES: usize = 46;

/// An IP address that begins at this place.
fn address_at(text: &[u8], at: usize) -> Option<Range<usize>> {
    let near = &text[at..text.len().min(at + ADDRESS_BYTES)];
    let run = |of: fn(&u8) -> bool| {
        let run = &near[..near.iter().take_while(|byte| of(byte)).count()];
        run.strip_suffix(b".").unwrap_or(run)
    };
    let v4 = run(|byte| byte.is_ascii_digit() || *byte == b'.');
    let word = match near.get(v4.len()) {
        Some(b':' | b'a'..=b'f' | b'A'..=b'F') => {
            run(|byte| byte.is_ascii_hexdigit() || b".:".contains(byte))
        }
        _ => v4,
    };
    [word, v4].into_iter().find_map(|word| {
        let address: IpAddr = std::str::from_utf8(word).ok()?.parse().ok()?;
        host_at(text, at, word).filter(|_| !address.is_unspecified())
    })
}

/// A host at this place, where a word begins, that is no part of a longer word, with its brackets and port.
fn host_at(text: &[u8], at: usize, host: &[u8]) -> Option<Range<usize>> {
    let end = at + host.len();
    if !text.get(at..end)?.eq_ignore_ascii_case(host) {
        return None;
    }
    let before = at.checked_sub(1).map(|place| text[place]);
    let bracketed = before == Some(b'[') && text.get(end) == Some(&b']');
    let (start, mut end) = if bracketed { (at - 1, end + 1) } else { (at, end) };
    let next = |place: usize| text.get(place).copied().unwrap_or_default();
    let goes_on = is_host_byte(next(end)) && (next(end) != b'.' || is_host_byte(next(end + 1)));
    if !bracketed && goes_on {
        return None;
    }
    let digits = text[end..].iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    if next(end) == b':' && digits > 0 {
        end += 1 + digits;
    }
    Some(start..end)
}

/// Whether what is before this place is an escaped byte (`%40`).
fn is_behind_escape(text: &[u8], at: usize) -> bool {
    at >= 3 && text[at - 3] == b'%' && text[at - 2..at].iter().all(u8::is_ascii_hexdigit)
}

fn is_multipart(kind: &[u8]) -> bool {
    kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}

/// Each line with where it begins and its end.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.split_inclusive(|byte| *byte == b'\n').scan(0, |at, line| {
        let begins = *at;
        *at += line.len();
        Some((begins, line))
    })
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hiding<'a>(key: &'a Secret, hosts: &[&str]) -> Hiding<'a> {
        let hosts = hosts.iter().map(|host| host.as_bytes().to_owned()).collect();
        Hiding { hosts, instead: b"acme.test", key, tenant: "acme" }
    }

    #[test]
    fn given_hosts_in_a_text_then_they_are_named_anew_with_their_ports_and_longer_words_stay() {
        let key = Secret::new(b"k".to_vec());
        let hiding = hiding(&key, &["pbx.local", "2001:db8::1"]);
        for (text, expected) in [
            ("<sip:402@10.0.1.1:5060;x>", "<sip:402@acme.test;x>"),
            ("10.0.1.1 and 10.0.1.1.", "acme.test and acme.test."),
            ("10.0.1.1.5 a-10.0.1.1 1.2.3 0.0.0.0", "10.0.1.1.5 a-10.0.1.1 1.2.3 0.0.0.0"),
            (
                "my-pbx.local http://pbx.local/x pbx.local.net",
                "my-pbx.local http://acme.test/x pbx.local.net",
            ),
            ("sip:a@[2001:db8::1]:5061", "sip:a@acme.test"),
            ("10.0.1.1:", "acme.test:"),
            ("sip:401%4010.0.1.1?X=sip%3apbx.local%3b", "sip:401%40acme.test?X=sip%3aacme.test%3b"),
            (
                "<http://[fd00::7]/x> fd00::7, 2001:DB8:0:0:1:0:0:7.",
                "<http://acme.test/x> acme.test, acme.test.",
            ),
            ("at 10:00:00 ::1 a:b std::x 0:0", "at 10:00:00 acme.test a:b std::x 0:0"),
        ] {
            assert_eq!(String::from_utf8_lossy(&hiding.renamed(text.as_bytes())), expected);
        }
    }

    #[test]
    fn given_a_body_of_parts_then_each_is_as_one_of_its_type() {
        let key = Secret::new(b"k".to_vec());
        let hiding = hiding(&key, &["10.0.1.1"]);
        let part = |head: &str, content: &str| format!("--b-1\r\n{head}\r\n\r\n{content}\r\n");
        let sdp = "v=0\r\no=root 7 1 IN IP4 10.0.1.1\r\ns=PBX\r\nc=IN IP4 10.0.1.1\r\n";
        let body = format!(
            "{}{}--b-1--\r\n",
            part("Content-Type: application/sdp\r\nContent-Length: 65", sdp),
            part("Content-Type: text/plain\r\nContent-ID: <x@10.0.1.1>", "at 10.0.1.1"),
        );
        let shown = hiding.body(Some(b"multipart/mixed;boundary=\"b-1\""), body.as_bytes()).into_owned();
        let shown = String::from_utf8(shown).unwrap();
        let counted = |what: &str| shown.matches(what).count();
        assert_eq!((counted("10.0.1.1"), counted("c=IN IP4 10.0.1.1")), (1, 1), "{shown}");
        assert_eq!((counted("<x@acme.test>"), counted("at acme.test"), counted("s=-")), (1, 1, 1), "{shown}");
        assert_eq!((counted("--b-1"), counted("Content-Length")), (3, 0), "{shown}");
        let without = b"--b-1\r\n10.0.1.1";
        assert_eq!(*hiding.body(Some(b"multipart/mixed"), without), *without, "nobody can read it");
    }

    #[test]
    fn given_a_long_run_of_digits_then_it_is_looked_at_once() {
        let key = Secret::new(b"k".to_vec());
        let hiding = hiding(&key, &["10.0.1.1"]);
        // A million steps, or by a quadratic reading a million times a million: this test would not end.
        for text in ["1".repeat(1 << 20), "1.".repeat(1 << 19), "a:".repeat(1 << 19)] {
            assert_eq!(*hiding.renamed(text.as_bytes()), *text.as_bytes());
        }
    }

    #[test]
    fn given_dialogs_in_a_document_then_they_have_other_names_by_which_they_are_found_again() {
        let key = Secret::new(b"k".to_vec());
        let hiding = hiding(&key, &[]);
        let document = b"<dialog call-id=\"a@10.0.1.1\" local-tag=\"l\"><remote>sip:402@10.0.1.1</remote>";
        let shown = hiding.body(Some(b"application/dialog-info+xml"), document).into_owned();
        let text = String::from_utf8(shown).unwrap();
        assert!(text.ends_with("<remote>sip:402@acme.test</remote>"), "{text}");
        let name = text.split('"').nth(1).unwrap().as_bytes();
        assert_eq!(other_name(&key, "acme", name), b"a@10.0.1.1");
        assert_ne!(other_name(&key, "beta", name), b"a@10.0.1.1", "it is another tenant's");
    }

    #[test]
    fn given_a_description_when_it_changes_then_its_origin_is_of_nobody_and_grows_by_one() {
        let key = Secret::new(b"k".to_vec());
        let hiding = hiding(&key, &["10.0.1.1"]);
        let text = |version: u32| {
            let body = format!(
                "v=0\r\no=root 777 {version} IN IP4 10.0.1.1\r\ns=Asterisk\r\nc=IN IP4 10.0.1.1\r\nt=0 0\r\na=tool:x\r\n"
            );
            let bytes = hiding.body(Some(b"application/sdp; a=b"), body.as_bytes()).into_owned();
            String::from_utf8(bytes).unwrap()
        };
        let (one, two) = (text(7), text(8));
        let numbers = |text: &str| -> Vec<u64> {
            text.lines().nth(1).unwrap().split(' ').filter_map(|field| field.parse().ok()).collect()
        };
        assert_eq!((numbers(&one)[0], numbers(&one)[1] + 1), (numbers(&two)[0], numbers(&two)[1]));
        for gone in ["root", "777", "Asterisk", "a=tool"] {
            assert!(!one.contains(gone), "{one}");
        }
        assert!(
            one.contains("IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 10.0.1.1\r\nt=0 0\r\n"),
            "media goes there: {one}"
        );
    }
}
