//! Probes, hysteresis, operators' wishes, names.

use crate::support::*;
use signalbox_base::{Text, Transport};
use signalbox_engine::contract::BackendWish;
use signalbox_engine::settings::ProbeSettings;
use signalbox_engine::{Ask, Command, CommandReply, Input, ResolvedTarget, SendError, Settings};
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";

fn probed() -> Settings {
    let mut settings = acme();
    settings.tenants[0].backends.push(backend("pbx-2", "10.0.1.2:5060", 2, None));
    settings.tenants[0].backends[0].probe = ProbeSettings::default();
    settings
}

/// Lets time pass; probes are answered with this status while there is one.
fn live(world: &mut World, secs: u64, status: Option<u16>) {
    for _ in 0..secs * 4 {
        world.advance(Duration::from_millis(250));
        for probe in world.take_to(addr(PBX)) {
            if let Some(status) = status {
                world.deliver(inside(PBX), response(&probe, status, ""));
            }
        }
    }
}

fn changes(world: &World) -> Vec<(String, String)> {
    let word = |value: &serde_json::Value| value.as_str().expect("a word").to_owned();
    world
        .records("backend.state_changed")
        .iter()
        .map(|r| (word(&r.json()["from"]), word(&r.json()["to"])))
        .collect()
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

#[test]
fn given_a_backend_that_dies_and_returns_then_each_change_is_told_with_its_history() {
    let mut world = World::new(probed());
    live(&mut world, 30, Some(404));
    assert_eq!(changes(&world), [pair("unknown", "up")], "any answer but 408 and 503 is a life sign");
    live(&mut world, 60, None);
    assert_eq!(changes(&world)[1..], [pair("up", "degraded"), pair("degraded", "down")]);
    let pool = world.records("backend.pool_degraded");
    assert_eq!(
        (pool.len(), pool[0].json()["healthy"].as_u64(), pool[0].json()["total"].as_u64()),
        (1, Some(1), Some(2))
    );
    live(&mut world, 30, Some(200));
    assert_eq!(changes(&world)[3..], [pair("down", "up")]);
    let back = world.records("backend.state_changed")[3].json();
    assert_eq!(back["consecutive"], 2);
    assert!(back["down_ms"].as_u64().unwrap() > 10_000, "{back}");
    assert!(back["rtt_ms"].is_u64());
    world.assert_replay_equals_live();
}

#[test]
fn given_a_backend_that_is_down_then_new_traffic_goes_elsewhere_and_a_refused_port_tells_at_once() {
    let mut world = World::new(probed());
    live(&mut world, 12, Some(200));
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    let text = phone.register(60);
    world.deliver(phone.flow, text);
    assert_eq!(world.take_to(addr(PBX)).len(), 1);
    world.input(Input::Unsent { ticket: None, remote: addr(PBX), cause: SendError::Refused });
    let elsewhere = world.one_to(addr("10.0.1.2:5060"));
    world.deliver(inside("10.0.1.2:5060"), granted(&elsewhere, 60));
    live(&mut world, 45, None);
    world.take();
    let text = phone.register(60);
    world.deliver(phone.flow, text);
    assert!(world.take_to(addr(PBX)).is_empty());
    assert_eq!(world.take_to(addr("10.0.1.2:5060")).len(), 1);
}

#[test]
fn given_an_operator_who_drains_then_no_new_traffic_goes_there_until_enabled_even_after_a_restart() {
    let mut world = World::new(probed());
    live(&mut world, 5, Some(200));
    let wish = |name: &str, wish| Command::Backend { name: Text::new(name), wish, actor: Text::new("root") };
    assert!(matches!(world.command(wish("nobody", BackendWish::Drain)), CommandReply::Refused(_)));
    assert!(matches!(world.command(wish("acme/pbx-1", BackendWish::Drain)), CommandReply::Done(_)));
    assert_eq!(changes(&world).last(), Some(&pair("up", "draining")));
    assert_eq!(world.records("admin.acted").len(), 2);
    let mut world = world.crash_and_restart(Duration::from_secs(1));
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    register(&mut world, &mut phone, "10.0.1.2:5060", 60);
    live(&mut world, 5, Some(200));
    assert!(matches!(world.command(wish("pbx-1", BackendWish::Enable)), CommandReply::Done(_)));
    assert_eq!(changes(&world).last(), Some(&pair("draining", "up")));
    register(&mut world, &mut phone, PBX, 60);
    assert!(matches!(world.command(wish("pbx-1", BackendWish::Disable)), CommandReply::Done(_)));
    world.take();
    live(&mut world, 30, Some(200));
    assert_eq!(changes(&world).last(), Some(&pair("up", "disabled")), "nothing probes what is disabled");
    world.assert_replay_equals_live();
}

#[test]
fn given_a_backend_by_name_then_it_is_resolved_and_its_addresses_are_its_own() {
    let mut settings = acme();
    settings.tenants[0].backends[0].address.literal = None;
    settings.tenants[0].backends[0].address.host = Text::new("pbx.acme.test");
    let mut world = World::new(settings);
    let Some(Ask::Resolve { query, question }) = world.asks.first().cloned() else { panic!("nothing asked") };
    assert_eq!((&*question.host, question.port, question.by_naptr), ("pbx.acme.test", Some(5060), false));
    let again_after = Duration::from_secs(40);
    world.input(Input::Resolved { query, targets: &[site("10.0.3.3:5060", 0, 0)], again_after });
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    register(&mut world, &mut phone, "10.0.3.3:5060", 60);
    world.advance(Duration::from_secs(39));
    assert_eq!(world.asks.len(), 1);
    world.advance(Duration::from_secs(2));
    let Some(Ask::Resolve { query, .. }) = world.asks.get(1).cloned() else { panic!("not asked again") };
    world.input(Input::Resolved { query, targets: &[], again_after });
    register(&mut world, &mut phone, "10.0.3.3:5060", 60);
    world.advance(Duration::from_secs(41));
    let Some(Ask::Resolve { query, .. }) = world.asks.get(2).cloned() else { panic!("not asked again") };
    world.input(Input::Resolved { query, targets: &[site("10.0.3.4:5062", 0, 0)], again_after });
    register(&mut world, &mut phone, "10.0.3.4:5062", 60);
}

pub(crate) fn site(address: &str, priority: u32, weight: u16) -> ResolvedTarget {
    ResolvedTarget {
        address: addr(address),
        transport: Transport::Udp,
        priority,
        weight,
        host: Text::new(address),
    }
}

/// One backend of two places, the second only to fall back to.
fn of_two_places(mut settings: Settings) -> World {
    let address = &mut settings.tenants[0].backends[0].address;
    (address.literal, address.host, address.port) = (None, Text::new("pbx.acme.test"), None);
    let mut world = World::new(settings);
    let Some(Ask::Resolve { query, .. }) = world.asks.first().cloned() else { panic!("nothing asked") };
    let targets = [site("10.0.3.4:5062", 1, 0), site("10.0.3.3:5060", 0, 0)];
    world.input(Input::Resolved { query, targets: &targets, again_after: Duration::from_secs(3600) });
    world
}

#[test]
fn given_a_backend_of_two_places_when_the_first_is_silent_then_the_second_is_asked_and_stays_first() {
    let mut world = of_two_places(acme());
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    let text = phone.register(60);
    world.deliver(phone.flow, text);
    assert_eq!(world.take_to(addr("10.0.3.3:5060")).len(), 1);
    world.advance(Duration::from_secs(4));
    let asked = world.take_to(addr("10.0.3.4:5062"));
    world.deliver(inside("10.0.3.4:5062"), granted(&asked[0], 60));
    assert_eq!(world.take_to(phone.flow.remote).len(), 1);
    register(&mut world, &mut phone, "10.0.3.4:5062", 60);
    assert_eq!(changes(&world).last(), Some(&pair("unknown", "up")), "the backend itself is there");
}

#[test]
fn given_a_backend_of_two_places_then_each_is_probed_and_it_is_down_when_neither_answers() {
    let mut world = of_two_places(probed());
    let round = |world: &mut World, of_first: Option<u16>, of_second: Option<u16>| {
        for _ in 0..15 {
            world.advance(Duration::from_secs(1));
            for (place, status) in [("10.0.3.3:5060", of_first), ("10.0.3.4:5062", of_second)] {
                for probe in world.take_to(addr(place)) {
                    if let Some(status) = status {
                        world.deliver(inside(place), response(&probe, status, ""));
                    }
                }
            }
        }
    };
    round(&mut world, None, Some(200));
    assert_eq!(changes(&world).last(), Some(&pair("unknown", "up")));
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    register(&mut world, &mut phone, "10.0.3.4:5062", 60);
    round(&mut world, Some(200), Some(200));
    register(&mut world, &mut phone, "10.0.3.3:5060", 60);
    for _ in 0..5 {
        round(&mut world, None, Some(503));
    }
    assert_eq!(changes(&world).last().map(|(_, to)| to.as_str()), Some("down"));
}

#[test]
fn given_an_icmp_error_of_a_backend_then_all_that_waits_for_it_goes_on_to_the_next_and_nothing_else_moves() {
    let mut settings = acme();
    settings.tenants[0].backends.push(backend("pbx-2", "10.0.1.2:5060", 2, None));
    let mut world = World::new(settings);
    let mut phone = Phone::new("401", "acme.test", "192.0.2.7:5060");
    register(&mut world, &mut phone, "10.0.1.1:5060", 3600);
    let text = phone.register(3600);
    world.deliver(phone.flow, text);
    let text = request("MESSAGE", "sip:402@acme.test", "sip:401@acme.test", phone.flow.remote, "m");
    world.deliver(phone.flow, text);
    assert_eq!(world.take_to(addr("10.0.1.1:5060")).len(), 2);
    let refused = |world: &mut World, by: &str| {
        world.input(Input::Unsent { ticket: None, remote: addr(by), cause: SendError::Refused });
    };
    refused(&mut world, "10.0.9.9:5060");
    assert!(world.take().is_empty(), "nothing waits for that one");
    for _ in 0..3 {
        refused(&mut world, "10.0.1.1:5060");
    }
    assert_eq!(world.take_to(addr("10.0.1.2:5060")).len(), 2, "once each");
    refused(&mut world, "10.0.1.2:5060");
    let answers: Vec<Option<u16>> = world.take_to(phone.flow.remote).iter().map(Sent::status).collect();
    assert_eq!(answers, [Some(503), Some(503)]);
}
