//! REGISTER through the edge: what is stored, told and answered (issue 3, Shows 3).

use crate::support::*;
use signalbox_engine::{ClassB, Command, Input, Release};
use signalbox_schemas::words::BackendState;
use signalbox_sip::HeaderName;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";
const PHONE: &str = "192.0.2.7:40000";

fn phone() -> Phone {
    let mut phone = Phone::new("401", "acme.test", PHONE);
    phone.contact = "\"Desk\" <sip:401@192.168.1.20:5060;ob>;q=0.7".to_owned();
    phone
}

fn digest() -> String {
    "Authorization: Digest username=\"401\", realm=\"acme\", nonce=\"n\", uri=\"sip:acme.test\", response=\"r\"\r\n".to_owned()
}

#[test]
fn given_a_challenge_when_answered_with_200_then_one_binding_is_stored_and_the_phone_sees_its_own_contact() {
    let mut world = World::new(acme());
    let mut phone = phone();
    let first = phone.register(3600);
    world.deliver(phone.flow, first);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.message().values(HeaderName::Via).count(), 1, "the phone's Via stays here");
    assert!(!at_pbx.text().contains("192.168.1.20"), "topology is hidden: {}", at_pbx.text());
    world.deliver(
        inside(PBX),
        response(&at_pbx, 401, "WWW-Authenticate: Digest realm=\"acme\", nonce=\"n\"\r\n"),
    );
    let challenge = world.one_to(phone.flow.remote);
    assert_eq!(challenge.status(), Some(401));
    assert_eq!(challenge.release, Release::Now(ClassB::Challenge));
    assert!(
        challenge.text().contains(";received=192.0.2.7")
            || challenge.text().contains("Via: SIP/2.0/UDP 192.0.2.7:40000")
    );
    assert!(world.told().is_empty(), "the first challenge is nothing to tell: {:?}", world.told_kinds(0));

    phone.extra = digest();
    let second = phone.register(3600);
    world.deliver(phone.flow, second);
    let at_pbx = world.one_to(addr(PBX));
    assert!(at_pbx.text().contains("response=\"r\""), "credentials pass untouched");
    world.deliver(inside(PBX), granted(&at_pbx, 1800));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(
        answer.header(HeaderName::Contact).unwrap(),
        "\"Desk\" <sip:401@192.168.1.20:5060;ob>;q=0.7;expires=1800"
    );
    assert!(matches!(answer.release, Release::After(_)), "adding waits for the disk");

    assert_eq!(world.told_kinds(0), ["registration.added"]);
    let event = world.told()[0].json();
    assert_eq!(world.told()[0].subject, "acme/401@acme.test");
    assert_eq!(event["contact"], "sip:401@192.168.1.20:5060;ob");
    assert_eq!(event["received"], "udp:192.0.2.7:40000");
    assert_eq!(event["backend"], "pbx-1");
    assert_eq!(event["q"], 0.7);
    assert_eq!(world.engine.state().registrations().len(), 1);
    world.assert_replay_equals_live();
}

#[test]
fn given_refusals_then_nothing_is_stored_and_only_real_ones_are_told() {
    let mut world = World::new(acme());
    let mut phone = phone();
    phone.extra = digest();
    for (status, lines) in [
        (401, "WWW-Authenticate: Digest realm=\"acme\", nonce=\"m\", stale=true\r\n"),
        (423, "Min-Expires: 600\r\n"),
        (401, "WWW-Authenticate: Digest realm=\"acme\", nonce=\"m\"\r\n"),
        (403, ""),
    ] {
        let text = phone.register(3600);
        world.deliver(phone.flow, text);
        let at_pbx = world.one_to(addr(PBX));
        world.deliver(inside(PBX), response(&at_pbx, status, lines));
        let answer = world.one_to(phone.flow.remote);
        assert_eq!(answer.status(), Some(status));
        assert!(answer.text().contains(lines));
    }
    assert_eq!(world.told_kinds(0), ["registration.rejected"; 2]);
    assert_eq!(world.told()[0].json()["status"], 401);
    assert_eq!(world.told()[1].json()["status"], 403);
    assert_eq!(world.told()[1].json()["by"], "backend");
    assert!(world.engine.state().registrations().is_empty());
    world.advance(Duration::from_secs(11));
    let failed = world.records("security.auth_failed");
    assert_eq!(failed.len(), 1, "one counted event for the source and window");
    assert_eq!(failed[0].json()["count"], 2);
    assert!(!String::from_utf8_lossy(&failed[0].data).contains("nonce"));
}

