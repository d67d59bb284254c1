//! Answers that cross, and limits: which REGISTERs change what is stored, and which do not.

use crate::support::*;

const PBX: &str = "10.0.1.1:5060";
const PHONE: &str = "192.0.2.7:40000";

/// Sends two REGISTERs of one phone and lets the backend answer the second one first.
fn crossed(world: &mut World, phone: &mut Phone, lines: [&str; 2], secs: [u32; 2]) {
    let [first, second] = lines.map(|lines| {
        let text = phone.register_with(lines);
        world.deliver(phone.flow, text);
        world.one_to(addr(PBX))
    });
    for (at_pbx, secs) in [(second, secs[1]), (first, secs[0])] {
        world.deliver(inside(PBX), granted(&at_pbx, secs));
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(200), "what the backend said passes");
    }
}

#[test]
fn given_a_removal_answered_first_then_the_late_answer_to_an_older_register_brings_nothing_back() {
    let contact = "Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 600\r\n";
    for removal in ["Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 0\r\n", "Contact: *\r\nExpires: 0\r\n"] {
        let mut world = World::new(acme());
        let mut phone = Phone::new("401", "acme.test", PHONE);
        crossed(&mut world, &mut phone, [contact, removal], [600, 0]);
        assert!(world.engine.state().registrations().is_empty(), "{removal}");
        assert!(world.told().is_empty(), "{:?}", world.told_kinds(0));

        // One that is older still, and comes only now, fails as it would against a binding.
        phone.cseq -= 2;
        phone.extra = "X-Other: 1\r\n".to_owned();
        let late = phone.register(600).replace("branch=z9hG4bK", "branch=z9hG4bKlate");
        world.deliver(phone.flow, late);
        assert_eq!(world.one_to(phone.flow.remote).status(), Some(500));
        phone.cseq += 1;
        register(&mut world, &mut phone, PBX, 600);
        assert_eq!(world.engine.state().registrations().len(), 1, "a newer one counts");
    }
}

#[test]
fn given_a_register_answered_first_then_the_late_answer_to_an_older_removal_takes_nothing_away() {
    let contact = "Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 600\r\n";
    for removal in ["Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 0\r\n", "Contact: *\r\nExpires: 0\r\n"] {
        let mut world = World::new(acme());
        let mut phone = Phone::new("401", "acme.test", PHONE);
        register(&mut world, &mut phone, PBX, 600);
        crossed(&mut world, &mut phone, [removal, contact], [0, 600]);
        assert_eq!(world.engine.state().registrations().len(), 1, "{removal}");
    }
}

#[test]
fn given_another_contact_removed_meanwhile_then_the_older_register_of_the_first_still_counts() {
    let mut world = World::new(acme());
    let mut phone = Phone::new("401", "acme.test", PHONE);
    let other = "Contact: <sip:other@192.0.2.7:40000>\r\nExpires: 0\r\n";
    let contact = "Contact: <sip:401@192.0.2.7:40000>\r\nExpires: 600\r\n";
    crossed(&mut world, &mut phone, [contact, other], [600, 0]);
    assert_eq!(world.engine.state().registrations().len(), 1);
}
