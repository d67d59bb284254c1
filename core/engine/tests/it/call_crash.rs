//! The process dies at one point of a call after another: no leg stays alive on either side, and every answered call has one
//! record.

use crate::call_support::{
    Dialog, PBX, PHONE, dismissed, established, pbx_calls, phone_calls, respond, said, sdp, the_cdr,
    with_phone,
};
use crate::support::{Sent, World, addr, inside, response};
use signalbox_sip::HeaderName;
use std::time::Duration;

fn restart(world: World) -> World {
    world.crash_and_restart(Duration::from_secs(2))
}

/// No call in progress, nothing left to say, and the fold agrees.
fn at_rest(world: &mut World) {
    world.advance(Duration::from_secs(400));
    world.take();
    assert_eq!(world.engine.calls_active(), 0);
    world.advance(Duration::from_secs(400));
    assert_eq!(said(world, addr(PBX)), Vec::<String>::new());
    world.assert_replay_equals_live();
}

fn starts(sent: &[Sent], word: &str) -> Option<Sent> {
    sent.iter().find(|sent| sent.text().starts_with(word)).cloned()
}

#[test]
fn given_a_ringing_call_when_the_process_dies_then_it_is_cancelled_below_and_503_above() {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "x1");
    world.deliver(inside(PBX), response(&at_pbx, 180, ""));
    world.take();
    world.commit();
    let mut world = restart(world);
    let above = world.one_to(addr(PHONE));
    assert_eq!(above.status(), Some(503));
    assert!(
        above.header(HeaderName::Via).expect("Via").contains("branch=z9hG4bKx1"),
        "the caller's own transaction"
    );
    let cancel = world.one_to(addr(PBX));
    assert_eq!(cancel.header(HeaderName::Via), at_pbx.header(HeaderName::Via));
    world.deliver(inside(PBX), response(&cancel, 200, ""));
    world.deliver(inside(PBX), response(&at_pbx, 487, ""));
    assert_eq!(said(&mut world, addr(PBX)), ["ACK"], "the 487 finds its ACK although its transaction is new");
    world.advance(Duration::from_secs(1));
    assert_eq!(said(&mut world, addr(PHONE)), ["503"], "again, until there is an ACK");
    let ack = format!(
        "ACK sip:402@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bKx1;rport\r\nMax-Forwards: 70\r\n\
         From: \"Caller\" <sip:401@acme.test>;tag=fx1\r\nTo: {}\r\nCall-ID: x1\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n",
        above.header(HeaderName::To).expect("To")
    );
    world.deliver(phone.flow, ack);
    world.advance(Duration::from_secs(10));
    assert!(!said(&mut world, addr(PHONE)).contains(&"503".to_owned()));
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["status"], &cdr["completeness"]), (&503.into(), &"recovered".into()));
    at_rest(&mut world);
}

#[test]
fn given_an_answer_that_was_not_on_disk_when_the_process_dies_then_the_called_side_is_hung_up_and_nobody_pays()
 {
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "x2");
    world.auto_commit = false;
    let ok = respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "sendrecv", "PCMA"));
    world.deliver(inside(PBX), &ok);
    assert_eq!(world.take_to(addr(PHONE)).len(), 0);
    let mut world = restart(world);
    world.take_to(addr(PBX));
    world.deliver(inside(PBX), &ok);
    let bye = dismissed(&mut world, PBX);
    assert!(bye.text().starts_with("BYE sip:402@10.0.1.1 "));
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(world.records("call.answered").len(), 0);
    assert_eq!(world.records("call.failed").len(), 1);
    at_rest(&mut world);
}

#[test]
fn given_an_answer_on_disk_when_the_process_dies_before_sending_it_then_it_is_sent_again_and_the_call_lives()
{
    let (mut world, phone) = with_phone();
    let at_pbx = phone_calls(&mut world, &phone, "x3");
    world.deliver(
        inside(PBX),
        respond(&at_pbx, 200, "<sip:402@10.0.1.1>", &sdp("10.0.1.1", "sendrecv", "PCMA")),
    );
    let lost = world.one_to(addr(PHONE));
    let mut world = restart(world);
    let again = world.take_to(addr(PHONE)).remove(0);
    assert_eq!(again.bytes, lost.bytes, "the same 200, its body too");
    let mut caller = Dialog::calling(phone.flow, &again);
    world.deliver(phone.flow, caller.ack(1, ""));
    let ack = world.one_to(addr(PBX));
    assert_eq!(ack.header(HeaderName::CSeq).as_deref(), Some("1 ACK"), "the ACK repeats the INVITE's CSeq");
    world.deliver(phone.flow, caller.request("BYE", ""));
    let bye = world.one_to(addr(PBX));
    let cseq: u32 = bye.message().cseq().number;
    assert!(cseq > 10_000, "{cseq}: above whatever was sent before");
    world.deliver(inside(PBX), response(&bye, 200, ""));
    assert_eq!(said(&mut world, addr(PHONE)), ["200"]);
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["completeness"], &cdr["category"]), (&"recovered".into(), &"answered".into()));
    at_rest(&mut world);
}

