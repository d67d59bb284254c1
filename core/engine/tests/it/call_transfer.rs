//! Transfers through the edge: blind, and attended with identifiers that differ on both sides (RFC 3515, RFC 3891, RFC 5589).

use crate::call_support::{
    Established, PBX, PHONE, established, hang_up, invite, pbx_calls, said, with_body, with_phone,
    with_phone_under,
};
use crate::support::{Phone, Sent, World, acme, addr, inside, response};
use signalbox_engine::Settings;
use signalbox_engine::settings::Hide;
use signalbox_sip::HeaderName;

fn hidden() -> Settings {
    let mut hidden = acme();
    hidden.tenants[0].backends[0].hide = Hide::Full;
    hidden
}

fn tag(address: &str) -> &str {
    address.rsplit_once(";tag=").map_or("", |(_, tag)| tag)
}

/// REFER of the phone to `to`; gives it as the backend gets it.
#[track_caller]
fn refer(world: &mut World, phone: &Phone, call: &mut Established, to: &str) -> Sent {
    let lines = format!("Refer-To: {to}\r\nContact: <sip:me@{PHONE}>\r\n");
    world.deliver(phone.flow, call.phone.request("REFER", &lines));
    world.one_to(addr(PBX))
}

fn sipfrag(status: &str) -> String {
    let body = format!("SIP/2.0 {status}\r\n");
    with_body("Event: refer\r\nSubscription-State: active\r\n", &body)
        .replace("application/sdp", "message/sipfrag")
}

fn outcomes(world: &World) -> Vec<(String, u64)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let told = world.records("call.transferred");
    told.iter()
        .map(|record| (text(&record.json()["outcome"]), record.json()["status"].as_u64().unwrap_or(0)))
        .collect()
}

#[test]
fn given_a_blind_transfer_when_it_is_taken_and_succeeds_then_events_and_notify_say_so() {
    let (mut world, phone) = with_phone();
    let mut call = established(&mut world, &phone, "b1");
    let at_pbx = refer(&mut world, &phone, &mut call, "<sip:403@203.0.113.1>");
    assert_eq!(
        at_pbx.header(HeaderName::ReferTo).as_deref(),
        Some("<sip:403@acme.test>"),
        "the edge is no domain"
    );
    world.auto_commit = false;
    world.deliver(inside(PBX), response(&at_pbx, 202, "Contact: <sip:402@10.0.1.1:5060>\r\n"));
    assert_eq!(world.take_to(addr(PHONE)).len(), 0, "recorded before it is said");
    world.auto_commit = true;
    world.commit();
    assert_eq!(said(&mut world, addr(PHONE)), ["202"]);
    for status in ["100 Trying", "200 OK"] {
        world.deliver(inside(PBX), call.pbx.request("NOTIFY", &sipfrag(status)));
        let notify = world.one_to(addr(PHONE));
        assert!(notify.text().ends_with(&format!("SIP/2.0 {status}\r\n")));
        world.deliver(phone.flow, response(&notify, 200, ""));
        assert_eq!(said(&mut world, addr(PBX)), ["200"]);
    }
    assert_eq!(outcomes(&world), [("accepted".to_owned(), 202), ("completed".to_owned(), 200)]);
    let told = world.records("call.transferred")[0].json();
    assert_eq!(
        (&told["kind"], &told["by"], &told["target"]),
        (&"blind".into(), &"caller".into(), &"403".into())
    );
    hang_up(&mut world, &mut call);
    assert_eq!(world.records("call.ended").len(), 1);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_transfer_that_is_refused_or_fails_then_the_call_goes_on_and_the_event_says_so() {
    for (status, frag, told) in [
        (603, None, vec![("rejected".to_owned(), 603)]),
        (407, None, vec![]),
        (202, Some("486 Busy Here"), vec![("accepted".to_owned(), 202), ("failed".to_owned(), 486)]),
    ] {
        let (mut world, phone) = with_phone();
        let mut call = established(&mut world, &phone, "b2");
        let at_pbx = refer(&mut world, &phone, &mut call, "sip:403@acme.test");
        world.deliver(inside(PBX), response(&at_pbx, status, ""));
        world.take();
        if let Some(frag) = frag {
            world.deliver(inside(PBX), call.pbx.request("NOTIFY", &sipfrag(frag)));
        }
        assert_eq!(outcomes(&world), told);
        assert_eq!(world.engine.calls_active(), 1);
        world.assert_replay_equals_live();
    }
}

/// What names this call's dialog for who is to replace it, as the phone writes it into Refer-To.
fn replaces(call: &Established, more: &str) -> String {
    let dialog = &call.phone;
    format!("{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}{more}", dialog.call_id, tag(&dialog.remote), tag(&dialog.local))
}

#[test]
fn given_hidden_legs_when_a_phone_transfers_attended_then_the_backend_reads_its_own_identifiers() {
    for (settings, early) in [(hidden(), "%3Bearly-only"), (hidden(), ""), (acme(), "")] {
        let (mut world, phone) = with_phone_under(settings);
        let mut first = established(&mut world, &phone, "a1");
        let second = established(&mut world, &phone, "a2");
        let named = replaces(&second, early);
        let to = format!("<sip:402@acme.test?Require=replaces&Replaces={named}>");
        let at_pbx = refer(&mut world, &phone, &mut first, &to);
        let pbx = &second.pbx;
        let wanted = format!(
            "{}%3Bto-tag%3D{}%3Bfrom-tag%3D{}{early}",
            pbx.call_id,
            tag(&pbx.local),
            tag(&pbx.remote)
        );
        let to = at_pbx.header(HeaderName::ReferTo).expect("Refer-To");
        assert_eq!(to, format!("<sip:402@acme.test?Require=replaces&Replaces={wanted}>"));
        world.deliver(inside(PBX), response(&at_pbx, 202, ""));
        let told = world.records("call.transferred")[0].json();
        let uid = world.records("call.attempted")[1].subject.clone();
        assert_eq!((&told["kind"], &told["replaces"]), (&"attended".into(), &uid.into()));
        world.assert_replay_equals_live();
    }
}

#[test]
fn given_a_refer_to_our_contact_of_another_call_then_the_backend_is_told_its_own() {
    let (mut world, phone) = with_phone();
    let mut first = established(&mut world, &phone, "c1");
    let second = established(&mut world, &phone, "c2");
    let to = format!("<{}?Replaces={}>", second.phone.target, replaces(&second, ""));
    let at_pbx = refer(&mut world, &phone, &mut first, &to);
    let to = at_pbx.header(HeaderName::ReferTo).expect("Refer-To");
    assert!(to.starts_with("<sip:402@10.0.1.1:5060?Replaces="), "{to}");
}

#[test]
fn given_an_invite_with_replaces_from_a_backend_then_the_phone_reads_its_own_identifiers() {
    let (mut world, phone) = with_phone_under(hidden());
    let call = established(&mut world, &phone, "r1");
    let (pbx, own) = (&call.pbx, &call.phone);
    let named = |dialog: &crate::call_support::Dialog| {
        format!("{};to-tag={};from-tag={}", dialog.call_id, tag(&dialog.remote), tag(&dialog.local))
    };
    let offer = format!("Replaces: {}\r\nX-Custom", named(pbx));
    let request =
        invite(&inside(PBX), "sip:404@acme.test", "sip:401@acme.test", "r2", "").replace("X-Custom", &offer);
    world.deliver(inside(PBX), request);
    let at_phone = world.take_to(addr(PHONE)).pop().expect("the INVITE");
    let wanted = format!("{};to-tag={};from-tag={}", own.call_id, tag(&own.local), tag(&own.remote));
    assert_eq!(at_phone.header(HeaderName::Replaces), Some(wanted));
    // A dialog behind the backend has other names out here, which are its own again where they come back.
    let other = pbx_names_a_dialog_of_its_own(&mut world);
    let names = other.header(HeaderName::Replaces).expect("Replaces");
    assert!(!names.contains("nobody") && !names.contains("r1;"), "{names}");
    let offer = format!("Replaces: {names}\r\nX-Custom");
    let request = invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "r3", "");
    world.deliver(phone.flow, request.replace("X-Custom", &offer));
    let back = world.take_to(addr(PBX)).pop().expect("the INVITE");
    assert_eq!(back.header(HeaderName::Replaces).as_deref(), Some("r1;to-tag=nobody;from-tag=knows"));
}

