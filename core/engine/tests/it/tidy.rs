//! Memory follows what there is, also downwards.

use crate::support::*;
use std::time::Duration;

const PBX: &str = "10.0.1.1:5060";

#[test]
fn given_a_crowd_whose_registrations_expire_then_the_memory_for_it_is_given_back_in_small_steps() {
    const CROWD: u16 = 4_000;
    let mut world = World::new(acme());
    let few = world.engine.room_held();
    let mut stays = Phone::new("stays", "acme.test", "192.0.2.7:40000");
    register(&mut world, &mut stays, PBX, 3_600);
    let crowd = (0..CROWD)
        .map(|n| Phone::new(&format!("u{n}"), "acme.test", &format!("198.51.100.7:{}", 10_000 + n)));
    for mut phone in crowd {
        register(&mut world, &mut phone, PBX, 300);
    }
    world.advance(Duration::from_secs(250));
    let many = world.engine.room_held();
    assert!(many > 5 * usize::from(CROWD), "{many}");
    assert_eq!(world.engine.state().registrations().len(), usize::from(CROWD) + 1);
    world.advance(Duration::from_secs(400));
    world.take();
    assert_eq!(world.engine.state().registrations().len(), 1);
    let left = world.engine.room_held();
    assert!(left < many / 8, "{left} of {many}, {few} before");
    assert_eq!(register(&mut world, &mut stays, PBX, 3_600).len(), 27);
    world.assert_replay_equals_live();
}
