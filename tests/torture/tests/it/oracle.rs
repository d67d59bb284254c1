//! Another's parser (sipx-sip) is asked what it reads: on good and on mutated messages it must read what we read, or the
//! difference has a name here, and a reason.

use crate::say;
use signalbox_actors::Random;
use signalbox_sip::header::{NameAddr, Via, address};
use signalbox_sip::{HeaderName, Limits, MalformedReason as Reason, Message};
use signalbox_torture::{mutate::mutate, seeds::messages};
use signalbox_world::seeds;
use std::collections::BTreeMap;

/// Messages compared, before effort.
const ROUNDS: u64 = 30_000;

/// Transport, host, port and branch of a Via.
type Hop = (Vec<u8>, String, Option<u16>, Vec<u8>);

/// What of a message decides where it goes and to whom it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    /// Method and Request-URI, or the status.
    start: (Vec<u8>, Vec<u8>),
    vias: Vec<Hop>,
    /// URI and tag.
    from: (Vec<u8>, Vec<u8>),
    to: (Vec<u8>, Vec<u8>),
    call_id: Vec<u8>,
    cseq: (u32, Vec<u8>),
    /// URIs; a star is one.
    contacts: Vec<Vec<u8>>,
    body: Vec<u8>,
}

/// A host as compared: an address by value, a name without case.
fn host(raw: &[u8]) -> String {
    let name = || String::from_utf8_lossy(raw).to_ascii_lowercase();
    address(raw).map_or_else(name, |ip| ip.to_string())
}

fn ours(bytes: &[u8]) -> Result<View, Reason> {
    let message = Message::parse(bytes, &Limits::DATAGRAM).map_err(|malformed| malformed.reason)?;
    message.validate().map_err(|malformed| malformed.reason)?;
    let via = |value| {
        let via = Via::parse(value).expect("it was validated");
        (
            via.transport.to_ascii_uppercase(),
            host(via.host),
            via.port,
            via.branch().unwrap_or_default().to_vec(),
        )
    };
    let who = |name: NameAddr<'_>| (name.uri.to_vec(), name.tag().unwrap_or_default().to_vec());
    let contact = |value: &[u8]| match value {
        b"*" => b"*".to_vec(),
        value => NameAddr::parse(value).expect("it was validated").uri.to_vec(),
    };
    Ok(View {
        start: match message.status() {
            Some(status) => (status.to_string().into_bytes(), Vec::new()),
            None => {
                (message.method().as_bytes().to_vec(), message.request_uri().unwrap_or_default().to_vec())
            }
        },
        vias: message.values(HeaderName::Via).map(via).collect(),
        from: message.from().map(who).expect("it was validated"),
        to: message.to().map(who).expect("it was validated"),
        call_id: message.call_id().to_vec(),
        cseq: (message.cseq().number, message.cseq().method.to_vec()),
        contacts: message.values(HeaderName::Contact).map(contact).collect(),
        body: message.body().to_vec(),
    })
}

