//! Hostile bytes: mutated messages never panic, in any reader.

use rand_like::Random;
use signalbox_sip::digest::{Challenge, Credentials};
use signalbox_sip::header::{
    ContentType, DialogReference, Event, ListValues, NameAddr, RAck, Reason, RetryAfter, SessionExpires,
    SubscriptionState, Via,
};
use signalbox_sip::sdp::{Session, Summary, replace_addresses};
use signalbox_sip::stream::Framer;
use signalbox_sip::uri::equivalent;
use signalbox_sip::{
    Forward, HeaderName, Limits, Message, Method, RequestBuilder, ResponseBuilder, ResponseHead, Uri,
};

const SEEDS: [&str; 3] = [
    "INVITE sip:b@[2001:db8::1]:5060;transport=udp?x=y SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1, SIP/2.0/TCP h\r\n\
     Record-Route: <sip:p1;lr>\r\nRoute: <sip:us;lr>,<sip:next>\r\nMax-Forwards: 70\r\nFrom: \"A \\\"q\" <sip:a@h>;tag=1\r\n\
     To: <sip:b@h>\r\nCall-ID: x@y\r\nCSeq: 1 INVITE\r\nContact: <sip:a@10.0.0.1>;q=0.5;+sip.instance=\"<urn:uuid:1>\"\r\n\
     Session-Expires: 90;refresher=uac\r\nReplaces: a;to-tag=b;from-tag=c\r\nReason: Q.850;cause=16\r\nRAck: 1 2 INVITE\r\n\
     Content-Type: application/sdp\r\nContent-Length: 124\r\n\r\n\
     v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n",
    "REGISTER sip:h SIP/2.0\nv: SIP/2.0/UDP h;branch=z9hG4bK2\nf: sip:a@h;tag=1\nt: sip:a@h\ni: x\nCSeq: 2 REGISTER\nm: *\nExpires: 0\n\
     Authorization: Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"\n\n",
    "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK3;received=192.0.2.1;rport=5\r\nFrom: <sip:a@h>;tag=1\r\nTo: <tel:+1-2>;tag=2\r\n\
     Call-ID: x\r\nCSeq: 3 SUBSCRIBE\r\nEvent: dialog;id=1\r\nSubscription-State: active;expires=5\r\nRetry-After: 5 (a);duration=1\r\n\
     WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth,auth-int\", algorithm=SHA-256\r\n\r\n",
];

/// `count`, scaled by `SIGNALBOX_EFFORT` (a factor, 1 when not set).
pub(crate) fn effort(count: u32) -> u32 {
    let factor =
        std::env::var("SIGNALBOX_EFFORT").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    count.saturating_mul(factor.max(1))
}

/// Reads everything that can be read, and writes what can be written.
fn exercise(bytes: &[u8]) -> bool {
    let mut framer = Framer::new(Limits::DATAGRAM);
    framer.push(bytes);
    while let Ok(Some(_)) = framer.next_frame() {}
    let Ok(message) = Message::parse(bytes, &Limits::DATAGRAM) else {
        if let Some(salvaged) = Message::salvage(bytes, &Limits::DATAGRAM) {
            answer(&salvaged);
        }
        return false;
    };
    let _ = (
        message.validate(),
        message.from(),
        message.to(),
        message.top_via(),
        message.max_forwards(),
        message.method(),
    );
    for header in message.headers() {
        read_value(header.value);
        let _ = message.all(header.id).count();
    }
    let _ = Session::parse(message.body()).map(|session| Summary::of(&session));
    if message.is_request() {
        answer(&message);
    }
    forward(&message);
    true
}

fn read_value(value: &[u8]) {
    for value in ListValues::new(value).chain([value]) {
        let _ = (ContentType::parse(value), Event::parse(value), RAck::parse(value), Reason::parse(value));
        let _ = (RetryAfter::parse(value), SessionExpires::parse(value), SubscriptionState::parse(value));
        let _ = (DialogReference::parse(value), Challenge::parse(value), Credentials::parse(value));
        if let Ok(via) = Via::parse(value) {
            let _ = (via.branch(), via.received(), via.rport(), via.address(), via.known_transport());
        }
        let Ok(address) = NameAddr::parse(value) else { continue };
        let _ =
            (address.tag(), address.q(), address.expires(), address.sip_instance(), address.display_text());
        if let Ok(uri) = Uri::parse(address.uri) {
            assert!(equivalent(&uri, &uri) || address.uri.contains(&b'%') || duplicated_params(&uri));
            if let Uri::Sip(sip) = uri {
                sip.write_aor(&mut Vec::new());
            }
        }
    }
}

