//! A user with two phones: both ring, one answers.

use crate::call_support::{
    Dialog, PBX, PHONE, SECOND, dismissed, invite, pbx_calls, respond, said, sdp, the_cdr, with_phone,
    with_phone_under,
};
use crate::support::{
    Phone, Sent, World, acme, addr, backend, domain, granted, inside, register, response, settings, tenant,
};
use signalbox_engine::Settings;
use signalbox_engine::settings::{ContactMode, EarlyDialogs};
use signalbox_sip::HeaderName;
use std::time::Duration;

fn with_two_phones() -> (World, Phone, Phone) {
    with_two_phones_under(acme())
}

/// The backend sees an early dialog of each.
fn with_two_phones_apart() -> (World, Phone, Phone) {
    let mut apart = acme();
    apart.tenants[0].backends[0].early_dialogs = EarlyDialogs::Multiple;
    with_two_phones_under(apart)
}

pub(crate) fn with_two_phones_under(settings: Settings) -> (World, Phone, Phone) {
    let (mut world, first) = with_phone_under(settings);
    let mut second = Phone::new("401", "acme.test", SECOND);
    register(&mut world, &mut second, PBX, 3600);
    (world, first, second)
}

#[test]
fn given_two_phones_when_both_answer_then_the_first_wins_and_the_other_is_acknowledged_and_ended() {
    let (mut world, first, second) = with_two_phones_apart();
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "p1", &[PHONE, SECOND]);
    assert_eq!(world.records("call.routed").len(), 2, "each attempt is told");
    for (invite, phone) in invites.iter().zip([&first, &second]) {
        let ringing =
            response(invite, 180, "").replace(";tag=pbx", &format!(";tag=t{}", phone.flow.remote.port()));
        world.deliver(phone.flow, ringing);
    }
    let early = world.take_to(addr(PBX));
    assert_eq!(early.len(), 2);
    assert!(
        early[0].text().contains(";tag=t5062") && early[1].text().contains(";tag=t5064"),
        "early dialogs pass their own tags"
    );
    let answer = |n: usize, tag: &str| {
        respond(&invites[n], 200, "<sip:401@192.168.0.9>", &sdp("192.168.0.9", "sendrecv", "PCMA"))
            .replace(";tag=pbx", tag)
    };
    world.deliver(second.flow, answer(1, ";tag=t5064"));
    let ok = world.one_to(addr(PBX));
    assert!(ok.text().contains(";tag=t5064"));
    assert_eq!(said(&mut world, addr(PHONE)), ["CANCEL"], "the loser is cancelled");
    world.deliver(first.flow, answer(0, ";tag=t5062"));
    let bye = dismissed(&mut world, PHONE);
    let told = world.records("call.dismissed")[0].json();
    assert_eq!((&told["attempt"], &told["peer"]), (&1.into(), &"401@acme.test".into()));
    world.deliver(first.flow, response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PHONE)), Vec::<String>::new());
    let mut pbx = Dialog::calling(inside(PBX), &ok);
    world.deliver(inside(PBX), pbx.ack(1, ""));
    assert_eq!(said(&mut world, addr(SECOND)), ["ACK"]);
    world.deliver(inside(PBX), pbx.request("BYE", ""));
    let bye = world.one_to(addr(SECOND));
    world.deliver(second.flow, response(&bye, 200, ""));
    assert_eq!(world.records("call.answered").len(), 1);
    assert_eq!(the_cdr(&world)["attempts"], 2);
    world.advance(Duration::from_secs(200));
    assert_eq!(world.engine.calls_active(), 0);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_loser_that_takes_no_bye_before_its_ack_when_it_answers_late_then_it_gets_the_ack_and_another_bye()
{
    let (mut world, first, second) = with_two_phones();
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "p6", &[PHONE, SECOND]);
    for (invite, phone, tag) in [(&invites[1], &second, ";tag=winner"), (&invites[0], &first, ";tag=loser")] {
        let ok = respond(invite, 200, "<sip:401@192.168.0.9>", "").replace(";tag=pbx", tag);
        world.deliver(phone.flow, ok);
    }
    world.take_to(addr(PBX));
    let bye = world.take_to(addr(PHONE)).pop().expect("a BYE");
    world.deliver(first.flow, response(&bye, 500, ""));
    let sent = world.take_to(addr(PHONE));
    assert!(sent[0].text().starts_with("ACK "));
    assert!(
        sent[1].text().starts_with("BYE ") && sent[1].message().cseq().number > bye.message().cseq().number
    );
    world.deliver(first.flow, response(&sent[1], 200, ""));
    assert_eq!(world.take_to(addr(PHONE)).len(), 0);
    assert_eq!(world.engine.calls_active(), 1);
}