/// The same as the other reads it; lazily, so that what it refuses is told by field.
fn theirs(bytes: &[u8]) -> Result<View, String> {
    use sipx_sip::headers as h;
    let message = sipx_sip::parse_datagram(bytes.to_vec().into(), &sipx_sip::Limits::datagram())
        .map_err(|error| format!("frame: {error}"))?;
    let headers = message.headers();
    let values = |name: sipx_sip::HeaderName| -> Vec<Vec<u8>> {
        headers.get_all(&name).map(|header| header.value().into_owned()).collect()
    };
    let one = |name: sipx_sip::HeaderName| {
        values(name.clone()).into_iter().next().ok_or_else(|| format!("missing: {name}"))
    };
    let who = |name: sipx_sip::HeaderName, label| {
        let address = h::Address::parse(&one(name)?, label).map_err(|error| format!("{label}: {error}"))?;
        let tag = address.tag().unwrap_or_default().to_vec();
        Ok::<_, String>((address.uri.to_bytes().to_vec(), tag))
    };
    let mut vias = Vec::new();
    for value in values(sipx_sip::HeaderName::Via) {
        for via in sipx_sip::Via::parse_list(&value).map_err(|error| format!("Via: {error}"))? {
            let branch = via.branch().unwrap_or_default().to_vec();
            vias.push((via.transport.to_ascii_uppercase(), host(&via.host.to_bytes()), via.port, branch));
        }
    }
    let mut contacts = Vec::new();
    for value in values(sipx_sip::HeaderName::Contact) {
        if value == b"*" {
            contacts.push(value);
            continue;
        }
        let all = h::Address::parse_list(&value, "Contact").map_err(|error| format!("Contact: {error}"))?;
        contacts.extend(all.iter().map(|contact| contact.uri.to_bytes().to_vec()));
    }
    let cseq = headers
        .typed::<sipx_sip::CSeq>()
        .ok_or("missing: CSeq")?
        .map_err(|error| format!("CSeq: {error}"))?;
    let start = match &message {
        sipx_sip::Message::Request(request) => {
            (request.method.as_bytes().to_vec(), request.uri.to_bytes().to_vec())
        }
        sipx_sip::Message::Response(response) => {
            (response.status.code().to_string().into_bytes(), Vec::new())
        }
    };
    Ok(View {
        start,
        vias,
        from: who(sipx_sip::HeaderName::From, "From")?,
        to: who(sipx_sip::HeaderName::To, "To")?,
        call_id: one(sipx_sip::HeaderName::CallId)?,
        cseq: (cseq.sequence, cseq.method.as_bytes().to_vec()),
        contacts,
        body: message.body().to_vec(),
    })
}

/// Where we refuse what the other takes, and why. It reads lazily: what it was not asked for is not looked at.
fn why_we_refuse(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Repeated(_) => {
            "two of what there may be one of: the next hop may take the other (RFC 4475 §3.3.8)"
        }
        Reason::Missing(_) => "a mandatory header is missing or empty (RFC 3261 §8.1.1)",
        Reason::CSeqMethodMismatch | Reason::BadCSeq => {
            "CSeq is checked when a message is parsed (RFC 4475 §3.1.2.17)"
        }
        Reason::BadVersion => {
            "a version other than 2.0 is refused when a message is parsed (RFC 4475 §3.1.2.16)"
        }
        Reason::BadStartLine => "the other takes any version, SIP or not",
        Reason::BadRequestUri => {
            "headers in a Request-URI (RFC 4475 §3.1.2.11), or what makes two readers of one URI"
        }
        Reason::Nul => "a NUL that is not escaped ends the text of readers in C",
        Reason::BadHeader(_) => {
            "a header that the other was not asked for, a second branch, an empty or second tag"
        }
        Reason::BareCr | Reason::BadHeaderLine | Reason::TooManyVias | Reason::UriTooLong => {
            "a limit or a line that the other has not"
        }
        _ => return None,
    })
}

/// What the other refuses, by its words, and why we take it.
const WHY_WE_ACCEPT: [(&str, &str); 14] = [
    (
        "no blank line after headers",
        "line ends of LF alone, and a head that ends with the datagram, are met in the wild",
    ),
    ("bare CR or LF", "line ends of LF alone are met in the wild"),
    ("malformed start line: empty", "line ends before a message are no part of it (RFC 3261 §7.5)"),
    ("repeated Content-Length", "the same length twice says one thing"),
    ("illegal character in URI", "a URI is carried as it came; what cannot be looked up is not found"),
    ("invalid SIP URI user part", "a URI is carried as it came; what cannot be looked up is not found"),
    ("invalid character in host", "brackets are a host, whatever is in them: it is nobody's address"),
    ("malformed percent escape", "a percent sign that escapes nothing stands for itself (RFC 4475 §3.1.1.5)"),
    ("empty parameter name", "a question mark with nothing behind it adds nothing"),
    ("invalid port", "blanks may stand around the colon (RFC 3261 §25.1 COLON)"),
    ("unterminated quoted string", "a quote inside brackets quotes nothing"),
    ("malformed From header", "display names and parameters with odd characters (RFC 4475 §3.1.2.15)"),
    ("malformed To header", "display names and parameters with odd characters (RFC 4475 §3.1.2.15)"),
    ("malformed", "parameters with odd characters in Via and Contact are carried as they came"),
];

