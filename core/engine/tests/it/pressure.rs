//! A disk that is full: what is up ends as ever, nothing new begins.

use crate::call_support::{PBX, PHONE, established, hang_up, invite, the_cdr, with_phone};
use crate::support::{addr, register};
use signalbox_engine::{Input, Pressure};
use signalbox_sip::HeaderName;

#[test]
fn given_a_full_disk_when_a_call_is_up_then_it_ends_with_its_record_and_nothing_new_is_taken_or_told() {
    let (mut world, mut phone) = with_phone();
    let mut call = established(&mut world, &phone, "f1");
    world.input(Input::Pressure(Pressure::Full));
    let begun = world.journal.len();
    let second = invite(&phone.flow, "sip:401@acme.test", "sip:403@acme.test", "f2", "");
    for request in [second, phone.register(3600)] {
        world.deliver(phone.flow, request);
        let refused = world.one_to(addr(PHONE));
        assert_eq!(refused.status(), Some(503), "{}", refused.text());
        assert!(refused.header(HeaderName::RetryAfter).is_some(), "{}", refused.text());
    }
    assert_eq!(world.take_to(addr(PBX)).len(), 0);
    assert_eq!(world.kinds(begun), [""; 0], "a refusal takes no room");

    hang_up(&mut world, &mut call);
    assert_eq!(the_cdr(&world)["category"], "answered");
    world.input(Input::Pressure(Pressure::Normal));
    register(&mut world, &mut phone, PBX, 3600);
    let told = world.records("edge.overloaded");
    let told: Vec<_> = told.iter().map(|record| record.json()["level"].clone()).collect();
    assert_eq!(told, ["full", "normal"]);
    world.assert_replay_equals_live();
}