#[test]
fn given_a_loser_that_was_acknowledged_when_the_process_dies_before_its_bye_arrives_then_it_is_ended_again() {
    for held in [false, true] {
        let (mut world, first, second) = with_two_phones();
        let invites = pbx_calls(&mut world, "sip:401@acme.test", "p7", &[PHONE, SECOND]);
        world.deliver(second.flow, respond(&invites[1], 200, "<sip:401@192.168.0.9>", ""));
        world.take();
        world.auto_commit = !held;
        let late = respond(&invites[0], 200, "<sip:401@192.168.0.9>", "").replace(";tag=pbx", ";tag=loser");
        world.deliver(first.flow, &late);
        let before = world.take_to(addr(PHONE));
        assert_eq!(before.len(), if held { 0 } else { 2 }, "neither ACK nor BYE without its record");
        let mut world = world.crash_and_restart(Duration::from_secs(2));
        let in_dialog = |sent: &Sent| !sent.text().starts_with("OPTIONS");
        let again: Vec<Sent> = world.take_to(addr(PHONE)).into_iter().filter(in_dialog).collect();
        if held {
            // Without an ACK it says its 200 again.
            assert!(again[0].text().starts_with("CANCEL "));
            world.deliver(first.flow, &late);
            dismissed(&mut world, PHONE);
            continue;
        }
        assert!(again[0].text().starts_with("ACK sip:401@192.168.0.9 "), "the ACK may have been lost too");
        assert_eq!(again[0].message().cseq().number, 1);
        assert!(again[1].text().starts_with("BYE sip:401@192.168.0.9 "));
        assert_eq!(again[1].message().to_tag(), Some(b"loser".as_slice()));
        assert!(again[1].message().cseq().number > before[1].message().cseq().number);
        assert_eq!(again.len(), 2, "it has answered: there is nothing to cancel");
        world.deliver(first.flow, response(&again[1], 481, ""));
        let records = world.journal.len();
        world.deliver(first.flow, &late);
        assert_eq!(said(&mut world, addr(PHONE)), ["ACK"]);
        assert_eq!(world.journal.len(), records);
        world.assert_replay_equals_live();
    }
}

#[test]
fn given_a_token_when_it_is_called_then_only_its_phone_rings() {
    let (mut world, _) = with_phone();
    let mut second = Phone::new("401", "acme.test", SECOND);
    let token = register(&mut world, &mut second, PBX, 3600);
    pbx_calls(&mut world, &format!("sip:{token}@10.0.0.5:5060"), "p2", &[SECOND]);
    assert_eq!(world.take_to(addr(PHONE)).len(), 0);
}

