//! Promise 6: no cross-tenant route under hostile headers.

use crate::town::{ACME, GLOBEX, INSIDE, OUTSIDE, SECOND, Town};
use signalbox_actors::{CallPlan, Random, mutate};
use signalbox_schemas::Event;
use signalbox_world::{Seeded, Weather, hosted, seeds};
use std::time::Duration;

/// A name as the user part of a URI: some devices' Call-IDs have an `@`.
fn user(name: &str) -> String {
    name.replace('@', "%40")
}

/// Headers by which a user of one tenant could mean another's.
fn hostile_headers(random: &mut Random, stolen: &[String]) -> Vec<(String, String)> {
    let stolen = random.pick(stolen).clone();
    let user = user(&stolen);
    let choices = [
        ("Route", format!("<sip:{INSIDE};lr>")),
        ("Route", "<sip:10.0.1.10:5060;lr>".to_owned()),
        ("Route", format!("<sip:{user}@{OUTSIDE};lr>, <sip:globex.test;lr>")),
        ("P-Asserted-Identity", "<sip:401@globex.test>".to_owned()),
        ("P-Preferred-Identity", "<sip:401@globex.test>".to_owned()),
        ("Path", "<sip:10.0.1.10:5060;lr>".to_owned()),
        ("Replaces", format!("{stolen};to-tag=1;from-tag=2")),
        ("Target-Dialog", format!("{stolen};local-tag=1;remote-tag=2")),
        ("Referred-By", "<sip:401@globex.test>".to_owned()),
        ("Diversion", "<sip:402@globex.test>;reason=unconditional".to_owned()),
        ("X-Tenant", "globex".to_owned()),
    ];
    (0..1 + random.below(3)).map(|_| random.pick(&choices).clone()).map(|(n, v)| (n.to_owned(), v)).collect()
}

#[test]
fn promise_6_no_cross_tenant_route_under_hostile_headers() {
    for seed in seeds(3) {
        let _seeded = Seeded::new("promise_6_no_cross_tenant", seed);
        let mut town = Town::new(seed, Weather::FINE, &[ACME, GLOBEX]);
        town.register_all();
        // What globex's bindings and calls are called on the wire, as an eavesdropper might know it.
        let (acme, globex) = (town.phones[..4].to_vec(), town.phones[4..].to_vec());
        town.call(globex[0], CallPlan::to("402"));
        town.world.run(SECOND * 3);
        let contacts = town.world.see_pbx(town.pbxs[1]).contacts("401@globex.test", town.world.now().mono);
        let token =
            |uri: &str| uri.trim_start_matches("sip:").split('@').next().unwrap_or_default().to_owned();
        let mut stolen: Vec<String> = contacts.iter().map(|c| token(&c.uri)).collect();
        stolen.extend(town.world.see_phone(globex[0]).calls().map(|c| c.call_id.to_string()));
        stolen.extend(town.world.see_phone(globex[1]).calls().map(|c| token(&c.target)));
        let calls_before: usize = globex.iter().map(|p| town.world.see_phone(*p).calls().count()).sum();
        for _ in 0..60 {
            let caller = *town.world.random().pick(&acme);
            let target = match town.world.random().below(5) {
                0 => "sip:401@globex.test".to_owned(),
                1 => format!("sip:401@{OUTSIDE}"),
                2 => {
                    let name: &String = town.world.random().pick(&stolen);
                    format!("sip:{}@{OUTSIDE}", user(name))
                }
                3 => "sip:402@acme.test;maddr=10.0.1.10".to_owned(),
                _ => "sip:402@acme.test".to_owned(),
            };
            let headers = hostile_headers(town.world.random(), &stolen);
            let plan =
                CallPlan { headers, give_up_after: Some(SECOND), ..CallPlan::talking(&target, SECOND) };
            town.call(caller, plan);
            town.world.run(Duration::from_millis(400));
        }
        // The tenant's own PBX turns on the other: tokens of its bindings and dialogs, from a trusted source.
        for name in stolen.clone() {
            let uri = format!("sip:{}@{INSIDE}", user(&name));
            town.world.pbx(town.pbxs[0], |p, now, out| {
                p.originate(now, &uri, "sip:401@acme.test", hosted(INSIDE), out)
            });
            town.world.run(SECOND);
        }
        let calls_after: usize = globex.iter().map(|p| town.world.see_phone(*p).calls().count()).sum();
        assert_eq!(calls_after, calls_before, "a call from acme reached globex");
        let call = town.world.see_phone(globex[0]).calls().next().unwrap().clone();
        assert!(call.is_alive(), "globex's call was disturbed: {call:?}");
        assert!(town.world.oracle().credentials >= 8, "every phone's credentials were followed");
        town.world.phone(globex[0], |p, now, out| p.hang_up(now, call.leg, out));
        let world = &mut town.world;
        for pbx in town.pbxs.clone() {
            let legs: Vec<_> = world.see_pbx(pbx).calls().filter(|c| c.is_alive()).map(|c| c.leg).collect();
            for leg in legs {
                world.pbx(pbx, |p, now, out| p.hang_up(now, leg, out));
            }
        }
        town.assert_good();
    }
}

