//! Inside a call: every method both ways, hold and resume, glare, and what must not pass.

use crate::call_support::{
    Dialog, PBX, PHONE, established, phone_calls, respond, said, sdp, the_cdr, with_body, with_phone,
    with_phone_under,
};
use crate::support::{acme, addr, inside, response};
use signalbox_engine::settings::Hide;
use signalbox_sip::HeaderName;
use std::time::Duration;

#[test]
fn given_a_call_when_methods_of_any_name_are_sent_then_they_pass_both_ways_byte_for_byte() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "d1");
    let before = world.journal.len();
    for method in ["INFO", "MESSAGE", "NOTIFY", "REFER", "OPTIONS", "UPDATE", "FOO"] {
        let lines = "X-Any: \"a;b\"\r\nSubject: hello\r\n";
        world.deliver(phone.flow, call.phone.request(method, lines));
        let at_pbx = world.one_to(addr(PBX));
        assert!(at_pbx.text().starts_with(&format!("{method} sip:402@10.0.1.1:5060 ")));
        assert!(at_pbx.text().contains(lines));
        assert_eq!(at_pbx.header(HeaderName::CSeq), Some(format!("{} {method}", call.phone.cseq)));
        world.deliver(inside(PBX), response(&at_pbx, 299, "X-Back: yes\r\n"));
        let back = world.one_to(addr(PHONE));
        assert_eq!(back.status(), Some(299));
        assert!(back.text().contains("\r\nX-Back: yes\r\n"));
        world.deliver(inside(PBX), call.pbx.request(method, lines));
        let at_phone = world.one_to(addr(PHONE));
        assert_eq!(at_phone.header(HeaderName::CSeq), Some(format!("{} {method}", call.pbx.cseq)));
        world.deliver(phone.flow, response(&at_phone, 405, ""));
        assert_eq!(said(&mut world, addr(PBX)), ["405"]);
    }
    assert_eq!(world.kinds(before), Vec::<&str>::new(), "nothing durable hangs on them");
}

#[test]
fn given_a_call_when_the_phone_holds_and_resumes_then_both_are_recorded_before_the_answer_leaves() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "d2");
    for (direction, answer, kind) in [("sendonly", "recvonly", "hold"), ("sendrecv", "sendrecv", "resume")] {
        let contact = "Contact: <sip:me@198.51.100.7:5062>\r\n";
        let offer = with_body(contact, &sdp("192.0.2.10", direction, "PCMA"));
        world.deliver(phone.flow, call.phone.request("INVITE", &offer));
        assert_eq!(said(&mut world, addr(PHONE)), ["100"]);
        let at_pbx = world.one_to(addr(PBX));
        world.auto_commit = false;
        world.deliver(
            inside(PBX),
            respond(&at_pbx, 200, "<sip:402@10.0.1.1:5060>", &sdp("10.0.1.1", answer, "PCMA")),
        );
        assert_eq!(world.take_to(addr(PHONE)).len(), 0);
        world.auto_commit = true;
        world.commit();
        assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
        let cseq = call.phone.cseq;
        world.deliver(phone.flow, call.phone.ack(cseq, ""));
        assert_eq!(said(&mut world, addr(PBX)), ["ACK"]);
        let modified = world.records("call.modified").pop().expect("an event").json();
        assert_eq!((&modified["kind"], &modified["by"]), (&kind.into(), &"caller".into()));
    }
    assert_eq!(world.records("call.modified").len(), 2);
    world.assert_replay_equals_live();
}

#[test]
fn given_invites_from_both_sides_at_once_then_the_peers_settle_it_with_491() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "d3");
    world.deliver(phone.flow, call.phone.request("INVITE", "Contact: <sip:me@198.51.100.7:5062>\r\n"));
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), call.pbx.request("INVITE", "Contact: <sip:402@10.0.1.1:5060>\r\n"));
    let at_phone = world.take_to(addr(PHONE)).pop().expect("the INVITE passes");
    world.take();
    world.deliver(inside(PBX), response(&at_pbx, 491, ""));
    world.deliver(phone.flow, response(&at_phone, 491, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["491", "ACK"]);
    assert_eq!(said(&mut world, addr(PBX)), ["ACK", "491"]);
    world.deliver(phone.flow, call.phone.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PBX)), ["BYE"], "the call goes on to its end");
}

#[test]
fn given_a_late_offer_when_the_ack_carries_the_answer_then_it_passes_with_its_body() {
    let (mut world, phone) = with_phone();
    let plain = crate::call_support::invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "d4", "");
    world.deliver(phone.flow, plain);
    let at_pbx = world.one_to(addr(PBX));
    world.take();
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    let ok = world.one_to(addr(PHONE));
    let mut caller = Dialog::calling(phone.flow, &ok);
    let answer = sdp("192.0.2.10", "sendrecv", "PCMA");
    world.deliver(phone.flow, caller.ack(1, &with_body("", &answer)));
    assert!(world.one_to(addr(PBX)).text().ends_with(&answer));
}

