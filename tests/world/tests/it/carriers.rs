//! Two carriers behind a route: one dies under load, and nobody notices.

use crate::town::{ACME, INSIDE, OUTSIDE, SECOND, Town};
use signalbox_actors::{Answer, CallPlan, Device, PbxProfile};
use signalbox_base::Text;
use signalbox_engine::settings::{
    Group, Match, MemberName, Pattern, PeerLimits, Rule, Settings, To, TrunkDirection, TrunkSettings, Who,
};
use signalbox_schemas::Event;
use signalbox_schemas::words::{PeerKind, Side};
use signalbox_world::{Seeded, Weather, World, edge_settings, hosted, seeds};
use std::sync::Arc;

const CARRIERS: [(&str, &str); 2] = [("carrier", "10.0.2.1"), ("carrier-2", "10.0.2.2")];

/// Calls of phones to 600 go to the first carrier, and to the second where that fails.
fn settings() -> Settings {
    let mut settings = edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[ACME.plan()]);
    settings.listeners[1].serves.trunks = true;
    for (name, address) in CARRIERS {
        let mut peer = settings.tenants[0].backends[0].clone();
        peer.name = Text::new(name);
        peer.address.host = Text::new(address);
        peer.address.literal = Some(hosted(address));
        settings.trunks.push(TrunkSettings {
            peer,
            tenant: None,
            direction: TrunkDirection::Out,
            limits: PeerLimits::default(),
            template_in: None,
            template_out: None,
        });
    }
    let group =
        Group::in_order(Text::new("carriers"), CARRIERS.map(|(name, _)| MemberName::Trunk(Text::new(name))));
    let number = vec![Pattern::Exact(Text::new("600"))];
    settings.rules.routes = vec![Rule {
        name: Text::new("out"),
        tenant: None,
        matches: Match { source: vec![Who::Endpoints], number, ..Match::default() },
        tags: Vec::new(),
        to: Some(To::Group(Arc::new(group))),
        template: None,
    }];
    settings
}

#[test]
fn given_two_carriers_when_the_first_dies_amid_calls_then_new_ones_take_the_second_and_records_say_which() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("given_two_carriers_when_the_first_dies", seed);
        let mut world = World::new(seed, Weather::FINE);
        let mut pbxs = vec![world.add_pbx("acme", ACME.pbx_profile())];
        for ((_, address), n) in CARRIERS.into_iter().zip(seed as usize..) {
            let device = Some(&Device::TRUNKS[n % Device::TRUNKS.len()]);
            let profile = PbxProfile { local: hosted(address), device, ..ACME.pbx_profile() };
            pbxs.push(world.add_pbx("acme", profile));
        }
        let phones = (0..ACME.phones).map(|n| {
            let mut profile = ACME.phone_profile(n);
            profile.answer = Answer::Ring;
            world.add_phone("acme", profile, None)
        });
        let phones = phones.collect();
        let edge = world.add_edge(settings());
        world.edge_mut(edge).never_stalls();
        let mut town = Town { world, edge, pbxs, phones };
        town.world.run(SECOND);
        town.register_all();
        for n in 0..200 {
            if n == 100 {
                let carrier = town.pbxs[1];
                town.world.pbx(carrier, |carrier, now, _| carrier.kill(now.mono, seed));
            }
            let phone = town.phones[n % town.phones.len()];
            town.call(phone, CallPlan::talking("600", SECOND * 3));
            town.world.run(SECOND / 10);
        }
        town.world.run(SECOND * 20);
        let lost =
            town.world.phones().flat_map(|phone| phone.calls()).filter(|call| call.failed.is_some()).count();
        assert_eq!(lost, 0, "a caller noticed");
        let ended = town.world.events(town.edge).into_iter().filter_map(|recorded| match recorded.event {
            Event::CallEnded(cdr) => Some(cdr),
            _ => None,
        });
        let by = |name: &str, cdrs: &[Box<signalbox_schemas::call::Cdr>]| {
            cdrs.iter().filter(|cdr| cdr.egress_peer.as_deref() == Some(name)).count()
        };
        let cdrs: Vec<_> = ended.filter(|cdr| cdr.egress_kind == Some(PeerKind::Trunk)).collect();
        assert_eq!(
            (by("carrier", &cdrs) >= 90, by("carrier-2", &cdrs) >= 90),
            (true, true),
            "{}",
            cdrs.len()
        );
        assert!(cdrs.iter().all(|cdr| cdr.side == Side::TrunkOut && cdr.route.as_deref() == Some("out")));
    }
}
