//! Stories of parsing, refusing, salvaging and forwarding.

use super::*;
use crate::text::steps;

const HEAD: &str = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\r\nMax-Forwards: 70\r\n\
    From: \"A\" <sip:a@example.com>;tag=f1\r\nTo: <sip:b@example.com>\r\nCall-ID: c@192.0.2.1\r\n";

fn request(method: &str, extra: &str, body: &str) -> String {
    format!("{method} sip:b@example.com SIP/2.0\r\n{HEAD}CSeq: 7 {method}\r\n{extra}\r\n{body}")
}

fn parse(text: &str) -> Message<&[u8]> {
    Message::parse(text.as_bytes(), &Limits::DATAGRAM).expect("acceptable")
}

fn refuse(text: &str) -> Malformed {
    Message::parse(text.as_bytes(), &Limits::DATAGRAM).expect_err("not acceptable")
}

fn forward(text: &str, edits: impl FnOnce(&Message<&[u8]>, &mut Forward<'_>)) -> String {
    let message = parse(text);
    let mut forward = Forward::new(&message);
    edits(&message, &mut forward);
    let mut out = Vec::new();
    forward.write_into(&mut out);
    String::from_utf8(out).expect("tests are UTF-8")
}

#[test]
fn tags_are_the_same_whenever_they_are_asked_for_and_in_every_copy() {
    for (to, tag) in [
        ("<sip:b@example.com;tag=no>;x;TAG = t2 ", Some(&b"t2"[..])),
        ("sip:b@example.com;tag=t3", Some(b"t3")),
        ("<sip:b@example.com>;tag=", None),
        ("<sip:b@example.com>;tag", None),
        ("\"never closed <sip:b@example.com>;tag=t4", None),
    ] {
        let text = format!("\r\n{}", request("BYE", "", "").replace("<sip:b@example.com>", to));
        let message = parse(&text);
        let early = message.to_owned();
        for _ in 0..2 {
            assert_eq!((message.from_tag(), message.to_tag()), (Some(&b"f1"[..]), tag), "{to}");
        }
        let (late, borrowed) = (message.to_owned(), message.as_borrowed());
        assert_eq!([early.to_tag(), late.to_tag(), borrowed.to_tag()], [tag; 3], "{to}");
        assert_eq!(late.from_tag(), Some(&b"f1"[..]));
    }
}

#[test]
fn a_request_gives_its_parts() {
    let text = request("INVITE", "Subject: hi\r\nContent-Length: 3\r\n", "abcdef");
    let message = parse(&text);
    assert!(message.is_request());
    assert_eq!(
        message.start_line(),
        StartLine::Request { method: Method::Invite, uri: b"sip:b@example.com" }
    );
    assert_eq!((message.call_id(), message.cseq().number), (&b"c@192.0.2.1"[..], 7));
    assert_eq!((message.from_tag(), message.to_tag()), (Some(&b"f1"[..]), None));
    assert_eq!(message.top_via().expect("good").branch(), Some(&b"z9hG4bKa"[..]));
    assert_eq!(message.max_forwards(), Some(Ok(70)));
    assert_eq!(message.value(HeaderName::Subject), Some(&b"hi"[..]));
    assert_eq!(message.body(), b"abc", "what follows the body is dropped");
    assert_eq!(message.as_bytes(), &text.as_bytes()[..text.len() - 3]);
    assert!(!message.index_spilled());
}

#[test]
fn a_response_gives_status_reason_and_the_method_of_cseq() {
    let text = format!("SIP/2.0 183 Session Progress\r\n{HEAD}CSeq: 7 PRACK\r\n\r\n");
    let message = parse(&text);
    assert_eq!((message.status(), message.reason()), (Some(183), Some(&b"Session Progress"[..])));
    assert_eq!((message.method(), message.request_uri()), (Method::Prack, None));
    for line in ["SIP/2.0 200", "SIP/2.0 200 "] {
        assert_eq!(parse(&format!("{line}\r\n{HEAD}CSeq: 7 BYE\r\n\r\n")).reason(), Some(&b""[..]));
    }
}

#[test]
fn line_ends_folds_compact_names_and_blanks_are_lenient() {
    let text = "\r\n\r\nOPTIONS sip:b SIP/2.0\nv\t: SIP/2.0/UDP\n h;branch=z9hG4bK1\nf:<sip:a>\r\nT  :  <sip:b>  \ni: x\nCSEQ: 1\r\n\tOPTIONS\nK:\n\nbody";
    let message = parse(text);
    assert_eq!(message.top_via().expect("good").host, b"h");
    assert_eq!(message.to().expect("good").uri, b"sip:b");
    assert_eq!(message.cseq(), CSeq { number: 1, method: b"OPTIONS" });
    assert_eq!(message.value(HeaderName::Supported), Some(&b""[..]));
    assert_eq!(message.body(), b"body");
    assert_eq!(forward(text, |_, _| ()), text.trim_start(), "leading line ends are no part of the message");
}

#[test]
fn an_owned_copy_says_the_same() {
    let text = request("INVITE", "Content-Length: 1\r\n", "abc");
    let owned = parse(&text).to_owned();
    assert_eq!(owned.as_bytes(), parse(&text).as_bytes());
    assert_eq!(owned.as_borrowed().call_id(), b"c@192.0.2.1");
    assert_eq!(owned.bytes.len(), text.len() - 2);
}

#[test]
fn keepalives_are_told_from_messages() {
    assert!(is_keepalive(b"\r\n\r\n") && is_keepalive(b"") && !is_keepalive(b"\r\nA"));
    let malformed = refuse("\r\n\r\n");
    assert_eq!((malformed.reason, malformed.reply_status()), (Reason::Empty, None));
}

#[test]
fn values_of_a_name_run_across_headers_and_commas() {
    let text =
        request("INVITE", "Route: <sip:p1,x;lr>, <sip:p2>\r\nX-A: 1\r\nRoute: <sip:p3>\r\nx-a: 2\r\n", "");
    let message = parse(&text);
    let routes: Vec<_> = message.values(HeaderName::Route).collect();
    assert_eq!(routes, [&b"<sip:p1,x;lr>"[..], b"<sip:p2>", b"<sip:p3>"]);
    let extensions: Vec<_> = message.extension(b"X-a").map(|header| header.value).collect();
    assert_eq!(extensions, [b"1", b"2"]);
}

#[test]
fn every_refusal_has_its_reason_and_its_answer() {
    let with = |extra: &str| request("INVITE", extra, "abc");
    let line = |line: &str| format!("{line}\r\n{HEAD}CSeq: 7 INVITE\r\n\r\n");
    for (text, reason, status) in [
        (with("Content-Length: 4\r\n"), Reason::BodyTruncated, Some(400)),
        (with("Content-Length: -1\r\n"), Reason::BadContentLength, Some(400)),
        (with("Content-Length: 1 1\r\n"), Reason::BadContentLength, Some(400)),
        (with("Content-Length: 1\r\nl: 2\r\n"), Reason::Repeated(HeaderName::ContentLength), Some(400)),
        (with("no colon\r\n"), Reason::BadHeaderLine, Some(400)),
        (with(": no name\r\n"), Reason::BadHeaderLine, Some(400)),
        (with("Sub ject: x\r\n"), Reason::BadHeaderLine, Some(400)),
        (with("To: <sip:other>\r\n"), Reason::Repeated(HeaderName::To), Some(400)),
        (with("Max-Forwards: 5\r\n"), Reason::Repeated(HeaderName::MaxForwards), Some(400)),
        (with("X: a\rVia: SIP/2.0/UDP evil\r\n"), Reason::BareCr, None),
        (with("X: a\0b\r\n"), Reason::Nul, None),
        (line("INVITE <sip:b> SIP/2.0"), Reason::BadRequestUri, Some(400)),
        (line("INVITE sip:b; lr SIP/2.0"), Reason::BadRequestUri, Some(400)),
        (line("INVITE b SIP/2.0"), Reason::BadRequestUri, Some(400)),
        (line("INVITE  SIP/2.0"), Reason::BadRequestUri, Some(400)),
        (line("INVITE sip:b SIP/7.0"), Reason::BadVersion, Some(505)),
        (line("INVITE sip:b SIP/2.0 "), Reason::BadStartLine, Some(400)),
        (line("INVITE sip:b HTTP/1.1"), Reason::BadStartLine, None),
        (line("BYE sip:b SIP/2.0"), Reason::CSeqMethodMismatch, Some(400)),
        (line("ACK sip:b SIP/2.0"), Reason::CSeqMethodMismatch, None),
        (line("SIP/2.0 4294967301 x"), Reason::BadStatus, None),
        (line("SIP/2.0 99 x"), Reason::BadStatus, None),
        (line("SIP/3.0 200 x"), Reason::BadVersion, None),
        (line("(INVITE) sip:b SIP/2.0"), Reason::BadMethod, None),
        (with("").replace("7 INVITE", "4294967296 INVITE"), Reason::BadCSeq, Some(400)),
        (with("").replace("7 INVITE", "7"), Reason::BadCSeq, Some(400)),
        (with("").replace("Call-ID: c@192.0.2.1\r\n", ""), Reason::Missing(HeaderName::CallId), None),
        (with("").replace("c@192.0.2.1", ""), Reason::Missing(HeaderName::CallId), None),
    ] {
        let malformed = refuse(&text);
        assert_eq!((malformed.reason, malformed.reply_status()), (reason, status), "{text}");
        assert!(malformed.offset <= text.len());
    }
}

#[test]
fn every_limit_has_its_own_reason() {
    let text = request("INVITE", "X: 1\r\n", "");
    let refused = |change: fn(&mut Limits)| {
        let mut limits = Limits::DATAGRAM;
        change(&mut limits);
        Message::parse(text.as_bytes(), &limits).expect_err("over a limit").reason
    };
    assert_eq!(refused(|l| l.message_bytes_max = 100), Reason::MessageTooLarge);
    assert_eq!(refused(|l| l.headers_max = 6), Reason::TooManyHeaders);
    assert_eq!(refused(|l| l.header_bytes_max = 40), Reason::HeaderTooLong);
    assert_eq!(refused(|l| l.vias_max = 0), Reason::TooManyVias);
    assert_eq!(refused(|l| l.uri_bytes_max = 5), Reason::UriTooLong);
    let huge = request("INVITE", "", &"x".repeat(70_000));
    let unlimited = Limits { message_bytes_max: usize::MAX, ..Limits::DATAGRAM };
    let malformed = Message::parse(huge.as_bytes(), &unlimited).expect_err("offsets are 16 bits");
    assert_eq!((malformed.reason, malformed.reply_status()), (Reason::MessageTooLarge, Some(513)));
}

#[test]
fn a_refused_request_can_be_answered_from_what_is_readable() {
    let text = request("INVITE", "Content-Length: nonsense\r\n", "");
    assert!(refuse(&text).answerable);
    let salvaged = Message::salvage(text.as_bytes(), &Limits::DATAGRAM).expect("answerable");
    let mut out = Vec::new();
    ResponseBuilder::new(&mut out, &salvaged, &ResponseHead::new(400, "Bad Request")).finish();
    let response = Message::parse(out.as_slice(), &Limits::DATAGRAM).expect("our own");
    assert_eq!((response.status(), response.call_id()), (Some(400), &b"c@192.0.2.1"[..]));
}

#[test]
fn validation_reads_what_parsing_carries_unread() {
    assert_eq!(parse(&request("INVITE", "Contact: <sip:a@h>\r\n", "")).validate(), Ok(()));
    for (extra, name) in [
        ("Contact: \"Joe <sip:a@h>\r\n", HeaderName::Contact),
        ("Route: <sip:a@h\r\n", HeaderName::Route),
        ("Via: SIP/2.0/UDP h;branch=1;branch=2\r\n", HeaderName::Via),
        ("Via: SIP/2.0/UDP 192.0.2.15;;,;,,\r\n", HeaderName::Via),
    ] {
        let malformed = parse(&request("INVITE", extra, "")).validate().expect_err("unreadable");
        assert_eq!((malformed.reason, malformed.reply_status()), (Reason::BadHeader(name), Some(400)));
    }
    let text = request("OPTIONS", "", "").replace("tag=f1", "tag=f1;tag=f2");
    assert_eq!(parse(&text).validate().expect_err("two tags").reason, Reason::BadHeader(HeaderName::From));
    let text = request("OPTIONS", "", "").replace("sip:b@example.com SIP", "sip:2001:db8::10 SIP");
    assert_eq!(parse(&text).validate().expect_err("unreadable").reason, Reason::BadRequestUri);
}

#[test]
fn a_version_in_small_letters_leaves_in_upper_case_and_nothing_else_differs_rfc3261_7_1() {
    let asked = request("INVITE", "", "");
    assert_eq!(forward(&asked.replace("m SIP/2.0\r", "m sip/2.0\r"), |_, _| {}), asked);
    let answer = format!("SIP/2.0 200 sip/2.0\r\n{HEAD}CSeq: 7 INVITE\r\n\r\n");
    assert_eq!(forward(&answer.replacen("SIP", "sIp", 1), |_, _| {}), answer);
    let busy = forward(&answer.replacen("SIP", "sip", 1), |_, forward| forward.set_status(486, "Busy"));
    assert!(busy.starts_with("SIP/2.0 486 Busy\r\n"), "{busy}");
}

#[test]
fn a_typical_hop_changes_only_what_it_names() {
    let text = request("INVITE", "Route: <sip:us;lr>, <sip:next;lr>\r\nX-Odd :  kept \r\nl: 0\r\n", "");
    let out = forward(&text, |_, forward| {
        forward.set_request_uri("sip:b@192.0.2.50");
        forward.insert_first(HeaderName::Via, "SIP/2.0/UDP us;branch=z9hG4bKb");
        forward.insert_first(HeaderName::RecordRoute, "<sip:us;lr>");
        forward.pop_first(HeaderName::Route);
        assert_eq!(forward.decrement_max_forwards(), Ok(69));
        forward.append(HeaderName::UserAgent, format_args!("x/{}", 1));
        assert!(!forward.spilled());
    });
    let wanted = text
        .replace(
            "sip:b@example.com SIP/2.0\r\n",
            "sip:b@192.0.2.50 SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKb\r\n",
        )
        .replace("Max-Forwards: 70", "Record-Route: <sip:us;lr>\r\nMax-Forwards: 69")
        .replace("<sip:us;lr>, <sip:next;lr>", "<sip:next;lr>")
        .replace("l: 0\r\n", "l: 0\r\nUser-Agent: x/1\r\n");
    assert_eq!(out, wanted);
}

#[test]
fn identifiers_are_mapped_in_place() {
    let text = request("PRACK", "RAck: 1  7 INVITE\r\nContact: \"x\" <sip:a@10.0.0.1:5070>;q=1\r\n", "");
    let out = forward(&text, |message, forward| {
        forward.set_call_id("new");
        forward.set_cseq_number(10_007);
        forward.set_rack_cseq(10_007).expect("readable");
        forward.set_from_tag("f2").expect("readable");
        forward.set_to_tag("t2").expect("readable");
        let contact = message.value(HeaderName::Contact).expect("there");
        forward.replace_part(NameAddr::parse(contact).expect("good").uri, "sip:token@us");
    });
    let wanted = text
        .replace("c@192.0.2.1", "new")
        .replace("CSeq: 7", "CSeq: 10007")
        .replace("RAck: 1  7", "RAck: 1  10007")
        .replace("tag=f1", "tag=f2")
        .replace("To: <sip:b@example.com>", "To: <sip:b@example.com>;tag=t2")
        .replace("sip:a@10.0.0.1:5070", "sip:token@us");
    assert_eq!(out, wanted);
}

#[test]
fn a_response_loses_its_top_via_and_gets_another_status() {
    let text = format!("SIP/2.0 503\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKb\r\n{HEAD}CSeq: 7 INVITE\r\n\r\n");
    let out = forward(&text, |_, forward| {
        forward.pop_first(HeaderName::Via);
        forward.set_status(500, "Server Internal Error");
    });
    assert_eq!(out, format!("SIP/2.0 500 Server Internal Error\r\n{HEAD}CSeq: 7 INVITE\r\n\r\n"));
}

#[test]
fn body_edits_move_content_length_and_a_replacement_wins() {
    let text = request("INVITE", "Content-Type: application/sdp\r\nContent-Length: 6\r\n", "v=0abc");
    let out = forward(&text, |_, forward| {
        forward.edit_body(3..4, "XYZ");
        forward.edit_body(5..6, "");
    });
    assert!(out.ends_with("Content-Length: 7\r\n\r\nv=0XYZb"), "{out}");
    let out = forward(&text, |_, forward| {
        forward.edit_body(3..4, "XYZ");
        forward.replace_body("text/plain", b"hi");
    });
    assert!(out.ends_with("Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"), "{out}");
    let out = forward(&text, |_, forward| forward.replace_body("", b""));
    assert!(out.ends_with("CSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n"), "{out}");
}

#[test]
fn content_length_is_added_for_streams_only_when_missing() {
    let without = request("MESSAGE", "", "abc");
    assert!(forward(&without, |_, f| f.ensure_content_length()).ends_with("Content-Length: 3\r\n\r\nabc"));
    let with = request("MESSAGE", "l: 3\r\n", "abc");
    assert_eq!(forward(&with, |_, f| f.ensure_content_length()), with);
}

#[test]
fn a_head_without_its_empty_line_gets_one_as_soon_as_it_is_edited() {
    let whole = request("OPTIONS", "", "");
    let text = &whole[..whole.len() - 2];
    assert_eq!(forward(text, |_, _| ()), text);
    let out = forward(text, |_, forward| {
        forward.append(HeaderName::Server, "a");
        forward.append(HeaderName::Date, "b");
        forward.replace_body("text/plain", b"hi");
    });
    let wanted =
        "CSeq: 7 OPTIONS\r\nServer: a\r\nDate: b\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
    assert!(out.ends_with(wanted), "{out}");
    assert!(forward(text, |_, f| f.set_call_id("y")).ends_with("CSeq: 7 OPTIONS\r\n\r\n"));
}

#[test]
fn a_head_cut_off_inside_a_line_is_refused() {
    let whole = request("OPTIONS", "", "");
    for cut in 3..100 {
        let malformed = refuse(&whole[..whole.len() - cut]);
        assert!(
            matches!(malformed.reason, Reason::HeadTruncated | Reason::BareCr | Reason::Missing(_)),
            "{malformed}"
        );
        assert_eq!(malformed.reply_status(), None);
    }
}

#[test]
fn max_forwards_ends_at_zero_and_is_added_when_missing() {
    let text = request("OPTIONS", "", "");
    let hops = |value: &str| {
        let text = text.replace("Max-Forwards: 70", value);
        let message = parse(&text);
        Forward::new(&message).decrement_max_forwards()
    };
    assert_eq!(hops("Max-Forwards: 0"), Err(ForwardError::TooManyHops));
    assert_eq!(hops("Max-Forwards: x"), Err(ForwardError::Unreadable(HeaderName::MaxForwards)));
    assert_eq!(hops("Max-Forwards: 300"), Ok(254));
    assert_eq!(hops("X: y"), Ok(70));
}

#[test]
fn removing_and_setting_reach_every_header_of_the_name() {
    let text = request("INVITE", "Allow: A\r\nX-a: 1\r\nallow: B\r\nx-A: 2\r\n", "");
    let out = forward(&text, |_, forward| {
        forward.set(HeaderName::Allow, "INVITE");
        forward.remove_extension(b"x-a");
        forward.remove_nth(1);
        forward.replace_nth(0, "SIP/2.0/UDP h");
    });
    assert!(out.ends_with("CSeq: 7 INVITE\r\nAllow: INVITE\r\n\r\n"), "{out}");
    assert!(!out.contains("Max-Forwards") && out.contains("Via: SIP/2.0/UDP h\r\n"));
}

#[test]
fn all_of_a_name_can_be_taken_away_and_others_put_in_their_place() {
    let text = request("INVITE", "Route: <sip:us>\r\nSubject: x\r\nRoute: <sip:p>\r\n", "");
    let out = forward(&text, |_, forward| {
        forward.remove(HeaderName::Via);
        forward.insert_first(HeaderName::Via, "SIP/2.0/UDP us;branch=z9hG4bKb");
        forward.remove(HeaderName::Route);
        forward.insert_first(HeaderName::Route, "<sip:q1>");
        forward.insert_first(HeaderName::Route, "<sip:q2>");
    });
    assert!(out.starts_with(
        "INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bKb\r\nMax-Forwards"
    ));
    assert!(
        out.ends_with("CSeq: 7 INVITE\r\nRoute: <sip:q1>\r\nRoute: <sip:q2>\r\nSubject: x\r\n\r\n"),
        "{out}"
    );
}

#[test]
fn of_two_edits_of_one_part_the_last_named_wins_and_removal_wins_over_both() {
    let text = request("INVITE", "Subject: x\r\nSubject: y\r\n", "");
    let out = forward(&text, |message, forward| {
        forward.set_call_id("first");
        forward.set_call_id("second");
        let subject = message.header(HeaderName::Subject).expect("there");
        forward.replace_nth(subject.place, "z");
        forward.remove_nth(subject.place);
    });
    assert_eq!(out, text.replace("c@192.0.2.1", "second").replace("Subject: x\r\n", ""));
}

#[test]
fn work_grows_with_the_message_and_no_faster() {
    for (extra, body) in [
        ("a:\r\n".repeat(15_000), ""),
        (format!("X: y\r\n{}", " \r\n".repeat(15_000)), ""),
        (format!("Via: {}\r\n", ",".repeat(60_000)), ""),
        ("x".repeat(60_000), ""),
        (format!("X: {}\r\n", "\"".repeat(60_000)), ""),
        (String::new(), &*"\r\n".repeat(30_000)),
    ] {
        let text = request("INVITE", &extra, body);
        steps::take();
        let limits =
            Limits { headers_max: usize::from(u16::MAX), header_bytes_max: usize::MAX, ..Limits::DATAGRAM };
        let _ = Message::parse(text.as_bytes(), &limits);
        let steps = steps::take();
        // Once for the strict walk, once more to see whether a refused one can be answered, and its Via for that.
        assert!(steps <= 3 * text.len(), "{steps} steps for {} bytes", text.len());
    }
}

/// Every view of every header, some twice.
fn read_all(message: &Message<&[u8]>) {
    let _ = (message.validate(), message.from_tag(), message.to_tag(), message.top_via());
    for header in message.headers() {
        for value in ListValues::new(header.value) {
            let _ = (Via::parse(value).map(|via| via.branch()), NameAddr::parse(value).map(|name| name.q()));
        }
    }
}

#[test]
fn reading_grows_with_the_message_and_no_faster() {
    let hostile = |n: usize| {
        [
            format!("Via: {}\r\n", ",".repeat(n)),
            format!("Via: SIP/2.0/UDP h{}\r\n", ";a=\"b\"".repeat(n / 6)),
            format!("Contact: {}\r\n", "<sip:a@h>,".repeat(n / 10)),
            format!("Contact: {}\r\n", "<".repeat(n)),
            format!("Contact: {}\r\n", "\"".repeat(n)),
            format!("Contact: {}\r\n", "\"\\".repeat(n / 2)),
            format!("Route: {}<sip:a@h>\r\n", "\"a\" ".repeat(n / 4)),
            format!("Contact: <sip:a@h{}>\r\n", ";a=b".repeat(n / 4)),
            format!("Record-Route: <sip:a@h>{}\r\n", ";a=<b>".repeat(n / 6)),
        ]
    };
    let limits = Limits { header_bytes_max: usize::MAX, vias_max: usize::MAX, ..Limits::DATAGRAM };
    let cost = |extra: &str| {
        let text = request("INVITE", extra, "");
        let message = Message::parse(text.as_bytes(), &limits).expect("a message");
        steps::take();
        read_all(&message);
        steps::take()
    };
    for (short, long) in hostile(7_500).iter().zip(&hostile(30_000)) {
        let (once, four) = (cost(short), cost(long));
        assert!(four <= 5 * once, "{once} steps, and {four} for four times as much: {}", &long[..40]);
        assert!(four <= 40 * long.len(), "{four} steps for {} bytes: {}", long.len(), &long[..40]);
    }
}
