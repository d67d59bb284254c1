//! Life where the edge is the registrar and there is no PBX: phones register with it, and call each other. And where a PBX
//! hears of phones only now and then.

use crate::town::{ACME, INSIDE, MINUTE, OUTSIDE, SECOND, Town, extension};
use signalbox_actors::{CallPlan, Observed};
use signalbox_engine::settings::{CallsFrom, Challenged, DomainPolicy, RegistrarSettings, Users};
use signalbox_schemas::Event;
use signalbox_sip::digest::{Algorithm, Ha1, ResponseInput};
use signalbox_world::{Crash, CrashPoint, Seeded, TenantPlan, Weather, World, edge_settings, hosted, seeds};
use std::sync::Arc;
use std::time::Duration;

/// Both hashes of 401 to 404, whose password is `secret`.
const USERS: &str = "\
401:acme.test:87de33f80f9b176fd5706e7e2b0d9dc1
401:acme.test:a6ba667fc1a75d858aaa891426200e97872103d53d4f15742668da1915db539a
402:acme.test:641c9472d55422a0bfb8970252cf1967
402:acme.test:56cf91fc0d3a69dcd52242aff9a063df7b4e7bc5d6298f91593a66fbcaecb426
403:acme.test:b5a7667fd8bdb4d0d43361c54cfa0565
404:acme.test:297145587344314ee6e6aebe4d5c8acdf2c731b4458e6c6ae918abc156c6eaf1
";

/// A tenant without any PBX.
fn town(seed: u64, weather: Weather, challenged: Challenged) -> Town {
    let mut world = World::new(seed, weather);
    let phones = (0..ACME.phones).map(|n| {
        let mut profile = ACME.phone_profile(n);
        profile.expires_secs = 300;
        world.add_phone(ACME.tenant, profile, None)
    });
    let phones = phones.collect();
    let plan = TenantPlan {
        name: ACME.tenant,
        domains: vec![ACME.domain],
        backends: Vec::new(),
        calls_from: CallsFrom::Registered,
    };
    let mut settings = edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[plan]);
    settings.tenants[0].domains[0].policy = DomainPolicy {
        registrar: Some(RegistrarSettings { min_expires_secs: 60, max_expires_secs: 3600, contacts_max: 10 }),
        users: Some(Arc::new(Users::read(USERS, ACME.domain).unwrap())),
        challenged,
        ..DomainPolicy::default()
    };
    let edge = world.add_edge(settings);
    Town { world, edge, pbxs: Vec::new(), phones }
}

/// Phones call each other, and come and go.
fn live(town: &mut Town, things: u64) {
    for _ in 0..things {
        let wait = Duration::from_millis(town.world.random().below(1_400));
        town.world.run(wait);
        let phones = town.phones.clone();
        let (random, all) = (town.world.random(), phones.len() as u64);
        let (from, to) = (random.below(all) as usize, random.below(all) as u8);
        let (roll, talk) = (random.below(100), Duration::from_millis(random.below(5_000)));
        match roll {
            0..=9 => town.world.phone(phones[from], |p, now, out| p.register(now, out)),
            10..=14 => town.world.phone(phones[from], |p, now, out| p.unregister(now, out)),
            _ => {
                let give_up_after = Some(Duration::from_secs(9));
                town.call(
                    phones[from],
                    CallPlan { give_up_after, ..CallPlan::talking(&extension(to), talk) },
                );
            }
        }
    }
}

fn answered(town: &Town) -> usize {
    let events = town.world.events(town.edge);
    events.iter().filter(|recorded| matches!(recorded.event, Event::CallEnded(_))).count()
}

#[test]
fn given_rough_weather_and_no_pbx_when_phones_live_then_they_are_found_and_speak() {
    for seed in seeds(6) {
        let _seeded = Seeded::new("given_rough_weather_and_no_pbx", seed);
        let weather = if seed % 2 == 0 { Weather::ROUGH } else { Weather::FINE };
        let challenged = if seed % 3 == 0 { Challenged::All } else { Challenged::None };
        let mut town = town(seed, weather, challenged);
        // A slow disk would have them refused for a while, and rightly.
        town.world.edge_mut(town.edge).never_stalls();
        town.register_all();
        live(&mut town, 60);
        town.world.run(MINUTE * 15);
        town.assert_good();
        assert!(answered(&town) > 5, "{} calls were answered", answered(&town));
        let failed = town.world.events(town.edge).into_iter().find(|recorded| {
            matches!(recorded.event, Event::RegistrationRejected(_) | Event::SecurityAuthFailed(_))
        });
        assert!(failed.is_none(), "{:?}", failed.map(|recorded| recorded.event));
    }
}

#[test]
fn promise_3_given_the_edge_is_the_registrar_when_it_dies_at_any_commit_then_nobody_told_200_is_lost() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("promise_3_given_the_edge_is_the_registrar", seed);
        let mut kills = 0;
        for commit in 1..40 {
            let point = match commit % 3 {
                0 => CrashPoint::AmidCommit(commit),
                1 => CrashPoint::BetweenCommitAndSend(commit),
                _ => CrashPoint::AmidSending(commit),
            };
            let mut town = town(seed * 1000 + commit, Weather::FINE, Challenged::None);
            town.world.edge_mut(town.edge).crash_at(point, Crash::Power);
            for phone in town.phones.clone() {
                town.world.phone(phone, |p, now, out| p.register(now, out));
                town.world.run(SECOND / 20);
            }
            live(&mut town, 10);
            kills += town.world.edge(town.edge).lives() - 1;
            town.assert_good();
        }
        assert!(kills > 10, "only {kills} points were found");
    }
}

