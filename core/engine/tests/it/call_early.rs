//! Before the answer: reliable responses (RFC 3262), one early dialog for a caller whose call rings at several phones.

use crate::call_fork::with_two_phones_under;
use crate::call_support::{
    Dialog, PBX, PHONE, SECOND, invite, pbx_calls, respond, said, sdp, the_cdr, with_body, with_phone,
};
use crate::support::{Phone, Sent, World, acme, addr, inside, response};
use signalbox_sip::HeaderName;
use std::time::Duration;

const RELIABLE: &str = "Require: 100rel\r\n";

/// 183 of a phone with this tag and RSeq, and a description at `media`.
fn progress(request: &Sent, tag: &str, rseq: u32, media: &str) -> String {
    let lines = format!("{RELIABLE}RSeq: {rseq}\r\nContact: <sip:401@192.168.0.9>\r\n");
    let plain = response(request, 183, &lines).replace(";tag=pbx", &format!(";tag={tag}"));
    with_body(plain.trim_end_matches("Content-Length: 0\r\n\r\n"), &sdp(media, "sendrecv", "PCMA"))
}

fn tag_of(sent: &Sent) -> Vec<u8> {
    sent.message().to_tag().expect("a tag").to_vec()
}

/// The backend calls 401 with more lines; gives the INVITEs at both phones.
fn fork(world: &mut World, id: &str, lines: &str, body: &str) -> Vec<Sent> {
    let request = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", id, body)
        .replace("X-Custom", &format!("{lines}X-Custom"));
    world.deliver(inside(PBX), request);
    assert_eq!(world.one_to(addr(PBX)).status(), Some(100));
    [PHONE, SECOND].iter().map(|phone| world.one_to(addr(phone))).collect()
}

/// The PRACK that a phone got, answered.
#[track_caller]
fn pracked(world: &mut World, phone: &Phone, rack: &str) {
    let prack = world.one_to(phone.flow.remote);
    assert!(prack.text().starts_with("PRACK "), "{}", prack.text());
    assert_eq!(prack.header(HeaderName::RAck).as_deref(), Some(rack));
    world.deliver(phone.flow, response(&prack, 200, ""));
}

