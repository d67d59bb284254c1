//! What fuzzing begins from: the RFCs' messages, and more that our own readers read.

use crate::{rfc4475, rfc5118};

const REQUESTS: [&str; 4] = [
    "INVITE sip:b@[2001:db8::1]:5060;transport=udp SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK1, SIP/2.0/TCP h\r\n\
     Record-Route: <sip:p1;lr>\r\nRoute: <sip:us;lr>,<sip:next>\r\nMax-Forwards: 70\r\nFrom: \"A \\\"q\" <sip:a@h>;tag=1\r\n\
     To: <sip:b@h>\r\nCall-ID: x@y\r\nCSeq: 1 INVITE\r\nContact: <sip:a@10.0.0.1>;q=0.5;+sip.instance=\"<urn:uuid:1>\"\r\n\
     Session-Expires: 90;refresher=uac\r\nReplaces: a;to-tag=b;from-tag=c\r\nReason: Q.850;cause=16\r\nRAck: 1 2 INVITE\r\n\
     Content-Type: application/sdp\r\n\r\nv=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n",
    "REGISTER sip:h SIP/2.0\nv: SIP/2.0/UDP h;branch=z9hG4bK2\nf: sip:a@h;tag=1\nt: sip:a@h\ni: x\nCSeq: 2 REGISTER\nm: *\nExpires: 0\n\
     Authorization: Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"\n\n",
    "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK3;received=192.0.2.1;rport=5\r\nFrom: <sip:a@h>;tag=1\r\nTo: <tel:+1-2>;tag=2\r\n\
     Call-ID: x\r\nCSeq: 3 SUBSCRIBE\r\nEvent: dialog;id=1\r\nSubscription-State: active;expires=5\r\nRetry-After: 5 (a);duration=1\r\n\
     WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth,auth-int\", algorithm=SHA-256\r\n\r\n",
    "NOTIFY sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK4\r\nFrom: <sip:b@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: n\r\n\
     CSeq: 7 NOTIFY\r\nEvent: presence\r\nSubscription-State: terminated;reason=noresource\r\nX: \"un<closed\r\nl: 0\r\n\r\n",
];

/// Whole messages.
#[must_use]
pub fn messages() -> Vec<Vec<u8>> {
    let tortures = rfc4475::all().into_iter().chain(rfc5118::all()).map(|torture| torture.bytes);
    tortures.chain(REQUESTS.iter().map(|text| text.as_bytes().to_vec())).collect()
}

/// Messages one behind the other, with keep-alives, as connections have them. The first byte says how they are cut.
#[must_use]
pub fn streams() -> Vec<Vec<u8>> {
    let framed: Vec<Vec<u8>> =
        messages().into_iter().filter(|m| m.windows(8).any(|w| w == b"Length: ")).collect();
    let pings = [&b"\r\n\r\n"[..], b"\r\n", b""];
    framed
        .chunks(3)
        .zip((1..).zip(pings.iter().cycle()))
        .map(|(c, (n, ping))| {
            let parts: Vec<&[u8]> = c.iter().flat_map(|message| [*ping, message.as_slice()]).collect();
            [&[n][..], &parts.concat()].concat()
        })
        .collect()
}

