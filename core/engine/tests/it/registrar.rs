//! The edge as the registrar: credentials, what is granted, and calls between its own phones.

use crate::call_support::{Dialog, contact_uri, invite, respond};
use crate::support::*;
use signalbox_engine::Settings;
use signalbox_engine::settings::{Challenged, DomainPolicy, RegistrarSettings, Users};
use signalbox_sip::HeaderName;
use signalbox_sip::digest::{Algorithm, Answer, Challenge, Ha1};
use std::sync::Arc;
use std::time::Duration;

const PHONE: &str = "192.0.2.7:40000";
const OTHER: &str = "192.0.2.8:5060";

/// Both hashes of 401 and 402, MD5 alone of 403; the password is `secret`.
const USERS: &str = "\
401:acme.test:87de33f80f9b176fd5706e7e2b0d9dc1
401:acme.test:a6ba667fc1a75d858aaa891426200e97872103d53d4f15742668da1915db539a
402:acme.test:641c9472d55422a0bfb8970252cf1967
402:acme.test:56cf91fc0d3a69dcd52242aff9a063df7b4e7bc5d6298f91593a66fbcaecb426
403:acme.test:b5a7667fd8bdb4d0d43361c54cfa0565
";

fn policy() -> DomainPolicy {
    DomainPolicy {
        registrar: Some(RegistrarSettings { min_expires_secs: 60, max_expires_secs: 3600, contacts_max: 2 }),
        users: Some(Arc::new(Users::read(USERS, "acme.test").expect("good lines"))),
        ..DomainPolicy::default()
    }
}

/// `acme` without any PBX.
fn alone() -> Settings {
    let mut settings = settings(vec![tenant("acme", vec![domain("acme.test", &["old.acme.test"])], vec![])]);
    settings.tenants[0].domains[0].policy = policy();
    settings
}

/// Credentials for the first challenge of a hash.
fn answer_to(
    challenge: &Sent,
    algorithm: Algorithm,
    user: &str,
    password: &str,
    (uri, count): (&str, u32),
) -> String {
    let proxy = challenge.status() == Some(407);
    let (asked, name) = match proxy {
        true => (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
        false => (HeaderName::WwwAuthenticate, "Authorization"),
    };
    let message = challenge.message();
    let offered = message.all(asked).filter_map(|h| Challenge::parse(h.value).ok());
    let challenge = offered.into_iter().find(|c| c.algorithm == algorithm).expect("it is offered");
    let ha1 = Ha1::from_password(algorithm, user.as_bytes(), &challenge.realm, password.as_bytes());
    let method = message.cseq().method.to_vec();
    let answer = Answer {
        username: user.as_bytes(),
        ha1: &ha1,
        method: &method,
        uri: uri.as_bytes(),
        cnonce: "c",
        nonce_count: count,
        body: b"",
    };
    format!("{name}: {}\r\n", String::from_utf8_lossy(&answer.write(&challenge).expect("one hash")))
}

const URI: &str = "sip:acme.test";

/// Sends a REGISTER and gives what comes back.
#[track_caller]
fn ask(world: &mut World, phone: &mut Phone, lines: &str) -> Sent {
    let text = phone.register_with(lines);
    world.deliver(phone.flow, text);
    world.one_to(phone.flow.remote)
}

/// Registers with credentials; gives the answer.
#[track_caller]
fn registers(world: &mut World, phone: &mut Phone, lines: &str) -> Sent {
    let challenge = ask(world, phone, lines);
    assert_eq!(challenge.status(), Some(401), "{}", challenge.text());
    let user = phone.user.clone();
    let credentials = answer_to(&challenge, Algorithm::Md5, &user, "secret", (URI, 1));
    ask(world, phone, &format!("{lines}{credentials}"))
}

fn contact(phone: &Phone, secs: u32) -> String {
    format!("Contact: {}\r\nExpires: {secs}\r\n", phone.contact)
}

fn stale(challenge: &Sent) -> bool {
    challenge.text().contains("stale=true")
}

#[test]
fn given_a_stranger_then_both_hashes_are_offered_the_stronger_first_and_nothing_is_kept_rfc8760_2_4() {
    let mut world = World::new(alone());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let lines = contact(&phone, 300);
    let challenge = ask(&mut world, &mut phone, &lines);
    let message = challenge.message();
    let offered: Vec<_> = message
        .all(HeaderName::WwwAuthenticate)
        .map(|h| Challenge::parse(h.value).unwrap().algorithm)
        .collect();
    assert_eq!(offered, [Algorithm::Sha256, Algorithm::Md5]);
    assert!(!stale(&challenge) && world.told().is_empty());
    // Who has no such line is not asked for it; who is not there is asked like anybody.
    for (user, hashes) in [("403", 1), ("999", 2)] {
        let mut other = Phone::new(user, "acme.test", OTHER);
        let lines = contact(&other, 300);
        let challenge = ask(&mut world, &mut other, &lines);
        assert_eq!(challenge.message().all(HeaderName::WwwAuthenticate).count(), hashes, "{user}");
    }
}

#[test]
fn given_good_credentials_of_either_hash_then_the_binding_is_stored_without_any_backend() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        let mut world = World::new(alone());
        world.auto_commit = false;
        let mut phone = Phone::new("401", "acme.test", PHONE);
        let lines = contact(&phone, 7200);
        let challenge = ask(&mut world, &mut phone, &lines);
        let credentials = answer_to(&challenge, algorithm, "401", "secret", (URI, 1));
        let text = phone.register_with(&format!("{lines}{credentials}"));
        world.deliver(phone.flow, text);
        assert_eq!((world.take().len(), world.waiting()), (0, 1), "200 waits for its record");
        world.commit();
        let ok = world.one_to(phone.flow.remote);
        assert_eq!(ok.status(), Some(200));
        assert!(ok.header(HeaderName::Contact).unwrap().ends_with(";expires=3600"), "{}", ok.text());
        let told = world.told();
        assert_eq!(world.told_kinds(0), ["registration.added"]);
        assert!(told[0].json().get("backend").is_none(), "{}", told[0].json());
        world.assert_replay_equals_live();
    }
}

