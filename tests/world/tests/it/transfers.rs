//! A phone gives its caller to a colleague, through the edge and the PBX (RFC 3515, RFC 3891, RFC 5589).

use crate::town::{ACME, SECOND, Town};
use signalbox_actors::{Answer, CallPlan, LegId, Observed};
use signalbox_schemas::Event;
use signalbox_schemas::call::CallTransferred;
use signalbox_schemas::words::{TransferKind, TransferOutcome};
use signalbox_sip::Method;
use signalbox_world::{PhoneId, Seeded, Weather, seeds};

/// Who asks, who is given away, and to whom.
const ROLES: [usize; 3] = [0, 1, 2];

fn legs_of(town: &Town, phone: PhoneId) -> Vec<LegId> {
    town.world.see_phone(phone).calls().filter(|call| call.is_alive()).map(|call| call.leg).collect()
}

fn told(town: &Town) -> Vec<CallTransferred> {
    let events = town.world.events(town.edge).into_iter();
    events
        .filter_map(|recorded| match recorded.event {
            Event::CallTransferred(data) => Some(*data),
            _ => None,
        })
        .collect()
}

/// Everybody registers and answers at once; the first phone calls the second.
fn begin(seed: u64) -> Town {
    let mut town = Town::varied(seed, Weather::FINE, &[ACME]);
    town.register_all();
    for phone in ROLES.map(|n| town.phones[n]) {
        let answer = Answer::After { ring: SECOND / 10, talk: None };
        town.world.phone(phone, |p, _, _| p.set_answer(answer));
    }
    town.call(town.phones[0], CallPlan::to("402"));
    town.world.run(SECOND * 2);
    town
}

/// The second and the third talk to each other; when one hangs up, everything is over.
fn the_others_go_on(mut town: Town) -> Town {
    let [asks, given, third] = ROLES.map(|n| town.phones[n]);
    let (heard, leg) = (legs_of(&town, given), legs_of(&town, third));
    assert_eq!((heard.len(), leg.len(), legs_of(&town, asks).len()), (1, 1, 0));
    let content = ("application/dtmf-relay", b"Signal=7\r\n".as_slice());
    town.world.phone(given, |p, now, out| p.send_in_call(now, heard[0], Method::Info, content, out));
    town.world.run(SECOND);
    let body: Box<[u8]> = content.1.into();
    let wanted = Observed::InDialog { leg: leg[0], method: Method::Info, body };
    assert!(town.world.see_phone(third).seen().iter().any(|seen| seen.what == wanted), "they are not joined");
    town.world.phone(third, |p, now, out| p.hang_up(now, leg[0], out));
    town.assert_good();
    town
}

#[test]
fn given_a_consultation_when_a_phone_transfers_attended_then_the_others_talk_and_all_is_told() {
    for seed in seeds(4) {
        let _seeded = Seeded::new("given_a_consultation", seed);
        let mut town = begin(seed);
        let asks = town.phones[0];
        town.call(asks, CallPlan::to("403"));
        town.world.run(SECOND * 2);
        let legs = legs_of(&town, asks);
        assert_eq!(legs.len(), 2);
        let asked = town.world.phone(asks, |p, now, out| p.refer(now, legs[0], "403", Some(legs[1]), out));
        assert!(asked);
        town.world.run(SECOND);
        let outcomes: Vec<_> = told(&town).iter().map(|data| (data.kind, data.outcome)).collect();
        let kind = TransferKind::Attended;
        assert_eq!(outcomes, [(kind, TransferOutcome::Accepted), (kind, TransferOutcome::Completed)]);
        assert!(told(&town)[0].replaces.is_some(), "the other call is one of ours");
        town.world.phone(asks, |p, now, out| p.hang_up(now, legs[0], out));
        town.world.run(SECOND);
        the_others_go_on(town);
    }
}

#[test]
fn given_a_call_when_a_phone_transfers_blind_then_the_others_talk_and_all_is_told() {
    for seed in seeds(4) {
        let _seeded = Seeded::new("given_a_call_when_a_phone_transfers_blind", seed);
        let mut town = begin(seed);
        let asks = town.phones[0];
        let leg = legs_of(&town, asks)[0];
        assert!(town.world.phone(asks, |p, now, out| p.refer(now, leg, "403", None, out)));
        town.world.run(SECOND * 2);
        let outcomes: Vec<_> = told(&town).iter().map(|data| (data.kind, data.outcome)).collect();
        let kind = TransferKind::Blind;
        assert_eq!(outcomes, [(kind, TransferOutcome::Accepted), (kind, TransferOutcome::Completed)]);
        assert_eq!(told(&town)[0].target, "403");
        town.world.phone(asks, |p, now, out| p.hang_up(now, leg, out));
        town.world.run(SECOND);
        the_others_go_on(town);
    }
}

#[test]
fn given_a_blind_transfer_to_nobody_when_it_fails_then_that_is_told() {
    let mut town = begin(1);
    let asks = town.phones[0];
    let leg = legs_of(&town, asks)[0];
    assert!(town.world.phone(asks, |p, now, out| p.refer(now, leg, "777", None, out)));
    town.world.run(SECOND * 2);
    let last = told(&town).pop().expect("an event");
    assert_eq!((last.outcome, last.status), (TransferOutcome::Failed, Some(404)));
    town.world.phone(asks, |p, now, out| p.hang_up(now, leg, out));
    town.assert_good();
}
