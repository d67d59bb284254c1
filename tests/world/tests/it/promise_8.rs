//! Promise 8: hostile bytes never panic, and promise 5's part of it: they fill neither disk nor memory.

use crate::town::{ACME, INSIDE, OUTSIDE, SECOND, Town};
use signalbox_actors::{Attack, AttackerProfile, CallPlan, Random, Side, mutate};
use signalbox_world::{Seeded, Weather, hosted, seeds};
use std::time::Duration;

#[test]
fn promise_8_given_mutated_packets_from_everywhere_then_calls_go_on() {
    for seed in seeds(2) {
        let _seeded = Seeded::new("promise_8", seed);
        let mut town = Town::new(seed, Weather::FINE, &[ACME]);
        town.register_all();
        let mut dice = Random::new(seed);
        let sources = ["203.0.113.9:5060", "198.51.100.10:5060", "10.0.1.1:5060", "10.0.1.10:5060"];
        for round in 0..1500_u32 {
            let (from, to) = (*dice.pick(&sources), *dice.pick(&[OUTSIDE, INSIDE]));
            let method = *dice.pick(&[
                "INVITE",
                "REGISTER",
                "OPTIONS",
                "BYE",
                "NOTIFY",
                "SUBSCRIBE",
                "ACK",
                "CANCEL",
                "FOO",
            ]);
            let good = format!(
                "{method} sip:402@acme.test SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{round};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:401@acme.test>;tag=a{round}\r\nTo: <sip:402@acme.test>\r\n\
                 Call-ID: m{round}\r\nCSeq: 1 {method}\r\nContact: <sip:401@{from}>\r\nExpires: 60\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            town.world.send(hosted(from), hosted(to), mutate(good.as_bytes(), &mut dice));
            if round % 100 == 0 {
                town.call(town.phones[round as usize / 100 % 4], CallPlan::talking("600", SECOND));
            }
            town.world.run(Duration::from_millis(10));
        }
        town.rest();
        let own = town.world.phones().flat_map(|p| p.calls()).filter(|c| c.side == Side::Caller);
        assert_eq!(own.filter(|c| c.answered.is_some()).count(), 15, "calls went on");
    }
}

#[test]
fn promise_5_given_a_flood_of_junk_from_many_sources_then_the_journal_hardly_grows() {
    let mut town = Town::new(1, Weather::FINE, &[ACME]);
    town.register_all();
    let before = town.world.events(town.edge).len();
    let attacker = town.world.add_attacker(AttackerProfile {
        local: hosted("203.0.113.66"),
        target: hosted(OUTSIDE),
        spoofs: (0..200).map(|n| hosted(&format!("203.0.{n}.{n}:5060"))).collect(),
        domain: "acme.test".to_owned(),
        attacks: Attack::ALL.to_vec(),
        interval: Duration::from_millis(1),
    });
    town.world.run(SECOND * 20);
    town.world.attacker(attacker, |a, _| a.stop());
    town.world.run(SECOND * 60);
    let grown = town.world.events(town.edge).len() - before;
    // Two windows of ten seconds and their edges, 64 events each at most, and what a few probes and refreshes say.
    assert!(grown <= 4 * 64, "{grown} events for 20,000 packets");
    assert!(grown >= 1, "nothing tells of the flood");
    town.call(town.phones[0], CallPlan::talking("600", SECOND));
    town.world.run(SECOND * 10);
    assert!(town.world.see_phone(town.phones[0]).calls().last().unwrap().answered.is_some());
}