/// The name of a difference between two who both take the message; none is a bug of one of them.
fn why_both_differ(ours: &View, theirs: &View) -> Option<&'static str> {
    let unfolded = |call_id: &[u8]| {
        call_id.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(&b' ')
    };
    let same_but = View { call_id: theirs.call_id.clone(), ..ours.clone() };
    (same_but == *theirs && unfolded(&ours.call_id) == unfolded(&theirs.call_id)).then_some(
        "a folded Call-ID is compared byte by byte, fold included: it has no blanks by its grammar",
    )
}

/// `Ok` with the name of the difference, none when they agree.
fn compare(bytes: &[u8]) -> Result<Option<&'static str>, String> {
    let named = |name: Option<&'static str>, what: String| name.map(Some).ok_or(what);
    match (ours(bytes), theirs(bytes)) {
        (Err(_), Err(_)) => Ok(None),
        (Ok(ours), Ok(theirs)) if ours == theirs => Ok(None),
        (Ok(ours), Ok(theirs)) => {
            named(why_both_differ(&ours, &theirs), format!("{ours:?}\nis not\n{theirs:?}"))
        }
        (Err(reason), Ok(_)) => named(why_we_refuse(reason), format!("only we refuse: {reason}")),
        (Ok(_), Err(error)) => {
            let known = WHY_WE_ACCEPT.iter().find(|(words, _)| error.contains(words));
            named(known.map(|(_, why)| *why), format!("only the other refuses: {error}"))
        }
    }
}

#[test]
fn given_good_and_mutated_messages_when_another_parser_reads_them_then_it_agrees_or_the_difference_has_a_name()
 {
    let begin = messages();
    let mut differences: BTreeMap<&str, usize> = BTreeMap::new();
    let mut count = 0;
    let mut check = |bytes: &[u8], what: &str| {
        count += 1;
        match compare(bytes) {
            Ok(name) => name.into_iter().for_each(|name| *differences.entry(name).or_default() += 1),
            Err(unnamed) => panic!("{what}: {unnamed}\n\"{}\"", bytes.escape_ascii()),
        }
    };
    begin.iter().enumerate().for_each(|(n, bytes)| check(bytes, &format!("message {n}")));
    for seed in seeds(ROUNDS) {
        let mut dice = Random::new(seed);
        let (bytes, other) = (dice.pick(&begin).clone(), dice.pick(&begin).clone());
        check(&mutate(&bytes, &other, &mut dice), &format!("seed {seed}"));
    }
    let differ: usize = differences.values().sum();
    say(&format!(
        "oracle: {count} messages, {} agreed upon, {differ} differ by {} named reasons:",
        count - differ,
        differences.len()
    ));
    differences.iter().for_each(|(name, times)| say(&format!("oracle: {times:>6} × {name}")));
    assert!(count < 100 || differ * 5 < count, "they hardly read the same language");
}

#[test]
fn given_two_messages_that_differ_where_it_matters_then_the_oracle_would_tell() {
    let bytes = &messages()[2];
    let view = ours(bytes).expect("a good message");
    assert_eq!(theirs(bytes).as_ref(), Ok(&view));
    let other = View { to: (b"sip:other@example.com".to_vec(), Vec::new()), ..view.clone() };
    assert_eq!(why_both_differ(&view, &other), None);
    assert_eq!(why_both_differ(&view, &View { call_id: b"other".to_vec(), ..view.clone() }), None);
}
