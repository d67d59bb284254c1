//! Sections 3.1.2 and 3.2: messages that are invalid, or that the transaction layer must not trip over.

use crate::text::{SDP, Torture, invite, lines, request};

pub(super) fn all() -> Vec<Torture> {
    let options = |name: &str, start: &str, rest: &[&str]| request(name, start, "8 OPTIONS", rest);
    let user = "INVITE sip:user@example.com SIP/2.0";
    vec![
        // Parameters of Contact and Via that are none.
        Torture::new(
            "3.1.2.1",
            "badinv01",
            invite("badinv01", user, &[]).replace(";branch=z9hG4bKbadinv01", ";;,;,,").replace(
                "Contact: <sip:caller@198.51.100.10>",
                "Contact: \"Joe\" <sip:caller@198.51.100.10>;;;;",
            ),
        ),
        Torture::new("3.1.2.2", "clerr", length(&invite("clerr", user, &[]), "9999")),
        Torture::new("3.1.2.3", "ncl", length(&invite("ncl", user, &[]), "-999")),
        Torture::new("3.1.2.4", "scalar02", scalar02()),
        Torture::new("3.1.2.5", "scalarlg", scalarlg()),
        // A quote that never closes.
        Torture::new(
            "3.1.2.6",
            "quotbal",
            invite("quotbal", user, &[]).replace("To: <sip:user", "To: \"Mr. J. User <sip:user"),
        ),
        Torture::new("3.1.2.7", "ltgtruri", invite("ltgtruri", "INVITE <sip:user@example.com> SIP/2.0", &[])),
        Torture::new("3.1.2.8", "lwsruri", invite("lwsruri", "INVITE sip:user@example.com; lr SIP/2.0", &[])),
        Torture::new("3.1.2.9", "lwsstart", invite("lwsstart", "INVITE  sip:user@example.com  SIP/2.0", &[])),
        Torture::new(
            "3.1.2.10",
            "trws",
            options("trws", "OPTIONS sip:remote-target@example.com SIP/2.0  ", &[]),
        ),
        Torture::new(
            "3.1.2.11",
            "escruri",
            invite("escruri", "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0", &[]),
        ),
        // A date in another zone than GMT.
        Torture::new(
            "3.1.2.12",
            "baddate",
            invite("baddate", user, &["Date: Fri, 01 Jan 2010 16:00:00 EST"]),
        ),
        Torture::new("3.1.2.13", "regbadct", regbadct()),
        // Blanks inside the brackets.
        Torture::new(
            "3.1.2.14",
            "badaspec",
            options("badaspec", "OPTIONS sip:user@example.org SIP/2.0", &[])
                .replace("To: <sip:user@example.com>", "To: \"Watson, Thomas\" < sip:t.watson@example.org >"),
        ),
        // A comma in a display name that is not quoted.
        Torture::new(
            "3.1.2.15",
            "baddn",
            options("baddn", "OPTIONS sip:t.watson@example.org SIP/2.0", &[])
                .replace("From: <sip:caller@example.net>", "From: Bell, Alexander <sip:a.g.bell@example.com>")
                .replace("To: <sip:user@example.com>", "To: Watson, Thomas <sip:t.watson@example.org>"),
        ),
        Torture::new("3.1.2.16", "badvers", badvers()),
        Torture::new(
            "3.1.2.17",
            "mismatch01",
            request("mismatch01", "OPTIONS sip:user@example.com SIP/2.0", "8 INVITE", &[]),
        ),
        Torture::new(
            "3.1.2.18",
            "mismatch02",
            request("mismatch02", "NEWMETHOD sip:user@example.com SIP/2.0", "8 INVITE", &[]),
        ),
        Torture::new(
            "3.1.2.19",
            "bigcode",
            request(
                "bigcode",
                "SIP/2.0 4294967301 better not break the receiver",
                "8353494 INVITE",
                &["Contact: <sip:user@host198.example.com>"],
            ),
        ),
        // The cookie with nothing behind it, as a branch.
        Torture::new(
            "3.2.1",
            "badbranch",
            options("badbranch", "OPTIONS sip:user@example.com SIP/2.0", &[])
                .replace("z9hG4bKbadbranch", "z9hG4bK"),
        ),
    ]
}

/// With another Content-Length than its own.
fn length(text: &str, other: &str) -> String {
    text.replace(&format!("Content-Length: {}", SDP.len()), &format!("Content-Length: {other}"))
}

/// Numbers that no 32, 64 or 128 bits hold, in a request.
fn scalar02() -> String {
    lines(&[
        "REGISTER sip:example.com SIP/2.0",
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bKscalar02",
        "To: <sip:user@example.com>",
        "From: <sip:user@example.com>;tag=239232jh3",
        "CSeq: 36893488147419103232 REGISTER",
        "Call-ID: scalar02.own@198.51.100.10",
        "Max-Forwards: 300",
        "Expires: 10000000000000000000000000000000000000000",
        "Contact: <sip:user@198.51.100.10>;expires=280297596632815",
        "Content-Length: 0",
    ])
}

/// The same in a response.
fn scalarlg() -> String {
    lines(&[
        "SIP/2.0 503 Service Unavailable",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKscalarlg",
        "To: <sip:user@example.com>",
        "From: <sip:other@example.net>;tag=2easdjfejw",
        "CSeq: 9292394834772304023312 OPTIONS",
        "Call-ID: scalarlg.own@198.51.100.10",
        "Retry-After: 949302838503028349304023988",
        "Warning: 1812 overture \"In Progress\"",
        "Content-Length: 0",
    ])
}

/// A Contact with a question mark that is not in brackets.
fn regbadct() -> String {
    lines(&[
        "REGISTER sip:example.com SIP/2.0",
        "To: sip:user@example.com",
        "From: sip:user@example.com;tag=998332",
        "Max-Forwards: 70",
        "Call-ID: regbadct.own@198.51.100.10",
        "CSeq: 1 REGISTER",
        "Via: SIP/2.0/UDP 198.51.100.10:5060;branch=z9hG4bKregbadct",
        "Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E",
        "l: 0",
    ])
}

/// A version of SIP that is to come.
fn badvers() -> String {
    request("badvers", "OPTIONS sip:t.watson@example.org SIP/7.0", "1 OPTIONS", &[])
        .replace("SIP/2.0/UDP", "SIP/7.0/UDP")
}
