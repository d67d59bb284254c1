//! Answers that cross, and limits: which REGISTERs change what is stored, and which do not.

use crate::support::*;
use signalbox_engine::{Command, Settings};
use signalbox_schemas::words::BackendState;
use signalbox_sip::HeaderName;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";
const PHONE: &str = "192.0.2.7:40000";

/// Sends two REGISTERs of one phone and lets the backend answer the second one first.
fn crossed(world: &mut World, phone: &mut Phone, lines: [&str; 2], secs: [u32; 2]) {
    let [first, second] = lines.map(|lines| {
        let text = phone.register_with(lines);
        world.deliver(phone.flow, text);
        world.one_to(addr(PBX))
    });
    for (at_pbx, secs) in [(second, secs[1]), (first, secs[0])] {
        world.deliver(inside(PBX), granted(&at_pbx, secs));
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(200), "what the backend said passes");
    }
}

#[test]
fn given_a_removal_answered_first_then_the_late_answer_to_an_older_register_brings_nothing_back() {
    let contact = "Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 600\r\n";
    for removal in ["Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 0\r\n", "Contact: *\r\nExpires: 0\r\n"] {
        let mut world = World::new(acme());
        let mut phone = Phone::new("401", "acme.test", PHONE);
        crossed(&mut world, &mut phone, [contact, removal], [600, 0]);
        assert!(world.engine.state().registrations().is_empty(), "{removal}");
        assert!(world.told().is_empty(), "{:?}", world.told_kinds(0));

        // One that is older still, and comes only now, fails as it would against a binding.
        phone.cseq -= 2;
        phone.extra = "X-Other: 1\r\n".to_owned();
        let late = phone.register(600).replace("branch=z9hG4bK", "branch=z9hG4bKlate");
        world.deliver(phone.flow, late);
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(500));
        phone.cseq += 1;
        register(&mut world, &mut phone, PBX, 600);
        assert_eq!(world.engine.state().registrations().len(), 1, "a newer one counts");
    }
}

#[test]
fn given_a_register_answered_first_then_the_late_answer_to_an_older_removal_takes_nothing_away() {
    let contact = "Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 600\r\n";
    for removal in ["Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 0\r\n", "Contact: *\r\nExpires: 0\r\n"] {
        let mut world = World::new(acme());
        let mut phone = Phone::new("401", "acme.test", PHONE);
        register(&mut world, &mut phone, PBX, 600);
        crossed(&mut world, &mut phone, [removal, contact], [0, 600]);
        assert_eq!(world.engine.state().registrations().len(), 1, "{removal}");
    }
}

#[test]
fn given_another_contact_removed_meanwhile_then_the_older_register_of_the_first_still_counts() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let other = "Contact: <sip:other@192.0.2.7:40000>\r\nExpires: 0\r\n";
    let contact = "Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 600\r\n";
    crossed(&mut world, &mut phone, [contact, other], [600, 0]);
    assert_eq!(world.engine.state().registrations().len(), 1);
}

/// So many Contacts, and how long they are asked for.
fn contacts(users: std::ops::Range<usize>, secs: u32) -> String {
    let each: Vec<String> = users.map(|n| format!("<sip:c{n}@192.0.2.7:40000>")).collect();
    format!("Contact: {}\r\nExpires: {secs}\r\n", each.join(", "))
}

#[test]
fn given_as_many_contacts_as_an_aor_may_have_then_one_more_is_refused_before_any_backend_hears_of_it() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    for lines in [contacts(0..20, 600), contacts(20..32, 600), contacts(0..32, 300)] {
        let text = phone.register_with(&lines);
        world.deliver(phone.flow, text);
        let at_pbx = world.one_to(addr(PBX));
        world.deliver(inside(PBX), granted(&at_pbx, 600));
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(200));
    }
    assert_eq!(world.engine.state().registrations().aor("acme/401@acme.test").unwrap().bindings.len(), 32);
    let told = world.told().len();
    // One more than there may be, and at another phone a REGISTER that alone has too many.
    let mut other = Phone::new("402", "acme.test", "192.0.2.8:5060");
    for (phone, lines) in [(&mut phone, contacts(32..33, 600)), (&mut other, contacts(0..33, 600))] {
        let text = phone.register_with(&lines);
        world.deliver(phone.flow, text);
        let answer = world.one_to(phone.flow.remote);
        assert!(answer.text().starts_with("SIP/2.0 403 Too Many Contacts\r\n"), "{}", answer.text());
        assert!(world.take().is_empty());
    }
    assert_eq!(world.told_kinds(told), ["registration.rejected"; 2]);
    let event = world.told()[told].json();
    assert_eq!((&event["by"], &event["reason"]), (&"edge".into(), &"Too Many Contacts".into()));
    // One goes, named twice, and one comes.
    let gone = "<sip:c0@192.0.2.7:40000>;expires=0";
    let text = phone.register_with(&format!("Contact: {gone}, {gone}, <sip:new@192.0.2.7:40000>\r\n"));
    world.deliver(phone.flow, text);
    world.one_to(addr(PBX));
}

