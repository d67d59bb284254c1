//! Promise 1: what waits for a record leaves only once the record is on disk.

use crate::gated::Disk;
use crate::world::{Peer, World, options, register};
use signalbox_edge::Fatal;
use signalbox_journal::Start;
use std::sync::Arc;

#[test]
fn promise_1_given_an_fsync_that_does_not_return_then_the_2xx_waits_and_class_b_does_not() {
    let (world, disk, phone) = (World::new(), Arc::new(Disk::default()), Peer::phone());
    let edge = world.start_on(disk.storage());
    let before = edge.durable();

    disk.close();
    world.register_up_to_the_answer(&edge, &phone, "401");
    disk.wait_until_one_waits();
    // An answer of class B shows that the engine has worked off everything before it.
    world.pbx.send(edge.listeners()[0], &options(&world.pbx, edge.listeners()[0], 1));
    world.pbx.receive("SIP/2.0 200");
    phone.has_nothing();
    assert_eq!(edge.durable(), before);

    disk.open();
    let (answer, _) = phone.receive("SIP/2.0 200");
    assert!(answer.contains(&phone.address().to_string()), "the phone sees its own Contact:\n{answer}");
    assert!(edge.durable() > before);
    world.stop(&edge);
}

#[test]
fn given_many_registrations_when_the_gate_opens_then_every_answer_leaves_and_every_record_is_there() {
    let (world, disk) = (World::new(), Arc::new(Disk::default()));
    let edge = world.start_on(disk.storage());
    let phones: Vec<_> = (0..40).map(|n| (Peer::phone(), format!("4{n:02}"))).collect();
    disk.close();
    for (phone, user) in &phones {
        world.register_up_to_the_answer(&edge, phone, user);
    }
    disk.wait_until_one_waits();
    disk.open();
    for (phone, _) in &phones {
        phone.receive("SIP/2.0 200");
    }
    let mut reader = edge.journal().reader(Start::Oldest).unwrap();
    let mut added = 0;
    while let Some(record) = reader.next().unwrap() {
        added += usize::from(record.kind == "registration.added.v1");
    }
    assert_eq!(added, phones.len(), "an answer on the wire has its record on disk");
    world.stop(&edge);
}

#[test]
fn given_an_fsync_error_then_the_edge_stops_and_what_waited_is_never_sent() {
    let (world, disk, phone) = (World::new(), Arc::new(Disk::default()), Peer::phone());
    let edge = world.start_on(disk.storage());
    let before = edge.durable();
    disk.close();
    world.register_up_to_the_answer(&edge, &phone, "401");
    disk.wait_until_one_waits();
    disk.fail();
    disk.open();
    let fatal = world.wait(edge.wait_fatal());
    assert!(matches!(&*fatal, Fatal::Journal(_)), "{fatal}");
    assert!(fatal.to_string().contains("the disk is broken") || std::error::Error::source(&*fatal).is_some());
    phone.has_nothing();
    assert_eq!(edge.durable(), before);
    // Nobody is served any more, and who asks is told.
    assert!(world.wait(edge.backends()).is_err());
    world.until("not ready", || edge.not_ready().as_deref() == Some("failed"));
    phone.send(edge.listeners()[0], &register(&phone, "401", 2));
    world.pbx.has_nothing();
}

#[test]
fn given_a_commit_that_takes_too_long_then_new_registrations_get_503_until_it_returns() {
    let (world, disk) = (World::new(), Arc::new(Disk::default()));
    let edge = world.start_on(disk.storage());
    let (first, second) = (Peer::phone(), Peer::phone());
    disk.close();
    world.register_up_to_the_answer(&edge, &first, "401");
    world.until("a stall", || edge.status().stalled);
    second.send(edge.listeners()[0], &register(&second, "402", 1));
    second.receive("SIP/2.0 503");
    disk.open();
    first.receive("SIP/2.0 200");
    world.until("the end of the stall", || !edge.status().stalled);
    world.register_up_to_the_answer(&edge, &second, "403");
    second.receive("SIP/2.0 200");
    world.stop(&edge);
}
