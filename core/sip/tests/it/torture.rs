//! Torture messages written from the descriptions in RFC 4475 and RFC 5118, so that they run everywhere.

use crate::{Fate, fate};
use signalbox_sip::header::{ContentType, ListValues};
use signalbox_sip::{HeaderName, Limits, MalformedReason as Reason, Message, Method};

struct Case {
    name: &'static str,
    text: String,
    fate: Fate,
    reason: Option<Reason>,
}

const VIA: &str = "Via: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bKkdj";

/// A request whose parts are ordinary but for what the case is about.
fn request(start: &str, cseq: &str, rest: &str) -> String {
    format!(
        "{start}\r\nTo: sip:j.user@example.com\r\nFrom: sip:caller@example.net;tag=9394\r\nMax-Forwards: 8\r\n\
         Call-ID: case.1@192.0.2.5\r\nCSeq: {cseq}\r\n{VIA}\r\n{rest}\r\n"
    )
}

fn invite(rest: &str) -> String {
    request("INVITE sip:user@example.com SIP/2.0", "8 INVITE", rest)
}

fn accepted(name: &'static str, text: String) -> Case {
    Case { name, text, fate: Fate::Accepted, reason: None }
}

fn refused(name: &'static str, text: String, fate: Fate, reason: Reason) -> Case {
    Case { name, text, fate, reason: Some(reason) }
}

fn valid_messages() -> Vec<Case> {
    let sdp = "v=0\r\no=m 29739 7272939 IN IP4 192.0.2.5\r\ns=-\r\nc=IN IP4 192.0.2.5\r\nt=0 0\r\nm=audio 49217 RTP/AVP 0 12\r\n";
    vec![
        accepted("wsinv 3.1.1.1", wsinv()),
        accepted("intmeth 3.1.1.2", intmeth()),
        accepted(
            "esc01 3.1.1.3",
            request(
                "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
                "1 INVITE",
                "Contact: <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>\r\n",
            ),
        ),
        accepted(
            "escnull 3.1.1.4",
            request(
                "REGISTER sip:example.com SIP/2.0",
                "14398234 REGISTER",
                "Contact: <sip:%00@host5.example.com>\r\nContact: <sip:%00%00@host5.example.com>\r\n",
            ),
        ),
        accepted(
            "esc02 3.1.1.5",
            request(
                "RE%47IST%45R sip:registrar.example.com SIP/2.0",
                "29344 RE%47IST%45R",
                "C%6Fntact: <sip:alias2@host2.example.com>\r\n",
            ),
        ),
        accepted(
            "lwsdisp 3.1.1.6",
            request("OPTIONS sip:user@example.com SIP/2.0", "60 OPTIONS", "")
                .replace("From: sip:caller@example.net", "From: caller<sip:caller@example.com>"),
        ),
        accepted("longreq 3.1.1.7", longreq()),
        accepted(
            "dblreq 3.1.1.8",
            request("REGISTER sip:example.com SIP/2.0", "8 REGISTER", "Content-Length: 0\r\n")
                + "\r\n"
                + &invite(""),
        ),
        accepted(
            "semiuri 3.1.1.9",
            request("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0", "8 OPTIONS", ""),
        ),
        accepted(
            "transports 3.1.1.10",
            request(
                "OPTIONS sip:user@example.com SIP/2.0",
                "60 OPTIONS",
                "Via: SIP/2.0/SCTP t2;branch=z9hG4bKx\r\nVia: SIP/2.0/UNKNOWN t5.example.com;branch=z9hG4bKy\r\n",
            ),
        ),
        accepted(
            "unreason 3.1.1.12",
            invite("").replace(
                "INVITE sip:user@example.com SIP/2.0",
                "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять",
            ),
        ),
        accepted(
            "noreason 3.1.1.13",
            invite("").replace("INVITE sip:user@example.com SIP/2.0", "SIP/2.0 100 "),
        ),
        accepted(
            "unkscm 3.3.2",
            request("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", "3923423 OPTIONS", ""),
        ),
        accepted(
            "novelsc 3.3.3",
            request("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", "3923423 OPTIONS", ""),
        ),
        accepted(
            "bext01 3.3.5",
            request(
                "OPTIONS sip:user@example.com SIP/2.0",
                "8 OPTIONS",
                "Require: nothingSupportsThis, nothingSupportsThisEither\r\nProxy-Require: noProxiesSupportThis\r\n",
            ),
        ),
        accepted(
            "regaut01 3.3.7",
            request(
                "REGISTER sip:example.com SIP/2.0",
                "9338 REGISTER",
                "Authorization: NoOneKnowsThisScheme opaque-data=here\r\n",
            ),
        ),
        accepted("sdp01 3.3.15", invite("Accept: text/nobodyKnowsThis\r\n") + sdp),
        accepted(
            "cparam01 3.3.12",
            request(
                "REGISTER sip:example.com SIP/2.0",
                "2 REGISTER",
                "Contact: sip:+19725552222@gw1.example.net;unknownparam\r\n",
            ),
        ),
        accepted(
            "cparam02 3.3.13",
            request(
                "REGISTER sip:example.com SIP/2.0",
                "3 REGISTER",
                "Contact: <sip:+19725552222@gw1.example.net;unknownparam>\r\n",
            ),
        ),
        accepted(
            "inv2543 3.4.1",
            invite("Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>\r\n")
                .replace(";branch=z9hG4bKkdj", "")
                + sdp,
        ),
        accepted(
            "ipv6 of RFC 5118 4.1, 4.5",
            request(
                "REGISTER sip:[2001:db8::10]:5070 SIP/2.0",
                "9 REGISTER",
                "Contact: <sip:c@[2001:db8::1]>\r\n",
            )
            .replace("192.0.2.5;", "[2001:db8::9:1];received=[2001:db8::9:255];"),
        ),
    ]
}