#[test]
fn given_two_early_dialogs_when_each_counts_for_itself_then_no_request_of_one_is_late_for_the_other() {
    let (mut world, first, second) = with_two_phones_apart();
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "p5", &[PHONE, SECOND]);
    let mut early = Vec::new();
    for (number, phone) in [&first, &second].into_iter().enumerate() {
        let lines = "Require: 100rel\r\nRSeq: 7\r\nContact: <sip:401@192.168.0.9>\r\n";
        let ringing = response(&invites[number], 183, lines).replace(";tag=pbx", &format!(";tag=t{number}"));
        world.deliver(phone.flow, ringing);
        early.push(Dialog::calling(inside(PBX), &world.one_to(addr(PBX))));
    }
    let prack = |dialog: &mut Dialog| dialog.request("PRACK", "RAck: 7 1 INVITE\r\n");
    world.deliver(inside(PBX), prack(&mut early[0]));
    assert_eq!(said(&mut world, addr(PHONE)), ["PRACK"]);
    world.deliver(inside(PBX), early[0].request("UPDATE", "Contact: <sip:402@10.0.1.1>\r\n"));
    assert_eq!(said(&mut world, addr(PHONE)), ["UPDATE"]);
    early[1].counter = 10;
    world.deliver(inside(PBX), prack(&mut early[1]));
    assert_eq!(said(&mut world, addr(PBX)), Vec::<String>::new(), "CSeq 2 is the next one there");
    assert_eq!(said(&mut world, addr(SECOND)), ["PRACK"]);
    let ok = respond(&invites[1], 200, "<sip:401@192.168.0.9>", "").replace(";tag=pbx", ";tag=t1");
    world.deliver(second.flow, ok);
    world.take();
    world.deliver(inside(PBX), early[1].ack(1, ""));
    world.deliver(inside(PBX), early[1].request("INFO", ""));
    assert_eq!(said(&mut world, addr(SECOND)), ["ACK", "INFO"], "CSeq 3, as one dialog counts");
}

/// The Path that a backend is told of a phone; the phone registers at the backend of this address.
fn path_of(world: &mut World, phone: &mut Phone, pbx: &str) -> String {
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(pbx));
    world.deliver(inside(pbx), granted(&at_pbx, 3600));
    world.take_to(phone.flow.remote);
    at_pbx.header(HeaderName::Path).expect("a Path")
}

#[test]
fn given_path_mode_when_a_contact_is_called_by_its_route_then_exactly_it_rings_rfc3327_5_3() {
    let mut settings = acme();
    settings.tenants[0].backends[0].contact = ContactMode::Path;
    let mut world = World::new(settings);
    let (mut first, mut second) =
        (Phone::new("401", "acme.test", PHONE), Phone::new("401", "acme.test", SECOND));
    first.contact = "<sip:line1@192.168.1.20:5060;ob>".to_owned();
    second.contact = "<sip:192.168.1.21:5060>".to_owned();
    let paths = [path_of(&mut world, &mut first, PBX), path_of(&mut world, &mut second, PBX)];
    for (number, (phone, path)) in [&first, &second].into_iter().zip(paths).enumerate() {
        let uri = phone.contact.trim_matches(['<', '>']);
        let call = invite(&inside(PBX), "sip:402@acme.test", uri, &format!("path{number}"), "")
            .replace("Max-Forwards", &format!("Route: {path}\r\nMax-Forwards"));
        world.deliver(inside(PBX), call);
        assert_eq!(said(&mut world, addr(PBX)), ["100"]);
        let at_phone = world.one_to(phone.flow.remote);
        assert_eq!((at_phone.uri().as_str(), at_phone.header(HeaderName::Route)), (uri, None));
        let attempted = world.records("call.attempted").pop().expect("a record").json();
        assert_eq!(attempted["callee"], "401", "subscribers see the extension");
    }
    assert_eq!(world.take_to(addr(PHONE)).len() + world.take_to(addr(SECOND)).len(), 0);
}