#[test]
fn given_wrong_credentials_then_each_is_refused_told_and_counted_and_a_stranger_looks_the_same() {
    let mut world = World::new(alone());
    for (user, password) in [("401", "guess"), ("999", "secret")] {
        let mut phone = Phone::new(user, "acme.test", PHONE);
        let lines = contact(&phone, 300);
        let challenge = ask(&mut world, &mut phone, &lines);
        let credentials = answer_to(&challenge, Algorithm::Md5, user, password, (URI, 1));
        let again = ask(&mut world, &mut phone, &format!("{lines}{credentials}"));
        assert_eq!((again.status(), stale(&again)), (Some(401), false), "{user}");
    }
    assert_eq!(world.told_kinds(0), ["registration.rejected"; 2]);
    assert_eq!(world.told()[0].json()["by"], "edge");
    world.advance(Duration::from_secs(15));
    let failed = world.records("security.auth_failed")[0].json();
    assert_eq!((&failed["count"], &failed["method"]), (&2.into(), &"REGISTER".into()));
    assert!(world.journal.iter().all(|r| !String::from_utf8_lossy(&r.data).contains("response")));
    assert!(world.engine.state().registrations().is_empty());
}

#[test]
fn given_a_user_who_registers_for_another_then_403() {
    let mut world = World::new(alone());
    let mut phone = Phone::new("402", "acme.test", PHONE);
    let lines = contact(&phone, 300);
    let challenge = ask(&mut world, &mut phone, &lines);
    let credentials = answer_to(&challenge, Algorithm::Md5, "401", "secret", (URI, 1));
    assert_eq!(ask(&mut world, &mut phone, &format!("{lines}{credentials}")).status(), Some(403));
    assert_eq!(world.told_kinds(0), ["registration.rejected"]);
}

#[test]
fn given_what_phones_write_as_digest_uri_then_it_must_lead_here_rfc7616_3_4_6() {
    let mut world = World::new(alone());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let lines = contact(&phone, 300);
    for (uri, status) in [
        ("sip:acme.test", 200),
        ("sip:ACME.test:5060", 200),
        ("sip:old.acme.test", 200),
        ("sip:203.0.113.1:5060", 200),
        ("sip:evil.test", 401),
        ("sip:999@acme.test", 401),
    ] {
        let challenge = ask(&mut world, &mut phone, &lines);
        let credentials = answer_to(&challenge, Algorithm::Md5, "401", "secret", (uri, 1));
        let answer = ask(&mut world, &mut phone, &format!("{lines}{credentials}"));
        assert_eq!(answer.status(), Some(status), "{uri}");
    }
}