/// With two values for one parameter a URI does not even equal itself.
fn duplicated_params(uri: &Uri<'_>) -> bool {
    let params = match uri {
        Uri::Sip(uri) => uri.params,
        Uri::Tel(uri) => uri.params,
        Uri::Other { .. } => return false,
    };
    params
        .into_iter()
        .enumerate()
        .any(|(i, a)| params.into_iter().skip(i + 1).any(|b| a.name.eq_ignore_ascii_case(b.name)))
}

fn answer(request: &Message<&[u8]>) {
    let source = "192.0.2.9:5060".parse().ok();
    let mut out = Vec::new();
    ResponseBuilder::new(
        &mut out,
        request,
        &ResponseHead { status: 180, reason: "Ringing", to_tag: Some(b"t"), source },
    )
    .finish();
    let mut fresh = Vec::new();
    RequestBuilder::new(&mut fresh, Method::Ack, "sip:h").copy(request, HeaderName::Via).finish();
}

/// All edits at once; what comes out must be a message again, whatever went in.
fn forward(message: &Message<&[u8]>) {
    let mut forward = Forward::new(message);
    forward.set_request_uri("sip:next");
    forward.set_status(500, "x");
    forward.insert_first(HeaderName::Via, "SIP/2.0/UDP us;branch=z9hG4bKn");
    forward.insert_first(HeaderName::RecordRoute, "<sip:us;lr>");
    forward.pop_first(HeaderName::Route);
    forward.set(HeaderName::Contact, "<sip:token@us>");
    forward.set_call_id("mapped");
    forward.set_cseq_number(10_001);
    let _ = (forward.decrement_max_forwards(), forward.set_rack_cseq(5));
    let tags = forward.set_from_tag("f").and_then(|()| forward.set_to_tag("t"));
    let body = message.body();
    let to = "192.0.2.77".parse().ok();
    let _ = replace_addresses(body, body, |_| to, &mut forward);
    forward.ensure_content_length();
    let mut out = Vec::new();
    forward.write_into(&mut out);
    let sent = Message::parse(out.as_slice(), &Limits { header_bytes_max: usize::MAX, ..Limits::DATAGRAM });
    let sent = sent.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)));
    assert_eq!((sent.call_id(), sent.cseq().number), (&b"mapped"[..], 10_001));
    assert!(tags.is_err() || (sent.from_tag(), sent.to_tag()) == (Some(b"f"), Some(b"t")));
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const SPICE: &[u8] = b"\r\n\0 \t<>\";,=:@[]%\\(/?.0-\x80\xff";
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] = SPICE[random.below(SPICE.len())],
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes.insert(at, SPICE[random.below(SPICE.len())]),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at.max(8)),
            _ => {
                let end = at + random.below(bytes.len() - at).min(40);
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

#[test]
fn promise_8_mutated_messages_never_panic() {
    let rounds = effort(20_000);
    let mut accepted = 0;
    for seed in 0..rounds {
        let mut random = Random::new(u64::from(seed));
        let mut bytes = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
        mutate(&mut random, &mut bytes);
        let outcome = std::panic::catch_unwind(|| exercise(&bytes));
        accepted += u32::from(outcome.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii())));
    }
    assert!(SEEDS.iter().all(|seed| exercise(seed.as_bytes())), "the seeds themselves are acceptable");
    assert!(
        accepted > rounds / 10 && accepted < rounds,
        "{accepted} of {rounds} accepted: the mutations miss their mark"
    );
}

#[test]
fn promise_8_bytes_that_were_never_sip_never_panic() {
    for seed in 0..effort(2_000) {
        let mut random = Random::new(u64::from(seed));
        let len = random.below(300);
        let bytes: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
        assert!(!exercise(&bytes), "seed {seed}");
    }
}

mod rand_like {
    //! A small seeded generator (SplitMix64), so that a failing seed can be run again anywhere.

    pub(super) struct Random(u64);

    impl Random {
        pub(super) fn new(seed: u64) -> Self {
            Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        }

        /// From 0 to `bound - 1`; 0 when `bound` is 0.
        pub(super) fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
        }
    }
}