#[test]
fn given_path_mode_when_tenants_share_a_backends_address_then_the_path_says_whose_call_it_is() {
    let of = |name: &str, host: &str| {
        let mut shared = backend("pbx-1", PBX, 1, None);
        shared.contact = ContactMode::Path;
        tenant(name, vec![domain(host, &[])], vec![shared])
    };
    let mut world = World::new(settings(vec![of("acme", "acme.test"), of("bolt", "bolt.test")]));
    let mut phone = Phone::new("401", "bolt.test", SECOND);
    let path = path_of(&mut world, &mut phone, PBX);
    let call = invite(&inside(PBX), "sip:402@10.0.1.1", "sip:401@198.51.100.8:5064", "path-shared", "")
        .replace("Max-Forwards", &format!("Route: {path}\r\nMax-Forwards"));
    world.deliver(inside(PBX), call);
    assert_eq!(said(&mut world, addr(SECOND)), ["INVITE"]);
    assert_eq!(world.records("call.attempted")[0].tenant, "bolt");
}

#[test]
fn given_two_phones_when_none_answers_then_the_caller_gets_the_best_of_what_they_said() {
    let (mut world, first, second) = with_two_phones();
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "p3", &[PHONE, SECOND]);
    world.deliver(first.flow, response(&invites[0], 503, ""));
    assert_eq!(world.take_to(addr(PBX)).len(), 0, "the other still rings");
    world.deliver(second.flow, response(&invites[1], 486, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["486"]);
    assert_eq!(the_cdr(&world)["category"], "busy");
}

#[test]
fn given_two_phones_when_one_declines_for_all_then_the_other_stops_ringing_rfc3261_16_7_5() {
    let (mut world, first, second) = with_two_phones();
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "p4", &[PHONE, SECOND]);
    world.deliver(second.flow, response(&invites[1], 180, ""));
    world.take();
    world.deliver(first.flow, response(&invites[0], 603, ""));
    assert_eq!(said(&mut world, addr(SECOND)), ["CANCEL"]);
    assert_eq!(said(&mut world, addr(PBX)), ["603"]);
}

/// The backend calls 401 with this Max-Breadth.
fn call_with_breadth(world: &mut World, breadth: &str, id: &str) {
    let call = invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", id, "")
        .replace("Max-Forwards", &format!("{breadth}Max-Forwards"));
    world.deliver(inside(PBX), call);
    assert_eq!(said(world, addr(PBX)), ["100"]);
}

#[test]
fn given_two_phones_when_a_call_may_have_one_branch_then_they_ring_one_after_the_other_rfc5393_5_3_3() {
    let (mut world, first, second) = with_two_phones();
    call_with_breadth(&mut world, "Max-Breadth: 1\r\n", "b1");
    let mut asked = world.take();
    let only = asked.pop().expect("an INVITE");
    assert_eq!((asked.len(), only.header(HeaderName::MaxBreadth).as_deref()), (0, Some("1")));
    world.deliver(only.flow, response(&only, 180, ""));
    world.take();
    world.deliver(only.flow, response(&only, 486, ""));
    let other = if only.flow.remote == first.flow.remote { second } else { first };
    let sent = world.take();
    assert_eq!(sent.iter().filter(|sent| sent.text().starts_with("INVITE ")).count(), 1);
    let next = sent.iter().find(|sent| sent.flow.remote == other.flow.remote).expect("the other rings now");
    world.deliver(other.flow, response(next, 200, "Contact: <sip:401@192.168.0.9>\r\n"));
    assert_eq!(said(&mut world, addr(PBX)), ["200"]);
}

#[test]
fn given_two_phones_when_a_call_forks_then_its_breadth_is_shared_rfc5393_5_3_3() {
    for (id, said, shares) in [("b2", "Max-Breadth: 5\r\n", ["3", "2"]), ("b3", "", ["30", "30"])] {
        let (mut world, ..) = with_two_phones();
        call_with_breadth(&mut world, said, id);
        let asked = world.take();
        let breadths: Vec<_> = asked.iter().filter_map(|sent| sent.header(HeaderName::MaxBreadth)).collect();
        assert_eq!(breadths, shares);
    }
}