#[test]
fn given_a_binding_when_refreshed_unchanged_then_the_answer_does_not_wait_and_when_moved_it_does() {
    let mut world = World::new(acme());
    let mut phone = phone();
    register(&mut world, &mut phone, PBX, 3600);
    world.auto_commit = false;
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    assert_eq!(world.one_to(phone.flow.remote).release, Release::Now(ClassB::Refresh));
    assert_eq!(world.told_kinds(1), ["registration.refreshed"]);
    assert!(world.told()[1].json().get("received").is_none(), "nothing moved");

    phone.flow = outside("192.0.2.7:41111");
    let text = phone.register(3600);
    world.deliver(phone.flow, &text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    assert!(world.take().is_empty());
    assert_eq!(world.waiting(), 1, "a move waits for the disk");
    world.deliver(phone.flow, &text);
    assert!(world.take().is_empty(), "a held answer does not exist for a repeated request");
    world.commit();
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
    let event = world.told()[2].json();
    assert_eq!(event["received"], "udp:192.0.2.7:41111");
    assert_eq!(event["received_before"], "udp:192.0.2.7:40000");
    world.deliver(phone.flow, &text);
    let again = world.one_to(phone.flow.remote);
    assert_eq!((again.status(), again.release), (Some(200), Release::Now(ClassB::Retransmission)));
    world.assert_replay_equals_live();
}

#[test]
fn given_a_binding_when_expires_is_0_then_it_is_removed_by_the_client() {
    let mut world = World::new(acme());
    let mut phone = phone();
    register(&mut world, &mut phone, PBX, 3600);
    let text = phone.register(0);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 200, ""));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.header(HeaderName::Contact), None);
    assert!(matches!(answer.release, Release::After(_)));
    assert_eq!(world.told_kinds(1), ["registration.removed"]);
    assert_eq!(world.told()[1].json()["reason"], "client");
    assert!(world.engine.state().registrations().is_empty());
    world.advance(Duration::from_secs(8000));
    assert!(world.records("registration.expired").is_empty(), "what was removed does not expire");
}

#[test]
fn given_a_binding_when_nothing_refreshes_it_then_it_expires_with_when_it_was_last_seen() {
    let mut world = World::new(acme());
    let mut phone = phone();
    register(&mut world, &mut phone, PBX, 120);
    let registered = world.now.wall;
    world.advance(Duration::from_secs(40));
    world.deliver(phone.flow, "\r\n\r\n");
    world.advance(Duration::from_secs(79));
    assert!(world.records("registration.expired").is_empty());
    world.advance(Duration::from_secs(2));
    let expired = world.records("registration.expired");
    assert_eq!(expired.len(), 1);
    let event = expired[0].json();
    assert_eq!(event["last_seen_at"], registered.plus(Duration::from_secs(40)).to_string());
    assert_eq!(event["contact"], "sip:401@192.168.1.20:5060;ob");
    assert!(world.engine.state().registrations().is_empty());
    world.assert_replay_equals_live();
}

#[test]
fn given_a_phone_behind_nat_then_it_is_pinged_over_its_flow_at_its_own_contact() {
    let mut world = World::new(acme());
    let mut phone = phone();
    register(&mut world, &mut phone, PBX, 3600);
    world.advance(Duration::from_secs(26));
    let ping = world.one_to(phone.flow.remote);
    assert!(ping.text().starts_with("OPTIONS sip:401@192.168.1.20:5060;ob SIP/2.0\r\n"), "{}", ping.text());
    let mut open = Phone::new("402", "acme.test", "198.51.100.9:5060");
    register(&mut world, &mut open, PBX, 3600);
    world.take();
    world.advance(Duration::from_secs(60));
    assert!(world.take_to(open.flow.remote).is_empty(), "who is where it says needs no ping");
}