#[test]
fn given_two_phones_that_ring_reliably_then_the_caller_sees_one_dialog_and_gets_the_answering_ones_description()
 {
    let (mut world, first, second) = with_two_phones_under(acme());
    let offer = sdp("10.0.1.1", "sendrecv", "PCMA");
    let invites = fork(&mut world, "one", "Supported: 100rel\r\n", &offer);
    world.deliver(first.flow, progress(&invites[0], "t1", 7, "192.0.2.10"));
    pracked(&mut world, &first, "7 1 INVITE");
    world.deliver(second.flow, progress(&invites[1], "t2", 900, "192.0.2.20"));
    pracked(&mut world, &second, "900 1 INVITE");
    let early = world.take_to(addr(PBX));
    assert_eq!((early.len(), tag_of(&early[0])), (2, tag_of(&early[1])));
    for sent in &early {
        assert_eq!((sent.header(HeaderName::RSeq), sent.header(HeaderName::Require)), (None, None));
    }
    // Again, and one too far: neither is news.
    world.deliver(first.flow, progress(&invites[0], "t1", 7, "192.0.2.10"));
    world.deliver(first.flow, progress(&invites[0], "t1", 9, "192.0.2.10"));
    assert_eq!((world.take_to(addr(PHONE)).len(), world.take_to(addr(PBX)).len()), (0, 0));
    world.deliver(first.flow, progress(&invites[0], "t1", 8, "192.0.2.11"));
    pracked(&mut world, &first, "8 1 INVITE");
    assert_eq!(said(&mut world, addr(PBX)), ["183"]);
    let ok = respond(&invites[0], 200, "<sip:401@192.168.0.9>", "").replace(";tag=pbx", ";tag=t1");
    world.deliver(first.flow, ok);
    let ok = world.one_to(addr(PBX));
    assert_eq!(tag_of(&ok), tag_of(&early[0]));
    assert!(ok.text().ends_with(&sdp("192.0.2.11", "sendrecv", "PCMA")), "{}", ok.text());
    assert_eq!(world.records("call.answered")[0].json()["codecs"][0], "PCMA");
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    world.deliver(inside(PBX), pbx.ack(1, ""));
    world.deliver(inside(PBX), pbx.request("BYE", ""));
    let sent = world.take_to(addr(PHONE));
    assert_eq!(
        (sent[0].message().to_tag(), sent[1].message().to_tag()),
        (Some(&b"t1"[..]), Some(&b"t1"[..]))
    );
    assert_eq!(sent[1].header(HeaderName::CSeq).as_deref(), Some("4 BYE"), "above our PRACKs");
    world.deliver(first.flow, response(&sent[1], 200, ""));
    the_cdr(&world);
    world.advance(Duration::from_secs(200));
    assert_eq!(world.engine.calls_active(), 0);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_fork_when_the_phone_answers_that_was_heard_last_then_the_tag_is_still_the_first_ones() {
    let (mut world, first, second) = with_two_phones_under(acme());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "stable", &[PHONE, SECOND]);
    world.deliver(first.flow, response(&invites[0], 180, "").replace(";tag=pbx", ";tag=t1"));
    let early = world.one_to(addr(PBX));
    // The answer comes without any ringing before.
    let answer = respond(&invites[1], 200, "<sip:401@192.168.0.9>", &sdp("192.0.2.20", "sendrecv", "PCMA"));
    world.deliver(second.flow, answer.replace(";tag=pbx", ";tag=t2"));
    let ok = world.one_to(addr(PBX));
    assert_eq!((ok.status(), tag_of(&ok)), (Some(200), tag_of(&early)));
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    world.deliver(inside(PBX), pbx.ack(1, ""));
    assert_eq!(world.one_to(addr(SECOND)).message().to_tag(), Some(&b"t2"[..]));
    let mut phone = Dialog::called(second.flow, &invites[1], "t2");
    world.deliver(second.flow, phone.request("BYE", ""));
    let bye = world.one_to(addr(PBX));
    assert_eq!(bye.message().from_tag(), ok.message().to_tag());
}

#[test]
fn given_a_fork_that_fails_after_ringing_then_the_failure_bears_the_tag_of_the_dialog() {
    let (mut world, first, second) = with_two_phones_under(acme());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "failing", &[PHONE, SECOND]);
    world.deliver(first.flow, response(&invites[0], 180, "").replace(";tag=pbx", ";tag=t1"));
    let early = world.one_to(addr(PBX));
    world.deliver(second.flow, response(&invites[1], 480, "").replace(";tag=pbx", ";tag=t2"));
    world.deliver(first.flow, response(&invites[0], 486, "").replace(";tag=pbx", ";tag=t3"));
    let failure = world.one_to(addr(PBX));
    assert_eq!(tag_of(&failure), tag_of(&early));
}

#[test]
fn given_one_phone_that_rings_reliably_then_prack_and_update_pass_from_end_to_end() {
    let (mut world, phone) = with_phone();
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "whole", &[PHONE]);
    world.deliver(phone.flow, progress(&invites[0], "t1", 5, "192.0.2.10"));
    let early = world.one_to(addr(PBX));
    assert_eq!(early.header(HeaderName::RSeq).as_deref(), Some("5"));
    let mut pbx = Dialog::calling(inside(PBX), &early);
    world.deliver(inside(PBX), pbx.request("PRACK", "RAck: 5 1 INVITE\r\n"));
    pracked(&mut world, &phone, "5 1 INVITE");
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    world.deliver(inside(PBX), pbx.request("UPDATE", "Contact: <sip:402@10.0.1.1>\r\n"));
    let update = world.one_to(addr(PHONE));
    // A second one beside it has to wait (RFC 3311 §5.2).
    world.deliver(inside(PBX), pbx.request("UPDATE", "Contact: <sip:402@10.0.1.1>\r\n"));
    let overlap = world.one_to(addr(PBX));
    assert_eq!(overlap.status(), Some(500));
    assert!(overlap.header(HeaderName::RetryAfter).is_some());
    world.deliver(phone.flow, response(&update, 200, "Contact: <sip:401@192.168.0.9>\r\n"));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
}

