//! What devices of the market do otherwise than others (`docs/devices.md`): each phone with each PBX, and what is peculiar.

use crate::architecture::root;
use crate::town::{ACME, Household, INSIDE, MINUTE, OUTSIDE, SECOND, Town};
use signalbox_actors::{Answer, CallPlan, Device, LegId, Observed, PbxProfile, PhoneProfile};
use signalbox_base::Text;
use signalbox_engine::settings::{
    ContactMode, Hide, Match, NumberBlock, Pattern, PeerLimits, Ring, Rule, To, TrunkDirection,
    TrunkSettings, Who,
};
use signalbox_schemas::Event;
use signalbox_schemas::call::Cdr;
use signalbox_schemas::words::{ModificationKind, ReleasedBy, RemovalReason};
use signalbox_sip::Method;
use signalbox_world::{Nat, NatKind, PhoneId, Seeded, Weather, World, edge_settings, hosted, seeds};
use std::time::Duration;

const PAIR: Household = Household { phones: 2, ..ACME };

/// Two phones and their PBX, all of them these devices.
fn town(seed: u64, phones: [&'static Device; 2], pbx: &'static Device) -> Town {
    let mut world = World::new(seed, Weather::FINE);
    let pbxs = vec![world.add_pbx("acme", PbxProfile { device: Some(pbx), ..PAIR.pbx_profile() })];
    let phones = phones.into_iter().zip(0..).map(|(device, n)| {
        world.add_phone("acme", PhoneProfile { device: Some(device), ..PAIR.phone_profile(n) }, None)
    });
    let phones = phones.collect();
    let mut plan = PAIR.plan();
    plan.backends[0].contact = if seed.is_multiple_of(2) { ContactMode::Token } else { ContactMode::Path };
    plan.backends[0].hide = if seed % 4 < 2 { Hide::Off } else { Hide::Full };
    let edge = world.add_edge(edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[plan]));
    let mut town = Town { world, edge, pbxs, phones };
    town.world.run(SECOND);
    town.register_all();
    town
}

fn events<T>(town: &Town, of: impl Fn(Event) -> Option<T>) -> Vec<T> {
    town.world.events(town.edge).into_iter().filter_map(|recorded| of(recorded.event)).collect()
}

fn ended(town: &Town) -> Vec<Cdr> {
    events(town, |event| match event {
        Event::CallEnded(cdr) => Some(*cdr),
        _ => None,
    })
}

/// Requests of this phone within calls that were answered 200.
fn agreed(town: &Town, phone: usize, wanted: Method) -> usize {
    let of = |what: &Observed| matches!(what, Observed::InDialogAnswered { method, status: 200, .. } if *method == wanted);
    town.world.see_phone(town.phones[phone]).seen().iter().filter(|seen| of(&seen.what)).count()
}

fn the_leg(town: &Town, phone: PhoneId) -> LegId {
    town.world.see_phone(phone).calls().last().expect("a call").leg
}

/// Whether its last call goes on.
fn lives(town: &Town, phone: usize) -> bool {
    town.world.see_phone(town.phones[phone]).calls().last().is_some_and(|call| call.is_alive())
}

#[test]
fn every_device_is_in_the_documents_with_its_sources() {
    let text = std::fs::read_to_string(root().join("docs/devices.md")).unwrap();
    for device in Device::PHONES.iter().chain(Device::PBXS).chain(Device::TRUNKS) {
        let plain = device.name == Device::PLAIN.name;
        assert!(plain || text.contains(&format!("| {} |", device.name)), "{}", device.name);
        let addresses =
            device.source.split([' ', '(', ')', ',', ';']).filter(|word| word.starts_with("https:"));
        for address in addresses.filter(|_| !plain) {
            assert!(text.contains(address), "{}: {address}", device.name);
        }
    }
}