#[test]
fn given_a_call_when_the_process_dies_and_both_ends_still_have_it_then_it_goes_on() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "x4");
    world.advance(Duration::from_secs(100));
    let mut world = restart(world);
    assert_eq!(world.records("call.recovered").pop().expect("an event").json()["cause"], "restart");
    world.advance(Duration::from_secs(11));
    for peer in [PBX, PHONE] {
        let sent = world.take_to(addr(peer));
        // Pings to phones are OPTIONS too, but in no dialog.
        let is_probe = |sent: &&Sent| sent.text().starts_with("OPTIONS") && sent.message().to_tag().is_some();
        let probe = sent.iter().find(is_probe).expect("a probe in the dialog").clone();
        let flow = if peer == PBX { inside(PBX) } else { phone.flow };
        world.deliver(flow, response(&probe, 200, ""));
    }
    world.deliver(inside(PBX), call.pbx.request("INFO", ""));
    assert!(said(&mut world, addr(PHONE)).contains(&"INFO".to_owned()));
    assert_eq!(world.engine.calls_active(), 1);
    world.advance(Duration::from_secs(50));
    world.take();
    world.deliver(inside(PBX), call.pbx.request("BYE", ""));
    let bye = world.one_to(addr(PHONE));
    world.deliver(phone.flow, response(&bye, 200, ""));
    let cdr = the_cdr(&world);
    assert_eq!(cdr["billable_ms"], 163_000, "wall time across the restart");
    at_rest(&mut world);
}

#[test]
fn given_a_call_when_one_end_lost_it_meanwhile_then_the_other_is_hung_up_and_the_record_is_estimated() {
    let (mut world, phone) = with_phone();
    established(&mut world, &phone, "x5");
    world.advance(Duration::from_secs(100));
    // Any record says that the process lived then.
    world.command(signalbox_engine::Command::Acted {
        action: "log level".into(),
        target: "edge-1".into(),
        outcome: "done".into(),
        actor: "op".into(),
    });
    let mut world = restart(world);
    world.advance(Duration::from_secs(11));
    let at_phone = starts(&world.take_to(addr(PHONE)), "OPTIONS sip:me@").expect("a probe");
    let at_pbx = starts(&world.take_to(addr(PBX)), "OPTIONS").expect("a probe");
    world.deliver(phone.flow, response(&at_phone, 200, ""));
    world.deliver(inside(PBX), response(&at_pbx, 481, ""));
    let bye = starts(&world.take_to(addr(PHONE)), "BYE").expect("the survivor is told");
    world.deliver(phone.flow, response(&bye, 200, ""));
    let cdr = the_cdr(&world);
    assert_eq!((&cdr["completeness"], &cdr["released_by"]), (&"estimated".into(), &"edge".into()));
    assert_eq!(cdr["billable_ms"], 100_000, "until it was last known to be");
    at_rest(&mut world);
}

#[test]
fn given_an_end_on_disk_when_the_process_dies_before_the_bye_leaves_then_it_is_sent_again() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "x6");
    let bye = call.phone.request("BYE", "");
    world.deliver(phone.flow, &bye);
    world.take();
    let mut world = restart(world);
    let again = starts(&world.take_to(addr(PBX)), "BYE sip:402@10.0.1.1:5060").expect("BYE again");
    assert!(again.message().cseq().number > 10_000);
    world.deliver(inside(PBX), response(&again, 481, ""));
    world.deliver(phone.flow, &bye);
    assert!(
        said(&mut world, addr(PHONE)).contains(&"200".to_owned()),
        "the caller's BYE, again, is met with 200"
    );
    the_cdr(&world);
    at_rest(&mut world);
}

