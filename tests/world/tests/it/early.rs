//! Before the answer: phones that ring reliably (RFC 3262), one or several of them, for a PBX that wants it so.

use crate::town::{ACME, INSIDE, SECOND, Town};
use signalbox_actors::{Answer, LegId, Observed, PhoneProfile};
use signalbox_sip::Method;
use signalbox_world::{PhoneId, Seeded, Weather, hosted, seeds};
use std::time::Duration;

/// A town where everybody is reliable, and 401 has a second phone.
fn begin(seed: u64) -> (Town, PhoneId) {
    let mut town = Town::varied_over(seed, Weather::FINE, &[ACME], seed % 2 == 1);
    let profile = PhoneProfile { local: hosted("198.51.100.90:5060"), ..ACME.phone_profile(0) };
    let second = town.world.add_phone("acme", profile, None);
    town.phones.push(second);
    for phone in town.phones.clone() {
        town.world.phone(phone, |p, _, _| p.set_reliable());
    }
    town.world.pbx(town.pbxs[0], |p, _, _| p.set_reliable());
    town.register_all();
    (town, second)
}

/// The PBX calls an AoR through the edge.
fn call(town: &mut Town, user: &str) -> LegId {
    let (uri, edge) = (format!("sip:{user}@acme.test"), hosted(INSIDE));
    let called =
        town.world.pbx(town.pbxs[0], |p, now, out| p.originate(now, &uri, "sip:600@acme.test", edge, out));
    called.expect("a leg")
}

fn acknowledged(town: &Town, phone: PhoneId) -> usize {
    let of = |what: &Observed| matches!(what, Observed::InDialog { method: Method::Prack, .. });
    town.world.see_phone(phone).seen().iter().filter(|seen| of(&seen.what)).count()
}

#[test]
fn given_phones_that_ring_reliably_when_one_answers_then_each_was_acknowledged_and_the_caller_has_its_answer()
{
    for seed in seeds(6) {
        let _seeded = Seeded::new("given_phones_that_ring_reliably", seed);
        let (mut town, second) = begin(seed);
        let first = town.phones[0];
        town.world.set_weather(Weather::ROUGH);
        // 401 rings at two phones, 402 at one.
        for (user, phones, by) in
            [("401", vec![first, second], second), ("402", vec![town.phones[1]], town.phones[1])]
        {
            for phone in &phones {
                let answer = match *phone == by {
                    true => Answer::After { ring: SECOND * 4, talk: None },
                    false => Answer::Ring,
                };
                town.world.phone(*phone, |p, _, _| p.set_answer(answer));
            }
            let leg = call(&mut town, user);
            let pbx = town.pbxs[0];
            let answered = town.world.run_until(SECOND * 20, |world| {
                world.see_pbx(pbx).seen_call(leg).is_some_and(|call| call.answered.is_some())
            });
            assert!(answered, "seed {seed}: {user}");
            town.world.run(SECOND * 5 + Duration::from_millis(seed));
            for phone in phones {
                assert_eq!(acknowledged(&town, phone), 1, "seed {seed}: {user}");
            }
            town.world.pbx(pbx, |p, now, out| p.hang_up(now, leg, out));
            town.world.run(SECOND * 40);
        }
        town.assert_good();
    }
}