#[test]
fn given_each_phone_with_each_pbx_when_they_call_hold_and_hang_up_then_all_of_it_is_told_and_ends() {
    for (n, phone) in (0..).zip(Device::PHONES) {
        for (m, pbx) in (0..).zip(Device::PBXS) {
            let other = &Device::PHONES[(n + m + 1) as usize % Device::PHONES.len()];
            let mut town = town(n + 3 * m, [phone, other], pbx);
            let what = format!("{} and {} at {}", phone.name, other.name, pbx.name);
            for (caller, to) in [(0, "402"), (1, "401")] {
                let plan = CallPlan {
                    hold: Some((SECOND * 2, SECOND * 4)),
                    info_after: Some(SECOND * 8),
                    ..CallPlan::talking(to, SECOND * 10)
                };
                town.call(town.phones[caller], plan);
                town.world.run(SECOND * 15);
                assert_eq!(agreed(&town, caller, Method::Invite), 2, "{what}: hold and resume by {caller}");
                assert_eq!(agreed(&town, caller, Method::Info), 1, "{what}");
            }
            let kinds = events(&town, |event| match event {
                Event::CallModified(data) => Some(data.kind),
                _ => None,
            });
            let count = |kind| kinds.iter().filter(|k| **k == kind).count();
            let told = (count(ModificationKind::Hold), count(ModificationKind::Resume));
            assert_eq!((told, ended(&town).len()), ((2, 2), 4), "{what}: {kinds:?}");
            town.assert_good();
        }
    }
}

/// Grandstream leaves it to its peer to refresh, Yealink refreshes by UPDATE, PJSIP leaves open who does.
#[test]
fn given_devices_with_session_timers_when_a_call_is_long_then_it_is_refreshed_by_whoever_should() {
    for seed in seeds(1) {
        let _seeded = Seeded::new("given_devices_with_session_timers", seed);
        for phone in [&Device::GRANDSTREAM_TIMER, &Device::YEALINK_RFC2543, &Device::ZOIPER] {
            for (m, pbx) in (0..).zip(Device::PBXS) {
                let mut town = town(seed + m, [phone, &Device::LINPHONE], pbx);
                town.world.set_weather(Weather::ROUGH);
                for (caller, to) in [(0, "402"), (1, "401")] {
                    town.call(town.phones[caller], CallPlan::to(to));
                    town.world.run(MINUTE * 12);
                    let what = format!("{} at {}", phone.name, pbx.name);
                    assert!(lives(&town, 0) && lives(&town, 1), "{what}: the call is gone");
                    let leg = the_leg(&town, town.phones[caller]);
                    town.world.phone(town.phones[caller], |p, now, out| p.hang_up(now, leg, out));
                    town.world.run(SECOND * 40);
                }
                town.assert_good();
                assert!(ended(&town).iter().all(|cdr| cdr.released_by != ReleasedBy::Timeout));
            }
        }
    }
}

/// Yealink asks for 90 seconds, FreeSWITCH wants 120: 422, and the same call once more (RFC 4028 §7.3).
#[test]
fn given_an_interval_too_short_for_the_pbx_when_the_phone_asks_again_then_it_is_one_call_with_one_record() {
    let mut town = town(5, [&Device::YEALINK_RFC2543, &Device::LINPHONE], &Device::FREESWITCH);
    town.call(town.phones[0], CallPlan::talking("600", SECOND * 3));
    town.world.run(SECOND * 10);
    let intervals = events(&town, |event| match event {
        Event::CallAnswered(data) => Some(data.session_interval_ms),
        _ => None,
    });
    assert_eq!(intervals, [Some(120_000)]);
    let failed = events(&town, |event| matches!(event, Event::CallFailed(_)).then_some(()));
    assert_eq!((ended(&town).len(), failed.len()), (1, 0));
    town.assert_good();
}

/// The refresher's power is cut: the one that does not refresh is hung up on when the session is over.
#[test]
fn given_a_phone_that_leaves_refreshing_to_its_pbx_when_the_pbx_is_gone_then_the_call_ends_by_itself() {
    let mut town = town(6, [&Device::GRANDSTREAM_TIMER, &Device::LINPHONE], &Device::CHAN_SIP);
    town.call(town.phones[0], CallPlan::to("600"));
    town.world.run(MINUTE * 6);
    assert!(lives(&town, 0), "the PBX refreshed it");
    town.world.pbx(town.pbxs[0], |p, now, _| p.kill(now.mono, 7));
    town.world.run(MINUTE * 4);
    assert!(!lives(&town, 0));
    let cdr = ended(&town).pop().expect("a record");
    assert_eq!((cdr.released_by, cdr.reason.as_deref()), (ReleasedBy::Timeout, Some("session_expired")));
    town.world.pbx(town.pbxs[0], |p, now, _| p.start(now.mono));
    town.assert_good();
}