/// Whoever has seen one REGISTER of a phone sends it again, from its own place.
#[test]
fn given_a_stranger_who_repeats_a_phones_register_then_nobody_is_moved() {
    let mut town = town(7, Weather::FINE, Challenged::None);
    town.register_all();
    let stranger = hosted("203.0.113.66");
    let ha1 = Ha1::from_hex("87de33f80f9b176fd5706e7e2b0d9dc1").unwrap();
    for (nonce, counts) in [("0".repeat(64), 1..3), ("f".repeat(64), 1..3)] {
        for count in counts {
            let input = ResponseInput {
                algorithm: Algorithm::Md5,
                qop: Some(signalbox_sip::digest::Qop::Auth),
                method: b"REGISTER",
                uri: b"sip:acme.test",
                nonce: nonce.as_bytes(),
                cnonce: b"c",
                nonce_count: count,
                body: b"",
            };
            let response = ha1.respond(&input).unwrap();
            let text = format!(
                "REGISTER sip:acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {stranger};branch=z9hG4bK{count}{}\r\nMax-Forwards: 70\r\n\
                 From: <sip:401@acme.test>;tag=1\r\nTo: <sip:401@acme.test>\r\nCall-ID: x\r\nCSeq: {count} REGISTER\r\n\
                 Contact: <sip:evil@{stranger}>\r\nAuthorization: Digest username=\"401\", realm=\"acme.test\", \
                 nonce=\"{nonce}\", uri=\"sip:acme.test\", response=\"{response}\", algorithm=MD5, qop=auth, \
                 nc={count:08x}, cnonce=\"c\"\r\nContent-Length: 0\r\n\r\n",
                &nonce[..1]
            );
            town.world.send(stranger, hosted(OUTSIDE), text.into_bytes());
            town.world.run(SECOND);
        }
    }
    let engine = town.world.edge(town.edge).engine().unwrap();
    let aor = engine.state().registrations().aor("acme/401@acme.test").unwrap();
    assert!(aor.bindings.len() == 1 && aor.bindings[0].flow.remote().ip() != stranger.ip());
    town.call(town.phones[1], CallPlan::talking("401", SECOND));
    town.assert_good();
}

/// A PBX that hears of each phone once an hour, while phones refresh each minute.
fn hourly(seed: u64, weather: Weather) -> Town {
    let mut world = World::new(seed, weather);
    let pbxs = vec![world.add_pbx(ACME.tenant, ACME.pbx_profile())];
    let phones = (0..ACME.phones).map(|n| {
        let mut profile = ACME.phone_profile(n);
        profile.expires_secs = 75;
        world.add_phone(ACME.tenant, profile, None)
    });
    let phones = phones.collect();
    let mut settings = edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[ACME.plan()]);
    settings.tenants[0].domains[0].policy.refresh_upstream = Some(MINUTE * 60);
    let edge = world.add_edge(settings);
    world.run(SECOND);
    Town { world, edge, pbxs, phones }
}

/// REGISTERs that the PBX granted.
fn granted(town: &Town) -> usize {
    let pbx = town.world.see_pbx(town.pbxs[0]);
    pbx.seen().iter().filter(|seen| matches!(seen.what, Observed::Accepted { .. })).count()
}

#[test]
fn given_a_pbx_that_is_asked_for_an_hour_when_phones_refresh_each_minute_then_it_rests_and_calls_arrive() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("given_a_pbx_that_is_asked_for_an_hour", seed);
        let weather = if seed % 2 == 0 { Weather::ROUGH } else { Weather::FINE };
        let mut town = hourly(seed, weather);
        town.register_all();
        for _ in 0..11 {
            town.world.run(MINUTE * 10);
            town.call(town.phones[0], CallPlan::talking("402", SECOND));
        }
        let all = town.phones.len();
        assert!((2 * all..4 * all).contains(&granted(&town)), "{} REGISTERs in two hours", granted(&town));
        let refreshed = town.world.events(town.edge).into_iter();
        let refreshed = refreshed.filter(|r| matches!(r.event, Event::RegistrationRefreshed(_))).count();
        assert!(refreshed > 80 * all, "{refreshed} refreshes were told");
        assert!(answered(&town) >= 11, "{}", answered(&town));
        town.assert_good();
    }
}

#[test]
fn given_a_pbx_that_was_gone_when_it_is_back_then_it_hears_of_every_phone_once_within_minutes() {
    let mut town = hourly(3, Weather::FINE);
    town.register_all();
    town.world.run(MINUTE * 5);
    town.world.pbx(town.pbxs[0], |p, now, _| p.kill(now.mono, 98));
    town.world.run(MINUTE * 2);
    town.world.pbx(town.pbxs[0], |p, now, _| p.start(now.mono));
    let before = granted(&town);
    town.world.run(MINUTE * 5);
    assert_eq!(granted(&town) - before, town.phones.len());
    town.call(town.phones[0], CallPlan::talking("402", SECOND));
    town.assert_good();
}
