//! What fuzzing and the RFCs' messages have found, each as the story that showed it.

use crate::story::addr;
use signalbox_engine::settings::CallsFrom;
use signalbox_sip::HeaderName;
use signalbox_torture::edge::{Edge, PBX, PHONE, PHONE_6, response};
use signalbox_torture::text::{invite, lines, request};
use std::time::Duration;

const STRANGER: &str = "203.0.113.9:5060";

fn edge() -> Edge {
    Edge::new(&["example.com", "example.net"], CallsFrom::Any)
}

#[test]
fn given_an_empty_to_tag_then_it_is_400_and_no_second_tag_is_put_behind_it() {
    let mut edge = edge();
    let text = request("empty", "OPTIONS sip:user@example.com SIP/2.0", "1 OPTIONS", &[]);
    edge.receive(
        addr(PHONE),
        text.replace("To: <sip:user@example.com>", "To: <sip:user@example.com>;tag=").as_bytes(),
    );
    let sent = edge.take();
    assert_eq!(sent.iter().map(|sent| sent.status()).collect::<Vec<_>>(), [Some(400)]);
}

#[test]
fn given_a_refused_call_of_a_spoofed_source_when_windows_pass_then_its_answer_is_not_repeated_for_ever() {
    let mut edge = edge();
    let call = invite("spoofed", "INVITE sip:user@example.com SIP/2.0", &[]);
    edge.receive(addr(STRANGER), call.as_bytes());
    let asked = edge.take().into_iter().find(|sent| sent.to == addr(PBX)).expect("it reaches the PBX");
    let long = format!("Warning: 399 pbx \"{}\"\r\n", "no ".repeat(100));
    edge.receive(addr(PBX), &response(&asked.message().expect("a request"), 486, &long));
    let mut answers = Vec::new();
    for n in 0..40 {
        // Others come, so that windows pass.
        let other = request(&format!("n{n}"), "OPTIONS sip:user@example.com SIP/2.0", "1 OPTIONS", &[]);
        edge.receive(addr(PHONE_6), other.as_bytes());
        edge.wait(Duration::from_secs(1));
        answers.extend(edge.take().into_iter().filter(|sent| sent.to == addr(STRANGER)));
    }
    // The first is the end of a call that is on record; its repetitions have what that leaves of the budget.
    let bytes: usize = answers.iter().map(|sent| sent.bytes.len()).sum();
    assert!(!answers.is_empty() && bytes <= 3 * call.len(), "{bytes} bytes for {}", call.len());
}

#[test]
fn given_a_user_with_a_blank_and_a_bracket_when_its_phone_is_pinged_then_the_ping_is_a_valid_request() {
    let mut edge = edge();
    let register = lines(&[
        "REGISTER sip:example.com SIP/2.0",
        "To: <sip:a%20%3eb%0d@example.com>",
        "From: <sip:a%20%3eb%0d@example.com>;tag=1",
        "Max-Forwards: 70",
        "Call-ID: blank",
        "CSeq: 1 REGISTER",
        "Via: SIP/2.0/UDP 10.0.0.7;branch=z9hG4bKblank;rport",
        "Contact: <sip:a%20%3eb%0d@10.0.0.7>",
        "Content-Length: 0",
    ]);
    edge.receive(addr(PHONE), register.as_bytes());
    let asked = edge.take().into_iter().find(|sent| sent.to == addr(PBX)).expect("it reaches the PBX");
    let asked = asked.message().expect("a request");
    let contact = String::from_utf8_lossy(asked.value(HeaderName::Contact).expect("a contact")).into_owned();
    edge.receive(addr(PBX), &response(&asked, 200, &format!("Contact: {contact};expires=3600\r\n")));
    assert_eq!(edge.bindings(), 1);
    edge.wait(Duration::from_secs(120));
    let sent = edge.take();
    let pings: Vec<_> =
        sent.iter().filter_map(|sent| sent.message()).filter(|message| message.is_request()).collect();
    assert!(!pings.is_empty(), "a phone behind a NAT box is pinged");
    for ping in pings {
        assert_eq!(ping.validate(), Ok(()));
        assert_eq!(ping.value(HeaderName::To), Some(&b"<sip:a%20%3Eb%0D@example.com>"[..]));
    }
}

#[test]
fn given_a_caller_without_contact_whose_from_no_request_line_can_bear_when_its_call_ends_then_its_bye_is_a_request()
 {
    let mut edge = edge();
    let call = invite("odd", "INVITE sip:user@example.com SIP/2.0", &[])
        .replace("Contact: <sip:caller@198.51.100.10>\r\n", "")
        .replace("<sip:caller@", "<sip:c\x12ller@");
    edge.receive(addr(PHONE), call.as_bytes());
    let asked = edge.take().into_iter().find(|sent| sent.to == addr(PBX)).expect("it reaches the PBX");
    let answer = response(&asked.message().expect("a request"), 200, "Contact: <sip:user@10.0.1.1>\r\n");
    edge.receive(addr(PBX), &answer);
    edge.wait(Duration::from_secs(60));
    let sent: Vec<_> = edge.take().into_iter().filter(|sent| sent.bytes.starts_with(b"BYE ")).collect();
    let to_caller = sent.iter().find(|sent| sent.to == addr(PHONE)).expect("no ACK came: the call ends");
    assert!(to_caller.message().is_some(), "{}", to_caller.bytes.escape_ascii());
}

#[test]
fn given_a_caller_without_a_tag_when_its_ack_has_one_then_the_pbx_gets_none_and_no_empty_one() {
    let begin = lines(&[
        "INVITE sip:402@example.com SIP/2.0",
        "Via: SIP/2.0/UDP 198.51.100.10;branch=z9hG4bK1",
        "Max-Forwards: 70",
        "From: <sip:401@example.com>",
        "To: <sip:402@example.com>",
        "Call-ID: c",
        "CSeq: 1 INVITE",
        "Contact: <sip:401@198.51.100.10>",
        "Content-Length: 0",
        "",
        "",
    ]);
    let ack = begin
        .replace("INVITE sip:402@example.com", "ACK {d}")
        .replace("INVITE", "ACK")
        .replace("401@example.com>", "401@example.com>;tag=1")
        .replace("402@example.com>", "402@example.com>;tag=pbx");
    // What the PBX gets is valid: the target looks.
    assert!(signalbox_torture::targets::engine(format!("P{begin}\u{1}RA\u{1}Rc\u{1}P{ack}").as_bytes()));
}