#[test]
fn given_an_end_that_was_not_on_disk_when_the_process_dies_then_the_repeated_bye_ends_the_call_once() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "x7");
    world.auto_commit = false;
    let bye = call.phone.request("BYE", "");
    world.deliver(phone.flow, &bye);
    assert_eq!(world.take().len(), 0, "neither the BYE nor its answer left");
    let mut world = restart(world);
    world.take();
    world.deliver(phone.flow, &bye);
    let onward = starts(&world.take_to(addr(PBX)), "BYE").expect("now it is on disk");
    world.deliver(inside(PBX), response(&onward, 200, ""));
    assert!(said(&mut world, addr(PHONE)).contains(&"200".to_owned()));
    assert_eq!(the_cdr(&world)["released_by"], "caller");
    at_rest(&mut world);
}

#[test]
fn given_a_winner_on_disk_when_the_process_dies_before_the_losers_cancel_leaves_then_it_leaves_now() {
    let (mut world, first) = with_phone();
    let mut second = crate::support::Phone::new("401", "acme.test", crate::call_support::SECOND);
    crate::support::register(&mut world, &mut second, PBX, 3600);
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "x8", &[PHONE, crate::call_support::SECOND]);
    world.deliver(second.flow, response(&invites[1], 180, ""));
    world.deliver(first.flow, respond(&invites[0], 200, "<sip:401@192.168.0.9>", ""));
    world.take();
    let mut world = restart(world);
    let cancel =
        starts(&world.take_to(addr(crate::call_support::SECOND)), "CANCEL").expect("the loser is cancelled");
    assert_eq!(cancel.header(HeaderName::Via), invites[1].header(HeaderName::Via));
}

#[test]
fn given_a_refresh_lost_in_a_crash_when_the_phone_is_called_past_its_expiry_then_it_rings_until_the_extension_ends()
 {
    let (world, _) = with_phone();
    let mut world = world.crash_and_restart(Duration::from_secs(3_590));
    world.advance(Duration::from_secs(60));
    world.take();
    let at_phone = pbx_calls(&mut world, "sip:401@acme.test", "x9", &[PHONE]).remove(0);
    assert_eq!(at_phone.uri(), "sip:401@198.51.100.7:5062");
    world.advance(Duration::from_secs(3_600));
    world.take();
    let late = crate::call_support::invite(&inside(PBX), "sip:402@acme.test", "sip:401@acme.test", "x10", "");
    world.deliver(inside(PBX), late);
    assert_eq!(said(&mut world, addr(PBX)), ["100", "404"], "extended once only");
}

/// So many calls that were busy and acknowledged; then the process dies, and the next one starts so much later.
fn busy_then_restart(calls: usize, after: Duration) -> World {
    let (mut world, phone) = with_phone();
    for number in 0..calls {
        let at_pbx = phone_calls(&mut world, &phone, &format!("b{number}"));
        world.deliver(inside(PBX), response(&at_pbx, 486, ""));
        assert_eq!(said(&mut world, addr(PHONE)), ["486"]);
        world.take();
    }
    world.crash_and_restart(after)
}

#[test]
fn given_a_failed_call_when_the_process_restarts_then_it_is_said_again_only_while_the_caller_can_be_waiting()
{
    let mut world = busy_then_restart(1, Duration::from_secs(33));
    world.advance(Duration::from_secs(2));
    assert!(!said(&mut world, addr(PHONE)).contains(&"486".to_owned()));
    let mut world = busy_then_restart(1, Duration::from_secs(30));
    world.advance(Duration::from_secs(40));
    let again = said(&mut world, addr(PHONE)).iter().filter(|word| *word == "486").count();
    assert_eq!(again, 3, "at once, after T1 and 2·T1; not beyond 64·T1 of the failure");
    at_rest(&mut world);
}

#[test]
fn given_many_failed_calls_when_the_process_restarts_then_each_is_said_and_a_bounded_number_repeated() {
    let mut world = busy_then_restart(600, Duration::from_secs(1));
    world.advance(Duration::from_millis(400));
    assert_eq!(said(&mut world, addr(PHONE)).iter().filter(|word| *word == "486").count(), 600);
    world.advance(Duration::from_millis(200));
    assert_eq!(said(&mut world, addr(PHONE)).iter().filter(|word| *word == "486").count(), 512);
}