#[test]
fn given_one_contact_removed_many_times_in_one_register_then_it_counts_as_any() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    register(&mut world, &mut phone, PBX, 600);
    let gone = "<sip:401@192.0.2.7:40000>;expires=0, ".repeat(9);
    let text = phone.register_with(&format!("Contact: {gone}<sip:new@192.0.2.7:40000>\r\n"));
    world.deliver(phone.flow, text);
    world.one_to(addr(PBX));
}

#[test]
fn given_registers_that_come_together_then_what_has_no_room_is_neither_stored_nor_shown() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let asked: Vec<Sent> = [contacts(0..20, 600), contacts(20..40, 600)]
        .iter()
        .map(|lines| {
            let text = phone.register_with(lines);
            world.deliver(phone.flow, text);
            world.one_to(addr(PBX))
        })
        .collect();
    let shown = asked.iter().map(|at_pbx| {
        world.deliver(inside(PBX), granted(at_pbx, 600));
        world.one_to(phone.flow.remote).message().values(HeaderName::Contact).count()
    });
    assert_eq!(shown.collect::<Vec<_>>(), [20, 12]);
    assert_eq!(world.engine.state().registrations().len(), 32);
}

#[test]
fn given_a_backend_that_answers_408_then_another_is_asked_and_only_a_503_speaks_against_it() {
    const SECOND: &str = "10.0.1.2:5060";
    for (status, state) in [(408, BackendState::Up), (503, BackendState::Down)] {
        let mut settings = acme();
        settings.tenants[0].backends.push(backend("pbx-2", SECOND, 2, None));
        settings.tenants[0].backends[0].probe.interval = Some(Duration::from_secs(86_400));
        let mut world = World::new(settings);
        let mut phone = Phone::new("401", "acme.test", PHONE);
        register(&mut world, &mut phone, PBX, 3600);
        for _ in 0..5 {
            let text = phone.register(3600);
            world.deliver(phone.flow, text);
            for at_pbx in world.take_to(addr(PBX)) {
                world.deliver(inside(PBX), response(&at_pbx, status, ""));
            }
            let second = world.one_to(addr(SECOND));
            world.deliver(inside(SECOND), granted(&second, 3600));
            assert_eq!(world.one_to(phone.flow.remote).status(), Some(200), "{status}");
        }
        assert_eq!(world.engine.state().backends().get("acme/pbx-1").unwrap().state, state, "{status}");
    }
}

/// `acme`, and `globex` with a phone of its own.
fn two_tenants() -> Settings {
    let mut both = acme();
    both.tenants.push(tenant("globex", vec![domain("g.test", &[])], vec![backend("pbx-g", OTHER, 1, None)]));
    both
}

const OTHER: &str = "10.0.2.1:5060";