/// Session descriptions.
#[must_use]
pub fn sessions() -> Vec<Vec<u8>> {
    let own = [
        crate::text::SDP,
        "v=0\no=a 1 2 IN IP6 2001:db8::1\ns=\nc=IN IP6 2001:db8::1\nt=0 0\na=inactive\nm=audio 0 RTP/SAVPF 111 8 101\n\
         c=IN IP4 0.0.0.0\na=rtpmap:111 opus/48000/2\na=rtpmap:101 telephone-event/8000\na=rtcp:9 IN IP4 0.0.0.0\n",
        "v=0\r\no=- 9 9 IN IP4 h.example.com\r\ns=-\r\nc=IN IP4 224.2.1.1/127/3\r\nb=AS:64\r\nt=0 0\r\na=sendonly\r\n\
         m=image 4002/2 udptl t38\r\na=recvonly\r\nm=video 5004 RTP/AVP 31 32\r\ni=x\r\na=candidate:1 1 UDP 1 10.0.0.1 9 typ host\r\n",
    ];
    own.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// URIs, two of them with a line between.
#[must_use]
pub fn uris() -> Vec<Vec<u8>> {
    let own = [
        "sip:alice:secret@atlanta.com:5061;transport=tcp;lr?subject=project%20x&priority=urgent\nsip:alice@AtLanTa.CoM;Transport=tcp",
        "sips:%61lice;day=tuesday@[2001:db8::9:1]\nsip:+1-212-555-1212:1234@gateway.com;user=phone",
        "tel:+1-201-555-0123;phone-context=example.com;ext=7\ntel:7042;phone-context=+1914",
        "urn:service:sos.fire\nsip:a@[2001:db8:::192.0.2.1]",
        "sip:%00%00@h;x=\"<>\"\nsip:u;par=u%40example.net@h",
        "http://x\nsip:@h",
    ];
    own.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Challenges and credentials.
#[must_use]
pub fn digests() -> Vec<Vec<u8>> {
    let own = [
        "Digest realm=\"a\\\"b\", nonce=\"dcd98b\", opaque=\"5ccc\", stale=TRUE, algorithm=MD5, qop=\"auth,auth-int\"",
        "Digest realm=\"r\",nonce=\"n\",algorithm=SHA-256-sess,qop=auth",
        "Digest username=\"Mufasa\", realm=\"r\", nonce=\"n\", uri=\"sip:h\", qop=auth, nc=00000001, cnonce=\"0a4f\", \
         response=\"6629fae49393a05397450978507c4ef1\", opaque=\"\", algorithm=SHA-256",
        "Digest username*=UTF-8''J%C3%A4s, realm=, nonce=n,, response=\"\"",
        "NoOneKnowsThisScheme opaque-data=here",
    ];
    own.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Scripts for the engine with a hostile peer; `targets::engine` says how they are read.
#[must_use]
pub fn scripts() -> Vec<Vec<u8>> {
    let head = |method: &str, n: u32| {
        format!(
            "{method} sip:402@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n\
             From: <sip:401@example.com>;tag=1\r\nTo: <sip:402@example.com>\r\nCall-ID: c\r\nCSeq: {n} {method}\r\n\
             Contact: <sip:401@198.51.100.10>\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let register =
        head("REGISTER", 1).replace("sip:402@example.com", "sip:401@example.com").replacen("401@", "", 1);
    let inside =
        |text: String| text.replace("To: <sip:402@example.com>", "To: <sip:402@example.com>;tag=pbx");
    let to_edge = |text: String| text.replace("sip:402@example.com SIP", "{d} SIP");
    let own = [
        format!(
            "P{register}\u{1}Rc\u{1}B{}\u{1}Qc\u{1}W\u{7}",
            head("INVITE", 5).replace("sip:402@example.com SIP", "{c} SIP")
        ),
        format!(
            "P{}\u{1}RA\u{1}Rc\u{1}P{}\u{1}W\u{8}\u{1}P{}\u{1}Rc",
            head("INVITE", 1),
            to_edge(inside(head("ACK", 1))),
            to_edge(inside(head("BYE", 2)))
        ),
        format!("P{}\u{1}RA\u{1}P{}\u{1}Rr\u{1}W\u{10}", head("INVITE", 1), head("CANCEL", 1)),
        format!(
            "P{}\u{1}Rc\u{1}B{}\u{1}Qc",
            head("SUBSCRIBE", 1),
            head("NOTIFY", 2).replace("sip:402@example.com SIP", "{c} SIP")
        ),
        format!("S{}\u{1}6{}\u{1}S{}", head("INVITE", 1), head("OPTIONS", 2), head("BYE", 3)),
        format!("P{}\u{1}Rs\u{1}P{}\u{1}RI\u{1}W\u{e}", head("INVITE", 1), head("INVITE", 2)),
        format!(
            "\u{2}T{}\u{1}RA\u{1}Rc\u{1}W\u{4}\u{1}T{}",
            head("INVITE", 1).replace("sip:402@example.com SIP", "sip:+442079460001@192.0.2.1 SIP"),
            to_edge(inside(head("BYE", 2)))
        ),
        format!(
            "\u{2}B{}\u{1}UA\u{1}Uc\u{1}B{}\u{1}W\u{8}",
            head("INVITE", 1).replace("sip:402@example.com SIP", "sip:+4930123456@example.com SIP"),
            inside(head("INFO", 2)).replace("sip:402@example.com SIP", "{c} SIP")
        ),
        format!(
            "\u{2}P{register}\u{1}Rc\u{1}P{}\u{1}Us\u{1}B{}\u{1}QA\u{1}Qc",
            head("INVITE", 3).replace("sip:402@example.com SIP", "sip:+88212345678@example.com SIP"),
            head("INVITE", 4).replace("sip:402@example.com SIP", "sip:600@example.com SIP")
        ),
    ];
    let tortures = rfc4475::all().into_iter().chain(rfc5118::all());
    let single = tortures.map(|torture| [b"P", torture.bytes.as_slice(), b"\x01Rc"].concat());
    own.iter().map(|text| text.as_bytes().to_vec()).chain(single).collect()
}