/// A Call-ID and its two tags.
type Dialog = (String, String, String);

/// The true identifiers of every answered call, as the edge tells them to its subscribers.
fn dialogs(town: &Town) -> Vec<Dialog> {
    let events = town.world.events(town.edge);
    let answered = events.iter().filter_map(|record| match &record.event {
        Event::CallAnswered(data) => Some((&record.correlation, data)),
        _ => None,
    });
    let call_id_of = |uid: &str| {
        events.iter().find_map(|record| match &record.event {
            Event::CallAttempted(data) if record.correlation == uid => Some(data.call_id.to_string()),
            _ => None,
        })
    };
    answered
        .map(|(uid, data)| {
            let call_id = call_id_of(uid).expect("an answered call was attempted");
            (call_id, data.from_tag.to_string(), data.to_tag.to_string())
        })
        .collect()
}

fn both_ways((call_id, one, other): &Dialog) -> [Dialog; 2] {
    [(call_id.clone(), one.clone(), other.clone()), (call_id.clone(), other.clone(), one.clone())]
}

/// Promise 6 and 8 together: messages of one tenant, overheard, changed and sent again from elsewhere.
#[test]
fn promise_6_given_replayed_and_mutated_dialog_requests_from_strangers_then_no_call_is_touched() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("promise_6_given_replayed", seed);
        let mut town = Town::new(seed, Weather::FINE, &[ACME, GLOBEX]);
        town.register_all();
        town.call(town.phones[0], CallPlan::to("402"));
        town.world.run(SECOND * 4);
        let call = town.world.see_phone(town.phones[0]).calls().next().unwrap().clone();
        assert!(call.answered.is_some());
        let mut dice = Random::new(seed);
        let dialogs = dialogs(&town);
        assert_eq!(dialogs.len(), 2, "to the PBX, and from it");
        for (number, stranger) in
            ["203.0.113.9:5060", "198.51.101.10:5061", "10.0.1.10:5060"].iter().enumerate()
        {
            for (leg, (call_id, from, to)) in dialogs.iter().flat_map(both_ways).enumerate() {
                let bye = format!(
                    "BYE sip:401@{OUTSIDE} SIP/2.0\r\nVia: SIP/2.0/UDP {stranger};branch=z9hG4bKx{number}x{leg}\r\n\
                     Max-Forwards: 70\r\nFrom: <sip:401@acme.test>;tag={from}\r\nTo: <sip:402@acme.test>;tag={to}\r\n\
                     Call-ID: {call_id}\r\nCSeq: 900 BYE\r\nContent-Length: 0\r\n\r\n"
                );
                for to in [OUTSIDE, INSIDE] {
                    town.world.send(hosted(stranger), hosted(to), bye.clone().into_bytes());
                    let changed = mutate(bye.as_bytes(), &mut dice);
                    town.world.send(hosted(stranger), hosted(to), changed);
                }
            }
        }
        town.world.run(SECOND * 5);
        assert!(town.world.see_phone(town.phones[0]).seen_call(call.leg).unwrap().is_alive());
        town.world.phone(town.phones[0], |p, now, out| p.hang_up(now, call.leg, out));
        town.assert_good();
    }
}