#[test]
fn given_an_old_a_used_or_a_foreign_nonce_then_stale_asks_anew_and_no_person_is_bothered() {
    let mut world = World::new(alone());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let lines = contact(&phone, 300);
    let challenge = ask(&mut world, &mut phone, &lines);
    let with = |challenge: &Sent, count| {
        format!("{lines}{}", answer_to(challenge, Algorithm::Sha256, "401", "secret", (URI, count)))
    };
    let steps = [(1, 200), (1, 401), (2, 200), (2, 401), (5, 200), (4, 200), (4, 401)];
    for (count, status) in steps {
        let answer = ask(&mut world, &mut phone, &with(&challenge, count));
        assert_eq!((answer.status(), stale(&answer)), (Some(status), status == 401), "nc {count}");
    }
    world.advance(Duration::from_secs(601));
    world.take();
    let late = ask(&mut world, &mut phone, &with(&challenge, 9));
    assert_eq!((late.status(), stale(&late)), (Some(401), true), "too old");
    let fresh = ask(&mut world, &mut phone, &with(&late, 1));
    assert_eq!(fresh.status(), Some(200));
    // What was used before a restart is not known, so nothing of before counts.
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    world.take();
    let replayed = ask(&mut world, &mut phone, &with(&late, 1));
    assert_eq!((replayed.status(), stale(&replayed)), (Some(401), true), "used before the restart");
    assert!(world.records("registration.rejected").is_empty());
}

#[test]
fn given_a_short_interval_then_423_names_the_least_rfc3261_10_2_8() {
    let mut world = World::new(alone());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let lines = contact(&phone, 59);
    let brief = registers(&mut world, &mut phone, &lines);
    assert_eq!((brief.status(), brief.header(HeaderName::MinExpires).as_deref()), (Some(423), Some("60")));
    assert!(world.told().is_empty(), "the phone asks again for longer");
    let lines = contact(&phone, 60);
    assert_eq!(registers(&mut world, &mut phone, &lines).status(), Some(200));
    let lines = contact(&phone, 0);
    let gone = registers(&mut world, &mut phone, &lines);
    assert_eq!((gone.status(), gone.header(HeaderName::Contact)), (Some(200), None));
    assert!(world.engine.state().registrations().is_empty());
}

#[test]
fn given_more_phones_than_a_user_may_have_then_403_and_each_answer_lists_them_all() {
    let mut world = World::new(alone());
    let mut answers = Vec::new();
    for port in [1, 2, 3] {
        let mut phone = Phone::new("401", "acme.test", &format!("192.0.2.7:{port}"));
        let lines = contact(&phone, 300);
        let answer = registers(&mut world, &mut phone, &lines);
        answers.push((answer.status(), answer.message().all(HeaderName::Contact).count()));
    }
    assert_eq!(answers, [(Some(200), 1), (Some(200), 2), (Some(403), 0)]);
}

#[test]
fn given_a_device_then_it_replaces_its_own_flow_and_has_one_for_each_reg_id_rfc5626_6() {
    let mut world = World::new(alone());
    let mut flows = Vec::new();
    for (port, reg_id) in [(1, 1), (2, 1), (3, 2)] {
        let mut phone = Phone::new("401", "acme.test", &format!("192.0.2.7:{port}"));
        let lines = format!(
            "Contact: {};+sip.instance=\"<urn:uuid:1>\";reg-id={reg_id}\r\nExpires: 300\r\nSupported: path, outbound\r\n",
            phone.contact
        );
        let answer = registers(&mut world, &mut phone, &lines);
        assert_eq!(answer.header(HeaderName::Require).as_deref(), Some("outbound"), "{}", answer.text());
        let aor = world.engine.state().registrations().aor("acme/401@acme.test").unwrap();
        flows.push(aor.bindings.iter().map(|b| b.flow.remote().port()).collect::<Vec<_>>());
    }
    assert_eq!(flows, [vec![1], vec![2], vec![2, 3]]);
}

#[test]
fn given_a_path_then_it_is_stored_shown_and_used_as_route_rfc3327() {
    let mut world = World::new(alone());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let mut caller = Phone::new("402", "acme.test", OTHER);
    let lines = format!("{}Path: <sip:p1.test;lr>\r\nPath: <sip:p2.test;lr>\r\n", contact(&phone, 300));
    let answer = registers(&mut world, &mut phone, &lines);
    assert_eq!(answer.message().all(HeaderName::Path).count(), 2);
    let lines = contact(&caller, 300);
    registers(&mut world, &mut caller, &lines);
    world.deliver(caller.flow, invite(&caller.flow, "sip:402@acme.test", "sip:401@acme.test", "c1", ""));
    let at_phone = world.one_to(phone.flow.remote);
    let routes: Vec<_> = at_phone.message().values(HeaderName::Route).map(<[u8]>::to_vec).collect();
    assert_eq!(routes, [b"<sip:p1.test;lr>".to_vec(), b"<sip:p2.test;lr>".to_vec()]);
    world.assert_replay_equals_live();
}

