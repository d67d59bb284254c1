//! Section 3.1.1: messages that are valid, however they look.

use crate::text::{SDP, Torture, lines, request, with_body};

pub(super) fn all() -> Vec<Torture> {
    vec![
        Torture::new("3.1.1.1", "wsinv", wsinv()),
        Torture::new("3.1.1.2", "intmeth", intmeth()),
        Torture::new("3.1.1.3", "esc01", esc01()),
        Torture::new("3.1.1.4", "escnull", escnull()),
        Torture::new("3.1.1.5", "esc02", esc02()),
        Torture::new("3.1.1.6", "lwsdisp", lwsdisp()),
        Torture::new("3.1.1.7", "longreq", longreq()),
        Torture::new("3.1.1.8", "dblreq", dblreq()),
        Torture::new("3.1.1.9", "semiuri", semiuri()),
        Torture::new("3.1.1.10", "transports", transports()),
        Torture::new("3.1.1.11", "mpart01", mpart01()),
        Torture::new("3.1.1.12", "unreason", unreason()),
        Torture::new("3.1.1.13", "noreason", noreason()),
    ]
}

/// Blanks and folds wherever they may be, empty and unknown headers, names in every case, escapes in a display name.
fn wsinv() -> String {
    let head = [
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0",
        "TO :",
        " sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n",
        "from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>",
        "  ;",
        "  tag = 98asjd8",
        "MaX-fOrWaRdS: 0068",
        "Call-ID: wsinv.own@198.51.100.10",
    ];
    let tail = [
        "cseq: 0009",
        "  INVITE",
        "Via  : SIP  /   2.0",
        " /UDP",
        "    198.51.100.10;branch=390skdjuw",
        "s :",
        "NewFangledHeader:   newfangled value",
        " continued newfangled value",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;",
        "Content-Type: application/sdp",
        "Route:",
        " <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;",
        "  branch  =   z9hG4bK9ikj8  ,",
        " SIP  /    2.0   / UDP  192.168.255.111   ; branch=",
        " z9hG4bK30239",
        "m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =",
        "      newvalue ;",
        "  secondparam ; q = 0.33",
    ];
    let length = format!("Content-Length   : {}", SDP.len());
    lines(&[&head[..], &[&length], &tail].concat()) + SDP
}

/// Every character that a method, a user, a display name, a tag, a Call-ID and a header's name may have.
fn intmeth() -> String {
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    let uri = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
    lines(&[
        &format!("{method} {uri} SIP/2.0"),
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK-.!%66*_+`'~",
        "To: \"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>",
        "From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"работающий\";tag=_token~1'+`*%!-.",
        "Call-ID: intmeth.own%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
        &format!("CSeq: 139122385 {method}"),
        "Max-Forwards: 255",
        "extensionHeader-!.%*+_`'~:\u{fe}大停電",
        "Content-Length: 0",
    ])
}

/// Escapes in a user that would be another URI if they were undone, and in parameters' names.
fn esc01() -> String {
    with_body(
        &[
            "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0",
            "To: sip:%75se%72@example.com",
            "From: <sip:I%20have%20spaces@example.net>;tag=938",
            "Max-Forwards: 87",
            "i: esc01.own@198.51.100.10",
            "CSeq: 234234 INVITE",
            "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKesc01",
            "C: application/sdp",
            "Contact: <sip:cal%6Cer@198.51.100.10;%6C%72;n%61me=v%61lue%25%34%31>",
        ],
        SDP,
    )
}

/// Escaped NUL characters are characters of a user like others: two bindings.
fn escnull() -> String {
    lines(&[
        "REGISTER sip:example.com SIP/2.0",
        "To: sip:null-%00-null@example.com",
        "From: sip:null-%00-null@example.com;tag=839923423",
        "Max-Forwards: 70",
        "Call-ID: escnull.own@198.51.100.10",
        "CSeq: 14398234 REGISTER",
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKescnull",
        "Contact: <sip:%00@198.51.100.10>",
        "Contact: <sip:%00%00@198.51.100.10>",
        "L:0",
    ])
}

/// Percent signs that are no escapes: this method is not REGISTER, and that header is no Contact.
fn esc02() -> String {
    lines(&[
        "RE%47IST%45R sip:registrar.example.com SIP/2.0",
        "To: \"%Z%45\" <sip:resource@example.com>",
        "From: \"%Z%45\" <sip:resource@example.com>;tag=f232jadfj23",
        "Call-ID: esc02.own@198.51.100.10",
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK209%fzsnel234",
        "CSeq: 29344 RE%47IST%45R",
        "Max-Forwards: 70",
        "Contact: <sip:alias1@198.51.100.10>",
        "C%6Fntact: <sip:alias2@198.51.100.11>",
        "Contact: <sip:alias3@198.51.100.12>",
        "l: 0",
    ])
}