#[test]
fn given_a_reload_without_a_tenant_then_its_bindings_are_removed_by_the_operator_and_who_waits_hears_503() {
    let mut world = World::new(two_tenants());
    let mut stays = Phone::new("401", "acme.test", PHONE);
    let mut goes = Phone::new("401", "g.test", "192.0.2.8:5060");
    register(&mut world, &mut stays, PBX, 600);
    register(&mut world, &mut goes, OTHER, 600);
    let refresh = goes.register(600);
    world.deliver(goes.flow, refresh);
    let at_pbx = world.one_to(addr(OTHER));
    world.command(Command::Reload {
        settings: acme().into(),
        revision: 2,
        sha256: "x".into(),
        effective: "{}".into(),
        diff: vec![],
        actor: "root".into(),
    });
    let removed = world.records("registration.removed");
    assert_eq!(removed.len(), 1);
    let event = removed[0].json();
    assert_eq!((&event["aor"], &event["reason"]), (&"401@g.test".into(), &"admin".into()));
    assert_eq!(removed[0].causation, world.records("config.applied")[0].seq);
    assert_eq!(world.one_to(goes.flow.remote).status(), Some(503));
    world.deliver(inside(OTHER), granted(&at_pbx, 600));
    assert_eq!(world.engine.state().registrations().len(), 1, "a late answer stores nothing");
    world.assert_replay_equals_live();
    world.advance(Duration::from_secs(700));
    let expired = world.records("registration.expired");
    assert_eq!(expired.len(), 1, "what was removed does not expire");
    assert_eq!(expired[0].json()["aor"], "401@acme.test");
}

