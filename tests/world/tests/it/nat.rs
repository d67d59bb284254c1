//! Phones behind NAT boxes: registered, called, calling, held, hung up, in both directions (issue 3, Shows 7).

use crate::town::{ACME, MINUTE, SECOND, Town};
use signalbox_actors::{CallPlan, EndedBy, Side};
use signalbox_world::{Nat, NatKind, PhoneId, Seeded, Weather, World, edge_settings, hosted, seeds};
use std::time::Duration;

fn town(seed: u64, kind: NatKind) -> Town {
    let mut world = World::new(seed, Weather::FINE);
    let pbxs = vec![world.add_pbx("acme", ACME.pbx_profile())];
    let mut phones: Vec<PhoneId> = Vec::new();
    for n in 0..2 {
        let public = hosted(&format!("203.0.113.{}", 1 + n)).ip();
        let nat = world.add_nat(Nat::new(public, kind, Duration::from_secs(40)));
        // The same private address in both homes.
        let profile =
            signalbox_actors::PhoneProfile { local: hosted("192.168.1.10"), ..ACME.phone_profile(n) };
        phones.push(world.add_phone("acme", profile, Some(nat)));
    }
    let edge = world.add_edge(edge_settings(
        "edge-1",
        hosted(crate::town::OUTSIDE),
        hosted(crate::town::INSIDE),
        &[ACME.plan()],
    ));
    world.run(SECOND);
    Town { world, edge, pbxs, phones }
}

fn last_call(town: &Town, phone: usize) -> signalbox_actors::CallSeen {
    town.world.see_phone(town.phones[phone]).calls().last().expect("a call").clone()
}

#[test]
fn given_two_phones_behind_nats_then_they_call_hold_and_hang_up_both_ways() {
    for (seed, kind) in seeds(1).into_iter().flat_map(|s| [(s, NatKind::Restricted), (s, NatKind::Symmetric)])
    {
        let _seeded = Seeded::new("given_two_phones_behind_nats", seed);
        let mut town = town(seed, kind);
        town.register_all();
        for (caller, callee) in [(0, 1), (1, 0)] {
            let to = crate::town::extension(callee as u8);
            let plan = CallPlan {
                hold: Some((SECOND * 2, SECOND * 2)),
                info_after: Some(SECOND * 6),
                ..CallPlan::talking(&to, SECOND * 8)
            };
            town.call(town.phones[caller], plan);
            town.world.run(SECOND * 20);
            assert_eq!(last_call(&town, caller).ended.map(|(_, by)| by), Some(EndedBy::Me));
            assert_eq!(last_call(&town, callee).ended.map(|(_, by)| by), Some(EndedBy::Peer));
        }
        town.assert_good();
    }
}

#[test]
fn given_a_quiet_hour_then_a_phone_behind_nat_is_still_reached_and_can_be_hung_up_on() {
    for seed in seeds(1) {
        let _seeded = Seeded::new("given_a_quiet_hour", seed);
        let mut town = town(seed, NatKind::Restricted);
        town.register_all();
        town.world.run(MINUTE * 30);
        town.call(town.phones[0], CallPlan::to("402"));
        // A long silent call: the mapping lives only because somebody speaks.
        town.world.run(MINUTE * 10);
        let callee = last_call(&town, 1);
        assert_eq!((callee.side, callee.ended), (Side::Callee, None));
        town.world.phone(town.phones[1], |p, now, out| p.hang_up(now, callee.leg, out));
        town.world.run(SECOND * 5);
        assert_eq!(last_call(&town, 0).ended.map(|(_, by)| by), Some(EndedBy::Peer));
        town.assert_good();
    }
}

#[test]
fn given_the_nat_box_restarts_then_the_next_refresh_moves_the_binding() {
    let mut town = town(3, NatKind::Restricted);
    town.register_all();
    let nat = signalbox_world::NatId(1);
    town.world.nat(nat).restart();
    town.world.phone(town.phones[1], |p, now, out| p.register(now, out));
    town.world.run(SECOND * 2);
    town.call(town.phones[0], CallPlan::talking("402", SECOND));
    town.world.run(SECOND * 10);
    assert!(last_call(&town, 1).confirmed.is_some());
    let moved = town.world.events(town.edge).into_iter().any(|recorded| {
        matches!(&recorded.event, signalbox_schemas::Event::RegistrationRefreshed(e) if e.received_before.is_some())
    });
    assert!(moved, "the refresh tells the old and the new address");
    town.assert_good();
}
