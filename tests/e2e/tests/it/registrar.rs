//! The edge as the registrar: users from a file, phones that call each other, no PBX anywhere.

use crate::given::{ACME, hang_up, phone, sipp_registers, talk};
use md5::{Digest, Md5};
use signalbox_e2e::{Edge, World, contract};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const DOMAIN: &str = "[[tenant]]\nname = \"acme\"\n\
     domains = [{ name = \"acme.test\", mode = \"registrar\", users_file = \"acme.users\" }]\n";

/// A line as `htdigest` writes it; passwords of phones are `pw-` and their user.
fn line(user: &str) -> String {
    let hash = Md5::digest(format!("{user}:{ACME}:pw-{user}").as_bytes());
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{user}:{ACME}:{hex}\n")
}

fn write_users(world: &World, text: &str, rights: u32) {
    let path = world.file("acme.users", text);
    std::fs::set_permissions(path, Permissions::from_mode(rights)).unwrap();
}

fn edge(world: &World) -> Edge {
    write_users(world, &(line("401") + &line("402")), 0o640);
    let mut edge = Edge::configured(world, DOMAIN);
    edge.start();
    edge
}

#[test]
fn given_users_in_a_file_when_phones_register_and_call_then_no_pbx_is_needed_even_over_a_kill() {
    let world = World::new("registrar");
    let mut edge = edge(&world);
    let mut caller = phone(&world, &edge, "401", 5060);
    let mut called = phone(&world, &edge, "402", 5061);
    for phone in [&mut caller, &mut called] {
        let answer = phone.register(600);
        assert_eq!(answer.status(), Some(200), "{answer}");
    }
    edge.kill();
    edge.start();
    let mut guessing = phone(&world, &edge, "402", 5062);
    guessing.account.password = "guessed".to_owned();
    assert_eq!(guessing.register(600).status(), Some(401));

    let rows = edge.await_rows(&["locations"], 2);
    assert!(rows.iter().all(|row| row["domain"] == ACME), "{rows:?}");
    let (mut at_caller, _) = talk(&mut caller, &mut called, "sip:402@acme.test");
    hang_up(&mut caller, &mut at_caller, &mut called);
    let cdr = &edge.await_rows(&["cdr"], 1)[0];
    assert_eq!(cdr["category"], "answered", "{cdr}");
    edge.write_config(&DOMAIN.replace("\" }]", "\", auth = \"challenge\" }]"));
    let _ = edge.text(&["reload"]);
    let (answer, _) = caller.call("sip:777@acme.test");
    assert_eq!(answer.status(), Some(404), "with credentials: {answer}");
    caller.account.password = "guessed".to_owned();
    let (answer, _) = caller.call("sip:402@acme.test");
    assert_eq!(answer.status(), Some(407), "{answer}");

    let told = contract::types(&edge.await_events("registration", 3));
    assert_eq!(told, ["registration.added", "registration.added", "registration.rejected"]);
}

#[test]
fn given_another_user_in_the_file_when_it_is_reloaded_then_it_registers_and_who_is_gone_does_not() {
    let world = World::new("registrar-reload");
    let edge = edge(&world);
    let mut gone = phone(&world, &edge, "401", 5060);
    assert_eq!(gone.register(600).status(), Some(200));
    let mut new = phone(&world, &edge, "403", 5061);
    assert_eq!(new.register(600).status(), Some(401));

    // A wrong line is named, and what was in force stays.
    write_users(&world, &(line("402") + "403 is new\n"), 0o640);
    let refused = edge.verb(&["reload"]);
    let text = format!("{refused:?}");
    assert!(text.contains("acme.users: line 2: is not user:realm:HA1") && !text.contains("is new"), "{text}");
    assert_eq!(gone.register(600).status(), Some(200));

    write_users(&world, &(line("402") + &line("403")), 0o640);
    let _ = edge.text(&["reload"]);
    assert_eq!(new.register(600).status(), Some(200));
    assert_eq!(gone.register(600).status(), Some(401));
    sipp_registers(&world, &edge, ACME, "402", world.at(20, 5062));

    write_users(&world, &line("402"), 0o644);
    let open = format!("{:?}", edge.verb(&["check"]));
    assert!(open.contains("everybody on this machine may read or write it"), "{open}");
}