#[test]
fn given_a_caller_that_insists_on_reliability_then_each_phone_is_reliable_to_it() {
    let (mut world, first, _) = with_two_phones_under(acme());
    let invites = fork(&mut world, "insists", RELIABLE, &sdp("10.0.1.1", "sendrecv", "PCMA"));
    world.deliver(first.flow, progress(&invites[0], "t1", 5, "192.0.2.10"));
    assert_eq!(world.one_to(addr(PBX)).header(HeaderName::RSeq).as_deref(), Some("5"));
    assert_eq!(world.take_to(addr(PHONE)).len(), 0);
}

#[test]
fn given_a_fork_without_an_offer_then_its_phones_are_not_asked_to_be_reliable() {
    let (mut world, ..) = with_two_phones_under(acme());
    for sent in fork(&mut world, "late", "Supported: timer, 100rel\r\nSupported: 100rel\r\n", "") {
        assert!(!sent.text().contains("100rel"), "{}", sent.text());
        assert_eq!(sent.header(HeaderName::Supported).as_deref(), Some("timer"));
    }
}

#[test]
fn given_a_fork_when_the_caller_updates_before_the_answer_then_it_is_told_to_wait_rfc3311_5_2() {
    let (mut world, first, second) = with_two_phones_under(acme());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "wait", &[PHONE, SECOND]);
    let ringing = |invite, tag: &str| {
        response(invite, 180, "Contact: <sip:401@192.168.0.9>\r\n").replace(";tag=pbx", tag)
    };
    world.deliver(first.flow, ringing(&invites[0], ";tag=t1"));
    world.deliver(second.flow, ringing(&invites[1], ";tag=t2"));
    let mut pbx = Dialog::calling(inside(PBX), &world.take_to(addr(PBX))[0]);
    world.deliver(inside(PBX), pbx.request("UPDATE", "Contact: <sip:402@10.0.1.1>\r\n"));
    let wait = world.one_to(addr(PBX));
    assert_eq!(wait.status(), Some(491));
    assert!(wait.header(HeaderName::RetryAfter).is_some());
    // Anything else is for whoever was heard last.
    world.deliver(inside(PBX), pbx.request("INFO", ""));
    assert_eq!(said(&mut world, addr(SECOND)), ["INFO"]);
}

#[test]
fn given_updates_of_two_phones_before_the_answer_then_their_numbers_rise_in_the_callers_one_dialog() {
    let (mut world, first, second) = with_two_phones_under(acme());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "rise", &[PHONE, SECOND]);
    let mut last = 0;
    for (number, phone) in [&first, &second, &first].into_iter().enumerate() {
        let tag = format!("t{}", number % 2);
        world.deliver(
            phone.flow,
            response(&invites[number % 2], 180, "").replace(";tag=pbx", &format!(";tag={tag}")),
        );
        world.take();
        let mut dialog = Dialog::called(phone.flow, &invites[number % 2], &tag);
        (dialog.cseq, dialog.counter) =
            (10 + u32::try_from(number).unwrap_or(0), 100 + u32::try_from(number).unwrap_or(0));
        world.deliver(phone.flow, dialog.request("INFO", ""));
        let info = world.one_to(addr(PBX));
        let cseq = info.message().cseq().number;
        assert!(cseq > last, "{cseq} after {last}");
        last = cseq;
        world.deliver(inside(PBX), response(&info, 200, ""));
        assert_eq!(said(&mut world, phone.flow.remote), ["200"]);
    }
}