/// HT8xx: *Unregister* is `Contact: *` with `Expires: 0`.
#[test]
fn given_two_phones_of_one_aor_when_one_takes_back_all_contacts_then_both_are_gone_here_and_there() {
    let mut town = town(7, [&Device::GRANDSTREAM, &Device::YEALINK], &Device::PJSIP);
    let local = hosted("198.51.100.90");
    let profile =
        PhoneProfile { local, refresh: false, device: Some(&Device::ZOIPER), ..PAIR.phone_profile(0) };
    let second = town.world.add_phone("acme", profile, None);
    town.world.phone(second, |p, now, out| p.register(now, out));
    town.world.run(SECOND * 2);
    let of_user = |town: &Town| {
        let contacts = town.world.see_pbx(town.pbxs[0]).contacts("401@acme.test", town.world.now().mono);
        let state = town.world.edge(town.edge).engine().unwrap().state();
        (contacts.len(), state.registrations().aor("acme/401@acme.test").map_or(0, |aor| aor.bindings.len()))
    };
    assert_eq!(of_user(&town), (2, 2));
    town.world.phone(town.phones[0], |p, now, out| p.unregister(now, out));
    town.world.run(SECOND * 2);
    assert_eq!(of_user(&town), (0, 0));
    let removed = events(&town, |event| match event {
        Event::RegistrationRemoved(data) => Some(data.reason),
        _ => None,
    });
    assert_eq!(removed, [RemovalReason::Client, RemovalReason::Client]);
}

/// chan_sip pings each contact, and Grandstream its registrar, through the edge.
#[test]
fn given_a_pbx_that_qualifies_and_phones_that_ping_when_a_phone_goes_then_the_pbx_knows() {
    let mut town = town(8, [&Device::GRANDSTREAM, &Device::LINPHONE], &Device::CHAN_SIP);
    town.world.run(MINUTE * 3);
    let reachable = |town: &Town, user: &str| {
        let now = town.world.now().mono;
        town.world.see_pbx(town.pbxs[0]).contacts(user, now)[0].reachable
    };
    assert_eq!([reachable(&town, "401@acme.test"), reachable(&town, "402@acme.test")], [Some(true); 2]);
    let pinged = Observed::Answer { method: Method::Options, status: 200 };
    let seen = town.world.see_phone(town.phones[0]).seen();
    assert!(seen.iter().filter(|seen| seen.what == pinged).count() >= 5, "the registrar was there");
    town.assert_good();
}

/// Yealink's *RFC 2543 Hold*: no attribute says it, only the address.
#[test]
fn given_a_hold_by_the_address_zero_when_the_phone_resumes_then_peer_and_record_know_both() {
    let mut town = town(10, [&Device::YEALINK_RFC2543, &Device::ZOIPER], &Device::CHAN_SIP_COMPACT);
    let plan = CallPlan { hold: Some((SECOND, SECOND * 2)), ..CallPlan::talking("600", SECOND * 5) };
    town.call(town.phones[0], plan);
    town.world.run(SECOND * 8);
    let held = |what: &Observed| match what {
        Observed::Modified { held, .. } => Some(*held),
        _ => None,
    };
    let seen = town.world.see_pbx(town.pbxs[0]).seen().iter().filter_map(|seen| held(&seen.what));
    assert_eq!(seen.collect::<Vec<_>>(), [true, false]);
    let kinds = events(&town, |event| match event {
        Event::CallModified(data) => Some(data.kind),
        _ => None,
    });
    assert_eq!(kinds, [ModificationKind::Hold, ModificationKind::Resume]);
    town.assert_good();
}

/// Yealink asks for no `rport`: by RFC 3261 §18.2.2 answers would go to the port in Via, where its NAT has nobody.
#[test]
fn given_a_phone_without_rport_behind_a_nat_when_it_registers_then_it_is_answered_and_called() {
    let mut town = town(11, [&Device::LINPHONE, &Device::ZOIPER], &Device::PJSIP);
    let nat = Nat::new(hosted("203.0.113.1").ip(), NatKind::Symmetric, MINUTE * 5);
    let nat = town.world.add_nat(nat);
    let (local, device) = (hosted("192.168.1.10"), Some(&Device::YEALINK));
    let profile = PhoneProfile { local, device, ..ACME.phone_profile(1) };
    let phone = town.world.add_phone("acme", profile, Some(nat));
    town.phones.push(phone);
    town.register_all();
    town.call(phone, CallPlan::talking("600", SECOND * 2));
    town.world.run(SECOND * 5);
    town.world.phone(town.phones[1], |p, _, _| p.set_answer(Answer::Ring));
    town.call(town.phones[0], CallPlan::talking("402", SECOND * 2));
    town.world.run(SECOND * 10);
    let calls: Vec<_> = town.world.see_phone(phone).calls().map(|call| call.confirmed.is_some()).collect();
    assert_eq!(calls, [true, true]);
    town.assert_good();
}