#[test]
fn promise_6_given_a_domain_that_a_reload_gives_to_another_tenant_then_who_had_it_reaches_nobody_there() {
    let mut world = World::new(two_tenants());
    let mut phone = Phone::new("401", "g.test", PHONE);
    let token = register(&mut world, &mut phone, OTHER, 600);
    let mut moved = two_tenants();
    moved.tenants[0].domains.push(domain("g.test", &[]));
    moved.tenants[1].domains = vec![domain("other.test", &[])];
    world.command(Command::Reload {
        settings: moved.into(),
        revision: 2,
        sha256: "x".into(),
        effective: "{}".into(),
        diff: vec![],
        actor: "root".into(),
    });
    let removed = world.records("registration.removed");
    assert_eq!((removed.len(), removed[0].tenant.as_str()), (1, "globex"));
    let uri = format!("sip:{token}@{}", inside(OTHER).local);
    world.deliver(inside(OTHER), request("INVITE", &uri, "sip:9@g.test", addr(OTHER), "late"));
    assert!(world.take_to(phone.flow.remote).is_empty(), "the former owner's PBX rings nobody");
    world.take();
    register(&mut world, &mut phone, PBX, 600);
    assert_eq!(world.engine.state().registrations().len(), 1);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_restart_without_a_tenant_then_its_bindings_are_removed_too() {
    let mut world = World::new(two_tenants());
    register(&mut world, &mut Phone::new("401", "acme.test", PHONE), PBX, 600);
    register(&mut world, &mut Phone::new("401", "g.test", "192.0.2.8:5060"), OTHER, 600);
    let World { journal, now, .. } = world;
    let world = World::over(acme(), replay(&journal), now, journal);
    assert_eq!(world.records("registration.removed")[0].json()["aor"], "401@g.test");
    assert_eq!(world.engine.state().registrations().len(), 1);
    world.assert_replay_equals_live();
}

#[test]
fn given_two_phones_with_one_private_address_behind_two_nats_then_both_stay_and_each_keeps_its_token() {
    let mut world = World::new(acme());
    let mut phones = [PHONE, "198.51.100.8:5060"].map(|nat| Phone::new("401", "acme.test", nat));
    let tokens = phones.each_mut().map(|phone| {
        phone.contact = "<sip:401@192.168.1.20:5060>".to_owned();
        register(&mut world, phone, PBX, 600)
    });
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(world.engine.state().registrations().len(), 2);

    // The NAT chose another port, and the phone another Call-ID: it began anew.
    phones[0].flow = outside("192.0.2.7:41111");
    phones[0].call_id = "after-reboot".to_owned();
    assert_eq!(register(&mut world, &mut phones[0], PBX, 600), tokens[0]);
    // The other one moved to another network, and says by its Call-ID who it is.
    phones[1].flow = outside("198.51.100.99:5060");
    assert_eq!(register(&mut world, &mut phones[1], PBX, 600), tokens[1]);
    assert_eq!(world.engine.state().registrations().len(), 2);
    assert_eq!(world.told_kinds(2), ["registration.refreshed"; 2]);

    // What the registrar lists of the other phone looks like its own to each.
    let text = phones[0].register(300);
    world.deliver(phones[0].flow, text);
    let at_pbx = world.one_to(addr(PBX));
    let both = [(&tokens[1], 17), (&tokens[0], 300)]
        .map(|(token, secs)| format!("Contact: <sip:{token}@10.0.0.5:5060>;expires={secs}\r\n"));
    world.deliver(inside(PBX), response(&at_pbx, 200, &both.concat()));
    let answer = world.one_to(phones[0].flow.remote);
    let shown: Vec<_> = answer.message().values(HeaderName::Contact).map(<[u8]>::to_vec).collect();
    assert_eq!(shown, [b"<sip:401@192.168.1.20:5060>;expires=300".to_vec()]);

    let text = phones[1].register(0);
    world.deliver(phones[1].flow, text);
    let at_pbx = world.one_to(addr(PBX));
    world.deliver(inside(PBX), granted(&at_pbx, 0));
    let left: Vec<_> = world.engine.state().registrations().iter().flat_map(|aor| &aor.bindings).collect();
    assert_eq!(
        left.iter().map(|b| b.flow.get()).collect::<Vec<_>>(),
        [phones[0].flow],
        "one leaves, the other stays"
    );
    world.assert_replay_equals_live();
}

#[test]
fn given_a_phone_that_moved_when_another_with_its_private_address_comes_from_where_it_was_then_both_stay() {
    let mut world = World::new(acme());
    let mut moved = Phone::new("401", "acme.test", PHONE);
    moved.contact = "<sip:401@192.168.1.100:5060>".to_owned();
    moved.call_id = "first".to_owned();
    let token = register(&mut world, &mut moved, PBX, 600);
    moved.flow = outside("198.51.100.99:5060");
    assert_eq!(register(&mut world, &mut moved, PBX, 600), token, "it says by its Call-ID who it is");

    let mut other = Phone::new("401", "acme.test", PHONE);
    other.contact.clone_from(&moved.contact);
    other.call_id = "second".to_owned();
    let others = register(&mut world, &mut other, PBX, 600);
    assert_ne!(others, token);
    assert_eq!(world.engine.state().registrations().len(), 2);
    assert_eq!(register(&mut world, &mut other, PBX, 600), others, "and it keeps its own");
    assert_eq!(register(&mut world, &mut moved, PBX, 600), token);
    world.assert_replay_equals_live();
}

#[test]
fn given_a_contact_that_is_the_edge_itself_then_it_is_403_and_told_and_never_stored() {
    let mut hidden = acme();
    hidden.listeners[0].advertise = "sbc.acme.test:5070".into();
    for (settings, contact) in [
        (acme(), "sip:401@203.0.113.1:5060"),
        (acme(), "sip:203.0.113.1"),
        (acme(), "sip:anybody@[::ffff:203.0.113.1]"),
        (hidden.clone(), "sip:401@SBC.acme.test:5070;ob"),
        (hidden.clone(), "sip:401@203.0.113.1"),
    ] {
        let mut world = World::new(settings);
        let mut phone = Phone::new("401", "acme.test", PHONE);
        phone.contact = format!("<{contact}>");
        let text = phone.register(600);
        world.deliver(phone.flow, text);
        let answer = world.one_to(phone.flow.remote);
        assert_eq!(answer.status(), Some(403), "{contact}");
        assert!(answer.text().starts_with("SIP/2.0 403 Contact Is This Edge\r\n"));
        assert_eq!(world.take_to(addr(PBX)).len(), 0);
        assert_eq!(world.engine.state().registrations().len(), 0);
        let told = world.records("registration.rejected").pop().expect("an event").json();
        assert_eq!((&told["status"], &told["by"]), (&403.into(), &"edge".into()));
        assert_eq!(told["reason"], "Contact Is This Edge");
    }
    // Others on the edge's machine, and in networks that have the same private addresses as our inside.
    for (settings, contact) in [
        (acme(), "sip:401@203.0.113.1:5062"),
        (acme(), "sip:401@10.0.0.5:5060"),
        (hidden, "sip:401@sbc.acme.test:5062"),
    ] {
        let mut world = World::new(settings);
        let mut phone = Phone::new("401", "acme.test", PHONE);
        phone.contact = format!("<{contact}>");
        register(&mut world, &mut phone, PBX, 600);
    }
}