#[test]
fn given_two_contacts_in_one_register_then_each_is_granted_and_removed_on_its_own() {
    let mut world = World::new(acme());
    let mut phone = phone();
    let text = phone
        .register_with("Contact: <sip:a@192.0.2.7:1>;expires=60, <sip:b@192.0.2.7:2>\r\nExpires: 300\r\n");
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let tokens: Vec<String> = at_pbx
        .message()
        .values(HeaderName::Contact)
        .map(|v| String::from_utf8_lossy(v).split(';').next().unwrap().to_owned())
        .collect();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    let lines = format!("Contact: {};expires=90\r\nContact: {}\r\nExpires: 200\r\n", tokens[1], tokens[0]);
    world.deliver(inside(PBX), response(&at_pbx, 200, &lines));
    let answer = world.one_to(phone.flow.remote);
    let shown: Vec<String> = answer
        .message()
        .values(HeaderName::Contact)
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect();
    assert_eq!(shown, ["<sip:b@192.0.2.7:2>;expires=90", "<sip:a@192.0.2.7:1>;expires=200"]);
    assert_eq!(world.told_kinds(0), ["registration.added"; 2]);

    let text = phone.register_with("Contact: *\r\nExpires: 0\r\n");
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.header(HeaderName::Contact).unwrap(), "*");
    world.deliver(inside(PBX), response(&at_pbx, 200, ""));
    assert_eq!(world.told_kinds(2), ["registration.removed"; 2]);
    assert!(world.engine.state().registrations().is_empty());
    world.assert_replay_equals_live();
}

#[test]
fn given_the_same_device_with_another_contact_then_the_old_one_is_replaced_under_the_same_token() {
    let mut world = World::new(acme());
    let mut phone = phone();
    phone.contact = "<sip:401@192.0.2.7:40000>;+sip.instance=\"<urn:uuid:1>\";reg-id=1".to_owned();
    let before = register(&mut world, &mut phone, PBX, 3600);
    phone.contact = "<sip:401@192.0.2.7:50000>;+sip.instance=\"<urn:uuid:1>\";reg-id=1".to_owned();
    phone.call_id = "after-reboot".to_owned();
    phone.cseq = 0;
    let after = register(&mut world, &mut phone, PBX, 3600);
    assert_eq!(before, after);
    assert_eq!(world.told_kinds(1), ["registration.removed", "registration.added"]);
    assert_eq!(world.told()[1].json()["reason"], "replaced");
    assert_eq!(world.engine.state().registrations().len(), 1);
    world.assert_replay_equals_live();
}

#[test]
fn given_an_older_cseq_of_the_same_call_id_then_the_register_fails_rfc3261_10_3() {
    let mut world = World::new(acme());
    let mut phone = phone();
    phone.cseq = 10;
    register(&mut world, &mut phone, PBX, 3600);
    phone.cseq = 5;
    let text = phone.register(0);
    world.deliver(phone.flow, text);
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(500));
    assert!(world.take_to(addr(PBX)).is_empty());
    assert_eq!(world.engine.state().registrations().len(), 1);
}

#[test]
fn given_a_phone_that_knows_only_the_edge_s_address_then_the_backend_sees_its_domain_and_the_phone_what_it_wrote()
 {
    let mut settings = acme();
    settings.listeners[0].domain = Some("acme.test".into());
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "203.0.113.1:5060", PHONE);
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    assert_eq!(at_pbx.uri(), "sip:acme.test");
    assert_eq!(at_pbx.header(HeaderName::To).as_deref(), Some("<sip:401@acme.test>"));
    assert_eq!(at_pbx.header(HeaderName::From).as_deref(), Some("<sip:401@acme.test>;tag=p1"));
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.header(HeaderName::To).as_deref(), Some("<sip:401@203.0.113.1:5060>;tag=pbx"));
    assert_eq!(world.told()[0].subject, "acme/401@acme.test");
}

#[test]
fn given_a_crash_that_loses_the_200_when_the_register_comes_again_then_it_is_answered_and_nothing_is_stored_twice()
 {
    let mut world = World::new(acme());
    let mut phone = phone();
    let text = phone.register(3600);
    world.deliver(phone.flow, &text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    let before = world.journal.len();
    world.deliver(phone.flow, &text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 3600));
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
    assert!(world.kinds(before).is_empty(), "{:?}", world.kinds(before));

    // The same number for another request is out of order.
    phone.cseq = 0;
    let text = phone.register(0).replace("z9hG4bK", "z9hG4bKother");
    world.deliver(phone.flow, text);
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(500));
    world.assert_replay_equals_live();
}