/// FreeSWITCH describes media before the answer, and says the same again with it.
#[test]
fn given_a_pbx_with_early_media_when_a_phone_calls_then_media_and_answer_are_told_apart() {
    let mut town = town(9, [&Device::YEALINK, &Device::ZOIPER], &Device::FREESWITCH);
    town.call(town.phones[0], CallPlan::talking("604", SECOND * 2));
    town.world.run(SECOND * 8);
    let early = events(&town, |event| match event {
        Event::CallProgressed(data) => Some((data.status, data.early_media)),
        _ => None,
    });
    assert_eq!(early, [(183, true)]);
    assert_eq!(ended(&town).len(), 1);
    town.assert_good();
}

/// A trunk's call to a number rings the user that a route names, with what the trunk says of its diversion.
#[test]
fn given_a_twilio_trunk_when_it_calls_a_number_then_the_phone_rings_and_the_record_knows_the_diversion() {
    for (seed, device) in (0..).zip(Device::TRUNKS) {
        let mut world = World::new(seed, Weather::FINE);
        let carrier = hosted("54.172.60.1");
        let profile = PbxProfile { local: carrier, device: Some(device), ..ACME.pbx_profile() };
        let pbxs = vec![world.add_pbx("acme", ACME.pbx_profile()), world.add_pbx("acme", profile)];
        let phones = (0..2).map(|n| world.add_phone("acme", ACME.phone_profile(n), None)).collect();
        let mut settings = edge_settings("edge-1", hosted(OUTSIDE), hosted(INSIDE), &[ACME.plan()]);
        let mut peer = settings.tenants[0].backends[0].clone();
        (peer.name, peer.network) = (Text::new("carrier"), 0);
        (peer.address.host, peer.address.literal) = (Text::new("54.172.60.1"), Some(carrier));
        settings.trunks.push(TrunkSettings {
            peer,
            tenant: None,
            direction: TrunkDirection::Both,
            limits: PeerLimits::default(),
            template_in: None,
            template_out: None,
        });
        settings.tenants[0].numbering.own = vec![NumberBlock::parse("+442079460000/4").unwrap()];
        let number = vec![Pattern::Prefix(Text::new("+44207946"))];
        settings.rules.routes = vec![Rule {
            name: Text::new("did"),
            tenant: None,
            matches: Match { source: vec![Who::Trunks], number, ..Match::default() },
            tags: Vec::new(),
            to: Some(To::Ring(Ring { stages: vec![vec![Text::new("401@acme.test")]], ring_for: MINUTE })),
            template: None,
        }];
        let edge = world.add_edge(settings);
        world.run(SECOND);
        let mut town = Town { world, edge, pbxs, phones };
        town.register_all();
        let (to, from) = ("sip:+442079460001@192.0.2.1:5060", "sip:+14155551111@example.pstn.twilio.com");
        let trunk = town.pbxs[1];
        let answer = Answer::After { ring: SECOND, talk: Some(Duration::from_secs(3)) };
        town.world.phone(town.phones[0], |p, _, _| p.set_answer(answer));
        let leg =
            town.world.pbx(trunk, |p, now, out| p.originate(now, to, from, hosted(OUTSIDE), out)).unwrap();
        town.world.run(SECOND * 20);
        assert!(town.world.see_pbx(trunk).seen_call(leg).unwrap().answered.is_some(), "{}", device.name);
        let cdr = ended(&town).pop().expect("a record");
        assert_eq!((cdr.caller_e164.as_deref(), &*cdr.ingress_peer), (Some("+14155551111"), "carrier"));
        assert_eq!(
            cdr.diversion.len(),
            usize::from(device.name.starts_with("Twilio")),
            "{:?}",
            cdr.diversion
        );
        town.assert_good();
    }
}
