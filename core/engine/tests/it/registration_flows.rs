//! Refreshes answered here in a backend's stead, and flows that fall silent.

use crate::call_support::invite;
use crate::support::*;
use signalbox_engine::contract::BackendWish;
use signalbox_engine::settings::{ContactMode, ProbeSettings};
use signalbox_engine::{Command, Settings};
use signalbox_sip::HeaderName;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";
const PHONE: &str = "192.0.2.7:40000";
const MINUTE: Duration = Duration::from_secs(60);

/// `acme`, whose PBX hears of phones each hour.
fn hourly() -> Settings {
    let mut settings = acme();
    settings.tenants[0].domains[0].policy.refresh_upstream = Some(MINUTE * 60);
    settings
}

/// Registers for so long; the PBX grants so much.
#[track_caller]
fn register_for(secs: u32, world: &mut World, phone: &mut Phone, granted_secs: u32) -> Sent {
    let text = phone.register(secs);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, granted_secs));
    let answer = world.one_to(phone.flow.remote);
    assert!(
        answer.header(HeaderName::Contact).expect("a Contact").ends_with(&format!(";expires={secs}")),
        "{}",
        answer.text()
    );
    at_pbx
}

/// Whether the next REGISTER for a minute is answered here.
fn is_answered_here(world: &mut World, phone: &mut Phone) -> bool {
    is_answered_here_for(60, world, phone)
}