#[test]
fn given_a_reliable_provisional_when_it_is_acknowledged_then_rack_names_the_invite_of_the_other_leg() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "d5");
    world.deliver(
        inside(PBX),
        response(&at_pbx, 183, "Require: 100rel\r\nRSeq: 77\r\nContact: <sip:402@10.0.1.1>\r\n"),
    );
    let early = world.one_to(addr(PHONE));
    assert_eq!(early.header(HeaderName::RSeq).as_deref(), Some("77"));
    let mut caller = Dialog::calling(phone.flow, &early);
    world.deliver(phone.flow, caller.request("PRACK", "RAck: 77 1 INVITE\r\n"));
    let prack = world.one_to(addr(PBX));
    assert_eq!(prack.header(HeaderName::RAck).as_deref(), Some("77 1 INVITE"));
    world.deliver(inside(PBX), response(&prack, 200, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
    let mut callee = Dialog::called(inside(PBX), &at_pbx, "pbx");
    world.deliver(inside(PBX), callee.request("UPDATE", "Contact: <sip:402@10.0.1.1>\r\n"));
    let update = world.one_to(addr(PHONE));
    world.deliver(phone.flow, response(&update, 200, "Contact: <sip:me@198.51.100.7:5062>\r\n"));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
}

#[test]
fn given_hidden_legs_when_a_call_is_made_then_neither_side_sees_the_others_identifiers() {
    let mut hidden = acme();
    hidden.tenants[0].backends[0].hide = Hide::Full;
    let (mut world, phone) = with_phone_under(hidden);
    let at_pbx = phone_calls(&mut world, &phone, "secret-id");
    assert!(!at_pbx.text().contains("secret-id") && !at_pbx.text().contains("198.51.100.7"));
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.9.9.9", "sendrecv", "PCMA")),
    );
    let ok = world.one_to(addr(PHONE));
    assert!(!ok.text().contains(";tag=pbx") && ok.text().contains("Call-ID: secret-id\r\n"));
    let mut caller = Dialog::calling(phone.flow, &ok);
    world.deliver(phone.flow, caller.ack(1, ""));
    let ack = world.one_to(addr(PBX));
    assert_eq!(ack.header(HeaderName::CallId), at_pbx.header(HeaderName::CallId));
    assert_eq!(ack.header(HeaderName::From), at_pbx.header(HeaderName::From));
    let mut pbx = Dialog::called(inside(PBX), &at_pbx, "pbx");
    world.deliver(inside(PBX), pbx.request("BYE", ""));
    let bye = world.one_to(addr(PHONE));
    assert_eq!(bye.header(HeaderName::From), ok.header(HeaderName::To), "the tag that the phone knows");
    world.deliver(phone.flow, response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
}

#[test]
fn given_an_answer_that_waits_for_the_disk_when_the_callee_goes_on_then_nothing_overtakes_its_200() {
    for method in ["INFO", "UPDATE", "INVITE", "OPTIONS", "FOO"] {
        let (mut world, phone) = with_phone();
        let at_pbx = phone_calls(&mut world, &phone, "d8");
        world.auto_commit = false;
        world.deliver(
            inside(PBX),
            respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
        );
        let mut pbx = Dialog::called(inside(PBX), &at_pbx, "pbx");
        world.deliver(inside(PBX), pbx.request(method, "Contact: <sip:402@10.0.1.1>\r\n"));
        assert_eq!(said(&mut world, addr(PHONE)), Vec::<String>::new(), "{method}");
        world.commit();
        assert_eq!(said(&mut world, addr(PHONE)), ["200", method]);
    }
}

#[test]
fn given_a_request_that_was_overtaken_when_it_comes_then_it_is_500_rfc3261_12_2_2() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "d6");
    let first = call.phone.request("INFO", "");
    let second = call.phone.request("INFO", "");
    world.deliver(phone.flow, second);
    world.deliver(phone.flow, first);
    assert_eq!(said(&mut world, addr(PHONE)), ["500"]);
    assert_eq!(said(&mut world, addr(PBX)), ["INFO"]);
}

#[test]
fn given_a_long_call_when_time_passes_then_checkpoints_say_so_and_it_holds_no_timers_of_its_beginning() {
    let (mut world, phone) = with_phone();
    established(&mut world, &phone, "d7");
    world.advance(Duration::from_secs(3_000));
    let marks = world.records("call.checkpointed");
    assert_eq!(marks.len(), 3);
    assert_eq!(
        (&marks[2].json()["checkpoint"], &marks[2].json()["elapsed_ms"]),
        (&3.into(), &2_700_000.into())
    );
    assert_eq!(world.engine.counters().transactions, 0);
    world.assert_replay_equals_live();
}

