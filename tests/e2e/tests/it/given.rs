//! What several stories begin with.

use signalbox_e2e::edge::HOST;
use signalbox_e2e::kamailio::Kamailio;
use signalbox_e2e::phone::Dialog;
use signalbox_e2e::sipp::Sipp;
use signalbox_e2e::{Edge, Phone, World, wait};
use std::net::SocketAddr;

pub(crate) const ACME: &str = "acme.test";

/// The tenant acme with one backend.
pub(crate) fn acme(backend: SocketAddr) -> String {
    format!(
        "[[tenant]]\nname = \"acme\"\ndomains = [\"{ACME}\"]\n\
         backends = [{{ name = \"pbx\", address = \"udp:{backend}\" }}]\n"
    )
}

/// A Kamailio on the story's host 2, and a running edge before it.
pub(crate) fn edge_and_kamailio(world: &World) -> (Edge, Kamailio) {
    let pbx = Kamailio::start(world, "pbx", world.at(2, 5060), world.ip(HOST));
    let mut edge = Edge::configured(world, &acme(pbx.address()));
    edge.start();
    edge.await_backend("pbx", "up");
    (edge, pbx)
}

/// A phone of acme on the story's host 20.
pub(crate) fn phone(world: &World, edge: &Edge, user: &str, port: u16) -> Phone {
    Phone::new(user, ACME, world.at(20, port), edge.sip())
}

/// The same, registered.
pub(crate) fn registered(world: &World, edge: &Edge, user: &str, port: u16) -> Phone {
    let mut phone = phone(world, edge, user, port);
    let answer = phone.register(600);
    assert_eq!(answer.status(), Some(200), "{answer}");
    phone
}

/// A phone registers with SIPp; again when it is told to come back later, which a busy machine may say.
pub(crate) fn sipp_registers(world: &World, edge: &Edge, domain: &str, user: &str, local: SocketAddr) {
    let name = format!("register-{user}-{domain}");
    wait::until(&name, || {
        let register = Sipp::new(world, &name, "register", local)
            .to(edge.sip())
            .word("domain", domain)
            .word("expires", "600");
        let credentials = format!("{user};[authentication username={user} password=pw-{user}]");
        let running = register.lines(&[credentials]).calls(1, 10).start();
        let (counted, errors) = running.finish_and_tell();
        if counted.failed > 0 && errors.contains("Retry-After:") {
            return None;
        }
        counted.all_good(1);
        Some(())
    });
}

/// One calls the other, which rings and answers; the dialogs of both.
pub(crate) fn talk(caller: &mut Phone, called: &mut Phone, target: &str) -> (Dialog, Dialog) {
    let dialing = caller.dial(target);
    let invite = called.rung();
    called.answer(&invite, 180, "Ringing");
    caller.hears(&dialing, 180);
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| called.accept(&invite));
        let (answer, dialog) = caller.conclude(dialing);
        assert_eq!(answer.status(), Some(200), "{answer}");
        (dialog.unwrap(), accepting.join().unwrap())
    })
}

/// A phone puts the other on hold and takes it back.
pub(crate) fn hold_and_resume(phone: &mut Phone, dialog: &mut Dialog, other: &mut Phone) {
    for direction in ["sendonly", "sendrecv"] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let answer = phone.offer_again(dialog, direction);
                assert_eq!(answer.status(), Some(200), "{answer}");
            });
            let invite = other.rung();
            assert!(invite.body.contains(&format!("a={direction}")), "{invite}");
            other.accept(&invite);
        });
    }
}

/// A phone hangs up, and the other hears of it.
pub(crate) fn hang_up(phone: &mut Phone, dialog: &mut Dialog, other: &mut Phone) {
    std::thread::scope(|scope| {
        let hanging_up = scope.spawn(|| phone.hang_up(dialog));
        let bye = other.asked("BYE");
        other.answer(&bye, 200, "OK");
        assert_eq!(hanging_up.join().unwrap().status(), Some(200));
    });
}
