//! Registrations as RFC 3261 and EVENTS.md say, and nothing else.

use crate::town::{ACME, Household, MINUTE, SECOND, Town};
use signalbox_actors::{Observed, Verdict};
use signalbox_schemas::Event;
use signalbox_schemas::words::{RejectedBy, RemovalReason};
use signalbox_world::{PhoneId, Seeded, Weather, World, edge_settings, hosted, seeds};
use std::time::Duration;

/// The registration events of an AoR, in order and in short.
fn story(town: &Town, user: &str) -> Vec<String> {
    let subject = format!("acme/{user}@acme.test");
    let events = town.world.events(town.edge).into_iter().filter(|r| r.subject == subject);
    events
        .map(|recorded| match recorded.event {
            Event::RegistrationAdded(_) => "added".to_owned(),
            Event::RegistrationRefreshed(_) => "refreshed".to_owned(),
            Event::RegistrationRemoved(e) => format!("removed {:?}", e.reason),
            Event::RegistrationExpired(_) => "expired".to_owned(),
            Event::RegistrationRejected(e) => format!("rejected {} {:?}", e.status, e.by),
            other => format!("{:?}", other.kind()),
        })
        .collect()
}

fn town(seed: u64, weather: Weather, expires_secs: u32, refresh: bool) -> Town {
    let mut world = World::new(seed, weather);
    let mut pbx = ACME.pbx_profile();
    pbx.expires_max_secs = 3600;
    pbx = pbx.user_at("409", "acme.test", "secret", Verdict::Forbid);
    let pbxs = vec![world.add_pbx("acme", pbx)];
    let mut phones = Vec::new();
    for n in 0..ACME.phones {
        let mut profile = ACME.phone_profile(n);
        (profile.expires_secs, profile.refresh) = (expires_secs, refresh);
        phones.push(world.add_phone("acme", profile, None));
    }
    let edge = world.add_edge(edge_settings(
        "edge-1",
        hosted(super::town::OUTSIDE),
        hosted(super::town::INSIDE),
        &[ACME.plan()],
    ));
    world.run(SECOND);
    Town { world, edge, pbxs, phones }
}

fn another_phone(town: &mut Town, last: u8, user: &str, password: &str) -> PhoneId {
    let mut profile = Household { street: 102, ..ACME }.phone_profile(last);
    profile.user = user.to_owned();
    profile.password = password.to_owned();
    profile.refresh = false;
    town.world.add_phone("acme", profile, None)
}

fn register(town: &mut Town, phone: PhoneId) {
    town.world.phone(phone, |p, now, out| p.register(now, out));
    town.world.run(SECOND * 2);
}

#[test]
fn given_a_challenge_and_good_credentials_then_one_added_and_no_rejected() {
    let mut town = town(1, Weather::FINE, 3600, true);
    let phone = town.phones[0];
    register(&mut town, phone);
    assert_eq!(story(&town, "401"), ["added"]);
    let phone = town.world.see_phone(town.phones[0]);
    assert!(matches!(phone.seen()[0].what, Observed::Registered { expires_secs: 3600, contacts: 1 }));
    let contact = &town.world.see_pbx(town.pbxs[0]).contacts("401@acme.test", town.world.now().mono)[0];
    assert!(contact.uri.contains("@10.0.0.5:5060"), "the PBX sees the edge, not the phone: {}", contact.uri);
    town.assert_good();
}

#[test]
fn given_wrong_credentials_or_a_forbidden_user_then_rejected_and_nothing_stored() {
    let mut town = town(2, Weather::FINE, 3600, true);
    let wrong = another_phone(&mut town, 1, "401", "guess");
    let forbidden = another_phone(&mut town, 2, "409", "secret");
    register(&mut town, wrong);
    register(&mut town, forbidden);
    let by = RejectedBy::Backend;
    assert_eq!(story(&town, "401"), [format!("rejected 401 {by:?}")]);
    assert_eq!(story(&town, "409"), [format!("rejected 403 {by:?}")]);
    assert_eq!(town.world.edge(town.edge).engine().unwrap().state().registrations().len(), 0);
    let answer = Observed::RegisterRefused { status: 403 };
    assert!(town.world.see_phone(forbidden).seen().iter().any(|seen| seen.what == answer));
}

#[test]
fn given_expires_zero_then_removed_by_client_and_the_pbx_has_nobody() {
    let mut town = town(3, Weather::FINE, 3600, true);
    let phone = town.phones[0];
    register(&mut town, phone);
    town.world.phone(phone, |p, now, out| p.unregister(now, out));
    town.world.run(SECOND * 2);
    assert_eq!(story(&town, "401"), ["added".to_owned(), format!("removed {:?}", RemovalReason::Client)]);
    assert!(town.world.see_pbx(town.pbxs[0]).contacts("401@acme.test", town.world.now().mono).is_empty());
    town.assert_good();
}

#[test]
fn given_a_phone_that_goes_silent_then_its_binding_expires_once_and_in_time() {
    let mut town = town(4, Weather::FINE, 120, false);
    let (phone, began) = (town.phones[0], town.world.now().wall);
    register(&mut town, phone);
    town.world.run(MINUTE * 4);
    assert_eq!(story(&town, "401"), ["added", "expired"]);
    let expired =
        town.world.events(town.edge).into_iter().find(|r| matches!(r.event, Event::RegistrationExpired(_)));
    let after = expired.unwrap().wall.since(began);
    assert!((SECOND * 119..SECOND * 135).contains(&after), "{after:?}");
}

#[test]
fn given_a_faithful_phone_then_refreshes_and_never_a_second_added() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("given_a_faithful_phone", seed);
        let mut town = town(seed, Weather::ROUGH, 300, true);
        town.register_all();
        town.world.run(MINUTE * 30);
        for user in ["401", "402"] {
            let story = story(&town, user);
            assert_eq!(story[0], "added");
            assert!(story.len() >= 4 && story[1..].iter().all(|e| e == "refreshed"), "{user}: {story:?}");
        }
        town.assert_good();
    }
}

#[test]
fn given_two_phones_of_one_aor_then_the_pbx_dials_each_once() {
    let mut town = town(5, Weather::FINE, 3600, true);
    let second = another_phone(&mut town, 3, "402", "secret");
    register(&mut town, second);
    town.register_all();
    town.call(town.phones[0], signalbox_actors::CallPlan::talking("402", SECOND * 2));
    town.world.run(SECOND * 10);
    for phone in [town.phones[1], second] {
        let invited = town.world.see_phone(phone).calls().count();
        assert_eq!(invited, 1, "{}", town.world.see_phone(phone).contact());
    }
    town.assert_good();
}

#[test]
fn given_the_edge_restarts_then_every_binding_is_still_there_and_is_called() {
    let mut town = town(6, Weather::FINE, 3600, true);
    town.register_all();
    town.world.crash(town.edge, signalbox_world::Crash::Power);
    town.world.run(Duration::from_secs(20));
    town.call(town.phones[0], signalbox_actors::CallPlan::talking("402", SECOND));
    town.world.run(SECOND * 10);
    assert!(town.world.see_phone(town.phones[1]).calls().any(|call| call.confirmed.is_some()));
    town.assert_good();
}