fn is_answered_here_for(secs: u32, world: &mut World, phone: &mut Phone) -> bool {
    let shown = format!(";expires={secs}");
    world.take();
    let text = phone.register(secs);
    world.deliver(phone.flow, text);
    let (at_phone, at_pbx) = (world.take_to(phone.flow.remote), world.take_to(addr(PBX)));
    match (&*at_phone, &*at_pbx) {
        ([answer], []) => {
            assert_eq!(answer.status(), Some(200));
            assert!(
                answer.header(HeaderName::Contact).expect("a Contact").ends_with(&shown),
                "{}",
                answer.text()
            );
            true
        }
        ([], [at_pbx]) => {
            let ok = granted(at_pbx, 3600);
            world.deliver(inside(PBX), ok);
            world.take();
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn given_a_phone_that_refreshes_each_minute_then_the_pbx_hears_each_hour_and_both_expiries_are_true() {
    for contact in [ContactMode::Token, ContactMode::Path] {
        let mut settings = hourly();
        settings.tenants[0].backends[0].contact = contact;
        let mut world = World::new(settings);
        let mut phone = Phone::new("401", "acme.test", PHONE);
        let at_pbx = register_for(60, &mut world, &mut phone, 3600);
        assert_eq!(at_pbx.header(HeaderName::Expires).as_deref(), Some("3600"));
        let mut heard = 0;
        for _ in 0..120 {
            world.advance(Duration::from_secs(55));
            heard += usize::from(!is_answered_here(&mut world, &mut phone));
        }
        assert_eq!(heard, 1, "110 minutes are two hours of the PBX, the first of which had begun");
        assert_eq!(world.records("registration.refreshed").len(), 120, "each is told as ever");
        let ends =
            world.engine.state().registrations().aor("acme/401@acme.test").unwrap().bindings[0].expires_at;
        assert_eq!(ends, world.now.wall.plus(MINUTE));
        world.assert_replay_equals_live();
        world.advance(MINUTE + Duration::from_secs(1));
        assert!(world.engine.state().registrations().is_empty(), "silent for longer than it asked for");
    }
}

#[test]
fn given_a_pbx_that_grants_less_then_the_next_refresh_that_it_would_not_outlast_is_its_own() {
    let mut world = World::new(hourly());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register_for(60, &mut world, &mut phone, 180);
    let mut here = Vec::new();
    for _ in 0..3 {
        world.advance(Duration::from_secs(50));
        here.push(is_answered_here(&mut world, &mut phone));
    }
    assert_eq!(here, [true, false, true]);
}

#[test]
fn given_anything_new_then_the_pbx_hears_of_it() {
    type Change = fn(&mut Phone);
    let changes: [(&str, Change); 5] = [
        ("another port", |phone| phone.flow = outside("192.0.2.7:40001")),
        ("another contact", |phone| phone.contact = "<sip:other@192.0.2.7:40000>".to_owned()),
        ("another Call-ID", |phone| phone.call_id = "after-a-restart".to_owned()),
        ("another preference", |phone| phone.contact += ";q=0.5"),
        ("another path", |phone| phone.extra = "Path: <sip:p.test;lr>\r\n".to_owned()),
    ];
    for (what, change) in changes {
        let mut world = World::new(hourly());
        let mut phone = Phone::new("401", "acme.test", PHONE);
        register_for(60, &mut world, &mut phone, 3600);
        assert!(is_answered_here(&mut world, &mut phone));
        change(&mut phone);
        assert!(!is_answered_here(&mut world, &mut phone), "{what}");
    }
    let mut world = World::new(hourly());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register_for(60, &mut world, &mut phone, 3600);
    phone.cseq -= 1;
    let text = phone.register(60).replace("z9hG4bK", "z9hG4bKx");
    world.deliver(
        phone.flow,
        text.replace("User-Agent: Test/1", "User-Agent: Test/2").replace("Expires: 60", "Expires: 0"),
    );
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(500), "CSeq must rise");
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    assert!(!is_answered_here(&mut world, &mut phone), "a restarted edge does not know what the PBX granted");
}

#[test]
fn given_a_pbx_that_was_down_then_each_phone_is_passed_on_once_when_it_is_back() {
    let mut settings = hourly();
    settings.tenants[0].backends[0].probe =
        ProbeSettings { interval: Some(Duration::from_secs(10)), ..ProbeSettings::default() };
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let answer_probes = |world: &mut World| {
        for _ in 0..30 {
            world.advance(Duration::from_secs(1));
            let probes = world.take_to(addr(PBX));
            for probe in probes.iter().filter(|sent| sent.text().starts_with("OPTIONS ")) {
                world.deliver(inside(PBX), response(probe, 200, ""));
            }
        }
    };
    answer_probes(&mut world);
    register_for(600, &mut world, &mut phone, 3600);
    assert!(is_answered_here_for(600, &mut world, &mut phone));
    for _ in 0..50 {
        world.advance(Duration::from_secs(1));
    }
    world.take();
    answer_probes(&mut world);
    assert!(!is_answered_here_for(600, &mut world, &mut phone), "it may have forgotten");
    assert!(is_answered_here_for(600, &mut world, &mut phone));
    let (name, wish, actor) = ("acme/pbx-1".into(), BackendWish::Drain, "root".into());
    world.command(Command::Backend { name, wish, actor });
    world.take();
    let text = phone.register(60);
    world.deliver(phone.flow, text);
    assert_eq!(
        world.one_to(phone.flow.remote).status(),
        Some(503),
        "nobody is asked, nobody is answered for"
    );
}

/// Lets the phone answer pings for a while, or be silent.
fn live(world: &mut World, phone: &Phone, answers: bool, minutes: u32) {
    for _ in 0..minutes * 6 {
        world.advance(Duration::from_secs(10));
        let pings = world.take_to(phone.flow.remote);
        for ping in pings.iter().filter(|sent| answers && sent.text().starts_with("OPTIONS ")) {
            world.deliver(phone.flow, response(ping, 200, ""));
        }
    }
}

/// A phone behind NAT.
fn behind_nat() -> Phone {
    Phone { contact: "<sip:401@10.9.9.9:5060>".to_owned(), ..Phone::new("401", "acme.test", PHONE) }
}

/// What the PBX hears when it calls the phone.
fn called(world: &mut World, token: &str, id: &str) -> Option<u16> {
    world.take();
    let uri = format!("sip:{token}@10.0.0.5:5060");
    world.deliver(inside(PBX), invite(&inside(PBX), "sip:402@acme.test", &uri, id, ""));
    world.take_to(addr(PBX)).iter().filter_map(Sent::status).find(|status| *status > 100)
}

#[test]
fn given_a_phone_that_answered_pings_and_falls_silent_then_calls_get_480_until_it_is_heard() {
    let mut world = World::new(acme());
    let mut phone = behind_nat();
    let token = register(&mut world, &mut phone, PBX, 3600);
    live(&mut world, &phone, true, 5);
    assert_eq!(called(&mut world, &token, "c1"), None, "it rings");
    live(&mut world, &phone, false, 5);
    assert_eq!(called(&mut world, &token, "c2"), Some(480));
    assert_eq!(world.engine.state().registrations().len(), 1, "the PBX still has it");
    world.deliver(phone.flow, "\r\n\r\n");
    assert_eq!(called(&mut world, &token, "c3"), None, "it rings again");
    assert!(world.records("registration.removed").is_empty());
}

#[test]
fn given_a_phone_that_never_answers_pings_then_it_is_not_judged_by_them() {
    let mut world = World::new(acme());
    let mut phone = behind_nat();
    let token = register(&mut world, &mut phone, PBX, 3600);
    live(&mut world, &phone, false, 20);
    assert_eq!(called(&mut world, &token, "c1"), None, "it rings");
}

#[test]
fn given_a_pbx_that_trusts_the_edge_when_a_flow_fails_then_the_phone_is_taken_out_there_too() {
    let mut settings = acme();
    settings.tenants[0].backends[0].trusts_edge = true;
    let mut world = World::new(settings);
    let mut phone = behind_nat();
    let token = register(&mut world, &mut phone, PBX, 3600);
    live(&mut world, &phone, true, 5);
    world.take();
    live(&mut world, &phone, false, 3);
    let at_pbx = world.take_to(addr(PBX));
    let removal = at_pbx.iter().find(|sent| sent.text().starts_with("REGISTER ")).expect("it hears of it");
    let contact = removal.header(HeaderName::Contact).unwrap();
    assert_eq!(contact, format!("<sip:{token}@10.0.0.5:5060>;expires=0"));
    assert!(removal.header(HeaderName::To).unwrap().contains("sip:401@acme.test"));
    assert_eq!(world.records("registration.removed")[0].json()["reason"], "flow_failed");
    assert_eq!(called(&mut world, &token, "c1"), Some(404));
    world.assert_replay_equals_live();
}

#[test]
fn given_a_pbx_with_a_service_route_then_the_phones_requests_take_it_and_the_phone_sees_none_of_it_rfc3608() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let text = phone.register(600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let contact = at_pbx.header(HeaderName::Contact).unwrap();
    let service = "Service-Route: <sip:orig@10.0.1.1;lr>, <sip:core.pbx.test;lr>\r\n";
    let ok = response(&at_pbx, 200, &format!("Contact: {contact};expires=600\r\n{service}"));
    world.deliver(inside(PBX), ok);
    let answer = world.one_to(phone.flow.remote);
    let route = answer.header(HeaderName::ServiceRoute).expect("it is told");
    assert!(route.starts_with("<sip:s_") && route.ends_with("@203.0.113.1:5060;lr>"), "{route}");
    assert!(!answer.text().contains("pbx.test") && !answer.text().contains("10.0.1.1"));

    let line = format!("Route: <sip:203.0.113.1;lr>, {route}\r\n");
    let uri = "sip:402@acme.test";
    let with_route = |text: String| text.replace("Max-Forwards", &format!("{line}Max-Forwards"));
    let message = request("MESSAGE", uri, "sip:401@acme.test", phone.flow.remote, "m1");
    let call = invite(&phone.flow, "sip:401@acme.test", uri, "c1", "");
    for text in [message, call] {
        world.deliver(phone.flow, with_route(text));
        let at_pbx = world.one_to(addr(PBX));
        let routes: Vec<_> = at_pbx.message().values(HeaderName::Route).map(<[u8]>::to_vec).collect();
        assert_eq!(routes, [b"<sip:orig@10.0.1.1;lr>".to_vec(), b"<sip:core.pbx.test;lr>".to_vec()]);
        world.take();
    }
    // Somebody else's words in its place are nobody's route.
    let forged = request("MESSAGE", uri, "sip:401@acme.test", phone.flow.remote, "m2");
    let line = line.replace("<sip:s_", "<sip:s_AA");
    world.deliver(phone.flow, forged.replace("Max-Forwards", &format!("{line}Max-Forwards")));
    assert_eq!(world.one_to(addr(PBX)).header(HeaderName::Route), None);
}
