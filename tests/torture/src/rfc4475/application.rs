//! Sections 3.3 and 3.4: messages that are well formed and ask for something odd.

use crate::text::{SDP, Torture, invite, lines, request, with_body};

pub(super) fn all() -> Vec<Torture> {
    let user = "INVITE sip:user@example.com SIP/2.0";
    let options = "OPTIONS sip:user@example.com SIP/2.0";
    vec![
        Torture::new("3.3.1", "insuf", insuf()),
        Torture::new(
            "3.3.2",
            "unkscm",
            request(
                "unkscm",
                "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0",
                "3923423 OPTIONS",
                &[],
            ),
        ),
        Torture::new(
            "3.3.3",
            "novelsc",
            request("novelsc", "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", "3923423 OPTIONS", &[]),
        ),
        Torture::new("3.3.4", "unksm2", unksm2()),
        Torture::new(
            "3.3.5",
            "bext01",
            request(
                "bext01",
                options,
                "8 OPTIONS",
                &[
                    "Require: nothingSupportsThis, nothingSupportsThisEither",
                    "Proxy-Require: noProxiesSupportThis, norDoAnyProxiesSupportThis",
                ],
            ),
        ),
        Torture::new("3.3.6", "invut", invut()),
        Torture::new(
            "3.3.7",
            "regaut01",
            register(
                "regaut01",
                "9338",
                &[
                    "Contact: <sip:user@198.51.100.10>",
                    "Authorization: NoOneKnowsThisScheme opaque-data=here",
                ],
            ),
        ),
        Torture::new("3.3.8", "multi01", multi01()),
        Torture::new("3.3.9", "mcl01", mcl01()),
        Torture::new("3.3.10", "bcast", bcast()),
        Torture::new(
            "3.3.11",
            "zeromf",
            request("zeromf", options, "39234321 OPTIONS", &[])
                .replace("Max-Forwards: 70", "Max-Forwards: 0"),
        ),
        Torture::new(
            "3.3.12",
            "cparam01",
            register("cparam01", "2", &["Contact: sip:+19725552222@198.51.100.10;unknownparam"]),
        ),
        Torture::new(
            "3.3.13",
            "cparam02",
            register("cparam02", "3", &["Contact: <sip:+19725552222@198.51.100.10;unknownparam>"]),
        ),
        Torture::new(
            "3.3.14",
            "regescrt",
            register("regescrt", "14398234", &["M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>"]),
        ),
        Torture::new("3.3.15", "sdp01", invite("sdp01", user, &["Accept: text/nobodyKnowsThis"])),
        Torture::new("3.4.1", "inv2543", inv2543()),
    ]
}

fn register(name: &str, cseq: &str, rest: &[&str]) -> String {
    lines(
        &[
            &[
                "REGISTER sip:example.com SIP/2.0",
                "To: sip:user@example.com",
                "From: sip:user@example.com;tag=323",
                "Max-Forwards: 70",
                &format!("Call-ID: {name}.own@198.51.100.10"),
                &format!("CSeq: {cseq} REGISTER"),
                &format!("Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK{name}"),
            ],
            rest,
            &["l: 0"],
        ]
        .concat(),
    )
}

/// No Call-ID, no From, no To.
fn insuf() -> String {
    with_body(
        &[
            "INVITE sip:user@example.com SIP/2.0",
            "CSeq: 193942 INVITE",
            "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKinsuf",
            "Content-Type: application/sdp",
        ],
        SDP,
    )
}

/// Schemes in From, To and Contact that a registrar cannot register.
fn unksm2() -> String {
    lines(&[
        "REGISTER sip:example.com SIP/2.0",
        "To: isbn:2983792873",
        "From: <http://www.example.com>;tag=3234233",
        "Call-ID: unksm2.own@198.51.100.10",
        "CSeq: 234902 REGISTER",
        "Max-Forwards: 70",
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKunksm2",
        "Contact: <name:John_Smith>",
        "l: 0",
    ])
}

/// A body of a type that nobody knows.
fn invut() -> String {
    let text = invite("invut", "INVITE sip:user@example.com SIP/2.0", &[]);
    text.replace("application/sdp", "application/unknownformat")
}

/// Two of each of which there may be one.
fn multi01() -> String {
    invite(
        "multi01",
        "INVITE sip:user@company.com SIP/2.0",
        &[
            "CSeq: 59 INVITE",
            "Call-ID: multi01.other@198.51.100.10",
            "To: <sip:other@example.net>",
            "From: <sip:caller@example.net>;tag=2923420123",
            "Contact: <sip:caller@host36.example.net>",
            "Max-Forwards: 5",
        ],
    )
}

/// Two lengths of one body.
fn mcl01() -> String {
    request(
        "mcl01",
        "OPTIONS sip:user@example.com SIP/2.0",
        "15932 OPTIONS",
        &["Content-Length: 13", "Content-Type: text/plain"],
    )
    .replace("Content-Length: 0", "Content-Length: 5")
        + "There's no way to know how many octets are supposed to be here."
}

/// A response that would have to go on to everybody.
fn bcast() -> String {
    with_body(
        &[
            "SIP/2.0 200 OK",
            "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1324923",
            "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23",
            "Call-ID: bcast.own@198.51.100.10",
            "CSeq: 35 INVITE",
            "From: sip:user@example.com;tag=11141343",
            "To: sip:user@example.edu;tag=2229",
            "Content-Type: application/sdp",
            "Contact: <sip:user@host28.example.com>",
        ],
        SDP,
    )
}

/// As RFC 2543 wrote it: no branch, no tag, no Max-Forwards, a Route of strict routing.
fn inv2543() -> String {
    with_body(
        &[
            "INVITE sip:UserB@example.com SIP/2.0",
            "Via: SIP/2.0/UDP 198.51.100.10",
            "From: <sip:john.smith@example.net>",
            "To: <sip:UserB@example.com>",
            "Call-ID: inv2543.own@198.51.100.10",
            "Record-Route: <sip:UserB@example.com;maddr=ss1.example.com>",
            "CSeq: 1 INVITE",
            "Content-Type: application/sdp",
        ],
        SDP,
    )
}