/// 401 and 402 registered.
fn two() -> (World, Phone, Phone) {
    let mut world = World::new(alone());
    let (mut one, mut two) = (Phone::new("401", "acme.test", PHONE), Phone::new("402", "acme.test", OTHER));
    for phone in [&mut one, &mut two] {
        let lines = contact(phone, 3600);
        assert_eq!(registers(&mut world, phone, &lines).status(), Some(200));
    }
    (world, one, two)
}

#[test]
fn given_two_phones_and_no_pbx_when_one_calls_the_other_then_they_speak_and_the_record_says_so() {
    let (mut world, one, two) = two();
    world.deliver(one.flow, invite(&one.flow, "sip:401@acme.test", "sip:402@acme.test", "c1", ""));
    let at_two = world.one_to(two.flow.remote);
    assert_eq!(at_two.uri(), format!("sip:402@{OTHER}"));
    assert!(contact_uri(&at_two).contains("@203.0.113.1:5060"), "the other end is hidden");
    world.take();
    world.deliver(two.flow, respond(&at_two, 200, &format!("<sip:402@{OTHER}>"), ""));
    let ok = world.one_to(one.flow.remote);
    let mut caller = Dialog::calling(one.flow, &ok);
    world.deliver(one.flow, caller.ack(1, ""));
    world.take();
    world.deliver(one.flow, caller.request("BYE", ""));
    let bye = world.one_to(two.flow.remote);
    assert!(bye.text().starts_with("BYE "));
    world.deliver(two.flow, response(&bye, 200, ""));
    let cdr = world.records("call.ended")[0].json();
    assert_eq!(
        (&cdr["ingress_peer"], &cdr["egress_peer"]),
        (&"401@acme.test".into(), &"402@acme.test".into())
    );
    world.assert_replay_equals_live();
}

#[test]
fn given_no_pbx_when_somebody_is_called_who_is_not_there_then_404_and_strangers_call_nobody() {
    let (mut world, one, _) = two();
    for (uri, id) in [("sip:403@acme.test", "c1"), ("sip:777@acme.test", "c2")] {
        world.deliver(one.flow, invite(&one.flow, "sip:401@acme.test", uri, id, ""));
        let answers: Vec<_> = world.take_to(one.flow.remote).iter().filter_map(Sent::status).collect();
        assert_eq!(answers.last(), Some(&404), "{uri}: {answers:?}");
    }
    let stranger = outside("198.51.100.99:5060");
    world.take();
    world.deliver(stranger, invite(&stranger, "sip:401@acme.test", "sip:402@acme.test", "c3", ""));
    assert_eq!(world.one_to(stranger.remote).status(), Some(403));
}

#[test]
fn given_two_phones_when_one_writes_and_watches_then_the_other_hears_and_answers() {
    let (mut world, one, two) = two();
    let uri = "sip:402@acme.test";
    world.deliver(one.flow, request("MESSAGE", uri, "sip:401@acme.test", one.flow.remote, "m1"));
    let at_two = world.one_to(two.flow.remote);
    assert_eq!(at_two.uri(), format!("sip:402@{OTHER}"));
    world.deliver(two.flow, response(&at_two, 200, ""));
    assert_eq!(world.one_to(one.flow.remote).status(), Some(200));

    world.deliver(one.flow, request("SUBSCRIBE", uri, "sip:401@acme.test", one.flow.remote, "s1"));
    let at_two = world.one_to(two.flow.remote);
    world.deliver(two.flow, response(&at_two, 200, &format!("Contact: <sip:402@{OTHER}>\r\n")));
    assert_eq!(world.one_to(one.flow.remote).status(), Some(200));
    let mut notifier = Dialog::called(two.flow, &at_two, "pbx");
    let notify = notifier.request("NOTIFY", "Event: dialog\r\nSubscription-State: active\r\n");
    world.deliver(two.flow, &notify);
    let heard = world.one_to(one.flow.remote);
    assert!(heard.text().starts_with(&format!("NOTIFY sip:me@{PHONE}")), "{}", heard.text());
    // The token is that dialog's alone.
    let stranger = outside("198.51.100.99:5060");
    world.take();
    world.deliver(stranger, notify.replace("branch=z9hG4bK", "branch=z9hG4bKx"));
    assert_eq!(world.one_to(stranger.remote).status(), Some(403));
}