#[test]
fn given_a_registrar_that_lists_all_of_an_aor_then_the_phone_sees_each_contact_as_it_was_written_and_no_token()
 {
    let mut world = World::new(acme());
    let mut first = phone();
    let of_first = register(&mut world, &mut first, PBX, 3600);
    let mut other = Phone::new("402", "acme.test", "192.0.2.9:5060");
    let of_other = register(&mut world, &mut other, PBX, 3600);
    let mut second = Phone::new("401", "acme.test", "192.0.2.8:5060");
    let text = second.register(3600);
    world.deliver(second.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let mine = token_in(&at_pbx).to_uppercase();
    let lines = format!(
        "Contact: <sip:{of_first}@10.0.0.5:5060>;expires=77, <sip:{mine}@10.0.0.5:5060>;expires=1800\r\n\
         Contact: <sip:{of_other}@10.0.0.5:5060>;expires=5, <sip:b00000000000000000000000001@10.0.0.5>;expires=6\r\n"
    );
    world.deliver(inside(PBX), response(&at_pbx, 200, &lines));
    let answer = world.one_to(second.flow.remote);
    let shown: Vec<String> = answer
        .message()
        .values(HeaderName::Contact)
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect();
    assert_eq!(
        shown,
        ["<sip:401@192.168.1.20:5060;ob>;expires=77", "<sip:401@192.0.2.8:5060>;expires=1800"],
        "not another extension's, nor one that this edge does not know"
    );
}

#[test]
fn given_a_query_then_it_passes_and_changes_nothing() {
    let mut world = World::new(acme());
    let mut phone = phone();
    let token = register(&mut world, &mut phone, PBX, 3600);
    let text = phone.register_with("");
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let lines =
        format!("Contact: <sip:{token}@10.0.0.5:5060>;expires=77, <sip:direct@10.0.9.9>;expires=5\r\n");
    world.deliver(inside(PBX), response(&at_pbx, 200, &lines));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.release, Release::Now(ClassB::Refresh));
    let shown: Vec<String> = answer
        .message()
        .values(HeaderName::Contact)
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect();
    assert_eq!(shown, ["<sip:401@192.168.1.20:5060;ob>;expires=77", "<sip:direct@10.0.9.9>;expires=5"]);
    assert_eq!(world.told_kinds(0), ["registration.added"]);
}

#[test]
fn given_a_grant_beyond_reason_then_it_is_cut_and_an_alias_is_its_domain() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "OLD.acme.test", PHONE);
    let text = phone.register(999_999);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 999_999));
    let answer = world.one_to(phone.flow.remote);
    assert!(answer.header(HeaderName::Contact).unwrap().ends_with(";expires=7200"));
    assert_eq!(world.told()[0].subject, "acme/401@acme.test");
}

#[test]
fn given_the_first_backend_silent_or_busy_then_the_next_is_asked_and_the_aor_is_there() {
    let mut settings = acme();
    settings.tenants[0].backends.push(backend("pbx-2", "10.0.1.2:5060", 2, None));
    let mut world = World::new(settings);
    let mut phone = phone();
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    world.advance(Duration::from_millis(3100));
    let second = world.one_to(addr("10.0.1.2:5060"));
    world.deliver(inside("10.0.1.2:5060"), granted(&second, 3600));
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
    assert_eq!(world.engine.state().registrations().aor("acme/401@acme.test").unwrap().backend, *"pbx-2");
    world.take();

    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let back = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&back, 3600));
    assert_eq!(world.engine.state().registrations().aor("acme/401@acme.test").unwrap().backend, *"pbx-1");
    assert_eq!(world.told().last().unwrap().json()["backend"], "pbx-1", "recovery moves it back at refresh");
    world.assert_replay_equals_live();
}

#[test]
fn given_no_backend_that_answers_then_the_phone_is_told_to_come_later() {
    let mut world = World::new(acme());
    let mut phone = phone();
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), response(&at_pbx, 503, ""));
    let answer = world.one_to(phone.flow.remote);
    assert_eq!(answer.status(), Some(503));
    assert!(answer.header(HeaderName::RetryAfter).is_some());
    assert_eq!(world.told()[0].json()["by"], "edge");
}

#[test]
fn given_a_stalled_disk_or_a_limit_then_new_registrations_are_refused() {
    let mut settings = acme();
    settings.tenants[0].limits.registrations = Some(1);
    let mut world = World::new(settings);
    let mut one = phone();
    register(&mut world, &mut one, PBX, 3600);
    let mut two = Phone::new("402", "acme.test", "192.0.2.8:5060");
    let text = two.register(3600);
    world.deliver(two.flow, text);
    assert_eq!(world.one_to(two.flow.remote).status(), Some(403));
    register(&mut world, &mut one, PBX, 3600);
    world.input(Input::Stalled(true));
    let text = one.register(3600);
    world.deliver(one.flow, text);
    let answer = world.one_to(one.flow.remote);
    assert_eq!(answer.status(), Some(503));
    assert!(answer.header(HeaderName::RetryAfter).is_some());
    world.advance(Duration::from_secs(11));
    assert_eq!(world.records("security.request_rejected")[0].json()["rule"], "limit");
    let told: Vec<_> = world.records("registration.rejected").iter().map(|r| r.json()).collect();
    assert_eq!(told.len(), 2);
    for (event, aor, status) in [(&told[0], "402@acme.test", 403), (&told[1], "401@acme.test", 503)] {
        assert_eq!((&event["aor"], &event["status"]), (&aor.into(), &status.into()));
        assert_eq!((&event["by"], event.get("backend")), (&"edge".into(), None));
    }
}