/// Who somebody says they are: two claims, and a wish.
const CLAIMS: &str = "P-Asserted-Identity: <sip:boss@acme.test>\r\nRemote-Party-ID: <sip:boss@acme.test>;screen=yes\r\n\
                      P-Preferred-Identity: <sip:401@acme.test>\r\n";

/// How many of the claims a message bears; the wish must be there.
#[track_caller]
fn claims(sent: &crate::support::Sent) -> usize {
    assert!(sent.text().contains("\r\nP-Preferred-Identity: <sip:401@acme.test>\r\n"), "{}", sent.text());
    [HeaderName::PAssertedIdentity, HeaderName::RemotePartyId]
        .into_iter()
        .filter(|name| sent.header(*name).is_some())
        .count()
}

#[test]
fn given_a_phone_that_asserts_an_identity_then_no_message_of_it_takes_that_on_but_a_backends_does_rfc3325_5()
{
    let (mut world, phone) = with_phone();
    let to = "sip:402@acme.test";
    let invite = crate::call_support::invite(&phone.flow, "sip:401@acme.test", to, "pai", "")
        .replace("X-Custom", &format!("{CLAIMS}X-Custom"));
    world.deliver(phone.flow, invite);
    world.take_to(addr(PHONE));
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.header(HeaderName::PAssertedIdentity).as_deref(), Some("<sip:401@acme.test>"));
    assert_eq!(claims(&at_pbx), 1, "the edge's own word");
    for status in [180, 200] {
        world.deliver(
            inside(PBX),
            response(&at_pbx, status, &format!("Contact: <sip:402@10.0.1.1>\r\n{CLAIMS}")),
        );
    }
    let answers = world.take_to(addr(PHONE));
    assert_eq!(answers.iter().map(claims).collect::<Vec<_>>(), [2, 2], "a backend is believed");
    let mut caller = Dialog::calling(phone.flow, &answers[1]);
    world.deliver(phone.flow, caller.ack(1, CLAIMS));
    assert_eq!(claims(&world.one_to(addr(PBX))), 0);
    world.deliver(phone.flow, caller.request("UPDATE", CLAIMS));
    assert_eq!(claims(&world.one_to(addr(PBX))), 0);
    let mut callee = Dialog::called(inside(PBX), &at_pbx, "pbx");
    world.deliver(inside(PBX), callee.request("UPDATE", CLAIMS));
    let at_phone = world.one_to(addr(PHONE));
    assert_eq!(claims(&at_phone), 2);
    world.deliver(phone.flow, response(&at_phone, 200, CLAIMS));
    assert_eq!(claims(&world.take_to(addr(PBX))[0]), 0);
}

#[test]
fn given_a_called_phone_that_asserts_an_identity_then_none_of_its_responses_takes_that_on() {
    let (mut world, phone) = with_phone();
    for (id, last) in [("pai-ok", 200), ("pai-busy", 486), ("pai-auth", 407)] {
        let invites = crate::call_support::pbx_calls(&mut world, "sip:401@acme.test", id, &[PHONE]);
        for status in [180, last] {
            let lines = format!("Contact: <sip:401@192.168.1.20>\r\n{CLAIMS}");
            world.deliver(phone.flow, response(&invites[0], status, &lines));
            assert_eq!(claims(&world.one_to(addr(PBX))), 0, "{status}");
        }
        world.take();
    }
}

#[test]
fn given_an_invite_inside_a_call_when_the_call_ends_meanwhile_then_it_gets_487_rfc3261_15_1_2() {
    for (number, by_caller) in [true, false].into_iter().enumerate() {
        for (last, gets) in [(487, vec!["ACK"]), (200, vec!["ACK"])] {
            let (mut world, phone) = with_phone();
            let mut call = established(&mut world, &phone, &format!("pend{number}{last}"));
            world
                .deliver(phone.flow, call.phone.request("INVITE", "Contact: <sip:me@198.51.100.7:5062>\r\n"));
            assert_eq!(said(&mut world, addr(PHONE)), ["100"]);
            let at_pbx = world.one_to(addr(PBX));
            if by_caller {
                world.deliver(inside(PBX), response(&at_pbx, 100, ""));
                world.deliver(phone.flow, call.phone.request("BYE", ""));
                assert_eq!(said(&mut world, addr(PHONE)), ["200", "487"]);
                let sent = world.take_to(addr(PBX));
                assert!(sent[0].text().starts_with("CANCEL ") && sent[1].text().starts_with("BYE "));
                for sent in &sent {
                    world.deliver(inside(PBX), response(sent, 200, ""));
                }
            } else {
                world.deliver(inside(PBX), call.pbx.request("BYE", ""));
                let sent = world.take_to(addr(PHONE));
                assert_eq!(sent[1].status(), Some(487));
                world.deliver(phone.flow, response(&sent[0], 200, ""));
                assert_eq!(said(&mut world, addr(PBX)), ["200"], "CANCEL waits for a provisional");
            }
            let answer = response(&at_pbx, last, "Contact: <sip:402@10.0.1.1:5060>\r\n");
            world.deliver(inside(PBX), &answer);
            assert_eq!(said(&mut world, addr(PBX)), gets, "{last}");
            let ack = call.phone.ack(2, "").replace(&format!("x{}x", call.phone.counter), "x2x");
            world.deliver(phone.flow, ack);
            world.deliver(inside(PBX), &answer);
            assert_eq!(said(&mut world, addr(PBX)), gets, "{last} again");
            world.advance(Duration::from_secs(200));
            let late: Vec<_> = [said(&mut world, addr(PHONE)), said(&mut world, addr(PBX))].concat();
            assert_eq!(late, Vec::<String>::new());
            assert_eq!((world.engine.calls_active(), world.records("call.ended").len()), (0, 1));
            world.assert_replay_equals_live();
        }
    }
}

