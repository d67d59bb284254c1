//! SIPp and sipsak, which are no phones: they do the one thing that they are told to.

use super::done::Done;
use super::{PROXY, Place, TRANSPORTS};
use signalbox_e2e::World;
use signalbox_e2e::edge::{HOST, said};
use signalbox_e2e::sipp::{Sipp, await_bound};
use std::process::Command;

const SCRIPTED: &str = "would need a scenario for each of these; the phones do them";

/// SIPp registers two users and calls from one to the other.
pub(super) fn sipp(world: &World, place: &Place, transport: &'static str, host: u8) -> Done {
    let users = [0, 1].map(|at| format!("8{host}{at}"));
    let mut done = Done::of("sipp", transport, &users);
    let over = |sipp: Sipp| if transport == "tcp" { sipp.over_tcp() } else { sipp };
    let edge = place.edge.sip();
    let (caller, called) = (world.at(host, 5060), world.at(host, 5070));
    for (user, local, over_tcp) in [(&users[0], caller, true), (&users[1], called, false)] {
        let register = Sipp::new(world, &format!("register-{user}"), "register", local).to(edge);
        let register = if over_tcp { over(register) } else { register };
        let line = format!("{user};[authentication username={user} password=pw-{user}]");
        register.word("domain", PROXY).word("expires", "600").lines(&[line]).calls(1, 10).run().all_good(1);
    }
    let answering = Sipp::new(world, &format!("answer-{transport}"), "answer", called).calls(1, 10).start();
    await_bound(called);
    let calling = over(Sipp::new(world, &format!("call-{transport}"), "call", caller).to(edge));
    let line = format!("{};{}", users[0], users[1]);
    calling.word("domain", PROXY).talk(10).lines(&[line]).calls(1, 10).run().all_good(1);
    answering.finish().all_good(1);
    for what in ["register", "call", "be called"] {
        done.did(what);
    }
    done.record("answered", 2);
    done.cannot_else(SCRIPTED);
    done
}

/// sipsak registers.
pub(super) fn sipsak(world: &World, (transport, port): (&'static str, u16), host: u8) -> Done {
    let user = format!("9{host}");
    let mut done = Done::of("sipsak", transport, std::slice::from_ref(&user));
    let mut command = Command::new("sipsak");
    // The proxy first: the domain of what follows is looked up otherwise.
    command.arg("-p").arg(world.at(HOST, port).to_string()).arg("-U");
    command.args(["-E", transport, "-x", "60", "-s"]).arg(format!("sip:{user}@{PROXY}"));
    command.arg("-a").arg(format!("pw-{user}")).arg("--local-ip").arg(world.ip(host).to_string());
    command.args(["-vv", "-i"]);
    let output = said(&mut command);
    assert_eq!(output.code, 0, "{transport}: {output:?}");
    done.did("register");
    done.cannot("MESSAGE", "0.9.8.1 crashes when it writes to itself");
    done.cannot_else("a tool for single requests");
    done
}

/// Over the transports that these have.
pub(super) fn all(world: &World, place: &Place) -> Vec<Done> {
    let mut rows: Vec<Done> =
        [("udp", 80), ("tcp", 81)].map(|(over, host)| sipp(world, place, over, host)).into();
    rows.extend(TRANSPORTS[..2].iter().zip(90..).map(|(over, host)| sipsak(world, *over, host)));
    rows
}