/// `acme` with its PBX, which challenges nobody: the edge does.
fn guarded() -> Settings {
    let mut settings = acme();
    let users = policy().users;
    settings.tenants[0].domains[0].policy =
        DomainPolicy { users, challenged: Challenged::All, ..DomainPolicy::default() };
    settings
}

#[test]
fn given_calls_that_need_credentials_then_407_and_ours_go_no_further_than_here() {
    const PBX: &str = "10.0.1.1:5060";
    let mut world = World::new(guarded());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register(&mut world, &mut phone, PBX, 600);
    let uri = "sip:402@acme.test";
    let plain = invite(&phone.flow, "sip:401@acme.test", uri, "c1", "");
    world.deliver(phone.flow, &plain);
    let challenge = world.one_to(phone.flow.remote);
    assert_eq!(challenge.status(), Some(407));
    assert!(world.take().is_empty(), "no backend hears of it");

    let with = |credentials: &str, id: &str| {
        let foreign = "Proxy-Authorization: Digest username=\"401\", realm=\"pbx\", nonce=\"n\", uri=\"u\", response=\"r\"\r\n";
        plain
            .replace("branch=z9hG4bKc1", &format!("branch=z9hG4bK{id}"))
            .replace("CSeq: 1 INVITE", "CSeq: 2 INVITE")
            .replace("X-Custom", &format!("{foreign}{credentials}X-Custom"))
    };
    let credentials = answer_to(&challenge, Algorithm::Sha256, "401", "secret", (uri, 1));
    world.deliver(phone.flow, with(&credentials, "again"));
    let at_pbx = world.one_to(addr(PBX));
    let passed: Vec<_> =
        at_pbx.message().all(HeaderName::ProxyAuthorization).map(|h| h.value.to_vec()).collect();
    assert_eq!(passed.len(), 1, "the PBX's own pass, ours do not");
    assert!(String::from_utf8_lossy(&passed[0]).contains("realm=\"pbx\""));

    // Another user's good credentials are no leave to be 401; wrong ones are asked for again, and counted.
    world.take();
    let challenge = {
        world.deliver(phone.flow, plain.replace("c1", "c2"));
        world.one_to(phone.flow.remote)
    };
    for (user, password, status) in [("402", "secret", 403), ("401", "guess", 407)] {
        let credentials = answer_to(&challenge, Algorithm::Md5, user, password, (uri, 1));
        world.deliver(phone.flow, with(&credentials, user).replace("Call-ID: c1", "Call-ID: c2"));
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(status), "{user}");
    }
    world.advance(Duration::from_secs(15));
    let failed = world.records("security.auth_failed")[0].json();
    assert_eq!((&failed["count"], &failed["method"]), (&2.into(), &"INVITE".into()));
}

#[test]
fn given_a_stranger_with_good_credentials_then_it_may_call_unregistered() {
    const PBX: &str = "10.0.1.1:5060";
    let mut world = World::new(guarded());
    let phone = Phone::new("401", "acme.test", PHONE);
    let uri = "sip:402@acme.test";
    let plain = invite(&phone.flow, "sip:401@acme.test", uri, "c1", "");
    world.deliver(phone.flow, &plain);
    let challenge = world.one_to(phone.flow.remote);
    let credentials = answer_to(&challenge, Algorithm::Md5, "401", "secret", (uri, 1));
    let again = plain.replace("bKc1", "bKc1x").replace("X-Custom", &format!("{credentials}X-Custom"));
    world.deliver(phone.flow, again);
    assert_eq!(world.one_to(addr(PBX)).uri(), uri);
    assert_eq!(world.told_kinds(0), ["call.attempted", "call.routed"], "it is recorded before it goes on");
}

#[test]
fn given_methods_that_are_named_then_only_they_are_asked() {
    let mut settings = guarded();
    settings.tenants[0].domains[0].policy.challenged = Challenged::Methods(vec!["MESSAGE".into()]);
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register(&mut world, &mut phone, "10.0.1.1:5060", 600);
    world.deliver(phone.flow, invite(&phone.flow, "sip:401@acme.test", "sip:402@acme.test", "c1", ""));
    world.one_to(addr("10.0.1.1:5060"));
    world.take();
    let message = request("MESSAGE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "m1");
    world.deliver(phone.flow, message);
    assert_eq!(world.one_to(phone.flow.remote).status(), Some(407));
}