fn pbx_names_a_dialog_of_its_own(world: &mut World) -> Sent {
    world.take();
    let lines = "Replaces: r1;to-tag=nobody;from-tag=knows\r\nX-Custom";
    let request =
        invite(&inside(PBX), "sip:404@acme.test", "sip:401@acme.test", "r3", "").replace("X-Custom", lines);
    world.deliver(inside(PBX), request);
    world.take_to(addr(PHONE)).pop().expect("the INVITE")
}

#[test]
fn given_a_call_that_rings_when_a_backend_picks_it_up_by_replaces_then_early_identifiers_are_exchanged_too() {
    let (mut world, phone) = with_phone_under(hidden());
    let invites = pbx_calls(&mut world, "sip:401@acme.test", "e1", &[PHONE]);
    world.deliver(phone.flow, response(&invites[0], 180, "Contact: <sip:401@192.168.0.9>\r\n"));
    let ringing = world.one_to(addr(PBX));
    let text = |name| ringing.header(name).expect("a header");
    let lines = format!(
        "Replaces: e1;to-tag={};from-tag={};early-only\r\nX-Custom",
        tag(&text(HeaderName::To)),
        tag(&text(HeaderName::From))
    );
    let request =
        invite(&inside(PBX), "sip:404@acme.test", "sip:401@acme.test", "e2", "").replace("X-Custom", &lines);
    world.deliver(inside(PBX), request);
    let at_phone = world.take_to(addr(PHONE)).pop().expect("the INVITE");
    let wanted = format!(
        "{};to-tag=pbx;from-tag={};early-only",
        invites[0].header(HeaderName::CallId).expect("Call-ID"),
        tag(&invites[0].header(HeaderName::From).expect("From"))
    );
    assert_eq!(at_phone.header(HeaderName::Replaces), Some(wanted));
}