#[test]
fn given_a_call_that_ended_when_another_bye_comes_then_it_is_481_and_the_same_one_gets_its_200_again() {
    for by_phone in [true, false] {
        let (mut world, phone) = with_phone();
        let mut call = established(&mut world, &phone, "late-bye");
        let (flow, own, other) = if by_phone { (phone.flow, PHONE, PBX) } else { (inside(PBX), PBX, PHONE) };
        let other_flow = if by_phone { inside(PBX) } else { phone.flow };
        let dialog = if by_phone { &mut call.phone } else { &mut call.pbx };
        let (first, second) = (dialog.request("BYE", ""), dialog.request("BYE", ""));
        let crossing = if by_phone { &mut call.pbx } else { &mut call.phone };
        let (crossing, late) = (crossing.request("BYE", ""), crossing.request("BYE", ""));
        world.deliver(flow, &first);
        assert_eq!(said(&mut world, addr(own)), ["200"]);
        let bye = world.one_to(addr(other));
        world.deliver(other_flow, &crossing);
        assert_eq!(said(&mut world, addr(other)), ["200"], "it crossed ours");
        world.deliver(other_flow, response(&bye, 200, ""));
        for (flow, who, bye, status) in
            [(flow, own, &first, "200"), (flow, own, &second, "481"), (other_flow, other, &late, "481")]
        {
            world.deliver(flow, bye);
            assert_eq!(said(&mut world, addr(who)), [status]);
        }
        the_cdr(&world);
    }
}

#[test]
fn given_a_call_that_failed_when_a_bye_comes_then_it_is_481() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "no-bye");
    world.deliver(inside(PBX), response(&at_pbx, 486, ""));
    let busy = world.one_to(addr(PHONE));
    let mut caller = Dialog { target: "sip:402@acme.test".into(), ..dialog_of(phone.flow, &busy) };
    world.deliver(phone.flow, caller.request("BYE", ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["481"]);
}

/// What a caller makes of a final response without Contact.
fn dialog_of(flow: signalbox_base::Flow, answer: &crate::support::Sent) -> Dialog {
    Dialog {
        flow,
        local: answer.header(HeaderName::From).expect("From"),
        remote: answer.header(HeaderName::To).expect("To"),
        call_id: answer.header(HeaderName::CallId).expect("Call-ID"),
        target: String::new(),
        cseq: 1,
        counter: 0,
    }
}

#[test]
fn given_a_phone_that_ends_lines_with_lf_alone_then_whatever_goes_on_of_it_has_crlf_rfc3261_7() {
    let (mut world, phone) = with_phone();
    let offer = sdp("192.0.2.10", "sendrecv", "PCMA").replace("\r\n", "\n");
    let text =
        crate::call_support::invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "lf", &offer);
    let (head, body) = text.split_once("\r\n\r\n").expect("a body");
    let folded = head
        .replace("X-Custom:  kept", "X-Custom:\r\n folded,\r\n\tkept")
        .replace(";tag=flf", "\r\n ;tag=flf");
    world.deliver(phone.flow, format!("{}\n\n{body}", folded.replace("\r\n", "\n")));
    let trying = world.one_to(addr(PHONE));
    let at_pbx = world.one_to(addr(PBX));
    assert!(at_pbx.text().ends_with(body), "the body is the peers' own");
    assert!(at_pbx.text().contains("X-Custom:\r\n folded,\r\n\tkept"));
    world.deliver(inside(PBX), response(&at_pbx, 486, "").replace("\r\n", "\n"));
    let busy = world.one_to(addr(PHONE));
    assert_eq!(busy.status(), Some(486));
    for sent in [&trying, &at_pbx, &busy] {
        let (head, _) =
            sent.text().split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("an end");
        assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{head:?}");
    }
}
