//! RFC 5118, "SIP Torture Test Messages for IPv6", written from its descriptions: 12 messages in ten sections.

use crate::text::{Torture, lines, with_body};

const TO: &str = "To: sip:user@example.com";
const FROM: &str = "From: sip:user@example.com;tag=81x2";
const VIA: &str = "Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111";
const CONTACT: &str = "Contact: \"Caller\" <sip:caller@[2001:db8::9:1]>";

/// All, in the RFC's order.
#[must_use]
pub fn all() -> Vec<Torture> {
    let register =
        |name: &str, uri: &str| request(name, &format!("REGISTER {uri} SIP/2.0"), "98176 REGISTER", VIA);
    let options =
        |name: &str, uri: &str| request(name, &format!("OPTIONS {uri} SIP/2.0"), "689 OPTIONS", VIA);
    vec![
        Torture::new("4.1", "ipv6-good", register("good", "sip:[2001:db8::10]")),
        Torture::new("4.2", "ipv6-bad", register("bad", "sip:2001:db8::10")),
        Torture::new("4.3", "port-ambiguous", register("ambiguous", "sip:[2001:db8::10:5070]")),
        Torture::new("4.4", "port-unambiguous", register("unambiguous", "sip:[2001:db8::10]:5070")),
        Torture::new(
            "4.5",
            "via-received-param-with-delim",
            bye(
                "with",
                "sip:[2001:db8::10]",
                &[&VIA.replace(";branch", ";received=[2001:db8::9:255];branch")],
            ),
        ),
        Torture::new(
            "4.5",
            "via-received-param-no-delim",
            options("without", "sip:[2001:db8::10]").replace(";branch", ";received=2001:db8::9:255;branch"),
        ),
        Torture::new("4.6", "ipv6-in-sdp", session("sdp", VIA, "IP6 2001:db8::20", "")),
        Torture::new(
            "4.7",
            "mult-ip-in-header",
            bye(
                "header",
                "sip:user@example.net",
                &[
                    VIA,
                    "Via: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKjhja8781",
                    "Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200",
                ],
            ),
        ),
        Torture::new(
            "4.8",
            "mult-ip-in-sdp",
            session("mixed", VIA, "IP4 192.0.2.77", "c=IN IP6 2001:db8::1\r\n"),
        ),
        Torture::new(
            "4.9",
            "ipv4-mapped-ipv6",
            session(
                "mapped",
                "Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;branch=z9hG4bKbh19",
                "IP6 ::ffff:192.0.2.2",
                "",
            )
            .replace("[2001:db8::9:1]", "[::ffff:192.0.2.2]"),
        ),
        Torture::new(
            "4.10",
            "ipv6-correct-abnf-2-colons",
            options("two", "sip:user@[2001:db8::192.0.2.1]")
                .replace("To: sip:user@example.com", "To: sip:user@[2001:db8::192.0.2.1]"),
        ),
        Torture::new(
            "4.10",
            "ipv6-bug-abnf-3-colons",
            options("three", "sip:user@[2001:db8:::192.0.2.1]")
                .replace("To: sip:user@example.com", "To: sip:user@[2001:db8:::192.0.2.1]"),
        ),
    ]
}

fn request(name: &str, start: &str, cseq: &str, via: &str) -> String {
    let (call_id, cseq) = (format!("Call-ID: own5118-{name}"), format!("CSeq: {cseq}"));
    lines(&[start, TO, FROM, via, &call_id, "Max-Forwards: 70", CONTACT, &cseq, "Content-Length: 0"])
}

/// BYE of a dialog that nobody has.
fn bye(name: &str, uri: &str, vias: &[&str]) -> String {
    let (start, call_id) = (format!("BYE {uri} SIP/2.0"), format!("Call-ID: own5118-{name}"));
    let to = "To: sip:user@example.net;tag=9817--94";
    lines(
        &[
            &[start.as_str()],
            vias,
            &[to, FROM, &call_id, "Max-Forwards: 70", "CSeq: 321 BYE", "Content-Length: 0"],
        ]
        .concat(),
    )
}

/// INVITE with audio at one address and video at this or another.
fn session(name: &str, via: &str, address: &str, video: &str) -> String {
    let call_id = format!("Call-ID: own5118-{name}");
    let head = [
        "INVITE sip:user@example.com SIP/2.0",
        TO,
        FROM,
        via,
        &call_id,
        CONTACT,
        "CSeq: 8612 INVITE",
        "Max-Forwards: 70",
        "Content-Type: application/sdp",
    ];
    let body = format!(
        "v=0\r\no=assistant 97173 0 IN {address}\r\ns=Live video feed\r\nc=IN {address}\r\nt=3338481189 3370017201\r\n\
         m=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\nm=video 6024 RTP/AVP 107\r\n{video}a=rtpmap:107 H263-1998/90000\r\n"
    );
    with_body(&head, &body)
}