/// No blank between a display name and its bracket.
fn lwsdisp() -> String {
    request("lwsdisp", "OPTIONS sip:user@example.com SIP/2.0", "60 OPTIONS", &[])
        .replace("From: <sip:caller@example.net>", "From: caller<sip:caller@example.com>")
}

/// Long values everywhere, 34 Vias.
fn longreq() -> String {
    let via = |n: usize| format!("V: SIP/2.0/TCP sip{n}.example.com;branch=z9hG4bK{}", "long".repeat(50));
    let mut vias: Vec<_> = (0..33).map(via).collect();
    vias[16] = "v :  SIP/2.0/TCP sip16.example.com".to_owned();
    let long = |word: &str| word.repeat(40);
    let user = format!("user{}", long("with.a.long.name"));
    let mut head = vec![
        "INVITE sip:user@example.com SIP/2.0".to_owned(),
        format!("To: \"{}\" <sip:{user}@example.com>;p{}=v", long("I have a user name of "), long("name")),
        format!("F: sip:caller@example.net;tag={};{}", long("12982424"), long("unknown")),
        "Call-ID: longreq.".to_owned() + &long("really") + "@198.51.100.10",
        "CSeq: 3882340 INVITE".to_owned(),
        format!("Unknown-{}-Name: unknown-{}-value", long("Long"), long("long")),
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKlongreq".to_owned(),
    ];
    head.append(&mut vias);
    head.push("Max-Forwards: 70".to_owned());
    head.push(format!("Contact: <sip:{}@198.51.100.10>", long("amazinglylongcallername")));
    head.push("Content-Type: application/sdp".to_owned());
    with_body(&head.iter().map(String::as_str).collect::<Vec<_>>(), SDP)
}

/// A datagram with a request behind the request: what Content-Length leaves over is nobody's.
fn dblreq() -> String {
    lines(&[
        "REGISTER sip:example.com SIP/2.0",
        "To: sip:j.user@example.com",
        "From: sip:j.user@example.com;tag=43251j3j324",
        "Max-Forwards: 8",
        "I: dblreq.own@198.51.100.10",
        "Contact: sip:j.user@198.51.100.10",
        "CSeq: 8 REGISTER",
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKdblreq1",
        "Content-Length: 0",
    ]) + "\r\n"
        + &with_body(
            &[
                "INVITE sip:joe@example.com SIP/2.0",
                "t: sip:joe@example.com",
                "From: sip:caller@example.net;tag=141334",
                "Max-Forwards: 8",
                "Call-ID: dblreq.other@198.51.100.10",
                "CSeq: 8 INVITE",
                "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKdblreq2",
                "Content-Type: application/sdp",
            ],
            SDP,
        )
}

/// The semicolon, what is behind it, and the escaped at-sign belong to the user.
fn semiuri() -> String {
    request(
        "semiuri",
        "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0",
        "8 OPTIONS",
        &["Accept: application/sdp, application/pkcs7-mime,", "        multipart/mixed, message/sip"],
    )
}

/// Vias with transports that nobody has to know.
fn transports() -> String {
    request(
        "transports",
        "OPTIONS sip:user@example.com SIP/2.0",
        "60 OPTIONS",
        &[
            "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKkdjuw",
            "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK29dkw",
            "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKsd9s",
            "Via: SIP/2.0/TCP t5.example.com;branch=z9hG4bK38djs",
        ],
    )
}

/// A body of several parts, one of them binary; nothing in it is a header or a line end.
fn mpart01() -> Vec<u8> {
    let mut body = b"--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n\
        Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        .to_vec();
    body.extend(0..=255_u8);
    body.extend_from_slice(b"\r\n\r\n\0\rVia: no header\r\n--7a9cbec02ceef655--\r\n");
    let head = [
        "MESSAGE sip:kumiko@example.org SIP/2.0",
        "v: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK-d87543-mpart",
        "Max-Forwards: 70",
        "Route: <sip:192.0.2.1;lr>",
        "f: \"Fluffy\" <sip:fluffy@example.com>;tag=2fb0dcc9",
        "t: <sip:kumiko@example.org>",
        "i: mpart01.own@198.51.100.10",
        "CSeq: 1 MESSAGE",
        "Content-Type: multipart/mixed;boundary=7a9cbec02ceef655",
        &format!("l: {}", body.len()),
    ];
    [lines(&head).into_bytes(), body].concat()
}

/// A reason phrase in UTF-8.
fn unreason() -> String {
    request(
        "unreason",
        "SIP/2.0 200 = 2**3 * 5**2 но сто девяносто девять - простое",
        "35 INVITE",
        &["Contact: <sip:user@host198.example.com>"],
    )
}

/// A status line may end with the blank behind its code.
fn noreason() -> String {
    request("noreason", "SIP/2.0 100 ", "35 INVITE", &[])
}