fn invalid_messages() -> Vec<Case> {
    let answered = Fate::Answered(400);
    let options = |uri: &str| request(&format!("OPTIONS {uri} SIP/2.0"), "8 OPTIONS", "");
    vec![
        Case {
            name: "badinv01 3.1.2.1",
            text: invite("").replace(";branch=z9hG4bKkdj", ";;,;,,"),
            fate: Fate::Unreadable,
            reason: Some(Reason::BadHeader(HeaderName::Via)),
        },
        refused(
            "clerr 3.1.2.2",
            invite("Content-Length: 9999\r\n") + "short",
            answered,
            Reason::BodyTruncated,
        ),
        refused("ncl 3.1.2.3", invite("Content-Length: -999\r\n"), answered, Reason::BadContentLength),
        refused(
            "scalar02 3.1.2.4",
            request("REGISTER sip:example.com SIP/2.0", "36893488147419103232 REGISTER", ""),
            answered,
            Reason::BadCSeq,
        ),
        refused(
            "scalarlg 3.1.2.5",
            request(
                "SIP/2.0 503 Service Unavailable",
                "9292394834772304023312 OPTIONS",
                "Retry-After: 949302838503028349304023988\r\n",
            ),
            Fate::Dropped,
            Reason::BadCSeq,
        ),
        Case {
            name: "quotbal 3.1.2.6",
            text: invite("")
                .replace("To: sip:j.user@example.com", "To: \"Mr. J. User <sip:j.user@example.com>"),
            fate: Fate::Unreadable,
            reason: Some(Reason::BadHeader(HeaderName::To)),
        },
        refused("ltgtruri 3.1.2.7", options("<sip:user@example.com>"), answered, Reason::BadRequestUri),
        refused("lwsruri 3.1.2.8", options("sip:user@example.com; lr"), answered, Reason::BadRequestUri),
        refused("lwsstart 3.1.2.9", options(" sip:user@example.com "), answered, Reason::BadRequestUri),
        refused(
            "trws 3.1.2.10",
            request("OPTIONS sip:user@example.com SIP/2.0  ", "8 OPTIONS", ""),
            answered,
            Reason::BadStartLine,
        ),
        Case {
            name: "regbadct 3.1.2.13",
            text: request(
                "REGISTER sip:example.com SIP/2.0",
                "1 REGISTER",
                "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\r\n",
            ),
            fate: Fate::Unreadable,
            reason: Some(Reason::BadHeader(HeaderName::Contact)),
        },
        refused(
            "badvers 3.1.2.16",
            request("OPTIONS sip:user@example.com SIP/7.0", "8 OPTIONS", ""),
            Fate::Answered(505),
            Reason::BadVersion,
        ),
        refused(
            "mismatch01 3.1.2.17",
            request("OPTIONS sip:user@example.com SIP/2.0", "8 INVITE", ""),
            answered,
            Reason::CSeqMethodMismatch,
        ),
        refused(
            "mismatch02 3.1.2.18",
            request("NEWMETHOD sip:user@example.com SIP/2.0", "8 INVITE", ""),
            answered,
            Reason::CSeqMethodMismatch,
        ),
        refused(
            "bigcode 3.1.2.19",
            request("SIP/2.0 4294967301 better not break the receiver", "8 INVITE", ""),
            Fate::Dropped,
            Reason::BadStatus,
        ),
        refused(
            "insuf 3.3.1",
            format!("INVITE sip:user@example.com SIP/2.0\r\nCSeq: 193942 INVITE\r\n{VIA}\r\n\r\n"),
            Fate::Dropped,
            Reason::Missing(HeaderName::From),
        ),
        refused(
            "multi01 3.3.8",
            invite("Call-ID: multi01.98asdh@192.0.2.2\r\n"),
            answered,
            Reason::Repeated(HeaderName::CallId),
        ),
        refused(
            "mcl01 3.3.9",
            invite("Content-Length: 13\r\nContent-Length: 5\r\n") + "There's no way to know",
            answered,
            Reason::Repeated(HeaderName::ContentLength),
        ),
        Case {
            name: "ipv6-bad of RFC 5118 4.2",
            text: request("REGISTER sip:2001:db8::10 SIP/2.0", "9 REGISTER", ""),
            fate: Fate::Unreadable,
            reason: Some(Reason::BadRequestUri),
        },
    ]
}