#[test]
fn given_an_edge_that_drains_when_thousands_ask_then_refusals_are_told_within_the_budget() {
    let mut world = World::new(acme());
    world.command(Command::Drain { deadline: Duration::from_secs(300), actor: "root".into() });
    for n in 0..500 {
        let mut phone = Phone::new(&format!("u{n}"), "acme.test", &format!("192.0.2.7:{}", 10_000 + n));
        let text = phone.register(3600);
        world.deliver(phone.flow, text);
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(503));
    }
    let told = world.records("registration.rejected");
    assert_eq!(told.len(), world.engine.settings().noise.events_max);
    assert_eq!(told[0].json()["reason"], "Draining");
}

#[test]
fn given_a_crash_after_the_200_then_the_binding_is_there_is_pinged_and_outlives_a_lost_refresh() {
    let mut world = World::new(acme());
    let mut phone = phone();
    let token = register(&mut world, &mut phone, PBX, 600);
    let mut world = world.crash_and_restart(Duration::from_secs(590));
    assert_eq!(world.engine.state().registrations().len(), 1);
    world.advance(Duration::from_secs(15));
    assert_eq!(world.take_to(phone.flow.remote).len(), 1, "pinged within 15 s");
    assert_eq!(world.engine.state().registrations().len(), 1, "extended once");
    let again = register(&mut world, &mut phone, PBX, 600);
    assert_eq!(again, token, "the token survives the restart");
    world.advance(Duration::from_secs(601));
    assert!(world.engine.state().registrations().is_empty(), "and only once");
}

#[test]
fn given_registers_and_messages_under_way_when_a_reload_moves_the_places_of_backends_then_silence_speaks_against_who_was_asked()
 {
    const OTHER: &str = "10.0.2.1:5060";
    let mut acme = acme().tenants.remove(0);
    let mut globex = tenant("globex", vec![domain("g.test", &[])], vec![backend("pbx-g", OTHER, 1, None)]);
    for tenant in [&mut acme, &mut globex] {
        tenant.backends[0].probe.interval = Some(Duration::from_secs(86_400));
    }
    let mut world = World::new(settings(vec![acme.clone(), globex.clone()]));
    let mut phones =
        [Phone::new("401", "acme.test", PHONE), Phone::new("402", "acme.test", "192.0.2.8:5060")];
    phones.iter_mut().for_each(|phone| drop(register(&mut world, phone, PBX, 3600)));
    register(&mut world, &mut Phone::new("401", "g.test", "192.0.2.9:5060"), OTHER, 3600);
    for (at, phone) in phones.iter_mut().enumerate() {
        let text = phone.register(3600);
        world.deliver(phone.flow, text);
        let from = format!("sip:{}@acme.test", phone.user);
        let text = request("MESSAGE", "sip:1@acme.test", &from, phone.flow.remote, &format!("m{at}"));
        world.deliver(phone.flow, text);
    }
    world.command(Command::Reload {
        settings: settings(vec![globex, acme]).into(),
        revision: 2,
        sha256: "x".into(),
        effective: "{}".into(),
        diff: vec![],
        actor: "root".into(),
    });
    world.advance(Duration::from_millis(3_100));
    let state = |name: &str| world.engine.state().backends().get(name).expect("it was seen up").state;
    assert_eq!((state("acme/pbx-1"), state("globex/pbx-g")), (BackendState::Down, BackendState::Up));
}

#[test]
fn given_a_watched_aor_then_its_steps_are_noted_and_nobody_else_s() {
    let mut world = World::new(acme());
    world.watch.aors.push("401@acme.test".into());
    let mut watched = phone();
    register(&mut world, &mut watched, PBX, 60);
    let noted = world.notes.len();
    assert!(noted >= 2, "arrival and answer: {:?}", world.notes);
    assert!(world.notes.iter().all(|n| n.aor.as_deref() == Some("401@acme.test")));
    let mut other = Phone::new("402", "acme.test", "192.0.2.8:5060");
    register(&mut world, &mut other, PBX, 60);
    assert_eq!(world.notes.len(), noted);
}