fn wsinv() -> String {
    "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\nTO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\n\
     from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\nMaX-fOrWaRdS: 0068\r\n\
     Call-ID: wsinv.ndaksdj@192.0.2.1\r\nContent-Length   : 4\r\ncseq: 0009\r\n  INVITE\r\nVia  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;branch=390skdjuw\r\n\
     s :\r\nNewFangledHeader:   newfangled value\r\n continued newfangled value\r\nUnknownHeaderWithUnusualValue: ;;,,;;,;\r\n\
     Content-Type: application/sdp\r\nRoute:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>\r\n\
     v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n SIP  /    2.0   / UDP  192.168.255.111   ; branch=\r\n z9hG4bK30239\r\n\
     m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33\r\n\r\nbody"
        .to_owned()
}

fn intmeth() -> String {
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    let uri = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~\r\n\
         To: \"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>\r\n\
         From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.\r\n\
         Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}}{{\r\nCSeq: 139122385 {method}\r\nMax-Forwards: 255\r\n\
         extensionHeader-!.%*+_`'~:大停電\r\nContent-Length: 0\r\n\r\n"
    )
}

fn longreq() -> String {
    let via = |n: usize| format!("V: SIP/2.0/TCP sip{n}.example.com;branch=z9hG4bK{}\r\n", "long".repeat(50));
    let vias: String = (0..34).map(via).collect();
    invite(&format!("{vias}Unknown-{}Name: unknown-{}-value\r\n", "Long".repeat(80), "long".repeat(80)))
        .replace("To: sip:", &format!("To: \"{}\" <sip:", "extreme".repeat(60)))
        .replace("j.user@example.com", "j.user@example.com>")
}

#[test]
fn promise_8_messages_of_the_rfcs_meet_their_fate() {
    let cases = valid_messages().into_iter().chain(invalid_messages());
    for case in cases {
        let (got, reason) = fate(case.text.as_bytes());
        assert_eq!((got, reason), (case.fate, case.reason), "{}", case.name);
    }
}

#[test]
fn wsinv_is_understood_down_to_its_parameters() {
    let text = wsinv();
    let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).expect("valid");
    assert_eq!((message.to_tag(), message.from_tag()), (Some(&b"1918181833n"[..]), Some(&b"98asjd8"[..])));
    assert_eq!((message.cseq().number, message.max_forwards()), (9, Some(Ok(68))));
    assert_eq!(message.top_via().expect("good").branch(), Some(&b"390skdjuw"[..]));
    let vias: Vec<_> = message.values(HeaderName::Via).collect();
    assert_eq!(vias.len(), 3);
    assert!(
        message.value(HeaderName::ContentType).is_some_and(|v| ContentType::parse(v).expect("good").is_sdp())
    );
    let contact = message.value(HeaderName::Contact).expect("there");
    let contact = signalbox_sip::header::NameAddr::parse(contact).expect("good");
    assert_eq!((contact.q(), contact.params.value(b"newparam")), (Some(330), Some(&b"newvalue"[..])));
    assert_eq!(ListValues::new(contact.raw).count(), 1);
    assert_eq!(message.body(), b"body");
}

#[test]
fn unusual_methods_keep_their_name() {
    let text = intmeth();
    let message = Message::parse(text.as_bytes(), &Limits::DATAGRAM).expect("valid");
    assert!(matches!(message.method(), Method::Other(_)));
    assert_eq!(message.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
    assert_eq!(message.from_tag(), Some(&b"_token~1'+`*%!-."[..]));
}
